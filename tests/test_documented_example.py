"""The example of the design page, on both backends, against a server on loopback that is having a bad day."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Iterator
from typing import Any

import pytest

import rpcretry
import rpcretry.backends.aiohttp
import rpcretry.backends.requests
from rpcretry.retry import Backoff, ExponentialBackoff, PeriodicBackoff, RetryStrategy
from rpcretry.testing import Answer, Handler, LoopbackServer, Received, rpc


class Failure(Exception):
    code = 2001


@dataclasses.dataclass(frozen=True)
class RandomBackoff(Backoff):
    """A custom backoff is one method."""

    def __call__(self) -> Iterator[float]:
        return (random.random() / 100 for _ in range(self.attempts))


DEFAULT = RetryStrategy(exceptions={TimeoutError}, backoff=PeriodicBackoff(attempts=3, interval=0.01, jitter=lambda: random.gauss(mu=0.005, sigma=0.001)))
PER_CALL = RetryStrategy(exceptions={TimeoutError}, codes={2001}, backoff=ExponentialBackoff(attempts=3, base=0.005, factor=2.0))
CUSTOM = RetryStrategy(exceptions={ConnectionError}, codes=range(2000, 2010), backoff=RandomBackoff(attempts=4))


def failing(times: int, how: str) -> Handler:
    """A server that adds, after failing that many times in that way."""
    left = [times]
    well = rpc({"sum": lambda a, b: a + b})

    def handle(received: Received) -> Any:
        if left[0] == 0:
            return well(received)
        left[0] -= 1
        if how == "silence":
            return [0.2, None]
        if how == "code":
            return Answer({"jsonrpc": "2.0", "id": received.json["id"], "error": {"code": 2001, "message": "busy"}})
        return None

    return handle


class SyncRun:
    def __init__(self, url: str, **options: Any) -> None:
        self.client = rpcretry.backends.requests.Client(url, **options)

    def send(self, request: rpcretry.Request, **options: Any) -> Any:
        return self.client.send(request, **options)

    def proxy_sum(self, a: int, b: int) -> Any:
        return self.client.proxy.sum(a, b)

    def close(self) -> None:
        self.client.close()


class AsyncRun:
    def __init__(self, url: str, **options: Any) -> None:
        self.runner = asyncio.Runner()
        self.client = rpcretry.backends.aiohttp.Client(url, **options)

    def send(self, request: rpcretry.Request, **options: Any) -> Any:
        return self.runner.run(self.client.send(request, **options))

    def proxy_sum(self, a: int, b: int) -> Any:
        return self.runner.run(self.client.proxy.sum(a, b))

    def close(self) -> None:
        self.runner.run(self.client.aclose())
        self.runner.close()


@pytest.fixture(params=[SyncRun, AsyncRun], ids=["requests", "aiohttp"])
def run(request: pytest.FixtureRequest) -> Iterator[Any]:
    made: list[Any] = []

    def make(url: str, **options: Any) -> Any:
        made.append(request.param(url, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_send_and_proxy(run: Any) -> None:
    with LoopbackServer(failing(0, "code")) as server:
        client = run(server.url, retry_strategy=DEFAULT)
        response = client.send(rpcretry.Request("sum", params=[1, 2], id=1))
        assert (response.id, response.result, response.status) == (1, 3, 200)
        assert client.proxy_sum(1, 2) == 3
        assert server.bodies[0] == {"jsonrpc": "2.0", "method": "sum", "params": [1, 2], "id": 1}


def test_the_strategy_of_the_client_retries_timeouts(run: Any) -> None:
    with LoopbackServer(failing(2, "silence")) as server:
        client = run(server.url, retry_strategy=DEFAULT, timeout=0.04)
        assert client.proxy_sum(1, 2) == 3
        assert len(server.requests) == 3
        assert len({request.json["id"] for request in server.requests}) == 1


def test_the_strategy_of_the_client_does_not_retry_codes(run: Any) -> None:
    with LoopbackServer(failing(1, "code")) as server:
        client = run(server.url, retry_strategy=DEFAULT)
        with pytest.raises(rpcretry.JsonRpcError, match=r"busy \[2001\]"):
            client.proxy_sum(1, 2)
        assert len(server.requests) == 1


def test_the_strategy_of_a_call_retries_codes(run: Any) -> None:
    with LoopbackServer(failing(3, "code")) as server:
        client = run(server.url, retry_strategy=DEFAULT)
        response = client.send(rpcretry.Request("sum", params=[1, 2], id=1), _retry_strategy=PER_CALL)
        assert (response.result, response.attempts) == (3, 4)
        assert [body["id"] for body in server.bodies] == [1, 1, 1, 1]


def test_a_retried_code_that_runs_out_is_the_error_response_and_raises_at_its_result(run: Any) -> None:
    with LoopbackServer(failing(9, "code")) as server:
        client = run(server.url)
        response = client.send(rpcretry.Request("sum", params=[1, 2], id=1), _retry_strategy=PER_CALL)
        assert response.is_error
        with pytest.raises(rpcretry.JsonRpcError) as caught:
            _ = response.result
        assert caught.value.code == 2001
        assert caught.value.__notes__[0].startswith("rpcretry: gave up after 4 attempts in ")
        assert len(server.requests) == 4


def test_a_custom_backoff_is_one_method(run: Any) -> None:
    with LoopbackServer(failing(3, "close")) as server:
        client = run(server.url, retry_strategy=CUSTOM)
        assert client.proxy_sum(1, 2) == 3
        assert len(server.requests) == 4


def test_a_strategy_of_none_retries_nothing(run: Any) -> None:
    with LoopbackServer(failing(1, "close")) as server:
        client = run(server.url, retry_strategy=CUSTOM)
        with pytest.raises(ConnectionError):
            client.send(rpcretry.Request("sum", params=[1, 2]), _retry_strategy=None)
        assert len(server.requests) == 1
