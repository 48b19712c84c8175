"""What all toxics have in common."""

from __future__ import annotations

import dataclasses
import enum
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from ..._check import callable_with, closest, number

if TYPE_CHECKING:
    from ._turn import Turn

__all__ = ["Ending", "Seconds", "Stage", "Toxic"]

Seconds: TypeAlias = "float | tuple[float, float] | Callable[[random.Random], float]"


class Stage(enum.IntEnum):
    """When a toxic acts on a request; they act in this order, and within a stage in the order in which they are listed."""

    CONNECT = 0
    """On the listener, before there is a request."""
    READ = 1
    """Before the body of the request is read, or before it is parsed."""
    EXECUTE = 2
    """Around the execution."""
    ANSWER = 3
    """On the JSON-RPC document that answers."""
    BODY = 4
    """On the bytes of the body."""
    HEAD = 5
    """On status line, headers and framing."""
    DELIVERY = 6
    """On how the bytes leave."""
    END = 7
    """On the connection, after the answer."""


class Ending(enum.Enum):
    """What becomes of the connection after a request."""

    KEPT = "kept"
    CLOSED = "closed"
    RESET = "reset"
    SILENT = "silent"


@dataclasses.dataclass(frozen=True)
class Toxic:
    """One way to misbehave, a value. Those that are made with the same parameters are equal.

    Toxics compose: all that are drawn for a request act on it. It is executed if each of them ``executes``; where several end the answer
    early, the earliest place in the answer wins.

    One of your own is a frozen dataclass with an ``apply``. It says what it is by class attributes: ``_stage``, a :class:`Stage`;
    ``_executed``, whether the request is executed (``True``); ``_harmless`` and ``_lingers`` (``False``).
    """

    _stage: ClassVar[Stage] = Stage.DELIVERY
    _harmless: ClassVar[bool] = False
    _lingers: ClassVar[bool] = False
    _executed: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """What it is counted by: the name of its class."""
        return type(self).__name__

    @property
    def stage(self) -> Stage:
        """When it acts."""
        return self._stage

    @property
    def harmless(self) -> bool:
        """Whether HTTP and JSON-RPC oblige or allow a client to come to the right answer in spite of it, given enough time."""
        return self._harmless

    @property
    def lingers(self) -> bool:
        """Whether it may break a later request, one that did not draw it."""
        return self._lingers

    @property
    def executes(self) -> bool:
        """Whether the server executes a request that draws it."""
        return self._executed

    def fits(self, turn: Turn) -> bool:
        """Whether it can do anything to this request. One that cannot is passed over and not counted."""
        return True

    def apply(self, turn: Turn) -> bool:
        """Write into *turn* what is to be done. ``False`` where there was nothing to act upon."""
        raise NotImplementedError(f"{self.name} must define apply(turn)")


def choice(name: str, value: object, known: Sequence[str]) -> None:
    """Refuse what is none of the known words."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, one of {', '.join(known)}; got {type(value).__name__} {value!r:.60}")
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r:.60}{closest(value, known)}")


def flag(name: str, value: object) -> None:
    """Refuse what is neither ``True`` nor ``False``."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {type(value).__name__} {value!r:.60}")


def as_seconds(name: str, value: object) -> None:
    """Refuse what is neither seconds, nor a range of them, nor a function that draws them."""
    if isinstance(value, tuple):
        if len(value) != 2:
            raise ValueError(f"{name} must be a pair (least, most) where it is a tuple, got {len(value)} items")
        least = number(f"{name}[0]", value[0], least=0)
        number(f"{name}[1]", value[1], least=least)
    elif callable(value):
        callable_with(name, value, 1, "it gets a random.Random and returns seconds")
    else:
        number(name, value, least=0)


def drawn(value: Seconds, source: random.Random) -> float:
    """The seconds that *value* stands for in one turn."""
    if isinstance(value, tuple):
        return source.uniform(*value)
    return number("the seconds that a function returned", value(source), least=0) if callable(value) else value
