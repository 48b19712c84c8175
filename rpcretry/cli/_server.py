"""A JSON-RPC server on loopback that misbehaves as it is told, and keeps a record of what it did."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeAlias

from ..testing import RESET, Answer, LoopbackServer, Received, rpc

__all__ = [
    "Fault",
    "MisbehavingServer",
    "busy",
    "drop_after_work",
    "drop_before_work",
    "error_code",
    "garbage",
    "slow",
    "unavailable",
]


class Turn:
    """One exchange, as a fault sees it."""

    def __init__(self, server: MisbehavingServer, received: Received) -> None:
        self._server = server
        self._received = received

    def work(self, refused: Mapping[str, int] | None = None) -> Answer:
        """Execute what was asked for and make the answer.

        :param refused: methods that answer with an error code instead.
        """
        return self._server.execute(self._received, refused or {})

    def idle(self, seconds: float) -> None:
        """Let that many seconds pass, or fewer if the server closes."""
        self._server.closing.wait(seconds)


Fault: TypeAlias = "Callable[[Turn], Any]"
"""What the server does in place of an ordinary answer; returns what a handler of LoopbackServer returns."""


def unavailable(retry_after: str) -> Fault:
    """HTTP 503 with Retry-After; nothing is executed."""
    return lambda turn: Answer(b"try later", 503, {"Retry-After": retry_after, "Content-Type": "text/plain"})


def busy() -> Fault:
    """HTTP 503 without a hint; nothing is executed."""
    return lambda turn: Answer(b"busy", 503, {"Content-Type": "text/plain"})


def drop_before_work() -> Fault:
    """Close the connection without an answer; nothing is executed."""
    return lambda turn: None


def drop_after_work() -> Fault:
    """Execute the request, then break the connection in place of an answer."""

    def fault(turn: Turn) -> Any:
        turn.work()
        return RESET

    return fault


def slow(seconds: float) -> Fault:
    """Execute the request, and answer after that many seconds."""

    def fault(turn: Turn) -> Any:
        answer = turn.work()
        turn.idle(seconds)
        return answer

    return fault


def garbage(body: bytes, *, work: bool = False) -> Fault:
    """HTTP 200 with a body that is no JSON-RPC answer; *work* says whether the request is executed."""

    def fault(turn: Turn) -> Any:
        if work:
            turn.work()
        return Answer(body, 200, {"Content-Type": "text/html"})

    return fault


def error_code(code: int, *methods: str) -> Fault:
    """These methods answer with a JSON-RPC error and are not executed; the others of a batch are."""
    return lambda turn: turn.work(dict.fromkeys(methods, code))


class _CodedError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__("resource is busy")
        self.code = code


class MisbehavingServer:
    """Serves *methods* on a free port of 127.0.0.1.

    :ivar exchanges: the methods of each exchange that arrived since :meth:`arm`.
    :ivar executed: how often each method was executed since then.
    :raises OSError: where it cannot listen.
    """

    def __init__(self, methods: Mapping[str, Callable[..., Any]]) -> None:
        self._methods = methods
        self._lock = threading.Lock()
        self._server = LoopbackServer(self._handle)
        self.closing = threading.Event()
        self.arm(())

    @property
    def url(self) -> str:
        """Where to send requests."""
        return self._server.url

    def arm(self, faults: Sequence[Fault | None]) -> None:
        """Start a new record, and misbehave so in the next exchanges; ``None`` and those after are ordinary."""
        with self._lock:
            self._faults: Iterator[Fault | None] = iter(faults)
            self.exchanges: list[tuple[str, ...]] = []
            self.executed: Counter[str] = Counter()

    def __enter__(self) -> MisbehavingServer:
        self._server.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.closing.set()
        self._server.close()

    def _handle(self, received: Received) -> Any:
        document = received.json
        requests = document if isinstance(document, list) else [document]
        with self._lock:
            self.exchanges.append(tuple(request["method"] for request in requests))
            fault = next(self._faults, None)
        turn = Turn(self, received)
        return turn.work() if fault is None else fault(turn)

    def execute(self, received: Received, refused: Mapping[str, int]) -> Answer:
        """The ordinary answer, but for the methods that are *refused* with a code."""
        return rpc({name: self._counted(name, function, refused) for name, function in self._methods.items()})(received)

    def _counted(self, name: str, function: Callable[..., Any], refused: Mapping[str, int]) -> Callable[..., Any]:
        def method(*args: Any, **params: Any) -> Any:
            if name in refused:
                raise _CodedError(refused[name])
            with self._lock:
                self.executed[name] += 1
            return function(*args, **params)

        return method
