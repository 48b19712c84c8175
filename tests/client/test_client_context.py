"""current_attempt() in a client's call: in its backend, its middlewares, its layers and sinks; and what a client tells of itself."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support import Recorder, Rig, Slow, both_drivers, fresh, no_collector

from rpcretry import (
    AsyncClient,
    BatchRequest,
    Client,
    ConnectionLostError,
    JsonRpcError,
    Request,
    RetryBudget,
    RetryMetrics,
    RetryStrategy,
    current_attempt,
)
from rpcretry.context import RUNNING, CurrentAttempt
from rpcretry.layers import CircuitBreaker
from rpcretry.retry import UNLIMITED, Layer, PeriodicBackoff
from rpcretry.retry.fallback import Fallback
from rpcretry.testing import AsyncScriptedBackend, ScriptedBackend, error, result
from rpcretry.transport import Exchange, Reply

lost = fresh(ConnectionLostError("reset"))
EVERY = RetryStrategy(exceptions={ConnectionError}, codes={2001}, backoff=PeriodicBackoff(3, 0.5))


def here() -> CurrentAttempt:
    """Where the call stands; never nowhere."""
    current = current_attempt()
    assert current is not None
    return current


class Watch:
    """Items of a script that note where the call stands when they are asked."""

    def __init__(self) -> None:
        self.seen: list[CurrentAttempt] = []
        self.kinds: list[type] = []

    def __call__(self, item: Any) -> Callable[[Exchange], Any]:
        def play(exchange: Exchange) -> Any:
            current = here()
            # Not kept: its traceback holds frames.
            self.kinds.append(type(current.last_exception))
            self.seen.append(current._replace(last_exception=None, elapsed=round(current.elapsed, 6)))
            return item(exchange) if callable(item) else item

        return play


NONE = type(None)

# Each way to make a call, with what it is called.
WAYS = {
    "call": (lambda client, **options: client.call("m", 1, **options), "m"),
    "proxy": (lambda client, **options: client.proxy.a.b(1, **options), "a.b"),
    "send": (lambda client, **options: client.send(Request("m", [1]), **options), "m"),
    "batch": (lambda client, **options: client.send(BatchRequest(Request("m"), Request("n")), **options), "batch of 2"),
}
every_way = pytest.mark.parametrize("way", WAYS)


# --- what it tells ---


@both_drivers
@every_way
def test_in_the_backend_over_retries(driver: str, way: str) -> None:
    act, name = WAYS[way]
    watch = Watch()
    rig = Rig(driver, watch(lost), watch(error(2001)), watch(result(1)), retry_strategy=EVERY, deadline=10)
    rig.run(act)
    assert watch.seen == [CurrentAttempt(name, 1, 4, None, 0.0, 10.0), CurrentAttempt(name, 2, 4, None, 0.5, 9.5), CurrentAttempt(name, 3, 4, None, 1.0, 9.0)]
    assert watch.kinds == [NONE, ConnectionLostError, JsonRpcError]
    assert current_attempt() is None


@both_drivers
@every_way
@pytest.mark.parametrize("quick", [True, False])
def test_the_quick_way_tells_the_same(driver: str, way: str, quick: bool) -> None:
    act, name = WAYS[way]
    watch = Watch()
    rig = Rig(driver, *[watch(result(1))] * 2, watched=not quick)
    assert rig.client._options.policy.quick is quick
    rig.run(act)
    rig.run(lambda client: act(client, _deadline=3, _retry_strategy=EVERY))
    assert watch.seen == [CurrentAttempt(name, 1, 1, None, 0.0, None), CurrentAttempt(name, 1, 4, None, 0.0, 3.0)]


@both_drivers
def test_a_notification_tells_it_too(driver: str) -> None:
    watch = Watch()
    Rig(driver, watch(result(1))).notify("tick")
    assert watch.seen[0].operation == "tick"


@both_drivers
def test_time_goes_on_within_an_attempt(driver: str) -> None:
    seen: list[Any] = []
    rig: Rig

    def slow(exchange: Exchange) -> Reply:
        for seconds in (0, 1.5, 3):
            rig.time.advance(seconds)
            seen.append((here().elapsed, here().remaining))
        return result(1)(exchange)

    rig = Rig(driver, slow, deadline=4)
    rig.call("m")
    # Never less than nothing.
    assert seen == [(0, 4), (1.5, 2.5), (4.5, 0.0)]


@both_drivers
@pytest.mark.parametrize(
    ("strategy", "limit"),
    [
        (None, 1),
        (EVERY, 4),
        (RetryStrategy(backoff=PeriodicBackoff(UNLIMITED, 1)), None),
        (RetryStrategy(backoff=lambda: iter([1.0])), None),
    ],
)
def test_the_limit_of_attempts_where_it_is_known(driver: str, strategy: Any, limit: int | None) -> None:
    watch = Watch()
    Rig(driver, watch(result(1)), retry_strategy=strategy).call("m")
    assert watch.seen[0].max_attempts == limit


@both_drivers
def test_in_a_batch_the_first_failure_of_those_before(driver: str) -> None:
    watch = Watch()

    def half(exchange: Exchange) -> Reply:
        return Reply(b'[{"id":1,"result":1},{"id":2,"error":{"code":2001,"message":"busy"}}]')

    seen: list[Any] = []

    def look(exchange: Exchange) -> Reply:
        seen.append((here().number, type(here().last_exception), [request.method for request in exchange.requests]))
        return result(1)(exchange)

    rig = Rig(driver, watch(half), look, retry_strategy=EVERY)
    rig.send(BatchRequest(Request("a"), Request("b")))
    assert seen == [(2, JsonRpcError, ["b"])]


@both_drivers
def test_a_success_that_was_not_accepted_is_no_exception(driver: str) -> None:
    watch = Watch()
    strategy = RetryStrategy(when=lambda outcome, number: outcome.result == "pending", backoff=PeriodicBackoff(3))
    Rig(driver, watch(result("pending")), watch(result("done")), retry_strategy=strategy).call("m")
    assert [(current.number, kind) for current, kind in zip(watch.seen, watch.kinds, strict=True)] == [(1, NONE), (2, NONE)]


@both_drivers
def test_wherever_the_call_asks_somebody(driver: str) -> None:
    where: list[str] = []

    def note(place: str) -> None:
        where.append(f"{place} {here().number}")

    class Asked(Layer):
        def admit(self, attempt: Any, now: float) -> None:
            note("admit")

        def judge(self, attempt: Any, member: Any, outcome: Any, verdict: Any, now: float) -> Any:
            note("judge")
            return verdict

        def settle(self, attempt: Any, outcomes: Any, now: float) -> None:
            note("settle")

    strategy = RetryStrategy(when=lambda outcome, number: bool(note("when")) or outcome.error is not None, backoff=PeriodicBackoff(1))
    rig = Rig(
        driver,
        lost,
        lost,
        retry_strategy=strategy,
        layers=Asked(),
        on_event=lambda event: note(type(event).__name__),
        fallback=Fallback(lambda: note("fallback")),
    )
    rig.call("m")
    assert where == [
        *("admit 1", "AttemptStarted 1", "when 1", "judge 1", "settle 1", "RetryScheduled 1"),
        *("admit 2", "AttemptStarted 2", "when 2", "settle 2", "CallFailed 2", "fallback 2", "FallbackUsed 2"),
    ]


# --- outside of a call ---


@both_drivers
@pytest.mark.parametrize("item", [result(1), error(7), lost, SystemExit(3)])
def test_none_before_and_after(driver: str, item: Any) -> None:
    assert current_attempt() is None
    rig = Rig(driver, item, on_event=lambda event: None)

    async def inside() -> None:
        assert current_attempt() is None
        with contextlib.suppress(Exception, SystemExit):
            await rig.client.call("m")
        assert current_attempt() is None
        assert RUNNING.get() is None

    if driver == "async":
        asyncio.run(inside())
    else:
        with contextlib.suppress(Exception, SystemExit):
            rig.client.call("m")
    assert current_attempt() is None
    assert RUNNING.get() is None


def test_a_coroutine_that_nobody_starts_leaves_nothing() -> None:
    client = AsyncClient(AsyncScriptedBackend([]))
    coroutine = client.call("m")
    assert current_attempt() is None
    coroutine.close()
    assert current_attempt() is None


# --- threads and tasks ---


def test_each_thread_has_its_own() -> None:
    meeting = threading.Barrier(8, timeout=5)
    problems: list[BaseException] = []

    def meet(exchange: Exchange) -> Reply:
        meeting.wait()
        name = exchange.requests[0].method
        current = here()
        again = current.number == 1
        meeting.wait()
        if (current.operation, here().operation) != (name, name):
            raise AssertionError(current)
        return error(2001)(exchange) if again else result(current.number)(exchange)

    backend = ScriptedBackend([meet] * 16)
    client = Client(backend, retry_strategy=RetryStrategy(codes={2001}, backoff=PeriodicBackoff(1, 0.001)))

    def work(name: str) -> None:
        try:
            assert client.call(name) == 2
            assert current_attempt() is None
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(f"m{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_a_thread_that_an_attempt_starts_has_none_unless_it_is_given_the_context() -> None:
    seen: list[Any] = []

    def start(exchange: Exchange) -> Reply:
        context = contextvars.copy_context()
        for target in (lambda: seen.append(current_attempt()), lambda: seen.append(context.run(here).operation)):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        return result(1)(exchange)

    Client(ScriptedBackend([start])).call("m")
    assert seen == [None, "m"]


def test_fifty_tasks_at_once() -> None:
    seen: dict[str, list[tuple[int, str | None]]] = {}

    async def main() -> None:
        class Backend:
            async def exchange(self, exchange: Exchange, /) -> Reply:
                name = exchange.requests[0].method
                first = here()
                await asyncio.sleep(0.001 * (int(name[1:]) % 5))
                current = here()
                assert (first.operation, current.operation, first.number) == (name, name, current.number)
                seen.setdefault(name, []).append((current.number, None if current.last_exception is None else str(current.last_exception)))
                if current.number < 3:
                    raise ConnectionLostError(name)
                return result(name)(exchange)

            async def aclose(self) -> None:
                pass

        client = AsyncClient(Backend(), retry_strategy=RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(3, 0.002)))
        names = [f"m{number}" for number in range(50)]
        assert await asyncio.gather(*[client.call(name) for name in names]) == names
        assert current_attempt() is None

    logging.getLogger("rpcretry").setLevel(logging.CRITICAL)
    try:
        asyncio.run(main())
    finally:
        logging.getLogger("rpcretry").setLevel(logging.NOTSET)
    assert seen == {f"m{number}": [(1, None), (2, f"m{number}"), (3, f"m{number}")] for number in range(50)}


def test_a_task_that_an_attempt_starts_sees_it_and_then_none() -> None:
    async def main() -> None:
        seen: list[Any] = []
        over = asyncio.Event()
        tasks: list[asyncio.Task[None]] = []

        async def outlive() -> None:
            seen.append(here().operation)
            await over.wait()
            seen.append(current_attempt())

        async def spawn(exchange: Exchange, next: Callable[[Exchange], Any]) -> Any:
            tasks.append(asyncio.create_task(outlive()))
            await asyncio.sleep(0)
            return await next(exchange)

        client = AsyncClient(AsyncScriptedBackend([result(1), result(2)]), middlewares=spawn)
        await client.call("m")
        over.set()
        await tasks[0]
        assert seen == ["m", None]

    asyncio.run(main())


# --- nested ---


@both_drivers
def test_the_innermost_of_nested_clients_and_then_the_outer_again(driver: str) -> None:
    log: list[tuple[str, str, int]] = []

    def note(place: str) -> None:
        log.append((place, here().operation, here().number))

    def token(exchange: Exchange) -> Reply:
        note("token server")
        return error(2001)(exchange) if here().number == 1 else result("t")(exchange)

    inner = Rig(driver, *[token] * 4, retry_strategy=EVERY)
    authorize: Any
    if driver == "sync":

        def authorize(exchange: Exchange, next: Callable[[Exchange], Reply]) -> Reply:
            note("before")
            value = inner.client.call("token")
            note("after")
            return next(exchange.with_headers({"Authorization": value}))
    else:

        async def authorize(exchange: Exchange, next: Callable[[Exchange], Any]) -> Any:
            note("before")
            value = await inner.client.call("token")
            note("after")
            return await next(exchange.with_headers({"Authorization": value}))

    outer = Rig(driver, lost, result(5), retry_strategy=EVERY, middlewares=authorize)
    assert outer.call("pay") == 5
    each = [("token server", "token", 1), ("token server", "token", 2)]
    assert log == [("before", "pay", 1), *each, ("after", "pay", 1), ("before", "pay", 2), *each, ("after", "pay", 2)]
    assert current_attempt() is None


# --- what outlives a call keeps nothing of it ---


class Params(list[Any]):
    """Params that can be referred to weakly."""


class Body(bytes):
    """A reply's body that can be told to be alive: bytes cannot be referred to weakly."""

    alive: int = 0

    def __new__(cls, value: bytes) -> Body:
        Body.alive += 1
        return super().__new__(cls, value)

    def __del__(self) -> None:
        Body.alive -= 1


@both_drivers
@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("good", [True, False])
def test_a_context_that_was_copied_keeps_no_call_alive(driver: str, quick: bool, good: bool) -> None:
    contexts: list[contextvars.Context] = []
    tasks: list[asyncio.Task[Any]] = []

    def keep(exchange: Exchange) -> Reply:
        contexts.append(contextvars.copy_context())
        if driver == "async":
            tasks.append(asyncio.get_running_loop().create_task(asyncio.sleep(30)))
        return Reply(Body(b'{"jsonrpc":"2.0","id":1,"result":[1]}' if good else b'{"jsonrpc":"2.0","id":1,"error":{"code":7,"message":"x"}}'))

    rig = Rig(driver, *[keep] * 2, watched=not quick, ids=lambda: 1)

    def params() -> tuple[Request, weakref.ref[Params]]:
        given = Params([1])
        return Request("m", given), weakref.ref(given)

    def clean() -> None:
        # What the test itself keeps.
        rig.backend.exchanges.clear()
        rig.events.clear()

    async def inside() -> weakref.ref[Params]:
        request, ref = params()
        await rig.client.send(request)
        return ref

    async def main() -> None:
        await inside()
        with no_collector():
            clean()
            ref = await inside()
            clean()
            assert (ref(), Body.alive) == (None, 0)
            assert [context.run(current_attempt) for context in contexts] == [None, None]
        for task in tasks:
            task.cancel()

    def outside() -> weakref.ref[Params]:
        request, ref = params()
        rig.client.send(request)
        return ref

    Body.alive = 0
    if driver == "async":
        asyncio.run(main())
        return
    outside()
    with no_collector():
        clean()
        ref = outside()
        clean()
        assert (ref(), Body.alive) == (None, 0)
        assert [context.run(current_attempt) for context in contexts] == [None, None]


# --- what a client tells of itself ---


@both_drivers
def test_the_layers_that_it_was_given(driver: str) -> None:
    budget, breaker = RetryBudget(), CircuitBreaker()
    rig = Rig(driver, retry_strategy=EVERY, layers=[budget, breaker])
    assert tuple(rig.client.layers) == (budget, breaker)
    assert tuple(rig.client.using(retry_strategy=None).layers) == (budget, breaker)
    assert tuple(Rig(driver, layers=budget).client.layers) == (budget,)
    assert tuple(Rig(driver, retry_strategy=EVERY).client.layers) == ()


@both_drivers
def test_the_metrics_that_it_was_given(driver: str) -> None:
    first, second = RetryMetrics(), RetryMetrics()
    rig = Rig(driver, lost, result(1), retry_strategy=EVERY, on_event=[lambda event: None, first, second])
    assert rig.client.metrics is first
    assert rig.client.using(timeout=3).metrics is first
    rig.call("m")
    found = rig.client.metrics.snapshot()
    assert (found.calls, found.retries) == (1, 1)
    assert Rig(driver, watched=True).client.metrics is None
    assert Rig(driver).client.metrics is None


@both_drivers
def test_both_are_read_only(driver: str) -> None:
    rig = Rig(driver, layers=Recorder())
    for name in ("layers", "metrics", "backend"):
        with pytest.raises(AttributeError):
            setattr(rig.client, name, None)


@both_drivers
def test_elapsed_counts_from_the_start_of_the_call(driver: str) -> None:
    watch = Watch()
    rig = Rig(driver, Slow(2, lost), result(0), watch(result(1)), retry_strategy=EVERY)
    rig.call("m")
    rig.call("m")
    assert watch.seen[0].elapsed == 0.0
