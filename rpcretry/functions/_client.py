"""A base for classes whose methods are retried."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, Unpack, cast

from .._check import is_async_callable
from ._options import RetryOptions
from ._retrying import Retrying, check_function, name_of, named

__all__ = ["RetryableClient"]

P = ParamSpec("P")
T = TypeVar("T")


class RetryableClient:
    """The base of a class of your own that calls somebody: ``self.with_retry(self._fetch)(key)``.

    :param options: those of :class:`~rpcretry.functions.RetryOptions`.
    :ivar retrying: how its functions are retried.
    """

    # Also for a subclass that does not call super().__init__().
    retrying = Retrying()

    def __init__(self, **options: Unpack[RetryOptions]) -> None:
        self.retrying = Retrying(**options)

    def with_retry(self, function: Callable[P, T]) -> Callable[P, T]:
        """*function*, retried.

        :raises TypeError: for an async function; use :meth:`with_async_retry`.
        """
        if is_async_callable(function):
            raise TypeError(f"{name_of(function)} is async; use with_async_retry")
        return self.retrying(function)

    def with_async_retry(self, function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        """An async function, or any that returns an awaitable, retried.

        :raises TypeError: for generators and what cannot be called.
        """
        check_function(function)

        @functools.wraps(function)
        async def retried(*args: P.args, **kwargs: P.kwargs) -> T:
            return await self.retrying.execute_async(function, *args, **kwargs)

        return cast("Callable[P, Coroutine[Any, Any, T]]", named(retried, function))
