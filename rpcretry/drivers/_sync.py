"""The sync driver."""

from __future__ import annotations

import inspect
import math
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..context import RUNNING, leave
from ..outcome import Parking, Rescue, Stop, Wait

__all__ = ["Call", "Host", "drive", "drive_all", "in_order", "pause"]


class Host(Protocol):
    """What performs a call's steps."""

    @property
    def clock(self) -> Callable[[], float]: ...
    @property
    def sleep(self) -> Callable[[float], Any]: ...
    @property
    def perform(self) -> Callable[[Any], Any]: ...


class Call(Protocol):
    """What a driver needs of a call; the engine has it all but ``result``."""

    @property
    def unit(self) -> type: ...
    @property
    def parking(self) -> Parking | None: ...
    def start(self, now: float) -> Any: ...
    def go_on(self, now: float) -> Any: ...
    def received(self, reply: Any, now: float) -> Any: ...
    def failed(self, problem: Exception, now: float) -> Any: ...
    def rescued(self, value: Any, now: float) -> Rescue | Stop: ...
    def unrescued(self, problem: Exception, now: float) -> Rescue | Stop: ...
    def abandon(self, now: float) -> None: ...
    def result(self) -> Any: ...


def drive(call: Call, host: Host) -> Any:
    """Do what *call* asks for until it is over."""
    clock, unit = host.clock, call.unit
    running = [call, clock]
    token = RUNNING.set(running)
    try:
        step = call.start(clock())
        while True:
            if type(step) is unit:
                try:
                    reply = host.perform(step)
                except Exception as problem:
                    step = call.failed(problem, clock())
                else:
                    step = call.received(reply, clock())
            elif type(step) is Stop:
                break
            elif type(step) is Wait:
                step = pause(call, step, host)
            else:
                step = rescue(call, step, clock)
    except BaseException:
        call.abandon(clock())
        raise
    finally:
        running.clear()
        leave(token)
    return call.result()


def drive_all(calls: Sequence[Call], host: Host, concurrency: int, results: dict[Call, Any]) -> list[Any]:
    """The results of all, in order.

    :param concurrency: how many may be under way at once.
    :param results: is filled as they end, so that what is finished is there also where this is cut off.
    """
    if concurrency == 1 or len(calls) == 1:
        for call in calls:
            results[call] = drive(call, host)
        try:
            return in_order(calls, results)
        finally:
            # Tracebacks of what failed hold this frame.
            del results
    # Seldom needed, and it needs what is here.
    from ._fan_sync import Fan

    fan = Fan(iter(calls), host, concurrency)
    try:
        for call, result in fan:
            results[call] = result
    finally:
        fan.close()
        results.update(fan.done)
    return in_order(calls, results)


def in_order(calls: Sequence[Call], results: dict[Call, Any]) -> list[Any]:
    """The results in the order of the calls. Raises the first exception among them: a mistake, since failures are results."""
    found = [results[call] for call in calls]
    for result in found:
        if isinstance(result, Exception):
            # One that was cut off from within, and not by us, ends as a single call would.
            raise getattr(result, "problem", None) or result
    return found


def rescue(call: Call, offer: Rescue, clock: Callable[[], float]) -> Rescue | Stop:
    """Ask a fallback."""
    try:
        value = settled(offer)
    except Exception as problem:
        return call.unrescued(problem, clock())
    return call.rescued(value, clock())


def settled(offer: Rescue) -> Any:
    """What the fallback says."""
    value = offer.ask()
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError(f"the fallback {offer.name} returned a coroutine, which nobody would await here; write def")
    return value


def pause(call: Call, wait: Wait, host: Host) -> Any:
    """Wait for what *wait* says. Returns the step after it."""
    clock, parking = host.clock, call.parking
    seconds = wait.until - clock()
    if parking is not None and parked(seconds, parking):
        return call.go_on(clock())
    if parking is None and seconds > 0:
        waiting = host.sleep(seconds)
        if inspect.iscoroutine(waiting):
            waiting.close()
            raise TypeError(f"sleep must wait and return, as time.sleep does; {host.sleep!r:.60} returned a coroutine")
    return call.go_on(max(clock(), wait.until))


def parked(seconds: float, parking: Parking) -> bool:
    """Wait that long, or until woken; returns whether it was the latter."""
    # No Event: a signal handler that wakes it in the middle of its own wait would wait for the lock that this thread holds.
    woken: queue.SimpleQueue[None] = queue.SimpleQueue()
    parking.on_wake(lambda: woken.put(None))
    try:
        woken.get(timeout=None if seconds == math.inf else min(max(seconds, 0.0), threading.TIMEOUT_MAX))
    except queue.Empty:
        return False
    return True
