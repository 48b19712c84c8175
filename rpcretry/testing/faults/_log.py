"""What happened to each request."""

from __future__ import annotations

import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ...transport import Headers
from ._toxic import Ending, Toxic
from ._turn import Arrival, Call, Turn

__all__ = ["LogEntry"]


class LogEntry(NamedTuple):
    """What happened to one request.

    :ivar number: of the request on the server, from 1.
    :ivar connection: the number of its connection, from 1.
    :ivar calls: its members: ``(method, params, id)``, where params are JSON.
    :ivar toxics: those that acted on it, in order.
    :ivar executed: whether a method was executed for it.
    :ivar status: the HTTP status that was sent, or ``None``.
    :ivar ended: what became of the connection: ``kept``, ``closed``, ``reset``, ``silent``, ``lost`` where the client went first or a
        function of yours failed, or ``under way``.
    """

    number: int
    connection: int
    calls: tuple[Call, ...]
    toxics: tuple[Toxic, ...]
    executed: bool
    status: int | None
    ended: str


class Entry:
    """An entry while it is written."""

    __slots__ = ("_log", "calls", "connection", "executed", "number", "state", "status", "toxics")

    def __init__(self, log: Log, arrival: Arrival) -> None:
        self._log = log
        self.number = arrival.number
        self.connection = arrival.connection
        self.calls: tuple[Call, ...] = ()
        self.toxics: tuple[Toxic, ...] = ()
        self.executed = False
        self.status: int | None = None
        self.state = "under way"

    def apply(self, turn: Turn, toxics: Sequence[Toxic], now: Callable[[Toxic], bool]) -> list[Toxic]:
        """Let those act whose time has come, and return the others."""
        later = []
        for toxic in toxics:
            if not now(toxic):
                later.append(toxic)
            elif toxic.fits(turn) and toxic.apply(turn):
                self.toxics += (toxic,)
                self._log.count(toxic)
        return later

    def ended(self, ending: Ending) -> Ending:
        self.state = ending.value
        return ending

    def lost(self) -> None:
        self.state = "lost"

    def copy(self) -> LogEntry:
        return LogEntry(self.number, self.connection, self.calls, self.toxics, self.executed, self.status, self.state)


class Log:
    """The last entries, and how often each toxic was met. Threads may read while the server writes."""

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=size)
        self._met: Counter[str] = Counter()

    def begin(self, arrival: Arrival) -> Entry:
        entry = Entry(self, arrival)
        with self._lock:
            self._entries.append(entry)
        return entry

    def count(self, toxic: Toxic) -> None:
        with self._lock:
            self._met[toxic.name] += 1

    def entries(self) -> list[LogEntry]:
        with self._lock:
            return [entry.copy() for entry in self._entries]

    def met(self) -> Counter[str]:
        with self._lock:
            return self._met.copy()


def of_connection(log: Log, toxics: Iterable[Toxic], source: random.Random, url: str, number: int) -> Turn:
    """What the toxics of a connection make of it, before it has brought a request."""
    turn = Turn(Arrival(0, number, 0, "", "", Headers()), source, url)
    for toxic in toxics:
        if toxic.apply(turn):
            log.count(toxic)
    return turn
