"""Every exception of the package.

::

    RpcRetryError
    ├── JsonRpcError                 the server answered with a JSON-RPC error      MAYBE_EXECUTED, REJECTED
    │   ├── ParseError               -32700
    │   ├── InvalidRequestError      -32600
    │   ├── MethodNotFoundError      -32601
    │   ├── InvalidParamsError       -32602
    │   ├── InternalError            -32603
    │   └── ServerError              -32099 to -32000
    ├── HTTPStatusError              an HTTP error without a JSON-RPC body          MAYBE_EXECUTED, REJECTED
    │   └── RedirectError            a redirect, which is never followed            MAYBE_EXECUTED
    ├── ProtocolError                a body that is no JSON-RPC answer              MAYBE_EXECUTED
    │   ├── IdentityError            an answer with a foreign, doubled or null id
    │   ├── MissingResponseError     a batch that left a request unanswered
    │   ├── ResponseTooLargeError    more bytes than the client is willing to hold
    │   └── ResultValidationError    a result that is not of the requested type
    ├── TransportError               no whole answer arrived
    │   ├── ConnectError             (ConnectionError) no connection was made       NOT_SENT
    │   │   └── ConnectTimeoutError  (TimeoutError) ... in time                     NOT_SENT
    │   ├── ConnectionLostError      (ConnectionError) it broke                     MAYBE_EXECUTED, NOT_SENT
    │   ├── RequestTimeoutError      (TimeoutError) the attempt took too long       MAYBE_EXECUTED, NOT_SENT
    │   ├── CertificateError         the server's certificate is not trusted        NOT_SENT
    │   └── InvalidTargetError       (ValueError) URL or headers cannot be sent     NOT_SENT
    ├── Refused                      a layer did not let the attempt out            NOT_SENT
    │   ├── CircuitOpenError         a circuit breaker is open
    │   ├── BudgetExhaustedError     the retry budget pays for no other try
    │   └── LimitReachedError        a concurrency or rate limit, or its queue, is full
    ├── RetryableError               for your code to raise: asks for another try   MAYBE_EXECUTED
    ├── DeadlineExceeded             (TimeoutError) the whole call took too long
    ├── RetryExhaustedError          raised instead of the last failure by ``wrap=True``
    ├── BatchUnfinishedError         (RuntimeError) the answers of a batch are not there
    ├── BulkError                    too small a share of a bulk succeeded
    └── ClientClosedError            (RuntimeError) the client was closed before

Each exception's ``delivery`` says whether the server may have acted on the request: see
:class:`Delivery`. All of them can be pickled and copied. No message carries a URL's path, query or
user-info, or a header's value, because that is where keys live.
"""

from __future__ import annotations

from ._answers import (
    HTTPStatusError,
    IdentityError,
    InternalError,
    InvalidParamsError,
    InvalidRequestError,
    JsonRpcError,
    MethodNotFoundError,
    MissingResponseError,
    ParseError,
    ProtocolError,
    RedirectError,
    ResponseTooLargeError,
    ResultValidationError,
    ServerError,
    error_class,
    error_registry,
)
from ._base import (
    CircuitState,
    Delivery,
    RpcRetryError,
)
from ._batches import BatchUnfinishedError
from ._ends import (
    BudgetExhaustedError,
    BulkError,
    CertificateError,
    CircuitOpenError,
    ClientClosedError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    DeadlineExceeded,
    InvalidTargetError,
    LimitReachedError,
    Refused,
    RequestTimeoutError,
    RetryableError,
    RetryExhaustedError,
    TransportError,
)

__all__ = [
    "BatchUnfinishedError",
    "BudgetExhaustedError",
    "BulkError",
    "CertificateError",
    "CircuitOpenError",
    "CircuitState",
    "ClientClosedError",
    "ConnectError",
    "ConnectTimeoutError",
    "ConnectionLostError",
    "DeadlineExceeded",
    "Delivery",
    "HTTPStatusError",
    "IdentityError",
    "InternalError",
    "InvalidParamsError",
    "InvalidRequestError",
    "InvalidTargetError",
    "JsonRpcError",
    "LimitReachedError",
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
    "RetryableError",
    "RpcRetryError",
    "ServerError",
    "TransportError",
    "error_class",
    "error_registry",
]

for _name in __all__:
    # What people import, and what tracebacks and pickles name, is this module.
    globals()[_name].__module__ = __name__
del _name
