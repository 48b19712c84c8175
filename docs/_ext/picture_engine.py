"""The transitions of the engine, as its source has them."""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Iterator
from pathlib import Path

from drawing import arrow, box, plt, save

from rpcretry.retry import engine

STEPS = ("Attempt", "Wait", "Rescue", "Stop")

# What returns one of these is a transition; but for this one, which makes the end that others return.
RETURNS = ({"Step"}, {"Stop"}, {"Stop", "Rescue"})
HELPER = "_late"

# The names under which methods return a step that they did not make themselves.
VARIABLES = {"attempt": "Attempt", "wait": "Wait", "offer": "Rescue", "OK": "Stop"}

# Where each stands: column and row from the top. A method of the engine that returns a step and has no place here
# is an error, so that nobody adds a transition without drawing it.
PLACES = {
    "begin": (0.0, 0.0),
    "_admit": (2.55, 0.0),
    "Attempt": (4.4, 0.0),
    "resume": (0.0, 1.0),
    "_hold": (2.0, 1.0),
    "_refuse": (3.15, 1.0),
    "Wait": (0.6, 2.1),
    "_advance": (2.55, 2.1),
    "settle": (4.4, 2.1),
    "_expire": (1.4, 3.1),
    "_conclude": (2.8, 3.1),
    "_fall_back": (2.8, 4.1),
    "_next_rescue": (2.8, 5.1),
    "Stop": (4.4, 5.1),
    "rescued": (1.5, 4.4),
    "unrescued": (1.5, 5.8),
    "Rescue": (0.2, 5.1),
}
# What the driver does between two steps, which the engine's source does not show, and where the words stand.
BY_DRIVER = {
    ("Attempt", "settle"): ("the exchange", (4.46, 1.05), "left"),
    ("Wait", "resume"): ("time, or a wake", (0.2, 1.55), "right"),
    ("Rescue", "rescued"): ("it gave a value", (0.75, 4.62), "right"),
    ("Rescue", "unrescued"): ("it failed, too", (0.75, 5.6), "right"),
}
BENDS = {
    ("settle", "Wait"): -0.14,
    ("_admit", "_expire"): 0.52,
    ("resume", "_admit"): -0.1,
    ("_hold", "_expire"): 0.1,
    ("resume", "_advance"): -0.08,
}


def transitions() -> Iterator[tuple[str, str]]:
    """Which step or method each method of the engine returns, read from its source."""
    (cls,) = ast.parse(inspect.getsource(engine.Engine)).body
    if not isinstance(cls, ast.ClassDef):
        raise TypeError("the engine's source is no class")
    for method in cls.body:
        if isinstance(method, ast.FunctionDef) and method.name != HELPER and set(_names(method.returns)) in RETURNS:
            assigned = _assigned(method)
            found = itertools.chain.from_iterable(_targets(node.value, assigned) for node in ast.walk(method) if isinstance(node, ast.Return))
            yield from ((method.name, target) for target in dict.fromkeys(found))


def _names(annotation: ast.expr | None) -> Iterator[str]:
    if isinstance(annotation, ast.BinOp):
        yield from _names(annotation.left)
        yield from _names(annotation.right)
    elif isinstance(annotation, ast.Name):
        yield annotation.id


def _assigned(method: ast.FunctionDef) -> dict[str, list[ast.expr]]:
    """What each local name of the method may stand for."""
    assigned: dict[str, list[ast.expr]] = {}
    for node in ast.walk(method):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    assigned.setdefault(target.id, []).append(node.value)
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and isinstance(node.target, ast.Name) and node.value is not None:
            assigned.setdefault(node.target.id, []).append(node.value)
    return assigned


def _targets(value: ast.expr | None, assigned: dict[str, list[ast.expr]]) -> Iterator[str]:
    if isinstance(value, ast.IfExp):
        yield from _targets(value.body, assigned)
        yield from _targets(value.orelse, assigned)
    elif isinstance(value, ast.NamedExpr):
        yield from _targets(value.value, assigned)
    elif isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        yield value.func.attr
    elif isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        yield value.func.id
    elif isinstance(value, ast.Name) and value.id in VARIABLES:
        yield VARIABLES[value.id]
    elif isinstance(value, ast.Name) and value.id in assigned:
        # Once only, so that a name that is assigned from itself ends.
        rest = {name: values for name, values in assigned.items() if name != value.id}
        for found in assigned[value.id]:
            yield from _targets(found, rest)
    elif isinstance(value, ast.Name):
        yield value.id


def draw_engine(path: Path) -> None:
    """The engine's transitions."""
    edges = list(transitions())
    missing = {name for edge in edges for name in edge} - set(PLACES)
    if missing:
        raise ValueError(f"the engine has transitions that the picture has no place for: {', '.join(sorted(missing))}; add them to PLACES")
    figure, axes = plt.subplots(figsize=(8.6, 7.2))
    boxes = {}
    for name, (x, y) in PLACES.items():
        step, entry = name in STEPS, not name.startswith("_")
        face = "#d7e6f7" if step else "#fdf0d0" if entry else "#f1f1f1"
        boxes[name] = box(axes, x, -y, name.removeprefix("_").replace("_", " "), face=face, bold=step, width=0.78)
    for start, end in edges:
        _between(axes, boxes, start, end, color="0.25")
    for (start, end), (words, (x, y), side) in BY_DRIVER.items():
        _between(axes, boxes, start, end, color="tab:blue", dashed=True)
        axes.text(x, -y, words, color="tab:blue", fontsize=9, va="center", ha=side)
    axes.set(xlim=(-0.85, 5.2), ylim=(-6.1, 0.3))
    axes.axis("off")
    save(figure, path)


def _between(axes: plt.Axes, boxes: dict[str, object], start: str, end: str, *, color: str, dashed: bool = False) -> None:
    (x1, y1), (x2, y2) = PLACES[start], PLACES[end]
    arrow(axes, (x1, -y1), (x2, -y2), (boxes[start], boxes[end]), color=color, dashed=dashed, bend=BENDS.get((start, end), 0.0))
