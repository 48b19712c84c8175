"""The circuit breaker as a layer: which call a change is told of, and what each circuit with a key makes of its part of an exchange."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from rpcretry import CircuitOpenError, CircuitState, ConnectionLostError, InvalidTargetError, Request, RetryStrategy
from rpcretry.events import BreakerChanged, Event
from rpcretry.layers import Idempotency, RetryAfter, compose
from rpcretry.layers._surface import Common
from rpcretry.layers.breaker import CircuitBreaker, CircuitStats
from rpcretry.outcome import Attempt, Member, Outcome
from rpcretry.testing import VirtualTime

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
LOST, SILENT = ConnectionLostError("reset"), InvalidTargetError("x")


@pytest.fixture
def time() -> VirtualTime:
    return VirtualTime()


def make(time: VirtualTime, **options: Any) -> CircuitBreaker:
    return CircuitBreaker("api", clock=time.clock, **{"failure_threshold": 1, "recovery_timeout": 10.0, **options})


def attempt(time: VirtualTime, *methods: str, told: list[Event] | None = None, number: int = 1, ends_by: float = math.inf) -> Attempt:
    members = [Member(Request(method, id=index), index) for index, method in enumerate(methods or ("get",))]
    return Attempt(number, members, ends_by, "get", time.now, math.inf, 4, () if told is None else (told.append,))


def ended(*errors: Exception | None) -> list[Outcome]:
    return [Outcome(error=problem) for problem in errors]


@pytest.mark.parametrize("key", [None, "method"])
def test_a_change_is_told_to_the_call_that_made_it_and_when(time: VirtualTime, key: str | None) -> None:
    told: list[Event] = []
    breaker = make(time, key=key, success_threshold=1)
    name = "api" if key is None else "api[get]"
    call = attempt(time, told=told, number=2)
    breaker.admit(call, time.now)
    time.advance(3)
    breaker.settle(call, ended(LOST), time.now)
    time.advance(10)
    again = attempt(time, told=told, number=3)
    time.advance(1)
    breaker.admit(again, time.now)
    time.advance(1)
    breaker.settle(again, ended(None), time.now)
    assert told == [
        BreakerChanged("get", 2, 4, 3.0, name, CLOSED, OPEN, "1 failure in a row", 10.0),
        BreakerChanged("get", 3, 4, 1.0, name, OPEN, HALF_OPEN, "recovery time over", 0.0),
        BreakerChanged("get", 3, 4, 2.0, name, HALF_OPEN, CLOSED, "1 probe succeeded", 0.0),
    ]


@pytest.mark.parametrize("key", [None, "method"])
def test_a_probe_holds_its_slot_until_its_attempt_must_have_ended(time: VirtualTime, key: str | None) -> None:
    breaker = make(time, key=key, half_open_max_calls=1)
    call = attempt(time)
    breaker.admit(call, time.now)
    breaker.settle(call, ended(LOST), time.now)
    time.advance(10)
    breaker.admit(attempt(time, ends_by=time.now + 2), time.now)
    time.advance(1.9)
    with pytest.raises(CircuitOpenError):
        breaker.admit(attempt(time), time.now)
    time.advance(0.1)
    breaker.admit(attempt(time), time.now)


@pytest.mark.parametrize("key", [None, "method"])
@pytest.mark.parametrize("methods", [("a",), ("a", "b")])
def test_an_attempt_that_never_came_is_settled_and_abandoned_without_harm(time: VirtualTime, key: str | None, methods: tuple[str, ...]) -> None:
    breaker = make(time, key=key)
    stranger = attempt(time, *methods)
    breaker.settle(stranger, ended(*[LOST] * len(methods)), time.now)
    breaker.abandon(stranger, time.now)
    circuits = [breaker] if key is None else [breaker[method] for method in methods]
    assert [(circuit.state, circuit.stats.total) for circuit in circuits] == [(CLOSED, 0)] * len(circuits)


def test_what_says_nothing_about_one_circuit_says_something_about_the_next(time: VirtualTime) -> None:
    breaker = make(time, key="method")
    call = attempt(time, "a", "b")
    breaker.admit(call, time.now)
    breaker.settle(call, ended(SILENT, LOST), time.now)
    assert (breaker["a"].stats.total, breaker["a"].state, breaker["b"].state) == (0, CLOSED, OPEN)


def test_a_batch_that_one_circuit_refuses_gives_back_the_slots_of_the_others(time: VirtualTime) -> None:
    told: list[Event] = []
    breaker = make(time, key="method", half_open_max_calls=1)
    for method in ("a", "b"):
        call = attempt(time, method)
        breaker.admit(call, time.now)
        breaker.settle(call, ended(LOST), time.now)
        time.advance(5)
    time.advance(1)
    # "a" may be probed now, and "b" not yet.
    with pytest.raises(CircuitOpenError) as caught:
        breaker.admit(attempt(time, "a", "b", told=told), time.now)
    assert (caught.value.name, caught.value.remaining) == ("api[b]", pytest.approx(4.0))
    assert [(event.name, event.state, event.elapsed) for event in told if isinstance(event, BreakerChanged)] == [("api[a]", HALF_OPEN, 0.0)]
    breaker.admit(attempt(time, "a"), time.now)


def test_a_listener_that_is_added_while_another_one_is_added_is_not_lost(time: VirtualTime) -> None:
    seen: list[str] = []

    class Raced(Common):
        __slots__ = ("raced",)

        def listen(self, before: Any, after: Any) -> bool:
            if not hasattr(self, "raced"):
                self.raced = True
                # Another thread was quicker.
                super().listen(before, (*before, lambda event: seen.append("quicker")))
            return super().listen(before, after)

    breaker = make(time)
    common = breaker._common
    breaker._common = Raced(common.rules, common.verdicts, common.clock)
    mine = lambda event: seen.append("mine")
    breaker.add_listener(mine)
    breaker.record_failure()
    assert sorted(seen) == ["mine", "quicker"]
    del breaker._common.raced  # type: ignore[attr-defined]
    breaker.remove_listener(mine)
    breaker.reset()
    assert sorted(seen) == ["mine", "quicker", "quicker", "quicker"]


def test_what_was_counted_begins_at_nothing_and_takes_no_dict() -> None:
    assert dataclasses.astuple(CircuitStats()) == (0,) * 7
    assert not hasattr(CircuitStats(), "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        CircuitStats().total = 1  # type: ignore[misc]


def test_the_layers_that_every_strategy_has() -> None:
    strategy, mine = RetryStrategy(), RetryAfter(max_delay=5)
    hint, guard = compose(strategy)
    assert (type(hint), type(guard)) == (RetryAfter, Idempotency)
    assert isinstance(guard, Idempotency)
    assert (guard.strategy, guard.keyed, guard.declared) == (strategy, False, None)
    assert hint is compose(strategy)[0]
    assert compose(strategy, mine, keyed=True, idempotent=True)[0] is mine
    guard = compose(strategy, mine, keyed=True, idempotent=True)[1]
    assert isinstance(guard, Idempotency)
    assert (guard.keyed, guard.declared) == (True, True)
    assert compose(None, mine) == (mine,)
    assert compose(None) == ()
