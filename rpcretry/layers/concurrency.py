"""At most so many exchanges out at once."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from .._check import count, seconds, text
from ..errors import LimitReachedError
from ..outcome import Attempt, Outcome, Wait
from ..retry.layer import Layer
from ._names import checks_names

__all__ = ["ConcurrencyLimit"]

# What other libraries and in-house helpers call our parameters.
_SYNONYMS = {
    "capacity": "limit",
    "concurrency": "limit",
    "max_concurrency": "limit",
    "max_concurrent": "limit",
    "max_concurrent_calls": "limit",
    "max_parallelization": "limit",
    "max_queue": "max_waiting",
    "max_queuing_actions": "max_waiting",
    "max_wait_duration": "max_wait, in seconds",
    "permits": "limit",
    "queue_size": "max_waiting",
    "timeout": "max_wait",
    "value": "limit",
}


class _Queued:
    """One in the queue, or granted a place.

    :ivar gives_up: when it has waited too long.
    :ivar left: whether it wants no place any more.
    """

    __slots__ = ("gives_up", "left", "wake")

    def __init__(self, wake: Callable[[], None], gives_up: float) -> None:
        self.wake = wake
        self.gives_up = gives_up
        self.left = False


def first_of(queue: OrderedDict[Attempt, Any]) -> Attempt | None:
    """The head of *queue*, also where something that runs within this call changes it."""
    while True:
        try:
            return next(iter(queue), None)
        except RuntimeError:
            continue


@checks_names(_SYNONYMS)
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
        # As long as somebody is in it every place is taken.
        self._queue: OrderedDict[Attempt, _Queued] = OrderedDict()
        # Those whose wake has not returned yet: an interrupt may have hit it, and then the next to leave wakes them.
        self._granted: dict[Attempt, _Queued] = {}
        # The thread that holds it may come back: the collector closes a dead coroutine, which abandons its attempt, and a
        # signal handler may make a call. So whatever is read under it is looked at again after it was acted on.
        self._lock = threading.RLock()

    @property
    def in_use(self) -> int:
        """How many places are taken."""
        return len(self._inside)

    @property
    def waiting(self) -> int:
        """How many are in the queue."""
        return len(self._queue)

    def admit(self, attempt: Attempt, now: float) -> Wait | None:
        refused = False
        with self._lock:
            inside, queue = self._inside, self._queue
            if attempt not in inside:
                if not queue and len(inside) < self.limit:
                    inside.add(attempt)
                    return None
                queued = queue.get(attempt)
                if queued is None:
                    gives_up = math.inf if self.max_wait is None else now + self.max_wait
                    refused = self.max_waiting is not None and len(queue) >= self.max_waiting and len(inside) >= self.limit
                else:
                    gives_up = queued.gives_up
                    refused = now >= gives_up
                if not refused:
                    # Anew each time, since the engine drops the parking of a wait that is over; the place in the queue stays.
                    queue[attempt] = _Queued(attempt.park(), gives_up)
                    self._grant()
            if refused or attempt in inside:
                queue.pop(attempt, None)
            if attempt in inside:
                self._granted.pop(attempt, None)
                attempt.parking, refused = None, False
                wait = None
            elif not refused:
                wait = Wait(gives_up, "concurrency limit")
        if self._granted:
            self._wake()
        if not refused:
            return wait
        why = f"the queue is full, max_waiting={self.max_waiting}" if queued is None else f"no place became free within max_wait={self.max_wait:g} s"
        raise LimitReachedError(f"concurrency limit {self.name!r}: {self.limit} exchanges are out, and {why}", name=self.name)

    def settle(self, attempt: Attempt, outcomes: Sequence[Outcome], now: float) -> None:
        self.abandon(attempt, now)

    def abandon(self, attempt: Attempt, now: float) -> None:
        with self._lock:
            if not self._queue and not self._granted:
                self._inside.discard(attempt)
            else:
                # Out of the queue first, or it could be granted a place after it gave back the one that it had. Also where
                # it held none: an interrupt may have ended an earlier call of this in the middle.
                for found in (self._queue.pop(attempt, None), self._granted.pop(attempt, None)):
                    if found is not None:
                        found.left = True
                self._inside.discard(attempt)
                self._grant()
        if self._granted:
            self._wake()

    def _grant(self) -> None:
        """Give the free places to the first in the queue. In it until it has its place, nobody is ever in neither."""
        inside, queue = self._inside, self._queue
        while queue and len(inside) < self.limit:
            following = first_of(queue)
            queued = None if following is None else queue.get(following)
            if following is None or queued is None:
                continue
            self._granted[following] = queued
            inside.add(following)
            queue.pop(following, None)
            if queued.left:
                # It was abandoned within this call, before it had the place.
                self._granted.pop(following, None)
                inside.discard(following)

    def _wake(self) -> None:
        # A copy is made in one step.
        for following, queued in self._granted.copy().items():
            queued.wake()
            self._granted.pop(following, None)

    def __repr__(self) -> str:
        return f"<ConcurrencyLimit {self.name!r}: {self.in_use} of {self.limit} out, {self.waiting} waiting>"
