"""Batches with handles, on both drivers."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import threading
import weakref
from typing import Any

import pytest

import rpcretry
from rpcretry import (
    BatchUnfinishedError,
    ClientClosedError,
    ConnectError,
    ConnectionLostError,
    Delivery,
    Fallback,
    JsonRpcError,
    MissingResponseError,
    Request,
    RequestTimeoutError,
    ResultValidationError,
    RetryStrategy,
)
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import error, http, result
from rpcretry.transport import Exchange, Reply
from tests.batch.batch_rig import batched, opened
from tests.support import Rig, both_drivers, fresh


def echo(exchange: Exchange) -> Reply:
    """Each request's answer is its params; those of method ``bad`` fail with their first param as code. In reverse order."""
    answers: list[dict[str, Any]] = []
    for request in json.loads(exchange.body):
        if "id" in request:
            params = request.get("params")
            content = {"error": {"code": params[0], "message": "no"}} if request["method"] == "bad" else {"result": params}
            answers.insert(0, {"jsonrpc": "2.0", "id": request["id"], **content})
    return Reply(json.dumps(answers).encode() if answers else b"")


@both_drivers
def test_each_handle_has_its_own_answer(driver: str) -> None:
    rig = Rig(driver, echo)
    batch, (a, b, c, d) = batched(
        rig, lambda batch: (batch.call("one", 1, 2), batch("two", x=1), batch.proxy.a.b(3), batch.send(Request("four", [4], id="mine")))
    )
    assert (a.result(), b.result(), c.result(), d.result()) == ([1, 2], {"x": 1}, [3], [4])
    assert rig.backend.bodies == [
        [
            {"jsonrpc": "2.0", "method": "one", "params": [1, 2], "id": 1},
            {"jsonrpc": "2.0", "method": "two", "params": {"x": 1}, "id": 2},
            {"jsonrpc": "2.0", "method": "a.b", "params": [3], "id": 3},
            {"jsonrpc": "2.0", "method": "four", "params": [4], "id": "mine"},
        ]
    ]
    assert batch.results() == [[1, 2], {"x": 1}, [3], [4]]
    assert [handle.request.id for handle in batch] == [1, 2, 3, "mine"]
    assert list(batch) == [a, b, c, d] == batch.succeeded
    assert len({a, b, c, d, *batch}) == len(batch) == 4
    assert batch.failed == []
    assert [response.result for response in batch.responses] == batch.results()
    assert all(handle.error is None and handle.is_done for handle in batch)
    assert d.response == rpcretry.Response("mine", [4])
    assert d.response.attempts == 1


@both_drivers
def test_one_failure_hides_nothing(driver: str) -> None:
    rig = Rig(driver, echo)
    batch, (good, bad, also) = batched(rig, lambda batch: (batch.call("m", 1), batch.call("bad", 7), batch.call("bad", -32601)))
    assert good.result() == [1]
    assert (bad.error.code, also.error.code) == (7, -32601)
    for handle in (bad, also):
        with pytest.raises(JsonRpcError) as caught:
            handle.result()
        with pytest.raises(JsonRpcError) as again:
            handle.result()
        assert caught.value is not again.value
        assert handle.error is not caught.value
        assert handle.response.is_error
    assert batch.succeeded == [good]
    assert batch.failed == [bad, also]
    with pytest.raises(ExceptionGroup, match="2 of the 3 requests of the batch failed") as group:
        batch.results()
    assert [problem.code for problem in group.value.exceptions] == [7, -32601]  # type: ignore[attr-defined]
    assert [problem.__notes__[-1] for problem in group.value.exceptions] == ["of 'bad', id 2", "of 'bad', id 3"]
    with pytest.raises(ExceptionGroup) as second:
        batch.results()
    assert [problem.__notes__ for problem in second.value.exceptions] == [problem.__notes__ for problem in group.value.exceptions]


@both_drivers
def test_nothing_is_sent_when_the_block_raises(driver: str) -> None:
    rig = Rig(driver)
    kept: list[Any] = []

    def fill(batch: Any) -> None:
        kept.append(batch.call("m"))
        raise KeyError("mine")

    batch, problem = opened(rig, fill)
    assert isinstance(problem, KeyError)
    assert rig.sent == 0
    for read in (
        kept[0].result,
        lambda: kept[0].error,
        lambda: kept[0].response,
        batch.results,
        lambda: batch.responses,
        lambda: batch.failed,
        lambda: batch.succeeded,
    ):
        with pytest.raises(BatchUnfinishedError, match="was not sent, since its block raised KeyError") as caught:
            read()
        assert caught.value.delivery is Delivery.NOT_SENT
    assert not kept[0].is_done


@both_drivers
def test_reading_before_sending_says_so(driver: str) -> None:
    rig = Rig(driver, result(1))

    def fill(batch: Any) -> Any:
        handle = batch.call("m")
        for read in (handle.result, lambda: handle.error, batch.results):
            with pytest.raises(BatchUnfinishedError, match="has not been sent yet; read results after the with block"):
                read()
        assert handle.request.id is rpcretry.UNSET
        assert repr(handle) == "<Handle of Request('m'): pending>"
        return handle

    _, handle = batched(rig, fill)
    assert handle.result() == 1


@both_drivers
def test_a_batch_is_used_once_and_in_a_block(driver: str) -> None:
    rig = Rig(driver, result(1))
    with pytest.raises(BatchUnfinishedError, match=r"with client\.batch"):
        rig.client.batch().call("m")
    batch, _ = batched(rig, lambda batch: batch.call("m"))
    for add in (batch.call, batch.notify, batch, lambda method: batch.send(Request(method))):
        with pytest.raises(BatchUnfinishedError, match="takes no more requests"):
            add("late")
    again = Rig(driver)
    with pytest.raises(BatchUnfinishedError, match="entered once"):
        again.client.batch = lambda: batch
        batched(again, lambda batch: None)


@both_drivers
def test_another_thread_is_told(driver: str) -> None:
    """Two threads that add at the same time would get each other's places."""
    rig = Rig(driver, result(1))
    told: list[BaseException] = []

    def add(batch: Any) -> None:
        for act in (lambda: batch.call("m"), lambda: batch.notify("m"), lambda: batch.call("m", _result=int)):
            try:
                act()
            except BatchUnfinishedError as problem:
                told.append(problem)

    def fill(batch: Any) -> None:
        batch.call("m")
        thread = threading.Thread(target=add, args=(batch,))
        thread.start()
        thread.join()

    batch, _ = batched(rig, fill)
    assert ["filled by the thread that opened it" in str(problem) for problem in told] == [True] * 3
    assert batch.results() == [1]


@both_drivers
def test_an_empty_batch_sends_nothing(driver: str) -> None:
    rig = Rig(driver)
    batch, _ = batched(rig, lambda batch: None)
    assert (batch.results(), batch.failed, list(batch), len(batch), list(batch.responses), rig.sent) == ([], [], [], 0, [], 0)
    assert batch


@both_drivers
@pytest.mark.parametrize("answer", [b"", b"[]", b"[{}]", b"what?"])
def test_notifications_expect_no_body(driver: str, answer: bytes) -> None:
    rig = Rig(driver, Reply(answer))
    batch, _ = batched(rig, lambda batch: (batch.notify("a", 1), batch.notify("b", x=2), batch.send(Request("c", id=None))))
    assert [("id" in request) for request in rig.backend.bodies[0]] == [False] * 3
    assert (batch.results(), batch.failed, batch.succeeded, list(batch), len(batch)) == ([], [], [], [], 0)


@both_drivers
def test_a_notification_among_calls(driver: str) -> None:
    rig = Rig(driver, echo)
    batch, handles = batched(rig, lambda batch: (batch.call("a", 1), batch.notify("n"), batch.call("b", 2)))
    assert handles[1] is None
    assert batch.results() == [[1], [2]]
    assert [handle.request.method for handle in batch] == ["a", "b"]
    assert len(batch.responses) == 2


@both_drivers
def test_where_nothing_came_of_any_the_block_raises(driver: str) -> None:
    rig = Rig(driver, fresh(ConnectError("down")))
    batch, problem = opened(rig, lambda batch: (batch.call("a"), batch.call("b")))
    assert isinstance(problem, ConnectError)
    assert problem.delivery is Delivery.NOT_SENT
    errors = [handle.error for handle in batch]
    assert [str(error) for error in errors] == ["down", "down"]
    assert problem not in errors
    assert len(set(map(id, errors))) == 2
    with pytest.raises(ExceptionGroup):
        batch.results()


@both_drivers
def test_a_lone_error_is_that_of_each(driver: str) -> None:
    rig = Rig(driver, Reply(b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no batches"}}'))
    batch, problem = opened(rig, lambda batch: (batch.call("a"), batch.call("b")))
    assert problem is None
    assert [handle.error.code for handle in batch] == [-32600, -32600]


@both_drivers
def test_only_what_failed_goes_again(driver: str) -> None:
    def second(exchange: Exchange) -> Reply:
        assert [(request["method"], request["id"]) for request in json.loads(exchange.body)] == [("bad", 2)]
        return Reply(b'[{"jsonrpc":"2.0","id":2,"result":"late"}]')

    rig = Rig(driver, echo, second, retry_strategy=RetryStrategy(codes={7}, backoff=PeriodicBackoff(attempts=2, interval=1.5)))
    _, (a, b, c) = batched(rig, lambda batch: (batch.call("m", 1), batch.call("bad", 7), batch.call("bad", 8)))
    assert (a.result(), b.result(), c.error.code) == ([1], "late", 8)
    assert [handle.response.attempts for handle in (a, b, c)] == [1, 2, 1]
    assert rig.waits == [1.5]


@both_drivers
def test_types_of_all_and_of_one(driver: str) -> None:
    rig = Rig(driver, echo, echo)
    _, (a, b, c) = batched(
        rig, lambda batch: (batch.call("m", 1), batch.call("m", "x", _result=list[str]), batch.send(Request("m", [2]), _result=None)), _result=tuple[int]
    )
    assert (a.result(), b.result(), c.result()) == ((1,), ["x"], [2])
    _batch, (a, b) = batched(rig, lambda batch: (batch.call("m", 1), batch.call("m", "x", _result=list[int])))
    assert a.result() == [1]
    with pytest.raises(ResultValidationError, match="'m' is no list"):
        b.result()


@both_drivers
def test_options_of_the_batch(driver: str) -> None:
    rig = Rig(driver, fresh(ConnectError("down")), echo, watched=True)
    batch, _ = batched(
        rig,
        lambda batch: batch.call("m", 1),
        _headers={"X-A": "b"},
        _deadline=60,
        _timeout=7,
        _retry_strategy=RetryStrategy(backoff=PeriodicBackoff(attempts=1, interval=2)),
        _idempotency_key="k",
    )
    assert batch.results() == [[1]]
    first, second = rig.backend.exchanges
    assert dict(first.headers) == dict(second.headers) == {"X-A": "b", "Idempotency-Key": "k"}
    assert round(first.ends_by - 1000, 6) == 7
    rig = Rig(driver, fresh(ConnectError("down")))
    batch, handle = batched(rig, lambda batch: batch.call("m"), _fallback=Fallback("instead"))
    assert handle.result() == "instead"
    assert batch.succeeded == [handle]


@both_drivers
@pytest.mark.parametrize(
    ("act", "kind", "words"),
    [
        (lambda batch: batch.call("m", _deadline=1), TypeError, r"'_deadline' holds for the whole batch; write client.batch\(_deadline=...\)"),
        (lambda batch: batch.call("m", _retry=1), TypeError, "unknown option '_retry'"),
        (lambda batch: batch.call("m", 1, a=2), TypeError, "by position or by name"),
        (lambda batch: batch.notify("m", 1, a=2), TypeError, "by position or by name"),
        (lambda batch: batch.notify("m", _result=int), TypeError, "no option of a notification"),
        (lambda batch: batch.notify("m", _headers={}), TypeError, r"client.batch\(_headers=...\)"),
        (lambda batch: batch.call(""), ValueError, "method must not be empty"),
        (lambda batch: batch.call(3), TypeError, "method must be a str"),
        (lambda batch: batch.notify(3), TypeError, "method must be a str"),
        (lambda batch: batch.send("m"), TypeError, r"send takes a Request.*use call\(method"),
        (lambda batch: batch.send([Request("m")]), TypeError, "send takes a Request"),
        (lambda batch: batch.call("m", _result="int"), TypeError, "_result must be a type"),
        (lambda batch: (batch.send(Request("a", id=1)), batch.send(Request("b", id=1))), ValueError, "two requests of the batch have the id 1; leave id out"),
        (lambda batch: batch.call("m", object()), TypeError, "params of 'm' cannot be sent as JSON"),
        (lambda batch: (batch.call("fine", 1), batch.call("m", float("nan"))), ValueError, "params of 'm' cannot be sent as JSON"),
        (lambda batch: batch.proxy._hidden, AttributeError, "_hidden"),
    ],
)
def test_bad_input_is_refused_and_nothing_sent(driver: str, act: Any, kind: type[Exception], words: str) -> None:
    rig = Rig(driver)
    with pytest.raises(kind, match=words):
        batched(rig, act)
    assert rig.sent == 0


@both_drivers
@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"max_batch_size": 0}, ValueError, "max_batch_size"),
        ({"max_batch_size": "5"}, TypeError, "max_batch_size"),
        ({"max_batch_bytes": -1}, ValueError, "max_batch_bytes"),
        ({"concurrency": None}, TypeError, "concurrency"),
        ({"concurrency": 0}, ValueError, "concurrency"),
        ({"split_on": 413}, TypeError, r"split_on must be a set.*write split_on=\{413\}"),
        ({"split_on": {"413"}}, TypeError, "split_on takes HTTP statuses and JSON-RPC codes, got str"),
        ({"_deadline": "5"}, TypeError, "_deadline"),
        ({"_retry_strategy": 3}, TypeError, "_retry_strategy must be a RetryStrategy"),
        ({"deadline": 5}, TypeError, "deadline"),
    ],
)
def test_bad_options_are_refused(driver: str, options: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        Rig(driver).client.batch(**options)


@both_drivers
def test_ids_do_not_meet(driver: str) -> None:
    rig = Rig(driver, echo)
    batch, _ = batched(rig, lambda batch: (batch.call("a"), batch.send(Request("b", id=1)), batch.send(Request("c", id="1")), batch.call("d")))
    ids = [handle.request.id for handle in batch]
    assert ids[1:3] == [1, "1"]
    assert len(set(ids)) == 4
    rig = Rig(driver, ids=lambda: 5)
    with pytest.raises(ValueError, match="ids gave 5 again"):
        batched(rig, lambda batch: (batch.call("a"), batch.call("b")))
    assert rig.sent == 0


@both_drivers
def test_a_request_of_the_users_is_left_as_it_is(driver: str) -> None:
    rig, request = Rig(driver, echo), Request("m", [1])
    _batch, handle = batched(rig, lambda batch: batch.send(request))
    assert (request.id, handle.request.id) == (rpcretry.UNSET, 1)


@both_drivers
def test_a_closed_client(driver: str) -> None:
    rig = Rig(driver)
    rig.run(lambda client: client.close())
    with pytest.raises(ClientClosedError):
        rig.client.batch()
    rig = Rig(driver)

    def close(batch: Any) -> None:
        batch.call("m")
        rig.client._shared.close()

    with pytest.raises(ClientClosedError):
        batched(rig, close)
    assert rig.sent == 0


@both_drivers
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_while_sending(driver: str, interrupt: type[BaseException]) -> None:
    def cut(_: Exchange) -> Any:
        raise interrupt

    rig = Rig(driver, cut)
    batch, problem = opened(rig, lambda batch: batch.call("m"))
    assert isinstance(problem, interrupt)
    with pytest.raises(BatchUnfinishedError, match="cut off, and the server may have executed") as caught:
        batch.results()
    assert caught.value.delivery is Delivery.MAYBE_EXECUTED
    assert pickle.loads(pickle.dumps(caught.value)).delivery is Delivery.MAYBE_EXECUTED


def test_a_cancel_while_sending() -> None:
    async def main() -> None:
        started = asyncio.Event()

        async def hang(exchange: Exchange, next: Any) -> Reply:
            started.set()
            await asyncio.sleep(60)
            raise AssertionError

        rig = Rig("async", middlewares=hang)
        batches: list[Any] = []

        async def send() -> None:
            async with rig.client.batch() as batch:
                batches.append(batch)
                batch.call("m")

        task = asyncio.create_task(send())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(BatchUnfinishedError, match="cut off"):
            batches[0].results()

    asyncio.run(main())


@both_drivers
def test_some_lost_some_done(driver: str) -> None:
    rig = Rig(driver, Reply(b'[{"jsonrpc":"2.0","id":1,"result":0}]'))
    _batch, (a, b) = batched(rig, lambda batch: (batch.call("a"), batch.call("b")))
    assert a.result() == 0
    with pytest.raises(MissingResponseError) as caught:
        b.result()
    assert caught.value.delivery is Delivery.MAYBE_EXECUTED


@both_drivers
def test_a_status_around_it_is_on_the_response(driver: str) -> None:
    rig = Rig(driver, Reply(b'[{"jsonrpc":"2.0","id":1,"result":0}]', 201, {"X-Trace": "t"}))
    _, handle = batched(rig, lambda batch: batch.call("a"))
    assert (handle.response.status, handle.response.headers["x-trace"]) == (201, "t")
    rig = Rig(driver, http(503))
    _, problem = opened(rig, lambda batch: batch.call("a"))
    assert isinstance(problem, rpcretry.HTTPStatusError)


@both_drivers
@pytest.mark.parametrize("item", [fresh(ConnectionLostError("gone")), Reply(b"[]"), error(5), result(1)], ids=["lost", "empty", "error", "result"])
def test_a_batch_that_failed_is_freed_at_once(driver: str, item: Any) -> None:
    rig = Rig(driver, item)

    async def inside() -> Any:
        # asyncio.run itself keeps what is raised out of it in a cycle.
        try:
            async with rig.client.batch() as batch:
                batch.call("a")
                batch.call("b")
        except ConnectionLostError:
            pass
        return batch

    gc.collect()
    gc.disable()
    try:
        batch = opened(rig, lambda batch: (batch.call("a"), batch.call("b")))[0] if driver == "sync" else asyncio.run(inside())
        gone = weakref.ref(batch)
        for handle in batch:
            if handle.error is not None:
                with pytest.raises(type(handle.error)):
                    handle.result()
        del batch, handle
        assert gone() is None
    finally:
        gc.enable()


def test_a_timeout_is_each_ones() -> None:
    rig = Rig("sync", fresh(RequestTimeoutError("late")))
    batch, problem = opened(rig, lambda batch: (batch.call("a"), batch.call("b")))
    assert isinstance(problem, TimeoutError)
    assert all(isinstance(handle.error, TimeoutError) for handle in batch)
