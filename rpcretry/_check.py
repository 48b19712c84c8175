"""Refusing bad input: the messages name the parameter, its value and the fix."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


def closest(name: str, known: Sequence[str]) -> str:
    """The end of an error message: which known name was probably meant."""
    # The letters of _retry are nearer to _result than to _retry_strategy.
    longer = [each for each in known if each.startswith(name)] if len(name) > 2 else []
    found = longer or difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {found[0]}?" if found else f"; known are {', '.join(known)}"


def refuse_unknown(what: str, given: Iterable[str], known: Sequence[str], synonyms: Mapping[str, str]) -> None:
    """Refuse keywords that do not exist.

    :param synonyms: what other libraries call our parameters, and what to write here.
    :raises TypeError: naming the one that was meant.
    """
    for name in given:
        if name not in known:
            meant = synonyms.get(name)
            raise TypeError(f"{what} has no parameter {name!r}{f'; here it is {meant}' if meant else closest(name, known)}")


def number(name: str, value: object, *, least: float | None = None, above: float | None = None, most: float | None = None) -> float:
    """Refuse what is no finite number or out of range.

    :raises TypeError: where *value* is no number.
    :raises ValueError: where it is NaN, infinite or outside of the bounds.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__} {value!r:.60}")
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise ValueError(f"{name} must be finite, got {value!s:.40}")
    if least is not None and value < least:
        raise ValueError(f"{name} must be at least {least:g}, got {value!r}")
    if above is not None and value <= above:
        raise ValueError(f"{name} must be more than {above:g}, got {value!r}")
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {most:g}, got {value!r}")
    return value


def seconds(name: str, value: object) -> float | None:
    """Refuse what is neither ``None`` nor a number of seconds above 0."""
    if value is None:
        return None
    try:
        return number(name, value, above=0)
    except (TypeError, ValueError) as problem:
        raise type(problem)(f"{problem}; give seconds, or None for no limit") from None


def deadline_in_seconds(name: str, value: object) -> float | None:
    """Refuse what is no number of seconds. 0 or less is allowed: what is left of a budget may be nothing."""
    if value is None:
        return None
    if isinstance(value, float) and math.isinf(value) and value > 0:
        return None
    try:
        return number(name, value)
    except (TypeError, ValueError) as problem:
        raise type(problem)(f"{problem}; give seconds, or None for no limit") from None


def count(name: str, value: object, *, least: int = 0) -> int:
    """Refuse what is no int of at least *least*."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {type(value).__name__} {value!r:.60}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return value


def text(name: str, value: object) -> str:
    """Refuse what is no str, or an empty one."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, got {type(value).__name__} {value!r:.60}")
    if not value:
        raise ValueError(f"{name} must not be empty")
    return value


def plain_callable_with(name: str, value: object, arguments: int, fix: str) -> None:
    """The same, and refuse what would return a coroutine or a generator: it decides, and is never awaited."""
    if inspect.iscoroutinefunction(value) or inspect.isgeneratorfunction(value) or inspect.isasyncgenfunction(value):
        raise TypeError(f"{name} must be a plain function, got {value!r:.80}, which returns a coroutine or a generator; write def and return")
    callable_with(name, value, arguments, fix)


def callable_with(name: str, value: object, arguments: int, fix: str) -> None:
    """Refuse what cannot be called with that many positional arguments."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, got {type(value).__name__} {value!r:.60}; {fix}")
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        # Some builtins do not say what they take; calling them will tell.
        return
    try:
        signature.bind(*[None] * arguments)
    except TypeError:
        what = "no argument" if arguments == 0 else f"{arguments} argument{'s' if arguments > 1 else ''}"
        raise TypeError(f"{name} must be callable with {what}, got {value!r:.80} with {signature}; {fix}") from None


def is_async_callable(function: object) -> bool:
    """Whether calling it gives a coroutine: an ``async def``, a partial or method of one, or an object whose ``__call__`` is one."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__ if callable(function) else None)


def needs_argument(function: Callable[..., Any]) -> bool:
    """Whether it is to be called with an argument: one that has a default is for somebody else, as in ``partial(prices.get, "EUR")``."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        # Builtins that do not say what they take: int, dict and the like make an empty value of nothing.
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    # *args may stand for a decorated function's.
    return any(given.kind is given.VAR_POSITIONAL or (given.kind in positional and given.default is given.empty) for given in parameters)
