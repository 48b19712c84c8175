"""What stands in for the result of a call that failed."""

from __future__ import annotations

import enum
import functools
import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from .._check import callable_with, count, is_async_callable, needs_argument, number
from ..outcome import Rescue

__all__ = ["LAST_GOOD", "Fallback"]


class LastGood(enum.Enum):
    """The type of :data:`LAST_GOOD`."""

    LAST_GOOD = "LAST_GOOD"

    def __repr__(self) -> str:
        return "LAST_GOOD"


LAST_GOOD: Final = LastGood.LAST_GOOD
"""For :class:`Fallback`: the last result that the same call with the same arguments brought.

A client's call is the same where client, method, params, ``_result`` and headers are: what one user may see is not given to
another. Of the headers, an ``Idempotency-Key`` does not count; what a middleware adds is not seen.
"""


class _Kept(NamedTuple):
    value: Any
    at: float

    def get(self) -> Any:
        return self.value


class _Step(NamedTuple):
    name: str
    ask: Callable[[Exception], Any] | None
    is_async: bool = False


class Fallback:
    """What stands in for the result when the whole call has failed, retries and all. One may serve many calls.

    ``Fallback(0)`` gives a value, ``Fallback(cached_price)`` what a callable returns, ``Fallback(LAST_GOOD, 0)`` the last
    good result of the same call, and 0 where there is none. They are asked in their order until one answers. Where
    all fail, the exception of the last one is raised from the failure.

    :param steps: values, callables, and :data:`LAST_GOOD`. A callable that needs an argument gets the failure, one with defaults
        for all of its parameters gets nothing; on async clients and functions it may be ``async def``. To fall back to a callable,
        wrap it: ``lambda: function``. A value, and a last good result, is the same object each time: write ``list`` or
        ``lambda: []`` for a new list.
    :param on: the exceptions that it stands in for, one class or any iterable of them.
    :param max_age: the oldest result in seconds that :data:`LAST_GOOD` gives; any where it is not given.
    :param size: how many results are kept for :data:`LAST_GOOD`; the longest unused go first.
    :raises TypeError, ValueError: naming the parameter and the fix.
    """

    __slots__ = ("_kept", "_lock", "_on", "_steps", "max_age", "remembers", "size")

    def __init__(
        self,
        *steps: Any,
        on: type[Exception] | Iterable[type[Exception]] = Exception,
        max_age: float | None = None,
        size: int = 1024,
    ) -> None:
        if not steps:
            raise TypeError("Fallback takes what to fall back to: a value, a callable or LAST_GOOD; for None write Fallback(None)")
        self._steps = tuple(_step(step) for step in steps)
        self._on = _classes(on)
        self.remembers = any(step is LAST_GOOD for step in steps)
        self.max_age = None if max_age is None else number("max_age", max_age, above=0)
        self.size = count("size", size, least=1)
        if not self.remembers and (max_age is not None or size != 1024):
            raise ValueError(f"{'size' if max_age is None else 'max_age'} is for LAST_GOOD, which is not among the steps; write Fallback(LAST_GOOD, ...)")
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        # Re-entrant: the arguments that a result is kept under compare themselves, in somebody else's code.
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"Fallback({', '.join(step.name for step in self._steps)})"

    @property
    def is_async(self) -> bool:
        """Whether one of its callables has to be awaited."""
        return any(step.is_async for step in self._steps)

    def covers(self, error: Exception) -> bool:
        """Whether it stands in for *error*."""
        return isinstance(error, self._on)

    def remember(self, key: Hashable, value: Any, now: float) -> None:
        """Keep the good result of a call."""
        dropped: list[object] = []
        with self._lock:
            dropped.append(self._kept.pop(key, None))
            self._kept[key] = _Kept(value, now)
            if len(self._kept) > self.size:
                dropped.append(self._kept.popitem(last=False))
        # Only here, where no lock is held: a value's finalizer is somebody else's code.
        dropped.clear()

    def offers(self, error: Exception, key: Hashable | None, now: float) -> Iterator[Rescue]:
        """What to ask, in turn, until one answers. A *key* of ``None`` has no last good result."""
        for step in self._steps:
            if step.ask is not None:
                yield Rescue(step.name, functools.partial(step.ask, error))
                continue
            with self._lock:
                kept = self._kept.get(key) if key is not None else None
                if kept is not None and key is not None:
                    self._kept.move_to_end(key)
            if kept is not None and (self.max_age is None or now - kept.at <= self.max_age):
                yield Rescue(step.name, kept.get)


def as_fallback(name: str, value: object, *, awaited: bool) -> Fallback | None:
    """Refuse what is no fallback, and an async one where nobody would await it."""
    if value is None:
        return None
    if not isinstance(value, Fallback):
        hint = f"{value.__name__}(...)" if isinstance(value, type) and issubclass(value, Fallback) else "Fallback(...) around it"
        raise TypeError(f"{name} must be a Fallback or None, got {type(value).__name__} {value!r:.60}; write {hint}")
    if value.is_async and not awaited:
        raise TypeError(f"{name} is sync here and would not be awaited, but {value!r:.60} has an async def; write def")
    return value


def _step(step: Any) -> _Step:
    if step is LAST_GOOD:
        return _Step("last good", None)
    if inspect.isgeneratorfunction(step) or inspect.isasyncgenfunction(step):
        raise TypeError(f"Fallback takes values and callables that return one, got the generator function {step!r:.60}")
    if not callable(step):
        return _Step("value", lambda error: step)
    name, is_async = getattr(step, "__qualname__", None) or type(step).__name__, is_async_callable(step)
    wanted = needs_argument(step)
    callable_with("Fallback's callable", step, int(wanted), "it gets the failure, or nothing")
    return _Step(name, step if wanted else lambda error: step(), is_async)


def _classes(on: object) -> tuple[type[Exception], ...]:
    classes: tuple[Any, ...] = tuple(on) if isinstance(on, Iterable) and not isinstance(on, (str, type)) else (on,)
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, Exception)):
            raise TypeError(f"on takes subclasses of Exception, got {cls!r:.60}")
    if not classes:
        raise ValueError("on must name an exception, got none: the fallback would never be asked; leave on out for all")
    return classes
