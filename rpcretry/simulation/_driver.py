"""The third driver: where the others wait in a thread or a task, it enters an event. It decides nothing."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from heapq import heappush

from ..errors import RequestTimeoutError
from ..outcome import Attempt, Wait
from ..retry.engine import OK, Step
from ._calls import Process, SimulatedCall, WriteCall
from ._events import Act, Events
from ._server import ServerModel
from ._tally import Tally

__all__ = ["Driver"]


class Driver:
    """Makes calls and does what their engines ask for.

    :param events: where it enters what is to happen.
    :param processes: those that the clients are spread over, in turn.
    :param network: seconds that a request is on its way.
    :param tally: what counts.
    :ivar server: whom they call; to be set before the first call.
    :ivar ended: told the time and the client, if anybody wants to know when one of its calls ended.
    """

    __slots__ = ("_events", "_network", "_processes", "_tally", "answered", "ended", "server", "timed_out")

    server: ServerModel

    def __init__(self, events: Events, processes: Sequence[Process], network: float, tally: Tally) -> None:
        self._events = events
        self._processes = processes
        self._network = network
        self._tally = tally
        # Bound once, and not for each event.
        self.answered: Act = self._answered
        self.timed_out: Act = self._timed_out
        self.ended: Callable[[float, int], object] | None = None

    def begin(self, now: float, client: int, work: float | None, *, safe: bool = True) -> None:
        """A client begins a call."""
        process = self._processes[client % len(self._processes)]
        tally = self._tally
        call = SimulatedCall(process.read, client, tally.step, work) if safe else WriteCall(process.write, client, tally.step, work)
        tally.calls += 1
        step = call.start(now)
        if step is None:
            self._send(now, call, call.ends_by)
        else:
            self._follow(now, call, step)

    def _follow(self, now: float, call: SimulatedCall, step: Step) -> None:
        if isinstance(step, Attempt):
            self._send(now, call, step.ends_by)
        elif isinstance(step, Wait):
            self._pause(now, call, step)
        else:
            error = call.take()
            if error is None:
                self._tally.succeed(now, call)
            else:
                self._tally.fail(now, call, error)
            if self.ended is not None:
                self.ended(now, call.client)

    def _send(self, now: float, call: SimulatedCall, ends_by: float) -> None:
        events = self._events
        self._tally.attempts += 1
        call.flight = flight = call.flight + 1
        call.ends_by = ends_by
        arrives = now + self._network
        heappush(events.heap, (arrives, events.tie(), self.server.arrive, call, flight))
        if arrives + self._network > ends_by:
            # However fast the server is.
            events.at(ends_by, self.timed_out, call, flight)

    def _pause(self, now: float, call: SimulatedCall, wait: Wait) -> None:
        events, parking = self._events, call.parking
        call.flight = flight = call.flight + 1
        if wait.until < math.inf:
            events.at(max(wait.until, now), self._resume, call, flight)
        if parking is not None:
            parking.on_wake(functools.partial(self._woken, call, flight))

    def _woken(self, call: SimulatedCall, flight: int) -> None:
        self._events.at(self._events.now, self._resume, call, flight)

    def _resume(self, now: float, call: SimulatedCall, flight: int) -> None:
        if call.flight == flight:
            call.flight = flight + 1
            self._follow(now, call, call.resume(now))

    def _answered(self, now: float, call: SimulatedCall, flight: int) -> None:
        if call.flight != flight:
            self.server.wasted += 1
            return
        call.flight = flight + 1
        step = call.received(now)
        if step is OK:
            self._tally.succeed(now, call)
            if self.ended is not None:
                self.ended(now, call.client)
        else:
            self._follow(now, call, step)

    def _timed_out(self, now: float, call: SimulatedCall, flight: int) -> None:
        if call.flight == flight:
            self.server.hung_up(call, flight)
            self._failed(now, call, RequestTimeoutError("the attempt took longer than its limit"))

    def failing(self, make: Callable[[], Exception], executed: bool = False) -> Act:
        """What happens when a failure arrives at the caller.

        :param make: makes the failure, a new one for each call.
        :param executed: whether the server did the work.
        """

        def arrive(now: float, call: SimulatedCall, flight: int) -> None:
            if call.flight == flight:
                self._failed(now, call, make())
            elif executed:
                self.server.wasted += 1

        return arrive

    def _failed(self, now: float, call: SimulatedCall, problem: Exception) -> None:
        call.flight += 1
        self._follow(now, call, call.failed(problem, now))
