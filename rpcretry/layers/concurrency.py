"""At most so many exchanges out at once."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from .._check import count, seconds, text
from ..errors import LimitReachedError
from ..outcome import Attempt, Outcome, Wait
from ..retry.layer import Layer

__all__ = ["ConcurrencyLimit"]


class ConcurrencyLimit(Layer):
    """Lets at most *limit* exchanges out at once, a bulkhead: a slow server ties up that many callers and no more.

    The others queue, first come, first served: a place that becomes free goes to the first in the queue, and nobody who
    comes later can take it. A call that waits before a retry holds no place meanwhile. One limit may serve any number of
    clients and functions, threads and tasks.

    :param limit: how many exchanges may be out at once; a batch is one.
    :param max_waiting: how many may queue; 0 to refuse at once, ``None`` for any number.
    :param max_wait: seconds that one may queue; ``None`` for as long as it takes, or until the call's deadline.
    :param name: what it is called in errors.
    :raises TypeError, ValueError: naming the parameter, its value and the fix.

    ``admit`` raises :class:`~rpcretry.LimitReachedError` where the queue is full, or the wait was too long.
    """

    def __init__(self, limit: int, *, max_waiting: int | None = None, max_wait: float | None = None, name: str = "default") -> None:
        self.limit = count("limit", limit, least=1)
        self.max_waiting = None if max_waiting is None else count("max_waiting", max_waiting)
        self.max_wait = seconds("max_wait", max_wait)
        self.name = text("name", name)
        # Those that are out, and those that were granted a place and are about to hear of it.
        self._inside: set[Attempt] = set()
        # As long as somebody is in it every place is taken. Each with its wake, and the time when it gives up.
        self._queue: OrderedDict[Attempt, tuple[Callable[[], None], float]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def in_use(self) -> int:
        """How many places are taken."""
        return len(self._inside)

    @property
    def waiting(self) -> int:
        """How many are in the queue."""
        return len(self._queue)

    def admit(self, attempt: Attempt, now: float) -> Wait | None:
        with self._lock:
            inside = self._inside
            if attempt in inside:
                return None
            if len(inside) < self.limit:
                inside.add(attempt)
                return None
            queued = self._queue.get(attempt)
            if queued is None:
                gives_up = math.inf if self.max_wait is None else now + self.max_wait
                refused = self.max_waiting is not None and len(self._queue) >= self.max_waiting
            else:
                gives_up = queued[1]
                refused = now >= gives_up
            if not refused:
                # Anew each time, since the engine drops the parking of a wait that is over; the place in the queue stays.
                self._queue[attempt] = (attempt.park(), gives_up)
                return Wait(gives_up, "concurrency limit")
            self._queue.pop(attempt, None)
        why = f"the queue is full, max_waiting={self.max_waiting}" if queued is None else f"no place became free within max_wait={self.max_wait:g} s"
        raise LimitReachedError(f"concurrency limit {self.name!r}: {self.limit} exchanges are out, and {why}", name=self.name)

    def settle(self, attempt: Attempt, outcomes: Sequence[Outcome], now: float) -> None:
        self.abandon(attempt, now)

    def abandon(self, attempt: Attempt, now: float) -> None:
        with self._lock:
            if attempt not in self._inside:
                self._queue.pop(attempt, None)
                return
            self._inside.discard(attempt)
            if not self._queue:
                return
            following, (wake, _) = self._queue.popitem(last=False)
            self._inside.add(following)
        wake()

    def __repr__(self) -> str:
        return f"<ConcurrencyLimit {self.name!r}: {self.in_use} of {self.limit} out, {self.waiting} waiting>"
