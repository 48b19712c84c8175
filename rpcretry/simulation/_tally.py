"""What is counted while a simulation runs."""

from __future__ import annotations

import bisect
import itertools
import math
from collections import Counter

from ..errors import Refused
from ._calls import SimulatedCall
from ._model import Scenario
from ._result import Latency, Series

__all__ = ["Histogram", "Tally", "steps_of"]

# The steps of a histogram are 1 % wide, from a microsecond to 32 years.
PER_E = 1 / math.log(1.01)
FIRST = math.floor(math.log(1e-6) * PER_E) - 1
BINS = math.floor(math.log(1e9) * PER_E) - FIRST + 1

# The edge of a step that a rounding puts a little off is that edge.
NEARLY = 1e-9


def steps_of(duration: float, bucket: float) -> int:
    """How many steps of *bucket* seconds there are; the last may be shorter."""
    return max(1, math.ceil(duration / bucket - NEARLY))


class Histogram:
    """Durations in steps of 1 %; what is shorter than a microsecond counts as 0."""

    __slots__ = ("_bins", "count", "total")

    def __init__(self) -> None:
        self._bins = [0] * BINS
        self.count = 0
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.total += seconds
        self._bins[math.floor(math.log(seconds) * PER_E) - FIRST if seconds > 1e-6 else 0] += 1

    def merge(self, other: Histogram) -> Histogram:
        """Both."""
        both = Histogram()
        both.count, both.total = self.count + other.count, self.total + other.total
        both._bins = [mine + others for mine, others in zip(self._bins, other._bins, strict=True)]
        return both

    def at(self, share: float) -> float:
        """The duration that *share* of them do not exceed: the middle of its step."""
        wanted, seen = math.ceil(share * self.count - NEARLY), 0
        for place, found in enumerate(self._bins):
            seen += found
            if found and seen >= wanted:
                return math.exp((place + FIRST + 0.5) / PER_E) if place else 0.0
        return 0.0

    def read(self) -> Latency:
        return Latency(self.count, self.total / self.count if self.count else 0.0, self.at(0.5), self.at(0.99), self.at(0.999))


class Part:
    """How long the calls took that began in a part of the run."""

    __slots__ = ("bad", "good")

    def __init__(self) -> None:
        self.good = Histogram()
        self.bad = Histogram()


class Tally:
    """The counters of a run.

    :param scenario: what is simulated.
    :ivar step: the step of the series that it is in.
    :ivar calls: how many calls began so far.
    :ivar attempts: how many attempts were sent so far.
    :ivar good: how many calls ended well so far.
    :ivar bad: how many calls failed so far.
    :ivar failed: those by the class of the error.
    :ivar refused: those among them that a layer refused.
    :ivar parts: the calls that began in the warm-up, before, during and after the changes.
    """

    __slots__ = ("_bucket", "_edges", "_ended", "_marks", "_rows", "_succeeded", "attempts", "bad", "calls", "failed", "good", "parts", "refused", "step")

    def __init__(self, scenario: Scenario) -> None:
        begins, ends = scenario.trouble or (math.inf, math.inf)
        steps = steps_of(scenario.duration, scenario.bucket)
        self._bucket = scenario.bucket
        self._edges = (min(scenario.warmup, begins), begins, ends)
        self._marks: dict[float, tuple[int, int]] = {}
        self._succeeded, self._ended = [0] * steps, [0] * steps
        # What the counters and the server said at the end of each step.
        self._rows: list[tuple[int, int, int, int, int, int]] = [(0, 0, 0, 0, 0, 0)]
        self.step = self.calls = self.attempts = self.good = self.bad = 0
        self.failed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.parts = tuple(Part() for _ in range(4))

    def succeed(self, now: float, call: SimulatedCall) -> None:
        """The call ended well."""
        self.good += 1
        step, started = call.step, call.started
        self._ended[step] += 1
        self._succeeded[step] += 1
        self.parts[bisect.bisect_right(self._edges, started)].good.add(now - started)

    def fail(self, now: float, call: SimulatedCall, error: Exception) -> None:
        """The call ended in *error*."""
        self.bad += 1
        self._ended[call.step] += 1
        name = type(error).__name__
        self.failed[name] += 1
        if isinstance(error, Refused):
            self.refused[name] += 1
        self.parts[bisect.bisect_right(self._edges, call.started)].bad.add(now - call.started)

    def mark(self, now: float) -> None:
        """Remember how many calls and attempts there were until now."""
        self._marks[now] = (self.calls, self.attempts)

    def between(self, at: float, until: float) -> tuple[int, int]:
        """How many calls began, and how many attempts were sent, between two times that were marked."""
        calls, attempts = self._marks[at]
        later_calls, later_attempts = self._marks[until]
        return later_calls - calls, later_attempts - attempts

    def end_step(self, waiting: int, busy: int) -> None:
        """A step of the series is over."""
        self._rows.append((self.calls, self.attempts, self.good, self.bad, waiting, busy))
        self.step += 1

    def series(self) -> Series:
        """All steps."""
        calls, attempts, good, bad, waiting, busy = zip(*self._rows, strict=True)
        calls, attempts, good, bad = (tuple(later - earlier for earlier, later in itertools.pairwise(column)) for column in (calls, attempts, good, bad))
        return Series(self._bucket, calls, attempts, good, bad, waiting[1:], busy[1:], tuple(self._succeeded), tuple(self._ended))
