"""Spans, trace context and metrics, with the real SDK."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import itertools
import logging
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState
from otel_rig import OtelRig, Telemetry
from support import both_drivers

from rpcretry import (
    AsyncClient,
    BatchRequest,
    BudgetExhaustedError,
    CircuitBreaker,
    CircuitOpenError,
    Client,
    DeadlineExceeded,
    Fallback,
    HTTPStatusError,
    JsonRpcError,
    RateLimit,
    Request,
    RetryBudget,
    RetryMetrics,
    RetryStrategy,
)
from rpcretry.client import Joining
from rpcretry.events import CallSucceeded
from rpcretry.functions import Retrying, retry, retrying
from rpcretry.integrations.opentelemetry import OpenTelemetry
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import RESET, Answer, AsyncScriptedBackend, LoopbackServer, ScriptedBackend, VirtualTime, error, http, result, rpc, took
from rpcretry.transport import Exchange, Reply

AGAIN = RetryStrategy(codes={2001}, statuses={503}, exceptions={ConnectionError}, backoff=PeriodicBackoff(3, 0.5))
SOON = RetryStrategy(codes={2001}, statuses={503}, exceptions={ConnectionError}, backoff=PeriodicBackoff(3, 0.02))


class Busy(Exception):
    code = 2001


def troubled(*troubles: Any) -> Callable[[Any], Any]:
    """A handler that has these troubles first."""
    left, working = list(troubles), rpc({"sum": lambda a, b: a + b, "tick": lambda: None})
    return lambda received: left.pop(0) if left else working(received)


def parent_of(header: str) -> int:
    match = re.fullmatch(r"00-[0-9a-f]{32}-([0-9a-f]{16})-[0-9a-f]{2}", header)
    assert match is not None, header
    return int(match[1], 16)


def names(events: Any) -> list[str]:
    return [event.name for event in events]


# --- spans over a real connection ---


@both_drivers
def test_a_retried_call_is_a_span_with_one_child_for_each_attempt(driver: str) -> None:
    with LoopbackServer(troubled(RESET, Answer(b"busy", status=503))) as server:
        rig = OtelRig(driver, url=server.url + "v2/SECRET-KEY", retry_strategy=SOON)
        assert rig.run(lambda client: client.call("sum", 1, 2)) == 3
    call, first, second, third = spans = rig.telemetry.spans
    assert rig.telemetry.tree() == [("sum", ["sum attempt"] * 3)]
    assert {span.kind for span in spans} == {SpanKind.CLIENT}
    assert len({span.context.trace_id for span in spans}) == 1
    for span in spans:
        attributes = span.attributes
        assert attributes is not None
        assert (attributes["rpc.system"], attributes["rpc.system.name"]) == ("jsonrpc", "jsonrpc")
        assert (attributes["rpc.method"], attributes["jsonrpc.request.id"], attributes["rpc.jsonrpc.request_id"]) == ("sum", "1", "1")
        assert (attributes["jsonrpc.protocol.version"], attributes["rpc.jsonrpc.version"]) == ("2.0", "2.0")
        assert (attributes["server.address"], attributes["server.port"]) == ("127.0.0.1", server.port)
    assert (call.attributes["rpcretry.retry_count"], call.attributes["rpcretry.reason"]) == (2, "ok")
    assert call.status.status_code is StatusCode.UNSET
    assert [span.attributes["rpcretry.attempt"] for span in (first, second, third)] == [1, 2, 3]
    assert [span.status.status_code for span in (first, second, third)] == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]
    assert first.attributes["error.type"] == "rpcretry.errors.ConnectionLostError"
    assert (second.attributes["error.type"], second.attributes["http.response.status_code"]) == ("rpcretry.errors.HTTPStatusError", 503)
    # The waits are the gaps between the attempts, and events of the call.
    for before, after in ((first, second), (second, third)):
        assert after.start_time > before.end_time
        assert after.start_time - before.start_time >= 19_000_000
    assert call.start_time <= first.start_time
    assert call.end_time >= third.end_time
    assert names(call.events) == ["retry scheduled", "retry scheduled"]
    noted = dict(call.events[1].attributes)
    # The difference of two readings of the clock: the longer the machine is up, the coarser.
    assert noted.pop("rpcretry.delay") == pytest.approx(0.02)
    assert noted == {"rpcretry.attempt": 2, "rpcretry.reason": "status", "rpcretry.members": 1}
    # Each exchange carries the span of its own attempt.
    assert [parent_of(request.headers["traceparent"]) for request in server.requests] == [span.context.span_id for span in (first, second, third)]


@both_drivers
def test_a_call_that_succeeds_at_once(driver: str) -> None:
    with LoopbackServer(troubled()) as server:
        rig = OtelRig(driver, url=server.url)
        rig.run(lambda client: client.call("sum", 1, 2))
    assert rig.telemetry.tree() == [("sum", ["sum attempt"])]
    call = rig.telemetry.only("sum")
    assert (call.attributes["rpcretry.retry_count"], len(call.events)) == (0, 0)


@both_drivers
def test_a_part_of_a_batch_goes_again(driver: str) -> None:
    seats = iter([True])

    def reserve() -> str:
        if next(seats, False):
            raise Busy
        return "yours"

    with LoopbackServer(rpc({"reserve": reserve, "sum": lambda a, b: a + b})) as server:
        rig = OtelRig(driver, url=server.url, retry_strategy=SOON)
        found = rig.run(lambda client: client.send(BatchRequest(Request("reserve"), Request("sum", [1, 2]), Request("sum", [1, 1], id=None))))
    assert [response.result for response in found] == ["yours", 3]
    call, first, second = rig.telemetry.spans
    assert rig.telemetry.tree() == [("batch", ["batch attempt"] * 2)]
    assert (call.attributes["rpcretry.batch.size"], call.attributes["rpc.method"], call.attributes["rpcretry.retry_count"]) == (3, "batch", 1)
    assert "jsonrpc.request.id" not in call.attributes
    assert call.events[0].attributes["rpcretry.members"] == 1
    assert (first.attributes["error.type"], first.attributes["rpc.jsonrpc.error_code"]) == ("2001", 2001)
    assert second.status.status_code is StatusCode.UNSET


# --- what spans say ---


@both_drivers
def test_an_error_of_the_server(driver: str) -> None:
    rig = OtelRig(driver, *[error(2001, "password hunter2", data="hunter2")] * 4, retry_strategy=AGAIN)
    with pytest.raises(JsonRpcError):
        rig.run(lambda client: client.call("sum", "hunter2", _headers={"Authorization": "hunter2"}))
    call, *attempts = rig.telemetry.spans
    assert len(attempts) == 4
    for span in (call, *attempts):
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes["error.type"] == span.attributes["rpc.response.status_code"] == "2001"
        assert span.attributes["rpc.jsonrpc.error_code"] == 2001
    assert (call.attributes["rpcretry.reason"], call.attributes["rpcretry.retry_count"]) == ("attempts", 3)
    assert "hunter2" not in rig.telemetry.told()


def test_urls_headers_params_and_bodies_are_no_part_of_what_leaves_the_process() -> None:
    with LoopbackServer(lambda received: Answer(b"<html>hunter2 in a page", status=500)) as server:
        url = server.url.replace("://", "://user:hunter2@") + "v1/hunter2?key=hunter2"
        rig = OtelRig("sync", url=url, headers={"X-Key": "hunter2"}, retry_strategy=RetryStrategy(exceptions={Exception}, backoff=PeriodicBackoff(1, 0)))
        with pytest.raises(HTTPStatusError):
            rig.run(lambda client: client.call("sum", "hunter2"))
    told = rig.telemetry.told()
    assert "hunter2" not in told
    assert "127.0.0.1" in told


def test_wrapped_failures_are_what_they_wrap() -> None:
    rig = OtelRig("sync", http(503), http(503), retry_strategy=RetryStrategy(statuses={503}, backoff=PeriodicBackoff(1, 0), wrap=True))
    with pytest.raises(Exception, match="attempts"):
        rig.run(lambda client: client.call("sum"))
    assert [span.attributes["error.type"] for span in rig.telemetry.spans] == ["rpcretry.errors.HTTPStatusError"] * 3


@both_drivers
def test_a_notification_has_no_id(driver: str) -> None:
    rig = OtelRig(driver, result(None))
    rig.run(lambda client: client.notify("tick"))
    for span in rig.telemetry.spans:
        assert span.attributes["rpc.method"] == "tick"
        assert not {"jsonrpc.request.id", "rpc.jsonrpc.request_id"} & set(span.attributes)


@both_drivers
def test_a_refused_call_has_no_attempt(driver: str) -> None:
    breaker = CircuitBreaker(failure_threshold=1)
    rig = OtelRig(driver, http(503), layers=breaker)
    with pytest.raises(HTTPStatusError):
        rig.run(lambda client: client.call("sum"))
    with pytest.raises(CircuitOpenError):
        rig.run(lambda client: client.call("sum"))
    failed, _, refused = rig.telemetry.spans
    assert rig.telemetry.tree() == [("sum", ["sum attempt"]), "sum"]
    assert names(failed.events) == ["circuit breaker changed"]
    assert failed.events[0].attributes["rpcretry.state"] == "open"
    assert (refused.attributes["error.type"], refused.attributes["rpcretry.reason"]) == ("rpcretry.errors.CircuitOpenError", "refused")
    assert (refused.attributes["rpcretry.retry_count"], refused.status.status_code) == (0, StatusCode.ERROR)
    (point,) = rig.telemetry.points("rpcretry.refused")
    assert (point.value, point.attributes["error.type"]) == (1, "rpcretry.errors.CircuitOpenError")


@both_drivers
def test_waits_of_layers_and_refusals_of_budgets_are_events(driver: str) -> None:
    layers = [RateLimit(1), RetryBudget(1, name="node")]
    rig = OtelRig(driver, result(1), *[http(503)] * 3, retry_strategy=AGAIN, layers=layers)
    rig.run(lambda client: client.call("sum"))
    with pytest.raises(BudgetExhaustedError):
        rig.run(lambda client: client.call("sum"))
    call = [span for span in rig.telemetry.spans if span.name == "sum"][1]
    assert names(call.events) == ["waited", "retry scheduled", "waited", "retry budget refused"]
    assert call.events[0].attributes["rpcretry.delay"] == pytest.approx(1)
    assert call.events[-1].attributes["rpcretry.reason"] == "node"
    assert call.attributes["error.type"] == "rpcretry.errors.BudgetExhaustedError"
    assert rig.telemetry.children(call)[-1].attributes["error.type"] == "rpcretry.errors.HTTPStatusError"


@both_drivers
def test_a_deadline_ends_the_call_and_not_what_its_last_attempt_came_to(driver: str) -> None:
    rig = OtelRig(driver, http(503), http(503), retry_strategy=AGAIN, deadline=0.7)
    with pytest.raises(DeadlineExceeded):
        rig.run(lambda client: client.call("sum"))
    call, *attempts = rig.telemetry.spans
    assert (call.attributes["error.type"], call.attributes["rpcretry.reason"]) == ("rpcretry.errors.DeadlineExceeded", "deadline")
    assert [span.attributes["error.type"] for span in attempts] == ["rpcretry.errors.HTTPStatusError"] * 2


@both_drivers
def test_a_fallback_is_a_child_of_the_call_that_failed(driver: str) -> None:
    rig = OtelRig(driver, http(503), fallback=Fallback(0))
    assert rig.run(lambda client: client.call("sum")) == 0
    assert rig.telemetry.tree() == [("sum", ["sum attempt", "fallback"])]
    assert rig.telemetry.only("sum").status.status_code is StatusCode.ERROR


@both_drivers
def test_calls_are_children_of_what_is_current_and_leave_it_so(driver: str) -> None:
    telemetry = Telemetry()
    rig = OtelRig(driver, http(503), result(1), retry_strategy=AGAIN, telemetry=telemetry)
    with telemetry.tracer.start_as_current_span("outer") as outer:
        rig.run(lambda client: client.call("sum"))
        assert trace.get_current_span() is outer
    assert telemetry.tree() == [("outer", [("sum", ["sum attempt"] * 2)])]


@both_drivers
def test_what_an_attempt_does_is_part_of_its_span(driver: str) -> None:
    telemetry = Telemetry()

    def inner(exchange: Exchange) -> Any:
        with telemetry.tracer.start_as_current_span("http"):
            return result(1)(exchange)

    rig = OtelRig(driver, inner, telemetry=telemetry)
    rig.run(lambda client: client.call("sum"))
    assert telemetry.tree() == [("sum", [("sum attempt", ["http"])])]


# --- trace context ---


@both_drivers
def test_headers_of_the_user_win(driver: str) -> None:
    rig = OtelRig(driver, result(1))
    rig.run(lambda client: client.call("sum", _headers={"Traceparent": "mine", "X-Mine": "1"}))
    assert dict(rig.backend.exchanges[0].headers.items()) == {"Traceparent": "mine", "X-Mine": "1"}


@both_drivers
@pytest.mark.parametrize("name", ["traceparent", "Traceparent"])
def test_a_trace_of_the_users_gets_no_state_of_another_one(driver: str, name: str) -> None:
    state = TraceState([("vendor", "x")])
    here = SpanContext(0x1234567890ABCDEF1234567890ABCDEF, 0x1234567890ABCDEF, True, TraceFlags(1), state)
    rig = OtelRig(driver, result(1), result(1))
    token = context.attach(trace.set_span_in_context(NonRecordingSpan(here)))
    try:
        rig.run(lambda client: client.call("sum"))
        rig.run(lambda client: client.call("sum", _headers={name: "mine"}))
    finally:
        context.detach(token)
    first, second = (exchange.headers for exchange in rig.backend.exchanges)
    assert first["tracestate"] == "vendor=x"
    assert dict(second.items()) == {name: "mine"}


def test_the_trace_context_wins_over_headers_for_all_calls() -> None:
    with LoopbackServer(troubled()) as server:
        rig = OtelRig("sync", url=server.url, headers={"traceparent": "mine"})
        rig.run(lambda client: client.call("sum", 1, 2))
    assert parent_of(server.requests[0].headers["traceparent"]) == rig.telemetry.only("sum attempt").context.span_id


@both_drivers
def test_baggage_travels_too(driver: str) -> None:
    rig = OtelRig(driver, result(1))
    token = context.attach(baggage.set_baggage("tenant", "7"))
    try:
        rig.run(lambda client: client.call("sum"))
    finally:
        context.detach(token)
    assert rig.backend.exchanges[0].headers["baggage"] == "tenant=7"


def test_the_middleware_alone_passes_on_what_is_current() -> None:
    telemetry, backend = Telemetry(), ScriptedBackend([result(1), result(1)])
    client = Client(backend, middlewares=telemetry.otel.propagate)
    client.call("sum")
    assert backend.exchanges[0].headers is None
    with telemetry.tracer.start_as_current_span("outer") as outer:
        client.call("sum")
    headers = backend.exchanges[1].headers
    assert headers is not None
    assert parent_of(headers["traceparent"]) == outer.get_span_context().span_id


# --- cut off ---


class Hard(BaseException):
    pass


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, Hard])
@pytest.mark.parametrize("where", ["attempt", "wait", "second attempt"])
def test_an_interrupt_ends_the_spans(kind: type[BaseException], where: str) -> None:
    def stop(*_: Any) -> Any:
        raise kind

    script = {"attempt": [stop], "wait": [http(503)], "second attempt": [http(503), stop]}[where]
    telemetry, time = Telemetry(), VirtualTime()
    sleep = stop if where == "wait" else time.sleep
    client = Client(ScriptedBackend(script), retry_strategy=AGAIN, on_event=telemetry.otel, middlewares=telemetry.otel.propagate, clock=time.clock, sleep=sleep)
    with pytest.raises(kind):
        client.call("sum")
    call, *attempts = telemetry.spans
    assert len(attempts) == (2 if where == "second attempt" else 1)
    assert call.status.status_code is StatusCode.ERROR
    assert call.attributes["error.type"] == (kind.__name__ if kind is not Hard else f"{__name__}.Hard")
    if where != "wait":
        assert attempts[-1].attributes["error.type"] == call.attributes["error.type"]
    assert telemetry.points("rpc.client.call.duration") == []


@pytest.mark.parametrize("where", ["attempt", "wait", "queue"])
def test_a_cancel_ends_the_spans(where: str) -> None:
    telemetry = Telemetry()

    class Hanging:
        async def exchange(self, exchange: Exchange) -> Reply:
            if where == "attempt":
                await asyncio.sleep(60)
            return http(503)

        async def aclose(self) -> None: ...

    async def main() -> None:
        layers = [RateLimit(1, per=60)] if where == "queue" else []
        strategy = RetryStrategy(statuses={503}, backoff=PeriodicBackoff(3, 60))
        client = AsyncClient(Hanging(), retry_strategy=strategy, layers=layers, on_event=telemetry.otel, middlewares=telemetry.otel.propagate_async)
        before = context.get_current()
        if where == "queue":
            with pytest.raises(HTTPStatusError):
                await client.call("first", _retry_strategy=None)
        task = asyncio.create_task(client.call("sum"))
        await asyncio.sleep(0.01)
        assert "sum" in telemetry.open
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert context.get_current() is before

    asyncio.run(main())
    call = telemetry.only("sum")
    assert call.attributes["error.type"] == "asyncio.exceptions.CancelledError"
    assert telemetry.tree()[-1] == ("sum" if where == "queue" else ("sum", ["sum attempt"]))


def test_a_coroutine_that_is_closed_elsewhere_resets_nothing_there(caplog: pytest.LogCaptureFixture) -> None:
    telemetry = Telemetry()

    class Hanging:
        async def exchange(self, exchange: Exchange) -> Reply:
            await asyncio.sleep(60)
            raise AssertionError

        async def aclose(self) -> None: ...

    async def main() -> Any:
        client = AsyncClient(Hanging(), on_event=telemetry.otel, middlewares=telemetry.otel.propagate_async)
        coroutine = client.call("sum")
        # Begun in a context of its own.
        contextvars.copy_context().run(coroutine.send, None)
        return coroutine

    coroutine = asyncio.run(main())
    assert telemetry.open == ["sum", "sum attempt"]
    with telemetry.tracer.start_as_current_span("elsewhere") as elsewhere:
        coroutine.close()
        assert trace.get_current_span() is elsewhere
    assert [span.attributes.get("error.type") for span in telemetry.spans] == ["GeneratorExit", "GeneratorExit", None]
    assert caplog.records == []


def test_a_call_keeps_nothing_alive() -> None:
    rig = OtelRig("sync", http(503), result(1), retry_strategy=AGAIN)
    kept: list[weakref.ref[Any]] = []
    begin = OpenTelemetry.begin_call

    class Watched(OpenTelemetry):
        def begin_call(self, operation: str, requests: Any) -> Any:
            sink = begin(self, operation, requests)
            kept.append(weakref.ref(sink))
            return sink

    telemetry = rig.telemetry
    watched = Watched(tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
    rig = OtelRig("sync", http(503), result(1), retry_strategy=AGAIN, telemetry=telemetry, on_event=watched)
    gc.disable()
    try:
        rig.run(lambda client: client.call("sum"))
        assert [reference() for reference in kept] == [None]
    finally:
        gc.enable()


# --- functions ---


@both_drivers
def test_a_retried_function_has_spans(driver: str) -> None:
    telemetry, time, tries = Telemetry(), VirtualTime(), []

    def body() -> int:
        with telemetry.tracer.start_as_current_span("inner"):
            tries.append(1)
            if len(tries) < 3:
                raise ConnectionError("hunter2")
            return 7

    async def fetch_async() -> int:
        return body()

    options: dict[str, Any] = {"on_event": telemetry.otel, "clock": time.clock, "sleep": time.sleep if driver == "sync" else time.asleep, "name": "fetch"}
    if driver == "sync":
        assert retry(**options)(body)() == 7
    else:
        assert asyncio.run(retry(**options)(fetch_async)()) == 7
    assert telemetry.tree() == [("fetch", [("fetch attempt", ["inner"])] * 3)]
    call, attempt = telemetry.only("fetch"), telemetry.children(telemetry.only("fetch"))[0]
    assert (call.kind, attempt.kind) == (SpanKind.INTERNAL, SpanKind.INTERNAL)
    assert dict(call.attributes) == {"rpcretry.function": "fetch", "rpcretry.retry_count": 2, "rpcretry.reason": "ok"}
    assert attempt.attributes["error.type"] == "ConnectionError"
    (point,) = telemetry.points("rpcretry.function.duration")
    assert (point.count, dict(point.attributes)) == (1, {"rpcretry.function": "fetch"})
    assert telemetry.points("rpc.client.call.duration") == []


def test_a_call_inside_of_a_retried_function_is_part_of_its_attempt() -> None:
    telemetry = Telemetry()
    rig = OtelRig("sync", http(503), result(1), telemetry=telemetry)

    @retry(on_event=telemetry.otel, on=HTTPStatusError, sleep=lambda seconds: None, name="fetch")
    def fetch() -> Any:
        return rig.client.call("sum")

    assert fetch() == 1
    assert telemetry.tree() == [("fetch", [("fetch attempt", [("sum", ["sum attempt"])])] * 2)]


@pytest.mark.parametrize("leave", ["succeed", "break", "raise", "interrupt"])
def test_a_block_however_it_is_left(leave: str) -> None:
    telemetry = Telemetry()

    def block() -> None:
        for attempt in retrying(on_event=telemetry.otel, max_attempts=3, sleep=lambda seconds: None, name="block"):
            with attempt:
                if attempt.number == 1:
                    raise ConnectionError
                if leave == "raise":
                    raise ValueError
                if leave == "interrupt":
                    raise KeyboardInterrupt
            if leave == "break" and attempt.number == 1:
                break

    ends = {"raise": ValueError, "interrupt": KeyboardInterrupt}
    if leave in ends:
        with pytest.raises(ends[leave]):
            block()
    else:
        block()
    assert telemetry.tree() == [("block", ["block attempt"] * (1 if leave == "break" else 2))]
    said = telemetry.only("block").attributes.get("error.type")
    assert said == {"succeed": None, "break": "GeneratorExit", "raise": "ValueError", "interrupt": "KeyboardInterrupt"}[leave]


def test_an_async_block() -> None:
    telemetry = Telemetry()

    async def main() -> None:
        async for attempt in Retrying(on_event=telemetry.otel, sleep=lambda seconds: asyncio.sleep(0), name="block"):
            with attempt:
                await asyncio.sleep(0)
                with telemetry.tracer.start_as_current_span("inner"):
                    if attempt.number == 1:
                        raise ConnectionError

    asyncio.run(main())
    assert telemetry.tree() == [("block", [("block attempt", ["inner"])] * 2)]


# --- many at once ---


def test_threads_do_not_mix_their_traces() -> None:
    with LoopbackServer(rpc({"sum": lambda a, b: a + b})) as server:
        rig = OtelRig("sync", url=server.url)
        telemetry = rig.telemetry

        def work(number: int) -> None:
            with telemetry.tracer.start_as_current_span(f"thread {number}"):
                for _ in range(10):
                    rig.client.call("sum", number, 1)

        with rig.client:
            threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
    assert sorted(telemetry.tree()) == [(f"thread {number}", [("sum", ["sum attempt"])] * 10) for number in range(6)]


def test_tasks_do_not_mix_their_traces() -> None:
    telemetry = Telemetry()

    class Slow:
        async def exchange(self, exchange: Exchange) -> Reply:
            await asyncio.sleep(0)
            return result(1)(exchange)

        async def aclose(self) -> None: ...

    async def main() -> None:
        client = AsyncClient(Slow(), on_event=telemetry.otel, middlewares=telemetry.otel.propagate_async)

        async def work(number: int) -> None:
            with telemetry.tracer.start_as_current_span(f"task {number}"):
                for _ in range(3):
                    await client.call("sum")

        await asyncio.gather(*(work(number) for number in range(5)))

    asyncio.run(main())
    assert sorted(telemetry.tree()) == [(f"task {number}", [("sum", ["sum attempt"])] * 3) for number in range(5)]


@both_drivers
@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_bulk_has_a_trace_for_each_call(driver: str, concurrency: int) -> None:
    rig = OtelRig(driver, *[result(1)] * 3, *[http(503)] * 2, *[result(1)] * 9, retry_strategy=AGAIN)

    def many(client: Any) -> Any:
        return client.bulk((Request("sum", [number]) for number in range(6)), concurrency=concurrency).run()

    assert len(rig.run(many).successful) == 6
    tree = rig.telemetry.tree()
    assert len(tree) == 6
    assert sum(len(attempts) for _, attempts in tree) == 8


@both_drivers
@pytest.mark.parametrize("concurrency", [1, 3])
def test_the_calls_of_a_bulk_are_children_of_what_is_current(driver: str, concurrency: int) -> None:
    telemetry = Telemetry()
    rig = OtelRig(driver, *[result(1)] * 6, telemetry=telemetry)
    with telemetry.tracer.start_as_current_span("outer") as outer:
        rig.run(lambda client: client.bulk((Request("sum", [number]) for number in range(6)), concurrency=concurrency).run())
        assert trace.get_current_span() is outer
    assert telemetry.tree() == [("outer", [("sum", ["sum attempt"])] * 6)]


@pytest.mark.parametrize("where", ["attempt", "wait"])
@pytest.mark.parametrize("after", ["go on", "drop"])
def test_a_bulk_that_is_cut_off_leaves_no_span_open(where: str, after: str) -> None:
    telemetry, time, cuts = Telemetry(), VirtualTime(), [True]

    def cut(*_: Any) -> Any:
        if cuts:
            cuts.pop()
            raise KeyboardInterrupt
        return result(1) if where == "attempt" else None

    script: list[Any] = [lambda exchange: cut(), result(2)] if where == "attempt" else [http(503), result(2)]
    sleep = cut if where == "wait" else time.sleep
    client = Client(ScriptedBackend(script), retry_strategy=AGAIN, on_event=telemetry.otel, middlewares=telemetry.otel.propagate, clock=time.clock, sleep=sleep)
    bulk = client.bulk([Request("sum"), Request("last")][: 2 if where == "attempt" else 1], partial_success_threshold=0)
    with pytest.raises(KeyboardInterrupt):
        bulk.run()
    assert context.get_current() == {}
    if after == "go on":
        done = bulk.run()
        assert (len(done.successful), len(done.failed)) == (1, 1 if where == "attempt" else 0)
    del bulk
    gc.collect()
    first = telemetry.spans[0]
    if where == "wait" and after == "go on":
        assert telemetry.tree() == [("sum", ["sum attempt"] * 2)]
        assert first.status.status_code is StatusCode.UNSET
    else:
        assert first.attributes["error.type"] == ("KeyboardInterrupt" if where == "attempt" else "GeneratorExit")


def test_joined_calls_are_joined_still_and_each_has_its_spans() -> None:
    telemetry, backend = Telemetry(), AsyncScriptedBackend([result(1)] * 9)

    async def main() -> None:
        client = AsyncClient(backend, joining=True, on_event=telemetry.otel, middlewares=telemetry.otel.propagate_async)

        async def one(number: int) -> None:
            with telemetry.tracer.start_as_current_span(f"task {number}"):
                assert await client.call("sum") == 1

        await asyncio.gather(*(one(number) for number in range(4)))

    asyncio.run(main())
    assert [len(exchange.requests) for exchange in backend.exchanges] == [4]
    assert sorted(telemetry.tree()) == [(f"task {number}", [("sum", ["sum attempt"])]) for number in range(4)]
    headers = backend.exchanges[0].headers
    assert headers is not None
    first = next(span for span in telemetry.spans if span.name == "sum attempt")
    assert parent_of(headers["traceparent"]) == first.context.span_id


@pytest.mark.parametrize("name", ["b3", "X-B3-TraceId", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags", "uber-trace-id", "X-Amzn-Trace-Id"])
def test_other_ways_to_write_trace_context_do_not_keep_calls_apart(name: str) -> None:
    backend = AsyncScriptedBackend([result(1)] * 9)

    async def main() -> None:
        client = AsyncClient(backend, joining=True)
        await asyncio.gather(*(client.call("sum", _headers={name: f"{number}"}) for number in range(3)))

    asyncio.run(main())
    assert [(len(exchange.requests), dict((exchange.headers or {}).items())) for exchange in backend.exchanges] == [(3, {name: "0"})]


def test_joined_calls_with_other_baggage_go_apart() -> None:
    telemetry, backend = Telemetry(), AsyncScriptedBackend([result(1)] * 9)

    async def main() -> None:
        client = AsyncClient(backend, joining=True, on_event=telemetry.otel, middlewares=telemetry.otel.propagate_async)

        async def one(number: int) -> None:
            context.attach(baggage.set_baggage("tenant", str(number % 2)))
            assert await client.call("sum") == 1

        await asyncio.gather(*(one(number) for number in range(4)))

    asyncio.run(main())
    found = sorted((exchange.headers or {})["baggage"] for exchange in backend.exchanges)
    assert (found, [len(exchange.requests) for exchange in backend.exchanges]) == (["tenant=0", "tenant=1"], [2, 2])


def test_joined_calls_over_a_real_connection() -> None:
    with LoopbackServer(rpc({"sum": lambda a, b: a + b})) as server:
        rig = OtelRig("async", url=server.url, joining=Joining(max_delay=0.02))

        async def several(client: Any) -> Any:
            return await asyncio.gather(*(client.call("sum", number, 1) for number in range(5)))

        assert rig.run(several) == [1, 2, 3, 4, 5]
    assert len(server.requests) == 1
    assert parent_of(server.requests[0].headers["traceparent"]) in {span.context.span_id for span in rig.telemetry.spans}


# --- metrics ---


@both_drivers
def test_the_metrics_of_retried_calls(driver: str) -> None:
    with LoopbackServer(troubled(Answer(b"busy", status=503), Answer({"jsonrpc": "2.0", "id": 1, "error": {"code": 2001, "message": "x"}}))) as server:
        rig = OtelRig(driver, url=server.url, retry_strategy=SOON)
        rig.run(lambda client: client.call("sum", 1, 2))
    (calls,) = rig.telemetry.points("rpc.client.call.duration")
    server_is = {"server.address": "127.0.0.1", "server.port": server.port}
    labels = {"rpc.system.name": "jsonrpc", "rpc.system": "jsonrpc", "rpc.method": "sum", **server_is}
    assert (calls.count, dict(calls.attributes)) == (1, labels)
    assert 0.03 < calls.sum < 5
    # Seconds, and not the bounds of the SDK, which are for milliseconds.
    assert calls.explicit_bounds[:2] == (0.005, 0.01)
    retries = {point.attributes["rpcretry.reason"]: point.value for point in rig.telemetry.points("rpcretry.retries")}
    assert retries == {"status": 1, "code": 1}


def test_failures_are_counted_by_type() -> None:
    rig = OtelRig("sync", error(-32601), http(500), result(1))
    for _ in range(2):
        with pytest.raises((JsonRpcError, HTTPStatusError)):
            rig.run(lambda client: client.call("sum"))
    rig.run(lambda client: client.call("sum"))
    counted = {point.attributes.get("error.type"): point.count for point in rig.telemetry.points("rpc.client.call.duration")}
    assert counted == {"-32601": 1, "rpcretry.errors.HTTPStatusError": 1, None: 1}


def test_ten_thousand_methods_and_codes_make_no_more_series_than_the_bound() -> None:
    telemetry = Telemetry(max_methods=20)
    backend = ScriptedBackend([error(number) for number in range(1, 10_001)])
    client = Client(backend, on_event=OpenTelemetry(tracer_provider=trace.NoOpTracerProvider(), meter_provider=telemetry.meter_provider, max_methods=20))
    for number in range(10_000):
        with pytest.raises(JsonRpcError):
            client.call(f"user{number}.get")
    points = telemetry.points("rpc.client.call.duration")
    assert len(points) <= 21 * 21
    assert len({point.attributes["rpc.method"] for point in points}) == 21
    assert len({point.attributes["error.type"] for point in points}) == 21
    assert sum(point.count for point in points) == 10_000
    assert "_OTHER" in {point.attributes["rpc.method"] for point in points}


def test_an_allow_list_and_batches_of_any_size() -> None:
    telemetry = Telemetry(methods=["sum"])
    rig = OtelRig("sync", *[result(1)] * 9, telemetry=telemetry)
    rig.run(lambda client: client.call("sum"))
    rig.run(lambda client: client.call("other"))
    for size in (2, 3):
        rig.run(lambda client, size=size: client.send(BatchRequest(*[Request("sum")] * size)))
    counted = {point.attributes["rpc.method"]: point.count for point in telemetry.points("rpc.client.call.duration")}
    assert counted == {"sum": 1, "_OTHER": 1, "batch": 2}
    # Spans are no series: they name every method.
    assert [span.name for span in telemetry.spans if span.parent is None] == ["sum", "other", "batch", "batch"]


def test_types_of_errors_leave_room_for_reasons() -> None:
    telemetry = Telemetry(max_methods=3)
    rig = OtelRig("sync", *[error(number) for number in range(1, 9)], http(503), result(1), telemetry=telemetry, retry_strategy=AGAIN)
    for _ in range(8):
        with pytest.raises(JsonRpcError):
            rig.run(lambda client: client.call("sum"))
    rig.run(lambda client: client.call("sum"))
    assert [point.attributes["rpcretry.reason"] for point in telemetry.points("rpcretry.retries")] == ["status"]


def test_long_names_are_cut_in_spans_and_not_kept_in_metrics() -> None:
    rig = OtelRig("sync", result(1))
    rig.run(lambda client: client.send(Request("m" * 1_000, id="i" * 1_000)))
    call, attempt = rig.telemetry.spans
    assert (call.name, attempt.name) == ("m" * 200, "m" * 200 + " attempt")
    assert (call.attributes["rpc.method"], call.attributes["jsonrpc.request.id"]) == ("m" * 200, "i" * 200)
    (point,) = rig.telemetry.points("rpc.client.call.duration")
    assert point.attributes["rpc.method"] == "_OTHER"


def test_a_method_or_function_that_is_called_as_a_batch_is_no_batch() -> None:
    rig = OtelRig("sync", result(1), result(1))
    rig.run(lambda client: client.call("batch of 1"))
    rig.run(lambda client: client.send(BatchRequest(Request("sum"))))
    retry(on_event=rig.telemetry.otel, name="batch of 0")(lambda: None)()
    calls = [span for span in rig.telemetry.spans if span.parent is None]
    assert [(span.name, span.attributes.get("rpcretry.batch.size")) for span in calls] == [("batch of 1", None), ("batch", 1), ("batch of 0", None)]
    counted = {point.attributes["rpc.method"]: point.count for point in rig.telemetry.points("rpc.client.call.duration")}
    assert counted == {"batch of 1": 1, "batch": 1}


# --- nothing breaks a call ---


class Broken(Exception):
    pass


@both_drivers
@pytest.mark.parametrize("what", ["start_span", "inject", "end", "add_event", "metrics"])
def test_a_broken_tracer_breaks_no_call(driver: str, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise Broken

    rig = OtelRig(driver, http(503), result(1), retry_strategy=AGAIN)
    otel = rig.telemetry.otel
    if what == "start_span":
        monkeypatch.setattr(otel._tracer, "start_span", broken)
    elif what == "inject":
        monkeypatch.setattr("opentelemetry.propagate.inject", broken)
    elif what == "metrics":
        monkeypatch.setattr(otel._calls, "record", broken)
    else:
        monkeypatch.setattr(f"opentelemetry.sdk.trace.Span.{what}", broken)
    assert rig.run(lambda client: client.call("sum")) == 1
    assert {record.exc_info[0] for record in caplog.records if record.exc_info} == {Broken}
    assert context.get_current() == {}
    monkeypatch.undo()


def test_other_sinks_are_told_beside_it() -> None:
    metrics, seen = RetryMetrics(), []
    telemetry = Telemetry()
    rig = OtelRig("sync", result(1), http(503), result(1), retry_strategy=AGAIN, telemetry=telemetry, on_event=[telemetry.otel, metrics, seen.append])
    rig.run(lambda client: client.call("sum"))
    rig.run(lambda client: client.call("sum"))
    now = metrics.snapshot()
    assert (now.calls, now.attempts, now.successful_after_retry) == (2, 3, 1)
    assert [type(event).__name__ for event in seen] == [
        "AttemptStarted",
        "CallSucceeded",
        "AttemptStarted",
        "RetryScheduled",
        "AttemptStarted",
        "CallSucceeded",
    ]
    assert len(telemetry.spans) == 5


def test_a_record_of_no_call_is_no_part_of_a_trace() -> None:
    telemetry = Telemetry()
    telemetry.otel(CallSucceeded("sum", 1, 1, 0.1))
    assert telemetry.spans == []


def test_what_nobody_samples_costs_no_span_and_is_still_passed_on() -> None:
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    backend = ScriptedBackend([http(503), result(1)])
    otel = OpenTelemetry(tracer_provider=TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False), meter_provider=Telemetry().meter_provider)
    time = VirtualTime()
    client = Client(backend, retry_strategy=AGAIN, on_event=otel, middlewares=otel.propagate, clock=time.clock, sleep=time.sleep)
    assert client.call("sum") == 1
    assert [exchange.headers["traceparent"][-2] for exchange in backend.exchanges if exchange.headers] == ["0", "0"]
    assert context.get_current() == {}


def test_without_providers_it_tells_the_global_ones() -> None:
    client = Client(ScriptedBackend([result(1)]), on_event=OpenTelemetry())
    assert client.call("sum") == 1


# --- bad input ---


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"tracer_provider": 1}, TypeError, "tracer_provider must be a TracerProvider or None, got int 1"),
        ({"meter_provider": TracerProvider}, TypeError, "meter_provider must be a MeterProvider or None, got ABCMeta"),
        ({"methods": "sum"}, TypeError, "methods must be an iterable of names, got str 'sum'; write \\[...\\] around it"),
        ({"methods": [1]}, TypeError, "methods must be names of type str, got int 1"),
        ({"max_methods": 0}, ValueError, "max_methods must be at least 1, got 0"),
        ({"max_methods": "9"}, TypeError, "max_methods must be an int"),
        ({"url": "localhost"}, ValueError, "url must start with http"),
        ({"url": 7}, TypeError, "url must be a str, got int"),
    ],
)
def test_bad_input(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        OpenTelemetry(**options)


def test_a_bad_url_is_not_shown() -> None:
    with pytest.raises(ValueError) as caught:
        OpenTelemetry("ftp://user:hunter2@host/hunter2")
    assert "hunter2" not in str(caught.value)


def test_the_middleware_of_the_other_kind_is_refused() -> None:
    otel = OpenTelemetry()
    with pytest.raises(TypeError, match="written with async def, got <function OpenTelemetry"):
        AsyncClient(AsyncScriptedBackend([]), middlewares=otel.propagate)
    with pytest.raises(TypeError, match="written with def, got <function OpenTelemetry"):
        Client(ScriptedBackend([]), middlewares=otel.propagate_async)


@pytest.mark.parametrize(("name", "library", "extra"), [("opentelemetry", "opentelemetry", "otel"), ("prometheus", "prometheus_client", "prometheus")])
def test_without_the_library_the_extra_is_named_and_the_package_never_needs_it(name: str, library: str, extra: str) -> None:
    program = f"""
import sys
sys.modules[{library!r}] = None
import rpcretry, rpcretry.integrations, rpcretry.backends.requests
try:
    import rpcretry.integrations.{name}
except ModuleNotFoundError as problem:
    print(problem)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f'pip install "rpcretry[{extra}]"' in done.stdout


@both_drivers
def test_a_time_that_the_engine_is_told_is_that_of_the_histogram(driver: str) -> None:
    telemetry = Telemetry()
    rig = OtelRig(driver, telemetry=telemetry, retry_strategy=AGAIN)
    rig.backend._items = iter([took(rig.time, 2.0, http(503)), took(rig.time, 1.0, result(1))])
    rig.run(lambda client: client.call("sum"))
    (point,) = telemetry.points("rpc.client.call.duration")
    assert point.sum == pytest.approx(3.5)


# --- an interrupt at any line ---


def strike_at(place: int, act: Callable[[], object]) -> bool:
    """Run *act* with a KeyboardInterrupt in front of that line of what makes and tells spans. Returns whether it came to so many lines."""
    files, left = ("_otel_spans.py", "_otel_attributes.py", "retry/engine.py", "rpcretry/events.py"), place

    def tracer(frame: Any, event: str, arg: Any) -> Any:
        nonlocal left
        # What hears of an interrupt is not struck by the next one.
        if not frame.f_code.co_filename.endswith(files) or frame.f_code.co_name in ("abandoned", "abandon"):
            return None
        if event == "line":
            left -= 1
            if left == -1:
                raise KeyboardInterrupt
        return tracer

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        act()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return left < 0


def test_an_interrupt_at_any_line_leaves_no_span_open_and_none_current(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "rpcretry")
    left: list[tuple[int, list[str]]] = []
    for place in itertools.count():
        rig = OtelRig("sync", http(503), result(1), retry_strategy=AGAIN)
        # In a context of its own, so that what one leaves current is not what the next one finds.
        here = contextvars.copy_context()
        reached = here.run(strike_at, place, functools.partial(rig.client.call, "sum"))
        if rig.telemetry.open or here.run(context.get_current) != {}:
            left.append((place, rig.telemetry.open))
        if not reached:
            break
    assert place > 100
    assert left == []
