"""The picture of a simulation. Imported where one is asked for, since matplotlib takes its time."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ._model import Scenario
from ._report import MEASURES, trouble_of
from ._result import Result

__all__ = ["figure_of", "save"]

# Masataka Okabe and Kei Ito, "Color Universal Design" (2008): told apart by readers of any colour vision. Their yellow is left out, since it
# cannot be seen as a line on white.
COLOURS: Final = ("#6e6e6e", "#d55e00", "#e69f00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9")
STYLES: Final[tuple[tuple[float, tuple[float, ...]], ...]] = ((0, ()), (0, (5, 2)), (0, (1.5, 1.2)), (0, (5, 1.5, 1, 1.5)))
Look: TypeAlias = "tuple[str, tuple[float, tuple[float, ...]]]"

SHADE, CAPACITY = "#f3e6e0", "0.25"

CAPACITY_STYLE: Final = (0, (1, 1))

# How many letters of the legend are as wide as the picture.
LETTERS = 150

# Inches, so that the letters have their size in a picture of 1400 pixels.
WIDTH, ROW, TOP = 14.0, 3.3, 0.75

# A scale from 0 would press everything else into a line from there on.
STEEP = 25.0

# Of more steps than that broad lines are one blot.
DENSE = 250


class Column(NamedTuple):
    """What a narrow panel with bars may show.

    :ivar title: in two lines.
    :ivar measure: a name of :data:`MEASURES`.
    :ivar scale: what fills the panel at the least: where all are about nothing, no bar is to look like much.
    :ivar least: it is left out where all are less.
    :ivar shown: how a number is written.
    """

    title: str
    measure: str
    scale: float
    least: float
    shown: Callable[[float], str]


# A row has the first three of which it has something to compare.
BARS: Final = (
    Column("attempts a call\nin the outage", "outage_amplification", 2.0, 0.0, lambda value: f"{value:.2f}"),
    Column("seconds\nto recovery", "time_to_recovery", 10.0, 0.0, lambda value: f"{value:.0f}"),
    Column("peak to mean\nafter the cap", "after_cap", 2.0, 0.0, lambda value: f"{value:.1f}"),
    Column("% of work that\nwas for nobody", "wasted", 0.2, 0.02, lambda value: f"{100 * value:.0f}"),
    Column("seconds of a\nsuccess, p99", "p99", 1.0, 0.0, lambda value: f"{value:.1f}"),
)
PANELS: Final = 3


def save(scenarios: Sequence[Scenario], results: Sequence[Result], path: Path) -> None:
    """Write the picture to *path*, which ends in .png or .svg.

    :raises ValueError: where there is nothing to draw.
    :raises OSError: where it cannot be written.
    """
    # One result gives the same bytes each time: the same ids, fonts as text, and no date. Dollar signs in somebody's names are no formulas.
    with mpl.rc_context(
        {
            "svg.hashsalt": "rpcretry",
            "svg.fonttype": "none",
            "text.parse_math": False,
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    ):
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else {}
        figure_of(scenarios, results).savefig(path, dpi=150, facecolor="white", metadata=metadata)


def figure_of(scenarios: Sequence[Scenario], results: Sequence[Result]) -> Figure:
    """The picture.

    :raises ValueError: where no result is of one of the scenarios.
    """
    rows = [(scenario, found) for scenario in scenarios if (found := [result for result in results if result.scenario == scenario.name])]
    if not rows:
        raise ValueError("results has none of these scenarios; there is nothing to draw")
    looks = _looks([[result.policy for result in found] for _, found in rows])
    figure = Figure(figsize=(WIDTH, TOP + ROW * len(rows)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.1, hspace=0.06, wspace=0.02)  # type: ignore[union-attr,call-arg]
    panels = figure.subplots(len(rows), 2 + PANELS, squeeze=False, width_ratios=[3.4, 3.4, *[1] * PANELS])
    for axes, (scenario, found) in zip(panels, rows, strict=True):
        _attempts(axes[0], scenario, found, looks)
        _goodput(axes[1], scenario, found, looks)
        columns = _columns(found)
        for position, panel in enumerate(axes[2:]):
            if position < len(columns):
                _bars(panel, columns[position], found, looks, named=position == 0)
            else:
                panel.set_axis_off()
        _heading(axes[0], scenario)
    _legend(figure, looks)
    # The solver behind the layout differs in the last digits from one time to the next.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        axes.set_position(tuple(round(edge, 4) for edge in axes.get_position().bounds))
    return figure


def _looks(rows: Sequence[Sequence[str]]) -> dict[str, Look]:
    """The look of each policy: the same in all rows, and no two alike in one row."""
    every = [(colour, style) for style in STYLES for colour in COLOURS]
    looks: dict[str, Look] = {}
    for names in rows:
        taken = {looks[name] for name in names if name in looks}
        for name in names:
            if name not in looks:
                # Beyond 28 policies in one picture nobody tells them apart.
                looks[name] = next((look for look in every if look not in taken), every[-1])
                taken.add(looks[name])
    return looks


def _legend(figure: Figure, looks: dict[str, Look]) -> None:
    alike: dict[Look, list[str]] = {}
    for name, look in looks.items():
        alike.setdefault(look, []).append(name)
    handles = [Line2D([], [], color=look[0], linestyle=look[1], linewidth=2.6, label=_listed(names)) for look, names in alike.items()]
    handles.append(Line2D([], [], color=CAPACITY, linestyle=CAPACITY_STYLE, linewidth=1.4, label="what the server can do"))
    # As many beside each other as fit: each column is as wide as its longest label.
    lengths = [len(str(handle.get_label())) + 7 for handle in handles]
    for columns in range(len(handles), 0, -1):
        rows = math.ceil(len(handles) / columns)
        if sum(max(lengths[start : start + rows]) for start in range(0, len(lengths), rows)) <= LETTERS:
            break
    figure.legend(handles=handles, loc="outside upper center", ncols=math.ceil(len(handles) / rows), frameon=False, fontsize=11)


def _listed(names: Sequence[str]) -> str:
    said = ", ".join(names)
    # What begins with an underscore is in no legend.
    return f" {said}" if said.startswith("_") else said


def _columns(results: Sequence[Result]) -> list[Column]:
    """What there is to compare."""
    chosen = []
    for column in BARS:
        found = [value for result in results if (value := MEASURES[column.measure].read(result)) is not None]
        if len(found) >= min(2, len(results)) and max(found) >= column.least:
            chosen.append(column)
    return chosen[:PANELS]


def _heading(axes: Axes, scenario: Scenario) -> None:
    many = f"{scenario.clients:,} {'client' if scenario.clients == 1 else 'clients'}"
    said = scenario.description or many
    axes.set_title(scenario.name, loc="left", fontsize=12, fontweight="bold", pad=24)
    # It may be wider than the panel, and the panels beside it need not make room.
    line = axes.text(0, 1.04, textwrap.shorten(said, 110, placeholder=" ..."), transform=axes.transAxes, fontsize=10, color="0.25")
    line.set_in_layout(False)


def _attempts(axes: Axes, scenario: Scenario, results: Sequence[Result], looks: dict[str, Look]) -> None:
    _backdrop(axes, scenario)
    most = 0.0
    for place, result in enumerate(results):
        rates = [attempts / width for attempts, width in zip(result.series.attempts, _widths(result), strict=True)]
        most = max(most, *rates)
        _line(axes, result, rates, looks, len(results) - place)
    times, capacities = _capacity(scenario)
    axes.step(times, capacities, where="post", color=CAPACITY, linestyle=CAPACITY_STYLE, linewidth=1.4, zorder=4)
    axes.set_ylabel("attempts a second")
    if most > STEEP * scenario.server.capacity:
        axes.set_yscale("symlog", linthresh=scenario.server.capacity)
    axes.set_ylim(0, max(most, scenario.server.capacity) * 1.08)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}"))


def _goodput(axes: Axes, scenario: Scenario, results: Sequence[Result], looks: dict[str, Look]) -> None:
    _backdrop(axes, scenario)
    once = not scenario.arrivals and scenario.think is None
    for place, result in enumerate(results):
        _line(axes, result, _served(result) if once else _shares(result), looks, len(results) - place)
    axes.set_ylabel("% of calls served by then" if once else "% of calls that succeed")
    axes.set_ylim(-3, 104)


def _shares(result: Result) -> list[float]:
    """In percent, of the calls that began in each step. Where none of a step ended there is no share, and the line has a gap."""
    series = result.series
    return [100 * succeeded / ended if ended else math.nan for succeeded, ended in zip(series.succeeded, series.ended, strict=True)]


def _served(result: Result) -> list[float]:
    """In percent, of all calls, where all began at one moment."""
    return [100 * served / result.calls for served in itertools.accumulate(result.series.good)] if result.calls else []


def _bars(axes: Axes, column: Column, results: Sequence[Result], looks: dict[str, Look], *, named: bool) -> None:
    values = [MEASURES[column.measure].read(result) for result in results]
    full = max([column.scale, *(value for value in values if value is not None and math.isfinite(value))])
    places = range(len(results))
    for place, (result, value) in enumerate(zip(results, values, strict=True)):
        colour, _ = looks[result.policy]
        if value is None:
            text, width, hatch = "-", 0.0, None
        elif math.isinf(value):
            text, width, hatch = "never", full * 1.05, "////"
        else:
            text, width, hatch = column.shown(value), value, None
        axes.barh(place, width, height=0.62, color=colour if hatch is None else "white", edgecolor=colour, hatch=hatch, linewidth=0.8)
        inside = width > full * 0.62
        axes.text(
            width - full * 0.04 if inside else width + full * 0.05,
            place,
            text,
            va="center",
            ha="right" if inside else "left",
            fontsize=9,
            color="white" if inside and hatch is None else "0.15",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1} if hatch else None,
        )
    axes.set(xlim=(0, full * 1.12), ylim=(len(results) - 0.4, -0.6), xticks=[])
    axes.set_yticks(list(places), labels=[result.policy for result in results] if named else [""] * len(results))
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_visible(False)
    axes.spines["left"].set_color("0.6")
    axes.set_title(column.title, fontsize=9.5, loc="left")
    if named:
        for label, result in zip(axes.get_yticklabels(), results, strict=True):
            label.set_color(looks[result.policy][0])
            label.set_fontweight("bold")


def _backdrop(axes: Axes, scenario: Scenario) -> None:
    for start, end in trouble_of(scenario):
        axes.axvspan(start, max(end, start + scenario.duration / 500), color=SHADE, linewidth=0, zorder=0)
    axes.set_xlim(0, scenario.duration)
    axes.set_xlabel("seconds")
    axes.xaxis.set_major_locator(MaxNLocator(7))
    axes.grid(axis="y", color="0.92", linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)


def _line(axes: Axes, result: Result, values: Sequence[float], looks: dict[str, Look], above: int) -> None:
    """A line, the broader the more of them are drawn over it: of those that run together each can be seen."""
    colour, style = looks[result.policy]
    middles = [time + width / 2 for time, width in zip(result.series.times, _widths(result), strict=True)]
    axes.plot(
        middles,
        values,
        color=colour,
        linestyle=style,
        linewidth=1.2 + (0.55 if len(values) <= DENSE else 0.25) * (above - 1),
        zorder=3,
        solid_joinstyle="round",
    )


def _widths(result: Result) -> list[float]:
    """Seconds of each step: the last may be shorter."""
    return [min(result.series.bucket, result.duration - time) for time in result.series.times]


def _capacity(scenario: Scenario) -> tuple[list[float], list[float]]:
    """What the server can do, in requests a second, from each moment on."""
    moments = {0.0, scenario.duration}
    for change in scenario.timeline:
        moments |= {change.at, change.end(scenario.duration)}
    times = sorted(moments)
    capacities = []
    for time in times:
        left = scenario.server.capacity
        for change in scenario.timeline:
            if change.at <= time < change.end(scenario.duration):
                left *= 0.0 if change.down is not None else (change.capacity or 1.0) / (change.latency or 1.0)
        capacities.append(left)
    return times, [*capacities[:-1], capacities[-2]]
