"""Answers that the libraries themselves do not hold off: what rpcretry.testing.faults has found, each as small as it can be."""

from __future__ import annotations

import time
from typing import Any

import pytest
from wire import Wire, both

from rpcretry import ConnectionLostError, Delivery
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
