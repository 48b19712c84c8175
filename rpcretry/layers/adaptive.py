"""Longer delays while little succeeds."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from .._check import number
from ..errors import JsonRpcError
from ..outcome import Attempt, Member, Outcome, Retry, Stop, telling
from ..retry.layer import Layer

__all__ = ["AdaptiveDelay"]


class AdaptiveDelay(Layer):
    """Lengthens the delays of retries by 1 / success rate: where half of the exchanges fail they double.

    The rate is an exponentially weighted moving average: each exchange moves it by *alpha* of the way to 1 for a success
    or to 0 for a failure, and a batch to the part of it that succeeded. It starts at 1. An error response is a success
    here: the server answered. The failure that a retry follows counts for later delays, not for its own.

    A delay that the server asked for is left as it is, and so is one of 0.

    :param alpha: the weight of the latest exchange, above 0 and at most 1. With 0.1 the last ten exchanges make up two
        thirds of the rate.
    :param max_factor: by how much a delay is lengthened at most, 1 or more. It may then be longer than the backoff's own
        ``max_value``.
    :raises TypeError, ValueError: naming the parameter, its value and the fix.
    """

    def __init__(self, *, alpha: float = 0.1, max_factor: float = 10.0) -> None:
        self.alpha = float(number("alpha", alpha, above=0, most=1))
        self.max_factor = float(number("max_factor", max_factor, least=1))
        self._rate = 1.0
        # The thread that holds it may come back: a signal handler may make a call. The rate moves in one statement.
        self._lock = threading.RLock()

    @property
    def success_rate(self) -> float:
        """The moving average, from 0 to 1."""
        return self._rate

    @property
    def factor(self) -> float:
        """By how much a delay would be lengthened now."""
        rate = self._rate
        return min(1 / rate, self.max_factor) if rate > 0 else self.max_factor

    def reset(self) -> None:
        """Start again at a rate of 1."""
        with self._lock:
            self._rate = 1.0

    def judge(self, attempt: Attempt, member: Member, outcome: Outcome, verdict: Retry, now: float) -> Retry | Stop:
        return verdict if verdict.held else verdict._replace(delay=verdict.delay * self.factor)

    def settle(self, attempt: Attempt, outcomes: Sequence[Outcome], now: float) -> None:
        failed, outcomes = 0, telling(attempt.members, outcomes)
        for outcome in outcomes:
            if outcome.error is not None and not isinstance(outcome.error, JsonRpcError):
                failed += 1
        # Without the lock: a success leaves a rate of 1 as it is.
        if not failed and self._rate == 1.0:
            return
        share = 1 - failed / len(outcomes)
        with self._lock:
            self._rate += self.alpha * (share - self._rate)

    def __repr__(self) -> str:
        return f"<AdaptiveDelay: success rate {self._rate:.3f}, delays x {self.factor:.2f}>"
