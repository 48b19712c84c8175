"""The proof that what decides in the simulation is what decides in a client: a real client against the same bad day, in virtual time, makes its
attempts at the same times and ends its calls in the same errors."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from rpcretry import AsyncClient, Client
from rpcretry.errors import ConnectError, ConnectionLostError, RequestTimeoutError
from rpcretry.layers import AdaptiveDelay, CircuitBreaker, ConcurrencyLimit, RateLimit, RetryAfter, RetryBudget
from rpcretry.outcome import Attempt, Wait
from rpcretry.retry import (
    DecorrelatedJitterBackoff,
    ExponentialBackoff,
    FibonacciBackoff,
    FullJitter,
    ImmediateBackoff,
    Layer,
    LinearBackoff,
    PeriodicBackoff,
    RetryStrategy,
)
from rpcretry.simulation import Change, PolicySpec, Scenario, Server, Settings, simulate
from rpcretry.testing import VirtualTime
from rpcretry.transport import Exchange, Reply

NETWORK, WORK, THINK, DURATION, SEED = 0.01, 0.04, 0.2, 12.0, 7


class Notes(Layer):
    """Writes down when attempts go out; the innermost."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def admit(self, attempt: Attempt, now: float) -> Wait | None:
        self.times.append(now)
        return None


class Day(NamedTuple):
    """When the server does what."""

    down: str | None = None
    windows: tuple[tuple[float, float], ...] = ((1.0, 3.0), (4.0, 4.3), (5.0, 9.0))
    retry_after: float | None = None
    error: int | None = None
    latency: float | None = None

    def server(self) -> Server:
        # So many workers that a request whose caller has gone is in nobody's way.
        return Server(100 / WORK, 100, "constant", network=NETWORK, retry_after=self.retry_after, error=self.error or 503)

    def timeline(self) -> tuple[Change, ...]:
        trouble: dict[str, Any] = {"down": self.down, "latency": self.latency, "error_rate": None if self.error is None else 1.0}
        return tuple(Change(at, until, **trouble) for at, until in self.windows)

    def is_bad(self, now: float) -> bool:
        return any(at <= now < until for at, until in self.windows)


class DayBackend:
    """The same server, written once more, for a real client. One caller at a time."""

    def __init__(self, day: Day, time: VirtualTime, start: float) -> None:
        self.day, self.time, self.start = day, time, start

    def exchange(self, exchange: Exchange, /) -> Reply:
        seconds, answer = self.prepare(exchange, self.time.now)
        if self.time.now + seconds > exchange.ends_by:
            self.time.reach(exchange.ends_by)
            raise RequestTimeoutError("late")
        self.time.advance(seconds)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def prepare(self, exchange: Exchange, now: float) -> tuple[float, Reply | Exception]:
        """How long it takes, and what comes of it."""
        day, arrives = self.day, now - self.start + NETWORK
        work = WORK * (day.latency if day.latency is not None and day.is_bad(arrives) else 1.0)
        if day.is_bad(arrives) and day.down == "hang":
            return math.inf, ConnectError("never")
        if day.down == "hang" and day.is_bad(arrives + work):
            # It goes on, and its answer is lost.
            return math.inf, ConnectError("never")
        if day.is_bad(arrives) and day.down == "refuse":
            return 2 * NETWORK, ConnectError("refused")
        if day.is_bad(arrives) and day.down == "503":
            return 2 * NETWORK, self.status(503)
        lost_at = next((at for at, _ in day.windows if arrives < at <= arrives + work), None)
        if day.down is not None and lost_at is not None:
            # It goes down with what it has.
            return lost_at + NETWORK - (now - self.start), ConnectionLostError("lost")
        if day.error is not None and day.is_bad(arrives + work):
            return 2 * NETWORK + work, self.status(day.error) if day.error >= 400 else Reply(self.document(exchange, error={"code": day.error, "message": ""}))
        return 2 * NETWORK + work, Reply(self.document(exchange, result=1))

    def status(self, status: int) -> Reply:
        after = self.day.retry_after
        return Reply(b"<html>", status, {"Retry-After": str(after)} if after is not None and status == 503 else {})

    @staticmethod
    def document(exchange: Exchange, **content: Any) -> bytes:
        return json.dumps({"jsonrpc": "2.0", "id": exchange.ids[0], **content}).encode()

    def close(self) -> None: ...


def seeded() -> Callable[[], float]:
    return random.Random(3).random


STRATEGIES: dict[str, Callable[[], RetryStrategy | None]] = {
    "none": lambda: None,
    "as it ships": lambda: RetryStrategy(backoff=ExponentialBackoff(3, base=0.1, max_value=20.0, jitter=FullJitter(random=seeded()))),
    "idempotent": lambda: RetryStrategy(idempotent=True, backoff=ExponentialBackoff(3, base=0.1, max_value=20.0, jitter=FullJitter(random=seeded()))),
    "other methods only": lambda: RetryStrategy(idempotent="read", backoff=PeriodicBackoff(3, 0.2)),
    "periodic": lambda: RetryStrategy(exceptions=Exception, statuses=range(500, 600), codes=range(-32099, -31999), backoff=PeriodicBackoff(5, 0.5)),
    "immediate": lambda: RetryStrategy(idempotent=True, backoff=ImmediateBackoff(2)),
    "linear, wrapped": lambda: RetryStrategy(idempotent=True, backoff=LinearBackoff(4, base=0.1, increment=0.2), wrap=True),
    "fibonacci": lambda: RetryStrategy(idempotent=True, backoff=FibonacciBackoff(8, multiplier=0.1, max_value=2.0)),
    "decorrelated": lambda: RetryStrategy(idempotent=True, backoff=DecorrelatedJitterBackoff(6, base=0.1, max_value=3.0, random=seeded())),
    "when": lambda: RetryStrategy(when=lambda outcome, tries: 0.25 if not outcome.ok and tries < 4 else None, backoff=PeriodicBackoff(9, 1.0)),
}

LAYERS: dict[str, Callable[[], list[Layer]]] = {
    "no layers": list,
    "budget": lambda: [RetryBudget(3.0, refund=0.5)],
    "breaker": lambda: [CircuitBreaker(failure_threshold=3, recovery_timeout=1.5, success_threshold=2)],
    "rate": lambda: [RateLimit(2.0, burst=1.0)],
    "rate, impatient": lambda: [RateLimit(1.0, burst=2.0, max_wait=0.2)],
    "concurrency": lambda: [ConcurrencyLimit(1)],
    "adaptive": lambda: [AdaptiveDelay(alpha=0.3)],
    "hint": lambda: [RetryAfter(max_delay=1.0)],
    "all": lambda: [RetryBudget(5.0), RateLimit(3.0, burst=2.0), ConcurrencyLimit(2), CircuitBreaker(failure_threshold=4, recovery_timeout=1.0)],
}

DAYS = {
    "refuses": Day("refuse"),
    "hangs": Day("hang"),
    "503": Day("503"),
    "503 with Retry-After": Day("503", retry_after=1.25),
    "slow": Day(latency=40.0),
    "error 500": Day(error=500),
    "error -32005": Day(error=-32005),
}


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    # Hundreds of failures, which nobody reads and which would take most of the time.
    caplog.set_level(logging.CRITICAL, "rpcretry")


@pytest.mark.parametrize("day", DAYS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_client_attempts_when_a_real_client_does(strategy: str, day: str) -> None:
    for layers, deadline in [*((layers, None) for layers in LAYERS), ("no layers", 2.0), ("rate", 1.2), ("all", 2.0)]:
        notes = Notes()
        made = Settings(STRATEGIES[strategy](), [*LAYERS[layers](), notes], 0.75, deadline)
        scenario = Scenario(
            "one", 1, duration=DURATION, think=THINK, server=DAYS[day].server(), timeline=DAYS[day].timeline(), idempotent=0.0, description=layers
        )
        found = simulate(scenario, PolicySpec("policy", lambda process, source, made=made: made), SEED)  # type: ignore[misc]
        times, ended = real(strategy, layers, DAYS[day], deadline)
        assert notes.times == pytest.approx(times, abs=1e-6), layers
        assert found.failed | {"ok": found.succeeded} == ended | {"ok": ended["ok"]}, layers
        assert len(times) > 10


def pauses() -> Iterator[float]:
    """Those of the simulated client."""
    source = random.Random(f"{SEED} pauses")
    while True:
        yield -math.log(1.0 - source.random()) * THINK


def real(strategy: str, layers: str, day: Day, deadline: float | None) -> tuple[list[float], Counter[str]]:
    """When a real client sends, and how its calls end."""
    time, notes, ended = VirtualTime(), Notes(), Counter[str]()
    start = time.now
    with Client(
        DayBackend(day, time, start),
        retry_strategy=STRATEGIES[strategy](),
        layers=[*LAYERS[layers](), notes],
        timeout=0.75,
        deadline=deadline,
        clock=time.clock,
        sleep=time.sleep,
    ) as client:
        for pause in pauses():
            time.advance(pause)
            if time.now - start >= DURATION:
                break
            try:
                client.call("write")
                end = "ok"
            except Exception as problem:
                end = type(problem).__name__
            if time.now - start < DURATION:
                ended[end] += 1
    return [at - start for at in notes.times if at - start < DURATION], ended


# --- many clients at once: the waits that somebody else ends ---


class AsyncDayBackend:
    """The server of a :class:`DayBackend` for any number of callers."""

    def __init__(self, day: Day, time: VirtualTime) -> None:
        self.plan, self.time = DayBackend(day, time, 0.0), time

    async def exchange(self, exchange: Exchange, /) -> Reply:
        seconds, answer = self.plan.prepare(exchange, self.time.now)
        ends = self.time.now + seconds
        await self.time.pass_until(min(ends, exchange.ends_by))
        if ends > exchange.ends_by:
            raise RequestTimeoutError("late")
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def aclose(self) -> None: ...


def real_crowd(day: Day, strategy: RetryStrategy | None, layers: list[Layer]) -> tuple[list[float], Counter[str]]:
    """When the attempts of twenty clients of one process go out, and how their calls end."""
    time, notes = VirtualTime(0.5), Notes()
    backend = AsyncDayBackend(day, time)

    async def call_all() -> Counter[str]:
        options: dict[str, Any] = {"retry_strategy": strategy, "layers": [*layers, notes], "timeout": 0.75}
        async with AsyncClient(backend, clock=time.clock, sleep=time.sleep_together, **options) as client:
            ended = await asyncio.gather(*(client.call("write") for _ in range(20)), return_exceptions=True)
        return Counter(type(end).__name__ if isinstance(end, Exception) else "ok" for end in ended)

    return notes.times, asyncio.run(call_all())


def simulated_crowd(day: Day, strategy: RetryStrategy | None, layers: list[Layer]) -> tuple[list[float], Counter[str]]:
    notes = Notes()
    made = Settings(strategy, [*layers, notes], 0.75)
    scenario = Scenario("crowd", 20, together=0.5, duration=30.0, server=day.server(), timeline=day.timeline(), idempotent=0.0)
    found = simulate(scenario, PolicySpec("policy", lambda process, source: made))
    assert found.unfinished == 0
    return notes.times, Counter({name: number for name, number in {"ok": found.succeeded, **found.failed}.items() if number})


CALM = Day(windows=((29.0, 29.5),), down="refuse")


QUEUES: dict[str, Callable[[], list[Layer]]] = {
    "concurrency": lambda: [ConcurrencyLimit(3)],
    "rate": lambda: [RateLimit(10.0, burst=2.0)],
    "few may queue": lambda: [ConcurrencyLimit(2, max_waiting=5)],
    "both": lambda: [ConcurrencyLimit(4), RateLimit(20.0, burst=1.0)],
    "both, the other way round": lambda: [RateLimit(50.0, burst=1.0), ConcurrencyLimit(2)],
}


@pytest.mark.parametrize("queue", QUEUES)
def test_clients_that_queue_go_when_those_of_a_real_process_do(queue: str) -> None:
    times, ended = simulated_crowd(CALM, None, QUEUES[queue]())
    expected, real_ends = real_crowd(CALM, None, QUEUES[queue]())
    assert times == pytest.approx(expected, abs=1e-5)
    assert ended == real_ends
    assert len(set(times)) > 1


SHARED: dict[str, Callable[[], list[Layer]]] = {
    "budget": lambda: [RetryBudget(25.0)],
    "breaker": lambda: [CircuitBreaker(failure_threshold=30, recovery_timeout=0.7)],
    "adaptive": lambda: [AdaptiveDelay(alpha=0.2)],
    "budget, limit and breaker": lambda: [RetryBudget(40.0), ConcurrencyLimit(7), CircuitBreaker(failure_threshold=45, recovery_timeout=0.3)],
    "rate": lambda: [RateLimit(30.0, burst=10.0)],
}


@pytest.mark.parametrize("down", ["refuse", "hang", "503"])
@pytest.mark.parametrize("shared", SHARED)
def test_clients_that_share_layers_decide_as_those_of_a_real_process_do(shared: str, down: str) -> None:
    day = Day(down, ((0.2, 2.0),), retry_after=0.6)
    strategy = RetryStrategy(exceptions=OSError, statuses=503, backoff=LinearBackoff(6, base=0.1, increment=0.1))
    times, ended = simulated_crowd(day, strategy, SHARED[shared]())
    expected, real_ends = real_crowd(day, strategy, SHARED[shared]())
    # Who of those that meet at one moment comes first is nobody's business.
    assert sorted(times) == pytest.approx(sorted(expected), abs=1e-5)
    assert ended == real_ends
    assert len(times) > 20
