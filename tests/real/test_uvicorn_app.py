"""A JSON-RPC application behind uvicorn, which closes idle connections without saying so."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fronts_calls import KINDS, Caller, Tally, Traffic, pairs_of_calls
from fronts_uvicorn import Uvicorn

import rpcretry
import rpcretry.backends.aiohttp
from rpcretry import BatchRequest, ConnectError, ConnectionLostError, Delivery, HTTPStatusError, JsonRpcError, Request, RetryStrategy
from rpcretry.retry import PeriodicBackoff

SOON = PeriodicBackoff(3, interval=0.001)
CAREFUL = RetryStrategy(backoff=SOON)
READS = RetryStrategy(idempotent={"get"}, backoff=SOON)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Uvicorn]:
    with Uvicorn(tmp_path_factory.mktemp("uvicorn"), keep_alive=1) as running:
        yield running


@pytest.fixture(params=KINDS)
def caller(request: pytest.FixtureRequest, server: Uvicorn) -> Iterator[Caller]:
    with Caller(request.param, server.url, threads=50, timeout=20, retry_strategy=READS) as made:
        yield made


# --- a good day ---


def test_calls_with_names(caller: Caller) -> None:
    assert caller("call", "total", a=1) == 2
    assert caller("call", "total", a=1, b=5) == 6
    response = caller("send", Request("total", {"a": 2}, id="mine"))
    assert (response.result, response.id, response.status, response.attempts) == (3, "mine", 200, 1)


def test_params_by_position_are_refused_by_this_server(caller: Caller) -> None:
    with pytest.raises(rpcretry.InvalidRequestError) as caught:
        caller("call", "total", 1, 2)
    assert caught.value.status == 200
    assert caught.value.data["errors"][0]["loc"] == ["params"]


@pytest.mark.parametrize(("params", "kind"), [({"a": "x"}, "int_parsing"), ({}, "missing")])
def test_invalid_params(caller: Caller, params: dict[str, Any], kind: str) -> None:
    response = caller("send", Request("total", params))
    assert type(response.error) is rpcretry.InvalidParamsError
    assert (response.status, response.attempts, response.error.data["errors"][0]["type"]) == (200, 1, kind)


def test_an_unknown_method(caller: Caller) -> None:
    response = caller("send", Request("nobody"))
    assert type(response.error) is rpcretry.MethodNotFoundError
    assert (response.status, response.error.status) == (200, 200)


def test_an_error_with_data(server: Uvicorn, caller: Caller) -> None:
    amount = 30 + KINDS.index(caller.kind)
    with pytest.raises(JsonRpcError, match=r"not enough money \[5000\]") as caught:
        caller("call", "withdraw", amount=amount)
    assert (caught.value.code, caught.value.data, caught.value.status) == (5000, {"missing": amount}, 200)
    assert caught.value.delivery is Delivery.MAYBE_EXECUTED
    assert server.executed("withdraw", str(amount)) == {str(amount): 1}


def test_a_code_that_is_named_is_tried_again(server: Uvicorn, caller: Caller) -> None:
    amount = 40 + KINDS.index(caller.kind)
    response = caller("send", Request("withdraw", {"amount": amount}), _retry_strategy=RetryStrategy(codes={5000}, backoff=SOON))
    assert (response.error.code, response.attempts) == (5000, 4)
    assert server.executed("withdraw", str(amount)) == {str(amount): 4}


def test_a_method_that_raises_is_an_internal_error_and_not_tried_again(server: Uvicorn, caller: Caller) -> None:
    param = f"raises-{caller.kind}"
    with pytest.raises(rpcretry.InternalError) as caught:
        caller("call", "fail", param=param, _retry_strategy=RetryStrategy(idempotent=True, backoff=SOON))
    assert caught.value.status == 200
    assert server.executed("fail", param) == {param: 1}


def test_notifications(server: Uvicorn, caller: Caller) -> None:
    param = f"told-{caller.kind}"
    assert caller("notify", "pay", param=param) is None
    # It answers this one with an error, as it should not, and this one has no answer, and fails after that.
    assert caller("notify", "nobody") is None
    assert caller("notify", "fail", param=param) is None
    assert caller("call", "total", a=1) == 2
    until = time.monotonic() + 20
    while not server.executed("fail", param):
        assert time.monotonic() < until
        time.sleep(0.005)
    assert server.executed("pay", param) == {param: 1}


def test_a_batch(server: Uvicorn, caller: Caller) -> None:
    param = f"batch-{caller.kind}"
    told = Request("pay", {"param": f"{param}-told"}, id=None)
    right, unknown, no_money, paid = caller(
        "send",
        BatchRequest(
            Request("total", {"a": 1}), Request("nobody", id="x"), told, Request("withdraw", {"amount": 99}), Request("pay", {"param": f"{param}-paid"})
        ),
    )
    assert (right.result, unknown.error.code, unknown.id) == (2, -32601, "x")
    assert (no_money.error.code, no_money.error.data, paid.result) == (5000, {"missing": 99}, f"{param}-paid")
    until = time.monotonic() + 20
    while server.executed("pay", param).total() < 2:
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_path_without_an_entrypoint(server: Uvicorn) -> None:
    for kind in KINDS:
        with Caller(kind, server.url + "/nowhere", retry_strategy=READS) as lost:
            problem = lost.problem("call", "get", param="x")
        assert type(problem) is HTTPStatusError
        assert (problem.status, problem.delivery) == (404, Delivery.MAYBE_EXECUTED)
        assert "Not Found" in problem.excerpt


def test_fifty_at_once(server: Uvicorn, caller: Caller) -> None:
    params = [f"fifty-{caller.kind}-{number}" for number in range(300)]
    futures = [caller.submit("call", "pay", param=param) for param in params]
    assert [future.result(60) for future in futures] == params
    assert server.executed("pay", f"fifty-{caller.kind}-") == dict.fromkeys(params, 1)


def test_an_answer_that_comes_too_late_is_nobody_elses(caller: Caller) -> None:
    problem = caller.problem("call", "nap", seconds=0.2, _timeout=0.05)
    assert type(problem) is rpcretry.RequestTimeoutError
    assert problem.delivery is Delivery.MAYBE_EXECUTED
    for number in range(20):
        assert caller("call", "total", a=number) == number + 1


# --- idle connections ---


def idle_for(server: Uvicorn, seconds: float) -> None:
    """Gaps around the moment at which the server closes idle connections, many at once."""
    tallies = {kind: Tally() for kind in KINDS}
    with contextlib.ExitStack() as stack:
        idling = []
        for kind, tally in tallies.items():
            options: dict[str, Any] = {"timeout": 20, "retry_strategy": READS, "threads": 20}
            caller = stack.enter_context(Caller(kind, server.url, **options))
            idling += [(caller, tally, seconds - 0.05 + 0.005 * number) for number in range(20)]
        before = server.mark()
        pairs_of_calls(idling)
    paid, read = (server.since(before, method) for method in ("pay", "get"))
    for tally in tallies.values():
        assert len(tally.answered) + len(tally.failed) == 20
        # What was lost may have been executed, though not twice; what only reads was answered in the end.
        tally.check(paid + read, most=2)
        assert set(paid.values()) == {1}
        assert {(type(problem), getattr(problem, "delivery", None)) for problem in tally.failed.values()} <= {(ConnectionLostError, Delivery.MAYBE_EXECUTED)}


@pytest.mark.slow
def test_connections_that_idle_for_as_long_as_the_server_lets_them(server: Uvicorn) -> None:
    idle_for(server, 1.0)


@pytest.mark.slow
def test_connections_that_idle_for_the_five_seconds_of_uvicorns_default(tmp_path: Path) -> None:
    with Uvicorn(tmp_path, keep_alive=5) as by_default:
        idle_for(by_default, 5.0)


@pytest.mark.slow
def test_connections_that_were_closed_long_ago_are_not_used(server: Uvicorn) -> None:
    """Calls without a strategy, far apart: none is lost, whether the loop goes on between them, stands still or does not run."""

    def threads_and_tasks() -> None:
        with contextlib.ExitStack() as stack:
            callers = [stack.enter_context(Caller(kind, server.url, timeout=20)) for kind in KINDS]
            for number in range(2):
                time.sleep(1.4 * number)
                for caller in callers:
                    assert caller("call", "total", a=number) == number + 1

    def held_up() -> None:
        async def run() -> None:
            async with rpcretry.backends.aiohttp.Client(server.url, timeout=20) as client:
                for number in range(2):
                    time.sleep(1.4 * number)
                    assert await client.call("total", a=number) == number + 1

        asyncio.run(run())

    def from_call_to_call() -> None:
        with asyncio.Runner() as runner:
            client = rpcretry.backends.aiohttp.Client(server.url, timeout=20)
            for number in range(2):
                time.sleep(1.4 * number)
                assert runner.run(client.call("total", a=number)) == number + 1
            runner.run(client.aclose())

    problems: list[BaseException] = []

    def note(act: Any) -> None:
        try:
            act()
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=note, args=(act,)) for act in (threads_and_tasks, held_up, from_call_to_call)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []


# --- a restart ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_restart_while_calls_go_on(server: Uvicorn, number: signal.Signals) -> None:
    patient = RetryStrategy(idempotent={"get"}, backoff=PeriodicBackoff(1_000, interval=0.05))
    before = server.mark()
    with contextlib.ExitStack() as stack:
        reading, paying = [], []
        for kind in KINDS:
            caller = stack.enter_context(Caller(kind, server.url, timeout=20, retry_strategy=patient))
            hasty = stack.enter_context(Caller(kind, server.url, timeout=20))
            reading.append(stack.enter_context(Traffic(caller, "get", 2, prefix=kind)))
            paying.append(stack.enter_context(Traffic(hasty, "pay", 2, prefix=kind)))
        for traffic in reading + paying:
            traffic.passes(15)
        server.stop(number)
        until = time.monotonic() + 20
        for traffic in paying:
            while not any(isinstance(problem, ConnectError) for problem in [*traffic.tally.failed.values()]):
                assert time.monotonic() < until
                time.sleep(0.005)
        server.start()
        for traffic in reading + paying:
            traffic.passes(15)
    for traffic in reading:
        assert traffic.tally.failed == {}
        traffic.tally.check(server.since(before, "get"), most=2)
    for traffic in paying:
        traffic.tally.check(server.since(before, "pay"))
        assert {type(problem) for problem in traffic.tally.failed.values()} <= {ConnectError, ConnectionLostError}
