"""What requests and urllib3 raise, as what it means."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import requests
import urllib3.exceptions

from ..errors import (
    CertificateError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    Delivery,
    InvalidTargetError,
    ProtocolError,
    RequestTimeoutError,
    TransportError,
)

__all__ = ["translate"]

_INVALID = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidProxyURL,
    urllib3.exceptions.LocationValueError,
)


def translate(problem: Exception, host: str, sent: bool | None) -> Exception:
    """The exception of ours that *problem* means.

    :param sent: whether the request's bytes may have left; ``None`` where only the types can tell.
    """
    chain = list(_chain(problem))
    words = _last_words(chain)
    if _is_of_the_answer(problem):
        sent = True
    if sent is None:
        sent = not _proves_unsent(chain)
    delivery = Delivery.MAYBE_EXECUTED if sent else Delivery.NOT_SENT
    if any(isinstance(error, ssl.SSLCertVerificationError) for error in chain):
        return CertificateError(f"the certificate of {host} is not trusted: {words}")
    if isinstance(problem, _INVALID) and not _is_of_the_answer(problem):
        return InvalidTargetError(f"requests refuses the URL, the proxy or a header for {host}: {type(problem).__name__}")
    if isinstance(problem, (urllib3.exceptions.DecodeError, requests.exceptions.ContentDecodingError)):
        return ProtocolError(f"the body that {host} sent cannot be decompressed")
    if any(map(_is_timeout, chain)):
        if not sent:
            return ConnectTimeoutError(f"no connection to {host} in time")
        return RequestTimeoutError(f"the answer of {host} took too long", delivery=delivery)
    if not sent:
        return ConnectError(f"no connection to {host}: {words}")
    connection = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError, urllib3.exceptions.HTTPError)
    if isinstance(problem, connection) or _is_of_the_answer(problem):
        return ConnectionLostError(f"the connection to {host} broke: {words}")
    return TransportError(f"the exchange with {host} failed: {type(problem).__name__}")


def _chain(problem: BaseException) -> Iterator[BaseException]:
    """*problem* and what it was raised from, wherever requests and urllib3 put that."""
    seen: set[int] = set()
    todo: list[object] = [problem]
    while todo:
        error = todo.pop(0)
        if isinstance(error, BaseException) and id(error) not in seen:
            seen.add(id(error))
            yield error
            todo += [*error.args, getattr(error, "reason", None), getattr(error, "original_error", None), error.__cause__]


def _is_of_the_answer(problem: Exception) -> bool:
    """Whether *problem* is a header of the answer: requests gives it the name that it has for those of the request."""
    return isinstance(problem, requests.exceptions.InvalidHeader) and isinstance(problem.args[0], urllib3.exceptions.InvalidHeader)


def _is_timeout(error: BaseException) -> bool:
    # In urllib3 2 a refused connection is, by its class, a timeout.
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return False
    return isinstance(error, (TimeoutError, requests.Timeout, urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ConnectTimeoutError))


def _proves_unsent(chain: list[BaseException]) -> bool:
    """Whether the types alone prove that the request did not leave.

    A ProxyError alone does not: urllib3 raises one, too, for a connection through a proxy that broke after the
    request was sent.
    """
    for error in chain:
        if isinstance(error, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError, ssl.SSLCertVerificationError, *_INVALID)):
            return True
        if isinstance(error, urllib3.exceptions.ProxyError) and "Tunnel connection failed" in str(error.original_error):
            return True
    return isinstance(chain[0], requests.exceptions.ConnectTimeout)


def _last_words(chain: list[BaseException]) -> str:
    """The innermost message of the operating system or of TLS, which names no URL."""
    for error in reversed(chain):
        if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
            return error.strerror or str(error) or type(error).__name__
    return type(chain[-1]).__name__
