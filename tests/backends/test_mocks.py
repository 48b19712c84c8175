"""Issue 2, done 5: the backends work under the mocks that users have, responses and aioresponses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import pytest
import requests
import responses
from aioresponses import CallbackResult, aioresponses
from wire import Wire, both, user_session

from rpcretry import ConnectionLostError, Delivery, HTTPStatusError, InvalidParamsError, ProtocolError, RedirectError
from rpcretry.retry import PeriodicBackoff, RetryStrategy

URL = "http://mocked.test/rpc"
RESULT = {"jsonrpc": "2.0", "id": 1, "result": 3}
Mock = Callable[..., None]

owned_or_not = pytest.mark.parametrize("owned", [True, False], ids=["own session", "user's session"])


class Mocked:
    """Either library's mock: answers to POSTs of :data:`URL`, in order.

    :ivar sent: the bodies that were sent.
    """

    def __init__(self, kind: str, mock: Any) -> None:
        self.kind = kind
        self._mock = mock
        self.sent: list[Any] = []

    def answer(self, body: Any = "", status: int = 200, headers: dict[str, str] | None = None) -> None:
        text = body if isinstance(body, (str, bytes)) else json.dumps(body)
        if self.kind == "requests":

            def play(request: requests.PreparedRequest) -> Any:
                self.sent.append(json.loads(request.body or b""))
                return status, headers or {}, text

            self._mock.add_callback(responses.POST, URL, callback=play)
        else:

            def note(url: Any, **kwargs: Any) -> CallbackResult:
                self.sent.append(json.loads(kwargs["data"].decode()))
                return CallbackResult(status=status, body=text, headers=headers)

            self._mock.post(URL, callback=note)

    def fail(self, problem: Exception) -> None:
        if self.kind == "requests":
            self._mock.add(responses.POST, URL, body=problem)
        else:
            self._mock.post(URL, exception=problem)


@pytest.fixture
def mocked(kind: str) -> Iterator[Mocked]:
    if kind == "requests":
        with responses.RequestsMock() as mock:
            yield Mocked(kind, mock)
    else:
        with aioresponses() as mock:
            yield Mocked(kind, mock)


def wire(kind: str, owned: bool, **options: Any) -> Wire:
    return Wire(kind, URL, session=None if owned else user_session(kind), **options)


@both
@owned_or_not
def test_a_result(kind: str, owned: bool, mocked: Mocked) -> None:
    mocked.answer(RESULT, headers={"X-Kept": "yes"})
    with wire(kind, owned) as client:
        reply = client.run(lambda: client.client.call("sum", 1, 2))
    assert reply == 3
    assert mocked.sent == [{"jsonrpc": "2.0", "method": "sum", "params": [1, 2], "id": 1}]


@both
@owned_or_not
def test_status_and_headers(kind: str, owned: bool, mocked: Mocked) -> None:
    mocked.answer(b'"raw"', 418, {"X-Kept": "yes"})
    with wire(kind, owned) as client:
        reply = client.exchange()
    assert (reply.status, reply.body, reply.headers["x-kept"]) == (418, b'"raw"', "yes")


@both
@pytest.mark.parametrize(
    ("body", "status", "headers", "expected"),
    [
        ({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "no"}}, 200, None, InvalidParamsError),
        ({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "no"}}, 500, None, InvalidParamsError),
        ("<html>", 200, None, ProtocolError),
        ("", 200, None, ProtocolError),
        ("<html>", 502, None, HTTPStatusError),
        ("", 302, {"Location": "http://elsewhere.test/"}, RedirectError),
    ],
)
def test_what_a_mocked_answer_raises(kind: str, body: Any, status: int, headers: Any, expected: type[Exception], mocked: Mocked) -> None:
    mocked.answer(body, status, headers)
    with wire(kind, True) as client, pytest.raises(expected) as raised:
        client.call("m")
    assert raised.value.status == status  # type: ignore[attr-defined]


@both
@owned_or_not
def test_a_retried_code_then_a_result(kind: str, owned: bool, mocked: Mocked) -> None:
    mocked.answer({"jsonrpc": "2.0", "id": 1, "error": {"code": 2001, "message": "later"}})
    mocked.answer("<html>", 503)
    mocked.answer(RESULT)
    strategy = RetryStrategy(codes={2001}, statuses={503}, backoff=PeriodicBackoff(attempts=2, interval=0.001))
    with wire(kind, owned, retry_strategy=strategy) as client:
        assert client.call("m") == 3
    assert len(mocked.sent) == 3


@both
@owned_or_not
def test_an_exception_of_the_mocks_is_the_librarys(kind: str, owned: bool, mocked: Mocked) -> None:
    problem = {"requests": requests.ConnectionError("lost"), "aiohttp": aiohttp.ServerDisconnectedError("lost")}[kind]
    for named in ({ConnectionError}, {type(problem)}):
        mocked.fail(problem)
        mocked.answer(RESULT)
        strategy = RetryStrategy(exceptions=named, backoff=PeriodicBackoff(attempts=1, interval=0.001))
        with wire(kind, owned, retry_strategy=strategy) as client:
            assert client.call("m") == 3


@both
def test_an_exception_of_the_mocks_that_is_not_retried(kind: str, mocked: Mocked) -> None:
    problem = {"requests": requests.ConnectionError("lost"), "aiohttp": aiohttp.ServerDisconnectedError("lost")}[kind]
    mocked.fail(problem)
    with wire(kind, True) as client, pytest.raises(ConnectionLostError) as raised:
        client.call("m")
    assert raised.value.__cause__ is problem
    assert raised.value.delivery is Delivery.MAYBE_EXECUTED


@both
def test_a_timeout_of_the_mocks(kind: str, mocked: Mocked) -> None:
    mocked.fail({"requests": requests.ReadTimeout("slow"), "aiohttp": TimeoutError()}[kind])
    with wire(kind, True) as client, pytest.raises(TimeoutError):
        client.call("m")
