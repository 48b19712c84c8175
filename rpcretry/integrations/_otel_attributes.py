"""What spans say, also when they end, for OpenTelemetry."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace

from .. import events
from ..errors import HTTPStatusError, JsonRpcError, ProtocolError, RetryExhaustedError

__all__ = ["NOTES", "SYSTEM", "VERSION", "close", "failure", "say"]

SYSTEM = {"rpc.system.name": "jsonrpc", "rpc.system": "jsonrpc"}
VERSION = {"jsonrpc.protocol.version": "2.0", "rpc.jsonrpc.version": "2.0"}

# The records that are events of the call's span, and what such an event says.
NOTES: dict[type[events.Event], tuple[str, ...]] = {
    events.RetryScheduled: ("retry scheduled", "delay", "reason", "members"),
    events.Waited: ("waited", "delay", "reason"),
    events.BudgetRefused: ("retry budget refused", "reason", "level"),
    events.BreakerChanged: ("circuit breaker changed", "name", "state", "reason"),
}


def close(spans: list[trace.Span], left: int, error: BaseException | None = None) -> None:
    """End the last of *spans* until so many are *left*."""
    while len(spans) > left:
        # One that nobody records has nothing to end, nor has one that ended just before an interrupt.
        if spans[-1].is_recording():
            try:
                say(spans[-1], error, {})
            finally:
                spans[-1].end()
        del spans[-1]


def say(span: trace.Span, error: BaseException | None, fields: dict[str, Any]) -> None:
    """Note *fields* and the failure."""
    span.set_attributes(fields)
    if error is not None:
        span.set_status(trace.StatusCode.ERROR)
        span.set_attributes(failure(error))


def failure(error: BaseException) -> dict[str, Any]:
    """What a span says of *error*: never its message, which may come from the server."""
    last = error.last_exception if isinstance(error, RetryExhaustedError) else error
    kind = type(last)
    # What else has a status may mean another one.
    status = last.status if isinstance(last, (HTTPStatusError, JsonRpcError, ProtocolError)) else None
    found: dict[str, Any] = {} if status is None else {"http.response.status_code": status}
    if isinstance(last, JsonRpcError):
        return {**found, "error.type": str(last.code), "rpc.response.status_code": str(last.code), "rpc.jsonrpc.error_code": last.code}
    return {**found, "error.type": f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")}
