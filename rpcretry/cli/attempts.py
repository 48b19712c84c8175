"""Attempts as they happen, in a line each: plain, or in colour on a terminal."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import IO, Final

from rich.console import Console
from rich.text import Text

from ..errors import DeadlineExceeded, HTTPStatusError, JsonRpcError, ProtocolError, TransportError
from ..events import AttemptStarted, CallFailed, CallSink, CallSucceeded, Event, RetryScheduled
from ..messages import Request

__all__ = ["BAD", "DIM", "GOOD", "HEAD", "NOT_DECLARED", "RETRY", "ColourLines", "Piece", "PlainLines", "Watch", "describe", "make_lines", "terminal"]

GOOD, RETRY, BAD, DIM, HEAD = "green", "yellow", "red", "dim", "bold"

WHY: Final = {
    "attempts": "no attempt is left",
    "deadline": "the deadline ends the call",
    "error": "not retried",
}
"""The engine's reasons for a stop, where they are too short to read alone."""

NOT_DECLARED: Final = "may have been executed, and is not declared idempotent"
"""The engine's reason for a stop that an option of the command line undoes."""

Piece = tuple[str, str]


def terminal(stream: IO[str]) -> Console | None:
    """The console for *stream*; ``None`` where rich does not take it for a terminal that knows colours."""
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    return console if console.is_terminal and not console.is_dumb_terminal else None


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


class PlainLines:
    """Lines of ASCII without control characters.

    :param stream: where they go; flushed after each piece, so that a pipe is live, too.
    :param margin: what each line of an attempt begins with.
    """

    def __init__(self, stream: IO[str], margin: str = "") -> None:
        self._stream = stream
        self._margin = margin
        self._is_begun = False

    @property
    def width(self) -> int | None:
        """Characters in a line; ``None`` where nobody counts them."""
        return None

    def write(self, *pieces: Piece, end: str = "\n") -> None:
        """Print pieces of text, each with a style."""
        text = "".join(text for text, _ in pieces).encode("ascii", "backslashreplace").decode()
        printable = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
        self._stream.write(printable + end)
        self._stream.flush()

    def event(self, event: Event, *, part: str = "", took: str = "", again: str = "again") -> None:
        """Something happened in the call. The line of an attempt is begun with it, and ended when its end is known.

        :param part: what the line of an attempt begins with.
        :param took: what is said of its time.
        :param again: what goes again.
        """
        if isinstance(event, AttemptStarted):
            limit = "?" if event.max_attempts is None else event.max_attempts
            self.write((f"{self._margin}{part}attempt {event.attempt}/{limit}  ", ""), end="")
            self._is_begun = True
        elif isinstance(event, RetryScheduled):
            why = describe(event.error) if event.error is not None else "not accepted"
            self._finish((why, RETRY), (took, DIM), (f" -> {again} in {event.delay:.3f} s", ""), (f" ({event.reason})", DIM))
        elif isinstance(event, CallSucceeded):
            self._finish(("ok", GOOD), (took, DIM))
        elif isinstance(event, CallFailed):
            self._finish((describe(event.error), BAD), (took, DIM), (f" -> {WHY.get(event.reason, event.reason)}", ""))

    def _finish(self, *pieces: Piece) -> None:
        # A batch may have more to say of one attempt than a line. Noted first: Ctrl-C may come as soon as the line is out.
        begun, self._is_begun = self._is_begun, False
        self.write(*pieces) if begun else self.write((self._margin, ""), *pieces)

    def break_off(self) -> None:
        """End the line of an attempt whose end will not be known."""
        if self._is_begun:
            self._finish()


class ColourLines(PlainLines):
    """The same in colour.

    :param console: of a terminal.
    """

    def __init__(self, console: Console, margin: str = "") -> None:
        super().__init__(console.file, margin)
        self._console = console

    @property
    def width(self) -> int | None:
        return self._console.width

    def write(self, *pieces: Piece, end: str = "\n") -> None:
        self._console.print(Text.assemble(*pieces), end=end, soft_wrap=True)


def make_lines(stream: IO[str], margin: str = "") -> PlainLines:
    """What writes to *stream*: in colour where it is a terminal."""
    console = terminal(stream)
    return PlainLines(stream, margin) if console is None else ColourLines(console, margin)


class Watch:
    """A client's sink that prints each attempt and what it took.

    :param requests: how many requests there are in all.
    """

    def __init__(self, lines: PlainLines, requests: int) -> None:
        self._lines = lines
        self._requests = requests
        self._parts = 0

    def begin_call(self, operation: str, requests: Sequence[Request]) -> CallSink:
        """A batch in parts is a call for each of them."""
        self._parts += 1
        size = len(requests)
        return _Part(self._lines, size, "" if size == self._requests else f"part {self._parts} ({_counted(size)}): ")

    def __call__(self, event: Event) -> None:
        """Of records without a call nothing is said."""

    def break_off(self) -> None:
        """End the line of an attempt whose end will not be known."""
        self._lines.break_off()

    def count(self, errors: Sequence[Exception]) -> None:
        """Say how many requests of a batch failed, and of what, where there are several."""
        if len(errors) > 1:
            kinds = Counter(f"error {error.code}" if isinstance(error, JsonRpcError) else type(error).__name__ for error in errors)
            listed = ", ".join(f"{times} x {kind}" for kind, times in kinds.most_common())
            self._lines.write((f"{len(errors)} of {_counted(self._requests)} failed: {listed}", BAD))


def _counted(requests: int) -> str:
    return "1 request" if requests == 1 else f"{requests:,} requests"


class _Part(CallSink):
    def __init__(self, lines: PlainLines, size: int, part: str) -> None:
        self._lines = lines
        self._size = size
        self._part = part
        self._began = 0.0

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, AttemptStarted):
            self._began = event.elapsed
        took = f" after {event.elapsed - self._began:.3f} s"
        if isinstance(event, (CallSucceeded, CallFailed)) and event.attempt > 1:
            took += f", {event.elapsed:.3f} s in all"
        if isinstance(event, CallFailed) and event.reason == NOT_DECLARED:
            # The message behind it says why, and what to do about that.
            event = dataclasses.replace(event, reason="error")
        again = f"{event.members} of {self._size} again" if isinstance(event, RetryScheduled) and self._size > 1 else "again"
        self._lines.event(event, part=self._part, took=took, again=again)
