"""Issue 2, done 6: a call that is cancelled or interrupted leaks nothing, and the next one works."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests
from wire import Wire, both, deaf, one, settles, user_session

import rpcretry.backends.aiohttp
from rpcretry.testing import SILENCE, LoopbackServer, Received
from rpcretry.testing.contract import waits

owned_or_not = pytest.mark.parametrize("owned", [True, False], ids=["own session", "user's session"])

STAGES: dict[str, Callable[[Received], Any]] = {
    "waiting for headers": lambda request: SILENCE,
    "within the headers": lambda request: [b"HTTP/1.1 200 OK\r\nX-", SILENCE],
    "within the body": lambda request: [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", SILENCE],
    "within a chunk": lambda request: [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{", SILENCE],
}


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Turns:
    """The first request is left hanging, the others are answered."""

    def __init__(self, first: Callable[[Received], Any]) -> None:
        self._first: Callable[[Received], Any] | None = first
        self.reached = threading.Event()

    def __call__(self, request: Received) -> Any:
        first, self._first = self._first, None
        if first is None:
            return one(request)
        self.reached.set()
        return first(request)


async def cancelled(act: Callable[[], Any], reached: Callable[[], bool]) -> None:
    """Cancel *act* once it has got there; no task of its is left."""
    task = asyncio.ensure_future(act())
    while not reached():
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.002)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@owned_or_not
@pytest.mark.parametrize("stage", STAGES)
def test_cancelled(stage: str, owned: bool) -> None:
    handler = Turns(STAGES[stage])
    with LoopbackServer(handler) as server, Wire("aiohttp", server.url, session=None if owned else aiohttp.ClientSession) as client:
        client.run(lambda: cancelled(lambda: client.client.call("m"), handler.reached.is_set))
        assert settles(lambda: server.open_connections == 0)
        assert client.call("m", 1) == [1]
        assert server.connections == 2


@owned_or_not
def test_cancelled_while_connecting(owned: bool) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for early in waiting:
            early.setblocking(False)
            early.connect_ex(("127.0.0.1", port))
        time.sleep(0.02)
        with Wire("aiohttp", f"http://127.0.0.1:{port}/", session=None if owned else aiohttp.ClientSession) as client:
            client.run(lambda: asyncio.sleep(0))
            before = descriptors()
            client.run(lambda: cancelled(lambda: client.client.call("m"), lambda: descriptors() > before))
            assert descriptors() == before
        for early in waiting:
            early.close()


@owned_or_not
def test_cancelled_while_uploading(owned: bool) -> None:
    with deaf() as url, Wire("aiohttp", url, session=None if owned else aiohttp.ClientSession) as client:
        client.run(lambda: asyncio.sleep(0))
        before = descriptors()
        big = "x" * 32_000_000
        client.run(lambda: cancelled(lambda: client.client.call("m", big), lambda: descriptors() > before))
        assert descriptors() == before


def test_cancelled_while_waiting_for_the_pool() -> None:
    handler = Turns(lambda request: [0.04, one(request)])

    async def scenario(client: Any) -> Any:
        first = asyncio.create_task(client.call("m", 1))
        while not handler.reached.is_set():
            await asyncio.sleep(0.001)
        second = asyncio.create_task(client.call("m", 2))
        await asyncio.sleep(0.005)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        return [await first, await client.call("m", 3)]

    with LoopbackServer(handler) as server, Wire("aiohttp", server.url, limit=1) as client:
        assert client.run(lambda: scenario(client.client)) == [[1], [3]]
        assert server.connections == 1


def test_cancelled_before_it_began() -> None:
    async def scenario(client: Any) -> None:
        task = asyncio.create_task(client.call("m"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with LoopbackServer(one) as server, Wire("aiohttp", server.url) as client:
        client.run(lambda: scenario(client.client))
        assert server.connections == 0


def test_a_timeout_around_a_call_is_the_callers_own() -> None:
    """``asyncio.timeout`` of the user's cancels, and what comes out is the builtin and nothing of ours."""

    async def scenario(client: Any) -> None:
        async with asyncio.timeout(0.03):
            await client.call("m")

    handler = Turns(lambda request: SILENCE)
    with LoopbackServer(handler) as server, Wire("aiohttp", server.url) as client:
        with pytest.raises(TimeoutError) as raised:
            client.run(lambda: scenario(client.client))
        assert type(raised.value) is TimeoutError
        assert client.call("m", 1) == [1]


def test_an_async_call_in_a_loop_that_ends() -> None:
    """``asyncio.run`` cancels what is under way, and the client is closed on the way out."""
    handler = Turns(lambda request: SILENCE)

    async def scenario(url: str) -> None:
        async def use() -> None:
            async with rpcretry.backends.aiohttp.Client(url) as client:
                await client.call("m")

        task = asyncio.create_task(use())
        while not handler.reached.is_set():
            await asyncio.sleep(0.001)
        del task

    with LoopbackServer(handler) as server:
        asyncio.run(scenario(server.url))
        assert settles(lambda: server.open_connections == 0)


# --- sync ---


class Interrupted(KeyboardInterrupt):
    """What the handler of a signal raises in the midst of a call."""


def interrupt_when(reached: Callable[[], bool]) -> threading.Thread:
    def watch() -> None:
        settles(reached)
        time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.fixture
def _interruptible() -> Any:
    def raise_(*_: Any) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, raise_)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("_interruptible")
@owned_or_not
@pytest.mark.parametrize("stage", STAGES)
def test_interrupted(stage: str, owned: bool) -> None:
    handler = Turns(STAGES[stage])
    with LoopbackServer(handler) as server, Wire("requests", server.url, session=None if owned else requests.Session) as client:
        thread = interrupt_when(handler.reached.is_set)
        with pytest.raises(Interrupted):
            client.call("m")
        thread.join()
        assert settles(lambda: server.open_connections == 0)
        assert client.call("m", 1) == [1]
        assert server.connections == 2


@pytest.mark.usefixtures("_interruptible")
@owned_or_not
def test_interrupted_while_uploading(owned: bool) -> None:
    with deaf() as url, Wire("requests", url, session=None if owned else requests.Session) as client:
        big = "x" * 32_000_000
        before = descriptors()
        thread = interrupt_when(lambda: descriptors() > before)
        with pytest.raises(Interrupted):
            client.call("m", big)
        thread.join()
        assert descriptors() == before


@both
@waits
def test_many_failures_leave_no_descriptor_behind(kind: str) -> None:
    turns = iter(list(STAGES.values()) * 2)

    def answer(request: Received) -> Any:
        turn = next(turns, None)
        return one(request) if turn is None else turn(request)

    for make in (None, user_session(kind)):
        with LoopbackServer(answer) as server, Wire(kind, server.url, session=make) as client:
            client.run(lambda: None)
            for _ in range(4):
                client.problem(ends_by=time.monotonic() + 0.03)
            assert settles(lambda: server.open_connections == 0)
    assert next(turns, None) is None
