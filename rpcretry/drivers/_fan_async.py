"""Drives many calls, several at once: with tasks."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

from ._async import drive
from ._fan_sync import Halt, Unfinished
from ._sync import Host

__all__ = ["AsyncFan"]


class Shared:
    """What the tasks of a fan know: not the fan, so that they do not keep it from being collected.

    A task drives one call after the other, and ends when there is nothing to do; so none is left waiting.

    :ivar jobs: calls that were taken from the source, or put back, and not begun.
    :ivar done: calls and their results, to be handed out.
    :ivar puller: the task that is asking the source, which is never asked by two.
    :ivar ended: whether the source has nothing more to give.
    :ivar stop: whether nothing new may begin.
    :ivar broken: what is no failure of a call, to be raised to the consumer.
    """

    __slots__ = ("broken", "calls", "done", "ended", "failure", "host", "jobs", "limit", "loop", "puller", "starting", "stop", "tasks", "waiter")

    def __init__(self, calls: Iterator[Any] | AsyncIterator[Any], host: Host | None, limit: int) -> None:
        self.calls = calls
        self.host = host
        self.limit = limit
        self.jobs: deque[Any] = deque()
        self.done: deque[tuple[Any, Any]] = deque()
        self.tasks: set[asyncio.Task[None]] = set()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.puller: asyncio.Task[None] | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.ended = self.stop = False
        self.starting: asyncio.Task[None] | None = None
        self.failure: Exception | None = None
        self.broken: BaseException | None = None

    @property
    def is_open(self) -> bool:
        """Whether another call may begin."""
        return not self.stop and len(self.done) < self.limit and bool(self.jobs or not (self.ended or self.puller or self.failure))

    def grow(self) -> None:
        """Have one more task, if there is something for it to do. One at a time: each has the next one made when it has a call."""
        if self.starting is None and len(self.tasks) < self.limit and self.is_open and self.loop is not None:
            self.starting = task = self.loop.create_task(self.work())
            self.tasks.add(task)
            task.add_done_callback(self.left)

    def left(self, task: asyncio.Task[None]) -> None:
        """A task has ended, or was cancelled before it began."""
        self.tasks.discard(task)
        if self.starting is task:
            self.starting = None
        self.wake()

    def wake(self) -> None:
        """There is something new for the consumer."""
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            # A signal handler, as that of asyncio.run for Ctrl-C, may cancel it in between.
            with contextlib.suppress(asyncio.InvalidStateError):
                waiter.set_result(None)

    async def work(self) -> None:
        """What each task does."""
        task, call = asyncio.current_task(), None
        self.starting = None
        try:
            while self.is_open:
                # Statements between which no signal handler comes, as it may after a call of popleft() or next().
                if self.jobs:
                    call = self.jobs[0]
                    del self.jobs[0]
                elif isinstance(self.calls, Iterator):
                    for call in self.calls:  # noqa: B007
                        break
                    else:
                        self.ended = True
                        break
                else:
                    call = await self._pulled(task)
                    if call is None:
                        break
                self.grow()
                value: Any
                try:
                    value = await drive(call, self.host or call)
                except Exception as problem:
                    value = problem
                self.done.append((call, value))
                call = value = None
                self.wake()
        except asyncio.CancelledError as problem:
            # By the fan, or by the end of the loop. Also one that the call's own code raised: the others go on.
            if call is not None:
                self.done.append((call, Unfinished(None if task is None or task.cancelling() else problem)))
        except Halt as halt:
            self.done.append((call, Unfinished()))
            self.broken, self.stop = halt.problem, True
        except Exception as problem:
            # It comes from the source.
            self.failure = problem
        except BaseException as problem:
            if call is not None and not (self.done and self.done[-1][0] is call):
                self.done.append((call, Unfinished(problem)))
            self.broken = problem

    async def _pulled(self, task: asyncio.Task[None] | None) -> Any:
        """The next call of an async source; ``None`` where there is none, or it comes too late to begin."""
        self.puller = task
        source: Any = self.calls
        try:
            call = await anext(source)
        except StopAsyncIteration:
            self.ended = True
            return None
        finally:
            self.puller = None
        if self.stop:
            self.jobs.append(call)
            return None
        return call


class AsyncFan:
    """Drives *calls*, up to *concurrency* at once, as its consumer asks, and gives each with its result, in the order in which they end.

    Iterating gives pairs: a call, and its result, or the exception that it raised, :class:`Unfinished` where it was cut off.
    There are never more than twice *concurrency* calls that were begun and not handed out. A consumer that stops and
    comes back goes on where it stopped. One task consumes. What *calls* raises is raised once all that is under way
    was handed out. A cancel of the consumer cuts off what is in flight; an async source that is being asked is not cancelled
    with it, since that might end it.

    :param calls: asked for one at a time.
    :param host: what performs their steps; ``None`` where each call is its own host.
    :ivar done: calls and their results, to be taken.
    :ivar returned: calls to be driven before all that is still to come. Whoever takes a call that was cut off puts it here.
    """

    def __init__(self, calls: Iterator[Any] | AsyncIterator[Any], host: Host | None, concurrency: int) -> None:
        self._shared = Shared(calls, host, concurrency)
        self.done = self._shared.done
        self.returned = self._shared.jobs

    def __aiter__(self) -> AsyncFan:
        return self

    async def __anext__(self) -> tuple[Any, Any]:
        if not await self.ready():
            raise StopAsyncIteration
        return self.take()

    def take(self) -> tuple[Any, Any]:
        """What is ready."""
        found = self.done[0]
        del self.done[0]
        return found

    async def ready(self) -> bool:
        """Wait until there is something to take; ``False`` where nothing is left.

        :raises Exception: what *calls* raised.
        """
        shared = self._shared
        if asyncio.current_task() in shared.tasks:
            raise RuntimeError("a source, or what is called, asks for the next one of those that it is a part of, and would wait for itself")
        if shared.waiter is not None:
            raise RuntimeError("two tasks ask for the next one at the same time; let one of them consume")
        loop = asyncio.get_running_loop()
        if shared.loop is not loop:
            if shared.tasks:
                raise RuntimeError("calls are under way on another event loop; go on there, or close this before that loop ends")
            shared.loop = loop
        if shared.stop:
            shared.stop = shared.ended = False
            if isinstance(shared.broken, Exception):
                # What halted it is to show itself again.
                shared.broken = None
        while not self.done and shared.broken is None:
            shared.grow()
            if not shared.tasks:
                if shared.failure is not None:
                    problem, shared.failure = shared.failure, None
                    raise problem
                return False
            shared.waiter = loop.create_future()
            try:
                await shared.waiter
            except asyncio.CancelledError:
                await self._halt(shared.tasks - {shared.puller})
                raise
            finally:
                shared.waiter = None
        if shared.broken is not None:
            problem_, shared.broken = shared.broken, None
            raise problem_
        # For as long as the consumer is busy.
        shared.grow()
        return True

    async def _halt(self, tasks: set[Any]) -> None:
        self._shared.stop = True
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def aclose(self) -> None:
        """Begin nothing new and cancel what is in flight; what became of it is handed out when the consumer comes back."""
        await self._halt(set(self._shared.tasks))

    def __del__(self) -> None:
        shared = self._shared
        shared.stop = True
        tasks = tuple(shared.tasks)
        if tasks and shared.loop is not None:
            # From whatever thread the collector runs in. Where the loop is gone, so are they.
            with contextlib.suppress(RuntimeError):
                shared.loop.call_soon_threadsafe(_cancel, tasks)


def _cancel(tasks: tuple[asyncio.Task[None], ...]) -> None:
    for task in tasks:
        task.cancel()
