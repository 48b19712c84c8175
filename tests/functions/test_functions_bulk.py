"""Bulks of functions: each call retried with the arguments of retry, sync and async alike."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from function_rig import both
from support import finish

from rpcretry import DeadlineExceeded, Delivery, Response, TransportError, current_attempt
from rpcretry.bulk import AsyncBulk, Bulk, BulkItem, BulkProgress
from rpcretry.errors import BulkError
from rpcretry.functions import bulk
from rpcretry.testing import VirtualTime


class Play:
    """A function that fails by a rule.

    :ivar calls: the items that it was called with.
    """

    def __init__(self, driver: str, rule: Callable[[int, int], Any] = lambda item, time: item * 2) -> None:
        self.time = VirtualTime()
        self.rule = rule
        self.calls: list[int] = []

        def play(item: int) -> Any:
            self.calls.append(item)
            value = rule(item, self.calls.count(item))
            if isinstance(value, BaseException):
                raise value
            return value

        async def aplay(item: int) -> Any:
            await asyncio.sleep(0)
            return play(item)

        self.function: Any = play if driver == "sync" else aplay
        self.options = {"clock": self.time.clock, "sleep": self.time.sleep if driver == "sync" else self.time.asleep}

    def bulk(self, items: Any, **options: Any) -> Any:
        return bulk(self.function, items, **{**self.options, **options})


def every(stream: Any) -> list[BulkItem[Any, Any]]:
    """All items of a stream, sorted."""

    async def consume() -> list[BulkItem[Any, Any]]:
        return [item async for item in stream]

    items = finish(consume) if isinstance(stream, AsyncBulk) else list(stream)
    return sorted(items, key=lambda item: item.index)


@both
@pytest.mark.parametrize("concurrency", [1, 4])
def test_each_item_comes_out_with_its_own_result(driver: str, concurrency: int) -> None:
    play = Play(driver)
    stream = play.bulk(range(30), concurrency=concurrency)
    assert isinstance(stream, Bulk if driver == "sync" else AsyncBulk)
    assert play.calls == []
    items = every(stream)
    assert [(item.index, item.request, item.result, item.attempts) for item in items] == [(number, number, number * 2, 1) for number in range(30)]
    assert sorted(play.calls) == list(range(30))


@both
def test_the_arguments_of_retry_hold_for_each_call(driver: str) -> None:
    play = Play(driver, lambda item, time: ConnectionError("lost") if item % 3 == 0 and time <= item // 3 else item)
    told: list[int] = []
    stream = play.bulk(range(12), max_attempts=3, base_delay=1, jitter=None, on_retry=lambda attempt, error: told.append(attempt), partial_success_threshold=0)
    items = every(stream)
    assert [item.attempts for item in items] == [1, 1, 1, 2, 1, 1, 3, 1, 1, 3, 1, 1]
    assert [item.index for item in items if not item.ok] == [9]
    assert type(items[9].error) is ConnectionError
    assert sorted(told) == [1, 1, 1, 2, 2]
    assert stream.progress.retries == 5


@both
def test_the_threshold_of_run(driver: str) -> None:
    play = Play(driver, lambda item, time: ValueError(item) if item == 3 else item)
    with pytest.raises(BulkError) as caught:
        finish(lambda: play.bulk(range(5)).run())
    assert [(item.request, type(item.error), item.attempts) for item in caught.value.failed] == [(3, ValueError, 1)]
    result = finish(lambda: play.bulk(range(5), partial_success_threshold=0.8).run())
    assert [item.result for item in result.successful] == [0, 1, 2, 4]


@both
def test_a_failure_is_found_by_its_traceback(driver: str) -> None:
    def inner(item: int) -> Any:
        return {}[item]

    play = Play(driver, lambda item, time: inner(item))
    (item,) = every(play.bulk([5]))
    with pytest.raises(KeyError) as caught:
        item.result
    shown = "".join(traceback.format_exception(caught.value))
    assert "in inner" in shown
    # And without our frames, which hold the call.
    assert "drivers" not in shown
    assert "perform" not in shown


@both
def test_fallbacks_deadlines_and_results_that_are_not_accepted(driver: str) -> None:
    play = Play(driver, lambda item, time: OSError("down"))
    assert [item.result for item in every(play.bulk([1, 2], fallback_value=7))] == [7, 7]
    (item,) = every(play.bulk([1], base_delay=50, jitter=None, deadline=10))
    assert isinstance(item.error, DeadlineExceeded)
    pending = Play(driver, lambda item, time: "pending" if time == 1 else "done")
    (item,) = every(pending.bulk([1], retry_result=lambda value: value == "pending"))
    assert (item.result, item.attempts) == ("done", 2)


@both
def test_a_result_that_is_a_response_or_an_exception_is_a_result(driver: str) -> None:
    response = Response(1, error=ValueError("inside"))
    play = Play(driver, lambda item, time: response)
    (item,) = every(play.bulk([1]))
    assert item.result is response

    async def areturn(item: int) -> Exception:
        return OSError("returned")

    def sreturn(item: int) -> Exception:
        return OSError("returned")

    stream: Any = bulk(sreturn if driver == "sync" else areturn, [1])
    (item,) = every(stream)
    assert item.ok
    assert type(item.result) is OSError


def test_current_attempt_tells_of_each() -> None:
    seen: list[Any] = []

    def function(item: int) -> None:
        found = current_attempt()
        assert found is not None
        seen.append((found.operation, found.number))
        if found.number == 1:
            raise OSError

    bulk(function, [1], name="work", base_delay=0).run()
    assert seen == [("work", 1), ("work", 2)]
    assert current_attempt() is None


def test_threads_run_plain_functions_at_once() -> None:
    barrier = threading.Barrier(4, timeout=5)
    assert bulk(lambda item: barrier.wait() >= 0, range(4), concurrency=4).run().results() == [True] * 4


def test_an_async_source_of_an_async_function() -> None:
    async def items() -> AsyncIterator[int]:
        for number in range(10):
            await asyncio.sleep(0)
            yield number

    async def function(item: int) -> int:
        return item + 1

    async def main() -> list[int]:
        return (await bulk(function, items(), concurrency=3)).results()

    assert asyncio.run(main()) == list(range(1, 11))


def test_a_wait_is_cut_and_gone_on_with() -> None:
    """A backoff of an hour, for real: an interrupt of the consumer ends it, and the call goes on later."""
    tries: dict[int, int] = {}

    def function(item: int) -> int:
        tries[item] = tries.get(item, 0) + 1
        if item == 1 and tries[item] == 1:
            raise OSError
        if item == 2 and tries[item] == 1:
            while not waiting():
                time.sleep(0.001)
            raise KeyboardInterrupt
        return item

    stream = bulk(function, range(3), concurrency=3, base_delay=3_600, max_delay=3_600, jitter=None, partial_success_threshold=0)

    def waiting() -> bool:
        calls = [host.call for host in tuple(stream._fan._shared.hosts)]
        return any(call is not None and call.members and call.members[0].request is None and getattr(call, "_pending", None) for call in calls)

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        stream.run()
    assert time.monotonic() - begun < 5
    assert [item.index for item in stream.collected.successful] == [0]
    (failed,) = stream.collected.failed
    assert (failed.index, failed.attempts) == (2, 1)
    assert isinstance(failed.error, TransportError)
    assert failed.error.delivery is Delivery.MAYBE_EXECUTED
    (call,) = stream._fan.returned
    call._pending[0].due = 0.0
    result = stream.run()
    assert [(item.index, item.attempts) for item in result.items] == [(0, 1), (1, 2), (2, 1)]
    assert tries == {0: 1, 1: 2, 2: 1}


@both
def test_progress(driver: str) -> None:
    seen: list[BulkProgress] = []
    every(Play(driver).bulk(range(10), progress=seen.append))
    assert (seen[-1].total, seen[-1].done, seen[-1].succeeded) == (10, 10, 10)


def test_an_awaitable_out_of_a_plain_function_is_a_failure() -> None:
    async def function(item: int) -> None: ...

    (item,) = every(bulk(lambda item: function(item), [1]))
    assert isinstance(item.error, TypeError)
    assert "write async def" in str(item.error)


@pytest.mark.parametrize(
    ("function", "items", "options", "message"),
    [
        (abs, [1], {"retries": 3}, "max_attempts, which counts the first try"),
        (abs, [1], {"max_workers": 3}, "here it is concurrency"),
        (abs, [1], {"max_attemps": 3}, "did you mean max_attempts"),
        (abs, [1], {"batch_size": 3}, "bulk has no parameter 'batch_size'; known are concurrency"),
        (abs, [1], {"_deadline": 3}, "did you mean deadline"),
        (abs, [1], {"timeout": 3}, "timeout cannot hold"),
        (abs, 1, {}, "items must be an iterable"),
        ([1], abs, {}, "the function first"),
        (5, [1], {}, "bulk: function must be callable, got int 5; write bulk"),
        (abs, [1], {"concurrency": 0}, "at least 1"),
    ],
)
def test_what_is_refused(function: Any, items: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        bulk(function, items, **options)


def test_a_class_is_called_like_a_function() -> None:
    items = every(bulk(int, ["1", "x"], concurrency=1))
    assert (items[0].result, type(items[1].error)) == (1, ValueError)


def test_a_program_without_async_functions_loads_no_asyncio() -> None:
    program = "import sys; from rpcretry.functions import bulk; bulk(abs, [1, -2]).run(); print('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "False"
