"""Middlewares: what needs a whole exchange, such as a signature over the body or a new token after a 401."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

from .._check import callable_with, is_async_callable
from ..transport import Exchange, Reply

__all__ = ["AsyncMiddleware", "Middleware", "around", "as_middlewares"]

Middleware: TypeAlias = Callable[[Exchange, Callable[[Exchange], Reply]], Reply]
AsyncMiddleware: TypeAlias = Callable[[Exchange, Callable[[Exchange], Awaitable[Reply]]], Awaitable[Reply]]


def as_middlewares(value: object, *, wanted_async: bool) -> tuple[Callable[..., Any], ...]:
    """Read a ``middlewares=`` argument: one or several, from the outermost to the innermost.

    :raises TypeError: for what is no function of an exchange and the next step, or is of the other kind.
    """
    chosen: tuple[Any, ...] = () if value is None else (value,) if callable(value) else tuple(value) if isinstance(value, Iterable) else (value,)
    for middleware in chosen:
        if isinstance(middleware, type):
            raise TypeError(f"middlewares takes functions, got the class {middleware.__name__}; write {middleware.__name__}()")
        callable_with("middlewares", middleware, 2, "it gets the exchange and the next step: def middleware(exchange, next)")
        if inspect.isgeneratorfunction(middleware) or inspect.isasyncgenfunction(middleware):
            raise TypeError(f"middlewares must return the reply, got the generator function {middleware!r:.60}")
        if is_async_callable(middleware) != wanted_async:
            wanted = "async def" if wanted_async else "def"
            raise TypeError(f"middlewares of this client must be written with {wanted}, got {middleware!r:.60}")
    return chosen


def around(perform: Callable[[Exchange], Any], middlewares: Iterable[Callable[..., Any]]) -> Callable[[Exchange], Any]:
    """*perform* with the middlewares around it, the first of them outermost."""
    for middleware in reversed(tuple(middlewares)):
        perform = _one_around(perform, middleware)
    return perform


def _one_around(next: Callable[[Exchange], Any], middleware: Callable[..., Any]) -> Callable[[Exchange], Any]:
    return lambda exchange: middleware(exchange, next)
