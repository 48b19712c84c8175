"""``rpcretry backoff``: the delays of a backoff as a table, as JSON, or drawn."""

from __future__ import annotations

import itertools
import math
import random
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from .._specs import SpecError, parse_backoff
from ..retry.backoff import UNLIMITED, Backoff, DecorrelatedJitterBackoff
from ..retry.jitter import Jitter
from . import UNUSABLE
from ._ends import CommandError, writing
from ._exact import write
from ._output import put
from .attempts import DIM, GOOD, HEAD, PlainLines, make_lines

__all__ = ["SAMPLES", "Spread", "Survey", "show", "survey"]

SAMPLES: Final = 1_000
"""How often a backoff with jitter is run through, if it is not long."""

DRAWS: Final = 200_000
"""How many delays are drawn at the most: seconds of work."""

# Characters of the longest bar: in a pipe, and on a terminal of any width.
BAR = 40
BARS = (10, 60)
FORMATS = (".png", ".svg")


class Spread(NamedTuple):
    """Seconds of one quantity over all samples."""

    least: float
    mean: float
    most: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        return cls(min(samples), statistics.fmean(samples), max(samples))


class Survey(NamedTuple):
    """What a backoff does.

    :ivar samples: the delays of each run through it: one run where there is no jitter.
    :ivar delays: the delay before each retry.
    :ivar waited: the delays up to and including that of each retry, together.
    :ivar is_cut: whether there are more retries than were looked at.
    """

    backoff: Backoff
    samples: list[list[float]]
    delays: list[Spread]
    waited: list[Spread]
    is_cut: bool

    @property
    def is_random(self) -> bool:
        """Whether runs differ."""
        return len(self.samples) > 1


def survey(spec: str, limit: int, seed: int) -> Survey:
    """Run through the backoff that *spec* names.

    :param limit: the most retries to look at.
    :param seed: of its jitter.
    :raises SpecError: naming the part that is wrong.
    """
    backoff = parse_backoff(spec, random.Random(seed).random)
    is_random = isinstance(backoff, DecorrelatedJitterBackoff) or isinstance(backoff.jitter, Jitter)
    runs = min(SAMPLES, DRAWS // max(1, min(limit, backoff.attempts))) if is_random else 1
    samples = [list(itertools.islice(backoff(), limit)) for _ in range(runs)]
    sums = [list(itertools.accumulate(sample)) for sample in samples]
    delays, waited = ([Spread.of(column) for column in zip(*rows, strict=True)] for rows in (samples, sums))
    return Survey(backoff, samples, delays, waited, backoff.attempts > limit)


def show(spec: str, limit: int, seed: int, *, as_json: bool, plot: Path | None) -> None:
    """Print the delays, and draw them.

    :raises CommandError: where *spec* is none, or there is nothing to draw with.
    """
    if plot is not None and plot.suffix.lower() not in FORMATS:
        raise CommandError(f"--plot takes a file that ends in {' or '.join(FORMATS)}, got {plot.name!r}", UNUSABLE)
    try:
        found = survey(spec, limit, seed)
    except SpecError as problem:
        raise CommandError(str(problem), UNUSABLE) from None
    if plot is not None:
        _draw(found, plot)
    if as_json:
        put(write(document_of(found, seed), 2))
    else:
        _print(found, seed, make_lines(sys.stdout))


def _draw(found: Survey, path: Path) -> None:
    try:
        from ._plot import draw
    except ModuleNotFoundError as problem:
        if (problem.name or "").partition(".")[0] != "matplotlib":
            raise
        raise CommandError('--plot needs matplotlib; install with: pip install "rpcretry[plot]"', UNUSABLE) from None
    if not found.delays:
        raise CommandError("--plot: a backoff without retries has no delays to draw; give attempts=1 or more", UNUSABLE)
    with writing(path):
        draw(found, title_of(found.backoff), path)


def title_of(backoff: Backoff) -> str:
    """The backoff in a line, as Python would make it."""
    values = {name: value for name, value in vars(backoff).items() if name != "random" and value is not None}
    unlimited = {"attempts": "UNLIMITED"} if backoff.attempts >= UNLIMITED else {}
    parts = [f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in {**values, **unlimited}.items()]
    return f"{type(backoff).__name__}({', '.join(parts)})"


def document_of(found: Survey, seed: int) -> dict[str, object]:
    """The numbers for ``--json``, in seconds."""
    retries = [
        {"retry": number, "delay": _rounded(delay), "waited": _rounded(waited)}
        for number, (delay, waited) in enumerate(zip(found.delays, found.waited, strict=True), 1)
    ]
    attempts = found.backoff.attempts
    return {
        "backoff": title_of(found.backoff),
        "attempts": None if attempts >= UNLIMITED else attempts,
        "samples": len(found.samples),
        "seed": seed if found.is_random else None,
        "retries": retries,
    }


def _rounded(spread: Spread) -> dict[str, float]:
    # Nanoseconds are beyond what anybody waits, and short enough to read.
    return {name: round(value, 9) for name, value in spread._asdict().items()}


def _print(found: Survey, seed: int, lines: PlainLines) -> None:
    lines.write((title_of(found.backoff), HEAD))
    if not found.delays:
        lines.write(("no retries", ""))
        return
    if found.is_random:
        lines.write((f"{len(found.samples):,} samples, --seed {seed}; # up to the mean, - up to the most", DIM))
    lines.write()
    names = ("retry", "least", "mean", "most", "waited") if found.is_random else ("retry", "delay", "waited")
    # Those of the mean: the least of a full jitter is as small as the samples are many.
    decimals = _decimals([delay.mean for delay in found.delays])

    def _seconds(value: float) -> str:
        return f"{value:.{decimals}f}"

    rows = [
        (str(number), *map(_seconds, delay if found.is_random else (delay.mean,)), _seconds(waited.mean))
        for number, (delay, waited) in enumerate(zip(found.delays, found.waited, strict=True), 1)
    ]
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    longest = max(delay.most for delay in found.delays)
    lines.write((_row(names, widths), HEAD))
    room = BAR if lines.width is None else min(max(lines.width - len(_row(names, widths)) - 2, BARS[0]), BARS[1])
    for row, delay in zip(rows, found.delays, strict=True):
        mean, most = (round(room * seconds / longest) if longest else 0 for seconds in (delay.mean, delay.most))
        lines.write((_row(row, widths), ""), ("  " + "#" * mean, GOOD) if most else ("", ""), ("-" * (most - mean), DIM))
    lines.write()
    total = found.waited[-1]
    between = f", from {_seconds(total.least)} to {_seconds(total.most)} s" if found.is_random else ""
    many = len(rows)
    more = "the first " if found.is_cut else ""
    lines.write((f"{more}{many} {'retry' if many == 1 else 'retries'} wait {_seconds(total.mean)} s{' in the mean' if found.is_random else ''}{between}", ""))
    if found.is_cut:
        attempts = found.backoff.attempts
        rest = "there is no last one" if attempts >= UNLIMITED else f"{attempts - many:,} more follow"
        lines.write((f"{rest}; --limit shows more", DIM))


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))


def _decimals(delays: Sequence[float]) -> int:
    """Milliseconds, or as many digits as the shortest delay needs to be seen; down to nanoseconds, as in JSON."""
    least = min(filter(None, delays), default=1.0)
    return 3 if least >= 0.001 else min(9, 1 - math.floor(math.log10(least)))
