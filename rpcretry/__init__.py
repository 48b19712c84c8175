"""A JSON-RPC 2.0 client that keeps working on bad days.

The names below are loaded when they are first used; importing the package imports no HTTP library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import homes_of, lazily

if TYPE_CHECKING:
    from ._unset import UNSET as UNSET
    from ._unset import Unset as Unset
    from .client import AsyncClient as AsyncClient
    from .client import AsyncInterface as AsyncInterface
    from .client import Client as Client
    from .client import Joining as Joining
    from .client import notification as notification
    from .client import random_ids as random_ids
    from .client import rpc as rpc
    from .client import sequential_ids as sequential_ids
    from .client import uuid_ids as uuid_ids
    from .context import CurrentAttempt as CurrentAttempt
    from .context import current_attempt as current_attempt
    from .errors import BatchUnfinishedError as BatchUnfinishedError
    from .errors import BudgetExhaustedError as BudgetExhaustedError
    from .errors import BulkError as BulkError
    from .errors import CertificateError as CertificateError
    from .errors import CircuitOpenError as CircuitOpenError
    from .errors import CircuitState as CircuitState
    from .errors import ClientClosedError as ClientClosedError
    from .errors import ConnectError as ConnectError
    from .errors import ConnectionLostError as ConnectionLostError
    from .errors import ConnectTimeoutError as ConnectTimeoutError
    from .errors import DeadlineExceeded as DeadlineExceeded
    from .errors import Delivery as Delivery
    from .errors import HTTPStatusError as HTTPStatusError
    from .errors import IdentityError as IdentityError
    from .errors import InternalError as InternalError
    from .errors import InvalidParamsError as InvalidParamsError
    from .errors import InvalidRequestError as InvalidRequestError
    from .errors import InvalidTargetError as InvalidTargetError
    from .errors import JsonRpcError as JsonRpcError
    from .errors import LimitReachedError as LimitReachedError
    from .errors import MethodNotFoundError as MethodNotFoundError
    from .errors import MissingResponseError as MissingResponseError
    from .errors import ParseError as ParseError
    from .errors import ProtocolError as ProtocolError
    from .errors import RedirectError as RedirectError
    from .errors import Refused as Refused
    from .errors import RequestTimeoutError as RequestTimeoutError
    from .errors import ResponseTooLargeError as ResponseTooLargeError
    from .errors import ResultValidationError as ResultValidationError
    from .errors import RetryableError as RetryableError
    from .errors import RetryExhaustedError as RetryExhaustedError
    from .errors import RpcRetryError as RpcRetryError
    from .errors import ServerError as ServerError
    from .errors import TransportError as TransportError
    from .layers import AdaptiveDelay as AdaptiveDelay
    from .layers import CircuitBreaker as CircuitBreaker
    from .layers import ConcurrencyLimit as ConcurrencyLimit
    from .layers import RateLimit as RateLimit
    from .layers import RetryBudget as RetryBudget
    from .messages import BatchRequest as BatchRequest
    from .messages import BatchResponse as BatchResponse
    from .messages import Request as Request
    from .messages import Response as Response
    from .metrics import RetryMetrics as RetryMetrics
    from .outcome import Outcome as Outcome
    from .retry import LAST_GOOD as LAST_GOOD
    from .retry import Backoff as Backoff
    from .retry import Classification as Classification
    from .retry import Fallback as Fallback
    from .retry import Layer as Layer
    from .retry import RetryStrategy as RetryStrategy

__version__ = "0.1.0"

_MODULES = {
    "_unset": ("UNSET", "Unset"),
    "client": ("AsyncClient", "AsyncInterface", "Client", "Joining", "notification", "random_ids", "rpc", "sequential_ids", "uuid_ids"),
    "context": ("CurrentAttempt", "current_attempt"),
    "errors": (
        "BatchUnfinishedError",
        "BulkError",
        "CertificateError",
        "RetryableError",
        "LimitReachedError",
        "CircuitState",
        "CircuitOpenError",
        "BudgetExhaustedError",
        "ClientClosedError",
        "ConnectError",
        "ConnectionLostError",
        "ConnectTimeoutError",
        "DeadlineExceeded",
        "Delivery",
        "HTTPStatusError",
        "IdentityError",
        "InternalError",
        "InvalidParamsError",
        "InvalidRequestError",
        "InvalidTargetError",
        "JsonRpcError",
        "MethodNotFoundError",
        "MissingResponseError",
        "ParseError",
        "ProtocolError",
        "RedirectError",
        "Refused",
        "RequestTimeoutError",
        "ResponseTooLargeError",
        "ResultValidationError",
        "RetryExhaustedError",
        "RpcRetryError",
        "ServerError",
        "TransportError",
    ),
    "layers": ("AdaptiveDelay", "CircuitBreaker", "ConcurrencyLimit", "RateLimit", "RetryBudget"),
    "messages": ("BatchRequest", "BatchResponse", "Request", "Response"),
    "metrics": ("RetryMetrics",),
    "outcome": ("Outcome",),
    "retry": ("LAST_GOOD", "Backoff", "Classification", "Fallback", "Layer", "RetryStrategy"),
}
_HOMES = homes_of(_MODULES)

__all__ = sorted([*_HOMES, "__version__"])

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(__name__, _HOMES)
