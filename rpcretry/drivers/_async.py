"""The async driver."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
from collections.abc import Awaitable, Callable
from typing import Any

from ..context import RUNNING, leave
from ..outcome import Parking, Rescue, Stop, Wait
from ._sync import Call, Host

__all__ = ["drive", "pause"]


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
                woken = await pause(step.until - clock(), call.parking, host.sleep)
                step = call.go_on(clock() if woken else max(clock(), step.until))
            else:
                step = await rescue(call, step, clock)
    except BaseException:
        call.abandon(clock())
        raise
    finally:
        leave(running, token)
    return call.result()


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


async def pause(seconds: float, parking: Parking | None, sleep: Callable[[float], Awaitable[object]]) -> bool:
    """Wait that long, or until woken; returns whether it was the latter."""
    if parking is None:
        # Also where there is nothing to wait for: other tasks, timeouts and cancels have their turn.
        waiting = sleep(seconds) if seconds > 0 else asyncio.sleep(0)
        if not inspect.isawaitable(waiting):
            raise TypeError(f"sleep must return an awaitable, as asyncio.sleep does; {sleep!r:.60} returned {type(waiting).__name__}")
        await waiting
        return False
    loop, woken = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        # The layer may wake an attempt whose loop is gone; there is nobody left to tell.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(woken.set)

    parking.on_wake(wake)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None if seconds == math.inf else max(seconds, 0.0)):
            await woken.wait()
    return parking.woken
