"""What all pictures share: their style, their colours, and how they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

# The same ids, fonts as text, and no date: one tree gives the same bytes each time.
STYLE = {"svg.hashsalt": "rpcretry", "svg.fonttype": "none", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}

# Red and green differ in brightness and in the shape of their marks, too.
GOOD, BAD, QUIET, LIMIT = "#2a7f3f", "#c8452f", "0.55", "#1f5fa8"
LET_THROUGH, TURNED_AWAY, ASKING = "#e3f1e4", "#f9dfda", "#fdf0d0"


def box(axes: Axes, x: float, y: float, text: str, *, face: str, width: float = 0.46, height: float = 0.32, bold: bool = False) -> FancyBboxPatch:
    """A box with words in it, centred at *x* and *y*."""
    patch = FancyBboxPatch((x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0.03", facecolor=face, edgecolor="0.4", linewidth=1)
    axes.add_patch(patch)
    axes.text(x, y, text, ha="center", va="center", fontweight="bold" if bold else "normal")
    return patch


def arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    patches: tuple[FancyBboxPatch, FancyBboxPatch],
    *,
    color: str = "0.25",
    dashed: bool = False,
    bend: float = 0.0,
) -> None:
    """An arrow from one box to another."""
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=12,
            patchA=patches[0],
            patchB=patches[1],
            shrinkA=1,
            shrinkB=1,
            color=color,
            linestyle="--" if dashed else "-",
            connectionstyle=f"arc3,rad={bend}",
        )
    )


def save(figure: Any, path: Path) -> None:
    """Write *figure* to *path*."""
    figure.savefig(path, bbox_inches="tight", facecolor="white", metadata={"Date": None, "Creator": None})
    plt.close(figure)
