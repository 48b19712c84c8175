"""Async bulks: async sources, cancels at every place, what is left behind by whoever forgets one, and loops."""

from __future__ import annotations

import asyncio
import gc
import itertools
import signal
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from bulk_rig import AsyncServer, BulkRig, ataken, indices, requests
from support import Recorder

from rpcretry import AsyncClient, ConcurrencyLimit, Delivery, Request, RetryStrategy, TransportError
from rpcretry.bulk import BulkItem
from rpcretry.retry import PeriodicBackoff
from rpcretry.transport import Exchange, Reply

Items = list[BulkItem[Any, Any]]


async def arequests(count: int, pause: Callable[[], Any] = lambda: asyncio.sleep(0)) -> AsyncIterator[Request]:
    for number in range(count):
        await pause()
        yield Request("get", [number])


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def others() -> set[Any]:
    return asyncio.all_tasks() - {asyncio.current_task()}


# --- sources ---


@pytest.mark.parametrize(("concurrency", "batch_size"), [(1, 1), (4, 1), (3, 4)])
def test_an_async_source(concurrency: int, batch_size: int) -> None:
    async def main() -> None:
        client = AsyncClient(AsyncServer())
        items = await ataken(client.bulk(arequests(30), concurrency=concurrency, batch_size=batch_size))
        assert indices(items) == list(range(30))
        assert all(item.result == item.index * 10 for item in items)
        assert others() == set()

    asyncio.run(main())


def test_a_source_is_never_asked_by_two() -> None:
    active = 0

    class Source:
        def __init__(self) -> None:
            self.left = 40

        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> Request:
            nonlocal active
            active += 1
            assert active == 1
            await asyncio.sleep(0)
            active -= 1
            self.left -= 1
            if self.left < 0:
                raise StopAsyncIteration
            return Request("get", [self.left])

    async def main() -> None:
        items = await ataken(AsyncClient(AsyncServer()).bulk(Source(), concurrency=5))
        assert len(items) == 40

    asyncio.run(main())


def test_results_do_not_wait_for_a_slow_source() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def source() -> AsyncIterator[Request]:
            yield Request("get", [1])
            await gate.wait()
            yield Request("get", [2])

        bulk = AsyncClient(AsyncServer()).bulk(source(), concurrency=4)
        first = await asyncio.wait_for(anext(bulk), 5)
        assert first.result == 10
        gate.set()
        assert indices(await ataken(bulk)) == [1]

    asyncio.run(main())


def test_it_is_awaited() -> None:
    async def main() -> None:
        assert (await AsyncClient(AsyncServer()).bulk(requests(3))).results() == [0, 10, 20]

    asyncio.run(main())


def test_it_goes_on_while_the_consumer_is_busy_up_to_the_bound() -> None:
    async def main() -> None:
        server = AsyncServer()
        bulk = AsyncClient(server).bulk(requests(1_000), concurrency=5)
        await anext(bulk)
        for _ in range(100):
            await asyncio.sleep(0)
        assert 5 <= len(server.executed) <= 1 + 2 * 5
        # Nobody waits for anything.
        assert others() == set()

    asyncio.run(main())


def test_two_consumers_are_told() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        bulk = AsyncClient(AsyncServer()).bulk(arequests(3, gate.wait))
        first = asyncio.ensure_future(anext(bulk))
        await settle()
        with pytest.raises(RuntimeError, match="two tasks"):
            await anext(bulk)
        gate.set()
        assert (await first).ok

    asyncio.run(main())


# --- cancels ---


class Places(AsyncServer):
    """A backend, a sleep, a source and a consumer that note each await, and cancel the consumer at the chosen one."""

    def __init__(self, chosen: int) -> None:
        super().__init__(lambda number, time: {"code": 2001, "message": ""} if number % 3 == 0 and time == 1 else number * 10)
        self.chosen = chosen
        self.passed: list[str] = []
        self.consumer: asyncio.Task[Any] | None = None
        self.cut: set[int] = set()

    async def at(self, place: str) -> None:
        self.passed.append(place)
        if self.chosen == len(self.passed) and self.consumer is not None:
            self.consumer.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def exchange(self, exchange: Exchange) -> Reply:
        reply = self._reply(exchange)
        try:
            await self.at("exchange")
        except asyncio.CancelledError:
            self.cut.update(self.seen_last(exchange))
            raise
        return reply

    def seen_last(self, exchange: Exchange) -> list[int]:
        return [each.params[0] for each in exchange.requests if isinstance(each.params, list)]

    async def asleep(self, seconds: float) -> None:
        await self.at("backoff")


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("collected", [True, False], ids=["run", "loop"])
def test_a_cancel_at_every_place_loses_nothing_and_repeats_nothing(batch_size: int, collected: bool) -> None:
    reached = set()
    for chosen in itertools.count(1):
        places = Places(chosen)

        async def main(places: Places = places) -> Items:
            layer = Recorder()
            client = AsyncClient(
                places, sleep=places.asleep, retry_strategy=RetryStrategy(codes={2001}, backoff=PeriodicBackoff(2, 1)), layers=[layer, ConcurrencyLimit(2)]
            )
            bulk = client.bulk(arequests(10, lambda: places.at("source")), concurrency=3, batch_size=batch_size, partial_success_threshold=0)
            items: Items = []

            async def loop() -> None:
                async for item in bulk:
                    items.append(item)

            for _ in range(2):
                places.consumer = asyncio.ensure_future(bulk.run() if collected else loop())
                await asyncio.wait([places.consumer])
                # Only the source may be at work.
                assert len(others()) <= (0 if places.consumer.done() and not places.consumer.cancelled() else 1)
            assert not places.consumer.cancelled()
            places.consumer.result()
            assert layer.count("admit") == layer.count("settle") + layer.count("abandon")
            return bulk.collected.items if collected else items

        items = asyncio.run(main())
        assert indices(items) == list(range(10))
        for item in items:
            if item.ok:
                assert item.result == item.index * 10
                # Those with a retry once more, and nothing twice for the cancel.
                assert item.attempts == places.times[item.index] == (2 if item.index % 3 == 0 else 1)
            else:
                assert isinstance(item.error, TransportError)
                assert item.error.delivery is Delivery.MAYBE_EXECUTED
                assert "may have been executed" in str(item.error)
                assert item.index in places.cut
                assert item.attempts == places.times[item.index]
        if len(places.passed) < chosen:
            break
        reached.add(places.passed[chosen - 1])
    assert reached == {"source", "exchange", "backoff"}


def test_a_cancel_keeps_what_is_finished() -> None:
    async def main() -> None:
        hang = asyncio.Event()

        class Backend(AsyncServer):
            async def exchange(self, exchange: Exchange) -> Reply:
                reply = self._reply(exchange)
                if self.executed[-1] >= 10:
                    await hang.wait()
                return reply

        bulk = AsyncClient(Backend()).bulk(requests(50), concurrency=4, partial_success_threshold=0.5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await bulk.run()
        assert others() == set()
        assert [item.index for item in bulk.collected.successful] == list(range(10))
        assert [item.index for item in bulk.collected.failed] == [10, 11, 12, 13]
        hang.set()
        result = await bulk.run()
        assert [item.index for item in result.items] == list(range(50))
        assert len(result.failed) == 4

    asyncio.run(main())


def test_one_cut_off_in_a_batch_beside_others_that_wait() -> None:
    """A batch of which one is in flight again, one waits for its turn and one is over: each goes its own way."""
    hang = asyncio.Event()

    class Backend(AsyncServer):
        async def exchange(self, exchange: Exchange) -> Reply:
            reply = self._reply(exchange)
            if self.seen[-1] == [1]:
                await hang.wait()
            return reply

    def answer(number: int, time: int) -> Any:
        if number in (1, 2) and time == 1:
            return {"code": 2001, "message": "", "data": {"retry_after": 0.0 if number == 1 else 1000.0}}
        return number * 10

    class Held(Recorder):
        def judge(self, attempt: Any, member: Any, outcome: Any, verdict: Any, now: float) -> Any:
            return verdict._replace(delay=1.0 if member.request.params == [1] else 50.0, held=True)

    async def main() -> None:
        backend = Backend(answer)
        rig = BulkRig("async")
        client = AsyncClient(
            backend,
            clock=rig.time.clock,
            sleep=rig.time.asleep,
            retry_strategy=RetryStrategy(codes={2001}, backoff=PeriodicBackoff(3, 0.0)),
            layers=[Held()],
            deadline=100,
        )
        bulk = client.bulk(requests(3), batch_size=3, partial_success_threshold=0)
        task = asyncio.ensure_future(bulk.run())
        await settle()
        assert backend.seen == [[0, 1, 2], [1]]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [(item.index, item.ok, item.attempts) for item in bulk.collected.items] == [(0, True, 1), (1, False, 2)]
        # While nobody wanted it to go on, its deadline stood still.
        rig.time.advance(10_000)
        result = await bulk.run()
        assert backend.seen == [[0, 1, 2], [1], [2]]
        assert [(item.index, item.ok, item.attempts) for item in result.items] == [(0, True, 1), (1, False, 2), (2, True, 2)]

    asyncio.run(main())


def test_an_idempotency_key_is_kept_over_a_cut() -> None:
    keys: list[str] = []
    waiting = asyncio.Event()

    class Backend(AsyncServer):
        async def exchange(self, exchange: Exchange) -> Reply:
            keys.append((exchange.headers or {})["Idempotency-Key"])
            if len(keys) == 1:
                raise ConnectionError("reset")
            return self._reply(exchange)

    async def sleep(seconds: float) -> None:
        if len(keys) == 1:
            waiting.set()
            await asyncio.sleep(60)

    async def main() -> None:
        strategy = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(1, 1))
        bulk = AsyncClient(Backend(), sleep=sleep, retry_strategy=strategy, idempotency_key=True).bulk(requests(1))
        task = asyncio.ensure_future(bulk.run())
        await waiting.wait()
        task.cancel()
        await asyncio.wait([task])
        keys.append(keys[0])
        result = await bulk.run()
        assert len(set(keys)) == 1
        assert [(item.result, item.attempts) for item in result.items] == [(0, 2)]

    asyncio.run(main())


def test_a_call_that_cancels_itself_fails_alone() -> None:
    def answer(number: int, time: int) -> Any:
        return asyncio.CancelledError() if number == 2 else number * 10

    async def main() -> None:
        result = await AsyncClient(AsyncServer(answer)).bulk(requests(9), concurrency=3, partial_success_threshold=0)
        assert [item.index for item in result.failed] == [2]
        assert len(result.successful) == 8

    asyncio.run(main())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_failure_goes_through(kind: type[BaseException]) -> None:
    server = AsyncServer(lambda number, time: kind() if number == 2 and time == 1 else number * 10)
    bulk = AsyncClient(server).bulk(requests(9), concurrency=3, partial_success_threshold=0)

    async def main() -> None:
        with pytest.raises(kind):
            await bulk.run()
        result = await bulk.run()
        assert [item.index for item in result.items] == list(range(9))
        assert 2 in [item.index for item in result.failed]

    asyncio.run(main())


# --- closing, and forgetting ---


def test_closing_cuts_off_what_is_in_flight() -> None:
    async def main() -> None:
        hang = asyncio.Event()

        class Backend(AsyncServer):
            async def exchange(self, exchange: Exchange) -> Reply:
                reply = self._reply(exchange)
                if self.executed[-1] > 0 and not hang.is_set():
                    await hang.wait()
                return reply

        server = Backend()
        async with AsyncClient(server).bulk(requests(10), concurrency=3) as bulk:
            first = await anext(bulk)
            assert first.result == 0
            await settle()
        assert others() == set()
        assert server.active == 0
        began = set(server.executed)
        hang.set()
        rest = await ataken(bulk)
        assert indices(rest) == list(range(1, 10))
        assert {item.index for item in rest if not item.ok} == began - {0}

    asyncio.run(main())


def test_a_source_that_is_cut_off_by_closing_is_not_taken_for_its_end() -> None:
    async def main() -> None:
        async def source() -> AsyncIterator[Request]:
            yield Request("get", [0])
            await asyncio.sleep(60)
            yield Request("get", [1])

        bulk = AsyncClient(AsyncServer()).bulk(source())
        assert (await anext(bulk)).ok
        await settle()
        await bulk.aclose()
        assert others() == set()
        with pytest.raises(RuntimeError, match="ended since it raised CancelledError"):
            await bulk.run()

    asyncio.run(main())


@pytest.mark.parametrize("where", ["exchange", "source", "backoff"])
def test_one_that_is_forgotten_leaves_nothing_behind(where: str) -> None:
    complaints: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        cut: list[str] = []

        async def hang(place: str) -> None:
            if place == where:
                try:
                    await asyncio.sleep(60)
                finally:
                    cut.append(place)

        class Backend(AsyncServer):
            async def exchange(self, exchange: Exchange) -> Reply:
                reply = self._reply(exchange)
                if self.executed[-1] > 0:
                    await hang("exchange")
                    if where == "backoff":
                        raise ConnectionError
                return reply

        async def source() -> AsyncIterator[Request]:
            for number in range(100):
                if number:
                    await hang("source")
                yield Request("get", [number])

        async def sleep(seconds: float) -> None:
            await hang("backoff")

        strategy = RetryStrategy(exceptions={ConnectionError}, backoff=PeriodicBackoff(1, 1))
        bulk = AsyncClient(Backend(), sleep=sleep, retry_strategy=strategy).bulk(source(), concurrency=3)
        async for item in bulk:
            assert item.ok
            break
        await settle()
        assert others()
        del bulk
        gc.collect()
        await settle()
        assert others() == set()
        assert set(cut) == {where}

    asyncio.run(main())
    gc.collect()
    assert complaints == []


def test_another_loop() -> None:
    bulk = AsyncClient(AsyncServer()).bulk(requests(30), concurrency=3, partial_success_threshold=0)

    async def some() -> Items:
        return await ataken(bulk, 7)

    # The end of a loop cuts off what is in flight in it.
    items = asyncio.run(some()) + asyncio.run(some()) + asyncio.run(bulk.run()).items
    assert indices(items) == list(range(30))

    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def forever() -> None:
        await asyncio.sleep(60)

    server = AsyncServer()

    async def exchange(exchange: Exchange) -> Reply:
        if server.executed:
            await forever()
        return server._reply(exchange)

    server.exchange = exchange  # type: ignore[method-assign]
    other = AsyncClient(server).bulk(requests(30), concurrency=3)
    try:
        first.run_until_complete(anext(other))
        first.run_until_complete(settle())
        with pytest.raises(RuntimeError, match="another event loop"):
            second.run_until_complete(anext(other))
        first.run_until_complete(other.aclose())
    finally:
        first.close()
        second.close()


def test_ctrl_c_in_asyncio_run_leaves_what_is_finished_in_hand() -> None:
    hang = threading.Event()

    class Backend(AsyncServer):
        async def exchange(self, exchange: Exchange) -> Reply:
            reply = self._reply(exchange)
            if self.executed[-1] == 6 and not hang.is_set():
                hang.set()
                threading.Timer(0.02, signal.pthread_kill, (main_thread, signal.SIGINT)).start()
                await asyncio.sleep(30)
            return reply

    main_thread = threading.get_ident()
    bulk = AsyncClient(Backend()).bulk(requests(20), concurrency=1, partial_success_threshold=0)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(bulk.run())
    assert [(item.index, item.ok) for item in bulk.collected.items] == [(number, number < 6) for number in range(7)]
    assert [item.index for item in asyncio.run(bulk.run()).items] == list(range(20))
