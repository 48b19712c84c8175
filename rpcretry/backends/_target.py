"""Where a backend sends to, and what the environment says about it: the same for every HTTP library."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import netrc
import os
import re
import traceback
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

from .._check import count
from ..client.headers import as_headers
from ..errors import ResponseTooLargeError
from ..transport import Headers

__all__ = ["MAX_RESPONSE_SIZE", "Target"]

MAX_RESPONSE_SIZE = 64 * 1024 * 1024
# Seconds after which an idle connection of our own sessions is not used again. Servers close theirs after 5 (uvicorn, Node.js, Apache)
# without saying so, and a call that crosses that on its way is lost: nobody knows whether it was executed.
IDLE_LIMIT = 4.0
CONNECT_TIMEOUT = 5.0
CONTENT_TYPE = "application/json"


class Target(NamedTuple):
    """An endpoint.

    :ivar url: the URL without user-info and fragment.
    :ivar host: the host and port, which is all that messages show.
    :ivar auth: user and password from the URL.
    """

    url: str
    scheme: str
    host: str
    hostname: str
    auth: tuple[str, str] | None

    @classmethod
    def parse(cls, url: object) -> Target:
        """Read a URL. No message shows more of it than its scheme and host, since keys live in the rest.

        :raises TypeError: where it is neither a str nor something that reads as one, such as a yarl.URL.
        :raises ValueError: where it is no absolute http or https URL.
        """
        text = url if isinstance(url, str) else str(url) if type(url).__name__ == "URL" else None
        if text is None:
            raise TypeError(f"url must be a str, got {type(url).__name__}")
        if text != text.strip() or re.search(r"[\x00-\x20\x7f]", text):
            raise ValueError("url must not contain spaces or control characters; percent-encode them")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            # Python's own words quote what it took for the port, which may be a password whose @host was forgotten.
            raise ValueError("url is malformed: its host or its port is none; write http://host:8545/path") from None
        if parts.scheme not in ("http", "https"):
            if "://" in text:
                raise ValueError(f"url must start with http:// or https://, got the scheme {parts.scheme[:20]!r}")
            # What is no host and port may be a key, and what stands before an @ a password.
            place = None if "@" in text else re.match(r"([a-z0-9.-]+|\[[0-9a-f:]+\]):\d{1,5}(?![^/?#])", text, re.IGNORECASE)
            raise ValueError(f"url must start with http:// or https://; write http://{place[0] if place else '...'} or https://...")
        if not parts.hostname:
            raise ValueError("url has no host; write http://host:port/path")
        if any(not 0 < len(label) < 64 for label in parts.hostname.removesuffix(".").split(".")):
            raise ValueError("url has a host with a part that is empty or longer than 63 characters, which no name server knows")
        auth = (unquote(parts.username or ""), unquote(parts.password or "")) if parts.username or parts.password else None
        netloc = parts.netloc.rpartition("@")[2]
        host = parts.hostname if port is None else f"{parts.hostname}:{port}"
        return cls(urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, "")), parts.scheme, host, parts.hostname, auth)

    def secrets(self, *spellings: str) -> tuple[str, ...]:
        """The parts of the URL that no message may show, longest first.

        :param spellings: the URL as the HTTP library writes it.
        """
        found = set()
        for url in (self.url, *spellings):
            parts = urlsplit(url)
            found |= {f"{parts.path}?{parts.query}", parts.path, parts.query}
        return tuple(sorted((text for text in found if len(text) > 2), key=len, reverse=True))

    def environment_proxy(self) -> str | None:
        """The proxy that ``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy`` ask for."""
        proxies = urllib.request.getproxies()
        proxy = proxies.get(self.scheme) or proxies.get("all")
        if not proxy or urllib.request.proxy_bypass(self.host) or urllib.request.proxy_bypass(self.hostname) or self._in_network(proxies.get("no", "")):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"

    def _in_network(self, no_proxy: str) -> bool:
        """Whether ``no_proxy`` names a network that the host's address is in; the standard library looks at names."""
        try:
            address = ipaddress.ip_address(self.hostname)
        except ValueError:
            return False
        for entry in no_proxy.split(","):
            with contextlib.suppress(ValueError):
                if "/" in entry and address in ipaddress.ip_network(entry.strip(), strict=False):
                    return True
        return False

    def environment_auth(self) -> tuple[str, str] | None:
        """User and password for the host from the netrc file, which ``NETRC`` may name."""
        named = os.environ.get("NETRC")
        paths = [Path(named)] if named else [Path("~/.netrc"), Path("~/_netrc")]
        for path in paths:
            try:
                found = netrc.netrc(path.expanduser()).authenticators(self.hostname)
            except (OSError, RuntimeError, netrc.NetrcParseError):
                continue
            if found:
                login, account, password = found
                return (login or account or "", password or "")
        return None

    def fields(self, headers: object, auth: tuple[str, str] | None, *, trust_env: bool) -> Headers:
        """The headers of every exchange but the content type. An Authorization header of the user's comes before
        the URL's user-info, and both before the netrc file.

        :raises ValueError: where both *auth* and an Authorization header are given.
        """
        chosen = as_headers("headers", headers) or Headers()
        if auth is not None and "authorization" in chosen:
            raise ValueError("give auth or an Authorization header, not both")
        fields = dict(chosen.items())
        if "authorization" not in chosen:
            auth = auth or self.auth or (self.environment_auth() if trust_env else None)
            if auth is not None:
                fields["Authorization"] = basic(auth)
        return Headers(fields)


def basic(auth: tuple[str, str]) -> str:
    """An Authorization header for user and password (RFC 7617)."""
    text = f"{auth[0]}:{auth[1]}"
    try:
        raw = text.encode("latin-1")
    except UnicodeEncodeError:
        raw = text.encode()
    return f"Basic {base64.b64encode(raw).decode()}"


def as_pair(auth: object) -> tuple[str, str]:
    """Refuse what is no pair of user and password. No message shows it."""
    if not (isinstance(auth, tuple) and len(auth) == 2 and all(isinstance(part, str) for part in auth)):
        raise TypeError(f"auth must be a tuple (user, password) of str, got {type(auth).__name__}")
    if ":" in auth[0]:
        raise ValueError("auth: a user name cannot contain a colon")
    return auth


def as_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False: a text such as "no" would count as True."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {type(value).__name__} {value!r:.60}")


def as_size(value: object) -> int:
    """Refuse what is no size in bytes."""
    return count("max_response_size", value, least=1)


def too_large(most: int, status: int, headers: Mapping[str, str]) -> ResponseTooLargeError:
    """What a backend raises when a body passes its cap."""
    message = f"HTTP {status}: the body is larger than max_response_size, {most} bytes; raise that if such answers are expected"
    return ResponseTooLargeError(message, status=status, headers=Headers(headers))


_URL = re.compile(r"(\bhttps?://)(?:[^\s/?#'\"]*@)?([^\s/?#'\")]*)[^\s'\")]*")
_PATH = re.compile(r"(with url: )\S+")


def redact(problem: BaseException, secrets: tuple[str, ...]) -> None:
    """Take URLs and what else may be secret out of the messages of a library's exception and of those behind it,
    and let go of their frames.

    The chain is what users see as ``__cause__``. Its tracebacks keep responses and sockets alive, in urllib3
    through a reference cycle.
    """
    seen: set[int] = set()
    todo: list[object] = [problem]
    while todo:
        error = todo.pop()
        if not isinstance(error, BaseException) or id(error) in seen:
            continue
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        todo += [error.__cause__, error.__context__, getattr(error, "reason", None), getattr(error, "original_error", None), *error.args]
        if isinstance(error, OSError) and isinstance(error.strerror, str):
            error.strerror = _clean(error.strerror, secrets)
        error.args = tuple(_clean(item, secrets) for item in error.args)


def _clean(item: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(item, str):
        for secret in secrets:
            item = item.replace(secret, "/...")
        return _PATH.sub(r"\1/...", _URL.sub(r"\1\2/...", item))
    # The libraries' own objects show URLs, headers and the passwords of proxies in their reprs.
    return item if item is None or isinstance(item, (BaseException, int, float, bytes)) else f"<{type(item).__name__}>"
