"""What a failure rate is counted over: the last calls, or those of the last seconds.

Written so that a thread which is interrupted here by itself (see ``_circuit``) finds sums that fit what is kept: each
goes with its entry in statements between which nothing is called.
"""

from __future__ import annotations

from collections import deque

__all__ = ["CallWindow", "TimeWindow"]

# How many pieces a window of time is kept in: what it counts is between 9/10 and the whole of its length.
SLICES = 10


class CallWindow:
    """The last *size* results."""

    __slots__ = ("_results", "calls", "failures", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._results: deque[bool] = deque()
        self.calls = self.failures = 0

    def add(self, failed: bool, now: float) -> None:
        self.calls += 1
        self.failures += failed
        self._results.append(failed)
        if self.calls > self.size:
            self.calls -= 1
            self.failures -= self._results[0]
            del self._results[0]


class TimeWindow:
    """The results of the last *seconds*, counted in slices of that time, so that memory does not grow with traffic."""

    __slots__ = ("_calls", "_failures", "_latest", "_width", "calls", "failures")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / SLICES
        self._calls, self._failures = [0] * SLICES, [0] * SLICES
        self._latest: int | None = None
        self.calls = self.failures = 0

    def add(self, failed: bool, now: float) -> None:
        index = int(now // self._width)
        # A clock that stands or went back counts into the latest slice.
        if self._latest is None:
            self._latest = index
        elif index - self._latest > SLICES:
            self._latest = index - SLICES
        while self._latest < index:
            self._latest += 1
            place = self._latest % SLICES
            self.calls -= self._calls[place]
            self.failures -= self._failures[place]
            self._calls[place] = self._failures[place] = 0
        place = self._latest % SLICES
        self._calls[place] += 1
        self.calls += 1
        self._failures[place] += failed
        self.failures += failed
