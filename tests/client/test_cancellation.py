"""Cancelled and interrupted calls: nothing is retried, counted, swallowed or kept, and the next call works."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import signal
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from support import Rig, both_drivers, no_collector

from rpcretry import (
    AsyncClient,
    BatchRequest,
    Client,
    ConnectionLostError,
    DeadlineExceeded,
    JsonRpcError,
    Layer,
    Outcome,
    Refused,
    Request,
    RetryExhaustedError,
    RetryStrategy,
)
from rpcretry.outcome import Attempt, Stop, Wait
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import ScriptedBackend, VirtualTime, error, result
from rpcretry.transport import Exchange, Reply


def every(attempts: int = 3, **kinds: Any) -> RetryStrategy:
    return RetryStrategy(backoff=PeriodicBackoff(attempts, 0.5), **kinds)


EAGER = every(exceptions={Exception}, codes=range(-40_000, 40_000), idempotent=True)


class Ledger(Layer):
    """Takes something at each admission and counts at each settlement, as a breaker or a limit does.

    :param waits: how an attempt is held before it is let out: seconds, or ``"park"``.
    """

    def __init__(self, *waits: Any) -> None:
        self.waits = waits
        self.held: set[Attempt] = set()
        self.asked: dict[Attempt, int] = {}
        self.settled: list[Attempt] = []
        self.counted: list[bool] = []
        self.abandoned: list[Attempt] = []
        self.parked: list[Callable[[], None]] = []

    def admit(self, attempt: Attempt, now: float) -> Wait | None:
        asked = self.asked.get(attempt, 0)
        if asked < len(self.waits):
            self.asked[attempt] = asked + 1
            wait = self.waits[asked]
            if wait != "park":
                return Wait(now + wait, "limit")
            self.parked.append(attempt.park())
            return Wait(math.inf, "queue")
        self.held.add(attempt)
        return None

    def settle(self, attempt: Attempt, outcomes: Sequence[Outcome], now: float) -> None:
        self.held.remove(attempt)
        self.asked.pop(attempt, None)
        self.settled.append(attempt)
        self.counted += [outcome.ok for outcome in outcomes]

    def abandon(self, attempt: Attempt, now: float) -> None:
        self.held.discard(attempt)
        self.asked.pop(attempt, None)
        self.abandoned.append(attempt)


# --- async: at every await ---


class Points:
    """Counts the awaits of a call and cancels the task that arrives at the chosen one."""

    def __init__(self) -> None:
        self.chosen: int | None = None
        self.passed: list[str] = []

    async def at(self, place: str) -> None:
        self.passed.append(place)
        if self.chosen == len(self.passed):
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        await asyncio.sleep(0)


class Walk:
    """A call that awaits at every kind of place there is, twice."""

    def __init__(self) -> None:
        self.time, self.points = VirtualTime(), Points()
        self.outer, self.inner = Ledger(1.0), Ledger("park")
        self.sent = 0
        self.told: list[str] = []
        self.client = AsyncClient(
            self,
            retry_strategy=EAGER,
            layers=[self.outer, self.inner],
            clock=self.time.clock,
            sleep=self.asleep,
            on_event=lambda event: self.told.append(type(event).__name__),
        )

    async def exchange(self, exchange: Exchange, /) -> Reply:
        self.sent += 1
        await self.points.at("exchange")
        if self.sent == 1:
            raise ConnectionLostError("reset")
        return Reply(b'{"jsonrpc":"2.0","id":%d,"result":5}' % exchange.ids[0])

    async def aclose(self) -> None: ...

    async def asleep(self, seconds: float) -> None:
        await self.points.at("backoff" if seconds == 0.5 else "limit")
        self.time.sleep(seconds)

    async def wake(self) -> None:
        """Stands for another call that leaves: it wakes whoever is parked, a few turns later."""
        seen = 0
        while True:
            await asyncio.sleep(0)
            if len(self.inner.parked) > seen:
                seen = len(self.inner.parked)
                await self.points_at_parked()
                self.inner.parked[-1]()

    async def points_at_parked(self) -> None:
        self.points.passed.append("parked")
        if self.points.chosen == len(self.points.passed):
            self.caller.cancel()

    async def run(self, chosen: int | None) -> Any:
        self.points.chosen = chosen
        self.caller = asyncio.create_task(self.client.call("m", 1))
        waker = asyncio.create_task(self.wake())
        try:
            return await self.caller
        finally:
            waker.cancel()


PLACES = ["limit", "parked", "exchange", "backoff", "limit", "parked", "exchange"]


def test_the_walk_awaits_at_every_kind_of_place() -> None:
    walk = Walk()
    assert asyncio.run(walk.run(None)) == 5
    assert walk.points.passed == PLACES


@pytest.mark.parametrize("chosen", range(1, len(PLACES) + 1), ids=[f"{index}-{place}" for index, place in enumerate(PLACES, 1)])
def test_a_call_cancelled_at_every_await(chosen: int) -> None:
    walk = Walk()

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await walk.run(chosen)
        place, exchanges = PLACES[chosen - 1], PLACES[: chosen - 1].count("exchange")
        for layer in (walk.outer, walk.inner):
            assert layer.held == set()
            assert layer.asked == {}
            # What was finished before is counted, what was cut is not.
            assert layer.counted == [False] * exchanges
        assert len(walk.outer.abandoned) == (0 if place == "backoff" else 1)
        assert len(walk.inner.abandoned) == (1 if place in ("parked", "exchange") else 0)
        assert "CallFailed" not in walk.told
        assert "CallSucceeded" not in walk.told
        assert walk.sent == PLACES[:chosen].count("exchange")

        # Nothing is left that would disturb the next.
        walk.sent, walk.points.passed = 1, []
        assert await walk.run(None) == 5
        assert walk.outer.held == walk.inner.held == set()

    asyncio.run(main())


@pytest.mark.parametrize("chosen", range(1, len(PLACES) + 1))
def test_a_cancelled_call_leaves_nothing_behind(chosen: int) -> None:
    walk = Walk()

    class Kept(dict[str, int]):
        pass

    async def main() -> None:
        walk.points.chosen = chosen
        params = Kept(a=1)
        gone = weakref.ref(params)
        walk.caller = asyncio.create_task(walk.client.send(Request("m", params)))
        waker = asyncio.create_task(walk.wake())
        del params
        with pytest.raises(asyncio.CancelledError) as caught:
            await walk.caller
        waker.cancel()
        del caught, walk.caller
        for layer in (walk.outer, walk.inner):
            layer.settled.clear()
            layer.abandoned.clear()
        await asyncio.sleep(0)
        assert gone() is None

    with no_collector():
        asyncio.run(main())


def test_trap_a_cancel_is_not_retried_as_a_timeout() -> None:
    """tenacity's retry_if_not_exception_type retries it; ClientTimeout(total=) turned it into a TimeoutError."""
    sent: list[Exchange] = []

    class Hanging:
        async def exchange(self, exchange: Exchange, /) -> Reply:
            sent.append(exchange)
            await asyncio.Event().wait()
            raise AssertionError("nobody wakes this")

        async def aclose(self) -> None: ...

    async def main() -> None:
        client = AsyncClient(Hanging(), retry_strategy=every(exceptions={Exception}, when=lambda outcome, tries: True))
        task = asyncio.create_task(client.call("m"))
        while not sent:
            await asyncio.sleep(0)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
        assert task.cancelled()
        # From outside, a timeout of the caller's is a cancel like any other, and ends as the caller's timeout.
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.01):
                await client.call("m")
        assert not isinstance(caught.value, DeadlineExceeded)
        assert len(sent) == 2

    asyncio.run(main())


def test_a_cancel_in_the_turn_of_the_wake_is_a_cancel() -> None:
    layer = Ledger("park")
    rig = Rig("async", result(5), layers=layer, retry_strategy=EAGER)

    async def main() -> None:
        task = asyncio.create_task(rig.client.call("m"))
        while not layer.parked:
            await asyncio.sleep(0)
        layer.parked[0]()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert (layer.held, layer.asked, len(layer.abandoned), layer.settled, rig.sent) == (set(), {}, 1, [], 0)


def test_a_cancel_in_the_turn_of_the_deadline_is_a_cancel() -> None:
    """asyncio's own timeout around the parked wait must not turn the caller's cancel into its own."""

    class Late(Ledger):
        def admit(self, attempt: Attempt, now: float) -> Wait | None:
            attempt.park()
            return Wait(now + 0.005)

    for _ in range(5):
        rig = Rig("async", result(5), layers=Late(), retry_strategy=EAGER)

        async def main(rig: Rig = rig) -> None:
            task = asyncio.create_task(rig.client.call("m"))
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(0.005, task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert rig.sent == 0


def test_a_generator_exit_is_let_through_and_abandons() -> None:
    """Closing the coroutine, as a loop does that shuts down."""
    layer, reached = Ledger(), []

    class Hanging:
        async def exchange(self, exchange: Exchange, /) -> Reply:
            reached.append(exchange)
            await asyncio.sleep(3600)
            raise AssertionError("nobody wakes this")

        async def aclose(self) -> None: ...

    async def main() -> None:
        coroutine: Any = AsyncClient(Hanging(), layers=layer, retry_strategy=EAGER).call("m")
        stepped = coroutine.__await__() if not hasattr(coroutine, "send") else coroutine
        stepped.send(None)
        assert (len(reached), len(layer.held)) == (1, 1)
        stepped.close()
        assert (layer.held, len(layer.abandoned), layer.settled) == (set(), 1, [])

    asyncio.run(main())


def test_tasks_of_a_cancelled_group_are_all_abandoned() -> None:
    layer = Ledger()

    class Mixed:
        async def exchange(self, exchange: Exchange, /) -> Reply:
            if exchange.ids[0] == 7:
                await asyncio.sleep(0)
                raise LookupError("not retried")
            await asyncio.sleep(3600)
            raise AssertionError("nobody wakes this")

        async def aclose(self) -> None: ...

    async def main() -> None:
        client = AsyncClient(Mixed(), layers=layer)
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                for _ in range(20):
                    group.create_task(client.call("m"))

    asyncio.run(main())
    assert (layer.held, len(layer.abandoned), layer.counted) == (set(), 19, [False])


# --- sync: interrupted ---


class Interrupted:
    """A sync call into which Control-C falls at one place."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.time = VirtualTime()
        self.layer = Ledger(1.0)
        self.sent = 0
        self.told: list[str] = []
        self.client = Client(
            self,
            retry_strategy=EAGER,
            layers=self.layer,
            clock=self.time.clock,
            sleep=self.sleep,
            on_event=lambda event: self.told.append(type(event).__name__),
        )

    def strike(self, place: str) -> None:
        if place == self.place:
            self.place = ""
            raise KeyboardInterrupt

    def exchange(self, exchange: Exchange, /) -> Reply:
        self.sent += 1
        self.strike(f"exchange {self.sent}")
        if self.sent == 1:
            raise ConnectionLostError("reset")
        return Reply(b'{"jsonrpc":"2.0","id":%d,"result":5}' % exchange.ids[0])

    def close(self) -> None: ...

    def sleep(self, seconds: float) -> None:
        self.strike("backoff" if seconds == 0.5 else f"limit {self.sent + 1}")
        self.time.sleep(seconds)


@pytest.mark.parametrize(
    ("place", "abandoned", "counted"), [("limit 1", 1, 0), ("exchange 1", 1, 0), ("backoff", 0, 1), ("limit 2", 1, 1), ("exchange 2", 1, 1)]
)
def test_a_sync_call_interrupted_at_every_place(place: str, abandoned: int, counted: int) -> None:
    call = Interrupted(place)
    with pytest.raises(KeyboardInterrupt):
        call.client.call("m")
    assert call.place == "", "the interrupt never fell"
    assert (len(call.layer.abandoned), len(call.layer.counted)) == (abandoned, counted)
    assert (call.layer.held, call.layer.asked) == (set(), {})
    assert not {"CallFailed", "CallSucceeded"} & set(call.told)
    call.sent = 1
    assert call.client.call("m") == 5


@pytest.fixture
def control_c() -> Iterator[Callable[[], None]]:
    """Has Control-C pressed in a moment; only a real signal ends the wait for a lock."""
    main = threading.main_thread().ident
    assert main is not None
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: threading.Timer(0.02, signal.pthread_kill, (main, signal.SIGINT)).start()
    signal.signal(signal.SIGINT, before)


def test_a_sync_call_interrupted_while_it_is_parked(control_c: Callable[[], None]) -> None:
    class Parked(Ledger):
        def admit(self, attempt: Attempt, now: float) -> Wait | None:
            wait = super().admit(attempt, now)
            if wait is not None:
                control_c()
            return wait

    layer = Parked("park")
    client = Client(ScriptedBackend([result(5)]), layers=layer, retry_strategy=EAGER)
    with pytest.raises(KeyboardInterrupt):
        client.call("m")
    assert (layer.held, layer.asked, len(layer.abandoned), layer.settled) == (set(), {}, 1, [])
    layer.waits = ()
    assert client.call("m") == 5


@both_drivers
@pytest.mark.parametrize("where", ["outer", "inner"])
def test_an_interrupt_in_admit_abandons_what_was_admitted(driver: str, where: str) -> None:
    class Struck(Ledger):
        def admit(self, attempt: Attempt, now: float) -> Wait | None:
            raise KeyboardInterrupt

    outer: Ledger = Struck() if where == "outer" else Ledger()
    inner: Ledger = Struck() if where == "inner" else Ledger()
    rig = Rig(driver, layers=[outer, inner], retry_strategy=EAGER)
    with pytest.raises(KeyboardInterrupt):
        rig.call("m")
    assert outer.held == inner.held == set()
    assert (len(outer.abandoned), rig.sent) == (1, 0)


@both_drivers
def test_an_interrupt_in_a_predicate_is_not_taken_for_a_broken_one(driver: str) -> None:
    def when(outcome: Outcome, tries: int) -> bool:
        raise KeyboardInterrupt

    layer = Ledger()
    rig = Rig(driver, result(1), layers=layer, retry_strategy=every(when=when))
    with pytest.raises(KeyboardInterrupt):
        rig.call("m")
    assert (layer.held, len(layer.abandoned), layer.counted) == (set(), 1, [])


@both_drivers
def test_an_interrupted_batch_abandons_the_attempt_in_flight_and_drops_those_that_wait(driver: str) -> None:
    def play(exchange: Exchange) -> Reply:
        return Reply(b'[{"id":1,"error":{"code":7,"message":"x"}},{"id":2,"error":{"code":7,"message":"x","data":{"retry_after":9}}}]')

    def strike(exchange: Exchange) -> Reply:
        raise KeyboardInterrupt

    layer = Ledger()
    rig = Rig(driver, play, strike, result(5), layers=layer, retry_strategy=EAGER)
    with pytest.raises(KeyboardInterrupt):
        rig.send(BatchRequest(Request("a"), Request("b")))
    assert (layer.held, len(layer.abandoned), layer.counted) == (set(), 1, [False, False])
    assert rig.call("m") == 5


def test_abandoning_a_call_twice_is_abandoning_it_once() -> None:
    """A driver that is interrupted in its own clean-up abandons again."""
    from rpcretry.retry.engine import Engine
    from rpcretry.retry.policy import Policy

    layer = Ledger()
    engine = Engine(Policy(layers=[layer]))
    assert isinstance(engine.begin(0.0), Attempt)
    engine.abandon(1.0)
    engine.abandon(2.0)
    assert (len(layer.abandoned), layer.held) == (1, set())


def test_abandoning_a_call_that_is_over_does_nothing() -> None:
    from rpcretry.retry.engine import Engine
    from rpcretry.retry.policy import Policy

    layer = Ledger()
    engine = Engine(Policy(layers=[layer]))
    engine.begin(0.0)
    assert engine.settle([Outcome(5)], 1.0) == Stop("ok")
    engine.abandon(2.0)
    assert (layer.abandoned, layer.counted) == ([], [True])


# --- nothing is kept ---


@pytest.fixture
def unlogged() -> Iterator[None]:
    """pytest keeps the records of the log, and a record keeps the error that it shows."""
    logger = logging.getLogger("rpcretry")
    logger.disabled = True
    yield
    logger.disabled = False


def fate(rig: Rig, act: Callable[[Any], Any], after: Callable[[], Any]) -> tuple[type[BaseException] | None, Any]:
    """How the call ended, and what *after* says when its exception has just been dropped.

    asyncio keeps an exception that leaves a task in a circle of its own, so the call is awaited and its end looked at within one.
    """
    if rig.driver == "sync":
        try:
            act(rig.client)
        except BaseException as problem:
            return type(problem), None
        return None, None

    async def main() -> tuple[type[BaseException] | None, Any]:
        ended: type[BaseException] | None = None
        try:
            await act(rig.client)
        except BaseException as problem:
            ended = type(problem)
        return ended, after()

    return asyncio.run(main())


def survey(rig: Rig, act: Callable[[Any], Any], after: Callable[[], Any]) -> tuple[type[BaseException] | None, Any]:
    with no_collector():
        ended, found = fate(rig, act, after)
        return ended, (found if rig.driver == "async" else after())


class Canary:
    """Lives in a frame, and dies with it."""


class Cage:
    """Makes script items whose frames hold a canary each."""

    def __init__(self) -> None:
        self.kept: list[weakref.ref[Any]] = []

    def canary(self) -> Canary:
        canary = Canary()
        self.kept.append(weakref.ref(canary))
        return canary

    def fail(self, make: Callable[[], BaseException]) -> Callable[[Exchange], Reply]:
        def play(exchange: Exchange) -> Reply:
            canary = self.canary()
            problem = make()
            self.kept.append(weakref.ref(problem))
            try:
                raise problem
            finally:
                # This frame is part of the traceback; it must not close a circle of its own.
                del problem, exchange
                assert canary

        return play

    def alive(self) -> list[str]:
        return [type(thing).__name__ for thing in (kept() for kept in self.kept) if thing is not None]


def reset() -> ConnectionLostError:
    return ConnectionLostError("reset")


def broken_backoff() -> Iterator[float]:
    raise LookupError("no delay")


class Forgetful(Layer):
    """Is asked about each attempt, so that the call makes all its records, and keeps none of them."""

    def settle(self, attempt: Attempt, outcomes: Sequence[Outcome], now: float) -> None: ...


class ControlC(KeyboardInterrupt):
    """The builtin's own instances take no weak references."""


def test_the_cage_would_notice() -> None:
    """A test that nothing is kept has to fail where something is."""
    cage = Cage()
    kept: list[Exception] = []

    def act(client: Client) -> None:
        try:
            client.call("m")
        except ConnectionLostError as problem:
            kept.append(problem)

    assert survey(Rig("sync", cage.fail(reset)), act, cage.alive)[1] == ["Canary", "ConnectionLostError"]


GIVE_UPS: dict[str, tuple[dict[str, Any], int, type[BaseException] | None]] = {
    "no strategy": ({}, 1, ConnectionLostError),
    "attempts": ({"retry_strategy": every(exceptions={OSError})}, 4, ConnectionLostError),
    "wrap": ({"retry_strategy": every(exceptions={OSError}, wrap=True)}, 4, RetryExhaustedError),
    "guard": ({"retry_strategy": every()}, 1, ConnectionLostError),
    "deadline": ({"retry_strategy": every(exceptions={OSError}), "deadline": 0.75}, 2, DeadlineExceeded),
    "broken backoff": ({"retry_strategy": RetryStrategy(exceptions={OSError}, backoff=broken_backoff)}, 1, LookupError),
    "broken when": ({"retry_strategy": every(when=lambda outcome, tries: 1 / 0)}, 1, ZeroDivisionError),
    "a success after failures": ({"retry_strategy": every(exceptions={OSError})}, 2, None),
}
KINDS: dict[str, Callable[[Any], Any]] = {
    "call": lambda client: client.call("m"),
    "send": lambda client: client.send(Request("m")),
    "batch": lambda client: client.send(BatchRequest(Request("m"), Request("n"))),
    "notify": lambda client: client.notify("m"),
}


@both_drivers
@pytest.mark.usefixtures("unlogged")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", GIVE_UPS)
def test_after_give_up_nothing_keeps_failed_frames_alive(driver: str, kind: str, end: str) -> None:
    options, failures, raised = GIVE_UPS[end]
    if kind == "notify" and end in ("attempts", "wrap", "deadline", "a success after failures"):
        # A notification that may have been executed is not repeated, so it ends like the guard's.
        failures, raised = 1, ConnectionLostError
    cage = Cage()
    rig = Rig(driver, *[cage.fail(reset)] * failures, result(5), **options)
    ended, alive = survey(rig, KINDS[kind], cage.alive)
    assert (ended, len(cage.kept), alive) == (raised, 2 * failures, [])


@both_drivers
@pytest.mark.usefixtures("unlogged")
@pytest.mark.parametrize("kind", ["call", "batch"])
def test_after_a_refusal_nothing_keeps_failed_frames_alive(driver: str, kind: str) -> None:
    class Gate(Layer):
        def admit(self, attempt: Attempt, now: float) -> None:
            if attempt.number > 1:
                canary = cage.canary()
                assert canary
                raise Refused("full")

    cage = Cage()
    rig = Rig(driver, cage.fail(reset), layers=Gate(), retry_strategy=every(exceptions={OSError}))
    ended, alive = survey(rig, KINDS[kind], cage.alive)
    assert (ended, len(cage.kept), alive) == (Refused, 3, [])


@both_drivers
@pytest.mark.usefixtures("unlogged")
@pytest.mark.parametrize("kind", KINDS)
def test_after_an_interrupt_nothing_keeps_frames_alive(driver: str, kind: str) -> None:
    cage = Cage()
    failures = 0 if kind == "notify" else 1
    rig = Rig(driver, *[cage.fail(reset)] * failures, cage.fail(ControlC), layers=Forgetful(), retry_strategy=every(exceptions={OSError}))
    ended, alive = survey(rig, KINDS[kind], cage.alive)
    assert (ended, len(cage.kept), alive) == (ControlC, 2 * failures + 2, [])


@both_drivers
@pytest.mark.usefixtures("unlogged")
def test_an_answer_that_was_an_error_is_let_go(driver: str) -> None:
    """A Reply of an attempt that failed may be 64 MiB."""
    bodies: list[weakref.ref[Reply]] = []

    class Big(Reply):
        __slots__ = ("__weakref__",)

    def play(exchange: Exchange) -> Reply:
        reply = Big(b'{"jsonrpc":"2.0","id":%d,"error":{"code":7,"message":"x"}}' % exchange.ids[0])
        bodies.append(weakref.ref(reply))
        return reply

    def alive() -> int:
        return sum(body() is not None for body in bodies)

    rig = Rig(driver, *[play] * 4, retry_strategy=every(1, codes={7}))
    assert survey(rig, KINDS["call"], alive) == (JsonRpcError, 0)
    kept: list[Any] = []

    def act(client: Any) -> Any:
        answer = client.send(Request("m"))
        if not inspect.isawaitable(answer):
            kept.append(answer)
            return None

        async def keep() -> None:
            kept.append(await answer)

        return keep()

    # The caller still holds the response, and its error with it, but not what it was read from.
    assert survey(rig, act, alive) == (None, 0)
    assert kept[0].is_error


@both_drivers
def test_an_error_response_holds_no_frames(driver: str) -> None:
    """Its error was never raised to anybody, so no traceback of the inside belongs to it."""
    rig = Rig(driver, *[error(7)] * 4, retry_strategy=every(1, codes={7}))
    assert rig.send(Request("m")).error.__traceback__ is None
    assert rig.send(BatchRequest(Request("m")))[0].error.__traceback__ is None
