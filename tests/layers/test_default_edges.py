"""What a layer does where it is told nothing: the defaults that the documentation gives."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from rpcretry import RetryStrategy
from rpcretry.layers import AdaptiveDelay, ConcurrencyLimit, Idempotency, RateLimit, RetryAfter, compose
from rpcretry.retry import Layer


@pytest.mark.parametrize(
    ("make", "attributes"),
    [
        (lambda: ConcurrencyLimit(1), {"limit": 1, "max_waiting": None, "max_wait": None, "name": "default"}),
        (
            lambda: RateLimit(5),
            {"rate": 5.0, "per": 1.0, "burst": 5.0, "max_waiting": None, "max_wait": None, "name": "default", "clock": time.monotonic},
        ),
        (lambda: RateLimit(0.5), {"burst": 1.0}),
        (lambda: AdaptiveDelay(), {"alpha": 0.1, "max_factor": 10.0, "success_rate": 1.0, "factor": 1.0}),
        (lambda: RetryAfter(), {"max_delay": 60.0, "wall_clock": time.time}),
        (lambda: Idempotency(RetryStrategy()), {"keyed": False, "declared": None}),
    ],
)
def test_a_layer_that_is_told_nothing(make: Callable[[], Layer], attributes: dict[str, Any]) -> None:
    layer = make()
    assert {name: getattr(layer, name) for name in attributes} == attributes


def test_the_layers_of_every_strategy() -> None:
    strategy = RetryStrategy()
    hint, guard = compose(strategy)
    assert isinstance(hint, RetryAfter)
    assert isinstance(guard, Idempotency)
    assert (guard.strategy, guard.keyed, guard.declared) == (strategy, False, None)
    keyed = compose(strategy, keyed=True, idempotent=False)[-1]
    assert isinstance(keyed, Idempotency)
    assert (keyed.keyed, keyed.declared) == (True, False)
    assert compose(None) == ()


def test_a_clock_that_is_none_is_told_with_one_that_is() -> None:
    with pytest.raises(TypeError, match=r"^wall_clock must be callable, got int 5; pass time\.time$"):
        RetryAfter(wall_clock=5)  # type: ignore[arg-type]
