"""Why full jitter: many clients that want the same thing at the same moment, under backoffs of this package.

Two simulations, small and seeded. The first is the one by which Marc Brooker compared jitters ("Exponential Backoff And Jitter",
AWS Architecture Blog, 2015), written anew: clients read a row, and write it if nobody else has meanwhile. The second is a
server that comes back from a restart and can serve so many requests at a time.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from drawing import BAD, GOOD, LIMIT, QUIET, plt, save

from rpcretry.retry import UNLIMITED, Backoff, DecorrelatedJitterBackoff, EqualJitter, ExponentialBackoff, FullJitter

# Seconds: his numbers. A message takes about 10 ms, give or take 2.
BASE, CAP, NETWORK, VARIES = 0.005, 2.0, 0.010, 0.002
CLIENTS = (10, 20, 40, 60, 80, 100)
RUNS = 20

# The second: so many clients lose their connection at second 0; the server does so many requests in each tenth of a second.
HERD, CAPACITY, SLOT, SHOWN = 300, 15, 0.1, 16.0

KINDS: dict[str, Callable[[Callable[[], float]], Backoff]] = {
    "no jitter": lambda source: ExponentialBackoff(UNLIMITED, base=BASE, max_value=CAP),
    "equal": lambda source: ExponentialBackoff(UNLIMITED, base=BASE, max_value=CAP, jitter=EqualJitter(random=source)),
    "decorrelated": lambda source: DecorrelatedJitterBackoff(UNLIMITED, base=BASE, max_value=CAP, random=source),
    "full": lambda source: ExponentialBackoff(UNLIMITED, base=BASE, max_value=CAP, jitter=FullJitter(random=source)),
}
LOOKS = {"no jitter": (BAD, "s"), "equal": (QUIET, "^"), "decorrelated": (LIMIT, "D"), "full": (GOOD, "o")}


class Race(NamedTuple):
    """What came of one race for the row.

    :ivar calls: attempts to write, of all clients together.
    :ivar seconds: when the last client had written.
    """

    calls: int
    seconds: float


def race(kind: str, clients: int, seed: int) -> Race:
    """Let so many clients write one row that takes a write only from who has read its latest version."""
    source = random.Random(seed)
    backoff = KINDS[kind](source.random)

    def message() -> float:
        return max(0.0, source.gauss(NETWORK, VARIES))

    # What arrives at the row and when: a client's read, or its write with the version that it read.
    delays = [backoff() for _ in range(clients)]
    arrivals = [(message(), client, None) for client in range(clients)]
    heapq.heapify(arrivals)
    version = calls = 0
    now = 0.0
    while arrivals:
        now, client, seen = heapq.heappop(arrivals)
        if seen is None:
            # The answer goes back to the client, and its write comes here.
            heapq.heappush(arrivals, (now + message() + message(), client, version))
            continue
        calls += 1
        if seen == version:
            version += 1
        else:
            heapq.heappush(arrivals, (now + message() + next(delays[client]) + message(), client, None))
    return Race(calls, now)


def means(kind: str) -> Iterator[Race]:
    """The mean race for each number of clients."""
    for clients in CLIENTS:
        races = [race(kind, clients, seed) for seed in range(RUNS)]
        yield Race(round(sum(run.calls for run in races) / RUNS), sum(run.seconds for run in races) / RUNS)


def herd(jitter: bool, seed: int = 4) -> list[int]:
    """How many requests arrive in each slot, while clients that failed together at second 0 try until they are served."""
    spread = FullJitter(random=random.Random(seed).random) if jitter else None
    backoff = ExponentialBackoff(UNLIMITED, base=1.0, factor=2.0, max_value=20.0, jitter=spread)
    arrivals = []
    for client in range(HERD):
        delays = backoff()
        arrivals.append((next(delays), client, delays))
    heapq.heapify(arrivals)
    slots: list[int] = []
    while arrivals:
        now, client, delays = heapq.heappop(arrivals)
        slot = int(now / SLOT + 1e-9)
        slots.extend([0] * (slot + 1 - len(slots)))
        slots[slot] += 1
        if slots[slot] > CAPACITY:
            heapq.heappush(arrivals, (now + next(delays), client, delays))
    return slots


def draw_contention(path: Path) -> None:
    """Calls and completion over the number of clients, for each kind of jitter.

    Logarithmic, since what has no jitter would press the others, which the page compares, into one line.
    """
    figure, (calls, seconds) = plt.subplots(1, 2, figsize=(9.0, 4.4), gridspec_kw={"wspace": 0.26})
    for kind, (color, marker) in LOOKS.items():
        found = list(means(kind))
        calls.plot(CLIENTS, [run.calls for run in found], color=color, marker=marker, label=kind, linewidth=1.6)
        seconds.plot(CLIENTS, [run.seconds for run in found], color=color, marker=marker, label=kind, linewidth=1.6)
    for axes, words, ticks in ((calls, "calls", (50, 100, 200, 500, 1_000, 2_000)), (seconds, "seconds", (0.5, 1, 2, 5, 10, 20, 50))):
        axes.set_yscale("log")
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set(xlabel="clients", ylabel=f"{words} until all are done")
    seconds.legend(frameon=False, loc="lower right")
    save(figure, path)


def draw_herd(path: Path) -> None:
    """What arrives at a server after a restart, without jitter and with it."""
    figure, panels = plt.subplots(2, 1, figsize=(8.6, 4.2), sharex=True, sharey=True, gridspec_kw={"hspace": 0.2})
    for axes, jitter, color, words in zip(panels, (False, True), (BAD, GOOD), ("without jitter", "with full jitter"), strict=True):
        slots = herd(jitter)[: round(SHOWN / SLOT)]
        axes.bar([slot * SLOT for slot in range(len(slots))], slots, width=SLOT, align="edge", color=color, linewidth=0)
        axes.axhline(CAPACITY, color="0.35", linewidth=1, linestyle="--")
        axes.text(SHOWN * 0.87, HERD * 0.82, words, ha="right", color=color)
        axes.set(ylabel="requests\nin 0.1 s", xlim=(0, SHOWN))
    panels[0].text(SHOWN * 0.87, CAPACITY + 6, "what it can serve", ha="right", fontsize=9, color="0.35")
    panels[1].set_xlabel("seconds after the restart")
    save(figure, path)
