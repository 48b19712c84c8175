"""DESIGN, Errors: one tree on every backend, the builtins beside it, and the library's own exception behind it."""

from __future__ import annotations

import asyncio
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import pytest
import requests
from wire import Wire, both, closed_port, one, user_session

from rpcretry import (
    ConnectError,
    ConnectionLostError,
    HTTPStatusError,
    ProtocolError,
    RedirectError,
    RequestTimeoutError,
    TransportError,
)
from rpcretry.retry import PeriodicBackoff, RetryStrategy
from rpcretry.testing import RESET, SILENCE, Answer, LoopbackServer
from rpcretry.testing.contract import waits
from rpcretry.transport import Exchange

owned_or_not = pytest.mark.parametrize("owned", [True, False], ids=["own session", "user's session"])
NAMED: dict[str, list[type[Exception]]] = {
    "requests": [requests.ConnectionError, requests.RequestException],
    "aiohttp": [aiohttp.ClientError, aiohttp.ClientConnectionError],
}
OTHERS: dict[str, list[type[Exception]]] = {
    "requests": [aiohttp.ClientError, requests.Timeout, KeyError],
    "aiohttp": [requests.RequestException, aiohttp.ClientPayloadError, KeyError],
}


def tries(kind: str, exceptions: Any, owned: bool = True) -> int:
    """How many attempts a call makes of which all but the last are lost."""
    answers: list[Any] = [None, RESET]
    strategy = RetryStrategy(exceptions=exceptions, backoff=PeriodicBackoff(attempts=2, interval=0.001))
    with LoopbackServer(lambda request: answers.pop(0) if answers else one(request)) as server:
        with Wire(kind, server.url, retry_strategy=strategy, session=None if owned else user_session(kind)) as client:
            try:
                assert client.call("m", 1) == [1]
            except ConnectionLostError:
                assert len(server.requests) == 1
        return len(server.requests)


@both
@owned_or_not
def test_a_strategy_that_names_the_librarys_exception_matches_through_cause(kind: str, owned: bool) -> None:
    for named in NAMED[kind]:
        assert tries(kind, {named}, owned) == 3


@both
def test_a_strategy_that_names_another_does_not(kind: str) -> None:
    for named in OTHERS[kind]:
        assert tries(kind, {named}) == 1


@both
@owned_or_not
def test_the_builtins_match_on_both(kind: str, owned: bool) -> None:
    assert tries(kind, {ConnectionError, TimeoutError}, owned) == 3
    assert tries(kind, {ConnectionError}, owned) == 3
    assert tries(kind, {TimeoutError}, owned) == 1


@both
@waits
def test_a_timeout_matches_as_the_builtin_and_as_the_librarys(kind: str) -> None:
    library = {"requests": requests.Timeout, "aiohttp": TimeoutError}[kind]
    for named in (TimeoutError, library):
        answers: list[Any] = [SILENCE]
        strategy = RetryStrategy(exceptions={named}, backoff=PeriodicBackoff(attempts=1, interval=0.001))
        with LoopbackServer(lambda request, answers=answers: answers.pop(0) if answers else one(request)) as server:
            with Wire(kind, server.url, retry_strategy=strategy, timeout=0.1) as client:
                assert client.call("m", 1) == [1]


@both
@owned_or_not
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, ConnectionLostError),
        (RESET, ConnectionLostError),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", None], ConnectionLostError),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", None], ConnectionLostError),
        ([b"220 no http\r\n\r\n", None], ConnectionLostError),
        (Answer(b"no gzip", headers={"Content-Encoding": "gzip"}), ProtocolError),
        (Answer(b"<html>"), ProtocolError),
        (Answer(b""), ProtocolError),
        (Answer(b"<html>", 500), HTTPStatusError),
        (Answer(b"", 302, {"Location": "http://elsewhere.test/x"}), RedirectError),
    ],
    ids=["closed", "reset", "cut", "bad chunks", "no http", "bad gzip", "html", "empty", "status", "redirect"],
)
def test_what_each_bad_answer_raises(kind: str, owned: bool, answer: Any, expected: type[Exception]) -> None:
    with LoopbackServer(lambda request: answer) as server:
        with Wire(kind, server.url, session=None if owned else user_session(kind)) as client, pytest.raises(expected) as raised:
            client.call("m")
    assert type(raised.value) is expected
    copy = pickle.loads(pickle.dumps(raised.value))
    assert type(copy) is expected
    assert (str(copy), copy.delivery) == (str(raised.value), raised.value.delivery)
    if isinstance(raised.value, TransportError):
        assert type(raised.value.__cause__).__module__.split(".")[0] in ("requests", "urllib3", "aiohttp")
        assert "\n" not in str(raised.value)
        assert "220" not in str(raised.value)
    if expected is RedirectError:
        assert "elsewhere.test" in str(raised.value)


@both
def test_a_200_with_a_location_is_no_redirect_and_a_302_without_one_is_a_status(kind: str) -> None:
    def answer(request: Any) -> Answer:
        reply = one(request)
        reply.headers["Location"] = "http://elsewhere.test/"
        return reply

    with LoopbackServer(answer) as server, Wire(kind, server.url) as client:
        assert client.call("m", 1) == [1]
    with LoopbackServer(lambda request: Answer(b"<html>", 302)) as server, Wire(kind, server.url) as client:
        with pytest.raises(HTTPStatusError, match="302"):
            client.call("m")


@both
def test_messages_name_the_host_and_the_port(kind: str) -> None:
    port = closed_port()
    with Wire(kind, f"http://127.0.0.1:{port}/path") as client:
        problem = client.problem()
    assert type(problem) is ConnectError
    assert str(problem).startswith(f"no connection to 127.0.0.1:{port}: ")
    assert "path" not in str(problem)


@both
@waits
def test_each_caller_gets_an_instance_of_its_own(kind: str) -> None:
    async def together(backend: Any) -> list[Any]:
        return await asyncio.gather(*(backend.exchange(Exchange(b"{}")) for _ in range(5)), return_exceptions=True)

    def attempt(backend: Any) -> Any:
        with pytest.raises(ConnectError) as raised:
            backend.exchange(Exchange(b"{}", ends_by=time.monotonic() + 5))
        return raised.value

    with Wire(kind, f"http://127.0.0.1:{closed_port()}/") as client:
        backend = client.client.backend
        if kind == "aiohttp":
            problems = client.run(lambda: together(backend))
        else:
            with ThreadPoolExecutor(5) as pool:
                problems = list(pool.map(attempt, [backend] * 5))
    assert {type(problem) for problem in problems} == {ConnectError}
    assert len({id(problem) for problem in problems}) == 5


@both
@waits
def test_the_limit_of_an_attempt_is_the_timeout_of_the_call(kind: str) -> None:
    with LoopbackServer(lambda request: SILENCE) as server, Wire(kind, server.url) as client:
        with pytest.raises(RequestTimeoutError):
            client.call("m", _timeout=0.06)
