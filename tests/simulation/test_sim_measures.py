"""What is worked out from a run, against series that were written by hand."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator

import pytest

from rpcretry.retry import (
    Backoff,
    DecorrelatedJitterBackoff,
    EqualJitter,
    ExponentialBackoff,
    FibonacciBackoff,
    ImmediateBackoff,
    LinearBackoff,
    PeriodicBackoff,
    RetryStrategy,
)
from rpcretry.retry.backoff import BackoffLike
from rpcretry.simulation import Latency, Outage, Series
from rpcretry.simulation._measures import peak_floor, peak_to_mean, recovery, until_longest
from rpcretry.simulation._tally import Histogram, steps_of


def series(*good: int, of: int = 100, bucket: float = 1.0, ended: int | None = None, attempts: tuple[int, ...] | None = None) -> Series:
    """As many steps, each of *of* calls."""
    steps = len(good)
    same = (of,) * steps
    return Series(bucket, same, attempts or same, good, same, same, same, good, (ended,) * steps if ended is not None else same)


@pytest.mark.parametrize(
    ("good", "seconds"),
    [
        ((100, 100, 0, 0, 100, 100), 0.0),
        ((100, 100, 0, 0, 50, 100, 100), 1.0),
        # It has to stay.
        ((100, 100, 0, 0, 100, 100, 40, 100), 3.0),
        ((100, 100, 0, 0, 100, 100, 40), None),
        ((100, 100, 0, 0, 0, 0, 0), None),
        # 99 % of what it was, and what a hundred calls may be off by chance: three times one call.
        ((100, 100, 0, 0, 97, 96, 97), 2.0),
        ((100, 100, 0, 0, 97, 97, 97), 0.0),
    ],
)
def test_recovery_is_when_goodput_is_back_and_stays(good: tuple[int, ...], seconds: float | None) -> None:
    assert recovery(series(*good), 1.0, 4.0) == seconds


def test_recovery_is_measured_from_the_end_and_against_the_level_before() -> None:
    assert recovery(series(800, 800, 0, 0, 700, 800, 800, of=10_000), 0.08, 4.5) == 0.5
    assert recovery(series(80, 80, 0, 0, 79, of=100), 0.8, 3.5) == 0.5
    # The step in which it ends began before; it counts as of the end.
    assert recovery(series(100, 0, 100, 100), 1.0, 1.5) == 0.5
    assert recovery(series(100, 0, 100, 100, bucket=0.5), 1.0, 1.0) == 0.0
    assert recovery(series(100, 100), None, 1.0) is None
    assert recovery(series(0, 0), 0.0, 1.0) is None


def test_a_step_whose_calls_are_mostly_under_way_says_nothing() -> None:
    assert recovery(series(100, 0, 49, 49, ended=49), 1.0, 2.0) is None
    assert recovery(series(100, 0, 51, 51, ended=51), 1.0, 2.0) == 0.0


def test_peak_to_mean_looks_at_whole_steps() -> None:
    found = series(*[0] * 6, attempts=(900, 10, 30, 20, 20, 700))
    assert peak_to_mean(found, 0.5, 5.0) == 30 / 20
    assert peak_to_mean(found, 1.0, 5.5) == 30 / 20
    assert peak_to_mean(found, 1.0, 6.0) == 700 * 5 / 780
    assert peak_to_mean(found, 0.5, 1.9) is None
    assert peak_to_mean(series(0, 0, attempts=(0, 0)), 0.0, 2.0) is None
    # An edge that a rounding puts a little off.
    assert peak_to_mean(series(*[0] * 8, bucket=0.1, attempts=(900, 900, 900, 1, 3, 2, 2, 900)), 0.1 * 3, 0.7) == 3 / 2


def test_the_floor_is_about_what_random_arrivals_come_to() -> None:
    source = random.Random(2)

    def poisson(mean: float) -> int:
        # As many as arrive in one second.
        return next(number for number, at in enumerate(itertools.accumulate(iter(lambda: source.expovariate(mean), None))) if at > 1)

    ratios, floors = [], []
    for _ in range(40):
        found = series(*[0] * 50, attempts=tuple(poisson(100) for _ in range(50)))
        ratios.append(peak_to_mean(found, 0, 50) or 0)
        floors.append(peak_floor(found, 0, 50) or 0)
    assert sum(floors) / 40 == pytest.approx(1 + math.sqrt(2 * math.log(50) / 100), rel=0.01)
    # For few steps the formula is a little above.
    assert sum(ratios) / 40 == pytest.approx(sum(floors) / 40, rel=0.06)
    assert peak_floor(series(0, attempts=(1,)), 0, 1) is None


def own() -> Iterator[float]:
    return iter([1.0, 2.0, 2.0])


class Broken(Backoff):
    def __call__(self) -> Iterator[float]:
        raise LookupError


class Uncopied(Backoff):
    def __init__(self) -> None:
        super().__init__(3, jitter=True)

    def __call__(self) -> Iterator[float]:
        return self.spread(itertools.repeat(1.0))


@pytest.mark.parametrize(
    ("backoff", "seconds"),
    [
        (Broken(3), None),
        (Uncopied(), None),
        (ExponentialBackoff(9, base=0.1, max_value=0.8), 0.1 + 0.2 + 0.4 + 0.8),
        (ExponentialBackoff(9, base=0.1, max_value=0.8, jitter=True), 1.5),
        (ExponentialBackoff(9, base=0.1, max_value=0.7, jitter=EqualJitter()), 1.4),
        (ExponentialBackoff(3, base=0.1, max_value=20.0), None),
        (ExponentialBackoff(9), None),
        (PeriodicBackoff(5, 0.5), 0.5),
        (PeriodicBackoff(1, 0.5), None),
        (ImmediateBackoff(3), 0.0),
        (LinearBackoff(9, base=1.0, increment=1.0, max_value=3.0), 6.0),
        (FibonacciBackoff(9, multiplier=1.0, max_value=3.0), 7.0),
        (DecorrelatedJitterBackoff(9, base=1.0, max_value=9.0), 1.0 + 3.0 + 9.0),
        (DecorrelatedJitterBackoff(1, base=1.0, max_value=9.0), None),
        (own, None),
    ],
)
def test_delays_are_at_their_longest_after_so_long(backoff: BackoffLike, seconds: float | None) -> None:
    assert until_longest(RetryStrategy(backoff=backoff)) == (seconds if seconds is None else pytest.approx(seconds))


def test_without_a_strategy_there_are_no_delays() -> None:
    assert until_longest(None) is None


# --- the histogram ---


def test_percentiles_are_at_most_half_a_percent_off() -> None:
    source, histogram = random.Random(4), Histogram()
    values = sorted(math.exp(source.uniform(math.log(2e-6), math.log(1e5))) for _ in range(5000))
    for value in values:
        histogram.add(value)
    for share in (0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0):
        exact = values[math.ceil(share * 5000) - 1]
        assert histogram.at(share) == pytest.approx(exact, rel=0.00503)
    assert histogram.read().mean == pytest.approx(sum(values) / 5000)
    assert histogram.read().count == 5000


def test_a_histogram_of_nothing_and_of_no_time() -> None:
    nothing = Histogram()
    assert nothing.read() == Latency() == Latency(0, 0.0, 0.0, 0.0, 0.0)
    nothing.add(0.0)
    assert nothing.read() == Latency(1)
    nothing.add(1.0)
    nothing.add(1.0)
    assert nothing.read().p99 == pytest.approx(1.0, rel=0.00503)


def test_histograms_add_up() -> None:
    one, other = Histogram(), Histogram()
    for value in (1.0, 2.0, 3.0):
        one.add(value)
        other.add(value * 10)
    both = one.merge(other)
    assert (both.count, both.total) == (6, 66.0)
    assert both.at(0.5) == one.at(1.0)
    assert both.at(1.0) == other.at(1.0)


def test_the_last_step_may_be_shorter() -> None:
    assert [steps_of(3.0, 1.0), steps_of(3.1, 1.0), steps_of(0.3, 0.1), steps_of(0.7, 0.1), steps_of(0.5, 1.0)] == [3, 4, 3, 7, 1]


def test_a_series_says_when_its_steps_begin() -> None:
    assert series(1, 1, 1, bucket=0.5).times == (0.0, 0.5, 1.0)


def test_amplification_without_calls_is_none() -> None:
    assert Outage("down", 0.0, 1.0, 0, 5).amplification is None
    assert Outage("down", 0.0, 1.0, 4, 5).amplification == 1.25
