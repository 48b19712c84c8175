"""JSON-RPC over `requests <https://requests.readthedocs.io>`_: a sync backend and a ready-made client."""

from __future__ import annotations

import math
import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, Unpack

try:
    import requests
    import requests.auth
    import urllib3
except ModuleNotFoundError as problem:
    raise ModuleNotFoundError('rpcretry.backends.requests needs requests: pip install "rpcretry[requests]"', name=problem.name) from problem

from .._check import seconds
from ..client import Client as _Client
from ..client.headers import HeadersLike, merged
from ..client.options import ClientOptions
from ..errors import ClientClosedError, Delivery, InvalidTargetError, RequestTimeoutError
from ..transport import STAND_INS, Exchange, Headers, Reply
from ._requests_adapter import MAX_WAIT, LimitedAdapter, Progress, current
from ._requests_errors import translate
from ._requests_prepared import Prepared, Redirected, is_plain, state_of, watched
from ._target import CONNECT_TIMEOUT, CONTENT_TYPE, MAX_RESPONSE_SIZE, Target, as_flag, as_pair, as_size, redact, too_large

__all__ = ["Client", "RequestsBackend"]

Auth: TypeAlias = "tuple[str, str] | Callable[[requests.PreparedRequest], requests.PreparedRequest]"

CHUNK = 65_536
POOL_SIZE = 100


class RequestsBackend:
    """Carries exchanges over a :class:`requests.Session`. Threads may share one.

    :param url: the endpoint, an absolute http or https URL.
    :param session: a session of yours, with its headers, auth, cookies, proxies, hooks and adapters; it is never
        closed here. The time limit then holds between bytes, where the backend's own session keeps the limit of
        the whole attempt.
    :param headers: HTTP headers of every exchange.
    :param auth: user and password, or any auth object of requests.
    :param connect_timeout: seconds to make a connection; ``None`` for no limit but the attempt's.
    :param verify: whether the server's certificate is checked, or a path to the certificates to check it with.
    :param cert: a client certificate: a path, or a pair of paths to certificate and key.
    :param trust_env: whether proxies and the netrc file of the environment count; read once. A session of yours
        says so itself.
    :param max_response_size: bytes of a body, after decompression, that are read at the most.
    :raises TypeError, ValueError: naming the parameter and the fix.
    """

    def __init__(
        self,
        url: str,
        *,
        session: requests.Session | None = None,
        headers: HeadersLike | None = None,
        auth: Auth | None = None,
        connect_timeout: float | None = CONNECT_TIMEOUT,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        trust_env: bool = True,
        max_response_size: int = MAX_RESPONSE_SIZE,
    ) -> None:
        self.target = Target.parse(url)
        self.max_response_size = as_size(max_response_size)
        as_flag("trust_env", trust_env)
        self.connect_timeout = seconds("connect_timeout", connect_timeout)
        if session is not None and not isinstance(session, requests.Session):
            raise TypeError(f"session must be a requests.Session, got {type(session).__name__}; aiohttp's go to rpcretry.backends.aiohttp")
        if session is not None and not (verify is True and cert is None and trust_env is True):
            raise ValueError("verify, cert and trust_env are the session's own where you give one; set them there")
        pair = None if auth is None or callable(auth) else as_pair(auth)
        self._auth = auth if pair is None else None
        self._closed = False
        self._owned = session is None
        self._fields = self.target.fields(headers, pair, trust_env=trust_env and self._owned and self._auth is None)
        self._session = session if session is not None else _own_session(self.target, verify, cert, trust_env)
        if self._auth is not None and "authorization" in self._fields:
            raise ValueError("give auth or an Authorization header, not both")
        self._secrets = self.target.secrets(requests.utils.requote_uri(self.target.url))
        self._prepared: dict[int, Prepared] = {}

    @property
    def session(self) -> requests.Session:
        """The session that carries the exchanges. Where it is the backend's own, only cookies may change after the
        first exchange; for all else give a session of yours."""
        return self._session

    def __repr__(self) -> str:
        return f"<requests to {self.target.host}>"

    def close(self) -> None:
        """Close the session, unless it is yours. Exchanges that are under way come to their end."""
        self._closed = True
        if self._owned:
            self._session.close()

    def exchange(self, exchange: Exchange, /) -> Reply:
        """POST the body and read the answer."""
        if self._closed:
            raise ClientClosedError("this backend was closed; make another, or close it after the last exchange")
        if STAND_INS:
            # A slice, since another thread may leave its context meanwhile.
            for stand_in in STAND_INS[-1:]:
                answer = stand_in.answered(self.target.url, self._merged(exchange.headers)[0], exchange)
                if answer is not None:
                    return answer
        # An auth object of the user's may make exchanges of its own within this one.
        outer = current.progress
        current.progress = progress = Progress(exchange.ends_by)
        try:
            try:
                response = self._send(exchange)
            except Redirected as redirected:
                redirected.response.close()
                return Reply(b"", redirected.response.status_code, redirected.response.headers)
            try:
                return Reply(self._read(response, exchange.ends_by), response.status_code, response.headers)
            finally:
                # After a whole body the connection is back in the pool, and this closes nothing.
                if response.raw is not None:
                    response.close()
        except (requests.RequestException, urllib3.exceptions.HTTPError) as problem:
            redact(problem, self._secrets)
            translated = translate(problem, self.target.host, progress.sent)
            if isinstance(translated, InvalidTargetError) and isinstance(problem, requests.exceptions.InvalidHeader):
                # Its message shows the header's value.
                problem.args = ("a header cannot be sent",)
            try:
                raise translated from problem
            finally:
                # Its traceback holds this frame.
                del translated
        finally:
            current.progress = outer
            if progress.response is not None:
                progress.response.close()
            if self._closed:
                self.close()

    def _send(self, exchange: Exchange) -> requests.Response:
        left = exchange.ends_by - time.monotonic()
        if left <= 0:
            raise RequestTimeoutError("no time was left for the attempt", delivery=Delivery.NOT_SENT)
        session = self._session
        timeout = self._timeout(left)
        if not is_plain(session, self._auth):
            hooks = watched(session.hooks.get("response"))
            fields, auth = self._merged(exchange.headers)
            return session.request(
                "POST", self.target.url, data=exchange.body, headers=fields, auth=auth, timeout=timeout, allow_redirects=False, stream=True, hooks=hooks
            )
        prepared = self._prepare(session, exchange.headers)
        request = prepared.request(exchange.body, session.cookies, owned=self._owned)
        return session.send(request, timeout=timeout, allow_redirects=False, **prepared.settings)

    def _timeout(self, left: float) -> Any:
        reading = None if left == math.inf else min(left, MAX_WAIT)
        connecting = reading if self.connect_timeout is None else min(self.connect_timeout, left, MAX_WAIT)
        # An adapter of the user's may know no other form than the pair.
        return urllib3.Timeout(connect=connecting, read=reading) if self._owned else (connecting, reading)

    def _prepare(self, session: requests.Session, headers: Mapping[str, str] | None) -> Prepared:
        state = None if self._owned else state_of(session)
        # Headers of any other type may be changed by whoever gave them.
        found = self._prepared.get(id(headers)) if headers is None or type(headers) is Headers else None
        if found is not None and found.kept is headers and found.state == state:
            return found
        fields, auth = self._merged(headers)
        template = session.prepare_request(requests.Request("POST", self.target.url, headers=fields, data=b"{}", auth=auth))
        # That of the jar is put in for each exchange, unless the user gave one.
        template.headers.pop("Cookie", None)
        cookie: Any = Headers(fields).get("Cookie", session.headers.get("Cookie"))
        if cookie is not None:
            template.headers["Cookie"] = cookie
        settings = session.merge_environment_settings(str(template.url), {}, True, None, None)
        if len(self._prepared) >= 16:
            self._prepared.clear()
        found = self._prepared[id(headers)] = Prepared(template, settings, state, headers)
        return found

    def _merged(self, headers: Mapping[str, str] | None) -> tuple[dict[str, str], Any]:
        """The headers of one exchange, and the auth to give requests beside them."""
        fields = dict(merged(self._fields, Headers(headers or ())) or {})
        session = self._session
        names = {name.lower() for name in fields}
        if "content-type" not in names and "content-type" not in session.headers:
            fields["Content-Type"] = CONTENT_TYPE
        # requests would put the netrc file's user over the header that was asked for.
        if "authorization" in names or (self._auth is None and not session.auth and "authorization" in session.headers):
            return fields, _keep
        return fields, self._auth

    def _read(self, response: requests.Response, ends_by: float) -> bytes:
        most = self.max_response_size
        declared = response.headers.get("Content-Length", "")
        # Python makes no int of thousands of digits.
        digits = declared.lstrip("0")
        if declared.isascii() and declared.isdigit() and (len(digits) > 20 or int(digits or "0") > most):
            raise too_large(most, response.status_code, response.headers)
        chunks: list[bytes] = []
        size = 0
        for chunk in _chunks(response):
            chunks.append(chunk)
            size += len(chunk)
            if size > most:
                # The exception's traceback holds this frame.
                del chunk, chunks
                raise too_large(most, response.status_code, response.headers)
            if time.monotonic() > ends_by:
                raise RequestTimeoutError(f"the answer of {self.target.host} took too long")
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _chunks(response: requests.Response) -> Iterator[bytes]:
    raw = response.raw
    if raw is None:
        # Made by a hook or an adapter of the user's, out of nothing.
        yield response.content
        return
    if getattr(response, "_content_consumed", False) or not isinstance(raw, urllib3.BaseHTTPResponse):
        # A hook has read the body, or an adapter brought something else.
        yield from response.iter_content(CHUNK)
        return
    while chunk := _next(raw):
        yield chunk


def _next(raw: urllib3.BaseHTTPResponse) -> bytes:
    try:
        return raw.read(CHUNK, decode_content=True)
    except ValueError as problem:
        # http.client sets out to read a chunk of a negative size.
        raise urllib3.exceptions.ProtocolError("the body cannot be read", problem) from problem


def _keep(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _own_session(target: Target, verify: bool | str, cert: str | tuple[str, str] | None, trust_env: bool) -> requests.Session:
    if not isinstance(verify, bool):
        verify = _as_path("verify", verify, "True, False or a path; for a TLS context of yours give a session")
        if not Path(verify).is_dir():
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(verify)
            except OSError as problem:
                # Each call would find it out anew, and take it for a connection that was not made.
                raise ValueError(f"verify must be a file of certificates in PEM, got the path {verify!r}: {problem.strerror or problem}") from None
    if cert is not None:
        wanted = "a path, or a pair of paths to certificate and key"
        pair = cert if isinstance(cert, tuple) else (cert,)
        if len(pair) not in (1, 2):
            raise ValueError(f"cert must be {wanted}, got a tuple of {len(pair)}")
        found = [_as_path("cert", path, wanted) for path in pair]
        cert = (found[0], found[1]) if len(found) == 2 else found[0]
    session = requests.Session()
    adapter = LimitedAdapter(POOL_SIZE)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    proxy = target.environment_proxy() if trust_env else None
    if proxy is not None:
        session.proxies = {target.scheme: proxy}
    session.verify = session.merge_environment_settings(target.url, {}, True, verify, None)["verify"] if trust_env else verify
    session.cert = cert
    # The environment was read above, for this one endpoint.
    session.trust_env = False
    return session


def _as_path(name: str, value: object, wanted: str) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be {wanted}, got {type(value).__name__}")
    path = os.fspath(value)
    if not Path(path).exists():
        raise ValueError(f"{name} must be {wanted}, got the path {path!r}, where there is nothing")
    return str(path)


class Client(_Client):
    """A JSON-RPC client over requests. Threads may share one.

    :param url: the endpoint, an absolute http or https URL. The parameters after it are those of
        :class:`RequestsBackend`.
    :param options: those of :class:`rpcretry.client.ClientOptions`.
    :raises TypeError, ValueError: naming the parameter and the fix.
    """

    def __init__(
        self,
        url: str,
        *,
        session: requests.Session | None = None,
        headers: HeadersLike | None = None,
        auth: Auth | None = None,
        connect_timeout: float | None = CONNECT_TIMEOUT,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        trust_env: bool = True,
        max_response_size: int = MAX_RESPONSE_SIZE,
        **options: Unpack[ClientOptions],
    ) -> None:
        backend = RequestsBackend(
            url,
            session=session,
            headers=headers,
            auth=auth,
            connect_timeout=connect_timeout,
            verify=verify,
            cert=cert,
            trust_env=trust_env,
            max_response_size=max_response_size,
        )
        super().__init__(backend, **options)
