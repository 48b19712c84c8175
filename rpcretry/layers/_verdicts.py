"""What a circuit breaker makes of a failure."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

from .._check import is_async_callable, plain_callable_with
from ..errors import (
    ClientClosedError,
    HTTPStatusError,
    InvalidTargetError,
    JsonRpcError,
    Refused,
    ResponseTooLargeError,
    ResultValidationError,
    RetryExhaustedError,
    TransportError,
)
from ..events import logger
from ..outcome import Outcome
from ..retry.strategy import _foreign, _ranges, _several, _types, _within

__all__ = ["FailureOn", "Verdicts"]

FailureOn: TypeAlias = "type[Exception] | int | range | Iterable[type[Exception] | int | range] | Callable[[Outcome], bool]"

# Statuses that count beside a JSON-RPC error: by these a proxy, or the server, says that it does not serve now.
OVERLOADED: Final = frozenset({429, 502, 503, 504})

# A server that answers with these takes part in the conversation, and turns down this one request.
ALIVE: Final = frozenset(range(400, 500)) - {408, 429}

# What a parameter is called by those who expect an exception in it.
EXCEPTION_NAMES: Final = frozenset({"e", "err", "error", "exc", "exception"})


class Verdicts:
    """Which outcomes are failures of the server.

    :param failure_on: as for :class:`~rpcretry.layers.breaker.CircuitBreaker`.
    :ivar plain: whether an outcome without an error is a success, whatever else it is.
    """

    __slots__ = ("_codes", "_library_types", "_predicate", "_rpc_types", "_types", "plain")

    def __init__(self, failure_on: FailureOn | None = None) -> None:
        predicate: Any = None
        items: list[Any] = []
        if callable(failure_on) and not isinstance(failure_on, type):
            fix = "it gets the Outcome and returns whether that is a failure"
            if is_async_callable(failure_on):
                raise TypeError(f"failure_on must be a plain function, got {failure_on!r:.80}, which nobody would await; {fix}")
            plain_callable_with("failure_on", failure_on, 1, fix)
            _refuse_function_of_an_exception(failure_on)
            predicate = failure_on
        elif failure_on is not None:
            items = _several(failure_on)
            if not items:
                raise ValueError("failure_on is empty, and nothing would be a failure; leave it out for the usual failures")
        for item in items:
            if not isinstance(item, (type, int, range)):
                raise TypeError(f"failure_on takes exception classes, codes and ranges of codes, or one function of the Outcome, got {item!r:.60}")
        self._predicate = predicate
        self.plain = predicate is None
        self._types = _types("failure_on", [item for item in items if isinstance(item, type)])
        self._rpc_types = tuple(cls for cls in self._types if issubclass(cls, JsonRpcError))
        self._library_types = _foreign(self._types)
        self._codes = _ranges("failure_on", [item for item in items if not isinstance(item, type)])

    def of(self, outcome: Outcome) -> bool | None:
        """Whether *outcome* is a failure; ``None`` where it says nothing about the server."""
        error = outcome.error
        if isinstance(error, (Refused, RetryExhaustedError)) and not isinstance(error, self._types):
            # Out of a block around a whole call: the last failure of that call is what happened.
            cause = error.__cause__
            error = cause if isinstance(cause, Exception) else error
            outcome = Outcome(outcome.value, error)
        if isinstance(error, (InvalidTargetError, ClientClosedError, Refused)) and not isinstance(error, self._types):
            return None
        if self._predicate is not None:
            try:
                answer = self._predicate(outcome)
                if not isinstance(answer, bool):
                    raise TypeError(f"failure_on must return True or False, got {type(answer).__name__} {answer!r:.60}")
            except Exception:
                # The call's own result or failure goes on to the caller.
                logger.exception("failure_on: %r raised on %r", self._predicate, outcome)
                return error is not None
            return answer
        return error is not None and self._is_failure(error)

    def among(self, outcomes: Sequence[Outcome]) -> bool | None:
        """The same for what came of one exchange: one success in it proves that the server is alive."""
        found: bool | None = None
        for outcome in outcomes:
            failed = self.of(outcome)
            if failed is False:
                return False
            found = found or failed
        return found

    def _is_failure(self, error: Exception) -> bool:
        if isinstance(error, JsonRpcError):
            if _within(error.code, self._codes):
                return True
            # As in a strategy, Exception and the like do not mean the errors that a server answers with.
            return isinstance(error, self._rpc_types) if self._types else error.status in OVERLOADED
        if self._types:
            return isinstance(error, self._types) or (isinstance(error, TransportError) and isinstance(error.__cause__, self._library_types))
        if isinstance(error, HTTPStatusError):
            return error.status not in ALIVE
        return not isinstance(error, (ResponseTooLargeError, ResultValidationError))


def _refuse_function_of_an_exception(predicate: Callable[..., object]) -> None:
    """Refuse one that expects an exception: asked whether an Outcome is a ConnectionError, it would never count a failure."""
    try:
        parameters = list(inspect.signature(predicate).parameters)
    except (TypeError, ValueError):
        return
    if len(parameters) == 1 and parameters[0] in EXCEPTION_NAMES:
        raise TypeError(
            f"failure_on gets the Outcome and not the exception, got a function of {parameters[0]!r}; "
            "write lambda outcome: isinstance(outcome.error, ...), or the exception classes themselves"
        )
