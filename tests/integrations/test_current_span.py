"""Which span is current when, what it says of its own attempt, and that none stays current."""

from __future__ import annotations

import contextvars
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.trace import StatusCode
from otel_rig import OtelRig, Telemetry
from support import both_drivers

from rpcretry import BatchRequest, BudgetExhaustedError, Client, DeadlineExceeded, HTTPStatusError, JsonRpcError, Request, RetryBudget, RetryStrategy
from rpcretry.functions import retry
from rpcretry.layers import RetryAfter
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import ScriptedBackend, VirtualTime, error, http, result
from rpcretry.transport import Exchange, Reply

AGAIN = RetryStrategy(codes={2001}, statuses={503}, exceptions={ConnectionError}, backoff=PeriodicBackoff(3, 0.5))


@pytest.fixture
def apart() -> Callable[[Callable[[], Any]], Any]:
    """Runs something in a context of its own, so that what it leaves current harms no other test."""
    return contextvars.copy_context().run


def answering(*documents: dict[str, Any] | int) -> Callable[[Exchange], Reply]:
    """A batch reply: for each request an error (a document) or a result."""

    def reply(exchange: Exchange) -> Reply:
        found = [{"error": said} if isinstance(said, dict) else {"result": said} for said in documents]
        return Reply(json.dumps([{"jsonrpc": "2.0", "id": id, **one} for id, one in zip(exchange.ids, found, strict=True)]).encode())

    return reply


def refused(code: int, **data: Any) -> dict[str, Any]:
    return {"code": code, "message": "x", **({"data": data} if data else {})}


# --- none stays current ---


@both_drivers
@pytest.mark.parametrize("same", [False, True])
def test_two_on_one_client(driver: str, same: bool, apart: Any) -> None:
    first = Telemetry()
    second = first if same else Telemetry()

    def act() -> None:
        rig = OtelRig(driver, http(503), result(1), http(500), retry_strategy=AGAIN, telemetry=first, on_event=[first.otel, second.otel])
        assert rig.run(lambda client: client.call("sum")) == 1
        with pytest.raises(HTTPStatusError):
            rig.run(lambda client: client.call("sum"))
        assert context.get_current() == {}
        assert {len(telemetry.spans) for telemetry in (first, second)} == {10 if same else 5}

    apart(act)


def test_two_on_one_client_that_is_interrupted(apart: Any) -> None:
    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    def act() -> None:
        first, second = Telemetry(), Telemetry()
        with pytest.raises(KeyboardInterrupt):
            Client(ScriptedBackend([stop]), on_event=[first.otel, second.otel]).call("sum")
        assert [len(telemetry.spans) for telemetry in (first, second)] == [2, 2]

    apart(act)


def test_what_a_function_attaches_stays_without_the_span(apart: Any) -> None:
    telemetry = Telemetry()

    @retry(on_event=telemetry.otel, name="load")
    def load() -> None:
        context.attach(baggage.set_baggage("tenant", "7"))

    def act() -> None:
        with telemetry.tracer.start_as_current_span("outer") as outer:
            load()
            assert trace.get_current_span() is outer
            assert baggage.get_baggage("tenant") == "7"
        load()
        assert not trace.get_current_span().get_span_context().is_valid

    apart(act)
    assert telemetry.open == []


def test_a_member_that_waits_for_long_finds_no_span_current() -> None:
    telemetry, time = Telemetry(), VirtualTime()
    waits: list[tuple[float, bool, list[str]]] = []

    def sleep(seconds: float) -> None:
        waits.append((round(seconds, 2), context.get_current() == {}, telemetry.open))
        time.sleep(seconds)

    script = [answering(refused(2001, retry_after=30), refused(2001)), answering(2), answering(1)]
    client = Client(ScriptedBackend(script), on_event=telemetry.otel, layers=RetryAfter(), retry_strategy=AGAIN, clock=time.clock, sleep=sleep)
    found = client.send(BatchRequest(Request("held"), Request("quick")))
    assert [response.result for response in found] == [1, 2]
    assert waits == [(0.5, True, ["batch"]), (29.5, True, ["batch"])]
    assert telemetry.tree() == [("batch", ["batch attempt"] * 3)]


# --- the span of an attempt is about that attempt ---


@both_drivers
def test_an_attempt_of_a_batch_has_no_failure_of_an_earlier_one(driver: str) -> None:
    rig = OtelRig(driver, answering(refused(-32050), refused(2001)), answering(2), retry_strategy=AGAIN)
    rig.run(lambda client: client.send(BatchRequest(Request("bad"), Request("busy"))))
    call, first, second = rig.telemetry.spans
    assert (call.attributes["error.type"], first.attributes["error.type"]) == ("-32050", "-32050")
    assert (second.status.status_code, second.attributes.get("error.type")) == (StatusCode.UNSET, None)


@pytest.mark.parametrize("kind", [DeadlineExceeded, BudgetExhaustedError])
def test_what_a_client_inside_of_a_function_raises_is_the_failure_of_the_attempt(kind: type[Exception]) -> None:
    telemetry = Telemetry()
    options: dict[str, Any] = {"layers": RetryBudget(1)} if kind is BudgetExhaustedError else {"deadline": 0}
    inner = OtelRig("sync", *[http(503)] * 3, retry_strategy=AGAIN, **options)

    @retry(on_event=telemetry.otel, name="load")
    def load() -> None:
        inner.run(lambda client: client.call("sum"))

    with pytest.raises(kind):
        load()
    assert [span.attributes["error.type"] for span in telemetry.spans] == [f"rpcretry.errors.{kind.__name__}"] * 2
    assert {span.status.status_code for span in telemetry.spans} == {StatusCode.ERROR}


# --- log lines ---


@pytest.fixture
def lines() -> Iterator[list[tuple[str, int | None]]]:
    """The first words of each line, and the attempt whose span was current."""
    found: list[tuple[str, int | None]] = []

    class Noting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            span: Any = trace.get_current_span()
            found.append((record.getMessage().split(": ")[1][:9], span.attributes["rpcretry.attempt"] if span.is_recording() else None))

    handler, logger = Noting(), logging.getLogger("rpcretry")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(level)


@both_drivers
def test_the_lines_about_an_attempt_are_written_inside_of_its_span(driver: str, lines: list[tuple[str, int | None]]) -> None:
    rig = OtelRig(driver, http(503), result(1), *[error(2001)] * 4, retry_strategy=AGAIN)
    rig.run(lambda client: client.call("sum"))
    with pytest.raises(JsonRpcError):
        rig.run(lambda client: client.call("sum"))
    retried = [(f"attempt {number}", number) for number in (1, 2, 3)]
    assert lines == [retried[0], ("succeeded", 2), *retried, ("gave up a", 4)]
    assert len(rig.telemetry.spans) == 8


# --- exceptions of users ---


def test_a_status_of_a_users_exception_is_its_own() -> None:
    telemetry = Telemetry()

    class Exit(Exception):
        status = 3

    class Odd(Exception):
        @property
        def status(self) -> int:
            raise RuntimeError

    for kind in (Exit, Odd):

        @retry(on_event=telemetry.otel, name="load")
        def load(kind: type[Exception] = kind) -> None:
            raise kind

        with pytest.raises(kind):
            load()
    assert len(telemetry.spans) == 4
    for span in telemetry.spans:
        assert "http.response.status_code" not in span.attributes
        assert span.attributes["error.type"].rpartition(".")[2] in ("Exit", "Odd")
    assert sum(point.count for point in telemetry.points("rpcretry.function.duration")) == 2


def test_a_failure_that_cannot_be_read_ends_the_call_and_is_counted(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def unreadable(failure: BaseException) -> Any:
        raise RuntimeError("unreadable")

    for module in ("_otel_spans", "_otel_attributes"):
        monkeypatch.setattr(f"rpcretry.integrations.{module}.failure", unreadable)
    rig = OtelRig("sync", http(500))
    with pytest.raises(HTTPStatusError):
        rig.run(lambda client: client.call("sum"))
    assert {record.getMessage().partition(" raised ")[2] for record in caplog.records if record.exc_info} == {"on CallFailed", "when its attempt had ended"}
    assert rig.telemetry.only("sum attempt").status.status_code is StatusCode.ERROR
    (point,) = rig.telemetry.points("rpc.client.call.duration")
    assert (point.count, point.attributes["error.type"]) == (1, "_OTHER")
