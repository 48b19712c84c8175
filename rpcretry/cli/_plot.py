"""The picture of a backoff. Imported where one is asked for, since matplotlib takes its time."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .backoff import Survey

__all__ = ["draw", "figure_of"]

DELAY, WAITED = "#1f5fa8", "#c8452f"

# More samples, and more points in all, are one blot, and a file that takes seconds to show.
SAMPLES, POINTS = 200, 4_000

# A title of more characters than that is wider than the figure in letters of 10 points.
TITLE = 100


def draw(found: Survey, title: str, path: Path) -> None:
    """Draw the delays, and what they come to, side by side.

    :param path: ends in .png or .svg.
    :raises OSError: where it cannot be written.
    """
    # One backoff gives the same bytes each time: the same ids, fonts as text, and no date.
    with mpl.rc_context({"svg.hashsalt": "rpcretry", "svg.fonttype": "none", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else {}
        figure_of(found, title).savefig(path, dpi=150, facecolor="white", metadata=metadata)


def figure_of(found: Survey, title: str) -> Figure:
    """The picture."""
    numbers = list(range(1, len(found.delays) + 1))
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    # Of many points the line is all that can be told apart.
    mark = "o" if len(numbers) <= 100 else ""
    if found.is_random:
        samples = found.samples[: max(1, min(SAMPLES, POINTS // len(numbers)))]
        # Side by side, so that equal delays do not hide each other.
        points = [(number + 0.5 * (place / len(samples) - 0.5), delay) for place, sample in enumerate(samples) for number, delay in enumerate(sample, 1)]
        left.scatter(*zip(*points, strict=True), s=6, alpha=0.3, linewidths=0, color=DELAY, label="samples")
        left.plot(numbers, [delay.mean for delay in found.delays], color="0.15", marker=mark, markersize=4, linewidth=1.2, label="mean")
    else:
        left.bar(numbers, [delay.mean for delay in found.delays], color=DELAY, width=0.7)
    left.set(title="Delay before each retry", xlabel="retry", ylabel="seconds")

    # The first try goes out at once.
    steps = [0, *numbers]
    least, mean, most = ([0.0, *(getattr(waited, name) for waited in found.waited)] for name in ("least", "mean", "most"))
    right.plot(steps, mean, color=WAITED, marker=mark, markersize=4, linewidth=1.4, label="mean")
    if found.is_random:
        right.fill_between(steps, least, most, color=WAITED, alpha=0.16, linewidth=0, label="least to most")
    right.set(title="Waited in all", xlabel="retry (0 is the first try)", ylabel="seconds")
    for axes, lowest in ((left, 0.4), (right, -0.1)):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(lowest, len(numbers) + 0.6)
        # Without any delay matplotlib would make up a scale.
        axes.set_ylim(0, None if most[-1] else 1)
        if found.is_random:
            legend = axes.legend(frameon=False, loc="best", markerscale=2)
            for handle in legend.legend_handles:
                if handle is not None and axes is left:
                    handle.set_alpha(1)
    figure.suptitle(title, fontsize=min(10.0, 10.0 * TITLE / len(title)), family="monospace")
    return figure
