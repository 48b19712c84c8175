"""What the demo prints: plain lines, or the same in colour with a table on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import IO, Final

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ..errors import DeadlineExceeded, HTTPStatusError, JsonRpcError, ProtocolError, TransportError
from ..events import AttemptStarted, CallFailed, CallSucceeded, Event, RetryScheduled
from ._scenarios import Scenario
from .demo import Report, Result

__all__ = ["ColourReport", "PlainReport", "make_report"]

GOOD, RETRY, BAD, DIM, HEAD = "green", "yellow", "red", "dim", "bold"

COLUMNS: Final = ("backend", "calls", "attempts", "recovered", "failed", "as stated")

WHY: Final = {
    "attempts": "no attempt is left",
    "deadline": "the deadline ends the call",
    "error": "not retried",
}
"""The engine's reasons for a stop, where they are too short to read alone."""

Piece = tuple[str, str]


def make_report(stream: IO[str] | None = None) -> Report:
    """The report for *stream*, standard output without one: in colour where rich takes it for a terminal."""
    stream = stream if stream is not None else sys.stdout
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    return ColourReport(console) if console.is_terminal and not console.is_dumb_terminal else PlainReport(stream)


def describe(error: BaseException | None) -> str:
    """The failure in a few words. No measured times and no port, so that the same seed prints the same."""
    name = type(error).__name__
    if isinstance(error, JsonRpcError):
        return f"{name} {error.code}"
    if isinstance(error, HTTPStatusError):
        return f"{name} {error.status} ({error.delivery.value})"
    if isinstance(error, TransportError):
        return f"{name} ({error.delivery.value})"
    if isinstance(error, ProtocolError):
        return f"{name} (HTTP {error.status})"
    if isinstance(error, DeadlineExceeded) and error.__cause__ is not None:
        return f"{name} from {describe(error.__cause__)}"
    return name


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


class PlainReport:
    """Lines of ASCII without control characters.

    :param stream: where they go; flushed after each piece, so that a pipe is live, too.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, *pieces: Piece, end: str = "\n") -> None:
        """Print pieces of text, each with a style."""
        text = "".join(text for text, _ in pieces).encode("ascii", "backslashreplace").decode()
        printable = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
        self._stream.write(printable + end)
        self._stream.flush()

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

    def event(self, event: Event) -> None:
        """Something happened in the call. The line of an attempt is begun with it, and ended when its end is known."""
        if isinstance(event, AttemptStarted):
            limit = "?" if event.max_attempts is None else event.max_attempts
            self.write((f"    attempt {event.attempt}/{limit}  ", ""), end="")
        elif isinstance(event, RetryScheduled):
            why = describe(event.error) if event.error is not None else "not accepted"
            self.write((why, RETRY), (f" -> again in {event.delay:.3f} s", ""), (f" ({event.reason})", DIM))
        elif isinstance(event, CallSucceeded):
            self.write(("ok", GOOD))
        elif isinstance(event, CallFailed):
            self.write((describe(event.error), BAD), (f" -> {WHY.get(event.reason, event.reason)}", ""))

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


class ColourReport(PlainReport):
    """The same in colour, the summary as a table.

    :param console: of a terminal.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console.file)
        self._console = console

    def write(self, *pieces: Piece, end: str = "\n") -> None:
        self._console.print(Text.assemble(*pieces), end=end, soft_wrap=True)

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
