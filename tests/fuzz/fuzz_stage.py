"""What a part of a fuzzing run found, and how it is told."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import time
from collections import Counter
from collections.abc import Callable

import psutil

__all__ = ["Memory", "Stage", "Stop"]

MOST_SHOWN = 5
GROWTH = 0.05
PROCESS = psutil.Process()


class Stop:
    """When to end, whatever is left to do."""

    def __init__(self, seconds: float) -> None:
        self.ends_by = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return self.ends_by - time.monotonic()

    def part(self, share: float) -> Stop:
        """One that ends after that share of what is left."""
        return Stop(self.left * share)


@dataclasses.dataclass
class Stage:
    """One part of the run.

    :ivar wanted: how many inputs there were to be.
    :ivar done: how many there were.
    :ivar facts: what was counted, measured or used.
    :ivar crashes: by what is wrong, the first input that showed it, as Python.
    """

    name: str
    wanted: int = 0
    done: int = 0
    seconds: float = 0.0
    facts: list[str] = dataclasses.field(default_factory=list)
    crashes: dict[str, str] = dataclasses.field(default_factory=dict)
    again: Counter[str] = dataclasses.field(default_factory=Counter)

    def crashed(self, why: str, literal: Callable[[], str] | str) -> None:
        """Note a crash; of each kind the first is shown whole."""
        kind = "".join("0" if char.isdigit() else char for char in why)[:70]
        self.again[kind] += 1
        if self.again[kind] == 1 and len(self.crashes) < MOST_SHOWN:
            self.crashes[why] = literal if isinstance(literal, str) else literal()

    @property
    def is_good(self) -> bool:
        """Whether all of it was done, and nothing was wrong."""
        return not self.again and self.done >= self.wanted

    def lines(self) -> list[str]:
        """The report."""
        rate = f", {self.done / self.seconds:,.0f} a second" if self.seconds and self.wanted > 1 else ""
        found = [f"{self.name}: {self.done:,} of {self.wanted:,} in {self.seconds:.0f} s{rate}", *(f"  {fact}" for fact in self.facts)]
        if self.done < self.wanted:
            found.append("  NOT DONE: the time was over, or the stage broke off; give it more with --seconds")
        found.append(f"  crashes: {self.again.total()}" + (f" of {len(self.again)} kinds" if self.again else ""))
        for why, literal in self.crashes.items():
            found += [f"  CRASH {why}", f"    {literal}"]
        return found


class Memory:
    """What the process holds once it is warm, and at the end."""

    def __init__(self) -> None:
        self.before = self._now()

    @staticmethod
    def _now() -> tuple[int, int]:
        gc.collect()
        # What the allocator keeps for later is not held.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
        return PROCESS.memory_info().rss, len(gc.get_objects())

    def compare(self, stage: Stage, *, slack: int = 50) -> None:
        """Say what grew; a growth of more than 5 % is a crash.

        :param slack: objects that may be there by chance, such as the cells of caches that were not full.
        """
        (rss, objects), (now, many) = self.before, self._now()
        growth = (now - rss) / rss
        stage.facts.append(f"memory: {rss / 2**20:.1f} MiB warm, {now / 2**20:.1f} MiB at the end ({growth:+.1%}); objects {objects:,}, then {many:,}")
        if growth > GROWTH:
            stage.crashed(f"memory grew by {growth:.1%}", "all inputs")
        if many > objects + slack:
            stage.crashed(f"{many - objects} objects more than at the beginning", "all inputs")


def open_files() -> int:
    """How many file descriptors are open."""
    return PROCESS.num_fds()
