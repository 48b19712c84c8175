"""What the engine goes by, worked out once for any number of calls."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from ..events import AttemptStarted, CallSucceeded, LoggingSink, Sink, has_call_sinks, log_event, success_teller, wants
from ..outcome import Attempt, Member, Outcome, Retry, Stop
from .backoff import LONGEST
from .fallback import Fallback
from .layer import Layer
from .strategy import RetryStrategy

__all__ = ["Policy"]


class Cap:
    """How many tries every request and function of the process may have; ``None`` for what its strategy allows."""

    __slots__ = ("tries",)

    def __init__(self, tries: int | None) -> None:
        self.tries = tries


# Those of rpcretry.testing.max_attempts that are entered; the last one counts.
CAPS: list[Cap] = []


class Policy:
    """What the engine goes by: fixed before the call, shared by calls.

    :ivar sinks: those of the user.
    :ivar told: those, and the usual log unless one of them is a log.
    :ivar max_attempts: how many tries a request gets at the most; ``None`` without a known limit.
    :ivar gates: the layers that concern themselves with attempts, from the outermost to the innermost.
    :ivar admits: what each of them says before an attempt goes out, ``None`` for nothing.
    :ivar settlers: the same layers, from the innermost to the outermost.
    :ivar judges: the layers that concern themselves with retries, from the innermost to the outermost.
    :ivar quick: whether a first attempt that succeeds concerns nobody but the caller.
    :ivar begins: whether a sink has another one for each call, which is told everything.
    :ivar starts_heard: whether a sink wants to know of each attempt.
    :ivar successes_heard: what tells the sinks that want to know of each success.
    :ivar success_ends: whether no strategy looks at successes.
    """

    __slots__ = (
        "admits",
        "begins",
        "deadline",
        "fallback",
        "gates",
        "judges",
        "max_attempts",
        "quick",
        "settlers",
        "sinks",
        "starts_heard",
        "strategy",
        "success_ends",
        "successes_heard",
        "timeout",
        "told",
    )

    def __init__(
        self,
        strategy: RetryStrategy | None = None,
        layers: Sequence[Layer] = (),
        sinks: Sequence[Sink] = (),
        timeout: float | None = None,
        deadline: float | None = None,
        fallback: Fallback | None = None,
    ) -> None:
        self.strategy = strategy
        self.timeout = timeout
        self.deadline = deadline
        self.fallback = fallback
        self.sinks = tuple(sinks)
        self.told: tuple[Sink, ...] = self.sinks if any(isinstance(sink, LoggingSink) for sink in sinks) else (*self.sinks, log_event)
        self.begins = any(map(has_call_sinks, sinks))
        self.starts_heard = self.begins or any(wants(sink, AttemptStarted) for sink in sinks)
        self.successes_heard = tuple(success_teller(sink) for sink in sinks if has_call_sinks(sink) or wants(sink, CallSucceeded))
        self.gates = tuple(layer for layer in layers if _overrides(layer, "admit", "settle", "abandon"))
        self.admits = tuple(layer.admit if _overrides(layer, "admit") else None for layer in self.gates)
        self.settlers = self.gates[::-1]
        self.judges = tuple(layer for layer in reversed(layers) if _overrides(layer, "judge"))
        self.max_attempts = 1 if strategy is None else strategy.max_attempts
        self.success_ends = strategy is None or strategy.ignores_success
        self.quick = not (self.gates or self.starts_heard or self.successes_heard or not self.success_ends or (fallback is not None and fallback.remembers))

    def judge(self, attempt: Attempt, member: Member, outcome: Outcome, verdict: Retry | Stop, now: float) -> Retry | Stop:
        """What the layers make of the strategy's verdict: longer delays, or a stop, never the reverse.

        :raises Refused: from a layer that does not pay for it.
        """
        # Before a layer pays for a retry that does not come. A slice, since another thread may leave its context meanwhile.
        for cap in CAPS[-1:]:
            if cap.tries is not None and member.tries >= cap.tries and isinstance(verdict, Retry):
                return Stop("attempts")
        for layer in self.judges:
            if isinstance(verdict, Stop):
                break
            judged = layer.judge(attempt, member, outcome, verdict, now)
            if isinstance(judged, Stop):
                verdict = judged
            elif not isinstance(judged, Retry):
                raise TypeError(f"{type(layer).__name__}.judge must return a Retry or a Stop, it returned {judged!r:.60}")
            elif judged.delay > verdict.delay or judged.whole:
                delay = max(verdict.delay, min(judged.delay, LONGEST))
                verdict = Retry(delay, judged.reason, verdict.held or judged.held, verdict.whole or judged.whole)
        return verdict

    def limited(self, timeout: float | None, deadline: float | None) -> Policy:
        """The same with other limits."""
        twin = copy.copy(self)
        twin.timeout, twin.deadline = timeout, deadline
        return twin


def _overrides(layer: Layer, *names: str) -> bool:
    return any(getattr(type(layer), name) is not getattr(Layer, name) for name in names)
