"""Nothing stays behind: no frame of a failure after give-up, and no permit after cancels at any time, from any number of threads.

The seed of the random tests is printed where one fails; ``RPCRETRY_SEED`` repeats it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import both_drivers, no_collector

from rpcretry import (
    AsyncClient,
    BatchRequest,
    CircuitBreaker,
    CircuitState,
    Client,
    ConcurrencyLimit,
    ConnectionLostError,
    DeadlineExceeded,
    Fallback,
    InvalidTargetError,
    RateLimit,
    Refused,
    Request,
    RetryBudget,
    RetryExhaustedError,
    RetryStrategy,
)
from rpcretry.functions import Retrying
from rpcretry.outcome import Attempt
from rpcretry.retry import Layer, PeriodicBackoff
from rpcretry.testing import AsyncScriptedBackend, ScriptedBackend, VirtualTime, result
from rpcretry.transport import Exchange

SEED = int(os.environ.get("RPCRETRY_SEED") or random.SystemRandom().randrange(2**32))


@pytest.fixture(scope="module", autouse=True)
def unlogged() -> Iterator[None]:
    """Pytest keeps what is logged, and with it the failures."""
    logger = logging.getLogger("rpcretry")
    was = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(was)


# --- frames ---


class Marker:
    """Lives in the frame of code that fails, and goes with it."""


class Markers:
    """Failing code, and what is alive of its frames."""

    def __init__(self) -> None:
        self.made: list[weakref.ref[Marker]] = []

    def fail(self, kind: type[Exception] = ConnectionLostError) -> Any:
        marker = Marker()
        self.made.append(weakref.ref(marker))
        raise kind("lost")

    @property
    def alive(self) -> int:
        return sum(ref() is not None for ref in self.made)


class SecondRefused(Layer):
    """Lets the first attempt of each call out, and refuses the others."""

    def admit(self, attempt: Attempt, now: float) -> None:
        if attempt.number > 1:
            raise Refused("full")


def never(*_: Any) -> Any:
    raise LookupError("a fallback that fails, too")


def gone(driver: str, act: Callable[[], Any], markers: Markers) -> tuple[type[BaseException] | None, int]:
    """How *act* ended, and how many frames of its failures are alive then.

    asyncio keeps an exception that leaves a task in a cycle of its own, so the call is awaited, and looked at, within one.
    """
    if driver == "sync":
        ended: type[BaseException] | None = None
        with no_collector():
            try:
                act()
            except Exception as problem:
                ended = type(problem)
            return ended, markers.alive

    async def main() -> tuple[type[BaseException] | None, int]:
        ended: type[BaseException] | None = None
        try:
            await act()
        except Exception as problem:
            ended = type(problem)
        return ended, markers.alive

    with no_collector():
        return asyncio.run(main())


# The options beside the strategy, what is raised, and how many attempts are made.
ENDS: dict[str, tuple[dict[str, Any], type[Exception] | None, int]] = {
    "attempts": ({}, ConnectionLostError, 3),
    "wrap": ({"wrap": True}, RetryExhaustedError, 3),
    "deadline": ({"deadline": 1.5}, DeadlineExceeded, 2),
    "refused": ({"layers": SecondRefused()}, Refused, 1),
    "budget": ({"layers": "budget"}, Refused, 2),
    "circuit": ({"layers": "circuit"}, Refused, 2),
    "fallback": ({"fallback": Fallback(5)}, None, 3),
    "fallback that fails": ({"fallback": Fallback(never)}, LookupError, 3),
    "success": ({"succeeds": True}, None, 2),
}


def layers_of(options: dict[str, Any]) -> dict[str, Any]:
    """The options with layers of their own, where these have a state."""
    made = {"budget": lambda: RetryBudget(1), "circuit": lambda: CircuitBreaker(failure_threshold=2)}
    layers = options.get("layers")
    return {**options, "layers": made[layers]()} if isinstance(layers, str) else dict(options)


@both_drivers
@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
@pytest.mark.parametrize("kind", ["call", "send", "batch"])
@pytest.mark.parametrize("end", ENDS)
def test_no_failing_frame_is_alive_after_a_call_of_a_client(driver: str, kind: str, end: str, heard: bool) -> None:
    options, raised, attempts = ENDS[end]
    options = layers_of(options)
    succeeds, wrap = options.pop("succeeds", False), options.pop("wrap", False)
    markers, time = Markers(), VirtualTime()
    script = [lambda exchange: markers.fail()] * attempts + [result(1)] * succeeds
    strategy = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(attempts=2, interval=1.0), wrap=wrap)
    if heard:
        options["on_event"] = lambda event: None
    client: Any
    if driver == "sync":
        client = Client(ScriptedBackend(script), clock=time.clock, sleep=time.sleep, retry_strategy=strategy, **options)
    else:
        client = AsyncClient(AsyncScriptedBackend(script), clock=time.clock, sleep=time.asleep, retry_strategy=strategy, **options)
    acts: dict[str, Callable[[], Any]] = {
        "call": lambda: client.call("m"),
        "send": lambda: client.send(Request("m")),
        "batch": lambda: client.send(BatchRequest(Request("m"), Request("n"))),
    }
    ended, alive = gone(driver, acts[kind], markers)
    assert (ended is raised) or (raised is Refused and ended is not None and issubclass(ended, Refused)), ended
    assert (len(markers.made), alive) == (attempts, 0)


FUNCTION_ENDS = {**ENDS, "fatal": ({"fatal": ConnectionLostError}, ConnectionLostError, 1)}


# A block has no result that a fallback could stand in for.
FUNCTION_CASES = [
    (form, end) for form in ("decorated", "executed", "block") for end, (options, _, _) in FUNCTION_ENDS.items() if form != "block" or "fallback" not in options
]


@both_drivers
@pytest.mark.parametrize(("form", "end"), FUNCTION_CASES)
def test_no_failing_frame_is_alive_after_a_function_or_a_block(driver: str, form: str, end: str) -> None:
    options, raised, attempts = FUNCTION_ENDS[end]
    options = layers_of(options)
    succeeds = options.pop("succeeds", False)
    markers, time = Markers(), VirtualTime()
    sleep = time.sleep if driver == "sync" else time.asleep
    retrying = Retrying(max_attempts=3, base_delay=1.0, factor=1.0, jitter=None, clock=time.clock, sleep=sleep, **options)

    def work() -> Any:
        return 1 if succeeds and len(markers.made) == attempts else markers.fail()

    async def work_async() -> Any:
        await asyncio.sleep(0)
        return work()

    def block() -> None:
        for attempt in retrying:
            with attempt:
                work()

    async def block_async() -> None:
        async for attempt in retrying:
            with attempt:
                await work_async()

    if form == "block":
        act: Callable[[], Any] = block if driver == "sync" else block_async
    elif form == "decorated":
        act = retrying(work if driver == "sync" else work_async)
    else:
        act = (lambda: retrying.execute(work)) if driver == "sync" else (lambda: retrying.execute_async(work_async))
    ended, alive = gone(driver, act, markers)
    assert (ended is raised) or (raised is Refused and ended is not None and issubclass(ended, Refused)), ended
    assert (len(markers.made), alive) == (attempts, 0)


@pytest.mark.parametrize("limit", ["deadline", "timeout"])
def test_no_frame_is_alive_of_an_async_function_that_was_cut(limit: str) -> None:
    markers = Markers()

    async def hang() -> None:
        marker = Marker()
        markers.made.append(weakref.ref(marker))
        await asyncio.sleep(60)

    options: dict[str, Any] = {limit: 0.01}
    work = Retrying(max_attempts=2, base_delay=0.001, **options)(hang)

    async def act() -> None:
        try:
            await work()
        finally:
            # asyncio holds the cancellation, and with it the frame, for the rest of the loop's turn; around a bare asyncio.timeout, too.
            await asyncio.sleep(0)

    ended, alive = gone("async", act, markers)
    assert ended is (DeadlineExceeded if limit == "deadline" else TimeoutError)
    assert (len(markers.made), alive) == (1 if limit == "deadline" else 2, 0)


def test_a_frame_that_is_kept_would_be_seen() -> None:
    markers, kept = Markers(), []

    def keep() -> None:
        try:
            markers.fail()
        except ConnectionLostError as problem:
            kept.append(problem)

    assert gone("sync", keep, markers) == (None, 1)


# --- permits ---

# A token of the rate limit takes this long to come, so that nothing comes while a test runs: each that is missing was taken.
PER = 1e9
TOKENS = 1e6
PROBES = 3
CAPACITY = 20.0


class Stack:
    """Four layers in some order, around a server that takes some turns of the loop.

    :param half_open: the breaker is half-open and stays so: no probe fails, and too few succeed.
    """

    def __init__(self, rng: random.Random, *, half_open: bool, queues: bool) -> None:
        self.rng = rng
        self.half_open = half_open
        self.time = VirtualTime()
        self.limit = ConcurrencyLimit(rng.choice([1, 3, 8, 16]), max_waiting=rng.choice([None, None, 3]))
        self.budget = RetryBudget(CAPACITY, refund=0.5)
        # One that has tokens for all, whose books are balanced in the end, or one that queues.
        rate: dict[str, Any] = {"rate": 100.0, "burst": 2} if queues else {"rate": 1.0, "per": PER, "burst": TOKENS}
        self.rate = RateLimit(clock=self.time.clock, **rate)
        self.balanced = not queues
        self.breaker = CircuitBreaker(
            failure_threshold=1 if half_open else 6,
            recovery_timeout=1e8 if half_open else 0.5,
            half_open_max_calls=PROBES,
            success_threshold=10**9 if half_open else 2,
            clock=self.time.clock,
        )
        self.layers: list[Layer] = [self.limit, self.budget, self.rate, self.breaker]
        rng.shuffle(self.layers)
        # Any order but one that is refused: what queues stands outside of the breaker.
        self.layers.remove(self.breaker)
        outside = 1 + max(self.layers.index(self.limit), self.layers.index(self.rate))
        self.layers.insert(rng.randint(outside, len(self.layers)), self.breaker)
        self.sent = 0
        self.inside = 0
        self.calm = False
        if half_open:
            self.breaker.record_failure()
            self.time.advance(1e8)
            assert self.breaker.is_half_open

    def __repr__(self) -> str:
        return f"seed {SEED}, half_open={self.half_open}, {self.layers}"

    async def asleep(self, seconds: float) -> None:
        self.time.advance(seconds)
        for _ in range(self.rng.randint(1, 4)):
            await asyncio.sleep(0)

    def ending(self) -> Exception | None:
        """How one attempt ends."""
        if self.calm:
            return None
        chance = self.rng.random()
        if chance < 0.5:
            return None
        if self.half_open or chance > 0.9:
            # Says nothing about the server, and is tried again all the same.
            return InvalidTargetError("cannot be sent")
        return ConnectionLostError("reset")

    async def serve(self, requests: int = 1) -> None:
        self.sent += requests
        self.inside += 1
        try:
            assert self.inside <= self.limit.limit, f"{self}: {self.inside} are inside"
            for _ in range(self.rng.randint(0, 8)):
                await asyncio.sleep(0)
        finally:
            self.inside -= 1
        ending = self.ending()
        if ending is not None:
            raise ending

    def check(self) -> None:
        """While calls are under way."""
        assert 0 <= self.budget.level <= CAPACITY, repr(self)
        assert 0 <= self.limit.in_use <= self.limit.limit, repr(self)

    def nothing_lost(self) -> None:
        """After all calls have ended."""
        assert (self.limit.in_use, self.limit.waiting, self.rate.waiting, self.inside) == (0, 0, 0, 0), repr(self)
        self.check()
        if self.balanced:
            # What was taken by calls that never went out came back, and no more than that.
            assert self.rate.level == pytest.approx(TOKENS - self.sent, abs=0.5), repr(self)
        if self.half_open:
            assert self.breaker.state is CircuitState.HALF_OPEN, repr(self)
            # All slots are free, and no more than those.
            assert [self.breaker.can_execute() for _ in range(PROBES + 1)] == [True] * PROBES + [False], repr(self)
            self.breaker.reset()
        self.time.advance(1.0)
        self.calm = True


def strategy() -> RetryStrategy:
    return RetryStrategy(exceptions={ConnectionError, InvalidTargetError}, backoff=PeriodicBackoff(attempts=2, interval=0.05))


class Turns:
    """A backend that is a stack's server."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    async def exchange(self, exchange: Exchange, /) -> Any:
        await self.stack.serve(len(exchange.requests))
        return result(1)(exchange)

    async def aclose(self) -> None: ...


def client_of(stack: Stack) -> Callable[[], Any]:
    client = AsyncClient(Turns(stack), clock=stack.time.clock, sleep=stack.asleep, retry_strategy=strategy(), layers=stack.layers, timeout=None)
    batch = BatchRequest(Request("m", id=1), Request("n", id=2))

    def call() -> Any:
        return client.call("m") if stack.calm or stack.rng.random() < 0.9 else client.send(batch)

    return call


def function_of(stack: Stack) -> Callable[[], Any]:
    retrying = Retrying(strategy=strategy(), layers=stack.layers, clock=stack.time.clock, sleep=stack.asleep)
    return retrying(stack.serve)


def block_of(stack: Stack) -> Callable[[], Any]:
    retrying = Retrying(strategy=strategy(), layers=stack.layers, clock=stack.time.clock, sleep=stack.asleep)

    async def call() -> None:
        async for attempt in retrying:
            with attempt:
                await stack.serve()

    return call


EXPECTED = (ConnectionLostError, InvalidTargetError, Refused)


async def storm(stack: Stack, call: Callable[[], Any], calls: int) -> int:
    """Make calls, cancel most of them at any turn of the loop, and look for what they left behind.

    :returns: how many were cancelled after they had begun.
    """
    rng = stack.rng

    begun: set[asyncio.Task[Any] | None] = set()

    async def one() -> None:
        begun.add(asyncio.current_task())
        with contextlib.suppress(*EXPECTED):
            await call()

    tasks: list[asyncio.Task[None]] = []
    doomed: list[tuple[int, asyncio.Task[None]]] = []
    cancelled = turn = 0
    # From a trickle, where nobody queues, to a crowd; cancelled at once, or when most have ended by themselves.
    rush, late = rng.choice([1, 2, 6]), rng.choice([3, 8, 25])
    while len(tasks) < calls or doomed:
        for _ in range(min(rng.randint(0, rush), calls - len(tasks))):
            task = asyncio.create_task(one())
            tasks.append(task)
            if rng.random() < 0.8:
                doomed.append((turn + rng.randint(0, late), task))
        for due, task in [item for item in doomed if item[0] <= turn]:
            doomed.remove((due, task))
            cancelled += task.cancel() and task in begun
        stack.check()
        turn += 1
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled():
            assert task.exception() is None, f"{stack}: {task.exception()!r}"
    stack.nothing_lost()
    # Every later call works, alone and beside others.
    for _ in range(5):
        await call()
    async with asyncio.timeout(20):
        room = stack.limit.limit
        await asyncio.gather(*(call() for _ in range(room)))
    return cancelled


FORMS = {"client": client_of, "function": function_of, "block": block_of}


@pytest.mark.parametrize("half_open", [False, True], ids=["any state", "half-open"])
@pytest.mark.parametrize("form", FORMS)
def test_no_permit_is_lost_by_calls_cancelled_at_random(form: str, half_open: bool) -> None:
    print(f"RPCRETRY_SEED={SEED}")
    rng = random.Random(f"{SEED} {form} {half_open}")
    rounds = made = cancelled = 0
    while cancelled < (1_000 if form == "block" else 5_000):
        stack = Stack(rng, half_open=half_open, queues=rounds % 3 == 2)
        cancelled += asyncio.run(storm(stack, FORMS[form](stack), 200))
        made += 200
        rounds += 1
    assert rounds >= 6, "too few orders of the layers"
    assert cancelled < made, "the calls that are not cancelled are what the others could harm"


# --- threads ---


class Interrupted(BaseException):
    """Something that is no Exception, as KeyboardInterrupt is: it ends a call from inside, and counts nothing."""


THREADS = 8
CALLS = 150


@pytest.mark.parametrize("half_open", [False, True], ids=["any state", "half-open"])
@pytest.mark.parametrize("form", ["client", "function"])
def test_no_permit_is_lost_by_threads(form: str, half_open: bool) -> None:
    print(f"RPCRETRY_SEED={SEED}")
    rng = random.Random(f"{SEED} threads {form} {half_open}")
    stack = Stack(rng, half_open=half_open, queues=False)
    lock, unexpected = threading.Lock(), []

    def serve() -> None:
        with lock:
            stack.sent += 1
            stack.inside += 1
            most = stack.inside
            ending = stack.ending()
            interrupted = not stack.calm and rng.random() < 0.2
        if most > stack.limit.limit:
            unexpected.append(f"{most} are inside")
        with lock:
            stack.inside -= 1
        if interrupted:
            raise Interrupted
        if ending is not None:
            raise ending

    def play(exchange: Exchange) -> Any:
        serve()
        return result(1)(exchange)

    def sleep(seconds: float) -> None:
        with lock:
            stack.time.advance(seconds)

    call: Callable[[], Any]
    if form == "client":
        script = ScriptedBackend([play] * (THREADS * CALLS * 3 + 100))
        client = Client(script, clock=stack.time.clock, sleep=sleep, retry_strategy=strategy(), layers=stack.layers, timeout=None)
        call = lambda: client.call("m")
    else:
        call = Retrying(strategy=strategy(), layers=stack.layers, clock=stack.time.clock, sleep=sleep)(serve)

    def work() -> None:
        for _ in range(CALLS):
            try:
                call()
            except (*EXPECTED, Interrupted):
                pass
            except BaseException as problem:
                unexpected.append(problem)
            stack.check()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads), f"{stack}: a thread waits for a place that nobody gives back"
    assert unexpected == [], repr(stack)
    stack.nothing_lost()
    for _ in range(5):
        call()
