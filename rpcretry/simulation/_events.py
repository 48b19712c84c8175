"""What is to happen, in the order of its time."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

__all__ = ["Act", "Entry", "Events"]

# What happens, told the time, a call or whatever else it is about, and the flight of the call that it is meant for.
Act: TypeAlias = "Callable[[float, Any, int], object]"

# When, the order among those of one time, what, and what it is told.
Entry: TypeAlias = "tuple[float, int, Act, Any, int]"


def _nothing(now: float, about: Any, flight: int) -> None:
    """What comes after everything."""


class Events:
    """A heap of what is to happen. Those of one time happen in the order in which they were entered.

    :ivar now: the time.
    :ivar heap: what is to happen; for the hot paths, which push onto it with ``(when, tie(), act, about, flight)``.
    :ivar tie: the next number in the order of entering.
    """

    __slots__ = ("heap", "now", "tie")

    def __init__(self) -> None:
        self.now = 0.0
        self.tie = itertools.count().__next__
        self.heap: list[Entry] = [(math.inf, self.tie(), _nothing, None, 0)]

    def at(self, when: float, act: Act, about: Any = None, flight: int = 0) -> None:
        """Have ``act(when, about, flight)`` called at *when*."""
        heapq.heappush(self.heap, (when, self.tie(), act, about, flight))

    def take(self, act: Act) -> list[Entry]:
        """Those of *act*, in their order, which then do not happen. Looks at everything: for what is seldom."""
        taken = sorted(self.of(act))
        if taken:
            self.heap[:] = [entry for entry in self.heap if entry[2] is not act]
            heapq.heapify(self.heap)
        return taken

    def of(self, act: Act) -> list[Entry]:
        """Those of *act*."""
        return [entry for entry in self.heap if entry[2] is act]

    def run(self, end: float) -> None:
        """Have everything happen that is to happen before *end*."""
        heap, pop = self.heap, heapq.heappop
        while heap[0][0] < end:
            now, _, act, about, flight = pop(heap)
            self.now = now
            act(now, about, flight)
        self.now = end
