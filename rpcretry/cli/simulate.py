"""``rpcretry simulate``: policies against an outage, as a table, as JSON, or drawn."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from .._check import closest
from ..simulation import PolicySpec, Result, Scenario, draw, simulate
from ..simulation._files import PolicyFileError, Study, load, scaled
from ..simulation._report import FORMATS, MEASURES, Expectation, document
from . import UNUSABLE
from ._ends import CommandError, writing
from ._exact import write
from ._output import put
from .attempts import BAD, DIM, GOOD, HEAD, Piece, PlainLines, make_lines, terminal

__all__ = ["Asked", "run"]

T = TypeVar("T", Scenario, PolicySpec)

# An array of numbers, which has a line for each. Within a string of JSON there are no line breaks.
_SERIES: Final = re.compile(r"\[\n[\d\s.,eE+-]*\]")

UNEXPECTED: Final = 1
"""The exit code where something is not as the file expects."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the command was asked for.

    :ivar file: the policy file.
    :ivar scenarios: names of those to run; none for all.
    :ivar policies: names of those to run; none for all.
    :ivar clients: how many each scenario is to have; ``None`` for as many as it says.
    :ivar duration: seconds that each is to last; ``None`` for what it says.
    :ivar plot: where to draw.
    :ivar output: where to write JSON.
    :ivar as_json: whether to print JSON in place of the tables.
    """

    file: Path
    seed: int = 0
    scenarios: Sequence[str] = ()
    policies: Sequence[str] = ()
    clients: int | None = None
    duration: float | None = None
    plot: Path | None = None
    output: Path | None = None
    as_json: bool = False


def run(asked: Asked) -> None:
    """Run what the file says and show what came of it.

    :raises CommandError: where the file, or a name, is not usable, there is nothing to draw with, or something is not as the file expects.
    :raises OSError: where something cannot be written.
    """
    if asked.plot is not None:
        _check_plot(asked.plot)
    for path in filter(None, (asked.plot, asked.output)):
        # Before the minute that the simulations take, and not after it.
        with writing(path):
            _check_writable(path)
    study = _chosen(asked)
    lines = None if asked.as_json else make_lines(sys.stdout)
    results: list[Result] = []
    try:
        for scenario in study.scenarios:
            _run_one(scenario, study, asked.seed, results, lines)
    finally:
        # Also after Ctrl-C: what is finished took its time.
        _put(asked, study, results, lines)
    if asked.plot is not None:
        with writing(asked.plot):
            draw(study.scenarios, results, asked.plot)
    checked = _checked(study, results)
    failed = sum(not each.holds(result) for each, result in checked)
    if failed:
        raise CommandError(f"{failed} of {len(checked)} expectations {'does' if failed == 1 else 'do'} not hold", UNEXPECTED)


# --- what to run ---------------------------------------------------------------------------------


def _check_plot(path: Path) -> None:
    if path.suffix.lower() not in FORMATS:
        raise CommandError(f"--plot takes a file that ends in {' or '.join(FORMATS)}, got {path.name!r}", UNUSABLE)
    try:
        from ..simulation import _plot  # noqa: F401  before the runs, and not after them
    except ModuleNotFoundError as problem:
        if (problem.name or "").partition(".")[0] != "matplotlib":
            raise
        raise CommandError('--plot needs matplotlib; install with: pip install "rpcretry[plot]"', UNUSABLE) from None


def _check_writable(path: Path) -> None:
    problem = None
    if not path.parent.is_dir():
        problem = errno.ENOENT
    elif path.is_dir():
        problem = errno.EISDIR
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        problem = errno.EACCES
    if problem is not None:
        raise OSError(problem, os.strerror(problem))


def _chosen(asked: Asked) -> Study:
    """What is left of the file by the options."""
    try:
        study = load(asked.file)
    except PolicyFileError as problem:
        raise CommandError(str(problem), UNUSABLE) from None
    except OSError as problem:
        raise CommandError(f"cannot read {asked.file}: {problem.strerror or problem}", UNUSABLE) from None
    scenarios = _named("--scenario", asked.scenarios, study.scenarios)
    policies = _named("--policy", asked.policies, study.policies)
    chosen = Study(tuple(_changed(scenario, asked) for scenario in scenarios), policies, study.expectations, study.chosen)
    if not any(map(chosen.policies_of, chosen.scenarios)):
        runs = "; ".join(f"{scenario.name} runs {', '.join(policy.name for policy in study.policies_of(scenario))}" for scenario in scenarios)
        raise CommandError(f"there is nothing to run: {runs}", UNUSABLE)
    return chosen


def _named(option: str, names: Sequence[str], found: tuple[T, ...]) -> tuple[T, ...]:
    known = [each.name for each in found]
    for name in names:
        if name not in known:
            raise CommandError(f"{option}: there is no {name!r:.60} in the file{closest(name, known)}", UNUSABLE)
    return tuple(each for each in found if not names or each.name in names)


def _changed(scenario: Scenario, asked: Asked) -> Scenario:
    if asked.clients is not None:
        scenario = scaled(scenario, asked.clients)
    if asked.duration is not None:
        try:
            scenario = dataclasses.replace(scenario, duration=asked.duration)
        except ValueError as problem:
            what = "too short" if asked.duration < scenario.duration else "too long"
            raise CommandError(f"--duration {asked.duration:g} is {what} for {scenario.name}: {problem}", UNUSABLE) from None
    return scenario


# --- running -------------------------------------------------------------------------------------


class Told(NamedTuple):
    """Who is told how far it is.

    :ivar begin: a simulation of that name begins.
    :ivar at: so much of it is done, from 0 to 1.
    """

    begin: Callable[[str], None]
    at: Callable[[float], None]


def _run_one(scenario: Scenario, study: Study, seed: int, results: list[Result], lines: PlainLines | None) -> None:
    found: list[Result] = []
    policies = study.policies_of(scenario)
    try:
        with _progress(len(policies)) as told:
            for policy in policies:
                told.begin(f"{scenario.name}: {policy.name}")
                found.append(simulate(scenario, policy, seed=seed, progress=told.at))
                results.append(found[-1])
    finally:
        # The bar is gone by now, which may be on the same terminal.
        if found and lines is not None:
            _table(scenario, found, study.expectations, lines)


@contextlib.contextmanager
def _progress(runs: int) -> Iterator[Told]:
    """A bar on a terminal, on standard error; nothing elsewhere."""
    console = terminal(sys.stderr)
    if console is None:
        yield Told(lambda name: None, lambda share: None)
        return
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task("", total=runs)
        begun = 0

        def begin(name: str) -> None:
            nonlocal begun
            bar.update(task, description=name, completed=begun)
            begun += 1

        yield Told(begin, lambda share: bar.update(task, completed=begun - 1 + share))


# --- showing -------------------------------------------------------------------------------------


class Column(NamedTuple):
    """A column of the table.

    :ivar group: what stands above it and its neighbours of the same group.
    :ivar name: what stands above it.
    :ivar measure: a name of :data:`~rpcretry.simulation._report.MEASURES`.
    :ivar shown: how a number is written.
    """

    group: str
    name: str
    measure: str
    shown: Callable[[float], str]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _seconds(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


COLUMNS: Final = (
    Column("attempts a call", "outage", "outage_amplification", lambda value: f"{value:.3f}"),
    Column("attempts a call", "whole run", "amplification", lambda value: f"{value:.3f}"),
    Column("% succeeded", "before", "goodput_before", _percent),
    Column("% succeeded", "during", "goodput_during", _percent),
    Column("% succeeded", "after", "goodput_after", _percent),
    Column("seconds to", "recovery", "time_to_recovery", lambda value: f"{value:.1f}"),
    Column("peak to mean", "capped", "after_cap", lambda value: f"{value:.2f}"),
    Column("peak to mean", "after", "peak_to_mean", lambda value: f"{value:.2f}"),
    Column("seconds of a success", "p50", "p50", _seconds),
    Column("seconds of a success", "p99", "p99", _seconds),
    Column("seconds of a success", "p99.9", "p999", _seconds),
    Column("calls", "refused", "refused", lambda value: f"{value:,.0f}"),
    Column("% of work", "wasted", "wasted", _percent),
)


GROUPS: Final = tuple(dict.fromkeys(column.group for column in COLUMNS))
GAP: Final = 2


def _cell(column: Column, result: Result) -> str:
    value = MEASURES[column.measure].read(result)
    return "-" if value is None else "never" if math.isinf(value) else column.shown(value)


def _table(scenario: Scenario, results: Sequence[Result], expectations: Sequence[Expectation], lines: PlainLines) -> None:
    lines.write((scenario.name, HEAD), (f": {scenario.description}" if scenario.description else "", ""))
    lines.write((f"  {facts(scenario)}", DIM))
    rows = [[(result.policy, HEAD), *((_cell(column, result), _style(column, result, expectations)) for column in COLUMNS)] for result in results]
    for block in _blocks(rows, lines.width):
        lines.write()
        for pieces in _rows_of(rows, block):
            lines.write(("  ", ""), *pieces)
    lines.write()


def _style(column: Column, result: Result, expectations: Sequence[Expectation]) -> str:
    held = [each.holds(result) for each in expectations if (each.scenario, each.policy, each.measure) == (result.scenario, result.policy, column.measure)]
    return "" if not held else GOOD if all(held) else BAD


def _widths(rows: Sequence[Sequence[Piece]]) -> list[int]:
    """Of the cells, the first of which is the policy, and so that the names of the groups have room."""
    names = ("policy", *(column.name for column in COLUMNS))
    widths = [max(len(name), *(len(row[place][0]) for row in rows)) for place, name in enumerate(names)]
    for group in GROUPS:
        places = [place for place, column in enumerate(COLUMNS, 1) if column.group == group]
        widths[places[0]] += max(0, len(group) - sum(widths[place] for place in places) - GAP * (len(places) - 1))
    return widths


def _blocks(rows: Sequence[Sequence[Piece]], width: int | None) -> list[list[str]]:
    """The groups of columns that fit beside each other."""
    widths = _widths(rows)
    blocks: list[list[str]] = []
    left = 0
    for group in GROUPS:
        needed = sum(widths[place] + GAP for place, column in enumerate(COLUMNS, 1) if column.group == group)
        if not blocks or (width is not None and needed > left):
            blocks.append([])
            left = (width or 0) - widths[0] - GAP
        blocks[-1].append(group)
        left -= needed
    return blocks


def _rows_of(rows: Sequence[Sequence[Piece]], groups: Sequence[str]) -> Iterator[list[Piece]]:
    """The lines of a block: its groups, the names of its columns, and a line for each policy."""
    widths = _widths(rows)
    gap = " " * GAP
    above = [" " * widths[0]]
    chosen = [0]
    for group in groups:
        places = [place for place, column in enumerate(COLUMNS, 1) if column.group == group]
        above.append(group.rjust(sum(widths[place] for place in places) + GAP * (len(places) - 1)))
        chosen += places
    yield [(gap.join(above), DIM)]
    names = ("policy", *(column.name for column in COLUMNS))
    yield [(gap.join(names[place].rjust(widths[place]) if place else names[place].ljust(widths[place]) for place in chosen), HEAD)]
    for row in rows:
        cells: list[Piece] = []
        for place in chosen:
            text, style = row[place]
            cells.append(((gap if place else "") + (text.rjust(widths[place]) if place else text.ljust(widths[place])), style))
        yield cells


def facts(scenario: Scenario) -> str:
    """Who calls what, and what goes wrong, in a line."""
    server = scenario.server
    clients = f"{scenario.clients:,} {'client' if scenario.clients == 1 else 'clients'}"
    said = [f"{clients} in {scenario.processes:,} processes" if scenario.processes > 1 else clients]
    if scenario.arrivals:
        said.append(f"{scenario.arrivals:,.4g} calls/s" if scenario.arrivals < 1000 else f"{scenario.arrivals:,.0f} calls/s")
    if scenario.think is not None:
        said.append(f"a pause of {scenario.think:g} s between the calls of each")
    if scenario.together is not None:
        said.append(f"all at once at {scenario.together:g} s")
    said.append(f"a server for {server.capacity:,.10g}/s" if server.capacity < 1000 else f"a server for {server.capacity:,.0f}/s")
    for change in scenario.timeline:
        span = f"at {change.at:g} s" if change.restart else f"from {change.at:g} s" + ("" if change.until is None else f" to {change.until:g} s")
        said.append(f"{change.kind} {span}")
    return "; ".join([*said, f"{scenario.duration:g} s in all"])


def _expected(study: Study, results: Sequence[Result], lines: PlainLines) -> None:
    """Say of each expectation whether it holds."""
    for each, result in _checked(study, results):
        found = each.found(result)
        said = "there is none" if found is None else "never" if math.isinf(found) else f"{found:.4g}"
        lines.write(("as expected", GOOD) if each.holds(result) else ("NOT AS EXPECTED", BAD), (f": {each} ({said})", ""))


def _checked(study: Study, results: Sequence[Result]) -> list[tuple[Expectation, Result]]:
    """The expectations about what was run."""
    by_name = {(result.scenario, result.policy): result for result in results}
    return [(each, by_name[each.scenario, each.policy]) for each in study.expectations if (each.scenario, each.policy) in by_name]


def _in_a_line(numbers: re.Match[str]) -> str:
    return f"[{' '.join(numbers[0][1:-1].split())}]"


def _put(asked: Asked, study: Study, results: Sequence[Result], lines: PlainLines | None) -> None:
    if lines is not None:
        _expected(study, results, lines)
        if lines.width is not None and results:
            cpu, calls = sum(result.cpu for result in results), sum(result.calls for result in results)
            lines.write((f"{len(results)} runs of {calls:,} calls in all, {cpu:.1f} s of CPU", DIM))
    if not results or not (asked.as_json or asked.output):
        return
    text = _SERIES.sub(_in_a_line, write({"seed": asked.seed, **document(study.scenarios, results, study.expectations)}, 2))
    if asked.output is not None:
        with writing(asked.output):
            asked.output.write_text(text + "\n", "utf-8")
    if asked.as_json:
        put(text)
