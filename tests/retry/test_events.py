"""Events and the log: what is told, in which words, and that telling harms nothing."""

from __future__ import annotations

import dataclasses
import logging
import pickle
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support import Recorder, Rig, Slow, both_drivers, fresh

from rpcretry import BatchRequest, ConnectError, ConnectionLostError, DeadlineExceeded, JsonRpcError, Refused, Request, RetryStrategy
from rpcretry.events import AttemptStarted, CallFailed, CallSucceeded, Event, LoggingSink, RetryScheduled
from rpcretry.retry import UNLIMITED, PeriodicBackoff
from rpcretry.testing import error, result

unconnected = fresh(ConnectError("refused"))
lost = fresh(ConnectionLostError("reset"))


def every(attempts: int = 3, interval: float = 1.234, **kinds: Any) -> RetryStrategy:
    return RetryStrategy(backoff=PeriodicBackoff(attempts, interval), **kinds)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    with caplog.at_level(logging.DEBUG, "rpcretry"):
        yield lambda: [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "rpcretry"]


# --- the log ---


@both_drivers
def test_the_line_of_a_retry_and_of_a_success_after_it(driver: str, lines: Any) -> None:
    rig = Rig(driver, unconnected, unconnected, result(5), retry_strategy=every())
    rig.call("sum")
    assert lines() == [
        ("WARNING", "sum: attempt 1/4 failed: ConnectError('refused'). Retrying in 1.23 s"),
        ("WARNING", "sum: attempt 2/4 failed: ConnectError('refused'). Retrying in 1.23 s"),
        ("INFO", "sum: succeeded on attempt 3"),
    ]


@both_drivers
def test_the_line_of_a_call_that_was_given_up(driver: str, lines: Any) -> None:
    rig = Rig(driver, *[unconnected] * 4, retry_strategy=every(interval=2.34))
    with pytest.raises(ConnectError):
        rig.call("sum")
    assert lines()[-1] == ("ERROR", "sum: gave up after 4 attempts in 7.02 s (attempts): ConnectError('refused')")
    assert len(lines()) == 4


@both_drivers
@pytest.mark.parametrize("backoff", [PeriodicBackoff(UNLIMITED, 1.0), lambda: iter([1.0])], ids=["unlimited", "unknown"])
def test_the_line_of_a_retry_without_a_known_limit(driver: str, backoff: Any, lines: Any) -> None:
    rig = Rig(driver, unconnected, result(5), retry_strategy=RetryStrategy(backoff=backoff))
    rig.call("sum")
    assert lines()[0] == ("WARNING", "sum: attempt 1/? failed: ConnectError('refused'). Retrying in 1.00 s")


@both_drivers
def test_the_line_of_a_success_that_was_not_accepted(driver: str, lines: Any) -> None:
    rig = Rig(driver, result("pending"), result("done"), retry_strategy=every(when=lambda o, n: o.result == "pending"))
    rig.call("job")
    assert lines()[0] == ("WARNING", "job: attempt 1/4 was not accepted. Retrying in 1.23 s")


@both_drivers
def test_the_lines_of_a_deadline_and_of_an_error_after_a_retry(driver: str, lines: Any) -> None:
    rig = Rig(driver, unconnected, unconnected, unconnected, error(7, "no"), retry_strategy=every())
    with pytest.raises(DeadlineExceeded):
        rig.call("sum", _deadline=2)
    with pytest.raises(JsonRpcError):
        rig.call("sum")
    assert [line for line in lines() if line[0] == "ERROR"] == [
        ("ERROR", "sum: gave up after 2 attempts in 1.23 s (deadline): DeadlineExceeded('sum: the deadline of 2 s ended the call after 2 attempts in 1.23 s')"),
        ("ERROR", "sum: gave up after 2 attempts in 1.23 s (error): JsonRpcError('no [7]')"),
    ]


@both_drivers
def test_calls_without_a_retry_leave_no_line(driver: str, lines: Any) -> None:
    rig = Rig(driver, result(1), lost, error(7), retry_strategy=every(), watched=True)
    rig.call("sum")
    for kind in (ConnectionLostError, JsonRpcError):
        with pytest.raises(kind):
            rig.call("sum")
    assert lines() == []
    assert rig.told == ["AttemptStarted", "CallSucceeded", *["AttemptStarted", "CallFailed"] * 2]


@both_drivers
def test_a_batch_is_called_by_its_size(driver: str, lines: Any) -> None:
    rig = Rig(driver, unconnected, result(1), retry_strategy=every())
    rig.send(BatchRequest(Request("a"), Request("b"), Request("c")))
    assert lines() == [
        ("WARNING", "batch of 3: attempt 1/4 failed: ConnectError('refused'). Retrying in 1.23 s"),
        ("INFO", "batch of 3: succeeded on attempt 2"),
    ]


@both_drivers
def test_the_attempts_of_a_batch_never_outnumber_their_limit(driver: str, lines: Any) -> None:
    """Members held apart make more exchanges than any of them has tries."""
    import json

    from rpcretry.transport import Exchange, Reply

    def busy(exchange: Exchange) -> Reply:
        holds = {"a": 0, "b": 5, "c": 9}
        return Reply(
            json.dumps([{"id": r.id, "error": {"code": 7, "message": "x", "data": {"retry_after": holds[r.method]}}} for r in exchange.requests]).encode()
        )

    rig = Rig(driver, *[busy] * 9, retry_strategy=every(1, codes={7}), watched=True)
    rig.send(BatchRequest(Request("a"), Request("b"), Request("c")))
    assert rig.sent == 4
    assert all(event.max_attempts is None or event.attempt <= event.max_attempts for event in rig.events)


@both_drivers
def test_a_logging_sink_of_the_users_takes_the_place_of_the_usual_one(driver: str, lines: Any, caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(driver, unconnected, result(5), retry_strategy=every(), on_event=[LoggingSink(logging.getLogger("mine"))])
    rig.call("sum")
    assert lines() == []
    assert [record.getMessage() for record in caplog.records if record.name == "mine"] == [
        "sum: attempt 1/4 failed: ConnectError('refused'). Retrying in 1.23 s"
    ]


def test_the_librarys_logger_is_silent_unless_asked() -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("rpcretry").handlers)


# --- the records ---


@both_drivers
def test_the_records_of_a_call_that_recovers(driver: str) -> None:
    rig = Rig(driver, Slow(0.5, unconnected), Slow(0.25, result(5)), retry_strategy=every(interval=2.0), watched=True)
    rig.call("sum")
    started, scheduled, again, succeeded = rig.events
    assert started == AttemptStarted("sum", 1, 4, 0.0)
    assert isinstance(scheduled, RetryScheduled)
    assert (scheduled.operation, scheduled.attempt, scheduled.max_attempts, scheduled.elapsed, scheduled.delay, scheduled.reason) == (
        "sum",
        1,
        4,
        0.5,
        2.0,
        "exception",
    )
    assert isinstance(scheduled.error, ConnectError)
    assert again == AttemptStarted("sum", 2, 4, 2.5)
    assert succeeded == CallSucceeded("sum", 2, 4, 2.75)


@both_drivers
def test_the_records_of_a_call_that_fails(driver: str) -> None:
    rig = Rig(driver, unconnected, unconnected, retry_strategy=every(1, 2.0), watched=True)
    with pytest.raises(ConnectError) as caught:
        rig.call("sum")
    assert rig.told == ["AttemptStarted", "RetryScheduled", "AttemptStarted", "CallFailed"]
    failed = rig.events[-1]
    assert isinstance(failed, CallFailed)
    assert (failed.attempt, failed.max_attempts, failed.elapsed, failed.reason) == (2, 2, 2.0, "attempts")
    assert failed.error is caught.value


@both_drivers
@pytest.mark.parametrize(
    ("script", "options", "reason", "attempt"),
    [
        ([], {"layers": Recorder(waits=[Refused("full")] * 2)}, "refused", 0),
        ([], {"deadline": 0}, "deadline", 0),
        ([lost], {"retry_strategy": every()}, "may have been executed, and is not declared idempotent", 1),
        ([unconnected], {}, "error", 1),
        ([unconnected], {"retry_strategy": every(), "deadline": 1}, "deadline", 1),
        ([unconnected], {"retry_strategy": every(0)}, "attempts", 1),
    ],
    ids=["refused", "deadline before", "guard", "no strategy", "deadline", "attempts"],
)
def test_call_failed_says_why_there_was_no_other_attempt(driver: str, script: list[Any], options: dict[str, Any], reason: str, attempt: int) -> None:
    rig = Rig(driver, *script, **options, watched=True)
    with pytest.raises((Refused, DeadlineExceeded, ConnectionError)):
        rig.call("sum")
    failed = rig.events[-1]
    assert isinstance(failed, CallFailed)
    assert (failed.reason, failed.attempt) == (reason, attempt)


@both_drivers
def test_a_client_without_a_strategy_has_one_attempt(driver: str) -> None:
    rig = Rig(driver, result(5), watched=True)
    rig.call("sum")
    assert [event.max_attempts for event in rig.events] == [1, 1]


@pytest.mark.parametrize(
    "event",
    [
        AttemptStarted("m", 1, 4, 0.0),
        RetryScheduled("m", 1, None, 0.5, 1.0, "code", None),
        CallSucceeded("m", 2, 4, 0.5),
        CallFailed("m", 2, 4, 1.0, "attempts", ValueError("x")),
    ],
    ids=lambda event: type(event).__name__,
)
def test_records_are_frozen(event: Event) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.attempt = 9  # type: ignore[misc]
    assert not hasattr(event, "__dict__")
    assert repr(pickle.loads(pickle.dumps(event))) == repr(event)


# --- sinks ---


@both_drivers
def test_a_sink_that_raises_is_logged_and_harms_nothing(driver: str, lines: Any) -> None:
    def broken(event: Event) -> None:
        raise LookupError("sink")

    seen: list[Event] = []
    rig = Rig(driver, unconnected, result(5), retry_strategy=every(), on_event=[broken, seen.append])
    assert rig.call("sum") == 5
    assert [type(event).__name__ for event in seen] == ["AttemptStarted", "RetryScheduled", "AttemptStarted", "CallSucceeded"]
    errors = [text for level, text in lines() if level == "ERROR"]
    assert len(errors) == 4
    assert "on_event" in errors[0]
    assert "AttemptStarted" in errors[0]


@both_drivers
def test_sinks_are_called_in_their_order(driver: str) -> None:
    order: list[str] = []
    rig = Rig(driver, result(5), on_event=(lambda event: order.append("first"), lambda event: order.append("second")))
    rig.call("sum")
    assert order == ["first", "second"] * 2


@both_drivers
def test_a_cancelled_call_is_told_to_nobody_as_an_end(driver: str) -> None:
    def interrupt(exchange: object) -> None:
        raise KeyboardInterrupt

    rig = Rig(driver, interrupt, retry_strategy=every(), watched=True)
    with pytest.raises(KeyboardInterrupt):
        rig.call("sum")
    assert rig.told == ["AttemptStarted"]


class Quiet(LoggingSink):
    """The logging module stamps its records with the wall clock, which is none of ours to forbid."""

    def __call__(self, event: Event) -> None: ...


@both_drivers
def test_the_engine_reads_no_clock_but_the_one_that_it_was_given(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wall clock that is set back must not make a call wait."""

    def forbidden() -> float:
        raise AssertionError("somebody read the wall clock")

    rig = Rig(driver, unconnected, result(5), retry_strategy=every(), deadline=60, on_event=Quiet())
    monkeypatch.setattr(time, "time", forbidden)
    value = rig.call("sum")
    monkeypatch.undo()
    assert value == 5
    assert rig.waits == [1.234]


def test_a_kept_log_record_keeps_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig("sync", *[unconnected] * 4, retry_strategy=every())
    with caplog.at_level("DEBUG", logger="rpcretry"), pytest.raises(ConnectionError):
        rig.call("sum")
    assert caplog.records
    assert not any(isinstance(value, BaseException) for record in caplog.records for value in (record.args or ()))
