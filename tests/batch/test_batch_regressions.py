"""What reviews of batches found, and what must not come back."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import Any

import pytest

import rpcretry
from rpcretry import (
    LAST_GOOD,
    BatchRequest,
    BatchUnfinishedError,
    CircuitBreaker,
    CircuitOpenError,
    Client,
    ConnectError,
    ConnectionLostError,
    DeadlineExceeded,
    Delivery,
    Fallback,
    ProtocolError,
    Request,
    RetryExhaustedError,
    RetryStrategy,
)
from rpcretry.events import CallFailed
from rpcretry.retry import ImmediateBackoff, PeriodicBackoff
from rpcretry.testing import ScriptedBackend, http, result
from rpcretry.transport import Exchange, Reply
from tests.batch.batch_rig import batched, opened
from tests.support import Rig, Slow, both_drivers, fresh


def answers(exchange: Exchange) -> Reply:
    return Reply(json.dumps([{"jsonrpc": "2.0", "id": id, "result": id} for id in exchange.ids]).encode())


class Keyed:
    """A server that executes each idempotency key once. What *faults* holds for an exchange's number happens after that, or instead.

    :ivar executed: how often each id was executed.
    """

    def __init__(self, faults: dict[int, Any]) -> None:
        self.faults = faults
        self.count = 0
        self.keys: set[str] = set()
        self.executed: dict[Any, int] = {}

    def __call__(self, exchange: Exchange) -> Any:
        self.count += 1
        fault = self.faults.get(self.count)
        if callable(fault):
            return fault(exchange)
        key = (exchange.headers or {})["Idempotency-Key"]
        if key not in self.keys:
            self.keys.add(key)
            for id in exchange.ids:
                self.executed[id] = self.executed.get(id, 0) + 1
        return fault if fault is not None else answers(exchange)


def slow_down(exchange: Exchange) -> Reply:
    """A hint of another length for each."""
    busy = [{"id": id, "error": {"code": -32005, "message": "", "data": {"retry_after": id}}} for id in exchange.ids]
    return Reply(json.dumps(busy).encode(), 429)


def too_large(exchange: Exchange) -> Reply:
    return Reply(b"", 413)


def four(batch: Any) -> None:
    for number in range(4):
        batch.call("pay", number)


STRATEGY = RetryStrategy(backoff=PeriodicBackoff(attempts=3, interval=0.1))


@both_drivers
@pytest.mark.parametrize("second", [too_large, slow_down])
def test_what_may_have_been_executed_under_a_key_is_not_cut(driver: str, second: Any) -> None:
    server = Keyed({1: ConnectionLostError("reset"), 2: second})
    rig = Rig(driver, *[server] * 9, idempotency_key=True, retry_strategy=STRATEGY)
    with contextlib.suppress(rpcretry.RpcRetryError):
        batched(rig, four)
    assert server.executed == {1: 1, 2: 1, 3: 1, 4: 1}


def test_a_keyed_part_is_not_cut_by_the_413_of_another() -> None:
    lock, lost = threading.Lock(), [ConnectionLostError("reset")]
    keys: set[str] = set()
    executed: dict[Any, int] = {}

    class Backend:
        def exchange(self, exchange: Exchange) -> Reply:
            if exchange.ids == (5, 6, 7, 8):
                time.sleep(0.02)
                return Reply(b"", 413)
            with lock:
                key = (exchange.headers or {})["Idempotency-Key"]
                if key not in keys:
                    keys.add(key)
                    for id in exchange.ids:
                        executed[id] = executed.get(id, 0) + 1
                if 1 in exchange.ids and lost:
                    raise lost.pop()
            return answers(exchange)

        def close(self) -> None:
            pass

    strategy = RetryStrategy(backoff=PeriodicBackoff(attempts=2, interval=0.04))
    with Client(Backend(), retry_strategy=strategy, idempotency_key=True, max_batch_size=4, batch_concurrency=2) as client:
        with client.batch() as batch:
            for number in range(8):
                batch.call("pay", number)
    assert batch.results() == list(range(1, 9))
    assert set(executed.values()) == {1}


@both_drivers
@pytest.mark.parametrize("lose", [1, 2])
def test_a_keyed_half_goes_again_whichever_it_is(driver: str, lose: int) -> None:
    script = [too_large, *[result("ok")] * 3]
    script.insert(lose, fresh(ConnectionLostError("reset")))
    rig = Rig(driver, *script, idempotency_key=True, retry_strategy=STRATEGY)
    batch, _ = batched(rig, four)
    assert batch.results() == ["ok"] * 4
    by_key: dict[str, bytes] = {}
    for exchange in rig.backend.exchanges:
        assert by_key.setdefault(exchange.headers["Idempotency-Key"], exchange.body) == exchange.body


@both_drivers
def test_a_last_good_result_is_of_the_type_that_the_handle_asks_for(driver: str) -> None:
    rig = Rig(driver, result("41"), http(500), http(500), fallback=Fallback(LAST_GOOD))
    _, handle = batched(rig, lambda batch: batch.call("get", 1, _result=int))
    assert handle.result() == 41
    with pytest.raises(rpcretry.HTTPStatusError):
        rig.call("get", 1)
    assert rig.call("get", 1, _result=int) == 41
    rig = Rig(driver, result("41"), http(500), fallback=Fallback(LAST_GOOD))
    rig.call("get", 1)
    with pytest.raises(rpcretry.HTTPStatusError):
        batched(rig, lambda batch: batch.call("get", 1, _result=int))


def cut_short(exchange: Exchange) -> Reply:
    return Reply(b'[{"jsonrpc":"2.0","id":%d,"res' % exchange.ids[0])


@both_drivers
@pytest.mark.parametrize("size", [None, 1, 2, 3])
@pytest.mark.parametrize(
    ("item", "options", "kind"),
    [
        (Slow(0.4, ConnectError("refused")), {"deadline": 1, "retry_strategy": RetryStrategy(backoff=PeriodicBackoff(9, 0.3))}, DeadlineExceeded),
        (Slow(0.4, ConnectError("refused")), {"retry_strategy": RetryStrategy(backoff=lambda: iter([0.1, 0.2]), wrap=True)}, RetryExhaustedError),
        (Slow(0.4, ConnectError("refused")), {}, ConnectError),
        (cut_short, {}, ProtocolError),
        (http(500), {}, rpcretry.HTTPStatusError),
    ],
    ids=["deadline", "wrap", "refused", "cut", "500"],
)
def test_a_batch_that_fails_as_a_whole_raises_in_parts_too(driver: str, size: int | None, item: Any, options: dict[str, Any], kind: type[Exception]) -> None:
    rig = Rig(driver, *[item] * 50, max_batch_size=size, **options)
    _, problem = opened(rig, four)
    assert type(problem) is kind
    rig = Rig(driver, *[item] * 50, max_batch_size=size, **options)
    with pytest.raises(kind):
        rig.send(BatchRequest(*(Request("pay", [number]) for number in range(4))))


@both_drivers
def test_an_open_circuit_turns_all_parts_away(driver: str) -> None:
    rig = Rig(driver, http(500), layers=CircuitBreaker(failure_threshold=1), max_batch_size=1)
    with pytest.raises(rpcretry.HTTPStatusError):
        rig.call("m")
    _, problem = opened(rig, four)
    assert isinstance(problem, CircuitOpenError)
    assert rig.sent == 1


@both_drivers
def test_what_was_left_out_of_each_part_is_each_ones_failure(driver: str) -> None:
    rig = Rig(driver, *[Reply(b"[]")] * 4, max_batch_size=2)
    batch, problem = opened(rig, four)
    assert problem is None
    assert len({str(handle.error) for handle in batch}) == 4


@both_drivers
@pytest.mark.parametrize("concurrency", [1, 2])
def test_an_interrupt_leaves_the_answers_that_were_there(driver: str, concurrency: int) -> None:
    def play(exchange: Exchange) -> Any:
        if 5 in exchange.ids:
            raise KeyboardInterrupt
        return answers(exchange)

    rig = Rig(driver, *[play] * 9, max_batch_size=2)
    batch, problem = opened(rig, lambda batch: [batch.call("pay") for _ in range(10)], concurrency=concurrency)
    assert isinstance(problem, KeyboardInterrupt)
    handles = list(batch)
    assert [handle.result() for handle in handles[:4]] == [1, 2, 3, 4]
    for handle in handles[4:6]:
        with pytest.raises(BatchUnfinishedError) as caught:
            handle.result()
        assert caught.value.delivery is Delivery.MAYBE_EXECUTED
    if concurrency == 1:
        for handle in handles[6:]:
            with pytest.raises(BatchUnfinishedError, match="before this part of it was sent") as caught:
                handle.result()
            assert caught.value.delivery is Delivery.NOT_SENT
    with pytest.raises(ExceptionGroup):
        batch.results()
    assert handles[0] in batch.succeeded


def test_an_interrupt_at_the_end_is_not_hidden_by_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("rpcretry.drivers._sync.in_order", interrupted)
    batch, problem = opened(Rig("sync", fresh(ConnectError("down"))), four)
    assert isinstance(problem, KeyboardInterrupt)
    assert all(isinstance(handle.error, ConnectError) for handle in batch)


def test_leaving_twice_sends_once() -> None:
    rig = Rig("sync", result(1))
    batch = rig.client.batch()
    batch.__enter__()
    handle = batch.call("m")
    batch.__exit__(None, None, None)
    batch.__exit__(None, None, None)
    assert (rig.sent, handle.result()) == (1, 1)


@both_drivers
@pytest.mark.parametrize("ending", [b"\n", b"  \r\n"])
def test_a_codec_that_ends_with_a_line_break(driver: str, ending: bytes) -> None:
    class Breaking:
        def dumps(self, value: object) -> bytes:
            return json.dumps(value).encode() + ending

        def loads(self, body: bytes, charset: str | None) -> object:
            return json.loads(body)

    rig = Rig(driver, too_large, *[result("ok")] * 4, codec=Breaking())
    assert batched(rig, four)[0].results() == ["ok"] * 4
    rig = Rig(driver, *[result("ok")] * 4, codec=Breaking(), max_batch_size=1)
    assert batched(rig, four)[0].results() == ["ok"] * 4


@both_drivers
def test_a_handle_does_not_keep_the_body_of_all(driver: str) -> None:
    def large(exchange: Exchange) -> Reply:
        return Reply(json.dumps([{"jsonrpc": "2.0", "id": id, "result": 0, "more": "x" * 10_000} for id in exchange.ids]).encode())

    for options in ({}, {"retry_strategy": STRATEGY, "layers": CircuitBreaker()}):
        rig = Rig(driver, large, **options)  # type: ignore[arg-type]
        batch, _ = batched(rig, four)
        assert not any(outcome._reply.body for outcome, _ in batch._all())


def test_the_reason_that_is_told_of_a_batch_is_that_of_the_error_that_is_told() -> None:
    codes = {1: 2002, 2: 2001}

    def refuses(exchange: Exchange) -> Reply:
        return Reply(json.dumps([{"jsonrpc": "2.0", "id": id, "error": {"code": codes[id], "message": "no"}} for id in exchange.ids]).encode())

    told: list[CallFailed] = []

    class Sink:
        wants = (CallFailed,)

        def __call__(self, event: CallFailed) -> None:
            told.append(event)

    strategy = rpcretry.RetryStrategy(codes={2001}, backoff=ImmediateBackoff(attempts=1))
    with rpcretry.Client(ScriptedBackend([refuses] * 2), retry_strategy=strategy, on_event=Sink()).batch() as batch:
        batch.call("a"), batch.call("b")
    # Not "attempts", which is why the other one was given up: 2002 is no code to retry.
    assert [(event.error.code, event.reason) for event in told] == [(2002, "error")]


@both_drivers
def test_halves_of_what_may_have_been_executed_may_have_been_though_they_were_not_sent(driver: str) -> None:
    strategy = RetryStrategy(idempotent=True, backoff=PeriodicBackoff(attempts=2, interval=0.1))
    rig = Rig(driver, ConnectionLostError("reset"), too_large, *[ConnectError("refused") for _ in range(9)], retry_strategy=strategy)
    batch, problem = opened(rig, four)
    assert isinstance(problem, ConnectError)
    assert {problem.delivery, *(handle.error.delivery for handle in batch.failed)} == {Delivery.MAYBE_EXECUTED}
    assert len(batch.failed) == 4
