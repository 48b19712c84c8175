"""Numbers about any number of calls: a sink that counts."""

from __future__ import annotations

import collections
import dataclasses
import math
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

from ._check import callable_with, count, number
from .errors import CircuitOpenError, CircuitState, DeadlineExceeded, Refused
from .events import BreakerChanged, BudgetRefused, CallFailed, CallSucceeded, Event, FallbackUsed, RetryScheduled, Waited

__all__ = ["CallRecord", "MetricsSnapshot", "OperationMetrics", "RetryMetrics"]

# What is counted by name has at most this many names of its own: a server's methods may be named by its users.
MOST_NAMES = 1_000
OTHERS = "(others)"

# Latencies are counted in buckets whose bounds grow by a constant factor, as in DDSketch (Masson, Rim and Lee, VLDB 2019): a
# quantile read from them is off by at most this part of itself, whatever the latencies are.
ACCURACY = 0.03
GROWTH = (1 + ACCURACY) / (1 - ACCURACY)

# The upper bounds of all buckets but the last one, from 0.1 µs to 4 months, in seconds. To search them costs as much as a logarithm
# and has no special cases: what is longer falls into the last bucket, what is no time at all into the first.
BOUNDS = [1e-7 * GROWTH**index for index in range(540)]

# So many successes are counted together: few enough that nobody notices the call that does it, which takes 0.1 ms longer.
AT_ONCE = 256


class CallRecord(NamedTuple):
    """One call that ended.

    :ivar operation: the method's name, ``batch of 3``, or a function's name.
    :ivar started: when it began, in seconds since the epoch.
    :ivar ended: when it ended, in seconds since the epoch.
    :ivar attempts: how many attempts were made; 0 where it ended before one was.
    :ivar success: whether it ended well.
    :ivar error: the final failure's type by name; ``None`` for a success.
    """

    operation: str
    started: float
    ended: float
    attempts: int
    success: bool
    error: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class OperationMetrics:
    """The numbers of one operation.

    :ivar calls: the calls that ended.
    :ivar failed: those of them that failed.
    :ivar attempts: the attempts that they made.
    :ivar retries: the attempts beyond the first of each call.
    :ivar total_delay: seconds of delay before retries, as they were scheduled.
    """

    calls: int
    failed: int
    attempts: int
    retries: int
    total_delay: float


@dataclasses.dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """What a :class:`RetryMetrics` had counted at one moment.

    A call counts when it ends; one that was cancelled never does. A batch is one call, and its attempts are the exchanges that it
    made. Delays, and retries by reason, count as soon as the retry is scheduled, and so before its call does.

    :ivar calls: the calls that ended.
    :ivar failed: those of them that failed, also where a fallback stood in for the result.
    :ivar attempts: the attempts that they made.
    :ivar retries: the attempts beyond the first of each call.
    :ivar retried_calls: the calls with more than one attempt.
    :ivar successful_after_retry: those of them that succeeded.
    :ivar exhausted: the calls that failed because their strategy allowed no other attempt.
    :ivar deadline_exceeded: the calls that failed with :class:`~rpcretry.DeadlineExceeded`.
    :ivar refused: the calls that failed with a :class:`~rpcretry.Refused`: by a breaker, a budget or a limit.
    :ivar breaker_rejections: those of them that failed with :class:`~rpcretry.CircuitOpenError`.
    :ivar breaker_opens: how often a circuit breaker opened.
    :ivar budget_refusals: how often a retry budget did not pay for another try.
    :ivar fallbacks: how often a fallback stood in for a result.
    :ivar total_delay: seconds of delay before retries, as they were scheduled.
    :ivar total_waited: seconds that attempts waited because a layer had them wait.
    :ivar retries_by_reason: how many retries were scheduled, by reason; a detail after a comma is left out.
    :ivar errors_by_type: the failed calls, by the name of the final error's type; in a batch that of the first request which failed.
    :ivar by_operation: the numbers of each operation. Each of the three mappings has at most 1,000 names; what comes under another
        one then counts as ``"(others)"``.
    :ivar records: the last calls, the newest last, as many as ``keep`` says.
    :ivar latency_max: seconds that the longest call took, exactly.
    :ivar latency_buckets: how many calls took how long, in the buckets that :meth:`latency` reads.
    """

    calls: int
    failed: int
    attempts: int
    retries: int
    retried_calls: int
    successful_after_retry: int
    exhausted: int
    deadline_exceeded: int
    refused: int
    breaker_rejections: int
    breaker_opens: int
    budget_refusals: int
    fallbacks: int
    total_delay: float
    total_waited: float
    retries_by_reason: Mapping[str, int]
    errors_by_type: Mapping[str, int]
    by_operation: Mapping[str, OperationMetrics]
    records: tuple[CallRecord, ...]
    latency_max: float
    latency_buckets: tuple[int, ...] = dataclasses.field(repr=False)

    @property
    def succeeded(self) -> int:
        """The calls that ended well."""
        return self.calls - self.failed

    @property
    def retry_rate(self) -> float:
        """The part of the calls that took more than one attempt, from 0 to 1; 0 without calls."""
        return self.retried_calls / self.calls if self.calls else 0.0

    @property
    def mean_retries(self) -> float:
        """Retries for each call; 0 without calls."""
        return self.retries / self.calls if self.calls else 0.0

    @property
    def mean_delay(self) -> float:
        """Seconds of delay before a retry, on average over those scheduled; 0 without one."""
        scheduled = sum(self.retries_by_reason.values())
        return self.total_delay / scheduled if scheduled else 0.0

    def latency(self, q: float) -> float:
        """The seconds within which the part *q* of the calls ended, retries and waits included.

        It is the nearest-rank quantile, off by at most 3 % of itself. Less than 0.1 µs reads as 0, and so does the absence of calls.

        :param q: from 0 to 1; 0.5 is the median, 1 the longest call.
        :raises TypeError: where *q* is no number.
        :raises ValueError: where it is not from 0 to 1.
        """
        # Rounded, since 0.07 * 100 is a little more than 7.
        rank = max(1, math.ceil(round(number("q", q, least=0, most=1) * self.calls, 6)))
        if rank >= self.calls:
            return self.latency_max
        for index, calls in enumerate(self.latency_buckets):
            rank -= calls
            if rank <= 0:
                return min(_seconds(index), self.latency_max)
        return self.latency_max

    @property
    def latency_p50(self) -> float:
        """Seconds within which half of the calls ended."""
        return self.latency(0.5)

    @property
    def latency_p90(self) -> float:
        """Seconds within which 90 % of the calls ended."""
        return self.latency(0.9)

    @property
    def latency_p95(self) -> float:
        """Seconds within which 95 % of the calls ended."""
        return self.latency(0.95)

    @property
    def latency_p99(self) -> float:
        """Seconds within which 99 % of the calls ended."""
        return self.latency(0.99)


class _Tally:
    # One operation's numbers while they grow.
    __slots__ = ("attempts", "calls", "delay", "failed", "retries")

    def __init__(self) -> None:
        self.calls = 0
        self.failed = 0
        self.attempts = 0
        self.retries = 0
        self.delay = 0.0

    def freeze(self) -> OperationMetrics:
        return OperationMetrics(self.calls, self.failed, self.attempts, self.retries, self.delay)


class RetryMetrics:
    """A sink that counts: give it as ``on_event=`` to any number of clients and functions, in any number of threads.

    ::

        metrics = RetryMetrics()
        client = Client(url, retry_strategy=RetryStrategy(), on_event=metrics)
        ...
        metrics.snapshot().retry_rate

    Its memory is bounded: it keeps numbers, names, the latest successes until they are counted, and with *keep* the last few
    records, but never an error.

    :param keep: how many records of the last calls to keep.
    :param wall_clock: seconds since the epoch, to date those records by; not read without *keep*.
    :raises TypeError, ValueError: naming the parameter, its value and the fix.
    """

    wants: ClassVar[tuple[type[Event], ...]] = (CallSucceeded, CallFailed, RetryScheduled, BreakerChanged, BudgetRefused, FallbackUsed, Waited)
    """The records that it looks at, and those derived from them. Without AttemptStarted, which the engine then need not make."""

    def __init__(self, *, keep: int = 0, wall_clock: Callable[[], float] = time.time) -> None:
        self._keep = count("keep", keep)
        callable_with("wall_clock", wall_clock, 0, "pass time.time")
        self._wall_clock = wall_clock
        # Re-entrant: a signal handler or a finalizer that makes a call may interrupt this very thread while it counts.
        self._lock = threading.RLock()
        self._uncounted: collections.deque[tuple[str, int, float]] = collections.deque()
        self._clear()

    def _clear(self) -> None:
        self._retried_calls = self._successful_after_retry = 0
        self._exhausted = self._deadline_exceeded = self._refused = self._breaker_rejections = 0
        self._breaker_opens = self._budget_refusals = self._fallbacks = 0
        self._waited = self._longest = 0.0
        self._reasons: dict[str, int] = {}
        self._errors: dict[str, int] = {}
        self._tallies: dict[str, _Tally] = {}
        self._buckets = [0] * (len(BOUNDS) + 1)
        self._records: collections.deque[CallRecord] = collections.deque(maxlen=self._keep)

    def __call__(self, event: Event) -> None:
        """Count *event*; one of a class that it does not know changes nothing."""
        if isinstance(event, CallSucceeded) and not self._keep:
            self.count_success(event.operation, event.attempt, event.max_attempts, event.elapsed)
            return
        # A clock is somebody else's code: not with the lock held.
        record = self._record(event) if self._keep and isinstance(event, (CallSucceeded, CallFailed)) else None
        with self._lock:
            self._count(event)
            if record is not None:
                self._records.append(record)

    def count_success(self, operation: str, attempt: int, max_attempts: int | None, elapsed: float) -> None:
        """Count a call that succeeded, as its :class:`~rpcretry.events.CallSucceeded` would be."""
        if self._keep:
            self(CallSucceeded(operation, attempt, max_attempts, elapsed))
            return
        # The way of most calls, without the lock: to append is atomic. To take them over many at a time costs less, too.
        uncounted = self._uncounted
        uncounted.append((operation, attempt, elapsed))
        if len(uncounted) >= AT_ONCE:
            with self._lock:
                self._catch_up()

    def _catch_up(self) -> None:
        uncounted = self._uncounted
        for _ in range(len(uncounted)):
            try:
                success = uncounted.popleft()
            except IndexError:
                # A signal handler asked for a snapshot in the middle of this, and has counted them.
                return
            self._end(*success)

    def _count(self, event: Event) -> None:
        if isinstance(event, CallSucceeded):
            self._end(event.operation, event.attempt, event.elapsed)
        elif isinstance(event, CallFailed):
            self._end(event.operation, event.attempt, event.elapsed, success=False)
            self._fail(event)
        elif isinstance(event, RetryScheduled):
            self._tally(event.operation).delay += event.delay
            _increment(self._reasons, event.short_reason)
        elif isinstance(event, Waited):
            self._waited += event.delay
        elif isinstance(event, BreakerChanged):
            self._breaker_opens += event.state is CircuitState.OPEN and event.previous is not CircuitState.OPEN
        elif isinstance(event, BudgetRefused):
            self._budget_refusals += 1
        elif isinstance(event, FallbackUsed):
            self._fallbacks += 1

    def _end(self, operation: str, attempts: int, elapsed: float, success: bool = True) -> None:
        # Looked up in place: this is done for every call, and a function of our own would cost a tenth of it.
        try:
            tally = self._tallies[operation]
        except KeyError:
            tally = self._tally(operation)
        tally.calls += 1
        tally.attempts += attempts
        if attempts > 1:
            tally.retries += attempts - 1
            self._retried_calls += 1
            self._successful_after_retry += success
        self._buckets[bisect_left(BOUNDS, elapsed)] += 1
        if elapsed > self._longest:
            self._longest = elapsed

    def _fail(self, event: CallFailed) -> None:
        error = event.error
        self._tally(event.operation).failed += 1
        _increment(self._errors, type(error).__name__)
        # By what the caller catches: a deadline or a refusal from further in, of a function's own client, has another reason.
        self._exhausted += event.reason == "attempts"
        self._deadline_exceeded += isinstance(error, DeadlineExceeded)
        self._refused += isinstance(error, Refused)
        self._breaker_rejections += isinstance(error, CircuitOpenError)

    def _tally(self, operation: str) -> _Tally:
        name = _name(self._tallies, operation)
        return self._tallies.get(name) or self._tallies.setdefault(name, _Tally())

    def _record(self, event: Event) -> CallRecord:
        ended = self._wall_clock()
        error = type(event.error).__name__ if isinstance(event, CallFailed) else None
        return CallRecord(event.operation, ended - event.elapsed, ended, event.attempt, error is None, error)

    def snapshot(self) -> MetricsSnapshot:
        """The numbers as they are now, all of one moment."""
        with self._lock:
            self._catch_up()
            by_operation = {name: tally.freeze() for name, tally in tuple(self._tallies.items())}
            return MetricsSnapshot(
                calls=sum(found.calls for found in by_operation.values()),
                failed=sum(found.failed for found in by_operation.values()),
                attempts=sum(found.attempts for found in by_operation.values()),
                retries=sum(found.retries for found in by_operation.values()),
                retried_calls=self._retried_calls,
                successful_after_retry=self._successful_after_retry,
                exhausted=self._exhausted,
                deadline_exceeded=self._deadline_exceeded,
                refused=self._refused,
                breaker_rejections=self._breaker_rejections,
                breaker_opens=self._breaker_opens,
                budget_refusals=self._budget_refusals,
                fallbacks=self._fallbacks,
                total_delay=sum(found.total_delay for found in by_operation.values()),
                total_waited=self._waited,
                retries_by_reason=dict(self._reasons),
                errors_by_type=dict(self._errors),
                by_operation=by_operation,
                records=tuple(self._records),
                latency_max=self._longest,
                latency_buckets=tuple(self._buckets),
            )

    def reset(self) -> MetricsSnapshot:
        """Count from zero again.

        :returns: the numbers until then; no event falls between the two.
        """
        with self._lock:
            last = self.snapshot()
            self._clear()
        return last

    def __repr__(self) -> str:
        now = self.snapshot()
        return f"<RetryMetrics calls={now.calls} failed={now.failed} retries={now.retries} retry_rate={now.retry_rate:.3g} p95={now.latency_p95:.3g} s>"


def _increment(counts: dict[str, int], name: str) -> None:
    name = _name(counts, name)
    counts[name] = counts.get(name, 0) + 1


def _name(known: Mapping[str, object], name: str) -> str:
    return name if name in known or len(known) < MOST_NAMES else OTHERS


def _seconds(index: int) -> float:
    if index == 0:
        return 0.0
    # As far, relative to itself, from the lower bound of the bucket as from the upper one.
    return BOUNDS[index] * (1 - ACCURACY) if index < len(BOUNDS) else math.inf
