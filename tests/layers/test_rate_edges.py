"""The rate limit at its edges: to the exact moment, in the exact words, and what comes back in many short histories."""

from __future__ import annotations

import math
import random

import pytest

from rpcretry import Request
from rpcretry.errors import LimitReachedError
from rpcretry.layers import ConcurrencyLimit, RateLimit
from rpcretry.outcome import Attempt, Member, Outcome, Wait


def one(cost: int = 1, method: str | None = None, deadline: float = math.inf) -> Attempt:
    return Attempt(1, [Member(None if method is None else Request(method, id=place)) for place in range(cost)], math.inf, "x", deadline=deadline)


def ask(limit: RateLimit | ConcurrencyLimit, attempt: Attempt, now: float) -> Wait | None:
    """As the engine asks."""
    attempt.parking = None
    return limit.admit(attempt, now)


def level(limit: RateLimit, now: float) -> float:
    limit.clock = lambda: now
    return limit.level


def missing(kept: list[tuple[float, int]], now: float) -> float:
    """What is missing to a full bucket where only those were ever taken."""
    full_at = -math.inf
    for then, tokens in kept:
        full_at = max(full_at, then) + tokens
    return max(0.0, full_at - now)


@pytest.mark.parametrize("burst", [1, 2, 3, 5])
def test_what_left_was_never_taken_in_any_of_many_histories(burst: int) -> None:
    """Quarters of seconds are exact."""
    chance = random.Random(burst)
    for _ in range(150):
        limit, now = RateLimit(1, burst=burst), 0.0
        kept: list[tuple[float, int]] = []
        held: dict[Attempt, tuple[float, int]] = {}
        for _ in range(16):
            now += chance.choice([0, 0, 0.25, 0.5, 1, 2])
            if held and chance.random() < 0.4:
                gone = chance.choice(list(held))
                kept.remove(held.pop(gone))
                limit.abandon(gone, now)
            elif held and chance.random() < 0.2:
                # One that went out is never put back.
                sent = chance.choice(list(held))
                del held[sent]
                sent.sent = True
            else:
                attempt = one(chance.choice([1, 1, 2, 3]))
                cost = len(attempt.members)
                if missing(kept, now) <= max(0, burst - cost):
                    assert ask(limit, attempt, now) is None
                    held[attempt] = (now, cost)
                    kept.append((now, cost))
            assert level(limit, now) == burst - missing(kept, now)


def test_a_head_that_is_asked_too_early_keeps_its_place_until_the_last_moment() -> None:
    limit = RateLimit(1, burst=1, max_wait=1.0)
    assert ask(limit, one(), 0.0) is None
    head = one()
    assert ask(limit, head, 0.0) == Wait(1.0, "rate limit")
    assert ask(limit, head, 0.5) == Wait(1.0, "rate limit")
    assert ask(limit, head, 1.0) is None
    late = one()
    with pytest.raises(LimitReachedError) as caught:
        ask(limit, late, 0.9)
    assert str(caught.value) == "rate limit 'default': its turn comes in 1.1 s, and that is more than max_wait=1 s"
    assert caught.value.remaining == pytest.approx(1.1)


def test_who_may_not_queue_is_told_when_its_turn_would_come() -> None:
    limit = RateLimit(1, burst=1, max_waiting=0, name="prices")
    ask(limit, one(), 0.0)
    with pytest.raises(LimitReachedError) as caught:
        ask(limit, one(), 0.25)
    assert str(caught.value) == "rate limit 'prices': its turn comes in 0.75 s, and the queue is full, max_waiting=0"
    assert (caught.value.name, caught.value.remaining) == ("prices", 0.75)


@pytest.mark.parametrize("rate", [1.0, 1e6])
def test_a_turn_comes_no_sooner_than_a_hundredth_of_a_token_before_its_time(rate: float) -> None:
    each = 1 / rate
    for share, goes in [(0.5, False), (0.98, False), (0.9999999, True), (1.0, True)]:
        limit = RateLimit(rate, burst=1)
        assert ask(limit, one(), 0.0) is None
        assert (ask(limit, one(), share * each) is None) is goes


@pytest.mark.parametrize("cost", [{"get": 2}, lambda member: 2.0])
def test_a_cost_is_counted_in_tokens_whatever_the_rate(cost: object) -> None:
    limit = RateLimit(4, per=2, burst=8, cost=cost)  # type: ignore[arg-type]
    assert ask(limit, one(3, "get"), 0.0) is None
    assert level(limit, 0.0) == 2
    assert level(limit, 0.5) == 3
    queued = one(2, "get")
    # Two tokens are there, and four are wanted.
    assert ask(limit, queued, 0.0) == Wait(1.0, "rate limit")
    assert ask(limit, queued, 1.0) is None


@pytest.mark.parametrize(
    ("attempt", "whose"),
    [(one(), "a function"), (one(1, "get"), "the method 'get'")],
)
def test_a_cost_that_no_clock_can_measure_says_whose_it_is(attempt: Attempt, whose: str) -> None:
    limit = RateLimit(1e-300, cost=lambda member: 1e300)
    with pytest.raises(ValueError) as caught:
        ask(limit, attempt, 0.0)
    assert str(caught.value) == f"cost must be one that a clock can measure, got 1e+300 tokens for {whose} at 1e-300 in 1 s; give fewer"


def test_a_bucket_that_no_clock_can_measure_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^rate must be one that a clock can measure, got 1e\+300 in per=1e-08 s with burst=1e-300; give numbers nearer to 1$"
    ):
        RateLimit(1e300, per=1e-8, burst=1e-300)


def test_a_reset_keeps_nothing_of_what_was_taken() -> None:
    limit = RateLimit(1, burst=2)
    ask(limit, one(), 0.0)
    limit.reset()
    assert (level(limit, 0.0), dict(limit._taken)) == (2, {})


def test_a_head_whose_wake_was_cut_short_is_woken_by_the_next_one_that_ends() -> None:
    limit, woken = RateLimit(1, burst=1), list[str]()

    def cut_short() -> None:
        woken.append("cut short" if not woken else "woken")
        if len(woken) == 1:
            raise KeyboardInterrupt

    out, head, behind = one(), one(), one()
    ask(limit, out, 0.0)
    ask(limit, head, 0.0)
    ask(limit, behind, 0.0)
    assert behind.parking is not None
    behind.parking.on_wake(cut_short)
    with pytest.raises(KeyboardInterrupt):
        limit.abandon(head, 0.0)
    limit.settle(out, [Outcome(5)], 0.5)
    assert woken == ["cut short", "woken"]


def test_one_that_left_its_place_is_not_woken_any_more() -> None:
    limit, woken = ConcurrencyLimit(1), list[str]()

    def cut_short() -> None:
        woken.append("first")
        raise KeyboardInterrupt

    out, first, second = one(), one(), one()
    for attempt in (out, first, second):
        ask(limit, attempt, 0.0)
    assert first.parking is not None
    assert second.parking is not None
    first.parking.on_wake(cut_short)
    second.parking.on_wake(lambda: woken.append("second"))
    with pytest.raises(KeyboardInterrupt):
        limit.settle(out, [Outcome(5)], 0.0)
    # It was given the place, and never heard of it.
    assert (limit.in_use, limit.waiting) == (1, 1)
    limit.abandon(first, 0.0)
    assert (woken, limit.in_use, limit.waiting) == (["first", "second"], 1, 0)
