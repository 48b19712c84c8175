"""Which failures are tried again."""

from __future__ import annotations

import enum
import fnmatch
import inspect
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from .._check import plain_callable_with, refuse_unknown
from ..errors import ClientClosedError, DeadlineExceeded, HTTPStatusError, JsonRpcError, Refused, ResultValidationError, RpcRetryError, TransportError
from ..messages import Request
from ..outcome import Member, Outcome, Retry, Stop
from .backoff import Backoff, BackoffLike, ExponentialBackoff, as_backoff, limit_of, within

__all__ = ["DEFAULT_BACKOFF", "TRANSIENT_CODES", "TRANSIENT_STATUSES", "Classification", "RetryStrategy"]

TRANSIENT_CODES: Final = frozenset({-32005, 429})
"""The codes that the default strategy retries: "limit exceeded" of EIP-1474, and HTTP's 429 used as a code."""

TRANSIENT_STATUSES: Final = frozenset({408, 429, 502, 503, 504})
"""The HTTP statuses that the default strategy retries."""

DEFAULT_BACKOFF: Final[Backoff] = ExponentialBackoff(attempts=3, base=0.1, factor=2.0, max_value=20.0, jitter=True)
"""Three retries within 0.1, 0.2 and 0.4 s, with full jitter."""

# Whatever the HTTP status beside them, a repetition of the same bytes gets the same answer.
PERMANENT_CODES: Final = frozenset({-32700, -32600, -32601, -32602})

# The statuses that count beside a JSON-RPC error: servers wrap permanent errors in 400 and 500.
STATUSES_BESIDE_CODES: Final = frozenset({429, 503})

_SYNONYMS = {
    "attempts": "backoff=ExponentialBackoff(attempts=...)",
    "max_attempts": "backoff=ExponentialBackoff(attempts=...), which counts the retries: max_attempts - 1",
    "max_retries": "backoff=ExponentialBackoff(attempts=...)",
    "retries": "backoff=ExponentialBackoff(attempts=...)",
    "stop": "backoff=ExponentialBackoff(attempts=...)",
    "wait": "backoff=...",
    "delay": "backoff=PeriodicBackoff(attempts=..., interval=...)",
    "initial_delay": "backoff=ExponentialBackoff(attempts=..., base=...)",
    "base_delay": "backoff=ExponentialBackoff(attempts=..., base=...)",
    "max_delay": "backoff=ExponentialBackoff(attempts=..., max_value=...)",
    "exponential_base": "backoff=ExponentialBackoff(attempts=..., factor=...)",
    "multiplier": "backoff=ExponentialBackoff(attempts=..., factor=...)",
    "jitter": "backoff=ExponentialBackoff(attempts=..., jitter=True)",
    "retry": "exceptions, codes, statuses or when",
    "on": "exceptions",
    "retry_on": "exceptions",
    "retryable_exceptions": "exceptions",
    "retryable": "exceptions",
    "non_retryable": "fatal",
    "status_forcelist": "statuses",
    "status_codes": "statuses",
    "reraise": "wrap (the last exception goes through unless wrap=True)",
    "timeout": "the client's timeout or the call's _timeout",
    "deadline": "the client's deadline or the call's _deadline",
}

Codes: TypeAlias = "int | range | Iterable[int | range]"
Exceptions: TypeAlias = "type[Exception] | Iterable[type[Exception]]"
Idempotent: TypeAlias = "bool | str | Iterable[str] | Callable[[Request], bool]"
When: TypeAlias = "Callable[[Outcome, int], bool | float | None]"


class Classification(enum.Enum):
    """What a strategy makes of an error."""

    RETRYABLE = "retryable"
    NON_RETRYABLE = "non-retryable"
    TIMEOUT = "timeout"


class RetryStrategy:
    """Which failures are tried again, and after which delays. Immutable; one may serve any number of calls.

    Without ``exceptions``, ``codes``, ``statuses`` and ``when`` it is the TRANSIENT preset: JSON-RPC codes
    -32005 and 429, HTTP 408, 429, 502, 503 and 504, connection failures and timeouts; what the server may have
    executed already is then repeated only for methods declared ``idempotent``. Naming one of the four replaces
    the preset, and means what it says: it is retried for every method, unless ``idempotent`` is given.

    What is looked at first decides: ``fatal``, then codes, statuses, exceptions, ``when``.

    :param exceptions: exception classes to retry, one or any iterable. Those of requests and aiohttp match, too.
        JSON-RPC errors match only classes derived from :class:`~rpcretry.JsonRpcError`.
    :param codes: JSON-RPC error codes to retry: ints and ranges, one or any iterable.
    :param statuses: HTTP statuses to retry. Beside a JSON-RPC error only 429 and 503 count, and beside -32700
        and -32600 to -32602 none.
    :param when: called with the :class:`~rpcretry.Outcome` and the number of the try, from 1, for what nothing
        else matched, successes included. ``True`` retries after the backoff's delay, a number after that many
        seconds; ``False`` and ``None`` do not.
    :param fatal: exception classes and codes that are never retried.
    :param idempotent: the methods that may safely be executed twice: names and globs (``"get_*"``), a
        predicate of the request, or ``True`` for all. Where given, a request that the server may have executed
        is repeated only for these.
    :param backoff: a :class:`Backoff` or any callable that returns an iterator of seconds.
    :param wrap: raise :class:`~rpcretry.RetryExhaustedError` from the last failure when the attempts run out,
        instead of the failure itself.
    :raises TypeError, ValueError: naming the parameter, its value and the fix.
    """

    __slots__ = (
        "_codes",
        "_exceptions",
        "_explicit",
        "_fatal_codes",
        "_fatal_library_types",
        "_fatal_types",
        "_globs",
        "_idempotent",
        "_library_types",
        "_rpc_types",
        "_statuses",
        "backoff",
        "max_attempts",
        "when",
        "wrap",
    )

    if not TYPE_CHECKING:

        def __new__(cls, *args, **kwargs):
            if cls.__init__ is not RetryStrategy.__init__:
                # A subclass says itself what it takes.
                return super().__new__(cls)
            refuse_unknown("RetryStrategy", kwargs, list(cls.__init__.__kwdefaults__), _SYNONYMS)
            if args:
                raise TypeError("RetryStrategy takes keywords only; write backoff=..., codes=..., exceptions=...")
            return super().__new__(cls)

    def __init__(
        self,
        *,
        exceptions: Exceptions | None = None,
        codes: Codes | None = None,
        statuses: Codes | None = None,
        when: When | None = None,
        fatal: type[Exception] | int | range | Iterable[type[Exception] | int | range] | None = None,
        idempotent: Idempotent | None = None,
        backoff: BackoffLike = DEFAULT_BACKOFF,
        wrap: bool = False,
    ) -> None:
        self._explicit = not (exceptions is None and codes is None and statuses is None and when is None)
        if not self._explicit:
            exceptions, codes, statuses = (ConnectionError, TimeoutError), TRANSIENT_CODES, TRANSIENT_STATUSES
        types = _types("exceptions", _several(exceptions))
        refuse_never_retried("exceptions", types)
        self._exceptions = types
        self._rpc_types = tuple(cls for cls in types if issubclass(cls, JsonRpcError))
        # Through __cause__ only a library's own classes match: its exceptions also derive from builtins, such
        # as ValueError, that mean something else where a user names them.
        self._library_types = _foreign(types)
        self._codes = _ranges("codes", _several(codes))
        self._statuses = _ranges("statuses", _several(statuses))
        fatal_items = _several(fatal)
        self._fatal_types = _types("fatal", [item for item in fatal_items if not isinstance(item, (int, range))])
        self._fatal_library_types = _foreign(self._fatal_types)
        self._fatal_codes = _ranges("fatal", [item for item in fatal_items if isinstance(item, (int, range))])
        if when is not None:
            plain_callable_with("when", when, 2, "it gets the outcome and the number of the try")
        self.when = when
        self._idempotent, self._globs = _idempotency(idempotent)
        self.backoff = as_backoff(backoff)
        limit = limit_of(backoff)
        self.max_attempts: int | None = None if limit is None else limit + 1
        """How many tries a request gets at the most; ``None`` where the backoff does not say."""
        if not isinstance(wrap, bool):
            raise TypeError(f"wrap must be True or False, got {wrap!r:.60}")
        self.wrap = wrap

    def __setattr__(self, name: str, value: object) -> None:
        # What a subclass adds is the subclass's own.
        if hasattr(self, "wrap") and (name in RetryStrategy.__slots__ or type(self) is RetryStrategy):
            raise AttributeError(f"a RetryStrategy is immutable; build another one to change {name}")
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a RetryStrategy is immutable; build another one to do without {name}")

    def __repr__(self) -> str:
        kind = "" if self._explicit else "transient, "
        return f"RetryStrategy({kind}backoff={self.backoff!r})"

    @property
    def is_guarded(self) -> bool:
        """Whether what the server may have executed is repeated for idempotent methods only."""
        return not self._explicit or self._idempotent is not None

    @property
    def ignores_success(self) -> bool:
        """Whether an outcome without an error is the end of it. A client makes no records for a first attempt then."""
        return self.when is None and type(self).propose is RetryStrategy.propose

    def is_idempotent(self, request: Request | None) -> bool:
        """Whether the request was declared safe to execute twice."""
        declared = self._idempotent
        if request is None or declared is None or isinstance(declared, bool):
            return declared is True
        if callable(declared):
            answer = declared(request)
            if not isinstance(answer, bool):
                raise TypeError(f"idempotent must return True or False, got {type(answer).__name__} {answer!r:.60}")
            return answer
        return request.method in declared or any(glob.match(request.method) for glob in self._globs)

    def classify(self, error: BaseException) -> Classification:
        """What this strategy makes of *error*: first whether it is a timeout, then whether it is retried."""
        if isinstance(error, TimeoutError):
            return Classification.TIMEOUT
        if isinstance(error, Exception) and not isinstance(error, Refused) and self.matches(error):
            return Classification.RETRYABLE
        return Classification.NON_RETRYABLE

    def names(self, code: int) -> bool:
        """Whether *code* is one that the strategy retries: then the server did not act on a request that it answers so."""
        return _within(code, self._codes) and not _within(code, self._fatal_codes)

    def matches(self, error: Exception) -> str | None:
        """What about *error* asks for another try: ``"code"``, ``"status"`` or ``"exception"``; ``None`` for nothing."""
        if self._is_fatal(error):
            return None
        if isinstance(error, JsonRpcError):
            if _within(error.code, self._codes):
                return "code"
            status = error.status
            if status in STATUSES_BESIDE_CODES and error.code not in PERMANENT_CODES and _within(status, self._statuses):
                return "status"
            return "exception" if isinstance(error, self._rpc_types) else None
        if isinstance(error, HTTPStatusError) and _within(error.status, self._statuses):
            return "status"
        if isinstance(error, self._exceptions):
            return "exception"
        if isinstance(error, TransportError) and not error.permanent and isinstance(error.__cause__, self._library_types):
            return "exception"
        return None

    def propose(self, member: Member, outcome: Outcome) -> Retry | Stop:
        """The verdict on one outcome, before any layer has its say. Draws the next delay of the member."""
        error = outcome.error
        reason = None if error is None else self.matches(error)
        delay: float | None = None
        if reason is None:
            if self.when is None or self._is_fatal(error):
                return Stop("ok" if error is None else "error")
            answer = self.when(outcome, member.tries)
            if answer is None or answer is False:
                return Stop("ok" if error is None else "error")
            reason = "when"
            delay = None if answer is True else within(answer, rule="when must return True, False, None or a number of seconds")
        if member.delays is None:
            delays: object = self.backoff()
            if not isinstance(delays, Iterable):
                raise TypeError(f"backoff must return an iterator of seconds, {self.backoff!r:.60} returned {type(delays).__name__}")
            member.delays = iter(delays)
        try:
            drawn = next(member.delays)
        except StopIteration:
            return Stop("attempts")
        return Retry(within(drawn) if delay is None else delay, reason)

    def _is_fatal(self, error: Exception | None) -> bool:
        if isinstance(error, self._fatal_types):
            return True
        if isinstance(error, JsonRpcError):
            return _within(error.code, self._fatal_codes)
        return isinstance(error, TransportError) and isinstance(error.__cause__, self._fatal_library_types)


def refuse_never_retried(name: str, classes: Iterable[type[Exception]]) -> None:
    """Refuse what ends a call whatever is named."""
    for cls in classes:
        if issubclass(cls, (Refused, DeadlineExceeded, ClientClosedError, ResultValidationError)):
            raise ValueError(f"{name} must not name {cls.__name__}: it ends a call and is never retried")


def _several(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, (type, int, range, str, bytes)) or not isinstance(value, Iterable):
        return [value]
    return list(value)


def _types(name: str, items: Iterable[object]) -> tuple[type[Exception], ...]:
    found: list[type[Exception]] = []
    for item in items:
        if not (isinstance(item, type) and issubclass(item, BaseException)):
            hint = f"; write codes={{{item}}}" if isinstance(item, int) and name == "exceptions" else ""
            raise TypeError(f"{name} takes exception classes, got {item!r:.60}{hint}")
        if not issubclass(item, Exception):
            raise TypeError(f"{name} takes subclasses of Exception, got {item.__name__}: cancellation and interrupts are never retried")
        found.append(item)
    return tuple(found)


def _foreign(types: Iterable[type[Exception]]) -> tuple[type[Exception], ...]:
    return tuple(cls for cls in types if cls.__module__ != "builtins" and not issubclass(cls, RpcRetryError))


def _ranges(name: str, items: Iterable[object]) -> tuple[frozenset[int], tuple[range, ...]]:
    numbers: set[int] = set()
    ranges: list[range] = []
    for item in items:
        if isinstance(item, range):
            ranges.append(item)
        elif isinstance(item, int) and not isinstance(item, bool):
            numbers.add(item)
        else:
            hint = "; write exceptions={...} for classes" if isinstance(item, type) else ""
            raise TypeError(f"{name} takes ints and ranges, got {type(item).__name__} {item!r:.60}{hint}")
    return frozenset(numbers), tuple(ranges)


def _within(number: int, known: tuple[frozenset[int], tuple[range, ...]]) -> bool:
    return number in known[0] or any(number in span for span in known[1])


def _idempotency(value: object, parameter: str = "idempotent") -> tuple[bool | frozenset[str] | Callable[[Request], bool] | None, tuple[re.Pattern[str], ...]]:
    if value is None or isinstance(value, bool):
        return value, ()
    if not isinstance(value, (str, Iterable)):
        plain_callable_with("idempotent", value, 1, "it takes names, globs, True or a predicate of the request")
        predicate: Any = value
        return predicate, ()
    names = _several(value)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{parameter} takes method names and globs, got {type(name).__name__} {name!r:.60}")
    globs = [name for name in names if any(char in name for char in "*?[")]
    return frozenset(names) - frozenset(globs), tuple(re.compile(fnmatch.translate(glob)) for glob in globs)


# inspect and help() would otherwise show the parameters of the __new__ that checks their names.
_init = inspect.signature(RetryStrategy.__init__)
type.__setattr__(RetryStrategy, "__signature__", _init.replace(parameters=list(_init.parameters.values())[1:]))
