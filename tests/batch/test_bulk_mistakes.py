"""Bulks whose user errs: on another event loop, from within, in a forked process, by a source that ends in the wrong way."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from bulk_rig import AsyncServer, BulkRig, ataken, indices, requests, taken
from support import both_drivers

from rpcretry import AsyncClient, Delivery, Request, TransportError
from rpcretry.backends.aiohttp import Client as AiohttpClient
from rpcretry.bulk import Bulk, BulkProgress
from rpcretry.functions import bulk as function_bulk
from rpcretry.testing import LoopbackServer, rpc
from rpcretry.transport import Exchange, Reply

every_size = pytest.mark.parametrize("batch_size", [1, 3])

# --- another event loop ---


def landed(server: LoopbackServer) -> int:
    """How many requests came, with those that were cut off on their way: the server's threads note them a moment later."""
    came = -1
    while came != len(server.requests):
        came = len(server.requests)
        time.sleep(0.02)
    return came


@every_size
def test_a_client_that_is_bound_to_a_loop_that_is_gone_burns_nothing(batch_size: int) -> None:
    source = iter(list(requests(100)))

    with LoopbackServer(rpc({"get": lambda number: number * 10})) as server:
        client = AiohttpClient(server.url)
        first = client.bulk(source, concurrency=4, batch_size=batch_size, partial_success_threshold=0)

        async def begin() -> list[Any]:
            return await ataken(first, 6)

        async def again(bulk: Any) -> None:
            with pytest.raises(RuntimeError, match="bound to the event loop of its first call"):
                await bulk.run()

        loop = asyncio.new_event_loop()
        items = loop.run_until_complete(begin())
        loop.run_until_complete(first.aclose())
        came = landed(server)
        asyncio.run(again(first))
        before = first.progress
        # What closing it cut off has come out, and no more than that.
        assert before.done <= 6 + 3 * 4 * batch_size
        for _ in range(3):
            asyncio.run(again(first))
        assert first.progress[1:4] == before[1:4]
        # Nor does a new bulk of that client.
        other = client.bulk(requests(10), concurrency=4, batch_size=batch_size)
        asyncio.run(again(other))
        assert (other.progress.done, len(server.requests)) == (0, came)
        # Back where it belongs, all of it goes on.
        items += loop.run_until_complete(first.run()).items
        assert indices(items) == list(range(100))
        assert indices(loop.run_until_complete(other.run()).items) == list(range(10))
        assert all(item.attempts == 1 for item in (*items, *other.collected.items))
        loop.run_until_complete(client.aclose())
        loop.close()


@every_size
def test_where_it_may_have_been_sent_before_the_loop_was_missed_it_is_not_sent_again(batch_size: int) -> None:
    server = AsyncServer(lambda number, time: RuntimeError("Event loop is closed") if number == 6 else number * 10)
    bulk = AsyncClient(server).bulk(requests(12), concurrency=1, batch_size=batch_size, partial_success_threshold=0)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            await bulk.run()
        assert indices(bulk.collected.items) == list(range(6))
        failed = (await bulk.run()).failed
        assert [item.index for item in failed] == list(range(6, 6 + batch_size))
        assert all(isinstance(item.error, TransportError) and item.error.delivery is Delivery.MAYBE_EXECUTED for item in failed)

    asyncio.run(main())
    assert sorted(server.executed) == list(range(12))


def test_a_runtime_error_of_another_kind_is_a_failure_of_its_own() -> None:
    rig = BulkRig("async", lambda number, time: RuntimeError("odd") if number == 2 else number * 10)
    items = rig.all(requests(5))
    assert [item.index for item in items if not item.ok] == [2]


def test_a_bulk_that_halts_asks_its_source_for_no_more_than_was_under_way() -> None:
    asked: list[int] = []

    class Backend(AsyncServer):
        async def exchange(self, exchange: Exchange) -> Reply:
            asked.append(1)
            await asyncio.sleep(0)
            raise RuntimeError("this client is bound to the event loop of its first call")

    async def main() -> None:
        bulk = AsyncClient(Backend()).bulk(requests(10_000), concurrency=4)
        with pytest.raises(RuntimeError, match="bound to"):
            await bulk.run()
        assert bulk.collected.total == 0
        assert bulk._calls.count <= 8
        assert len(asked) <= 8

    asyncio.run(main())


def test_ctrl_c_between_a_look_at_the_waiter_and_its_wake_is_a_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        class Struck(asyncio.Future[None]):
            def done(self) -> bool:
                found = super().done()
                self.cancel()
                return found

        bulk = AsyncClient(AsyncServer()).bulk(requests(5), concurrency=1, partial_success_threshold=0)
        loop = asyncio.get_running_loop()
        with monkeypatch.context() as patch, pytest.raises(asyncio.CancelledError):
            patch.setattr(loop, "create_future", lambda: Struck(loop=loop))
            await bulk.run()
        assert (await bulk.run()).total == 5

    asyncio.run(main())


# --- from within ---


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("ask", [next, Bulk.run], ids=["next", "run"])
def test_a_progress_callback_that_consumes_is_told(concurrency: int, ask: Any, caplog: pytest.LogCaptureFixture) -> None:
    rig, seen = BulkRig("sync"), list[RuntimeError]()

    def progress(progress: BulkProgress) -> None:
        if progress.done < 5:
            with pytest.raises(RuntimeError, match="while it is being asked") as caught:
                ask(bulk)
            seen.append(caught.value)

    bulk = rig.client.bulk(requests(5), concurrency=concurrency, progress=progress)
    with caplog.at_level(logging.ERROR):
        assert bulk.run().results() == [0, 10, 20, 30, 40]
    assert seen
    assert not caplog.records


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_source_that_consumes_is_told_and_the_bulk_is_as_good_as_before(concurrency: int) -> None:
    rig = BulkRig("sync")

    class Source:
        def __init__(self) -> None:
            self.left = list(range(6))
            self.told = False

        def __iter__(self) -> Source:
            return self

        def __next__(self) -> Request:
            if len(self.left) == 3 and not self.told:
                self.told = True
                next(bulk)
            if not self.left:
                raise StopIteration
            return Request("get", [self.left.pop(0)])

    bulk = rig.client.bulk(Source(), concurrency=concurrency)
    with pytest.raises(RuntimeError, match="by its progress callback, its source, a call or another thread"):
        bulk.run()
    bulk.run()
    assert sorted(bulk.collected.results()) == [0, 10, 20, 30, 40, 50]


def test_an_async_source_that_consumes_is_told_and_does_not_wait_for_itself() -> None:
    async def source() -> AsyncIterator[Request]:
        yield Request("get", [0])
        await asyncio.sleep(0)
        await anext(bulk)
        yield Request("get", [1])

    async def consume() -> None:
        assert (await anext(bulk)).result == 0
        # The source has its turn while nobody asks for the next one.
        for _ in range(20):
            await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="would wait for itself"):
            await bulk.run()

    bulk = AsyncClient(AsyncServer()).bulk(source(), concurrency=2)
    asyncio.run(asyncio.wait_for(consume(), 5))


def test_an_async_function_that_consumes_its_own_bulk_fails_alone() -> None:
    async def function(item: int) -> int:
        if item == 2:
            await anext(bulk)
        return item

    bulk = function_bulk(function, range(5), concurrency=2, max_attempts=1, partial_success_threshold=0)
    result = asyncio.run(asyncio.wait_for(bulk.run(), 5))
    assert [(item.index, type(item.error)) for item in result.failed] == [(2, RuntimeError)]
    assert len(result.successful) == 4


# --- sources that end in the wrong way ---


class Raising:
    """An iterator that raises *problem* after some requests."""

    def __init__(self, problem: Exception) -> None:
        self.inner: Any = requests(5)
        self.problem = problem

    def __iter__(self) -> Raising:
        return self

    def __next__(self) -> Request:
        for element in self.inner:
            found: Request = element
            return found
        raise self.problem


def generator() -> Iterator[Request]:
    yield from requests(5)
    raise StopAsyncIteration


@both_drivers
@pytest.mark.parametrize("batch_size", [1, 2, 10])
@pytest.mark.parametrize("kind", ["iterator", "generator"])
def test_a_source_that_raises_the_end_of_an_async_one_does_not_succeed(driver: str, batch_size: int, kind: str) -> None:
    rig = BulkRig(driver)
    bulk = rig.client.bulk(Raising(StopAsyncIteration()) if kind == "iterator" else generator(), batch_size=batch_size)
    with pytest.raises(RuntimeError, match="the source raised StopAsyncIteration") as caught:
        rig.run(bulk)
    assert isinstance(caught.value.__cause__, StopAsyncIteration)
    # After what came before.
    assert bulk.collected.results() == [0, 10, 20, 30, 40]


@pytest.mark.parametrize("batch_size", [1, 2, 10])
def test_an_async_source_that_raises_the_end_of_a_sync_one_does_not_succeed(batch_size: int) -> None:
    class Source:
        def __init__(self) -> None:
            self.inner: Any = requests(5)

        def __aiter__(self) -> Source:
            return self

        def __anext__(self) -> Any:
            element = next(self.inner)

            async def give() -> Request:
                found: Request = element
                return found

            return give()

    bulk = AsyncClient(AsyncServer()).bulk(Source(), batch_size=batch_size)
    with pytest.raises(RuntimeError, match="the source raised StopIteration"):
        asyncio.run(bulk.run())
    assert bulk.collected.results() == [0, 10, 20, 30, 40]


@both_drivers
@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
def test_an_element_that_raises_it_when_it_is_shown_ends_nothing(driver: str, kind: type[Exception]) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise kind

    rig = BulkRig(driver)
    items = sorted(rig.all([*requests(2), Odd(), *requests(2, start=3)]), key=lambda item: item.index)
    assert [item.ok for item in items] == [True, True, False, True, True]


@both_drivers
@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
def test_a_clock_that_raises_it_does_not_end_the_bulk(driver: str, kind: type[Exception]) -> None:
    rig = BulkRig(driver)
    bulk = rig.client.bulk(requests(3), progress=lambda progress: None)

    def broken() -> float:
        raise kind

    bulk._clock = broken
    with pytest.raises(RuntimeError):
        rig.run(bulk)


# --- a fork ---


def in_child(work: Any) -> int:
    """The exit status of a forked process that does *work*: what it returns; -9 where it hangs."""
    with warnings.catch_warnings():
        # From Python 3.12 on one that has threads is warned of just this.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 99
        try:
            status = work()
        finally:
            os._exit(status)
    gives_up = time.monotonic() + 5
    while time.monotonic() < gives_up:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_in_a_forked_process_it_says_where_its_threads_are_and_does_not_hang() -> None:
    gate = threading.Event()
    rig = BulkRig("sync", lambda number, time: number * 10 if number == 0 or gate.wait(10) else None)
    bulk = rig.client.bulk(requests(20), concurrency=3)
    items = taken(bulk, 1)

    def child() -> int:
        for ask in (lambda: next(bulk), bulk.run):
            try:
                ask()
            except RuntimeError as problem:
                if "forked off" not in str(problem):
                    return 2
            else:
                return 3
        with bulk:
            pass
        bulk.__del__() if hasattr(bulk, "__del__") else bulk._fan.__del__()
        return 0

    assert in_child(child) == 0
    gate.set()
    assert indices(items + taken(bulk)) == list(range(20))
    assert max(rig.server.times.values()) == 1


def test_one_that_has_not_begun_works_in_a_forked_process() -> None:
    bulk = BulkRig("sync").client.bulk(requests(20), concurrency=3)
    assert in_child(lambda: 0 if len(bulk.run().successful) == 20 else 1) == 0
    assert bulk.run().total == 20
