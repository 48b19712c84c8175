"""DESIGN, Clients: one for many threads or tasks, made on first use, closed once, and a session of the user's never."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import pytest
import requests
from wire import Wire, both, one, settles, user_session

import rpcretry.backends.aiohttp
import rpcretry.backends.requests
from rpcretry import ClientClosedError, ConnectionLostError, Delivery
from rpcretry.backends.aiohttp import AiohttpBackend
from rpcretry.backends.requests import RequestsBackend
from rpcretry.retry import PeriodicBackoff, RetryStrategy
from rpcretry.testing import SILENCE, LoopbackServer, Received
from rpcretry.transport import Exchange

owned_or_not = pytest.mark.parametrize("owned", [True, False], ids=["own session", "user's session"])


@owned_or_not
def test_50_threads_share_a_client(owned: bool) -> None:
    def use(number: int) -> list[Any]:
        return [client.client.call("m", number, turn, _headers={"X-Caller": str(number)}) for turn in range(8)]

    with LoopbackServer(one) as server, Wire("requests", server.url, session=None if owned else requests.Session) as client:
        with ThreadPoolExecutor(50) as pool:
            results = list(pool.map(use, range(50)))
        assert results == [[[number, turn] for turn in range(8)] for number in range(50)]
        ids = [request.json["id"] for request in server.requests]
        assert len(set(ids)) == len(ids) == 400
        assert all(request.headers["X-Caller"] == str(request.json["params"][0]) for request in server.requests)


@owned_or_not
def test_200_tasks_share_a_client(owned: bool) -> None:
    async def use(client: Any, number: int) -> list[Any]:
        return [await client.call("m", number, turn, _headers={"X-Caller": str(number)}) for turn in range(3)]

    async def scenario(client: Any) -> list[Any]:
        return await asyncio.gather(*(use(client, number) for number in range(200)))

    with LoopbackServer(one) as server, Wire("aiohttp", server.url, session=None if owned else aiohttp.ClientSession) as client:
        results = client.run(lambda: scenario(client.client))
        assert results == [[[number, turn] for turn in range(3)] for number in range(200)]
        assert len({request.json["id"] for request in server.requests}) == 600
        assert all(request.headers["X-Caller"] == str(request.json["params"][0]) for request in server.requests)


@both
def test_connections_are_kept_and_used_again(kind: str) -> None:
    with LoopbackServer(one) as server, Wire(kind, server.url) as client:
        for number in range(5):
            assert client.call("m", number) == [number]
        assert server.connections == 1


# --- closing ---


@both
def test_a_users_session_is_never_closed_and_our_own_is(kind: str) -> None:
    with LoopbackServer(one) as server:
        mine = Wire(kind, server.url, session=user_session(kind))
        mine.call("m")
        mine.run(lambda: mine.client.close())
        assert server.open_connections == 1, "the user's session was closed"
        if kind == "aiohttp":
            assert not mine.session.closed
        second = Wire.__new__(Wire)
        second.__dict__.update(mine.__dict__)
        module = rpcretry.backends.requests if kind == "requests" else rpcretry.backends.aiohttp
        second.client = module.Client(server.url, session=mine.session)
        assert second.call("m", 2) == [2]
        assert server.connections == 1
        second.close()
        assert settles(lambda: server.open_connections == 0)
        with Wire(kind, server.url) as own:
            own.call("m")
            assert server.open_connections == 1
        assert settles(lambda: server.open_connections == 0)


@both
def test_a_closed_client_and_a_closed_backend_say_so(kind: str) -> None:
    with LoopbackServer(one) as server:
        client = Wire(kind, server.url)
        client.call("m")
        client.run(lambda: client.client.close())
        with pytest.raises(ClientClosedError, match="was closed; make another"):
            client.call("m")
        problem = client.problem()
        assert type(problem) is ClientClosedError
        client.close()
        assert len(server.requests) == 1


@both
def test_a_client_that_was_closed_before_its_first_call(kind: str) -> None:
    with LoopbackServer(one) as server:
        client = Wire(kind, server.url)
        client.run(lambda: client.client.close())
        assert type(client.problem()) is ClientClosedError
        client.close()
        assert server.connections == 0


def test_a_session_of_aiohttp_that_its_owner_closed() -> None:
    with LoopbackServer(one) as server, Wire("aiohttp", server.url, session=aiohttp.ClientSession) as client:
        client.call("m")
        client.run(lambda: client.session.close())
        with pytest.raises(ClientClosedError, match="session of this client was closed"):
            client.call("m")


def test_a_client_that_is_closed_by_another_thread_opens_no_connection_afterwards() -> None:
    """A call that waits to try again wakes up after the close."""
    woken = threading.Event()
    strategy = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(attempts=3, interval=0.001))
    with LoopbackServer(lambda request: None) as server:
        backend = RequestsBackend(server.url)

        def wait(_: float) -> None:
            backend.close()
            woken.set()

        client = rpcretry.Client(backend, retry_strategy=strategy, sleep=wait)
        with pytest.raises(ClientClosedError):
            client.call("m")
        assert woken.is_set()
        assert server.connections == 1
        assert settles(lambda: server.open_connections == 0)


def test_a_close_amid_an_exchange_leaves_no_connection() -> None:
    def answer(request: Received) -> Any:
        backend.close()
        return one(request)

    with LoopbackServer(answer) as server:
        backend = RequestsBackend(server.url)
        assert backend.exchange(Exchange(b"{}")).status == 200
        assert settles(lambda: server.open_connections == 0)


# --- loops ---


def test_a_client_may_be_made_outside_of_a_loop() -> None:
    with LoopbackServer(one) as server:
        client = rpcretry.backends.aiohttp.Client(server.url)

        async def use() -> Any:
            async with client:
                return await client.call("m", 1)

        assert asyncio.run(use()) == [1]


def test_a_client_that_is_never_used_leaves_nothing_to_close() -> None:
    AiohttpBackend("http://host.test/")
    RequestsBackend("http://host.test/")


@owned_or_not
def test_another_loop_is_refused_with_the_way_to_mend_it(owned: bool) -> None:
    with LoopbackServer(one) as server:
        with Wire("aiohttp", server.url, session=None if owned else aiohttp.ClientSession) as client:
            client.call("m")

            async def elsewhere() -> None:
                await client.client.call("m")

            with pytest.raises(RuntimeError, match=r"another loop.*make one client for each loop") as raised:
                asyncio.run(elsewhere())
            assert not isinstance(raised.value, ClientClosedError)
            assert client.call("m", 1) == [1]
        assert len(server.requests) == 2


def test_a_session_of_aiohttp_made_in_another_loop_is_refused_at_the_first_call() -> None:
    with LoopbackServer(one) as server, Wire("aiohttp", server.url, session=aiohttp.ClientSession) as client:

        async def elsewhere() -> None:
            await client.client.call("m")

        with pytest.raises(RuntimeError, match="another loop"):
            asyncio.run(elsewhere())
        assert server.connections == 0


def test_a_call_that_is_under_way_when_the_client_is_closed_says_so() -> None:
    arrived = threading.Event()

    def silent(request: Received) -> Any:
        arrived.set()
        return SILENCE

    async def act(url: str) -> ConnectionLostError:
        client = rpcretry.backends.aiohttp.Client(url, retry_strategy=RetryStrategy(idempotent=True, backoff=PeriodicBackoff(3, 0.001)))
        task = asyncio.create_task(client.call("pay"))
        await asyncio.to_thread(arrived.wait, 5)
        await client.aclose()
        with pytest.raises(ClientClosedError) as raised:
            await task
        # Not that nothing was sent: the first attempt may have been executed.
        assert raised.value.delivery is Delivery.MAYBE_EXECUTED
        lost = raised.value.__cause__
        assert isinstance(lost, ConnectionLostError)
        return lost

    with LoopbackServer(silent) as server:
        lost = asyncio.run(act(server.url))
    assert str(lost) == f"the connection to 127.0.0.1:{server.port} broke: the client was closed"
