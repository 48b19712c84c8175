"""Spans, trace context and metrics for `OpenTelemetry <https://opentelemetry.io>`_. Needs the extra ``otel``: its API, not its SDK.

Attributes and metrics have the names of its semantic conventions for RPC and JSON-RPC as they are since version 1.40. Beside them
stand the older names that most tools look for: ``rpc.system`` for ``rpc.system.name``, and ``rpc.jsonrpc.*``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from .. import __version__, events
from ..backends._target import Target
from ..events import Event
from ..messages import Request
from ..transport import Exchange, Reply
from ._names import BoundedNames

try:
    from opentelemetry import metrics, propagate, trace

    from ._otel_spans import CallSpans
except ModuleNotFoundError as problem:
    raise ModuleNotFoundError('rpcretry.integrations.opentelemetry needs opentelemetry-api: pip install "rpcretry[otel]"', name=problem.name) from problem

__all__ = ["OpenTelemetry"]

# Seconds: what the conventions advise for the duration of calls. The SDK's own bounds are meant for milliseconds.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


class OpenTelemetry:
    """A span for each call and one for each attempt, trace context in the headers of each attempt, and metrics.

    ::

        otel = OpenTelemetry(url)
        client = Client(url, retry_strategy=RetryStrategy(), on_event=otel, middlewares=otel.propagate)

    Without the middleware, ``otel.propagate_async`` for an async client, there are the same spans and metrics, and servers do
    not hear of the trace. For functions there is ``retry(on_event=OpenTelemetry())``. One object serves any number of clients of a
    server and of functions, in any number of threads. No span and no metric holds a message, a param, a header, or more of a URL
    than host and port.

    :param url: where the clients send to, for ``server.address`` and ``server.port``; ``None`` leaves those out.
    :param tracer_provider: ``None`` for the global one.
    :param meter_provider: ``None`` for the global one.
    :param methods: the operations that metrics name; without it the first *max_methods* that are met. All others count as
        ``_OTHER``, and batches of any size as ``batch``. Spans name every method, by its first 200 characters.
    :param max_methods: how many those are. Reasons and types of errors in metrics are bounded by the same number each.
    :raises TypeError, ValueError: naming the parameter, its value and the fix; of *url* no more than its scheme.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        methods: Iterable[str] | None = None,
        max_methods: int = 100,
    ) -> None:
        for name, given, kind in (("tracer_provider", tracer_provider, trace.TracerProvider), ("meter_provider", meter_provider, metrics.MeterProvider)):
            if given is not None and not isinstance(given, kind):
                raise TypeError(f"{name} must be a {kind.__name__} or None, got {type(given).__name__} {given!r:.60}")
        self._server: dict[str, Any] = {}
        if url is not None:
            target = Target.parse(url)
            port = urlsplit(target.url).port or (443 if target.scheme == "https" else 80)
            self._server = {"server.address": target.hostname, "server.port": port}
        self._operation, self._reason, self._error = BoundedNames(methods, max_methods), BoundedNames(most=max_methods), BoundedNames(most=max_methods)
        self._tracer = trace.get_tracer("rpcretry", __version__, tracer_provider)
        meter = metrics.get_meter("rpcretry", __version__, meter_provider)
        about: dict[str, Any] = {"description": "Whole calls, retries and waits included.", "explicit_bucket_boundaries_advisory": BUCKETS}
        self._calls, self._functions = (meter.create_histogram(name, "s", **about) for name in ("rpc.client.call.duration", "rpcretry.function.duration"))
        self._retries = meter.create_counter("rpcretry.retries", "{retry}", "Retries that were scheduled.")
        self._refused = meter.create_counter("rpcretry.refused", "{call}", "Calls that a circuit breaker, a budget or a limit ended.")

    def begin_call(self, operation: str, requests: tuple[Request, ...]) -> events.CallSink:
        """The sink of one call; see :mod:`rpcretry.events`."""
        return CallSpans(self, operation, requests)

    def __call__(self, event: Event) -> None:
        """Each call has a sink of its own, and what is told of no call is no part of a trace."""

    @staticmethod
    def propagate(exchange: Exchange, next: Callable[[Exchange], Reply]) -> Reply:
        """A middleware: it puts the trace context into the headers of each attempt.

        Headers that were given for that call (``_headers=``) win, and with a ``traceparent`` among them no ``tracestate`` is added.
        The trace context wins over headers that the client has for all calls.
        """
        return next(traced(exchange))

    @staticmethod
    async def propagate_async(exchange: Exchange, next: Callable[[Exchange], Awaitable[Reply]]) -> Reply:
        """The same for async clients."""
        return await next(traced(exchange))


def traced(exchange: Exchange) -> Exchange:
    """The exchange with the current trace context in its headers."""
    try:
        fields: dict[str, str] = {}
        propagate.inject(fields)
        mine = {name.lower() for name in exchange.headers or ()}
        if "traceparent" in mine:
            # The rest of another trace.
            mine.add("tracestate")
        found = {name: value for name, value in fields.items() if name.lower() not in mine}
        return exchange.with_headers(found) if found else exchange
    except Exception:
        events.logger.exception("no trace context was put into the headers")
        return exchange
