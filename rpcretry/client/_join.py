"""What waits to go together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

from ..codec import Reader, encode_batch
from ..transport import Exchange, Reply, SharedExchange
from ._join_replies import is_answer, parsed, refusal

__all__ = ["NEAR", "Batch", "Found", "Pending", "SizeTrial", "Trial", "answer", "fields_of", "for_all", "hear", "is_last", "together"]

# Limits of calls of one turn of the loop differ by the time that it took to make the calls. Those that are this near to the last
# one, in seconds, end with the exchange, whose backend knows what was sent. It is less than what the engine allows a timer
# (SLACK): whom the deadline cuts learns that it was the deadline.
NEAR = 0.008

# Where in a trace a call is, as W3C's Trace Context, B3 (both of its forms), Jaeger and AWS X-Ray write it: each call has others,
# and no server answers otherwise for them. An exchange has those of its first call.
TRACE_CONTEXT = frozenset(
    {
        "b3",
        "traceparent",
        "tracestate",
        "uber-trace-id",
        "x-amzn-trace-id",
        "x-b3-flags",
        "x-b3-parentspanid",
        "x-b3-sampled",
        "x-b3-spanid",
        "x-b3-traceid",
    }
)

# A backend's answer that waits for a caller: a reply, what to raise, or what to do instead; see JoiningBackend.exchange.
Found: TypeAlias = "asyncio.Future[Any]"


class Pending:
    """A request that goes out once, for one caller, or for several that ask for the same.

    :ivar exchange: the first caller's exchange: what is sent.
    :ivar first: what the first caller waits on, unless it has left.
    :ivar id: its id, or what stands for it in a notification.
    :ivar key: what other callers find it by, where they may share it.
    :ivar batch: what it travels in.
    """

    __slots__ = ("_others", "batch", "exchange", "first", "id", "key")

    def __init__(self, future: Found, exchange: Exchange, key: object, batch: Batch) -> None:
        self.exchange = exchange
        self.id: object = exchange.ids[0] if exchange.ids else future
        self.key = key
        self.batch = batch
        self.first: Found | None = future
        # Made for those who share it only: this is the way of every joined call.
        self._others: dict[Found, Exchange] | None = None

    def add(self, future: Found, exchange: Exchange) -> None:
        """Another caller waits for it."""
        if self._others is None:
            self._others = {}
        self._others[future] = exchange

    @property
    def is_wanted(self) -> bool:
        """Whether anybody waits for it."""
        return self.first is not None or bool(self._others)

    def callers(self) -> list[tuple[Found, Exchange]]:
        """Who waits for it, each with an exchange of its own."""
        found = [] if self.first is None else [(self.first, self.exchange)]
        return found if self._others is None else [*found, *self._others.items()]

    def drop(self, future: Found) -> bool:
        """A caller waits no more. Returns whether it did."""
        if future is self.first:
            self.first = None
            return True
        return self._others is not None and self._others.pop(future, None) is not None

    def drop_all(self) -> None:
        """Nobody waits any more."""
        self.first = self._others = None


class Batch:
    """Requests that go together.

    :ivar loop: the loop of all who wait.
    :ivar where: what requests must have in common to be in it.
    :ivar pending: the requests for which somebody waits, by their ids.
    :ivar size: bytes of their bodies, with a comma for each.
    :ivar gone: whether it no longer waits for others.
    :ivar timer: what has it go, and later what ends the waiting of those whose time is over before the exchange's.
    :ivar exchange: what was sent; ``None`` before.
    :ivar sent: the requests in it, in order.
    :ivar task: what carries it out.
    :ivar trial: the trial that it belongs to, where it is a part of a batch that was refused.
    :ivar late: the mark of those whose time was over before the exchange's.
    """

    __slots__ = ("exchange", "gone", "late", "loop", "pending", "sent", "size", "task", "timer", "trial", "where")

    def __init__(self, loop: asyncio.AbstractEventLoop, where: object) -> None:
        self.loop = loop
        self.where = where
        self.pending: dict[object, Pending] = {}
        self.size = 1
        self.gone = False
        self.timer: asyncio.Handle | None = None
        self.exchange: Exchange | None = None
        self.sent: list[Pending] = []
        self.task: asyncio.Task[None] | None = None
        self.trial: Trial | None = None
        self.late: SharedExchange | None = None

    @classmethod
    def of(cls, several: Sequence[Pending]) -> Batch:
        """One for requests that go again, or alone; nobody else finds it."""
        batch = cls(several[0].batch.loop, None)
        for pending in several:
            pending.batch = batch
            batch.pending[pending.id] = pending
        return batch

    def empty(self) -> None:
        """Let go of the requests, which point back here: no circle is left for the collector."""
        self.pending.clear()
        self.sent = []

    def stop_timer(self) -> None:
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.cancel()


class Trial:
    """Whether a server that refused a batch takes its members one by one.

    :param refusal: the status or the code of the refusal.
    :param count: how many go one by one.
    :param confirmed: called where some were answered, and none was refused the same way.
    """

    __slots__ = ("_answered", "_confirmed", "_count", "_refused", "refusal")

    def __init__(self, refusal: int, count: int, confirmed: Callable[[int], None]) -> None:
        self.refusal = refusal
        self._count = count
        self._confirmed = confirmed
        self._answered = self._refused = False

    async def perform(self, perform: Callable[[Exchange], Awaitable[Reply]], reader: Reader, exchange: Exchange) -> Reply:
        """Carry one of them out."""
        reply: Reply | None = None
        try:
            reply = await perform(exchange)
        finally:
            self.report(reader, exchange, reply)
        return reply

    def report(self, reader: Reader, exchange: Exchange, reply: object) -> None:
        """What came of one of them; ``None`` where nothing did."""
        if isinstance(reply, Reply):
            if refusal(reader, reply, parsed(reader, reply), frozenset(), alone=True) == self.refusal:
                self._refused = True
            elif is_answer(reader, reply, exchange):
                self._answered = True
        self._count -= 1
        if self._count == 0 and self._answered and not self._refused:
            self._confirmed(self.refusal)


class SizeTrial(Trial):
    """Whether a server that found a batch too large takes less: a 413 may as well be about something else.

    :param refusal: the status or the code of the refusal.
    :param too_large: the statuses and codes that say so.
    :param confirmed: called at each part of the batch that is answered.
    """

    __slots__ = ("_too_large",)

    def __init__(self, refusal: int, too_large: frozenset[int], confirmed: Callable[[int], None]) -> None:
        super().__init__(refusal, 0, confirmed)
        self._too_large = too_large

    def report(self, reader: Reader, exchange: Exchange, reply: object) -> None:
        if isinstance(reply, Reply):
            # To a notification a server may say it in a body that nobody reads.
            refused = refusal(reader, reply, parsed(reader, reply), self._too_large, alone=len(exchange.requests) == 1)
            if refused is None and is_answer(reader, reply, exchange, self._too_large):
                self._confirmed(self.refusal)


def together(several: Sequence[Pending], ends: Sequence[float]) -> tuple[Exchange, bool]:
    """One exchange for all, and whether the time of some of them is over before its own.

    :param ends: when the time of each caller is over.
    """
    near = max(ends) - NEAR
    ends_by = min([end for end in ends if end >= near])
    some_end_earlier = min(ends) < near
    exchanges = [pending.exchange for pending in several]
    requests = tuple([exchange.requests[0] for exchange in exchanges])
    ids = tuple([exchange.ids[0] for exchange in exchanges if exchange.ids])
    return Exchange(encode_batch([exchange.body for exchange in exchanges]), requests, ids, exchanges[0].headers, ends_by), some_end_earlier


def is_last(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether nobody can come after the caller in this turn of the loop; where that is not known, somebody may.

    A turn more would cost a lone call over loopback a twentieth of its time. Tasks of a factory may be started before those
    after them are made, so that nothing that is ready says nothing about them.
    """
    return not getattr(loop, "_ready", True) and loop.get_task_factory() is None


def hear(task: asyncio.Task[None]) -> None:
    """An interrupt has gone through the loop already; nobody asks the task about it."""
    if not task.cancelled():
        task.exception()


def for_all(pending: Pending) -> Exchange:
    """The exchange of a request that goes alone, for as long as the last of its callers waits."""
    own = pending.exchange
    return Exchange(own.body, own.requests, own.ids, own.headers, max([caller.ends_by for _, caller in pending.callers()]))


def fields_of(headers: Mapping[str, str]) -> object:
    """The headers as something to compare: names in any case, and the order of different names, are all the same, and so is
    where in a trace a call is."""
    return tuple(sorted(((name.lower(), value) for name, value in headers.items() if name.lower() not in TRACE_CONTEXT), key=_name))


def _name(field: tuple[str, str]) -> str:
    return field[0]


def answer(future: Found, found: object) -> None:
    """Tell a caller, unless it was cancelled meanwhile."""
    if not future.done():
        future.set_result(found)
