"""Debian's aria2: a real server, which answers errors with HTTP 400 and 500 around a JSON-RPC body."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from installing import from_debian

import rpcretry
import rpcretry.backends.aiohttp
import rpcretry.backends.requests
from rpcretry.retry import PeriodicBackoff, RetryStrategy

pytestmark = pytest.mark.slow


class Aria2:
    """A server that can be killed and started again on its port."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program = program
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/jsonrpc"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--no-conf", "--enable-rpc", f"--rpc-listen-port={self.port}", "--rpc-listen-all=false", f"--dir={self.folder}", "--quiet"]
        self.process = subprocess.Popen([self.program, *options])
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError("aria2c does not listen")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def aria2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aria2]:
    server = Aria2(from_debian("aria2c", "aria2"), tmp_path_factory.mktemp("aria2"))
    server.start()
    yield server
    server.kill()


class Sync:
    def __init__(self, url: str, **options: Any) -> None:
        self.client = rpcretry.backends.requests.Client(url, **options)

    def __call__(self, name: str, *args: Any, **options: Any) -> Any:
        return getattr(self.client, name)(*args, **options)

    def dotted(self) -> Any:
        return self.client.proxy.aria2.getVersion()

    def close(self) -> None:
        self.client.close()


class Async:
    def __init__(self, url: str, **options: Any) -> None:
        self.runner = asyncio.Runner()
        self.client = rpcretry.backends.aiohttp.Client(url, **options)

    def __call__(self, name: str, *args: Any, **options: Any) -> Any:
        return self.runner.run(getattr(self.client, name)(*args, **options))

    def dotted(self) -> Any:
        return self.runner.run(self.client.proxy.aria2.getVersion())

    def close(self) -> None:
        self.runner.run(self.client.aclose())
        self.runner.close()


@pytest.fixture(params=[Sync, Async], ids=["requests", "aiohttp"])
def client(request: pytest.FixtureRequest, aria2: Aria2) -> Iterator[Any]:
    made = request.param(aria2.url, timeout=5)
    yield made
    made.close()


def test_get_version(client: Any) -> None:
    assert client("call", "aria2.getVersion")["version"].startswith("1.")


def test_dotted_proxy(client: Any) -> None:
    assert "enabledFeatures" in client.dotted()


def test_unknown_method_is_code_1_in_http_400(client: Any) -> None:
    response = client("send", rpcretry.Request("no_such_method"))
    assert (response.error.code, response.status, response.error.status) == (1, 400, 400)
    with pytest.raises(rpcretry.JsonRpcError, match="No such method: no_such_method"):
        client("call", "no_such_method")


def test_invalid_params_are_code_32602_in_http_500(client: Any) -> None:
    with pytest.raises(rpcretry.InvalidParamsError) as caught:
        client("call", "aria2.tellStopped", offset=0, num=10)
    assert caught.value.status == 500


def test_a_code_in_an_http_error_is_what_the_strategy_matches(client: Any) -> None:
    strategy = RetryStrategy(codes={1}, backoff=PeriodicBackoff(2, interval=0.01))
    response = client("send", rpcretry.Request("aria2.tellStatus", ["ffffffffffffffff"]), _retry_strategy=strategy)
    assert (response.attempts, response.error.code) == (3, 1)


def test_the_status_500_around_an_error_matches_no_strategy_of_statuses(client: Any) -> None:
    strategy = RetryStrategy(statuses={400, 500}, backoff=PeriodicBackoff(2, interval=0.01))
    response = client("send", rpcretry.Request("aria2.tellStopped", {"offset": 0}), _retry_strategy=strategy)
    assert (response.attempts, response.error.code) == (1, -32602)


def test_a_batch_with_one_failing_member(client: Any) -> None:
    batch = rpcretry.BatchRequest(
        rpcretry.Request("aria2.getVersion"), rpcretry.Request("no_such_method", id="middle"), rpcretry.Request("aria2.tellStopped", [0, 10])
    )
    first, middle, last = client("send", batch)
    assert first.result["version"].startswith("1.")
    assert (middle.id, middle.error.code) == ("middle", 1)
    assert last.result == []


def test_a_batch_with_a_notification_that_the_server_answers_all_the_same(client: Any) -> None:
    # aria2 answers a notification with an error whose id is null; it belongs to nobody's result.
    (response,) = client("send", rpcretry.BatchRequest(rpcretry.Request("aria2.getVersion", id=None), rpcretry.Request("aria2.tellStopped", [0, 1])))
    assert response.result == []


def test_a_notification_answered_by_an_error_is_done(client: Any) -> None:
    assert client("notify", "aria2.getVersion") is None


@pytest.mark.parametrize("kind", [Sync, Async], ids=["requests", "aiohttp"])
def test_a_server_killed_and_restarted_during_a_retried_call(aria2: Aria2, kind: Any) -> None:
    events: list[Any] = []
    strategy = RetryStrategy(idempotent={"aria2.get*"}, backoff=PeriodicBackoff(200, interval=0.05))
    client = kind(aria2.url, timeout=5, retry_strategy=strategy, on_event=events.append)
    try:
        assert client("call", "aria2.getVersion")
        aria2.kill()
        restart = threading.Timer(0.4, aria2.start)
        restart.start()
        # The pooled connection is dead, then nobody listens, then there is a new server.
        assert client("call", "aria2.getVersion")["version"].startswith("1.")
        restart.join()
        failures = [event.error for event in events if isinstance(event, rpcretry.events.RetryScheduled)]
        assert failures
        assert all(isinstance(error, ConnectionError) for error in failures)
        assert any(isinstance(error, rpcretry.ConnectError) for error in failures)
    finally:
        client.close()
        if aria2.process is None:
            aria2.start()
