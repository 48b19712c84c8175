"""The circuit breaker at its edges: the exact moment, the last slot, the words of each change."""

from __future__ import annotations

import datetime
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from support import Recorder

from rpcretry import CircuitOpenError, CircuitState, ConnectionLostError, Request
from rpcretry.layers import _circuit, as_layers
from rpcretry.layers._circuit import Machine, Permit, Rules
from rpcretry.layers.breaker import CircuitBreaker
from rpcretry.outcome import Attempt, Member, Outcome
from rpcretry.retry import Backoff, ExponentialBackoff, Layer
from rpcretry.testing import VirtualTime

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
LOST = ConnectionLostError("reset")
RULES = Rules(1, 10.0, 1, 1, None, 100, 10)


@pytest.fixture
def time() -> VirtualTime:
    return VirtualTime()


def make(time: VirtualTime, **options: Any) -> CircuitBreaker:
    return CircuitBreaker("api", clock=time.clock, **options)


def tripped(time: VirtualTime, **options: Any) -> CircuitBreaker:
    """A breaker that one failure opened, and whose recovery time of 10 s is over."""
    breaker = make(time, **{"failure_threshold": 1, "recovery_timeout": 10.0, **options})
    breaker.record_failure()
    time.advance(10)
    return breaker


def attempt(*methods: str) -> Attempt:
    return Attempt(1, [Member(Request(method, id=index), index) for index, method in enumerate(methods or ("get",))], math.inf, "get")


# --- slots ---


def test_a_closed_circuit_has_no_slots(time: VirtualTime) -> None:
    breaker = make(time, half_open_max_calls=1)
    assert all(breaker.can_execute() for _ in range(10))
    breaker.record_failure()
    assert breaker.stats.rejected == 0


def test_a_closed_circuit_with_keys_has_no_slots_either(time: VirtualTime) -> None:
    breaker = make(time, half_open_max_calls=1, key="method")
    for _ in range(10):
        breaker.admit(attempt("a", "b"), time.now)
    assert (breaker["a"].stats.rejected, breaker["b"].state) == (0, CLOSED)


def test_a_record_at_the_very_end_of_a_lease_frees_the_slot_of_one_that_is_under_way(time: VirtualTime) -> None:
    breaker = tripped(time, half_open_max_calls=2, success_threshold=9)
    assert breaker.can_execute()
    time.advance(5)
    assert breaker.can_execute()
    time.advance(5)
    # The lease of the first is over, so this is the end of the second.
    breaker.record_success()
    assert [breaker.can_execute() for _ in range(3)] == [True, True, False]


def struck(place: int, act: Callable[[], object]) -> bool:
    """Run *act*, and once more in front of that call of the circuit's own work: CPython lets a signal handler in at calls, and
    between assignments it does not. Returns whether it came to so many calls."""
    left = place

    def watch(frame: FrameType, event: str, arg: object) -> None:
        nonlocal left
        if event in ("call", "c_call") and frame.f_code.co_filename == _circuit.__file__:
            left -= 1
            if left == -1:
                sys.setprofile(None)
                act()

    sys.setprofile(watch)
    try:
        act()
    finally:
        sys.setprofile(None)
    return left < 0


@pytest.mark.parametrize(("most", "taken"), [(1, 0), (2, 0), (2, 1), (3, 1)])
def test_of_two_that_come_at_once_as_many_get_a_slot_as_there_are(most: int, taken: int) -> None:
    """The second comes in the middle of the first one's admission: a signal handler that makes a call."""
    for place in itertools.count():
        machine = Machine("api", RULES._replace(half_open_max_calls=most))
        machine.record(Permit(0), True, 0.0)
        for _ in range(taken):
            machine.admit(10.0)
        ends: list[bool] = []

        def come(machine: Machine = machine, ends: list[bool] = ends) -> None:
            try:
                machine.admit(10.0)
                ends.append(True)
            except CircuitOpenError:
                ends.append(False)

        reached = struck(place, come)
        assert sum(ends) == min(most - taken, len(ends)), (place, ends)
        assert machine.status(10.0) == (HALF_OPEN, 0.0)
        assert machine.stats().rejected == ends.count(False)
        if not reached:
            break
    assert place > 3


# --- what is told ---


def test_each_change_says_why(time: VirtualTime) -> None:
    told: list[tuple[Any, ...]] = []
    breaker = make(
        time, failure_threshold=1, recovery_timeout=10.0, success_threshold=1, listeners=lambda event: told.append((event.state, event.reason, event.remaining))
    )
    breaker.record_failure()
    time.advance(10)
    # Nobody asked whether there may be a call.
    breaker.record_success()
    assert told == [
        (OPEN, "1 failure in a row", 10.0),
        (HALF_OPEN, "recovery time over", 0.0),
        (CLOSED, "1 probe succeeded", 0.0),
    ]


def test_several_are_counted_in_the_words(time: VirtualTime) -> None:
    told: list[str] = []
    breaker = make(time, failure_threshold=2, recovery_timeout=10.0, success_threshold=2, listeners=lambda event: told.append(event.reason))
    breaker.record_failure()
    breaker.record_failure()
    time.advance(10)
    for _ in range(2):
        assert breaker.can_execute()
        breaker.record_success()
    assert told == ["2 failures in a row", "recovery time over", "2 probes succeeded"]


# --- rates ---


def rated(time: VirtualTime, **options: Any) -> CircuitBreaker:
    return make(time, **{"failure_rate": 0.5, "window": 4, "minimum_calls": 4, "recovery_timeout": 10.0, "success_threshold": 1, **options})


def fill(breaker: CircuitBreaker, results: str) -> list[bool]:
    """Whether it is open after each."""
    opened = []
    for letter in results:
        if letter == "S":
            breaker.record_success()
        else:
            breaker.record_failure()
        opened.append(breaker.is_open)
    return opened


def test_the_rate_counts_again_and_from_the_beginning_after_a_close(time: VirtualTime) -> None:
    breaker = rated(time)
    assert fill(breaker, "SSFF") == [False, False, False, True]
    time.advance(10)
    breaker.record_success()
    assert breaker.is_closed
    assert fill(breaker, "FSSF") == [False, False, False, True]


def test_a_reset_of_a_closed_circuit_forgets_what_the_rate_counted(time: VirtualTime) -> None:
    breaker = rated(time)
    fill(breaker, "SFF")
    breaker.reset()
    assert fill(breaker, "FSSF") == [False, False, False, True]


def test_a_close_of_a_closed_circuit_does_not(time: VirtualTime) -> None:
    breaker = rated(time)
    fill(breaker, "SSF")
    breaker.close()
    assert fill(breaker, "F") == [True]


def test_with_a_rate_a_success_ends_the_row_of_failures_too(time: VirtualTime) -> None:
    breaker = rated(time)
    fill(breaker, "FF")
    assert breaker.stats.consecutive_failures == 2
    fill(breaker, "S")
    assert breaker.stats.consecutive_failures == 0
    fill(breaker, "F")
    assert breaker.stats.consecutive_failures == 1


def test_a_rate_just_below_leaves_it_closed(time: VirtualTime) -> None:
    breaker = rated(time, failure_rate=0.75)
    assert fill(breaker, "FFSSFF" + "F") == [False, False, False, False, False, False, True]


def test_a_rate_over_time_forgets_after_its_time(time: VirtualTime) -> None:
    breaker = rated(time, window=datetime.timedelta(seconds=10), minimum_calls=2)
    fill(breaker, "F")
    time.advance(11)
    assert fill(breaker, "F") == [False]
    assert fill(breaker, "F") == [True]


# --- layers in their places ---


@pytest.mark.parametrize("name", ["admit", "judge", "settle", "abandon"])
def test_a_layer_that_would_have_to_be_awaited_is_refused(name: str) -> None:
    async def awaited(*args: object) -> None: ...

    mine = type("Mine", (Layer,), {name: awaited})
    with pytest.raises(TypeError, match=f"^Mine.{name} must be a plain function: a layer decides and waits for nothing; return a Wait$"):
        as_layers([Recorder(), mine()])


# --- what came of one exchange ---


def test_a_keyed_batch_counts_for_each_circuit_what_is_its_own(time: VirtualTime) -> None:
    breaker = make(time, failure_threshold=1, key="method")
    call = attempt("a", "b", "a")
    breaker.admit(call, time.now)
    breaker.settle(call, [Outcome(error=LOST), Outcome(error=LOST), Outcome(5)], time.now)
    assert (breaker["a"].state, breaker["b"].state) == (CLOSED, OPEN)


# --- blocks ---


def left(circuit: CircuitBreaker, error: Exception | None = None) -> None:
    circuit.__exit__(None if error is None else type(error), error, None)


def test_a_block_that_is_left_before_one_inside_of_it_counts_as_its_own(time: VirtualTime) -> None:
    outer, inner = make(time, failure_threshold=1), make(time, failure_threshold=1)
    outer.__enter__()
    inner.__enter__()
    left(outer, LOST)
    assert (outer.state, inner.state) == (OPEN, CLOSED)
    left(inner, LOST)
    assert inner.state is OPEN


def test_a_block_in_the_middle_that_is_left_takes_no_other_with_it(time: VirtualTime) -> None:
    first, second, third = (make(time, failure_threshold=1) for _ in range(3))
    for circuit in (first, second, third):
        circuit.__enter__()
    left(second)
    left(third, LOST)
    left(first, LOST)
    assert (first.state, second.state, third.state) == (OPEN, CLOSED, OPEN)


@pytest.mark.parametrize("opened", [0, 1])
def test_a_block_that_was_never_entered_here_is_counted_and_moves_nothing(time: VirtualTime, opened: int) -> None:
    breaker = make(time, failure_threshold=1)
    for _ in range(opened):
        breaker.record_failure()
    before = breaker.stats
    left(breaker, LOST)
    left(breaker)
    after = breaker.stats
    assert (after.failed, after.successful) == (before.failed + 1, before.successful + 1)
    assert (breaker.state, after.state_changes) == (OPEN if opened else CLOSED, before.state_changes)


def test_asking_for_a_probe_tells_that_the_circuit_is_half_open(time: VirtualTime) -> None:
    told: list[tuple[Any, ...]] = []
    breaker = tripped(time, listeners=lambda event: told.append((event.name, event.previous, event.state, event.reason)))
    del told[:]
    assert breaker.can_execute()
    assert told == [("api", OPEN, HALF_OPEN, "recovery time over")]


def test_what_cannot_be_protected_is_refused_with_the_fix(time: VirtualTime) -> None:
    def items() -> Any:
        yield 1

    fix = "which runs after it was called; put the work in a function that returns"
    with pytest.raises(TypeError) as caught:
        make(time).protect(items)
    assert str(caught.value) == f"protect takes no generator, got {items!r:.60}, {fix}"
    with pytest.raises(TypeError, match=r"^protect takes a function, got 5$"):
        make(time).protect(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"; put @classmethod above protect$"):
        make(time).protect(classmethod(items))  # type: ignore[arg-type]


# --- one that comes while another is on its way ---


def test_one_that_asks_while_the_circuit_closes_is_let_through() -> None:
    for place in itertools.count():
        machine = Machine("api", RULES._replace(half_open_max_calls=3))
        machine.record(Permit(0), True, 0.0)
        probe, _ = machine.admit(10.0)
        turns = iter((lambda: machine.admit(10.0), lambda: machine.record(probe, False, 10.0)))  # noqa: B023 - used up before the next turn
        reached = struck(place, lambda: next(turns)())  # noqa: B023 - the same
        if not reached:
            break
        # Neither refused nor counted as a probe of a circuit that is closed.
        assert (machine.status(10.0), machine.stats().rejected) == ((CLOSED, 0.0), 0), place
    assert place > 3


class Told(Backoff):
    """Delays that come from a generator."""

    def __init__(self, delays: Callable[[], Iterator[float]]) -> None:
        object.__setattr__(self, "attempts", 9)
        object.__setattr__(self, "delays", delays)

    def __call__(self) -> Iterator[float]:
        return self.delays()  # type: ignore[attr-defined,no-any-return]


def test_a_delay_that_was_drawn_while_the_circuit_was_reset_is_dropped(time: VirtualTime) -> None:
    breakers: list[CircuitBreaker] = []

    def delays() -> Iterator[float]:
        yield 10.0
        breakers[0].reset()
        yield 99.0

    breaker = make(time, failure_threshold=1, recovery_timeout=Told(delays))
    breakers.append(breaker)
    breaker.record_failure()
    assert breaker.is_closed
    breaker.record_failure()
    # Opened, and closed once more in the middle of drawing what follows.
    assert breaker.is_closed
    breakers[0] = make(time)
    breaker.record_failure()
    assert (breaker.is_open, breaker.remaining) == (True, 10.0)


def test_delays_that_run_out_and_a_close_are_no_error(time: VirtualTime, caplog: pytest.LogCaptureFixture) -> None:
    for recovery, waits in [(10.0, [10.0] * 3), (ExponentialBackoff(2, base=10), [10.0, 20.0, 20.0])]:
        breaker = make(time, failure_threshold=1, success_threshold=1, recovery_timeout=recovery)
        for wait in waits:
            breaker.record_failure()
            assert breaker.remaining == wait
            time.advance(wait)
        breaker.record_success()
        breaker.record_failure()
        assert breaker.remaining == waits[0]
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_rate_counts_a_hundred_calls_and_ten_at_least_unless_told_otherwise(time: VirtualTime) -> None:
    breaker = make(time, failure_rate=0.5)
    assert fill(breaker, "F" * 10) == [False] * 9 + [True]
    breaker = make(time, failure_rate=0.5)
    fill(breaker, "S" * 100)
    assert fill(breaker, "F" * 50) == [False] * 49 + [True]
