"""Drives many calls, several at once: with threads."""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

from ._sync import Host, drive

__all__ = ["Fan", "Unfinished"]

# How often threads that wait in a layer's queue are woken while the fan closes, in seconds: one may begin to wait
# just after it was looked at.
WAKE_EVERY = 0.02


class Unfinished(Exception):
    """Stands for the result of a call that was cut off. The call knows how far it got.

    :ivar problem: what cut it off, where that came out of the call itself; ``None`` where the fan was closed.
    """

    def __init__(self, problem: BaseException | None = None) -> None:
        super().__init__("cut off")
        self.problem = problem


class Cut(BaseException):
    """Ends a wait from within; a driver takes it for an interrupt."""


class ThreadHost:
    """The host of the calls of one thread: waits end when the fan is closed.

    :ivar call: the one that is under way.
    """

    __slots__ = ("_cut", "_host", "_stop", "call")

    def __init__(self, host: Host | None, stop: threading.Event) -> None:
        self._host = host
        self._stop = stop
        self._cut = False
        self.call: Any = None

    def run(self, call: Any) -> Any:
        """The result of *call*."""
        self.call, self._cut = call, False
        try:
            return drive(call, self)
        finally:
            self.call = None

    def clock(self) -> float:
        call = self.call
        if self._stop.is_set() and not self._cut and call.parking is not None:
            # It was woken in a layer's queue to end there. Once: the driver asks for the time again when it abandons the call.
            self._cut = True
            raise Cut
        return (self._host or call).clock()

    @property
    def perform(self) -> Callable[[Any], Any]:
        return (self._host or self.call).perform

    def sleep(self, seconds: float) -> Any:
        sleep = (self._host or self.call).sleep
        if sleep is time.sleep:
            if self._stop.wait(min(seconds, threading.TIMEOUT_MAX)):
                raise Cut
            return None
        waited = sleep(seconds)
        if self._stop.is_set():
            raise Cut
        return waited


class Shared:
    """What the threads of a fan know: not the fan, so that they do not keep it from being collected.

    :ivar jobs: calls that no thread has taken yet; there is a token for each.
    :ivar done: calls and their results, to be handed out.
    :ivar news: set whenever there is something new for the consumer.
    :ivar stop: set while nothing new may begin.
    :ivar broken: what is no failure of a call, to be raised to the consumer.
    """

    __slots__ = ("broken", "done", "hosts", "jobs", "news", "stop", "tokens")

    def __init__(self) -> None:
        self.jobs: deque[Any] = deque()
        self.done: deque[tuple[Any, Any]] = deque()
        self.tokens: SimpleQueue[bool] = SimpleQueue()
        self.news, self.stop = threading.Event(), threading.Event()
        self.hosts: list[ThreadHost] = []
        self.broken: BaseException | None = None

    def work(self, host: ThreadHost) -> None:
        """What each thread does."""
        while self.tokens.get():
            try:
                call = self.jobs.popleft()
            except IndexError:
                continue
            if self.stop.is_set():
                self.jobs.appendleft(call)
                continue
            value: Any
            try:
                value = host.run(call)
            except Exception as problem:
                value = problem
            except Cut:
                value = Unfinished()
            except BaseException as problem:
                value, self.broken = Unfinished(problem), problem
            self.done.append((call, value))
            if not self.news.is_set():
                self.news.set()
            # Waiting for the next one, it holds on to nothing.
            del call, value


class Fan:
    """Drives *calls*, up to *concurrency* at once, as its consumer asks, and gives each with its result, in the order in which they end.

    Iterating gives pairs: a call, and its result, or the exception that it raised, :class:`Unfinished` where it was cut off.
    There are never more than twice *concurrency* calls that were begun, or taken from *calls*, and not handed out. A consumer that
    stops and comes back goes on where it stopped. One thread consumes. What *calls* raises is raised once all that is
    under way was handed out. After an interrupt (Ctrl-C) waits are cut and nothing begins until the consumer comes back.

    :param calls: asked in the consumer's thread, for one at a time; asked again after its end when the consumer comes back.
    :param host: what performs their steps; ``None`` where each call is its own host.
    :param concurrency: 1 takes no thread.
    """

    def __init__(self, calls: Iterator[Any], host: Host | None, concurrency: int) -> None:
        self._calls = calls
        self._host = host
        self._limit = concurrency
        self._shared = Shared()
        # Handed to threads and not handed out again.
        self._open = 0
        self._threads = 0
        self._failure: Exception | None = None
        self.done = self._shared.done

    def __iter__(self) -> Fan:
        return self

    def __next__(self) -> tuple[Any, Any]:
        if not self.ready():
            raise StopIteration
        return self.take()

    def take(self) -> tuple[Any, Any]:
        """What is ready."""
        # Statements between which no signal handler comes.
        found = self.done[0]
        del self.done[0]
        self._open -= 1
        return found

    def put_back(self, call: Any) -> None:
        """Have *call* driven before all that is still to come."""
        self._open += 1
        self._shared.jobs.appendleft(call)
        self._shared.tokens.put(True)

    def ready(self) -> bool:
        """Wait until there is something to take; ``False`` where nothing is left.

        :raises Exception: what *calls* raised.
        """
        shared = self._shared
        try:
            if shared.stop.is_set():
                self._resume()
            if self._limit == 1 and not self._threads:
                return bool(self.done) or self._inline()
            self._pull()
            while not self.done and shared.broken is None:
                if not self._pull():
                    if self._under_way <= 0:
                        return self._end()
                    if not self._threads:
                        self._spawn()
                    shared.news.clear()
                    if not self.done and shared.broken is None:
                        shared.news.wait()
            if shared.broken is not None:
                problem, shared.broken = shared.broken, None
                raise problem
        except BaseException as problem:
            if not isinstance(problem, Exception):
                shared.stop.set()
            raise
        return True

    @property
    def _under_way(self) -> int:
        return self._open - len(self.done)

    def _pull(self) -> bool:
        """Give the threads one more call. Returns whether there was one."""
        if self._open >= 2 * self._limit or self._failure is not None:
            return False
        shared = self._shared
        try:
            # No signal handler comes between the end of an iterator's step and the next statement, as it may after a call of next().
            for call in self._calls:
                self._open += 1
                shared.jobs.append(call)
                shared.tokens.put(True)
                break
            else:
                return False
        except Exception as problem:
            self._failure = problem
            return False
        if self._threads < min(self._limit, self._under_way):
            self._spawn()
        return True

    def _spawn(self) -> None:
        shared = self._shared
        host = ThreadHost(self._host, shared.stop)
        shared.hosts.append(host)
        # Of a daemon an exit of the program cuts off what nobody waits for any more.
        thread = threading.Thread(target=contextvars.copy_context().run, args=(shared.work, host), name="rpcretry fan", daemon=True)
        self._threads += 1
        try:
            thread.start()
        except RuntimeError:
            # The system gives no more: those that there are do the work.
            self._threads -= 1
            shared.hosts.remove(host)
            if not self._threads:
                raise

    def _inline(self) -> bool:
        call: Any = None
        jobs = self._shared.jobs
        try:
            if jobs:
                call = jobs[0]
                del jobs[0]
                self._open -= 1
            else:
                for call in self._calls:  # noqa: B007
                    break
                else:
                    return False
            value: Any
            try:
                value = drive(call, self._host or call)
            except Exception as problem:
                value = problem
            self._open += 1
            self.done.append((call, value))
        except BaseException as problem:
            if call is not None and not (self.done and self.done[-1][0] is call):
                self._open += 1
                self.done.append((call, Unfinished(problem)))
            raise
        return True

    def _end(self) -> bool:
        self._dismiss()
        if self._failure is not None:
            problem, self._failure = self._failure, None
            raise problem
        return False

    def _dismiss(self) -> None:
        """Let the threads go, each when it is free."""
        for _ in range(self._threads):
            self._shared.tokens.put(False)
        self._threads = 0
        self._shared.hosts = [host for host in self._shared.hosts if host.call is not None]

    def _resume(self) -> None:
        shared = self._shared
        shared.stop.clear()
        for _ in range(len(shared.jobs)):
            shared.tokens.put(True)
            if self._threads < self._limit and self._limit > 1:
                self._spawn()

    def close(self) -> None:
        """Begin nothing new, cut waits, and wait for what is in flight; its results are handed out when the consumer comes back."""
        shared = self._shared
        shared.stop.set()
        while self._under_way > len(shared.jobs):
            shared.news.clear()
            for host in shared.hosts:
                call = host.call
                parking = call.parking if call is not None else None
                if parking is not None:
                    parking.wake()
            if self._under_way > len(shared.jobs):
                shared.news.wait(WAKE_EVERY)
        self._dismiss()

    def __del__(self) -> None:
        # Nobody will take what they do.
        self._shared.stop.set()
        self._dismiss()
