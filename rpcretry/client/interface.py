"""Interfaces of servers, written as classes: what is said of their methods.

``client.typed(Wallet)`` reads the class, and makes an object whose methods are calls.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, ClassVar, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeAlias, TypeVar, cast, overload

from .._check import deadline_in_seconds, refuse_unknown, seconds, text
from .._unset import UNSET, Unset
from ..retry.fallback import Fallback, as_fallback
from ..retry.strategy import RetryStrategy
from .keys import IdempotencyKey, as_key_source
from .options import OF_INTERFACES, as_strategy, checks_names

__all__ = ["AsyncInterface", "RpcMethod", "notification", "rpc"]

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Nothing = TypeVar("Nothing", None, Coroutine[Any, Any, None])

By: TypeAlias = Literal["position", "name"]

OPTIONS = ("retry_strategy", "timeout", "deadline", "fallback", "idempotency_key")


class AsyncInterface(Protocol):
    """Makes of an interface one whose methods are awaited: ``class AsyncWallet(Wallet, AsyncInterface, Protocol): ...``.

    It is for type checkers, which then see an awaitable for each method under :func:`rpc` or :func:`notification`. An async client
    makes awaited methods of every interface, whatever its bases.
    """

    __awaited__: ClassVar[bool] = True


class RpcMethod(Generic[P, T_co]):
    """A method of an interface, with what :func:`rpc` or :func:`notification` says of it.

    :ivar function: the function that declares it.
    :ivar name: the method's name on the server; ``None`` for that of the function.
    :ivar by: how params travel, ``"position"`` or ``"name"``; ``None`` where the signature decides.
    :ivar idempotent: whether it may be executed twice; ``None`` where the strategy says so.
    :ivar is_notification: whether it is sent without waiting for an answer.
    :ivar options: the options that it has of its own.
    :raises TypeError, ValueError: naming what is wrong, and the fix.
    """

    __isabstractmethod__ = False

    def __init__(
        self,
        function: Callable[..., Any],
        name: str | None = None,
        by: By | None = None,
        idempotent: bool | None = None,
        is_notification: bool = False,
        options: Mapping[str, Any] = types.MappingProxyType({}),
    ) -> None:
        _check(name, by, idempotent, options)
        functools.update_wrapper(cast("Any", self), _function("notification" if is_notification else "rpc", function))
        self.function = function
        self.name = name
        self.by = by
        self.idempotent = idempotent
        self.is_notification = is_notification
        self.options = options
        self.__isabstractmethod__ = getattr(function, "__isabstractmethod__", False)

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> RpcMethod[P, T_co]: ...
    @overload
    def __get__(self: RpcMethod[P, Awaitable[T]], instance: AsyncInterface, owner: type[Any]) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, instance: AsyncInterface, owner: type[Any]) -> Callable[P, Coroutine[Any, Any, T_co]]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> Callable[P, T_co]: ...
    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        # What client.typed returns has methods of its own; this is for whoever makes an instance of the class itself.
        return self if instance is None else types.MethodType(self.function, instance)

    @overload
    def __call__(self: RpcMethod[P, Awaitable[T]], instance: AsyncInterface, /, *args: P.args, **params: P.kwargs) -> Coroutine[Any, Any, T]: ...
    @overload
    def __call__(self, instance: AsyncInterface, /, *args: P.args, **params: P.kwargs) -> Coroutine[Any, Any, T_co]: ...
    @overload
    def __call__(self, instance: object, /, *args: P.args, **params: P.kwargs) -> T_co: ...
    def __call__(self, instance: Any = UNSET, /, *args: Any, **params: Any) -> Any:
        # As a function of the class is called with an instance. It has a default for unittest.mock, which goes by this signature.
        from ._interface_calls import Typed

        if type(instance) is Typed:
            return getattr(instance, self.__name__)(*args, **params)
        if instance is UNSET:
            raise TypeError(f"{self.function.__qualname__}() is a method; call it on what client.typed returned")
        return self.function(instance, *args, **params)

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.__name__ = name

    def __repr__(self) -> str:
        return f"<{'notification' if self.is_notification else 'rpc'} {self.function.__qualname__}>"


class Declares(Protocol):
    """What ``rpc(...)`` returns."""

    def __call__(self, function: Callable[Concatenate[Any, P], T], /) -> RpcMethod[P, T]: ...


class Notifies(Protocol):
    """What ``notification(...)`` returns."""

    def __call__(self, function: Callable[Concatenate[Any, P], Nothing], /) -> RpcMethod[P, Nothing]: ...


@overload
def rpc(function: Callable[Concatenate[Any, P], T], /) -> RpcMethod[P, T]: ...
@overload
def rpc(
    *,
    name: str | None = ...,
    by: By | None = ...,
    idempotent: bool | None = ...,
    retry_strategy: RetryStrategy | Unset | None = ...,
    timeout: float | Unset | None = ...,
    deadline: float | Unset | None = ...,
    fallback: Fallback | Unset | None = ...,
    idempotency_key: IdempotencyKey | Unset | None = ...,
) -> Declares: ...
@checks_names(OF_INTERFACES)
def rpc(
    function: Any = UNSET,
    /,
    *,
    name: str | None = None,
    by: By | None = None,
    idempotent: bool | None = None,
    retry_strategy: RetryStrategy | Unset | None = UNSET,
    timeout: float | Unset | None = UNSET,
    deadline: float | Unset | None = UNSET,
    fallback: Fallback | Unset | None = UNSET,
    idempotency_key: IdempotencyKey | Unset | None = UNSET,
) -> Any:
    """Say of a method of an interface what its signature does not. To be used bare or with options.

    Options that are given count before those of the client, and those of ``client.using(...)`` before them; ``None`` disables,
    absent inherits.

    :param name: the method's name on the server; that of the function without it.
    :param by: ``"position"`` or ``"name"``; without it by name where there are keyword-only params, else by position.
    :param idempotent: ``True`` where the server may execute it twice, ``False`` where it may not; then the strategy's own
        ``idempotent`` does not count.
    :param retry_strategy: instead of the client's; ``None`` retries nothing.
    :param timeout: seconds for each attempt; ``None`` for no limit.
    :param deadline: seconds for the whole call, waits and all; ``None`` for no limit.
    :param fallback: what stands in for the result where the call fails.
    :param idempotency_key: ``True`` for a random key for each call, or a callable that makes it.
    :raises TypeError, ValueError: naming the option, its value and the fix.
    """
    given = {"retry_strategy": retry_strategy, "timeout": timeout, "deadline": deadline, "fallback": fallback, "idempotency_key": idempotency_key}
    return _declared(function, name, by, idempotent, False, given)


@overload
def notification(function: Callable[Concatenate[Any, P], Nothing], /) -> RpcMethod[P, Nothing]: ...
@overload
def notification(
    *,
    name: str | None = ...,
    by: By | None = ...,
    retry_strategy: RetryStrategy | Unset | None = ...,
    timeout: float | Unset | None = ...,
    deadline: float | Unset | None = ...,
    idempotency_key: IdempotencyKey | Unset | None = ...,
) -> Notifies: ...
@checks_names(OF_INTERFACES)
def notification(
    function: Any = UNSET,
    /,
    *,
    name: str | None = None,
    by: By | None = None,
    retry_strategy: RetryStrategy | Unset | None = UNSET,
    timeout: float | Unset | None = UNSET,
    deadline: float | Unset | None = UNSET,
    idempotency_key: IdempotencyKey | Unset | None = UNSET,
) -> Any:
    """Say of a method of an interface that it is sent as a notification, which the server does not answer.

    The params are those of :func:`rpc`. Such a method is declared ``-> None``.
    """
    given = {"retry_strategy": retry_strategy, "timeout": timeout, "deadline": deadline, "idempotency_key": idempotency_key}
    return _declared(function, name, by, None, True, given)


def _declared(function: Any, name: Any, by: Any, idempotent: bool | None, is_notification: bool, given: Mapping[str, Any]) -> Any:
    if function is UNSET:
        options = {option: value for option, value in given.items() if value is not UNSET}
        _check(name, by, idempotent, options)
        return lambda method: RpcMethod(method, name, by, idempotent, is_notification, types.MappingProxyType(options))
    return RpcMethod(function, is_notification=is_notification)


def _check(name: object, by: object, idempotent: object, options: Mapping[str, Any]) -> None:
    if name is not None:
        text("name", name)
    if by not in (None, "position", "name"):
        raise ValueError(f'by must be "position" or "name", got {by!r:.60}')
    if idempotent is not None and not isinstance(idempotent, bool):
        raise TypeError(
            f"idempotent must be True, False or None, got {type(idempotent).__name__} {idempotent!r:.60}; names are for RetryStrategy(idempotent=...)"
        )
    refuse_unknown("RpcMethod", options, OPTIONS, OF_INTERFACES)
    as_strategy("retry_strategy", options.get("retry_strategy"))
    seconds("timeout", options.get("timeout"))
    deadline_in_seconds("deadline", options.get("deadline"))
    # Whether it may be async, the client knows.
    as_fallback("fallback", options.get("fallback"), awaited=True)
    as_key_source("idempotency_key", options.get("idempotency_key"), one_call=False)


def _function(decorator: str, value: object) -> Callable[..., Any]:
    if isinstance(value, types.FunctionType):
        return value
    if isinstance(value, RpcMethod):
        raise TypeError(f"{value.function.__qualname__} is under two of @rpc and @notification; keep one")
    hint = f'; write @{decorator}(name="{value:.40}")' if isinstance(value, str) else "; write it over a def of the interface"
    raise TypeError(f"@{decorator} takes a function, got {type(value).__name__} {value!r:.60}{hint}")
