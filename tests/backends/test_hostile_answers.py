"""Answers that the libraries themselves do not hold off: what rpcretry.testing.faults has found, each as small as it can be."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
import traceback
from typing import Any

import aiohttp
import pytest
from wire import Wire, both

import rpcretry.backends.aiohttp
from rpcretry import ClientClosedError, ConnectError, ConnectionLostError, Delivery
from rpcretry.testing import Answer, LoopbackServer, Received
from rpcretry.testing.contract import waits

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def right(request: Received) -> bytes:
    answer = Answer({"jsonrpc": "2.0", "id": request.json["id"], "result": request.json["params"]})
    return answer.head() + answer.body


def in_chunks(request: Received, extension: bytes = b"") -> bytes:
    body = right(request).partition(b"\r\n\r\n")[2]
    return CHUNKED + b"%x%s\r\n%s\r\n0\r\n\r\n" % (len(body), extension, body)


@both
def test_a_chunk_of_a_negative_size(kind: str) -> None:
    """http.client sets out to read it: a bare ValueError."""
    with LoopbackServer(lambda request: CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n") as server, Wire(kind, server.url) as client:
        with pytest.raises(ConnectionLostError) as caught:
            client.call("sum", 1, _timeout=5)
        assert caught.value.delivery is Delivery.MAYBE_EXECUTED
        server.handler = right
        assert client.call("sum", 1) == [1]
        assert server.connections == 2


@both
@waits
@pytest.mark.parametrize("chunk", [b"zz\r\nhello\r\n", b"-5\r\nhello\r\n", b"5\r\nhelloworld\r\n"], ids=repr)
def test_a_bad_chunk_that_comes_after_the_headers(kind: str, chunk: bytes) -> None:
    """aiohttp closes the connection then, and whoever read the body waited for as long as the limit, or for ever."""

    def answer(request: Received) -> Any:
        return [CHUNKED, 0.02, b"1\r\n{\r\n", 0.02, chunk, 5.0]

    started = time.monotonic()
    with LoopbackServer(answer) as server, Wire(kind, server.url) as client:
        with pytest.raises(ConnectionLostError):
            client.call("sum", 1, _timeout=4)
        assert time.monotonic() - started < 2


@pytest.mark.parametrize("delay", [0.0, 0.02])
def test_a_bad_chunk_where_aiohttp_was_built_without_c(delay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parser in Python raises an exception that is no aiohttp.ClientError, and quotes the chunk."""
    monkeypatch.setattr(aiohttp.client_proto, "HttpResponseParser", aiohttp.http_parser.HttpResponseParserPy)
    with LoopbackServer(lambda request: [CHUNKED, delay, b"secret\r\nhello\r\n"]) as server, Wire("aiohttp", server.url) as client:
        with pytest.raises(ConnectionLostError) as caught:
            client.call("sum", 1, _timeout=4)
        assert "secret" not in "".join(traceback.format_exception(caught.value))
        server.handler = right
        assert client.call("sum", 1) == [1]


@both
@pytest.mark.parametrize("status", [100, 102, 103])
def test_informational_answers_are_read_past(kind: str, status: int) -> None:
    """http.client knows 100 alone, and took 103 for the answer; the right one was left on the connection."""
    early = b"HTTP/1.1 %d Wait\r\nLink: </style.css>\r\n\r\n" % status
    with LoopbackServer(lambda request: early * 2 + right(request)) as server, Wire(kind, server.url) as client:
        for number in range(3):
            assert client.call("sum", number) == [number]
        assert server.connections == 1


@both
@pytest.mark.parametrize("size", [10, 1_000, 60_000])
def test_the_line_of_a_chunk_may_be_long(kind: str, size: int) -> None:
    extension = b";" + b"x" * size
    with LoopbackServer(lambda request: in_chunks(request, extension)) as server, Wire(kind, server.url) as client:
        assert client.call("sum", 1) == [1]
        assert client.call("sum", 2) == [2]


def test_the_line_of_a_chunk_may_not_be_endless() -> None:
    """No limit of the body's size counts it; http.client has one of its own."""

    def answer(request: Received) -> Any:
        return [CHUNKED + b"5;", *[b"x" * 65_536] * 32, 5.0]

    started = time.monotonic()
    with LoopbackServer(answer) as server, Wire("requests", server.url) as client:
        with pytest.raises(ConnectionLostError):
            client.call("sum", 1, _timeout=4)
        assert time.monotonic() - started < 2


@both
@pytest.mark.parametrize("size", [1, 9_000, 100_000])
def test_a_second_answer_is_not_the_next_ones(kind: str, size: int) -> None:
    """It has the id of the next request. Behind a body of more than one read aiohttp kept it for that."""

    def answer(request: Received) -> Any:
        wrong = Answer({"jsonrpc": "2.0", "id": request.json["id"] + 1, "result": "another's"})
        first = right(request)
        return [first[:-40], 0.005, first[-40:] + wrong.head() + wrong.body]

    with LoopbackServer(answer) as server, Wire(kind, server.url) as client:
        for number in range(6):
            text = chr(97 + number) * size
            assert client.call("echo", text) == [text]


def speaks_first(listener: socket.socket, certificates: Any, accepted: list[int]) -> None:
    """A TLS server whose answer leaves in one segment with the end of its handshake, before anybody has asked."""
    # In TLS 1.2 the server has the last word of a handshake.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    certificates.authority.issue_cert("127.0.0.1").configure_cert(context)
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        accepted.append(1)
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            read, written = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(read, written, server_side=True)
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    connection.sendall(written.read())
                    read.write(connection.recv(65_536))
            answer = Answer({"jsonrpc": "2.0", "id": 1, "result": "nobody's"})
            tls.write(answer.head() + answer.body)
            connection.sendall(written.read())
            while connection.recv(65_536):
                pass


def test_a_server_that_speaks_first_is_not_asked_again_and_again(tls: Any) -> None:
    accepted: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=speaks_first, args=(listener, tls, accepted))
        thread.start()
        try:
            with Wire("aiohttp", f"https://127.0.0.1:{listener.getsockname()[1]}", **tls.trust("aiohttp")) as client:
                with pytest.raises(ConnectError, match="before it was asked") as caught:
                    client.call("sum", 1, _timeout=5)
                assert caught.value.delivery is Delivery.NOT_SENT
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)
    assert len(accepted) == 1


def test_a_turn_that_came_to_a_cancelled_call_is_the_next_ones() -> None:
    """aiohttp tells one who waits for a connection that he may go; where he is cancelled at that moment the others waited on."""

    async def run(server: LoopbackServer) -> None:
        async with rpcretry.backends.aiohttp.Client(server.url, limit=1) as client:
            await client.call("warm", 0)
            calls = [asyncio.ensure_future(client.call("sum", number, _timeout=1)) for number in range(3)]
            connector: Any = client.backend._session.connector  # type: ignore[union-attr]
            while sum(map(len, connector._waiters.values())) < 2:
                await asyncio.sleep(0)
            release = connector._release_waiter

            def cancelling() -> None:
                release()
                calls[1].cancel()

            connector._release_waiter = cancelling
            first, second, third = await asyncio.gather(*calls, return_exceptions=True)
            assert (first, type(second), third) == ([0], asyncio.CancelledError, [2])

    with LoopbackServer(right) as server:
        asyncio.run(run(server))
    assert server.connections == 1


def test_a_call_that_waits_for_a_connection_when_the_client_closes_is_not_cancelled() -> None:
    """aiohttp cancels the future that it waits for: the task would end as if somebody had cancelled it."""

    async def run(server: LoopbackServer) -> None:
        client = rpcretry.backends.aiohttp.Client(server.url, limit=1)
        calls = [asyncio.ensure_future(client.call("sum", number, _timeout=5)) for number in range(3)]
        while not client.backend._session or sum(map(len, client.backend._session.connector._waiters.values())) < 2:  # type: ignore[union-attr]
            await asyncio.sleep(0)
        calls[2].cancel()
        await client.aclose()
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(problem) for problem in found] == [ConnectionLostError, ClientClosedError, asyncio.CancelledError]

    with LoopbackServer(lambda request: [0.05, right(request)]) as server:
        asyncio.run(run(server))
