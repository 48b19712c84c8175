"""The circuit breaker: its states, what it counts, and every way to put it around a call."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import dataclasses
import datetime
import functools
import inspect
import json
import logging
import math
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import pytest
import requests
from support import Recorder, Rig, Slow, both_drivers, fresh

from rpcretry import (
    BatchRequest,
    CertificateError,
    CircuitOpenError,
    CircuitState,
    Client,
    ClientClosedError,
    ConcurrencyLimit,
    ConnectError,
    ConnectionLostError,
    DeadlineExceeded,
    Delivery,
    HTTPStatusError,
    InvalidTargetError,
    JsonRpcError,
    LimitReachedError,
    ProtocolError,
    RateLimit,
    RedirectError,
    Refused,
    Request,
    RequestTimeoutError,
    ResponseTooLargeError,
    ResultValidationError,
    RetryBudget,
    RetryExhaustedError,
    RetryStrategy,
    TransportError,
)
from rpcretry.events import BreakerChanged, Event
from rpcretry.functions import retry
from rpcretry.layers import as_layers
from rpcretry.layers.breaker import Circuit, CircuitBreaker, CircuitStats
from rpcretry.outcome import Attempt, Member, Outcome
from rpcretry.retry import Backoff, ExponentialBackoff, ImmediateBackoff, Layer, PeriodicBackoff
from rpcretry.testing import ScriptedBackend, VirtualTime, error, http, result
from rpcretry.transport import Exchange, Reply

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN

lost = fresh(ConnectionLostError("reset"))
LOST = ConnectionLostError("reset")


@pytest.fixture
def time() -> VirtualTime:
    return VirtualTime()


def make(time: VirtualTime, **options: Any) -> CircuitBreaker:
    return CircuitBreaker("api", clock=time.clock, **{"recovery_timeout": 30, **options})


def attempt(*methods: str, ends_by: float = math.inf) -> Attempt:
    members = [Member(Request(method, id=index), index) for index, method in enumerate(methods or ("get",))]
    return Attempt(1, members, ends_by, methods[0] if methods else "get", 1_000.0)


def through(breaker: CircuitBreaker, time: VirtualTime, *errors: Exception | None) -> None:
    """One call after the other, each ending so."""
    for problem in errors:
        call = attempt()
        breaker.admit(call, time.now)
        breaker.settle(call, (Outcome(error=problem),), time.now)


def refused(act: Callable[[], object]) -> CircuitOpenError:
    with pytest.raises(CircuitOpenError) as caught:
        act()
    return caught.value


def tripped(time: VirtualTime, **options: Any) -> CircuitBreaker:
    """A breaker that one failure opened, and whose recovery time of 10 s is over unless told otherwise."""
    breaker = make(time, **{"failure_threshold": 1, "recovery_timeout": 10.0, **options})
    through(breaker, time, LOST)
    time.advance(10)
    return breaker


def rigged(driver: str, *script: Any, layers: Any = (), options: Any = None, **breaker: Any) -> tuple[Rig, CircuitBreaker]:
    """A client with a breaker that has its clock."""
    rigs: list[Rig] = []
    made = CircuitBreaker("api", clock=lambda: rigs[0].time.now, **{"recovery_timeout": 30, **breaker})
    rigs.append(Rig(driver, *script, layers=[*layers, made], **(options or {})))
    return rigs[0], made


def counts(breaker: Circuit) -> tuple[int, int, int]:
    stats = breaker.stats
    assert stats.total == stats.successful + stats.failed + stats.rejected
    return stats.successful, stats.failed, stats.rejected


# --- states ---


def test_without_a_word_it_stays_open_for_five_seconds(time: VirtualTime) -> None:
    breaker = CircuitBreaker(clock=time.clock)
    through(breaker, time, *[LOST] * 5)
    assert (breaker.state, breaker.remaining) == (OPEN, 5.0)


def test_it_starts_closed(time: VirtualTime) -> None:
    breaker = make(time)
    assert (breaker.name, breaker.state, breaker.remaining, breaker.stats) == ("api", CLOSED, 0.0, CircuitStats())
    assert (breaker.is_closed, breaker.is_open, breaker.is_half_open) == (True, False, False)
    assert CircuitBreaker().name == "default"


@pytest.mark.parametrize(
    ("threshold", "failures", "state"),
    [
        (1, "F", OPEN),
        (3, "FF", CLOSED),
        (3, "FFF", OPEN),
        (3, "FFSFF", CLOSED),
        (3, "FFSFFF", OPEN),
        (3, "FFNF", OPEN),
        (5, "FFFFF", OPEN),
    ],
)
def test_failures_in_a_row_open_it(time: VirtualTime, threshold: int, failures: str, state: CircuitState) -> None:
    breaker = make(time, failure_threshold=threshold)
    kinds = {"F": LOST, "S": None, "N": InvalidTargetError("x")}
    through(breaker, time, *[kinds[letter] for letter in failures])
    assert breaker.state is state
    assert counts(breaker) == (failures.count("S"), failures.count("F"), 0)


def test_open_turns_calls_away_and_says_for_how_long(time: VirtualTime) -> None:
    breaker = make(time, failure_threshold=1)
    through(breaker, time, LOST)
    time.advance(10)
    problem = refused(lambda: breaker.admit(attempt(), time.now))
    assert (problem.name, problem.state, problem.remaining, problem.delivery) == ("api", OPEN, 20.0, Delivery.NOT_SENT)
    assert str(problem) == "circuit breaker api is open, and lets a probe through in 20.00 s"
    assert (breaker.state, breaker.remaining, counts(breaker)) == (OPEN, 20.0, (0, 1, 1))


def test_reading_the_state_after_the_recovery_time_changes_nothing(time: VirtualTime) -> None:
    told: list[Event] = []
    breaker = make(time, failure_threshold=1, listeners=told.append)
    through(breaker, time, LOST)
    time.advance(29.999)
    assert (breaker.state, breaker.is_open) == (OPEN, True)
    time.advance(0.001)
    before = breaker.stats
    assert (breaker.state, breaker.is_half_open, breaker.is_open, breaker.remaining) == (HALF_OPEN, True, False, 0.0)
    assert (breaker.stats, len(told)) == (before, 1)
    breaker.admit(attempt(), time.now)
    assert [(event.previous, event.state) for event in told if isinstance(event, BreakerChanged)] == [(CLOSED, OPEN), (OPEN, HALF_OPEN)]


def test_half_open_lets_so_many_probes_out_and_no_more(time: VirtualTime) -> None:
    breaker = tripped(time, half_open_max_calls=2, success_threshold=3)
    first, second = attempt(), attempt()
    breaker.admit(first, time.now)
    breaker.admit(second, time.now)
    problem = refused(lambda: breaker.admit(attempt(), time.now))
    assert (problem.state, problem.remaining) == (HALF_OPEN, 0.0)
    assert str(problem) == "circuit breaker api is half-open, and all the probes that it allows are out"
    # A slot that is free again goes to the next.
    breaker.settle(first, (Outcome(),), time.now)
    breaker.admit(attempt(), time.now)
    refused(lambda: breaker.admit(attempt(), time.now))


def test_successful_probes_close_it_with_clear_counters(time: VirtualTime) -> None:
    breaker = tripped(time, failure_threshold=2, success_threshold=2)
    through(breaker, time, LOST)
    assert breaker.state is OPEN
    time.advance(10)
    through(breaker, time, None)
    assert breaker.state is HALF_OPEN
    through(breaker, time, None)
    assert breaker.state is CLOSED
    through(breaker, time, LOST)
    assert (breaker.state, breaker.stats.consecutive_failures) == (CLOSED, 1)


def test_a_failed_probe_opens_it_for_the_whole_time_again(time: VirtualTime) -> None:
    breaker = tripped(time, success_threshold=3)
    through(breaker, time, None, None, LOST)
    assert (breaker.state, breaker.remaining) == (OPEN, 10.0)
    time.advance(10)
    # Those that succeeded before count no longer.
    through(breaker, time, None, None)
    assert breaker.state is HALF_OPEN
    through(breaker, time, None)
    assert breaker.state is CLOSED
    assert breaker.stats == CircuitStats(total=7, successful=5, failed=2, rejected=0, state_changes=5, opened_count=2, consecutive_failures=0)


# --- generations ---


@pytest.mark.parametrize("problem", [None, LOST])
@pytest.mark.parametrize("state", [OPEN, HALF_OPEN, CLOSED])
def test_the_end_of_a_call_from_an_earlier_generation_is_counted_and_moves_nothing(time: VirtualTime, problem: Exception | None, state: CircuitState) -> None:
    breaker = make(time, failure_threshold=1, success_threshold=1)
    old = attempt()
    breaker.admit(old, time.now)
    through(breaker, time, LOST)
    if state is not OPEN:
        time.advance(30)
        probe = attempt()
        breaker.admit(probe, time.now)
        if state is CLOSED:
            breaker.settle(probe, (Outcome(),), time.now)
    before = breaker.stats
    breaker.settle(old, (Outcome(error=problem),), time.now)
    assert breaker.state is state
    gained = {"successful": before.successful + 1} if problem is None else {"failed": before.failed + 1}
    assert breaker.stats == dataclasses.replace(before, total=before.total + 1, **gained)


def test_a_probe_of_an_earlier_half_open_frees_no_slot_of_this_one(time: VirtualTime) -> None:
    breaker = tripped(time, half_open_max_calls=2)
    old, other = attempt(ends_by=2_000.0), attempt(ends_by=2_000.0)
    breaker.admit(old, time.now)
    breaker.admit(other, time.now)
    breaker.settle(other, (Outcome(error=LOST),), time.now)
    time.advance(10)
    breaker.admit(attempt(ends_by=2_000.0), time.now)
    breaker.admit(attempt(ends_by=2_000.0), time.now)
    breaker.settle(old, (Outcome(),), time.now)
    breaker.abandon(old, time.now)
    refused(lambda: breaker.admit(attempt(), time.now))


# --- leases ---


@pytest.mark.parametrize(("ends_by", "lease"), [(4.0, 4.0), (math.inf, 10.0)], ids=["limit", "no limit"])
def test_a_probe_that_never_returns_loses_its_slot(time: VirtualTime, ends_by: float, lease: float) -> None:
    breaker = tripped(time, half_open_max_calls=1, success_threshold=2)
    hung = attempt(ends_by=time.now + ends_by)
    breaker.admit(hung, time.now)
    time.advance(lease - 0.001)
    refused(lambda: breaker.admit(attempt(), time.now))
    time.advance(0.001)
    breaker.admit(attempt(), time.now)
    refused(lambda: breaker.admit(attempt(), time.now))
    # Long after, its end counts as the success of a probe that it is, and takes nobody's slot.
    time.advance(2)
    before = breaker.stats
    breaker.settle(hung, (Outcome(),), time.now)
    assert (breaker.state, breaker.stats.successful) == (HALF_OPEN, before.successful + 1)
    refused(lambda: breaker.admit(attempt(), time.now))
    breaker.record_success()
    assert breaker.state is CLOSED


@pytest.mark.parametrize("late", [0.0, 0.05, 60.0])
@pytest.mark.parametrize("reaped", [False, True])
def test_a_probe_that_its_limit_cut_opens_the_circuit_though_its_timer_was_late(time: VirtualTime, late: float, reaped: bool) -> None:
    breaker = tripped(time, half_open_max_calls=1)
    slow = attempt(ends_by=time.now + 4)
    breaker.admit(slow, time.now)
    time.advance(4 + late)
    if reaped:
        breaker.admit(attempt(ends_by=time.now + 4), time.now)
    breaker.settle(slow, (Outcome(error=RequestTimeoutError("x")),), time.now)
    assert breaker.state is OPEN


@pytest.mark.parametrize("way", ["protect", "with", "layer"])
def test_calls_that_outlast_the_lease_close_the_circuit(time: VirtualTime, way: str) -> None:
    breaker = make(time, failure_threshold=1, recovery_timeout=1.0, success_threshold=2, half_open_max_calls=1)
    breaker.record_failure()
    time.advance(2)

    def call() -> None:
        if way == "protect":
            breaker.protect(lambda: time.sleep(2.5))()
        elif way == "with":
            with breaker:
                time.sleep(2.5)
        else:
            one = attempt()
            breaker.admit(one, time.now)
            time.sleep(2.5)
            breaker.settle(one, (Outcome(),), time.now)

    call()
    assert breaker.state is HALF_OPEN
    call()
    assert breaker.state is CLOSED


def test_a_call_that_fails_after_its_lease_opens_the_circuit_again(time: VirtualTime) -> None:
    breaker = tripped(time, recovery_timeout=1.0)

    @breaker.protect
    def slow() -> None:
        time.sleep(60)
        raise LOST

    with pytest.raises(ConnectionLostError):
        slow()
    assert (breaker.state, breaker.remaining, breaker.stats.opened_count) == (OPEN, 1.0, 2)


# --- calls that end in nothing ---


def test_abandoning_gives_the_slot_back_and_counts_nothing(time: VirtualTime) -> None:
    breaker = tripped(time, half_open_max_calls=1)
    before = counts(breaker)
    for _ in range(5):
        call = attempt()
        breaker.admit(call, time.now)
        breaker.abandon(call, time.now)
        breaker.abandon(call, time.now)
        breaker.settle(call, (Outcome(),), time.now)
    breaker.abandon(attempt(), time.now)
    assert (counts(breaker), breaker.state) == (before, HALF_OPEN)


@pytest.mark.parametrize("keyed", [False, True])
def test_what_says_nothing_about_the_server_gives_the_slot_back_and_counts_nothing(time: VirtualTime, keyed: bool) -> None:
    breaker = make(time, key="method" if keyed else None, failure_threshold=1, recovery_timeout=10, half_open_max_calls=1)
    circuit = breaker["get"] if keyed else breaker
    circuit.record_failure()
    time.advance(10)
    through(breaker, time, InvalidTargetError("x"), ClientClosedError("x"), Refused("x"))
    assert (counts(circuit), circuit.state) == ((0, 1, 0), HALF_OPEN)


@pytest.mark.parametrize("keyed", [False, True])
def test_nothing_is_kept_of_calls_that_are_over(time: VirtualTime, keyed: bool) -> None:
    breaker = make(time, key="method" if keyed else None, failure_threshold=3)
    for index in range(50):
        call = attempt(*["get", "put"][: 1 + index % 2])
        try:
            breaker.admit(call, time.now)
        except CircuitOpenError:
            continue
        if index % 3:
            breaker.settle(call, [Outcome(error=LOST)] * len(call.members), time.now)
        else:
            breaker.abandon(call, time.now)
    assert (breaker._permits, breaker._shares) == ({}, {})


# --- what is a failure ---

# F a failure, S a success, - not counted.
DEFAULTS: list[tuple[Exception | None, str]] = [
    (None, "S"),
    (JsonRpcError("x", code=-32601), "S"),
    (JsonRpcError("x", code=7, status=500), "S"),
    (JsonRpcError("x", code=7, status=400), "S"),
    *[(JsonRpcError("x", code=7, status=status), "F") for status in (429, 502, 503, 504)],
    *[(HTTPStatusError("x", status=status), "S") for status in (400, 401, 403, 404, 413, 499)],
    *[(HTTPStatusError("x", status=status), "F") for status in (408, 429, 500, 502, 503, 504)],
    (RedirectError("x", status=302), "F"),
    (ResponseTooLargeError("x"), "S"),
    (ResultValidationError("x"), "S"),
    (ProtocolError("x"), "F"),
    (ConnectError("x"), "F"),
    (ConnectionLostError("x"), "F"),
    (RequestTimeoutError("x"), "F"),
    (CertificateError("x"), "F"),
    (DeadlineExceeded("x"), "F"),
    (LookupError("x"), "F"),
    (InvalidTargetError("x"), "-"),
    (ClientClosedError("x"), "-"),
    (LimitReachedError("x"), "-"),
]


def verdict(breaker: CircuitBreaker, time: VirtualTime, problem: Exception | None) -> str:
    before = counts(breaker)
    through(breaker, time, problem)
    after = counts(breaker)
    return {(1, 0, 0): "S", (0, 1, 0): "F", (0, 0, 0): "-"}[after[0] - before[0], after[1] - before[1], after[2] - before[2]]


@pytest.mark.parametrize(("problem", "expected"), DEFAULTS, ids=lambda value: repr(value)[:40])
def test_what_is_a_failure_by_default(time: VirtualTime, problem: Exception | None, expected: str) -> None:
    assert verdict(make(time), time, problem) == expected


@pytest.mark.parametrize(("cause", "expected"), [(LOST, "F"), (JsonRpcError("x", code=7), "S"), (None, "-")])
@pytest.mark.parametrize("kind", [Refused, CircuitOpenError, LimitReachedError])
def test_the_refusal_of_a_whole_call_counts_as_the_failure_before_it(time: VirtualTime, kind: type[Exception], cause: Any, expected: str) -> None:
    problem = kind("x")
    problem.__cause__ = cause
    assert verdict(make(time), time, problem) == expected


def test_an_exhausted_call_counts_as_its_last_failure(time: VirtualTime) -> None:
    for cause, expected in [(LOST, "F"), (JsonRpcError("x", code=7), "S")]:
        problem = RetryExhaustedError("x", last_exception=cause)
        problem.__cause__ = cause
        assert verdict(make(time), time, problem) == expected
    assert verdict(make(time), time, RetryExhaustedError("x")) == "F"


class Custom(JsonRpcError):
    CODE = 77


def caused_by(problem: Exception, cause: Exception) -> Exception:
    problem.__cause__ = cause
    return problem


ITEMS: list[tuple[Any, Exception | None, str]] = [
    # Classes stand in for the usual ones.
    (TimeoutError, RequestTimeoutError("x"), "F"),
    (TimeoutError, ConnectionLostError("x"), "S"),
    ([TimeoutError, LookupError], KeyError("x"), "F"),
    ({TimeoutError}, JsonRpcError("x", code=7, status=503), "S"),
    (iter([TimeoutError]), TimeoutError("x"), "F"),
    (HTTPStatusError, HTTPStatusError("x", status=404), "F"),
    (InvalidTargetError, InvalidTargetError("x"), "F"),
    (ValueError, InvalidTargetError("x"), "F"),
    (TimeoutError, InvalidTargetError("x"), "-"),
    (Refused, Refused("x"), "F"),
    # Exception does not mean what a server answers.
    (Exception, JsonRpcError("x", code=7), "S"),
    (Exception, LookupError("x"), "F"),
    (JsonRpcError, JsonRpcError("x", code=7), "F"),
    (Custom, Custom("x"), "F"),
    (Custom, JsonRpcError("x", code=7), "S"),
    # Those of libraries match through the cause of a transport error, builtins do not.
    (requests.ConnectionError, caused_by(ConnectionLostError("x"), requests.ConnectionError("x")), "F"),
    (aiohttp.ClientError, caused_by(ConnectError("x"), aiohttp.ClientOSError()), "F"),
    (requests.Timeout, caused_by(ConnectionLostError("x"), requests.ConnectionError("x")), "S"),
    (LookupError, caused_by(TransportError("x"), KeyError("x")), "S"),
    (requests.ConnectionError, caused_by(LookupError("x"), requests.ConnectionError("x")), "S"),
    (requests.RequestException, caused_by(InvalidTargetError("x"), requests.exceptions.InvalidURL("x")), "-"),
    # Codes come on top.
    (7, JsonRpcError("x", code=7), "F"),
    (7, JsonRpcError("x", code=8), "S"),
    (7, ConnectionLostError("x"), "F"),
    (7, HTTPStatusError("x", status=503), "F"),
    (range(10, 20), JsonRpcError("x", code=15), "F"),
    (range(10, 20), JsonRpcError("x", code=20), "S"),
    ([7, range(10, 20)], JsonRpcError("x", code=12), "F"),
    ([7, TimeoutError], JsonRpcError("x", code=7), "F"),
    ([7, TimeoutError], RequestTimeoutError("x"), "F"),
    ([7, TimeoutError], ConnectionLostError("x"), "S"),
    # A predicate has all the say.
    (lambda outcome: outcome.result == 5, None, "S"),
    (lambda outcome: outcome.ok, None, "F"),
    (lambda outcome: outcome.code == 7, JsonRpcError("x", code=7), "F"),
    (lambda outcome: outcome.code == 7, ConnectionLostError("x"), "S"),
    (lambda outcome: True, ClientClosedError("x"), "-"),
]


@pytest.mark.parametrize(("failure_on", "problem", "expected"), ITEMS)
def test_failure_on(time: VirtualTime, failure_on: Any, problem: Exception | None, expected: str) -> None:
    assert verdict(make(time, failure_on=failure_on), time, problem) == expected


@pytest.mark.parametrize("answer", ["raises", None, 1])
@both_drivers
def test_a_predicate_that_fails_is_logged_and_hides_nothing(driver: str, answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    def broken(outcome: Outcome) -> Any:
        if answer == "raises":
            raise LookupError("bug")
        return answer

    rig, breaker = rigged(driver, lost, result(5), failure_on=broken)
    with caplog.at_level(logging.ERROR, "rpcretry"):
        with pytest.raises(ConnectionLostError):
            rig.call("get")
        assert rig.call("get") == 5
    assert counts(breaker) == (1, 1, 0)
    assert [record.message.split(":")[0] for record in caplog.records] == ["failure_on", "failure_on"]
    assert all(record.exc_info and record.exc_info[0] in (LookupError, TypeError) for record in caplog.records)


# --- failure rate ---


@pytest.mark.parametrize(
    ("calls", "state"),
    [
        ("FFF", CLOSED),
        ("FFFF", OPEN),
        ("SSFF", OPEN),
        ("SSSF", CLOSED),
        # The call that fills the window may be a success.
        ("FFFS", OPEN),
        ("SSSSSSFFF", CLOSED),
        ("SSSSSSFFFF", OPEN),
        ("SSFSSFSSSF", CLOSED),
        ("FSSSSSSSFFF", CLOSED),
        ("FSSSSSSSFFFF", OPEN),
    ],
)
def test_a_failure_rate_over_the_last_calls_opens_it(time: VirtualTime, calls: str, state: CircuitState) -> None:
    breaker = make(time, failure_rate=0.5, window=8, minimum_calls=4)
    through(breaker, time, *[LOST if letter == "F" else None for letter in calls])
    assert breaker.state is state


def test_a_window_of_time_forgets_what_is_older(time: VirtualTime) -> None:
    breaker = make(time, failure_rate=0.5, window=datetime.timedelta(seconds=10), minimum_calls=4)
    through(breaker, time, LOST, LOST, LOST)
    time.advance(10)
    through(breaker, time, None, None, LOST)
    assert breaker.state is CLOSED
    time.advance(8)
    through(breaker, time, LOST)
    assert breaker.state is OPEN


@pytest.mark.parametrize("back", [-5.0, -500.0])
def test_a_window_of_time_bears_a_clock_that_goes_back(time: VirtualTime, back: float) -> None:
    breaker = make(time, failure_rate=0.5, window=datetime.timedelta(seconds=10), minimum_calls=4)
    through(breaker, time, LOST, LOST)
    time.now += back
    through(breaker, time, LOST)
    assert breaker.state is CLOSED
    # And one that comes back to where it was has lost nothing on the way.
    time.now -= back
    through(breaker, time, LOST)
    assert breaker.state is OPEN


def test_the_memory_of_a_window_of_time_does_not_grow_with_traffic(time: VirtualTime) -> None:
    breaker = make(time, failure_rate=0.9, window=datetime.timedelta(seconds=10))
    for _ in range(2_000):
        through(breaker, time, None, LOST)
        time.advance(0.01)
    window: Any = breaker._machine._window
    assert len(window._calls) == len(window._failures) == 10
    # 10 s of 200 calls each second, but for the slice that has just begun.
    assert 1_800 <= window.calls <= 2_000
    assert window.failures * 2 == window.calls


def test_the_window_is_empty_after_a_close(time: VirtualTime) -> None:
    breaker = make(time, failure_rate=0.5, window=8, minimum_calls=4, recovery_timeout=10, success_threshold=1)
    through(breaker, time, *[LOST] * 4)
    time.advance(10)
    through(breaker, time, None)
    assert breaker.state is CLOSED
    through(breaker, time, *[LOST] * 3)
    assert breaker.state is CLOSED


# --- recovery that grows ---


def opened_for(breaker: CircuitBreaker, time: VirtualTime, times: int) -> list[float]:
    found = []
    for _ in range(times):
        through(breaker, time, LOST)
        found.append(breaker.remaining)
        time.advance(breaker.remaining)
    return found


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_backoff_makes_the_recovery_grow_until_a_close(time: VirtualTime, by_hand: bool) -> None:
    breaker = make(time, failure_threshold=1, success_threshold=1, recovery_timeout=ExponentialBackoff(3, base=2.0))
    assert opened_for(breaker, time, 5) == [2.0, 4.0, 8.0, 8.0, 8.0]
    if by_hand:
        breaker.close()
    else:
        through(breaker, time, None)
    assert breaker.state is CLOSED
    assert opened_for(breaker, time, 2) == [2.0, 4.0]


def test_the_lease_without_a_limit_is_as_long_as_the_last_recovery(time: VirtualTime) -> None:
    breaker = make(time, failure_threshold=1, half_open_max_calls=1, recovery_timeout=ExponentialBackoff(5, base=2.0))
    opened_for(breaker, time, 2)
    breaker.admit(attempt(), time.now)
    time.advance(3.9)
    refused(lambda: breaker.admit(attempt(), time.now))
    time.advance(0.1)
    breaker.admit(attempt(), time.now)


@dataclasses.dataclass(frozen=True)
class Broken(Backoff):
    def __call__(self) -> Iterator[float]:
        yield 3.0
        raise LookupError("bug")


def test_a_backoff_that_fails_later_is_logged_and_its_last_delay_repeated(time: VirtualTime, caplog: pytest.LogCaptureFixture) -> None:
    breaker = make(time, failure_threshold=1, recovery_timeout=Broken(9))
    with caplog.at_level(logging.ERROR, "rpcretry"):
        assert opened_for(breaker, time, 3) == [3.0, 3.0, 3.0]
    assert [record.message for record in caplog.records] == [f"recovery_timeout: {Broken(9)!r} raised"]


def test_no_lock_is_held_while_the_backoff_is_asked(time: VirtualTime) -> None:
    states: list[CircuitState] = []

    @dataclasses.dataclass(frozen=True)
    class Curious(Backoff):
        def __call__(self) -> Iterator[float]:
            yield 3.0
            while True:
                states.append(breaker.state)
                yield 4.0

    breaker = make(time, failure_threshold=1, recovery_timeout=Curious(9))
    assert opened_for(breaker, time, 2) == [3.0, 4.0]
    assert states == [OPEN, OPEN]


# --- by hand: open, close, reset ---


@pytest.mark.parametrize("before", [CLOSED, OPEN, HALF_OPEN])
def test_open_holds_it_open_until_it_is_closed(time: VirtualTime, before: CircuitState) -> None:
    breaker = make(time) if before is CLOSED else tripped(time)
    if before is OPEN:
        time.advance(-5)
    if before is HALF_OPEN:
        through(breaker, time, None)
    assert breaker.state is before
    breaker.open()
    time.advance(1e9)
    assert (breaker.state, breaker.remaining) == (OPEN, math.inf)
    problem = refused(lambda: breaker.admit(attempt(), time.now))
    assert (problem.remaining, str(problem)) == (math.inf, "circuit breaker api is held open until close or reset is called")
    breaker.record_success()
    breaker.record_failure()
    assert breaker.is_open
    breaker.close()
    assert (breaker.state, breaker.remaining) == (CLOSED, 0.0)
    breaker.admit(attempt(), time.now)


@pytest.mark.parametrize(("act", "state"), [("open", OPEN), ("close", CLOSED), ("reset", CLOSED)])
def test_moved_by_hand_where_the_recovery_time_is_over_it_was_half_open(time: VirtualTime, act: str, state: CircuitState) -> None:
    told: list[Any] = []
    breaker = tripped(time, listeners=told.append)
    before = breaker.stats
    del told[:]
    assert breaker.is_half_open
    for _ in range(2):
        getattr(breaker, act)()
    assert [(event.previous, event.state, event.reason) for event in told] == [
        (OPEN, HALF_OPEN, "recovery time over"),
        (HALF_OPEN, state, f"{act}() was called"),
    ]
    assert breaker.state is state
    if act != "reset":
        assert breaker.stats.state_changes == before.state_changes + 2
        assert breaker.stats.opened_count == before.opened_count + (state is OPEN)


def test_open_and_close_while_calls_are_out(time: VirtualTime) -> None:
    breaker = make(time, failure_threshold=1)
    call = attempt()
    breaker.admit(call, time.now)
    breaker.open()
    breaker.close()
    breaker.settle(call, (Outcome(error=LOST),), time.now)
    assert (breaker.state, counts(breaker)) == (CLOSED, (0, 1, 0))


def test_close_on_a_closed_circuit_keeps_what_it_counted(time: VirtualTime) -> None:
    breaker = make(time, failure_threshold=2)
    through(breaker, time, LOST)
    breaker.close()
    through(breaker, time, LOST)
    assert breaker.is_open


def test_close_by_hand_begins_to_count_afresh(time: VirtualTime) -> None:
    breaker = make(time, failure_threshold=2)
    through(breaker, time, LOST, LOST)
    breaker.close()
    through(breaker, time, LOST)
    assert (breaker.state, breaker.stats.consecutive_failures) == (CLOSED, 1)


@pytest.mark.parametrize("state", [CLOSED, OPEN, HALF_OPEN, "held"])
def test_reset_closes_and_clears(time: VirtualTime, state: Any) -> None:
    told: list[Any] = []
    breaker = make(time, failure_threshold=3, recovery_timeout=10, listeners=told.append)
    through(breaker, time, None, LOST, LOST)
    if state != CLOSED:
        through(breaker, time, LOST)
    if state == HALF_OPEN:
        time.advance(10)
        through(breaker, time, None)
    if state == "held":
        breaker.open()
    del told[:]
    breaker.reset()
    assert (breaker.state, breaker.remaining, breaker.stats) == (CLOSED, 0.0, CircuitStats())
    assert [event.reason for event in told] == ([] if state == CLOSED else ["reset() was called"])
    through(breaker, time, LOST, LOST)
    assert breaker.state is CLOSED
    through(breaker, time, LOST)
    assert breaker.state is OPEN


def test_calls_under_way_move_nothing_after_a_reset(time: VirtualTime) -> None:
    breaker = make(time, failure_threshold=1)
    call = attempt()
    breaker.admit(call, time.now)
    breaker.reset()
    breaker.settle(call, (Outcome(error=LOST),), time.now)
    assert (breaker.state, counts(breaker)) == (CLOSED, (0, 1, 0))


# --- by hand: can_execute, record ---


def test_by_hand_from_closed_to_closed(time: VirtualTime) -> None:
    breaker = make(time, failure_threshold=2, recovery_timeout=10)
    for _ in range(2):
        assert breaker.can_execute()
        breaker.record_failure()
    assert not breaker.can_execute()
    assert (breaker.state, counts(breaker)) == (OPEN, (0, 2, 1))
    time.advance(10)
    for _ in range(2):
        assert breaker.can_execute()
        breaker.record_success()
    assert (breaker.state, counts(breaker)) == (CLOSED, (2, 2, 1))


def test_can_execute_takes_the_slot_of_a_probe_and_a_record_gives_it_back(time: VirtualTime) -> None:
    breaker = tripped(time, half_open_max_calls=2, success_threshold=9)
    assert [breaker.can_execute() for _ in range(3)] == [True, True, False]
    breaker.record_success()
    assert [breaker.can_execute() for _ in range(2)] == [True, False]
    # One whose caller forgot it ends with its lease, as long as the recovery time.
    time.advance(9.9)
    assert not breaker.can_execute()
    time.advance(0.1)
    assert [breaker.can_execute() for _ in range(3)] == [True, True, False]


def test_a_record_takes_no_slot_of_a_probe_that_was_not_taken_by_hand(time: VirtualTime) -> None:
    breaker = tripped(time, half_open_max_calls=1, success_threshold=9)
    breaker.admit(attempt(), time.now)
    breaker.record_success()
    assert not breaker.can_execute()


@pytest.mark.parametrize(("succeeded", "state"), [(True, CLOSED), (False, OPEN)])
@pytest.mark.parametrize("asked", [True, False])
def test_a_record_moves_half_open_also_without_asking(time: VirtualTime, succeeded: bool, state: CircuitState, asked: bool) -> None:
    breaker = tripped(time, success_threshold=1)
    if asked:
        assert breaker.can_execute()
    if succeeded:
        breaker.record_success()
    else:
        breaker.record_failure()
    assert (breaker.state, breaker.stats.state_changes) == (state, 3)


def test_a_record_while_it_is_open_is_counted_and_moves_nothing(time: VirtualTime) -> None:
    breaker = tripped(time)
    time.advance(-1)
    breaker.record_success()
    breaker.record_failure()
    assert (breaker.state, breaker.remaining, counts(breaker)) == (OPEN, 1.0, (1, 2, 0))


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (None, (0, 1, 0)),
        (LOST, (0, 1, 0)),
        (JsonRpcError("x", code=7), (1, 0, 0)),
        (InvalidTargetError("x"), (0, 0, 0)),
        (asyncio.CancelledError(), (0, 0, 0)),
        (KeyboardInterrupt(), (0, 0, 0)),
    ],
)
def test_record_failure_counts_an_error_as_what_it_is(time: VirtualTime, problem: Any, expected: tuple[int, int, int]) -> None:
    breaker = make(time)
    breaker.record_failure(problem)
    assert counts(breaker) == expected


def test_record_failure_of_a_cancelled_probe_gives_the_slot_back(time: VirtualTime) -> None:
    breaker = tripped(time, half_open_max_calls=1)
    assert breaker.can_execute()
    breaker.record_failure(asyncio.CancelledError())
    assert (breaker.can_execute(), breaker.state) == (True, HALF_OPEN)


# --- with, async with ---


def block(breaker: Circuit, style: str, act: Callable[[], object]) -> None:
    if style == "with":
        with breaker:
            act()
        return

    async def main() -> None:
        async with breaker:
            act()

    asyncio.run(main())


def raising(problem: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise problem

    return act


both_styles = pytest.mark.parametrize("style", ["with", "async with"])


@both_styles
def test_a_block_is_counted_by_how_it_ends(time: VirtualTime, style: str) -> None:
    breaker = make(time, failure_threshold=2)
    block(breaker, style, lambda: None)
    for problem in [JsonRpcError("x", code=7), LOST]:
        with pytest.raises(type(problem)):
            block(breaker, style, raising(problem))
    assert (breaker.state, counts(breaker)) == (CLOSED, (2, 1, 0))
    with pytest.raises(ConnectionLostError):
        block(breaker, style, raising(LOST))
    ran: list[int] = []
    problem = refused(lambda: block(breaker, style, lambda: ran.append(1)))
    assert (ran, problem.remaining, counts(breaker)) == ([], 30.0, (2, 2, 1))


@both_styles
@pytest.mark.parametrize("problem", [KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), SystemExit()], ids=repr)
def test_a_block_that_is_interrupted_gives_its_slot_back_and_counts_nothing(time: VirtualTime, style: str, problem: BaseException) -> None:
    breaker = tripped(time, half_open_max_calls=1)
    before = counts(breaker)
    for _ in range(3):
        with pytest.raises(type(problem)):
            block(breaker, style, raising(problem))
    assert (counts(breaker), breaker.state) == (before, HALF_OPEN)


def test_with_gives_the_breaker(time: VirtualTime) -> None:
    breaker = make(time, key="method")
    with breaker["get"] as circuit:
        assert circuit is breaker["get"]


def test_blocks_may_stand_within_one_another(time: VirtualTime) -> None:
    breaker, other = tripped(time, half_open_max_calls=2, success_threshold=9), make(time)
    with breaker, other, breaker:
        assert not breaker.can_execute()
    assert (counts(breaker), counts(other)) == ((2, 1, 1), (1, 0, 0))
    # Both slots are back.
    assert [breaker.can_execute() for _ in range(3)] == [True, True, False]


def test_a_refused_inner_block_leaves_the_outer_one_whole(time: VirtualTime) -> None:
    breaker = tripped(time, half_open_max_calls=1, success_threshold=9)
    with breaker:
        refused(lambda: breaker.__enter__())
    assert (counts(breaker), breaker.state) == ((1, 1, 1), HALF_OPEN)
    assert breaker.can_execute()


def test_a_block_is_left_in_the_task_that_entered_it_whatever_the_others_do(time: VirtualTime) -> None:
    breaker = tripped(time, half_open_max_calls=3, success_threshold=99)

    async def one(delay: int, problem: Exception | None) -> None:
        async with breaker:
            # A task that starts inside of a block inherits it, and must not leave it.
            for _ in range(delay):
                await asyncio.sleep(0)
            if problem is not None:
                raise problem

    async def main() -> None:
        async with breaker:
            await asyncio.gather(one(3, None), one(1, None))
            refusals = await asyncio.gather(*[one(1, None) for _ in range(5)], return_exceptions=True)
            assert [type(refusal) for refusal in refusals] == [type(None)] * 2 + [CircuitOpenError] * 3

    asyncio.run(main())
    assert counts(breaker) == (5, 1, 3)
    assert [breaker.can_execute() for _ in range(4)] == [True, True, True, False]


def test_a_block_left_in_another_context_is_counted_and_wedges_nothing(time: VirtualTime) -> None:
    breaker = tripped(time, half_open_max_calls=1)
    contextvars.copy_context().run(breaker.__enter__)
    breaker.__exit__(None, None, None)
    assert (counts(breaker), breaker.state) == ((1, 1, 0), HALF_OPEN)
    assert not breaker.can_execute()
    time.advance(10)
    assert breaker.can_execute()


def test_a_cancelled_task_gives_its_slot_back(time: VirtualTime) -> None:
    breaker = tripped(time, half_open_max_calls=1)

    async def hang() -> None:
        async with breaker:
            await asyncio.Event().wait()

    async def main() -> None:
        for _ in range(5):
            task = asyncio.create_task(hang())
            await asyncio.sleep(0)
            assert not breaker.can_execute()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert (counts(breaker), breaker.can_execute()) == ((0, 1, 5), True)


# --- protect ---


class Service:
    def __init__(self) -> None:
        self.breaker: Any = None

    def sync(self, value: int, *, add: int = 0) -> int:
        """Doc."""
        if value < 0:
            raise LOST
        return value + add

    async def asynchronous(self, value: int, *, add: int = 0) -> int:
        """Doc."""
        await asyncio.sleep(0)
        if value < 0:
            raise LOST
        return value + add

    @classmethod
    def of_class(cls, value: int, *, add: int = 0) -> int:
        return cls().sync(value, add=add)

    @staticmethod
    def of_none(value: int, *, add: int = 0) -> int:
        return Service().sync(value, add=add)

    async def __call__(self, value: int, *, add: int = 0) -> int:
        return await self.asynchronous(value, add=add)


class Plain:
    def __call__(self, value: int, *, add: int = 0) -> int:
        return Service().sync(value, add=add)


CALLABLES: dict[str, Any] = {
    "function": Service.of_none,
    "method": Service().sync,
    "classmethod": Service.of_class,
    "async method": Service().asynchronous,
    "partial": functools.partial(Service.of_none, add=0),
    "async partial": functools.partial(Service().asynchronous, add=0),
    "object": Plain(),
    "async object": Service(),
    "builtin": lambda value, add=0: max(value, add) if value >= 0 else Service.of_none(value),
}


@pytest.mark.parametrize("kind", CALLABLES)
def test_protect_wraps_every_kind_of_callable(time: VirtualTime, kind: str) -> None:
    breaker = make(time, failure_threshold=2)
    guarded = breaker.protect(CALLABLES[kind])

    def call(value: int) -> Any:
        found = guarded(value)
        if inspect.isawaitable(found):

            async def wait() -> Any:
                return await found

            return asyncio.run(wait())
        return found

    assert call(5) == 5
    for _ in range(2):
        with pytest.raises(ConnectionLostError):
            call(-1)
    refused(lambda: call(5))
    assert counts(breaker) == (1, 2, 1)


def test_protect_decorates_methods_and_keeps_what_they_are(time: VirtualTime) -> None:
    breaker = make(time)

    class Guarded(Service):
        sync = breaker.protect(Service.sync)
        asynchronous = breaker.protect(Service.asynchronous)

    for name in ("sync", "asynchronous"):
        function, original = getattr(Guarded, name), getattr(Service, name)
        assert (function.__name__, function.__doc__, inspect.signature(function)) == (original.__name__, original.__doc__, inspect.signature(original))
        assert inspect.iscoroutinefunction(function) is inspect.iscoroutinefunction(original)
    assert Guarded().sync(1, add=2) == 3
    assert asyncio.run(Guarded().asynchronous(1, add=2)) == 3
    assert counts(breaker) == (2, 0, 0)


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


class Generating:
    def __call__(self) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize(
    ("function", "word"),
    [
        (generator, "no generator"),
        (functools.partial(generator), "no generator"),
        (Generating(), "no generator"),
        (async_generator, "no async generator"),
        (5, "takes a function, got 5"),
        (Service, "takes a function, got"),
        (Service.__dict__["of_class"], "put @classmethod above"),
    ],
)
def test_protect_refuses_what_does_not_run_when_it_is_called(time: VirtualTime, function: Any, word: str) -> None:
    with pytest.raises(TypeError, match=word):
        make(time).protect(function)


def test_protect_refuses_a_sync_function_that_returns_an_awaitable(time: VirtualTime) -> None:
    breaker = tripped(time, half_open_max_calls=1)
    before = counts(breaker)

    def disguised() -> Any:
        return Service().asynchronous(1)

    for _ in range(2):
        # The coroutine is closed: nobody is warned that it was never awaited.
        with pytest.raises(TypeError, match="write async def and await it"):
            breaker.protect(disguised)()
    assert (counts(breaker), breaker.can_execute()) == (before, True)


def test_protect_counts_no_cancelled_call(time: VirtualTime) -> None:
    breaker = tripped(time, half_open_max_calls=1)

    @breaker.protect
    async def hang() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(hang())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    with pytest.raises(KeyboardInterrupt):
        breaker.protect(raising(KeyboardInterrupt()))()
    assert (counts(breaker), breaker.can_execute()) == ((0, 1, 0), True)


# --- what it costs ---


class CountedLock:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.taken = 0

    def __enter__(self) -> None:
        self.taken += 1
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


@pytest.mark.parametrize(("problem", "options"), [(None, {}), (LOST, {}), (None, {"failure_rate": 0.5}), (None, {"key": "method"})])
def test_a_call_of_a_closed_circuit_takes_the_lock_once(time: VirtualTime, problem: Exception | None, options: dict[str, Any]) -> None:
    breaker = make(time, **options)
    lock: Any = CountedLock()
    (breaker["get"] if "key" in options else breaker)._machine._lock = lock
    through(breaker, time, problem)
    assert lock.taken == 1


# --- as a layer of a client ---


@both_drivers
def test_a_client_stops_at_an_open_circuit_without_touching_the_network(driver: str) -> None:
    rig, breaker = rigged(driver, lost, lost, result(5), result(6), failure_threshold=2, recovery_timeout=10)
    for _ in range(2):
        with pytest.raises(ConnectionLostError):
            rig.call("get")
    problem = refused(lambda: rig.call("get"))
    assert (problem.name, problem.state, problem.remaining, problem.__cause__, rig.sent) == ("api", OPEN, 10.0, None, 2)
    rig.time.advance(10)
    assert [rig.call("get"), rig.call("get")] == [5, 6]
    assert (breaker.state, counts(breaker)) == (CLOSED, (2, 2, 1))


@both_drivers
def test_an_open_circuit_is_not_retried_and_raised_from_the_last_failure(driver: str) -> None:
    strategy = RetryStrategy(exceptions={Exception}, backoff=PeriodicBackoff(9, 1.0))
    rig, breaker = rigged(driver, lost, lost, lost, failure_threshold=2, options={"retry_strategy": strategy})
    problem = refused(lambda: rig.call("get"))
    assert isinstance(problem.__cause__, ConnectionLostError)
    assert (rig.sent, rig.waits, problem.remaining) == (2, [1.0, 1.0], 29.0)
    assert counts(breaker) == (0, 2, 1)
    assert refused(lambda: rig.call("get")).__cause__ is None
    assert (rig.sent, len(rig.waits)) == (2, 2)


@both_drivers
def test_application_errors_open_nothing_unless_named(driver: str) -> None:
    rig, breaker = rigged(driver, *[error(2001)] * 6, *[error(2002)] * 2, failure_on=2002, failure_threshold=2)
    for _ in range(6):
        with pytest.raises(JsonRpcError):
            rig.call("get")
    assert breaker.state is CLOSED
    for _ in range(2):
        with pytest.raises(JsonRpcError):
            rig.call("get")
    assert breaker.state is OPEN


@both_drivers
@pytest.mark.parametrize("item", [http(503), error(7, status=503), Slow(99, result(5))], ids=["503", "error in 503", "timeout"])
def test_a_503_and_a_timeout_are_failures(driver: str, item: Any) -> None:
    rig, breaker = rigged(driver, item, failure_threshold=1, options={"timeout": 2})
    with pytest.raises((HTTPStatusError, JsonRpcError, RequestTimeoutError)):
        rig.call("get")
    assert breaker.state is OPEN


@both_drivers
def test_a_probe_that_times_out_opens_the_circuit_again(driver: str) -> None:
    rig, breaker = rigged(driver, lost, Slow(99, result(5)), failure_threshold=1, recovery_timeout=10, options={"timeout": 2})
    with pytest.raises(ConnectionLostError):
        rig.call("get")
    rig.time.advance(10)
    with pytest.raises(RequestTimeoutError):
        rig.call("get")
    assert (breaker.state, breaker.remaining) == (OPEN, 10.0)


@both_drivers
def test_a_probe_that_a_layer_further_in_refuses_gives_its_slot_back(driver: str) -> None:
    inner = Recorder(waits=[None, LimitReachedError("full"), LimitReachedError("full"), None])
    rigs: list[Rig] = []
    breaker = CircuitBreaker("api", clock=lambda: rigs[0].time.now, failure_threshold=1, recovery_timeout=10, half_open_max_calls=1)
    rigs.append(Rig(driver, lost, result(5), layers=[breaker, inner]))
    with pytest.raises(ConnectionLostError):
        rigs[0].call("get")
    rigs[0].time.advance(10)
    for _ in range(2):
        with pytest.raises(LimitReachedError):
            rigs[0].call("get")
    assert rigs[0].call("get") == 5
    assert counts(breaker) == (1, 1, 0)


def test_a_cancelled_probe_of_a_client_gives_its_slot_back() -> None:
    started: list[int] = []

    async def hang(_: Exchange) -> Any:
        started.append(1)
        await asyncio.Event().wait()

    class Hanging:
        async def exchange(self, exchange: Exchange, /) -> Reply:
            await hang(exchange)
            raise AssertionError("never")

        async def aclose(self) -> None: ...

    from rpcretry import AsyncClient

    time = VirtualTime()
    breaker = tripped(time, half_open_max_calls=1)

    async def main() -> None:
        client = AsyncClient(Hanging(), layers=breaker, clock=time.clock, timeout=None)
        for _ in range(4):
            task = asyncio.create_task(client.call("get"))
            while not started:
                await asyncio.sleep(0)
            started.clear()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert (counts(breaker), breaker.state, breaker._permits) == ((0, 1, 0), HALF_OPEN, {})


@both_drivers
def test_a_notification_counts_as_any_call(driver: str) -> None:
    rig, breaker = rigged(driver, result(None), lost)
    rig.notify("tick")
    with pytest.raises(ConnectionLostError):
        rig.notify("tick")
    assert counts(breaker) == (1, 1, 0)


def test_one_breaker_may_serve_two_clients() -> None:
    rig, breaker = rigged("sync", lost, failure_threshold=1)
    other = Rig("async", layers=breaker)
    with pytest.raises(ConnectionLostError):
        rig.call("get")
    refused(lambda: other.call("get"))
    assert other.sent == 0


# --- batches ---


def answers(*kinds: str) -> Callable[[Exchange], Reply]:
    """S a result, F a code that is named a failure, E another error."""

    def play(exchange: Exchange) -> Reply:
        parts: dict[str, Any] = {"S": {"result": 1}, "F": {"error": {"code": 2002, "message": "x"}}, "E": {"error": {"code": 7, "message": "x"}}}
        return Reply(json.dumps([{"jsonrpc": "2.0", "id": id, **parts[kind]} for id, kind in zip(exchange.ids, kinds, strict=True)]).encode())

    return play


@both_drivers
@pytest.mark.parametrize(("kinds", "expected"), [("SSS", (1, 0, 0)), ("SFF", (1, 0, 0)), ("FFE", (1, 0, 0)), ("FFF", (0, 1, 0))])
def test_a_batch_counts_once(driver: str, kinds: str, expected: tuple[int, int, int]) -> None:
    rig, breaker = rigged(driver, answers(*kinds), failure_on=2002)
    rig.send(BatchRequest(*[Request("get") for _ in kinds]))
    assert counts(breaker) == expected


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([InvalidTargetError("x"), InvalidTargetError("x")], (0, 0, 0)),
        ([InvalidTargetError("x"), LOST], (0, 1, 0)),
        ([LOST, InvalidTargetError("x"), None], (1, 0, 0)),
        ([InvalidTargetError("x"), JsonRpcError("x", code=1)], (1, 0, 0)),
    ],
)
def test_a_batch_with_outcomes_that_are_not_counted(time: VirtualTime, outcomes: list[Any], expected: tuple[int, int, int]) -> None:
    breaker = make(time)
    call = attempt(*["get"] * len(outcomes))
    breaker.admit(call, time.now)
    breaker.settle(call, [Outcome(error=problem) for problem in outcomes], time.now)
    assert counts(breaker) == expected


@both_drivers
def test_a_batch_that_a_lost_connection_ended_is_one_failure(driver: str) -> None:
    rig, breaker = rigged(driver, lost)
    with pytest.raises(ConnectionLostError):
        rig.send(BatchRequest(Request("a"), Request("b")))
    assert counts(breaker) == (0, 1, 0)


# --- keys ---


@both_drivers
def test_one_circuit_for_each_method(driver: str) -> None:
    rig, breaker = rigged(driver, lost, result(5), key="method", failure_threshold=1)
    with pytest.raises(ConnectionLostError):
        rig.call("bad")
    problem = refused(lambda: rig.call("bad"))
    assert (problem.name, str(problem)[:28]) == ("api[bad]", "circuit breaker api[bad] is ")
    assert rig.call("good") == 5
    assert breaker.keys() == ("bad", "good")
    assert [breaker["bad"].state, breaker["good"].state] == [OPEN, CLOSED]
    assert (counts(breaker["bad"]), counts(breaker["good"])) == ((0, 1, 1), (1, 0, 0))


def test_a_circuit_of_a_key_has_the_whole_surface(time: VirtualTime) -> None:
    breaker = make(time, key="method", failure_threshold=1, recovery_timeout=10)
    circuit = breaker["get"]
    assert circuit is breaker["get"]
    assert circuit.name == "api[get]"
    circuit.open()
    assert (circuit.is_open, circuit.remaining, circuit.can_execute(), breaker["put"].is_closed) == (True, math.inf, False, True)
    circuit.close()
    with circuit:
        pass
    assert circuit.protect(len)("abc") == 3
    circuit.record_failure()
    time.advance(10)
    assert (circuit.is_half_open, circuit.can_execute()) == (True, True)
    circuit.record_success()
    circuit.reset()
    assert circuit.stats == CircuitStats()


def test_reset_of_a_keyed_breaker_resets_all(time: VirtualTime) -> None:
    breaker = make(time, key="method")
    breaker["a"].open()
    breaker["b"].record_failure()
    breaker.reset()
    assert [breaker["a"].stats, breaker["b"].stats] == [CircuitStats(), CircuitStats()]
    assert breaker["a"].is_closed


@pytest.mark.parametrize(
    "act",
    [
        lambda b: b.state,
        lambda b: b.is_open,
        lambda b: b.remaining,
        lambda b: b.stats,
        lambda b: b.open(),
        lambda b: b.close(),
        lambda b: b.can_execute(),
        lambda b: b.record_success(),
        lambda b: b.record_failure(),
        lambda b: b.__enter__(),
        lambda b: b.protect(len),
    ],
)
def test_a_keyed_breaker_itself_has_no_state(time: VirtualTime, act: Callable[[CircuitBreaker], object]) -> None:
    with pytest.raises(TypeError, match=r"write breaker\[key\].state"):
        act(make(time, key="method"))


def test_an_unkeyed_breaker_has_no_keys(time: VirtualTime) -> None:
    breaker = make(time)
    with pytest.raises(TypeError, match="give it key='method'"):
        breaker["get"]
    assert breaker.keys() == ()
    for odd in (breaker, make(time, key="method")):
        with pytest.raises(TypeError, match="not iterable"):
            list(odd)  # type: ignore[call-overload]


def test_a_key_of_ones_own(time: VirtualTime) -> None:
    breaker = make(time, key=lambda member: member.method.split(".")[0] if member.method else None)
    for method in ("a.x", "a.y", "b.x"):
        call = attempt(method)
        breaker.admit(call, time.now)
        breaker.settle(call, (Outcome(),), time.now)
    function = Attempt(1, [Member(None)], math.inf, "f")
    breaker.admit(function, time.now)
    assert breaker.keys() == ("a", "b", None)
    assert counts(breaker["a"]) == (2, 0, 0)


def test_functions_are_keyed_by_their_operation(time: VirtualTime) -> None:
    breaker = make(time, key="method", failure_threshold=1)

    @retry(layers=breaker, max_attempts=1)
    def broken() -> None:
        raise LOST

    @retry(layers=breaker, max_attempts=1, name="other")
    def fine() -> int:
        return 5

    with pytest.raises(ConnectionLostError):
        broken()
    assert refused(broken).name == f"api[{breaker.keys()[0]}]"
    assert fine() == 5
    assert (len(breaker.keys()), breaker.keys()[1], counts(breaker["other"])) == (2, "other", (1, 0, 0))
    assert "broken" in str(breaker.keys()[0])


def test_no_lock_is_held_while_keys_and_listeners_are_compared(time: VirtualTime) -> None:
    free: list[bool] = []

    def look() -> None:
        if breaker is not None:
            lock = breaker._common.lock
            other = threading.Thread(target=lambda: free.append(lock.acquire(blocking=False) and lock.release() is None))
            other.start()
            other.join(5)

    class Key:
        def __init__(self, name: str) -> None:
            self.name = name

        def __hash__(self) -> int:
            look()
            return 1

        def __eq__(self, other: object) -> bool:
            look()
            return isinstance(other, Key) and other.name == self.name

        def __call__(self, event: Event) -> None: ...

    breaker: Any = None
    breaker = make(time, key="method", listeners=[Key("x"), Key("y")])
    assert breaker[Key("a")] is breaker[Key("a")] is not breaker[Key("b")]
    breaker.remove_listener(Key("y"))
    assert [listener.name for listener in breaker._common.listeners] == ["x"]
    assert len(free) > 5
    assert all(free)


@both_drivers
@pytest.mark.parametrize(("key", "word"), [(lambda member: [member.method], "hashable"), (lambda member: 1 / 0, "division")])
def test_a_key_that_fails_ends_the_call_and_leaves_nothing(driver: str, key: Any, word: str) -> None:
    rig, breaker = rigged(driver, key=key)
    with pytest.raises((TypeError, ZeroDivisionError), match=word):
        rig.call("get")
    assert (rig.sent, breaker._shares, breaker.keys()) == (0, {}, ())


@both_drivers
def test_each_circuit_of_a_batch_counts_by_its_own_members(driver: str) -> None:
    rig, breaker = rigged(driver, answers("S", "F", "F", "S", "F"), key="method", failure_on=2002)
    rig.send(BatchRequest(*[Request(method) for method in ("a", "b", "b", "c", "c")]))
    assert {key: counts(breaker[key]) for key in "abc"} == {"a": (1, 0, 0), "b": (0, 1, 0), "c": (1, 0, 0)}


def test_a_batch_that_one_circuit_refuses_gives_the_permits_of_the_others_back(time: VirtualTime) -> None:
    told: list[Any] = []
    breaker = make(time, key="method", failure_threshold=1, recovery_timeout=10, half_open_max_calls=1, listeners=told.append)
    for key in ("a", "b"):
        breaker[key].record_failure()
    time.advance(10)
    breaker["c"].open()
    del told[:]
    for _ in range(3):
        problem = refused(lambda: breaker.admit(attempt("a", "b", "a", "c"), time.now))
        assert problem.name == "api[c]"
    assert [counts(breaker[key]) for key in "abc"] == [(0, 1, 0), (0, 1, 0), (0, 0, 3)]
    # That their recovery time was over was told all the same, and their slots are there.
    assert [(event.name, event.state) for event in told] == [("api[a]", HALF_OPEN), ("api[b]", HALF_OPEN)]
    assert [breaker[key].can_execute() for key in "ab"] == [True, True]
    assert breaker._shares == {}


def test_a_batch_takes_one_permit_of_each_circuit(time: VirtualTime) -> None:
    breaker = make(time, key="method", failure_threshold=1, recovery_timeout=10, half_open_max_calls=1, success_threshold=1)
    breaker["a"].record_failure()
    time.advance(10)
    call = attempt("a", "a", "b")
    breaker.admit(call, time.now)
    assert not breaker["a"].can_execute()
    breaker.settle(call, [Outcome(), Outcome(error=LOST), Outcome(error=LOST)], time.now)
    assert (breaker["a"].state, breaker["b"].state) == (CLOSED, OPEN)


# --- telling ---


def test_every_change_is_told_with_its_reason(time: VirtualTime) -> None:
    told: list[Any] = []
    breaker = make(time, failure_threshold=2, recovery_timeout=10, listeners=[told.append])
    through(breaker, time, LOST, LOST)
    time.advance(10)
    through(breaker, time, LOST)
    time.advance(10)
    through(breaker, time, None, None)
    breaker.open()
    breaker.close()
    breaker.open()
    breaker.reset()
    assert [(event.previous, event.state, event.reason, event.remaining) for event in told] == [
        (CLOSED, OPEN, "2 failures in a row", 10.0),
        (OPEN, HALF_OPEN, "recovery time over", 0.0),
        (HALF_OPEN, OPEN, "a probe failed", 10.0),
        (OPEN, HALF_OPEN, "recovery time over", 0.0),
        (HALF_OPEN, CLOSED, "2 probes succeeded", 0.0),
        (CLOSED, OPEN, "open() was called", math.inf),
        (OPEN, CLOSED, "close() was called", 0.0),
        (CLOSED, OPEN, "open() was called", math.inf),
        (OPEN, CLOSED, "reset() was called", 0.0),
    ]
    assert {event.name for event in told} == {"api"}


@pytest.mark.parametrize(
    ("options", "failures", "reason"),
    [({"failure_threshold": 1}, 1, "1 failure in a row"), ({"failure_rate": 0.6, "minimum_calls": 5}, 3, "failure rate 0.60")],
)
def test_reasons_by_kind(time: VirtualTime, options: dict[str, Any], failures: int, reason: str) -> None:
    told: list[Any] = []
    breaker = make(time, listeners=told.append, **options)
    if failures == 3:
        through(breaker, time, None, None)
    through(breaker, time, *[LOST] * failures)
    assert [event.reason for event in told] == [reason]


@both_drivers
def test_a_change_in_a_call_reaches_its_sinks_the_log_and_the_listeners(driver: str, caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []
    rig, _ = rigged(driver, Slow(1.5, lost), failure_threshold=1, listeners=told.append, options={"watched": True})
    with caplog.at_level(logging.WARNING, "rpcretry"), pytest.raises(ConnectionLostError):
        rig.call("get")
    (event,) = [event for event in rig.events if isinstance(event, BreakerChanged)]
    assert (event.operation, event.attempt, event.max_attempts, event.elapsed) == ("get", 1, 1, 1.5)
    assert (event.name, event.state, event.remaining, told) == ("api", OPEN, 30.0, [event])
    assert [record.message for record in caplog.records] == ["circuit breaker api: open, was closed (1 failure in a row)"]


def test_a_change_by_hand_belongs_to_no_call_and_is_logged(time: VirtualTime, caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []
    with caplog.at_level(logging.WARNING, "rpcretry"):
        make(time, listeners=told.append).open()
    (event,) = told
    assert (event.operation, event.attempt, event.max_attempts, event.elapsed) == ("", 0, None, 0.0)
    assert [record.message for record in caplog.records] == ["circuit breaker api: open, was closed (open() was called)"]


@both_drivers
def test_a_listener_that_raises_is_logged_and_harms_nothing(driver: str, caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []
    rig, breaker = rigged(driver, lost, failure_threshold=1, listeners=[raising_listener, told.append])
    with caplog.at_level(logging.ERROR, "rpcretry"), pytest.raises(ConnectionLostError):
        rig.call("get")
    assert (breaker.state, len(told)) == (OPEN, 1)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [LookupError]


def raising_listener(event: Event) -> None:
    raise LookupError("bug")


def test_no_lock_is_held_while_a_listener_runs(time: VirtualTime) -> None:
    seen: list[Any] = []

    def curious(event: Any) -> None:
        seen.append((breaker.state, breaker.stats.state_changes))
        other = threading.Thread(target=lambda: seen.append(breaker.state))
        other.start()
        other.join(5)
        assert not other.is_alive()
        if event.reason == "open() was called":
            breaker.close()

    breaker = make(time, listeners=curious)
    breaker.open()
    assert (seen, breaker.state) == ([(OPEN, 1), OPEN, (CLOSED, 2), CLOSED], CLOSED)


def test_listeners_come_and_go(time: VirtualTime) -> None:
    first: list[Any] = []
    second: list[Any] = []
    breaker = make(time, listeners=first.append)
    breaker.add_listener(second.append)
    breaker.open()
    breaker.remove_listener(second.append)
    breaker.close()
    assert (len(first), len(second)) == (2, 1)
    with pytest.raises(ValueError, match="is no listener of breaker api"):
        breaker.remove_listener(second.append)


def test_the_circuits_of_all_keys_tell_the_listeners_of_the_breaker(time: VirtualTime) -> None:
    told: list[Any] = []
    breaker = make(time, key="method", failure_threshold=1, listeners=told.append)
    breaker["a"].open()
    breaker.add_listener(told.append)
    call = attempt("b")
    breaker.admit(call, time.now)
    breaker.settle(call, (Outcome(error=LOST),), time.now)
    assert [event.name for event in told] == ["api[a]", "api[b]", "api[b]"]


def test_repr_says_the_state(time: VirtualTime) -> None:
    assert repr(make(time)) == "<CircuitBreaker api: closed>"
    breaker = make(time, key="method")
    breaker["a"].open()
    assert repr(breaker) == "<CircuitBreaker api: keys: 1>"


# --- bad input ---


async def asynchronous(value: Any) -> None: ...


class AsyncObject:
    async def __call__(self, value: Any) -> None: ...


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"name": 5}, TypeError, ["name", "5"]),
        ({"failure_threshold": 0}, ValueError, ["failure_threshold", "0", "1"]),
        ({"failure_threshold": -3}, ValueError, ["failure_threshold", "-3"]),
        ({"failure_threshold": 2.5}, TypeError, ["failure_threshold", "2.5"]),
        ({"failure_threshold": True}, TypeError, ["failure_threshold", "True"]),
        ({"half_open_max_calls": 0}, ValueError, ["half_open_max_calls", "0"]),
        ({"half_open_max_calls": "3"}, TypeError, ["half_open_max_calls", "'3'"]),
        ({"success_threshold": 0}, ValueError, ["success_threshold", "0"]),
        ({"success_threshold": None}, TypeError, ["success_threshold", "None"]),
        ({"recovery_timeout": 0}, ValueError, ["recovery_timeout", "0"]),
        ({"recovery_timeout": -1}, ValueError, ["recovery_timeout", "-1"]),
        ({"recovery_timeout": math.inf}, ValueError, ["recovery_timeout", "inf"]),
        ({"recovery_timeout": math.nan}, ValueError, ["recovery_timeout", "nan"]),
        ({"recovery_timeout": "30"}, TypeError, ["recovery_timeout", "'30'", "Backoff"]),
        ({"recovery_timeout": datetime.timedelta(seconds=30)}, TypeError, ["recovery_timeout", "seconds, or a Backoff"]),
        ({"recovery_timeout": ExponentialBackoff}, TypeError, ["recovery_timeout", "ExponentialBackoff(attempts="]),
        ({"recovery_timeout": ImmediateBackoff(0)}, ValueError, ["recovery_timeout", "attempts=1"]),
        ({"failure_rate": 0}, ValueError, ["failure_rate", "0"]),
        ({"failure_rate": 1.01}, ValueError, ["failure_rate", "1.01"]),
        ({"failure_rate": "0.5"}, TypeError, ["failure_rate", "'0.5'"]),
        ({"failure_rate": 0.5, "failure_threshold": 4}, ValueError, ["failure_rate=0.5", "failure_threshold=4", "leave one out"]),
        ({"window": 10.0}, TypeError, ["window", "10.0", "int", "timedelta"]),
        ({"window": True}, TypeError, ["window", "True", "int", "timedelta"]),
        ({"window": 0}, ValueError, ["window"]),
        ({"window": datetime.timedelta(0)}, ValueError, ["window", "longer than 0"]),
        ({"window": datetime.timedelta(seconds=-1)}, ValueError, ["window", "longer than 0"]),
        ({"failure_rate": 0.5, "window": 9}, ValueError, ["minimum_calls=10", "window=9"]),
        ({"minimum_calls": 0}, ValueError, ["minimum_calls", "0"]),
        ({"minimum_calls": 1.0}, TypeError, ["minimum_calls", "1.0"]),
        ({"failure_on": "timeout"}, TypeError, ["failure_on", "'timeout'"]),
        ({"failure_on": 1.5}, TypeError, ["failure_on", "1.5"]),
        ({"failure_on": True}, TypeError, ["failure_on", "True"]),
        ({"failure_on": []}, ValueError, ["failure_on", "leave it out"]),
        ({"failure_on": [LOST]}, TypeError, ["failure_on", "ConnectionLostError('reset')"]),
        ({"failure_on": [TimeoutError, lambda outcome: True]}, TypeError, ["failure_on", "one function"]),
        ({"failure_on": KeyboardInterrupt}, TypeError, ["failure_on", "KeyboardInterrupt"]),
        ({"failure_on": int}, TypeError, ["failure_on", "int"]),
        ({"failure_on": asynchronous}, TypeError, ["failure_on", "plain function"]),
        ({"failure_on": AsyncObject()}, TypeError, ["failure_on", "plain function"]),
        ({"failure_on": lambda: True}, TypeError, ["failure_on", "1 argument"]),
        *[
            ({"failure_on": eval(f"lambda {name}: True")}, TypeError, ["failure_on", "isinstance(outcome.error"])
            for name in ("exc", "exception", "error", "e", "err")
        ],
        ({"window": 50}, ValueError, ["window=50", "failure_rate"]),
        ({"window": 5}, ValueError, ["window=5", "failure_rate"]),
        ({"window": datetime.timedelta(seconds=5)}, ValueError, ["window=", "failure_rate"]),
        ({"minimum_calls": 3}, ValueError, ["minimum_calls=3", "failure_rate"]),
        ({"key": "methods"}, ValueError, ["key", "'method'", "'methods'"]),
        ({"key": 5}, TypeError, ["key", "5"]),
        ({"key": asynchronous}, TypeError, ["key", "plain function"]),
        ({"key": lambda: 1}, TypeError, ["key", "1 argument"]),
        ({"listeners": 5}, TypeError, ["listeners", "5"]),
        ({"listeners": asynchronous}, TypeError, ["listeners", "plain function"]),
        ({"listeners": [AsyncObject()]}, TypeError, ["listeners", "plain function"]),
        ({"listeners": [AsyncObject]}, TypeError, ["listeners", "AsyncObject()"]),
        ({"listeners": lambda: None}, TypeError, ["listeners", "1 argument"]),
        ({"clock": 5}, TypeError, ["clock", "5", "time.monotonic"]),
        ({"clock": lambda now: 1.0}, TypeError, ["clock", "no argument"]),
    ],
)
def test_bad_input_is_refused_by_name(options: dict[str, Any], kind: type[Exception], words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        CircuitBreaker(**options)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((5,), ["name must be a str", "failure_threshold=5"]),
        ((5, 30), ["takes only name by place", "failure_threshold="]),
        (("api", 5), ["takes only name by place, got 5 besides", "failure_threshold=5"]),
        (("api", 5, 60.0), ["takes only name by place, got 5 besides", "failure_threshold=5"]),
        ((ConnectionError,), ["name must be a str", "failure_on="]),
        ((generator,), ["name must be a str", "@CircuitBreaker().protect"]),
    ],
)
def test_what_is_given_by_position_names_its_keyword(args: tuple[Any, ...], words: list[str]) -> None:
    with pytest.raises(TypeError) as caught:
        CircuitBreaker(*args)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("keyed", [False, True])
def test_a_breaker_is_no_decorator_and_no_copy_of_it_is_made(time: VirtualTime, keyed: bool) -> None:
    breaker = make(time, key="method" if keyed else None)
    for circuit in [breaker, breaker["get"]] if keyed else [breaker]:
        with pytest.raises(TypeError, match=r"write @breaker\.protect"):
            circuit(len)  # type: ignore[operator]
        for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="make another, or share this one"):
                duplicate(circuit)


@pytest.mark.parametrize("queue", [ConcurrencyLimit(1), RateLimit(1)], ids=["concurrency", "rate"])
def test_layers_that_queue_stand_outside_of_the_breaker(queue: Layer) -> None:
    breaker = CircuitBreaker()
    name = type(queue).__name__
    for build in (as_layers, lambda layers: Client(ScriptedBackend([]), layers=layers), lambda layers: retry(layers=layers)(len)):
        with pytest.raises(ValueError, match=f"put the {name} before the CircuitBreaker: layers are listed from the outermost to the innermost"):
            build([breaker, RetryBudget(), queue])
        build([queue, breaker, RetryBudget()])


def test_record_failure_refuses_what_is_no_exception(time: VirtualTime) -> None:
    with pytest.raises(TypeError, match="error must be an exception or None, got str 'boom'"):
        make(time).record_failure("boom")  # type: ignore[arg-type]


def test_stats_are_frozen(time: VirtualTime) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make(time).stats.total = 5  # type: ignore[misc]


@pytest.mark.parametrize(("name", "ours"), [("fail_max", "failure_threshold"), ("reset_timeout", "recovery_timeout"), ("expected_exception", "failure_on")])
def test_the_keyword_of_another_library_names_ours(name: str, ours: str) -> None:
    with pytest.raises(TypeError, match=rf"CircuitBreaker has no parameter '{name}'; here it is {ours}"):
        CircuitBreaker(**{name: 5})  # type: ignore[arg-type]


def test_an_unknown_keyword_names_the_nearest() -> None:
    with pytest.raises(TypeError, match="did you mean failure_threshold"):
        CircuitBreaker(failure_treshold=5)  # type: ignore[call-arg]


def test_a_subclass_of_the_breaker_says_itself_what_it_takes() -> None:
    class Mine(CircuitBreaker):
        def __init__(self, team: str) -> None:
            super().__init__(team, failure_threshold=1)

    assert Mine(team="prices").name == "prices"
