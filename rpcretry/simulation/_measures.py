"""What is worked out from the series of a run: recovery, and how uneven the requests arrive."""

from __future__ import annotations

import dataclasses
import itertools
import math

from ..retry.backoff import Backoff, DecorrelatedJitterBackoff
from ..retry.strategy import RetryStrategy
from ._result import Series

__all__ = ["peak_floor", "peak_to_mean", "recovery", "until_longest"]

# Goodput is back where this part of it is.
BACK = 0.99

# A step of which most calls have not ended says nothing yet.
MOST = 0.5

# How many standard deviations a share may be off by chance.
DEVIATIONS = 3.0

# A delay within this of the longest is a longest one, an edge within this of a step's is on it; and no backoff is asked for more delays than this.
NEARLY, MANY = 1e-9, 10_000


def recovery(series: Series, level: float | None, ends: float) -> float | None:
    """Seconds from *ends* until the share of good calls is back at *level*, and stays; ``None`` where it is not."""
    if level is None or level <= 0:
        return None
    target, back = BACK * level, None
    for step, (calls, succeeded, ended) in enumerate(zip(series.calls, series.succeeded, series.ended, strict=True)):
        begins = step * series.bucket
        if begins + series.bucket <= ends or not calls or ended < MOST * calls:
            continue
        noise = DEVIATIONS * math.sqrt(target * (1 - target) / ended)
        if succeeded / ended < target - noise:
            back = None
        elif back is None:
            back = max(0.0, begins - ends)
    return back


def steps_within(series: Series, at: float, until: float) -> tuple[int, ...]:
    """The attempts of the steps that are wholly in that time."""
    first, last = math.ceil(at / series.bucket - NEARLY), math.floor(until / series.bucket + NEARLY)
    return series.attempts[first:last]


def peak_to_mean(series: Series, at: float, until: float) -> float | None:
    """The most attempts in a step, divided by their mean; ``None`` where there are no two steps, or no attempts."""
    found = steps_within(series, at, until)
    total = sum(found)
    return max(found) * len(found) / total if len(found) > 1 and total else None


def peak_floor(series: Series, at: float, until: float) -> float | None:
    """About what :func:`peak_to_mean` comes to for a Poisson process: the largest of *n* numbers of a normal distribution is about
    ``sqrt(2 * ln(n))`` standard deviations above the mean, and the variance of a Poisson distribution is its mean."""
    found = steps_within(series, at, until)
    total = sum(found)
    return 1 + math.sqrt(2 * math.log(len(found)) * len(found) / total) if len(found) > 1 and total else None


def until_longest(strategy: RetryStrategy | None) -> float | None:
    """Seconds from the first failure until delays are at their longest: those before the first of these, and one of them.

    Without jitter, and without what an attempt itself takes. ``None`` without a strategy, and where no two delays are the longest, since they
    grow to the last.
    """
    backoff = None if strategy is None else strategy.backoff
    try:
        return _sum_to_longest(backoff) if isinstance(backoff, Backoff) else None
    except Exception:
        # One of the user's that breaks, or cannot be copied without its jitter. What it means for a call the engine says.
        return None


def _sum_to_longest(backoff: Backoff) -> float | None:
    delays: list[float] = []
    if isinstance(backoff, DecorrelatedJitterBackoff):
        # Three times the one before at most; what it draws is no measure.
        delays = [backoff.cap] * min(backoff.attempts, 2)
        while delays and delays[0] > backoff.base:
            delays.insert(0, delays[0] / 3)
    else:
        plain = backoff if backoff.jitter is None or backoff.jitter is False else dataclasses.replace(backoff, jitter=None)
        delays = list(itertools.islice(plain(), MANY))
    longest = max(delays, default=0.0)
    first = next((place for place, delay in enumerate(delays) if delay >= longest - NEARLY), 0)
    # Not by sum(), which rounds differently from Python 3.12 on.
    return math.fsum(delays[: first + 1]) if sum(delay >= longest - NEARLY for delay in delays) > 1 else None
