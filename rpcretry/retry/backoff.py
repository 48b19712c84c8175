"""How long to wait between tries: iterators of seconds.

Calling a backoff gives a fresh iterator, so one backoff serves any number of calls at once. A delay is never
negative, never NaN and never more than ``max_value``; growth without a ``max_value`` ends at :data:`LONGEST`.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, TypeAlias

from .._check import callable_with, count, number, plain_callable_with
from .jitter import JitterLike, as_jitter, uniform

__all__ = [
    "LONGEST",
    "UNLIMITED",
    "Backoff",
    "BackoffLike",
    "DecorrelatedJitterBackoff",
    "ExponentialBackoff",
    "FibonacciBackoff",
    "ImmediateBackoff",
    "LinearBackoff",
    "PeriodicBackoff",
]

UNLIMITED: Final[int] = sys.maxsize
"""``attempts=UNLIMITED``: retry for ever, or until the deadline."""

LONGEST: Final[float] = 86_400.0
"""The longest delay in seconds, a day, where no ``max_value`` is lower."""

# What other libraries call our parameters.
_SYNONYMS = {
    "attempt": "attempts",
    "max_attempts": "attempts (it counts the retries: max_attempts - 1)",
    "max_retries": "attempts",
    "max_tries": "attempts (it counts the retries: max_tries - 1)",
    "retries": "attempts",
    "tries": "attempts (it counts the retries: tries - 1)",
    "times": "attempts",
    "total": "attempts",
    "base_delay": "base, or interval of a PeriodicBackoff",
    "delay": "interval, or base",
    "initial": "base",
    "initial_delay": "base",
    "wait": "interval",
    "wait_initial": "base",
    "backoff_factor": "base",
    "exp_base": "factor",
    "exponential_base": "factor",
    "multiplier": "factor (FibonacciBackoff alone has a multiplier)",
    "step": "increment",
    "cap": "max_value",
    "max": "max_value",
    "max_delay": "max_value",
    "max_interval": "max_value",
    "max_wait": "max_value",
    "wait_max": "max_value",
}


@dataclasses.dataclass(frozen=True)
class Backoff:
    """The base of all backoffs; a subclass needs one method, ``__call__``, that returns an iterator of seconds.

    :param attempts: how many delays it yields: the retries after the first try.
    :param jitter: ``True`` for full jitter, a number in (0, 1] for a proportion each way, a
        :class:`~rpcretry.retry.Jitter`, or a callable without arguments whose seconds are added.
    :param max_value: the longest delay in seconds, jitter included.
    :raises TypeError, ValueError: at construction, naming the parameter.
    """

    attempts: int
    jitter: JitterLike = dataclasses.field(default=None, kw_only=True)
    max_value: float | None = dataclasses.field(default=None, kw_only=True)

    if not TYPE_CHECKING:

        def __new__(cls, *args, **kwargs):
            for name in kwargs:
                if name in _SYNONYMS and name not in inspect.signature(cls.__init__).parameters:
                    raise TypeError(f"{cls.__name__} has no parameter {name!r}; here it is called {_SYNONYMS[name]}")
            return super().__new__(cls)

    def __post_init__(self) -> None:
        count("attempts", self.attempts)
        as_jitter(self.jitter)
        if self.max_value is not None:
            number("max_value", self.max_value, least=0)

    def __call__(self) -> Iterator[float]:
        """A fresh iterator of ``attempts`` delays in seconds."""
        raise TypeError(f"{type(self).__name__} must define __call__(self), returning an iterator of seconds")

    @property
    def cap(self) -> float:
        """The longest delay in seconds: ``max_value``, or a day."""
        return LONGEST if self.max_value is None else min(self.max_value, LONGEST)

    def spread(self, delays: Iterator[float]) -> Iterator[float]:
        """The first ``attempts`` of *delays*, capped, then with jitter, then capped again.

        For use in ``__call__`` of a subclass that wants ``jitter`` and ``max_value`` to count.
        """
        jitter, cap = as_jitter(self.jitter), self.cap
        for delay in itertools.islice(delays, min(self.attempts, UNLIMITED)):
            delay = within(delay, cap)
            yield delay if jitter is None else within(jitter(delay), cap)

    @staticmethod
    def from_function(function: Callable[[int], float | None], *, attempts: int = UNLIMITED) -> Backoff:
        """Adapt a function from the number of the failed attempt, from 1, to seconds.

        :param function: returning ``None`` ends the retries.
        :param attempts: the most retries.
        """
        return _FunctionBackoff(attempts, function)


def within(delay: float, cap: float = LONGEST, rule: str = "a backoff's delay must be a number of seconds") -> float:
    """*delay* as finite seconds between 0 and *cap*.

    :param rule: what the message says that it must be.
    :raises TypeError: where it is no number.
    :raises ValueError: where it is NaN.
    """
    if isinstance(delay, bool) or not isinstance(delay, (int, float)):
        raise TypeError(f"{rule}, got {type(delay).__name__} {delay!r:.60}")
    if delay != delay:
        raise ValueError(f"{rule}, got NaN")
    return 0.0 if delay <= 0 else float(min(delay, cap))


@dataclasses.dataclass(frozen=True)
class _FunctionBackoff(Backoff):
    function: Callable[[int], float | None]

    def __post_init__(self) -> None:
        super().__post_init__()
        plain_callable_with("function", self.function, 1, "it gets the number of the failed attempt and returns seconds")

    def __call__(self) -> Iterator[float]:
        return self.spread(self._delays())

    def _delays(self) -> Iterator[float]:
        for attempt in itertools.count(1):
            try:
                delay = self.function(attempt)
            except OverflowError:
                # 2.0 ** attempt fails at 1024; what it means by then is the longest delay there is.
                delay = self.cap
            if delay is None:
                return
            yield delay


@dataclasses.dataclass(frozen=True)
class ImmediateBackoff(Backoff):
    """No delay. For failures that pass at once, such as a lost race for a lock."""

    def __call__(self) -> Iterator[float]:
        return self.spread(itertools.repeat(0.0))


@dataclasses.dataclass(frozen=True)
class PeriodicBackoff(Backoff):
    """The same delay each time.

    :param interval: seconds.
    """

    interval: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("interval", self.interval, least=0)

    def __call__(self) -> Iterator[float]:
        return self.spread(itertools.repeat(self.interval))


@dataclasses.dataclass(frozen=True)
class LinearBackoff(Backoff):
    """``base``, ``base + increment``, ``base + 2 * increment`` ...

    :param base: the first delay in seconds.
    :param increment: seconds added each time.
    """

    base: float = 1.0
    increment: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("base", self.base, least=0)
        number("increment", self.increment, least=0)

    def __call__(self) -> Iterator[float]:
        return self.spread(self._grow())

    def _grow(self) -> Iterator[float]:
        base, increment, cap = float(self.base), float(self.increment), self.cap
        for step in itertools.count():
            yield min(base + step * increment, cap)


@dataclasses.dataclass(frozen=True)
class ExponentialBackoff(Backoff):
    """``base``, ``base * factor``, ``base * factor ** 2`` ...

    :param base: the first delay in seconds.
    :param factor: what each delay is multiplied by.
    """

    base: float = 1.0
    factor: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("base", self.base, least=0)
        number("factor", self.factor, above=0)

    def __call__(self) -> Iterator[float]:
        return self.spread(self._grow())

    def _grow(self) -> Iterator[float]:
        delay, factor, cap = min(float(self.base), self.cap), float(self.factor), self.cap
        while True:
            yield delay
            # Capped at each step, so that no power of the factor can overflow.
            delay = min(delay * factor, cap)


@dataclasses.dataclass(frozen=True)
class FibonacciBackoff(Backoff):
    """``multiplier`` times 1, 1, 2, 3, 5, 8 ...

    :param multiplier: seconds.
    """

    multiplier: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("multiplier", self.multiplier, least=0)

    def __call__(self) -> Iterator[float]:
        return self.spread(self._grow())

    def _grow(self) -> Iterator[float]:
        delay = following = min(float(self.multiplier), self.cap)
        while True:
            yield delay
            delay, following = following, min(delay + following, self.cap)


@dataclasses.dataclass(frozen=True)
class DecorrelatedJitterBackoff(Backoff):
    """Each delay is drawn between ``base`` and three times the one before (Brooker, 2015).

    Where three times the one before would pass the cap, the draw is made below the cap, so that delays stay
    spread there.

    :param base: the shortest delay in seconds.
    :param max_value: the longest; 20 s where it is not given.
    :param random: a source of numbers in [0, 1).
    """

    base: float = 0.1
    max_value: float | None = dataclasses.field(default=20.0, kw_only=True)
    random: Callable[[], float] = dataclasses.field(default=uniform, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        number("base", self.base, above=0)
        if self.base >= self.cap:
            raise ValueError(f"base must be less than max_value, or nothing is left to draw from, got base={self.base!r} and max_value={self.cap:g}")
        callable_with("random", self.random, 0, "pass random.Random(seed).random")

    def __call__(self) -> Iterator[float]:
        return self.spread(self._draw())

    def _draw(self) -> Iterator[float]:
        least = delay = min(float(self.base), self.cap)
        while True:
            delay = least + (max(min(delay * 3, self.cap), least) - least) * self.random()
            yield delay


BackoffLike: TypeAlias = Callable[[], Iterator[float]]


def as_backoff(value: object) -> BackoffLike:
    """Read a ``backoff=`` argument.

    :raises TypeError: for what cannot give every request a fresh iterator.
    """
    if isinstance(value, type):
        raise TypeError(f"backoff must be an instance, got the class {value.__name__}; write backoff={value.__name__}(attempts=3)")
    if isinstance(value, Iterator):
        raise TypeError(
            f"backoff must be a callable that returns an iterator, got the iterator {value!r:.60}: calls would share and exhaust it; "
            "pass the function that made it, uncalled"
        )
    if not callable(value):
        hint = "write backoff=lambda: iter([...])" if isinstance(value, (list, tuple)) else "write backoff=PeriodicBackoff(attempts=3, interval=...)"
        raise TypeError(f"backoff must be a Backoff or a callable that returns an iterator of seconds, got {value!r:.60}; {hint}")
    if inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value):
        raise TypeError(f"backoff must return an iterator of seconds and no coroutine, got {value!r:.60}; write def")
    callable_with("backoff", value, 0, "use Backoff.from_function for a function of the attempt's number")
    return value


def limit_of(backoff: BackoffLike) -> int | None:
    """How many retries *backoff* allows, where it says so."""
    attempts = getattr(backoff, "attempts", None)
    return attempts if isinstance(attempts, int) and attempts < UNLIMITED else None
