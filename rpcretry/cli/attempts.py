"""Attempts as they happen, in a line each: plain, or in colour on a terminal."""

from __future__ import annotations

from typing import IO, Final

from rich.console import Console
from rich.text import Text

from ..errors import DeadlineExceeded, HTTPStatusError, JsonRpcError, ProtocolError, TransportError
from ..events import AttemptStarted, CallFailed, CallSucceeded, Event, RetryScheduled

__all__ = ["BAD", "DIM", "GOOD", "HEAD", "RETRY", "ColourLines", "Piece", "PlainLines", "describe", "make_lines", "terminal"]

GOOD, RETRY, BAD, DIM, HEAD = "green", "yellow", "red", "dim", "bold"

WHY: Final = {
    "attempts": "no attempt is left",
    "deadline": "the deadline ends the call",
    "error": "not retried",
}
"""The engine's reasons for a stop, where they are too short to read alone."""

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

    def write(self, *pieces: Piece, end: str = "\n") -> None:
        """Print pieces of text, each with a style."""
        text = "".join(text for text, _ in pieces).encode("ascii", "backslashreplace").decode()
        printable = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
        self._stream.write(printable + end)
        self._stream.flush()

    def event(self, event: Event) -> None:
        """Something happened in the call. The line of an attempt is begun with it, and ended when its end is known."""
        if isinstance(event, AttemptStarted):
            limit = "?" if event.max_attempts is None else event.max_attempts
            self.write((f"{self._margin}attempt {event.attempt}/{limit}  ", ""), end="")
            self._is_begun = True
        elif isinstance(event, RetryScheduled):
            why = describe(event.error) if event.error is not None else "not accepted"
            self._finish((why, RETRY), (f" -> again in {event.delay:.3f} s", ""), (f" ({event.reason})", DIM))
        elif isinstance(event, CallSucceeded):
            self._finish(("ok", GOOD))
        elif isinstance(event, CallFailed):
            self._finish((describe(event.error), BAD), (f" -> {WHY.get(event.reason, event.reason)}", ""))

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

    def write(self, *pieces: Piece, end: str = "\n") -> None:
        self._console.print(Text.assemble(*pieces), end=end, soft_wrap=True)


def make_lines(stream: IO[str], margin: str = "") -> PlainLines:
    """What writes to *stream*: in colour where it is a terminal."""
    console = terminal(stream)
    return PlainLines(stream, margin) if console is None else ColourLines(console, margin)
