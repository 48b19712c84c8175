"""The sync client and its driver."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, Unpack, overload

from .._unset import UNSET, Unset
from ..bulk._progress import ProgressLike
from ..bulk._sync import Bulk
from ..drivers._sync import Host, drive, drive_all
from ..messages import BatchRequest, BatchResponse, Request, Response
from ..retry.fallback import Fallback
from ..retry.strategy import RetryStrategy
from ..transport import Backend
from ._bulk_calls import bulk_of
from .batch import BatchCore, MakePlan
from .batch_call import BatchPlan, batch_response
from .core import ClientCore, refuse_kind
from .headers import HeadersLike
from .keys import IdempotencyKey
from .options import OF_BATCHES, ClientOptions, checks_names
from .proxy import Proxy

__all__ = ["Batch", "Client"]

T = TypeVar("T")
ClientT = TypeVar("ClientT", bound="Client")
BatchT = TypeVar("BatchT", bound="Batch")


class Client(ClientCore[Backend]):
    """A JSON-RPC client over any :class:`~rpcretry.transport.Backend`. Threads may share one.

    :param backend: a :class:`~rpcretry.transport.Backend`.
    :param headers: HTTP headers of every exchange.
    :param clock: seconds on a monotonic clock.
    :param sleep: waits that many seconds.
    :param options: those of :class:`~rpcretry.client.ClientOptions`.
    :raises TypeError, ValueError: naming the parameter, its value and the fix.
    """

    _drive = staticmethod(drive)

    def __init__(
        self,
        backend: Backend,
        *,
        headers: HeadersLike | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        **options: Unpack[ClientOptions],
    ) -> None:
        refuse_kind(backend, sleep, wanted_async=False, client="Client")
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
    ) -> BatchResponse: ...
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
    ) -> Response[T]: ...
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
    ) -> Response[Any]: ...
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
    ) -> Any:
        """Send a request, or several as one batch.

        :param request: a :class:`~rpcretry.Request` or :class:`~rpcretry.BatchRequest`; ids that were not given are filled in.
        :returns: the :class:`~rpcretry.Response`, also where it is an error (its ``result`` raises it); for a
            notification one without id and result; for a batch a :class:`~rpcretry.BatchResponse` in the order of the requests.
        :raises TransportError, HTTPStatusError, ProtocolError: where no answer came, or none that is one.
        :raises DeadlineExceeded: where the deadline ended the call.
        """
        return self._launch(self._send_call(request, _retry_strategy, _timeout, _deadline, _headers, _result, _fallback, _idempotency_key))

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
    ) -> T: ...
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
    ) -> Any: ...
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
    ) -> Any:
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
    ) -> None:
        """Send a notification: a request without an answer. Whatever the server says to it is dropped.

        It goes again only where it certainly was not executed, or under an idempotency key.

        :raises TransportError, HTTPStatusError: where it did not reach the server.
        """
        call = self._method_call(method, args, params, _retry_strategy, _timeout, _deadline, _headers, UNSET, UNSET, _idempotency_key, notify=True)
        drive(call, self._shared)

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
    ) -> Batch:
        """A batch, to be filled in a ``with`` block and sent when the block is left.

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
        return Batch(functools.partial(self._batch_plan, options), self._shared)

    @overload
    def bulk(
        self,
        requests: Iterable[Request],
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
    ) -> Bulk[Request, T]: ...
    @overload
    def bulk(
        self,
        requests: Iterable[Request],
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
    ) -> Bulk[Request, Any]: ...
    def bulk(
        self,
        requests: Iterable[Request],
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
    ) -> Bulk[Request, Any]:
        """Many requests, several at once, in bounded memory: iterate over it for a stream of :class:`~rpcretry.bulk.BulkItem`, or
        ``run()`` it. Nothing is sent before that, and not much more than is consumed.

        :param requests: an iterable of requests, notifications among them, of any length.
        :param concurrency: how many calls are under way at once, each in a thread; with 1 all in the consumer's.
        :param batch_size: how many requests go in one JSON-RPC batch; with 1 each goes alone.
        :param partial_success_threshold: the share that has to succeed, from 0 to 1, for ``run()`` to return.
        :param progress: ``True`` for a bar on a terminal, or a callable that gets a :class:`~rpcretry.bulk.BulkProgress`.
            The other options hold for the call of each request or batch.
        :raises BulkError: from ``run()``, with all items, where too small a share succeeded.
        """
        options = (_retry_strategy, _timeout, _deadline, _headers, _result, _fallback, _idempotency_key)
        settings = {"concurrency": concurrency, "batch_size": batch_size, "partial_success_threshold": partial_success_threshold, "progress": progress}
        made: Bulk[Request, Any] = bulk_of(Bulk, self, requests, options, settings, unknown)
        return made

    def close(self) -> None:
        """Close the client and its connections. Closing twice, or closing a view, does nothing."""
        if not self._is_view and not self._shared.closed:
            self._shared.close().close()

    def __enter__(self: ClientT) -> ClientT:
        if self._shared.closed:
            raise self._closed()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send_batch(self, plan: BatchPlan) -> BatchResponse:
        return batch_response(drive_all(plan.calls, self._shared, plan.concurrency, {}))


class Batch(BatchCore):
    __doc__ = BatchCore.__doc__

    def __init__(self, make_plan: MakePlan, host: Host) -> None:
        super().__init__(make_plan)
        self._host = host

    def __enter__(self: BatchT) -> BatchT:
        self._open()
        return self

    def __exit__(self, kind: object, problem: BaseException | None, traceback: object) -> None:
        plan = self._close(problem)
        if plan is not None:
            results: dict[Any, Any] = {}
            try:
                drive_all(plan.calls, self._host, plan.concurrency, results)
            except BaseException:
                self._keep(plan.calls, results)
                raise
            self._finish(plan.calls, results)
