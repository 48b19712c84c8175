"""The async client and its driver."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar, Unpack, overload

from .._unset import UNSET, Unset
from ..bulk._async import AsyncBulk
from ..bulk._progress import ProgressLike
from ..codec import Reader
from ..drivers._async import drive, drive_all
from ..drivers._sync import Host
from ..messages import BatchRequest, BatchResponse, Request, Response
from ..retry.fallback import Fallback
from ..retry.strategy import RetryStrategy
from ..transport import AsyncBackend, Exchange
from ._bulk_calls import bulk_of
from .batch import BatchCore, MakePlan
from .batch_call import BatchPlan, batch_response
from .core import ClientCore, refuse_kind
from .headers import HeadersLike
from .joining import Joining, JoiningBackend, as_joining
from .keys import IdempotencyKey
from .options import OF_BATCHES, ClientOptions, checks_names
from .proxy import Proxy

__all__ = ["AsyncBatch", "AsyncClient"]

T = TypeVar("T")
ClientT = TypeVar("ClientT", bound="AsyncClient")
BatchT = TypeVar("BatchT", bound="AsyncBatch")


class AsyncClient(ClientCore[AsyncBackend]):
    """A JSON-RPC client over any :class:`~rpcretry.transport.AsyncBackend`. Tasks of one loop may share one.

    :param backend: a :class:`~rpcretry.transport.AsyncBackend`.
    :param headers: HTTP headers of every exchange.
    :param clock: seconds on a monotonic clock.
    :param sleep: a coroutine function that waits that many seconds.
    :param joining: a :class:`~rpcretry.client.Joining`, or ``True`` for one as it is made, to send calls that are made at the same
        time as one batch.
    :param options: those of :class:`~rpcretry.client.ClientOptions`.
    :raises TypeError, ValueError: naming the parameter, its value and the fix.
    """

    _is_async = True
    _drive = staticmethod(drive)

    def __init__(
        self,
        backend: AsyncBackend,
        *,
        headers: HeadersLike | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        joining: Joining | bool | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        refuse_kind(backend, sleep, wanted_async=True, client="AsyncClient")
        self._joining = as_joining(joining)
        self._joined: JoiningBackend | None = None
        super().__init__(backend, headers=headers, clock=clock, sleep=sleep, **options)

    def _carrier(self, backend: AsyncBackend, reader: Reader, clock: Callable[[], float]) -> Callable[[Exchange], Any]:
        if self._joining is None:
            return super()._carrier(backend, reader, clock)
        # What is too much for a batch is too much for a joined one.
        limits, joining = self._options.limits, self._joining
        size = joining.max_size if limits.size is None else min(joining.max_size, limits.size)
        most = joining.max_bytes if limits.bytes is None else min(joining.max_bytes, limits.bytes)
        joining = dataclasses.replace(joining, max_size=size, max_bytes=most)
        self._joined = JoiningBackend(backend, joining, reader, clock=clock, too_large=limits.split_on)
        return self._joined.exchange

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
        launched: Coroutine[Any, Any, Any] = self._launch(
            self._send_call(request, _retry_strategy, _timeout, _deadline, _headers, _result, _fallback, _idempotency_key)
        )
        return launched

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

    @checks_names(OF_BATCHES)
    def batch(
        self,
        *,
        max_batch_size: int | Unset | None = UNSET,
        max_batch_bytes: int | Unset | None = UNSET,
        concurrency: int | Unset = UNSET,
        split_on: Iterable[int] | Unset = UNSET,
        _retry_strategy: RetryStrategy | Unset | None = UNSET,
        _timeout: float | Unset | None = UNSET,
        _deadline: float | Unset | None = UNSET,
        _headers: HeadersLike | Unset | None = UNSET,
        _result: Any = UNSET,
        _fallback: Fallback | Unset | None = UNSET,
        _idempotency_key: IdempotencyKey | Unset | None = UNSET,
    ) -> AsyncBatch:
        """A batch, to be filled in an ``async with`` block and sent when the block is left.

        :param max_batch_size: how many requests go at once; a larger batch goes as several. ``None`` for any number.
        :param max_batch_bytes: how many bytes go at once; ``None`` for any number.
        :param concurrency: how many parts of a larger batch may be under way at once.
        :param split_on: HTTP statuses and JSON-RPC codes by which the server says that it did nothing of a batch because
            it is too large; such a batch goes again in halves.
        :param _result: the type of all results; ``call(..., _result=...)`` says so of one.
        :raises Exception: on leaving the block, where nothing came of any request, and for one reason.
        """
        limits = {"max_batch_size": max_batch_size, "max_batch_bytes": max_batch_bytes, "split_on": split_on}
        options = self._batch_options(concurrency, limits, _retry_strategy, _timeout, _deadline, _headers, _result, _fallback, _idempotency_key)
        return AsyncBatch(functools.partial(self._batch_plan, options), self._shared)

    @overload
    def bulk(
        self,
        requests: Iterable[Request] | AsyncIterable[Request],
        *,
        concurrency: int = ...,
        batch_size: int = ...,
        partial_success_threshold: float = ...,
        progress: ProgressLike = ...,
        _retry_strategy: RetryStrategy | Unset | None = ...,
        _timeout: float | Unset | None = ...,
        _deadline: float | Unset | None = ...,
        _headers: HeadersLike | Unset | None = ...,
        _result: type[T],
        _fallback: Fallback | Unset | None = ...,
        _idempotency_key: IdempotencyKey | Unset | None = ...,
    ) -> AsyncBulk[Request, T]: ...
    @overload
    def bulk(
        self,
        requests: Iterable[Request] | AsyncIterable[Request],
        *,
        concurrency: int = ...,
        batch_size: int = ...,
        partial_success_threshold: float = ...,
        progress: ProgressLike = ...,
        _retry_strategy: RetryStrategy | Unset | None = ...,
        _timeout: float | Unset | None = ...,
        _deadline: float | Unset | None = ...,
        _headers: HeadersLike | Unset | None = ...,
        _result: Any = ...,
        _fallback: Fallback | Unset | None = ...,
        _idempotency_key: IdempotencyKey | Unset | None = ...,
    ) -> AsyncBulk[Request, Any]: ...
    def bulk(
        self,
        requests: Iterable[Request] | AsyncIterable[Request],
        *,
        concurrency: int = 16,
        batch_size: int = 1,
        partial_success_threshold: float = 1.0,
        progress: ProgressLike = None,
        _retry_strategy: RetryStrategy | Unset | None = UNSET,
        _timeout: float | Unset | None = UNSET,
        _deadline: float | Unset | None = UNSET,
        _headers: HeadersLike | Unset | None = UNSET,
        _result: Any = UNSET,
        _fallback: Fallback | Unset | None = UNSET,
        _idempotency_key: IdempotencyKey | Unset | None = UNSET,
        **unknown: Any,
    ) -> AsyncBulk[Request, Any]:
        """Many requests, several at once, in bounded memory: iterate over it for a stream of :class:`~rpcretry.bulk.BulkItem`, or
        ``await`` it. Nothing is sent before that, and not much more than is consumed.

        :param requests: an iterable, or async iterable, of requests, notifications among them, of any length.
        :param concurrency: how many calls are under way at once.
        :param batch_size: how many requests go in one JSON-RPC batch; with 1 each goes alone.
        :param partial_success_threshold: the share that has to succeed, from 0 to 1, for ``run()`` to return.
        :param progress: ``True`` for a bar on a terminal, or a callable that gets a :class:`~rpcretry.bulk.BulkProgress`.
            The other options hold for the call of each request or batch.
        :raises BulkError: from ``run()``, with all items, where too small a share succeeded.
        """
        options = (_retry_strategy, _timeout, _deadline, _headers, _result, _fallback, _idempotency_key)
        settings = {"concurrency": concurrency, "batch_size": batch_size, "partial_success_threshold": partial_success_threshold, "progress": progress}
        made: AsyncBulk[Request, Any] = bulk_of(AsyncBulk, self, requests, options, settings, unknown)
        return made

    async def aclose(self) -> None:
        """Close the client and its connections. Closing twice, or closing a view, does nothing."""
        if not self._is_view and not self._shared.closed:
            backend = self._shared.close()
            await (backend if self._joined is None else self._joined).aclose()

    close = aclose

    async def __aenter__(self: ClientT) -> ClientT:
        if self._shared.closed:
            raise self._closed()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _send_batch(self, plan: BatchPlan) -> BatchResponse:
        return batch_response(await drive_all(plan.calls, self._shared, plan.concurrency, {}))

    # As Python calls it where nobody awaits it.
    _send_batch.__qualname__ = "AsyncClient.send"


class AsyncBatch(BatchCore):
    __doc__ = BatchCore.__doc__

    def __init__(self, make_plan: MakePlan, host: Host) -> None:
        super().__init__(make_plan)
        self._host = host

    async def __aenter__(self: BatchT) -> BatchT:
        self._open()
        return self

    async def __aexit__(self, kind: object, problem: BaseException | None, traceback: object) -> None:
        plan = self._close(problem)
        if plan is not None:
            results: dict[Any, Any] = {}
            try:
                await drive_all(plan.calls, self._host, plan.concurrency, results)
            except BaseException:
                self._keep(plan.calls, results)
                raise
            self._finish(plan.calls, results)
