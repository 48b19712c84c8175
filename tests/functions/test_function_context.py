"""current_attempt(): where the call stands that is running here, across tasks, threads and nested retries."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
from typing import Any

import pytest
from function_rig import FunctionRig, Takes, both, every_way, lost
from support import Recorder, finish, no_collector

from rpcretry import DeadlineExceeded, current_attempt
from rpcretry.context import RUNNING, CurrentAttempt
from rpcretry.functions import Retrying, retry
from rpcretry.retry import Layer, RetryStrategy


def looking(seen: list[Any], then: Any) -> Any:
    """A script's item that writes down the current attempt first."""

    def item() -> Any:
        seen.append(current_attempt())
        return then() if callable(then) else then

    return item


def test_there_is_none_outside() -> None:
    assert current_attempt() is None


@every_way
def test_each_attempt_is_told(driver: str, form: str) -> None:
    seen: list[CurrentAttempt] = []
    rig = FunctionRig(driver, Takes(1, looking(seen, lost)), looking(seen, lost), looking(seen, 5), form=form, name="fetch", deadline=5)
    assert rig() == 5
    assert [(now.operation, now.number, now.max_attempts) for now in seen] == [("fetch", 1, 3), ("fetch", 2, 3), ("fetch", 3, 3)]
    assert [round(now.elapsed, 6) for now in seen] == [1, 1.1, 1.3]
    assert [round(now.remaining or 0, 6) for now in seen] == [4, 3.9, 3.7]
    assert [type(now.last_exception) for now in seen] == [type(None), ConnectionError, ConnectionError]
    assert seen[1].last_exception is not seen[2].last_exception
    assert current_attempt() is None


@every_way
@pytest.mark.parametrize(
    ("options", "most", "remaining"),
    [
        ({}, 3, None),
        ({"max_attempts": None}, None, None),
        ({"max_attempts": 1}, 1, None),
        ({"deadline": 5}, 3, 5),
        ({"strategy": RetryStrategy()}, 4, None),
        ({"backoff": lambda: iter([0.0])}, None, None),
        # Not the quick way.
        ({"layers": [Recorder()]}, 3, None),
    ],
)
def test_the_first_attempt_is_told_the_same_on_the_quick_way(
    driver: str, form: str, options: dict[str, Any], most: int | None, remaining: float | None
) -> None:
    seen: list[CurrentAttempt] = []
    FunctionRig(driver, looking(seen, 5), form=form, name="f", **options)()
    assert seen == [CurrentAttempt("f", 1, most, None, 0.0, remaining)]


@both
def test_a_value_that_was_not_accepted_leaves_no_exception(driver: str) -> None:
    seen: list[CurrentAttempt] = []
    FunctionRig(driver, looking(seen, None), looking(seen, 5), retry_result=lambda value: value is None)()
    assert [(now.number, now.last_exception) for now in seen] == [(1, None), (2, None)]


@both
def test_nothing_remains_after_the_deadline_of_a_sync_function(driver: str) -> None:
    seen: list[CurrentAttempt] = []
    with contextlib.suppress(DeadlineExceeded):
        FunctionRig(driver, Takes(9, looking(seen, 5)), deadline=2)()
    assert [now.remaining for now in seen] == [0.0]


@every_way
def test_it_is_there_in_all_that_is_asked_about_a_call(driver: str, form: str) -> None:
    seen: dict[str, CurrentAttempt | None] = {}

    class Looker(Layer):
        def admit(self, attempt: Any, now: float) -> None:
            seen.setdefault("admit", current_attempt())

        def settle(self, attempt: Any, outcomes: Any, now: float) -> None:
            seen.setdefault("settle", current_attempt())

    def when(error: Exception, attempt: int) -> bool:
        seen.setdefault("when", current_attempt())
        return True

    def on_retry(attempt: int, error: Exception | None) -> None:
        seen.setdefault("on_retry", current_attempt())

    def fallback(error: Exception) -> int:
        seen.setdefault("fallback", current_attempt())
        return 5

    assert FunctionRig(driver, lost, form=form, when=when, on_retry=on_retry, fallback=fallback, layers=[Looker()], name="f", max_attempts=2)() == 5
    told = {where: (now.number, type(now.last_exception)) for where, now in seen.items() if now is not None}
    failed = (1, ConnectionError)
    assert told == {"admit": (1, type(None)), "when": failed, "settle": failed, "on_retry": failed, "fallback": (2, ConnectionError)}
    assert current_attempt() is None


@both
def test_on_retry_and_when_see_the_failed_attempt_on_the_quick_way(driver: str) -> None:
    seen: list[Any] = []
    FunctionRig(driver, lost, 5, on_retry=lambda attempt, error: seen.append(current_attempt()))()
    assert [(now.number, type(now.last_exception)) for now in seen] == [(1, ConnectionError)]


@both
@pytest.mark.parametrize("outer_deadline", [None, 50], ids=["quick", "not quick"])
def test_nested_retries_are_told_innermost_and_then_the_outer_again(driver: str, outer_deadline: float | None) -> None:
    seen: list[Any] = []
    inner = FunctionRig(driver, looking(seen, lost), looking(seen, 5), looking(seen, 5), name="inner")
    outer = FunctionRig(driver, 0, name="outer", deadline=outer_deadline)

    def sync_outer() -> None:
        seen.append(current_attempt())
        inner.function()
        seen.append(current_attempt())
        if outer_calls.append(1) or len(outer_calls) == 1:
            raise ConnectionError

    async def async_outer() -> None:
        seen.append(current_attempt())
        await inner.function()
        seen.append(current_attempt())
        if outer_calls.append(1) or len(outer_calls) == 1:
            raise ConnectionError

    outer_calls: list[int] = []
    finish(outer.retrying(sync_outer if driver == "sync" else async_outer))
    assert [(now.operation, now.number) for now in seen] == [
        *(("outer", 1), ("inner", 1), ("inner", 2), ("outer", 1)),
        *(("outer", 2), ("inner", 1), ("outer", 2)),
    ]
    assert current_attempt() is None


@both
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, asyncio.CancelledError, SystemExit])
@pytest.mark.parametrize("first", [True, False], ids=["first try", "second try"])
def test_it_is_gone_however_the_call_ends(driver: str, error: type[BaseException], first: bool) -> None:
    rig = FunctionRig(driver, error) if first else FunctionRig(driver, lost, error)

    async def in_one_context() -> None:
        with pytest.raises(error):
            await rig.start()
        assert current_attempt() is None

    if driver == "async":
        asyncio.run(in_one_context())
    else:
        with pytest.raises(error):
            rig()
    assert current_attempt() is None
    assert not RUNNING.get()


# --- threads ---


def in_thread(act: Any) -> Any:
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(act()))
    thread.start()
    thread.join()
    return got[0]


@both
def test_a_plain_thread_has_none_and_one_with_the_context_sees_it(driver: str) -> None:
    def look() -> Any:
        context = contextvars.copy_context()
        return in_thread(current_attempt), in_thread(lambda: context.run(current_attempt))

    bare, copied = FunctionRig(driver, look, name="f")()
    assert bare is None
    assert copied.operation == "f"


def test_to_thread_sees_the_attempt_and_nothing_afterwards() -> None:
    over, seen = threading.Event(), []

    def work() -> None:
        seen.append(current_attempt())
        over.wait(5)
        seen.append(current_attempt())

    async def main() -> None:
        workers: list[asyncio.Task[None]] = []

        @retry(name="f")
        async def function() -> None:
            workers.append(asyncio.create_task(asyncio.to_thread(work)))
            while not seen:
                await asyncio.sleep(0.001)

        await function()
        over.set()
        await workers[0]

    asyncio.run(main())
    assert (seen[0].operation, seen[0].number) == ("f", 1)
    assert seen[1] is None


def test_it_may_be_asked_while_the_call_ends_in_another_thread() -> None:
    """Contexts share the list that the end of the call empties: here just after it was found to be full."""

    class EndsWhenLookedAt(list[Any]):
        def __len__(self) -> int:
            length = super().__len__()
            self.clear()
            return length

    def ask() -> Any:
        running = EndsWhenLookedAt()
        running.extend([None, None])
        RUNNING.set(running)
        return current_attempt()

    assert contextvars.copy_context().run(ask) is None


def test_threads_have_their_own() -> None:
    together, seen = threading.Barrier(4), {}

    @retry(base_delay=0)
    def function(number: int) -> None:
        now = current_attempt()
        assert now is not None
        together.wait(5)
        seen.setdefault(number, []).append((now.number, current_attempt().number))  # type: ignore[union-attr]
        if now.number < 3:
            raise ConnectionError

    threads = [threading.Thread(target=function, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {number: [(1, 1), (2, 2), (3, 3)] for number in range(4)}


# --- tasks ---


def test_tasks_have_their_own() -> None:
    async def main() -> None:
        @retry(base_delay=0, max_attempts=5)
        async def function(failures: int) -> int:
            now = current_attempt()
            assert now is not None
            await asyncio.sleep(0.001)
            again = current_attempt()
            assert again is not None
            assert again.number == now.number
            if now.number <= failures:
                raise ConnectionError
            return now.number

        assert await asyncio.gather(*(function(number % 4) for number in range(100))) == [number % 4 + 1 for number in range(100)]
        assert current_attempt() is None

    asyncio.run(main())


@pytest.mark.parametrize("options", [{}, {"deadline": 5}], ids=["quick", "not quick"])
@pytest.mark.parametrize("failures", [0, 1])
def test_a_task_of_an_attempt_sees_it_and_nothing_afterwards(options: dict[str, Any], failures: int) -> None:
    seen: list[Any] = []

    async def main() -> None:
        over = asyncio.Event()
        tasks: list[asyncio.Task[None]] = []

        async def child() -> None:
            seen.append(current_attempt())
            await over.wait()
            seen.append(current_attempt())

        @Retrying(name="f", base_delay=0, **options)
        async def function() -> None:
            tasks.append(asyncio.create_task(child()))
            await asyncio.sleep(0)
            if len(tasks) <= failures:
                raise ConnectionError

        await function()
        over.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    begun, after = seen[: failures + 1], seen[failures + 1 :]
    assert [now.number for now in begun] == list(range(1, failures + 2))
    assert after == [None] * (failures + 1)


def test_a_task_that_outlives_its_call_keeps_nothing_of_it_alive() -> None:
    class Argument:
        alive = 0

        def __init__(self) -> None:
            Argument.alive += 1

        def __del__(self) -> None:
            Argument.alive -= 1

    async def main() -> None:
        over = asyncio.Event()

        @retry(deadline=5)
        async def function(argument: Argument) -> asyncio.Task[Any]:
            task = asyncio.create_task(over.wait())
            await asyncio.sleep(0)
            return task

        task = await function(Argument())
        assert Argument.alive == 0
        over.set()
        await task

    with no_collector():
        asyncio.run(main())


@pytest.mark.parametrize("options", [{}, {"on_event": lambda event: None}], ids=["quick", "not quick"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "in another context"])
def test_a_suspended_call_that_is_closed_raises_nothing(options: dict[str, Any], elsewhere: bool) -> None:
    class Suspend:
        def __await__(self) -> Any:
            yield

    @retry(**options)
    async def function() -> None:
        await Suspend()

    for close in (True, False):
        coroutine = function()
        context = contextvars.copy_context()
        context.run(coroutine.send, None)
        assert context.run(current_attempt) is not None
        if close:
            (contextvars.copy_context() if elsewhere else context).run(coroutine.close)
        else:
            # Left to whoever collects it; what is raised there would be a warning, which is an error here.
            del coroutine
            gc.collect()
        assert context.run(current_attempt) is None
    assert current_attempt() is None


def test_a_suspended_call_that_is_collected_is_abandoned() -> None:
    class Suspend:
        def __await__(self) -> Any:
            yield

    layer = Recorder()

    @retry(layers=[layer], on=Exception)
    async def function() -> None:
        await Suspend()

    coroutine = function()
    contextvars.copy_context().run(coroutine.send, None)
    del coroutine
    gc.collect()
    assert layer.log == ["layer.admit", "layer.abandon"]
