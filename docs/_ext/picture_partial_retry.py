"""The worked example of partial retry, drawn from the run of the very code that the page shows."""

from __future__ import annotations

import itertools
import re
import textwrap
from pathlib import Path
from typing import Any

from drawing import ASKING, BAD, GOOD, LIMIT, QUIET, plt, save
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

LOOKS: dict[str, tuple[str, dict[str, Any]]] = {
    "executed": ("executed", {"facecolor": GOOD, "edgecolor": GOOD}),
    "busy": ("busy: code 2001", {"facecolor": "white", "edgecolor": BAD, "hatch": "////"}),
    "n": ("has no answer", {"facecolor": ASKING, "edgecolor": "0.4"}),
}

PAGE = Path(__file__).parent.parent / "batches.rst"


def worked_example() -> dict[str, Any]:
    """What the block of the page leaves behind: the names that it defines."""
    block = re.search(r"^\.\. code-block:: python\n   :name: partial-retry\n\n((?:   .*\n|\n)+)", PAGE.read_text(), re.MULTILINE)
    if block is None:
        raise ValueError(f"{PAGE.name} has no block of the name partial-retry")
    names: dict[str, Any] = {"print": lambda *_: None}
    exec(compile(textwrap.dedent(block[1]), str(PAGE), "exec", dont_inherit=True), names)
    return names


def draw_partial_retry(path: Path) -> None:
    """The members as rows, the exchanges as columns on an axis of time."""
    names = worked_example()
    seen, batch = names["seen"], names["batch"]
    ids = seen[0].ids
    rows = {id: -place for place, id in enumerate(ids)}
    words = {handle.request.id: f"{handle.request.id}: {handle.request.method}({', '.join(map(repr, handle.request.params))})" for handle in batch}
    figure, axes = plt.subplots(figsize=(8.6, 3.2))
    for exchange in seen:
        width = exchange.ended - exchange.began
        axes.add_patch(Rectangle((exchange.began, min(rows.values()) - 0.45), width, len(rows) - 0.1, facecolor="0.95", linewidth=0))
        axes.text(exchange.began + width / 2, 0.62, "\n".join(("sent", str(exchange.ids).replace("'", ""))), ha="center", va="bottom", fontsize=9, color=LIMIT)
        for id in exchange.ids:
            kind = "n" if id == "n" else "busy" if id in exchange.refused else "executed"
            axes.barh(rows[id], width, 0.56, exchange.began, linewidth=1, **LOOKS[kind][1])
    for id, row in rows.items():
        times = [exchange for exchange in seen if id in exchange.ids]
        for before, after in itertools.pairwise(times):
            axes.hlines(row, before.ended, after.began, color=QUIET, linestyle=":", linewidth=1.6)
            axes.text((before.ended + after.began) / 2, row + 0.1, f"{after.began - before.ended:g} s", ha="center", va="bottom", fontsize=9, color="0.3")
    end = seen[-1].ended
    for handle in batch:
        times = handle.response.attempts
        axes.text(end + 0.08, rows[handle.request.id], f"{handle.result()!r}, {times} attempt{'s' if times > 1 else ''}", va="center", fontsize=9)
    axes.set(xlabel="seconds", xlim=(-0.03, end + 0.02), ylim=(min(rows.values()) - 0.5, 0.55), yticks=list(rows.values()))
    axes.set_yticklabels([words.get(id, "a notification") for id in ids])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    marks = [
        *[Rectangle((0, 0), 1, 1, label=label, **look) for label, look in LOOKS.values()],
        Line2D([], [], color=QUIET, linestyle=":", linewidth=1.6, label="the member's own delay"),
    ]
    axes.legend(handles=marks, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=4, fontsize=9)
    save(figure, path)
