"""What the sync and the async client share: everything but waiting."""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NoReturn, TypeVar, Unpack, cast

from .._check import callable_with, deadline_in_seconds, seconds
from .._requests import Requests
from .._unset import UNSET, Unset
from ..codec import JsonCodec, Reader
from ..errors import ClientClosedError, error_registry
from ..events import as_sinks
from ..layers import as_layers, compose
from ..messages import BatchRequest, Request, check_method, prepared
from ..metrics import RetryMetrics
from ..retry.fallback import Fallback, as_fallback
from ..retry.layer import Layer
from ..retry.policy import Policy
from ..retry.strategy import RetryStrategy
from ..transport import Exchange
from .batch_call import BatchPlan
from .batch_limits import UNLIMITED
from .call import SingleCall
from .error_data import data_validators
from .headers import HeadersLike, as_headers
from .ids import IdSource, as_ids, number_all
from .keys import IdempotencyKey, as_key_source
from .middleware import around, as_middlewares
from .options import OF_VIEWS, ClientOptions, Convert, Options, as_strategy, checks_names, params_of, refuse_unknown_options

__all__ = ["ClientCore"]

BackendT = TypeVar("BackendT")
T = TypeVar("T")
Self = TypeVar("Self", bound="ClientCore[Any]")

DEFAULT_TIMEOUT = 30.0


CLOSED_MEANWHILE = "the client was closed while a call was under way; close it after the last call"


def _refuse(exchange: Exchange) -> Any:
    """Stands in for the backend of a closed client, for calls that are under way."""
    raise ClientClosedError(CLOSED_MEANWHILE)


class Shared(Generic[BackendT]):
    """What a client and its views have in common."""

    __slots__ = ("backend", "clock", "closed", "next_id", "perform", "reader", "sleep")

    def __init__(
        self,
        backend: BackendT,
        perform: Callable[[Exchange], Any],
        next_id: IdSource,
        reader: Reader,
        clock: Callable[[], float],
        sleep: Callable[[float], Any],
    ) -> None:
        self.backend = backend
        self.perform = perform
        self.next_id = next_id
        self.reader = reader
        self.clock = clock
        self.sleep = sleep
        self.closed = False

    def close(self) -> BackendT:
        """Let no more exchanges begin. Returns the backend, to be closed."""
        self.closed, self.perform = True, _refuse
        return self.backend


class ClientCore(Generic[BackendT]):
    """Builds calls. The drivers run them."""

    _is_view = False
    _is_async = False
    # What the views were told with using().
    _said: frozenset[str] = frozenset()
    _drive: Callable[..., Any]
    _send_batch: Callable[..., Any]

    def __init__(
        self,
        backend: BackendT,
        *,
        headers: HeadersLike | None,
        clock: Callable[[], float],
        sleep: Callable[[float], Any],
        **options: Unpack[ClientOptions],
    ) -> None:
        refuse_unknown_options(options, type(self))
        callable_with("clock", clock, 0, "pass time.monotonic")
        callable_with("sleep", sleep, 1, "it gets seconds")
        layers = as_layers(options.get("layers", ()))
        strategy = as_strategy("retry_strategy", options.get("retry_strategy"))
        limits = seconds("timeout", options.get("timeout", DEFAULT_TIMEOUT)), deadline_in_seconds("deadline", options.get("deadline"))
        key = as_key_source("idempotency_key", options.get("idempotency_key"), one_call=False)
        fallback = as_fallback("fallback", options.get("fallback"), awaited=self._is_async)
        policy = Policy(strategy, compose(strategy, layers, keyed=key is not None), as_sinks(options.get("on_event")), *limits, fallback)
        self._options = Options(policy, layers, as_headers("headers", headers), None, key, self._is_async, UNLIMITED.replace(options))
        codec = options.get("codec")
        if codec is not None:
            if isinstance(codec, type):
                raise TypeError(f"codec must be an instance, got the class {codec.__name__}; write codec={codec.__name__}()")
            if not (hasattr(codec, "dumps") and hasattr(codec, "loads")):
                raise TypeError(f"codec must have dumps(value) and loads(body, charset), got {type(codec).__name__} {codec!r:.60}")
            callable_with("codec.dumps", codec.dumps, 1, "it gets the value and returns bytes")
            callable_with("codec.loads", codec.loads, 2, "it gets the body and a charset or None")
        registry = error_registry(options.get("errors", ()))
        reader = Reader(codec if codec is not None else JsonCodec(), registry, data_validators(registry))
        exchange = self._carrier(backend, reader, clock)
        perform = around(exchange, as_middlewares(options.get("middlewares"), wanted_async=self._is_async))
        self._shared = Shared(backend, perform, as_ids(options.get("ids")), reader, clock, sleep)

    def _carrier(self, backend: BackendT, reader: Reader, clock: Callable[[], float]) -> Callable[[Exchange], Any]:
        """What carries the exchanges, inside of the middlewares."""
        exchange: Callable[[Exchange], Any] = cast("Any", backend).exchange
        return exchange

    @property
    def backend(self) -> BackendT:
        """What carries the exchanges."""
        return self._shared.backend

    @property
    def layers(self) -> Sequence[Layer]:
        """The layers that the client was given, from the outermost to the innermost."""
        return self._options.layers

    @property
    def metrics(self) -> RetryMetrics | None:
        """The first :class:`~rpcretry.RetryMetrics` among the sinks that the client was given; ``None`` without one."""
        return next((sink for sink in self._options.policy.sinks if isinstance(sink, RetryMetrics)), None)

    @property
    def is_closed(self) -> bool:
        """Whether the client was closed."""
        return self._shared.closed

    @checks_names(OF_VIEWS)
    def using(
        self: Self,
        *,
        retry_strategy: RetryStrategy | Unset | None = UNSET,
        timeout: float | Unset | None = UNSET,
        deadline: float | Unset | None = UNSET,
        headers: HeadersLike | Unset | None = UNSET,
        result: Any = UNSET,
        fallback: Fallback | Unset | None = UNSET,
        idempotency_key: IdempotencyKey | Unset | None = UNSET,
    ) -> Self:
        """A view with other options. It shares connections, ids and closing with the client; closing the view
        closes nothing.

        :param retry_strategy: ``None`` retries nothing.
        :param timeout: seconds for each attempt; ``None`` for no limit.
        :param deadline: seconds for each whole call, waits and all; ``None`` for no limit.
        :param headers: HTTP headers, added to those there are; ``None`` drops those of outer views.
        :param result: the type of all results; ``None`` leaves them as they come.
        :param fallback: what stands in for the results of calls that failed.
        :param idempotency_key: ``True`` or a callable; see :class:`~rpcretry.client.ClientOptions`.
        """
        given = {
            "retry_strategy": retry_strategy,
            "timeout": timeout,
            "deadline": deadline,
            "headers": headers,
            "result": result,
            "fallback": fallback,
            "idempotency_key": idempotency_key,
        }
        view = copy.copy(self)
        view._is_view = True
        view._options = self._options.replace(**given)
        view._said = self._said | {name for name, value in given.items() if value is not UNSET}
        return view

    def typed(self, interface: Callable[..., T]) -> T:
        """The server's methods as those of *interface*, a :class:`~typing.Protocol` or another class with annotated ``def``\\ s: each is
        a call, with its arguments and its result validated. On an async client they return awaitables.

        :param interface: the class; nothing of it is run, and it is read once. See :func:`~rpcretry.rpc` for what its signatures do
            not say.
        :raises TypeError, ValueError: where it declares something that cannot be called, naming class, method and fix.
        """
        # Most programs never ask for it, and it needs what reads signatures.
        from ._interface_calls import typed_as

        made: T = typed_as(self, interface)
        return made

    def __copy__(self: Self) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled or copied in depth: it holds connections, counters and maybe secrets; "
            "make one in each process, and client.using() for a view that shares them"
        )

    def __repr__(self) -> str:
        state = " closed" if self._shared.closed else ""
        return f"<{type(self).__module__}.{type(self).__qualname__} {self._shared.backend!r}{state}>"

    # --- building calls ---

    def _method_call(
        self,
        method: str,
        args: tuple[object, ...],
        params: dict[str, object],
        retry_strategy: RetryStrategy | Unset | None,
        timeout: float | Unset | None,
        deadline: float | Unset | None,
        headers: HeadersLike | Unset | None,
        result: Any,
        fallback: Fallback | Unset | None,
        idempotency_key: IdempotencyKey | Unset | None,
        notify: bool = False,
    ) -> SingleCall:
        shared = self._shared
        if shared.closed:
            raise self._closed()
        if type(method) is not str or not method:
            check_method(method)
        given: object = UNSET
        if params:
            given = params_of(method, args, params)
        elif args:
            given = args
        options = self._options
        if not (retry_strategy is timeout is deadline is headers is result is fallback is idempotency_key is UNSET):
            options = self._chosen(retry_strategy, timeout, deadline, headers, result, fallback, idempotency_key)
        request = prepared(method, given, None if notify else shared.next_id())
        return SingleCall(options if options.key is None else options.keyed(request), shared.reader, request, False)

    def _send_call(
        self,
        request: Request | BatchRequest,
        retry_strategy: RetryStrategy | Unset | None,
        timeout: float | Unset | None,
        deadline: float | Unset | None,
        headers: HeadersLike | Unset | None,
        result: Any,
        fallback: Fallback | Unset | None,
        idempotency_key: IdempotencyKey | Unset | None,
    ) -> SingleCall | BatchPlan:
        shared = self._shared
        if shared.closed:
            raise self._closed()
        options = self._chosen(retry_strategy, timeout, deadline, headers, result, fallback, idempotency_key)
        if isinstance(request, Request):
            if request.id is UNSET:
                request = request.with_id(shared.next_id())
            return SingleCall(options if options.key is None else options.keyed(request), shared.reader, request, True)
        if not isinstance(request, BatchRequest):
            hint = "; write BatchRequest(*requests)" if isinstance(request, (list, tuple)) else "; use client.call(method, ...) for a method's name"
            raise TypeError(f"send takes a Request or a BatchRequest, got {type(request).__name__} {request!r:.60}{hint}")
        # Copies: the ids that they get are this call's.
        return self._batch_plan(options, Requests(request), {})

    def _chosen(
        self,
        retry_strategy: RetryStrategy | Unset | None,
        timeout: float | Unset | None,
        deadline: float | Unset | None,
        headers: HeadersLike | Unset | None,
        result: Any,
        fallback: Fallback | Unset | None,
        idempotency_key: IdempotencyKey | Unset | None,
    ) -> Options:
        return self._options.replace(
            "_",
            retry_strategy=retry_strategy,
            timeout=timeout,
            deadline=deadline,
            headers=headers,
            result=result,
            fallback=fallback,
            idempotency_key=idempotency_key,
        )

    def _launch(self, call: SingleCall | BatchPlan) -> Any:
        return self._send_batch(call) if isinstance(call, BatchPlan) else self._drive(call, self._shared)

    def _batch_options(self, concurrency: object, given: Mapping[str, Any], *call_options: Any) -> Options:
        if self._shared.closed:
            raise self._closed()
        options = self._chosen(*call_options)
        return options.within(options.limits.replace({**given, "concurrency": concurrency}, "concurrency"))

    def _batch_plan(self, options: Options, requests: Requests, converts: Mapping[int, Convert | None]) -> BatchPlan:
        """How *requests*, which are nobody else's, are to be sent.

        :param converts: of those whose results are to be of another type than the others'.
        """
        if self._shared.closed:
            raise self._closed()
        number_all(requests.ids, self._shared.next_id)
        listed = [converts.get(place, options.convert) for place in range(len(requests))] if converts else None
        return BatchPlan(options, self._shared.reader, requests, listed)

    def _closed(self) -> ClientClosedError:
        return ClientClosedError(f"this {type(self).__name__} was closed; make another, or close it after the last call")


def refuse_kind(backend: object, sleep: object, *, wanted_async: bool, client: str) -> None:
    """Refuse a backend or a sleep of the other kind.

    :raises TypeError: naming the client to use instead, or the sleep to give.
    """
    if sleep is time.sleep if wanted_async else inspect.iscoroutinefunction(sleep):
        raise TypeError(
            f"sleep must {'return an awaitable, as asyncio.sleep does' if wanted_async else 'wait and return, as time.sleep does'}, got {sleep!r:.60}"
        )
    exchange = getattr(backend, "exchange", None)
    if not callable(exchange):
        url = "; for a URL use rpcretry.backends.requests.Client or rpcretry.backends.aiohttp.Client" if isinstance(backend, str) else ""
        raise TypeError(f"backend must have an exchange method, got {type(backend).__name__}{url}")
    if isinstance(backend, type):
        raise TypeError(f"backend must be an instance, got the class {backend.__name__}")
    is_async = inspect.iscoroutinefunction(exchange) or (wanted_async and hasattr(backend, "aclose"))
    if is_async != wanted_async:
        other = "AsyncClient" if client == "Client" else "Client"
        raise TypeError(f"{type(backend).__name__}.exchange is {'' if not wanted_async else 'not '}async; use rpcretry.{other} with it")
    close = "aclose" if wanted_async else "close"
    if not callable(getattr(backend, close, None)):
        raise TypeError(f"{type(backend).__name__} must have {'an async ' if wanted_async else 'a '}method {close}(), which the client's calls")
