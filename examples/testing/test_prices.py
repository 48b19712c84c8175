"""Tests of prices.py: ``python -m pytest examples/testing``. Nothing is sent, and nobody waits."""

from __future__ import annotations

import pytest
from prices import pay, total

from rpcretry import ConnectError, ConnectionLostError
from rpcretry.testing import RpcMock

URL = "http://prices.example/rpc"


def test_it_adds_up(rpc_mock: RpcMock) -> None:
    rpc_mock.on("get_price", params=["EUR"]).returns(1.5)
    rpc_mock.on("get_price", params=["USD"]).returns(2)
    assert total(URL, "EUR", "USD", "EUR") == 5
    assert rpc_mock.calls == [("get_price", ["EUR"]), ("get_price", ["USD"]), ("get_price", ["EUR"])]


def test_it_goes_on_after_failures(rpc_mock: RpcMock) -> None:
    rpc_mock.on("get_price").raises(ConnectError, times=2).then.returns(3)
    assert total(URL, "EUR") == 3
    assert rpc_mock.time.delays == [0.1, 0.2]


def test_it_waits_as_long_as_the_server_says(rpc_mock: RpcMock) -> None:
    rpc_mock.on("get_price").http(503, headers={"Retry-After": "2"}).then.returns(3)
    assert total(URL, "EUR") == 3
    assert rpc_mock.time.delays == [2]


def test_a_slow_server(rpc_mock: RpcMock) -> None:
    rpc_mock.on("get_price").hangs(times=1).then.after(9).returns(3)
    assert total(URL, "EUR") == 3


def test_nothing_is_paid_twice(rpc_mock: RpcMock) -> None:
    rpc_mock.on("pay").raises(ConnectionLostError)
    with pytest.raises(ConnectionLostError):
        pay(URL, 99)
    rpc_mock.assert_called_once_with("pay", amount=99)
