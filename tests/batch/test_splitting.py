"""Batches that are too large to go as one, on both drivers."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpcretry import (
    AsyncClient,
    BatchRequest,
    CircuitBreaker,
    Client,
    ConnectError,
    DeadlineExceeded,
    Delivery,
    HTTPStatusError,
    Request,
    RetryBudget,
    RetryMetrics,
    RetryStrategy,
)
from rpcretry.client.batch_limits import BatchLimits
from rpcretry.events import RetryScheduled
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import http
from rpcretry.transport import Exchange, Reply
from tests.batch.batch_rig import batched
from tests.support import Recorder, Rig, Slow, both_drivers, fresh


def answer(exchange: Exchange) -> Reply:
    document = json.loads(exchange.body)
    return Reply(json.dumps([{"jsonrpc": "2.0", "id": each["id"], "result": each["params"][0]} for each in document if "id" in each]).encode())


def at_most(count: int, refusal: Any = None) -> Any:
    """A server that takes batches of so many."""

    def play(exchange: Exchange) -> Any:
        if len(json.loads(exchange.body)) <= count:
            return answer(exchange)
        return http(413) if refusal is None else refusal(exchange)

    return play


def numbers(count: int) -> Any:
    return lambda batch: [batch.call("m", number) for number in range(count)]


def sizes(rig: Rig) -> list[int]:
    return [len(body) for body in rig.backend.bodies]


@both_drivers
@pytest.mark.parametrize("size", [1, 2, 3, 7, 99, 100, 101])
def test_a_larger_batch_goes_as_several(driver: str, size: int) -> None:
    rig = Rig(driver, *[answer] * 100, max_batch_size=size)
    batch, _ = batched(rig, numbers(100))
    assert batch.results() == list(range(100))
    assert sum(sizes(rig)) == 100
    assert max(sizes(rig)) == min(size, 100)
    assert len(sizes(rig)) == -(-100 // size)
    assert [id for exchange in rig.backend.exchanges for id in exchange.ids] == list(range(1, 101))
    assert all(response.attempts == 1 for response in batch.responses)


@both_drivers
def test_a_batch_request_does_too(driver: str) -> None:
    rig = Rig(driver, *[answer] * 3, max_batch_size=2)
    responses = rig.send(BatchRequest(*(Request("m", [number]) for number in range(5))))
    assert [response.result for response in responses] == [0, 1, 2, 3, 4]
    assert sizes(rig) == [2, 2, 1]


@both_drivers
def test_the_batch_says_otherwise_than_the_client(driver: str) -> None:
    rig = Rig(driver, answer, answer, answer, max_batch_size=2, max_batch_bytes=100, batch_concurrency=2)
    assert batched(rig, numbers(5), max_batch_size=None, max_batch_bytes=None)[0].results() == [0, 1, 2, 3, 4]
    assert sizes(rig) == [5]


@both_drivers
def test_by_bytes(driver: str) -> None:
    rig = Rig(driver, *[answer] * 100)
    batch, _ = batched(rig, lambda batch: [batch.call("m", "x" * (number % 50)) for number in range(60)], max_batch_bytes=400)
    assert batch.results() == ["x" * (number % 50) for number in range(60)]
    assert all(len(exchange.body) <= 400 for exchange in rig.backend.exchanges)
    assert sum(sizes(rig)) == 60
    rig = Rig(driver, *[answer] * 3)
    batch, _ = batched(rig, lambda batch: [batch.call("m", text) for text in ("a", "b" * 900, "c")], max_batch_bytes=400)
    assert sizes(rig) == [1, 1, 1]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.none() | st.integers(1, 20), st.none() | st.integers(1, 200))
@settings(max_examples=400)
def test_parts_are_as_full_as_they_may_be(lengths: list[int], size: int | None, most: int | None) -> None:
    parts = BatchLimits(size, most).parts(lengths)
    assert [place for part in parts for place in part] == list(range(len(lengths)))
    filled = [1 + sum(lengths[place] + 1 for place in part) for part in parts]
    for part, count, following in zip(parts, filled, [*parts[1:], None], strict=True):
        assert size is None or len(part) <= size
        assert most is None or count <= most or len(part) == 1
        if following is not None:
            more = count + lengths[following.start] + 1
            assert (size is not None and len(part) == size) or (most is not None and more > most)


@both_drivers
def test_a_server_that_says_too_large_gets_halves(driver: str) -> None:
    rig = Rig(driver, *[at_most(3)] * 20, watched=True)
    batch, _ = batched(rig, numbers(10))
    assert batch.results() == list(range(10))
    assert sizes(rig) == [10, 5, 3, 3, 3, 1]
    assert [event.reason for event in rig.events if isinstance(event, RetryScheduled)] == ["batch too large"] * 2
    assert rig.waits == []


@both_drivers
def test_halving_is_no_retry(driver: str) -> None:
    """No try of the strategy's is used up, no budget pays, and a method that is not idempotent is sent again: nothing was done."""
    budget, breaker = RetryBudget(capacity=1), CircuitBreaker(failure_threshold=1)
    strategy = RetryStrategy(backoff=PeriodicBackoff(attempts=1, interval=1), idempotent=())
    rig = Rig(driver, *[at_most(1)] * 20, retry_strategy=strategy, layers=[budget, breaker])
    batch, _ = batched(rig, numbers(4))
    assert batch.results() == [0, 1, 2, 3]
    assert sizes(rig) == [4, 2, 1, 1, 1, 1]
    assert (budget.level, breaker.state.value) == (1, "closed")


@both_drivers
def test_each_halving_is_settled_like_any_exchange(driver: str) -> None:
    layer, breaker = Recorder(), CircuitBreaker()
    rig = Rig(driver, *[at_most(2)] * 9, layers=[layer, breaker])
    assert batched(rig, numbers(4))[0].results() == [0, 1, 2, 3]
    assert [what.split(".")[1] for what in layer.log] == ["admit", "settle"] * 3
    # A server that says 413 is alive.
    assert breaker.stats.failed == 0


@both_drivers
def test_later_parts_know(driver: str) -> None:
    rig = Rig(driver, *[at_most(2)] * 20)
    batch, _ = batched(rig, numbers(12), max_batch_size=4)
    assert batch.results() == list(range(12))
    assert sizes(rig) == [4, 2, 2, 2, 2, 2, 2]


@both_drivers
def test_one_that_is_too_large_alone(driver: str) -> None:
    def refuse(exchange: Exchange) -> Reply:
        return http(413) if b"huge" in exchange.body else answer(exchange)

    rig = Rig(driver, *[refuse] * 20)
    _batch, (a, b, c) = batched(rig, lambda batch: (batch.call("m", 1), batch.call("m", "huge"), batch.call("m", 3)))
    assert (a.result(), c.result()) == (1, 3)
    assert isinstance(b.error, HTTPStatusError)
    assert b.error.status == 413
    assert sizes(rig) == [3, 2, 1, 1, 1]
    rig = Rig(driver, refuse)
    with pytest.raises(HTTPStatusError):
        batched(rig, lambda batch: batch.call("m", "huge"))


def lone(exchange: Exchange) -> Reply:
    return Reply(b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"batch too large"}}')


def first(exchange: Exchange) -> Reply:
    # How one family of nodes answers: in the name of the first request, and of no other.
    return Reply(b'[{"jsonrpc":"2.0","id":%d,"error":{"code":-32600,"message":"batch too large"}}]' % exchange.ids[0])


def each(exchange: Exchange) -> Reply:
    return Reply(json.dumps([{"jsonrpc": "2.0", "id": id, "error": {"code": -32600, "message": "batch too large"}} for id in exchange.ids]).encode())


def with_status(exchange: Exchange) -> Reply:
    return Reply(b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"too large"}}', 413)


@both_drivers
@pytest.mark.parametrize("refusal", [lone, first, each, with_status])
def test_codes_that_say_too_large(driver: str, refusal: Any) -> None:
    rig = Rig(driver, *[at_most(2, refusal)] * 20, split_on={413, -32600})
    batch, _ = batched(rig, numbers(5))
    assert batch.results() == [0, 1, 2, 3, 4]
    assert sizes(rig) == [5, 3, 2, 2, 1]


@both_drivers
@pytest.mark.parametrize("refusal", [http(413), lone, first, each, with_status])
def test_a_notification_is_turned_down_with_the_others(driver: str, refusal: Any) -> None:
    seen: list[str] = []

    def play(exchange: Exchange) -> Any:
        document = json.loads(exchange.body)
        if len(document) > 2:
            return refusal(exchange) if callable(refusal) else refusal
        seen.extend(request["method"] for request in document)
        return answer(exchange)

    rig = Rig(driver, *[play] * 20, split_on={413, -32600})
    batch, _ = batched(rig, lambda batch: (batch.call("a", 1), batch.notify("n", 2), batch.call("b", 3)))
    assert batch.results() == [1, 3]
    assert seen == ["a", "n", "b"]


@both_drivers
def test_without_the_code_it_is_an_error_like_others(driver: str) -> None:
    rig = Rig(driver, lone)
    batch, _ = batched(rig, numbers(3))
    assert [handle.error.code for handle in batch] == [-32600] * 3


@both_drivers
def test_answers_of_their_own_say_more_than_the_status(driver: str) -> None:
    def each_failed(exchange: Exchange) -> Reply:
        return Reply(json.dumps([{"jsonrpc": "2.0", "id": id, "error": {"code": -1, "message": "no money"}} for id in exchange.ids]).encode(), 413)

    rig = Rig(driver, each_failed)
    batch, _ = batched(rig, numbers(2))
    assert [handle.error.code for handle in batch] == [-1, -1]
    nameless = Reply(b'[{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":""}}]', 413)
    rig = Rig(driver, nameless, answer, answer)
    assert batched(rig, numbers(2))[0].results() == [0, 1]


@both_drivers
def test_where_some_of_it_was_done_nothing_is_repeated(driver: str) -> None:
    def some(exchange: Exchange) -> Reply:
        return Reply(b'[{"jsonrpc":"2.0","id":1,"result":0},{"jsonrpc":"2.0","id":2,"error":{"code":-32600,"message":"batch too large"}}]')

    rig = Rig(driver, some, split_on={-32600})
    _batch, (a, b) = batched(rig, numbers(2))
    assert (a.result(), b.error.code) == (0, -32600)


@both_drivers
def test_one_part_fails_and_the_others_do_not(driver: str) -> None:
    rig = Rig(driver, answer, fresh(ConnectError("down")), answer, max_batch_size=2)
    _batch, handles = batched(rig, numbers(6))
    assert [handle.error is None for handle in handles] == [True, True, False, False, True, True]
    assert handles[2].error.delivery is Delivery.NOT_SENT
    rig = Rig(driver, *[fresh(ConnectError("down"))] * 3, max_batch_size=2)
    with pytest.raises(ConnectError):
        batched(rig, numbers(6))
    assert rig.sent == 3


@both_drivers
def test_the_deadline_is_that_of_all_parts(driver: str) -> None:
    rig = Rig(driver, Slow(3.0, answer), Slow(3.0, answer), answer, max_batch_size=2, deadline=5)
    _batch, handles = batched(rig, numbers(6))
    assert [type(handle.error) for handle in handles] == [type(None), type(None), *[DeadlineExceeded] * 4]
    assert [round(exchange.ends_by - 1000, 6) for exchange in rig.backend.exchanges] == [5, 5]
    assert handles[2].error.delivery is Delivery.MAYBE_EXECUTED
    assert handles[4].error.delivery is Delivery.NOT_SENT
    assert str(handles[4].error).startswith("batch of 2: the deadline of 5 s ended the call after 0 attempts in 5.00 s")


def keys_of(rig: Rig) -> list[str]:
    return [exchange.headers["Idempotency-Key"] for exchange in rig.backend.exchanges]


@both_drivers
def test_each_part_has_a_key_of_its_own(driver: str) -> None:
    rig = Rig(driver, *[at_most(1)] * 20, max_batch_size=2)
    batched(rig, numbers(4), _idempotency_key="k")
    keys = {}
    for exchange in rig.backend.exchanges:
        assert keys.setdefault(exchange.headers["Idempotency-Key"], exchange.body) == exchange.body
    assert len(keys) == len(rig.backend.exchanges)
    again = Rig(driver, *[at_most(1)] * 20, max_batch_size=2)
    batched(again, numbers(4), _idempotency_key="k")
    assert keys_of(again) == keys_of(rig)


@both_drivers
def test_retries_within_a_part(driver: str) -> None:
    def once(exchange: Exchange) -> Reply:
        return Reply(json.dumps([{"jsonrpc": "2.0", "id": id, "error": {"code": 7, "message": "later"}} for id in exchange.ids]).encode())

    rig = Rig(driver, once, answer, once, answer, max_batch_size=2, retry_strategy=RetryStrategy(codes={7}, backoff=PeriodicBackoff(attempts=1, interval=2)))
    batch, _ = batched(rig, numbers(4))
    assert batch.results() == [0, 1, 2, 3]
    assert rig.waits == [2, 2]
    assert [response.attempts for response in batch.responses] == [2] * 4


class Gauge:
    """A backend that takes a moment, and notes how many exchanges are under way at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.lock = threading.Lock()

    def enter(self) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def leave(self) -> None:
        with self.lock:
            self.now -= 1

    def exchange(self, exchange: Exchange) -> Reply:
        self.enter()
        time.sleep(0.01)
        self.leave()
        return answer(exchange)

    def close(self) -> None:
        pass


class AsyncGauge(Gauge):
    async def exchange(self, exchange: Exchange) -> Reply:  # type: ignore[override]
        self.enter()
        await asyncio.sleep(0.005)
        self.leave()
        return answer(exchange)

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize("concurrency", [1, 2, 4])
def test_parts_at_once(concurrency: int) -> None:
    gauge = Gauge()
    with Client(gauge, max_batch_size=2, batch_concurrency=concurrency) as client:
        with client.batch() as batch:
            numbers(16)(batch)
        assert batch.results() == list(range(16))
        assert gauge.most == concurrency

    async def main() -> None:
        agauge = AsyncGauge()
        async with AsyncClient(agauge, max_batch_size=2) as client:
            async with client.batch(concurrency=concurrency) as batch:
                numbers(16)(batch)
            assert batch.results() == list(range(16))
            assert agauge.most == concurrency
            responses = await client.send(BatchRequest(*(Request("m", [number]) for number in range(5))))
            assert responses.results == [0, 1, 2, 3, 4]

    asyncio.run(main())


def test_what_was_too_large_is_not_tried_again_after_a_late_answer() -> None:
    sizes: list[tuple[int, int]] = []

    class Backend:
        def __init__(self) -> None:
            self.second = asyncio.Event()

        async def exchange(self, exchange: Exchange, /) -> Reply:
            first, size = json.loads(exchange.body)[0]["params"][0], len(exchange.ids)
            sizes.append((first, size))
            if size == 1:
                # By now the first part knows that only single ones are taken; then the second part's 413 arrives.
                self.second.set()
            elif first == 8:
                await self.second.wait()
            await asyncio.sleep(0)
            return Reply(b"", 413) if size > 1 else Reply(json.dumps([{"jsonrpc": "2.0", "id": exchange.ids[0], "result": first}]).encode())

        async def aclose(self) -> None: ...

    async def act() -> None:
        async with AsyncClient(Backend(), max_batch_size=8, batch_concurrency=2) as client:
            async with client.batch() as batch:
                handles = [batch.call("work", number) for number in range(16)]
            assert [handle.result() for handle in handles] == list(range(16))

    asyncio.run(act())
    assert sizes[:5] == [(0, 8), (8, 8), (0, 4), (0, 2), (0, 1)]
    assert {size for _, size in sizes[5:]} == {1}


def test_a_cancel_ends_all_parts() -> None:
    async def main() -> None:
        agauge = AsyncGauge()
        client = AsyncClient(agauge, max_batch_size=1, batch_concurrency=4)

        async def send() -> None:
            async with client.batch() as batch:
                numbers(100)(batch)

        task = asyncio.create_task(send())
        await asyncio.sleep(0.002)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert agauge.most <= 4

    asyncio.run(main())


def test_an_interrupt_ends_all_parts() -> None:
    class Interrupted(Gauge):
        def exchange(self, exchange: Exchange) -> Reply:
            super().exchange(exchange)
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), Client(Interrupted(), max_batch_size=1, batch_concurrency=3).batch() as batch:
        numbers(30)(batch)
    for _ in range(100):
        if threading.active_count() == before:
            break
        time.sleep(0.005)
    assert threading.active_count() == before


@both_drivers
def test_metrics_count_each_part_as_a_call(driver: str) -> None:
    metrics = RetryMetrics()
    rig = Rig(driver, *[answer] * 3, max_batch_size=2, on_event=metrics)
    batched(rig, numbers(6))
    assert metrics.snapshot().calls == 3


@both_drivers
def test_a_codec_of_the_users(driver: str) -> None:
    class Spaced:
        def dumps(self, value: object) -> bytes:
            return json.dumps(value, indent=1).encode()

        def loads(self, body: bytes, charset: str | None) -> object:
            return json.loads(body)

    rig = Rig(driver, *[at_most(2)] * 20, codec=Spaced())
    batch, _ = batched(rig, lambda batch: [batch.call("m", f'",[{{"{number}') for number in range(7)])
    assert batch.results() == [f'",[{{"{number}' for number in range(7)]


@both_drivers
def test_what_is_sent_again_is_what_was_sent(driver: str) -> None:
    """Params that are changed meanwhile are not sent."""
    params = [1]

    def change(exchange: Exchange) -> Any:
        params[0] = 99
        return Reply(b'[{"jsonrpc":"2.0","id":1,"error":{"code":7,"message":""}},{"jsonrpc":"2.0","id":2,"result":0}]')

    rig = Rig(driver, change, answer, retry_strategy=RetryStrategy(codes={7}, backoff=PeriodicBackoff(attempts=1, interval=0)))
    _, (a, b) = batched(rig, lambda batch: (batch.send(Request("m", params)), batch.call("n", 2)))
    assert (a.result(), b.result()) == (1, 0)
