"""Standard output: JSON and nothing else, in colour on a terminal."""

from __future__ import annotations

import json
import re
import sys
from typing import TextIO

from rich.highlighter import JSONHighlighter
from rich.text import Text

from .attempts import terminal

__all__ = ["printable", "put"]

# Beyond that nobody reads the colours, and finding them takes seconds.
COLOURED = 200_000

# They turn around the order in which a terminal shows what follows; JSON may have them escaped.
_TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def put(text: str) -> None:
    """Print JSON and a line break. What the stream's encoding does not have is written with escapes, which is the same JSON."""
    stream = sys.stdout
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        text = re.sub(r"[^\x00-\x7f]+", lambda found: json.dumps(found[0])[1:-1], text)
    # FORCE_COLOR is for people. A program that reads a pipe wants JSON.
    console = terminal(stream) if stream.isatty() else None
    if stream.isatty():
        text = _TURNING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    if console is None or console.no_color or len(text) > COLOURED:
        _write(stream, text + "\n")
    else:
        coloured = Text(text)
        JSONHighlighter().highlight(coloured)
        console.print(coloured, soft_wrap=True)
    stream.flush()


def _write(stream: TextIO, text: str) -> None:
    """Write all of *text*. Without a buffer, as under ``PYTHONUNBUFFERED``, Python drops what the system did not take at once,
    and with it the error that says why."""
    stream.flush()
    binary = getattr(stream, "buffer", None)
    if binary is None:
        stream.write(text)
        return
    left = memoryview(text.encode(stream.encoding or "utf-8"))
    while left:
        left = left[binary.write(left) :]


def printable(text: str) -> str:
    """*text* in one line without control characters: servers write what messages repeat."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
