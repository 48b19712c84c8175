"""Time that passes only when somebody waits."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import heapq
import itertools
import operator
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

__all__ = ["VirtualTime"]

# Turns of an event loop with nothing else to do before its tasks count as waiting: one for what the selector has found
# meanwhile, and one for what that wakes.
IDLE = 3
# Turns after which they do so anyway: a task may be polling without end.
MOST = 200

# On a clock of this many seconds the digits after the microsecond are noise.
COARSE = 1e5

BY_REAL = operator.itemgetter(0)


class VirtualTime:
    """A clock that stands still until somebody sleeps.

    Give its parts to a client: ``Client(backend, clock=time.clock, sleep=time.sleep)``, or ``sleep=time.asleep``
    for an :class:`~rpcretry.AsyncClient`. Or :meth:`install` it for everything that was given no clock.

    :ivar delays: the seconds of every sleep, in the order in which they began.
    """

    def __init__(self, start: float = 1_000.0) -> None:
        self._now = start
        self._lock = threading.RLock()
        # While installed: the real and the virtual moments of its changes.
        self._changes: list[tuple[float, float]] | None = None
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Waits] = weakref.WeakKeyDictionary()
        self.delays: list[float] = []

    @property
    def now(self) -> float:
        """Seconds on this clock; may be set."""
        return self._now

    @now.setter
    def now(self, seconds: float) -> None:
        with self._lock:
            self._now = seconds
            if self._changes is not None:
                self._changes.append((time.monotonic(), seconds))

    def __repr__(self) -> str:
        return f"<VirtualTime {self._now:g}, {len(self.delays)} sleeps>"

    def clock(self) -> float:
        """Seconds on this clock."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass without anybody sleeping: an exchange that takes that long."""
        with self._lock:
            self.now += seconds

    def reach(self, moment: float) -> None:
        """Let time pass until *moment* on this clock; nothing happens where that is over."""
        with self._lock:
            if moment > self._now:
                self.now = moment

    def sleep(self, seconds: float) -> None:
        """Wait at once."""
        self._note(seconds)
        self.advance(seconds)

    async def asleep(self, seconds: float) -> None:
        """Wait at once, for an async client."""
        self.sleep(seconds)

    async def sleep_together(self, seconds: float) -> None:
        """Wait as tasks do under :meth:`install`: those that sleep at the same time do so together. The next one to wake is the
        one whose time comes first, once all tasks of the loop wait for something."""
        self._note(seconds)
        await self.pass_until(self._now + seconds)

    async def pass_until(self, moment: float) -> None:
        """Wait until *moment* on this clock, as :meth:`sleep_together` does, without its being one of :attr:`delays`."""
        loop = asyncio.get_running_loop()
        waits = self._loops.get(loop)
        if waits is None:
            waits = self._loops[loop] = _Waits(self, loop)
        await waits.until(moment)

    def _note(self, seconds: float) -> None:
        # Waits are differences of times, and their last digits are noise.
        self.delays.append(round(seconds, 9 if self._now < COARSE else 6))

    @contextlib.contextmanager
    def install(self) -> Iterator[VirtualTime]:
        """Have every client, retried function, circuit breaker and rate limit that was given no clock and no sleep go by this
        time, whenever it was made, in all threads, for as long as the context lasts. A clock or a sleep of the user's stays.

        Only waits are virtual. An exchange, or an async function with a ``timeout``, that really takes long ends by the
        real clock. :attr:`now` first comes up to the real clock, so that what happened before is over.
        """
        from ._installed import enter, leave

        enter(self)
        try:
            yield self
        finally:
            leave(self)

    # --- for what installs it ---

    def _begin(self, moment: float) -> None:
        """Come up to *moment* and note from now on when what changes."""
        with self._lock:
            if self._changes is None:
                self._changes = []
                self.now = max(self._now, moment)

    def _end(self) -> None:
        """Note nothing more."""
        self._changes = None

    def _at(self, real: float) -> float:
        """What this clock said when the real one said *real*."""
        with self._lock:
            changes = self._changes
            if not changes:
                return self._now
            place = bisect.bisect_right(changes, real, key=BY_REAL)
            if place:
                return changes[place - 1][1]
            began, first = changes[0]
            return first - (began - real)


class _Waits:
    """What the tasks of one loop wait for."""

    def __init__(self, clock: VirtualTime, loop: asyncio.AbstractEventLoop) -> None:
        # Neither may keep the other from being collected.
        self._clock = weakref.ref(clock)
        self._loop = weakref.ref(loop)
        self._number = itertools.count()
        self._queue: list[tuple[float, int, asyncio.Future[None]]] = []
        self._turns = self._idle = 0

    async def until(self, moment: float) -> None:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        if not self._queue:
            loop.call_soon(self._look)
        heapq.heappush(self._queue, (moment, next(self._number), waiter))
        self._turns = self._idle = 0
        await waiter

    def _look(self) -> None:
        loop, clock = self._loop(), self._clock()
        if loop is None or clock is None:
            return
        # Of a loop that does not show what is ready, a few turns more are waited for.
        ready: Any = getattr(loop, "_ready", None)
        self._turns += 1
        self._idle = 0 if ready else self._idle + 1
        if self._turns < MOST and self._idle < (IDLE if ready is not None else 4 * IDLE):
            loop.call_soon(self._look)
            return
        self._turns = self._idle = 0
        queue = self._queue
        while queue and queue[0][2].done():
            heapq.heappop(queue)
        if queue:
            clock.reach(queue[0][0])
        while queue and queue[0][0] <= clock.now:
            waiter = heapq.heappop(queue)[2]
            if not waiter.done():
                waiter.set_result(None)
        if queue:
            loop.call_soon(self._look)
