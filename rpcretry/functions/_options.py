"""What a retried function may be given, and how it becomes a strategy."""

from __future__ import annotations

import inspect
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias, TypedDict

from .._check import callable_with, count, deadline_in_seconds, is_async_callable, number, plain_callable_with, refuse_unknown, seconds
from ..errors import RetryableError
from ..events import Event, RetryScheduled, Sink
from ..outcome import Outcome
from ..retry.backoff import UNLIMITED, BackoffLike, ExponentialBackoff, as_backoff, limit_of
from ..retry.fallback import Fallback
from ..retry.jitter import JitterLike
from ..retry.layer import Layer
from ..retry.strategy import RetryStrategy, refuse_never_retried

__all__ = ["RetryOptions"]

DEFAULT_ON: tuple[type[Exception], ...] = (ConnectionError, TimeoutError, OSError)
DEFAULTS: Mapping[str, Any] = {"max_attempts": 3, "base_delay": 0.1, "factor": 2.0, "max_delay": 60.0, "jitter": True}

When: TypeAlias = "Callable[[Exception, int], bool | float | None]"


class RetryOptions(TypedDict, total=False):
    """What :func:`~rpcretry.functions.retry` and its kin take.

    :ivar on: exception classes to retry, one or any iterable; ``(ConnectionError, TimeoutError, OSError)`` where
        neither it nor ``when`` is given. :class:`~rpcretry.RetryableError` always asks for another try.
    :ivar when: called with the exception and the number of the try, from 1, for exceptions of ``on``, or for all where
        ``on`` is not given. ``True`` retries after the backoff's delay, a number after that many seconds; ``False`` and
        ``None`` do not.
    :ivar retry_result: called with what the function returned; ``True`` has it called again. When the tries run
        out, the last value is returned.
    :ivar fatal: exception classes that are never retried, also where ``on`` names them.
    :ivar max_attempts: tries, the first included: 3; ``None`` for no limit.
    :ivar base_delay: seconds of the first delay: 0.1.
    :ivar factor: what the delay is multiplied by at each retry: 2.
    :ivar max_delay: the longest delay in seconds: 60.
    :ivar jitter: as of a :class:`~rpcretry.retry.Backoff`; full jitter (``True``) where it is not given.
    :ivar backoff: a :class:`~rpcretry.retry.Backoff` in place of these four; its own number of delays counts unless
        ``max_attempts`` is given.
    :ivar deadline: seconds for all tries and waits together. An async function is cut there; a sync one cannot be, and
        is not tried again after it.
    :ivar timeout: seconds for each try of an async function, not for all of them, which is ``deadline``. A sync one cannot
        be cut, so it is refused there.
    :ivar fallback: a callable whose value is returned instead of raising; it gets the exception, if it needs an
        argument. Or a :class:`~rpcretry.Fallback`.
    :ivar fallback_value: what is returned instead of raising.
    :ivar on_retry: called with the number of the failed try and its exception (``None`` where ``retry_result`` asked), before each wait.
    :ivar wrap: raise :class:`~rpcretry.RetryExhaustedError` from the last failure when the tries run out.
    :ivar name: what the function is called in events and messages; its qualified name where it is not given.
    :ivar strategy: a :class:`~rpcretry.RetryStrategy` in place of ``on`` and all that decides about retries. Its rules about what may have been
        executed hold here, too: a function is idempotent only under ``idempotent=True``.
    :ivar layers: :class:`~rpcretry.Layer` objects, from the outermost to the innermost.
    :ivar on_event: sinks: callables that take an :class:`~rpcretry.events.Event`, one or several.
    :ivar clock: seconds on a monotonic clock.
    :ivar sleep: waits that many seconds; for async functions a coroutine function.
    """

    on: type[Exception] | Iterable[type[Exception]]
    when: When
    retry_result: Callable[[Any], bool]
    fatal: type[Exception] | Iterable[type[Exception]]
    max_attempts: int | None
    base_delay: float
    factor: float
    max_delay: float
    jitter: JitterLike
    backoff: BackoffLike
    deadline: float | None
    timeout: float | None
    fallback: Callable[..., Any] | Fallback
    fallback_value: Any
    on_retry: Callable[[int, Exception | None], object]
    wrap: bool
    name: str
    strategy: RetryStrategy
    layers: Layer | Iterable[Layer]
    on_event: Sink | Iterable[Sink]
    clock: Callable[[], float]
    sleep: Callable[[float], Any]


# What a strategy of the user's says itself.
OF_STRATEGY = ("on", "when", "retry_result", "fatal", "max_attempts", "base_delay", "factor", "max_delay", "jitter", "backoff", "wrap")
OF_BACKOFF = ("base_delay", "factor", "max_delay", "jitter")

# What other libraries and in-house helpers call our parameters.
SYNONYMS = {
    "attempts": "max_attempts",
    "tries": "max_attempts",
    "max_tries": "max_attempts",
    "max_calls_total": "max_attempts",
    "retries": "max_attempts, which counts the first try, too: retries + 1",
    "max_retries": "max_attempts, which counts the first try, too: max_retries + 1",
    "total": "max_attempts, which counts the first try, too: total + 1",
    "num_retries": "max_attempts, which counts the first try, too: num_retries + 1",
    "stop": "max_attempts or deadline",
    "stop_max_attempt_number": "max_attempts",
    "stop_max_delay": "deadline, in seconds",
    "max_time": "deadline",
    "total_timeout": "deadline",
    "retry_window_after_first_call_in_seconds": "deadline",
    "attempt_timeout": "timeout",
    "timeout_per_attempt": "timeout",
    "wait_fixed": "backoff=PeriodicBackoff(...)",
    "wait": "base_delay, factor, max_delay and jitter, or backoff",
    "wait_gen": "backoff",
    "delay": "base_delay, or backoff=PeriodicBackoff(...) for equal delays",
    "interval": "backoff=PeriodicBackoff(...)",
    "base": "base_delay",
    "initial": "base_delay",
    "initial_delay": "base_delay",
    "wait_initial": "base_delay",
    "min_delay": "base_delay",
    "backoff_base": "factor",
    "backoff_factor": "factor",
    "exponential_base": "factor",
    "exp_base": "factor",
    "wait_exp_base": "factor",
    "multiplier": "factor",
    "max": "max_delay",
    "max_value": "max_delay",
    "max_wait": "max_delay",
    "max_backoff": "max_delay",
    "backoff_max": "max_delay",
    "wait_max": "max_delay",
    "wait_jitter": "jitter",
    "enabled": "max_attempts=1 to retry nothing",
    "exceptions": "on",
    "retry_exceptions": "on",
    "max_elapsed_time": "deadline",
    "failure_exceptions": "layers=CircuitBreaker(failure_on=...)",
    "fail_max": "layers=CircuitBreaker(failure_threshold=...)",
    "exception": "on",
    "expected_exception": "on",
    "retry": "on, when or retry_result",
    "retry_on": "on",
    "retry_on_exception": "on",
    "retry_on_exceptions": "on",
    "retryable": "on",
    "retryable_exceptions": "on",
    "non_retryable": "fatal",
    "non_retryable_exceptions": "fatal",
    "fatal_exceptions": "fatal",
    "ignore": "fatal",
    "giveup": "when, which says the opposite",
    "should_retry": "when",
    "predicate": "when for exceptions, retry_result for values",
    "condition": "when",
    "retry_if": "when",
    "retry_if_exception": "when",
    "retry_on_result": "retry_result",
    "retry_if_result": "retry_result",
    "before_sleep": "on_retry",
    "on_backoff": "on_retry",
    "before": "on_event",
    "after": "on_event",
    "on_giveup": "on_event",
    "on_failure": "on_event",
    "on_success": "on_event",
    "logger": "on_event=LoggingSink(logger)",
    "reraise": "wrap (the last exception goes through unless wrap=True)",
    "retry_error_callback": "fallback",
    "retry_error_cls": "wrap, which raises RetryExhaustedError",
    "raise_on_giveup": "fallback_value=None, where nothing is to be raised",
    "default": "fallback_value",
    "circuit_breaker": "layers",
    "breaker": "layers",
    "codes": "strategy=RetryStrategy(codes=...)",
    "statuses": "strategy=RetryStrategy(statuses=...)",
}


def check_names(options: Mapping[str, object], what: str) -> None:
    """Refuse keywords that do not exist, and those that contradict each other.

    :raises TypeError: naming the one that was meant.
    """
    known = RetryOptions.__annotations__
    refuse_unknown(what, options, list(known), SYNONYMS)
    if "strategy" in options:
        for name in OF_STRATEGY:
            if name in options:
                raise TypeError(f"{what}: give strategy or {name}, not both; the strategy says that itself")
    if "backoff" in options:
        for name in OF_BACKOFF:
            if name in options:
                raise TypeError(f"{what}: give backoff or {name}, not both; the backoff says that itself")
    if "fallback" in options and "fallback_value" in options:
        raise TypeError(f"{what}: give fallback or fallback_value, not both; Fallback(function, value) tries one after the other")


class FunctionStrategy(RetryStrategy):
    """What ``on``, ``when``, ``retry_result`` and ``fatal`` say, as a strategy."""

    __slots__ = ("_asks_results",)

    def __init__(self, options: Mapping[str, Any]) -> None:
        condition: Any = options.get("when")
        retry_result: Any = options.get("retry_result")
        if isinstance(condition, type) and issubclass(condition, BaseException):
            raise TypeError(f"when takes a condition, got the exception class {condition.__name__}; classes go to on=")
        if condition is not None:
            plain_callable_with("when", condition, 2, "it gets the exception and the number of the try")
        if retry_result is not None:
            plain_callable_with("retry_result", retry_result, 1, "it gets what the function returned")
        classes = as_classes("on", options.get("on", DEFAULT_ON if condition is None else Exception), "when")
        refuse_never_retried("on", classes)
        self._asks_results = retry_result is not None

        def asked(outcome: Outcome, tries: int) -> bool | float | None:
            error = outcome.error
            if error is None:
                return retry_result is not None and bool(at_once("retry_result", retry_result, retry_result(outcome.value)))
            if isinstance(error, RetryableError):
                return True if error.delay is None else error.delay
            if condition is None or not isinstance(error, classes):
                return False
            answer: bool | float | None = at_once("when", condition, condition(error, tries))
            if answer is not None and not isinstance(answer, (bool, int, float)):
                raise TypeError(f"when must return True, False, None or seconds, {condition!r:.60} returned {type(answer).__name__} {answer!r:.60}")
            return answer

        super().__init__(
            exceptions=classes if condition is None else (),
            when=asked,
            fatal=as_classes("fatal", options.get("fatal", ()), "when"),
            backoff=as_limited_backoff(options),
            wrap=options.get("wrap", False),
        )

    @property
    def ignores_success(self) -> bool:
        return not self._asks_results

    def matches(self, error: Exception) -> str | None:
        # Also where on= covers it, its own delay is what counts, and that is read with the conditions.
        return None if isinstance(error, RetryableError) else super().matches(error)


def at_once(name: str, function: object, answer: Any) -> Any:
    """Refuse the answer of a lambda around an async function, which is true whatever it would say."""
    if inspect.iscoroutine(answer):
        answer.close()
        raise TypeError(f"{name} must be a plain function, {function!r:.60} returned a coroutine, which nobody would await; write def")
    return answer


class _Limited:
    """Another backoff, with fewer delays."""

    def __init__(self, backoff: BackoffLike, retries: int) -> None:
        own = limit_of(backoff)
        self.backoff = backoff
        self.attempts = retries if own is None else min(own, retries)

    def __call__(self) -> Iterator[float]:
        return itertools.islice(self.backoff(), self.attempts)

    def __repr__(self) -> str:
        return f"{self.backoff!r:.60}, {self.attempts} retries at the most"


def as_limited_backoff(options: Mapping[str, Any]) -> BackoffLike:
    """The delays that the options ask for."""
    given = {**DEFAULTS, **options}
    tries = given["max_attempts"]
    retries = UNLIMITED if tries is None else count("max_attempts", tries, least=1) - 1
    if "backoff" in options:
        backoff = as_backoff(options["backoff"])
        return backoff if retries == UNLIMITED or "max_attempts" not in options else _Limited(backoff, retries)
    number("base_delay", given["base_delay"], least=0)
    number("max_delay", given["max_delay"], least=0)
    return ExponentialBackoff(attempts=retries, base=given["base_delay"], factor=given["factor"], max_value=given["max_delay"], jitter=given["jitter"])


def as_classes(name: str, value: object, other: str) -> tuple[type[Exception], ...]:
    """Read an argument of exception classes."""
    if not isinstance(value, (type, Iterable)) and callable(value):
        raise TypeError(f"{name} takes exception classes, got {value!r:.60}; a condition goes to {other}=")
    classes: tuple[Any, ...] = (value,) if isinstance(value, (type, str)) or not isinstance(value, Iterable) else tuple(value)
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            raise TypeError(f"{name} takes exception classes, got {cls!r:.60}")
        if not issubclass(cls, Exception):
            raise TypeError(f"{name} takes subclasses of Exception, got {cls.__name__}: cancellation and interrupts are never retried")
    return classes


def as_function_fallback(options: Mapping[str, Any]) -> Fallback | None:
    """What ``fallback`` and ``fallback_value`` say."""
    if "fallback_value" in options:
        value = options["fallback_value"]
        return Fallback(lambda: value)
    fallback = options.get("fallback")
    if fallback is None or isinstance(fallback, Fallback):
        return fallback
    if isinstance(fallback, type) and issubclass(fallback, Fallback):
        raise TypeError(f"fallback must be an instance, got the class {fallback.__name__}; write fallback={fallback.__name__}(...)")
    if not callable(fallback):
        raise TypeError(f"fallback must be a callable or a Fallback, got {type(fallback).__name__} {fallback!r:.60}; write fallback_value=...")
    return Fallback(fallback)


class OnRetry:
    """The sink that calls ``on_retry``."""

    wants = (RetryScheduled,)

    def __init__(self, function: Callable[[int, Exception | None], object]) -> None:
        callable_with("on_retry", function, 2, "it gets the number of the failed try and its exception")
        if is_async_callable(function):
            raise TypeError(f"on_retry must be a plain function, got {function!r:.60}, which nobody would await")
        self.function = function

    def __call__(self, event: Event) -> None:
        if isinstance(event, RetryScheduled):
            self.function(event.attempt, event.error)


def as_clock(options: Mapping[str, Any]) -> tuple[Callable[[], float], Callable[[float], Any] | None]:
    """``clock``, and ``sleep`` where it is given."""
    clock, sleep = options.get("clock", time.monotonic), options.get("sleep")
    callable_with("clock", clock, 0, "pass time.monotonic")
    if sleep is not None:
        callable_with("sleep", sleep, 1, "it gets seconds")
    return clock, sleep


def as_limits(options: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """``timeout`` and ``deadline`` in seconds."""
    return seconds("timeout", options.get("timeout")), deadline_in_seconds("deadline", options.get("deadline"))
