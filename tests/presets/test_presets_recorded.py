"""The presets against what real servers answered, byte by byte, over loopback and both HTTP libraries."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import rpcretry.backends.aiohttp
import rpcretry.backends.requests
from rpcretry import ConnectionLostError, HTTPStatusError, JsonRpcError, presets
from rpcretry.retry import ImmediateBackoff
from rpcretry.testing import RESET, Answer, LoopbackServer, Received

DATA = Path(__file__).parent.parent / "data"
AT_ONCE = ImmediateBackoff(attempts=3)

both_backends = pytest.mark.parametrize("backend", ["requests", "aiohttp"])


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def recorded(server: str, case: str) -> Answer:
    (one,) = [one for one in json.loads((DATA / f"{server}.json").read_text()) if one["case"] == case]
    return Answer(one["body"].encode(), one["status"], {"Content-Type": one["content_type"]})


class Scripted:
    """A server that gives these answers in turn."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.server = LoopbackServer(self.handle)

    def handle(self, request: Received) -> Any:
        return self.answers.pop(0)

    def __enter__(self) -> Scripted:
        self.server.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self.server.close()

    @property
    def asked(self) -> list[str]:
        return [body["method"] for body in self.server.bodies]


def call(backend: str, url: str, preset: presets.Preset, id: int, method: str, *args: Any, **params: Any) -> Any:
    if backend == "requests":
        with rpcretry.backends.requests.Client(url, retry_strategy=preset, ids=lambda: id) as client:
            return client.call(method, *args, **params)

    async def main() -> Any:
        async with rpcretry.backends.aiohttp.Client(url, retry_strategy=preset, ids=lambda: id) as client:
            return await client.call(method, *args, **params)

    return asyncio.run(main())


BITCOIN = presets.bitcoin.extended(backoff=AT_ONCE)
ETHEREUM = presets.ethereum.extended(backoff=AT_ONCE)
ARIA2 = presets.aria2.extended(backoff=AT_ONCE)


@both_backends
def test_a_full_work_queue_of_bitcoind(backend: str) -> None:
    full = recorded("bitcoind-sv-busy", "work_queue_full")
    with Scripted(full, full, recorded("bitcoind-sv-busy", "ok_again")) as node:
        assert call(backend, node.server.url, BITCOIN, 4, "getblockcount") == 0
        assert node.asked == ["getblockcount"] * 3
    with Scripted(full) as node:
        with pytest.raises(HTTPStatusError, match="HTTP 500: Work queue depth exceeded"):
            call(backend, node.server.url, BITCOIN, 4, "sendtoaddress", "bc1q", 0.1)
        assert node.asked == ["sendtoaddress"]


@both_backends
def test_bitcoind_while_it_warms_up(backend: str) -> None:
    # The form of JSONRPCReply in Bitcoin Core's rpc/request.cpp.
    warming = Answer(b'{"result":null,"error":{"code":-28,"message":"Loading block index..."},"id":4}\n', 500)
    for method in ("getblockcount", "sendtoaddress"):
        with Scripted(warming, warming, recorded("bitcoind-sv-busy", "ok_again")) as node:
            assert call(backend, node.server.url, BITCOIN, 4, method) == 0
            assert node.asked == [method] * 3


@both_backends
def test_a_node_whose_connection_breaks(backend: str) -> None:
    chain_id = recorded("anvil", "params_absent")
    with Scripted(RESET, Answer(b"bad gateway", 502), chain_id) as node:
        assert call(backend, node.server.url, ETHEREUM, 7, "eth_chainId") == "0x7a69"
        assert node.asked == ["eth_chainId"] * 3
    with Scripted(RESET, chain_id) as node:
        with pytest.raises(ConnectionLostError):
            call(backend, node.server.url, ETHEREUM, 7, "eth_sendTransaction", {"to": "0x0"})
        assert node.asked == ["eth_sendTransaction"]


@both_backends
def test_a_service_over_its_limit(backend: str) -> None:
    # Alchemy's HTTP status, the code that QuickNode documents, and what its limit for a second is reported to look like.
    alchemy = Answer(b"", 429)
    quicknode = [
        Answer({"jsonrpc": "2.0", "id": 7, "error": {"code": 429, "message": "Too many requests"}}),
        Answer({"jsonrpc": "2.0", "id": 7, "error": {"code": -32007, "message": "50/second request limit reached"}}),
    ]
    with Scripted(alchemy, *quicknode, recorded("anvil", "params_absent")) as node:
        assert call(backend, node.server.url, ETHEREUM, 7, "eth_sendRawTransaction", "0x02f8") == "0x7a69"
        assert node.asked == ["eth_sendRawTransaction"] * 4


def test_the_errors_of_aria2_are_those_that_its_docstring_tells() -> None:
    statuses: dict[int, set[int]] = {}
    for one in json.loads((DATA / "aria2.json").read_text()):
        document = json.loads(one["body"]) if one["body"] else None
        # Inside of a batch they come with HTTP 200.
        if isinstance(document, dict) and "error" in document:
            statuses.setdefault(document["error"]["code"], set()).add(one["status"])
    assert statuses == {1: {400}, -32600: {400}, -32602: {500}, -32700: {500}}
    assert not any(presets.aria2.names(code) for code in statuses)
    told = " ".join((presets.aria2.__doc__ or "").split())
    assert "1 with HTTP 400" in told
    assert "-32600 with 400, -32602 and -32700 with 500" in told


@both_backends
@pytest.mark.parametrize(
    ("server", "case", "preset", "id"),
    [
        ("anvil", "unknown_method", ETHEREUM, 3),
        ("anvil", "invalid_params", ETHEREUM, 4),
        ("aria2", "unknown_method", ARIA2, 3),
        ("aria2", "invalid_params2", ARIA2, 4),
        ("aria2", "ok_named", ARIA2, 2),
    ],
)
def test_what_a_server_refuses_for_good_is_asked_once(server: str, case: str, preset: presets.Preset, id: int, backend: str) -> None:
    methods = {"anvil": "eth_getBalance", "aria2": "aria2.tellStatus"}
    with Scripted(recorded(server, case)) as node:
        with pytest.raises(JsonRpcError):
            call(backend, node.server.url, preset, id, methods[server])
        assert len(node.asked) == 1


@both_backends
def test_a_proxy_before_aria2(backend: str) -> None:
    troubles = [recorded("nginx-front", case) for case in ("dead", "maint", "slow_slow_method")]
    with Scripted(*troubles, recorded("aria2", "ok_positional")) as proxy:
        assert call(backend, proxy.server.url, ARIA2, 1, "aria2.tellStopped", 0, 10) == []
        assert proxy.asked == ["aria2.tellStopped"] * 4
    with Scripted(troubles[0]) as proxy:
        with pytest.raises(HTTPStatusError):
            call(backend, proxy.server.url, ARIA2, 1, "aria2.addUri", ["http://localhost/file"])
        assert proxy.asked == ["aria2.addUri"]
