"""The preset of aria2 against Debian's aria2."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rpcretry import JsonRpcError, Request, events, presets
from rpcretry.retry import PeriodicBackoff

sys.path.insert(0, str(Path(__file__).parent.parent / "real"))
from test_aria2 import Async, Sync, aria2  # noqa: F401

pytestmark = pytest.mark.slow


@pytest.fixture(params=[Sync, Async], ids=["requests", "aiohttp"])
def connect(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Makes clients of one kind, which keep their events, and closes them."""
    made: list[Any] = []

    def make(preset: presets.Preset) -> Any:
        heard: list[events.Event] = []
        client = request.param(request.getfixturevalue("aria2").url, timeout=5, retry_strategy=preset, on_event=heard.append)
        client.heard = heard
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


def test_the_list_has_a_place_for_every_method_of_aria2(connect: Any) -> None:
    offered = set(connect(presets.aria2)("call", "system.listMethods"))
    assert presets.aria2.methods.names <= offered
    acts = ("add", "remove", "force", "pause", "unpause", "change", "purge", "shutdown", "saveSession", "multicall")
    assert [name for name in offered - presets.aria2.methods.names if not name.partition(".")[2].startswith(acts)] == []


def test_what_aria2_refuses_is_asked_once(connect: Any) -> None:
    client = connect(presets.aria2)
    response = client("send", Request("aria2.tellStatus", ["ffffffffffffffff"]))
    assert (response.error.code, response.status, response.attempts) == (1, 400, 1)
    with pytest.raises(JsonRpcError, match="No such method"):
        client("call", "aria2.noSuchMethod")


def test_a_multicall_survives_a_restart(connect: Any, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("aria2")
    client = connect(presets.aria2.extended(backoff=PeriodicBackoff(attempts=200, interval=0.05)))
    calls = [{"methodName": "aria2.getVersion", "params": []}, {"methodName": "aria2.getGlobalStat", "params": []}]
    assert client("call", "aria2.getVersion")
    server.kill()
    restart = threading.Timer(0.3, server.start)
    restart.start()
    try:
        (version,), (stat,) = client("call", "system.multicall", calls)
    finally:
        restart.join()
    assert version["version"].startswith("1.")
    assert stat["numActive"] == "0"
    assert any(isinstance(event, events.RetryScheduled) for event in client.heard)
