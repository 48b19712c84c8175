"""What the engine goes by, worked out once for any number of calls."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from ..events import Sink
from .layer import Layer
from .strategy import RetryStrategy

__all__ = ["Policy"]


class Policy:
    """What the engine goes by: fixed before the call, shared by calls.

    :ivar quick: whether a first attempt that succeeds concerns nobody but the caller.
    """

    __slots__ = ("deadline", "gates", "judges", "quick", "sinks", "strategy", "timeout")

    def __init__(
        self,
        strategy: RetryStrategy | None = None,
        layers: Sequence[Layer] = (),
        sinks: Sequence[Sink] = (),
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> None:
        self.strategy = strategy
        self.timeout = timeout
        self.deadline = deadline
        self.sinks = tuple(sinks)
        gated = any(_overrides(layer, "admit", "settle", "abandon") for layer in layers)
        self.gates = tuple(layers) if gated else ()
        self.judges = tuple(layer for layer in reversed(layers) if _overrides(layer, "judge"))
        self.quick = not self.gates and not self.sinks and (strategy is None or _ignores_success(strategy))

    @property
    def max_attempts(self) -> int | None:
        """How many tries a request gets at the most; ``None`` without a known limit."""
        return 1 if self.strategy is None else self.strategy.max_attempts

    def limited(self, timeout: float | None, deadline: float | None) -> Policy:
        """The same with other limits."""
        twin = copy.copy(self)
        twin.timeout, twin.deadline = timeout, deadline
        return twin


def _ignores_success(strategy: RetryStrategy) -> bool:
    return strategy.when is None and type(strategy).propose is RetryStrategy.propose


def _overrides(layer: Layer, *names: str) -> bool:
    return any(getattr(type(layer), name) is not getattr(Layer, name) for name in names)
