"""What the demo prints: plain lines, or the same in colour with a table on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import IO, Final

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from ._scenarios import Scenario
from .attempts import BAD, DIM, GOOD, HEAD, RETRY, ColourLines, PlainLines, terminal
from .demo import Report, Result

__all__ = ["ColourReport", "PlainReport", "make_report"]

COLUMNS: Final = ("backend", "calls", "attempts", "recovered", "failed", "as stated")


def make_report(stream: IO[str] | None = None) -> Report:
    """The report for *stream*, standard output without one: in colour where rich takes it for a terminal."""
    stream = stream if stream is not None else sys.stdout
    console = terminal(stream)
    return PlainReport(stream) if console is None else ColourReport(console)


def times(count: int) -> str:
    """``once``, ``twice``, ``3 times``."""
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")


def table(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """The rows of the summary: one for each backend, and the total of several."""
    names = list(dict.fromkeys(result.backend for result in results))
    groups = [(name, [result for result in results if result.backend == name]) for name in names]
    if len(groups) > 1:
        groups.append(("total", list(results)))
    return [
        (
            name,
            str(len(group)),
            str(sum(result.attempts for result in group)),
            str(sum(result.recovered for result in group)),
            str(sum(result.error is not None for result in group)),
            str(sum(not result.mismatches for result in group)),
        )
        for name, group in groups
    ]


class PlainReport(PlainLines):
    """Lines of ASCII without control characters.

    :param stream: where they go; flushed after each piece, so that a pipe is live, too.
    :param margin: what each line of an attempt begins with.
    """

    def __init__(self, stream: IO[str], margin: str = "    ") -> None:
        super().__init__(stream, margin)

    # --- as it happens ---

    def opened(self, seed: int) -> None:
        """The demo begins."""
        self.write(("rpcretry demo", HEAD), (f": a JSON-RPC server on 127.0.0.1 that misbehaves on purpose (--seed {seed})", ""))

    def backend(self, name: str) -> None:
        """The calls that follow go through this backend."""
        self.write()
        self.write((f"backend {name}", HEAD))

    def scenario(self, scenario: Scenario) -> None:
        """A call begins."""
        calls = ", ".join(f"{method}({', '.join(map(repr, params))})" for method, params in scenario.requests)
        self.write()
        self.write((f"  {scenario.title}", HEAD))
        self.write((f"    {calls}", DIM))

    def ended(self, result: Result) -> None:
        """The call ended."""
        if result.mismatches:
            self.write((f"    MISMATCH: {'; '.join(result.mismatches)}", BAD))
            return
        if result.error is not None:
            outcome = f"failed as it should: {type(result.error).__name__}"
        elif result.scenario.notify:
            outcome = "sent"
        else:
            outcome = f"result {result.value!r}"
        executed = result.scenario.expected.executed
        ledger = "" if executed is None else f"; the server executed {_executed(result)}"
        self.write(("    as stated", GOOD), (f": {outcome}{ledger}", ""))

    # --- at the end ---

    def closed(self, results: Sequence[Result]) -> None:
        """The demo is over."""
        self.write()
        self.summary(table(results))
        self.write()
        failed = [result for result in results if result.mismatches]
        if not failed:
            meant = sum(result.error is not None for result in results)
            self.write((f"Every call ended as its scenario says, also the {meant} that had to fail.", GOOD))
            return
        verb = "call" if len(failed) == 1 else "calls"
        self.write((f"{len(failed)} {verb} did not end as the scenario says:", BAD))
        for result in failed:
            self.write((f"  {result.backend}: {result.scenario.title}: {'; '.join(result.mismatches)}", BAD))

    def summary(self, rows: Sequence[tuple[str, ...]]) -> None:
        """Print the rows under the names of their columns."""
        self.write(("summary", HEAD))
        widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
        for row in (COLUMNS, *rows):
            cells = [cell.ljust(width) if index == 0 else cell.rjust(width) for index, (cell, width) in enumerate(zip(row, widths, strict=True))]
            self.write((f"  {'  '.join(cells)}", ""))


class ColourReport(ColourLines, PlainReport):
    """The same in colour, the summary as a table.

    :param console: of a terminal.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console, margin="    ")

    def summary(self, rows: Sequence[tuple[str, ...]]) -> None:
        drawn = Table(title="summary", title_justify="left", title_style=HEAD)
        styles = {"recovered": GOOD, "failed": RETRY}
        for index, column in enumerate(COLUMNS):
            drawn.add_column(column, justify="left" if index == 0 else "right", style=styles.get(column, ""))
        for row in rows:
            drawn.add_row(*row, style=HEAD if row[0] == "total" else "", end_section=row is rows[-2] if len(rows) > 1 else False)
        if _too_narrow(self._console, drawn):
            super().summary(rows)
        else:
            self._console.print(drawn)


def _too_narrow(console: Console, drawn: Table) -> bool:
    """Whether rich would have to cut the table's words."""
    return Measurement.get(console, console.options.update(width=10_000), drawn).maximum > console.width


def _executed(result: Result) -> str:
    return ", ".join(f"{method} {times(count)}" for method, count in result.executed.items()) or "nothing"
