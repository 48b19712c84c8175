"""Bulks: a stream in bounded memory, batches, bad elements, thresholds, resuming and progress, over both drivers."""

from __future__ import annotations

import io
import logging
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from bulk_rig import BulkRig, indices, ok, requests
from hypothesis import given, settings
from hypothesis import strategies as st
from support import both_drivers

import rpcretry.bulk._progress as progress_module
from rpcretry import (
    Client,
    ClientClosedError,
    ConnectionLostError,
    Delivery,
    Fallback,
    HTTPStatusError,
    JsonRpcError,
    Request,
    RetryExhaustedError,
    RetryStrategy,
)
from rpcretry.bulk import AsyncBulk, Bulk, BulkItem, BulkProgress
from rpcretry.errors import BulkError
from rpcretry.retry import PeriodicBackoff
from rpcretry.transport import Reply

every_size = pytest.mark.parametrize(("concurrency", "batch_size"), [(1, 1), (4, 1), (1, 3), (4, 3), (100, 50)])


def failing(number: int, time: int) -> Any:
    return {"code": 5, "message": "no"} if number % 10 == 3 else number * 10


def busy(times: int) -> Any:
    """Every third request fails that often with a code that is retried."""
    return lambda number, time: {"code": 2001, "message": "busy"} if number % 3 == 0 and time <= times else number * 10


RETRIED = RetryStrategy(codes={2001}, backoff=PeriodicBackoff(3, 0.5))


# --- the stream ---


@both_drivers
@every_size
def test_every_request_comes_out_once_with_its_own_result(driver: str, concurrency: int, batch_size: int) -> None:
    rig = BulkRig(driver)
    items = rig.all(requests(50), concurrency=concurrency, batch_size=batch_size)
    assert indices(items) == list(range(50))
    assert all(item.ok and item.result == item.index * 10 and item.attempts == 1 and item.request == Request("get", [item.index]) for item in items)
    assert sorted(rig.server.executed) == list(range(50))
    assert {len(numbers) for numbers in rig.server.seen[:-1]} <= {batch_size, 50 % batch_size}
    assert rig.server.most <= concurrency


@both_drivers
@every_size
def test_failures_and_retries_are_each_request_s_own(driver: str, concurrency: int, batch_size: int) -> None:
    rig = BulkRig(driver, lambda number, time: failing(number, time) if number % 10 == 3 else busy(2)(number, time), retry_strategy=RETRIED)
    bulk = rig.client.bulk(requests(40), concurrency=concurrency, batch_size=batch_size)
    items = rig.take(bulk)
    assert indices(items) == list(range(40))
    for item in items:
        if item.index % 10 == 3:
            assert (type(item.error), item.attempts, item.ok) == (JsonRpcError, 1, False)
            with pytest.raises(JsonRpcError) as caught:
                item.result
            assert caught.value is not item.error
        else:
            assert item.result == item.index * 10
            assert item.attempts == (3 if item.index % 3 == 0 else 1)
    done = bulk.progress
    assert (done.total, done.done, done.succeeded, done.failed, done.retries) == (40, 40, 36, 4, 2 * sum(item.attempts == 3 for item in items))


@both_drivers
@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_code_whose_tries_run_out_is_a_failure(driver: str, batch_size: int) -> None:
    rig = BulkRig(driver, lambda number, time: {"code": 2001, "message": "busy"}, retry_strategy=RETRIED)
    items = rig.all(requests(4), batch_size=batch_size)
    assert [(type(item.error), item.attempts) for item in items] == [(JsonRpcError, 4)] * 4
    wrapped = RetryStrategy(codes={2001}, backoff=PeriodicBackoff(1, 0), wrap=True)
    items = rig.all(requests(4), batch_size=batch_size, _retry_strategy=wrapped)
    assert {type(item.error) for item in items} == {RetryExhaustedError}


@both_drivers
@pytest.mark.parametrize("batch_size", [1, 3])
def test_what_the_transport_fails_with_is_each_one_s_own_failure(driver: str, batch_size: int) -> None:
    rig = BulkRig(driver, lambda number, time: ConnectionLostError("reset") if number in (3, 4, 5) else number * 10)
    items = rig.all(requests(9), batch_size=batch_size, concurrency=2)
    failed = [item for item in items if not item.ok]
    assert indices(failed) == [3, 4, 5]
    assert {type(item.error) for item in failed} == {ConnectionLostError}
    assert len({id(item.error) for item in failed}) == 3
    # Nothing is kept alive by the tracebacks of a million failures.
    assert [item.error.__traceback__ for item in failed if item.error] == [None] * 3


@both_drivers
@pytest.mark.parametrize("batch_size", [1, 2])
def test_notifications_and_ids_of_the_user_s(driver: str, batch_size: int) -> None:
    rig = BulkRig(driver)
    source = [Request("get", [0], id=None), Request("get", [1], id="a"), Request("get", [2], id=None), Request("get", [3], id=None)]
    items = sorted(rig.all(source, batch_size=batch_size), key=lambda item: item.index)
    assert [item.result for item in items] == [None, 10, None, None]
    assert [item.request for item in items] == source


@both_drivers
def test_equal_ids_never_meet_in_one_batch(driver: str) -> None:
    rig = BulkRig(driver)
    source = [Request("get", [0], id=7), Request("get", [1]), Request("get", [2], id=7), Request("get", [3], id="7"), Request("get", [4], id=7)]
    items = rig.all(source, batch_size=10, concurrency=1)
    assert rig.server.seen == [[0, 1], [2, 3], [4]]
    assert [item.result for item in sorted(items, key=lambda item: item.index)] == [0, 10, 20, 30, 40]


@both_drivers
def test_batches_keep_to_the_limits_of_the_client(driver: str) -> None:
    rig = BulkRig(driver, max_batch_size=4)
    items = rig.all(requests(20), batch_size=10, concurrency=1)
    assert [len(numbers) for numbers in rig.server.seen] == [4, 4, 2, 4, 4, 2]
    assert sorted(item.result for item in items) == [number * 10 for number in range(20)]


@both_drivers
def test_a_server_that_takes_smaller_batches_is_asked_for_too_much_once(driver: str) -> None:
    class Small(BulkRig):
        pass

    rig = Small(driver)
    reply = rig.server._reply

    def small(exchange: Any) -> Reply:
        if len(exchange.requests) > 5:
            rig.server.seen.append([-1] * len(exchange.requests))
            return Reply(b"", 413)
        return reply(exchange)

    rig.server._reply = small
    items = rig.all(requests(40), batch_size=8, concurrency=1)
    assert indices(items) == list(range(40))
    assert all(item.ok for item in items)
    # Those that were made before that was known are split for themselves.
    assert [len(numbers) for numbers in rig.server.seen if len(numbers) > 5] in ([8], [8, 8])


@both_drivers
@pytest.mark.parametrize("batch_size", [1, 3])
def test_options_hold_for_each_call(driver: str, batch_size: int) -> None:
    rig = BulkRig(driver, lambda number, time: {"code": 9, "message": ""} if number == 2 else str(number))
    items = rig.all(requests(6), batch_size=batch_size, _result=int, _fallback=Fallback(None), _headers={"X-A": "b"}, _idempotency_key=True)
    assert sorted((item.index, item.result) for item in items if item.index != 2) == [(0, 0), (1, 1), (3, 3), (4, 4), (5, 5)]
    assert next(item for item in items if item.index == 2).result is None


@both_drivers
def test_memory_is_bounded_by_a_slow_consumer(driver: str) -> None:
    asked: list[int] = []

    def source() -> Iterator[Request]:
        for number in range(1_000):
            asked.append(number)
            yield Request("get", [number])

    rig = BulkRig(driver)
    bulk = rig.client.bulk(source(), concurrency=5)
    assert asked == []
    items = rig.take(bulk, 3)
    assert len(items) == 3
    assert len(asked) <= 3 + 2 * 5 + 1


@both_drivers
def test_nothing_is_sent_before_it_is_consumed(driver: str) -> None:
    rig = BulkRig(driver)
    bulk = rig.client.bulk(requests(5))
    assert isinstance(bulk, Bulk if driver == "sync" else AsyncBulk)
    assert rig.server.seen == []
    assert bulk.progress == BulkProgress(None, 0, 0, 0, 0, 0.0, 0.0, None)
    assert indices(rig.take(bulk)) == [0, 1, 2, 3, 4]
    assert rig.take(bulk) == []


# --- run() ---


@both_drivers
@every_size
def test_run_collects_in_the_order_of_the_requests(driver: str, concurrency: int, batch_size: int) -> None:
    rig = BulkRig(driver)
    result = rig.run(rig.client.bulk(list(requests(30)), concurrency=concurrency, batch_size=batch_size))
    assert result.results() == [number * 10 for number in range(30)]
    assert [item.index for item in result.items] == list(range(30))
    assert (result.total, result.success_rate, result.failed) == (30, 1.0, [])


@both_drivers
@pytest.mark.parametrize(("threshold", "raises"), [(1.0, True), (0.91, True), (0.9, False), (0, False)])
def test_the_threshold(driver: str, threshold: float, raises: bool) -> None:
    rig = BulkRig(driver, failing)
    bulk = rig.client.bulk(requests(50), partial_success_threshold=threshold)
    if raises:
        with pytest.raises(BulkError, match=r"5 of 50 failed, and 90.0% succeeded .* item 3: JsonRpcError") as caught:
            rig.run(bulk)
        found: Any = pickle.loads(pickle.dumps(caught.value))
    else:
        found = rig.run(bulk)
        with pytest.raises(JsonRpcError):
            found.results()
    assert [item.index for item in found.failed] == [3, 13, 23, 33, 43]
    assert len(found.successful) == 45
    assert (found.failed[0].request, found.failed[0].attempts) == (Request("get", [3]), 1)
    # Asked again, it says the same.
    assert len(bulk.collected.failed) == 5


@both_drivers
def test_nothing_to_do_is_a_success(driver: str) -> None:
    rig = BulkRig(driver)
    result = rig.run(rig.client.bulk([]))
    assert (result.total, result.success_rate, result.results()) == (0, 1.0, [])


# --- bad elements and bad sources ---


@both_drivers
@pytest.mark.parametrize("batch_size", [1, 2, 4, 10])
@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_bad_element_comes_out_as_a_failure_and_nothing_else_is_lost(driver: str, batch_size: int, concurrency: int) -> None:
    rig = BulkRig(driver)
    source: list[Any] = [*requests(3), "sum", Request("get", [object()]), *requests(2, start=5), None, Request("get", [float("nan")])]
    items = sorted(rig.all(source, batch_size=batch_size, concurrency=concurrency), key=lambda item: item.index)
    assert [item.index for item in items] == list(range(9))
    assert [item.attempts for item in items] == [1, 1, 1, 0, 0, 1, 1, 0, 0]
    assert [type(item.error) for item in items if not item.ok] == [TypeError, TypeError, TypeError, ValueError]
    assert "write Request(method, params=[...])" in str(items[3].error)
    assert [item.result for item in items if item.ok] == [0, 10, 20, 50, 60]
    assert [item.request for item in items] == source


@both_drivers
@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_source_that_raises_does_so_after_what_came_before(driver: str, batch_size: int) -> None:
    def source() -> Iterator[Request]:
        yield from requests(6)
        raise LookupError("the file is cut off")

    rig = BulkRig(driver)
    bulk = rig.client.bulk(source(), batch_size=batch_size)
    with pytest.raises(LookupError, match="cut off"):
        rig.run(bulk)
    assert bulk.collected.results() == [0, 10, 20, 30, 40, 50]
    # What it had left is not taken for nothing.
    with pytest.raises(RuntimeError, match="ended since it raised LookupError"):
        rig.run(bulk)


@both_drivers
def test_a_client_that_is_closed_ends_it_and_loses_nothing(driver: str) -> None:
    rig = BulkRig(driver)
    bulk = rig.client.bulk(requests(20), concurrency=1)
    first = rig.take(bulk, 2)
    rig.client._shared.closed = True
    rest: list[Any] = []
    with pytest.raises(ClientClosedError):
        for _ in range(20):
            rest += rig.take(bulk, 1)
    rig.client._shared.closed = False
    assert indices(first + rest + rig.take(bulk)) == list(range(20))
    rig.client._shared.closed = True
    with pytest.raises(ClientClosedError):
        rig.client.bulk([])


# --- coming back ---


@both_drivers
@every_size
@pytest.mark.parametrize("portion", [1, 7])
def test_it_goes_on_where_the_consumer_stopped(driver: str, concurrency: int, batch_size: int, portion: int) -> None:
    rig = BulkRig(driver)
    bulk = rig.client.bulk(requests(60), concurrency=concurrency, batch_size=batch_size)
    items: list[Any] = []
    while more := rig.take(bulk, portion):
        items += more
    assert indices(items) == list(range(60))
    # What the end of a loop cut off was executed, or may have been, and did not go again.
    assert max(rig.server.times.values()) == 1
    assert all(item.ok or item.error.delivery is Delivery.MAYBE_EXECUTED for item in items)


@both_drivers
def test_a_loop_and_then_run(driver: str) -> None:
    rig = BulkRig(driver)
    bulk = rig.client.bulk(requests(20), concurrency=1, partial_success_threshold=0)
    items = rig.take(bulk, 5)
    assert bulk.collected.total == 0
    rest = rig.run(bulk)
    assert indices(items + rest.items) == list(range(20))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 40),
    st.integers(1, 5),
    st.integers(1, 6),
    st.lists(st.integers(1, 9), max_size=8),
    st.sets(st.integers(0, 40)),
    st.sets(st.integers(0, 40)),
    st.sampled_from(["sync", "async"]),
)
def test_nothing_is_lost_and_nothing_twice(
    count: int, concurrency: int, batch_size: int, portions: list[int], bad: set[int], lost: set[int], driver: str
) -> None:
    rig = BulkRig(driver, lambda number, time: ConnectionLostError("reset") if number in lost else number * 10)
    source: list[Any] = [None if number in bad else Request("get", [number]) for number in range(count)]
    bulk = rig.client.bulk(iter(source), concurrency=concurrency, batch_size=batch_size)
    items: list[Any] = []
    for portion in portions:
        items += rig.take(bulk, portion)
    items += rig.take(bulk)
    assert indices(items) == list(range(count))
    assert all(count == 1 for count in rig.server.times.values())
    assert all(item.result == item.index * 10 for item in items if item.ok)
    assert bulk.progress.done == bulk.total == count


# --- progress ---


@both_drivers
def test_a_callable_gets_numbers_ten_times_a_second_and_at_the_end(driver: str) -> None:
    seen: list[BulkProgress] = []
    rig = BulkRig(driver, failing)

    def answer(number: int, time: int) -> Any:
        rig.time.advance(0.02)
        return failing(number, time)

    rig.server.answer = answer
    rig.all(list(requests(100)), concurrency=1, progress=seen.append)
    assert 15 <= len(seen) <= 22
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    last = seen[-1]
    assert (last.total, last.done, last.succeeded, last.failed, last.eta) == (100, 100, 90, 10, 0.0)
    assert last.elapsed == pytest.approx(2.0)
    assert last.rate == pytest.approx(50)
    middle = seen[len(seen) // 2]
    assert middle.eta == pytest.approx((100 - middle.done) / middle.rate)


@both_drivers
def test_a_source_without_a_length_has_no_total_before_its_end(driver: str) -> None:
    seen: list[BulkProgress] = []
    rig = BulkRig(driver)
    rig.all(requests(10), progress=seen.append, concurrency=1)
    assert (seen[0].total, seen[0].eta, seen[-1].total) == (None, None, 10)


@both_drivers
def test_a_callable_that_raises_is_logged_and_harms_nothing(driver: str, caplog: pytest.LogCaptureFixture) -> None:
    rig = BulkRig(driver)
    with caplog.at_level(logging.ERROR, "rpcretry"):
        assert len(rig.all(requests(5), progress=lambda progress: 1 / 0)) == 5
    assert "progress" in caplog.text


@both_drivers
def test_true_writes_one_line_where_there_is_no_terminal(driver: str, capsys: pytest.CaptureFixture[str]) -> None:
    rig = BulkRig(driver, failing)
    rig.all(requests(20), progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bulk: 20 done in 0.0 s (0/s), 18 succeeded, 2 failed, 0 retries\n")
    assert err.isascii()
    assert "\x1b" not in err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@both_drivers
def test_true_draws_a_bar_on_a_terminal(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    rig = BulkRig(driver, failing)
    before = sys.stdout
    rig.all(list(requests(20)), progress=True)
    assert "20/20" in terminal.getvalue()
    assert "2 failed" in terminal.getvalue()
    # It gives the streams back, and the cursor is never away for longer than a moment.
    assert sys.stdout is before
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")


def test_a_bar_without_rich_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "rpcretry\[progress\]"'):
        BulkRig("sync").client.bulk([], progress=True)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(progress_module.as_reporter(True), progress_module.Line)


def test_rich_is_loaded_for_a_bar_only() -> None:
    program = "import sys, rpcretry.bulk, rpcretry.functions; print([name for name in ('rich', 'asyncio') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# --- refusals ---


@both_drivers
@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ([], {"max_workers": 3}, "no parameter 'max_workers'; here it is concurrency"),
        ([], {"chunk_size": 3}, "here it is batch_size"),
        ([], {"timeout": 3}, "here it is _timeout"),
        ([], {"_timeuot": 3}, "did you mean _timeout"),
        ([], {"concurrency": 0}, "concurrency must be at least 1"),
        ([], {"concurrency": 1.5}, "concurrency must be an int"),
        ([], {"batch_size": 0}, "batch_size must be at least 1"),
        ([], {"partial_success_threshold": 1.1}, "at most 1"),
        ([], {"partial_success_threshold": 90}, "at most 1"),
        ([], {"progress": "yes"}, "progress must be callable"),
        ([], {"progress": lambda: None}, "it gets a BulkProgress"),
        ([], {"progress": BulkProgress}, "got the class"),
        ([], {"_idempotency_key": "k"}, "the same for all"),
        ([], {"_deadline": "soon"}, "_deadline must be a number"),
        ("sum", {}, "iterable of Request objects"),
        ({"sum": 1}, {}, "iterable of Request objects"),
        (Request("sum"), {}, "must be an iterable"),
    ],
)
def test_what_is_refused(driver: str, source: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        BulkRig(driver).client.bulk(source, **options)


def test_an_async_callable_is_refused() -> None:
    async def tell(progress: BulkProgress) -> None: ...

    with pytest.raises(TypeError, match="nobody would await"):
        BulkRig("sync").client.bulk([], progress=tell)


def test_a_sync_bulk_refuses_an_async_source() -> None:
    async def source() -> Any:
        yield Request("get", [1])

    with pytest.raises(TypeError, match="async iterable"):
        BulkRig("sync").client.bulk(source())


def test_an_iterator_with_the_one_method_that_it_needs() -> None:
    class Bare:
        def __init__(self) -> None:
            self.left = requests(4)

        def __next__(self) -> Request:
            return next(self.left)

    class Source:
        def __iter__(self) -> Any:
            return Bare()

    assert indices(BulkRig("sync").all(Source())) == [0, 1, 2, 3]


def test_items_show_no_secrets_and_pickle() -> None:
    (item,) = BulkRig("sync", lambda number, time: "secret").all([Request("get", [5])])
    assert "secret" not in repr(item)
    copy: BulkItem[Any, Any] = pickle.loads(pickle.dumps(item))
    assert (copy.result, copy.request, copy.index) == ("secret", Request("get", [5]), 0)


def test_http_failures_carry_their_status() -> None:
    rig = BulkRig("sync")
    rig.server._reply = lambda exchange: Reply(b"<html>", 500)
    (item,) = Client(rig.server).bulk([Request("get", [5])])
    assert isinstance(item.error, HTTPStatusError)
    assert item.error.status == 500


def test_the_default_answer_is_the_right_one() -> None:
    assert ok(3, 1) == 30


@both_drivers
def test_a_stop_is_told_and_so_is_the_end(driver: str, capsys: pytest.CaptureFixture[str]) -> None:
    rig = BulkRig(driver)
    source = list(requests(9))
    bulk = rig.client.bulk(source, progress=True, concurrency=1, partial_success_threshold=0)
    rig.take(bulk, 4)
    bulk.close() if driver == "sync" else None
    assert capsys.readouterr().err.startswith("bulk stopped: 4 of 9 done in 0.0 s")
    rig.take(bulk)
    assert "bulk: 9 done" in capsys.readouterr().err

    def broken() -> Iterator[Request]:
        yield from requests(3)
        raise LookupError

    with pytest.raises(LookupError):
        rig.run(rig.client.bulk(broken(), progress=True))
    assert capsys.readouterr().err.startswith("bulk stopped: 3 done")


@both_drivers
def test_an_error_whose_repr_is_broken_hides_nothing(driver: str) -> None:
    class Broken(Exception):
        def __repr__(self) -> str:
            raise ValueError("no repr")

    rig = BulkRig(driver, lambda number, time: Broken())
    with pytest.raises(BulkError, match="item 0: Broken"):
        rig.run(rig.client.bulk(requests(1)))
