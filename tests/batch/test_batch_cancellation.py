"""Batches that are cancelled or interrupted: nothing is retried, counted, swallowed or kept, and the next call works."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from support import no_collector

from rpcretry import (
    AsyncClient,
    BatchRequest,
    BatchUnfinishedError,
    Client,
    ConnectionLostError,
    Delivery,
    Layer,
    Outcome,
    Request,
    RetryStrategy,
)
from rpcretry.outcome import Attempt, Wait
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import VirtualTime
from rpcretry.transport import Exchange, Reply

BUSY = -32001
EAGER = RetryStrategy(exceptions={Exception}, codes={BUSY}, idempotent=True, backoff=PeriodicBackoff(3, 0.5))


class Ledger(Layer):
    """Takes something at each admission, and wants it back once: by settle or by abandon.

    :param waits: how an attempt is held before it is let out: seconds, or ``"park"``.
    """

    def __init__(self, *waits: Any) -> None:
        self.waits = waits
        self.held: set[Attempt] = set()
        self.asked: dict[Attempt, int] = {}
        self.admitted = self.settled = self.abandoned = 0
        self.parked: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def admit(self, attempt: Attempt, now: float) -> Wait | None:
        with self._lock:
            asked = self.asked.get(attempt, 0)
            if asked < len(self.waits):
                self.asked[attempt] = asked + 1
                if self.waits[asked] != "park":
                    return Wait(now + self.waits[asked], "limit")
                self.parked.append(attempt.park())
                return Wait(math.inf, "queue")
            self.asked.pop(attempt, None)
            self.held.add(attempt)
            self.admitted += 1
            return None

    def settle(self, attempt: Attempt, outcomes: Sequence[Outcome], now: float) -> None:
        with self._lock:
            self.held.remove(attempt)
            self.settled += 1

    def abandon(self, attempt: Attempt, now: float) -> None:
        with self._lock:
            self.asked.pop(attempt, None)
            if attempt in self.held:
                self.held.remove(attempt)
                self.abandoned += 1

    def check(self) -> None:
        assert (self.held, self.asked) == (set(), {})
        assert self.admitted == self.settled + self.abandoned


def serve(exchange: Exchange, number: int) -> Reply:
    """Lost at first; then busy with every second one; and then done."""
    if number == 1:
        raise ConnectionLostError("reset")
    documents = [one for one in json.loads(exchange.body) if "id" in one]
    answers = [{"id": one["id"], "result": one["id"]} for one in documents]
    if number == 2:
        answers[::2] = [{"id": one["id"], "error": {"code": BUSY, "message": "busy"}} for one in documents[::2]]
    return Reply(json.dumps(answers).encode())


def requests() -> list[Request]:
    return [*[Request("get", [id], id=id) for id in range(1, 5)], Request("tell", id=None)]


# --- async: at every await ---


class Walk:
    """A batch that awaits at every kind of place there is, and a caller that is cancelled at the chosen one."""

    def __init__(self, **options: Any) -> None:
        self.time = VirtualTime()
        self.outer, self.inner = Ledger(1.0), Ledger("park")
        self.chosen: int | None = None
        self.passed: list[str] = []
        self.told: list[str] = []
        self.exchanges = 0
        self.caller: asyncio.Task[Any] | None = None
        self.client = AsyncClient(
            self,
            retry_strategy=EAGER,
            layers=[self.outer, self.inner],
            clock=self.time.clock,
            sleep=self.asleep,
            on_event=lambda event: self.told.append(type(event).__name__),
            **options,
        )

    def at(self, place: str) -> None:
        self.passed.append(place)
        if self.chosen == len(self.passed):
            assert self.caller is not None
            self.caller.cancel()

    async def exchange(self, exchange: Exchange, /) -> Reply:
        self.exchanges += 1
        number = self.exchanges
        self.at("exchange")
        await asyncio.sleep(0)
        return serve(exchange, number)

    async def aclose(self) -> None: ...

    async def asleep(self, seconds: float) -> None:
        self.at("backoff" if seconds == 0.5 else "limit")
        await asyncio.sleep(0)
        self.time.sleep(seconds)

    async def wake(self) -> None:
        """Stands for other calls that leave: they wake whoever is parked, a turn later."""
        seen = len(self.inner.parked)
        while True:
            await asyncio.sleep(0)
            while len(self.inner.parked) > seen:
                seen += 1
                self.at("parked")
                self.inner.parked[seen - 1]()

    async def run(self, act: Callable[[AsyncClient], Any], chosen: int | None) -> Any:
        self.chosen, self.passed = chosen, []
        self.caller = asyncio.create_task(act(self.client))
        waker = asyncio.create_task(self.wake())
        try:
            return await self.caller
        finally:
            waker.cancel()
            await asyncio.wait([waker])
            self.caller = None


async def by_send(client: AsyncClient) -> list[Any]:
    return (await client.send(BatchRequest(*requests()))).results


async def by_handles(client: AsyncClient) -> list[Any]:
    async with client.batch() as batch:
        for request in requests():
            batch.send(request)
    return batch.results()


async def by_bulk(client: AsyncClient) -> list[Any]:
    result = await client.bulk(requests()[:4], batch_size=4, concurrency=1)
    return [item.result for item in result.successful]


PLACES = ["limit", "parked", "exchange", "backoff"] * 2 + ["limit", "parked", "exchange"]
WAYS = [by_send, by_handles, by_bulk]


@pytest.mark.parametrize("act", WAYS)
def test_the_walk_awaits_at_every_kind_of_place(act: Any) -> None:
    walk = Walk()
    if act is by_bulk:
        assert asyncio.run(walk.run(act, None)) == [1, 2, 3, 4]
    else:
        # A notification that was lost is not sent again, and so is the one failure.
        with pytest.raises((ExceptionGroup, ConnectionLostError)):
            asyncio.run(walk.run(act, None))
    assert walk.passed == PLACES
    for layer in (walk.outer, walk.inner):
        layer.check()
        assert (layer.admitted, layer.abandoned) == (3, 0)


@pytest.mark.parametrize("act", WAYS)
@pytest.mark.parametrize("chosen", range(1, len(PLACES) + 1), ids=[f"{index}-{place}" for index, place in enumerate(PLACES, 1)])
def test_a_batch_cancelled_at_every_await(act: Any, chosen: int) -> None:
    walk = Walk()

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await walk.run(act, chosen)
        place, exchanges = PLACES[chosen - 1], PLACES[: chosen - 1].count("exchange")
        assert walk.passed == PLACES[:chosen]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        for layer in (walk.outer, walk.inner):
            layer.check()
            # What was finished before is counted, what was cut is not.
            assert layer.settled == exchanges
        assert walk.outer.abandoned == (0 if place in ("backoff", "limit") else 1)
        assert walk.inner.abandoned == (1 if place == "exchange" else 0)
        assert not {"CallFailed", "CallSucceeded"} & set(walk.told)

        # Nothing is left that would disturb the next.
        walk.exchanges = 2
        assert await walk.run(act, None) == [1, 2, 3, 4]
        assert walk.passed == ["limit", "parked", "exchange"]
        walk.outer.check()
        walk.inner.check()

    asyncio.run(main())


@pytest.mark.parametrize("concurrency", [1, 2, 9])
def test_the_parts_of_a_batch_cancelled_at_every_await(concurrency: int) -> None:
    """Five parts, of which some are done, some under way and some not begun."""
    chosen = 0
    while True:
        chosen += 1
        walk = Walk(max_batch_size=1, batch_concurrency=concurrency)
        walk.exchanges = 2

        async def main(walk: Walk = walk, chosen: int = chosen) -> bool:
            try:
                await walk.run(by_send, chosen)
            except asyncio.CancelledError:
                assert asyncio.all_tasks() == {asyncio.current_task()}
                for layer in (walk.outer, walk.inner):
                    layer.check()
                assert walk.told.count("CallSucceeded") < 5
                assert "CallFailed" not in walk.told
                assert await walk.run(by_send, None) == [1, 2, 3, 4]
                return True
            return False

        if not asyncio.run(main()):
            break
    assert chosen == 5 * 3 + 1


def test_handles_of_a_cancelled_batch_say_what_may_have_been_done() -> None:
    async def run(chosen: int) -> Any:
        walk, kept = Walk(), []

        async def act(client: AsyncClient) -> None:
            async with client.batch() as batch:
                kept.append(batch)
                batch.call("get", 1)

        with pytest.raises(asyncio.CancelledError):
            await walk.run(act, chosen)
        return kept[0]

    for chosen in range(1, len(PLACES) + 1):
        batch = asyncio.run(run(chosen))
        (handle,) = batch
        for read in (handle.result, batch.results, lambda handle=handle: handle.error, lambda batch=batch: batch.failed, lambda batch=batch: batch.responses):
            with pytest.raises(BatchUnfinishedError, match="cut off") as caught:
                read()
            assert caught.value.delivery is Delivery.MAYBE_EXECUTED
        assert not handle.is_done


@pytest.mark.parametrize("chosen", range(1, len(PLACES) + 1))
def test_a_cancelled_batch_leaves_nothing_behind(chosen: int) -> None:
    class Kept(dict[str, int]):
        pass

    async def main() -> None:
        walk = Walk()
        params = Kept(a=1)
        gone = weakref.ref(params)
        batch = BatchRequest(Request("get", params, id=1), Request("get", id=2))
        del params

        async def act(client: AsyncClient, batch: BatchRequest = batch) -> None:
            await client.send(batch)

        del batch
        with pytest.raises(asyncio.CancelledError) as caught:
            await walk.run(act, chosen)
        del caught, act
        await asyncio.sleep(0)
        assert gone() is None

    with no_collector():
        asyncio.run(main())


def test_a_cancel_before_the_first_turn_sends_nothing() -> None:
    walk = Walk()

    async def main() -> None:
        task = asyncio.create_task(by_send(walk.client))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert (walk.exchanges, walk.outer.admitted) == (0, 0)


def test_a_block_that_is_cancelled_sends_nothing() -> None:
    walk = Walk()

    async def act(client: AsyncClient) -> None:
        async with client.batch() as batch:
            batch.call("get")
            await asyncio.sleep(3600)

    async def main() -> None:
        task = asyncio.create_task(act(walk.client))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert walk.exchanges == 0


def test_a_timeout_of_the_callers_around_a_batch_is_the_callers() -> None:
    class Hanging:
        async def exchange(self, exchange: Exchange, /) -> Reply:
            await asyncio.sleep(3600)
            raise AssertionError("nobody wakes this")

        async def aclose(self) -> None: ...

    async def main(**options: Any) -> None:
        layer = Ledger()
        client = AsyncClient(Hanging(), retry_strategy=EAGER, layers=layer, **options)
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.01):
                await by_send(client)
        assert type(caught.value) is TimeoutError
        layer.check()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    asyncio.run(main(max_batch_size=1, batch_concurrency=3))


@pytest.mark.parametrize("options", [{}, {"max_batch_size": 2}, {"max_batch_size": 2, "batch_concurrency": 2}], ids=["whole", "parts", "parts at once"])
def test_a_cancel_that_comes_from_within_the_backend_is_one_for_the_caller(options: Any) -> None:
    """As where a library cancels its own task: whatever is under way, the caller gets what a single call gives it."""
    layer = Ledger()

    class Cancelling:
        async def exchange(self, exchange: Exchange, /) -> Reply:
            await asyncio.sleep(0)
            if 3 in exchange.ids:
                raise asyncio.CancelledError("from within")
            return serve(exchange, 3)

        async def aclose(self) -> None: ...

    async def main() -> None:
        client = AsyncClient(Cancelling(), layers=layer, **options)
        with pytest.raises(asyncio.CancelledError):
            await by_send(client)
        with pytest.raises(asyncio.CancelledError):
            await by_handles(client)

    asyncio.run(main())
    layer.check()


# --- sync: interrupts ---


def sync_by_send(client: Client) -> list[Any]:
    return client.send(BatchRequest(*requests()[:4])).results


def sync_by_handles(client: Client) -> list[Any]:
    with client.batch() as batch:
        for request in requests()[:4]:
            batch.send(request)
    return batch.results()


def sync_by_bulk(client: Client) -> list[Any]:
    return [item.result for item in sorted(client.bulk(requests()[:4], batch_size=2, concurrency=2), key=lambda item: item.index)]


class Stage:
    """A sync client that is struck at the chosen one of its waits and exchanges, in whichever thread it comes."""

    def __init__(self, **options: Any) -> None:
        self.time = VirtualTime()
        self.layer = Ledger(1.0)
        self.chosen: int | None = None
        self.passed = 0
        self.exchanges = 0
        self.told: list[str] = []
        self._lock = threading.Lock()
        self.client = Client(
            self,
            retry_strategy=EAGER,
            layers=self.layer,
            clock=self.time.clock,
            sleep=self.sleep,
            on_event=lambda event: self.told.append(type(event).__name__),
            **options,
        )

    def at(self) -> None:
        with self._lock:
            self.passed += 1
            struck = self.passed == self.chosen
        if struck:
            raise KeyboardInterrupt

    def sleep(self, seconds: float) -> None:
        self.at()
        self.time.sleep(seconds)

    def exchange(self, exchange: Exchange, /) -> Reply:
        self.at()
        with self._lock:
            self.exchanges += 1
            number = self.exchanges
        return serve(exchange, number)

    def close(self) -> None: ...


def ended(name: str = "rpcretry fan") -> bool:
    """Whether no thread of a fan is left, a moment later."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if not any(thread.name == name for thread in threading.enumerate()):
            return True
        time.sleep(0.001)
    return False


@pytest.mark.parametrize("act", [sync_by_send, sync_by_handles])
def test_an_interrupt_at_every_wait_and_exchange(act: Callable[[Client], Any]) -> None:
    """limit, exchange, backoff, limit, exchange, backoff, limit, exchange."""
    for chosen in range(1, 10):
        stage = Stage()
        stage.chosen = chosen
        if chosen == 9:
            assert act(stage.client) == [1, 2, 3, 4]
            break
        with pytest.raises(KeyboardInterrupt):
            act(stage.client)
        stage.layer.check()
        assert stage.layer.abandoned == (1 if chosen in (2, 5, 8) else 0)
        assert not {"CallFailed", "CallSucceeded"} & set(stage.told)
        stage.exchanges = 2
        assert act(stage.client) == [1, 2, 3, 4]
        stage.layer.check()


@pytest.mark.parametrize("act", [sync_by_send, sync_by_handles, sync_by_bulk])
@pytest.mark.parametrize("options", [{"max_batch_size": 1}, {"max_batch_size": 1, "batch_concurrency": 2}], ids=["in turn", "at once"])
def test_an_interrupt_in_any_part_ends_the_batch(act: Callable[[Client], Any], options: Any) -> None:
    chosen = 0
    while True:
        chosen += 1
        stage = Stage(**options)
        stage.exchanges, stage.chosen = 2, chosen
        try:
            act(stage.client)
        except KeyboardInterrupt:
            stage.layer.check()
            assert "CallFailed" not in stage.told
            assert act(stage.client) == [1, 2, 3, 4]
            stage.layer.check()
            assert ended()
        else:
            break
    # Each part waits once and exchanges once.
    assert chosen == 4 * 2 + 1


@pytest.mark.parametrize("options", [{}, {"max_batch_size": 1, "batch_concurrency": 4}], ids=["whole", "parts at once"])
@pytest.mark.parametrize("act", [sync_by_send, sync_by_handles])
def test_ctrl_c_in_a_long_backoff_ends_it_at_once(act: Callable[[Client], Any], options: Any) -> None:
    """A real signal, real waits of a minute, in the main thread or in those of the parts."""
    layer = Ledger()
    reached = threading.Semaphore(0)

    class Busy:
        def exchange(self, exchange: Exchange, /) -> Reply:
            reached.release()
            return Reply(json.dumps([{"id": id, "error": {"code": BUSY, "message": "busy"}} for id in exchange.ids]).encode())

        def close(self) -> None: ...

    def strike() -> None:
        for _ in range(4 if options else 1):
            reached.acquire()
        time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    client = Client(Busy(), retry_strategy=RetryStrategy(codes={BUSY}, backoff=PeriodicBackoff(3, 60.0)), layers=layer, **options)
    striker = threading.Thread(target=strike)
    began = time.monotonic()
    striker.start()
    with pytest.raises(KeyboardInterrupt):
        act(client)
    assert time.monotonic() - began < 5
    striker.join()
    layer.check()
    assert ended()


def test_an_interrupted_batch_keeps_no_frames() -> None:
    class Kept(dict[str, int]):
        pass

    def run() -> weakref.ref[Any]:
        stage = Stage()
        stage.chosen = 6
        params = Kept(a=1)
        gone = weakref.ref(params)
        try:
            stage.client.send(BatchRequest(Request("get", params, id=1), Request("get", id=2)))
        except KeyboardInterrupt:
            return gone
        raise AssertionError("it was not struck")

    with no_collector():
        assert run()() is None


def test_handles_of_an_interrupted_batch_are_not_done() -> None:
    stage = Stage()
    stage.chosen = 3
    with pytest.raises(KeyboardInterrupt):
        with stage.client.batch() as batch:
            handle = batch.call("get", 1)
    assert not handle.is_done
    with pytest.raises(BatchUnfinishedError) as caught:
        handle.result()
    assert caught.value.delivery is Delivery.MAYBE_EXECUTED


def test_a_collected_batch_leaves_no_thread_and_no_warning() -> None:
    stage = Stage(max_batch_size=1, batch_concurrency=4)
    stage.exchanges = 2
    assert sync_by_send(stage.client) == [1, 2, 3, 4]
    del stage
    gc.collect()
    assert ended()
