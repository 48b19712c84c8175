"""The async client and its driver."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, Unpack, overload

from .._unset import UNSET, Unset
from ..drivers._async import drive
from ..messages import BatchRequest, BatchResponse, Request, Response
from ..retry.fallback import Fallback
from ..retry.strategy import RetryStrategy
from ..transport import AsyncBackend
from .core import ClientCore, refuse_kind
from .headers import HeadersLike
from .keys import IdempotencyKey
from .options import ClientOptions
from .proxy import Proxy

__all__ = ["AsyncClient"]

T = TypeVar("T")
ClientT = TypeVar("ClientT", bound="AsyncClient")


class AsyncClient(ClientCore[AsyncBackend]):
    """A JSON-RPC client over any :class:`~rpcretry.transport.AsyncBackend`. Tasks of one loop may share one.

    :param backend: a :class:`~rpcretry.transport.AsyncBackend`.
    :param headers: HTTP headers of every exchange.
    :param clock: seconds on a monotonic clock.
    :param sleep: a coroutine function that waits that many seconds.
    :param options: those of :class:`~rpcretry.client.ClientOptions`.
    :raises TypeError, ValueError: naming the parameter, its value and the fix.
    """

    _is_async = True

    def __init__(
        self,
        backend: AsyncBackend,
        *,
        headers: HeadersLike | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        **options: Unpack[ClientOptions],
    ) -> None:
        refuse_kind(backend, sleep, wanted_async=True, client="AsyncClient")
        super().__init__(backend, headers=headers, clock=clock, sleep=sleep, **options)

    @overload
    def send(
        self,
        request: BatchRequest,
        *,
        _retry_strategy: RetryStrategy | Unset | None = ...,
        _timeout: float | Unset | None = ...,
        _deadline: float | Unset | None = ...,
        _headers: HeadersLike | Unset | None = ...,
        _result: Any = ...,
        _fallback: Fallback | Unset | None = ...,
        _idempotency_key: IdempotencyKey | Unset | None = ...,
    ) -> Coroutine[Any, Any, BatchResponse]: ...
    @overload
    def send(
        self,
        request: Request,
        *,
        _retry_strategy: RetryStrategy | Unset | None = ...,
        _timeout: float | Unset | None = ...,
        _deadline: float | Unset | None = ...,
        _headers: HeadersLike | Unset | None = ...,
        _result: type[T],
        _fallback: Fallback | Unset | None = ...,
        _idempotency_key: IdempotencyKey | Unset | None = ...,
    ) -> Coroutine[Any, Any, Response[T]]: ...
    @overload
    def send(
        self,
        request: Request,
        *,
        _retry_strategy: RetryStrategy | Unset | None = ...,
        _timeout: float | Unset | None = ...,
        _deadline: float | Unset | None = ...,
        _headers: HeadersLike | Unset | None = ...,
        _result: Any = ...,
        _fallback: Fallback | Unset | None = ...,
        _idempotency_key: IdempotencyKey | Unset | None = ...,
    ) -> Coroutine[Any, Any, Response[Any]]: ...
    def send(
        self,
        request: Request | BatchRequest,
        *,
        _retry_strategy: RetryStrategy | Unset | None = UNSET,
        _timeout: float | Unset | None = UNSET,
        _deadline: float | Unset | None = UNSET,
        _headers: HeadersLike | Unset | None = UNSET,
        _result: Any = UNSET,
        _fallback: Fallback | Unset | None = UNSET,
        _idempotency_key: IdempotencyKey | Unset | None = UNSET,
    ) -> Coroutine[Any, Any, Any]:
        """Send a request, or several as one batch.

        :param request: a :class:`~rpcretry.Request` or :class:`~rpcretry.BatchRequest`; ids that were not given are filled in.
        :returns: the :class:`~rpcretry.Response`, also where it is an error (its ``result`` raises it); for a
            notification one without id and result; for a batch a :class:`~rpcretry.BatchResponse` in the order of the requests.
        :raises TransportError, HTTPStatusError, ProtocolError: where no answer came, or none that is one.
        :raises DeadlineExceeded: where the deadline ended the call.
        """
        return drive(self._send_call(request, _retry_strategy, _timeout, _deadline, _headers, _result, _fallback, _idempotency_key), self._shared)

    @overload
    def call(
        self,
        method: str,
        /,
        *args: Any,
        _retry_strategy: RetryStrategy | Unset | None = ...,
        _timeout: float | Unset | None = ...,
        _deadline: float | Unset | None = ...,
        _headers: HeadersLike | Unset | None = ...,
        _result: type[T],
        _fallback: Fallback | Unset | None = ...,
        _idempotency_key: IdempotencyKey | Unset | None = ...,
        **params: Any,
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def call(
        self,
        method: str,
        /,
        *args: Any,
        _retry_strategy: RetryStrategy | Unset | None = ...,
        _timeout: float | Unset | None = ...,
        _deadline: float | Unset | None = ...,
        _headers: HeadersLike | Unset | None = ...,
        _result: Any = ...,
        _fallback: Fallback | Unset | None = ...,
        _idempotency_key: IdempotencyKey | Unset | None = ...,
        **params: Any,
    ) -> Coroutine[Any, Any, Any]: ...
    def call(
        self,
        method: str,
        /,
        *args: Any,
        _retry_strategy: RetryStrategy | Unset | None = UNSET,
        _timeout: float | Unset | None = UNSET,
        _deadline: float | Unset | None = UNSET,
        _headers: HeadersLike | Unset | None = UNSET,
        _result: Any = UNSET,
        _fallback: Fallback | Unset | None = UNSET,
        _idempotency_key: IdempotencyKey | Unset | None = UNSET,
        **params: Any,
    ) -> Coroutine[Any, Any, Any]:
        """Call a method and return its result.

        :param method: the method's name.
        :param args: the params by position, or
        :param params: the params by name; one whose name starts with ``_`` goes through :meth:`send`.
        :param _retry_strategy: instead of the client's; ``None`` retries nothing.
        :param _timeout: seconds for each attempt; ``None`` for no limit.
        :param _deadline: seconds for the whole call, waits and all; ``None`` for no limit.
        :param _headers: HTTP headers, added to the client's.
        :param _result: the type that the result is validated into, by pydantic.
        :param _fallback: what stands in for the result where the call fails; ``None`` for nothing.
        :param _idempotency_key: the key of this call, ``True`` for a random one, or a callable that makes it.
        :raises JsonRpcError: the server's error, as the class that stands for its code.
        :raises TransportError, HTTPStatusError, ProtocolError: where no answer came, or none that is one.
        :raises ResultValidationError: where the result is not of the type that was asked for.
        :raises DeadlineExceeded: where the deadline ended the call.
        """
        return drive(
            self._method_call(method, args, params, _retry_strategy, _timeout, _deadline, _headers, _result, _fallback, _idempotency_key), self._shared
        )

    __call__ = call

    def notify(
        self,
        method: str,
        /,
        *args: Any,
        _retry_strategy: RetryStrategy | Unset | None = UNSET,
        _timeout: float | Unset | None = UNSET,
        _deadline: float | Unset | None = UNSET,
        _headers: HeadersLike | Unset | None = UNSET,
        _idempotency_key: IdempotencyKey | Unset | None = UNSET,
        **params: Any,
    ) -> Coroutine[Any, Any, None]:
        """Send a notification: a request without an answer. Whatever the server says to it is dropped.

        It goes again only where it certainly was not executed, or under an idempotency key.

        :raises TransportError, HTTPStatusError: where it did not reach the server.
        """
        return drive(
            self._method_call(method, args, params, _retry_strategy, _timeout, _deadline, _headers, UNSET, UNSET, _idempotency_key, notify=True), self._shared
        )

    @property
    def proxy(self) -> Proxy[Any]:
        """The server's methods as attributes: ``client.proxy.sum(1, 2)`` is ``client.call("sum", 1, 2)``."""
        return Proxy(self.call)

    async def aclose(self) -> None:
        """Close the client and its connections. Closing twice, or closing a view, does nothing."""
        if not self._is_view and not self._shared.closed:
            await self._shared.close().aclose()

    close = aclose

    async def __aenter__(self: ClientT) -> ClientT:
        if self._shared.closed:
            raise self._closed()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
