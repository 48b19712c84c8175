"""Middlewares: what stands around each attempt, what it may do, and that it decides nothing about retries."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import hmac
import inspect
import logging
import math
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from support import Recorder, Rig, Slow, both_drivers, finish, fresh, no_collector

import rpcretry.backends.aiohttp
import rpcretry.backends.requests
from rpcretry import (
    AsyncClient,
    BatchRequest,
    Client,
    ClientClosedError,
    ConnectError,
    ConnectionLostError,
    DeadlineExceeded,
    Delivery,
    HTTPStatusError,
    Request,
    RequestTimeoutError,
    RetryStrategy,
    current_attempt,
)
from rpcretry.retry import PeriodicBackoff
from rpcretry.retry.fallback import Fallback
from rpcretry.testing import Answer, AsyncScriptedBackend, LoopbackServer, Received, ScriptedBackend, error, http, result
from rpcretry.transport import Exchange, Reply

lost = fresh(ConnectionLostError("reset"))
unconnected = fresh(ConnectError("refused"))
EVERY = RetryStrategy(exceptions={Exception}, codes={2001}, backoff=PeriodicBackoff(2, 0.5))


def of(driver: str, before: Callable[[Exchange], Any] = lambda exchange: exchange, after: Callable[[Reply], Any] = lambda reply: reply) -> Any:
    """A middleware of the driver's kind. Where *before* gives a reply, the next step is not asked."""

    def plain(exchange: Exchange, next: Callable[[Exchange], Reply]) -> Any:
        given = before(exchange)
        return after(next(given) if isinstance(given, Exchange) else given)

    async def later(exchange: Exchange, next: Callable[[Exchange], Any]) -> Any:
        given = before(exchange)
        return after(await next(given) if isinstance(given, Exchange) else given)

    return plain if driver == "sync" else later


def noted(log: list[str], name: str, driver: str) -> Any:
    def before(exchange: Exchange) -> Exchange:
        log.append(f"{name} in")
        return exchange

    def after(reply: Reply) -> Reply:
        log.append(f"{name} out")
        return reply

    return of(driver, before, after)


WAYS = {
    "call": lambda client: client.call("m", 1),
    "notify": lambda client: client.notify("m", 1),
    "send": lambda client: client.send(Request("m", [1])),
    "batch": lambda client: client.send(BatchRequest(Request("m", [1]), Request("n"))),
}
every_way = pytest.mark.parametrize("way", WAYS)


# --- where they stand ---


@both_drivers
@every_way
def test_the_first_is_outermost_and_each_attempt_passes_through_all(driver: str, way: str) -> None:
    log: list[str] = []
    rig = Rig(driver, unconnected, result(1), retry_strategy=EVERY, middlewares=[noted(log, "a", driver), noted(log, "b", driver)])
    rig.run(WAYS[way])
    assert log == ["a in", "b in", "a in", "b in", "b out", "a out"]


@both_drivers
def test_one_several_and_none(driver: str) -> None:
    log: list[str] = []
    one = noted(log, "a", driver)
    for given, times in ((one, 1), ((one, one), 2), (iter([one]), 1), ([], 0), (None, 0)):
        log.clear()
        Rig(driver, result(1), middlewares=given).call("m")
        assert log.count("a in") == times


@both_drivers
def test_layers_stand_outside_and_are_settled_once(driver: str) -> None:
    log: list[str] = []
    layer = Recorder(log=log)
    rig = Rig(driver, lost, result(1), retry_strategy=EVERY, layers=layer, middlewares=noted(log, "a", driver))
    rig.call("m")
    assert log == ["layer.admit", "a in", "layer.judge", "layer.settle", "layer.admit", "a in", "a out", "layer.settle"]


@both_drivers
def test_views_have_those_of_their_client_and_its_backend_is_the_users(driver: str) -> None:
    log: list[str] = []
    rig = Rig(driver, result(1), middlewares=noted(log, "a", driver))
    view = rig.client.using(timeout=3)
    assert view.backend is rig.client.backend is rig.backend
    rig.run(lambda _: view.call("m"))
    assert log == ["a in", "a out"]


# --- what they may do ---


@both_drivers
@every_way
def test_headers_are_added_to_those_of_the_call(driver: str, way: str) -> None:
    numbers = iter(range(9))
    stamp = of(driver, lambda exchange: exchange.with_headers({"x-a": "middleware", "X-Number": str(next(numbers))}))
    rig = Rig(driver, lost, result(1), retry_strategy=EVERY, headers={"X-A": "client", "X-B": "client"}, idempotency_key=lambda: "k", middlewares=stamp)
    rig.run(WAYS[way])
    expected = {"x-a": "middleware", "X-B": "client", "Idempotency-Key": "k"}
    # Each attempt starts from the call's own headers.
    assert [dict(exchange.headers) for exchange in rig.backend.exchanges] == [{**expected, "X-Number": "0"}, {**expected, "X-Number": "1"}]


@both_drivers
def test_an_exchange_with_other_headers_is_the_same_otherwise(driver: str) -> None:
    seen: list[Exchange] = []
    rig = Rig(driver, result(1), timeout=7, middlewares=of(driver, lambda exchange: (seen.append(exchange), exchange.with_headers({"X": "1"}))[1]))
    rig.call("m")
    (before,), (after,) = seen, rig.backend.exchanges
    assert (before.headers, dict(after.headers)) == (None, {"X": "1"})
    assert (before.body, before.requests, before.ids, before.ends_by) == (after.body, after.requests, after.ids, after.ends_by)
    assert after.ends_by == 1_007


@both_drivers
def test_a_reply_may_be_changed(driver: str) -> None:
    rig = Rig(driver, error(-32601, status=404), middlewares=of(driver, after=lambda reply: Reply(b'{"jsonrpc":"2.0","id":1,"result":9}', 200, {"X": "y"})))
    response = rig.send(Request("m"))
    assert (response.result, response.status, response.headers["x"]) == (9, 200, "y")


@both_drivers
@every_way
def test_a_reply_without_the_next_step(driver: str, way: str) -> None:
    def cached(exchange: Exchange) -> Reply:
        return result("cached")(exchange)

    rig = Rig(driver, middlewares=of(driver, cached))
    found = rig.run(WAYS[way])
    assert {"call": found, "send": getattr(found, "result", None), "notify": "cached", "batch": "cached"}[way] == "cached"
    if way == "batch":
        assert found.results == ["cached"] * 2
    assert rig.sent == 0


def refreshing(driver: str, log: list[str]) -> Any:
    """The example of the docs: the token is fetched again where the server refuses it."""
    token = ["old"]

    if driver == "sync":

        def plain(exchange: Exchange, next: Callable[[Exchange], Reply]) -> Reply:
            reply = next(exchange.with_headers({"Authorization": token[0]}))
            if reply.status == 401:
                log.append("refresh")
                token[0] = "new"
                reply = next(exchange.with_headers({"Authorization": token[0]}))
            return reply

        return plain

    async def later(exchange: Exchange, next: Callable[[Exchange], Any]) -> Reply:
        reply: Reply = await next(exchange.with_headers({"Authorization": token[0]}))
        if reply.status == 401:
            log.append("refresh")
            token[0] = "new"
            reply = await next(exchange.with_headers({"Authorization": token[0]}))
        return reply

    return later


@both_drivers
def test_a_token_is_refreshed_within_one_attempt(driver: str) -> None:
    log: list[str] = []

    def guarded(exchange: Exchange) -> Reply:
        return result(1)(exchange) if (exchange.headers or {})["Authorization"] == "new" else http(401, b"")

    rig = Rig(driver, *[guarded] * 4, middlewares=refreshing(driver, log), watched=True)
    response = rig.send(Request("m"))
    assert (response.result, response.attempts, rig.sent) == (1, 1, 2)
    assert rig.call("m") == 1
    assert (rig.sent, log) == (3, ["refresh"])
    assert rig.told == ["AttemptStarted", "CallSucceeded"] * 2


@both_drivers
def test_a_token_that_stays_refused_is_the_calls_failure(driver: str) -> None:
    log: list[str] = []
    rig = Rig(driver, *[http(401)] * 2, retry_strategy=RetryStrategy(), middlewares=refreshing(driver, log))
    with pytest.raises(HTTPStatusError) as caught:
        rig.call("m")
    assert (caught.value.status, rig.sent, log) == (401, 2, ["refresh"])


@both_drivers
def test_what_a_middleware_raises_is_the_attempts_failure(driver: str) -> None:
    failures = iter([LookupError("first"), ConnectionLostError("second")])

    def fail(exchange: Exchange) -> Any:
        problem = next(failures, None)
        if problem is not None:
            raise problem
        return exchange

    layer = Recorder()
    rig = Rig(driver, result(1), retry_strategy=EVERY, middlewares=of(driver, fail), layers=layer)
    response = rig.send(Request("m"))
    assert (response.result, response.attempts, rig.sent) == (1, 3, 1)
    assert [type(outcomes[0].error) for outcomes in layer.outcomes] == [LookupError, ConnectionLostError, type(None)]


@both_drivers
def test_what_a_middleware_raises_ends_a_call_without_a_strategy_and_may_be_fallen_back_from(driver: str) -> None:
    def fail(exchange: Exchange) -> Any:
        raise LookupError("no key to sign with")

    rig = Rig(driver, middlewares=of(driver, fail))
    with pytest.raises(LookupError, match="no key to sign with"):
        rig.call("m")
    assert rig.call("m", _fallback=Fallback(0)) == 0
    with pytest.raises(LookupError):
        rig.send(BatchRequest(Request("a"), Request("b")))


@both_drivers
def test_an_outer_one_may_mend_what_an_inner_one_or_the_backend_raised(driver: str) -> None:
    spare = Reply(b'{"jsonrpc":"2.0","id":1,"result":"spare"}')
    outer: Any
    if driver == "sync":

        def outer(exchange: Exchange, next: Callable[[Exchange], Reply]) -> Reply:
            try:
                return next(exchange)
            except ConnectionLostError:
                return spare
    else:

        async def outer(exchange: Exchange, next: Callable[[Exchange], Any]) -> Reply:
            try:
                return await next(exchange)  # type: ignore[no-any-return]
            except ConnectionLostError:
                return spare

    rig = Rig(driver, lost, middlewares=[outer, noted([], "a", driver)])
    assert rig.call("m") == "spare"


@both_drivers
@pytest.mark.parametrize("nothing", [None, b"{}", {"result": 1}])
def test_one_that_returns_no_reply_is_told_so(driver: str, nothing: Any) -> None:
    rig = Rig(driver, result(1), middlewares=of(driver, after=lambda reply: nothing))
    with pytest.raises(TypeError, match="a middleware, must return a Reply, it returned"):
        rig.call("m")


# --- time ---


@both_drivers
def test_limits_are_the_attempts_whatever_passes_in_a_middleware(driver: str) -> None:
    ends: list[float] = []
    rig: Rig

    def slow(exchange: Exchange) -> Exchange:
        ends.append(exchange.ends_by - 1_000)
        rig.time.advance(1)
        return exchange

    rig = Rig(driver, lost, lost, lost, retry_strategy=EVERY, timeout=5, deadline=3, middlewares=[of(driver, slow)])
    with pytest.raises(DeadlineExceeded) as caught:
        rig.call("m")
    # Two attempts of 1 s each and a wait of 0.5 s; the next would start at 3 s.
    assert ends == [3, 3]
    assert (caught.value.attempts, isinstance(caught.value.__cause__, ConnectionLostError)) == (2, True)
    assert all(exchange.ends_by == 1_003 for exchange in rig.backend.exchanges)


@both_drivers
def test_a_second_exchange_of_one_attempt_has_what_is_left_of_its_limit(driver: str) -> None:
    rig = Rig(driver, Slow(4, http(401, b"")), Slow(4, result(1)), timeout=5, middlewares=refreshing(driver, []))
    with pytest.raises(RequestTimeoutError):
        rig.call("m")
    assert rig.time.now == 1_005
    assert [exchange.ends_by for exchange in rig.backend.exchanges] == [1_005] * 2


# --- the kinds that are refused ---


def plain(exchange: Exchange, next: Callable[[Exchange], Reply]) -> Reply:
    return next(exchange)


async def awaited(exchange: Exchange, next: Callable[[Exchange], Any]) -> Any:
    return await next(exchange)


class Plain:
    def __call__(self, exchange: Exchange, next: Callable[[Exchange], Reply]) -> Reply:
        return next(exchange)

    def sign(self, exchange: Exchange, next: Callable[[Exchange], Reply]) -> Reply:
        return next(exchange)


class Awaited:
    async def __call__(self, exchange: Exchange, next: Callable[[Exchange], Any]) -> Any:
        return await next(exchange)

    async def sign(self, exchange: Exchange, next: Callable[[Exchange], Any]) -> Any:
        return await next(exchange)


def with_key(key: str, exchange: Exchange, next: Callable[[Exchange], Any]) -> Any:
    return next(exchange.with_headers({"X-Key": key}))


async def awaited_with_key(key: str, exchange: Exchange, next: Callable[[Exchange], Any]) -> Any:
    return await next(exchange.with_headers({"X-Key": key}))


KINDS: dict[str, list[Any]] = {
    "sync": [plain, Plain(), Plain().sign, functools.partial(with_key, "k"), lambda exchange, go_on: go_on(exchange), lambda *both: both[1](both[0])],
    "async": [awaited, Awaited(), Awaited().sign, functools.partial(awaited_with_key, "k")],
}


@both_drivers
@pytest.mark.parametrize("index", range(6))
def test_every_kind_of_callable(driver: str, index: int) -> None:
    if index < len(KINDS[driver]):
        assert Rig(driver, result(1), middlewares=KINDS[driver][index]).call("m") == 1
    other = KINDS["async" if driver == "sync" else "sync"]
    if index < len(other):
        wanted = "def" if driver == "sync" else "async def"
        with pytest.raises(TypeError, match=f"^middlewares of this client must be written with {wanted}, got "):
            Rig(driver, middlewares=other[index])


def generator(exchange: Exchange, next: Callable[[Exchange], Reply]) -> Iterator[Reply]:
    yield next(exchange)


async def async_generator(exchange: Exchange, next: Callable[[Exchange], Any]) -> AsyncIterator[Reply]:
    yield await next(exchange)


@both_drivers
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (generator, "middlewares must return the reply, got the generator function"),
        (async_generator, "middlewares must return the reply, got the generator function"),
        (Plain, r"middlewares takes functions, got the class Plain; write Plain\(\)"),
        ([Awaited], r"middlewares takes functions, got the class Awaited; write Awaited\(\)"),
        (lambda exchange: exchange, r"middlewares must be callable with 2 arguments.*def middleware\(exchange, next\)"),
        (lambda: None, "middlewares must be callable with 2 arguments"),
        (lambda a, b, c: None, "middlewares must be callable with 2 arguments"),
        ("sign", "middlewares must be callable, got str 's'"),
        (3, "middlewares must be callable, got int 3"),
        ([plain, 3], "middlewares must be callable, got int 3|must be written with async def"),
    ],
)
def test_nonsense_is_refused_when_the_client_is_made(driver: str, bad: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        Rig(driver, middlewares=bad)


@both_drivers
def test_a_view_and_a_call_take_none(driver: str) -> None:
    rig = Rig(driver)
    with pytest.raises(TypeError, match="middlewares"):
        rig.client.using(middlewares=[])
    with pytest.raises(TypeError, match="unknown option '_middlewares'"):
        rig.call("m", _middlewares=[])


# --- after the end ---


@both_drivers
def test_a_closed_client_asks_none(driver: str) -> None:
    log: list[str] = []
    rig = Rig(driver, middlewares=noted(log, "a", driver))
    rig.run(lambda client: client.close())
    with pytest.raises(ClientClosedError):
        rig.call("m")
    assert (log, rig.backend.closed) == ([], True)


def test_a_client_that_is_closed_between_two_attempts_asks_none() -> None:
    log: list[str] = []
    backend = ScriptedBackend([lost, result(1)])
    client = Client(backend, retry_strategy=EVERY, middlewares=noted(log, "a", "sync"), sleep=lambda _: client.close())
    with pytest.raises(ClientClosedError, match="was closed while a call was under way") as caught:
        client.call("m")
    assert (log, len(backend.exchanges)) == (["a in"], 1)
    assert caught.value.delivery is Delivery.MAYBE_EXECUTED
    assert isinstance(caught.value.__cause__, ConnectionLostError)


@pytest.mark.parametrize("kind", ["requests", "aiohttp"])
def test_a_real_backend_that_was_closed_in_a_middleware_opens_nothing(kind: str) -> None:
    with LoopbackServer(lambda request: Answer({"jsonrpc": "2.0", "id": 1, "result": 1})) as server:
        if kind == "requests":

            def shut(exchange: Exchange, next: Callable[[Exchange], Reply]) -> Reply:
                client.close()
                return next(exchange)

            client = rpcretry.backends.requests.Client(server.url, middlewares=shut)
            with pytest.raises(ClientClosedError):
                client.call("m")
        else:

            async def main() -> None:
                async def shut(exchange: Exchange, next: Callable[[Exchange], Any]) -> Any:
                    await client.close()
                    return await next(exchange)

                client = rpcretry.backends.aiohttp.Client(server.url, middlewares=shut)
                with pytest.raises(ClientClosedError):
                    await client.call("m")

            asyncio.run(main())
        assert server.connections == 0


# --- cancellation, threads, tasks ---


def test_a_cancel_in_a_middleware_is_never_retried() -> None:
    log: list[str] = []

    async def main() -> None:
        entered = asyncio.Event()

        async def hang(exchange: Exchange, next: Callable[[Exchange], Any]) -> Any:
            log.append("in")
            entered.set()
            try:
                await asyncio.sleep(30)
            finally:
                log.append("out")

        layer = Recorder()
        client = AsyncClient(AsyncScriptedBackend([]), retry_strategy=EVERY, middlewares=hang, layers=layer, fallback=Fallback(0))
        task = asyncio.ensure_future(client.call("m"))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert layer.log == ["layer.admit", "layer.abandon"]

    asyncio.run(main())
    assert log == ["in", "out"]


@both_drivers
def test_an_interrupt_in_a_middleware_goes_through(driver: str) -> None:
    def interrupt(exchange: Exchange) -> Any:
        raise SystemExit(3)

    layer = Recorder()
    rig = Rig(driver, retry_strategy=EVERY, middlewares=of(driver, interrupt), layers=layer)
    with pytest.raises(SystemExit):
        rig.call("m")
    assert layer.log == ["layer.admit", "layer.abandon"]


def test_threads_pass_through_one_at_the_same_time() -> None:
    meeting = threading.Barrier(4, timeout=5)

    def meet(exchange: Exchange, next: Callable[[Exchange], Reply]) -> Reply:
        meeting.wait()
        return next(exchange.with_headers({"X-Id": str(exchange.ids[0])}))

    def echo(exchange: Exchange) -> Reply:
        return result((exchange.headers or {})["X-Id"])(exchange)

    client = Client(ScriptedBackend([echo] * 4), middlewares=meet)
    found: list[tuple[int, str]] = []

    def work(id: int) -> None:
        found.append((id, client.send(Request("m", id=id)).result))

    threads = [threading.Thread(target=work, args=(id,)) for id in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [(id, str(id)) for id in range(4)]


# --- a signature, over a real connection ---

SECRET = b"key"


def signature(body: bytes) -> str:
    return base64.b64encode(hmac.digest(SECRET, body, hashlib.sha256)).decode()


def checked(request: Received) -> Answer:
    good = request.headers["x-signature"] == signature(request.body)
    document = request.json
    if isinstance(document, list):
        return Answer([{"jsonrpc": "2.0", "id": item["id"], "result": good} for item in document])
    return Answer({"jsonrpc": "2.0", "id": document["id"], "result": good})


@pytest.mark.parametrize("kind", ["requests", "aiohttp"])
def test_the_signed_bytes_are_those_that_arrive(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    params = ["ä→", {"x": 1.5}]
    batch = BatchRequest(Request("a", params), Request("b"))
    with LoopbackServer(checked) as server:
        if kind == "requests":

            def sign(exchange: Exchange, next: Callable[[Exchange], Reply]) -> Reply:
                return next(exchange.with_headers({"X-Signature": signature(exchange.body)}))

            with rpcretry.backends.requests.Client(server.url, middlewares=sign) as client:
                assert client.call("m", *params) is True
                assert client.send(batch).results == [True, True]
        else:

            async def main() -> None:
                async def sign(exchange: Exchange, next: Callable[[Exchange], Any]) -> Any:
                    return await next(exchange.with_headers({"X-Signature": signature(exchange.body)}))

                async with rpcretry.backends.aiohttp.Client(server.url, middlewares=sign) as client:
                    assert await client.call("m", *params) is True
                    assert (await client.send(batch)).results == [True, True]

            asyncio.run(main())


# --- what is left afterwards ---


class Param:
    """A value that the frames of a call hold."""


@both_drivers
@pytest.mark.parametrize("shape", ["backend raises", "middleware raises", "garbage"])
def test_no_failing_frame_is_alive_afterwards(driver: str, shape: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "rpcretry")
    kept: list[weakref.ref[Param]] = []

    def held() -> Param:
        param = Param()
        kept.append(weakref.ref(param))
        return param

    def before(exchange: Exchange) -> Exchange:
        param = held()
        if shape == "middleware raises":
            raise LookupError(repr(param))
        return exchange

    def item(exchange: Exchange) -> Reply:
        param = held()
        if shape == "garbage":
            return Reply(b"<html>")
        raise ConnectionLostError(repr(param))

    rig = Rig(driver, *[item] * 12, retry_strategy=EVERY, middlewares=[of(driver, before), of(driver)])

    async def inside() -> str:
        try:
            await rig.client.call("m")
        except Exception as problem:
            return type(problem).__name__
        return ""

    def outside() -> str:
        try:
            rig.client.call("m")
        except Exception as problem:
            return type(problem).__name__
        return ""

    act = outside if driver == "sync" else inside
    finish(act)
    with no_collector():
        kept.clear()
        assert finish(act) in ("ConnectionLostError", "LookupError", "ProtocolError")
        assert len(kept) >= 3
        assert [ref() for ref in kept] == [None] * len(kept), "a frame of a failed attempt is still alive"


@both_drivers
def test_a_client_without_middlewares_performs_by_its_backend_alone(driver: str) -> None:
    rig = Rig(driver, result(1))
    perform = rig.client._shared.perform
    assert perform == rig.backend.exchange
    assert inspect.ismethod(perform)


@both_drivers
def test_it_sees_which_attempt_it_is_in(driver: str) -> None:
    seen: list[Any] = []

    def look(exchange: Exchange) -> Exchange:
        current = current_attempt()
        assert current is not None
        seen.append((current.operation, current.number, type(current.last_exception)))
        return exchange

    rig = Rig(driver, lost, result(1), retry_strategy=EVERY, middlewares=of(driver, look), timeout=None)
    rig.call("m")
    assert seen == [("m", 1, type(None)), ("m", 2, ConnectionLostError)]
    assert rig.backend.exchanges[0].ends_by == math.inf
