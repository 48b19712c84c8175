"""Spreading delays, so that clients that failed together do not return together.

Full and equal jitter are those of Marc Brooker, "Exponential Backoff And Jitter" (2015): full jitter had the
fewest calls and a near-shortest completion in his simulation of contention.
"""

from __future__ import annotations

import abc
import random
from collections.abc import Callable
from typing import TypeAlias

from .._check import callable_with, number, plain_callable_with

__all__ = ["AdditiveJitter", "EqualJitter", "FullJitter", "Jitter", "JitterLike", "ProportionalJitter"]


# Where no number is taken any more that adds up to a delay.
_MOST = 1e9


def uniform() -> float:
    """A number in [0, 1) from the random module's own source.

    A function of ours, since :func:`random.random` pickles with the state of its source: processes that are
    handed one strategy would all draw the same delays.
    """
    return random.random()


class Jitter(abc.ABC):
    """Turns a capped delay into the one to wait. Subclass it with ``__call__``.

    :param random: a source of numbers in [0, 1), to have it repeatable: ``random.Random(7).random``.
    """

    def __init__(self, *, random: Callable[[], float] = uniform) -> None:
        # Looking at a signature costs more than all else that the first failure of a call does.
        if random is not uniform:
            callable_with("random", random, 0, "pass random.Random(seed).random")
        self.random = random

    @abc.abstractmethod
    def __call__(self, delay: float) -> float:
        """The seconds to wait in place of *delay* seconds."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class FullJitter(Jitter):
    """Anything between 0 and the delay."""

    def __call__(self, delay: float) -> float:
        return delay * self.random()


class EqualJitter(Jitter):
    """Half of the delay, and anything up to the other half."""

    def __call__(self, delay: float) -> float:
        return delay / 2 + delay / 2 * self.random()


class ProportionalJitter(Jitter):
    """The delay, more or less by up to a proportion of itself.

    :param proportion: in (0, 1]; 0.1 makes 1 s anything from 0.9 s to 1.1 s.
    """

    def __init__(self, proportion: float, *, random: Callable[[], float] = uniform) -> None:
        super().__init__(random=random)
        self.proportion = number("proportion", proportion, above=0, most=1)

    def __call__(self, delay: float) -> float:
        return delay * (1 + self.proportion * (2 * self.random() - 1))

    def __repr__(self) -> str:
        return f"ProportionalJitter({self.proportion!r})"


class AdditiveJitter(Jitter):
    """The delay and anything up to *most* seconds more.

    :param most: seconds.
    """

    def __init__(self, most: float, *, random: Callable[[], float] = uniform) -> None:
        super().__init__(random=random)
        self.most = number("most", most, above=0)

    def __call__(self, delay: float) -> float:
        return delay + self.most * self.random()

    def __repr__(self) -> str:
        return f"AdditiveJitter({self.most!r})"


class _Added(Jitter):
    """A callable of the user's whose seconds are added."""

    def __init__(self, function: Callable[[], float]) -> None:
        super().__init__()
        self.function = function

    def __call__(self, delay: float) -> float:
        added = self.function()
        if isinstance(added, bool) or not isinstance(added, (int, float)):
            raise TypeError(f"a jitter callable must return a number of seconds, got {type(added).__name__} {added!r:.60}")
        if added != added:
            raise ValueError("a jitter callable must return a number of seconds, got NaN")
        return delay + max(-_MOST, min(added, _MOST))


JitterLike: TypeAlias = "bool | float | Jitter | Callable[[], float] | None"


def as_jitter(value: JitterLike) -> Jitter | None:
    """Read a ``jitter=`` argument: True is full, a float in (0, 1] proportional, a callable additive.

    :raises TypeError: for anything else, and for a callable that needs an argument.
    :raises ValueError: for a number outside of (0, 1].
    """
    if value is None or value is False:
        return None
    if value is True:
        return FullJitter()
    if isinstance(value, Jitter):
        return value
    if isinstance(value, type):
        raise TypeError(f"jitter must be an instance, got the class {value.__name__}; write jitter={value.__name__}()")
    if isinstance(value, (int, float)):
        try:
            return ProportionalJitter(value)
        except ValueError:
            raise ValueError(f"jitter as a number must be in (0, 1], a proportion of the delay each way, got {value!r}") from None
    if not callable(value):
        raise TypeError(f"jitter must be True, a number in (0, 1], a Jitter or a callable without arguments, got {value!r:.60}")
    plain_callable_with("jitter", value, 0, "write a Jitter subclass to work on the delay; a plain callable returns seconds to add")
    return _Added(value)
