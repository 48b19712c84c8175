"""Every documented pattern of resilience, by capability, as a user writes it: sync and async, in virtual time."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import inspect
import math
import pickle
import random
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from support import DRIVERS, finish

import rpcretry
from rpcretry import (
    LAST_GOOD,
    AdaptiveDelay,
    AsyncClient,
    BudgetExhaustedError,
    CircuitBreaker,
    CircuitOpenError,
    CircuitState,
    Classification,
    Client,
    ConcurrencyLimit,
    ConnectionLostError,
    DeadlineExceeded,
    Delivery,
    Fallback,
    HTTPStatusError,
    JsonRpcError,
    LimitReachedError,
    MethodNotFoundError,
    RateLimit,
    RequestTimeoutError,
    RetryableError,
    RetryBudget,
    RetryExhaustedError,
    RetryMetrics,
    RetryStrategy,
    ServerError,
    current_attempt,
)
from rpcretry.events import AttemptStarted, BreakerChanged, BudgetRefused, CallFailed, CallSucceeded, Event, FallbackUsed, RetryScheduled, Waited
from rpcretry.functions import RetryableClient, retry, retrying
from rpcretry.layers import CircuitStats
from rpcretry.metrics import CallRecord
from rpcretry.outcome import Attempt, Member, Outcome, Retry, Stop, Wait
from rpcretry.retry import (
    Backoff,
    DecorrelatedJitterBackoff,
    EqualJitter,
    ExponentialBackoff,
    FibonacciBackoff,
    FullJitter,
    ImmediateBackoff,
    Layer,
    LinearBackoff,
    PeriodicBackoff,
    ProportionalJitter,
)
from rpcretry.testing import AsyncScriptedBackend, ScriptedBackend, VirtualTime, error, http, result, took
from rpcretry.transport import Exchange, Reply

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


@dataclasses.dataclass
class Takes:
    """A script's item that takes a while."""

    seconds: float
    item: Any


class Service:
    """Somebody else's service, as a function of either kind: it plays a script, and the last item of it for ever.

    :ivar calls: how often it was called.
    """

    def __init__(self, time: VirtualTime, script: tuple[Any, ...]) -> None:
        self._time = time
        self._script = list(script)
        self.calls = 0
        self.starts: list[float] = []

    def play(self) -> Any:
        self.calls += 1
        self.starts.append(round(self._time.now - 1_000.0, 6))
        item = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(item, Takes):
            self._time.advance(item.seconds)
            item = item.item
        if isinstance(item, BaseException) or (isinstance(item, type) and issubclass(item, BaseException)):
            raise item
        return item


class World:
    """One driver, and its virtual time."""

    def __init__(self, driver: str) -> None:
        self.is_async = driver == "async"
        self.time = VirtualTime()
        self.events: list[Event] = []

    @property
    def timing(self) -> dict[str, Any]:
        return {"clock": self.time.clock, "sleep": self.time.asleep if self.is_async else self.time.sleep}

    def service(self, *script: Any) -> tuple[Callable[..., Any], Service]:
        """A function that plays a script, and what watches it."""
        service = Service(self.time, script)

        def fetch(*_: Any) -> Any:
            return service.play()

        async def fetch_async(*_: Any) -> Any:
            await asyncio.sleep(0)
            return service.play()

        return (fetch_async if self.is_async else fetch), service

    def client(self, *script: Any, **options: Any) -> Any:
        """A client whose server plays a script; exceptions are to be classes, so that each exchange has its own."""
        items = [self._item(item) for item in script]
        if self.is_async:
            return AsyncClient(AsyncScriptedBackend(items), **self.timing, **options)
        return Client(ScriptedBackend(items), **self.timing, **options)

    def _item(self, item: Any) -> Any:
        if isinstance(item, Takes):
            return took(self.time, item.seconds, self._item(item.item))
        if isinstance(item, type):
            return lambda exchange: item("lost")
        return item

    def run(self, value: Any) -> Any:
        """What a call gives: its value, or what its coroutine returns."""
        return finish(lambda: value)

    @property
    def waits(self) -> list[float]:
        return [round(delay, 6) for delay in self.time.delays]

    @property
    def told(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


@pytest.fixture(params=DRIVERS)
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def sent(client: Any) -> int:
    return len(client.backend.exchanges)


def notes(problem: BaseException) -> list[str]:
    return getattr(problem, "__notes__", [])


# --- strategies: exponential, linear, fixed, custom ---


@dataclasses.dataclass(frozen=True)
class Prime(Backoff):
    """A custom backoff is one method."""

    def __call__(self) -> Iterator[float]:
        return iter([2.0, 3.0, 5.0, 7.0][: self.attempts])


def generator() -> Iterator[float]:
    yield 0.25
    yield 4.0
    yield 0.5
    yield 0.125


STRATEGIES: dict[str, tuple[Any, list[float]]] = {
    "exponential": (ExponentialBackoff(attempts=4, base=1.0, factor=2.0), [1, 2, 4, 8]),
    "exponential up to a cap": (ExponentialBackoff(attempts=4, base=1.0, factor=3.0, max_value=5.0), [1, 3, 5, 5]),
    "linear": (LinearBackoff(attempts=4, base=0.5, increment=0.25), [0.5, 0.75, 1.0, 1.25]),
    "fixed": (PeriodicBackoff(attempts=4, interval=2.0), [2, 2, 2, 2]),
    "fibonacci": (FibonacciBackoff(attempts=4, multiplier=0.5), [0.5, 0.5, 1, 1.5]),
    "immediate": (ImmediateBackoff(attempts=4), []),
    "a class": (Prime(attempts=4), [2, 3, 5, 7]),
    "a generator function": (generator, [0.25, 4, 0.5, 0.125]),
    "a function of the attempt": (Backoff.from_function(lambda attempt: 0.1 * attempt, attempts=4), [0.1, 0.2, 0.3, 0.4]),
    "fixed with full jitter": (PeriodicBackoff(attempts=4, interval=2.0, jitter=FullJitter(random=lambda: 0.25)), [0.5] * 4),
    "fixed with equal jitter": (PeriodicBackoff(attempts=4, interval=2.0, jitter=EqualJitter(random=lambda: 0.25)), [1.25] * 4),
    "fixed with proportional jitter": (PeriodicBackoff(attempts=4, interval=2.0, jitter=ProportionalJitter(0.1, random=lambda: 0.0)), [1.8] * 4),
    "fixed with a random addend": (PeriodicBackoff(attempts=4, interval=2.0, jitter=lambda: 0.5), [2.5] * 4),
    "decorrelated jitter": (DecorrelatedJitterBackoff(attempts=4, base=1.0, max_value=10.0, random=lambda: 0.5), [2, 3.5, 5.5, 5.5]),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategies_of_functions(world: World, name: str) -> None:
    backoff, waits = STRATEGIES[name]
    fetch, service = world.service(ConnectionError, ConnectionError, ConnectionError, ConnectionError, "late")
    fetch = retry(backoff=backoff, **world.timing)(fetch)
    assert world.run(fetch()) == "late"
    assert (service.calls, world.waits) == (5, waits)


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategies_of_clients(world: World, name: str) -> None:
    backoff, waits = STRATEGIES[name]
    client = world.client(*[ConnectionLostError] * 4, result(3), retry_strategy=RetryStrategy(exceptions={ConnectionError}, backoff=backoff))
    assert world.run(client.call("sum", 1, 2)) == 3
    assert (sent(client), world.waits) == (5, waits)
    # A retry re-sends the same id.
    assert {body["id"] for body in client.backend.bodies} == {1}


def test_the_client_has_a_strategy_and_a_call_its_own(world: World) -> None:
    default = RetryStrategy(exceptions={TimeoutError}, backoff=PeriodicBackoff(attempts=3, interval=1.0))
    client = world.client(RequestTimeoutError, result(1), error(2001, "busy"), RequestTimeoutError, result(2), error(2001, "busy"), retry_strategy=default)
    assert world.run(client.proxy.sum(1, 2)) == 1
    assert world.waits == [1.0]
    own = RetryStrategy(exceptions={TimeoutError}, codes={2001}, backoff=ExponentialBackoff(attempts=3, base=2.0, factor=3.0))
    assert world.run(client.send(rpcretry.Request("sum", params=[1, 2], id=1), _retry_strategy=own)).result == 2
    assert world.waits == [1.0, 2.0, 6.0]
    with pytest.raises(JsonRpcError) as caught:
        world.run(client.call("sum", _retry_strategy=None))
    assert (caught.value.code, notes(caught.value), sent(client)) == (2001, [], 6)


def test_the_simple_form(world: World) -> None:
    fetch, service = world.service(ConnectionError, TimeoutError, "value")
    fetch = retry(max_attempts=3, base_delay=0.5, factor=3.0, max_delay=1.0, jitter=False, **world.timing)(fetch)
    assert world.run(fetch()) == "value"
    assert (service.starts, world.waits) == ([0, 0.5, 1.5], [0.5, 1.0])


def test_bare_decorators_retry_three_times_within_full_jitter() -> None:
    time, calls = VirtualTime(), 0

    @retry(clock=time.clock, sleep=time.sleep)
    def fetch() -> None:
        nonlocal calls
        calls += 1
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        fetch()
    assert calls == 3
    assert len(time.delays) == 2
    assert 0 <= time.delays[0] <= 0.1
    assert 0 <= time.delays[1] <= 0.2

    @retry
    def works(a: int, *, b: int = 2) -> int:
        """Adds."""
        return a + b

    assert (works(1, b=5), works.__doc__, str(inspect.signature(works))) == (6, "Adds.", "(a: 'int', *, b: 'int' = 2) -> 'int'")


def test_seeded_jitter_repeats_itself(world: World) -> None:
    def once() -> list[float]:
        world.time.delays.clear()
        backoff = ExponentialBackoff(attempts=5, base=1.0, jitter=FullJitter(random=random.Random(7).random))
        fetch, _ = world.service(ConnectionError)
        with pytest.raises(ConnectionError):
            world.run(retry(backoff=backoff, **world.timing)(fetch)())
        return world.waits

    first = once()
    assert first == once()
    assert all(0 < wait < 2.0**index for index, wait in enumerate(first))
    assert len(set(first)) == 5


def test_blocks() -> None:
    time, seen = VirtualTime(), []
    for attempt in retrying(max_attempts=3, base_delay=1.0, jitter=None, clock=time.clock, sleep=time.sleep):
        with attempt:
            seen.append((attempt.number, attempt.max_attempts, type(attempt.last_exception)))
            if attempt.number < 3:
                raise ConnectionError(attempt.number)
    assert seen == [(1, 3, type(None)), (2, 3, ConnectionError), (3, 3, ConnectionError)]
    assert time.delays == [1.0, 2.0]


def test_async_blocks() -> None:
    async def main() -> list[int]:
        time, seen = VirtualTime(), []
        with pytest.raises(ConnectionError) as caught:
            async for attempt in retrying(max_attempts=2, base_delay=1.0, jitter=None, clock=time.clock, sleep=time.asleep):
                with attempt:
                    seen.append(attempt.number)
                    raise ConnectionError(attempt.number)
        assert (caught.value.args, time.delays) == ((2,), [1.0])
        assert notes(caught.value) == ["rpcretry: gave up after 2 attempts in 1.00 s (attempts)"]
        return seen

    assert asyncio.run(main()) == [1, 2]


# --- conditional retry ---


class HttpError(Exception):
    """An error of the user's with a status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def is_transient(problem: Exception, attempt: int) -> bool:
    return isinstance(problem, HttpError) and problem.status >= 500


def test_a_condition_on_the_exception(world: World) -> None:
    fetch, service = world.service(HttpError(503), HttpError(500), HttpError(404), "never")
    fetch = retry(when=is_transient, max_attempts=5, base_delay=1.0, jitter=None, **world.timing)(fetch)
    with pytest.raises(HttpError) as caught:
        world.run(fetch())
    # The 404 is no failure that was tried again, so nobody gave up on it.
    assert (caught.value.status, notes(caught.value), service.calls, world.waits) == (404, [], 3, [1.0, 2.0])


def test_a_condition_that_says_how_long(world: World) -> None:
    asked: list[int] = []

    def when(problem: Exception, attempt: int) -> float | bool:
        asked.append(attempt)
        return {1: 7.5, 2: True, 3: 0.5}.get(attempt, False)

    fetch, service = world.service(HttpError(429))
    fetch = retry(on=HttpError, when=when, max_attempts=9, base_delay=1.0, jitter=None, **world.timing)(fetch)
    with pytest.raises(HttpError):
        world.run(fetch())
    assert (asked, service.calls, world.waits) == ([1, 2, 3, 4], 4, [7.5, 2.0, 0.5])


def test_a_condition_on_the_result(world: World) -> None:
    fetch, service = world.service(None, None, "ready")
    fetch = retry(retry_result=lambda value: value is None, max_attempts=5, base_delay=1.0, jitter=None, **world.timing)(fetch)
    assert world.run(fetch()) == "ready"
    assert (service.calls, world.waits) == (3, [1.0, 2.0])


def test_results_that_run_out(world: World) -> None:
    fetch, service = world.service("pending")
    options: dict[str, Any] = {"retry_result": lambda value: value == "pending", "max_attempts": 2, "base_delay": 1.0, "jitter": None, **world.timing}
    assert world.run(retry(**options)(fetch)()) == "pending"
    with pytest.raises(RetryExhaustedError) as caught:
        world.run(retry(wrap=True, **options)(fetch)())
    assert (caught.value.attempts, caught.value.last_exception, caught.value.elapsed, service.calls) == (2, None, 1.0, 4)


def test_own_code_asks_for_another_try(world: World) -> None:
    fetch, service = world.service(RetryableError("warming up", delay=3.0), RetryableError("still"), "warm")
    fetch = retry(on=KeyError, base_delay=1.0, jitter=None, **world.timing)(fetch)
    assert world.run(fetch()) == "warm"
    assert (service.calls, world.waits) == (3, [3.0, 2.0])


def test_a_condition_of_a_client(world: World) -> None:
    def not_ready(outcome: rpcretry.Outcome, tries: int) -> bool | float:
        return outcome.ok and outcome.result["state"] == "pending" and 0.5 * tries

    strategy = RetryStrategy(when=not_ready, backoff=PeriodicBackoff(attempts=5, interval=9.0))
    client = world.client(result({"state": "pending"}), result({"state": "pending"}), result({"state": "done"}), retry_strategy=strategy)
    assert world.run(client.call("job", 7)) == {"state": "done"}
    assert (sent(client), world.waits) == (3, [0.5, 1.0])


def test_codes_and_statuses_of_a_client(world: World) -> None:
    strategy = RetryStrategy(codes={2001, range(-32099, -31999)}, statuses={503}, fatal={-32042}, backoff=PeriodicBackoff(attempts=9, interval=1.0))
    client = world.client(error(2001), error(-32050), http(503), error(-32042, "out of order"), retry_strategy=strategy)
    with pytest.raises(ServerError) as caught:
        world.run(client.call("m"))
    assert (caught.value.code, caught.value.message, sent(client), world.waits) == (-32042, "out of order", 4, [1.0] * 3)


def test_the_default_strategy_repeats_what_is_safe(world: World) -> None:
    strategy = RetryStrategy(idempotent={"get_*"}, backoff=PeriodicBackoff(attempts=3, interval=1.0))
    client = world.client(ConnectionLostError, result(1), ConnectionLostError, retry_strategy=strategy)
    assert world.run(client.call("get_price", "EUR")) == 1
    with pytest.raises(ConnectionLostError) as caught:
        world.run(client.call("pay", 100))
    assert (sent(client), caught.value.delivery) == (3, Delivery.MAYBE_EXECUTED)
    assert isinstance(caught.value, ConnectionError)
    assert notes(caught.value)[0].startswith("rpcretry: gave up after 1 attempt in 0.00 s (may have been executed")


def test_the_server_says_when_to_come_back(world: World) -> None:
    strategy = RetryStrategy(backoff=PeriodicBackoff(attempts=3, interval=1.0))
    script = http(429, headers={"Retry-After": "7"}), error(-32005, data={"retry_after": 2.5}), result("in")
    client = world.client(*script, retry_strategy=strategy, on_event=world.events.append)
    assert world.run(client.call("m")) == "in"
    assert world.waits == [7.0, 2.5]
    assert [event.reason for event in world.events if isinstance(event, RetryScheduled)] == [
        "status, the server asks for 7 s",
        "code, the server asks for 2.5 s",
    ]


def test_members_of_a_batch_go_again_alone(world: World) -> None:
    def half(exchange: Exchange) -> Reply:
        first, second = exchange.ids
        return Reply(
            b'[{"jsonrpc":"2.0","id":%d,"result":"a"},{"jsonrpc":"2.0","id":%d,"error":{"code":2001,"message":"busy"}}]' % (first, second)  # type: ignore[str-format]
        )

    client = world.client(half, result("b"), retry_strategy=RetryStrategy(codes={2001}, backoff=PeriodicBackoff(attempts=3, interval=1.0)))
    responses = world.run(client.send(rpcretry.BatchRequest(rpcretry.Request("one"), rpcretry.Request("two"))))
    assert [(response.result, response.attempts) for response in responses] == [("a", 1), ("b", 2)]
    assert [[item["method"] for item in body] for body in client.backend.bodies] == [["one", "two"], ["two"]]
    assert world.waits == [1.0]


# --- retryable and fatal lists, as in-house helpers have them ---


@dataclasses.dataclass(frozen=True)
class RetryConfig:
    """A user's own: it counts retries, not tries."""

    max_retries: int = 3
    initial_delay: float = 1.0
    exponential_base: float = 2.0
    max_delay: float = 60.0
    jitter: bool = False
    retryable_exceptions: tuple[type[Exception], ...] = (ConnectionError, TimeoutError)
    fatal_exceptions: tuple[type[Exception], ...] = (ConnectionRefusedError,)

    def options(self) -> dict[str, Any]:
        return {
            "max_attempts": self.max_retries + 1,
            "base_delay": self.initial_delay,
            "factor": self.exponential_base,
            "max_delay": self.max_delay,
            "jitter": self.jitter,
            "on": self.retryable_exceptions,
            "fatal": self.fatal_exceptions,
        }


@pytest.mark.parametrize(
    ("script", "raised", "calls", "waits"),
    [
        ((TimeoutError, ConnectionResetError, "ok"), None, 3, [1, 2]),
        ((TimeoutError,), TimeoutError, 4, [1, 2, 2.5]),
        # Named retryable by its base, and fatal by itself.
        ((TimeoutError, ConnectionRefusedError), ConnectionRefusedError, 2, [1]),
        ((ValueError,), ValueError, 1, []),
    ],
    ids=["recovers", "runs out", "fatal", "unlisted"],
)
def test_a_config_of_retryable_and_fatal_exceptions(world: World, script: Any, raised: Any, calls: int, waits: list[float]) -> None:
    fetch, service = world.service(*script)
    fetch = retry(**RetryConfig(max_delay=2.5).options(), **world.timing)(fetch)
    if raised is None:
        assert world.run(fetch()) == "ok"
    else:
        with pytest.raises(raised) as caught:
            world.run(fetch())
        assert type(caught.value) is raised
    assert (service.calls, world.waits) == (calls, waits)


def test_a_keyword_of_another_library_names_ours() -> None:
    with pytest.raises(TypeError, match=r"no parameter 'max_retries'; here it is max_attempts, which counts the first try"):
        retry(max_retries=3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"no parameter 'initial_delay'; here it is base_delay"):
        retry(initial_delay=3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"no parameter 'retryable_exceptions'; here it is exceptions"):
        RetryStrategy(retryable_exceptions=(OSError,))  # type: ignore[call-arg]


# --- classification ---


@pytest.mark.parametrize(
    ("problem", "found"),
    [
        (ConnectionLostError("reset"), Classification.RETRYABLE),
        (RequestTimeoutError("slow"), Classification.TIMEOUT),
        (DeadlineExceeded("over"), Classification.TIMEOUT),
        (HTTPStatusError("busy", status=503), Classification.RETRYABLE),
        (HTTPStatusError("no", status=404), Classification.NON_RETRYABLE),
        (JsonRpcError("limit exceeded", code=-32005), Classification.RETRYABLE),
        (MethodNotFoundError("what?"), Classification.NON_RETRYABLE),
        (CircuitOpenError("open"), Classification.NON_RETRYABLE),
        (ValueError("bug"), Classification.NON_RETRYABLE),
        (KeyboardInterrupt(), Classification.NON_RETRYABLE),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value.value,
)
def test_errors_are_classified(problem: BaseException, found: Classification) -> None:
    assert RetryStrategy().classify(problem) is found


# --- context ---


def test_the_attempt_is_known_inside(world: World) -> None:
    seen: list[Any] = []

    def look() -> None:
        world.time.advance(0.5)
        seen.append(current_attempt())
        if len(seen) < 3:
            raise ConnectionError(len(seen))

    async def look_async() -> None:
        await asyncio.sleep(0)
        look()

    options: dict[str, Any] = {"max_attempts": 3, "base_delay": 1.0, "jitter": None, "deadline": 60.0, "name": "look", **world.timing}
    world.run(retry(**options)(look_async if world.is_async else look)())
    assert [(now.operation, now.number, now.max_attempts, now.elapsed, now.remaining) for now in seen] == [
        ("look", 1, 3, 0.5, 59.5),
        ("look", 2, 3, 2.0, 58.0),
        ("look", 3, 3, 4.5, 55.5),
    ]
    assert [now.last_exception.args if now.last_exception else None for now in seen] == [None, (1,), (2,)]
    assert current_attempt() is None


def test_the_attempt_is_known_in_backends_and_middlewares(world: World) -> None:
    seen: list[tuple[str, Any]] = []

    def note(where: str) -> None:
        now = current_attempt()
        seen.append((where, now and (now.operation, now.number, now.max_attempts)))

    def middleware(exchange: Exchange, next: Callable[[Exchange], Reply]) -> Reply:
        note("middleware")
        return next(exchange)

    async def middleware_async(exchange: Exchange, next: Callable[[Exchange], Awaitable[Reply]]) -> Reply:
        note("middleware")
        return await next(exchange)

    def backend(exchange: Exchange) -> Any:
        note("backend")
        return result(1)(exchange) if len(seen) > 2 else ConnectionLostError("reset")

    strategy = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(attempts=2, interval=1.0))
    client = world.client(backend, backend, retry_strategy=strategy, middlewares=middleware_async if world.is_async else middleware)
    assert world.run(client.call("sum")) == 1
    assert seen == [(where, ("sum", number, 3)) for number in (1, 2) for where in ("middleware", "backend")]


def test_nested_retries_know_their_own() -> None:
    time, seen = VirtualTime(), []
    timing: Any = {"clock": time.clock, "sleep": time.sleep, "jitter": None}

    def where() -> tuple[str, int]:
        now = current_attempt()
        assert now is not None
        return now.operation, now.number

    @retry(max_attempts=2, name="inner", **timing)
    def inner() -> None:
        seen.append(where())
        raise ConnectionError

    @retry(max_attempts=2, name="outer", **timing)
    def outer() -> None:
        seen.append(where())
        try:
            inner()
        finally:
            seen.append(where())

    with pytest.raises(ConnectionError):
        outer()
    assert seen == [
        (name, number) for outer_number in (1, 2) for name, number in (("outer", outer_number), ("inner", 1), ("inner", 2), ("outer", outer_number))
    ]


def test_tasks_and_threads_know_their_own() -> None:
    time = VirtualTime()

    @retry(max_attempts=4, jitter=None, clock=time.clock, sleep=time.asleep)
    async def of_task(tries: int) -> int:
        await asyncio.sleep(0)
        now = current_attempt()
        assert now is not None
        if now.number < tries:
            raise ConnectionError
        await asyncio.sleep(0)
        return now.number

    async def main() -> list[int]:
        return await asyncio.gather(*(of_task(tries) for tries in (1, 2, 3, 4) * 5))

    assert asyncio.run(main()) == [1, 2, 3, 4] * 5

    barrier = threading.Barrier(4)

    @retry(max_attempts=4, jitter=None, sleep=lambda seconds: None)
    def of_thread(tries: int) -> None:
        now = current_attempt()
        assert now is not None
        if now.number < tries:
            raise ConnectionError
        # All four are inside at once, each in another attempt.
        barrier.wait(10)
        found[tries] = now.number, current_attempt()

    found: dict[int, Any] = {}
    threads = [threading.Thread(target=of_thread, args=(tries,)) for tries in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {tries: (number, now.number) for tries, (number, now) in found.items()} == {tries: (tries, tries) for tries in (1, 2, 3, 4)}


# --- stateful retry on methods ---


class Uploader:
    """Goes on where the try before broke off."""

    time = VirtualTime()

    def __init__(self, name: str, faults: int) -> None:
        self.name = name
        self.faults = faults
        self.done: list[int] = []
        self.tries = 0

    def step(self, chunks: list[int]) -> str:
        self.tries += 1
        for chunk in chunks[len(self.done) :]:
            if self.faults and chunk % 2:
                self.faults -= 1
                raise ConnectionError(chunk)
            self.done.append(chunk)
        return f"{self.name}: {len(self.done)}"

    @retry(base_delay=1.0, jitter=None, clock=time.clock, sleep=time.sleep)
    def upload(self, chunks: list[int]) -> str:
        return self.step(chunks)

    @retry(base_delay=1.0, jitter=None, clock=time.clock, sleep=time.asleep)
    async def upload_async(self, chunks: list[int]) -> str:
        await asyncio.sleep(0)
        return self.step(chunks)

    @classmethod
    @retry(jitter=None, clock=time.clock, sleep=time.sleep)
    def of_class(cls, log: list[str]) -> str:
        log.append(cls.__name__)
        if len(log) < 2:
            raise ConnectionError
        return cls.__name__


@pytest.mark.parametrize("method", ["upload", "upload_async"])
def test_methods_keep_their_state_between_tries(method: str) -> None:
    Uploader.time.delays.clear()
    first, second = Uploader("first", 2), Uploader("second", 0)
    assert finish(lambda: getattr(first, method)([2, 1, 4, 3])) == "first: 4"
    assert finish(lambda: getattr(second, method)([2, 1])) == "second: 2"
    assert (first.done, first.tries, second.done, second.tries) == ([2, 1, 4, 3], 3, [2, 1], 1)
    assert Uploader.time.delays == [1.0, 2.0]
    third = Uploader("third", 3)
    with pytest.raises(ConnectionError) as caught:
        finish(lambda: getattr(third, method)([2, 1]))
    assert (third.done, third.tries, notes(caught.value)) == ([2], 3, ["rpcretry: gave up after 3 attempts in 3.00 s (attempts)"])


def test_methods_of_a_class_are_retried() -> None:
    log: list[str] = []
    assert Uploader.of_class(log) == "Uploader"
    assert log == ["Uploader", "Uploader"]


class Weather(RetryableClient):
    """A client of the user's own."""

    def __init__(self, world: World, script: tuple[Any, ...]) -> None:
        super().__init__(max_attempts=3, base_delay=1.0, jitter=None, **world.timing)
        self.fetch, self.service = world.service(*script)
        self.cities: list[str] = []

    def _forecast(self, city: str) -> Any:
        self.cities.append(city)
        return self.fetch()

    async def _forecast_async(self, city: str) -> Any:
        self.cities.append(city)
        return await self.fetch()

    def forecast(self, city: str) -> Any:
        return self.with_retry(self._forecast)(city)

    async def forecast_async(self, city: str) -> Any:
        return await self.with_async_retry(self._forecast_async)(city)


def test_a_retryable_client(world: World) -> None:
    weather = Weather(world, (ConnectionError, ConnectionError, "rain", TimeoutError))
    forecast = weather.forecast_async if world.is_async else weather.forecast
    assert world.run(forecast("Bonn")) == "rain"
    assert (weather.cities, world.waits) == (["Bonn"] * 3, [1.0, 2.0])
    with pytest.raises(TimeoutError):
        world.run(forecast("Ulm"))
    assert weather.cities == ["Bonn"] * 3 + ["Ulm"] * 3


# --- metrics, callbacks and events ---


def test_metrics_of_a_client_and_a_function_together(world: World) -> None:
    metrics = RetryMetrics(keep=10, wall_clock=lambda: 5_000.0)
    strategy = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(attempts=2, interval=1.5))
    client = world.client(ConnectionLostError, result(1), result(2), *[ConnectionLostError] * 3, error(7), retry_strategy=strategy, on_event=metrics)
    assert client.metrics is metrics
    assert world.run(client.call("a")) == 1
    assert world.run(client.call("a")) == 2
    with pytest.raises(ConnectionLostError):
        world.run(client.call("b"))
    with pytest.raises(JsonRpcError):
        world.run(client.call("b"))
    fetch, _ = world.service(Takes(0.5, KeyError), "value")
    assert world.run(retry(on=KeyError, base_delay=1.0, jitter=None, on_event=metrics, name="fetch", **world.timing)(fetch)()) == "value"
    now = metrics.snapshot()
    assert (now.calls, now.succeeded, now.failed, now.attempts, now.retries) == (5, 3, 2, 9, 4)
    assert (now.retried_calls, now.retry_rate, now.successful_after_retry, now.exhausted, now.mean_retries) == (3, 0.6, 2, 1, 0.8)
    assert (now.total_delay, now.mean_delay) == (1.5 * 3 + 1.0, 5.5 / 4)
    assert (dict(now.retries_by_reason), dict(now.errors_by_type)) == ({"exception": 4}, {"ConnectionLostError": 1, "JsonRpcError": 1})
    assert {name: (one.calls, one.failed, one.attempts, one.retries, one.total_delay) for name, one in now.by_operation.items()} == {
        "a": (2, 0, 3, 1, 1.5),
        "b": (2, 2, 4, 2, 3.0),
        "fetch": (1, 0, 2, 1, 1.0),
    }
    assert (now.latency_max, now.latency(1)) == (3.0, 3.0)
    assert now.latency_p50 == pytest.approx(1.5, rel=0.03)
    assert now.records == (
        CallRecord("a", 4_998.5, 5_000.0, 2, True, None),
        CallRecord("a", 5_000.0, 5_000.0, 1, True, None),
        CallRecord("b", 4_997.0, 5_000.0, 3, False, "ConnectionLostError"),
        CallRecord("b", 5_000.0, 5_000.0, 1, False, "JsonRpcError"),
        CallRecord("fetch", 4_998.5, 5_000.0, 2, True, None),
    )
    metrics.reset()
    assert (metrics.snapshot().calls, metrics.snapshot().records) == (0, ())


def test_metrics_of_refusals(world: World) -> None:
    metrics, breaker, budget = RetryMetrics(), CircuitBreaker(failure_threshold=2, clock=world.time.clock), RetryBudget(1)
    strategy = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(attempts=5, interval=1.0))
    options: dict[str, Any] = {"retry_strategy": strategy, "layers": (budget, breaker), "fallback": Fallback("none", on=CircuitOpenError), "on_event": metrics}
    client = world.client(*[ConnectionLostError] * 2, **options)
    with pytest.raises(BudgetExhaustedError):
        world.run(client.call("m"))
    assert world.run(client.call("m")) == "none"
    now = metrics.snapshot()
    assert (now.calls, now.failed, now.refused, now.breaker_rejections, now.breaker_opens, now.budget_refusals, now.fallbacks) == (2, 2, 2, 1, 1, 1, 1)
    assert list(client.layers) == [budget, breaker]


def test_callbacks(world: World) -> None:
    retried: list[tuple[int, Any]] = []
    fetch, _ = world.service(ConnectionError("first"), TimeoutError("second"), "value")
    options: dict[str, Any] = {"on_retry": lambda attempt, problem: retried.append((attempt, problem.args)), "on_event": world.events.append, "name": "fetch"}
    assert world.run(retry(base_delay=1.0, jitter=None, **options, **world.timing)(fetch)()) == "value"
    assert retried == [(1, ("first",)), (2, ("second",))]
    assert world.told == ["AttemptStarted", "RetryScheduled", "AttemptStarted", "RetryScheduled", "AttemptStarted", "CallSucceeded"]
    assert [(event.operation, event.attempt, event.max_attempts, event.elapsed) for event in world.events] == [
        ("fetch", 1, 3, 0.0),
        ("fetch", 1, 3, 0.0),
        ("fetch", 2, 3, 1.0),
        ("fetch", 2, 3, 1.0),
        ("fetch", 3, 3, 3.0),
        ("fetch", 3, 3, 3.0),
    ]
    assert [(event.delay, event.reason, type(event.error)) for event in world.events if isinstance(event, RetryScheduled)] == [
        (1.0, "exception", ConnectionError),
        (2.0, "exception", TimeoutError),
    ]


def test_events_of_a_client_that_gives_up(world: World) -> None:
    wanted: list[Event] = []

    class Alarm:
        """A sink in five lines: it is given what it wants, and nothing else."""

        wants = (CallFailed,)

        def __call__(self, event: Event) -> None:
            wanted.append(event)

    def broken(event: Event) -> None:
        raise RuntimeError("a sink that fails harms nothing")

    strategy = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(attempts=1, interval=2.0))
    client = world.client(ConnectionLostError, ConnectionLostError, retry_strategy=strategy, on_event=[broken, Alarm(), world.events.append])
    with pytest.raises(ConnectionLostError) as caught:
        world.run(client.call("m"))
    assert world.told == ["AttemptStarted", "RetryScheduled", "AttemptStarted", "CallFailed"]
    (failed,) = wanted
    assert isinstance(failed, CallFailed)
    assert (failed.operation, failed.attempt, failed.max_attempts, failed.elapsed, failed.reason) == ("m", 2, 2, 2.0, "attempts")
    assert failed.error is caught.value


# --- fallback ---


def test_a_fallback_of_a_function(world: World) -> None:
    fetch, service = world.service(ConnectionError("down"))
    options: dict[str, Any] = {"max_attempts": 2, "base_delay": 1.0, "jitter": None, **world.timing}
    assert world.run(retry(fallback_value={}, **options)(fetch)()) == {}
    assert world.run(retry(fallback=lambda problem: f"sorry: {problem}", on_event=world.events.append, **options)(fetch)()) == "sorry: down"
    assert (service.calls, world.told[-2:]) == (4, ["CallFailed", "FallbackUsed"])
    with pytest.raises(ZeroDivisionError) as caught:
        world.run(retry(fallback=lambda problem: 1 / 0, **options)(fetch)())
    # The original failure is not lost.
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_a_fallback_of_a_client_a_view_and_a_call(world: World) -> None:
    client = world.client(*[ConnectionLostError] * 4, fallback=Fallback(lambda: "of the client"))
    assert world.run(client.call("m")) == "of the client"
    assert world.run(client.using(fallback=Fallback("of the view")).call("m")) == "of the view"
    assert world.run(client.proxy.m(_fallback=Fallback(None))) is None
    with pytest.raises(ConnectionLostError):
        world.run(client.call("m", _fallback=None))


def test_a_fallback_for_some_failures(world: World) -> None:
    client = world.client(ConnectionLostError, error(-32601), fallback=Fallback(0, on=ConnectionError))
    assert world.run(client.call("count")) == 0
    with pytest.raises(MethodNotFoundError):
        world.run(client.call("count"))


def test_an_async_fallback() -> None:
    world = World("async")

    async def from_the_replica() -> str:
        await asyncio.sleep(0)
        return "replica"

    fetch, _ = world.service(ConnectionError)
    assert world.run(retry(fallback=from_the_replica, **world.timing)(fetch)()) == "replica"
    with pytest.raises(TypeError, match="async def"):
        retry(fallback=from_the_replica)(lambda: 1)


# --- graceful degradation: open circuit -> cached -> default ---


def test_graceful_degradation_of_a_client(world: World) -> None:
    breaker = CircuitBreaker("prices", failure_threshold=2, recovery_timeout=30, success_threshold=1, clock=world.time.clock)
    options: dict[str, Any] = {"layers": breaker, "fallback": Fallback(LAST_GOOD, "unknown"), "on_event": world.events.append}
    client = world.client(result(42), ConnectionLostError, ConnectionLostError, result(43), **options)

    def price(currency: str) -> Any:
        return world.run(client.call("price", currency))

    assert price("EUR") == 42
    assert (price("EUR"), price("CHF")) == (42, "unknown")
    assert (breaker.is_open, sent(client)) == (True, 3)
    # The circuit is open: nothing goes out, and what was cached, or the default, is the answer.
    assert (price("EUR"), price("CHF"), sent(client)) == (42, "unknown", 3)
    used = [event for event in world.events if isinstance(event, FallbackUsed)]
    assert [(event.reason, type(event.error)) for event in used] == [
        ("last good", ConnectionLostError),
        ("value", ConnectionLostError),
        ("last good", CircuitOpenError),
        ("value", CircuitOpenError),
    ]
    world.time.advance(30)
    assert (price("EUR"), breaker.is_closed, sent(client)) == (43, True, 4)


def test_graceful_degradation_of_a_function(world: World) -> None:
    cache: dict[str, str] = {}
    breaker = CircuitBreaker(failure_threshold=3, clock=world.time.clock)
    service = Service(world.time, ("fresh", ConnectionError))

    def degraded(problem: Exception) -> str:
        return f"{cache.get('it', 'default')} for {type(problem).__name__}"

    def fetch() -> Any:
        cache["it"] = service.play()
        return cache["it"]

    async def fetch_async() -> Any:
        return fetch()

    fetch_it = retry(max_attempts=2, base_delay=1.0, jitter=None, layers=breaker, fallback=degraded, **world.timing)(fetch_async if world.is_async else fetch)
    assert world.run(fetch_it()) == "fresh"
    assert world.run(fetch_it()) == "fresh for ConnectionError"
    # The third failure in a row opens the circuit, which ends the call.
    assert world.run(fetch_it()) == "fresh for CircuitOpenError"
    cache.clear()
    assert world.run(fetch_it()) == "default for CircuitOpenError"
    assert service.calls == 4


# --- total timeout ---


def test_a_wait_past_the_total_timeout_is_not_begun(world: World) -> None:
    fetch, service = world.service(Takes(1.0, ConnectionError("down")))
    fetch = retry(max_attempts=9, base_delay=2.0, jitter=None, deadline=10.0, name="fetch", **world.timing)(fetch)
    with pytest.raises(DeadlineExceeded) as caught:
        world.run(fetch())
    # 1 s, wait 2, 1 s, wait 4, 1 s: the next wait, 8 s, would end at 17.
    assert (service.starts, world.waits) == ([0, 3, 8], [2.0, 4.0])
    problem = caught.value
    assert (problem.deadline, problem.elapsed, problem.attempts) == (10.0, 9.0, 3)
    assert (type(problem.__cause__), isinstance(problem, TimeoutError)) == (ConnectionError, True)
    assert str(problem) == "fetch: the deadline of 10 s ended the call after 3 attempts in 9.00 s"


def test_the_total_timeout_of_a_client_cuts_an_attempt(world: World) -> None:
    strategy = RetryStrategy(exceptions={ConnectionError, TimeoutError}, backoff=PeriodicBackoff(attempts=9, interval=1.0))
    client = world.client(Takes(2.0, ConnectionLostError), Takes(60.0, result(1)), retry_strategy=strategy, deadline=10.0)
    with pytest.raises(DeadlineExceeded) as caught:
        world.run(client.call("m"))
    assert (caught.value.elapsed, caught.value.attempts, type(caught.value.__cause__)) == (10.0, 2, RequestTimeoutError)
    assert caught.value.delivery is Delivery.MAYBE_EXECUTED


def test_each_attempt_has_its_limit_and_the_call_another(world: World) -> None:
    strategy = RetryStrategy(exceptions={TimeoutError}, backoff=PeriodicBackoff(attempts=9, interval=1.0))
    client = world.client(Takes(5.0, result(1)), Takes(5.0, result(1)), Takes(1.5, result(2)), retry_strategy=strategy, timeout=2.0, deadline=10.0)
    assert world.run(client.call("m")) == 2
    # Cut at 2 s, again at 5 s, and in time at 7.5 s.
    assert (world.waits, world.time.now - 1_000) == ([1.0, 1.0], 7.5)


def test_no_time_at_all(world: World) -> None:
    client = world.client(deadline=60)
    with pytest.raises(DeadlineExceeded) as caught:
        world.run(client.call("m", _deadline=0))
    assert (caught.value.attempts, caught.value.delivery, sent(client)) == (0, Delivery.NOT_SENT, 0)


def test_a_hint_past_the_total_timeout_stops(world: World) -> None:
    strategy = RetryStrategy(backoff=PeriodicBackoff(attempts=3, interval=1.0))
    client = world.client(http(503, headers={"retry-after": "30"}), retry_strategy=strategy, deadline=10.0)
    with pytest.raises(DeadlineExceeded) as caught:
        world.run(client.call("m"))
    assert (type(caught.value.__cause__), world.waits) == (HTTPStatusError, [])


# --- exhausted ---


def test_the_last_failure_goes_through_with_one_note(world: World) -> None:
    fetch, service = world.service(ConnectionError("first"), ConnectionError("second"), ConnectionError("third"))
    with pytest.raises(ConnectionError) as caught:
        world.run(retry(base_delay=1.0, jitter=None, **world.timing)(fetch)())
    assert (type(caught.value), caught.value.args, caught.value.__cause__, service.calls) == (ConnectionError, ("third",), None, 3)
    assert notes(caught.value) == ["rpcretry: gave up after 3 attempts in 3.00 s (attempts)"]
    assert caught.traceback[-1].name == "play"


def test_exhausted_by_choice(world: World) -> None:
    fetch, _ = world.service(ConnectionError("down"))
    with pytest.raises(RetryExhaustedError) as caught:
        world.run(retry(base_delay=1.0, jitter=None, wrap=True, name="fetch", **world.timing)(fetch)())
    problem = caught.value
    assert (problem.attempts, problem.elapsed, problem.last_exception) == (3, 3.0, problem.__cause__)
    assert (type(problem.last_exception), problem.last_exception.args) == (ConnectionError, ("down",))  # type: ignore[union-attr]
    assert str(problem) == "fetch: gave up after 3 attempts in 3.00 s: ConnectionError('down')"
    again = pickle.loads(pickle.dumps(problem))
    assert (again.attempts, again.elapsed, type(again.last_exception), str(again)) == (3, 3.0, ConnectionError, str(problem))


def test_exhausted_client(world: World) -> None:
    strategy = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(attempts=2, interval=1.0), wrap=True)
    client = world.client(*[ConnectionLostError] * 3, retry_strategy=strategy)
    with pytest.raises(RetryExhaustedError) as caught:
        world.run(client.call("m"))
    assert (caught.value.attempts, type(caught.value.__cause__), caught.value.elapsed) == (3, ConnectionLostError, 2.0)
    assert caught.value.delivery is Delivery.MAYBE_EXECUTED


def test_an_error_code_that_runs_out_is_returned_by_send_and_raised_by_call(world: World) -> None:
    strategy = RetryStrategy(codes={2001}, backoff=PeriodicBackoff(attempts=1, interval=1.0))
    client = world.client(*[error(2001, "busy")] * 4, retry_strategy=strategy)
    response = world.run(client.send(rpcretry.Request("m")))
    assert (response.error.code, response.attempts) == (2001, 2)
    with pytest.raises(JsonRpcError) as caught:
        world.run(client.call("m"))
    assert (caught.value.code, caught.value.delivery) == (2001, Delivery.REJECTED)
    assert notes(caught.value) == ["rpcretry: gave up after 2 attempts in 1.00 s (attempts)"]


# --- adaptive delays ---


def test_delays_grow_as_less_succeeds(world: World) -> None:
    adaptive = AdaptiveDelay(alpha=0.5, max_factor=4.0)
    strategy = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(attempts=9, interval=1.0))
    client = world.client(*[ConnectionLostError] * 4, result(1), ConnectionLostError, result(2), retry_strategy=strategy, layers=adaptive)
    assert world.run(client.call("m")) == 1
    # Success rates before each failure: 1, 1/2, 1/4, 1/8, and a factor of 4 at the most.
    assert world.waits == [1.0, 2.0, 4.0, 4.0]
    assert adaptive.success_rate == 1 / 16 + (1 - 1 / 16) / 2
    assert world.run(client.call("m")) == 2
    assert world.waits[4:] == [round(32 / 17, 6)]
    adaptive.reset()
    assert (adaptive.success_rate, adaptive.factor) == (1.0, 1.0)


def test_a_function_and_a_client_share_what_they_learn(world: World) -> None:
    adaptive = AdaptiveDelay(alpha=0.5)
    with pytest.raises(ConnectionLostError):
        world.run(world.client(ConnectionLostError, layers=adaptive).call("m"))
    fetch, _ = world.service(ConnectionError, "value")
    assert world.run(retry(base_delay=1.0, jitter=None, layers=adaptive, **world.timing)(fetch)()) == "value"
    assert world.waits == [2.0]


# --- retry budget ---


def test_a_retry_budget_shared_by_a_client_and_a_function(world: World) -> None:
    budget = RetryBudget(3, refund=0.5, name="shop")
    strategy = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(attempts=5, interval=1.0))
    client = world.client(ConnectionLostError, ConnectionLostError, result(1), *[result(2)] * 2, retry_strategy=strategy, layers=budget)
    assert world.run(client.call("m")) == 1
    assert budget.level == 1.5
    fetch, service = world.service(ConnectionError("down"))
    fetch = retry(max_attempts=9, base_delay=1.0, jitter=None, layers=budget, on_event=world.events.append, name="fetch", **world.timing)(fetch)
    with pytest.raises(BudgetExhaustedError) as caught:
        world.run(fetch())
    assert (caught.value.name, caught.value.level, type(caught.value.__cause__), service.calls) == ("shop", 0.5, ConnectionError, 2)
    refused = next(event for event in world.events if isinstance(event, BudgetRefused))
    assert (refused.operation, refused.attempt, refused.reason, refused.level) == ("fetch", 2, "shop", 0.5)
    # Successes bring tokens back.
    assert [world.run(client.call("m")) for _ in range(2)] == [2, 2]
    assert budget.level == 1.5


def test_a_total_outage_costs_the_budget_and_no_more(world: World) -> None:
    budget = RetryBudget()
    strategy = RetryStrategy(exceptions={ConnectionError}, backoff=ImmediateBackoff(attempts=3))
    client = world.client(*[ConnectionLostError] * 300, retry_strategy=strategy, layers=budget)
    for _ in range(200):
        with pytest.raises((ConnectionLostError, BudgetExhaustedError)):
            world.run(client.call("m"))
    assert (sent(client), budget.level) == (200 + 100, 0.0)


# --- circuit breaker: basic ---


def test_a_breaker_goes_through_its_states(world: World) -> None:
    changes: list[BreakerChanged] = []
    breaker = CircuitBreaker("db", failure_threshold=3, recovery_timeout=30, half_open_max_calls=2, success_threshold=2, clock=world.time.clock)
    breaker.add_listener(changes.append)  # type: ignore[arg-type]
    client = world.client(*[ConnectionLostError] * 3, result(1), ConnectionLostError, result(2), result(3), result(4), layers=breaker)

    def fails(kind: type[Exception]) -> Any:
        with pytest.raises(kind) as caught:
            world.run(client.call("m"))
        assert type(caught.value) is kind
        return caught.value

    assert (breaker.state, breaker.is_closed, breaker.remaining) == (CLOSED, True, 0.0)
    for _ in range(3):
        fails(ConnectionLostError)
    assert (breaker.state, breaker.is_open, breaker.remaining) == (OPEN, True, 30.0)
    world.time.advance(12.5)
    refusal = fails(CircuitOpenError)
    assert (refusal.name, refusal.state, refusal.remaining, refusal.delivery) == ("db", OPEN, 17.5, Delivery.NOT_SENT)
    assert not isinstance(refusal, ConnectionError)
    assert str(refusal) == "circuit breaker db is open, and lets a probe through in 17.50 s"
    again = pickle.loads(pickle.dumps(refusal))
    assert (again.name, again.state, again.remaining) == ("db", OPEN, 17.5)
    assert sent(client) == 3
    world.time.advance(17.5)
    assert (breaker.state, breaker.is_half_open, breaker.remaining) == (HALF_OPEN, True, 0.0)
    # One success is too few, and one failure opens it again, for as long as before.
    assert world.run(client.call("m")) == 1
    fails(ConnectionLostError)
    assert (breaker.state, breaker.remaining) == (OPEN, 30.0)
    world.time.advance(30)
    assert (world.run(client.call("m")), breaker.state) == (2, HALF_OPEN)
    assert (world.run(client.call("m")), breaker.state) == (3, CLOSED)
    assert world.run(client.call("m")) == 4
    assert breaker.stats == CircuitStats(total=9, successful=4, failed=4, rejected=1, state_changes=5, opened_count=2, consecutive_failures=0)
    assert [(change.name, change.previous, change.state, change.reason, change.remaining) for change in changes] == [
        ("db", CLOSED, OPEN, "3 failures in a row", 30.0),
        ("db", OPEN, HALF_OPEN, "recovery time over", 0.0),
        ("db", HALF_OPEN, OPEN, "a probe failed", 30.0),
        ("db", OPEN, HALF_OPEN, "recovery time over", 0.0),
        ("db", HALF_OPEN, CLOSED, "2 probes succeeded", 0.0),
    ]


def test_what_counts_as_a_failure(world: World) -> None:
    breaker = CircuitBreaker(failure_threshold=1, clock=world.time.clock)
    # The server is alive: it said so.
    client = world.client(error(-32000, "no funds"), http(404), http(503), layers=breaker)
    with pytest.raises(ServerError):
        world.run(client.call("m"))
    with pytest.raises(HTTPStatusError):
        world.run(client.call("m"))
    assert (breaker.state, breaker.stats.successful) == (CLOSED, 2)
    with pytest.raises(HTTPStatusError):
        world.run(client.call("m"))
    assert (breaker.state, breaker.stats.failed) == (OPEN, 1)
    named = CircuitBreaker(failure_threshold=1, failure_on={-32000}, clock=world.time.clock)
    with pytest.raises(ServerError):
        world.run(world.client(error(-32000), layers=named).call("m"))
    assert named.is_open


def test_a_breaker_around_blocks(world: World) -> None:
    breaker = CircuitBreaker("disk", failure_threshold=2, recovery_timeout=10, success_threshold=1, clock=world.time.clock)

    def block(problem: Exception | None = None) -> str:
        with breaker:
            if problem is not None:
                raise problem
            return "done"

    async def block_async(problem: Exception | None = None) -> str:
        async with breaker:
            await asyncio.sleep(0)
            if problem is not None:
                raise problem
            return "done"

    enter = block_async if world.is_async else block
    assert world.run(enter()) == "done"
    for _ in range(2):
        with pytest.raises(OSError, match="full"):
            world.run(enter(OSError("full")))
    world.time.advance(4)
    with pytest.raises(CircuitOpenError) as caught:
        world.run(enter())
    assert (caught.value.name, caught.value.state, caught.value.remaining) == ("disk", OPEN, 6.0)
    world.time.advance(6)
    assert world.run(enter()) == "done"
    assert breaker.stats == CircuitStats(total=5, successful=2, failed=2, rejected=1, state_changes=3, opened_count=1)


def test_a_breaker_around_functions(world: World) -> None:
    breaker = CircuitBreaker("mail", failure_threshold=2, recovery_timeout=10, success_threshold=1, clock=world.time.clock)
    fetch, service = world.service("hello", TimeoutError, TimeoutError, "again")
    fetch = breaker.protect(fetch)
    assert world.run(fetch()) == "hello"
    for _ in range(2):
        with pytest.raises(TimeoutError):
            world.run(fetch())
    with pytest.raises(CircuitOpenError) as caught:
        world.run(fetch())
    assert (caught.value.remaining, service.calls) == (10.0, 3)
    world.time.advance(10)
    assert world.run(fetch()) == "again"
    assert breaker.stats == CircuitStats(total=5, successful=2, failed=2, rejected=1, state_changes=3, opened_count=1)


def test_a_breaker_as_a_decorator_of_methods() -> None:
    time = VirtualTime()
    breaker = CircuitBreaker(failure_threshold=1, clock=time.clock)

    class Mailbox:
        def __init__(self, mails: int) -> None:
            self.mails = mails

        @breaker.protect
        def count(self, at_least: int = 0) -> int:
            """How many."""
            if self.mails < at_least:
                raise ValueError(at_least)
            return self.mails

    assert (Mailbox(3).count(), Mailbox.count.__doc__) == (3, "How many.")
    with pytest.raises(ValueError, match="5"):
        Mailbox(3).count(at_least=5)
    with pytest.raises(CircuitOpenError):
        Mailbox(3).count()


# --- circuit breaker: manual control ---


def test_a_breaker_by_hand() -> None:
    time = VirtualTime()
    breaker = CircuitBreaker(failure_threshold=2, recovery_timeout=10, half_open_max_calls=2, success_threshold=2, clock=time.clock)
    for _ in range(2):
        assert breaker.can_execute()
        breaker.record_failure(OSError("down"))
    assert (breaker.can_execute(), breaker.state, breaker.stats.rejected) == (False, OPEN, 1)
    time.advance(10)
    # Two probes may be out at once.
    assert [breaker.can_execute() for _ in range(3)] == [True, True, False]
    breaker.record_success()
    assert breaker.can_execute()
    breaker.record_success()
    assert (breaker.state, breaker.stats.successful, breaker.stats.failed) == (CLOSED, 2, 2)


def test_a_breaker_that_is_held_open() -> None:
    time = VirtualTime()
    breaker = CircuitBreaker("maintenance", recovery_timeout=10, clock=time.clock)
    calls: list[int] = []
    fetch = breaker.protect(lambda: calls.append(1))
    breaker.open()
    time.advance(1_000_000)
    with pytest.raises(CircuitOpenError) as caught:
        fetch()
    assert (breaker.state, breaker.remaining, caught.value.remaining, calls) == (OPEN, math.inf, math.inf, [])
    assert str(caught.value) == "circuit breaker maintenance is held open until close or reset is called"
    breaker.close()
    fetch()
    assert (breaker.state, calls, breaker.stats.rejected) == (CLOSED, [1], 1)
    breaker.open()
    breaker.reset()
    assert (breaker.state, breaker.stats) == (CLOSED, CircuitStats())


# --- circuit breaker: advanced ---


def test_a_breaker_by_failure_rate_of_calls(world: World) -> None:
    breaker = CircuitBreaker(failure_rate=0.5, window=4, minimum_calls=4, clock=world.time.clock)
    script = [ConnectionLostError, result(1), ConnectionLostError, result(1)]
    client = world.client(ConnectionLostError, result(1), result(1), result(1), *script, layers=breaker)

    def states(count: int) -> list[CircuitState]:
        found = []
        for _ in range(count):
            world.run(client.call("m", _fallback=Fallback(None)))
            found.append(breaker.state)
        return found

    # F, FS, FSS, FSSS, SSSF, SSFS: a quarter of four at most; then SFSF is half.
    assert states(7) == [CLOSED] * 6 + [OPEN]
    assert (sent(client), breaker.stats.failed) == (7, 3)


def test_a_breaker_by_failure_rate_in_time() -> None:
    time = VirtualTime()
    breaker = CircuitBreaker(failure_rate=0.5, window=datetime.timedelta(seconds=10), minimum_calls=2, clock=time.clock)
    breaker.record_failure()
    time.advance(11)
    breaker.record_failure()
    # The one before is too old to count.
    assert breaker.is_closed
    time.advance(1)
    breaker.record_failure()
    assert breaker.is_open


def test_a_breaker_for_each_method(world: World) -> None:
    breaker = CircuitBreaker("rpc", failure_threshold=1, key="method", clock=world.time.clock)
    client = world.client(ConnectionLostError, result("fine"), layers=breaker)
    with pytest.raises(ConnectionLostError):
        world.run(client.call("slow"))
    assert world.run(client.call("quick")) == "fine"
    with pytest.raises(CircuitOpenError) as caught:
        world.run(client.call("slow"))
    assert caught.value.name == "rpc[slow]"
    assert (breaker["slow"].state, breaker["quick"].state, set(breaker.keys())) == (OPEN, CLOSED, {"slow", "quick"})
    breaker["slow"].close()
    assert breaker["slow"].is_closed


def test_a_breaker_that_stays_open_longer_each_time(world: World) -> None:
    recovery = ExponentialBackoff(attempts=3, base=10.0, factor=2.0)
    breaker = CircuitBreaker(failure_threshold=1, recovery_timeout=recovery, success_threshold=1, clock=world.time.clock)
    client = world.client(*[ConnectionLostError] * 5, result(1), ConnectionLostError, layers=breaker, fallback=Fallback(None))
    stays: list[float] = []
    for _ in range(5):
        world.run(client.call("m"))
        stays.append(breaker.remaining)
        world.time.advance(breaker.remaining)
    assert stays == [10.0, 20.0, 40.0, 40.0, 40.0]
    assert (world.run(client.call("m")), breaker.state) == (1, CLOSED)
    world.run(client.call("m"))
    assert breaker.remaining == 10.0


def test_no_more_probes_than_allowed_and_a_cancelled_one_counts_nothing() -> None:
    time = VirtualTime()
    breaker = CircuitBreaker(failure_threshold=1, recovery_timeout=10, half_open_max_calls=2, success_threshold=2, clock=time.clock)

    async def main() -> None:
        release = asyncio.Event()

        @breaker.protect
        async def probe() -> str:
            await release.wait()
            return "up"

        breaker.record_failure()
        time.advance(10)
        tasks = [asyncio.create_task(probe()) for _ in range(50)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        refused = [task for task in tasks if task.done()]
        assert len(refused) == 48
        assert {type(task.exception()) for task in refused} == {CircuitOpenError}
        tasks[0].cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (breaker.state, breaker.stats.failed, breaker.stats.successful) == (HALF_OPEN, 1, 0)
        # Its slot is free again.
        another = asyncio.create_task(probe())
        release.set()
        assert await asyncio.gather(tasks[1], another) == ["up", "up"]
        assert breaker.is_closed

    asyncio.run(main())


def test_a_broken_listener_harms_nothing(world: World) -> None:
    def broken(change: Event) -> None:
        raise RuntimeError("a listener that fails")

    breaker = CircuitBreaker(failure_threshold=1, listeners=broken, clock=world.time.clock)
    with pytest.raises(ConnectionLostError):
        world.run(world.client(ConnectionLostError, layers=breaker).call("m"))
    assert breaker.is_open


# --- retry and breaker together: an open circuit is not retried ---


def test_retry_around_a_protected_function(world: World) -> None:
    breaker = CircuitBreaker(failure_threshold=2, recovery_timeout=30, clock=world.time.clock)
    fetch, service = world.service(ConnectionError("down"))
    fetch = retry(on=Exception, max_attempts=9, base_delay=1.0, jitter=None, on_event=world.events.append, **world.timing)(breaker.protect(fetch))
    with pytest.raises(CircuitOpenError) as caught:
        world.run(fetch())
    # Two failures open it; the third try meets it open, and that is the end of the call.
    assert (service.calls, world.waits, caught.value.remaining) == (2, [1.0, 2.0], 28.0)
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert [type(event) for event in world.events].count(AttemptStarted) == 3
    assert breaker.stats == CircuitStats(total=3, successful=0, failed=2, rejected=1, state_changes=1, opened_count=1, consecutive_failures=2)
    with pytest.raises(CircuitOpenError):
        world.run(fetch())
    assert (service.calls, world.waits) == (2, [1.0, 2.0])


def test_a_breaker_as_a_layer_of_a_function(world: World) -> None:
    breaker = CircuitBreaker(failure_threshold=2, recovery_timeout=30, clock=world.time.clock)
    fetch, service = world.service(ConnectionError("down"))
    fetch = retry(on=Exception, max_attempts=9, base_delay=1.0, jitter=None, layers=breaker, on_event=world.events.append, **world.timing)(fetch)
    with pytest.raises(CircuitOpenError) as caught:
        world.run(fetch())
    assert (service.calls, world.waits, caught.value.remaining) == (2, [1.0, 2.0], 28.0)
    # Refused later than at the first attempt: raised from the failure before.
    assert isinstance(caught.value.__cause__, ConnectionError)
    failed = next(event for event in world.events if isinstance(event, CallFailed))
    assert (failed.reason, failed.attempt) == ("refused", 2)
    assert [type(event) for event in world.events].count(AttemptStarted) == 2
    with pytest.raises(CircuitOpenError) as again:
        world.run(fetch())
    assert (service.calls, again.value.__cause__, world.waits) == (2, None, [1.0, 2.0])


def test_a_breaker_as_a_layer_of_a_client(world: World) -> None:
    breaker = CircuitBreaker(failure_threshold=2, recovery_timeout=30, clock=world.time.clock)
    strategy = RetryStrategy(exceptions={Exception}, backoff=PeriodicBackoff(attempts=9, interval=1.0))
    client = world.client(ConnectionLostError, ConnectionLostError, retry_strategy=strategy, layers=breaker)
    with pytest.raises(CircuitOpenError) as caught:
        world.run(client.call("m"))
    assert (sent(client), world.waits, caught.value.remaining, type(caught.value.__cause__)) == (2, [1.0, 1.0], 29.0, ConnectionLostError)


def test_a_breaker_around_the_retries_counts_whole_calls(world: World) -> None:
    breaker = CircuitBreaker(failure_threshold=2, recovery_timeout=30, clock=world.time.clock)
    fetch, service = world.service(ConnectionError("down"))
    fetch = breaker.protect(retry(max_attempts=3, base_delay=1.0, jitter=None, **world.timing)(fetch))
    for _ in range(2):
        with pytest.raises(ConnectionError):
            world.run(fetch())
    assert (service.calls, breaker.stats.failed) == (6, 2)
    with pytest.raises(CircuitOpenError):
        world.run(fetch())
    assert (service.calls, world.waits) == (6, [1.0, 2.0] * 2)


# --- bulkhead and rate limit ---


def test_a_bulkhead_queues_tasks() -> None:
    limit = ConcurrencyLimit(2)
    inside, most, order = 0, 0, []

    @retry(layers=limit)
    async def work(number: int) -> int:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        order.append(number)
        await asyncio.sleep(0.001)
        inside -= 1
        return number

    async def main() -> list[int]:
        tasks = [asyncio.create_task(work(number)) for number in range(8)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (limit.in_use, limit.waiting) == (2, 6)
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == list(range(8))
    assert (most, order, limit.in_use, limit.waiting) == (2, list(range(8)), 0, 0)


def test_a_bulkhead_queues_threads() -> None:
    limit = ConcurrencyLimit(1)
    lock = threading.Lock()
    entered = threading.Event()
    done: list[int] = []

    @retry(layers=limit)
    def work(number: int) -> None:
        assert lock.acquire(blocking=False), "two are inside at once"
        entered.set()
        while number == 0 and limit.waiting < 3:
            threading.Event().wait(0.001)
        done.append(number)
        lock.release()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    threads[0].start()
    assert entered.wait(10)
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (done[0], sorted(done), limit.in_use, limit.waiting) == (0, [0, 1, 2, 3], 0, 0)


def test_a_bulkhead_that_refuses(world: World) -> None:
    limit = ConcurrencyLimit(1, max_waiting=0, name="reports")
    raised: list[LimitReachedError] = []
    options: dict[str, Any] = {"on": Exception, "jitter": None, "layers": limit, **world.timing}

    def nested(inner: Callable[[], Any]) -> None:
        with pytest.raises(LimitReachedError) as caught:
            inner()
        raised.append(caught.value)

    async def nested_async(inner: Callable[[], Any]) -> None:
        with pytest.raises(LimitReachedError) as caught:
            await inner()
        raised.append(caught.value)

    fetch, service = world.service("never")
    inner = retry(**options)(fetch)
    world.run(retry(**options)(nested_async if world.is_async else nested)(inner))
    assert [(problem.name, problem.remaining, problem.__cause__) for problem in raised] == [("reports", None, None)]
    assert (service.calls, world.waits, limit.in_use) == (0, [], 0)
    # Its place is free again.
    assert world.run(inner()) == "never"


def test_a_rate_limit_spaces_calls(world: World) -> None:
    limit = RateLimit(2, per=1.0, burst=2, clock=world.time.clock)
    fetch, service = world.service("value")
    fetch = retry(layers=limit, on_event=world.events.append, **world.timing)(fetch)
    for _ in range(5):
        world.run(fetch())
    assert (service.starts, world.waits, limit.level) == ([0, 0, 0.5, 1.0, 1.5], [0.5] * 3, 0.0)
    assert [(event.reason, round(event.delay, 6)) for event in world.events if isinstance(event, Waited)] == [("rate limit", 0.5)] * 3


def test_a_rate_limit_counts_retries_and_costs(world: World) -> None:
    limit = RateLimit(1, per=1.0, burst=5, cost={"search": 5}, clock=world.time.clock)
    strategy = RetryStrategy(exceptions={ConnectionError}, backoff=ImmediateBackoff(attempts=3))
    client = world.client(result(1), ConnectionLostError, result(2), retry_strategy=strategy, layers=limit)
    assert world.run(client.call("search", "all")) == 1
    assert limit.level == 0.0
    # Either try waits for a token of its own.
    assert world.run(client.call("get")) == 2
    assert world.waits == [1.0, 1.0]


def test_a_rate_limit_that_refuses(world: World) -> None:
    limit = RateLimit(1, per=10.0, burst=1, max_wait=4.0, name="api", clock=world.time.clock)
    fetch, service = world.service("value")
    fetch = retry(on=Exception, layers=limit, **world.timing)(fetch)
    assert world.run(fetch()) == "value"
    world.time.advance(1)
    with pytest.raises(LimitReachedError) as caught:
        world.run(fetch())
    assert (caught.value.name, round(caught.value.remaining or 0, 6), service.calls, world.waits) == ("api", 9.0, 1, [])
    world.time.advance(6)
    assert (world.run(fetch()), world.waits) == ("value", [3.0])


# --- everything together, and what users add ---


def test_a_stack_of_everything(world: World) -> None:
    breaker, budget, limit = CircuitBreaker(failure_threshold=3, clock=world.time.clock), RetryBudget(10), ConcurrencyLimit(1)
    rate, metrics = RateLimit(10, clock=world.time.clock), RetryMetrics()
    fetch, service = world.service(ConnectionError, Takes(0.5, ConnectionError), "value")
    fetch = retry(
        max_attempts=4,
        base_delay=1.0,
        jitter=None,
        deadline=20.0,
        fallback_value="default",
        layers=(rate, limit, budget, AdaptiveDelay(alpha=0.5), breaker),
        on_event=metrics,
        **world.timing,
    )(fetch)
    assert world.run(fetch()) == "value"
    assert (service.starts, world.waits) == ([0, 1, 5.5], [1.0, 4.0])
    assert (breaker.stats.failed, breaker.stats.successful, round(budget.level, 6), limit.in_use, round(rate.level, 6)) == (2, 1, 8.1, 0, 9.0)
    assert (metrics.snapshot().retries, metrics.snapshot().total_delay) == (2, 5.0)


class OfficeHours(Layer):
    """A layer of the user's own: nothing goes out before nine."""

    def __init__(self, opens: float) -> None:
        self.opens = opens

    def admit(self, attempt: Attempt, now: float) -> Wait | None:
        return Wait(self.opens, "office hours") if now < self.opens else None

    def judge(self, attempt: Attempt, member: Member, outcome: Outcome, verdict: Retry, now: float) -> Retry | Stop:
        return verdict._replace(delay=verdict.delay + 1.0)


def test_a_layer_of_the_users_own(world: World) -> None:
    fetch, service = world.service(ConnectionError, "value")
    fetch = retry(base_delay=1.0, jitter=None, layers=OfficeHours(world.time.now + 9.0), on_event=world.events.append, **world.timing)(fetch)
    assert world.run(fetch()) == "value"
    assert (service.starts, world.waits) == ([9.0, 11.0], [9.0, 2.0])
    assert [(event.reason, event.delay) for event in world.events if isinstance(event, Waited)] == [("office hours", 9.0)]
    assert isinstance(world.events[-1], CallSucceeded)


# --- idempotency keys ---


def test_an_idempotency_key_is_the_same_for_all_attempts_of_one_call(world: World) -> None:
    strategy = RetryStrategy(backoff=PeriodicBackoff(attempts=3, interval=1.0))
    options: dict[str, Any] = {"retry_strategy": strategy, "idempotency_key": True}
    client = world.client(ConnectionLostError, RequestTimeoutError, result("paid"), result("paid"), **options)
    # What the server may have executed goes again, since it would know the repetition.
    assert world.run(client.call("pay", 100)) == "paid"
    assert world.run(client.call("pay", 100)) == "paid"
    first, second, third, other = (exchange.headers["idempotency-key"] for exchange in client.backend.exchanges)
    assert first == second == third != other
    assert world.waits == [1.0, 1.0]


def test_an_idempotency_key_of_ones_own(world: World) -> None:
    client = world.client(result(1), result(2), idempotency_key=lambda request: f"{request.method}-7")
    world.run(client.call("pay"))
    world.run(client.call("pay", _idempotency_key="order-4711"))
    assert [exchange.headers["Idempotency-Key"] for exchange in client.backend.exchanges] == ["pay-7", "order-4711"]


def test_without_a_key_nothing_is_executed_twice(world: World) -> None:
    client = world.client(ConnectionLostError, retry_strategy=RetryStrategy())
    with pytest.raises(ConnectionLostError):
        world.run(client.call("pay", 100))
    assert (sent(client), world.waits) == (1, [])


# --- middlewares ---


class Tokens:
    """A middleware that renews its token where the server answers 401, once for each attempt."""

    def __init__(self) -> None:
        self.renewed = 0

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.renewed}"}

    def __call__(self, exchange: Exchange, next: Callable[[Exchange], Reply]) -> Reply:
        reply = next(exchange.with_headers(self.headers))
        if reply.status != 401:
            return reply
        self.renewed += 1
        return next(exchange.with_headers(self.headers))

    async def asynchronous(self, exchange: Exchange, next: Callable[[Exchange], Awaitable[Reply]]) -> Reply:
        reply = await next(exchange.with_headers(self.headers))
        if reply.status != 401:
            return reply
        self.renewed += 1
        return await next(exchange.with_headers(self.headers))


def test_a_middleware_renews_a_token(world: World) -> None:
    tokens, order = Tokens(), []

    def log(exchange: Exchange, next: Callable[[Exchange], Any]) -> Any:
        order.append(dict(exchange.headers or {}))
        return next(exchange)

    async def log_async(exchange: Exchange, next: Callable[[Exchange], Any]) -> Any:
        return await log(exchange, next)

    strategy = RetryStrategy(statuses={503}, backoff=PeriodicBackoff(attempts=2, interval=1.0))
    middlewares = (tokens.asynchronous, log_async) if world.is_async else (tokens, log)
    client = world.client(http(401), http(503), result("in"), http(401), http(401), middlewares=middlewares, retry_strategy=strategy)
    assert world.run(client.call("m")) == "in"
    # One attempt was two exchanges, and the renewal was no retry.
    assert (order, world.waits) == ([{"Authorization": f"Bearer {number}"} for number in (0, 1, 1)], [1.0])
    with pytest.raises(HTTPStatusError) as caught:
        world.run(client.call("m"))
    assert (caught.value.status, tokens.renewed, sent(client)) == (401, 2, 5)
