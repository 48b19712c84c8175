"""Toxics of connections and of time."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Final

from ..._check import count, number
from ._toxic import Ending, Seconds, Stage, Toxic, as_seconds, choice, drawn, flag
from ._turn import Dripping, Turn

__all__ = ["Close", "CloseIdle", "CloseReused", "Drip", "Garbage", "Latency", "Refuse", "Reset", "Silence", "SlowAccept", "Truncate"]

STOPS: Final = {
    "unread": Stage.READ,
    "read": Stage.READ,
    "executed": Stage.EXECUTE,
    "head": Stage.DELIVERY,
    "body": Stage.DELIVERY,
    "end": Stage.END,
}


@dataclasses.dataclass(frozen=True)
class Refuse(Toxic):
    """Nobody listens. New connections are refused by the system, and the one that drew it is reset.

    In a list, as ``faults=[Refuse()]``, it lasts as long as the list: open connections are broken, too.

    :param seconds: how long, where it was drawn by a :class:`Mix`, by a function or in turn.
    """

    seconds: float = 0.1
    _stage: ClassVar[Stage] = Stage.CONNECT
    _lingers: ClassVar[bool] = True
    _executed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        number("seconds", self.seconds, above=0)

    def apply(self, turn: Turn) -> bool:
        turn.refuse_for = self.seconds
        turn.stop("unread", Ending.RESET)
        return True


@dataclasses.dataclass(frozen=True)
class SlowAccept(Toxic):
    """The connection is made by the system, and looked at only later; those behind it wait as well.

    Where a function or :class:`InTurn` chooses it for a request, those that connect from then on wait.

    :param seconds: how long: a number, a pair (least, most) to draw from, or a function of a ``random.Random``.
    """

    seconds: Seconds = 0.05
    _stage: ClassVar[Stage] = Stage.CONNECT
    _harmless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        as_seconds("seconds", self.seconds)

    def apply(self, turn: Turn) -> bool:
        turn.slow_accept += drawn(self.seconds, turn.random)
        return True


@dataclasses.dataclass(frozen=True)
class _Stop(Toxic):
    when: str = "read"
    _ending: ClassVar[Ending] = Ending.CLOSED

    def __post_init__(self) -> None:
        choice("when", self.when, tuple(STOPS))

    @property
    def stage(self) -> Stage:
        return STOPS[self.when]

    @property
    def executes(self) -> bool:
        return self.when not in ("unread", "read")

    @property
    def harmless(self) -> bool:
        return self.when == "end"

    @property
    def lingers(self) -> bool:
        return self.when == "end"

    def apply(self, turn: Turn) -> bool:
        turn.stop(self.when, self._ending)
        return True


@dataclasses.dataclass(frozen=True)
class Silence(_Stop):
    """Says nothing more and keeps the connection open until the client has closed it.

    :param when: ``unread``, ``read``, ``executed``, in the middle of the ``head`` or of the ``body``, or at the ``end``, after which
        the next request of the connection goes unread.
    """

    _ending: ClassVar[Ending] = Ending.SILENT


@dataclasses.dataclass(frozen=True)
class Reset(_Stop):
    """Breaks the connection with a TCP reset.

    :param when: ``unread``, ``read``, ``executed``, in the middle of the ``head`` or of the ``body``, or at the ``end``: a reset overtakes bytes
        that the client has not read.
    """

    _ending: ClassVar[Ending] = Ending.RESET

    @property
    def harmless(self) -> bool:
        return False


@dataclasses.dataclass(frozen=True)
class Close(_Stop):
    """Closes the connection in order, with a TCP FIN.

    :param when: ``unread``, ``read``, ``executed``, in the middle of the ``head`` or of the ``body``, or at the ``end``: after an answer that
        did not say ``Connection: close``.
    """


@dataclasses.dataclass(frozen=True)
class CloseReused(Toxic):
    """The end of an idle connection at the worst moment: closed just when another request arrives on it, which is not read.

    It leaves the first request of each connection alone.

    :param reset: whether by a TCP reset.
    """

    reset: bool = False
    _stage: ClassVar[Stage] = Stage.READ
    _executed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        flag("reset", self.reset)

    def fits(self, turn: Turn) -> bool:
        return turn.arrival.place > 1

    def apply(self, turn: Turn) -> bool:
        turn.stop("unread", Ending.RESET if self.reset else Ending.CLOSED)
        return True


@dataclasses.dataclass(frozen=True)
class CloseIdle(Toxic):
    """Closes the connection, without having said so, when no further request has come for some time.

    :param after: seconds.
    """

    after: float = 0.005
    _stage: ClassVar[Stage] = Stage.END
    _harmless: ClassVar[bool] = True
    _lingers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        number("after", self.after, least=0)

    def apply(self, turn: Turn) -> bool:
        turn.idle_limit = self.after if turn.idle_limit is None else min(self.after, turn.idle_limit)
        return True


@dataclasses.dataclass(frozen=True)
class Latency(Toxic):
    """Takes its time.

    :param seconds: a number, a pair (least, most) to draw from, or a function of a ``random.Random``.
    :param when: ``before`` or ``after`` the execution.
    """

    seconds: Seconds = 0.01
    when: str = "before"
    _stage: ClassVar[Stage] = Stage.EXECUTE
    _harmless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        as_seconds("seconds", self.seconds)
        choice("when", self.when, ("before", "after"))

    def apply(self, turn: Turn) -> bool:
        seconds = drawn(self.seconds, turn.random)
        if self.when == "before":
            turn.wait_before += seconds
        else:
            turn.wait_after += seconds
        return True


@dataclasses.dataclass(frozen=True)
class Drip(Toxic):
    """Sends a few bytes at a time.

    :param part: of the ``head``, of the ``body``, or of ``all``.
    :param interval: seconds between them.
    :param size: how many bytes at a time.
    """

    part: str = "body"
    interval: float = 0.001
    size: int = 1
    _harmless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        choice("part", self.part, ("head", "body", "all"))
        number("interval", self.interval, least=0)
        count("size", self.size, least=1)

    def apply(self, turn: Turn) -> bool:
        for part in ("head", "body") if self.part == "all" else (self.part,):
            turn.drips[part] = Dripping(self.interval, self.size)
        return True


@dataclasses.dataclass(frozen=True)
class Truncate(Toxic):
    """Sends a part of the body and closes the connection.

    :param fraction: how much of it is sent, from 0 to less than 1.
    """

    fraction: float = 0.5

    def __post_init__(self) -> None:
        if number("fraction", self.fraction, least=0, most=1) == 1:
            raise ValueError("fraction must be less than 1; the whole body is Close('end')")

    def apply(self, turn: Turn) -> bool:
        turn.cut_at("body", self.fraction, Ending.CLOSED)
        return True


@dataclasses.dataclass(frozen=True)
class Garbage(Toxic):
    """Sends random bytes.

    :param size: how many.
    :param part: in place of the whole answer, ``all``, or of the ``body``.
    """

    size: int = 64
    part: str = "all"

    def __post_init__(self) -> None:
        count("size", self.size, least=1)
        choice("part", self.part, ("all", "body"))

    @property
    def stage(self) -> Stage:
        return Stage.BODY if self.part == "body" else Stage.DELIVERY

    def apply(self, turn: Turn) -> bool:
        # No byte of it is a letter, a digit or a bracket, so that it is an HTTP answer or JSON by no chance.
        found = bytes(turn.random.randrange(128, 256) for _ in range(self.size))
        if self.part == "body":
            turn.body = found
        else:
            turn.garbage = found + b"\r\n\r\n"
        return True
