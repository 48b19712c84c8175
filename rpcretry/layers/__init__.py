"""Decisions beyond the strategy's, one file each. None does I/O."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from ..retry.layer import Layer
from ..retry.strategy import RetryStrategy
from .adaptive import AdaptiveDelay
from .breaker import Circuit, CircuitBreaker, CircuitStats
from .budget import RetryBudget
from .concurrency import ConcurrencyLimit
from .idempotency import Idempotency
from .rate import RateLimit
from .retry_after import RetryAfter

__all__ = [
    "AdaptiveDelay",
    "Circuit",
    "CircuitBreaker",
    "CircuitStats",
    "ConcurrencyLimit",
    "Idempotency",
    "RateLimit",
    "RetryAfter",
    "RetryBudget",
    "as_layers",
    "compose",
]

RETRY_AFTER = RetryAfter()


def as_layers(value: object) -> tuple[Layer, ...]:
    """Read a ``layers=`` argument: one layer or several, from the outermost to the innermost.

    :raises TypeError: for what is no :class:`~rpcretry.retry.Layer`.
    :raises ValueError: for a :class:`ConcurrencyLimit` or :class:`RateLimit` after a :class:`CircuitBreaker`: the lease of
        a probe, which ends with its attempt's limit, would run out in the queue, and more probes be let out than allowed.
    """
    chosen = tuple(value) if isinstance(value, Iterable) else (value,)
    breaker = False
    for layer in chosen:
        if isinstance(layer, CircuitBreaker):
            breaker = True
        elif breaker and isinstance(layer, (ConcurrencyLimit, RateLimit)):
            kind = type(layer).__name__
            raise ValueError(
                f"layers has a {kind} after a CircuitBreaker, whose probes would queue; "
                f"put the {kind} before the CircuitBreaker: layers are listed from the outermost to the innermost"
            )
        if not isinstance(layer, Layer):
            hint = f"; write {layer.__name__}()" if isinstance(layer, type) else ""
            raise TypeError(f"layers takes Layer objects, got {layer!r:.60}{hint}")
        for name in ("admit", "judge", "settle", "abandon"):
            if inspect.iscoroutinefunction(getattr(layer, name)):
                raise TypeError(f"{type(layer).__name__}.{name} must be a plain function: a layer decides and waits for nothing; return a Wait")
    return chosen


def compose(strategy: RetryStrategy | None, layers: Layer | Iterable[Layer] = (), *, keyed: bool = False, idempotent: bool | None = None) -> tuple[Layer, ...]:
    """The layers of a call, from the outermost to the innermost: *layers*, then those that every strategy has.

    Idempotency is innermost: what must not be repeated spends no budget. A :class:`RetryAfter` in *layers*
    stands in for the usual one.

    :param keyed: whether the calls carry idempotency keys.
    :param idempotent: whether the method may be executed twice; ``None`` where the strategy is to say so.
    :raises TypeError, ValueError: as :func:`as_layers` does.
    """
    chosen = as_layers(layers)
    if strategy is None:
        return chosen
    if not any(isinstance(layer, RetryAfter) for layer in chosen):
        chosen = (*chosen, RETRY_AFTER)
    return (*chosen, Idempotency(strategy, keyed=keyed, declared=idempotent))
