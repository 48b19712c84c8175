"""The async bulk."""

from __future__ import annotations

from collections.abc import AsyncIterable, Generator
from typing import Any, TypeVar

from .._check import count
from ..drivers._fan_async import AsyncFan
from ._core import BulkCore, as_iterator
from ._items import BulkItem, BulkResult
from ._progress import ProgressLike
from ._source import AsyncCalls, Calls, Plan

__all__ = ["AsyncBulk"]

RequestT = TypeVar("RequestT")
ResultT = TypeVar("ResultT")
BulkT = TypeVar("BulkT", bound="AsyncBulk[Any, Any]")


class AsyncBulk(BulkCore[RequestT, ResultT]):
    """Many calls, several at once, by tasks. Nothing is sent before it is consumed; one task consumes it.

    Iterate with ``async for`` for a stream of items in the order in which they end, in bounded memory; or collect them with
    ``await bulk.run()``, or ``await bulk``. Leave the loop, or be cancelled, and come back: it goes on where it stopped.

    A request that was in flight when it was cut off is never sent again without a word: it comes out as a failed item whose
    error, a :class:`~rpcretry.TransportError`, says that it may have been executed.
    """

    def __init__(
        self, source: Any, plan: Plan, name: str, *, concurrency: int, batch_size: int, partial_success_threshold: float, progress: ProgressLike
    ) -> None:
        count("concurrency", concurrency, least=1)
        super().__init__(source, plan, batch_size, partial_success_threshold, progress)
        calls = AsyncCalls(aiter(source), plan, batch_size) if isinstance(source, AsyncIterable) else Calls(as_iterator(name, source), plan, batch_size)
        self._calls = calls
        self._fan = AsyncFan(calls, plan.host, concurrency)

    def __aiter__(self: BulkT) -> BulkT:
        return self

    async def __anext__(self) -> BulkItem[RequestT, ResultT]:
        """The next item that is finished.

        :raises Exception: what the source raised, once all that came before is handed out.
        """
        if not self._items or self._reporter is not None:
            await self._advance()
            if not self._items:
                raise StopAsyncIteration
        return self._hand_out()

    async def _advance(self) -> None:
        """Wait for items; at the end there are none."""
        fan = self._fan
        try:
            self._begin()
            while not self._items:
                if not await fan.ready():
                    self._conclude()
                    return
                self._unpack()
            self._tick()
        except BaseException as problem:
            # What was in flight has been cut off.
            self._pause()
            self._never_an_end(problem)
            raise

    def _unpack(self) -> None:
        # Taken only once its items are here.
        fan = self._fan
        call, value = fan.done[0]
        items, rest = self._received(call, value)
        # Statements between which no signal handler comes.
        del fan.done[0]
        self._items = items
        if rest is not None:
            call.members = rest
            fan.returned.appendleft(call)

    async def run(self) -> BulkResult[RequestT, ResultT]:
        """Consume all that is left, and return everything that was collected.

        After an exception or a cancel, what was finished is in :attr:`collected`, and another ``run()`` goes on from there.

        :raises BulkError: with both lists, where too small a share succeeded.
        :raises Exception: what the source raised, once all that came before is collected.
        """
        well, failed = self._kept_well, self._kept_failed
        try:
            async for item in self:
                if item.error is None:
                    well.append(item)
                else:
                    failed.append(item)
        except Exception:
            raise
        except BaseException:
            while self._items or self._fan.done:
                if not self._items:
                    self._unpack()
                else:
                    # No call of our own comes between: at its beginning another interrupt would lose the item.
                    item = self._hand_out()
                    (well if item.error is None else failed).append(item)
            raise
        return self._finished()

    def __await__(self) -> Generator[Any, None, BulkResult[RequestT, ResultT]]:
        return self.run().__await__()

    async def aclose(self) -> None:
        """Begin nothing new and cancel what is in flight. Whoever comes back goes on where it stopped."""
        try:
            await self._fan.aclose()
        finally:
            self._pause()

    close = aclose

    async def __aenter__(self: BulkT) -> BulkT:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
