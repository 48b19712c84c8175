"""A call that is retried, as the trace that OpenTelemetry makes of it: real spans, drawn in the terminal. Needs opentelemetry-sdk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rpcretry import RetryStrategy
from rpcretry.backends.requests import Client
from rpcretry.integrations.opentelemetry import OpenTelemetry
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import RESET, Answer, LoopbackServer, Received, rpc

WIDTH = 50


def draw(spans: Sequence[ReadableSpan]) -> None:
    """Each span as a bar, from when to when it lasted."""
    ordered = sorted((span for span in spans if span.start_time and span.end_time), key=lambda span: span.start_time or 0)
    first, last = ordered[0].start_time or 0, max(span.end_time or 0 for span in ordered)
    scale = WIDTH / (last - first)
    for span in ordered:
        begins, ends = (round(((moment or 0) - first) * scale) for moment in (span.start_time, span.end_time))
        indent = "" if span.parent is None else "  "
        failed = (span.attributes or {}).get("error.type", "")
        print(f"{indent + span.name:12} |{' ' * begins + '=' * max(1, ends - begins):{WIDTH}}| {failed}")
    for event in ordered[0].events:
        print(f"{event.name}: {dict(event.attributes or {})}")


def main() -> None:
    # In a program: its own provider, once, with an exporter that sends spans away.
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    troubles = [RESET, Answer(b"busy", status=503)]
    working = rpc({"sum": lambda a, b: a + b})
    heard: list[str] = []

    def handle(request: Received) -> Any:
        heard.append(request.headers["traceparent"].split("-")[2])
        return troubles.pop(0) if troubles else working(request)

    with LoopbackServer(handle) as server:
        otel = OpenTelemetry(server.url, tracer_provider=provider)
        strategy = RetryStrategy(idempotent="sum", backoff=PeriodicBackoff(attempts=3, interval=0.05))
        with Client(server.url, retry_strategy=strategy, on_event=otel, middlewares=otel.propagate) as client:
            print("1 + 2 =", client.call("sum", 1, 2))

    spans = exporter.get_finished_spans()
    draw(spans)
    known = {format(span.context.span_id, "016x"): (span.attributes or {}).get("rpcretry.attempt") for span in spans if span.context}
    print("the server heard of attempts", *(known[parent] for parent in heard))


if __name__ == "__main__":
    main()
