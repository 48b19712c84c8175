"""JSON-RPC over `aiohttp <https://docs.aiohttp.org>`_: an async backend and a ready-made client."""

from __future__ import annotations

import asyncio
import math
import re
import ssl
import time
from collections.abc import Mapping
from typing import Unpack

try:
    import aiohttp
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http import StreamWriter
    from aiohttp.http_exceptions import HttpProcessingError, TransferEncodingError
    from aiohttp.payload import Payload
    from multidict import CIMultiDict, CIMultiDictProxy
    from yarl import URL
except ModuleNotFoundError as problem:
    raise ModuleNotFoundError('rpcretry.backends.aiohttp needs aiohttp: pip install "rpcretry[aiohttp]"', name=problem.name) from problem

from .._check import count, seconds
from ..client import AsyncClient as _Client
from ..client.headers import HeadersLike
from ..client.joining import Joining
from ..client.options import ClientOptions
from ..codec import REDIRECTS
from ..errors import (
    CertificateError,
    ClientClosedError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    Delivery,
    InvalidTargetError,
    ProtocolError,
    RequestTimeoutError,
    TransportError,
)
from ..transport import STAND_INS, Exchange, Headers, Reply, StandIn
from ._aiohttp_connections import Connector
from ._target import CONNECT_TIMEOUT, CONTENT_TYPE, MAX_RESPONSE_SIZE, Target, as_flag, as_pair, as_size, redact, too_large

__all__ = ["AiohttpBackend", "Client"]


CLOSED = "this client was closed; make another, or close it after the last call"

# Seconds without an exchange after which the loop may have stood still: held up by something else, or not run at all between
# two asyncio.Runner.run(). aiohttp then does not know yet that the server has closed an idle connection, and would send on it.
QUIET = 0.1
# Turns of the loop until it does: two of them without TLS, three with it, and one to spare.
TURNS = 4


class _Body(Payload):
    """The request's body, which notes when it begins to leave.

    :ivar started: whether a byte of it may have left: it was handed to a connection, or to somebody who may send it himself, as
        middlewares of a user's session do.
    :ivar done: whether all of it was handed to a connection.
    :ivar gone: whether a connection that was to take it was found closed.
    """

    _default_content_type = CONTENT_TYPE
    # Bytes hold nothing open.
    _autoclose = True

    def __init__(self, value: bytes) -> None:
        super().__init__(value)
        self._size = len(value)
        self.started = self.done = self.gone = False
        self._transport: asyncio.WriteTransport | None = None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        self.started = True
        text: str = self._value.decode(encoding, errors)
        return text

    async def as_bytes(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        self.started = True
        body: bytes = self._value
        return body

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self._transport = transport = getattr(writer, "transport", None)
        # aiohttp's own writer hands nothing to a transport that is closed. Of another's nothing is known.
        if isinstance(writer, StreamWriter) and (transport is None or transport.is_closing()):
            self.gone = True
        else:
            self.started = True
        await writer.write(self._value if content_length is None else self._value[:content_length])
        self.done = True

    def give_up(self) -> None:
        """Drop what has not left yet. A transport that is closed first sends what it holds, and a server that does
        not read would keep it open for ever."""
        if self._transport is not None and self._transport.get_write_buffer_size():
            self._transport.abort()


class AiohttpBackend:
    """Carries exchanges over an :class:`aiohttp.ClientSession`. Tasks of one loop may share one.

    :param url: the endpoint, an absolute http or https URL.
    :param session: a session of yours, with its headers, cookies, connector, proxies and middlewares; it is never
        closed here. Without one, a session is made on first use.
    :param headers: HTTP headers of every exchange.
    :param auth: user and password.
    :param connect_timeout: seconds to make a connection; ``None`` for no limit but the attempt's.
    :param ssl: ``True`` to check the server's certificate, ``False`` not to, or a context of yours.
    :param trust_env: whether proxies and the netrc file of the environment count; read once. A session of yours
        says so itself.
    :param max_response_size: bytes of a body, after decompression, that are read at the most.
    :param limit: how many connections the backend's own session opens at the most; 0 for any number.
    :raises TypeError, ValueError: naming the parameter and the fix.
    """

    def __init__(
        self,
        url: str,
        *,
        session: aiohttp.ClientSession | None = None,
        headers: HeadersLike | None = None,
        auth: tuple[str, str] | None = None,
        connect_timeout: float | None = CONNECT_TIMEOUT,
        ssl: bool | ssl.SSLContext = True,
        trust_env: bool = True,
        max_response_size: int = MAX_RESPONSE_SIZE,
        limit: int = 100,
    ) -> None:
        self.target = Target.parse(url)
        self.max_response_size = as_size(max_response_size)
        as_flag("trust_env", trust_env)
        if session is not None and not isinstance(session, aiohttp.ClientSession):
            raise TypeError(f"session must be an aiohttp.ClientSession, got {type(session).__name__}; requests' go to rpcretry.backends.requests")
        self._owned = session is None
        self._session = session
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        # When the loop was last known to have read what came over the connections.
        self._polled = math.inf
        self._limit = limit
        self._ssl = _as_ssl(ssl)
        self._timeout = aiohttp.ClientTimeout(total=None, connect=None, sock_read=None, sock_connect=seconds("connect_timeout", connect_timeout))
        count("limit", limit)
        if session is not None and not (trust_env is True and limit == 100):
            raise ValueError("trust_env and limit are the session's own where you give one; set them there")
        own_env = trust_env and self._owned
        self._proxy = self.target.environment_proxy() if own_env else None
        fields = self.target.fields(headers, None if auth is None else as_pair(auth), trust_env=own_env)
        if self._owned and "content-type" not in fields:
            fields = Headers([*fields.items(), ("Content-Type", CONTENT_TYPE)])
        self._fields: CIMultiDict[str] = CIMultiDict(fields)
        self._url = URL(self.target.url)
        self._secrets = self.target.secrets(str(self._url), self._url.human_repr())

    def __repr__(self) -> str:
        return f"<aiohttp to {self.target.host}>"

    async def aclose(self) -> None:
        """Close the session, unless it is yours."""
        self._closed = True
        self._loop = None
        if self._owned and self._session is not None:
            await self._session.close()

    async def exchange(self, exchange: Exchange, /) -> Reply:
        """POST the body and read the answer."""
        if STAND_INS:
            for stand_in in STAND_INS[-1:]:
                answer = await self._stood_in(stand_in, exchange)
                if answer is not None:
                    return answer
        session = self._session
        loop = asyncio.get_running_loop()
        if self._loop is not loop or session is None:
            session = self._open(loop)
        now = time.monotonic()
        if now - self._polled > QUIET:
            for _ in range(TURNS):
                await asyncio.sleep(0)
            now = time.monotonic()
        self._polled = now
        left = exchange.ends_by - now
        if left <= 0:
            raise RequestTimeoutError("no time was left for the attempt", delivery=Delivery.NOT_SENT)
        body = _Body(exchange.body)
        try:
            async with asyncio.timeout_at(None if left == math.inf else loop.time() + left):
                response = await session.post(
                    self._url,
                    data=body,
                    headers=exchange.headers if self._owned else self._merged(session, exchange.headers),
                    allow_redirects=False,
                    raise_for_status=False,
                    timeout=self._timeout,
                    ssl=self._ssl,
                    proxy=self._proxy,
                )
                try:
                    if response.status in REDIRECTS and "Location" in response.headers:
                        return Reply(b"", response.status, response.headers)
                    return Reply(await self._read(response), response.status, response.headers)
                finally:
                    # After a whole body the connection is back in the pool, and this closes nothing.
                    response.close()
                    if not body.done:
                        body.give_up()
                    # It keeps the exception of its body, whose traceback holds this frame.
                    del response
        except TimeoutError as problem:
            redact(problem, self._secrets)
            body.give_up()
            raise self._timed_out(problem, body) from problem
        except (aiohttp.ClientError, HttpProcessingError, OSError) as problem:
            redact(problem, self._secrets)
            # aiohttp's parser in Python, where the one in C is missing, raises the second.
            if isinstance(problem, (aiohttp.ClientResponseError, HttpProcessingError)):
                _hide(problem)
            elif isinstance(problem, aiohttp.ClientPayloadError):
                # The response keeps it, in a cycle of aiohttp's own, and its traceback would keep our callers' frames.
                problem.__traceback__ = None
                if isinstance(problem.__cause__, HttpProcessingError):
                    _hide(problem.__cause__)
                    problem.args = (type(problem.__cause__).__name__,)
            raise self._translated(problem, body) from problem
        except RuntimeError as problem:
            if not session.closed:
                raise
            raise ClientClosedError("the session of this client was closed; close it after the last call") from problem
        except asyncio.CancelledError:
            body.give_up()
            raise

    async def _stood_in(self, stand_in: StandIn, exchange: Exchange) -> Reply | None:
        """What a mock answers, where this backend could send at all."""
        if self._closed:
            raise ClientClosedError(CLOSED)
        session = self._session
        fields = Headers(self._fields).updated(exchange.headers or {}) if self._owned or session is None else self._merged(session, exchange.headers)
        return await stand_in.answered_async(self.target.url, fields, exchange)

    def _open(self, loop: asyncio.AbstractEventLoop) -> aiohttp.ClientSession:
        if self._closed:
            raise ClientClosedError(CLOSED)
        if self._session is None:
            connector = Connector(limit=self._limit)
            # Cookies of hosts without a name, too: requests keeps them, and so do the two backends alike.
            jar = aiohttp.CookieJar(unsafe=True)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=jar, timeout=self._timeout, headers=self._fields)
            self._loop = loop
        elif self._loop is None:
            self._loop = getattr(self._session, "_loop", loop)
        if self._loop is not loop:
            raise RuntimeError(
                "this client is bound to the event loop of its first call, and this is another loop; "
                "make one client for each loop, inside of the coroutine that asyncio.run() gets"
            )
        return self._session

    def _merged(self, session: aiohttp.ClientSession, headers: Mapping[str, str] | None) -> CIMultiDict[str]:
        fields = self._fields.copy()
        fields.update(headers or {})
        if "Content-Type" not in fields and "Content-Type" not in session.headers:
            fields["Content-Type"] = CONTENT_TYPE
        return fields

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        most, content = self.max_response_size, response.content
        if response.content_length is not None and response.content_length > most:
            raise too_large(most, response.status, response.headers)
        first = await content.readany()
        if content.at_eof():
            if len(first) > most:
                raise too_large(most, response.status, response.headers)
            return first
        chunks, size = [first], len(first)
        while size <= most:
            chunk = await content.readany()
            if not chunk and content.at_eof():
                return b"".join(chunks)
            chunks.append(chunk)
            size += len(chunk)
        # The exception's traceback holds this frame.
        first = chunk = b""
        chunks.clear()
        raise too_large(most, response.status, response.headers)

    # --- failing ---

    def _timed_out(self, problem: TimeoutError, body: _Body) -> TransportError:
        host = self.target.host
        if isinstance(problem, aiohttp.ConnectionTimeoutError):
            return ConnectTimeoutError(f"no connection to {host} in time")
        if not body.started:
            return RequestTimeoutError(f"the attempt ended before the request to {host} was sent", delivery=Delivery.NOT_SENT)
        return RequestTimeoutError(f"the answer of {host} took too long")

    def _translated(self, problem: Exception, body: _Body) -> Exception:
        host = self.target.host
        if isinstance(problem, (aiohttp.ClientConnectorCertificateError, aiohttp.ServerFingerprintMismatch)):
            return CertificateError(f"the certificate of {host} is not trusted: {_words(problem)}")
        if isinstance(problem, (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError)):
            return ConnectError(f"no connection to {host}: {_words(problem)}")
        if isinstance(problem, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
            return InvalidTargetError(f"aiohttp refuses the URL, the proxy or a header for {host}: {type(problem).__name__}")
        if isinstance(problem, aiohttp.ClientPayloadError) and isinstance(problem.__cause__, aiohttp.http_exceptions.ContentEncodingError):
            return ProtocolError(f"the body that {host} sent cannot be decompressed")
        if isinstance(problem, (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, aiohttp.ClientResponseError, HttpProcessingError, OSError)):
            if body.gone and not body.started:
                return ConnectionLostError(f"the connection to {host} broke before the request was sent: {_words(problem)}", delivery=Delivery.NOT_SENT)
            return ConnectionLostError(f"the connection to {host} broke: {'the client was closed' if self._closed else _words(problem)}")
        return TransportError(f"the exchange with {host} failed: {type(problem).__name__}")


def _hide(problem: aiohttp.ClientResponseError | HttpProcessingError) -> None:
    """Take the URL, the headers and what was quoted of the answer out of what str() and repr() show."""
    if isinstance(problem, aiohttp.ClientResponseError):
        info = problem.request_info
        origin = info.real_url.origin()
        problem.request_info = aiohttp.RequestInfo(origin, info.method, CIMultiDictProxy(CIMultiDict()), origin)
    problem.headers = None
    chain: list[aiohttp.ClientResponseError | HttpProcessingError] = []
    error: BaseException | None = problem
    while isinstance(error, (aiohttp.ClientResponseError, HttpProcessingError)):
        chain.append(error)
        error = error.__cause__
    # Of a chunk that is none the message may be nothing but what stood there.
    of_chunk = any(isinstance(link, TransferEncodingError) for link in chain)
    for link in chain:
        link.message = "" if of_chunk else _unquoted(link.message)
        if isinstance(link, HttpProcessingError):
            link.args = ()


def _words(problem: Exception) -> str:
    inner = getattr(problem, "os_error", None) or getattr(problem, "certificate_error", None) or problem
    text = getattr(inner, "strerror", None) or getattr(inner, "message", None)
    if isinstance(inner, ssl.SSLError) and isinstance(text, str):
        # Of OpenSSL, which quotes the name that we asked for.
        return text
    return _unquoted(text) if isinstance(text, str) and text.strip() else type(problem).__name__


def _unquoted(text: str) -> str:
    """The first line as far as nothing of what the server sent is quoted, such as the value of a cookie; the lines after it are an excerpt."""
    return re.split(r" (?:bytearray\()?b?['\"]", text.strip().partition("\n")[0])[0].rstrip(" :")


def _as_ssl(value: object) -> bool | ssl.SSLContext:
    if isinstance(value, (bool, ssl.SSLContext)):
        return value
    raise TypeError(f"ssl must be True, False or an ssl.SSLContext, got {type(value).__name__}")


class Client(_Client):
    """A JSON-RPC client over aiohttp. Tasks of one loop may share one.

    :param url: the endpoint, an absolute http or https URL. The parameters after it are those of
        :class:`AiohttpBackend`.
    :param joining: a :class:`~rpcretry.client.Joining`, or ``True`` for one as it is made, to send calls that are made at the same
        time as one batch.
    :param options: those of :class:`rpcretry.client.ClientOptions`.
    :raises TypeError, ValueError: naming the parameter and the fix.
    """

    def __init__(
        self,
        url: str,
        *,
        session: aiohttp.ClientSession | None = None,
        headers: HeadersLike | None = None,
        auth: tuple[str, str] | None = None,
        connect_timeout: float | None = CONNECT_TIMEOUT,
        ssl: bool | ssl.SSLContext = True,
        trust_env: bool = True,
        max_response_size: int = MAX_RESPONSE_SIZE,
        limit: int = 100,
        joining: Joining | bool | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        backend = AiohttpBackend(
            url,
            session=session,
            headers=headers,
            auth=auth,
            connect_timeout=connect_timeout,
            ssl=ssl,
            trust_env=trust_env,
            max_response_size=max_response_size,
            limit=limit,
        )
        super().__init__(backend, joining=joining, **options)
