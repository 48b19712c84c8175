"""Delays that grow while little succeeds."""

from __future__ import annotations

import json
import math
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interruptions import Scene, at_every_line
from support import Recorder, Rig, both_drivers, fresh

from rpcretry import BatchRequest, ConnectionLostError, HTTPStatusError, JsonRpcError, Refused, Request, RetryStrategy
from rpcretry.layers.adaptive import AdaptiveDelay
from rpcretry.outcome import Attempt, Member, Outcome, Retry
from rpcretry.retry import Layer, PeriodicBackoff
from rpcretry.testing import error, http, result
from rpcretry.transport import Exchange, Reply

lost = fresh(ConnectionLostError("reset"))
FAILED, WELL, ANSWERED = Outcome(error=ConnectionLostError("x")), Outcome(5), Outcome(error=JsonRpcError("x", code=7))
STRATEGY = RetryStrategy(exceptions={ConnectionError}, codes={2001}, statuses={429}, backoff=PeriodicBackoff(3, 1.0))


def settle(layer: AdaptiveDelay, *outcomes: Outcome) -> None:
    layer.settle(Attempt(1, [Member(None) for _ in outcomes], math.inf, "x"), outcomes, 0.0)


def judge(layer: AdaptiveDelay, verdict: Retry) -> Any:
    attempt = Attempt(1, [Member(None)], math.inf, "x")
    return layer.judge(attempt, attempt.members[0], FAILED, verdict, 0.0)


@both_drivers
def test_delays_grow_with_failures(driver: str) -> None:
    layer = AdaptiveDelay(alpha=0.5)
    rig = Rig(driver, lost, lost, lost, result(5), retry_strategy=STRATEGY, layers=layer)
    assert rig.call("get") == 5
    # The rate that a delay goes by is that before its own failure: 1, 0.5, 0.25.
    assert rig.waits == [1.0, 2.0, 4.0]
    assert layer.success_rate == 0.125 + 0.5 * (1 - 0.125)


@both_drivers
def test_one_layer_learns_from_several_clients(driver: str) -> None:
    layer = AdaptiveDelay(alpha=0.5)
    first, second = (Rig(driver, lost, result(5), retry_strategy=STRATEGY, layers=layer) for _ in range(2))
    first.call("get")
    assert layer.success_rate == 0.75
    second.call("get")
    assert second.waits == [round(1 / 0.75, 6)]


@both_drivers
def test_a_delay_that_the_server_asks_for_is_left_as_it_is(driver: str) -> None:
    layer = AdaptiveDelay(alpha=0.5)
    settle(layer, FAILED)
    rig = Rig(driver, http(429, headers={"Retry-After": "7"}), result(5), retry_strategy=STRATEGY, layers=layer)
    rig.call("get")
    assert rig.waits == [7.0]


@both_drivers
def test_an_error_response_is_a_success(driver: str) -> None:
    layer = AdaptiveDelay()
    rig = Rig(driver, error(2001), error(7), retry_strategy=STRATEGY, layers=layer)
    with pytest.raises(JsonRpcError):
        rig.call("get")
    assert layer.success_rate == 1


@both_drivers
def test_an_attempt_that_never_went_out_counts_nothing(driver: str) -> None:
    layer = AdaptiveDelay()
    rig = Rig(driver, retry_strategy=STRATEGY, layers=(layer, Recorder(waits=[Refused("no")])))
    with pytest.raises(Refused):
        rig.call("get")
    assert layer.success_rate == 1


@both_drivers
def test_a_batch_is_one_sample(driver: str) -> None:
    def without_the_last(exchange: Exchange) -> Reply:
        return Reply(json.dumps([{"id": id, "result": 1} for id in exchange.ids[:-1]]).encode())

    layer = AdaptiveDelay(alpha=0.5)
    rig = Rig(driver, without_the_last, layers=layer)
    rig.send(BatchRequest(*[Request("a")] * 4))
    assert layer.success_rate == pytest.approx(1 + 0.5 * (0.75 - 1))


@pytest.mark.parametrize(
    ("outcomes", "rate"),
    [((WELL,), 1.0), ((ANSWERED,), 1.0), ((FAILED,), 0.9), ((FAILED, WELL), 0.95), ((Outcome(error=HTTPStatusError("x", status=500)),), 0.9)],
)
def test_what_moves_the_rate(outcomes: tuple[Outcome, ...], rate: float) -> None:
    layer = AdaptiveDelay()
    settle(layer, *outcomes)
    assert layer.success_rate == pytest.approx(rate)
    settle(layer, WELL)
    assert layer.success_rate == pytest.approx(rate + 0.1 * (1 - rate))


def test_the_verdict_keeps_all_but_its_delay() -> None:
    layer = AdaptiveDelay(alpha=0.5)
    settle(layer, FAILED)
    assert judge(layer, Retry(3.0, "code", False, True)) == Retry(6.0, "code", False, True)
    assert judge(layer, Retry(0.0, "code")) == Retry(0.0, "code")
    assert judge(layer, Retry(3.0, "code", held=True)) == Retry(3.0, "code", held=True)


@given(
    st.floats(0, 1, exclude_min=True),
    st.floats(1, 1e6),
    st.lists(st.lists(st.booleans(), min_size=1, max_size=4), max_size=80),
    st.floats(0, 86_400),
)
def test_the_factor_stays_within_bounds_and_is_one_over_the_rate(alpha: float, most: float, exchanges: list[list[bool]], delay: float) -> None:
    layer = AdaptiveDelay(alpha=alpha, max_factor=most)
    rate = 1.0
    for exchange in exchanges:
        settle(layer, *[WELL if ok else FAILED for ok in exchange])
        rate = alpha * sum(exchange) / len(exchange) + (1 - alpha) * rate
        assert 0 <= layer.success_rate <= 1
        assert layer.success_rate == pytest.approx(rate, abs=1e-9)
        assert 1 <= layer.factor <= most
        # Of a rate near 0 the reciprocal is all rounding.
        if layer.factor < min(most, 1e6):
            assert layer.factor == pytest.approx(1 / rate, rel=1e-3)
        assert delay <= judge(layer, Retry(delay)).delay <= delay * most


def test_nothing_but_failures_reaches_the_largest_factor_and_no_more() -> None:
    layer = AdaptiveDelay(alpha=1)
    settle(layer, FAILED)
    assert (layer.success_rate, layer.factor) == (0, 10)
    assert repr(layer) == "<AdaptiveDelay: success rate 0.000, delays x 10.00>"
    layer.reset()
    assert (layer.success_rate, layer.factor) == (1, 1)


def test_threads_lose_no_sample() -> None:
    """With samples all alike the rate depends on how many there were, and on nothing else."""
    layer = AdaptiveDelay(alpha=0.001)
    threads = [threading.Thread(target=lambda: [settle(layer, FAILED) for _ in range(250)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert layer.success_rate == pytest.approx(0.999**2000)


def test_what_the_same_thread_does_in_the_middle_does_not_lock_it_out_and_is_counted() -> None:
    """A signal handler makes a call while the thread is in the layer."""
    layers: list[AdaptiveDelay] = []

    def make() -> tuple[Scene, Any, Any]:
        layer = AdaptiveDelay(alpha=0.5)
        layers.append(layer)
        return Scene(layer), lambda: settle(layer, FAILED), lambda: settle(layer, FAILED)

    assert at_every_line(make) == []
    assert [layer.success_rate for layer in layers] == [0.25] * (len(layers) - 1) + [0.5]


def test_it_is_asked_for_no_admission() -> None:
    assert AdaptiveDelay.admit is Layer.admit


@pytest.mark.parametrize(
    ("make", "kind", "word"),
    [
        (lambda: AdaptiveDelay(alpha=0), ValueError, "alpha"),
        (lambda: AdaptiveDelay(alpha=1.1), ValueError, "alpha"),
        (lambda: AdaptiveDelay(alpha="1"), TypeError, "alpha"),  # type: ignore[arg-type]
        (lambda: AdaptiveDelay(max_factor=0.5), ValueError, "max_factor"),
        (lambda: AdaptiveDelay(max_factor=math.inf), ValueError, "max_factor"),
        (lambda: AdaptiveDelay(max_factor=None), TypeError, "max_factor"),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_named(make: Any, kind: type[Exception], word: str) -> None:
    with pytest.raises(kind, match=word):
        make()
