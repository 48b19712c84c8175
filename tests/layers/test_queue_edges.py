"""The queues of both limits, where something comes in the middle of their work: a collection, a signal handler, an interrupt."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from interruptions import interrupt

from rpcretry.layers import ConcurrencyLimit, RateLimit
from rpcretry.layers.concurrency import first_of
from rpcretry.outcome import Attempt, Member, Outcome, Wait
from rpcretry.retry import Layer


class Struck(Attempt):  # type: ignore[misc]
    """An attempt during whose parking, or the looking up of which, something else happens.

    :ivar parks: what happens while it parks.
    :ivar looked_up: what happens as it is looked up, in turn; ``None`` for nothing.
    :ivar wakes: how often it was woken.
    """

    def __init__(self, members: int = 1) -> None:
        super().__init__(1, [Member(None) for _ in range(members)], math.inf, "x")
        self.parks: Callable[[], object] | None = None
        self.looked_up: Iterator[Callable[[], object] | None] = iter(())
        self.wakes = 0

    def __hash__(self) -> int:
        blow = next(self.looked_up, None) if hasattr(self, "looked_up") else None
        if blow is not None:
            blow()
        return id(self) // 16

    def park(self) -> Callable[[], None]:
        wake = super().park()
        blow, self.parks = self.parks, None
        if blow is not None:
            blow()

        def woken() -> None:
            self.wakes += 1
            wake()

        return woken


def at(place: int, blow: Callable[[], object]) -> Iterator[Callable[[], object] | None]:
    return iter([*[None] * (place - 1), blow])


def ask(limit: Layer, attempt: Attempt, now: float = 0.0) -> Wait | None:
    """As the engine asks."""
    attempt.parking = None
    return limit.admit(attempt, now)


def come(limit: Layer, *members: int) -> list[Struck]:
    """Some that came at 0, one after the other."""
    attempts = [Struck(count) for count in members]
    for attempt in attempts:
        ask(limit, attempt)
    return attempts


def level(limit: RateLimit, now: float) -> float:
    limit.clock = lambda: now
    return limit.level


# --- at most so many at once ---


def test_a_head_is_found_although_the_queue_changes_meanwhile() -> None:
    class Changing(OrderedDict[Any, Any]):
        changes = 2

        def __iter__(self) -> Iterator[Any]:
            if self.changes:
                self.changes -= 1
                raise RuntimeError("OrderedDict mutated during iteration")
            return super().__iter__()

    queue = Changing()
    queue["first"], queue["second"] = 1, 2
    assert first_of(queue) == "first"


def test_a_place_that_becomes_free_while_one_parks_is_that_ones() -> None:
    limit = ConcurrencyLimit(1)
    (holder,) = come(limit, 1)
    attempt = Struck()
    attempt.parks = lambda: limit.settle(holder, [Outcome()], 0.0)
    assert ask(limit, attempt) is None
    assert (limit.in_use, limit.waiting, attempt.parking, limit._granted) == (1, 0, None, {})
    limit.settle(attempt, [Outcome()], 0.0)
    assert (limit.in_use, limit.waiting) == (0, 0)


# The first look is that for the head, which no code of Python's can come into.
@pytest.mark.parametrize("place", range(2, 6))
def test_one_that_leaves_while_it_is_granted_a_place_has_none(place: int) -> None:
    limit = ConcurrencyLimit(1)
    holder, first, second = come(limit, 1, 1, 1)
    first.looked_up = at(place, lambda: limit.abandon(first, 0.0))
    limit.settle(holder, [Outcome()], 0.0)
    assert next(first.looked_up, "struck") == "struck"
    assert (first.wakes, second.wakes, limit.in_use, limit.waiting, limit._granted) == (0, 1, 1, 0, {})
    assert ask(limit, second) is None
    limit.settle(second, [Outcome()], 0.0)
    assert (limit.in_use, limit._inside) == (0, set())


def test_each_is_woken_once() -> None:
    limit = ConcurrencyLimit(2)
    one, other, first, second = come(limit, 1, 1, 1, 1)
    limit.settle(one, [Outcome()], 0.0)
    limit.settle(other, [Outcome()], 0.0)
    assert (first.wakes, second.wakes) == (1, 1)


def interrupted_wake(limit: ConcurrencyLimit) -> tuple[Struck, Struck]:
    """One that is out, and one that has the other place and was not woken: an interrupt came."""
    out, other, first = come(limit, 1, 1, 1)
    queued = limit._queue[first]
    wakes = iter([interrupt, queued.wake])
    queued.wake = lambda: next(wakes)()
    with pytest.raises(KeyboardInterrupt):
        limit.settle(other, [Outcome()], 0.0)
    assert (limit.in_use, first.wakes) == (2, 0)
    return out, first


def test_a_wake_that_was_interrupted_is_made_up_for_by_whoever_comes_next() -> None:
    limit = ConcurrencyLimit(2)
    out, first = interrupted_wake(limit)
    (late,) = come(limit, 1)
    assert (first.wakes, late.wakes, limit.waiting) == (1, 0, 1)
    assert ask(limit, first) is None
    limit.settle(out, [Outcome()], 0.0)
    assert (first.wakes, late.wakes) == (1, 1)


def test_one_that_comes_by_itself_after_an_interrupted_wake_is_not_woken_later() -> None:
    limit = ConcurrencyLimit(2)
    out, first = interrupted_wake(limit)
    assert ask(limit, first, 1.0) is None
    assert limit._granted == {}
    limit.settle(out, [Outcome()], 1.0)
    assert (first.wakes, limit.in_use) == (0, 1)


def test_one_that_leaves_after_an_interrupted_wake_is_not_woken_any_more() -> None:
    limit = ConcurrencyLimit(2)
    out, first = interrupted_wake(limit)
    limit.abandon(first, 1.0)
    assert (first.wakes, limit.in_use, limit._granted) == (0, 1, {})
    limit.settle(out, [Outcome()], 1.0)
    assert limit.in_use == 0


def test_one_that_leaves_the_queue_after_an_interrupted_wake_leaves_the_other_its_place() -> None:
    limit = ConcurrencyLimit(2)
    _, first = interrupted_wake(limit)
    (late,) = come(limit, 1)
    limit.abandon(late, 0.0)
    assert (limit.in_use, limit.waiting, ask(limit, first)) == (2, 0, None)


# --- at most so many in a time ---


def test_one_whose_predecessors_leave_while_it_parks_waits_by_time() -> None:
    limit = RateLimit(1, per=4)
    _, head = come(limit, 1, 1)
    attempt = Struck()
    attempt.parks = lambda: limit.abandon(head, 0.0)
    # Nobody is left to wake it.
    assert (ask(limit, attempt), attempt.parking, limit.waiting) == (Wait(4.0, "rate limit"), None, 1)
    assert ask(limit, attempt, 4.0) is None


def test_one_whose_predecessors_leave_while_it_parks_again_waits_by_time() -> None:
    limit = RateLimit(1, per=4)
    _, head, second, third = come(limit, 1, 1, 1, 1)
    second.parks = lambda: limit.abandon(head, 0.0)
    assert (ask(limit, second), second.parking, limit.waiting) == (Wait(4.0, "rate limit"), None, 2)
    assert ask(limit, second, 4.0) is None
    assert third.wakes == 1


def test_one_whose_predecessors_leave_while_it_parks_again_may_go_at_once() -> None:
    limit = RateLimit(1, per=4)
    _, head, second, third = come(limit, 1, 1, 1, 1)
    second.parks = lambda: limit.abandon(head, 9.0)
    assert (ask(limit, second, 9.0), second.parking, limit.waiting) == (None, None, 1)
    assert third.wakes == 1


def test_a_wake_that_was_interrupted_is_made_up_for_at_the_end_of_any_exchange() -> None:
    limit = RateLimit(1)
    out, head, second = come(limit, 1, 1, 1)
    queued = limit._queue[second]
    assert queued.wake is not None
    wakes = iter([interrupt, queued.wake])
    queued.wake = lambda: next(wakes)()
    with pytest.raises(KeyboardInterrupt):
        limit.abandon(head, 0.0)
    assert second.wakes == 0
    limit.settle(out, [Outcome()], 0.0)
    assert second.wakes == 1


def test_one_that_ends_while_what_was_taken_is_looked_over_hides_none_before_it() -> None:
    for place in (1, 2):
        limit = RateLimit(1, burst=2)
        early, late = come(limit, 1, 1)
        late.sent = place == 2
        late.looked_up = at(place, lambda limit=limit, late=late: limit.settle(late, [Outcome()], 10.0))  # type: ignore[misc]
        assert ask(limit, Struck(), 10.0) is None
        assert next(late.looked_up, "struck") == "struck"
        # The bucket was full before that one, so that what was taken earlier would have run over.
        limit.abandon(early, 10.0)
        assert level(limit, 10.0) == 1


@pytest.mark.parametrize("place", range(1, 5))
def test_what_is_given_back_while_it_is_given_back_comes_back_once(place: int) -> None:
    limit = RateLimit(1, burst=5)
    _, attempt = come(limit, 1, 2)
    attempt.looked_up = at(place, lambda: limit.abandon(attempt, 0.0))
    limit.abandon(attempt, 0.0)
    assert next(attempt.looked_up, "struck") == "struck"
    limit.abandon(attempt, 0.0)
    assert (level(limit, 0.0), attempt in limit._taken) == (4, False)


def test_one_that_ends_while_tokens_are_given_back_hides_none_before_it() -> None:
    limit = RateLimit(1, burst=4)
    early, gone, late = Struck(3), Struck(1), Struck(2)
    for now, attempt in enumerate((early, gone, late)):
        assert ask(limit, attempt, float(now)) is None
    late.looked_up = at(1, lambda: limit.settle(late, [Outcome()], 2.0))
    limit.abandon(gone, 2.0)
    assert (next(late.looked_up, "struck"), level(limit, 2.0)) == ("struck", 1)
    # Without those two the bucket was full at 2 s, before the late one took from it.
    limit.abandon(early, 2.0)
    assert level(limit, 2.0) == 2
