"""The backend that joins exchanges."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .._encoding import without_id
from ..codec import Reader
from ..context import RUNNING
from ..errors import ClientClosedError, Delivery, RequestTimeoutError, TransportError
from ..events import logger
from ..messages import fresh
from ..retry.strategy import _idempotency
from ..transport import AsyncBackend, Exchange, Reply, SharedExchange
from ._join import NEAR, Batch, Found, Pending, SizeTrial, Trial, answer, fields_of, for_all, hear, is_last, together
from ._join_replies import FailedReply, JoinedReply, copied, marked, read_joined, says_little, without_frames
from .core import CLOSED_MEANWHILE

if TYPE_CHECKING:
    from .joining import Joining

__all__ = ["JoiningBackend"]

# What a caller finds instead of an answer: that it is to make its exchange itself, or to ask once more.
ALONE, AGAIN = object(), object()


class JoiningBackend:
    """An async backend around another: single exchanges that come at the same time go through it as one.

    :param backend: what carries the exchanges.
    :param joining: how they are joined.
    :param reader: reads the replies.
    :param clock: the clock of ``ends_by``.
    :param too_large: the HTTP statuses and JSON-RPC codes by which a server says that it did nothing of a batch because it is too large.
    """

    def __init__(
        self,
        backend: AsyncBackend,
        joining: Joining,
        reader: Reader,
        *,
        clock: Callable[[], float] = time.monotonic,
        too_large: frozenset[int] = frozenset({413}),
    ) -> None:
        self._backend = backend
        self._perform = backend.exchange
        self._reader = reader
        self._clock = clock
        self._too_large = too_large
        self._max_size, self._max_delay, self._max_bytes = joining.max_size, joining.max_delay, joining.max_bytes
        names, self._globs = _idempotency(joining.dedupe)
        self._names: frozenset[str] = names if isinstance(names, frozenset) else frozenset()
        self._joins = True
        self._closed = False
        # By loop and headers: those that wait to go, and by the request, too, those that others may share.
        self._open: dict[object, Batch] = {}
        self._shareable: dict[object, Pending] = {}
        # A loop keeps no task alive.
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<joining {self._backend!r}>"

    async def aclose(self) -> None:
        """Close this and the backend: what waits to go ends in :class:`~rpcretry.ClientClosedError`, what is under way as the backend has it."""
        self._closed = True
        for batch in list(self._open.values()):
            self._forget(batch)
            batch.gone, waiting = True, list(batch.pending.values())
            batch.empty()
            self._withdraw(waiting, ClientClosedError("the client was closed before the call was sent; close it after the last call"))
        await self._backend.aclose()

    async def exchange(self, exchange: Exchange, /) -> Reply:
        """Carry *exchange* out, together with others where there are some."""
        # A batch of one request is an array, too.
        if len(exchange.requests) != 1 or exchange.body[:1] != b"{":
            return await self._perform(exchange)
        body = self._body_to_share(exchange) if self._names or self._globs else None
        while True:
            if self._closed:
                raise ClientClosedError("this client was closed; make another, or close it after the last call")
            if body is None and not (self._joins and len(exchange.body) + 2 <= self._max_bytes):
                return await self._perform(exchange)
            loop = asyncio.get_running_loop()
            if body is None and not self._max_delay and is_last(loop):
                return await self._perform(exchange)
            future: Found = loop.create_future()
            pending, leads = self._enter(loop, future, exchange, body)
            try:
                if leads is not None:
                    # All who call in this turn of the loop have come by then. A caller that finds itself alone has lost no more time.
                    await asyncio.sleep(0)
                    self._flush(leads)
                found = await future
            except BaseException:
                self._leave(pending, future)
                if leads is not None:
                    self._flush(leads)
                raise
            # What is raised from here on holds this frame, and is not to hold the others' requests, or itself.
            del future, pending, leads
            if isinstance(found, JoinedReply):
                return found
            if isinstance(found, Exception):
                try:
                    raise found
                finally:
                    del found
            if found is ALONE and not self._closed:
                return await self._perform(exchange)
            if isinstance(found, Trial) and not self._closed:
                return await found.perform(self._perform, self._reader, exchange)

    # --- coming and leaving ---

    def _body_to_share(self, exchange: Exchange) -> bytes | None:
        """What calls have in common that may share an answer; ``None`` for one that may not."""
        method = exchange.requests[0].method
        if not exchange.ids or not (method in self._names or any(glob.match(method) for glob in self._globs)):
            return None
        return without_id(self._reader.codec, exchange.ids[0], exchange.body)

    def _enter(self, loop: asyncio.AbstractEventLoop, future: Found, exchange: Exchange, body: bytes | None) -> tuple[Pending, Batch | None]:
        where: object = (loop, fields_of(exchange.headers)) if exchange.headers else loop
        key = None if body is None else (where, body)
        pending = None if key is None else self._shareable.get(key)
        if pending is not None:
            pending.add(future, exchange)
            sent = pending.batch.exchange
            if sent is not None and exchange.ends_by < sent.ends_by:
                self._watch(pending.batch)
            return pending, None
        size = len(exchange.body) + 1
        id = exchange.ids[0] if exchange.ids else future
        joins = self._joins and size < self._max_bytes
        batch = self._open.get(where) if joins else None
        if batch is not None and (batch.size + size > self._max_bytes or id in batch.pending):
            self._flush(batch)
            batch = None
        leads = None
        if batch is None:
            batch = Batch(loop, where)
            if self._max_delay and joins:
                # Before others can find it, so that nobody waits in one that never goes.
                batch.timer = loop.call_later(self._max_delay, self._flush, batch)
            elif joins:
                leads = batch
        batch.pending[id] = pending = Pending(future, exchange, key, batch)
        batch.size += size
        if key is not None:
            self._shareable[key] = pending
        if not joins or len(batch.pending) >= self._max_size:
            self._flush(batch)
            return pending, None
        if self._max_delay and exchange.ends_by - self._clock() <= self._max_delay:
            # Its time would be over before the others go, so that they go in this turn.
            leads = batch
        self._open[where] = batch
        return pending, leads

    def _leave(self, pending: Pending, future: Found) -> None:
        """A caller goes without an answer. What nobody waits for any more is not sent, or not waited for."""
        if not pending.drop(future):
            found = future.result() if future.done() and not future.cancelled() else None
            if isinstance(found, Trial):
                found.report(self._reader, pending.exchange, None)
        elif not pending.is_wanted:
            self._close_to_others(pending)
            batch = pending.batch
            if batch.pending.pop(pending.id, None) is not None:
                batch.size -= len(pending.exchange.body) + 1
            if not batch.pending:
                self._forget(batch)
                batch.empty()
                if batch.task is not None:
                    batch.task.cancel()

    def _close_to_others(self, pending: Pending) -> None:
        if pending.key is not None and self._shareable.get(pending.key) is pending:
            del self._shareable[pending.key]

    def _forget(self, batch: Batch) -> None:
        if self._open.get(batch.where) is batch:
            del self._open[batch.where]
        batch.stop_timer()

    # --- going ---

    def _flush(self, batch: Batch) -> None:
        """Send what waits in *batch*."""
        if batch.gone:
            return
        waiting = list(batch.pending.values())
        try:
            self._forget(batch)
            batch.gone = True
            self._send(batch, Delivery.NOT_SENT)
        except BaseException as problem:
            # An interrupt in a loop's callback ends the loop's run, and perhaps not the loop: those who wait must not do so for ever.
            batch.empty()
            self._withdraw(waiting, TransportError(f"sending the joined calls was cut short by {type(problem).__name__}"))
            if not isinstance(problem, Exception):
                raise

    def _send(self, batch: Batch, unsent: Delivery) -> None:
        joins = self._joins and len(batch.pending) > 1
        ends = self._end_late(batch, "the attempt ended before the request was sent", unsent) if joins else []
        batch.sent = list(batch.pending.values())
        if not joins or len(batch.sent) < 2:
            self._send_alone(batch.sent, batch.trial)
            batch.empty()
            return
        exchange, some_end_earlier = together(batch.sent, ends)
        self._start(batch, exchange)
        if some_end_earlier:
            self._watch(batch)

    def _send_alone(self, several: Sequence[Pending], trial: Trial | None) -> None:
        for pending in several:
            if pending.key is None:
                for future, _ in self._taken(pending):
                    answer(future, ALONE if trial is None else trial)
                continue
            # Its caller may leave while others wait for it.
            batch = Batch.of([pending])
            batch.sent, batch.trial = [pending], trial
            self._start(batch, for_all(pending))
            self._watch(batch)

    def _send_again(self, several: Sequence[Pending], trial: Trial) -> None:
        if self._closed:
            self._withdraw(several, ClientClosedError(CLOSED_MEANWHILE))
        elif several:
            batch = Batch.of(several)
            batch.trial = trial
            self._send(batch, Delivery.REJECTED)

    def _start(self, batch: Batch, exchange: Exchange) -> None:
        batch.exchange = exchange
        # It is the attempt of no one call, and not of the one that happened to be the first.
        context = contextvars.copy_context()
        context.run(RUNNING.set, None)
        batch.task = task = batch.loop.create_task(self._carry(batch, exchange), context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(hear)

    # --- waiting for the answer ---

    def _watch(self, batch: Batch) -> None:
        """Have those end in time whose time is over before the exchange's."""
        batch.stop_timer()
        limit = math.inf if batch.exchange is None else batch.exchange.ends_by
        earliest = min([own.ends_by for pending in batch.pending.values() for _, own in pending.callers()], default=math.inf)
        if earliest < limit:
            batch.timer = batch.loop.call_later(max(0.0, earliest - self._clock()), self._expire, batch)

    def _expire(self, batch: Batch) -> None:
        try:
            self._end_late(batch, "the answer to the joined calls took too long", Delivery.MAYBE_EXECUTED)
        finally:
            self._watch(batch)

    def _end_late(self, batch: Batch, message: str, delivery: Delivery) -> list[float]:
        """End the waiting of those whose time is over. Returns when that of each of the others is."""
        now, ends = self._clock(), []
        for pending in list(batch.pending.values()):
            for future, own in pending.callers():
                ends_by = own.ends_by
                # One that was cancelled in this turn has yet to hear of it.
                if ends_by <= now or future.done():
                    self._leave(pending, future)
                    # Those that are cut off count once, too, and not as what the exchange comes to in the end.
                    batch.late = late = batch.late or SharedExchange()
                    answer(future, marked(RequestTimeoutError(message, delivery=delivery), late))
                else:
                    ends.append(ends_by)
        return ends

    async def _carry(self, batch: Batch, exchange: Exchange) -> None:
        shared, reply = SharedExchange(), None
        try:
            try:
                reply = await self._perform(exchange)
                if not isinstance(reply, Reply):
                    raise TypeError(f"a backend's exchange must return a Reply, it returned {type(reply).__name__} {reply!r:.60}")
            except Exception as problem:
                self._fail(batch, exchange, problem, shared)
            else:
                # A backend that does not let itself be cancelled may answer when nobody waits any more.
                if batch.pending:
                    self._receive(batch, exchange, reply, shared)
        except asyncio.CancelledError:
            # By whom ever it was cancelled while somebody waited, their calls are.
            self._withdraw(batch.sent, None)
            raise
        except BaseException as problem:
            self._withdraw(batch.sent, TransportError(f"the exchange of the joined calls was cut short by {type(problem).__name__}"))
            raise
        finally:
            self._forget(batch)
            batch.empty()
            if batch.trial is not None:
                batch.trial.report(self._reader, exchange, reply)

    def _fail(self, batch: Batch, exchange: Exchange, problem: Exception, shared: SharedExchange) -> None:
        without_frames(problem)
        in_time = not isinstance(problem, TimeoutError) or self._clock() < exchange.ends_by - NEAR
        for pending in batch.sent:
            for future, own in self._taken(pending):
                # One who came later to share it may have time left, and has sent nothing.
                answer(future, marked(fresh(problem), shared) if in_time or own.ends_by <= exchange.ends_by + NEAR else AGAIN)

    def _receive(self, batch: Batch, exchange: Exchange, reply: Reply, shared: SharedExchange) -> None:
        sent = batch.sent
        refused, values = read_joined(self._reader, reply, exchange, self._too_large)
        if refused is not None:
            self._resend(exchange, [pending for pending in sent if pending.is_wanted], refused, reply)
            return
        # What says the most about the server comes first, and speaks for the exchange where it counts once.
        later: list[tuple[Pending, Any]] = []
        for pending, value in zip(sent, values, strict=True):
            if isinstance(value, Exception) or not pending.exchange.ids:
                later.append((pending, value))
            else:
                self._hand_out(pending, value, reply, shared)
        for pending, value in sorted(later, key=says_little):
            self._hand_out(pending, marked(value, shared) if isinstance(value, Exception) else value, reply, shared)

    def _resend(self, exchange: Exchange, several: list[Pending], refused: int, reply: Reply) -> None:
        """The server did nothing: send the same requests in another way."""
        if refused in self._too_large:
            # By a code servers mean the number of requests.
            by_status = refused == reply.status
            size = self._max_size if by_status else (len(exchange.requests) + 1) // 2
            most = max(len(exchange.body) // 2, 1) if by_status else self._max_bytes
            trial = SizeTrial(refused, self._too_large, functools.partial(self._join_less, size, most))
            middle = (len(several) + 1) // 2
            self._send_again(several[:middle], trial)
            self._send_again(several[middle:], trial)
        else:
            self._send_alone(several, Trial(refused, len(several), self._stop_joining))

    def _join_less(self, size: int, most: int, refused: int) -> None:
        if size < self._max_size or most < self._max_bytes:
            self._max_size, self._max_bytes = size, most = min(size, self._max_size), min(most, self._max_bytes)
            logger.warning("the server takes smaller batches only (%d): from now on %d requests and %d bytes are joined at most", refused, size, most)

    def _stop_joining(self, refused: int) -> None:
        if self._joins:
            self._joins = False
            logger.warning("the server turns batches away (%d) and answers single requests: calls are no longer joined", refused)

    # --- giving answers ---

    def _taken(self, pending: Pending) -> list[tuple[Found, Exchange]]:
        self._close_to_others(pending)
        callers = pending.callers()
        pending.drop_all()
        return callers

    def _hand_out(self, pending: Pending, value: Any, reply: Reply, shared: SharedExchange) -> None:
        codec, mine = self._reader.codec, value
        kind = FailedReply if isinstance(value, Exception) else JoinedReply
        if pending.key is None:
            # The way of every joined call.
            future, pending.first, ids = pending.first, None, pending.exchange.ids
            if future is not None and not future.done():
                future.set_result(kind(reply, codec, ids[0] if ids else None, value, shared))
            return
        for place, (future, own) in enumerate(self._taken(pending)):
            if place:
                try:
                    mine = copied(value)
                except Exception:
                    # Nested too deeply, perhaps.
                    answer(future, ALONE)
                    continue
            answer(future, kind(reply, codec, own.ids[0], mine, shared))

    def _withdraw(self, several: Iterable[Pending], problem: Exception | None) -> None:
        """Nothing comes for these any more."""
        for pending in several:
            for future, _ in self._taken(pending):
                # One whose loop is gone waits no more.
                with contextlib.suppress(RuntimeError):
                    if problem is None:
                        future.cancel()
                    else:
                        answer(future, fresh(problem))
