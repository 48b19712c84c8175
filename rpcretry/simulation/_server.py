"""The server: a queue in front of workers, and what goes wrong with it."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from heapq import heappush
from typing import Protocol

from .._unreadable import rejected
from ..errors import ConnectError, ConnectionLostError, HTTPStatusError, JsonRpcError, RpcRetryError, error_class, error_registry
from ..transport import Headers
from ._calls import SimulatedCall
from ._events import Act, Events
from ._model import Change, Server

__all__ = ["Callers", "ServerModel", "work_source"]

# A part of the workers that misses a whole number by less is that number.
NEARLY = 1e-9


class Callers(Protocol):
    """What a server needs of those who call it: what to have happen when something arrives back there."""

    @property
    def answered(self) -> Act: ...
    @property
    def timed_out(self) -> Act: ...
    def failing(self, make: Callable[[], Exception], executed: bool = False) -> Act: ...


def work_source(server: Server, source: random.Random) -> Callable[[], float]:
    """Draws what the mean service time is multiplied by, with a mean of 1."""
    draw, log, exp = source.random, math.log, math.exp
    if server.latency == "constant":
        return lambda: 1.0
    if server.latency == "exponential":
        return lambda: -log(1.0 - draw())
    if server.latency == "lognormal":
        sigma, gauss = 1.0 if server.sigma is None else server.sigma, source.gauss
        # A lognormal's mean is exp(mu + sigma**2 / 2).
        mu = -sigma * sigma / 2
        return lambda: exp(gauss(mu, sigma))
    alpha = 2.5 if server.alpha is None else server.alpha
    # A Pareto's mean is alpha / (alpha - 1) times its least value.
    least, power = (alpha - 1) / alpha, -1 / alpha
    return lambda: least * (1.0 - draw()) ** power


class ServerModel:
    """One server.

    :param spec: what it is like.
    :param events: where it enters what is to happen.
    :param callers: those who call it.
    :param work: what the service time of an attempt is drawn from that brings none of its own.
    :param errors: what decides which executions fail.
    :ivar arrive: what happens when a request arrives.
    :ivar waiting: how many queue.
    :ivar busy: how many it works on.
    :ivar worked: the seconds of work that it has begun.
    :ivar served: how many it has begun to work on.
    :ivar waited: the seconds that those queued.
    """

    __slots__ = (
        "_abandons",
        "_callers",
        "_changes",
        "_down",
        "_error_rate",
        "_errors",
        "_events",
        "_finish",
        "_is_lifo",
        "_mute",
        "_network",
        "_on_error",
        "_on_full",
        "_on_loss",
        "_on_refuse",
        "_on_unavailable",
        "_pace",
        "_queue",
        "_room",
        "_spec",
        "_work",
        "_workers",
        "arrive",
        "busy",
        "dropped",
        "executed",
        "lost",
        "rejected",
        "repeated",
        "served",
        "waited",
        "waiting",
        "wasted",
        "worked",
    )

    def __init__(self, spec: Server, events: Events, callers: Callers, work: Callable[[], float], errors: Callable[[], float]) -> None:
        self._spec = spec
        self._events = events
        self._callers = callers
        self._work = work
        self._errors = errors
        self._queue: deque[tuple[SimulatedCall, int, float]] = deque()
        self._room = math.inf if spec.queue is None else spec.queue
        self._is_lifo = spec.order == "lifo"
        self._abandons = spec.abandons
        self._network = spec.network
        # Bound once: so their events are found.
        self.arrive: Act = self._arrived
        self._finish: Act = self._finished
        self._on_refuse = callers.failing(lambda: ConnectError("the server refuses connections"))
        self._on_unavailable = callers.failing(lambda: self._status(503))
        self._on_full = self._on_refuse if spec.full == "refuse" else self._on_unavailable
        self._on_loss = callers.failing(lambda: ConnectionLostError("the server went down with the request"))
        self._on_error = callers.failing(self._failure, executed=True)
        self._changes: list[Change] = []
        self.waiting = self.busy = self.served = 0
        self.executed = self.wasted = self.repeated = self.rejected = self.lost = self.dropped = 0
        self.waited = self.worked = 0.0
        self._adapt()

    # --- the way of a request ---

    def _arrived(self, now: float, call: SimulatedCall, flight: int) -> None:
        down = self._down
        if down is not None:
            self._turn_away(now, call, flight, down)
        elif self.busy < self._workers:
            finishes = self._serve(now, call, flight)
            # Whoever gets an answer in time needs no alarm.
            if call.flight == flight and finishes + self._network > call.ends_by:
                self._events.at(call.ends_by, self._callers.timed_out, call, flight)
        elif self._abandons and call.flight != flight:
            self.dropped += 1
        elif self.waiting < self._room:
            self.waiting += 1
            if call.flight == flight:
                call.queued = flight
                if call.ends_by < math.inf:
                    self._events.at(call.ends_by, self._callers.timed_out, call, flight)
            self._queue.append((call, flight, now))
        else:
            self.rejected += 1
            self._events.at(now + self._network, self._on_full, call, flight)

    def _turn_away(self, now: float, call: SimulatedCall, flight: int, down: str) -> None:
        if down == "hang":
            self.lost += 1
            if call.flight == flight and call.ends_by < math.inf:
                self._events.at(call.ends_by, self._callers.timed_out, call, flight)
            return
        self.rejected += 1
        self._events.at(now + self._network, self._on_refuse if down == "refuse" else self._on_unavailable, call, flight)

    def _serve(self, now: float, call: SimulatedCall, flight: int) -> float:
        work, call.work = call.work, None
        seconds = (self._work() if work is None else work) * self._pace
        self.busy += 1
        self.served += 1
        self.worked += seconds
        events, finishes = self._events, now + seconds
        heappush(events.heap, (finishes, events.tie(), self._finish, call, flight))
        return finishes

    def _finished(self, now: float, call: SimulatedCall, flight: int) -> None:
        self.busy -= 1
        self.executed += 1
        if not call.is_safe:
            self.repeated += call.executions > 0
            call.executions += 1
        failed = self._error_rate > 0 and self._errors() < self._error_rate
        if self._mute or call.flight != flight:
            self.wasted += 1
        else:
            events = self._events
            heappush(events.heap, (now + self._network, events.tie(), self._on_error if failed else self._callers.answered, call, flight))
        if self._queue:
            self._take(now)

    def _take(self, now: float) -> None:
        """Work on those that queue, as far as there are workers."""
        queue = self._queue
        while queue and self.busy < self._workers:
            call, flight, since = queue.pop() if self._is_lifo else queue.popleft()
            gone = call.queued != flight
            if not gone:
                call.queued = 0
            elif self._abandons:
                continue
            self.waiting -= 1
            self.waited += now - since
            self._serve(now, call, flight)

    def hung_up(self, call: SimulatedCall, flight: int) -> None:
        """The caller of a request has gone."""
        if call.queued == flight:
            call.queued = 0
            if self._abandons:
                # It stays where it is in the queue until its turn, and no longer counts.
                self.waiting -= 1
                self.dropped += 1

    # --- what goes wrong ---

    def change(self, now: float, change: Change, begins: int) -> None:
        """*change* begins, or is over where *begins* is 0."""
        if change.restart:
            self._lose(now)
            return
        if begins:
            self._changes.append(change)
        else:
            self._changes.remove(change)
        before = self._down
        self._adapt()
        if self._down != before and self._down == "hang":
            self._fall_silent()
        elif self._down != before and self._down is not None:
            self._lose(now)
        self._take(now)

    def _adapt(self) -> None:
        spec, changes = self._spec, self._changes
        part = slower = 1.0
        well = 1.0 - spec.error_rate
        self._down: str | None = None
        for change in changes:
            part *= 1.0 if change.capacity is None else change.capacity
            slower *= 1.0 if change.latency is None else change.latency
            well *= 1.0 if change.error_rate is None else 1.0 - change.error_rate
            self._down = self._down if change.down is None else change.down
        workers = spec.workers * part
        self._workers = max(1, math.ceil(workers - NEARLY))
        self._pace = spec.service_time * slower * self._workers / workers
        self._error_rate = 1.0 - well
        self._mute = self._down == "hang"

    def _fall_silent(self) -> None:
        # An answer that was to come in time had no alarm.
        for _, _, _, call, flight in self._events.of(self._finish):
            if call.flight == flight and call.ends_by < math.inf:
                self._events.at(call.ends_by, self._callers.timed_out, call, flight)

    def _lose(self, now: float) -> None:
        held = self._events.take(self._finish)
        for finishes, _, _, call, flight in held:
            self.worked -= finishes - now
            self._events.at(now + self._network, self._on_loss, call, flight)
        self.lost += self.busy + self.waiting
        self.busy = self.waiting = 0
        while self._queue:
            call, flight, _ = self._queue.popleft()
            if call.queued == flight:
                call.queued = 0
            self._events.at(now + self._network, self._on_loss, call, flight)

    # --- what it answers ---

    def _status(self, status: int) -> RpcRetryError:
        after = self._spec.retry_after
        headers = Headers({"Retry-After": f"{after:.6f}".rstrip("0").rstrip(".")} if after is not None and status == 503 else {})
        return HTTPStatusError(f"HTTP {status}", status=status, headers=headers, delivery=rejected(status, headers))

    def _failure(self) -> RpcRetryError:
        error = self._spec.error
        if 400 <= error <= 599:
            return self._status(error)
        found: type[JsonRpcError] = error_class(REGISTRY, error)
        return found("the server failed", code=error, status=200)

    # --- the end ---

    def close(self, now: float) -> None:
        """The run ends: what it has begun and not done is no work that it did."""
        for finishes, _, _, _, _ in self._events.of(self._finish):
            self.worked -= finishes - now


REGISTRY = error_registry()
