"""Issue 2, bad input: what a server may send, up to 100 MB and bombs, is bounded, and the connection is reusable or closed."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from wire import Wire, both, one, settles, user_session

from rpcretry import Delivery, ProtocolError, ResponseTooLargeError, RpcRetryError
from rpcretry.testing import Answer, LoopbackServer, Received

MIB = 1024 * 1024
CAP = 100_000
GZIP = {"Content-Encoding": "gzip"}

owned_or_not = pytest.mark.parametrize("owned", [True, False], ids=["own session", "user's session"])


def wire(kind: str, url: str, owned: bool, **options: Any) -> Wire:
    return Wire(kind, url, session=None if owned else user_session(kind), **options)


def chunked(body: bytes) -> list[Any]:
    return [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)]


def unlimited(body: bytes) -> list[Any]:
    return [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body, None]


FORMS: dict[str, Any] = {
    "declared": Answer,
    "chunked": chunked,
    "until closed": unlimited,
    "gzip": lambda body: Answer(gzip.compress(body), headers=GZIP),
    "deflate": lambda body: Answer(zlib.compress(body), headers={"Content-Encoding": "deflate"}),
}


@both
@owned_or_not
@pytest.mark.parametrize("form", FORMS)
def test_exactly_the_cap_is_read_and_one_byte_more_is_not(kind: str, owned: bool, form: str) -> None:
    sizes = iter([CAP, CAP + 1, CAP])
    with LoopbackServer(lambda request: FORMS[form](b" " * next(sizes))) as server:
        with wire(kind, server.url, owned, max_response_size=CAP) as client:
            assert len(client.exchange().body) == CAP
            problem = client.problem()
            assert type(problem) is ResponseTooLargeError
            assert f"{CAP} bytes" in str(problem)
            assert problem.status == 200
            assert problem.delivery is Delivery.MAYBE_EXECUTED
            assert len(client.exchange().body) == CAP


@both
def test_a_declared_size_beyond_the_cap_is_not_read_at_all(kind: str) -> None:
    sent = 0

    def answer(_: Received) -> Iterator[bytes]:
        nonlocal sent
        yield b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (100 * MIB)
        for _ in range(100):
            yield b" " * MIB
            sent += 1

    with LoopbackServer(answer) as server, Wire(kind, server.url) as client:
        assert type(client.problem()) is ResponseTooLargeError
        assert settles(lambda: server.open_connections == 0)
    # The sockets' buffers took some of it.
    assert sent < 50


@both
@owned_or_not
def test_100_megabytes_without_a_declared_size_take_the_memory_of_the_cap(kind: str, owned: bool) -> None:
    block = b"%x\r\n%s\r\n" % (MIB, b" " * MIB)

    def answer(_: Received) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        for _ in range(100):
            yield block
        yield b"0\r\n\r\n"

    with LoopbackServer(answer) as server, wire(kind, server.url, owned, max_response_size=4 * MIB) as client:
        tracemalloc.start()
        try:
            problem = client.problem()
            held, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert type(problem) is ResponseTooLargeError
        assert peak < 14 * MIB
        # The exception is still here, and its traceback with it; of the connection nothing is.
        assert held < 1 * MIB
        assert settles(lambda: server.open_connections == 0)


@both
def test_the_default_cap_is_64_mib_after_decompression(kind: str) -> None:
    packed = gzip.compress(bytes(65 * MIB), 1)
    with LoopbackServer(lambda request: Answer(packed, headers=GZIP)) as server, Wire(kind, server.url) as client:
        problem = client.problem()
    assert type(problem) is ResponseTooLargeError
    assert str(64 * MIB) in str(problem)


@both
def test_a_bomb_in_layers(kind: str) -> None:
    bomb = gzip.compress(gzip.compress(bytes(20 * MIB)))
    with LoopbackServer(lambda request: Answer(bomb, headers={"Content-Encoding": "gzip, gzip"})) as server:
        with Wire(kind, server.url, max_response_size=MIB) as client:
            tracemalloc.start()
            try:
                # requests undoes all layers and aiohttp knows none that are stacked.
                try:
                    assert len(client.exchange().body) < MIB
                except RpcRetryError as problem:
                    assert isinstance(problem, ProtocolError)  # noqa: PT017
                assert tracemalloc.get_traced_memory()[1] < 8 * MIB
            finally:
                tracemalloc.stop()


@both
@owned_or_not
def test_a_content_length_that_is_too_small_does_not_spill_into_the_next_answer(kind: str, owned: bool) -> None:
    right = json.dumps({"jsonrpc": "2.0", "id": 1, "result": [1]}).encode()
    spill = b'HTTP/1.1 200 OK\r\nContent-Length: 38\r\n\r\n{"jsonrpc":"2.0","id":2,"result":"no"}'

    def answer(request: Received) -> Any:
        if request.json["id"] == 1:
            return [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(right), right + spill)]
        return one(request)

    with LoopbackServer(answer) as server, wire(kind, server.url, owned) as client:
        # aiohttp may refuse the first answer for what follows it; never may it answer the second call.
        try:
            assert client.call("m", 1) == [1]
        except RpcRetryError as problem:
            assert problem.delivery is Delivery.MAYBE_EXECUTED  # noqa: PT017
        assert client.call("m", 2) == [2]


@both
@owned_or_not
@pytest.mark.parametrize("length", [b"-5", b"x", b"5, 6", b"99999999999999999999", b""])
def test_a_content_length_that_is_none(kind: str, owned: bool, length: bytes) -> None:
    """An error of our tree, or the body; and then the next call works."""
    turns = iter([True])

    def answer(request: Received) -> Any:
        if next(turns, False):
            return [b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n{}" % length, None]
        return one(request)

    with LoopbackServer(answer) as server, wire(kind, server.url, owned) as client:
        try:
            assert client.exchange().body == b"{}"
        except RpcRetryError as problem:
            assert problem.delivery is Delivery.MAYBE_EXECUTED  # noqa: PT017
        assert settles(lambda: server.open_connections == 0)
        assert client.call("m", 1) == [1]


@both
@owned_or_not
@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b'{"jsonrpc":', b"\0" * 50, b"[" * 100_000, b"5", b"null", b"\xff\xfe{}", b'{"jsonrpc":"2.0","id":77,"result":1}', b'"' + b"x" * 100_000],
    ids=["empty", "html", "truncated", "nulls", "deep", "number", "null", "bytes", "wrong id", "long"],
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_body_that_is_no_answer_leaves_the_connection_in_use(kind: str, owned: bool, body: bytes, packed: bool) -> None:
    turns = iter([Answer(gzip.compress(body), headers=GZIP) if packed else Answer(body)])
    with LoopbackServer(lambda request: next(turns, None) or one(request)) as server, wire(kind, server.url, owned) as client:
        with pytest.raises(ProtocolError) as raised:
            client.call("m")
        assert raised.value.status == 200
        assert len(raised.value.excerpt) < 500
        assert client.call("m", 1) == [1]
        assert server.connections == 1


@both
@owned_or_not
def test_headers_without_end_are_no_memory_without_end(kind: str, owned: bool) -> None:
    def answer(_: Received) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n"
        for number in range(5_000):
            yield b"X-%d: %s\r\n" % (number, b"x" * 2_000)
        yield b"\r\n"

    with LoopbackServer(answer) as server, wire(kind, server.url, owned) as client:
        problem = client.problem()
        assert problem.delivery is Delivery.MAYBE_EXECUTED
        assert settles(lambda: server.open_connections == 0)
