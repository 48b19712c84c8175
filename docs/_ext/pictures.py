"""Pictures drawn from the code when the pages are built, so that they show what the code does now.

They are written to ``_generated`` beside ``conf.py``: the delays of each backoff, what each jitter makes of them,
and the transitions of the engine as its source has them.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
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
    engine,
)

# The same ids, fonts as text, and no date: one tree gives the same bytes each time.
STYLE = {"svg.hashsalt": "rpcretry", "svg.fonttype": "none", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}

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
    _save(figure, path)


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
    _save(figure, path)


def _exponential(jitter: Any) -> Backoff:
    return ExponentialBackoff(RETRIES, base=1.0, factor=2.0, max_value=CAP, jitter=jitter)


def _cloud(axes: Axes, backoff: Backoff) -> None:
    drawn = [(number, delay) for _ in range(150) for number, delay in enumerate(backoff(), 1)]
    axes.scatter([number for number, _ in drawn], [delay for _, delay in drawn], s=5, alpha=0.22, linewidths=0)
    if not isinstance(backoff, DecorrelatedJitterBackoff):
        plain = list(_exponential(None)())
        axes.plot(range(1, RETRIES + 1), plain, color="0.35", linewidth=1, linestyle="--")


# --- the engine ---

STEPS = ("Attempt", "Wait", "Stop")

# Where each stands: column and row from the top. A method of the engine that returns a step and has no place here
# is an error, so that nobody adds a transition without drawing it.
PLACES = {
    "begin": (0.0, 0.0),
    "_launch": (1.0, 0.0),
    "_admit": (2.1, 0.0),
    "Attempt": (4.0, 0.0),
    "resume": (0.0, 1.0),
    "_hold": (2.1, 1.0),
    "_refuse": (3.0, 1.0),
    "Wait": (0.8, 2.1),
    "_advance": (2.3, 2.1),
    "settle": (4.0, 2.1),
    "_expire": (1.6, 3.2),
    "_conclude": (2.8, 3.2),
    "Stop": (4.0, 3.2),
}
# What the driver does between two steps, which the engine's source does not show.
BY_DRIVER = {("Attempt", "settle"): "the exchange", ("Wait", "resume"): "time, or a wake"}
BENDS = {("settle", "Wait"): -0.16, ("_admit", "_expire"): 0.28, ("resume", "_admit"): -0.12, ("_hold", "_expire"): 0.12, ("resume", "_advance"): -0.08}


def transitions() -> Iterator[tuple[str, str]]:
    """Which step or method each method of the engine returns, read from its source."""
    (cls,) = ast.parse(inspect.getsource(engine.Engine)).body
    if not isinstance(cls, ast.ClassDef):
        raise TypeError("the engine's source is no class")
    for method in cls.body:
        if isinstance(method, ast.FunctionDef) and isinstance(method.returns, ast.Name) and method.returns.id in ("Step", "Stop") and method.name != "_late":
            found = itertools.chain.from_iterable(_targets(node.value) for node in ast.walk(method) if isinstance(node, ast.Return))
            yield from ((method.name, target) for target in dict.fromkeys(found))


def _targets(value: ast.expr | None) -> Iterator[str]:
    if isinstance(value, ast.IfExp):
        yield from _targets(value.body)
        yield from _targets(value.orelse)
    elif isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        yield value.func.attr
    elif isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        yield value.func.id
    elif isinstance(value, ast.Name):
        yield value.id.capitalize()


def draw_engine(path: Path) -> None:
    """The engine's transitions."""
    edges = list(transitions())
    missing = {name for edge in edges for name in edge} - set(PLACES)
    if missing:
        raise ValueError(f"the engine has transitions that the picture has no place for: {', '.join(sorted(missing))}; add them to PLACES")
    figure, axes = plt.subplots(figsize=(8.4, 5.2))
    boxes: dict[str, FancyBboxPatch] = {}
    for name, (x, y) in PLACES.items():
        step, entry = name in STEPS, not name.startswith("_")
        face = "#d7e6f7" if step else "#fdf0d0" if entry else "#f1f1f1"
        boxes[name] = FancyBboxPatch((x - 0.23, -y - 0.16), 0.46, 0.32, boxstyle="round,pad=0.03", facecolor=face, edgecolor="0.4", linewidth=1)
        axes.add_patch(boxes[name])
        axes.text(x, -y, name.removeprefix("_"), ha="center", va="center", fontweight="bold" if step else "normal")
    for edge in edges:
        _arrow(axes, edge, boxes, color="0.25")
    for edge, words in BY_DRIVER.items():
        _arrow(axes, edge, boxes, color="tab:blue", dashed=True)
        (x1, y1), (x2, y2) = PLACES[edge[0]], PLACES[edge[1]]
        side, offset = ("left", 0.06) if x1 == x2 else ("right", -0.14)
        axes.text((x1 + x2) / 2 + offset, -(y1 + y2) / 2, words, color="tab:blue", fontsize=9, va="center", ha=side)
    axes.set(xlim=(-0.35, 4.45), ylim=(-3.6, 0.35))
    axes.axis("off")
    _save(figure, path)


def _arrow(axes: Axes, edge: tuple[str, str], boxes: dict[str, FancyBboxPatch], *, color: str, dashed: bool = False) -> None:
    (x1, y1), (x2, y2) = PLACES[edge[0]], PLACES[edge[1]]
    axes.add_patch(
        FancyArrowPatch(
            (x1, -y1),
            (x2, -y2),
            arrowstyle="-|>",
            mutation_scale=12,
            patchA=boxes[edge[0]],
            patchB=boxes[edge[1]],
            shrinkA=1,
            shrinkB=1,
            color=color,
            linestyle="--" if dashed else "-",
            connectionstyle=f"arc3,rad={BENDS.get(edge, 0.0)}",
        )
    )


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, bbox_inches="tight", facecolor="white", metadata={"Date": None, "Creator": None})
    plt.close(figure)


PICTURES = {"backoffs.svg": draw_curves, "jitter.svg": draw_jitter, "engine.svg": draw_engine}


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
