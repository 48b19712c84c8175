"""The calls that a mock has seen, and how messages name them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from .._unset import UNSET
from ..transport import Headers

__all__ = ["Address", "Call", "UnexpectedCall", "shown"]

LONGEST = 300
# With and without it a URL is the same.
PORTS = {"http": ":80", "https": ":443"}


class UnexpectedCall(BaseException):
    """A call that a mock has no reply for.

    It is no :class:`Exception`, as the failures of pytest are none: ``except Exception`` in the code under test does not swallow
    it, and nothing retries it. The mock remembers it, so that the test fails even where the code under test does swallow it.
    """


class Call(tuple[str, Any]):
    """A call that arrived: the pair of its method and its params, ``("sum", [1, 2])``, as JSON carried them.

    :ivar method: the method's name.
    :ivar params: a list, a dict, or ``None`` where the call had none.
    :ivar id: the request's id; ``None`` for a notification.
    :ivar is_notification: whether it wants no answer.
    :ivar headers: the HTTP headers of its exchange, those of the backend among them where that is one of this package.
    :ivar exchange: the number of its exchange, from 1; the calls of a batch have the same one.
    :ivar url: where it was sent; ``None`` from a client of the mock's own.
    """

    method: str
    params: Any
    id: Any
    is_notification: bool
    headers: Headers
    exchange: int
    url: str | None

    def __new__(cls, document: dict[str, Any], headers: Headers, exchange: int, url: str | None) -> Call:
        method, params = document.get("method", ""), document.get("params")
        call = super().__new__(cls, (method, params))
        call.method, call.params = method, params
        call.id, call.is_notification = document.get("id"), "id" not in document
        call.headers, call.exchange, call.url = headers, exchange, url
        return call

    def __reduce__(self) -> tuple[Any, ...]:
        document = {"method": self.method, "params": self.params, **({} if self.is_notification else {"id": self.id})}
        return type(self), (document, self.headers, self.exchange, self.url)


class Address:
    """The endpoint that something is for: one URL, or, where that has no path, any path of its host.

    :raises TypeError, ValueError: where it is no absolute http or https URL.
    """

    def __init__(self, url: str) -> None:
        if not isinstance(url, str):
            raise TypeError(f"url must be a str, got {type(url).__name__}")
        scheme, self.host, self._path, self._query = _parts(url)
        if scheme not in ("http", "https") or not self.host:
            raise ValueError("url must be an absolute http or https URL; write http://host:port/path")
        self._scheme = scheme

    def covers(self, url: str | None) -> bool:
        """Whether *url* is one that is meant."""
        if url is None:
            return False
        scheme, host, path, query = _parts(url)
        if (scheme, host) != (self._scheme, self.host) or (self._query and query != self._query):
            return False
        return self._path in ("/", path)

    def differing(self, url: str | None) -> str | None:
        """The part in which *url*, of the same host, is another one; ``None`` of another host."""
        if url is None:
            return None
        scheme, host, path, _ = _parts(url)
        if host != self.host:
            return None
        if scheme != self._scheme:
            return "scheme"
        return "path" if self._path not in ("/", path) else "query"


def _parts(url: str) -> tuple[str, str, str, str]:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower().removesuffix(PORTS.get(parts.scheme, ":"))
    return parts.scheme, host, parts.path or "/", parts.query


def host_of(url: str | None) -> str:
    """All of a URL that a message shows: keys live in the rest."""
    return "a client of the mock's own" if url is None else _parts(url)[1]


def shown(method: str, params: object) -> str:
    """A call in a message."""
    if params is UNSET:
        return f"{method} with any params"
    if params is None:
        return f"{method} without params"
    text = repr(params)
    return f"{method} with params {text if len(text) <= LONGEST else text[:LONGEST] + '...'}"


def listed(calls: Sequence[Call]) -> str:
    """Calls in a message, one a line."""
    if not calls:
        return "\n  there were no calls"
    return "".join(f"\n  {number}. {shown(*call)}" for number, call in enumerate(calls, 1))
