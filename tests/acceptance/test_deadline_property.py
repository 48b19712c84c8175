"""The deadline holds: no wait ends after it, no attempt starts after it, and nobody gives up before he has to."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import both_drivers, finish

from rpcretry import AsyncClient, Client, ConcurrencyLimit, ConnectionLostError, DeadlineExceeded, LimitReachedError, RateLimit, RetryBudget, RetryStrategy
from rpcretry.functions import Retrying
from rpcretry.outcome import Attempt, Wait
from rpcretry.retry import UNLIMITED, Backoff, ExponentialBackoff, FullJitter, Jitter, Layer, LinearBackoff, PeriodicBackoff
from rpcretry.testing import AsyncScriptedBackend, ScriptedBackend, VirtualTime, http, result, took
from rpcretry.transport import Exchange

# The clock starts at 1000 s, where the last digit of a float is 1e-13 s.
NOISE = 1e-6

durations = st.one_of(st.just(0.0), st.floats(0.001, 20.0))


@pytest.fixture(scope="module", autouse=True)
def unlogged() -> Iterator[None]:
    """Thousands of calls fail here, and pytest would keep each line."""
    logger = logging.getLogger("rpcretry")
    was = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(was)


class Watch(VirtualTime):
    """Virtual time that remembers when each wait ended.

    :ivar ends: those times, from the start of the call.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begun = self.now
        self.ends: list[float] = []

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.ends.append(self.now - self.begun)

    @property
    def passed(self) -> float:
        return self.now - self.begun


class Noted(Jitter):
    """Full jitter that remembers what it gave."""

    def __init__(self, source: random.Random) -> None:
        super().__init__(random=source.random)
        self.given: list[float] = []

    def __call__(self, delay: float) -> float:
        self.given.append(delay * self.random())
        return self.given[-1]


class Queue(Layer):
    """Has each attempt wait for so long, in some pieces."""

    def __init__(self, waits: list[float]) -> None:
        self.waits = waits
        self.asked = 0

    def admit(self, attempt: Attempt, now: float) -> Wait | None:
        self.asked += 1
        if self.asked % 3 == 0 or not self.waits:
            return None
        return Wait(now + self.waits[self.asked % len(self.waits)], "queue")


@dataclasses.dataclass
class Plan:
    """What happens to one call.

    :ivar attempts: the seconds that each takes, and the server's hint with which it fails; the last again for ever.
    :ivar succeeds: the first attempt that would succeed, from 1; 0 for none.
    """

    deadline: float
    attempts: list[tuple[float, float | None]]
    succeeds: int
    kind: type[Backoff]
    base: float
    jitters: bool
    seed: int
    queue: list[float]
    rate: float | None
    timeout: float | None

    def backoff(self, jitter: Jitter) -> Backoff:
        options: dict[str, Any] = {"jitter": jitter}
        if self.kind is PeriodicBackoff:
            return PeriodicBackoff(UNLIMITED, self.base, **options)
        return self.kind(UNLIMITED, self.base, **options)

    def jitter(self) -> Noted:
        return Noted(random.Random(self.seed) if self.jitters else Ones())

    def layers(self, clock: VirtualTime) -> list[Layer]:
        rate = [] if self.rate is None else [RateLimit(self.rate, burst=1, clock=clock.clock)]
        return [RetryBudget(1e9), *rate, *([Queue(self.queue)] if self.queue else [])]

    @property
    def queues(self) -> bool:
        return bool(self.queue) or self.rate is not None

    def attempt(self, number: int) -> tuple[float, float | None]:
        return self.attempts[min(number, len(self.attempts)) - 1]


class Ones(random.Random):
    """No jitter, and still noted."""

    def random(self) -> float:
        return 1.0


plans = st.builds(
    Plan,
    deadline=st.floats(0.01, 15.0),
    attempts=st.lists(st.tuples(durations, st.none() | st.floats(0.0, 70.0)), min_size=1, max_size=6),
    succeeds=st.integers(0, 8),
    kind=st.sampled_from([PeriodicBackoff, ExponentialBackoff, LinearBackoff]),
    base=st.floats(0.2, 10.0),
    jitters=st.booleans(),
    seed=st.integers(0, 2**16),
    queue=st.lists(durations, max_size=3),
    rate=st.none() | st.floats(0.2, 5.0),
    timeout=st.none() | st.floats(0.1, 10.0),
)

# The first attempt fails at the very end, a wait would end there, or a queue would hold an attempt a little longer than that.
EDGES = (
    Plan(1.0, [(1.0, None)], 0, PeriodicBackoff, 1.0, False, 0, [], None, None),
    Plan(2.0, [(1.0, None)], 0, PeriodicBackoff, 1.0, False, 0, [], None, None),
    Plan(3.0, [(0.0, 3.0)], 2, PeriodicBackoff, 1.0, False, 0, [], None, None),
    Plan(2.0, [(0.5, None)], 0, PeriodicBackoff, 0.5, False, 0, [2.0], 0.5, None),
    Plan(3.8, [(0.5, None)], 0, PeriodicBackoff, 0.5, False, 0, [2.0], None, None),
    Plan(5.0, [(2.0, None), (9.0, None)], 0, LinearBackoff, 0.5, False, 0, [], None, 4.0),
)


def held(plan: Plan, watch: Watch, starts: list[float], ended: Exception | None, jitter: Noted, cut: bool) -> None:
    """What must be true after each call, whatever it was.

    :param cut: whether an attempt is cut at its limit.
    """
    deadline = plan.deadline
    assert all(start < deadline for start in starts), f"an attempt starts at {max(starts)}, after the deadline"
    assert all(end <= deadline + NOISE for end in watch.ends), f"a wait ends at {max(watch.ends)}, after the deadline"
    assert ended is None or type(ended) is DeadlineExceeded
    if cut:
        assert watch.passed <= deadline + NOISE, "the call ends after the deadline"
    if ended is None:
        # A result that came in time; a sync function cannot be cut, but its last attempt began in time.
        assert 0 < plan.succeeds <= len(starts)
        return
    assert isinstance(ended, DeadlineExceeded)
    assert cut or plan.succeeds == 0 or len(starts) < plan.succeeds
    assert (ended.deadline, ended.attempts) == (deadline, len(starts))
    assert ended.elapsed == pytest.approx(watch.passed)
    assert (ended.__cause__ is None) == (not starts)
    if watch.passed < deadline - 0.02 and not plan.queues:
        # It ended early, so the next wait would have ended too late.
        seconds, hint = plan.attempt(len(starts))
        was_cut = cut and plan.timeout is not None and seconds > plan.timeout
        planned = max(jitter.given[-1], 0.0 if hint is None or was_cut else min(hint, 60.0))
        assert watch.passed + planned >= deadline - NOISE, f"given up at {watch.passed}, though the wait of {planned} would end in time"


def with_examples(test: Any) -> Any:
    for plan in EDGES:
        test = example(plan=plan)(test)
    return test


@both_drivers
@settings(max_examples=250, deadline=None)
@given(plan=plans)
@with_examples
def test_calls_of_clients(driver: str, plan: Plan) -> None:
    watch, jitter, starts = Watch(), plan.jitter(), []

    def play(exchange: Exchange) -> Any:
        starts.append(watch.passed)
        seconds, hint = plan.attempt(len(starts))
        item: Any = ConnectionLostError("reset")
        if 0 < plan.succeeds <= len(starts):
            item = result(1)
        elif hint is not None:
            item = http(503, headers={"Retry-After": f"{hint:.6f}"})
        return took(watch, seconds, item)(exchange)

    strategy = RetryStrategy(exceptions={ConnectionError, TimeoutError}, statuses={503}, backoff=plan.backoff(jitter))
    options: dict[str, Any] = {"retry_strategy": strategy, "deadline": plan.deadline, "timeout": plan.timeout, "layers": plan.layers(watch)}
    script = Endless(play)
    client: Any
    if driver == "sync":
        client = Client(ScriptedBackend(script), clock=watch.clock, sleep=watch.sleep, **options)
    else:
        client = AsyncClient(AsyncScriptedBackend(script), clock=watch.clock, sleep=watch.asleep, **options)
    ended: Exception | None = None
    try:
        assert finish(lambda: client.call("m")) == 1
    except Exception as problem:
        ended = problem
    if ended is None and plan.timeout is not None:
        assert plan.attempt(len(starts))[0] <= plan.timeout + NOISE
    held(plan, watch, starts, ended, jitter, cut=True)


class Endless:
    """A script of one item that is played for ever."""

    def __init__(self, item: Any) -> None:
        self.item = item

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield self.item


@both_drivers
@pytest.mark.parametrize("form", ["function", "block"])
@settings(max_examples=200, deadline=None)
@given(plan=plans)
@with_examples
def test_functions_and_blocks(driver: str, form: str, plan: Plan) -> None:
    watch, jitter, starts = Watch(), plan.jitter(), []
    retrying = Retrying(
        on=ConnectionError,
        backoff=plan.backoff(jitter),
        deadline=plan.deadline,
        layers=plan.layers(watch),
        clock=watch.clock,
        sleep=watch.sleep if driver == "sync" else watch.asleep,
    )

    def work() -> int:
        starts.append(watch.passed)
        # Nothing cuts it in virtual time.
        watch.advance(plan.attempt(len(starts))[0])
        if 0 < plan.succeeds <= len(starts):
            return 1
        raise ConnectionError(len(starts))

    async def work_async() -> int:
        return work()

    def block() -> int:
        for attempt in retrying:
            with attempt:
                return work()
        raise AssertionError("unreachable")

    async def block_async() -> int:
        async for attempt in retrying:
            with attempt:
                return work()
        raise AssertionError("unreachable")

    forms: dict[tuple[str, str], Any] = {
        ("sync", "function"): lambda: retrying(work)(),
        ("async", "function"): lambda: retrying(work_async)(),
        ("sync", "block"): block,
        ("async", "block"): block_async,
    }
    ended: Exception | None = None
    try:
        assert finish(forms[driver, form]) == 1
    except Exception as problem:
        ended = problem
    held(dataclasses.replace(plan, attempts=[(seconds, None) for seconds, _ in plan.attempts]), watch, starts, ended, jitter, cut=False)


# --- on a real loop ---


@dataclasses.dataclass
class Real:
    """A call in real time, in seconds."""

    deadline: float
    attempts: list[float]
    delay: float
    layer: str
    seed: int

    def layers(self) -> list[Layer]:
        if self.layer == "rate":
            return [RateLimit(30, burst=1)]
        return [ConcurrencyLimit(1)] if self.layer == "concurrency" else []


reals = st.builds(
    Real,
    deadline=st.floats(0.005, 0.05),
    attempts=st.lists(st.floats(0.0, 0.03), min_size=1, max_size=3),
    delay=st.floats(0.001, 0.03),
    layer=st.sampled_from(["none", "rate", "concurrency"]),
    seed=st.integers(0, 99),
)


async def lateness(plan: Real, call: Any) -> tuple[float, Exception | None]:
    """How much later than a plain sleep until the deadline the call ended; what else the machine has to do delays both."""
    begun = time.monotonic()

    async def sleep() -> float:
        await asyncio.sleep(plan.deadline)
        return time.monotonic()

    ended: Exception | None = None
    control = asyncio.create_task(sleep())
    try:
        await call()
    except Exception as problem:
        ended = problem
    now = time.monotonic()
    return now - max(begun + plan.deadline, await control), ended


class Sleeping:
    """A backend whose exchanges take a while and fail, or end at their limit; it counts them."""

    def __init__(self, plan: Real) -> None:
        self.plan = plan
        self.starts = 0

    async def exchange(self, exchange: Exchange, /) -> Any:
        async with asyncio.timeout_at(exchange.ends_by):
            await self.work()

    async def aclose(self) -> None: ...

    async def work(self) -> None:
        self.starts += 1
        await asyncio.sleep(self.plan.attempts[min(self.starts, len(self.plan.attempts)) - 1])
        raise ConnectionError("down")


@pytest.mark.parametrize("form", ["client", "function"])
@settings(max_examples=12, deadline=None)
@given(plan=reals)
@example(plan=Real(0.05, [0.03], 0.015, "none", 0))
# What takes far longer than the overshoot may be has to be cut, or not begun.
@example(plan=Real(0.03, [0.4], 0.001, "none", 0))
@example(plan=Real(0.03, [0.0], 0.9, "none", 0))
@example(plan=Real(0.03, [0.0], 0.9, "rate", 0))
@example(plan=Real(0.03, [0.02], 0.001, "concurrency", 0))
def test_the_overshoot_on_a_real_loop(form: str, plan: Real) -> None:
    backend = Sleeping(plan)
    jitter = FullJitter(random=random.Random(plan.seed).random)
    backoff = PeriodicBackoff(UNLIMITED, plan.delay, jitter=jitter)
    layers = plan.layers()
    strategy = RetryStrategy(exceptions={ConnectionError}, backoff=backoff)
    client = AsyncClient(backend, retry_strategy=strategy, deadline=plan.deadline, layers=layers)
    function = Retrying(on=ConnectionError, backoff=backoff, deadline=plan.deadline, layers=layers)(backend.work)

    async def main() -> tuple[float, Exception | None]:
        release = asyncio.Event()
        holder: asyncio.Task[Any] | None = None
        if plan.layer == "concurrency":
            # Somebody holds the only place, for longer than any deadline.
            holder = asyncio.create_task(Retrying(layers=layers).execute_async(release.wait))
            await asyncio.sleep(0)
        try:
            return await lateness(plan, (lambda: client.call("m")) if form == "client" else function)
        finally:
            release.set()
            if holder is not None:
                await holder

    late, ended = asyncio.run(main())
    assert type(ended) is DeadlineExceeded
    assert late < 0.05
    # When an attempt starts is held to in virtual time: here the machine may stop between the decision and the start.
    assert (plan.layer == "concurrency") == (not backend.starts)


def test_a_queue_that_gives_up_before_the_deadline_says_so() -> None:

    async def main() -> tuple[Exception, float]:
        limit = ConcurrencyLimit(1, max_wait=0.01)
        release = asyncio.Event()
        holder = asyncio.create_task(Retrying(layers=limit).execute_async(release.wait))
        await asyncio.sleep(0)
        begun = time.monotonic()
        with pytest.raises(LimitReachedError) as caught:
            await Retrying(layers=limit, deadline=10.0).execute_async(asyncio.sleep, 0)
        took = time.monotonic() - begun
        release.set()
        await holder
        assert (limit.in_use, limit.waiting) == (0, 0)
        return caught.value, took

    problem, seconds = asyncio.run(main())
    assert problem.__cause__ is None
    assert 0.01 <= seconds < 5.0
