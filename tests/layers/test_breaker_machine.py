"""The circuit breaker under whatever order of events: by hypothesis, by tasks that are cancelled, and by threads."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import logging
import math
import random
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from rpcretry import AsyncClient, CircuitOpenError, CircuitState, ConnectionLostError, InvalidTargetError, Request
from rpcretry.layers.breaker import CircuitBreaker
from rpcretry.outcome import Attempt, Member, Outcome
from rpcretry.testing import VirtualTime
from rpcretry.transport import Exchange, Reply

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN

LEGAL = {(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED), (HALF_OPEN, OPEN), (OPEN, CLOSED)}

RECOVERY = 10.0

KINDS = {"success": None, "failure": ConnectionLostError("x"), "uncounted": InvalidTargetError("x")}


def attempt(ends_by: float = math.inf, *methods: str) -> Attempt:
    members = [Member(Request(method, id=index), index) for index, method in enumerate(methods or ("get",))]
    return Attempt(1, members, ends_by, "get", 0.0)


@dataclasses.dataclass(eq=False)
class Slot:
    """A call that was let through: in which epoch, and until when it holds the slot of a probe."""

    epoch: int
    call: Attempt | None = None
    ends: float | None = None


class Machine(RuleBasedStateMachine):
    """Knows a breaker by what it tells, and keeps its own books beside."""

    calls = Bundle("calls")

    @initialize(threshold=st.integers(1, 3), probes=st.integers(1, 3), needed=st.integers(1, 3), rate=st.booleans(), timed=st.booleans())
    def start(self, threshold: int, probes: int, needed: int, rate: bool, timed: bool) -> None:
        self.time = VirtualTime()
        self.probes, self.needed = probes, needed
        self.threshold = None if rate else threshold
        options: dict[str, Any] = {"failure_threshold": threshold}
        if rate:
            options = {"failure_rate": 0.5, "minimum_calls": threshold, "window": datetime.timedelta(seconds=7) if timed else 4}
        self.breaker = CircuitBreaker(
            half_open_max_calls=probes,
            success_threshold=needed,
            recovery_timeout=RECOVERY,
            clock=self.time.clock,
            listeners=self.changed,
            **options,
        )
        # The state as it was told; a reset of a closed circuit changes the epoch, too.
        self.told = CLOSED
        self.epoch = 0
        self.until = 0.0
        self.slots: list[Slot] = []
        self.row = self.good = 0
        self.successful = self.failed = self.rejected = self.changes = self.opened = 0

    def changed(self, event: Any) -> None:
        assert (event.previous, event.state) in LEGAL
        assert event.previous is self.told
        self.told = event.state
        self.epoch += 1
        self.until = self.time.now + event.remaining
        self.row = self.good = 0
        self.changes += 1
        self.opened += event.state is OPEN

    @property
    def live(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.epoch == self.epoch and slot.ends is not None and slot.ends > self.time.now]

    def expected(self) -> tuple[CircuitState, bool]:
        """The state, and whether a call is to be let through."""
        if self.told is OPEN:
            return (OPEN, False) if self.time.now < self.until else (HALF_OPEN, True)
        return self.told, self.told is CLOSED or len(self.live) < self.probes

    def let_through(self, call: Attempt | None, ends_by: float) -> Slot:
        ends = None if self.told is CLOSED else self.time.now + RECOVERY if ends_by == math.inf else ends_by
        slot = Slot(self.epoch, call, ends)
        self.slots.append(slot)
        assert len(self.live) <= self.probes
        return slot

    def counted(self, failed: bool, before: tuple[int, CircuitState, int, int]) -> None:
        """What one more result of this epoch must have led to."""
        epoch, state, row, good = before
        if failed:
            self.failed += 1
        else:
            self.successful += 1
        if state is HALF_OPEN:
            opens, closes = failed, not failed and good + 1 == self.needed
            assert self.told is (OPEN if opens else CLOSED if closes else HALF_OPEN)
            if self.epoch == epoch:
                self.good = good + (not failed)
        elif state is CLOSED and self.threshold is not None:
            assert self.told is (OPEN if failed and row + 1 == self.threshold else CLOSED)
            if self.epoch == epoch:
                self.row = row + 1 if failed else 0

    def now(self) -> tuple[int, CircuitState, int, int]:
        return self.epoch, self.told, self.row, self.good

    @rule(target=calls, limit=st.sampled_from([math.inf, 2.0, 15.0]))
    def admit(self, limit: float) -> Any:
        state, passes = self.expected()
        call = attempt(self.time.now + limit)
        if passes:
            self.breaker.admit(call, self.time.now)
            assert self.told is state
            return self.let_through(call, call.ends_by)
        with pytest.raises(CircuitOpenError) as caught:
            self.breaker.admit(call, self.time.now)
        assert caught.value.state is state
        assert caught.value.remaining == (self.until - self.time.now if state is OPEN else 0.0)
        self.rejected += 1
        return multiple()

    @rule(slot=consumes(calls), kind=st.sampled_from(["success", "success", "failure", "failure", "uncounted"]))
    def settle(self, slot: Slot, kind: str) -> None:
        assert slot.call is not None
        before = self.now()
        # Also after its lease.
        moves = slot.epoch == self.epoch
        self.slots.remove(slot)
        self.breaker.settle(slot.call, (Outcome(error=KINDS[kind]),), self.time.now)
        if kind != "uncounted":
            if moves:
                self.counted(kind == "failure", before)
            else:
                self.failed += kind == "failure"
                self.successful += kind == "success"
                assert self.now() == before
        else:
            assert self.now() == before

    @rule(slot=consumes(calls), twice=st.booleans())
    def abandon(self, slot: Slot, twice: bool) -> None:
        assert slot.call is not None
        before = self.now()
        self.slots.remove(slot)
        self.breaker.abandon(slot.call, self.time.now)
        if twice:
            self.breaker.abandon(slot.call, self.time.now)
            self.breaker.settle(slot.call, (Outcome(error=KINDS["failure"]),), self.time.now)
        assert self.now() == before

    @rule()
    def abandon_a_stranger(self) -> None:
        self.breaker.abandon(attempt(), self.time.now)

    @rule()
    def can_execute(self) -> None:
        state, passes = self.expected()
        assert self.breaker.can_execute() is passes
        if not passes:
            self.rejected += 1
        elif state is HALF_OPEN:
            self.let_through(None, math.inf)

    @rule(failed=st.booleans())
    def record(self, failed: bool) -> None:
        state, _ = self.expected()
        epoch, _, row, good = self.now()
        if state is HALF_OPEN and self.told is OPEN:
            # It becomes half-open first, which is an epoch of its own.
            epoch, row, good = epoch + 1, 0, 0
        mine = next((slot for slot in self.live if slot.call is None), None)
        if mine is not None:
            self.slots.remove(mine)
        if failed:
            self.breaker.record_failure()
        else:
            self.breaker.record_success()
        self.counted(failed, (epoch, state, row, good))

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.5, 5.0, 10.0, 60.0]))
    def advance(self, seconds: float) -> None:
        self.time.advance(seconds)

    @rule()
    def hold(self) -> None:
        self.breaker.open()
        self.until = math.inf
        assert (self.told, self.breaker.remaining) == (OPEN, math.inf)

    @rule()
    def close(self) -> None:
        self.breaker.close()
        assert self.told is CLOSED

    @rule()
    def reset(self) -> None:
        self.breaker.reset()
        self.forgotten()

    def forgotten(self) -> None:
        assert self.told is CLOSED
        self.epoch += 1
        self.row = self.successful = self.failed = self.rejected = self.changes = self.opened = 0

    @invariant()
    def the_books_agree(self) -> None:
        if not hasattr(self, "breaker"):
            return
        stats = self.breaker.stats
        assert stats.total == stats.successful + stats.failed + stats.rejected
        assert (stats.successful, stats.failed, stats.rejected) == (self.successful, self.failed, self.rejected)
        assert (stats.state_changes, stats.opened_count) == (self.changes, self.opened)
        state, _ = self.expected()
        assert self.breaker.state is state
        assert self.breaker.remaining == (self.until - self.time.now if state is OPEN else 0.0)
        # The breaker's own books: no more leases than allowed, and no record of calls that are over.
        machine = self.breaker._machine
        assert len(machine._probes) <= self.probes
        assert set(self.breaker._permits) == {slot.call for slot in self.slots if slot.call is not None}

    def teardown(self) -> None:
        """No slot is lost: after everything ended, half-open lets out as many probes as ever."""
        if not hasattr(self, "breaker"):
            return
        if self.told is HALF_OPEN:
            for slot in list(self.slots):
                if slot.call is not None:
                    self.breaker.abandon(slot.call, self.time.now)
                    self.slots.remove(slot)
            # Slots that were taken by hand end with their lease.
            self.time.advance(RECOVERY if self.slots else 0.0)
        else:
            self.breaker.close()
            while self.breaker.is_closed:
                self.breaker.record_failure()
            self.time.advance(RECOVERY)
        assert self.breaker.is_half_open
        assert [self.breaker.can_execute() for _ in range(self.probes + 1)] == [True] * self.probes + [False]


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))


# --- tasks ---


def half_open(time: VirtualTime, **options: Any) -> CircuitBreaker:
    """A breaker that is half-open and stays so, whatever succeeds."""
    options = {"half_open_max_calls": 3, "success_threshold": 10**9, "recovery_timeout": RECOVERY, **options}
    breaker = CircuitBreaker(failure_threshold=1, clock=time.clock, **options)
    breaker.record_failure()
    time.advance(RECOVERY)
    return breaker


def slots_left(breaker: CircuitBreaker) -> int:
    return sum(breaker.can_execute() for _ in range(9))


@pytest.mark.parametrize("seed", range(6))
def test_tasks_that_are_cancelled_at_random_lose_no_slot(seed: int) -> None:
    rng = random.Random(seed)
    time = VirtualTime()
    breaker = half_open(time)
    inside = most = finished = turned_away = 0

    async def visit() -> None:
        nonlocal inside, most, finished, turned_away
        try:
            async with breaker:
                inside += 1
                most = max(most, inside)
                try:
                    for _ in range(rng.randrange(5)):
                        await asyncio.sleep(0)
                finally:
                    inside -= 1
            finished += 1
        except CircuitOpenError:
            turned_away += 1

    async def main() -> None:
        tasks: list[asyncio.Task[None]] = []
        for _ in range(400):
            tasks.append(asyncio.create_task(visit()))
            if rng.random() < 0.5:
                await asyncio.sleep(0)
            if rng.random() < 0.4:
                rng.choice(tasks[-5:]).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    stats = breaker.stats
    assert (inside, most) == (0, 3)
    assert (stats.successful, stats.failed, stats.rejected) == (finished, 1, turned_away)
    assert finished > 20
    assert turned_away > 20
    assert slots_left(breaker) == 3


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("key", [None, "method"])
def test_calls_of_a_client_that_are_cancelled_at_random_lose_no_slot(seed: int, key: str | None) -> None:
    rng = random.Random(seed)
    time = VirtualTime()
    breaker = (
        half_open(time)
        if key is None
        else CircuitBreaker(key=key, failure_threshold=1, half_open_max_calls=3, success_threshold=10**9, recovery_timeout=RECOVERY, clock=time.clock)
    )
    circuit = breaker if key is None else breaker["m"]
    if key is not None:
        circuit.record_failure()
        time.advance(RECOVERY)
    inside = most = 0

    class Busy:
        async def exchange(self, exchange: Exchange, /) -> Reply:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            try:
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(0)
            finally:
                inside -= 1
            return Reply(b'{"jsonrpc":"2.0","id":%d,"result":0}' % exchange.ids[0])

        async def aclose(self) -> None: ...

    async def main() -> list[Any]:
        client = AsyncClient(Busy(), layers=breaker, clock=time.clock, timeout=None)
        tasks: list[asyncio.Task[Any]] = []
        for _ in range(300):
            tasks.append(asyncio.create_task(client.call("m")))
            if rng.random() < 0.5:
                await asyncio.sleep(0)
            if rng.random() < 0.4:
                rng.choice(tasks[-5:]).cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    ends = asyncio.run(main())
    stats = circuit.stats
    assert (inside, most) == (0, 3)
    assert stats.successful == ends.count(0) > 20
    assert stats.rejected == sum(isinstance(end, CircuitOpenError) for end in ends) > 20
    assert (breaker._permits, breaker._shares) == ({}, {})
    assert sum(circuit.can_execute() for _ in range(9)) == 3


def test_ten_thousand_abandoned_calls_lose_no_slot() -> None:
    rng = random.Random(7)
    time = VirtualTime()
    breaker = half_open(time)
    out: list[Attempt] = []
    for _ in range(10_000):
        call = attempt()
        with contextlib.suppress(CircuitOpenError):
            breaker.admit(call, time.now)
            out.append(call)
        if out and rng.random() < 0.7:
            breaker.abandon(out.pop(rng.randrange(len(out))), time.now)
    for call in out:
        breaker.abandon(call, time.now)
    assert (breaker._permits, breaker.stats.successful, breaker.stats.failed) == ({}, 0, 1)
    assert slots_left(breaker) == 3


# --- threads ---


def run_threads(count: int, act: Any) -> None:
    problems: list[BaseException] = []
    start = threading.Barrier(count)

    def body(number: int) -> None:
        try:
            start.wait(10)
            act(number)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=body, args=(number,)) for number in range(count)]
    was = sys.getswitchinterval()
    # Threads change places so often that a step which is not one shows.
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    finally:
        sys.setswitchinterval(was)
    assert not any(thread.is_alive() for thread in threads)
    assert problems == []


@pytest.mark.parametrize("way", ["with", "layer", "keyed", "by hand"])
def test_eight_threads_never_have_more_probes_out_than_allowed(way: str) -> None:
    time = VirtualTime()
    breaker = half_open(time)
    circuit: Any = breaker
    if way == "keyed":
        breaker = CircuitBreaker(key="method", failure_threshold=1, success_threshold=10**9, clock=time.clock)
        circuit = breaker["get"]
        circuit.record_failure()
        time.advance(30)
    inside = most = 0
    lock = threading.Lock()

    def visited() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        # Lets another thread in.
        threading.Event().wait(0)
        with lock:
            inside -= 1

    def visit() -> None:
        if way == "with":
            with breaker:
                visited()
        elif way == "by hand":
            if breaker.can_execute():
                visited()
                breaker.record_success()
        else:
            call = attempt()
            breaker.admit(call, time.now)
            visited()
            breaker.settle(call, (Outcome(),), time.now)

    def act(_: int) -> None:
        for _ in range(200):
            with contextlib.suppress(CircuitOpenError):
                visit()

    run_threads(8, act)
    stats = circuit.stats
    assert inside == 0
    assert 1 <= most <= 3
    assert (stats.total, stats.failed, stats.successful + stats.rejected) == (1_601, 1, 1_600)
    assert sum(circuit.can_execute() for _ in range(9)) == 3


def test_eight_threads_that_do_everything_at_once_lose_no_count() -> None:
    time = VirtualTime()
    changes: list[Any] = []
    breaker = CircuitBreaker(failure_threshold=3, recovery_timeout=1.0, success_threshold=1, clock=time.clock, listeners=changes.append)
    counted = [0] * 8

    def act(number: int) -> None:
        rng = random.Random(number)
        for _ in range(400):
            choice = rng.random()
            if choice < 0.1:
                time.advance(0.2)
            elif choice < 0.15:
                breaker.open()
                breaker.close()
            elif choice < 0.3:
                breaker.record_failure()
                counted[number] += 1
            elif choice < 0.4:
                call = attempt()
                with contextlib.suppress(CircuitOpenError):
                    breaker.admit(call, time.now)
                    breaker.abandon(call, time.now)
                    continue
                counted[number] += 1
            else:
                with contextlib.suppress(CircuitOpenError, ConnectionLostError), breaker:
                    if choice > 0.7:
                        raise ConnectionLostError("x")
                counted[number] += 1

    run_threads(8, act)
    stats = breaker.stats
    assert stats.total == stats.successful + stats.failed + stats.rejected == sum(counted)
    assert stats.state_changes == len(changes)
    assert stats.opened_count == sum(change.state is OPEN for change in changes)
    assert {(change.previous, change.state) for change in changes} <= LEGAL
    assert breaker._permits == {}
    breaker.open()
    breaker.close()
    for _ in range(3):
        breaker.record_failure()
    time.advance(1)
    assert slots_left(breaker) == 3


def test_eight_threads_make_one_circuit_of_a_key() -> None:
    breaker = CircuitBreaker(key="method")
    found: list[Any] = [None] * 8

    def act(number: int) -> None:
        found[number] = [breaker[key] for key in range(50)]
        for circuit in found[number]:
            circuit.record_success()

    run_threads(8, act)
    assert all(circuits == found[0] for circuits in found)
    assert [breaker[key].stats.successful for key in range(50)] == [8] * 50


# --- a thread that comes back while it is inside ---


class Reentered:
    """A breaker, calls of it that are out, and what may be done to it at any time."""

    def __init__(self, state: CircuitState, most: int, options: dict[str, Any]) -> None:
        self.time = VirtualTime()
        self.told: list[Any] = []
        self.breaker = CircuitBreaker(recovery_timeout=RECOVERY, half_open_max_calls=most, clock=self.time.clock, listeners=self.told.append, **options)
        self.out: list[Attempt] = []
        if state is not CLOSED:
            while self.breaker.is_closed:
                self.breaker.record_failure()
            self.time.advance(RECOVERY)
        else:
            # A window that is full.
            self.breaker.record_success()
            self.breaker.record_success()
        if state is not OPEN:
            self.admit()
        self.told.clear()
        self.before = self.breaker.stats

    def admit(self) -> None:
        call = attempt()
        with contextlib.suppress(CircuitOpenError):
            self.breaker.admit(call, self.time.now)
            self.out.append(call)

    def settle(self, problem: Exception | None) -> None:
        if self.out:
            self.breaker.settle(self.out.pop(), (Outcome(error=problem),), self.time.now)

    def do(self, act: str) -> None:
        match act:
            case "admit":
                self.admit()
            case "success":
                self.settle(None)
            case "failure":
                self.settle(KINDS["failure"])
            case "abandon" if self.out:
                self.breaker.abandon(self.out.pop(), self.time.now)
            case "record":
                self.breaker.record_failure()
            case "open":
                self.breaker.open()
            case "close":
                self.breaker.close()
            case "reset":
                self.breaker.reset()

    def check(self, acts: str) -> None:
        machine, stats = self.breaker._machine, self.breaker.stats
        probes = [permit for permit in self.breaker._permits.values() if permit.generation == machine._generation and permit.ends != math.inf]
        assert len(probes) <= self.breaker._common.rules.half_open_max_calls, acts
        assert set(probes) == set(machine._probes), acts
        assert len(self.breaker._permits) == len(self.out), acts
        assert (machine.passage is not None) is (machine._state is CLOSED), acts
        assert machine.passage is None or machine.passage.generation == machine._generation, acts
        assert {(change.previous, change.state) for change in self.told} <= LEGAL, acts
        if "reset" not in acts:
            assert stats.state_changes == self.before.state_changes + len(self.told), acts
            assert stats.opened_count == self.before.opened_count + sum(change.state is OPEN for change in self.told), acts
        if acts.startswith("failure") and acts.endswith("reset"):
            # A call from before moves nothing, however far its end had come.
            assert stats.consecutive_failures == 0, acts
        window: Any = machine._window
        if window is not None:
            kept = window._results if hasattr(window, "_results") else None
            assert window.calls == (sum(window._calls) if kept is None else len(kept)), acts
            assert window.failures == (sum(window._failures) if kept is None else sum(kept)), acts


def interrupted(scene: Reentered, outer: str, inner: str, step: int) -> bool:
    """Do *inner* at the *step*-th place in *outer* where CPython may run a signal handler or the collector: where something is called.

    :returns: whether there is such a place.
    """
    left = step

    def hook(frame: Any, event: str, _: object) -> None:
        nonlocal left
        if frame.f_code.co_filename.endswith(("_circuit.py", "_window.py")):
            left -= 1
            if left == 0:
                scene.do(inner)

    sys.setprofile(hook)
    try:
        scene.do(outer)
    finally:
        sys.setprofile(None)
    return left <= 0


def alone(act: Callable[[], None]) -> None:
    """In a thread that may hang without the tests hanging with it."""
    problems: list[BaseException] = []

    def body() -> None:
        try:
            act()
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "it waits for itself"
    if problems:
        raise problems[0]


ACTS = ["admit", "success", "failure", "abandon", "record", "open", "close", "reset"]


@pytest.mark.parametrize(
    "options",
    [
        {"failure_threshold": 1, "success_threshold": 1},
        {"failure_threshold": 2, "success_threshold": 2},
        {"failure_rate": 0.6, "window": 2, "minimum_calls": 2},
        {"failure_rate": 0.6, "window": datetime.timedelta(seconds=5), "minimum_calls": 2},
    ],
    ids=["one", "two", "calls", "time"],
)
@pytest.mark.parametrize("most", [1, 2])
@pytest.mark.parametrize("state", [CLOSED, OPEN, HALF_OPEN])
def test_a_thread_that_comes_back_while_it_is_inside_neither_hangs_nor_harms(state: CircuitState, most: int, options: dict[str, Any]) -> None:
    tried = 0

    def every() -> None:
        nonlocal tried
        for outer in ACTS:
            for inner in ACTS:
                for step in range(1, 99):
                    scene = Reentered(state, most, options)
                    found = interrupted(scene, outer, inner, step)
                    scene.check(f"{outer}, at step {step} {inner}" if found else outer)
                    tried += found
                    if not found:
                        break

    logger = logging.getLogger("rpcretry")
    was = logger.level
    # Formatting thousands of changes would take most of the time.
    logger.setLevel(logging.CRITICAL)
    try:
        alone(every)
    finally:
        logger.setLevel(was)
    assert tried > 100


def test_the_collector_may_end_a_call_of_the_thread_that_is_inside() -> None:
    time = VirtualTime()
    breaker = half_open(time)

    @types.coroutine
    def never() -> Any:
        yield

    async def nap() -> None:
        async with breaker:
            await never()

    class Hung(list[Any]):
        """A permit list that ends a hung call where the collector might: as the machine looks into it."""

        def __contains__(self, permit: object) -> bool:
            nonlocal hung
            if hung is not None:
                coroutine, hung = hung, None
                coroutine.close()
            return super().__contains__(permit)

    hung: Any = nap()

    def act() -> None:
        hung.send(None)
        call = attempt()
        breaker.admit(call, time.now)
        breaker._machine._probes = Hung(breaker._machine._probes)
        breaker.settle(call, (Outcome(),), time.now)

    alone(act)
    assert hung is None
    assert slots_left(breaker) == 3
