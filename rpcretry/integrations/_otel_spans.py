"""The spans of one call, for OpenTelemetry."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace

from .. import events
from .._requests import BatchName
from ..errors import Refused
from ..messages import Request
from ..outcome import Outcome
from ._names import LONGEST
from ._otel_attributes import NOTES, SYSTEM, VERSION, close, failure, say

if TYPE_CHECKING:
    from .opentelemetry import OpenTelemetry

__all__ = ["CallSpans"]


class CallSpans(events.CallSink):
    """The spans of one call."""

    _inside: context.Context | None = None
    _is_over = False

    def __init__(self, otel: OpenTelemetry, operation: str, requests: tuple[Request, ...]) -> None:
        self._otel, self._parent, self._is_rpc = otel, context.get_current(), bool(requests)
        is_batch = isinstance(operation, BatchName)
        self._name, self._kind = "batch" if is_batch else operation[:LONGEST], trace.SpanKind.CLIENT if requests else trace.SpanKind.INTERNAL
        method = "rpc.method" if requests else "rpcretry.function"
        fields = {**SYSTEM, **otel._server} if requests else {}
        self._labels = {**fields, method: otel._operation(operation)}
        self._fields: dict[str, Any] = {**fields, method: self._name, **(VERSION if requests else {})}
        if is_batch:
            self._fields["rpcretry.batch.size"] = len(requests)
        elif requests and not requests[0].is_notification:
            self._fields["jsonrpc.request.id"] = self._fields["rpc.jsonrpc.request_id"] = str(requests[0].id)[:LONGEST]
        # The call's, and the attempt's that is under way.
        self._open: list[trace.Span] = []
        # For a bulk that is cut off in a wait, and with which nobody goes on. A __del__ would swallow interrupts that come in it.
        self._net = weakref.finalize(self, close, self._open, 0, GeneratorExit())
        self._around = self._begin(self._name, self._parent, self._fields)

    def _begin(self, name: str, parent: context.Context, fields: dict[str, Any]) -> context.Context:
        self._open.append(self._otel._tracer.start_span(name, parent, self._kind, fields))
        return trace.set_span_in_context(self._open[-1], parent)

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.AttemptStarted):
            self._begin_attempt(event.attempt)
        elif isinstance(event, events.RetryScheduled):
            self._otel._retries.add(1, {**self._labels, "rpcretry.reason": self._otel._reason(event.short_reason)})
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
        if not self._open:
            # It was cut off, and is gone on with.
            self._is_over = False
            self._around = self._begin(self._name, self._parent, self._fields)
        self._before = context.get_current()
        around = trace.set_span_in_context(self._open[0], self._before)
        self._inside = self._begin(f"{self._name} attempt", around, {**self._fields, "rpcretry.attempt": number})
        # Not to be reset by its token: what cuts a call off may do so in another context, where that raises.
        context.attach(self._inside)

    def _end_attempt(self, error: BaseException | None) -> None:
        now = context.get_current()
        if now is self._inside:
            context.attach(self._before)
        elif len(self._open) > 1 and trace.get_current_span(now) is self._open[1]:
            # The attempt attached something of its own, as baggage, and left it so.
            context.attach(trace.set_span_in_context(trace.get_current_span(self._before), now))
        close(self._open, 1, error)

    def settled(self, outcomes: Sequence[Outcome]) -> None:
        try:
            self._end_attempt(next((outcome.error for outcome in outcomes if outcome.error is not None), None))
        finally:
            if self._is_over:
                self._close()

    def _end(self, event: events.Event, error: Exception | None, reason: str) -> None:
        self._is_over = True
        labels = self._labels if error is None else {**self._labels, "error.type": "_OTHER"}
        try:
            if error is not None:
                labels["error.type"] = self._otel._error(failure(error)["error.type"])
            if isinstance(error, Refused):
                self._otel._refused.add(1, labels)
            for span in self._open[:1]:
                say(span, error, {"rpcretry.retry_count": max(0, event.attempt - 1), "rpcretry.reason": reason})
        finally:
            (self._otel._calls if self._is_rpc else self._otel._functions).record(event.elapsed, labels, self._around)
            if len(self._open) == 1:
                # Otherwise that of the attempt ends first.
                self._close()

    def _close(self) -> None:
        close(self._open, 0)
        self._net.detach()

    def abandoned(self) -> None:
        error = sys.exception() or GeneratorExit()
        self._end_attempt(error)
        close(self._open, 0, error)
