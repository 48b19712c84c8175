"""Failures without an answer, and ends of a call that are no failure of an attempt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ._base import CircuitState, Delivery, RpcRetryError

__all__ = [
    "BudgetExhaustedError",
    "BulkError",
    "CertificateError",
    "CircuitOpenError",
    "ClientClosedError",
    "ConnectError",
    "ConnectTimeoutError",
    "ConnectionLostError",
    "DeadlineExceeded",
    "InvalidTargetError",
    "LimitReachedError",
    "Refused",
    "RequestTimeoutError",
    "RetryExhaustedError",
    "RetryableError",
    "TransportError",
]


class TransportError(RpcRetryError):
    """No whole answer arrived. The HTTP library's own exception is ``__cause__``.

    :param delivery: what the server may have done; the class's own where it is not given.
    """

    permanent: ClassVar[bool] = False
    """Whether trying again cannot help; such a failure matches no exception of an HTTP library."""

    def __init__(self, message: str = "", *, delivery: Delivery | None = None) -> None:
        super().__init__(message)
        if delivery is not None:
            self.delivery = delivery


class ConnectError(TransportError, ConnectionError):
    """No connection to the server, or to the proxy before it, was made: nothing was sent."""

    delivery = Delivery.NOT_SENT


class ConnectTimeoutError(ConnectError, TimeoutError):
    """No connection was made within the connect timeout: nothing was sent."""


class ConnectionLostError(TransportError, ConnectionError):
    """The connection broke, while it was in use or as it was about to be."""


class RequestTimeoutError(TransportError, TimeoutError):
    """The attempt took longer than its limit."""


class CertificateError(TransportError):
    """The server's certificate is not trusted. No repetition mends that: never transient."""

    delivery = Delivery.NOT_SENT
    permanent = True


class InvalidTargetError(TransportError, ValueError):
    """The HTTP library refuses the URL, the proxy or a header. Never transient."""

    delivery = Delivery.NOT_SENT
    permanent = True


class Refused(RpcRetryError):
    """A layer did not let the attempt out. Base of the refusals of breakers, budgets and limits."""

    delivery = Delivery.NOT_SENT


class CircuitOpenError(Refused):
    """A circuit breaker is open, or has all the probes out that it allows. Nothing touched the network.

    :param name: the breaker's name; with its key in brackets where it has one circuit for each key.
    :param state: ``OPEN``, or ``HALF_OPEN`` where all probes are out.
    :param remaining: seconds until the breaker lets a probe through; ``math.inf`` where it is held open, 0 where
        only the probes under way stand in between.
    """

    def __init__(self, message: str = "", *, name: str = "default", state: CircuitState = CircuitState.OPEN, remaining: float = 0.0) -> None:
        super().__init__(message)
        self.name: str = name
        self.state: CircuitState = state
        self.remaining: float = remaining


class BudgetExhaustedError(Refused):
    """The retry budget does not pay for another try; ``__cause__`` is the failure that was not tried again.

    :param name: the budget's name.
    :param level: the tokens that it has left.
    """

    def __init__(self, message: str = "", *, name: str = "default", level: float = 0.0) -> None:
        super().__init__(message)
        self.name: str = name
        self.level: float = level


class LimitReachedError(Refused):
    """A concurrency or rate limit that refuses, or whose queue is full or took too long.

    :param name: the limit's name.
    :param remaining: seconds until a rate limit lets an attempt through; ``None`` where nobody knows.
    """

    def __init__(self, message: str = "", *, name: str = "default", remaining: float | None = None) -> None:
        super().__init__(message)
        self.name: str = name
        self.remaining: float | None = remaining


class RetryableError(RpcRetryError):
    """For your own code to raise inside of a retried function: asks for another try, whatever ``on=`` names.

    :param delay: seconds until then; the backoff's where it is not given.
    """

    def __init__(self, message: str = "", *, delay: float | None = None) -> None:
        super().__init__(message)
        self.delay: float | None = delay


class DeadlineExceeded(RpcRetryError, TimeoutError):
    """The deadline ended the whole call; ``__cause__`` is the last failure before it, if there was one.

    :param deadline: the deadline, in seconds from the start of the call.
    :param elapsed: seconds that the call took.
    :param attempts: how many attempts were made.
    """

    def __init__(self, message: str = "", *, deadline: float = 0.0, elapsed: float = 0.0, attempts: int = 0) -> None:
        super().__init__(message)
        self.deadline: float = deadline
        self.elapsed: float = elapsed
        self.attempts: int = attempts


class RetryExhaustedError(RpcRetryError):
    """The last attempt of a strategy with ``wrap=True`` failed; ``__cause__`` is its failure.

    :param attempts: how many tries were made, the first one included.
    :param last_exception: the failure of the last try.
    :param elapsed: seconds from the start of the call.
    """

    def __init__(self, message: str = "", *, attempts: int = 0, last_exception: BaseException | None = None, elapsed: float = 0.0) -> None:
        super().__init__(message)
        self.attempts: int = attempts
        self.last_exception: BaseException | None = last_exception
        self.elapsed: float = elapsed
        self.delivery = getattr(last_exception, "delivery", Delivery.MAYBE_EXECUTED)


class BulkError(RpcRetryError):
    """Too small a share of a bulk succeeded. Nothing is lost: it holds all items, as of :class:`~rpcretry.bulk.BulkResult`.

    :param successful: the items that succeeded, in the order of the requests.
    :param failed: those that did not, each with its request, its error and its attempts.
    """

    def __init__(self, message: str = "", *, successful: Sequence[Any] = (), failed: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.successful: list[Any] = list(successful)
        self.failed: list[Any] = list(failed)


class ClientClosedError(RpcRetryError, RuntimeError):
    """The client was closed before the call, or before another attempt of it."""

    delivery = Delivery.NOT_SENT
