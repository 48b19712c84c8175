"""The rate limit: exact, fair, and nothing lost to those that leave."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interruptions import Scene, at_every_line, interrupt, interrupted
from support import Recorder, Rig, both_drivers, fresh

from rpcretry import AsyncClient, BatchRequest, Client, ConnectionLostError, DeadlineExceeded, Delivery, Refused, Request, RetryStrategy
from rpcretry.errors import LimitReachedError
from rpcretry.layers.rate import RateLimit
from rpcretry.outcome import Attempt, Member, Outcome, Wait
from rpcretry.retry import Layer, PeriodicBackoff
from rpcretry.testing import result
from rpcretry.transport import Exchange, Reply

lost = fresh(ConnectionLostError("reset"))


def one(cost: int = 1, method: str | None = None, deadline: float = math.inf) -> Attempt:
    return Attempt(1, [Member(None if method is None else Request(method)) for _ in range(cost)], math.inf, "x", deadline=deadline)


def ask(limit: RateLimit, attempt: Attempt, now: float) -> Wait | None:
    """As the engine asks."""
    attempt.parking = None
    return limit.admit(attempt, now)


def is_woken(attempt: Attempt) -> bool:
    return attempt.parking is not None and attempt.parking.woken


def is_empty(limit: RateLimit) -> bool:
    return (limit.waiting, dict(limit._queue), limit._queued, limit._taken) == (0, {}, 0.0, {})


def level(limit: RateLimit, now: float) -> float:
    limit.clock = lambda: now
    return limit.level


# --- through clients ---


@both_drivers
def test_calls_go_out_at_the_rate(driver: str) -> None:
    limit = RateLimit(4, burst=2)
    rig = Rig(driver, *[result(5)] * 6, layers=limit)
    limit.clock = rig.time.clock
    assert limit.level == 2
    for _ in range(5):
        rig.call("get")
    assert rig.waits == [0.25, 0.25, 0.25]
    assert limit.level == 0
    rig.time.advance(0.375)
    assert limit.level == 1.5
    rig.time.advance(100)
    assert limit.level == 2
    rig.call("get")
    assert limit.level == 1
    assert is_empty(limit)


def test_reset_fills_the_bucket_and_what_was_taken_before_does_not_come_back() -> None:
    limit = RateLimit(1, per=60, burst=2)
    early, late, head, second = one(), one(), one(), one()
    assert [ask(limit, attempt, 100.0) for attempt in (early, late)] == [None, None]
    assert level(limit, 100.0) == 0
    assert [type(ask(limit, attempt, 100.0)) for attempt in (head, second)] == [Wait, Wait]
    limit.reset()
    assert (level(limit, 100.0), limit.waiting) == (2, 2)
    limit.abandon(early, 100.0)
    assert level(limit, 100.0) == 2
    # The queue keeps its order.
    assert ask(limit, second, 100.0) is not None
    assert ask(limit, head, 100.0) is None
    assert is_woken(second)
    assert ask(limit, second, 100.0) is None
    assert level(limit, 100.0) == 0
    limit.settle(late, (), 100.0)
    limit.settle(head, (), 100.0)
    limit.settle(second, (), 100.0)
    assert is_empty(limit)


@both_drivers
def test_a_retry_takes_a_token_of_its_own(driver: str) -> None:
    limit = RateLimit(1, per=10)
    strategy = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(2, 4.0))
    rig = Rig(driver, lost, result(5), retry_strategy=strategy, layers=limit)
    assert rig.call("get") == 5
    assert rig.waits == [4.0, 6.0]


@both_drivers
def test_one_that_may_not_queue_is_refused_at_once(driver: str) -> None:
    limit = RateLimit(2, burst=1, max_waiting=0, name="db")
    rig = Rig(driver, result(5), result(5), layers=limit)
    rig.call("get")
    rig.time.advance(0.125)
    with pytest.raises(LimitReachedError, match=r"rate limit 'db': its turn comes in 0.375 s, and the queue is full, max_waiting=0") as caught:
        rig.call("get")
    assert (caught.value.name, caught.value.remaining, caught.value.delivery, rig.sent) == ("db", 0.375, Delivery.NOT_SENT, 1)
    rig.time.advance(0.375)
    assert rig.call("get") == 5
    assert rig.waits == []


@both_drivers
def test_one_that_would_wait_too_long_is_refused_at_once(driver: str) -> None:
    limit = RateLimit(1, max_wait=1)
    rig = Rig(driver, *[result(5)] * 3, layers=limit)
    rig.call("get")
    rig.call("get")
    assert rig.waits == [1.0]
    ask(limit, one(), rig.time.now)
    with pytest.raises(LimitReachedError, match="its turn comes in 2 s, and that is more than max_wait=1 s") as caught:
        rig.call("get")
    assert (caught.value.remaining, rig.waits, limit.waiting) == (2.0, [1.0], 1)


@both_drivers
def test_a_turn_after_the_deadline_ends_the_call_at_once(driver: str) -> None:
    limit, head = RateLimit(1), one()
    rig = Rig(driver, result(5), layers=limit, deadline=2)
    rig.call("get")
    ask(limit, head, rig.time.now)
    # Its turn is 2 s away, behind one that waits.
    with pytest.raises(DeadlineExceeded):
        rig.call("get")
    assert (rig.waits, rig.sent, list(limit._queue)) == ([], 1, [head])


@both_drivers
def test_a_batch_costs_the_sum_of_its_members(driver: str) -> None:
    limit = RateLimit(1, burst=10, cost={"big": 4, "free": 0, "small": 0.5})
    rig = Rig(driver, *[result(5)] * 4, layers=limit)
    limit.clock = rig.time.clock
    rig.send(BatchRequest(Request("big"), Request("free"), Request("small"), Request("other")))
    assert limit.level == 4.5
    rig.call("big")
    rig.call("free")
    assert (limit.level, rig.waits) == (0.5, [])
    rig.call("other")
    assert rig.waits == [0.5]


@both_drivers
def test_a_function_says_what_a_request_costs_once_for_each_attempt(driver: str) -> None:
    asked: list[Any] = []

    def cost(member: Member) -> float:
        asked.append(member.method)
        return 3

    limit = RateLimit(1, burst=3, cost=cost)
    rig = Rig(driver, *[result(5)] * 2, layers=limit)
    rig.call("get")
    rig.call("put")
    assert (asked, rig.waits) == (["get", "put"], [3.0])


@both_drivers
@pytest.mark.parametrize("answer", [-1, math.nan, "1", None, True])
def test_a_cost_that_is_none_is_an_error_that_names_it(driver: str, answer: Any) -> None:
    limit = RateLimit(1, cost=lambda member: answer)
    rig = Rig(driver, result(5), layers=limit)
    with pytest.raises((TypeError, ValueError), match="the tokens that cost returns"):
        rig.call("get")
    assert (rig.sent, is_empty(limit)) == (0, True)


@both_drivers
def test_a_function_that_raises_takes_nothing(driver: str) -> None:
    def cost(member: Member) -> float:
        raise LookupError("bug")

    limit = RateLimit(1, cost=cost)
    rig = Rig(driver, result(5), layers=limit)
    with pytest.raises(LookupError, match="bug"):
        rig.call("get")
    assert level(limit, rig.time.now) == 1


@both_drivers
def test_an_attempt_that_is_refused_further_in_gets_its_tokens_back(driver: str) -> None:
    limit = RateLimit(1, burst=3)
    rig = Rig(driver, result(5), layers=(limit, Recorder(waits=[Refused("no")])))
    with pytest.raises(Refused):
        rig.call("get")
    assert (level(limit, rig.time.now), is_empty(limit)) == (3, True)


def test_a_function_costs_one() -> None:
    limit = RateLimit(1, burst=5, cost={"get": 3})
    ask(limit, one(), 0.0)
    assert level(limit, 0.0) == 4


# --- directly ---


def test_the_head_waits_by_time_and_those_behind_it_until_woken() -> None:
    limit = RateLimit(1)
    first, second, third, fourth = one(), one(), one(), one()
    assert ask(limit, first, 0.0) is None
    assert (ask(limit, second, 0.0), second.parking) == (Wait(1.0, "rate limit"), None)
    assert ask(limit, third, 0.0) == Wait(math.inf, "rate limit")
    assert third.parking is not None
    # Asked too early it parks anew, and keeps its place.
    assert ask(limit, third, 0.5) == Wait(math.inf, "rate limit")
    assert ask(limit, second, 0.5) == Wait(1.0, "rate limit")
    ask(limit, fourth, 0.5)
    assert ask(limit, second, 1.0) is None
    assert (is_woken(third), is_woken(fourth), limit.waiting) == (True, False, 2)
    assert ask(limit, third, 1.0) == Wait(2.0, "rate limit")
    limit.abandon(third, 1.5)
    assert is_woken(fourth)
    assert ask(limit, fourth, 1.5) == Wait(2.0, "rate limit")
    assert ask(limit, fourth, 2.0) is None


def test_nobody_overtakes_a_head_that_has_not_come_back_yet() -> None:
    limit = RateLimit(1)
    for attempt in (one(), head := one()):
        ask(limit, attempt, 0.0)
    late = one()
    assert ask(limit, late, 5.0) == Wait(math.inf, "rate limit")
    assert ask(limit, head, 5.0) is None
    assert is_woken(late)


def test_one_that_leaves_the_middle_wakes_nobody() -> None:
    limit = RateLimit(1)
    attempts = [one() for _ in range(5)]
    for attempt in attempts:
        ask(limit, attempt, 0.0)
    limit.abandon(attempts[2], 0.0)
    limit.abandon(attempts[2], 0.0)
    assert not any(is_woken(attempt) for attempt in attempts)
    assert list(limit._queue) == [attempts[1], attempts[3], attempts[4]]


def test_the_next_is_woken_outside_of_the_lock() -> None:
    limit = RateLimit(1)
    first, head, second = one(), one(), one()
    for attempt in (first, head, second):
        ask(limit, attempt, 0.0)
    assert second.parking is not None
    free: list[bool] = []
    second.parking.on_wake(lambda: free.append(not limit._lock._is_owned()))
    limit.abandon(head, 0.0)
    assert free == [True]


def test_a_function_of_the_users_is_called_without_the_lock() -> None:
    def cost(member: Member) -> float:
        assert not limit._lock._is_owned()
        return 1

    limit = RateLimit(1, cost=cost)
    for _ in range(3):
        ask(limit, one(), 0.0)
    assert limit.waiting == 2


def test_one_that_costs_more_than_fits_waits_for_a_full_bucket_and_leaves_a_debt() -> None:
    limit = RateLimit(1, burst=4)
    ask(limit, one(), 0.0)
    big, small = one(10), one()
    assert ask(limit, big, 0.0) == Wait(1.0, "rate limit")
    ask(limit, small, 0.0)
    assert ask(limit, big, 1.0) is None
    assert level(limit, 1.0) == -6
    assert ask(limit, small, 1.0) == Wait(8.0, "rate limit")
    assert ask(limit, small, 8.0) is None


def test_what_costs_nothing_passes_the_queue() -> None:
    limit = RateLimit(1, cost={"ping": 0})
    for _ in range(3):
        ask(limit, one(method="get"), 0.0)
    free = one(method="ping")
    assert ask(limit, free, 0.0) is None
    limit.settle(free, [Outcome()], 0.0)
    assert limit.waiting == 2


def test_who_joins_behind_others_is_told_when_its_turn_would_come() -> None:
    limit = RateLimit(2, burst=3, max_waiting=2)
    for cost in (3, 2, 7):
        ask(limit, one(cost), 0.0)
    # The 2 go at 1 s, the 7 with a full bucket at 2.5 s, which leaves -4.
    with pytest.raises(LimitReachedError) as caught:
        ask(limit, one(), 0.0)
    assert caught.value.remaining == 5.0


def test_a_newcomer_is_told_its_turn_behind_a_head_that_is_late_and_after_one_has_left() -> None:
    limit = RateLimit(1, max_waiting=2)
    gone, head, second = one(), one(3), one(5)
    for attempt in (gone, head, second):
        ask(limit, attempt, 0.0)
    limit.abandon(second, 0.0)
    ask(limit, one(2), 0.0)
    # The head goes now and leaves -2, the two tokens go at 12 s and leave -1, and so the newcomer's turn is at 14 s.
    with pytest.raises(LimitReachedError) as caught:
        ask(limit, one(), 9.0)
    assert caught.value.remaining == 5.0


def test_one_whose_turn_comes_after_its_deadline_takes_no_place_in_the_queue() -> None:
    limit = RateLimit(1)
    for attempt in (one(), one()):
        ask(limit, attempt, 0.0)
    doomed, just = one(deadline=2.0), one(deadline=2.5)
    assert (ask(limit, doomed, 0.0), doomed.parking, limit.waiting) == (Wait(2.0, "rate limit"), None, 1)
    assert ask(limit, just, 0.0) == Wait(math.inf, "rate limit")
    assert limit.waiting == 2


def test_one_that_has_waited_too_long_leaves_whatever_became_of_those_before_it() -> None:
    limit = RateLimit(1, max_wait=2)
    gone, head, second = one(), one(), one()
    for attempt in (gone, head, second):
        ask(limit, attempt, 0.0)
    # The head's thread sleeps on, past its turn.
    assert ask(limit, second, 1.5) == Wait(2.0, "rate limit")
    with pytest.raises(LimitReachedError, match="its turn did not come, and that is more than max_wait=2 s") as caught:
        ask(limit, second, 2.0)
    assert caught.value.remaining is None
    assert list(limit._queue) == [head]
    late = one()
    ask(limit, late, 2.0)
    assert ask(limit, head, 9.0) is None
    with pytest.raises(LimitReachedError, match="its turn comes in 1 s"):
        ask(limit, late, 9.0)
    assert limit.waiting == 0


# --- what comes back ---


def test_tokens_come_back_only_for_what_never_went_out() -> None:
    limit = RateLimit(1, burst=3)
    unsent, sent, settled = one(), one(), one()
    for attempt in (unsent, sent, settled):
        ask(limit, attempt, 0.0)
    sent.sent = settled.sent = True
    limit.settle(settled, [Outcome()], 0.0)
    for attempt in (unsent, sent, settled, one()):
        limit.abandon(attempt, 0.0)
        limit.abandon(attempt, 0.0)
    assert level(limit, 0.0) == 1
    assert is_empty(limit)


def test_what_went_out_is_not_looked_at_again() -> None:
    """However many are in flight, an admission looks at those alone that may still come back."""
    limit = RateLimit(1, burst=50)
    for _ in range(50):
        attempt = one()
        ask(limit, attempt, 0.0)
        attempt.sent = True
    assert list(limit._taken) == [attempt]


def test_tokens_come_back_also_after_a_while() -> None:
    limit = RateLimit(1, burst=2)
    first, second = one(), one()
    ask(limit, first, 0.0)
    ask(limit, second, 0.0)
    limit.abandon(first, 1.0)
    assert level(limit, 1.0) == 2
    limit.abandon(second, 1.0)
    assert level(limit, 1.0) == 2


def test_tokens_that_would_have_run_over_do_not_come_back() -> None:
    """Else they went out in one burst with those that filled the bucket in their place."""
    limit = RateLimit(1)
    unsent, other = one(), one()
    ask(limit, unsent, 0.0)
    ask(limit, other, 10.0)
    limit.abandon(unsent, 10.0)
    assert level(limit, 10.0) == 0


steps = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3), st.booleans(), st.randoms(use_true_random=False)), max_size=40)


@given(steps, st.integers(1, 5))
def test_what_is_put_back_was_never_taken(steps: list[tuple[int, int, bool, random.Random]], burst: int) -> None:
    """Against a bucket that is replayed from the start without those that left. Quarters of seconds are exact."""
    limit, now = RateLimit(1, burst=burst), 0.0
    kept: list[tuple[float, int]] = []
    held: dict[Attempt, tuple[float, int]] = {}
    for pause, cost, leaves, chance in steps:
        now += pause / 4
        attempt = one(cost)
        if leaves and held:
            gone = chance.choice(list(held))
            kept.remove(held.pop(gone))
            limit.abandon(gone, now)
        elif max(0.0, limit._full_at - now) <= max(0, burst - cost):
            assert ask(limit, attempt, now) is None
            held[attempt] = (now, cost)
            kept.append((now, cost))
        full_at = -math.inf
        for then, tokens in kept:
            full_at = max(full_at, then) + tokens
        assert max(limit._full_at, now) == max(full_at, now)


# --- many, in virtual time ---


class Arrival(NamedTuple):
    """One call of a simulation.

    :ivar at: when it comes.
    :ivar cost: its tokens.
    :ivar patience: the seconds after which it is cancelled.
    :ivar held: the seconds after admission for which it is not sent yet.
    :ivar lateness: by how much its driver is late at each wake and timer.
    """

    at: float
    cost: int
    patience: float = math.inf
    held: float = 0.0
    lateness: float = 0.0


class Went(NamedTuple):
    at: float
    cost: int
    index: int


def simulate(limit: RateLimit, arrivals: list[Arrival]) -> tuple[list[Went], set[int]]:
    """Play *arrivals*, in their order. Returns what was let out and stayed so, in the order of admission, and who was cancelled."""
    agenda: list[tuple[float, int, Callable[[float], None]]] = []
    ticket, went, cancelled = itertools.count(), [], set()
    clock = 0.0

    def at(when: float, act: Callable[[float], None]) -> None:
        if when < math.inf:
            heapq.heappush(agenda, (when, next(ticket), act))

    def start(index: int, arrival: Arrival) -> Callable[[float], None]:
        attempt = one(arrival.cost)
        over, wait_number = False, 0

        def again(now: float) -> None:
            nonlocal over, wait_number
            if over:
                return
            wait_number += 1
            this = wait_number
            step = ask(limit, attempt, now)
            if step is None:
                over = True
                went.append(Went(now, arrival.cost, index))
                at(now + arrival.held, send)
                return

            def come_back(when: float) -> None:
                if this == wait_number:
                    again(when)

            if attempt.parking is not None:
                attempt.parking.on_wake(lambda: at(clock + arrival.lateness, come_back))
            at(step.until + arrival.lateness, come_back)

        def send(now: float) -> None:
            if index not in cancelled:
                attempt.sent = True
                limit.settle(attempt, [Outcome()], now)

        def cancel(now: float) -> None:
            nonlocal over
            if attempt.sent:
                return
            over = True
            cancelled.add(index)
            limit.abandon(attempt, now)
            limit.abandon(attempt, now)
            went[:] = [item for item in went if item.index != index]

        at(arrival.at + arrival.patience, cancel)
        return again

    for index, arrival in enumerate(arrivals):
        at(arrival.at, start(index, arrival))
    while agenda:
        clock, _, act = heapq.heappop(agenda)
        act(clock)
    return went, cancelled


def within_every_window(went: list[Went], rate: float, burst: float) -> bool:
    for first in range(len(went)):
        tokens = 0
        for item in went[first:]:
            tokens += item.cost
            if tokens > burst + rate * (item.at - went[first].at + 1e-6) + 1e-6:
                return False
    return True


numbers = st.integers(0, 200).map(lambda n: n / 10)
arrivals = st.lists(
    st.builds(
        Arrival,
        at=numbers,
        cost=st.integers(1, 4),
        patience=st.one_of(st.just(math.inf), st.integers(0, 30).map(lambda n: n / 10 + 0.05)),
        held=st.one_of(st.just(0.0), numbers),
        lateness=st.one_of(st.just(0.0), st.integers(0, 9).map(lambda n: n / 10)),
    ),
    max_size=40,
).map(lambda found: sorted(found, key=lambda arrival: arrival.at))


@settings(max_examples=200, deadline=None)
@given(arrivals, st.sampled_from([0.7, 1.0, 3.0]), st.integers(4, 8))
def test_no_window_holds_more_than_the_burst_and_the_rate(found: list[Arrival], rate: float, burst: int) -> None:
    """With late drivers, cancels, and attempts that are held up further in and then cancelled."""
    limit = RateLimit(rate, burst=burst)
    went, cancelled = simulate(limit, found)
    assert within_every_window(went, rate, burst)
    # In the order of arrival, and nobody is left behind.
    assert [item.index for item in went] == [index for index in range(len(found)) if index not in cancelled]
    assert is_empty(limit)


@settings(max_examples=200, deadline=None)
@given(arrivals, st.sampled_from([0.5, 1.0, 4.0]), st.sampled_from([0.5, 1.0, 2.5, 6.0]))
def test_everybody_goes_as_soon_as_a_bucket_of_tokens_lets_him(found: list[Arrival], rate: float, burst: float) -> None:
    """Against a bucket with a level, whatever the costs, without cancels. It is as fast as may be, and no faster."""
    limit = RateLimit(rate, burst=burst)
    went, _ = simulate(limit, [arrival._replace(patience=math.inf, lateness=0.0) for arrival in found])
    tokens, now = burst, 0.0
    for item, arrival in zip(went, found, strict=True):
        # In line: not before the one before it.
        start = max(now, arrival.at)
        tokens = min(burst, tokens + (start - now) * rate)
        missing = max(0.0, min(arrival.cost, burst) - tokens)
        now = start + missing / rate
        tokens = min(burst, tokens + missing) - arrival.cost
        assert item.at == pytest.approx(now, abs=1e-6)


@settings(max_examples=150, deadline=None)
@given(arrivals, st.integers(1, 8).map(float))
def test_max_wait_refuses_just_those_that_would_wait_longer(found: list[Arrival], most: float) -> None:
    """The turn that a newcomer is told is the one that it gets."""
    turns: dict[int, float] = {}
    counter = iter(range(len(found)))
    plain = RateLimit.admit

    class Patient(RateLimit):
        def admit(self, attempt: Attempt, now: float) -> Wait | None:
            if attempt not in self._queue:
                index = next(counter)
                try:
                    return plain(self, attempt, now)
                except LimitReachedError as refusal:
                    turns[index] = refusal.remaining or 0.0
                    # As if it had not come.
                    return Wait(math.inf, "refused")
            return plain(self, attempt, now)

    limit = Patient(1, burst=2.0, max_wait=most)
    went, _ = simulate(limit, [arrival._replace(patience=math.inf, lateness=0.0) for arrival in found])
    assert {item.index for item in went} | set(turns) == set(range(len(found)))
    assert all(turn > most for turn in turns.values())
    for item in went:
        assert item.at - found[item.index].at <= most + 1e-9


@given(st.floats(0, 1e6), st.sampled_from([0.3, 3, 7, 10, 60, 1000]), st.sampled_from([1, 60]), st.sampled_from([1, 10, 333]))
def test_a_burst_goes_out_whole_whatever_the_roundings(start: float, rate: float, per: float, burst: int) -> None:
    """A thousand times 0.001 is more than 1."""
    limit = RateLimit(rate, per=per, burst=burst, max_waiting=0)
    for _ in range(burst):
        assert ask(limit, one(), start) is None
    with pytest.raises(LimitReachedError) as caught:
        ask(limit, one(), start)
    assert caught.value.remaining == pytest.approx(per / rate, rel=1e-3, abs=1e-8)
    assert ask(limit, one(), start + per / rate) is None


def test_the_rate_is_exact_over_a_long_time() -> None:
    limit = RateLimit(10, burst=5)
    went, _ = simulate(limit, [Arrival(1_000_000.0, 1)] * 2_000)
    for number, item in enumerate(went):
        assert item.at - 1_000_000 == pytest.approx(max(0, number - 4) / 10, abs=1e-5)


def test_a_burst_makes_up_for_late_drivers() -> None:
    limit = RateLimit(10, burst=5)
    went, _ = simulate(limit, [Arrival(0.0, 1, lateness=0.03)] * 500)
    assert went[-1].at == pytest.approx(49.5, abs=0.1)


def test_large_exchanges_keep_the_mean_rate() -> None:
    limit = RateLimit(2, burst=3)
    went, _ = simulate(limit, [Arrival(0.0, 1 + number % 9) for number in range(90)])
    before = 0
    for item in went:
        # What went before it was paid for; it itself may leave a debt.
        assert before <= 3 + 2 * item.at + 1e-6
        before += item.cost
    assert went[-1].at == pytest.approx((before - 3) / 2, abs=5)


def test_no_token_is_lost_after_ten_thousand_acquisitions_cancelled_at_random() -> None:
    chance = random.Random(5)

    def arrival(number: int) -> Arrival:
        patience = math.inf if chance.random() < 0.1 else chance.random() * 3
        return Arrival(number / 100, 1, patience, held=chance.choice([0.0, 2.0]))

    found = [arrival(number) for number in range(10_000)]
    limit = RateLimit(20, burst=10)
    went, cancelled = simulate(limit, found)
    assert len(cancelled) > 5_000
    assert len(went) + len(cancelled) == 10_000
    assert within_every_window(went, 20, 10)
    assert is_empty(limit)
    assert level(limit, 1_000.0) == 10


# --- threads and tasks, in real time ---


class Times(Layer):
    """Writes down when attempts were let through by the layers further out."""

    def __init__(self) -> None:
        self.went: list[Went] = []

    def admit(self, attempt: Attempt, now: float) -> None:
        self.went.append(Went(now, 1, len(self.went)))


class Quick:
    def exchange(self, exchange: Exchange, /) -> Reply:
        return Reply(b'{"jsonrpc":"2.0","id":%d,"result":0}' % exchange.ids[0])

    def close(self) -> None: ...


class AsyncQuick:
    def __init__(self) -> None:
        self.order: list[Any] = []
        self.begun = asyncio.Event()

    async def exchange(self, exchange: Exchange, /) -> Reply:
        self.order.append(exchange.ids[0])
        self.begun.set()
        await asyncio.sleep(0)
        return Quick().exchange(exchange)

    async def aclose(self) -> None: ...


def test_eight_threads_share_one_rate() -> None:
    limit, times = RateLimit(1000, burst=10), Times()
    client = Client(Quick(), layers=(limit, times))
    threads = [threading.Thread(target=lambda: [client.call("m") for _ in range(30)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    went = sorted(times.went)
    assert len(went) == 240
    assert within_every_window(went, 1000, 10)
    assert is_empty(limit)


def test_threads_that_run_into_deadlines_and_long_waits_lose_nothing() -> None:
    limit, times = RateLimit(1000, burst=2, max_wait=0.02), Times()
    client = Client(Quick(), layers=(limit, times))
    ends: list[str] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(40):
            try:
                client.call("m", _deadline=chance.choice([None, 0.0005, 0.002, 0.005]))
                ends.append("ok")
            except (DeadlineExceeded, LimitReachedError) as problem:
                ends.append(type(problem).__name__)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(ends) == 320
    assert {"ok", "DeadlineExceeded"} <= set(ends)
    assert len(times.went) == ends.count("ok")
    assert within_every_window(sorted(times.went), 1000, 2)
    assert is_empty(limit)


def test_tasks_go_in_the_order_of_their_coming() -> None:
    limit, times, backend = RateLimit(1000, burst=5), Times(), AsyncQuick()

    async def main() -> None:
        client = AsyncClient(backend, layers=(limit, times))
        await asyncio.gather(*[client.call("m") for _ in range(60)])

    asyncio.run(main())
    assert backend.order == list(range(1, 61))
    assert within_every_window(times.went, 1000, 5)
    assert is_empty(limit)


def test_a_queued_task_that_is_cancelled_lets_the_next_go() -> None:
    limit, backend = RateLimit(100, burst=1), AsyncQuick()

    async def main() -> None:
        client = AsyncClient(backend, layers=limit)
        tasks = [asyncio.create_task(client.call("m")) for _ in range(4)]
        while limit.waiting < 3:
            await asyncio.sleep(0)
        # The head, which waits by time, and the one behind it, which is woken by that and cancelled in the same turn.
        tasks[1].cancel()
        tasks[2].cancel()
        ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert [type(end) for end in ended] == [int, asyncio.CancelledError, asyncio.CancelledError, int]

    asyncio.run(main())
    assert backend.order == [1, 4]
    assert is_empty(limit)


def test_a_call_that_is_cancelled_in_flight_gets_nothing_back() -> None:
    limit, backend = RateLimit(0.001, burst=2), AsyncQuick()

    async def main() -> None:
        client = AsyncClient(backend, layers=limit)
        task = asyncio.create_task(client.call("m"))
        await backend.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert limit.level == pytest.approx(1, abs=0.1)
    assert is_empty(limit)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_by_tasks_that_are_cancelled_at_random(seed: int) -> None:
    limit, times, backend, chance = RateLimit(5000, burst=3), Times(), AsyncQuick(), random.Random(seed)

    async def main() -> list[Any]:
        client = AsyncClient(backend, layers=(limit, times))
        tasks: list[asyncio.Task[Any]] = []
        for _ in range(150):
            tasks.append(asyncio.create_task(client.call("m")))
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            if chance.random() < 0.6:
                chance.choice(tasks).cancel()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)

    ended = asyncio.run(main())
    assert {type(end) for end in ended} == {int, asyncio.CancelledError}
    assert backend.order == sorted(backend.order)
    assert within_every_window(times.went, 5000, 3)
    assert is_empty(limit)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: RateLimit(0), ValueError, ["rate", "0"]),
        (lambda: RateLimit("9"), TypeError, ["rate", "'9'"]),  # type: ignore[arg-type]
        (lambda: RateLimit(math.inf), ValueError, ["rate", "finite"]),
        (lambda: RateLimit(1, per=0), ValueError, ["per", "0"]),
        (lambda: RateLimit(1, per=None), TypeError, ["per", "None"]),  # type: ignore[arg-type]
        (lambda: RateLimit(1e-200, per=1e200), ValueError, ["rate", "per", "nearer to 1"]),
        (lambda: RateLimit(1e200, per=1e-200), ValueError, ["rate", "per", "nearer to 1"]),
        (lambda: RateLimit(1, burst=0), ValueError, ["burst", "0"]),
        (lambda: RateLimit(1, cost=5), TypeError, ["cost", "5", "a mapping"]),  # type: ignore[arg-type]
        (lambda: RateLimit(1, cost={"a": -1}), ValueError, ["cost['a']", "-1"]),
        (lambda: RateLimit(1, cost={"a": "1"}), TypeError, ["cost['a']", "'1'"]),  # type: ignore[dict-item]
        (lambda: RateLimit(1, cost={5: 1}), TypeError, ["method", "5"]),  # type: ignore[dict-item]
        (lambda: RateLimit(1, cost=lambda: 1), TypeError, ["cost", "1 argument"]),  # type: ignore[arg-type]
        (lambda: RateLimit(1, max_waiting=-1), ValueError, ["max_waiting", "-1"]),
        (lambda: RateLimit(1, max_wait=0), ValueError, ["max_wait", "None for no limit"]),
        (lambda: RateLimit(1, name=5), TypeError, ["name", "5"]),  # type: ignore[arg-type]
        (lambda: RateLimit(1, clock=5), TypeError, ["clock", "5"]),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_named(make: Any, kind: type[Exception], words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        make()
    for word in words:
        assert word in str(caught.value)


# --- what comes in the middle ---


def crowded(burst: int) -> tuple[Scene, Attempt, Attempt, Attempt]:
    """A scene, one of those that took a token and are not sent, and the two that wait."""
    scene = Scene(RateLimit(1, burst=burst))
    out, *_ = [scene.come() for _ in range(burst)]
    return scene, out, scene.come(), scene.come()


def acts(scene: Scene, out: Attempt, first: Attempt, second: Attempt) -> dict[str, tuple[Attempt, Callable[[Attempt], object]]]:
    return {
        "newcomer": (one(), scene.ask),
        "end": (out, scene.end),
        "cancel": (out, scene.leave),
        "head": (first, scene.ask),
        "early": (second, scene.ask),
        "leave": (first, scene.leave),
        "leave behind": (second, scene.leave),
    }


@pytest.mark.parametrize(("burst", "now"), [(1, 0.0), (1, 1.0), (3, 1.0)])
@pytest.mark.parametrize("act", ["newcomer", "end", "cancel", "head", "early", "leave", "leave behind"])
@pytest.mark.parametrize("blow", ["cancel", "first leaves", "both leave", "all leave", "a call"])
def test_what_the_same_thread_does_in_the_middle_neither_locks_it_out_nor_loses_a_wake(burst: int, now: float, act: str, blow: str) -> None:
    """A collection closes a dead coroutine, or a signal handler makes a call, while the thread is in the layer."""

    def make() -> tuple[Scene, Callable[[], object], Callable[[], object]]:
        scene, out, first, second = crowded(burst)
        scene.now = now
        attempt, does = acts(scene, out, first, second)[act]
        between = {"cancel": [out], "first leaves": [first], "both leave": [second, first], "all leave": [out, first, second], "a call": []}[blow]
        gone = [other for other in between if other is not attempt]

        def strike() -> None:
            for other in gone:
                scene.leave(other)
            if blow == "a call":
                scene.call()

        made.append(scene)
        return scene, lambda: does(attempt), strike

    made: list[Scene] = []
    assert at_every_line(make) == []
    for scene in made:
        assert is_empty(scene.layer)  # type: ignore[arg-type]
        assert level(scene.layer, 1_000.0) == burst  # type: ignore[arg-type]


@pytest.mark.parametrize(("burst", "now"), [(1, 0.0), (1, 1.0), (3, 1.0)])
@pytest.mark.parametrize("act", ["newcomer", "end", "cancel", "head", "early", "leave", "leave behind"])
def test_an_interrupt_leaves_nobody_waiting(burst: int, now: float, act: str) -> None:
    def make() -> tuple[Scene, Callable[[], object], Callable[[], object]]:
        scene, out, first, second = crowded(burst)
        scene.now = now
        made.append(scene)
        return scene, interrupted(scene, *acts(scene, out, first, second)[act]), interrupt

    made: list[Scene] = []
    assert at_every_line(make) == []
    assert [scene.layer._queue for scene in made] == [{}] * len(made)  # type: ignore[attr-defined]
    assert [scene.layer._taken for scene in made] == [{}] * len(made)  # type: ignore[attr-defined]


@both_drivers
@pytest.mark.parametrize("cost", [{"big": 1e300}, lambda member: 1e300])
def test_a_cost_that_no_clock_can_measure_is_refused_and_changes_nothing(driver: str, cost: Any) -> None:
    limit = RateLimit(1e-9, burst=1, cost=cost)
    rig = Rig(driver, layers=limit)
    with pytest.raises(ValueError, match=r"cost must be .*1e\+300 tokens for the method 'big' at 1e-09 in 1 s; give fewer"):
        rig.call("big")
    assert (rig.sent, is_empty(limit), level(limit, rig.time.now)) == (0, True, 1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RateLimit(10, 60), ["only rate by place", "60", "per=60"]),  # type: ignore[misc]
        (lambda: RateLimit(calls=10, period=60), ["RateLimit", "'calls'", "here it is rate"]),  # type: ignore[call-arg]
        (lambda: RateLimit(10, period=60), ["'period'", "here it is per"]),  # type: ignore[call-arg]
        (lambda: RateLimit(10, capacity=60), ["'capacity'", "here it is burst"]),  # type: ignore[call-arg]
        (lambda: RateLimit(10, brust=60), ["'brust'", "did you mean burst?"]),  # type: ignore[call-arg]
    ],
)
def test_a_parameter_that_it_does_not_have_gets_an_error_that_names_ours(make: Any, words: list[str]) -> None:
    with pytest.raises(TypeError) as caught:
        make()
    for word in words:
        assert word in str(caught.value)


def test_an_async_cost_is_refused() -> None:
    async def cost(member: Member) -> float:
        return 1

    with pytest.raises(TypeError, match="cost must be a plain function"):
        RateLimit(1, cost=cost)  # type: ignore[arg-type]


@pytest.mark.parametrize(("rate", "burst"), [(50, 50), (0.5, 1)])
def test_the_burst_that_is_not_given_is_what_the_period_brings(rate: float, burst: float) -> None:
    limit = RateLimit(rate, per=60)
    assert (limit.burst, limit.level) == (burst, burst)
    assert repr(limit) == f"<RateLimit 'default': {rate:g} in 60 s, burst {burst:g}, 0 waiting>"
