"""What a client, a view of it and a single call may set, and how the one overrides the other."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias, TypedDict

from .._check import closest, number, seconds
from .._unset import UNSET, Unset
from ..codec import Codec
from ..errors import JsonRpcError
from ..events import Sink
from ..layers import compose
from ..messages import RequestId
from ..retry.layer import Layer
from ..retry.policy import Policy
from ..retry.strategy import RetryStrategy
from ..transport import Headers
from .ids import IdSource

__all__ = ["CALL_OPTIONS", "ClientOptions", "Options", "as_headers"]

CALL_OPTIONS = ("_retry_strategy", "_timeout", "_deadline", "_headers", "_result")

Convert: TypeAlias = Callable[[object, str, int | None], Any]
HeadersLike: TypeAlias = "Mapping[str, str] | Iterable[tuple[str, str]]"

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class ClientOptions(TypedDict, total=False):
    """What every client takes besides what carries its exchanges.

    :ivar retry_strategy: what is retried; nothing without one.
    :ivar timeout: seconds for each attempt, 30 where it is not given; ``None`` for no limit.
    :ivar deadline: seconds for each whole call, waits and all; ``None`` for no limit.
    :ivar layers: further :class:`~rpcretry.retry.Layer` objects, from the outermost to the innermost.
    :ivar on_event: sinks: callables that take an :class:`~rpcretry.events.Event`, one or several.
    :ivar ids: where ids come from: a callable without arguments, or an iterator; 1, 2, 3 ... without one.
    :ivar errors: subclasses of :class:`~rpcretry.JsonRpcError` with a ``CODE``, to be raised for it.
    :ivar codec: another JSON than pydantic_core's.
    """

    retry_strategy: RetryStrategy | None
    timeout: float | None
    deadline: float | None
    layers: Layer | Iterable[Layer]
    on_event: Sink | Iterable[Sink] | None
    ids: IdSource | Iterator[RequestId] | None
    errors: Iterable[type[JsonRpcError]]
    codec: Codec | None


def refuse_unknown(options: Mapping[str, object], client: type) -> None:
    """Refuse keywords that the class does not take.

    :raises TypeError: naming the one that was probably meant.
    """
    for name in options:
        if name not in ClientOptions.__annotations__:
            own = [known for known, parameter in inspect.signature(client).parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
            raise TypeError(f"{client.__name__} has no parameter {name!r}{closest(name, [*own, *ClientOptions.__annotations__])}")


class Options:
    """The settings of a client or of a view. Immutable; :meth:`replace` makes another."""

    __slots__ = ("convert", "headers", "layers", "policy")

    def __init__(self, policy: Policy, layers: tuple[Layer, ...] = (), headers: Headers | None = None, convert: Convert | None = None) -> None:
        self.policy = policy
        self.layers = layers
        self.headers = headers
        self.convert = convert

    def replace(
        self,
        prefix: str = "",
        *,
        retry_strategy: RetryStrategy | Unset | None = UNSET,
        timeout: float | Unset | None = UNSET,
        deadline: float | Unset | None = UNSET,
        headers: HeadersLike | Unset | None = UNSET,
        result: Any = UNSET,
    ) -> Options:
        """The same with what is given: ``None`` disables, absent inherits; headers are added to those there are."""
        policy = self.policy
        if retry_strategy is not UNSET:
            strategy = as_strategy(prefix + "retry_strategy", retry_strategy)
            policy = Policy(strategy, compose(strategy, self.layers), policy.sinks, policy.timeout, policy.deadline)
        if timeout is not UNSET or deadline is not UNSET:
            policy = policy.limited(
                policy.timeout if timeout is UNSET else seconds(prefix + "timeout", timeout),
                policy.deadline if deadline is UNSET else as_deadline(prefix + "deadline", deadline),
            )
        fields = self.headers if headers is UNSET else merged(self.headers, as_headers(prefix + "headers", headers))
        convert = self.convert if result is UNSET else None if result is None else as_convert(result)
        return Options(policy, self.layers, fields, convert)


def as_convert(type_: Any) -> Convert:
    """The function that turns a result into *type_*."""
    # pydantic proper is large, and most programs that never ask for a type need not load it.
    from .typed import converter

    return converter(type_)


def as_strategy(name: str, value: object) -> RetryStrategy | None:
    """Refuse what is no strategy."""
    if value is None or isinstance(value, RetryStrategy):
        return value
    if isinstance(value, type) and issubclass(value, RetryStrategy):
        raise TypeError(f"{name} must be an instance, got the class {value.__name__}; write {name}={value.__name__}()")
    hint = f"; write {name}=RetryStrategy(backoff=...)" if callable(value) else "; use None for no retries"
    raise TypeError(f"{name} must be a RetryStrategy or None, got {type(value).__name__} {value!r:.60}{hint}")


def as_deadline(name: str, value: object) -> float | None:
    """Refuse what is no number of seconds. 0 or less is allowed: what is left of a budget may be nothing."""
    if value is None:
        return None
    if isinstance(value, float) and math.isinf(value) and value > 0:
        return None
    try:
        return number(name, value)
    except (TypeError, ValueError) as problem:
        raise type(problem)(f"{problem}; give seconds, or None for no limit") from None


def as_headers(name: str, value: object) -> Headers | None:
    """Refuse headers that cannot be sent. No message shows a value: it may be a secret.

    :raises TypeError: for names and values that are no str.
    :raises ValueError: for control characters, with which a value could add headers of its own.
    """
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, (Mapping, Iterable)):
        raise TypeError(f"{name} must be a mapping from str to str, got {type(value).__name__}")
    pairs = list(value.items()) if isinstance(value, Mapping) else list(value)
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2):
            raise TypeError(f"{name} must be a mapping from str to str, or pairs of them, got an item of type {type(pair).__name__}")
        field, content = pair
        if not isinstance(field, str):
            raise TypeError(f"{name}: the names of headers must be str, got {type(field).__name__} {field!r:.40}")
        if field.lower() in ("content-length", "transfer-encoding"):
            raise ValueError(f"{name}: {field} is set by the HTTP library, to what the body is; leave it out")
        if not _NAME.match(field):
            raise ValueError(f"{name}: {field!r:.40} is no name of a header")
        if not isinstance(content, str):
            raise TypeError(f"{name}: the value of {field} must be a str, got {type(content).__name__}; write str(...) around it")
        if _FORBIDDEN.search(content):
            raise ValueError(f"{name}: the value of {field} holds a control character, such as a line break")
        if content != content.strip():
            raise ValueError(f"{name}: the value of {field} begins or ends with a space; strip it")
        # Compared and not encoded: an encoder's error would show the value.
        if any(char > "\xff" for char in content):
            raise ValueError(f"{name}: the value of {field} holds characters beyond Latin-1, which HTTP does not carry")
    return Headers(pairs)


def merged(first: Headers | None, second: Headers | None) -> Headers | None:
    """Both, the second winning. A second of ``None`` drops the first."""
    if first is None or second is None:
        return second
    fields = {name.lower(): (name, value) for name, value in first.items()}
    fields.update((name.lower(), (name, value)) for name, value in second.items())
    return Headers(fields.values())


def as_sinks(value: Sink | Iterable[Sink] | None) -> tuple[Sink, ...]:
    """Read an ``on_event=`` argument: one sink or several."""
    if value is None:
        return ()
    sinks: tuple[Any, ...] = (value,) if callable(value) else tuple(value) if isinstance(value, Iterable) else (value,)
    for sink in sinks:
        if not callable(sink):
            raise TypeError(f"on_event must be a callable that takes an event, or several, got {type(sink).__name__} {sink!r:.60}")
        if inspect.iscoroutinefunction(sink):
            raise TypeError(f"on_event must be a plain function, got {sink!r:.60}, which nobody would await; have it call loop.create_task")
        if isinstance(sink, type):
            raise TypeError(f"on_event must be an instance, got the class {sink.__name__}; write on_event={sink.__name__}()")
    return sinks


def refuse_options(params: Mapping[str, object]) -> None:
    """Refuse named params that look like options.

    :raises TypeError: naming the option, and how to send it as a param.
    """
    for name in params:
        if name in CALL_OPTIONS:
            raise TypeError(f"{name!r} is no option of a notification, which has no answer; use call, or leave it out")
        if name[:1] == "_":
            # The letters of _retry are nearer to _result than to _retry_strategy.
            meant = next((option for option in CALL_OPTIONS if len(name) > 2 and option.startswith(name)), name)
            hint = closest(meant, CALL_OPTIONS)
            raise TypeError(f"unknown option {name!r}{hint}; to send a param of that name write client.send(Request(method, params={{...}}))")
