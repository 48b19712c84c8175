"""DESIGN, The engine: after give-up nothing keeps failed frames or responses alive, though the cycle collector sleeps."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
import weakref
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
import requests
import urllib3
from support import no_collector
from wire import Wire, both, closed_port, one, settles, user_session

from rpcretry.retry import PeriodicBackoff, RetryStrategy
from rpcretry.testing import RESET, SILENCE, Answer, LoopbackServer, Received
from rpcretry.testing.contract import waits
from rpcretry.transport import Exchange

owned_or_not = pytest.mark.parametrize("owned", [True, False], ids=["own session", "user's session"])
FAILURES: dict[str, Callable[[Received], Any]] = {
    "closed": lambda request: None,
    "reset": lambda request: RESET,
    "cut": lambda request: [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", None],
    "bad gzip": lambda request: Answer(b"no gzip", headers={"Content-Encoding": "gzip"}),
    "too large": lambda request: Answer(b" " * 2_000),
    "status": lambda request: Answer(b"<html>", 503),
    "redirect": lambda request: Answer(b"", 302, {"Location": "http://elsewhere.test/"}),
    "garbage": lambda request: Answer(b"<html>"),
}


class Param:
    """A value that the frames of a call hold."""


def failing(client: Wire, problems: list[BaseException], act: Callable[[], Any]) -> weakref.ref[Param]:
    """Put the failure of *act* into *problems*, caught where the caller of a client would."""

    async def wait() -> weakref.ref[Param]:
        param = Param()
        try:
            await act()
        except Exception as problem:
            problems.append(problem)
        return weakref.ref(param)

    if client.kind == "aiohttp":
        # In the loop: the frame of asyncio.Runner.run is in a cycle with what passes through it.
        return client.run(wait)  # type: ignore[no-any-return]
    param = Param()
    try:
        act()
    except Exception as problem:
        problems.append(problem)
    return weakref.ref(param)


def responses_alive(kind: str) -> list[Any]:
    kinds = (requests.Response, urllib3.HTTPResponse) if kind == "requests" else (aiohttp.ClientResponse,)
    return [item for item in gc.get_objects() if isinstance(item, kinds)]


def test_urllib3_keeps_the_frames_of_a_failure_in_a_cycle() -> None:
    """The fact that this is about."""

    def fail() -> weakref.ref[Param]:
        param = Param()
        kept = weakref.ref(param)
        with requests.Session() as session:
            with contextlib.suppress(requests.ConnectionError):
                session.post(f"http://127.0.0.1:{closed_port()}/", data=b"{}", timeout=5, hooks={"response": lambda *_, **__: param})
        return kept

    with no_collector():
        kept = fail()
        assert kept() is not None
    gc.collect()
    assert kept() is None


@both
@owned_or_not
@pytest.mark.parametrize("name", [*FAILURES, "refused"])
def test_nothing_is_alive_after_give_up(kind: str, owned: bool, name: str, caplog: pytest.LogCaptureFixture) -> None:
    # pytest keeps what is logged, and so the failures in it.
    caplog.set_level(logging.CRITICAL, "rpcretry")
    strategy = RetryStrategy(exceptions={Exception}, statuses=range(300, 600), backoff=PeriodicBackoff(attempts=1, interval=0.001))
    problems: list[BaseException] = []

    server = LoopbackServer(FAILURES.get(name, one))
    url = f"http://127.0.0.1:{closed_port()}/" if name == "refused" else server.url
    options: dict[str, Any] = {"retry_strategy": strategy, "max_response_size": 1_000}
    with server, Wire(kind, url, session=None if owned else user_session(kind), **options) as client:
        failing(client, problems, lambda: client.client.call("m"))
        problems.clear()
        with no_collector():
            before = len(responses_alive(kind))
            kept = failing(client, problems, lambda: client.client.call("m"))
            assert len(problems) == 1
            problems.clear()
            client.run(lambda: asyncio.sleep(0.005) if kind == "aiohttp" else None)
            assert kept() is None, "a frame of the call is still alive"
            if (kind, name) == ("aiohttp", "bad gzip"):
                # A response whose body failed before anybody read it is in a cycle with its own stream; no frame is.
                gc.collect()
            assert len(responses_alive(kind)) <= before, "a response is still alive"


@both
@owned_or_not
@waits
def test_nothing_is_alive_after_a_timeout(kind: str, owned: bool) -> None:
    problems: list[BaseException] = []
    with LoopbackServer(lambda request: [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", SILENCE]) as server:
        with Wire(kind, server.url, session=None if owned else user_session(kind)) as client:

            def exchange() -> Any:
                return client.client.backend.exchange(Exchange(b"{}", ends_by=time.monotonic() + 0.04))

            failing(client, problems, exchange)
            problems.clear()
            with no_collector():
                before = len(responses_alive(kind))
                kept = failing(client, problems, exchange)
                assert len(problems) == 1
                problems.clear()
                client.run(lambda: asyncio.sleep(0.005) if kind == "aiohttp" else None)
                assert kept() is None, "a frame of the call is still alive"
                assert len(responses_alive(kind)) <= before, "a response is still alive"


@both
def test_a_failure_that_is_kept_keeps_no_body(kind: str) -> None:
    """Its traceback holds our frames; what they read so far is let go of."""
    size = 30_000_000
    answer = [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b" " * size, None]
    with LoopbackServer(lambda request: answer) as server, Wire(kind, server.url, max_response_size=size // 2) as client:
        problem = client.problem()
        frames = []
        trace = problem.__traceback__
        while trace is not None:
            frames.append(trace.tb_frame)
            trace = trace.tb_next
        held = [value for frame in frames for value in frame.f_locals.values()]
        sizes = [len(value) for value in held if isinstance(value, bytes)]
        sizes += [sum(map(len, value)) for value in held if isinstance(value, list) and all(isinstance(item, bytes) for item in value)]
        assert max(sizes, default=0) < 1_000_000


@both
@owned_or_not
def test_no_response_is_left_unread_on_a_pooled_connection(kind: str, owned: bool) -> None:
    """aiohttp_retry never released what it retried, so its pool hung."""
    bad = [Answer(b" " * 100_000, 503), Answer(b" " * 100_000, 302, {"Location": "http://elsewhere.test/"}), Answer(b"<" * 100_000)] * 3
    answers = list(bad)
    strategy = RetryStrategy(exceptions={Exception}, statuses=range(300, 600), backoff=PeriodicBackoff(attempts=len(bad), interval=0.001))

    def make() -> Any:
        if kind == "aiohttp":
            return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1))
        session = requests.Session()
        session.mount("http://", requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=1, pool_block=True))
        return session

    options: dict[str, Any] = {"session": make} if not owned else {"limit": 1} if kind == "aiohttp" else {}
    with LoopbackServer(lambda request: answers.pop(0) if answers else one(request)) as server:
        with Wire(kind, server.url, retry_strategy=strategy, **options) as client:
            assert client.call("m", 1) == [1]
            assert len(server.requests) == len(bad) + 1
            assert settles(lambda: server.open_connections <= 1)
