"""The contract of a layer, proven by layers that record, refuse and queue; and the two layers that every strategy has."""

from __future__ import annotations

import asyncio
import collections
import datetime
import email.utils
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Recorder, Rig, Slow, both_drivers, fresh

from rpcretry import (
    AsyncClient,
    BatchRequest,
    Client,
    ConnectError,
    ConnectionLostError,
    DeadlineExceeded,
    Delivery,
    HTTPStatusError,
    JsonRpcError,
    Layer,
    Outcome,
    Refused,
    Request,
    RequestTimeoutError,
    RetryStrategy,
)
from rpcretry.layers import Idempotency, RetryAfter, compose
from rpcretry.outcome import Attempt, Member, Parking, Retry, Stop, Wait
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import error, http, result
from rpcretry.transport import Exchange, Reply

lost = fresh(ConnectionLostError("reset"))


def every(attempts: int = 3, interval: float = 0.5, **kinds: Any) -> RetryStrategy:
    return RetryStrategy(backoff=PeriodicBackoff(attempts, interval), **kinds)


NAMED = every(exceptions={ConnectionError, TimeoutError}, codes={2001})


def stack(*layers: Recorder) -> tuple[list[str], tuple[Recorder, ...]]:
    log: list[str] = []
    for layer in layers:
        layer.log = log
    return log, layers


# --- the order ---


@both_drivers
def test_layers_are_admitted_outer_to_inner_and_judged_and_settled_inner_to_outer(driver: str) -> None:
    log, layers = stack(Recorder("outer"), Recorder("inner"))
    rig = Rig(driver, lost, result(5), retry_strategy=NAMED, layers=layers)
    assert rig.call("get") == 5
    assert log == [
        *("outer.admit", "inner.admit", "inner.judge", "outer.judge", "inner.settle", "outer.settle"),
        *("outer.admit", "inner.admit", "inner.settle", "outer.settle"),
    ]


@both_drivers
def test_settle_is_called_once_for_every_admitted_exchange_whatever_was_decided(driver: str) -> None:
    layer = Recorder()
    rig = Rig(driver, lost, error(2001), error(7), retry_strategy=NAMED, layers=layer)
    with pytest.raises(JsonRpcError):
        rig.call("get")
    assert (layer.count("admit"), layer.count("settle"), layer.count("abandon")) == (3, 3, 0)
    assert [type(outcomes[0].error) for outcomes in layer.outcomes] == [ConnectionLostError, JsonRpcError, JsonRpcError]
    # What a spender refunds by: the verdict is final in settle.
    assert layer.verdicts == [[Retry(0.5, "exception")], [Retry(0.5, "code")], [Stop("error")]]
    assert [attempt.number for attempt in layer.attempts] == [1, 2, 3]


@both_drivers
def test_a_layer_serves_a_client_without_a_strategy(driver: str) -> None:
    layer = Recorder()
    rig = Rig(driver, result(5), lost, layers=layer)
    assert rig.call("get") == 5
    with pytest.raises(ConnectionLostError):
        rig.call("get")
    assert layer.log == ["layer.admit", "layer.settle"] * 2
    assert layer.verdicts == [[Stop("ok")], [Stop("error")]]


@both_drivers
def test_judge_is_asked_for_each_member_that_would_go_again(driver: str) -> None:
    layer = Recorder()
    rig = Rig(driver, error(2001), result(1), retry_strategy=NAMED, layers=layer)
    rig.send(BatchRequest(Request("a"), Request("b")))
    assert layer.log == ["layer.admit", "layer.judge", "layer.judge", "layer.settle", "layer.admit", "layer.settle"]
    assert [len(attempt.members) for attempt in layer.attempts] == [2, 2]


@both_drivers
def test_the_attempt_tells_what_travels_and_until_when(driver: str) -> None:
    seen: list[Any] = []

    class Looker(Layer):
        def admit(self, attempt: Attempt, now: float) -> None:
            seen.append((attempt.number, attempt.operation, [(m.method, m.tries) for m in attempt.members], attempt.ends_by - now, now - 1_000))

    rig = Rig(driver, Slow(1, lost), result(5), retry_strategy=NAMED, layers=Looker(), timeout=2, deadline=3)
    rig.call("get")
    assert seen == [(1, "get", [("get", 0)], 2, 0), (2, "get", [("get", 1)], 1.5, 1.5)]


# --- judge ---


@both_drivers
@pytest.mark.parametrize(
    ("judgement", "waits", "answer"),
    [
        (lambda v: v, [0.5], 5),
        (lambda v: Retry(3.0, "longer"), [3.0], 5),
        (lambda v: Retry(0.1, "shorter"), [0.5], 5),
        (lambda v: Retry(-9.0, "shorter"), [0.5], 5),
        (lambda v: Retry(float("nan"), "nonsense"), [0.5], 5),
        (lambda v: Stop("no more"), [], None),
    ],
    ids=["same", "longer", "shorter", "negative", "NaN", "stop"],
)
def test_judge_may_lengthen_or_stop_and_never_the_reverse(driver: str, judgement: Any, waits: list[float], answer: Any) -> None:
    rig = Rig(driver, lost, result(5), retry_strategy=NAMED, layers=Recorder(judgement=judgement))
    if answer is None:
        with pytest.raises(ConnectionLostError) as caught:
            rig.call("get")
        assert caught.value.__notes__ == ["rpcretry: gave up after 1 attempt in 0.00 s (no more)"]
    else:
        assert rig.call("get") == answer
    assert rig.waits == waits


@both_drivers
def test_a_stop_of_an_inner_layer_is_not_undone_by_an_outer_one(driver: str) -> None:
    log, layers = stack(Recorder("outer", judgement=lambda v: Retry(0, "again")), Recorder("inner", judgement=lambda v: Stop("enough")))
    rig = Rig(driver, lost, retry_strategy=NAMED, layers=layers)
    with pytest.raises(ConnectionLostError):
        rig.call("get")
    assert "outer.judge" not in log


@both_drivers
@pytest.mark.parametrize(("raised", "verdict"), [(LookupError("bug"), Stop("error in the strategy")), (Refused("spent"), Stop("refused"))])
def test_judge_that_raises_ends_the_call_from_the_failure(driver: str, raised: Exception, verdict: Stop) -> None:
    def judgement(_: Retry) -> Retry:
        raise raised

    layer = Recorder(judgement=judgement)
    rig = Rig(driver, lost, retry_strategy=NAMED, layers=layer)
    with pytest.raises(type(raised)) as caught:
        rig.call("get")
    assert isinstance(caught.value.__cause__, ConnectionLostError)
    assert layer.verdicts == [[verdict]]
    assert layer.count("settle") == 1


# --- admit: refusals ---


@both_drivers
def test_a_refusal_at_the_first_attempt_is_raised_and_those_further_out_are_abandoned(driver: str) -> None:
    log, layers = stack(Recorder("outer"), Recorder("middle", waits=[Refused("full")]), Recorder("inner"))
    rig = Rig(driver, retry_strategy=every(exceptions={Exception}), layers=layers)
    with pytest.raises(Refused, match="full") as caught:
        rig.call("get")
    assert (caught.value.__cause__, caught.value.delivery, rig.sent) == (None, Delivery.NOT_SENT, 0)
    assert log == ["outer.admit", "middle.admit", "outer.abandon"]


@both_drivers
def test_a_refusal_later_is_raised_from_the_last_failure(driver: str) -> None:
    log, layers = stack(Recorder("outer"), Recorder("inner", waits=[None, Refused("open")]))
    rig = Rig(driver, lost, retry_strategy=every(exceptions={Exception}, wrap=True), layers=layers)
    with pytest.raises(Refused, match="open") as caught:
        rig.call("get")
    assert isinstance(caught.value.__cause__, ConnectionLostError)
    assert (rig.sent, log[-3:]) == (1, ["outer.admit", "inner.admit", "outer.abandon"])


@both_drivers
def test_a_refusal_in_a_batch_reaches_each_member_as_its_own_instance(driver: str) -> None:
    layer = Recorder(waits=[None, Refused("open")])
    rig = Rig(driver, error(2001), retry_strategy=NAMED, layers=layer)
    with pytest.raises(Refused):
        rig.send(BatchRequest(Request("a"), Request("b")))

    layer = Recorder(waits=[Refused("open")])
    rig = Rig(driver, result(1), retry_strategy=NAMED, layers=layer)
    with pytest.raises(Refused):
        rig.send(BatchRequest(Request("a"), Request("b")))
    assert rig.send(BatchRequest(Request("a"), Request("b"))).results == [1, 1]


@both_drivers
def test_a_refusal_of_a_part_of_a_batch_keeps_what_was_answered(driver: str) -> None:
    import json

    def half(exchange: Exchange) -> Reply:
        first, second, third = exchange.ids
        busy = {"error": {"code": 2001, "message": "x"}}
        return Reply(json.dumps([{"id": first, "result": 1}, {"id": second, **busy}, {"id": third, **busy}]).encode())

    rig = Rig(driver, half, retry_strategy=NAMED, layers=Recorder(waits=[None, Refused("open")]))
    response = rig.send(BatchRequest(Request("a"), Request("b"), Request("c")))
    assert response[0].result == 1
    for answer in response[1:]:
        assert isinstance(answer.error, Refused)
        assert isinstance(answer.error.__cause__, JsonRpcError)
    assert response[1].error is not response[2].error


@both_drivers
def test_a_refused_part_of_a_batch_leaves_the_members_that_wait(driver: str) -> None:
    import json

    def two(exchange: Exchange) -> Reply:
        first, second = exchange.ids
        return Reply(
            json.dumps(
                [
                    {"id": first, "error": {"code": 2001, "message": "x"}},
                    {"id": second, "error": {"code": 2001, "message": "x", "data": {"retry_after": 9}}},
                ]
            ).encode()
        )

    rig = Rig(driver, two, result("late"), retry_strategy=NAMED, layers=Recorder(waits=[None, Refused("open"), None]))
    response = rig.send(BatchRequest(Request("a"), Request("b")))
    assert isinstance(response[0].error, Refused)
    assert response[1].result == "late"


@both_drivers
def test_an_admit_with_a_bug_raises_it_and_abandons(driver: str) -> None:
    log, layers = stack(Recorder("outer"), Recorder("inner", waits=[LookupError("bug")]))
    rig = Rig(driver, result(5), retry_strategy=NAMED, layers=layers)
    with pytest.raises(LookupError, match="bug"):
        rig.call("get")
    # The layer that raised cleans up after itself, as one that refuses does.
    assert log == ["outer.admit", "inner.admit", "outer.abandon"]
    assert rig.call("get") == 5


class Clumsy(Layer):
    def settle(self, attempt: Attempt, outcomes: Sequence[Outcome], now: float) -> None:
        raise LookupError("bug in settle")

    def abandon(self, attempt: Attempt, now: float) -> None:
        raise LookupError("bug in abandon")


@both_drivers
def test_settle_and_abandon_with_a_bug_are_logged_and_keep_nobody_from_theirs(driver: str, caplog: pytest.LogCaptureFixture) -> None:
    outer, inner = Recorder("outer"), Recorder("inner", waits=[None, Refused("full")])
    rig = Rig(driver, result(5), layers=[outer, Clumsy(), inner])
    with caplog.at_level(logging.ERROR, "rpcretry"):
        assert rig.call("get") == 5
        with pytest.raises(Refused):
            rig.call("get")
    assert [record.message for record in caplog.records] == ["Clumsy.settle raised", "Clumsy.abandon raised"]
    assert (outer.count("settle"), outer.count("abandon")) == (1, 1)


# --- admit: waits ---


@both_drivers
def test_a_wait_is_waited_for_and_the_layer_is_asked_again(driver: str) -> None:
    log, layers = stack(Recorder("outer"), Recorder("inner", waits=[lambda a, now: Wait(now + 2, "rate"), lambda a, now: Wait(now + 1, "rate")]))
    rig = Rig(driver, result(5), layers=layers)
    assert rig.call("get") == 5
    assert rig.waits == [2.0, 1.0]
    assert log == ["outer.admit", "inner.admit", "inner.admit", "inner.admit", "inner.settle", "outer.settle"]
    assert len({id(attempt) for attempt in layers[1].attempts}) == 1


@both_drivers
def test_a_wait_begins_no_limit_of_the_attempt(driver: str) -> None:
    rig = Rig(driver, result(5), layers=Recorder(waits=[lambda a, now: Wait(now + 100)]), timeout=2)
    rig.call("get")
    assert rig.backend.exchanges[0].ends_by == 1_102


@both_drivers
@pytest.mark.parametrize("until", [3.0, 3.5, math.inf])
def test_the_engine_clamps_every_wait_to_the_deadline(driver: str, until: float) -> None:
    def admit(attempt: Attempt, now: float) -> Wait:
        return Wait(now + until)

    layer = Recorder(waits=[admit])
    rig = Rig(driver, result(5), layers=layer, deadline=3.0)
    with pytest.raises(RuntimeError if until == math.inf else DeadlineExceeded):
        rig.call("get")
    assert (rig.sent, rig.waits) == (0, [])
    assert layer.log == ["layer.admit", "layer.abandon"]


@both_drivers
def test_a_wait_that_uses_up_the_deadline_in_pieces_ends_with_it(driver: str) -> None:
    layer = Recorder(waits=[lambda a, now: Wait(now + 2)] * 9)
    rig = Rig(driver, lost, retry_strategy=NAMED, layers=layer, deadline=5)
    with pytest.raises(DeadlineExceeded) as caught:
        rig.call("get")
    assert (rig.waits, caught.value.attempts, caught.value.delivery) == ([2.0, 2.0], 0, Delivery.NOT_SENT)
    assert layer.count("abandon") == 1


@both_drivers
def test_a_wait_without_an_end_and_without_a_wake_is_a_bug_that_is_named(driver: str) -> None:
    layer = Recorder("x", waits=[Wait(math.inf)])
    rig = Rig(driver, result(5), layers=layer)
    with pytest.raises(RuntimeError, match=r"Recorder.admit returned Wait\(inf\) without attempt.park\(\)"):
        rig.call("get")
    assert layer.log == ["x.admit", "x.abandon"]
    assert rig.call("get") == 5


@both_drivers
def test_a_wait_in_the_past_moves_the_clock_all_the_same(driver: str) -> None:
    """A bucket that waits until its token is there may ask for less than the clock can tell."""
    rig = Rig(driver, result(5), layers=Recorder(waits=[lambda a, now: Wait(now - 3), lambda a, now: Wait(now)]))
    assert rig.call("get") == 5
    assert rig.waits == pytest.approx([0, 0], abs=1e-5)


# --- park ---


def test_parking_keeps_a_wake_that_comes_before_the_wait() -> None:
    parking, woken = Parking(), []
    parking.wake()
    parking.wake()
    parking.on_wake(lambda: woken.append(1))
    assert woken == [1]


def test_parking_calls_back_once_and_outside_of_its_lock() -> None:
    parking, woken = Parking(), []

    def wake_again() -> None:
        woken.append(1)
        parking.wake()

    parking.on_wake(wake_again)
    for thread in [threading.Thread(target=parking.wake) for _ in range(20)]:
        thread.start()
    parking.wake()
    assert woken == [1]


@both_drivers
def test_a_wake_before_the_wait_begins_is_not_lost(driver: str) -> None:
    def admit(attempt: Attempt, now: float) -> Wait:
        attempt.park()()
        return Wait(math.inf, "queue")

    layer = Recorder(waits=[admit])
    rig = Rig(driver, result(5), layers=layer)
    assert rig.call("get") == 5
    assert layer.log == ["layer.admit", "layer.admit", "layer.settle"]


@both_drivers
def test_a_stale_wake_of_an_earlier_wait_does_nothing(driver: str) -> None:
    """A layer asked again parks anew; the old wake is another's."""
    wakes: list[Callable[[], None]] = []

    def admit(attempt: Attempt, now: float) -> Wait:
        wakes.append(attempt.park())
        wakes[-1]()
        return Wait(math.inf)

    def stale(attempt: Attempt, now: float) -> Wait:
        wakes[0]()
        return Wait(now + 3)

    rig = Rig(driver, result(5), layers=Recorder(waits=[admit, stale]))
    assert rig.call("get") == 5
    assert rig.waits == [3.0]


@both_drivers
def test_a_parked_attempt_is_woken_from_another_thread(driver: str) -> None:
    def admit(attempt: Attempt, now: float) -> Wait:
        threading.Timer(0.005, attempt.park()).start()
        return Wait(math.inf)

    rig = Rig(driver, result(5), layers=Recorder(waits=[admit]))
    assert rig.call("get") == 5


@both_drivers
@pytest.mark.parametrize("until", [0.01, math.inf])
def test_a_parked_attempt_that_nobody_wakes_ends_with_its_wait_or_the_deadline(driver: str, until: float) -> None:
    """The one wait that takes real time: a wake comes from outside of the virtual one."""

    def admit(attempt: Attempt, now: float) -> Wait:
        attempt.park()
        return Wait(now + until)

    layer = Recorder(waits=[admit])
    rig = Rig(driver, result(5), layers=layer, deadline=0.03)
    if until == math.inf:
        with pytest.raises(DeadlineExceeded):
            rig.call("get")
        assert layer.log == ["layer.admit", "layer.abandon"]
    else:
        assert rig.call("get") == 5
        assert layer.log == ["layer.admit", "layer.admit", "layer.settle"]


class Turnstile(Layer):
    """Lets *limit* attempts out at a time and queues the others, first come, first served."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.inside: set[Attempt] = set()
        self.queue: collections.OrderedDict[Attempt, Callable[[], None]] = collections.OrderedDict()
        self.lock = threading.Lock()
        self.most = 0
        self.waited = 0

    def admit(self, attempt: Attempt, now: float) -> Wait | None:
        with self.lock:
            ahead = next(iter(self.queue), attempt)
            if len(self.inside) < self.limit and ahead is attempt:
                self.queue.pop(attempt, None)
                self.inside.add(attempt)
                self.most = max(self.most, len(self.inside))
                following = self._next()
            else:
                self.queue[attempt] = attempt.park()
                self.waited += 1
                return Wait(math.inf, "queue")
        if following is not None:
            following()
        return None

    def settle(self, attempt: Attempt, outcomes: Sequence[Outcome], now: float) -> None:
        self.abandon(attempt, now)

    def abandon(self, attempt: Attempt, now: float) -> None:
        with self.lock:
            self.inside.discard(attempt)
            self.queue.pop(attempt, None)
            following = self._next()
        if following is not None:
            following()

    def _next(self) -> Callable[[], None] | None:
        if len(self.inside) >= self.limit or not self.queue:
            return None
        return next(iter(self.queue.values()))


def test_a_layer_that_queues_holds_threads_back() -> None:
    turnstile = Turnstile(3)
    flying, most, lock = 0, 0, threading.Lock()
    gate = threading.Event()

    class Busy:
        def exchange(self, exchange: Exchange, /) -> Reply:
            nonlocal flying, most
            with lock:
                flying += 1
                most = max(most, flying)
            gate.wait(10)
            with lock:
                flying -= 1
            return Reply(b'{"jsonrpc":"2.0","id":%d,"result":0}' % exchange.ids[0])

        def close(self) -> None: ...

    client = Client(Busy(), layers=turnstile, timeout=None)
    threads = [threading.Thread(target=client.call, args=("m",)) for _ in range(20)]
    for thread in threads:
        thread.start()
    until(lambda: len(turnstile.queue) == 17)
    gate.set()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert (most, turnstile.most, flying) == (3, 3, 0)
    assert turnstile.waited >= 17
    assert (turnstile.inside, dict(turnstile.queue)) == (set(), {})


def until(true: Callable[[], bool]) -> None:
    """Spin until another thread got there; it takes as long as the thread needs and no longer."""
    ends = time.monotonic() + 10
    while not true():
        assert time.monotonic() < ends, "the other thread never got there"
        time.sleep(0.0005)


def test_a_layer_that_queues_holds_tasks_back_in_the_order_of_their_coming() -> None:
    turnstile = Turnstile(2)
    order: list[int] = []

    class Busy:
        async def exchange(self, exchange: Exchange, /) -> Reply:
            order.append(exchange.ids[0])  # type: ignore[arg-type]
            await asyncio.sleep(0)
            return Reply(b'{"jsonrpc":"2.0","id":%d,"result":0}' % exchange.ids[0])

        async def aclose(self) -> None: ...

    async def main() -> None:
        client = AsyncClient(Busy(), layers=turnstile, timeout=None)
        await asyncio.gather(*[client.call("m") for _ in range(30)])

    asyncio.run(main())
    assert (turnstile.most, turnstile.inside, dict(turnstile.queue)) == (2, set(), {})
    assert turnstile.waited >= 28
    assert order == list(range(1, 31))


def test_one_layer_may_serve_threads_and_tasks_at_once() -> None:
    turnstile = Turnstile(1)

    class Quick:
        def exchange(self, exchange: Exchange, /) -> Reply:
            return Reply(b'{"jsonrpc":"2.0","id":%d,"result":0}' % exchange.ids[0])

        def close(self) -> None: ...

    class AsyncQuick:
        async def exchange(self, exchange: Exchange, /) -> Reply:
            await asyncio.sleep(0)
            return Reply(b'{"jsonrpc":"2.0","id":%d,"result":0}' % exchange.ids[0])

        async def aclose(self) -> None: ...

    sync = Client(Quick(), layers=turnstile)

    async def main() -> None:
        client = AsyncClient(AsyncQuick(), layers=turnstile)
        await asyncio.gather(*[client.call("m") for _ in range(40)])

    threads = [threading.Thread(target=lambda: [sync.call("m") for _ in range(20)]) for _ in range(4)]
    threads.append(threading.Thread(target=lambda: asyncio.run(main())))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert (turnstile.most, turnstile.inside, dict(turnstile.queue)) == (1, set(), {})


def test_a_parked_task_that_is_cancelled_leaves_the_queue_and_the_others_go_on() -> None:
    turnstile = Turnstile(1)
    blocked: list[asyncio.Event] = []

    class Busy:
        async def exchange(self, exchange: Exchange, /) -> Reply:
            if not blocked:
                blocked.append(asyncio.Event())
                await blocked[0].wait()
            return Reply(b'{"jsonrpc":"2.0","id":%d,"result":0}' % exchange.ids[0])

        async def aclose(self) -> None: ...

    async def main() -> None:
        client = AsyncClient(Busy(), layers=turnstile, timeout=None)
        tasks = [asyncio.create_task(client.call("m")) for _ in range(4)]
        while len(turnstile.queue) < 3:
            await asyncio.sleep(0)
        # The head of the queue goes: the wake that it will not use must reach the next.
        tasks[1].cancel()
        tasks[3].cancel()
        blocked[0].set()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(end) for end in ended] == [int, asyncio.CancelledError, int, asyncio.CancelledError]

    asyncio.run(main())
    assert (turnstile.inside, dict(turnstile.queue)) == (set(), {})


def test_a_wake_and_a_cancel_in_the_same_turn_lose_neither() -> None:
    turnstile = Turnstile(1)
    first: list[asyncio.Event] = []

    class Busy:
        async def exchange(self, exchange: Exchange, /) -> Reply:
            if not first:
                first.append(asyncio.Event())
                await first[0].wait()
            return Reply(b'{"jsonrpc":"2.0","id":%d,"result":0}' % exchange.ids[0])

        async def aclose(self) -> None: ...

    async def main() -> None:
        client = AsyncClient(Busy(), layers=turnstile, timeout=None)
        tasks = [asyncio.create_task(client.call("m")) for _ in range(3)]
        while len(turnstile.queue) < 2:
            await asyncio.sleep(0)
        head = next(iter(turnstile.queue.values()))
        head()
        tasks[1].cancel()
        first[0].set()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(end) for end in ended] == [int, asyncio.CancelledError, int]

    asyncio.run(main())
    assert (turnstile.inside, dict(turnstile.queue)) == (set(), {})


def test_a_wake_after_the_loop_is_gone_does_no_harm() -> None:
    kept: list[Callable[[], None]] = []

    def admit(attempt: Attempt, now: float) -> Wait:
        kept.append(attempt.park())
        return Wait(math.inf)

    rig = Rig("async", layers=Recorder(waits=[admit]), deadline=0.005)
    with pytest.raises(DeadlineExceeded):
        rig.call("get")
    kept[0]()


# --- compose ---


def test_compose_puts_retry_after_and_idempotency_innermost() -> None:
    strategy, own = RetryStrategy(), Recorder()
    layers = compose(strategy, [own])
    assert [type(layer) for layer in layers] == [Recorder, RetryAfter, Idempotency]
    assert compose(None, [own]) == (own,)
    mine = RetryAfter(max_delay=1)
    assert [type(layer) for layer in compose(strategy, [mine, own])] == [RetryAfter, Recorder, Idempotency]


@pytest.mark.parametrize(("bad", "words"), [(Recorder, ["layers", "Recorder()"]), (5, ["layers", "5"]), (lambda: None, ["layers", "lambda"])])
def test_compose_refuses_what_is_no_layer(bad: Any, words: list[str]) -> None:
    with pytest.raises(TypeError) as caught:
        compose(None, [bad])
    for word in words:
        assert word in str(caught.value)


@both_drivers
def test_a_retry_after_of_the_users_stands_in_for_the_usual_one(driver: str) -> None:
    rig = Rig(driver, http(429, headers={"Retry-After": "600"}), result(5), retry_strategy=every(), layers=RetryAfter(max_delay=300))
    assert rig.call("get") == 5
    assert rig.waits == [300.0]


@both_drivers
def test_what_must_not_be_repeated_spends_nothing_of_an_outer_layer(driver: str) -> None:
    layer = Recorder()
    rig = Rig(driver, lost, retry_strategy=every(), layers=layer)
    with pytest.raises(ConnectionLostError):
        rig.call("get")
    assert layer.count("judge") == 0


# --- Retry-After ---

NOW = datetime.datetime(2024, 2, 29, 12, 0, 0, tzinfo=datetime.UTC).timestamp()


def hint(header: str | None = None, data: Any = None, *, headers: Any = None) -> float | None:
    fields = headers if headers is not None else {} if header is None else {"Retry-After": header}
    layer = RetryAfter(wall_clock=lambda: NOW)
    if data is None:
        return layer.hint(Outcome(error=HTTPStatusError("x", status=503, headers=fields)))
    return layer.hint(Outcome(error=JsonRpcError("x", code=1, data=data, headers=fields)))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("120", 120.0),
        ("Thu, 29 Feb 2024 12:00:30 GMT", 30.0),
        ("Thu, 29 Feb 2024 11:59:30 GMT", 0.0),
        ("Thursday, 29-Feb-24 12:00:30 GMT", 30.0),
        ("Thu Feb 29 12:00:30 2024", 30.0),
        ("Thu, 29 Feb 2024 12:00:30", 30.0),
        ("Thu, 29 Feb 2024 12:00:30 -0000", 30.0),
        ("Thu, 29 Feb 2024 13:00:30 +0100", 30.0),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("1e3", None),
        ("nan", None),
        ("inf", None),
        ("٣", None),
        ("99999999999999999999", None),
        ("5, 10", None),
        ("Thu, 99 Feb 2024 12:00:30 GMT", None),
        ("Thu, 29 Feb 99999 12:00:30 GMT", None),
        ("1706745600", None),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_retry_after_in_seconds_or_as_an_http_date(header: str, seconds: float | None, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A date without a zone is GMT, as HTTP says, wherever the client lives."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert hint(header) == seconds
    finally:
        monkeypatch.undo()
        time.tzset()


def test_trap_retry_after_is_in_seconds() -> None:
    """ethers reads it as milliseconds."""
    assert hint("2") == 2.0
    assert hint(data={"retry_after": 2}) == 2.0


@pytest.mark.parametrize("headers", [{"retry-after": "3"}, {"RETRY-AFTER": "3"}, {"Retry-After": "3"}])
def test_the_names_of_headers_come_in_any_case(headers: dict[str, str]) -> None:
    assert hint(headers=headers) == 3.0


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        ({"retry_after": 4}, 4.0),
        ({"retryAfter": 4.5}, 4.5),
        ({"retry-after": "4"}, 4.0),
        ({"try_again_in": "684ms"}, 0.684),
        ({"try_again_in": "1.5s"}, 1.5),
        ({"try_again_in": "2m"}, 120.0),
        ({"rate": {"backoff_seconds": 30, "allowed_rps": 1}}, 30.0),
        ({"rate": {"rate": {"retry_after": 30}}}, None),
        ({"retry_after": -1}, None),
        ({"retry_after": True}, None),
        ({"retry_after": float("nan")}, None),
        ({"retry_after": float("inf")}, None),
        ({"retry_after": 10**400}, None),
        ({"retry_after": None, "retryAfter": 3}, 3.0),
        ({"retry_after": "soon"}, None),
        ({"retry_after": [4]}, None),
        ({"rate": "fast"}, None),
        ("4", None),
        (4, None),
        ([4], None),
        ({}, None),
    ],
)
def test_hints_in_error_data(data: Any, seconds: float | None) -> None:
    found = hint(data=data)
    assert found == (seconds if seconds is None else pytest.approx(seconds))


def test_a_header_counts_before_data() -> None:
    assert hint("2", {"retry_after": 9}) == 2.0
    assert hint("soon", {"retry_after": 9}) == 9.0


hints = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.dictionaries(st.sampled_from(["retry_after", "rate", "try_again_in"]), inner),
)


@given(st.text(max_size=40), hints)
def test_no_hint_of_a_server_raises_or_is_no_delay(header: str, data: Any) -> None:
    found = hint(header, {"rate": data, "retry_after": data})
    assert found is None or (math.isfinite(found) and found >= 0)


def judged(layer: Layer, outcome: Outcome, verdict: Retry, *, notification: bool = False) -> Retry | Stop:
    member = Member(Request("get", id=None if notification else 1))
    return layer.judge(Attempt(1, [member], math.inf, "get"), member, outcome, verdict, 0.0)


@pytest.mark.parametrize(
    ("asked", "delay", "expected"),
    [
        ("7", 0.5, Retry(7.0, "status, the server asks for 7 s", True)),
        ("7", 9.0, Retry(9.0, "status")),
        ("7", 7.0, Retry(7.0, "status")),
        ("600", 0.5, Retry(60.0, "status, the server asks for 600 s", True)),
        ("600", 80.0, Retry(80.0, "status")),
        ("soon", 0.5, Retry(0.5, "status")),
    ],
)
def test_retry_after_raises_the_delay_and_is_capped(asked: str, delay: float, expected: Retry) -> None:
    outcome = Outcome(error=HTTPStatusError("x", status=429, headers={"retry-after": asked}))
    assert judged(RetryAfter(), outcome, Retry(delay, "status")) == expected


@pytest.mark.parametrize(
    ("make", "kind", "word"),
    [
        (lambda: RetryAfter(max_delay=-1), ValueError, "max_delay"),
        (lambda: RetryAfter(max_delay="1"), TypeError, "max_delay"),  # type: ignore[arg-type]
        (lambda: RetryAfter(wall_clock=5), TypeError, "wall_clock"),  # type: ignore[arg-type]
    ],
)
def test_retry_after_refuses_bad_parameters(make: Any, kind: type[Exception], word: str) -> None:
    with pytest.raises(kind, match=word):
        make()


def test_the_usual_wall_clock_is_the_wall_clock() -> None:
    later = email.utils.formatdate(time.time() + 100, usegmt=True)
    found = RetryAfter().hint(Outcome(error=HTTPStatusError("x", status=503, headers={"Retry-After": later})))
    assert found is not None
    assert 95 < found <= 100


# --- idempotency ---

PRESET = RetryStrategy()
NAMES = RetryStrategy(exceptions={OSError})
GUARDED = RetryStrategy(exceptions={OSError}, idempotent={"put"})
SAFE = RetryStrategy(idempotent={"get"})
MAYBE = ConnectionLostError("x")
UNSENT = ConnectError("x")
REJECTED = HTTPStatusError("x", status=429, delivery=Delivery.REJECTED)
PROVEN = RequestTimeoutError("x", delivery=Delivery.NOT_SENT)
# As the codec makes it, of a 429 around a JSON-RPC error.
REFUSED = JsonRpcError("x", code=1, status=429)
REFUSED.delivery = Delivery.REJECTED


@pytest.mark.parametrize(
    ("strategy", "failure", "reason", "again", "notified_again"),
    [
        (PRESET, MAYBE, "exception", False, False),
        (PRESET, UNSENT, "exception", True, True),
        (PRESET, REJECTED, "status", True, True),
        (PRESET, PROVEN, "exception", True, True),
        (PRESET, JsonRpcError("x", code=429), "code", True, True),
        (PRESET, REFUSED, "status", True, True),
        (PRESET, JsonRpcError("x", code=1, status=503), "status", False, False),
        (NAMES, MAYBE, "exception", True, False),
        (NAMES, UNSENT, "exception", True, True),
        (GUARDED, MAYBE, "exception", False, False),
        (GUARDED, UNSENT, "exception", True, True),
        (SAFE, MAYBE, "exception", True, False),
        (SAFE, LookupError("x"), "when", True, False),
        (PRESET, LookupError("x"), "when", False, False),
        (SAFE, None, "when", True, False),
    ],
)
def test_what_the_server_may_have_done_decides(strategy: RetryStrategy, failure: Exception | None, reason: str, again: bool, notified_again: bool) -> None:
    verdict = Retry(0.5, reason)
    layer = Idempotency(strategy)
    assert isinstance(judged(layer, Outcome(error=failure), verdict), Retry) is again
    assert isinstance(judged(layer, Outcome(error=failure), verdict, notification=True), Retry) is notified_again
