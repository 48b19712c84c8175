"""The concurrency limit: never more out than allowed, first come first served, and no place lost."""

from __future__ import annotations

import asyncio
import inspect
import math
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from interruptions import Scene, at_every_line, interrupt, interrupted
from support import Recorder, Rig, both_drivers, fresh

from rpcretry import AsyncClient, Client, ConnectionLostError, DeadlineExceeded, Delivery, Refused, RetryStrategy
from rpcretry.errors import LimitReachedError
from rpcretry.layers.concurrency import ConcurrencyLimit
from rpcretry.outcome import Attempt, Member, Outcome, Wait
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import result
from rpcretry.transport import Exchange, Reply

lost = fresh(ConnectionLostError("reset"))


def one() -> Attempt:
    return Attempt(1, [Member(None)], math.inf, "x")


def ask(limit: ConcurrencyLimit, attempt: Attempt, now: float = 0.0) -> Wait | None:
    """As the engine asks."""
    attempt.parking = None
    return limit.admit(attempt, now)


def is_woken(attempt: Attempt) -> bool:
    return attempt.parking is not None and attempt.parking.woken


def is_empty(limit: ConcurrencyLimit) -> bool:
    return (limit.in_use, limit.waiting, limit._inside, dict(limit._queue), limit._granted) == (0, 0, set(), {}, {})


# --- through clients ---


@both_drivers
def test_a_call_takes_a_place_and_gives_it_back(driver: str) -> None:
    seen: list[int] = []

    def look(_: Exchange) -> Any:
        seen.append(limit.in_use)
        return ConnectionLostError("x") if len(seen) == 1 else result(5)(_)

    limit = ConcurrencyLimit(1)
    strategy = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(2, 0.5))
    rig = Rig(driver, look, look, retry_strategy=strategy, layers=limit)
    assert rig.call("get") == 5
    assert seen == [1, 1]
    assert is_empty(limit)


@both_drivers
def test_no_place_is_held_between_tries(driver: str) -> None:
    limit = ConcurrencyLimit(1)
    strategy = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(2, 0.5))
    seen: list[int] = []
    rig = Rig(driver, lost, result(5), retry_strategy=strategy, layers=limit, on_event=lambda event: seen.append(limit.in_use))
    rig.call("get")
    assert 0 in seen
    assert set(seen) <= {0, 1}


@both_drivers
@pytest.mark.parametrize("waiting", [0, 2])
def test_a_full_queue_refuses_at_once(driver: str, waiting: int) -> None:
    limit, holder, others = ConcurrencyLimit(1, max_waiting=waiting, name="db"), one(), [one() for _ in range(waiting)]
    for attempt in (holder, *others):
        ask(limit, attempt)
    rig = Rig(driver, result(5), layers=limit)
    with pytest.raises(LimitReachedError, match=f"concurrency limit 'db': 1 exchanges are out, and the queue is full, max_waiting={waiting}") as caught:
        rig.call("get")
    assert (caught.value.name, caught.value.remaining, caught.value.delivery, rig.sent) == ("db", None, Delivery.NOT_SENT, 0)
    assert (limit.in_use, limit.waiting) == (1, waiting)
    for attempt in (*others, holder):
        limit.abandon(attempt, 0.0)
    assert rig.call("get") == 5
    assert is_empty(limit)


@both_drivers
def test_a_wait_that_is_too_long_is_refused(driver: str) -> None:
    limit, holder = ConcurrencyLimit(1, max_wait=0.01), one()
    ask(limit, holder)
    rig = Rig(driver, result(5), layers=limit)
    with pytest.raises(LimitReachedError, match=r"no place became free within max_wait=0\.01 s"):
        rig.call("get")
    assert (rig.sent, limit.in_use, limit.waiting) == (0, 1, 0)
    limit.settle(holder, [Outcome()], 0.0)
    assert rig.call("get") == 5


@both_drivers
def test_the_deadline_ends_a_wait(driver: str) -> None:
    limit, holder = ConcurrencyLimit(1), one()
    ask(limit, holder)
    rig = Rig(driver, layers=limit, deadline=0.01)
    with pytest.raises(DeadlineExceeded):
        rig.call("get")
    limit.abandon(holder, 0.0)
    assert is_empty(limit)


@both_drivers
@pytest.mark.parametrize("raised", [Refused("no"), LookupError("bug")])
def test_an_attempt_that_is_refused_further_in_gives_its_place_back(driver: str, raised: Exception) -> None:
    limit = ConcurrencyLimit(1)
    rig = Rig(driver, result(5), layers=(limit, Recorder(waits=[raised])))
    with pytest.raises(type(raised)):
        rig.call("get")
    assert is_empty(limit)
    assert rig.call("get") == 5


@both_drivers
def test_a_place_that_becomes_free_lets_a_waiting_call_go_on(driver: str) -> None:
    limit, holder = ConcurrencyLimit(1), one()
    ask(limit, holder)
    rig = Rig(driver, result(5), layers=limit)
    timer = threading.Timer(0.01, limit.settle, (holder, [Outcome()], 0.0))
    timer.start()
    assert rig.call("get") == 5
    timer.join()
    assert is_empty(limit)


# --- the queue, directly ---


def test_a_place_goes_to_the_first_in_the_queue_and_no_newcomer_takes_it() -> None:
    limit = ConcurrencyLimit(1)
    holder, first, second, newcomer = one(), one(), one(), one()
    assert ask(limit, holder) is None
    assert ask(limit, first) == Wait(math.inf, "concurrency limit")
    ask(limit, second)
    limit.settle(holder, [Outcome()], 1.0)
    assert (is_woken(first), is_woken(second), limit.in_use, limit.waiting) == (True, False, 1, 1)
    # The place is the first one's although it has not asked again yet.
    assert isinstance(ask(limit, newcomer), Wait)
    assert ask(limit, first) is None
    limit.settle(first, [Outcome()], 1.0)
    assert (is_woken(second), is_woken(newcomer)) == (True, False)


def test_one_that_is_asked_again_too_early_keeps_its_place_and_parks_anew() -> None:
    limit = ConcurrencyLimit(1, max_wait=5)
    holder, first, second = one(), one(), one()
    for attempt in (holder, first, second):
        ask(limit, attempt)
    stale = first.parking
    assert ask(limit, first, 3.0) == Wait(5.0, "concurrency limit")
    limit.settle(holder, [Outcome()], 3.0)
    assert stale is not None
    assert (stale.woken, is_woken(first), is_woken(second)) == (False, True, False)


def test_a_place_granted_as_the_time_runs_out_is_taken() -> None:
    limit = ConcurrencyLimit(1, max_wait=5)
    holder, first = one(), one()
    ask(limit, holder)
    ask(limit, first)
    limit.settle(holder, [Outcome()], 5.0)
    assert ask(limit, first, 6.0) is None


def test_one_that_leaves_passes_its_granted_place_on() -> None:
    limit = ConcurrencyLimit(1)
    holder, first, second, third = one(), one(), one(), one()
    for attempt in (holder, first, second, third):
        ask(limit, attempt)
    limit.abandon(second, 0.0)
    limit.settle(holder, [Outcome()], 0.0)
    limit.abandon(first, 0.0)
    assert (is_woken(third), limit.in_use, limit.waiting) == (True, 1, 0)
    limit.abandon(third, 0.0)
    assert is_empty(limit)


def test_the_end_of_an_attempt_counts_once() -> None:
    limit = ConcurrencyLimit(2)
    first, second = one(), one()
    ask(limit, first)
    ask(limit, second)
    for _ in range(3):
        limit.settle(first, [Outcome()], 0.0)
        limit.abandon(first, 0.0)
    limit.abandon(one(), 0.0)
    assert limit.in_use == 1


def test_the_next_is_woken_outside_of_the_lock() -> None:
    limit, holder, first = ConcurrencyLimit(1), one(), one()
    ask(limit, holder)
    ask(limit, first)
    assert first.parking is not None
    free: list[bool] = []
    first.parking.on_wake(lambda: free.append(not limit._lock._is_owned()))
    limit.settle(holder, [Outcome()], 0.0)
    assert free == [True]


class Crowd(RuleBasedStateMachine):
    """Random arrivals, ends, cancels and early wakes, against a list of those inside and one of those that wait."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = ConcurrencyLimit(2, max_waiting=4, max_wait=10)
        self.now = 0.0
        self.inside: list[Attempt] = []
        self.queue: list[tuple[Attempt, float]] = []

    def ended(self) -> None:
        if self.queue and len(self.inside) < 2:
            granted, _ = self.queue.pop(0)
            assert is_woken(granted)
            self.inside.append(granted)

    @rule()
    def arrive(self) -> None:
        attempt = one()
        if len(self.inside) < 2:
            assert ask(self.limit, attempt, self.now) is None
            self.inside.append(attempt)
        elif len(self.queue) < 4:
            assert ask(self.limit, attempt, self.now) == Wait(self.now + 10, "concurrency limit")
            self.queue.append((attempt, self.now + 10))
        else:
            with pytest.raises(LimitReachedError):
                ask(self.limit, attempt, self.now)

    @precondition(lambda self: self.inside)
    @rule(data=st.data(), cancelled=st.booleans())
    def end(self, data: st.DataObject, cancelled: bool) -> None:
        attempt = self.inside.pop(data.draw(st.integers(0, len(self.inside) - 1)))
        if cancelled:
            self.limit.abandon(attempt, self.now)
        else:
            self.limit.settle(attempt, [Outcome()], self.now)
        self.ended()

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def ask_inside(self, data: st.DataObject) -> None:
        assert ask(self.limit, data.draw(st.sampled_from(self.inside)), self.now) is None

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def ask_queued(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.queue) - 1))
        attempt, gives_up = self.queue[index]
        if self.now < gives_up:
            assert ask(self.limit, attempt, self.now) == Wait(gives_up, "concurrency limit")
        else:
            del self.queue[index]
            with pytest.raises(LimitReachedError):
                ask(self.limit, attempt, self.now)

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        attempt, _ = self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1)))
        self.limit.abandon(attempt, self.now)
        self.limit.abandon(attempt, self.now)

    @rule(seconds=st.sampled_from([1.0, 4.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def agrees(self) -> None:
        assert self.limit._inside == set(self.inside)
        assert list(self.limit._queue) == [attempt for attempt, _ in self.queue]
        assert (self.limit.in_use, self.limit.waiting) == (len(self.inside), len(self.queue))


Crowd.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestCrowd = Crowd.TestCase


def test_no_place_is_lost_after_ten_thousand_acquisitions_cancelled_at_random() -> None:
    limit, chance = ConcurrencyLimit(7), random.Random(3)
    live: list[Attempt] = []
    for _ in range(10_000):
        attempt = one()
        ask(limit, attempt)
        live.append(attempt)
        while live and (len(live) > 30 or chance.random() < 0.4):
            # Queued, granted or inside: whichever it is.
            limit.abandon(live.pop(chance.randrange(len(live))), 0.0)
        assert limit.in_use == min(7, len(live))
    for attempt in live:
        limit.abandon(attempt, 0.0)
    assert is_empty(limit)


# --- threads and tasks ---


class Counting:
    """A backend that counts who is inside at once."""

    def __init__(self) -> None:
        self.flying, self.most, self.lock = 0, 0, threading.Lock()
        self.order: list[Any] = []

    def enter(self, exchange: Exchange) -> None:
        with self.lock:
            self.flying += 1
            self.most = max(self.most, self.flying)
            self.order.append(exchange.ids[0])

    def leave(self, exchange: Exchange) -> Reply:
        with self.lock:
            self.flying -= 1
        return Reply(b'{"jsonrpc":"2.0","id":%d,"result":0}' % exchange.ids[0])

    def exchange(self, exchange: Exchange, /) -> Reply:
        self.enter(exchange)
        time.sleep(0.0005)
        return self.leave(exchange)

    def close(self) -> None: ...


class AsyncCounting(Counting):
    def __init__(self, turns: Callable[[], int] = lambda: 1) -> None:
        super().__init__()
        self.turns = turns

    async def exchange(self, exchange: Exchange, /) -> Reply:  # type: ignore[override]
        self.enter(exchange)
        try:
            for _ in range(self.turns()):
                await asyncio.sleep(0)
        finally:
            reply = self.leave(exchange)
        return reply

    async def aclose(self) -> None: ...


def test_eight_threads_and_a_loop_share_one_limit() -> None:
    limit, sync, other = ConcurrencyLimit(2), Counting(), AsyncCounting()
    client = Client(sync, layers=limit)
    done: list[int] = []

    async def main() -> None:
        async_client = AsyncClient(other, layers=limit)
        await asyncio.gather(*[async_client.call("m") for _ in range(100)])
        done.append(100)

    def work() -> None:
        for _ in range(50):
            client.call("m")
        done.append(50)

    threads = [*(threading.Thread(target=work) for _ in range(8)), threading.Thread(target=lambda: asyncio.run(main()))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(done) == 500
    assert (sync.most, other.most <= 2) == (2, True)
    assert is_empty(limit)


def test_threads_that_run_into_deadlines_and_long_waits_lose_no_place() -> None:
    limit, backend = ConcurrencyLimit(2, max_wait=0.003, max_waiting=5), Counting()
    client = Client(backend, layers=limit)
    ends: list[str] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(40):
            try:
                client.call("m", _deadline=chance.choice([None, 0.0005, 0.001, 0.002]))
                ends.append("ok")
            except (DeadlineExceeded, LimitReachedError) as problem:
                ends.append(type(problem).__name__)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(ends) == 320
    assert set(ends) == {"ok", "DeadlineExceeded", "LimitReachedError"}
    assert (backend.most, is_empty(limit)) == (2, True)


def test_tasks_go_in_the_order_of_their_coming() -> None:
    limit, backend = ConcurrencyLimit(3), AsyncCounting()

    async def main() -> None:
        client = AsyncClient(backend, layers=limit)
        await asyncio.gather(*[client.call("m") for _ in range(40)])

    asyncio.run(main())
    assert (backend.most, backend.order) == (3, list(range(1, 41)))
    assert is_empty(limit)


@pytest.mark.parametrize("turns_before_cancel", range(8))
def test_a_queued_or_granted_task_that_is_cancelled_lets_the_next_go(turns_before_cancel: int) -> None:
    """Somewhere among these turns lies the one in which the cancel meets the grant."""
    limit, backend = ConcurrencyLimit(1), AsyncCounting(lambda: 3)

    async def main() -> None:
        client = AsyncClient(backend, layers=limit)
        tasks = [asyncio.create_task(client.call("m")) for _ in range(3)]
        for _ in range(turns_before_cancel):
            await asyncio.sleep(0)
        tasks[1].cancel()
        ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert [type(end) for end in ended] == [int, asyncio.CancelledError, int]

    asyncio.run(main())
    assert is_empty(limit)


@pytest.mark.parametrize("seed", range(5))
def test_no_place_is_lost_by_tasks_that_are_cancelled_at_random(seed: int) -> None:
    limit, chance = ConcurrencyLimit(3), random.Random(seed)
    backend = AsyncCounting(lambda: chance.randrange(4))

    async def main() -> list[Any]:
        client = AsyncClient(backend, layers=limit)
        tasks: list[asyncio.Task[Any]] = []
        for _ in range(200):
            tasks.append(asyncio.create_task(client.call("m")))
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            if chance.random() < 0.6:
                chance.choice(tasks).cancel()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)

    ended = asyncio.run(main())
    assert {type(end) for end in ended} == {int, asyncio.CancelledError}
    assert backend.most <= 3
    assert is_empty(limit)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: ConcurrencyLimit(0), ValueError, ["limit", "at least 1", "0"]),
        (lambda: ConcurrencyLimit(1.5), TypeError, ["limit", "1.5"]),  # type: ignore[arg-type]
        (lambda: ConcurrencyLimit(True), TypeError, ["limit", "True"]),
        (lambda: ConcurrencyLimit(1, max_waiting=-1), ValueError, ["max_waiting", "-1"]),
        (lambda: ConcurrencyLimit(1, max_waiting="2"), TypeError, ["max_waiting", "'2'"]),  # type: ignore[arg-type]
        (lambda: ConcurrencyLimit(1, max_wait=0), ValueError, ["max_wait", "None for no limit"]),
        (lambda: ConcurrencyLimit(1, max_wait=math.nan), ValueError, ["max_wait"]),
        (lambda: ConcurrencyLimit(1, name=None), TypeError, ["name", "None"]),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_named(make: Any, kind: type[Exception], words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        make()
    for word in words:
        assert word in str(caught.value)


# --- what comes in the middle ---


def crowded(limit: int) -> tuple[Scene, Attempt, Attempt, Attempt]:
    """A scene, one of those that are out, and the two that wait."""
    scene = Scene(ConcurrencyLimit(limit))
    out, *_ = [scene.come() for _ in range(limit)]
    return scene, out, scene.come(), scene.come()


def acts(scene: Scene, out: Attempt, first: Attempt, second: Attempt) -> dict[str, tuple[Attempt, Callable[[Attempt], object]]]:
    return {
        "newcomer": (one(), scene.ask),
        "end": (out, scene.end),
        "early": (first, scene.ask),
        "leave": (first, scene.leave),
        "leave behind": (second, scene.leave),
    }


@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("act", ["newcomer", "end", "early", "leave", "leave behind"])
@pytest.mark.parametrize("blow", ["an end", "first leaves", "second leaves", "all leave", "a call"])
def test_what_the_same_thread_does_in_the_middle_neither_locks_it_out_nor_loses_a_place(limit: int, act: str, blow: str) -> None:
    """A collection closes a dead coroutine, or a signal handler makes a call, while the thread is in the layer."""

    def make() -> tuple[Scene, Callable[[], object], Callable[[], object]]:
        scene, out, first, second = crowded(limit)
        attempt, does = acts(scene, out, first, second)[act]
        between = {
            "an end": [out],
            "first leaves": [first],
            "second leaves": [second],
            "all leave": [out, first, second],
            "a call": [],
        }[blow]
        gone = [other for other in between if other is not attempt]

        def strike() -> None:
            for other in gone:
                scene.leave(other)
            if blow == "a call":
                scene.call()

        made.append(scene)
        return scene, lambda: does(attempt), strike

    made: list[Scene] = []
    assert at_every_line(make) == []
    assert all(is_empty(scene.layer) for scene in made)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("act", ["newcomer", "end", "early", "leave", "leave behind"])
def test_an_interrupt_between_a_grant_and_its_wake_leaves_nobody_waiting(limit: int, act: str) -> None:
    def make() -> tuple[Scene, Callable[[], object], Callable[[], object]]:
        scene, out, first, second = crowded(limit)
        made.append(scene)
        return scene, interrupted(scene, *acts(scene, out, first, second)[act]), interrupt

    made: list[Scene] = []
    assert at_every_line(make) == []
    assert all(is_empty(scene.layer) for scene in made)  # type: ignore[arg-type]


def test_a_wake_that_was_interrupted_is_made_up_for_by_whoever_leaves_next() -> None:
    limit = ConcurrencyLimit(2)
    out, other, first = one(), one(), one()
    for attempt in (out, other, first):
        ask(limit, attempt)
    queued = limit._queue[first]
    wakes = iter([interrupt, queued.wake])
    queued.wake = lambda: next(wakes)()
    with pytest.raises(KeyboardInterrupt):
        limit.settle(out, [Outcome()], 0.0)
    assert not is_woken(first)
    limit.settle(other, [Outcome()], 0.0)
    assert is_woken(first)
    # Once is enough: the next that leaves has nobody to wake.
    assert (limit._granted, ask(limit, first)) == ({}, None)
    limit.settle(first, [Outcome()], 0.0)
    assert is_empty(limit)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ConcurrencyLimit(max_concurrent=5), ["ConcurrencyLimit", "max_concurrent", "here it is limit"]),  # type: ignore[call-arg]
        (lambda: ConcurrencyLimit(permits=5), ["permits", "here it is limit"]),  # type: ignore[call-arg]
        (lambda: ConcurrencyLimit(5, max_waitng=1), ["max_waitng", "did you mean max_waiting?"]),  # type: ignore[call-arg]
        (lambda: ConcurrencyLimit(5, 10), ["only limit by place", "10", "max_waiting=10"]),  # type: ignore[misc]
    ],
)
def test_a_parameter_that_it_does_not_have_gets_an_error_that_names_ours(make: Any, words: list[str]) -> None:
    with pytest.raises(TypeError) as caught:
        make()
    for word in words:
        assert word in str(caught.value)


def test_a_subclass_says_itself_what_it_takes() -> None:
    class Own(ConcurrencyLimit):
        def __init__(self, permits: int, extra: int) -> None:
            super().__init__(permits + extra)

    assert Own(2, 3).limit == Own(permits=2, extra=3).limit == 5
    assert list(inspect.signature(Own).parameters) == ["permits", "extra"]
    assert list(inspect.signature(ConcurrencyLimit).parameters) == ["limit", "max_waiting", "max_wait", "name"]


def test_its_repr_tells_how_it_stands() -> None:
    limit = ConcurrencyLimit(1, name="db")
    ask(limit, one())
    ask(limit, one())
    assert repr(limit) == "<ConcurrencyLimit 'db': 1 of 1 out, 1 waiting>"
