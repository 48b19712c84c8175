"""What the sync and the async bulk share: everything but waiting."""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, Generic, TypeAlias, TypeVar

from .._check import count, number, refuse_unknown
from ..drivers._fan_sync import Unfinished
from ..errors import BulkError
from ..retry._failures import _shown
from ._items import BulkItem, BulkProgress, BulkResult
from ._progress import ProgressLike, Reporter, as_reporter
from ._source import CallsCore, Plan

__all__ = ["PARAMETERS", "BulkCore", "refuse_names"]

RequestT = TypeVar("RequestT")
ResultT = TypeVar("ResultT")

Items: TypeAlias = "list[BulkItem[Any, Any]]"

PARAMETERS = ("concurrency", "batch_size", "partial_success_threshold", "progress")

# What other libraries call our parameters.
SYNONYMS = {
    "max_workers": "concurrency",
    "workers": "concurrency",
    "n_jobs": "concurrency",
    "max_concurrency": "concurrency",
    "max_concurrent": "concurrency",
    "parallelism": "concurrency",
    "limit": "concurrency",
    "threads": "concurrency",
    "pool_size": "concurrency",
    "chunk_size": "batch_size",
    "chunksize": "batch_size",
    "max_batch_size": "batch_size",
    "threshold": "partial_success_threshold",
    "success_threshold": "partial_success_threshold",
    "min_success_rate": "partial_success_threshold",
    "on_progress": "progress",
    "progress_callback": "progress",
    "callback": "progress",
    "show_progress": "progress",
    "total": "a source that has a len()",
    "return_exceptions": "partial_success_threshold=0",
}

# The shortest time between two reports in seconds.
REPORT_EVERY = 0.1


def refuse_names(what: str, given: Iterable[str], known: Sequence[str], synonyms: Mapping[str, str]) -> None:
    """Refuse keywords that a bulk does not take.

    :raises TypeError: naming the one that was meant.
    """
    refuse_unknown(what, given, known, {**{other: name for other, name in SYNONYMS.items() if name not in PARAMETERS or name in known}, **synonyms})


class BulkCore(Generic[RequestT, ResultT]):
    """A stream of calls.

    :param source: the elements.
    :param plan: how they are called.
    :param calls: makes the calls of *source*.
    :param concurrency: how many are under way at once.
    :param batch_size: how many go in one.
    :param threshold: the share that has to succeed, from 0 to 1.
    :param progress: ``True``, or a callable.
    """

    def __init__(self, source: object, plan: Plan, batch_size: int, threshold: float, progress: ProgressLike) -> None:
        count("batch_size", batch_size, least=1)
        self._threshold = number("partial_success_threshold", threshold, least=0, most=1)
        self._reporter: Reporter | None = as_reporter(progress)
        self._clock = plan.clock
        self._calls: CallsCore
        self._total = _length(source)
        self._began = self._ended = math.nan
        self._reported = -math.inf
        self._concluded = False
        # Whether it is being asked for its next item.
        self._busy = False
        self._items: Items = []
        self._retries = 0
        self._succeeded = 0
        self._failed = 0
        self._kept_well: Items = []
        self._kept_failed: Items = []

    # --- the numbers ---

    @property
    def total(self) -> int | None:
        """How many requests there are; ``None`` where the source does not say."""
        return self._calls.count if self._calls.ended else self._total

    @property
    def progress(self) -> BulkProgress:
        """How far it is, at any time."""
        done = self._succeeded + self._failed
        elapsed = self._elapsed()
        rate = done / elapsed if elapsed > 0 else 0.0
        total = self.total
        left = None if total is None else max(0, total - done)
        eta = 0.0 if left == 0 else left / rate if left is not None and rate > 0 else None
        return BulkProgress(total, done, self._succeeded, self._failed, self._retries, elapsed, rate, eta)

    @property
    def collected(self) -> BulkResult[RequestT, ResultT]:
        """What ``run()`` has so far: after an interrupt, everything that was finished."""
        return BulkResult(self._kept_well, self._kept_failed, self._elapsed())

    def _elapsed(self) -> float:
        if math.isnan(self._began):
            return 0.0
        return (self._clock() if math.isnan(self._ended) else self._ended) - self._began

    def __repr__(self) -> str:
        total = self.total
        return f"<{type(self).__name__}: {self._succeeded + self._failed} of {'?' if total is None else total} done, {self._failed} failed>"

    # --- the stream ---

    def _begin(self) -> None:
        if math.isnan(self._began):
            self._began = self._clock()

    def _received(self, call: Any, value: Any) -> tuple[Items, Any]:
        """The items of a call that has ended, and its members that go on, or ``None``. Changes nothing: after an interrupt it is asked again."""
        if not isinstance(value, Exception):
            return value, None
        if not isinstance(value, Unfinished):
            return call.failed_with(value), None
        divided: tuple[Items, Any] = call.divided()
        return divided

    def _never_an_end(self, problem: BaseException) -> None:
        """What raises these by mistake must not end the loop over the bulk as if all were done."""
        if isinstance(problem, (StopIteration, StopAsyncIteration)):
            raise RuntimeError(f"{type(problem).__name__} was raised where it ends nothing, by the source or what it gave; items may be missing") from problem

    def _hand_out(self) -> BulkItem[RequestT, ResultT]:
        # Statements between which no signal handler comes.
        item = self._items[0]
        del self._items[0]
        if item.error is None:
            self._succeeded += 1
        else:
            self._failed += 1
        if item.attempts > 1:
            self._retries += item.attempts - 1
        return item

    # --- telling ---

    def _tick(self) -> None:
        """Report, unless that was done a moment ago."""
        if self._reporter is not None:
            now = self._clock()
            if now - self._reported >= REPORT_EVERY:
                self._reported = now
                self._reporter.update(self.progress)

    def _pause(self) -> None:
        """It was stopped, and perhaps for good."""
        if self._reporter is not None and not self._concluded and not math.isnan(self._began):
            self._reporter.stop(self.progress, finished=False)

    def _conclude(self) -> None:
        """Nothing is left."""
        if not self._concluded:
            self._concluded = True
            self._ended = self._clock()
            if self._reporter is not None:
                self._reporter.stop(self.progress, finished=True)

    # --- the end ---

    def _finished(self) -> BulkResult[RequestT, ResultT]:
        """All of it. Raises BulkError where too little of it succeeded."""
        result = self.collected
        if not result.failed or result.success_rate >= self._threshold:
            return result
        first = result.failed[0]
        shown = "" if first.error is None else _shown(first.error)
        raise BulkError(
            f"{len(result.failed)} of {result.total} failed, and {result.success_rate:.1%} succeeded where {self._threshold:.1%} had to; "
            f"the first failure is that of item {first.index}: {shown:.200}",
            successful=result.successful,
            failed=result.failed,
        )


def _length(source: object) -> int | None:
    if not isinstance(source, Sized):
        return None
    try:
        return len(source)
    except Exception:
        return None


def as_iterator(name: str, source: Any) -> Iterator[Any]:
    """The iterator of a source.

    :raises TypeError: where it is none, or an async one.
    """
    if isinstance(source, AsyncIterable) and not isinstance(source, Iterable):
        raise TypeError(f"{name} is an async iterable, {type(source).__name__}, which nobody would await here; use an async client or function for it")
    if not isinstance(source, Iterable):
        raise TypeError(f"{name} must be an iterable, got {type(source).__name__} {source!r:.60}; write [...] around a single one")
    iterator = iter(source)
    # Some have the one method that they need, and a for statement asks for the other, too.
    return iterator if isinstance(iterator, Iterable) else iter(iterator.__next__, object())
