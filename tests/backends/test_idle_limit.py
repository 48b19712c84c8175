"""An idle connection is not used again after a while: a server that closes it at that moment would take the call with it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from wire import Wire, both, one

from rpcretry.backends import _aiohttp_connections as async_backend
from rpcretry.backends import _requests_adapter
from rpcretry.backends._target import IDLE_LIMIT
from rpcretry.testing import LoopbackServer


def test_the_limit_is_below_the_five_seconds_of_common_servers() -> None:
    assert IDLE_LIMIT < 5


@both
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize(("limit", "connections"), [(0.01, 3), (10.0, 1)])
def test_a_connection_that_was_idle_for_too_long_is_not_used_again(
    kind: str, secure: bool, limit: float, connections: int, tls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (_requests_adapter, async_backend):
        monkeypatch.setattr(module, "IDLE_LIMIT", limit)
    with LoopbackServer(one, tls=tls.server if secure else None) as server:
        with Wire(kind, server.url, **(tls.trust(kind) if secure else {})) as client:
            for number in range(3):
                assert client.call("pay", number) == [number]
                time.sleep(0.03)
        assert server.connections == connections
    assert len(server.bodies) == 3
