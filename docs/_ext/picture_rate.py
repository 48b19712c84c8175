"""A token bucket: what is asked of a rate limit, what it lets out, and its level, from the real layer in virtual time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from drawing import GOOD, LIMIT, QUIET, plt, save

from rpcretry import RateLimit
from rpcretry.outcome import Attempt, Member, Wait
from rpcretry.testing import VirtualTime

RATE, BURST, UNTIL = 5.0, 10.0, 8.0

# 25 at once, a pause, and 4 more in the second after it.
ARRIVALS = [1.0] * 25 + [6.0 + 0.25 * number for number in range(4)]


class Run(NamedTuple):
    """When requests came and went, in seconds, and the tokens that were left."""

    asked: list[float]
    went: list[float]
    level: list[tuple[float, float]]


def run() -> Run:
    """The requests through a real limit, by a driver of events in virtual time."""
    time = VirtualTime(start=0.0)
    limit = RateLimit(RATE, burst=BURST, clock=time.clock)
    order = itertools.count()
    events: list[tuple[float, int, Callable[[], None]]] = []
    went: list[float] = []
    level: list[tuple[float, float]] = []

    def at(when: float, act: Callable[[], None]) -> None:
        heapq.heappush(events, (when, next(order), act))

    def ask(attempt: Attempt) -> None:
        if attempt.sent:
            return
        attempt.parking = None
        step = limit.admit(attempt, time.now)
        if isinstance(step, Wait):
            if attempt.parking is not None:
                attempt.parking.on_wake(lambda: at(time.now, lambda: ask(attempt)))
            if step.until <= UNTIL:
                at(step.until, lambda: ask(attempt))
            return
        attempt.sent = True
        went.append(time.now)
        limit.settle(attempt, (), time.now)

    for when in ARRIVALS:
        at(when, lambda: ask(Attempt(1, [Member(None)], float("inf"), "work")))
    for tick in range(int(UNTIL * 50) + 1):
        at(tick / 50, lambda: level.append((time.now, limit.level)))
    while events:
        time.now, _, act = heapq.heappop(events)
        act()
    return Run(list(ARRIVALS), went, level)


def draw_rate_limit(path: Path) -> None:
    """The requests above, the bucket below."""
    found = run()
    figure, (above, below) = plt.subplots(2, 1, figsize=(8.2, 4.4), sharex=True, gridspec_kw={"height_ratios": [3, 2], "hspace": 0.16})
    for times, color, style, label in ((found.asked, QUIET, "--", "asked for"), (found.went, GOOD, "-", "let out")):
        steps = sorted(times)
        above.step([0.0, *steps, UNTIL], [0, *range(1, len(steps) + 1), len(steps)], where="post", color=color, linestyle=style, linewidth=1.8, label=label)
    above.set(ylabel="requests so far", ylim=(0, len(found.asked) + 3))
    above.legend(frameon=False, loc="lower right")
    above.annotate(f"burst={BURST:g} at once", (1.0, BURST), (1.35, 3.5), fontsize=9, arrowprops={"arrowstyle": "-", "color": "0.5", "lw": 0.8})
    above.text(3.1, 15.2, f"then {RATE:g} in each second", fontsize=9)
    below.plot([when for when, _ in found.level], [tokens for _, tokens in found.level], color=LIMIT, linewidth=1.6)
    below.set(xlabel="seconds", ylabel="tokens in\nthe bucket", ylim=(-0.6, BURST * 1.1), xlim=(0, UNTIL))
    save(figure, path)
