"""What all exceptions of the package have in common."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from ..transport import Headers, SharedExchange

__all__ = ["CircuitState", "Delivery", "RpcRetryError"]


class Delivery(enum.Enum):
    """What the server may have done with a request whose attempt failed."""

    NOT_SENT = "not sent"
    """Proven: not one byte of the request's body left for the server."""
    REJECTED = "rejected"
    """The server said that it did not act: HTTP 429, 503 with Retry-After, or an error code that a strategy names."""
    MAYBE_EXECUTED = "maybe executed"
    """Everything else: a repetition may do the work a second time."""


class CircuitState(enum.Enum):
    """What a circuit breaker does with calls."""

    CLOSED = "closed"
    """It lets them through and counts failures."""
    OPEN = "open"
    """It turns them away."""
    HALF_OPEN = "half-open"
    """It lets a few through, as probes, and turns the others away."""


class RpcRetryError(Exception):
    """The base of every exception that this package defines."""

    delivery: Delivery = Delivery.MAYBE_EXECUTED

    # The mark of the exchange, where several calls shared it. Copies have it, too; pickles do not.
    _shared_exchange: SharedExchange | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own calls the class with its args, which fails for a subclass whose __init__ takes others.
        state = dict(self.__dict__)
        if "__notes__" in state:
            state["__notes__"] = list(state["__notes__"])
        if isinstance(state.get("headers"), Mapping):
            # Those of an HTTP library need not pickle.
            state["headers"] = Headers(state["headers"])
        return _restored, (type(self), self.args, state)


def _restored(cls: type[RpcRetryError], args: tuple[object, ...], state: dict[str, object]) -> RpcRetryError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error
