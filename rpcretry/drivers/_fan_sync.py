"""Drives many calls, several at once: with threads."""

from __future__ import annotations

import contextlib
import contextvars
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

from ._sync import Host, drive

__all__ = ["Fan", "Halt", "Unfinished"]

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


class Halt(BaseException):
    """Raised by a call where no call can go on. A driver takes it for an interrupt; the consumer gets *problem*, and no other call begins."""

    def __init__(self, problem: Exception) -> None:
        super().__init__("halted")
        self.problem = problem


class Cut(BaseException):
    """Ends a wait from within; a driver takes it for an interrupt."""


class ThreadHost:
    """The host of the calls of one thread: waits end when the fan is closed.

    :ivar call: the one that is under way.
    :ivar bell: rung to end a wait.
    """

    __slots__ = ("_cut", "_host", "_shared", "bell", "call")

    def __init__(self, host: Host | None, shared: Shared) -> None:
        self._host = host
        self._shared = shared
        self._cut = False
        self.bell: SimpleQueue[None] = SimpleQueue()
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
        if self._shared.stopped and not self._cut and call.parking is not None:
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
            hush(self.bell)
            if self._shared.stopped or heard(self.bell, min(seconds, threading.TIMEOUT_MAX)):
                raise Cut
            return None
        waited = sleep(seconds)
        if self._shared.stopped:
            raise Cut
        return waited


def heard(bell: SimpleQueue[None], timeout: float) -> bool:
    """Whether it is rung within *timeout* seconds."""
    try:
        bell.get(timeout=timeout)
    except Empty:
        return False
    return True


def hush(bell: SimpleQueue[None]) -> None:
    """Forget that it was rung."""
    with contextlib.suppress(Empty):
        while True:
            bell.get_nowait()


class Shared:
    """What the threads of a fan know: not the fan, so that they do not keep it from being collected.

    No Event among it: an interrupt within ``Event.set`` leaves its lock taken, and whoever waits there waits for ever.

    :ivar jobs: calls that no thread has taken yet; there is a token for each.
    :ivar done: calls and their results, to be handed out.
    :ivar news: rung whenever there is something new for the consumer.
    :ivar stopped: whether nothing new may begin.
    :ivar hosts: those of the threads that have not ended.
    :ivar broken: what is no failure of a call, to be raised to the consumer.
    """

    __slots__ = ("broken", "done", "hosts", "jobs", "news", "stopped", "tokens")

    def __init__(self) -> None:
        self.jobs: deque[Any] = deque()
        self.done: deque[tuple[Any, Any]] = deque()
        self.tokens: SimpleQueue[bool] = SimpleQueue()
        self.news: SimpleQueue[None] = SimpleQueue()
        self.stopped = False
        self.hosts: set[ThreadHost] = set()
        self.broken: BaseException | None = None

    def stop(self) -> None:
        """Begin nothing new, and cut waits."""
        self.stopped = True
        for host in tuple(self.hosts):
            host.bell.put(None)

    def work(self, host: ThreadHost, tokens: SimpleQueue[bool]) -> None:
        """What each thread does."""
        while tokens.get():
            try:
                call = self.jobs.popleft()
            except IndexError:
                continue
            if self.stopped:
                self.jobs.appendleft(call)
                if not self.stopped:
                    # The consumer came back in between, and may have counted the jobs without this one.
                    self.tokens.put(True)
                continue
            value: Any
            try:
                value = host.run(call)
            except Exception as problem:
                value = problem
            except Cut:
                value = Unfinished()
            except Halt as halt:
                value, self.broken = Unfinished(), halt.problem
            except BaseException as problem:
                value, self.broken = Unfinished(problem), problem
            self.done.append((call, value))
            if self.news.empty():
                self.news.put(None)
            # Waiting for the next one, it holds on to nothing.
            del call, value
        self.hosts.discard(host)


class Fan:
    """Drives *calls*, up to *concurrency* at once, as its consumer asks, and gives each with its result, in the order in which they end.

    Iterating gives pairs: a call, and its result, or the exception that it raised, :class:`Unfinished` where it was cut off.
    There are never more than twice *concurrency* calls that were begun, or taken from *calls*, and not handed out. A consumer that
    stops and comes back goes on where it stopped. One thread consumes. What *calls* raises is raised once all that is
    under way was handed out. After an interrupt (Ctrl-C) waits are cut and nothing begins until the consumer comes back.

    :param calls: asked in the consumer's thread, for one at a time; asked again after its end when the consumer comes back.
    :param host: what performs their steps; ``None`` where each call is its own host.
    :param concurrency: 1 takes no thread.
    :ivar done: calls and their results, to be taken.
    :ivar open: how many calls were handed to threads and not taken.
    :ivar returned: calls to be driven before all that is still to come. Whoever takes a call that was cut off puts it here.
    """

    def __init__(self, calls: Iterator[Any], host: Host | None, concurrency: int) -> None:
        self._calls = calls
        self._host = host
        self._limit = concurrency
        self._shared = Shared()
        # The call that is driven without a thread.
        self._current: Any = None
        # Threads do not go over a fork: this is the process that has them.
        self._process = 0
        self._threads = 0
        self._failure: Exception | None = None
        self.open = 0
        self.done = self._shared.done
        self.returned: list[Any] = []

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
        self.open -= 1
        return found

    def ready(self) -> bool:
        """Wait until there is something to take; ``False`` where nothing is left.

        :raises Exception: what *calls* raised.
        :raises RuntimeError: in a process that was forked off from that of the threads.
        """
        shared = self._shared
        if self._is_orphan:
            raise RuntimeError("its threads are in the process that this one was forked off from; consume it there, or give the rest to another one here")
        try:
            if shared.stopped:
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
                    hush(shared.news)
                    if not self.done and shared.broken is None:
                        shared.news.get()
            if shared.broken is not None:
                problem, shared.broken, shared.stopped = shared.broken, None, True
                raise problem
        except Exception:
            raise
        except BaseException:
            # Before anything is called: there may be another interrupt.
            shared.stopped = True
            shared.stop()
            raise
        return True

    @property
    def _under_way(self) -> int:
        return self.open - len(self.done)

    @property
    def _is_orphan(self) -> bool:
        return self._process != 0 and self._process != os.getpid()

    @property
    def is_stopped(self) -> bool:
        """Whether it was interrupted or closed, and nobody came back."""
        return self._shared.stopped

    def _pull(self) -> bool:
        """Give the threads one more call. Returns whether there was one."""
        shared, returned = self._shared, self.returned
        if self.open >= 2 * self._limit or (self._failure is not None and not returned):
            return False
        try:
            # No signal handler comes between the end of an iterator's step and the next statement, as it may after a call of next().
            for call in returned or self._calls:
                self.open += 1
                if returned:
                    del returned[0]
                    shared.jobs.appendleft(call)
                else:
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
        host = ThreadHost(self._host, shared)
        # Of a daemon an exit of the program cuts off what nobody waits for any more.
        thread = threading.Thread(target=contextvars.copy_context().run, args=(shared.work, host, shared.tokens), name="rpcretry fan", daemon=True)
        self._process = os.getpid()
        shared.hosts.add(host)
        self._threads += 1
        try:
            thread.start()
        except RuntimeError as problem:
            interrupt = problem.__context__
            if interrupt is not None and not isinstance(interrupt, Exception):
                # It came while threading waited for the thread to begin, whose lock then complained.
                raise interrupt from None
            # The system gives no more: those that there are do the work.
            self._threads -= 1
            shared.hosts.discard(host)
            if not self._threads:
                raise

    def _inline(self) -> bool:
        value: Any = None
        try:
            if self._current is not None:
                # Struck again before it was among the done.
                value = Unfinished()
            else:
                if self.returned:
                    self._current = self.returned[0]
                    del self.returned[0]
                else:
                    for call in self._calls:
                        self._current = call
                        break
                    else:
                        return False
                try:
                    value = drive(self._current, self._host or self._current)
                except Exception as problem:
                    value = problem
            # In both places statements between which no signal handler comes.
            ended = (self._current, value)
            self._current, self.open = None, self.open + 1
            self.done.append(ended)
        except BaseException as problem:
            if self._current is not None:
                ended = (self._current, Unfinished(problem))
                self._current, self.open = None, self.open + 1
                self.done.append(ended)
                # The interrupt in it holds this frame.
                del ended
            if type(problem) is Halt:
                raise problem.problem from None
            raise
        return True

    def _end(self) -> bool:
        self.dismiss()
        if self._failure is not None:
            problem, self._failure = self._failure, None
            raise problem
        return False

    def dismiss(self) -> None:
        """Let the threads go, each when it is free."""
        while self._threads:
            self._threads -= 1
            self._shared.tokens.put(False)

    def _resume(self) -> None:
        shared = self._shared
        # Other threads, with tokens of their own: an interrupt may have left more threads in the books than there are, or less tokens.
        self.dismiss()
        shared.tokens = SimpleQueue()
        if isinstance(shared.broken, Exception):
            # What halted it is to show itself again.
            shared.broken = None
        shared.stopped = False
        for _ in range(len(shared.jobs)):
            shared.tokens.put(True)
            if self._threads < self._limit:
                self._spawn()

    def close(self) -> None:
        """Begin nothing new, cut waits, and wait for what is in flight; its results are handed out when the consumer comes back."""
        if self._is_orphan:
            return
        shared = self._shared
        shared.stop()
        while self._under_way > len(shared.jobs):
            hush(shared.news)
            for host in tuple(shared.hosts):
                call = host.call
                parking = call.parking if call is not None else None
                if parking is not None:
                    parking.wake()
            if self._under_way > len(shared.jobs):
                heard(shared.news, WAKE_EVERY)
        self.dismiss()

    def __del__(self) -> None:
        if not self._is_orphan:
            # Nobody will take what they do.
            self._shared.stop()
            self.dismiss()
