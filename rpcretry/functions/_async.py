"""Retried async functions and blocks. Imported when the first one is met: asyncio is large."""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections.abc import Callable
from typing import Any

from ..context import RUNNING, leave
from ..drivers._async import drive, pause
from ..outcome import Attempt, Outcome, Wait
from ..retry.engine import Step
from ..retry.policy import Policy
from ._blocks import Block, BlocksCore
from ._call import First, FunctionCall

__all__ = ["AsyncBlocks", "AsyncFunctionCall", "as_sleep", "execute", "wrap"]


class AsyncFunctionCall(FunctionCall):
    """A call of an async function, or of any that returns an awaitable."""

    __slots__ = ()

    async def perform(self, attempt: Attempt) -> Any:
        if attempt.ends_by == math.inf:
            value = self._function(*self._args, **self._kwargs)
            return await value if inspect.isawaitable(value) else value
        seconds = attempt.ends_by - self.clock()
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                value = self._function(*self._args, **self._kwargs)
                return await value if inspect.isawaitable(value) else value
        except TimeoutError as cut:
            # asyncio's own says nothing; one that does is the function's, though it came late.
            if cut.args or not limit.expired():
                raise
            problem = TimeoutError(f"{self.operation}: the attempt was cut off after {seconds:.3g} s")
            problem.__cause__ = cut.__cause__
        finally:
            # It holds the task, which holds the exception, whose traceback holds this frame.
            del limit
        try:
            # Out here it is raised without the context of asyncio's, whose traceback holds the task, too.
            raise problem
        finally:
            del problem

    def received(self, value: Any, now: float) -> Step:
        return self.settle((Outcome(value),), now)


def as_sleep(sleep: Callable[[float], Any] | None, name: str) -> Callable[[float], Any]:
    """Refuse a sleep that would hold up the whole loop."""
    if sleep is time.sleep:
        raise TypeError(f"sleep must return an awaitable for the async function {name}, as asyncio.sleep does, got {sleep!r:.60}")
    return sleep or asyncio.sleep


def wrap(policy: Policy, name: str, clock: Callable[[], float], sleep: Callable[[float], Any] | None, function: Callable[..., Any]) -> Callable[..., Any]:
    """*function*, retried."""
    wait, first = as_sleep(sleep, name), First(name, policy)
    quick = policy.quick and policy.deadline is None and policy.timeout is None

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        if quick:
            # The first attempt concerns nobody but the caller as long as it succeeds.
            begun = clock()
            running = [first, clock, begun]
            token = RUNNING.set(running)
            try:
                return await function(*args, **kwargs)
            except Exception as failure:
                call = AsyncFunctionCall(policy, name, clock, wait, function, args, kwargs).after(failure, begun)
            finally:
                running.clear()
                leave(token)
        else:
            call = AsyncFunctionCall(policy, name, clock, wait, function, args, kwargs)
        return await drive(call, call)

    return wrapper


async def execute(
    policy: Policy,
    name: str,
    clock: Callable[[], float],
    sleep: Callable[[float], Any] | None,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Call *function*, retried."""
    call = AsyncFunctionCall(policy, name, clock, as_sleep(sleep, name), function, args, kwargs)
    return await drive(call, call)


class AsyncBlocks(BlocksCore):
    """The attempts of ``async for attempt in retrying(...)``."""

    def __aiter__(self) -> AsyncBlocks:
        return self

    async def __anext__(self) -> Block:
        call, step = self.call, self.advance()
        try:
            while type(step) is Wait:
                step = await pause(call, step, call)
        except BaseException:
            call.abandon(call.clock())
            raise
        block = self.given(step)
        if block is None:
            raise StopAsyncIteration
        return block
