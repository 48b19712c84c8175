"""What a bulk gives: an item for each request, numbers on the way, and all of it at the end."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, Generic, NamedTuple, TypeVar, cast

from ..messages import fresh

__all__ = ["BulkItem", "BulkProgress", "BulkResult"]

RequestT = TypeVar("RequestT")
ResultT = TypeVar("ResultT")

BY_INDEX = operator.attrgetter("index")


class BulkItem(Generic[RequestT, ResultT]):
    """What became of one request.

    :ivar index: its place in the source, from 0.
    :ivar request: the request as it came from the source; for functions, what the function was called with.
    :ivar error: the failure; ``None`` for a success.
    :ivar attempts: how often it was sent; 0 for one that could not be.
    """

    __slots__ = ("_result", "attempts", "error", "index", "request")

    def __init__(self, index: int, request: RequestT, result: Any, error: Exception | None, attempts: int) -> None:
        self.index = index
        self.request = request
        self._result = result
        self.error = error
        self.attempts = attempts

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.error is None

    @property
    def result(self) -> ResultT:
        """The result; ``None`` for a notification. Raises the error, a new instance at each access, where there is one."""
        if self.error is not None:
            raise fresh(self.error).with_traceback(self.error.__traceback__)
        return cast("ResultT", self._result)

    def __repr__(self) -> str:
        # Results may hold secrets.
        return f"<BulkItem {self.index} of {self.request!r:.60}: {'ok' if self.error is None else type(self.error).__name__}, attempts={self.attempts}>"


class BulkProgress(NamedTuple):
    """How far a bulk is.

    :ivar total: how many requests there are; ``None`` where the source does not say.
    :ivar done: how many have ended.
    :ivar succeeded: how many of them well.
    :ivar failed: how many of them in a failure.
    :ivar retries: how many attempts they took beyond their first.
    :ivar elapsed: seconds since the first was asked for.
    :ivar rate: how many ended in a second.
    :ivar eta: seconds until all have ended, at that rate; ``None`` where nobody knows.
    """

    total: int | None
    done: int
    succeeded: int
    failed: int
    retries: int
    elapsed: float
    rate: float
    eta: float | None


class BulkResult(Generic[RequestT, ResultT]):
    """All items that were collected.

    :ivar successful: the items that succeeded, in the order of the requests.
    :ivar failed: those that did not, in that order.
    :ivar elapsed: seconds from the first to the last.
    """

    __slots__ = ("elapsed", "failed", "successful")

    def __init__(self, successful: Iterable[BulkItem[RequestT, ResultT]], failed: Iterable[BulkItem[RequestT, ResultT]], elapsed: float) -> None:
        self.successful = sorted(successful, key=BY_INDEX)
        self.failed = sorted(failed, key=BY_INDEX)
        self.elapsed = elapsed

    @property
    def total(self) -> int:
        """How many items there are."""
        return len(self.successful) + len(self.failed)

    @property
    def success_rate(self) -> float:
        """The share of those that succeeded, from 0 to 1; 1 where there is none."""
        return len(self.successful) / self.total if self.total else 1.0

    @property
    def items(self) -> list[BulkItem[RequestT, ResultT]]:
        """All items in the order of the requests."""
        return sorted([*self.successful, *self.failed], key=BY_INDEX)

    def results(self) -> list[ResultT]:
        """All results in the order of the requests. Raises the first error in it, a new instance, where there is one."""
        return [item.result for item in (self.failed[:1] or self.successful)]

    def __repr__(self) -> str:
        return f"<BulkResult of {self.total}: {len(self.successful)} successful, {len(self.failed)} failed>"
