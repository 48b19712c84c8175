"""What the process holds, and what happens in it that no caller sees."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import json
import logging
import os
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pydantic_core
from soak_oracle import NOISE, Oracle

# Of these none may be alive when no call is under way and nobody holds a result.
OF_CALLS = frozenset(
    {
        "AsyncBatch",
        "AsyncBulk",
        "Attempt",
        "Batch",
        "BatchCall",
        "BatchPlan",
        "Bulk",
        "BulkItem",
        "Call",
        "Exchange",
        "Handle",
        "Member",
        "Outcome",
        "Parking",
        "Reply",
        "SharedExchange",
        "SingleCall",
    }
)
INTERVAL = 0.1
# After this many seconds beyond its due time nobody waits for an operation any more.
HOPELESS = 30.0


# mallopt's M_ARENA_MAX.
ARENA_MAX = -8
# More than pydantic_core keeps of the strings that it has read, so as not to read them twice.
STRINGS = 200_000


def one_arena() -> None:
    """Have glibc use one arena for all threads, from now on.

    It would give each thread one of its own, up to eight for each core, whose fragments look like a leak for as long as new ones come.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(ARENA_MAX, 1)


@functools.cache
def fill_caches() -> None:
    """Fill what fills up once and then stays so."""
    pydantic_core.from_json(json.dumps([f"soak {number}" for number in range(STRINGS)]))


class Reading(NamedTuple):
    """What the process held at one moment.

    :ivar rss: resident bytes.
    :ivar blocks: blocks of the allocator.
    :ivar fds: what each file descriptor is.
    :ivar threads: the names of the threads.
    :ivar objects: how many objects of each of our types are alive, exceptions among them.
    """

    rss: int
    blocks: int
    fds: dict[str, str]
    threads: list[str]
    objects: Counter[str]


def read() -> Reading:
    """Look, after the garbage is gone and what was freed was given back."""
    for _ in range(2):
        gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        # glibc keeps what was freed, so that the size of the process tells nothing of what is in use.
        ctypes.CDLL(None).malloc_trim(0)
    objects = Counter(type(one).__name__ for one in gc.get_objects() if _is_of_calls(type(one)))
    rss, blocks = psutil.Process().memory_info().rss, sys.getallocatedblocks()
    return Reading(rss, blocks, _fds(), sorted(thread.name for thread in threading.enumerate()), objects)


def _is_of_calls(kind: type) -> bool:
    # A class may have anything for a __module__.
    return str(kind.__module__).startswith("rpcretry") and (kind.__name__ in OF_CALLS or issubclass(kind, Exception))


def _fds() -> dict[str, str]:
    found = {}
    folder = Path("/proc/self/fd")
    if not folder.exists():
        return {str(number): "?" for number in range(psutil.Process().num_fds())}
    for link in folder.iterdir():
        # That of the listing itself is gone by now.
        with contextlib.suppress(OSError):
            found[link.name] = str(link.readlink())
    return found


@contextlib.contextmanager
def listening(oracle: Oracle) -> Iterator[None]:
    """Write down what Python and asyncio say where no caller hears it."""

    def unraisable(problem: Any) -> None:
        oracle.offend(NOISE, f"unraisable in {problem.object!r:.200}: {''.join(traceback.format_exception(problem.exc_value))[-2000:]}")

    def in_thread(problem: Any) -> None:
        oracle.offend(NOISE, f"a thread ended in: {''.join(traceback.format_exception(problem.exc_value))[-2000:]}")

    def warned(message: Any, category: type[Warning], filename: str, lineno: int, file: Any = None, line: str | None = None) -> None:
        oracle.offend(NOISE, f"{category.__name__} at {Path(filename).name}:{lineno}: {message!s:.500}")

    heard = Heard(oracle)
    before = sys.unraisablehook, threading.excepthook
    names = ("asyncio", "rpcretry", "aiohttp")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = warned
        sys.unraisablehook, threading.excepthook = unraisable, in_thread
        for name in names:
            logging.getLogger(name).addHandler(heard)
        try:
            yield
        finally:
            sys.unraisablehook, threading.excepthook = before
            for name in names:
                logging.getLogger(name).removeHandler(heard)


class Heard(logging.Handler):
    """Errors that are logged: of asyncio such as tasks whose exception nobody asked for, of this package those with a traceback.

    The others of this package tell of calls that failed, which their callers know.
    """

    def __init__(self, oracle: Oracle) -> None:
        super().__init__(logging.ERROR)
        self.oracle = oracle

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "rpcretry" or record.exc_info is not None:
            self.oracle.offend(NOISE, f"logged by {record.name}: {self.format(record)!s:.2000}")


class Watchdog:
    """Looks for operations that should be over, from a thread of its own.

    :ivar stall: the longest time in seconds by which it was woken late: how much the machine, not the client, is to blame for.
    """

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self.stall = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="soak-watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._over.wait(INTERVAL):
            now = time.monotonic()
            self.stall, before = max(self.stall, now - before - INTERVAL), now
            for flight in list(self.oracle.flying.values()):
                if now <= flight.began + flight.limit or now <= flight.due:
                    continue
                if not flight.told:
                    self.oracle.late(flight, now, _stack(flight))
                if now > flight.due + HOPELESS:
                    # A call that never ends would keep the report from being written.
                    sys.stderr.write("\n".join(map(str, self.oracle.offences)) + f"\n{flight.operation} hangs; given up\n{_stack(flight)}\n")
                    sys.stderr.flush()
                    os._exit(1)


def _stack(flight: Any) -> str:
    if flight.task is not None:
        return "\n".join(str(frame) for frame in flight.task.get_stack())
    frame = sys._current_frames().get(flight.thread)
    return "".join(traceback.format_stack(frame)[-12:]) if frame is not None else "its thread is gone"
