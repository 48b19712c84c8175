"""Issue 5: the mock of servers: what replies to what, what is recorded, and what fails a test."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import datetime
import decimal
import enum
import math
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import ANY

import aiohttp
import pytest
from support import both_drivers, finish

from rpcretry import (
    UNSET,
    AsyncClient,
    Client,
    ClientClosedError,
    ConnectError,
    ConnectionLostError,
    DeadlineExceeded,
    Delivery,
    Fallback,
    HTTPStatusError,
    InvalidParamsError,
    JsonRpcError,
    MissingResponseError,
    ProtocolError,
    Request,
    RequestTimeoutError,
    RetryStrategy,
)
from rpcretry.backends.aiohttp import AiohttpBackend
from rpcretry.backends.aiohttp import Client as AiohttpClient
from rpcretry.backends.requests import Client as RequestsClient
from rpcretry.backends.requests import RequestsBackend
from rpcretry.functions import retry
from rpcretry.retry import ExponentialBackoff
from rpcretry.testing import LoopbackServer, RpcMock, UnexpectedCall, VirtualTime, error, http, including, result, rpc, took
from rpcretry.transport import STAND_INS, Exchange, Reply

URL = "http://mocked.test/rpc"
STRATEGY = RetryStrategy(exceptions={ConnectionError, TimeoutError}, codes={-32005}, statuses={503}, backoff=ExponentialBackoff(attempts=3, base=0.1))

Made = Callable[..., Any]


@pytest.fixture
def mock() -> Iterator[RpcMock]:
    """One that verifies nothing in the end."""
    mock = RpcMock()
    with mock._active():
        yield mock


@pytest.fixture(params=["own sync", "own async", "requests", "aiohttp"])
def made(request: pytest.FixtureRequest, mock: RpcMock) -> Made:
    """Makes clients of each kind that a mock answers."""
    kinds: dict[str, Made] = {
        "own sync": mock.client,
        "own async": mock.async_client,
        "requests": lambda **options: RequestsClient(URL, **options),
        "aiohttp": lambda **options: AiohttpClient(URL, **options),
    }
    return kinds[request.param]


def called(client: Any, method: str, *args: Any, **params: Any) -> Any:
    return finish(lambda: client.call(method, *args, **params))


# --- replies ---


def test_a_reply_that_is_alone_is_good_for_any_number_of_calls(mock: RpcMock, made: Made) -> None:
    mock.on("sum").returns(3)
    client = made()
    assert [called(client, "sum", 1, 2) for _ in range(3)] == [3, 3, 3]
    assert mock.calls == [("sum", [1, 2])] * 3


def test_fail_twice_then_succeed(mock: RpcMock, made: Made) -> None:
    mock.on("sum").raises(ConnectError, times=2).then.returns(3)
    assert called(made(retry_strategy=STRATEGY), "sum", 1, 2) == 3
    assert mock.time.delays == [0.1, 0.2]
    assert [call.exchange for call in mock.calls] == [1, 2, 3]
    mock.verify()


def test_a_sequence_that_is_used_up_fails(mock: RpcMock, made: Made) -> None:
    mock.on("sum").returns(1).then.returns(2)
    client = made()
    assert [called(client, "sum"), called(client, "sum")] == [1, 2]
    with pytest.raises(UnexpectedCall, match=r"^unexpected call: sum without params; sum with any params was expected 2 times, and this is one more$"):
        called(client, "sum")


def test_times_none_is_for_all_that_are_left(mock: RpcMock) -> None:
    mock.on("sum").error(-32005, times=2).then.returns(3, times=None)
    client = mock.client(retry_strategy=STRATEGY)
    assert [client.call("sum") for _ in range(3)] == [3, 3, 3]
    with pytest.raises(ValueError, match=r"^sum with any params: the reply before has times=None, so that this one would never come$"):
        mock.on("sum").returns(1, times=None).then.returns(2)


def test_an_error_is_raised_as_the_class_of_its_code(mock: RpcMock, made: Made) -> None:
    mock.on("pay").error(-32602, "no such account", data={"account": 7})
    with pytest.raises(InvalidParamsError, match="no such account") as raised:
        called(made(), "pay", 7)
    assert raised.value.data == {"account": 7}


def test_an_error_without_data_has_none(mock: RpcMock) -> None:
    mock.on("pay").error(2001)
    with pytest.raises(JsonRpcError) as raised:
        mock.client().call("pay")
    assert (raised.value.code, raised.value.data) == (2001, UNSET)


def test_an_error_may_come_within_an_http_error(mock: RpcMock) -> None:
    mock.on("pay").error(2001, status=500, headers={"X-Trace": "7"})
    response = mock.client().send(Request("pay"))
    assert response.error is not None
    assert (response.error.code, response.status, response.headers["x-trace"]) == (2001, 500, "7")


def test_an_http_status_and_its_hint(mock: RpcMock, made: Made) -> None:
    mock.on("sum").http(503, headers={"Retry-After": "2"}).then.returns(3)
    assert called(made(retry_strategy=STRATEGY), "sum") == 3
    assert mock.time.delays == [2]
    mock.on("gone").http(404, b"<html>")
    with pytest.raises(HTTPStatusError, match="404"):
        called(made(), "gone")


def test_an_exception_is_raised_anew_for_each_call(mock: RpcMock, made: Made) -> None:
    problem = ConnectionLostError("reset", delivery=Delivery.NOT_SENT)
    mock.on("sum").raises(problem)
    found = []
    for _ in range(2):
        with pytest.raises(ConnectionLostError, match="reset") as raised:
            called(made(), "sum")
        found.append(raised.value)
    assert found[0] is not found[1]
    assert problem not in found
    assert {one.delivery for one in found} == {Delivery.NOT_SENT}


def test_a_json_rpc_error_that_is_raised_is_answered(mock: RpcMock) -> None:
    class OutOfStock(JsonRpcError):
        CODE = 2001

    mock.on("buy").raises(OutOfStock("sold", data={"days": 3}))
    mock.on("sell").raises(OutOfStock)
    client = mock.client(errors=[OutOfStock])
    with pytest.raises(OutOfStock, match="sold") as raised:
        client.call("buy")
    assert raised.value.data == {"days": 3}
    with pytest.raises(OutOfStock, match="OutOfStock of the mock"):
        client.call("sell")


def test_a_function_gets_the_params_as_they_were_sent(mock: RpcMock, made: Made) -> None:
    mock.on("sum").calls(lambda a, b=10: a + b)
    client = made()
    assert (called(client, "sum", 1, 2), called(client, "sum", a=3, b=4), called(client, "sum", 5)) == (3, 7, 15)


def test_what_a_function_raises_is_raised(mock: RpcMock) -> None:
    troubles: list[Exception] = [ConnectError("down"), JsonRpcError("busy", code=-32005)]

    def work() -> str:
        if troubles:
            raise troubles.pop(0)
        return "done"

    mock.on("work").calls(work)
    assert mock.client(retry_strategy=STRATEGY).call("work") == "done"
    assert len(mock.calls) == 3


def test_params_that_a_function_does_not_take_fail_the_test(mock: RpcMock) -> None:
    mock.on("sum").calls(lambda a, b: a + b)
    with pytest.raises(UnexpectedCall, match=r"^sum with params \[1\] does not fit the function given to calls, which takes \(a, b\): missing a required"):
        mock.client().call("sum", 1)
    with pytest.raises(AssertionError, match="does not fit the function"):
        mock.verify()


def test_an_assertion_in_a_function_fails_the_test_whatever_catches_it(mock: RpcMock) -> None:
    def check(amount: int) -> None:
        assert amount < 100, "too much"

    mock.on("pay").calls(check)
    with pytest.raises(UnexpectedCall, match="an assertion failed in a function that the mock was given: too much"):
        mock.client(fallback=Fallback(lambda: None)).call("pay", 200)
    with pytest.raises(AssertionError, match="too much"):
        mock.verify()


def test_what_no_json_can_carry_is_refused(mock: RpcMock) -> None:
    with pytest.raises(TypeError, match=r"^value must be one that JSON can carry: "):
        mock.on("get").returns(object())
    with pytest.raises(ValueError, match=r"^data must be one that JSON can carry: NaN"):
        mock.on("get").error(1, data=math.nan)
    mock.on("find").calls(lambda: {1, object()})
    with pytest.raises(UnexpectedCall, match=r"^find: what the function given to calls returns must be one that JSON can carry: "):
        mock.client().call("find")


def test_values_are_written_as_params_are(mock: RpcMock) -> None:
    @dataclasses.dataclass
    class User:
        id: int
        tags: list[str]

    user = User(1, ["a"])
    mock.on("get").returns([user])
    user.tags.append("changed later")
    assert mock.client().call("get") == [{"id": 1, "tags": ["a"]}]


def test_items_of_the_scripted_backend(mock: RpcMock, made: Made) -> None:
    mock.on("sum").replies(error(-32005), http(503), ConnectError("down"), took(mock.time, 5, result(3)))
    assert called(made(retry_strategy=STRATEGY), "sum") == 3
    assert mock.time.delays == [0.1, 0.2, 0.4]
    mock.verify()


def test_an_item_that_is_none_fails(mock: RpcMock) -> None:
    mock.on("sum").replies(lambda exchange: 3)
    with pytest.raises(UnexpectedCall, match="must return a Reply or an exception, it returned 3"):
        mock.client().call("sum")


def test_a_request_that_is_not_answered(mock: RpcMock) -> None:
    mock.on("sum").unanswered()
    with pytest.raises(ProtocolError):
        mock.client().call("sum")


def test_a_notification_is_a_call_as_any_other(mock: RpcMock, made: Made) -> None:
    mock.on("tick").returns("nobody reads it")
    finish(lambda: made().notify("tick", 1))
    (call,) = mock.calls
    assert (call, call.is_notification, call.id) == (("tick", [1]), True, None)
    with pytest.raises(UnexpectedCall, match="did you mean tick"):
        finish(lambda: made().notify("tock"))


# --- matching ---


@pytest.mark.parametrize(
    ("params", "fits", "differs"),
    [
        ([1, 2], [1, 2], [1, 3]),
        ((1, [2, (3,)]), [1, [2, [3]]], [1, 2]),
        ({"a": 1}, {"a": 1}, {"a": 1, "b": 2}),
        (None, None, [1]),
        ([1, ANY], [1, "anything"], [2, 2]),
        (including(a=1), {"a": 1, "b": 2}, {"b": 2}),
        ([including(a=ANY)], [{"a": None, "b": 2}], [{"b": 2}]),
        (including(a=1), {"a": 1}, [1]),
        (lambda params: params[0] > 5, [6], [5]),
        (ANY, [1], NotImplemented),
    ],
)
def test_params_are_matched(mock: RpcMock, params: Any, fits: Any, differs: Any) -> None:
    mock.on("get", params=params).returns("found")
    client = mock.client()
    assert client.send(Request("get", **({} if fits is None else {"params": fits}))).result == "found"
    if differs is not NotImplemented:
        with pytest.raises(UnexpectedCall, match="get was expected with"):
            client.send(Request("get", params=differs))


def test_a_function_for_params_that_fails_fails_the_test(mock: RpcMock) -> None:
    mock.on("get", params=lambda params: len(params) > 1).returns(1)
    with pytest.raises(UnexpectedCall, match=r"^the function given as params for get raised TypeError\(.* for get without params$"):
        mock.client().call("get")


def test_dataclasses_match_what_they_are_sent_as(mock: RpcMock) -> None:
    @dataclasses.dataclass
    class Query:
        name: str

    mock.on("find", params=Query("a")).returns(1)
    assert mock.client().send(Request("find", params=Query("a"))).result == 1


def test_what_says_more_comes_first(mock: RpcMock) -> None:
    mock.on("get").returns("any")
    mock.on("get", params=[1]).returns("one")
    client = mock.client()
    assert (client.call("get", 1), client.call("get", 2)) == ("one", "any")


def test_what_ends_comes_first_in_order_and_what_does_not_is_replaced(mock: RpcMock) -> None:
    mock.on("get").returns("default")
    mock.on("get").returns("later default")
    mock.on("get").returns(1, times=1)
    mock.on("get").returns(2, times=1)
    client = mock.client()
    assert [client.call("get") for _ in range(4)] == [1, 2, "later default", "later default"]


def test_two_servers_by_url(mock: RpcMock) -> None:
    mock.on("name", url="http://one.test").returns("one")
    mock.on("name", url="http://two.test/rpc?key=secret").returns("two")
    assert RequestsClient("http://one.test/any/path").call("name") == "one"
    assert RequestsClient("http://two.test/rpc?key=secret").call("name") == "two"
    for url in ("http://three.test/", "http://two.test/other?key=secret", "http://two.test/rpc?key=wrong", "https://one.test/"):
        with pytest.raises(UnexpectedCall) as raised:
            RequestsClient(url).call("name")
        assert "name was expected with any params at " in str(raised.value)
        assert "secret" not in str(raised.value)
    with pytest.raises(UnexpectedCall, match="and this one went to a client of the mock's own"):
        mock.client().call("name")


def test_a_mock_for_each_server() -> None:
    with RpcMock(url="http://one.test") as one, RpcMock(url="http://two.test/rpc") as two:
        one.on("name").returns("one")
        two.on("name").returns("two")
        client = AiohttpClient("http://two.test/rpc")
        assert (RequestsClient("http://one.test/x").call("name"), called(client, "name")) == ("one", "two")
        assert one.client().call("name") == "one"
        assert (len(one.calls), len(two.calls)) == (2, 1)
        assert two.calls[0].url == "http://two.test/rpc"
        with pytest.raises(UnexpectedCall, match=r"^unexpected exchange with three\.test, for which no mock stands in$"):
            RequestsClient("http://user:password@three.test/secret").call("name")
        with pytest.raises(AssertionError, match=r"unexpected exchange with three\.test"):
            two.verify()
        two.reset()


# --- delays ---


def test_a_delay_is_cut_at_the_attempts_limit(mock: RpcMock, made: Made) -> None:
    mock.on("slow").after(60).returns(1)
    before = mock.time.now
    with pytest.raises(RequestTimeoutError) as raised:
        called(made(timeout=5), "slow")
    assert raised.value.delivery is Delivery.MAYBE_EXECUTED
    assert mock.time.now - before == pytest.approx(5)
    assert called(made(timeout=60), "slow") == 1
    assert mock.time.now - before == pytest.approx(65)
    # A reply that takes long is no wait of the client's.
    assert mock.time.delays == []


def test_a_deadline_is_kept_in_virtual_time(mock: RpcMock, made: Made) -> None:
    mock.on("slow").after(4).error(-32005)
    with pytest.raises(DeadlineExceeded):
        called(made(retry_strategy=STRATEGY, deadline=10), "slow")
    assert len(mock.calls) == 3


def test_a_server_that_hangs(mock: RpcMock, made: Made) -> None:
    mock.on("slow").hangs(times=1).then.returns(3)
    before = mock.time.now
    assert called(made(retry_strategy=STRATEGY), "slow") == 3
    assert mock.time.now - before == pytest.approx(30.1)
    mock.on("stuck").hangs()
    with pytest.raises(UnexpectedCall, match="the call has no time limit: it would wait for ever"):
        called(made(timeout=None), "stuck")


def test_a_delay_needs_a_reply(mock: RpcMock) -> None:
    mock.on("slow").after(5)
    with pytest.raises(UnexpectedCall, match=r"^slow with any params has no reply after its delay; add \.returns"):
        mock.client().call("slow")
    mock.on("none")
    with pytest.raises(UnexpectedCall, match=r"^none with any params has no reply; add \.returns"):
        mock.client().call("none")


def test_replies_to_tasks_take_their_time_together(mock: RpcMock) -> None:
    mock.on("slow").after(5).returns(1)
    mock.on("quick").after(1).returns(2)

    async def main() -> list[str]:
        done: list[str] = []
        client = AiohttpClient(URL)

        async def one(method: str) -> None:
            await client.call(method)
            done.append(method)

        await asyncio.gather(one("slow"), one("quick"), one("slow"))
        return done

    before = mock.time.now
    assert asyncio.run(main()) == ["quick", "slow", "slow"]
    assert mock.time.now - before == pytest.approx(5)


# --- batches ---


def batch_of(client: Any, fill: Callable[[Any], Any]) -> Any:
    async def run() -> Any:
        async with client.batch() as batch:
            return fill(batch)

    if hasattr(client, "close") and not asyncio.iscoroutinefunction(client.call) and not hasattr(client, "aclose"):
        with client.batch() as batch:
            return fill(batch)
    return asyncio.run(run())


def test_members_of_a_batch_are_matched_on_their_own(mock: RpcMock, made: Made) -> None:
    mock.on("a").returns(1)
    mock.on("b").error(5, "no")
    mock.on("c").unanswered()
    mock.on("tick").returns()

    def fill(batch: Any) -> Any:
        batch.notify("tick")
        return [batch.call(name) for name in ("b", "a", "c")]

    b, a, c = batch_of(made(), fill)
    assert a.result() == 1
    assert (b.error.code, type(c.error)) == (5, MissingResponseError)
    assert mock.calls == [("tick", None), ("b", None), ("a", None), ("c", None)]
    assert {call.exchange for call in mock.calls} == {1}
    assert [call.id for call in mock.calls] == [None, 1, 2, 3]


def test_a_member_that_fails_goes_again_alone(mock: RpcMock, made: Made) -> None:
    mock.on("a").returns(1)
    mock.on("b").error(-32005).then.returns(2)
    a, b = batch_of(made(retry_strategy=STRATEGY), lambda batch: [batch.call("a"), batch.call("b")])
    assert (a.result(), b.result()) == (1, 2)
    assert mock.calls == [("a", None), ("b", None), ("b", None)]


@pytest.mark.parametrize("problem", ["http", "raises", "hangs"])
def test_a_whole_exchange_fails(mock: RpcMock, problem: str) -> None:
    mock.on("a").returns(1)
    failing = mock.on("b")
    getattr(failing, problem)(*{"http": (503,), "raises": (ConnectError,), "hangs": ()}[problem], times=1).returns(2)
    with mock.client(retry_strategy=STRATEGY).batch() as batch:
        a, b = batch.call("a"), batch.call("b")
    assert (a.result(), b.result()) == (1, 2)
    assert [call.exchange for call in mock.calls] == [1, 1, 2, 2]


def test_a_batch_of_notifications_has_no_answer(mock: RpcMock) -> None:
    mock.on("tick").returns()
    with mock.client().batch() as batch:
        batch.notify("tick")
        batch.notify("tick")
    assert mock.calls == [("tick", None)] * 2


def test_headers_and_status_of_members_come_together(mock: RpcMock) -> None:
    mock.on("a").replies(result(1, headers={"X-A": "1"}))
    mock.on("b").error(5, status=500, headers={"X-B": "2"})
    with mock.client().batch() as batch:
        a, b = batch.call("a"), batch.call("b")
    assert a.result() == 1
    assert (b.error.status, b.error.headers["X-A"], b.error.headers["X-B"]) == (500, "1", "2")


def test_joined_calls_come_in_one_exchange(mock: RpcMock) -> None:
    mock.on("get").calls(lambda number: number * 10)

    async def main() -> list[int]:
        async with AiohttpClient(URL, joining=True) as client:
            return await asyncio.gather(*(client.call("get", number) for number in range(5)))

    assert asyncio.run(main()) == [0, 10, 20, 30, 40]
    assert {call.exchange for call in mock.calls} == {1}


def test_bulk(mock: RpcMock, made: Made) -> None:
    mock.on("get", params=[3]).raises(ConnectError, times=2).then.returns(30)
    mock.on("get").calls(lambda number: number * 10)
    client = made(retry_strategy=STRATEGY)
    found = finish(lambda: client.bulk([Request("get", params=[number]) for number in range(20)], concurrency=4).run())
    assert sorted(item.result for item in found.successful) == [number * 10 for number in range(20)]
    assert len(mock.calls) == 22
    mock.verify()


# --- clients that the code under test makes ---


def test_clients_made_before_and_after_and_what_they_were_made_with() -> None:
    seen: list[str] = []

    def middleware(exchange: Exchange, next: Callable[[Exchange], Reply]) -> Reply:
        seen.append("there")
        return next(exchange.with_headers({"X-Signed": "yes"}))

    class Around:
        def __init__(self, inner: RequestsBackend) -> None:
            self.inner = inner

        def exchange(self, exchange: Exchange) -> Reply:
            return self.inner.exchange(exchange)

        def close(self) -> None:
            self.inner.close()

    clients: list[Any] = [
        RequestsClient(URL, middlewares=middleware, headers={"X-Client": "1"}, auth=("user", "password")),
        Client(Around(RequestsBackend(URL))),
        AiohttpClient(URL, headers={"X-Client": "1"}),
        AiohttpClient(URL, joining=True),
    ]
    with RpcMock() as mock:
        mock.on("sum").returns(3)
        assert [called(client, "sum") for client in clients] == [3, 3, 3, 3]
        headers = [call.headers for call in mock.calls]
        assert (headers[0]["x-signed"], headers[0]["x-client"], headers[0]["authorization"][:6]) == ("yes", "1", "Basic ")
        assert headers[2]["X-Client"] == "1"
        assert seen == ["there"]
        assert {call.url for call in mock.calls} == {URL}


def test_after_the_context_nothing_stands_in() -> None:
    inner = RpcMock()
    with RpcMock() as outer:
        with inner:
            assert [stand_in.mock for stand_in in STAND_INS] == [outer, inner]  # type: ignore[attr-defined]  # those are mocks
        assert [stand_in.mock for stand_in in STAND_INS] == [outer]  # type: ignore[attr-defined]
    assert STAND_INS == []


def test_an_entry_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: VirtualTime) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(VirtualTime, "install", broken)
    with pytest.raises(ZeroDivisionError):
        RpcMock().__enter__()
    assert STAND_INS == []


def test_a_backend_that_somebody_wrapped_or_subclassed_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Mine(RequestsBackend):
        def exchange(self, exchange: Exchange) -> Reply:
            seen.append("subclass")
            return super().exchange(exchange)

    inner = AiohttpBackend.exchange

    async def traced(self: AiohttpBackend, exchange: Exchange) -> Reply:
        seen.append("wrapped")
        return await inner(self, exchange)

    monkeypatch.setattr(AiohttpBackend, "exchange", traced)
    with RpcMock() as mock:
        mock.on("sum").returns(3)
        assert (Client(Mine(URL)).call("sum"), called(AiohttpClient(URL), "sum")) == (3, 3)
    assert seen == ["subclass", "wrapped"]


def test_a_backend_that_is_closed_answers_nothing(mock: RpcMock) -> None:
    mock.on("sum").returns(3)
    backend = RequestsBackend(URL)
    backend.close()
    with pytest.raises(ClientClosedError):
        Client(backend).call("sum")

    async def main() -> None:
        backend = AiohttpBackend(URL)
        await backend.aclose()
        with pytest.raises(ClientClosedError):
            await AsyncClient(backend).call("sum")

    asyncio.run(main())
    assert mock.calls == []


def test_an_exchange_whose_time_is_over_is_not_sent(mock: RpcMock) -> None:
    mock.on("sum").returns(3)

    def slow(exchange: Exchange, go_on: Callable[[Exchange], Reply]) -> Reply:
        mock.time.advance(20)
        return go_on(exchange)

    for client in (RequestsClient(URL, timeout=10, middlewares=slow), mock.client(timeout=10, middlewares=slow)):
        with pytest.raises(RequestTimeoutError) as raised:
            client.call("sum")
        assert raised.value.delivery is Delivery.NOT_SENT
    assert mock.calls == []


def test_headers_of_a_session_of_ones_own_are_those_that_are_sent(mock: RpcMock) -> None:
    mock.on("sum").returns(3)

    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            await AiohttpClient(URL, session=session, headers={"X-Client": "1"}).call("sum", _headers={"X-Call": "2"})

    asyncio.run(main())
    (call,) = mock.calls
    assert [call.headers[name] for name in ("content-type", "x-client", "x-call")] == ["application/json", "1", "2"]


def test_an_exchange_that_passes_is_really_made(mock: RpcMock) -> None:
    mock.on("name").returns("mock")
    with LoopbackServer(rpc({"name": lambda: "server"})) as server, RequestsClient(server.url) as client:
        assert client.call("name") == "mock"
        mock.passes(server.url)
        assert client.call("name") == "server"

        async def main() -> Any:
            async with AiohttpClient(f"{server.url}any/path") as client:
                return await client.call("name")

        assert asyncio.run(main()) == "server"
        assert called(AiohttpClient(URL), "name") == "mock"
    assert len(mock.calls) == 2
    with pytest.raises(ValueError, match="url must be an absolute"):
        mock.passes("127.0.0.1")


def test_of_several_mocks_the_one_that_expects_the_method_answers() -> None:
    with RpcMock() as outer, RpcMock() as inner:
        outer.on("version").returns("1.0")
        inner.on("sum").returns(3)
        client = RequestsClient(URL)
        assert (client.call("version"), client.call("sum")) == ("1.0", 3)
        with pytest.raises(UnexpectedCall, match="expected are sum"):
            client.call("pay")
        with pytest.raises(AssertionError, match="pay"):
            inner.verify()
        inner.reset()


def test_a_mock_goes_by_the_time_that_is_installed(virtual_time: VirtualTime) -> None:
    with RpcMock() as mock:
        assert mock.time is virtual_time
        mock.on("sum").raises(ConnectError, times=1).then.returns(3)
        assert RequestsClient(URL, retry_strategy=STRATEGY).call("sum") == 3
    assert virtual_time.delays == [0.1]


def test_a_mock_may_be_entered_again_and_not_twice() -> None:
    mock = RpcMock()
    for _ in range(2):
        with mock:
            with pytest.raises(RuntimeError, match="entered already"):
                mock.__enter__()
            mock.on("sum").returns(3)
            assert RequestsClient(URL).call("sum") == 3


def test_without_a_context_the_mock_is_a_backend() -> None:
    mock = RpcMock()
    mock.on("sum").http(503).then.after(7).returns(3)
    assert mock.client(retry_strategy=STRATEGY).call("sum", 1) == 3
    assert mock.time.delays == [0.1]
    mock.on("slow").after(60).returns(3)
    with pytest.raises(TimeoutError):
        Client(mock.backend, timeout=5).call("slow")
    time = VirtualTime()
    mock = RpcMock(time=time)
    mock.on("slow").hangs()
    with pytest.raises(TimeoutError):
        mock.client(timeout=5).call("slow")
    assert time.now == 1_005


# --- what is recorded ---


def test_calls_compare_with_pairs(mock: RpcMock) -> None:
    mock.on("sum").returns(3)
    mock.on("tick").returns()
    client = mock.client(headers={"X-Client": "1"})
    client.call("sum", 1, 2)
    client.call("sum", a=1)
    client.notify("tick")
    assert mock.calls == [("sum", [1, 2]), ("sum", {"a": 1}), ("tick", None)]
    assert mock.calls_of("sum") == [("sum", [1, 2]), ("sum", {"a": 1})]
    assert mock.calls != [("sum", [1, 3])]
    assert repr(mock.calls[0]) == "('sum', [1, 2])"
    first, *_ = mock.calls
    assert (first.method, first.params, first.id, first.exchange, first.url, first.headers["x-client"]) == ("sum", [1, 2], 1, 1, None, "1")
    # What is done with the list is the test's own affair.
    mock.calls.clear()
    assert len(mock.calls) == 3


def test_assert_called_once_with(mock: RpcMock) -> None:
    mock.on("sum").returns(3)
    mock.on("tick").returns()
    client = mock.client()
    client.call("sum", 1, 2)
    mock.assert_called_once_with("sum", 1, 2)
    mock.assert_called_once_with("sum", 1, ANY)
    with pytest.raises(AssertionError) as raised:
        mock.assert_called_once_with("sum", 1, 3)
    assert str(raised.value) == "wanted one call of sum with params [1, 3]\nand it was one of   sum with params [1, 2]"
    with pytest.raises(AssertionError) as raised:
        mock.assert_called_once_with("tick")
    assert str(raised.value) == "tick was to be called once, and was called not at all; the calls were:\n  1. sum with params [1, 2]"
    client.call("sum", a=1)
    with pytest.raises(AssertionError, match=r"called 2 times; the calls were:\n  1\. sum with params \[1, 2\]\n  2\. sum with params \{'a': 1\}$"):
        mock.assert_called_once_with("sum", 1, 2)
    client.send(Request("tick", params=[]))
    mock.assert_called_once_with("tick")
    with pytest.raises(TypeError, match="by position or by name"):
        mock.assert_called_once_with("sum", 1, b=2)


def test_assert_not_called(mock: RpcMock) -> None:
    mock.on("sum").returns(3)
    mock.assert_not_called()
    mock.client().call("sum", 1)
    mock.assert_not_called("pay")
    with pytest.raises(AssertionError, match=r"^nothing was to be called; the calls were:\n  1\. sum with params \[1\]$"):
        mock.assert_not_called()
    with pytest.raises(AssertionError, match=r"^sum was to be called;"):
        mock.assert_not_called("sum")


def test_assert_all_used(mock: RpcMock) -> None:
    mock.on("sum", params=[1]).returns(3)
    mock.on("pay").returns(1).then.returns(2)
    client = mock.client()
    client.call("pay")
    with pytest.raises(AssertionError) as raised:
        mock.assert_all_used()
    assert str(raised.value) == "not all replies were used:\n  sum with params [1]: never called\n  pay with any params: 1 of 2 used"
    with pytest.raises(AssertionError) as raised:
        mock.verify()
    assert str(raised.value) == "not all replies were used:\n  pay with any params: 1 of 2 used"
    mock.strict = False
    mock.verify()
    client.call("pay")
    client.call("sum", 1)
    mock.assert_all_used()


# --- what fails a test ---


def test_unexpected_calls_name_what_was_probably_meant(mock: RpcMock) -> None:
    def message(method: str, *params: Any) -> str:
        with pytest.raises(UnexpectedCall) as raised:
            mock.client().call(method, *params)
        return str(raised.value)

    assert message("sum", 1) == "unexpected call: sum with params [1]; no calls are expected; write rpc_mock.on('sum').returns(...)"
    mock.on("sum", params=[1, 3]).returns(3)
    assert message("sum", 1, 2) == "unexpected call: sum with params [1, 2]; sum was expected with params [1, 3]"
    mock.on("sum", params=[100, 200, 300]).returns(3)
    assert message("sum", 1, 2).endswith("; sum was expected with params [1, 3] or with params [100, 200, 300]")
    mock.on("sum", params=lambda params: False).returns(3)
    assert "with params for which <lambda> is true" in message("sum", 1, 2)
    mock.on("get_price").returns(1)
    assert message("get_prise") == "unexpected call: get_prise without params; did you mean get_price? Expected are sum, get_price"
    assert len(message("sum", "x" * 10_000)) < 600


def test_long_params_are_told_apart_by_the_first_place_that_differs(mock: RpcMock) -> None:
    wanted = {"customer": "x" * 400, "items": [{"sku": 1, "qty": 2}], "note": None}
    mock.on("order", params=wanted).returns(1)
    client = mock.client()
    sent: list[tuple[Any, str]] = [
        ({**wanted, "items": [{"sku": 1, "qty": 1}]}, "params['items'][0]['qty']: 1, expected 2"),
        ({**wanted, "items": []}, "params['items'] has 0 items, expected 1"),
        ({**wanted, "note": 5}, "params['note']: 5, expected None"),
        ({**wanted, "more": 5}, "params['more'] was not expected"),
        ({**wanted, "customer": "x" * 399 + "y"}, "params['customer'] from character 389: 'xxxxxxxxxxy', expected 'xxxxxxxxxxx'"),
        ({"customer": "x" * 400, "note": None}, "params['items'] is missing"),
        ([wanted], "params: [{'customer': "),
    ]
    for params, place in sent:
        with pytest.raises(UnexpectedCall) as raised:
            client.send(Request("order", params=params))
        assert f"; they differ at {place}" in str(raised.value)
    mock.reset()
    mock.on("order").returns(1)
    client.send(Request("order", params={**wanted, "note": 7}))
    with pytest.raises(AssertionError, match=r"\nthey differ at params\['note'\]: 7, expected None$"):
        mock.assert_called_once_with("order", **wanted)


def test_of_many_methods_the_nearest_are_listed(mock: RpcMock) -> None:
    for number in range(500):
        mock.on(f"get_thing_{number}").returns(1)
    with pytest.raises(UnexpectedCall) as raised:
        mock.client().call("eth_getBalance")
    assert "did you mean" not in str(raised.value)
    assert str(raised.value).endswith("and 490 more")
    assert len(str(raised.value)) < 400
    with pytest.raises(UnexpectedCall, match=r"did you mean get_thing_7\? Expected are get_thing_7, "):
        mock.client().call("get_thing_7x")


def test_a_url_that_is_another_one_of_the_same_host(mock: RpcMock) -> None:
    mock.on("name", url="http://two.test:80/rpc").returns(2)
    assert RequestsClient("http://two.test/rpc").call("name") == 2
    for url, part in (("http://two.test/rpc/", "path"), ("https://two.test/rpc", "scheme")):
        with pytest.raises(UnexpectedCall, match=f"and this one went to another {part} of two.test$"):
            RequestsClient(url).call("name")
    mock.on("say", params=["look at me"]).returns(2)
    with pytest.raises(UnexpectedCall) as raised:
        mock.client().call("say", "no")
    assert "went to" not in str(raised.value)


def test_models_and_dates_match_at_any_depth(mock: RpcMock) -> None:
    @dataclasses.dataclass
    class Query:
        name: str
        day: datetime.date

    query = Query("a", datetime.date(2026, 11, 22))
    mock.on("find", params=[query]).returns(1)
    mock.on("find", params={"q": query, "rest": ANY}).returns(2)
    client = mock.client()
    assert client.call("find", query) == 1
    mock.assert_called_once_with("find", query)
    assert client.call("find", q=query, rest=[decimal.Decimal("1.5")]) == 2
    mock.on("pay", params=[decimal.Decimal("1.5"), Colour.RED]).returns(3)
    assert client.call("pay", decimal.Decimal("1.5"), Colour.RED) == 3


class Colour(enum.Enum):
    RED = "red"


def test_a_function_for_params_gets_a_copy(mock: RpcMock) -> None:
    mock.on("get", params=lambda params: params.pop() == 1).returns(3)
    assert mock.client().call("get", 1) == 3
    assert mock.calls == [("get", [1])]


def test_calls_are_copied_and_pickled(mock: RpcMock) -> None:
    mock.on("sum").returns(3)
    mock.client(headers={"X-Client": "1"}).call("sum", 1)
    mock.client().notify("sum")
    for calls in (copy.deepcopy(mock.calls), pickle.loads(pickle.dumps(mock.calls))):
        assert calls == [("sum", [1]), ("sum", None)]
        assert [(call.method, call.params, call.id, call.is_notification, call.exchange, call.url) for call in calls] == [
            ("sum", [1], 1, False, 1, None),
            ("sum", None, None, True, 2, None),
        ]
        assert calls[0].headers["x-client"] == "1"


def test_an_error_with_data_of_null_sends_it(mock: RpcMock) -> None:
    mock.on("pay").error(2001, data=None)
    with pytest.raises(JsonRpcError) as raised:
        mock.client().call("pay")
    assert raised.value.data is None


def test_a_reply_that_was_forgotten_is_told(mock: RpcMock) -> None:
    mock.on("x")
    mock.on("slow").returns(1).after(5)
    for check in (mock.verify, mock.assert_all_used):
        with pytest.raises(AssertionError) as raised:
            check()
        assert "\n  x with any params: its reply is missing; add .returns(...)" in str(raised.value)
        assert "\n  slow with any params: its reply is missing" in str(raised.value)


def test_what_a_bare_except_swallows_fails_the_test(mock: RpcMock, caplog: pytest.LogCaptureFixture) -> None:
    def failing_test(*_: Any) -> None:
        pytest.fail("not like this")

    mock.on("stuck").hangs()
    mock.on("check").calls(failing_test)
    for method, message in (("stuck", "it would wait for ever"), ("check", "not like this")):
        with contextlib.suppress(BaseException):
            mock.client(timeout=None).call(method)
        with pytest.raises(AssertionError, match=message):
            mock.verify()
        # At once, since a worker that died of it may hold up the test's end.
        assert message in caplog.text


def test_a_call_of_a_mocks_own_client_within_another_exchange_keeps_its_limits(mock: RpcMock) -> None:
    mock.on("token").hangs()
    mock.on("sum").returns(3)
    mock.time.advance(1_000)
    own, own_async = mock.client(timeout=5), mock.async_client(timeout=5)
    took: list[float] = []

    def sign(exchange: Exchange, go_on: Callable[[Exchange], Reply]) -> Reply:
        before = mock.time.now
        with pytest.raises(TimeoutError):
            own.call("token")
        took.append(mock.time.now - before)
        return go_on(exchange)

    async def sign_async(exchange: Exchange, go_on: Callable[[Exchange], Any]) -> Reply:
        before = mock.time.now
        with pytest.raises(TimeoutError):
            await own_async.call("token")
        took.append(mock.time.now - before)
        found: Reply = await go_on(exchange)
        return found

    assert RequestsClient(URL, middlewares=sign).call("sum") == 3
    assert called(AiohttpClient(URL, middlewares=sign_async), "sum") == 3
    assert took == pytest.approx([5, 5])


def test_an_unexpected_call_is_swallowed_by_nobody_and_retried_by_nobody(mock: RpcMock, made: Made) -> None:
    client = made(retry_strategy=RetryStrategy(exceptions={Exception}), fallback=Fallback(lambda: "stand-in"))
    for act in (lambda: called(client, "sum"), retry(on=Exception, max_attempts=None)(lambda: called(client, "sum"))):
        mock.reset()
        with pytest.raises(UnexpectedCall):
            act()
        assert len(mock.calls) == 1


def test_one_that_was_swallowed_is_told_in_the_end() -> None:
    def swallowing(client: Client) -> None:
        for _ in range(3):
            try:
                client.call("smu", 1, 2)
            except BaseException:
                continue

    mock = RpcMock()
    mock.on("sum").returns(3)
    with pytest.raises(AssertionError) as raised, mock:
        swallowing(mock.client())
    assert str(raised.value) == "unexpected call: smu with params [1, 2]; did you mean sum? Expected are sum"


def test_what_a_failing_test_says_itself_is_not_said_again() -> None:
    mock = RpcMock()
    mock.on("sum").returns(1).then.returns(2)
    with pytest.raises(UnexpectedCall) as raised, mock:
        mock.client().call("smu")
    assert not hasattr(raised.value, "__notes__")
    mock = RpcMock()
    with pytest.raises(ZeroDivisionError) as other, mock:
        with pytest.raises(UnexpectedCall):
            mock.client().call("smu")
        1 / 0
    assert other.value.__notes__ == [str(mock._unexpected[0])]


def test_in_threads_it_comes_out_of_the_bulk(mock: RpcMock) -> None:
    with pytest.raises(UnexpectedCall):
        mock.client().bulk([Request("get", params=[number]) for number in range(50)], concurrency=4).run()


def test_joined_callers_hear_of_it_and_the_test_fails(mock: RpcMock) -> None:
    mock.on("a").returns(1)

    async def main() -> list[Any]:
        client = mock.async_client(joining=True)
        return await asyncio.gather(client.call("a"), client.call("b"), return_exceptions=True)

    assert all(isinstance(found, BaseException) for found in asyncio.run(main()))
    with pytest.raises(AssertionError, match="unexpected call: b without params"):
        mock.verify()


def test_a_body_that_is_no_json_is_told_so(mock: RpcMock) -> None:
    client = mock.client(middlewares=lambda exchange, go_on: go_on(Exchange(b"packed", exchange.requests, exchange.ids)))
    with pytest.raises(UnexpectedCall, match="the mock reads JSON"):
        client.call("sum")


@both_drivers
def test_threads_use_replies_up_once(driver: str) -> None:
    mock = RpcMock()
    mock.on("next").replies(*(result(number) for number in range(200)))
    found: list[int] = []

    def work() -> None:
        client: Any = mock.client() if driver == "sync" else mock.async_client()
        found.extend(called(client, "next") for _ in range(25))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(200))
    mock.verify()


# --- bad input ---


@pytest.mark.parametrize(
    ("act", "kind", "message"),
    [
        (lambda mock: mock.on(7), TypeError, "method must be a str"),
        (lambda mock: mock.on("sum", params="abc"), TypeError, "params must be a list, a dict, None for none, or a function, got str 'abc'"),
        (lambda mock: mock.on("sum", params=lambda: True), TypeError, "params must be callable with 1 argument"),
        (lambda mock: mock.on("sum", url="mocked.test"), ValueError, "url must be an absolute http or https URL"),
        (lambda mock: mock.on("sum", url=7), TypeError, "url must be a str"),
        (lambda mock: mock.on("sum").returns(1, times=0), ValueError, "times must be at least 1"),
        (lambda mock: mock.on("sum").returns(1, times="2"), TypeError, "times must be an int"),
        (lambda mock: mock.on("sum").error("busy"), TypeError, r"code must be an int, got str 'busy'; for an HTTP status write http"),
        (lambda mock: mock.on("sum").http("503"), TypeError, "status must be an int"),
        (lambda mock: mock.on("sum").http(99999), ValueError, "status must be an HTTP status, 100 to 599, got 99999"),
        (lambda mock: mock.on("sum").http(503, "busy"), TypeError, "body must be bytes, got str 'busy'"),
        (lambda mock: mock.on("sum").http(503, headers={"Retry-After": 2}), TypeError, "headers must be a mapping from str to str, got int for 'Retry-After'"),
        (lambda mock: mock.on("sum").error(1, headers=5), TypeError, "headers must be a mapping from str to str, got int"),
        (lambda mock: mock.on("sum").error(1, status="500"), TypeError, "status must be an int, got str '500'"),
        (lambda mock: mock.on("sum").error(1, 5), TypeError, "message must be a str, got int 5"),
        (lambda mock: result(1, headers={"X": None}), TypeError, "headers must be a mapping from str to str, got NoneType for 'X'"),
        (lambda mock: mock.on("sum", params={1, 2}), TypeError, "params must be a list, a dict, None for none, or a function, got set"),
        (lambda mock: RpcMock(strict="no"), TypeError, "strict must be True or False, got str 'no'"),
        (lambda mock: mock.on("sum").raises("down"), TypeError, "raises takes an exception or its class, got 'down'"),
        (lambda mock: mock.on("sum").raises(KeyboardInterrupt), TypeError, "raises takes an exception"),
        (lambda mock: mock.on("sum").raises(UnicodeDecodeError), TypeError, "raises cannot make a UnicodeDecodeError of a message; give an instance"),
        (lambda mock: mock.on("sum").calls(3), TypeError, r"calls takes a function, got 3; for a value write \.returns\(value\)"),
        (lambda mock: mock.on("sum").calls(ConnectError), TypeError, r"for an exception \.raises"),
        (lambda mock: mock.on("sum").calls(asyncio.sleep), TypeError, "calls takes a plain function"),
        (lambda mock: mock.on("sum").after(-1), ValueError, "seconds must be at least 0"),
        (lambda mock: mock.on("sum").replies(), TypeError, "replies takes at least one item"),
        (
            lambda mock: mock.on("sum").replies(result(1), 3),
            TypeError,
            r"replies takes replies, exceptions and callables .*, got 3; for a value write result\(3\)",
        ),
        (lambda mock: RpcMock(time=5), TypeError, "time must be a VirtualTime"),
        (lambda mock: RpcMock(url="ftp://mocked.test"), ValueError, "url must be an absolute"),
        (lambda mock: mock.client(retries=3), TypeError, "has no parameter 'retries'"),
    ],
)
def test_bad_input_is_refused(act: Callable[[RpcMock], object], kind: type[Exception], message: str) -> None:
    mock = RpcMock()
    with pytest.raises(kind, match=message):
        act(mock)


def test_what_was_refused_has_added_nothing(mock: RpcMock) -> None:
    expectation = mock.on("sum")
    with pytest.raises(TypeError):
        expectation.replies(result(1), 3)  # type: ignore[arg-type]
    assert expectation.limit == 0
    assert repr(expectation) == "<Expectation: sum with any params, 0 of 0 used>"
