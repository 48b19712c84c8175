"""The async driver."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ..context import RUNNING, leave
from ..outcome import Parking, Rescue, Stop, Wait
from ._sync import Call, Host, in_order

__all__ = ["drive", "drive_all", "pause"]


async def drive(call: Call, host: Host) -> Any:
    """Do what *call* asks for until it is over."""
    clock, unit = host.clock, call.unit
    running = [call, clock]
    token = RUNNING.set(running)
    try:
        step = call.start(clock())
        while True:
            if type(step) is unit:
                try:
                    reply = await host.perform(step)
                except Exception as problem:
                    step = call.failed(problem, clock())
                else:
                    step = call.received(reply, clock())
            elif type(step) is Stop:
                break
            elif type(step) is Wait:
                step = await pause(call, step, host)
            else:
                step = await rescue(call, step, clock)
    except BaseException:
        call.abandon(clock())
        raise
    finally:
        running.clear()
        leave(token)
    return call.result()


# As Python calls it where nobody awaits it, and asyncio in the repr of a task.
drive.__qualname__ = "rpcretry call"


async def drive_all(calls: Sequence[Call], host: Host, concurrency: int, results: dict[Call, Any]) -> list[Any]:
    """The results of all, in order.

    :param concurrency: how many may be under way at once.
    :param results: is filled as they end, so that what is finished is there also where this is cut off.
    """
    if concurrency == 1 or len(calls) == 1:
        for call in calls:
            results[call] = await drive(call, host)
        try:
            return in_order(calls, results)
        finally:
            # Tracebacks of what failed hold this frame.
            del results
    # Seldom needed, and it needs what is here.
    from ._fan_async import AsyncFan

    fan = AsyncFan(iter(calls), host, concurrency)
    try:
        async for call, result in fan:
            results[call] = result
    finally:
        await fan.aclose()
        results.update(fan.done)
    return in_order(calls, results)


async def rescue(call: Call, offer: Rescue, clock: Callable[[], float]) -> Rescue | Stop:
    """Ask a fallback."""
    try:
        value = await settled(offer)
    except Exception as problem:
        return call.unrescued(problem, clock())
    return call.rescued(value, clock())


async def settled(offer: Rescue) -> Any:
    """What the fallback says."""
    value = offer.ask()
    return await value if inspect.isawaitable(value) else value


async def pause(call: Call, wait: Wait, host: Host) -> Any:
    """Wait for what *wait* says. Returns the step after it."""
    clock, parking = host.clock, call.parking
    seconds = wait.until - clock()
    if parking is not None and await parked(seconds, parking, lambda: call.abandon(clock())):
        return call.go_on(clock())
    if parking is None:
        # Also where there is nothing to wait for: other tasks, timeouts and cancels have their turn.
        waiting = host.sleep(seconds) if seconds > 0 else asyncio.sleep(0)
        if not inspect.isawaitable(waiting):
            raise TypeError(f"sleep must return an awaitable, as asyncio.sleep does; {host.sleep!r:.60} returned {type(waiting).__name__}")
        await waiting
    return call.go_on(max(clock(), wait.until))


_lost = threading.local()


def one_by_one(lost: Callable[[], None]) -> None:
    """Call *lost*, which may wake the next one of the same dead loop, and so on: not one inside of the other."""
    waiting: list[Callable[[], None]] | None = getattr(_lost, "waiting", None)
    if waiting is not None:
        waiting.append(lost)
        return
    _lost.waiting = waiting = [lost]
    try:
        while waiting:
            waiting.pop(0)()
    finally:
        _lost.waiting = None


async def parked(seconds: float, parking: Parking, lost: Callable[[], None]) -> bool:
    """Wait that long, or until woken; returns whether it was the latter.

    :param lost: called where the wake comes after the end of the loop: nobody is left to go on with what was granted.
    """
    loop, woken = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(woken.set)
        except RuntimeError:
            one_by_one(lost)

    parking.on_wake(wake)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None if seconds == math.inf else max(seconds, 0.0)):
            await woken.wait()
    return parking.woken
