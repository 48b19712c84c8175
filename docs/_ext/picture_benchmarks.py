"""How rpcretry compares with its peers, drawn from the data that the last run of the benchmarks wrote: nothing is measured here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from drawing import BAD, GOOD, LIMIT, QUIET, plt, save

DATA = Path(__file__).parent.parent / "_reports" / "bench.json"

# Colour and shape for each; those of one kind share a colour.
LOOKS = {
    "pjrpc": (BAD, "o"),
    "jsonrpcclient": (BAD, "s"),
    "jsonrpc-requests": (BAD, "^"),
    "jsonrpc-async": (BAD, "v"),
    "by hand": ("0.2", "X"),
    "not joined": (GOOD, "P"),
    "tenacity": (LIMIT, "o"),
    "stamina": (LIMIT, "s"),
    "backoff": (LIMIT, "^"),
    "opnieuw": (LIMIT, "D"),
}


def rows() -> list[dict[str, Any]]:
    """The rows of the table, with what each contestant took for each 1 that rpcretry took."""
    data = json.loads(DATA.read_text())
    return [
        {"title": row["title"], "times": {name: 1 / found["ratio"] for name, found in row["found"].items() if name in LOOKS}}
        for row in data["rows"]
        if any(name in LOOKS for name in row["found"])
    ]


def draw_benchmarks(path: Path) -> None:
    """A line for each row of the table; right of the middle took longer than rpcretry."""
    shown = rows()
    figure, axes = plt.subplots(figsize=(8.8, 0.3 * len(shown) + 1.3))
    for place, row in enumerate(shown):
        axes.axhline(-place, color="0.92", linewidth=1, zorder=0)
        for name, times in row["times"].items():
            color, marker = LOOKS[name]
            axes.plot(times, -place, marker, color=color, markersize=6, alpha=0.8, markeredgewidth=0)
    axes.axvline(1.0, color=GOOD, linewidth=2)
    axes.text(1.0, 0.75, "rpcretry", color=GOOD, ha="center", va="bottom")
    axes.set_xscale("log")
    ends = [times for row in shown for times in row["times"].values()]
    low, high = min([*ends, 0.5]) / 1.2, max([*ends, 2.0]) * 1.2
    ticks = [tick for tick in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks([-place for place in range(len(shown))], [row["title"] for row in shown])
    axes.set(xlim=(low, high), ylim=(-len(shown) + 0.4, 0.7), xlabel="what others take for each 1 of rpcretry; logarithmic")
    present = [name for name in LOOKS if any(name in row["times"] for row in shown)]
    for name in present:
        axes.plot([], [], LOOKS[name][1], color=LOOKS[name][0], markersize=6, markeredgewidth=0, label=name)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_color(QUIET)
    save(figure, path)
