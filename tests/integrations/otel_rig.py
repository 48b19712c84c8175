"""A real SDK that keeps spans and metrics in memory, and what it has seen."""

from __future__ import annotations

from typing import Any

from opentelemetry import context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support import finish

from rpcretry import AsyncClient, Client
from rpcretry.backends.aiohttp import Client as AiohttpClient
from rpcretry.backends.requests import Client as RequestsClient
from rpcretry.integrations.opentelemetry import OpenTelemetry
from rpcretry.testing import AsyncScriptedBackend, ScriptedBackend, VirtualTime


class Started(SpanProcessor):
    """Counts the spans that began."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        self.spans.append(span)


class Telemetry:
    """The SDK and an OpenTelemetry that tells it.

    :ivar otel: to be given to clients.
    """

    def __init__(self, url: str | None = None, **options: Any) -> None:
        self._exporter, self._started, self._reader = InMemorySpanExporter(), Started(), InMemoryMetricReader()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(self._started)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracer = self.tracer_provider.get_tracer("test")
        self.otel = OpenTelemetry(url, tracer_provider=self.tracer_provider, meter_provider=self.meter_provider, **options)

    @property
    def spans(self) -> list[ReadableSpan]:
        """All spans in the order of their beginnings; all of them have ended, and none is current."""
        ended = self._exporter.get_finished_spans()
        left = [span.name for span in self._started.spans if span.end_time is None]
        assert not left, f"not ended: {left}"
        assert len(ended) == len(self._started.spans)
        assert context.get_current() == {}, "a span is current after the call"
        order = {span.get_span_context().span_id: number for number, span in enumerate(self._started.spans)}
        return sorted(ended, key=lambda span: order[span.context.span_id])

    @property
    def open(self) -> list[str]:
        """The spans that have not ended."""
        return [span.name for span in self._started.spans if span.end_time is None]

    def children(self, parent: ReadableSpan) -> list[ReadableSpan]:
        return [span for span in self.spans if span.parent is not None and span.parent.span_id == parent.context.span_id]

    def tree(self) -> list[Any]:
        """The names of all spans, each with those of its children."""

        def of(span: ReadableSpan) -> Any:
            below = [of(child) for child in self.children(span)]
            return (span.name, below) if below else span.name

        known = {span.context.span_id for span in self.spans}
        return [of(span) for span in self.spans if span.parent is None or span.parent.span_id not in known]

    def only(self, name: str) -> ReadableSpan:
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def points(self, metric: str) -> list[Any]:
        """The data points of a metric."""
        data = self._reader.get_metrics_data()
        scopes = [scope for resource in (data.resource_metrics if data else []) for scope in resource.scope_metrics]
        return [point for scope in scopes for found in scope.metrics if found.name == metric for point in found.data.data_points]

    def told(self) -> str:
        """Everything that leaves the process, as text."""
        data = self._reader.get_metrics_data()
        return "\n".join([*(span.to_json() for span in self.spans), data.to_json() if data else ""])


class OtelRig:
    """A client of either kind that is watched: over a script in virtual time, or over loopback where a URL is given."""

    def __init__(self, driver: str, *script: Any, url: str | None = None, telemetry: Telemetry | None = None, **options: Any) -> None:
        self.telemetry = telemetry or Telemetry(url)
        self.time, self._driver = VirtualTime(), driver
        otel = self.telemetry.otel
        self.backend: Any = None
        self.client: Any
        if driver == "sync":
            watched: dict[str, Any] = {"on_event": otel, "middlewares": otel.propagate, **options}
            if url is not None:
                self.client = RequestsClient(url, **watched)
            else:
                self.backend = ScriptedBackend(script)
                self.client = Client(self.backend, clock=self.time.clock, sleep=self.time.sleep, **watched)
        else:
            watched = {"on_event": otel, "middlewares": otel.propagate_async, **options}
            if url is not None:
                self.client = AiohttpClient(url, **watched)
            else:
                self.backend = AsyncScriptedBackend(script)
                self.client = AsyncClient(self.backend, clock=self.time.clock, sleep=self.time.asleep, **watched)

    def run(self, act: Any) -> Any:
        """What *act* makes of the client, which is closed after it where it has connections."""
        if self.backend is not None:
            return finish(lambda: act(self.client))
        if self._driver == "sync":
            with self.client:
                return act(self.client)

        async def inside() -> Any:
            async with self.client:
                return await act(self.client)

        return finish(inside)
