"""Counters and histograms, in a real registry."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from support import Rig, both_drivers

from rpcretry import (
    BatchRequest,
    CircuitBreaker,
    CircuitState,
    DeadlineExceeded,
    Fallback,
    HTTPStatusError,
    JsonRpcError,
    Refused,
    Request,
    RetryBudget,
    RetryMetrics,
    RetryStrategy,
)
from rpcretry.backends.aiohttp import Client as AiohttpClient
from rpcretry.backends.requests import Client as RequestsClient
from rpcretry.events import BreakerChanged, BudgetRefused, CallFailed, CallSucceeded, RetryScheduled
from rpcretry.functions import retry
from rpcretry.integrations._names import BoundedNames
from rpcretry.integrations.prometheus import Prometheus
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import RESET, Answer, LoopbackServer, error, http, result, rpc

AGAIN = RetryStrategy(codes={2001}, statuses={503}, exceptions={ConnectionError}, backoff=PeriodicBackoff(3, 0.02))


class Counted:
    """A Prometheus in a registry of its own, and what it counted."""

    def __init__(self, **options: Any) -> None:
        self.registry = CollectorRegistry()
        self.sink = Prometheus(self.registry, **options)

    def __getitem__(self, name: str) -> dict[tuple[str, ...], float]:
        """The samples of a metric by the values of their labels."""
        return {tuple(sample.labels.values()): sample.value for metric in self.registry.collect() for sample in metric.samples if sample.name == name}

    @property
    def series(self) -> int:
        return sum(len(metric.samples) for metric in self.registry.collect())


@both_drivers
def test_retried_calls_over_a_real_connection(driver: str) -> None:
    counted, troubles, working = Counted(), [RESET, Answer(b"busy", status=503)], rpc({"sum": lambda a, b: a + b})
    handler: Callable[[Any], Any] = lambda received: troubles.pop(0) if troubles else working(received)
    options: dict[str, Any] = {"retry_strategy": AGAIN, "on_event": counted.sink}
    with LoopbackServer(handler) as server:
        if driver == "sync":
            with RequestsClient(server.url, **options) as client:
                assert [client.call("sum", 1, 2), client.call("sum", 1, 3)] == [3, 4]
        else:

            async def main() -> None:
                async with AiohttpClient(server.url, **options) as client:
                    assert [await client.call("sum", 1, 2), await client.call("sum", 1, 3)] == [3, 4]

            asyncio.run(main())
    assert counted["rpcretry_calls_total"] == {("sum", "success"): 2}
    assert sum(counted["rpcretry_retries_total"].values()) == 2
    assert counted["rpcretry_retries_total"]["sum", "status"] == 1
    assert counted["rpcretry_call_seconds_count"] == {("sum",): 2}
    assert 0.04 < counted["rpcretry_call_seconds_sum"]["sum",] < 5


@both_drivers
def test_how_calls_end(driver: str) -> None:
    counted = Counted()
    rig = Rig(driver, error(1), http(503), result(1), http(500), http(500), retry_strategy=AGAIN, on_event=counted.sink)
    with pytest.raises(JsonRpcError):
        rig.call("sum")
    assert rig.call("sum") == 1
    assert rig.run(lambda client: client.call("sum", _fallback=Fallback(7))) == 7
    with pytest.raises(DeadlineExceeded):
        rig.run(lambda client: client.call("sum", _deadline=0))
    assert counted["rpcretry_calls_total"] == {("sum", "failure"): 2, ("sum", "success"): 1, ("sum", "deadline"): 1}
    assert counted["rpcretry_fallbacks_total"] == {("sum",): 1}
    assert counted["rpcretry_call_seconds_count"] == {("sum",): 4}


@both_drivers
def test_breakers_and_budgets(driver: str) -> None:
    counted = Counted()
    layers = [RetryBudget(1, name="node"), CircuitBreaker(failure_threshold=2, name="node")]
    rig = Rig(driver, *[http(503)] * 2, retry_strategy=RetryStrategy(statuses={503}, backoff=PeriodicBackoff(9, 0)), layers=layers, on_event=counted.sink)
    for _ in range(2):
        with pytest.raises(Refused):
            rig.call("sum")
    assert counted["rpcretry_breaker_state"] == {("node", state.value): float(state is CircuitState.OPEN) for state in CircuitState}
    assert counted["rpcretry_calls_total"]["sum", "refused"] >= 1
    assert counted["rpcretry_budget_refusals_total"] == {("node",): 1}


def test_as_a_listener_it_hears_of_a_breaker_that_is_moved_by_hand() -> None:
    counted, breaker = Counted(), CircuitBreaker(failure_threshold=1, name="node")
    breaker.add_listener(counted.sink)
    rig = Rig("sync", http(503), layers=breaker, on_event=counted.sink)
    with pytest.raises(HTTPStatusError):
        rig.call("sum")
    assert counted["rpcretry_breaker_state"]["node", "open"] == 1
    breaker.reset()
    assert counted["rpcretry_breaker_state"] == {("node", state.value): float(state is CircuitState.CLOSED) for state in CircuitState}


def test_it_counts_what_retry_metrics_counts() -> None:
    counted, metrics = Counted(), RetryMetrics()
    rig = Rig("sync", *[http(503)] * 5, *[result(1)] * 9, retry_strategy=AGAIN, on_event=[counted.sink, metrics])
    for _ in range(5):
        try:
            rig.call("sum")
        except Exception:
            continue
    now = metrics.snapshot()
    assert (now.failed, now.succeeded) == tuple(int(counted["rpcretry_calls_total"]["sum", outcome]) for outcome in ("failure", "success"))
    assert now.retries == sum(counted["rpcretry_retries_total"].values())


def test_functions_and_threads() -> None:
    counted = Counted()

    @retry(on_event=counted.sink, name="load")
    def load() -> None: ...

    threads = [threading.Thread(target=lambda: [load() for _ in range(200)]) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert counted["rpcretry_calls_total"] == {("load", "success"): 1_600}


# --- bounded labels ---


def test_ten_thousand_methods_make_no_more_series_than_the_bound() -> None:
    counted = Counted()
    for number in range(10_000):
        operation = f"user{number}.get"
        counted.sink.count_success(operation, 1, 1, 0.1)
        counted.sink(CallFailed(operation, 1, 1, 0.1, "error", ValueError()))
        counted.sink(RetryScheduled(operation, 1, 3, 0.1, 0.1, f"reason {number}", None))
        counted.sink(BudgetRefused(operation, 1, 3, 0.1, f"budget {number}", 0))
        counted.sink(BreakerChanged(operation, 1, 3, 0.1, f"breaker [{number}]", CircuitState.CLOSED, CircuitState.OPEN, "failures"))
    # 100 methods and the others; the histogram has 15 buckets, a count and a sum, and each counter says when it was made.
    assert counted.series < 101 * (2 * 2 + 18 + 2 * 2 + 2 + 2 + 3)
    assert len(counted["rpcretry_call_seconds_count"]) == 101
    assert counted["rpcretry_call_seconds_count"]["(others)",] == 2 * 9_900
    assert len(counted["rpcretry_breaker_state"]) == 300
    assert sum(counted["rpcretry_retries_total"].values()) == 10_000


def test_an_allow_list_and_batches_of_any_size() -> None:
    counted = Counted(methods={"sum"})
    rig = Rig("sync", *[result(1)] * 9, on_event=counted.sink)
    rig.call("sum")
    rig.call("pay")
    for size in (2, 30):
        rig.send(BatchRequest(*[Request("sum") for _ in range(size)]))
    assert counted["rpcretry_calls_total"] == {("sum", "success"): 1, ("(others)", "success"): 1, ("batch", "success"): 2}


def test_a_method_that_is_called_as_a_batch_is_no_batch() -> None:
    counted = Counted()
    rig = Rig("sync", *[result(1)] * 2, on_event=counted.sink)
    rig.call("batch of 3")
    rig.send(BatchRequest(*[Request("sum") for _ in range(3)]))
    assert counted["rpcretry_calls_total"] == {("batch of 3", "success"): 1, ("batch", "success"): 1}


def test_long_names_are_not_kept() -> None:
    counted, allowed = Counted(), Counted(methods=["m" * 1_000])
    for size in (200, 201, 1_000):
        counted.sink.count_success("m" * size, 1, 1, 0.1)
        allowed.sink.count_success("m" * size, 1, 1, 0.1)
    assert counted["rpcretry_calls_total"] == {("m" * 200, "success"): 1, ("(others)", "success"): 2}
    assert allowed["rpcretry_calls_total"] == {("m" * 1_000, "success"): 1, ("(others)", "success"): 2}


def test_details_of_reasons_are_left_out() -> None:
    counted = Counted()
    for seconds in range(50):
        counted.sink(RetryScheduled("sum", 1, 3, 0.1, 0.1, f"code, the server asks for {seconds} s", None))
    assert counted["rpcretry_retries_total"] == {("sum", "code"): 50}


def test_bounded_names_under_threads() -> None:
    names = BoundedNames(most=50)
    found: list[set[str]] = []

    def meet() -> None:
        found.append({names(f"name {number % 500}") for number in range(5_000)})

    threads = [threading.Thread(target=meet) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(set().union(*found)) == 51


# --- registries ---


def test_two_in_one_registry() -> None:
    counted = Counted()
    with pytest.raises(ValueError, match="registry has metrics that begin with namespace 'rpcretry' already; give the same Prometheus object to all clients"):
        Prometheus(counted.registry)
    Prometheus(counted.registry, namespace="billing").count_success("sum", 1, 1, 0.1)
    assert (counted["rpcretry_calls_total"], counted["billing_calls_total"]) == ({}, {("sum", "success"): 1})


def test_a_registry_that_refuses_one_metric_keeps_none_of_the_others() -> None:
    registry = CollectorRegistry()
    taken = Counter("rpcretry_fallbacks", "Mine.", registry=registry)
    with pytest.raises(ValueError, match="another namespace"):
        Prometheus(registry)
    registry.unregister(taken)
    Prometheus(registry)


def test_the_text_that_is_scraped() -> None:
    counted = Counted()
    counted.sink(CallSucceeded("sum", 1, 1, 0.007))
    text = generate_latest(counted.registry).decode()
    assert 'rpcretry_calls_total{operation="sum",outcome="success"} 1.0' in text
    assert 'rpcretry_call_seconds_bucket{le="0.01",operation="sum"} 1.0' in text


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"registry": 1}, TypeError, "registry must be a CollectorRegistry or None, got int 1"),
        ({"namespace": ""}, ValueError, "namespace must not be empty"),
        ({"namespace": 3}, TypeError, "namespace must be a str, got int 3"),
        ({"methods": 3}, TypeError, "methods must be an iterable of names, got int 3"),
        ({"max_methods": 0}, ValueError, "max_methods must be at least 1, got 0"),
        ({"namespace": "my app"}, ValueError, "namespace must be of letters, digits and underscores, and begin with no digit, got 'my app'; write 'my_app'"),
        ({"namespace": "9lives"}, ValueError, "namespace must be of letters"),
        ({"namespace": "é"}, ValueError, "namespace must be of letters"),
        ({"namespace": "line\n"}, ValueError, "namespace must be of letters"),
        ({"buckets": [2.0, 1.0]}, ValueError, r"buckets must be seconds that rise, got \[2.0, 1.0\]; write buckets=\(0.1, 1, 10\)"),
        ({"buckets": [1, 1]}, ValueError, "buckets must be seconds that rise"),
        ({"buckets": []}, ValueError, "buckets must be seconds that rise"),
        ({"buckets": [math.inf]}, ValueError, "buckets must be seconds that rise"),
        ({"buckets": [math.nan, 1]}, ValueError, "buckets must be finite, got nan"),
        ({"buckets": [0, 1]}, ValueError, "buckets must be more than 0, got 0"),
        ({"buckets": ["a"]}, TypeError, "buckets must be a number, got str 'a'"),
        ({"buckets": 5}, TypeError, "buckets must be seconds, got int 5"),
        ({"buckets": "12"}, TypeError, "buckets must be seconds, got str '12'"),
        ({"buckets": None}, TypeError, "buckets must be seconds, got NoneType None"),
    ],
)
def test_bad_input(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        Prometheus(**{"registry": CollectorRegistry(), **options})
