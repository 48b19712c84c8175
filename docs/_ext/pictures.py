"""Pictures drawn from the code when the pages are built, so that they show what the code does now.

They are written to ``_generated`` beside ``conf.py``: the delays of each backoff, what each jitter makes of them, what
jitter does for a crowd, when the recommended clients try, the transitions of the engine as its source has them, what
breakers, budgets, limits and deadlines do in virtual time, which members of a batch go again, which calls joining
makes into one, and what retry policies make of an outage.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import matplotlib as mpl
from drawing import STYLE, plt, save
from matplotlib.axes import Axes
from picture_benchmarks import draw_benchmarks
from picture_breaker import draw_breaker_states, draw_breaker_timeline
from picture_budget import draw_budget
from picture_contention import draw_contention, draw_herd
from picture_deadline import draw_deadline
from picture_engine import draw_engine
from picture_joining import draw_joining
from picture_partial_retry import draw_partial_retry
from picture_rate import draw_rate_limit
from picture_recommended import draw_recommended
from picture_storm import draw_storm
from sphinx.application import Sphinx

from rpcretry.retry import (
    AdditiveJitter,
    Backoff,
    DecorrelatedJitterBackoff,
    EqualJitter,
    ExponentialBackoff,
    FibonacciBackoff,
    FullJitter,
    LinearBackoff,
    PeriodicBackoff,
    ProportionalJitter,
)

RETRIES = 8
CAP = 20.0

CURVES: dict[str, Backoff] = {
    "Periodic, interval=2": PeriodicBackoff(RETRIES, interval=2.0),
    "Linear, base=1, increment=1": LinearBackoff(RETRIES, base=1.0, increment=1.0),
    "Fibonacci, multiplier=1": FibonacciBackoff(RETRIES, multiplier=1.0, max_value=CAP),
    "Exponential, base=1, factor=2": ExponentialBackoff(RETRIES, base=1.0, factor=2.0, max_value=CAP),
}


def draw_curves(path: Path) -> None:
    """The delays of the backoffs without jitter."""
    figure, axes = plt.subplots(figsize=(7.2, 3.4))
    numbers = range(1, RETRIES + 1)
    for (name, backoff), marker in zip(CURVES.items(), "os^D", strict=True):
        axes.plot(numbers, list(backoff()), marker=marker, label=name, linewidth=1.6)
    axes.axhline(CAP, color="0.6", linestyle="--", linewidth=1)
    axes.text(1, CAP, f"max_value={CAP:g}", color="0.4", va="bottom")
    axes.set(xlabel="retry", ylabel="delay in seconds", xticks=list(numbers), ylim=(0, CAP * 1.12))
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(0.0, 0.66))
    save(figure, path)


def draw_jitter(path: Path) -> None:
    """What the jitters make of one exponential backoff, as a cloud of draws."""
    source = random.Random(4).random
    shapes: dict[str, Backoff] = {
        "full (True)": _exponential(FullJitter(random=source)),
        "EqualJitter()": _exponential(EqualJitter(random=source)),
        "0.25": _exponential(ProportionalJitter(0.25, random=source)),
        "AdditiveJitter(4)": _exponential(AdditiveJitter(4.0, random=source)),
        "decorrelated": DecorrelatedJitterBackoff(RETRIES, base=1.0, max_value=CAP, random=source),
    }
    figure, panels = plt.subplots(1, len(shapes), figsize=(9.6, 2.9), sharey=True)
    for axes, (name, backoff) in zip(panels, shapes.items(), strict=True):
        _cloud(axes, backoff)
        axes.set_title(name, fontsize=10)
        axes.set(xlabel="retry", xticks=[1, 4, 8], ylim=(0, CAP * 1.06))
    panels[0].set_ylabel("delay in seconds")
    save(figure, path)


def _exponential(jitter: Any) -> Backoff:
    return ExponentialBackoff(RETRIES, base=1.0, factor=2.0, max_value=CAP, jitter=jitter)


def _cloud(axes: Axes, backoff: Backoff) -> None:
    drawn = [(number, delay) for _ in range(150) for number, delay in enumerate(backoff(), 1)]
    axes.scatter([number for number, _ in drawn], [delay for _, delay in drawn], s=5, alpha=0.22, linewidths=0)
    if not isinstance(backoff, DecorrelatedJitterBackoff):
        plain = list(_exponential(None)())
        axes.plot(range(1, RETRIES + 1), plain, color="0.35", linewidth=1, linestyle="--")


PICTURES = {
    "backoffs.svg": draw_curves,
    "jitter.svg": draw_jitter,
    "herd.svg": draw_herd,
    "contention.svg": draw_contention,
    "recommended.svg": draw_recommended,
    "engine.svg": draw_engine,
    "breaker_states.svg": draw_breaker_states,
    "breaker_timeline.svg": draw_breaker_timeline,
    "budget.svg": draw_budget,
    "rate_limit.svg": draw_rate_limit,
    "deadline.svg": draw_deadline,
    "partial_retry.svg": draw_partial_retry,
    "joining.svg": draw_joining,
    "benchmarks.svg": draw_benchmarks,
    "storm.svg": draw_storm,
}


def draw_all(folder: Path) -> None:
    """Draw every picture into *folder*."""
    folder.mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, draw in PICTURES.items():
            draw(folder / name)


def _on_build(app: Sphinx) -> None:
    draw_all(Path(app.srcdir) / "_generated")


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    app.connect("builder-inited", _on_build)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
