"""Blocks that are tried again: ``for attempt in retrying(...): with attempt: ...`` and ``async for``."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from support import DRIVERS, Recorder, finish, no_collector

from rpcretry import (
    ConcurrencyLimit,
    DeadlineExceeded,
    Refused,
    RetryableError,
    RetryExhaustedError,
    RetryStrategy,
    current_attempt,
)
from rpcretry.functions import Block, Retrying, retrying
from rpcretry.outcome import Stop
from rpcretry.retry import ImmediateBackoff, PeriodicBackoff
from rpcretry.testing import VirtualTime

both = pytest.mark.parametrize("driver", DRIVERS)


class Loop:
    """A loop of either kind over blocks that call ``body(attempt)``; ``after(attempt)`` follows each block."""

    def __init__(self, driver: str, **options: Any) -> None:
        self.driver = driver
        self.time = VirtualTime()
        self.attempts: list[int] = []
        self.finished = False
        if "backoff" not in options and "strategy" not in options:
            options.setdefault("jitter", None)
        sleep = self.time.sleep if driver == "sync" else self.time.asleep
        self.plan = retrying(clock=self.time.clock, sleep=sleep, **options)

    def __call__(self, body: Callable[[Block], Any]) -> Any:
        return finish(lambda: self.start(body))

    def start(self, body: Callable[[Block], Any]) -> Any:
        return self._sync(body) if self.driver == "sync" else self._async(body)

    def _sync(self, body: Callable[[Block], Any]) -> None:
        for attempt in self.plan:
            with attempt:
                self.attempts.append(attempt.number)
                body(attempt)
        self.finished = True

    async def _async(self, body: Callable[[Block], Any]) -> None:
        async for attempt in self.plan:
            with attempt:
                self.attempts.append(attempt.number)
                await asyncio.sleep(0)
                body(attempt)
        self.finished = True

    @property
    def waits(self) -> list[float]:
        return [round(delay, 6) for delay in self.time.delays]


def until(number: int, error: Callable[[], BaseException] = ConnectionError) -> Callable[[Block], None]:
    """A body that fails before that attempt."""

    def body(attempt: Block) -> None:
        if attempt.number < number:
            raise error()

    return body


@both
def test_a_block_that_succeeds_runs_once(driver: str) -> None:
    loop = Loop(driver)
    loop(until(1))
    assert (loop.attempts, loop.waits, loop.finished) == ([1], [], True)


@both
def test_a_block_that_fails_runs_again(driver: str) -> None:
    loop = Loop(driver)
    loop(until(3))
    assert (loop.attempts, loop.waits, loop.finished) == ([1, 2, 3], [0.1, 0.2], True)


@both
def test_the_last_failure_goes_through_as_if_nobody_had_caught_it(driver: str) -> None:
    loop, errors = Loop(driver), [ConnectionError(number) for number in range(3)]

    def body(attempt: Block) -> None:
        raise errors[attempt.number - 1]

    with pytest.raises(ConnectionError) as caught:
        loop(body)
    assert caught.value is errors[2]
    assert caught.value.__notes__ == ["rpcretry: gave up after 3 attempts in 0.30 s (attempts)"]
    assert caught.value.__context__ is None
    names = [entry.name for entry in caught.traceback]
    assert names[-2:] == [f"_{driver}", "body"]
    assert not {"__exit__", "take", "result"} & set(names)
    assert not loop.finished


@both
def test_other_failures_go_through_at_once(driver: str) -> None:
    loop = Loop(driver)
    with pytest.raises(ValueError):
        loop(until(9, ValueError))
    assert loop.attempts == [1]


@both
@pytest.mark.parametrize(
    ("options", "error", "kind", "tries"),
    [
        ({"wrap": True}, ConnectionError, RetryExhaustedError, 3),
        ({"deadline": 0.25, "max_attempts": None}, ConnectionError, DeadlineExceeded, 2),
        ({"deadline": 0}, ConnectionError, DeadlineExceeded, 0),
        ({"when": lambda error, attempt: 1 / 0}, KeyError, ZeroDivisionError, 1),
        ({"fatal": ConnectionError}, ConnectionError, ConnectionError, 1),
        ({"max_attempts": 1}, ConnectionError, ConnectionError, 1),
        ({"on": KeyError}, KeyError, KeyError, 3),
        ({}, RetryableError, RetryableError, 3),
        ({"strategy": RetryStrategy(exceptions=KeyError, backoff=PeriodicBackoff(1, 1))}, KeyError, KeyError, 2),
        ({"layers": [Recorder(waits=[None, Refused("full")])]}, ConnectionError, Refused, 1),
    ],
)
def test_how_it_ends(driver: str, options: dict[str, Any], error: type[Exception], kind: type[Exception], tries: int) -> None:
    if "layers" in options:
        options = {"layers": [Recorder(waits=[None, Refused("full")])]}
    loop = Loop(driver, **options)
    with pytest.raises(kind) as caught:
        loop(until(9, error))
    assert type(caught.value) is kind
    assert loop.attempts == list(range(1, tries + 1))
    if kind is not error and tries:
        assert type(caught.value.__cause__) is error


@both
def test_a_strategy_may_look_at_blocks_that_succeed(driver: str) -> None:
    loop = Loop(driver, strategy=RetryStrategy(when=lambda outcome, attempt: outcome.ok and attempt < 3, backoff=PeriodicBackoff(5, 1)))
    loop(until(1))
    assert (loop.attempts, loop.waits) == ([1, 2, 3], [1, 1])


@both
def test_a_strategy_that_breaks_on_a_success_says_so(driver: str) -> None:
    loop = Loop(driver, strategy=RetryStrategy(when=lambda outcome, attempt: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        loop(until(1))
    assert not loop.finished


# --- leaving early ---


@both
def test_break_continue_and_return_inside_of_a_block_are_successes(driver: str) -> None:
    heard: list[str] = []
    plan = retrying(on_event=lambda event: heard.append(type(event).__name__))

    def with_break() -> str:
        for attempt in plan:
            with attempt:
                break
        return "broken"

    def with_continue() -> str:
        for attempt in plan:
            with attempt:
                continue
        return "continued"

    def with_return() -> str:
        for attempt in plan:
            with attempt:
                return "returned"
        return "never"

    async def async_break() -> str:
        async for attempt in plan:
            with attempt:
                break
        return "broken"

    async def async_continue() -> str:
        async for attempt in plan:
            with attempt:
                continue
        return "continued"

    async def async_return() -> str:
        async for attempt in plan:
            with attempt:
                return "returned"
        return "never"

    ways: list[Callable[[], Any]] = [with_break, with_continue, with_return] if driver == "sync" else [async_break, async_continue, async_return]
    assert [finish(way) for way in ways] == ["broken", "continued", "returned"]
    assert heard == ["AttemptStarted", "CallSucceeded"] * 3


def test_the_loops_else_runs_after_success_only() -> None:
    for attempt in retrying():
        with attempt:
            pass
    else:
        attempt = None  # type: ignore[assignment]
    assert attempt is None


@both
def test_a_failure_that_is_caught_in_the_loop_ends_it(driver: str) -> None:
    loop, caught = Loop(driver, max_attempts=2), 0

    def catching() -> None:
        nonlocal caught
        for attempt in loop.plan:
            try:
                with attempt:
                    raise ConnectionError
            except ConnectionError:
                caught += 1

    async def async_catching() -> None:
        nonlocal caught
        async for attempt in loop.plan:
            try:
                with attempt:
                    raise ConnectionError
            except ConnectionError:
                caught += 1

    finish(catching if driver == "sync" else async_catching)
    assert caught == 1


# --- misuse ---


@both
def test_an_attempt_that_is_not_entered_is_an_error_and_leaks_nothing(driver: str) -> None:
    layer, limit = Recorder(), ConcurrencyLimit(1)
    loop = Loop(driver, layers=[limit, layer])

    def careless() -> None:
        for _ in loop.plan:
            pass

    async def async_careless() -> None:
        async for _ in loop.plan:
            pass

    with pytest.raises(RuntimeError, match="`with attempt:` around"):
        finish(careless if driver == "sync" else async_careless)
    assert layer.log == ["layer.admit", "layer.abandon"]
    assert limit.in_use == 0


@both
def test_a_loop_that_is_left_before_its_attempt_is_entered_leaks_nothing(driver: str) -> None:
    layer, limit = Recorder(), ConcurrencyLimit(1)
    loop = Loop(driver, layers=[limit, layer])

    def leave() -> None:
        for _ in loop.plan:
            break

    async def async_leave() -> None:
        async for _ in loop.plan:
            break

    with no_collector():
        finish(leave if driver == "sync" else async_leave)
        assert layer.log == ["layer.admit", "layer.abandon"]
        assert limit.in_use == 0


def test_a_loop_that_never_began_does_nothing() -> None:
    layer = Recorder()
    blocks = iter(retrying(layers=[layer]))
    del blocks
    assert layer.log == []


def test_an_attempt_without_its_loop_cannot_be_entered() -> None:
    """A failure in it would be swallowed, and nothing would try again."""
    layer = Recorder()
    attempt = next(iter(retrying(layers=[layer])))
    with pytest.raises(RuntimeError, match="the loop that gave this attempt is gone"):
        with attempt:
            raise AssertionError("never")
    assert layer.log == ["layer.admit", "layer.abandon"]


def test_a_loop_that_goes_while_its_attempt_runs_swallows_nothing() -> None:
    blocks = [iter(retrying())]
    attempt = next(blocks[0])
    with pytest.raises(ConnectionError), attempt:
        blocks.clear()
        raise ConnectionError
    assert current_attempt() is None


def test_an_attempt_can_be_entered_once() -> None:
    blocks = iter(retrying())
    attempt = next(blocks)
    with attempt:
        with pytest.raises(RuntimeError, match="entered once"):
            attempt.__enter__()
    with pytest.raises(RuntimeError, match="entered once"):
        attempt.__enter__()


def test_what_is_over_stays_over() -> None:
    blocks = iter(retrying(sleep=lambda seconds: None, max_attempts=2))
    with pytest.raises(ConnectionError):
        for attempt in blocks:
            with attempt:
                raise ConnectionError
    assert list(blocks) == []
    blocks = iter(retrying(deadline=0))
    with pytest.raises(DeadlineExceeded):
        next(blocks)
    assert list(blocks) == []

    async def main() -> None:
        blocks = aiter(retrying())
        async for attempt in blocks:
            with attempt:
                pass
        assert [attempt async for attempt in blocks] == []

    asyncio.run(main())


@both
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"fallback": lambda: 5}, "fallback cannot hold for a block"),
        ({"fallback_value": 5}, "fallback cannot hold for a block"),
        ({"retry_result": lambda value: True}, "retry_result cannot hold for a block"),
        ({"timeout": 5}, "timeout cannot hold for"),
    ],
)
def test_what_needs_a_function_is_refused(driver: str, options: dict[str, Any], says: str) -> None:
    plan = retrying(**options)
    with pytest.raises(TypeError, match=says):
        iter(plan) if driver == "sync" else aiter(plan)


def test_a_sleep_that_does_not_fit_the_loop_is_refused() -> None:
    import time

    with pytest.raises(TypeError, match="sleep must wait and return"):
        iter(retrying(sleep=asyncio.sleep))
    with pytest.raises(TypeError, match="sleep must return an awaitable"):
        aiter(retrying(sleep=time.sleep))


# --- what is no failure ---


class Hard(BaseException):
    pass


@both
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, Hard])
def test_what_is_no_exception_goes_through_and_counts_nothing(driver: str, kind: type[BaseException]) -> None:
    layer, heard = Recorder(), []
    loop = Loop(driver, layers=[layer], on_retry=lambda attempt, error: heard.append(attempt), on=Exception)

    def body(attempt: Block) -> None:
        if attempt.number == 1:
            raise ConnectionError
        raise kind

    with pytest.raises(kind):
        loop(body)
    assert (loop.attempts, heard) == ([1, 2], [1])
    assert layer.log == ["layer.admit", "layer.judge", "layer.settle", "layer.admit", "layer.abandon"]


@both
def test_an_end_of_the_wait_between_blocks_from_outside_leaks_nothing(driver: str) -> None:
    layer = Recorder()

    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    async def astop(seconds: float) -> None:
        raise asyncio.CancelledError

    async def cancelled(plan: Retrying, kept: list[weakref.ref[Local]]) -> None:
        with pytest.raises(asyncio.CancelledError):
            await async_body(plan, kept)

    kept: list[weakref.ref[Local]] = []
    for layers in ([layer], []):
        with no_collector():
            if driver == "sync":
                with pytest.raises(KeyboardInterrupt):
                    sync_body(retrying(layers=layers, sleep=stop, jitter=False), kept)
            else:
                asyncio.run(cancelled(retrying(layers=layers, sleep=astop, jitter=False), kept))
            assert kept[-1]() is None or layers, "the frame of the failure before is still alive"
    assert len(kept) == 2
    assert layer.log == ["layer.admit", "layer.judge", "layer.settle"]


@both
def test_a_failed_listener_harms_no_block(driver: str, caplog: pytest.LogCaptureFixture) -> None:
    def broken(attempt: int, error: Exception | None) -> None:
        raise ZeroDivisionError

    loop = Loop(driver, on_retry=broken)
    loop(until(3))
    assert loop.attempts == [1, 2, 3]
    assert sum("raised on RetryScheduled" in record.message for record in caplog.records) == 2


# --- what an attempt tells ---


@both
def test_what_an_attempt_tells(driver: str) -> None:
    told: list[Any] = []
    loop = Loop(driver, name="fetch")

    def body(attempt: Block) -> None:
        told.append((attempt.number, attempt.max_attempts, type(attempt.last_exception), repr(attempt)))
        current = current_attempt()
        assert current is not None
        assert (current.operation, current.number, current.max_attempts) == ("fetch", attempt.number, 3)
        assert current.last_exception is attempt.last_exception
        until(2)(attempt)

    loop(body)
    assert told == [(1, 3, type(None), "<attempt 1 of fetch>"), (2, 3, ConnectionError, "<attempt 2 of fetch>")]
    assert current_attempt() is None


@both
def test_current_attempt_in_what_decides_about_a_block(driver: str) -> None:
    seen: list[Any] = []

    def when(error: Exception, attempt: int) -> bool:
        seen.append(("when", current_attempt()))
        return True

    loop = Loop(driver, when=when, on_retry=lambda attempt, error: seen.append(("on_retry", current_attempt())))
    loop(until(2))
    assert [(where, current.number, type(current.last_exception)) for where, current in seen] == [
        ("when", 1, ConnectionError),
        ("on_retry", 1, ConnectionError),
    ]


@both
def test_blocks_nest(driver: str) -> None:
    seen: list[Any] = []

    def inner() -> None:
        for attempt in retrying(name="inner", sleep=lambda seconds: None):
            with attempt:
                seen.append(current_attempt())
                if attempt.number == 1:
                    raise ConnectionError("inner")

    def body(attempt: Block) -> None:
        inner()
        seen.append(current_attempt())
        until(2)(attempt)

    Loop(driver, name="outer")(body)
    told = [(current.operation, current.number) for current in seen]
    assert told == [("inner", 1), ("inner", 2), ("outer", 1), ("inner", 1), ("inner", 2), ("outer", 2)]


@both
def test_one_plan_makes_any_number_of_loops(driver: str) -> None:
    loop = Loop(driver)
    for _ in range(3):
        loop(until(2))
    assert loop.attempts == [1, 2] * 3
    outer, inner = [], []
    for attempt in Retrying(sleep=lambda seconds: None, backoff=ImmediateBackoff(2)):
        with attempt:
            outer.append(attempt.number)
            for other in Retrying(sleep=lambda seconds: None, backoff=ImmediateBackoff(2)):
                with other:
                    inner.append((attempt.number, other.number))
                    if other.number == 1:
                        raise ConnectionError
            if attempt.number == 1:
                raise ConnectionError
    assert (outer, inner) == ([1, 2], [(1, 1), (1, 2), (2, 1), (2, 2)])


def test_one_plan_shared_by_tasks_mixes_nothing() -> None:
    plan = retrying(backoff=PeriodicBackoff(3, 0.001))

    async def work(number: int) -> tuple[int, int]:
        tries = 0
        async for attempt in plan:
            with attempt:
                tries += 1
                await asyncio.sleep(0)
                assert attempt.number == tries
                if tries <= number % 4:
                    raise ConnectionError(number)
        return number, tries

    async def main() -> list[Any]:
        return await asyncio.gather(*map(work, range(200)))

    assert asyncio.run(main()) == [(number, number % 4 + 1) for number in range(200)]


def test_a_loop_in_a_generator_that_is_closed_leaks_nothing() -> None:
    layer = Recorder()

    def steps() -> Iterator[int]:
        for attempt in retrying(layers=[layer]):
            with attempt:
                yield attempt.number

    generator = steps()
    assert next(generator) == 1
    generator.close()  # type: ignore[attr-defined]
    assert layer.log == ["layer.admit", "layer.abandon"]
    assert current_attempt() is None


# --- after give-up ---


class Local:
    pass


def sync_body(plan: Retrying, kept: list[weakref.ref[Local]]) -> None:
    for attempt in plan:
        with attempt:
            local = Local()
            kept.append(weakref.ref(local))
            raise ConnectionError(attempt.number)


async def async_body(plan: Retrying, kept: list[weakref.ref[Local]]) -> None:
    async for attempt in plan:
        with attempt:
            local = Local()
            kept.append(weakref.ref(local))
            await asyncio.sleep(0)
            raise ConnectionError(attempt.number)


def sync_broken(plan: Retrying, kept: list[weakref.ref[Local]]) -> None:
    for attempt in plan:
        with attempt:
            local = Local()
            kept.append(weakref.ref(local))
            raise ConnectionError(attempt.number)
        break


async def async_broken(plan: Retrying, kept: list[weakref.ref[Local]]) -> None:
    async for attempt in plan:
        with attempt:
            local = Local()
            kept.append(weakref.ref(local))
            raise ConnectionError(attempt.number)
        break


@both
@pytest.mark.parametrize("options", [{}, {"max_attempts": 1}, {"wrap": True}, {"deadline": 0.15}, {"on": KeyError}, {"when": lambda error, attempt: 1 / 0}])
@pytest.mark.parametrize("left", [False, True], ids=["exhausted", "left after a failure"])
def test_no_failing_frame_is_alive_after_give_up(driver: str, options: dict[str, Any], left: bool, caplog: pytest.LogCaptureFixture) -> None:
    # pytest keeps what is logged, and so the failures in it.
    caplog.set_level(logging.CRITICAL, "rpcretry")
    loop, kept = Loop(driver, **options), []
    caught: list[type[Exception]] = []

    def sync_once() -> None:
        try:
            (sync_broken if left else sync_body)(loop.plan, kept)
        except Exception as error:
            caught.append(type(error))

    async def async_once() -> None:
        body: Callable[..., Coroutine[Any, Any, None]] = async_broken if left else async_body
        try:
            await asyncio.ensure_future(body(loop.plan, kept))
        except Exception as error:
            caught.append(type(error))

    with no_collector():
        if driver == "sync":
            sync_once()
        else:
            asyncio.run(async_once())
        assert kept
        assert len(caught) == (0 if left and set(options) <= {"wrap", "deadline"} else 1)
        assert [ref() for ref in kept] == [None] * len(kept), "a failing frame is still alive"


def test_a_block_that_is_over_has_its_last_word() -> None:
    blocks = iter(retrying())
    attempt = next(blocks)
    with attempt:
        pass
    assert attempt.step == Stop("ok")
    assert attempt.last_exception is None
