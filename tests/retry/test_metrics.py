"""RetryMetrics: each number, the quantiles' error, threads, bounded memory, and clients on both drivers."""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import pickle
import sys
import threading
import time
import weakref
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Recorder, Rig, Slow, both_drivers, fresh

from rpcretry import (
    BatchRequest,
    BudgetExhaustedError,
    CircuitOpenError,
    CircuitState,
    ConnectError,
    ConnectionLostError,
    DeadlineExceeded,
    JsonRpcError,
    LimitReachedError,
    Refused,
    Request,
    RetryExhaustedError,
    RetryStrategy,
)
from rpcretry.events import (
    AttemptStarted,
    BreakerChanged,
    BudgetRefused,
    CallFailed,
    CallSucceeded,
    Event,
    FallbackUsed,
    RetryScheduled,
    Waited,
    publish,
    wants,
)
from rpcretry.metrics import AT_ONCE, CallRecord, MetricsSnapshot, OperationMetrics, RetryMetrics
from rpcretry.outcome import Wait
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import error, result
from rpcretry.transport import Exchange, Reply

unconnected = fresh(ConnectError("refused"))


def succeeded(attempt: int = 1, elapsed: float = 0.5, operation: str = "sum") -> CallSucceeded:
    return CallSucceeded(operation, attempt, 4, elapsed)


def failed(failure: Exception, reason: str = "error", attempt: int = 1, elapsed: float = 0.5, operation: str = "sum") -> CallFailed:
    return CallFailed(operation, attempt, 4, elapsed, reason, failure)


def scheduled(delay: float, reason: str = "exception", operation: str = "sum") -> RetryScheduled:
    return RetryScheduled(operation, 1, 4, 0.5, delay, reason, None)


def changed(previous: CircuitState, state: CircuitState) -> BreakerChanged:
    return BreakerChanged("", 0, None, 0.0, "default", previous, state, "x")


def seen(*events: Event, **options: Any) -> MetricsSnapshot:
    metrics = RetryMetrics(**options)
    for event in events:
        metrics(event)
    return metrics.snapshot()


# --- the numbers ---


def test_nothing_counted_is_zero_everywhere() -> None:
    empty = RetryMetrics().snapshot()
    for name in [field.name for field in dataclasses.fields(empty)]:
        value = getattr(empty, name)
        assert not (any(value) if isinstance(value, tuple) else value), name
    ratios = (empty.succeeded, empty.retry_rate, empty.mean_retries, empty.mean_delay, empty.latency(0), empty.latency(1))
    assert ratios == (0, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert (empty.latency_p50, empty.latency_p90, empty.latency_p95, empty.latency_p99, empty.latency_max) == (0.0, 0.0, 0.0, 0.0, 0.0)


def test_calls_attempts_and_retries() -> None:
    found = seen(succeeded(1), succeeded(1), succeeded(3), failed(ValueError(), "attempts", 4), failed(Refused("full"), "refused", 0))
    assert (found.calls, found.succeeded, found.failed) == (5, 3, 2)
    assert (found.attempts, found.retries, found.retried_calls, found.successful_after_retry) == (9, 5, 2, 1)
    assert (found.retry_rate, found.mean_retries) == (0.4, 1.0)


@pytest.mark.parametrize(
    ("failure", "reason", "expected"),
    [
        (ValueError(), "attempts", {"exhausted": 1}),
        (RetryExhaustedError("x"), "attempts", {"exhausted": 1}),
        (ValueError(), "error", {}),
        (ValueError(), "may have been executed, and is not declared idempotent", {}),
        (DeadlineExceeded("x"), "deadline", {"deadline_exceeded": 1}),
        (DeadlineExceeded("of an inner call"), "refused", {"deadline_exceeded": 1}),
        (TimeoutError(), "deadline of a layer", {}),
        (BudgetExhaustedError("x"), "refused", {"refused": 1}),
        (LimitReachedError("x"), "refused", {"refused": 1}),
        (CircuitOpenError("x"), "refused", {"refused": 1, "breaker_rejections": 1}),
    ],
    ids=lambda value: getattr(type(value), "__name__", None) if isinstance(value, Exception) else None,
)
def test_why_calls_failed(failure: Exception, reason: str, expected: dict[str, int]) -> None:
    found = seen(failed(failure, reason))
    counted = {name: getattr(found, name) for name in ("exhausted", "deadline_exceeded", "refused", "breaker_rejections")}
    assert counted == {"exhausted": 0, "deadline_exceeded": 0, "refused": 0, "breaker_rejections": 0} | expected
    assert found.errors_by_type == {type(failure).__name__: 1}


def test_delays_and_their_reasons() -> None:
    events = [scheduled(0.5, "code"), scheduled(3.0, "code, the server asks for 3 s"), scheduled(7.0, "code, the server asks for 7 s"), scheduled(0.25)]
    found = seen(*events, scheduled(0.25, operation="get"))
    assert found.retries_by_reason == {"code": 3, "exception": 2}
    assert (found.total_delay, found.mean_delay) == (11.0, 2.2)
    # A retry under way is in no call that ended.
    assert (found.calls, found.retries) == (0, 0)
    assert {name: numbers.total_delay for name, numbers in found.by_operation.items()} == {"sum": 10.75, "get": 0.25}


def test_what_layers_and_fallbacks_did() -> None:
    found = seen(
        Waited("sum", 1, 4, 0.0, 0.5, "queue"),
        Waited("get", 1, 4, 0.0, 0.25, "rate limit"),
        BudgetRefused("sum", 1, 4, 0.5, "default", 0.5),
        FallbackUsed("sum", 1, 4, 0.5, "value", ValueError()),
        FallbackUsed("sum", 1, 4, 0.5, "value", ValueError()),
    )
    assert (found.total_waited, found.budget_refusals, found.fallbacks) == (0.75, 1, 2)
    assert (found.calls, found.by_operation) == (0, {})


@pytest.mark.parametrize("previous", CircuitState)
@pytest.mark.parametrize("state", CircuitState)
def test_a_breaker_opens_when_it_was_not_open_and_is_now(previous: CircuitState, state: CircuitState) -> None:
    assert seen(changed(previous, state)).breaker_opens == (state is CircuitState.OPEN and previous is not CircuitState.OPEN)


def test_a_call_that_a_fallback_saved_has_failed() -> None:
    found = seen(failed(ValueError()), FallbackUsed("sum", 1, 4, 0.5, "value", ValueError()))
    assert (found.calls, found.failed, found.fallbacks) == (1, 1, 1)


def test_the_numbers_of_each_operation() -> None:
    found = seen(succeeded(1), succeeded(3), scheduled(0.5), scheduled(1.0), failed(ValueError(), attempt=2, operation="get"), succeeded(operation="get"))
    assert found.by_operation == {"sum": OperationMetrics(2, 0, 4, 2, 1.5), "get": OperationMetrics(2, 1, 3, 1, 0.0)}


def test_a_call_that_made_no_attempt_counts_none() -> None:
    found = seen(failed(Refused("full"), "refused", 0), succeeded(0), succeeded(2))
    assert found.by_operation == {"sum": OperationMetrics(3, 1, 2, 1, 0.0)}
    assert (found.attempts, found.retries, found.retried_calls, found.successful_after_retry) == (2, 1, 1, 1)


@pytest.mark.parametrize("events", [1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE])
def test_no_success_waits_uncounted(events: int) -> None:
    metrics = RetryMetrics()
    for _ in range(events):
        metrics(succeeded())
    assert [metrics.snapshot().calls, metrics.snapshot().calls] == [events, events]


# --- the records that it takes ---


@dataclasses.dataclass(frozen=True, slots=True)
class Ours(Event):
    """A record of a kind that nobody knows."""


class Cached(CallSucceeded):
    """A record derived from a known one."""


class Surrendered(CallFailed):
    pass


def test_a_class_that_it_does_not_know_is_ignored() -> None:
    assert seen(Ours("sum", 1, 4, 0.5), AttemptStarted("sum", 1, 4, 0.5), Event("sum", 1, 4, 0.5), keep=5) == seen(keep=5)


def test_derived_records_count_as_what_they_derive_from() -> None:
    found = seen(Cached("sum", 2, 4, 0.5), Surrendered("sum", 1, 4, 0.5, "attempts", ValueError()), keep=2)
    assert (found.calls, found.failed, found.exhausted, found.successful_after_retry) == (2, 1, 1, 1)
    assert [record.success for record in found.records] == [True, False]


def test_it_wants_all_but_what_begins() -> None:
    wanted = {kind for kind in Event.__subclasses__() if wants(RetryMetrics(), kind)}
    assert wanted == {CallSucceeded, CallFailed, RetryScheduled, BreakerChanged, BudgetRefused, FallbackUsed, Waited}
    assert wants(RetryMetrics(), Cached)


def test_it_is_a_sink() -> None:
    metrics = RetryMetrics()
    publish((metrics,), succeeded())
    assert metrics.snapshot().calls == 1


# --- latencies ---


def nearest_rank(values: Iterable[float], per_mille: int) -> float:
    ordered = sorted(values)
    return ordered[max(1, -(-per_mille * len(ordered) // 1000)) - 1]


latencies = st.lists(st.floats(2e-7, 9e6) | st.sampled_from([1e-6, 0.001, 0.5, 1.0, 30.0]), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None)
@given(latencies, st.integers(0, 1000))
def test_a_quantile_is_off_by_three_percent_at_most(values: list[float], per_mille: int) -> None:
    found = seen(*[succeeded(elapsed=value) for value in values])
    exact = nearest_rank(values, per_mille)
    assert abs(found.latency(per_mille / 1000) - exact) <= 0.03 * exact * (1 + 1e-9)


@settings(max_examples=100, deadline=None)
@given(latencies)
def test_quantiles_rise_up_to_the_exact_longest(values: list[float]) -> None:
    found = seen(*[succeeded(elapsed=value) for value in values])
    rising = [found.latency(step / 20) for step in range(21)]
    assert rising == sorted(rising)
    assert rising[-1] == found.latency_max == max(values)


def test_the_named_quantiles() -> None:
    found = seen(*[succeeded(elapsed=value / 1000) for value in range(1, 1001)])
    named = (found.latency_p50, found.latency_p90, found.latency_p95, found.latency_p99)
    assert named == pytest.approx((0.5, 0.9, 0.95, 0.99), rel=0.03)
    assert named == tuple(found.latency(q) for q in (0.5, 0.9, 0.95, 0.99))
    assert len(set(named)) == 4
    assert found.latency_max == 1.0


def test_a_rank_is_not_moved_by_the_last_digit_of_a_product() -> None:
    """0.07 * 100 is a little more than 7."""
    assert 0.07 * 100 > 7
    found = seen(*[succeeded(elapsed=1.0)] * 7, *[succeeded(elapsed=9.0)] * 93)
    assert found.latency(0.07) == pytest.approx(1.0, rel=0.03)
    assert found.latency(0.08) == pytest.approx(9.0, rel=0.03)


def test_failed_calls_have_latencies_too() -> None:
    assert seen(failed(ValueError(), elapsed=3.0)).latency_p50 == 3.0


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize(
    ("elapsed", "median", "longest"),
    [(0.0, 0.0, 0.0), (5e-8, 0.0, 5e-8), (-1.0, 0.0, 0.0), (math.nan, 0.0, 0.0), (1e9, 1e9, 1e9), (math.inf, math.inf, math.inf)],
)
def test_latencies_out_of_range_harm_nothing(elapsed: float, median: float, longest: float, keep: int) -> None:
    found = seen(*[succeeded(elapsed=elapsed)] * 4, keep=keep)
    assert (found.calls, found.latency_p50, found.latency_max) == (4, median, longest)


@pytest.mark.parametrize(
    ("q", "kind"), [(-0.1, ValueError), (1.1, ValueError), (95, ValueError), (math.nan, ValueError), ("0.5", TypeError), (True, TypeError)]
)
def test_a_quantile_is_from_0_to_1(q: Any, kind: type[Exception]) -> None:
    for found in (seen(), seen(succeeded())):
        with pytest.raises(kind, match=r"^q must"):
            found.latency(q)


# --- against a plain reference ---

times = st.sampled_from([0.0, 0.125, 0.25, 1.0, 8.0])
names = st.sampled_from(["sum", "get", "batch of 3"])
reasons = st.sampled_from(["attempts", "error", "deadline", "refused", "code, the server asks for 3 s"])
errors = st.sampled_from([ValueError, DeadlineExceeded, CircuitOpenError, BudgetExhaustedError, JsonRpcError]).map(lambda kind: kind("x"))
states = st.sampled_from(CircuitState)
head = (names, st.integers(0, 5), st.just(4), times)
any_event = st.one_of(
    st.builds(CallSucceeded, *head),
    st.builds(CallFailed, *head, reasons, errors),
    st.builds(RetryScheduled, *head, times, reasons, st.none()),
    st.builds(Waited, *head, times, reasons),
    st.builds(BudgetRefused, *head, reasons, times),
    st.builds(FallbackUsed, *head, reasons, errors),
    st.builds(BreakerChanged, *head, names, states, states, reasons),
)


def of(events: list[Event], *kinds: type[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kinds)]


@settings(max_examples=150, deadline=None)
@given(st.lists(any_event, max_size=60), st.integers(0, 4))
def test_the_sums_are_those_of_a_plain_reference(events: list[Event], keep: int) -> None:
    found = seen(*events, keep=keep, wall_clock=lambda: 100.0)
    calls, bad, again = of(events, CallSucceeded, CallFailed), of(events, CallFailed), of(events, RetryScheduled)
    assert found.calls == len(calls)
    assert found.failed == len(bad)
    assert found.attempts == sum(call.attempt for call in calls)
    assert found.retries == sum(max(0, call.attempt - 1) for call in calls)
    assert found.retried_calls == sum(call.attempt > 1 for call in calls)
    assert found.successful_after_retry == sum(call.attempt > 1 for call in of(events, CallSucceeded))
    assert found.exhausted == sum(call.reason == "attempts" for call in bad)
    assert found.deadline_exceeded == sum(type(call.error) is DeadlineExceeded for call in bad)
    assert found.breaker_rejections == sum(type(call.error) is CircuitOpenError for call in bad)
    assert found.refused == found.breaker_rejections + sum(type(call.error) is BudgetExhaustedError for call in bad)
    assert found.breaker_opens == sum(one.previous is not CircuitState.OPEN and one.state is CircuitState.OPEN for one in of(events, BreakerChanged))
    assert found.budget_refusals == len(of(events, BudgetRefused))
    assert found.fallbacks == len(of(events, FallbackUsed))
    # The times are fractions of two, whose sums are exact in any order.
    assert found.total_delay == sum(one.delay for one in again)
    assert found.total_waited == sum(one.delay for one in of(events, Waited))
    assert found.retries_by_reason == collections.Counter(one.reason.split(",")[0] for one in again)
    assert found.errors_by_type == collections.Counter(type(call.error).__name__ for call in bad)
    assert found.latency_max == max((call.elapsed for call in calls), default=0.0)
    assert sum(found.latency_buckets) == len(calls)
    for name, numbers in found.by_operation.items():
        own = [call for call in calls if call.operation == name]
        assert numbers == OperationMetrics(
            len(own),
            sum(isinstance(call, CallFailed) for call in own),
            sum(call.attempt for call in own),
            sum(max(0, call.attempt - 1) for call in own),
            sum(one.delay for one in again if one.operation == name),
        )
    assert set(found.by_operation) == {event.operation for event in [*calls, *again]}
    records = [
        CallRecord(
            call.operation,
            100.0 - call.elapsed,
            100.0,
            call.attempt,
            isinstance(call, CallSucceeded),
            type(call.error).__name__ if isinstance(call, CallFailed) else None,
        )
        for call in calls
    ]
    assert list(found.records) == (records[-keep:] if keep else [])


# --- what it keeps ---


def test_the_last_calls_newest_last() -> None:
    wall = iter([1000.0, 1010.0, 1020.0, 1030.0])
    found = seen(
        succeeded(elapsed=1.0, operation="a"),
        scheduled(1.0),
        failed(ConnectError("x"), attempt=3, elapsed=2.0, operation="b"),
        succeeded(2, elapsed=3.0, operation="c"),
        failed(Refused("x"), "refused", 0, 0.0, operation="d"),
        keep=3,
        wall_clock=lambda: next(wall),
    )
    assert found.records == (
        CallRecord("b", 1008.0, 1010.0, 3, False, "ConnectError"),
        CallRecord("c", 1017.0, 1020.0, 2, True, None),
        CallRecord("d", 1030.0, 1030.0, 0, False, "Refused"),
    )
    assert found.calls == 4


def test_the_usual_wall_clock_is_the_wall_clock() -> None:
    before = time.time()
    (record,) = seen(succeeded(elapsed=0.5), keep=1).records
    assert before <= record.ended <= time.time()
    assert record.started == pytest.approx(record.ended - 0.5)


def test_without_keep_no_clock_is_read_and_no_record_kept() -> None:
    def forbidden() -> float:
        raise AssertionError("somebody read the wall clock")

    assert seen(succeeded(), failed(ValueError()), wall_clock=forbidden).records == ()


def test_the_wall_clock_is_read_without_the_lock() -> None:
    counted: list[int] = []

    def clock() -> float:
        other = threading.Thread(target=lambda: counted.append(metrics.snapshot().calls))
        other.start()
        other.join(2)
        return 0.0

    metrics = RetryMetrics(keep=1, wall_clock=clock)
    metrics(succeeded())
    assert counted == [0]


def test_no_failure_is_kept_alive() -> None:
    metrics = RetryMetrics(keep=5)
    failure = ConnectError("x")
    gone = weakref.ref(failure)
    metrics(RetryScheduled("sum", 1, 4, 0.5, 0.5, "exception", failure))
    metrics(failed(failure))
    metrics(FallbackUsed("sum", 1, 4, 0.5, "value", failure))
    del failure
    assert gone() is None


def test_few_successes_are_held_before_they_are_counted() -> None:
    metrics = RetryMetrics()
    first = Cached("sum", 1, 4, 0.5)
    gone = weakref.ref(first)
    metrics(first)
    del first
    for _ in range(AT_ONCE - 1):
        metrics(succeeded())
    assert gone() is None


@pytest.mark.parametrize("keep", [0, 1])
def test_a_thousand_operations_are_kept_apart(keep: int) -> None:
    metrics = RetryMetrics(keep=keep)
    for number in range(1500):
        metrics(succeeded(operation=f"op{number}"))
    metrics(succeeded(operation="op7"))
    metrics(failed(ValueError(), operation="op1400"))
    metrics(scheduled(0.5, operation="op1450"))
    found = metrics.snapshot()
    assert len(found.by_operation) == 1001
    assert found.by_operation["op7"].calls == 2
    assert found.by_operation["op999"].calls == 1
    assert found.by_operation["(others)"] == OperationMetrics(501, 1, 501, 0, 0.5)
    assert (found.calls, found.total_delay) == (1502, 0.5)


def test_reasons_and_types_are_bounded_too() -> None:
    metrics = RetryMetrics()
    for number in range(1100):
        metrics(scheduled(0.5, f"reason {number}"))
        metrics(failed(type(f"Error{number}", (Exception,), {})()))
    found = metrics.snapshot()
    for counts in (found.retries_by_reason, found.errors_by_type):
        assert (len(counts), counts["(others)"], sum(counts.values())) == (1001, 100, 1100)
    assert found.mean_delay == 0.5


def test_reset_counts_from_zero_again_and_says_what_was() -> None:
    metrics = RetryMetrics(keep=2)
    every = [succeeded(2), failed(CircuitOpenError("x"), "attempts", 2), failed(DeadlineExceeded("x")), scheduled(1.0), Waited("sum", 1, 4, 0.0, 0.5, "q")]
    every += [BudgetRefused("sum", 1, 4, 0.5, "b", 0.5), FallbackUsed("sum", 1, 4, 0.5, "v", ValueError())]
    every += [changed(CircuitState.CLOSED, CircuitState.OPEN)]
    for event in every:
        metrics(event)
    before = metrics.snapshot()
    for name in [field.name for field in dataclasses.fields(before)]:
        assert getattr(before, name), name
    assert metrics.reset() == before
    assert metrics.snapshot() == RetryMetrics(keep=2).snapshot()
    metrics(succeeded())
    metrics(succeeded())
    metrics(succeeded())
    assert (metrics.snapshot().calls, len(metrics.snapshot().records)) == (3, 2)


# --- snapshots ---


def test_a_snapshot_stays_as_it_is() -> None:
    metrics = RetryMetrics(keep=3)
    metrics(failed(ValueError(), attempt=2))
    metrics(scheduled(0.5))
    first = metrics.snapshot()
    copied = pickle.loads(pickle.dumps(first))
    metrics(failed(ValueError(), attempt=2))
    metrics(scheduled(0.5))
    assert first == copied != metrics.snapshot()
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.calls = 9  # type: ignore[misc]


def test_a_snapshot_can_be_written_as_json() -> None:
    metrics = RetryMetrics(keep=1)
    metrics(failed(ValueError(), attempt=2))
    assert json.loads(json.dumps(dataclasses.asdict(metrics.snapshot())))["by_operation"]["sum"]["retries"] == 1


def test_the_repr_has_the_main_numbers_on_one_line() -> None:
    metrics = RetryMetrics()
    for event in (succeeded(elapsed=0.25), succeeded(3, elapsed=0.25), failed(ValueError(), elapsed=0.25), succeeded(elapsed=0.25)):
        metrics(event)
    assert repr(metrics) == "<RetryMetrics calls=4 failed=1 retries=2 retry_rate=0.25 p95=0.25 s>"
    assert "\n" not in repr(metrics.snapshot())
    assert len(repr(metrics.snapshot())) < 1000


@pytest.mark.parametrize(
    ("options", "kind", "word"),
    [
        ({"keep": -1}, ValueError, "keep"),
        ({"keep": 1.5}, TypeError, "keep"),
        ({"keep": True}, TypeError, "keep"),
        ({"keep": None}, TypeError, "keep"),
        ({"wall_clock": 5}, TypeError, "wall_clock"),
        ({"wall_clock": lambda now: now}, TypeError, "wall_clock"),
    ],
)
def test_bad_parameters_are_refused_by_name(options: dict[str, Any], kind: type[Exception], word: str) -> None:
    with pytest.raises(kind, match=f"^{word} must"):
        RetryMetrics(**options)


# --- threads ---


class Yielding(float):
    """A number that lets other threads run in the middle of being added, and once in being sorted in."""

    def __radd__(self, other: float) -> float:
        time.sleep(0)
        return float(other) + float(self)

    def __gt__(self, other: float) -> bool:
        if other > 1:
            time.sleep(0)
        return float(self) > float(other)


def in_threads(work: Any, threads: int = 8) -> None:
    ready = threading.Barrier(threads)
    problems: list[BaseException] = []

    def run(index: int) -> None:
        try:
            ready.wait(5)
            work(index)
        except BaseException as problem:
            problems.append(problem)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        running = [threading.Thread(target=run, args=(index,)) for index in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(30)
    finally:
        sys.setswitchinterval(interval)
    assert not problems, problems


@pytest.mark.parametrize("keep", [0, 10_000])
def test_sums_are_exact_from_many_threads(keep: int) -> None:
    metrics = RetryMetrics(keep=keep)
    slow = Yielding(0.5)

    def work(index: int) -> None:
        for number in range(1000):
            # Every thread meets every name at about the same time.
            operation = f"op{number // 4}"
            kind = number % 4
            if kind == 0:
                metrics(succeeded(1, slow, operation))
            elif kind == 1:
                metrics(failed(ValueError(), "attempts", 3, slow, operation))
            elif kind == 2:
                metrics(scheduled(slow, operation=operation))
            else:
                metrics(Waited(operation, 1, 4, 0.0, slow, "queue"))

    in_threads(work)
    found = metrics.snapshot()
    assert (found.calls, found.failed, found.exhausted, found.attempts, found.retries) == (4000, 2000, 2000, 8000, 4000)
    assert (found.total_delay, found.total_waited) == (1000.0, 1000.0)
    assert found.retries_by_reason == {"exception": 2000}
    assert found.errors_by_type == {"ValueError": 2000}
    assert set(found.by_operation.values()) == {OperationMetrics(16, 8, 32, 16, 4.0)}
    assert len(found.by_operation) == 250
    assert sum(found.latency_buckets) == 4000
    assert len(found.records) == (4000 if keep else 0)


@pytest.mark.parametrize("keep", [0, 10_000])
def test_no_event_falls_between_two_resets(keep: int) -> None:
    metrics = RetryMetrics(keep=keep)
    taken: list[MetricsSnapshot] = []

    def work(index: int) -> None:
        for number in range(1000):
            if index == 0:
                taken.append(metrics.reset() if number % 2 else metrics.snapshot())
                assert taken[-1].calls == sum(taken[-1].latency_buckets) == taken[-1].failed + taken[-1].succeeded
                assert taken[-1].attempts == taken[-1].calls + taken[-1].retries
                assert taken[-1].failed == sum(taken[-1].errors_by_type.values())
                if not number % 2:
                    taken.pop()
            elif number % 2:
                metrics(succeeded(1, Yielding(0.5)))
            else:
                metrics(failed(ValueError(), attempt=3, elapsed=Yielding(0.5)))

    in_threads(work)
    taken.append(metrics.reset())
    assert sum(found.calls for found in taken) == 7000
    assert sum(found.failed for found in taken) == 3500
    assert sum(found.retries for found in taken) == 7000
    assert sum(len(found.records) for found in taken) == (7000 if keep else 0)


def test_what_comes_during_a_reset_counts_after_it() -> None:
    class Paused(RetryMetrics):
        def snapshot(self) -> MetricsSnapshot:
            found = super().snapshot()
            other.start()
            other.join(0.03)
            return found

    metrics = Paused()
    other = threading.Thread(target=metrics, args=(failed(ValueError()),))
    assert metrics.reset().calls == 0
    other.join(5)
    assert RetryMetrics.snapshot(metrics).calls == 1


@pytest.mark.parametrize("keep", [0, 10])
def test_a_call_that_interrupts_the_counting_is_counted(keep: int) -> None:
    """A signal handler, or a finalizer, may make a call, or ask for the numbers, in the middle of anything."""

    class Interrupting(float):
        def __gt__(self, other: float) -> bool:
            if not inner:
                inner.append(0)
                metrics(failed(ValueError(), elapsed=0.25))
                inner.append(metrics.snapshot().calls)
            return float(self) > float(other)

    inner: list[int] = []
    metrics = RetryMetrics(keep=keep)
    metrics(succeeded(elapsed=Interrupting(0.5)))
    metrics(succeeded(elapsed=0.125))
    assert metrics.snapshot().calls == 3
    # Without keep the counting had begun at the snapshot: the interrupting one counted what was left of it.
    assert inner == [0, 2 if keep else 3]
    assert metrics.snapshot().latency_max == 0.5
    assert metrics.snapshot().errors_by_type == {"ValueError": 1}


# --- through clients ---


def every(attempts: int = 3, interval: float = 2.0, **kinds: Any) -> RetryStrategy:
    return RetryStrategy(backoff=PeriodicBackoff(attempts, interval), **kinds)


@both_drivers
def test_a_client_whose_call_recovers(driver: str) -> None:
    metrics = RetryMetrics(keep=5, wall_clock=lambda: 5000.0)
    rig = Rig(driver, Slow(0.5, unconnected), unconnected, Slow(0.25, result(5)), result(6), retry_strategy=every(), on_event=metrics)
    assert [rig.call("sum"), rig.call("get")] == [5, 6]
    found = metrics.snapshot()
    assert (found.calls, found.succeeded, found.attempts, found.retries, found.retried_calls, found.successful_after_retry) == (2, 2, 4, 2, 1, 1)
    assert (found.retry_rate, found.mean_retries, found.retries_by_reason) == (0.5, 1.0, {"exception": 2})
    assert (found.total_delay, found.mean_delay) == (pytest.approx(4.0), pytest.approx(2.0))
    assert found.latency_max == pytest.approx(4.75)
    assert found.by_operation["get"] == OperationMetrics(1, 0, 1, 0, 0.0)
    assert [(one.operation, one.attempts, one.success) for one in found.records] == [("sum", 3, True), ("get", 1, True)]
    assert found.records[0].started == pytest.approx(4995.25)


@both_drivers
@pytest.mark.parametrize("wrap", [False, True])
def test_a_client_whose_attempts_run_out(driver: str, wrap: bool) -> None:
    metrics = RetryMetrics()
    rig = Rig(driver, *[unconnected] * 3, retry_strategy=every(2, wrap=wrap), on_event=metrics)
    with pytest.raises(RetryExhaustedError if wrap else ConnectError):
        rig.call("sum")
    found = metrics.snapshot()
    assert (found.calls, found.failed, found.exhausted, found.attempts, found.retries, found.successful_after_retry) == (1, 1, 1, 3, 2, 0)
    assert found.errors_by_type == {"RetryExhaustedError" if wrap else "ConnectError": 1}


@both_drivers
def test_a_client_whose_deadline_ends_the_call(driver: str) -> None:
    metrics = RetryMetrics()
    rig = Rig(driver, *[unconnected] * 2, retry_strategy=every(), deadline=3, on_event=metrics)
    with pytest.raises(DeadlineExceeded):
        rig.call("sum")
    found = metrics.snapshot()
    assert (found.failed, found.deadline_exceeded, found.exhausted, found.refused, found.attempts) == (1, 1, 0, 0, 2)
    assert found.total_delay == pytest.approx(2.0)


@both_drivers
def test_a_client_whose_layer_refuses(driver: str) -> None:
    metrics = RetryMetrics(keep=1)
    layer = Recorder(waits=[CircuitOpenError("open", name="default", remaining=5.0)])
    rig = Rig(driver, layers=layer, on_event=metrics)
    with pytest.raises(CircuitOpenError):
        rig.call("sum")
    found = metrics.snapshot()
    assert (found.calls, found.failed, found.refused, found.breaker_rejections, found.attempts, found.retries) == (1, 1, 1, 1, 0, 0)
    assert (found.records[0].attempts, found.records[0].error) == (0, "CircuitOpenError")


@both_drivers
def test_a_client_that_fails_without_a_strategy_exhausts_nothing(driver: str) -> None:
    metrics = RetryMetrics()
    rig = Rig(driver, fresh(ConnectionLostError("x")), error(7), on_event=metrics)
    for kind in (ConnectionLostError, JsonRpcError):
        with pytest.raises(kind):
            rig.call("sum")
    found = metrics.snapshot()
    assert (found.failed, found.exhausted, found.errors_by_type) == (2, 0, {"ConnectionLostError": 1, "JsonRpcError": 1})


@both_drivers
def test_a_hint_of_the_server_is_no_reason_of_its_own(driver: str) -> None:
    metrics = RetryMetrics()
    hinted = [error(7, data={"retry_after": seconds}) for seconds in (3, 4, 5)]
    rig = Rig(driver, *hinted, result(5), retry_strategy=every(codes={7}), on_event=metrics)
    assert rig.call("sum") == 5
    found = metrics.snapshot()
    assert (found.retries_by_reason, found.total_delay) == ({"code": 3}, pytest.approx(12.0))


@both_drivers
def test_a_batch_is_one_call(driver: str) -> None:
    def half(exchange: Exchange) -> Reply:
        first, second = exchange.ids
        return Reply(json.dumps([{"id": first, "result": 1}, {"id": second, "error": {"code": 7, "message": "x"}}]).encode())

    metrics = RetryMetrics()
    rig = Rig(driver, half, result(2), half, error(7), retry_strategy=every(1, codes={7}), on_event=metrics)
    rig.send(BatchRequest(Request("a"), Request("b")))
    rig.send(BatchRequest(Request("a"), Request("b")))
    found = metrics.snapshot()
    assert (found.calls, found.failed, found.attempts, found.retries, found.exhausted) == (2, 1, 4, 2, 1)
    assert found.by_operation == {"batch of 2": OperationMetrics(2, 1, 4, 2, pytest.approx(4.0))}
    assert found.errors_by_type == {"JsonRpcError": 1}


@both_drivers
def test_clients_may_share_one(driver: str) -> None:
    metrics = RetryMetrics()
    for _ in range(2):
        Rig(driver, result(5), on_event=[metrics]).call("sum")
    assert metrics.snapshot().by_operation == {"sum": OperationMetrics(2, 0, 2, 0, 0.0)}


@both_drivers
def test_a_cancelled_call_is_no_call(driver: str) -> None:
    def interrupt(exchange: object) -> None:
        raise KeyboardInterrupt

    metrics = RetryMetrics(keep=1)
    rig = Rig(driver, interrupt, on_event=metrics)
    with pytest.raises(KeyboardInterrupt):
        rig.call("sum")
    assert metrics.snapshot() == RetryMetrics(keep=1).snapshot()


@both_drivers
def test_what_a_layer_tells_is_counted(driver: str) -> None:
    def refuse(attempt: Any, now: float) -> Wait | None:
        attempt.tell(BudgetRefused(*attempt.so_far(now), reason="default", level=0.5))
        attempt.tell(changed(CircuitState.CLOSED, CircuitState.OPEN))
        return None

    metrics = RetryMetrics()
    rig = Rig(driver, result(5), layers=Recorder(waits=[refuse]), on_event=metrics)
    rig.call("sum")
    assert (metrics.snapshot().budget_refusals, metrics.snapshot().breaker_opens) == (1, 1)


@both_drivers
def test_a_subclass_that_overrides_call_sees_every_success(driver: str) -> None:
    class Mine(RetryMetrics):
        seen = 0

        def __call__(self, event: Event) -> None:
            self.seen += 1
            super().__call__(event)

    metrics = Mine()
    rig = Rig(driver, *[result(1)] * 5, on_event=metrics)
    for _ in range(5):
        rig.call("m")
    assert (metrics.seen, metrics.snapshot().calls) == (5, 5)
