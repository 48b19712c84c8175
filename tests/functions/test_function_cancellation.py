"""Cancels, interrupts and limits: what ends a call from outside goes through, is not retried, not counted and leaks nothing."""

from __future__ import annotations

import asyncio
import math
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from function_rig import FunctionRig, both, every_way, lost
from support import Recorder

from rpcretry import ConcurrencyLimit, DeadlineExceeded, Fallback, Layer, current_attempt
from rpcretry.events import Event
from rpcretry.functions import Retrying, retry, retrying
from rpcretry.outcome import Attempt, Wait
from rpcretry.retry import PeriodicBackoff


class Hard(BaseException):
    pass


ENDS = [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit, Hard]
OPTIONS: list[dict[str, Any]] = [{}, {"deadline": 60}, {"retry_result": lambda value: False}, {"on": Exception}, {"fallback_value": 5}, {"wrap": True}]


# --- raised by the function itself ---


@every_way
@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("first", [True, False], ids=["first try", "second try"])
def test_an_end_inside_of_an_attempt_goes_through(driver: str, form: str, kind: type[BaseException], options: dict[str, Any], first: bool) -> None:
    layer = Recorder()
    for layers in ([], [layer]):
        heard: list[Event] = []
        rig = FunctionRig(driver, *([] if first else [lost]), kind, form=form, layers=layers, on_event=heard.append, **options)
        rig.fails(kind)
        assert rig.count == (1 if first else 2)
        assert [type(event).__name__ for event in heard] == ["AttemptStarted"] + ([] if first else ["RetryScheduled", "AttemptStarted"])
    before = [] if first else ["layer.admit", "layer.judge", "layer.settle"]
    assert layer.log == [*before, "layer.admit", "layer.abandon"]


@every_way
@pytest.mark.parametrize("kind", ENDS)
def test_an_end_in_the_wait_goes_through(driver: str, form: str, kind: type[BaseException]) -> None:
    def stop(seconds: float) -> Any:
        raise kind

    async def astop(seconds: float) -> None:
        stop(seconds)

    layer = Recorder()
    rig = FunctionRig(driver, lost, form=form, layers=[layer], on=Exception, sleep=stop if driver == "sync" else astop)
    rig.fails(kind)
    # Between two attempts no layer has anything to give back.
    assert (rig.count, layer.log) == (1, ["layer.admit", "layer.judge", "layer.settle"])


@every_way
@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize("where", ["when", "on_retry", "fallback"])
def test_an_end_in_what_is_asked_goes_through(driver: str, form: str, kind: type[BaseException], where: str) -> None:
    def stop(*_: Any) -> Any:
        raise kind

    options: dict[str, Any] = {where: (lambda error: stop()) if where == "fallback" else (lambda one, other: stop())}
    layer = Recorder()
    rig = FunctionRig(driver, lost, form=form, layers=[layer], max_attempts=2, base_delay=0, **options)
    rig.fails(kind)
    assert layer.count("admit") == layer.count("settle") + layer.count("abandon")


# --- cancelled from outside, at every await ---


class Points(Layer):
    """Has an attempt wait in a queue until somebody wakes it: nobody does."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.abandoned = 0
        self.waiting = False

    def admit(self, attempt: Attempt, now: float) -> Wait | None:
        if attempt.number < self.number:
            return None
        attempt.park()
        self.waiting = True
        return Wait(math.inf, "queue")

    def abandon(self, attempt: Attempt, now: float) -> None:
        self.abandoned += 1


async def forever(*_: Any) -> Any:
    await asyncio.sleep(60)


async def cancelled(task: asyncio.Task[Any], arrived: Callable[[], bool]) -> None:
    """Cancel *task* where it stands once it has *arrived* there, and see that it ends so."""
    for _ in range(1_000):
        if arrived():
            break
        await asyncio.sleep(0)
    # And once more, so that it has gone from there to its await.
    await asyncio.sleep(0)
    assert arrived()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("first", [True, False], ids=["first try", "second try"])
@pytest.mark.parametrize("where", ["attempt", "backoff", "queue", "fallback"])
@pytest.mark.parametrize("form", ["decorated", "executed"])
def test_a_cancel_goes_through_at_every_await(options: dict[str, Any], first: bool, where: str, form: str) -> None:
    recorder, heard = Recorder(), []
    queue = Points((1 if first else 2) if where == "queue" else 99)
    tries: list[int] = []
    there: list[str] = []

    async def stay() -> None:
        there.append(where)
        await forever()

    if where == "fallback":
        options = {**{name: value for name, value in options.items() if name != "fallback_value"}, "fallback": Fallback(stay)}

    async def function() -> None:
        tries.append(1)
        if where == "attempt" and len(tries) == (1 if first else 2):
            await stay()
        raise ConnectionError

    async def sleep(seconds: float) -> None:
        if where == "backoff" and len(tries) == (1 if first else 2):
            await stay()

    plan = Retrying(
        layers=[recorder, queue],
        sleep=sleep,
        on_event=lambda event: heard.append(type(event).__name__),
        base_delay=5,
        max_attempts=3,
        jitter=None,
        **options,
    )

    async def main() -> None:
        task = asyncio.ensure_future(plan(function)() if form == "decorated" else plan.execute_async(function))
        await cancelled(task, lambda: bool(there) or queue.waiting)
        assert current_attempt() is None

    asyncio.run(main())
    made = 3 if where == "fallback" else (1 if first else 2) - (where == "queue")
    assert len(tries) == made
    assert recorder.count("settle") == made - (where == "attempt")
    assert recorder.count("abandon") == (where in ("attempt", "queue"))
    assert queue.abandoned == (where in ("attempt", "queue"))
    # Only what was decided before the cancel was told.
    assert heard.count("RetryScheduled") == (2 if where == "fallback" else made - (where == "attempt"))
    assert heard.count("CallFailed") == (where == "fallback")
    assert "FallbackUsed" not in heard


def test_a_cancel_before_the_call_began_calls_nothing() -> None:
    tries: list[int] = []

    @retry
    async def function() -> None:
        tries.append(1)

    async def main() -> None:
        task = asyncio.ensure_future(function())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert tries == []


@pytest.mark.parametrize("where", ["attempt", "backoff"])
def test_a_cancel_of_an_async_loop_goes_through(where: str) -> None:
    recorder, tries = Recorder(), []

    async def loop() -> None:
        async for attempt in retrying(layers=[recorder], base_delay=60, jitter=None):
            with attempt:
                tries.append(attempt.number)
                if where == "attempt":
                    await forever()
                raise ConnectionError

    async def main() -> None:
        await cancelled(asyncio.ensure_future(loop()), lambda: bool(tries))

    asyncio.run(main())
    assert tries == [1]
    assert recorder.log == ["layer.admit", *(["layer.abandon"] if where == "attempt" else ["layer.judge", "layer.settle"])]


def test_no_place_is_lost_under_random_cancels() -> None:
    source = random.Random(5)
    limit = ConcurrencyLimit(3)

    async def main() -> None:
        @retry(layers=[limit], on=Exception, max_attempts=3, base_delay=0)
        async def function() -> None:
            for _ in range(source.randrange(3)):
                await asyncio.sleep(0)
            if source.random() < 0.4:
                raise ConnectionError

        for _ in range(40):
            tasks = [asyncio.ensure_future(function()) for _ in range(50)]
            for _ in range(source.randrange(8)):
                await asyncio.sleep(0)
            for task in tasks:
                if source.random() < 0.6:
                    task.cancel()
            results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
            assert {type(result) for result in results} <= {type(None), ConnectionError, asyncio.CancelledError}
            assert (limit.in_use, limit.waiting) == (0, 0)

    asyncio.run(main())


# --- limits of real time ---


@pytest.mark.parametrize("form", ["decorated", "executed"])
def test_a_timeout_cuts_each_try(form: str) -> None:
    starts: list[float] = []
    recorder = Recorder()

    async def function() -> None:
        starts.append(time.monotonic())
        await forever()

    plan = Retrying(timeout=0.015, backoff=PeriodicBackoff(1, 0), layers=[recorder], name="slow")
    with pytest.raises(TimeoutError, match=r"slow: the attempt was cut off after 0\.01\d* s") as caught:
        asyncio.run(plan(function)() if form == "decorated" else plan.execute_async(function))
    assert type(caught.value) is TimeoutError
    assert len(starts) == 2
    assert 0.01 < starts[1] - starts[0] < 0.5
    # A try that was cut is a failure like any other: settled, not abandoned.
    assert recorder.log == ["layer.admit", "layer.judge", "layer.settle", "layer.admit", "layer.settle"]


@pytest.mark.parametrize("form", ["decorated", "executed"])
@pytest.mark.parametrize("timeout", [None, 60])
def test_a_deadline_cuts_an_async_try(form: str, timeout: float | None) -> None:
    async def function() -> None:
        await forever()

    plan = Retrying(deadline=0.02, timeout=timeout, name="slow")
    took: list[float] = []
    for _ in range(3):
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"slow: the deadline of 0.02 s ended the call after 1 attempt") as caught:
            asyncio.run(plan(function)() if form == "decorated" else plan.execute_async(function))
        took.append(time.monotonic() - begun)
    # The best of three: the machine may have other things to do.
    assert 0.01 < min(took) < 0.02 + 0.05
    assert type(caught.value.__cause__) is TimeoutError
    assert caught.value.attempts == 1


def test_a_deadline_cuts_a_later_try_too() -> None:
    tries: list[int] = []

    @retry(deadline=0.04, backoff=PeriodicBackoff(5, 0))
    async def function() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError
        await forever()

    with pytest.raises(DeadlineExceeded) as caught:
        asyncio.run(function())
    assert (len(tries), caught.value.attempts) == (3, 3)


@pytest.mark.parametrize("limit", ["timeout", "deadline"])
def test_what_a_function_returns_though_it_was_cut_counts(limit: str) -> None:
    async def stubborn() -> int:
        try:
            await forever()
        except asyncio.CancelledError:
            return 5
        return 0

    async def main() -> int:
        value = await Retrying(**{limit: 0.01})(stubborn)()
        # Nothing of the cut is left on the task.
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)
        return value

    assert asyncio.run(main()) == 5


def test_what_a_function_raises_though_it_was_cut_counts() -> None:
    """Its own TimeoutError says more than ours."""
    for error in (TimeoutError("mine"), ValueError("mine")):

        @retry(timeout=0.01, max_attempts=1)
        async def stubborn(error: Exception = error) -> None:
            try:
                await forever()
            except asyncio.CancelledError:
                raise error from None

        with pytest.raises(type(error), match="mine") as caught:
            asyncio.run(stubborn())
        assert caught.value is error


def test_a_functions_own_timeout_is_its_own_failure() -> None:
    tries: list[int] = []

    @retry(timeout=30, deadline=60, max_attempts=2, base_delay=0)
    async def function() -> None:
        tries.append(1)
        async with asyncio.timeout(0.005):
            await forever()

    with pytest.raises(TimeoutError) as caught:
        asyncio.run(function())
    assert type(caught.value) is TimeoutError
    assert "cut off" not in str(caught.value)
    assert len(tries) == 2


def test_a_timeout_around_the_call_is_the_callers() -> None:
    tries: list[int] = []

    @retry(timeout=30, on=Exception, base_delay=0)
    async def function() -> None:
        tries.append(1)
        await forever()

    async def main() -> None:
        with pytest.raises(TimeoutError, match=r"^$"):
            async with asyncio.timeout(0.005):
                await function()

    asyncio.run(main())
    assert tries == [1]


@pytest.mark.parametrize("limit", ["timeout", "deadline"])
@pytest.mark.parametrize("cancel_first", [True, False])
def test_a_cancel_in_the_same_turn_as_our_limit_stays_a_cancel(limit: str, cancel_first: bool) -> None:
    """aiohttp's ClientTimeout(total=) turned it into a TimeoutError 10 times of 10."""
    tries: list[int] = []

    async def function() -> None:
        tries.append(1)
        await forever()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(10):
            tries.clear()
            task = asyncio.ensure_future(Retrying(on=Exception, backoff=PeriodicBackoff(5, 0), **{limit: 0.01})(function)())
            await asyncio.sleep(0)
            if cancel_first:
                loop.call_at(loop.time() + 0.0095, task.cancel)
            else:
                loop.call_at(loop.time() + 0.0105, task.cancel)
            # The loop sleeps over both timers, and so finds both of them due in one turn.
            time.sleep(0.015)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert tries == [1]

    asyncio.run(main())


def test_a_timeout_of_a_try_that_has_no_time_left_never_hangs() -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 0.4
        return now[0]

    @retry(timeout=0.1, max_attempts=1, clock=clock)
    async def function() -> None:
        await forever()

    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(function(), 5))


# --- Ctrl-C ---


def interrupt_when(arrived: Callable[[], bool]) -> threading.Thread:
    """Press Ctrl-C a little after the main thread has *arrived* where it will wait: never before, and so never outside of the test."""

    def press() -> None:
        gives_up = time.monotonic() + 20
        while not arrived() and time.monotonic() < gives_up:
            time.sleep(0.001)
        time.sleep(0.01)
        if arrived():
            signal.pthread_kill(main, signal.SIGINT)

    main = threading.get_ident()
    thread = threading.Thread(target=press)
    thread.start()
    return thread


@pytest.mark.parametrize("where", ["attempt", "backoff"])
@pytest.mark.parametrize("form", ["decorated", "executed", "block"])
def test_ctrl_c_in_a_sync_call_ends_it_at_once(where: str, form: str) -> None:
    recorder, tries = Recorder(), []
    plan = Retrying(layers=[recorder], on=Exception, base_delay=5, jitter=None, max_attempts=None)

    def function() -> None:
        tries.append(1)
        if where == "attempt":
            time.sleep(5)
        raise ConnectionError

    def block() -> None:
        for attempt in plan:
            with attempt:
                function()

    acts: dict[str, Callable[[], Any]] = {"decorated": plan(function), "executed": lambda: plan.execute(function), "block": block}
    presser = interrupt_when(lambda: bool(tries) if where == "attempt" else recorder.count("settle") == 1)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        acts[form]()
    presser.join()
    assert time.monotonic() - begun < 4, "it slept to the end"
    assert tries == [1]
    assert recorder.log == ["layer.admit", *(["layer.abandon"] if where == "attempt" else ["layer.judge", "layer.settle"])]
    assert current_attempt() is None


def test_ctrl_c_in_the_queue_of_a_layer_gives_the_place_back() -> None:
    limit = ConcurrencyLimit(1)
    inside, leave = threading.Event(), threading.Event()

    @retry(layers=[limit])
    def hold() -> None:
        inside.set()
        leave.wait(5)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(5)
    presser = interrupt_when(lambda: limit.waiting == 1)
    with pytest.raises(KeyboardInterrupt):
        hold()
    presser.join()
    assert (limit.in_use, limit.waiting) == (1, 0)
    leave.set()
    thread.join()
    assert limit.in_use == 0


@both
def test_a_queue_lets_the_next_one_in(driver: str) -> None:
    """The other half: a place that became free goes to who waits, sync and async."""
    limit, order = ConcurrencyLimit(1), []

    if driver == "sync":

        @retry(layers=[limit])
        def work(number: int) -> None:
            order.append(number)
            time.sleep(0.002)
            assert limit.in_use == 1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:

        @retry(layers=[limit])
        async def awork(number: int) -> None:
            order.append(number)
            await asyncio.sleep(0.001)
            assert limit.in_use == 1

        async def main() -> None:
            await asyncio.gather(*map(awork, range(5)))

        asyncio.run(main())
    assert sorted(order) == list(range(5))
    assert limit.in_use == 0
