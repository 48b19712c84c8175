"""What a client, a view of it and a single call may set, and how the one overrides the other."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias, TypedDict, TypeVar, cast

from .._check import closest, deadline_in_seconds, refuse_unknown, seconds
from .._unset import UNSET, Unset
from ..codec import Codec
from ..errors import JsonRpcError
from ..events import Sink
from ..layers import compose
from ..messages import Request, RequestId
from ..retry.fallback import Fallback, as_fallback
from ..retry.layer import Layer
from ..retry.policy import Policy
from ..retry.strategy import RetryStrategy
from ..transport import Headers
from .batch_limits import UNLIMITED, BatchLimits
from .headers import HeadersLike, as_headers, merged
from .ids import IdSource
from .keys import IdempotencyKey, KeySource, as_key_source, with_key
from .middleware import AsyncMiddleware, Middleware

__all__ = ["CALL_OPTIONS", "ClientOptions", "Options"]

CALL_OPTIONS = ("_retry_strategy", "_timeout", "_deadline", "_headers", "_result", "_fallback", "_idempotency_key")

# A notification has no answer for these to be about.
OPTIONS_OF_ANSWERS = ("_result", "_fallback")

Convert: TypeAlias = Callable[[object, str, int | None], Any]
F = TypeVar("F", bound=Callable[..., Any])


class ClientOptions(TypedDict, total=False):
    """What every client takes besides what carries its exchanges.

    :ivar retry_strategy: what is retried; nothing without one.
    :ivar timeout: seconds for each attempt, 30 where it is not given; ``None`` for no limit.
    :ivar deadline: seconds for each whole call, waits and all; ``None`` for no limit.
    :ivar layers: further :class:`~rpcretry.retry.Layer` objects, from the outermost to the innermost.
    :ivar fallback: a :class:`~rpcretry.Fallback` that stands in for the results of calls that failed.
    :ivar idempotency_key: ``True`` to send a random ``Idempotency-Key`` header, new for each call and the same for all attempts
        of it, or a callable that returns one, in ASCII; it gets the request, or the batch, if it needs an argument. What the
        server may have executed is then repeated for every method, so it has to know such keys. The parts of a batch that go
        again without the others have keys of their own.
    :ivar middlewares: functions of an exchange and the next step, from the outermost to the innermost; each attempt
        passes through them.
    :ivar on_event: sinks: callables that take an :class:`~rpcretry.events.Event`, one or several.
    :ivar ids: where ids come from: a callable without arguments, or an iterator; 1, 2, 3 ... without one.
    :ivar errors: subclasses of :class:`~rpcretry.JsonRpcError` with a ``CODE``, to be raised for it.
    :ivar codec: another JSON than pydantic_core's.
    :ivar max_batch_size: how many requests a batch may have; a larger one goes as several. ``None`` for any number.
    :ivar max_batch_bytes: how many bytes its body may have; ``None`` for any number. A single request that is larger goes alone.
    :ivar batch_concurrency: how many parts of one batch may be under way at once, 1 without it.
    :ivar split_on: HTTP statuses and JSON-RPC codes by which the server says that it did nothing of a batch because it is too
        large, {413} without it. Such a batch goes again in halves.
    """

    retry_strategy: RetryStrategy | None
    timeout: float | None
    deadline: float | None
    layers: Layer | Iterable[Layer]
    fallback: Fallback | None
    idempotency_key: IdempotencyKey | None
    middlewares: Middleware | AsyncMiddleware | Iterable[Middleware] | Iterable[AsyncMiddleware]
    on_event: Sink | Iterable[Sink] | None
    ids: IdSource | Iterator[RequestId] | None
    errors: Iterable[type[JsonRpcError]]
    codec: Codec | None
    max_batch_size: int | None
    max_batch_bytes: int | None
    batch_concurrency: int
    split_on: Iterable[int]


_ATTEMPTS = "retry_strategy=RetryStrategy(backoff=ExponentialBackoff(attempts=...))"

# What other clients call the options that ours have.
_SYNONYMS = {
    "max_retries": _ATTEMPTS,
    "retries": _ATTEMPTS,
    "attempts": _ATTEMPTS,
    "max_attempts": f"{_ATTEMPTS}, which counts the retries: max_attempts - 1",
    "backoff": "retry_strategy=RetryStrategy(backoff=...)",
    "retry": "retry_strategy=RetryStrategy(...)",
}
_SYNONYMS_OF_CALLS = {name: f"_{meant}" for name, meant in _SYNONYMS.items()}

# The same of the clients over requests and aiohttp: either has what the other one calls otherwise, or what its session has.
_SYNONYMS_OF_BACKENDS = {
    **{name: f"session=..., a session of your own with {name}" for name in ("cookies", "proxies", "proxy")},
    "verify": "ssl=..., True, False or an ssl.SSLContext",
    "cert": "ssl=..., an ssl.SSLContext that has loaded it",
    "ssl": "verify=..., True, False or the path of a file of certificates",
}

# Options of clients alone: those of calls and of views have names that are like theirs.
_OF_CLIENTS = dict.fromkeys(
    [
        *(name for name in ClientOptions.__annotations__ if f"_{name}" not in CALL_OPTIONS),
        *("auth", "cert", "clock", "connect_timeout", "joining", "limit", "max_response_size", "session", "sleep", "ssl", "trust_env", "verify"),
    ],
    "given where the client is made",
)

OF_VIEWS = {**_OF_CLIENTS, **_SYNONYMS}
_OF_CALLS = {**_OF_CLIENTS, **_SYNONYMS_OF_CALLS, "id": "client.send(Request(method, params, id))"}
OF_BATCHES = {**_OF_CLIENTS, **_SYNONYMS_OF_CALLS, "batch_concurrency": "concurrency"}
OF_INTERFACES = {**OF_VIEWS, "headers": "client.using(headers=...)", "result": "what the method is annotated to return"}


def checks_names(synonyms: Mapping[str, str]) -> Callable[[F], F]:
    """Decorate a function of keywords so that an unknown one gets an error that helps.

    :param synonyms: what else they may be called, and what to write here.
    """

    def decorate(function: F) -> F:
        known: dict[str, object] = cast("Any", function).__kwdefaults__

        @functools.wraps(function)
        def checked(*args: Any, **options: Any) -> Any:
            if not options.keys() <= known.keys():
                refuse_unknown(function.__name__, options, list(known), synonyms)
            return function(*args, **options)

        return cast("F", checked)

    return decorate


def refuse_unknown_options(options: Mapping[str, object], client: type) -> None:
    """Refuse keywords that the class does not take.

    :raises TypeError: naming the one that was probably meant.
    """
    if options.keys() <= ClientOptions.__annotations__.keys():
        return
    own = [known for known, parameter in inspect.signature(client).parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    synonyms = {
        **_SYNONYMS,
        **(_SYNONYMS_OF_BACKENDS if "session" in own else {}),
        "joining": "client.batch(): joining is for async clients, whose calls wait together",
        "result": "client.using(result=...), or _result=... of a call",
    }
    refuse_unknown(client.__name__, options, [*own, *ClientOptions.__annotations__], synonyms)


class Options:
    """The settings of a client or of a view. Immutable; :meth:`replace` makes another.

    :ivar key: where the idempotency key of a call comes from.
    :ivar awaited: whether the client is an async one.
    :ivar limits: when a batch goes as several.
    """

    __slots__ = ("awaited", "convert", "headers", "key", "layers", "limits", "policy")

    def __init__(
        self,
        policy: Policy,
        layers: tuple[Layer, ...] = (),
        headers: Headers | None = None,
        convert: Convert | None = None,
        key: KeySource | None = None,
        awaited: bool = False,
        limits: BatchLimits = UNLIMITED,
    ) -> None:
        self.policy = policy
        self.layers = layers
        self.headers = headers
        self.convert = convert
        self.key = key
        self.awaited = awaited
        self.limits = limits

    def keyed(self, request: Request) -> Options:
        """The same with the idempotency key of *request* among the headers, where requests have one."""
        return self if self.key is None else self._with(with_key(self.headers, self.key(request)), self.limits)

    def within(self, limits: BatchLimits) -> Options:
        """The same with other limits of batches."""
        return self._with(self.headers, limits)

    def _with(self, headers: Headers | None, limits: BatchLimits) -> Options:
        return Options(self.policy, self.layers, headers, self.convert, self.key, self.awaited, limits)

    def replace(
        self,
        prefix: str = "",
        *,
        retry_strategy: RetryStrategy | Unset | None = UNSET,
        timeout: float | Unset | None = UNSET,
        deadline: float | Unset | None = UNSET,
        headers: HeadersLike | Unset | None = UNSET,
        result: Any = UNSET,
        fallback: Fallback | Unset | None = UNSET,
        idempotency_key: IdempotencyKey | Unset | None = UNSET,
        convert: Convert | Unset | None = UNSET,
        idempotent: bool | None = None,
    ) -> Options:
        """The same with what is given: ``None`` disables, absent inherits; headers are added to those there are.

        :param idempotent: what an interface declares of its method; ``None`` where it is the strategy's to say.
        """
        policy, key = self.policy, self.key
        if idempotency_key is not UNSET:
            key = as_key_source(prefix + "idempotency_key", idempotency_key, one_call=bool(prefix))
        if retry_strategy is not UNSET or fallback is not UNSET or (key is None) != (self.key is None) or idempotent is not None:
            strategy = policy.strategy if retry_strategy is UNSET else as_strategy(prefix + "retry_strategy", retry_strategy)
            other = policy.fallback if fallback is UNSET else as_fallback(prefix + "fallback", fallback, awaited=self.awaited)
            layers = compose(strategy, self.layers, keyed=key is not None, idempotent=idempotent)
            policy = Policy(strategy, layers, policy.sinks, policy.timeout, policy.deadline, other)
        if timeout is not UNSET or deadline is not UNSET:
            policy = policy.limited(
                policy.timeout if timeout is UNSET else seconds(prefix + "timeout", timeout),
                policy.deadline if deadline is UNSET else deadline_in_seconds(prefix + "deadline", deadline),
            )
        fields = self.headers if headers is UNSET else merged(self.headers, as_headers(prefix + "headers", headers))
        if convert is UNSET:
            convert = self.convert if result is UNSET else None if result is None else as_convert(result)
        return Options(policy, self.layers, fields, convert, key, self.awaited, self.limits)


def as_convert(type_: Any) -> Convert:
    """The function that turns a result into *type_*."""
    # pydantic proper is large, and most programs that never ask for a type need not load it.
    from .validation import converter

    return converter(type_)


def as_strategy(name: str, value: object) -> RetryStrategy | None:
    """Refuse what is no strategy."""
    if value is None or isinstance(value, RetryStrategy):
        return value
    if isinstance(value, type) and issubclass(value, RetryStrategy):
        raise TypeError(f"{name} must be an instance, got the class {value.__name__}; write {name}={value.__name__}()")
    hint = f"; write {name}=RetryStrategy(backoff=...)" if callable(value) else "; use None for no retries"
    raise TypeError(f"{name} must be a RetryStrategy or None, got {type(value).__name__} {value!r:.60}{hint}")


def refuse_options(params: Mapping[str, object]) -> None:
    """Refuse named params that look like options.

    :raises TypeError: naming the option, and how to send it as a param.
    """
    for name in params:
        if name in OPTIONS_OF_ANSWERS:
            raise TypeError(f"{name!r} is no option of a notification, which has no answer; use call, or leave it out")
        if name[:1] == "_":
            meant = _OF_CALLS.get(name[1:])
            hint = f"; here it is {meant}" if meant else closest(name, CALL_OPTIONS)
            raise TypeError(f"unknown option {name!r}{hint}; to send a param of that name write client.send(Request(method, params={{...}}))")


def params_of(method: str, args: tuple[object, ...], params: dict[str, object]) -> dict[str, object]:
    """The params by name.

    :raises TypeError: where one of them looks like an option, or there are params by position, too.
    """
    refuse_options(params)
    if args:
        raise TypeError(f"{method}: give params by position or by name, not both; JSON-RPC sends an array or an object")
    return params
