"""The spans of one call, for OpenTelemetry."""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace

from .. import events
from ..errors import BudgetExhaustedError, DeadlineExceeded, JsonRpcError, Refused, RetryExhaustedError
from ..messages import Request

if TYPE_CHECKING:
    from .opentelemetry import OpenTelemetry

__all__ = ["CallSpans"]

SYSTEM = {"rpc.system.name": "jsonrpc", "rpc.system": "jsonrpc"}
VERSION = {"jsonrpc.protocol.version": "2.0", "rpc.jsonrpc.version": "2.0"}

# The records that are events of the call's span, and what such an event says.
NOTES: dict[type[events.Event], tuple[str, ...]] = {
    events.RetryScheduled: ("retry scheduled", "delay", "reason", "members"),
    events.Waited: ("waited", "delay", "reason"),
    events.BudgetRefused: ("retry budget refused", "reason", "level"),
    events.BreakerChanged: ("circuit breaker changed", "name", "state", "reason"),
}


class CallSpans(events.CallSink):
    """The spans of one call."""

    _inside: context.Context | None = None

    def __init__(self, otel: OpenTelemetry, operation: str, requests: tuple[Request, ...]) -> None:
        self._otel, self._parent, self._is_rpc = otel, context.get_current(), bool(requests)
        is_batch = operation == f"batch of {len(requests)}"
        self._name, self._kind = "batch" if is_batch else operation, trace.SpanKind.CLIENT if requests else trace.SpanKind.INTERNAL
        method = "rpc.method" if requests else "rpcretry.function"
        fields = {**SYSTEM, **otel._server} if requests else {}
        self._labels = {**fields, method: otel._operation(operation)}
        self._fields: dict[str, Any] = {**fields, method: self._name, **(VERSION if requests else {})}
        if is_batch:
            self._fields["rpcretry.batch.size"] = len(requests)
        elif requests and not requests[0].is_notification:
            self._fields["jsonrpc.request.id"] = self._fields["rpc.jsonrpc.request_id"] = str(requests[0].id)
        # The call's, and the attempt's that is under way.
        self._open: list[trace.Span] = []
        # For a bulk that is cut off in a wait, and with which nobody goes on. A __del__ would swallow interrupts that come in it.
        self._net = weakref.finalize(self, close, self._open, 0, GeneratorExit())
        self._begin()

    def _begin(self) -> None:
        self._open.append(self._otel._tracer.start_span(self._name, self._parent, self._kind, self._fields))
        self._around = trace.set_span_in_context(self._open[0], self._parent)

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.AttemptStarted):
            self._begin_attempt(event.attempt)
        elif isinstance(event, events.RetryScheduled):
            self._end_attempt(event.error)
            self._otel._retries.add(1, {**self._labels, "rpcretry.reason": self._otel._reason(event.reason.partition(",")[0])})
        elif isinstance(event, events.CallSucceeded):
            self._end(event, None, "ok")
        elif isinstance(event, events.CallFailed):
            self._end(event, event.error, event.reason)
        elif isinstance(event, events.FallbackUsed):
            # The call's own span has ended: it did fail.
            self._otel._tracer.start_span("fallback", self._around, attributes={"rpcretry.reason": event.reason}).end()
        if type(event) in NOTES and self._open:
            name, *fields = NOTES[type(event)]
            said = {field: getattr(event, field) for field in ("attempt", *fields)}
            self._open[0].add_event(name, {f"rpcretry.{field}": getattr(value, "value", value) for field, value in said.items()})

    def _begin_attempt(self, number: int) -> None:
        # One of a batch may have ended well, while requests that were not in it waited for theirs.
        self._end_attempt(None)
        if not self._open:
            # It was cut off, and is gone on with.
            self._begin()
        fields = {**self._fields, "rpcretry.attempt": number}
        self._open.append(self._otel._tracer.start_span(f"{self._name} attempt", self._around, self._kind, fields))
        self._before = context.get_current()
        self._inside = trace.set_span_in_context(self._open[1], self._before)
        # Not to be reset by its token: what cuts a call off may do so in another context, where that raises.
        context.attach(self._inside)

    def _end_attempt(self, error: BaseException | None) -> None:
        if context.get_current() is self._inside:
            context.attach(self._before)
        close(self._open, 1, error)

    def _end(self, event: events.Event, error: Exception | None, reason: str) -> None:
        # A deadline or a budget ends the call, and not its last attempt.
        self._end_attempt(error.__cause__ if isinstance(error, (DeadlineExceeded, BudgetExhaustedError)) else error)
        close(self._open, 0, error, {"rpcretry.retry_count": max(0, event.attempt - 1), "rpcretry.reason": reason})
        self._net.detach()
        labels = self._labels if error is None else {**self._labels, "error.type": self._otel._reason(failure(error)["error.type"])}
        if isinstance(error, Refused):
            self._otel._refused.add(1, labels)
        (self._otel._calls if self._is_rpc else self._otel._functions).record(event.elapsed, labels, self._around)

    def abandoned(self) -> None:
        error = sys.exception() or GeneratorExit()
        self._end_attempt(error)
        close(self._open, 0, error)


def close(spans: list[trace.Span], left: int, error: BaseException | None, fields: dict[str, Any] | None = None) -> None:
    """End the last of *spans* until so many are *left*."""
    while len(spans) > left:
        # One that nobody records has nothing to end, nor has one that ended just before an interrupt.
        if spans[-1].is_recording():
            try:
                spans[-1].set_attributes(fields or {})
                if error is not None:
                    spans[-1].set_attributes(failure(error))
                    spans[-1].set_status(trace.StatusCode.ERROR)
            finally:
                spans[-1].end()
        del spans[-1]


def failure(error: BaseException) -> dict[str, Any]:
    """What a span says of *error*: never its message, which may come from the server."""
    last = error.last_exception if isinstance(error, RetryExhaustedError) else error
    kind, status = type(last), getattr(last, "status", None)
    found: dict[str, Any] = {"http.response.status_code": status} if isinstance(status, int) else {}
    if isinstance(last, JsonRpcError):
        return {**found, "error.type": str(last.code), "rpc.response.status_code": str(last.code), "rpc.jsonrpc.error_code": last.code}
    return {**found, "error.type": f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")}
