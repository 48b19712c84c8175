"""Sinks that have another one for each call."""

from __future__ import annotations

import logging
import sys
from typing import Any
from unittest import mock

import pytest
from support import Rig, both_drivers

from rpcretry import BatchRequest, CircuitBreaker, CircuitOpenError, Client, HTTPStatusError, JsonRpcError, Request, RetryStrategy
from rpcretry.events import AttemptStarted, CallFailed, CallSink, CallSucceeded, Event
from rpcretry.functions import retry
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import ScriptedBackend, error, http, result

AGAIN = RetryStrategy(statuses={503}, backoff=PeriodicBackoff(3, 0.5))


class One(CallSink):
    def __init__(self, operation: str, requests: tuple[Request, ...]) -> None:
        self.operation, self.requests = operation, requests
        self.told: list[str] = []

    def __call__(self, event: Event) -> None:
        self.told.append(type(event).__name__)

    def abandoned(self) -> None:
        self.told.append(f"abandoned by {type(sys.exception()).__name__}")


class Each:
    def __init__(self) -> None:
        self.calls: list[One] = []

    def begin_call(self, operation: str, requests: tuple[Request, ...]) -> One:
        self.calls.append(One(operation, requests))
        return self.calls[-1]

    def __call__(self, event: Event) -> None:
        raise AssertionError("its calls have sinks of their own")


@both_drivers
def test_each_call_has_its_own(driver: str) -> None:
    each, seen = Each(), []
    rig = Rig(driver, result(1), http(503), result(2), http(500), retry_strategy=AGAIN, on_event=[each, lambda event: seen.append(type(event).__name__)])
    assert [rig.call("first"), rig.call("second")] == [1, 2]
    with pytest.raises(Exception, match="HTTP 500"):
        rig.call("third")
    assert [one.operation for one in each.calls] == ["first", "second", "third"]
    assert [one.told for one in each.calls] == [
        ["AttemptStarted", "CallSucceeded"],
        ["AttemptStarted", "RetryScheduled", "AttemptStarted", "CallSucceeded"],
        ["AttemptStarted", "CallFailed"],
    ]
    # The others are told the same.
    assert seen == [name for one in each.calls for name in one.told]


def test_the_requests_of_the_call() -> None:
    each = Each()
    rig = Rig("sync", *[result(1)] * 3, on_event=each)
    rig.call("sum", 1)
    rig.notify("tick")
    rig.send(BatchRequest(Request("a", id=7), Request("b", id=8)))
    retry(on_event=each, name="load")(lambda: None)()
    assert [[(request.method, request.id) for request in one.requests] for one in each.calls[:1]] == [[("sum", 1)]]
    assert each.calls[1].requests[0].is_notification
    assert [(request.method, request.id) for request in each.calls[2].requests] == [("a", 7), ("b", 8)]
    assert (each.calls[3].operation, each.calls[3].requests) == ("load", ())


@both_drivers
@pytest.mark.parametrize("where", ["attempt", "wait"])
def test_it_hears_when_the_call_is_cut_off(driver: str, where: str) -> None:
    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    each = Each()
    rig = Rig(driver, stop if where == "attempt" else http(503), retry_strategy=AGAIN, on_event=each)
    if where == "wait":
        rig.client._shared.sleep = stop
    with pytest.raises(KeyboardInterrupt):
        rig.call("sum")
    begun = ["AttemptStarted"] if where == "attempt" else ["AttemptStarted", "RetryScheduled"]
    assert each.calls[0].told[: len(begun)] == begun
    assert set(each.calls[0].told[len(begun) :]) == {"abandoned by KeyboardInterrupt"}


@pytest.mark.parametrize("broken", ["begin_call", "returns", "call", "abandoned"])
def test_one_that_raises_is_logged_and_harms_nothing(broken: str, caplog: pytest.LogCaptureFixture) -> None:
    class Bad(CallSink):
        def __call__(self, event: Event) -> None:
            if broken == "call":
                raise ValueError("call")

        def abandoned(self) -> None:
            raise ValueError("abandoned")

    class Sink:
        def begin_call(self, operation: str, requests: Any) -> Any:
            if broken == "begin_call":
                raise ValueError("begin_call")
            return Bad() if broken != "returns" else None

        def __call__(self, event: Event) -> None: ...

    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    each = Each()
    client = Client(ScriptedBackend([stop if broken == "abandoned" else result(1)]), on_event=[Sink(), each])
    if broken == "abandoned":
        with pytest.raises(KeyboardInterrupt):
            client.call("sum")
    else:
        assert client.call("sum") == 1
    logged = [str(record.exc_info[1]) for record in caplog.records if record.levelno == logging.ERROR and record.exc_info]
    words = "begin_call of Sink must return a CallSink, it returned None" if broken == "returns" else broken
    assert set(logged) == {words}
    assert each.calls[0].told[0] == "AttemptStarted"


def test_a_mock_is_no_such_sink() -> None:
    sink = mock.Mock()
    Client(ScriptedBackend([result(1)]), on_event=sink).call("sum")
    assert [type(call.args[0]).__name__ for call in sink.call_args_list] == ["AttemptStarted", "CallSucceeded"]
    sink.begin_call.assert_not_called()


@both_drivers
@pytest.mark.parametrize("wants", [(), (CallFailed,), (AttemptStarted, CallFailed), (CallSucceeded,)])
def test_what_the_sink_wants_does_not_filter_what_those_of_its_calls_hear(driver: str, wants: tuple[type[Event], ...]) -> None:
    each = Each()
    each.wants = wants  # type: ignore[attr-defined]
    rig = Rig(driver, result(1), result(1), on_event=each)
    rig.call("sum")
    rig.send(BatchRequest(Request("sum"), Request("sum")))
    rig = Rig(driver, http(503), error(2001), retry_strategy=AGAIN, on_event=each)
    with pytest.raises(JsonRpcError):
        rig.call("sum")
    started = ["AttemptStarted"]
    assert [one.told for one in each.calls] == [
        [*started, "CallSucceeded"],
        [*started, "CallSucceeded"],
        [*started, "RetryScheduled", *started, "CallFailed"],
    ]


class Noting(One):
    """Notes what its attempts come to, too."""

    def settled(self, outcomes: Any) -> None:
        self.told.append(f"settled {[type(outcome.error).__name__ for outcome in outcomes]}")


class EachNoting(Each):
    def begin_call(self, operation: str, requests: tuple[Request, ...]) -> Noting:
        self.calls.append(Noting(operation, requests))
        return self.calls[-1]


@both_drivers
def test_it_hears_what_each_attempt_came_to_after_the_record_of_it(driver: str) -> None:
    each = EachNoting()
    rig = Rig(driver, http(503), result(1), http(500), retry_strategy=AGAIN, on_event=each)
    rig.call("first")
    with pytest.raises(HTTPStatusError):
        rig.call("second")
    assert [one.told for one in each.calls] == [
        ["AttemptStarted", "RetryScheduled", "settled ['HTTPStatusError']", "AttemptStarted", "CallSucceeded", "settled ['NoneType']"],
        ["AttemptStarted", "CallFailed", "settled ['HTTPStatusError']"],
    ]


@both_drivers
def test_a_call_that_is_cut_off_or_never_sent_settles_nothing(driver: str) -> None:
    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    each = EachNoting()
    rig = Rig(driver, stop, on_event=each, layers=CircuitBreaker(failure_threshold=1, name="node"))
    with pytest.raises(KeyboardInterrupt):
        rig.call("sum")
    rig.client.layers[0].open()
    with pytest.raises(CircuitOpenError):
        rig.call("sum")
    assert set(each.calls[0].told) == {"AttemptStarted", "abandoned by KeyboardInterrupt"}
    assert each.calls[1].told == ["CallFailed"]


def test_several_are_told_of_the_end_in_reverse() -> None:
    told: list[str] = []

    class Named(CallSink):
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, event: Event) -> None:
            told.append(f"{self.name} {type(event).__name__}")

        def settled(self, outcomes: Any) -> None:
            told.append(f"{self.name} settled")

    class Sink:
        def __init__(self, name: str) -> None:
            self.name = name

        def begin_call(self, operation: str, requests: Any) -> Named:
            return Named(self.name)

        def __call__(self, event: Event) -> None: ...

    Client(ScriptedBackend([result(1)]), on_event=[Sink("outer"), Sink("inner")]).call("sum")
    assert told == [
        *["outer AttemptStarted", "inner AttemptStarted"],
        *["inner CallSucceeded", "outer CallSucceeded"],
        *["inner settled", "outer settled"],
    ]


@pytest.mark.parametrize(("kind", "count"), [(staticmethod, 2), (classmethod, 3)])
def test_begin_call_may_be_a_static_or_a_class_method(kind: Any, count: int) -> None:
    made: list[One] = []

    def begin(*given: Any) -> One:
        assert len(given) == count
        made.append(One(*given[-2:]))
        return made[-1]

    sink = type("Sink", (), {"begin_call": kind(begin), "__call__": lambda self, event: None})()
    Client(ScriptedBackend([result(1)]), on_event=sink).call("sum")
    assert [(one.operation, one.told) for one in made] == [("sum", ["AttemptStarted", "CallSucceeded"])]


def test_what_nobody_would_await_is_refused() -> None:
    class Sink:
        async def begin_call(self, operation: str, requests: Any) -> Any: ...

        def __call__(self, event: Event) -> None: ...

    with pytest.raises(TypeError, match=r"on_event: begin_call of Sink must be a plain function, got .* which nobody would await"):
        Client(ScriptedBackend([]), on_event=Sink())

    async def method(self: Any, *given: Any) -> None: ...

    for name in ("__call__", "settled", "abandoned"):
        with pytest.raises(TypeError, match=f"{name} of Later must be a plain function"):
            type("Later", (One,), {name: method})


def test_calls_that_no_sink_begins_pay_nothing_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr("rpcretry.retry.engine.begun", never)
    monkeypatch.setattr("rpcretry.retry.engine.settled", never)
    seen: list[Event] = []
    rig = Rig("sync", result(1), http(503), result(1), retry_strategy=AGAIN, on_event=seen.append)
    assert (rig.call("sum"), rig.call("sum"), len(seen)) == (1, 1, 6)


def test_a_call_sink_says_what_to_do_with_a_record() -> None:
    with pytest.raises(TypeError, match="abstract"):
        CallSink()  # type: ignore[abstract]
