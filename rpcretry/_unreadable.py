"""Saying what is wrong with a reply that is no JSON-RPC answer, without repeating what may be secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from .errors import Delivery, HTTPStatusError, ProtocolError, RedirectError
from .transport import Headers, Reply

__all__ = ["charset_of", "excerpt_of", "kind_of", "redirected", "rejected", "unreadable"]

EXCERPT = 120
_SLASH = r"(?:\\?/|&#x2f;|&#47;)"
_LOCATION = re.compile(rf"(?<![\w<])(?:[a-z][a-z0-9+.-]*:{_SLASH})?{_SLASH}[^\s\"'<>]+", re.IGNORECASE)


def unreadable(reply: Reply, what: str) -> ProtocolError | HTTPStatusError:
    excerpt = excerpt_of(reply.body)
    headers = Headers(reply.headers)
    quoted = f": {excerpt}" if excerpt else ""
    if 200 <= reply.status < 300:
        return ProtocolError(f"HTTP {reply.status} with {what}{quoted}", status=reply.status, headers=headers, excerpt=excerpt)
    return HTTPStatusError(
        f"HTTP {reply.status}{quoted}", status=reply.status, headers=headers, excerpt=excerpt, delivery=rejected(reply.status, reply.headers)
    )


def redirected(reply: Reply) -> HTTPStatusError:
    headers = Headers(reply.headers)
    location = headers.get("location", "")
    try:
        host = urlsplit(location).netloc.rpartition("@")[2]
    except ValueError:
        host = ""
    where = f"to host {_printable(host):.100}" if host else "within the same host" if location else "without a Location"
    return RedirectError(
        f"HTTP {reply.status}: the server redirects {where}; a POST is not redirected, give the client the final URL", status=reply.status, headers=headers
    )


def rejected(status: int, headers: Mapping[str, str]) -> Delivery:
    """REJECTED for the statuses that say that nothing was done, MAYBE_EXECUTED for the others."""
    if status == 429 or (status == 503 and "retry-after" in Headers(headers)):
        return Delivery.REJECTED
    return Delivery.MAYBE_EXECUTED


def charset_of(headers: Mapping[str, str]) -> str | None:
    found = re.search(r"charset=[\"']?([\w.:-]+)", Headers(headers).get("content-type", ""), re.IGNORECASE)
    return found[1] if found else None


def excerpt_of(body: bytes) -> str:
    """The first characters of *body*, short and printable, and without the URLs and paths that error pages repeat."""
    text = _printable(" ".join(body[: 4 * EXCERPT].decode("utf-8", "replace").split()))
    text = _LOCATION.sub("…", text)
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def kind_of(document: object) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", type(None): "null"}
    return names.get(type(document), "value")
