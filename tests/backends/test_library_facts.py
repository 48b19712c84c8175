"""DESIGN, what was tried on aiohttp, requests and urllib3: the library's behaviour beside ours.

Where a library mends its ways, its half of a test fails, and our workaround may go.
"""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import pytest
import requests
from aiohttp.helpers import TimeoutHandle
from wire import Wire, both, one

from rpcretry import ConnectionLostError, RequestTimeoutError, ResponseTooLargeError
from rpcretry.backends.aiohttp import _Body
from rpcretry.testing import SILENCE, Answer, LoopbackServer, Received
from rpcretry.testing.contract import waits
from rpcretry.transport import Exchange

MIB = 1024 * 1024


# --- requests and urllib3 ---


@waits
def test_requests_reports_a_body_read_timeout_as_connection_error() -> None:
    with LoopbackServer(lambda request: [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", SILENCE]) as server:
        with requests.Session() as session, pytest.raises(requests.ConnectionError) as theirs:
            session.post(server.url, data=b"{}", timeout=0.1)
        assert not isinstance(theirs.value, (requests.Timeout, TimeoutError))
        with Wire("requests", server.url) as client:
            problem = client.problem(ends_by=time.monotonic() + 0.1)
    assert type(problem) is RequestTimeoutError
    assert not isinstance(problem, ConnectionError)


@waits
def test_requests_lets_a_header_drip_go_on_past_its_timeout() -> None:
    def drip(_: Received) -> Iterator[Any]:
        yield b"HTTP/1.1 200 OK\r\nX-Drip: "
        for _ in range(10):
            yield 0.05
            yield b"x"
        yield b"\r\nContent-Length: 2\r\n\r\n{}"

    with LoopbackServer(drip) as server:
        with requests.Session() as session:
            started = time.monotonic()
            assert session.post(server.url, data=b"{}", timeout=0.1).status_code == 200
            assert time.monotonic() - started > 0.45
        with Wire("requests", server.url) as client:
            started = time.monotonic()
            problem = client.problem(ends_by=started + 0.1)
            assert time.monotonic() - started < 0.3
    assert type(problem) is RequestTimeoutError


class Counting:
    """An answer with a body that is made as it goes out.

    :ivar sent: bytes of the body that left, or were taken by the sockets' buffers.
    """

    def __init__(self, head: bytes, size: int = 48 * MIB) -> None:
        self.head, self.size, self.sent = head, size, 0

    def __call__(self, _: Received) -> Iterator[Any]:
        yield b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (self.head, self.size)
        for _ in range(0, self.size, MIB):
            yield b" " * MIB
            self.sent += MIB


def test_requests_reads_a_redirect_whole_that_it_does_not_follow() -> None:
    head = b"302 Found\r\nLocation: http://elsewhere.test/"
    theirs, ours, of_the_users = Counting(head), Counting(head), Counting(head)
    with LoopbackServer(theirs) as server, requests.Session() as session:
        session.post(server.url, data=b"{}", allow_redirects=False, stream=True, timeout=10).close()
        assert theirs.sent == theirs.size
    for handler, make in ((ours, None), (of_the_users, requests.Session)):
        with LoopbackServer(handler) as server, Wire("requests", server.url, session=make) as client:
            reply = client.exchange()
            assert (reply.status, reply.body) == (302, b"")
        assert handler.sent < handler.size / 2


def test_a_redirect_of_aiohttp_is_not_read_either() -> None:
    handler = Counting(b"307 Temporary Redirect\r\nLocation: http://elsewhere.test/")
    with LoopbackServer(handler) as server, Wire("aiohttp", server.url) as client:
        assert client.exchange().status == 307
    assert handler.sent < handler.size / 2


def test_a_request_is_prepared_once_where_session_post_prepares_each(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0
    prepare = requests.Session.prepare_request

    def counted(self: requests.Session, request: requests.Request) -> requests.PreparedRequest:
        nonlocal count
        count += 1
        return prepare(self, request)

    monkeypatch.setattr(requests.Session, "prepare_request", counted)
    with LoopbackServer(one) as server:
        with requests.Session() as session:
            for _ in range(3):
                session.post(server.url, data=b'{"id":1}', timeout=5)
        assert count == 3
        for make in (None, requests.Session):
            count = 0
            with Wire("requests", server.url, session=make) as client:
                assert [client.call("m", number) for number in range(3)] == [[0], [1], [2]]
            assert count == 1


def test_headers_of_requests_that_are_cut_are_no_empty_answer() -> None:
    """http.client takes the end of the stream for the end of the headers: a notification would have been delivered."""
    with LoopbackServer(lambda request: [b"HTTP/1.1 200 OK\r\nContent-", None]) as server:
        with requests.Session() as session:
            answer = session.post(server.url, data=b"{}", timeout=5)
            assert (answer.status_code, answer.content) == (200, b"")
        for kind in ("requests", "aiohttp"):
            with Wire(kind, server.url) as client:
                assert type(client.problem()) is ConnectionLostError


# --- aiohttp ---


def test_a_disconnect_of_aiohttp_is_neither_of_the_builtins() -> None:
    async def theirs(url: str) -> None:
        async with aiohttp.ClientSession() as session:
            await session.post(url, data=b"{}")

    with LoopbackServer(lambda request: None) as server:
        with pytest.raises(aiohttp.ServerDisconnectedError) as raised:
            asyncio.run(theirs(server.url))
        assert not isinstance(raised.value, (ConnectionError, TimeoutError))
        with Wire("aiohttp", server.url) as client:
            problem = client.problem()
    assert isinstance(problem, ConnectionError)
    assert isinstance(problem.__cause__, aiohttp.ServerDisconnectedError)


@waits
def test_total_of_aiohttp_turns_a_cancel_in_the_same_loop_turn_into_a_timeout() -> None:
    limit = 0.04

    async def ended_as(act: Callable[[], Any]) -> str:
        task = asyncio.ensure_future(act())
        await asyncio.sleep(0.01)
        loop = asyncio.get_running_loop()
        # The loop stands still until both the limit and the cancel are due: one turn finds them together.
        loop.call_later(0.02, task.cancel)
        loop.call_soon(time.sleep, limit)
        try:
            await task
        except BaseException as problem:
            return type(problem).__name__
        return "answered"

    async def scenario(url: str, backend: Any) -> tuple[list[str], list[str]]:
        async with aiohttp.ClientSession() as session:

            async def theirs() -> None:
                await session.post(url, data=b"{}", timeout=aiohttp.ClientTimeout(total=limit))

            async def ours() -> None:
                await backend.exchange(Exchange(b"{}", ends_by=time.monotonic() + limit))

            return [await ended_as(theirs) for _ in range(4)], [await ended_as(ours) for _ in range(4)]

    with LoopbackServer(lambda request: SILENCE) as server, Wire("aiohttp", server.url) as client:
        library, own = client.run(lambda: scenario(server.url, client.client.backend))
    assert library == ["TimeoutError"] * 4
    assert own == ["CancelledError"] * 4


def test_total_of_aiohttp_reads_zero_as_no_limit_and_rounds_up() -> None:
    async def scenario() -> tuple[Any, float]:
        loop = asyncio.get_running_loop()
        none = TimeoutHandle(loop, 0).start()
        timer = TimeoutHandle(loop, 5.2).start()
        assert timer is not None
        timer.cancel()
        return none, timer.when()

    none, when = asyncio.run(scenario())
    assert none is None
    assert when == int(when)
    with LoopbackServer(one) as server, Wire("aiohttp", server.url) as client:
        assert type(client.problem(ends_by=time.monotonic())) is RequestTimeoutError
        assert server.requests == []


@waits
def test_connect_of_aiohttp_counts_the_wait_for_the_pool_and_ours_does_not() -> None:
    def slow(request: Received) -> list[Any]:
        return [0.12, Answer(request.body)]

    async def theirs(url: str) -> list[Any]:
        connector, timeout = aiohttp.TCPConnector(limit=1), aiohttp.ClientTimeout(connect=0.05)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

            async def post() -> None:
                async with session.post(url, data=b"{}") as answer:
                    await answer.read()

            return await asyncio.gather(post(), post(), return_exceptions=True)

    async def ours(backend: Any) -> list[Any]:
        return await asyncio.gather(*(backend.exchange(Exchange(b"%d" % number)) for number in range(2)))

    with LoopbackServer(slow) as server:
        first, second = asyncio.run(theirs(server.url))
        assert first is None
        assert isinstance(second, aiohttp.ConnectionTimeoutError)
        with Wire("aiohttp", server.url, limit=1, connect_timeout=0.05) as client:
            assert [reply.body for reply in client.run(lambda: ours(client.client.backend))] == [b"0", b"1"]


def test_a_payload_of_aiohttp_notes_its_first_write() -> None:
    async def scenario(url: str) -> None:
        async with aiohttp.ClientSession() as session:
            body = _Body(b"{}")
            assert not body.started
            async with session.post(url, data=body) as answer:
                await answer.read()
            assert body.started
            assert body.done

    with LoopbackServer(one) as server:
        asyncio.run(scenario(server.url))


# --- both ---


@both
def test_a_bomb_takes_the_memory_of_its_cap_and_not_its_own(kind: str) -> None:
    """``read()`` holds the whole of it; chunks hold what the cap allows."""
    bomb = gzip.compress(bytes(48 * MIB))

    async def theirs_async(url: str) -> int:
        async with aiohttp.ClientSession() as session, session.post(url, data=b"{}") as answer:
            return len(await answer.read())

    def theirs(url: str) -> int:
        if kind == "aiohttp":
            return asyncio.run(theirs_async(url))
        with requests.Session() as session:
            return len(session.post(url, data=b"{}", timeout=10).content)

    def peak(act: Callable[[], Any]) -> int:
        tracemalloc.start()
        try:
            act()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    with LoopbackServer(lambda request: Answer(bomb, headers={"Content-Encoding": "gzip"})) as server:
        assert peak(lambda: theirs(server.url)) > 48 * MIB
        with Wire(kind, server.url, max_response_size=MIB) as client:
            problems: list[Any] = []
            assert peak(lambda: problems.append(client.problem())) < 6 * MIB
    assert type(problems[0]) is ResponseTooLargeError


def test_our_threads_do_not_outlive_their_exchange() -> None:
    before = threading.active_count()
    with LoopbackServer(one) as server:
        for kind in ("requests", "aiohttp"):
            with Wire(kind, server.url) as client:
                client.call("m")
    assert threading.active_count() <= before
