"""The sync bulk."""

from __future__ import annotations

from typing import Any, TypeVar

from .._check import count
from ..drivers._fan_sync import Fan
from ._core import BulkCore, as_iterator
from ._items import BulkItem, BulkResult
from ._progress import ProgressLike
from ._source import Calls, Plan

__all__ = ["Bulk"]

RequestT = TypeVar("RequestT")
ResultT = TypeVar("ResultT")
BulkT = TypeVar("BulkT", bound="Bulk[Any, Any]")


class Bulk(BulkCore[RequestT, ResultT]):
    """Many calls, several at once, by threads. Nothing is sent before it is consumed; one thread consumes it, and in it the
    source is asked: one that makes it wait delays the results.

    Iterate for a stream of items in the order in which they end, in bounded memory; or collect them with :meth:`run`. Leave the
    loop, or press Ctrl-C, and come back: it goes on where it stopped, by iterating or by :meth:`run`.

    A request that was in flight when it was cut off is never sent again without a word: it comes out as a failed item whose
    error, a :class:`~rpcretry.TransportError`, says that it may have been executed.
    """

    def __init__(
        self, source: Any, plan: Plan, name: str, *, concurrency: int, batch_size: int, partial_success_threshold: float, progress: ProgressLike
    ) -> None:
        count("concurrency", concurrency, least=1)
        super().__init__(source, plan, batch_size, partial_success_threshold, progress)
        calls = self._calls = Calls(as_iterator(name, source), plan, batch_size)
        self._fan = Fan(calls, plan.host, concurrency)

    def __iter__(self: BulkT) -> BulkT:
        return self

    def __next__(self) -> BulkItem[RequestT, ResultT]:
        """The next item that is finished.

        :raises Exception: what the source raised, once all that came before is handed out.
        """
        if not self._items or self._reporter is not None:
            self._advance()
            if not self._items:
                raise StopIteration
        return self._hand_out()

    def _advance(self) -> None:
        """Wait for items; at the end there are none."""
        if self._busy:
            raise RuntimeError("this bulk is asked for its next item while it is being asked, by its progress callback, its source, a call or another thread")
        fan = self._fan
        try:
            self._busy = True
            self._begin()
            while not self._items:
                if not fan.ready():
                    self._conclude()
                    return
                self._unpack()
            self._tick()
        except Exception as problem:
            # From the source: nothing is under way.
            self._pause()
            self._never_an_end(problem)
            raise
        except BaseException:
            # What is in flight is waited for; another Ctrl-C ends that.
            fan.close()
            self._pause()
            raise
        finally:
            self._busy = False

    def _unpack(self) -> None:
        # Taken only once its items are here.
        fan = self._fan
        call, value = fan.done[0]
        items, rest = self._received(call, value)
        # Statements between which no signal handler comes.
        del fan.done[0]
        fan.open -= 1
        self._items = items
        if rest is not None:
            call.members = rest
            fan.returned.append(call)

    def run(self) -> BulkResult[RequestT, ResultT]:
        """Consume all that is left, and return everything that was collected.

        After an exception, what was finished is in :attr:`collected`, and another ``run()`` goes on from there.

        :raises BulkError: with both lists, where too small a share succeeded.
        :raises Exception: what the source raised, once all that came before is collected.
        """
        well, failed = self._kept_well, self._kept_failed
        try:
            for item in self:
                if item.error is None:
                    well.append(item)
                else:
                    failed.append(item)
        except Exception:
            raise
        except BaseException:
            # What was finished, also by the calls that were waited for, is in hand.
            while self._items or self._fan.done:
                if not self._items:
                    self._unpack()
                else:
                    # No call of our own comes between: at its beginning another interrupt would lose the item.
                    item = self._hand_out()
                    (well if item.error is None else failed).append(item)
            raise
        return self._finished()

    def close(self) -> None:
        """Begin nothing new, cut waits and wait for what is in flight. Whoever comes back goes on where it stopped."""
        try:
            self._fan.close()
        finally:
            self._pause()

    def __enter__(self: BulkT) -> BulkT:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, Exception) or not self._fan.is_stopped:
            self.close()
            return
        # After an interrupt it was waited for what is in flight, unless another one ended that.
        self._fan.dismiss()
        self._pause()
