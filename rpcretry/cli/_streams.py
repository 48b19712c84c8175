"""The streams of the process, made such that a command need not ask whether they are there or whether anybody reads them."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any, NoReturn, TextIO, cast

__all__ = ["silence", "sound_streams"]


class _Closed:
    """Stands where the process was started with a closed stream, which Python has as ``None``: using it fails as a full disk does."""

    # Python writes nothing into it at its exit.
    closed = True
    encoding = "utf-8"
    errors = "strict"

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def buffer(self) -> _Closed:
        return self

    def isatty(self) -> bool:
        return False

    def _refuse(self, *_: object) -> NoReturn:
        raise OSError(errno.EBADF, f"{self._name} is closed")

    read = write = flush = fileno = _refuse


class _Aside:
    """Standard error. What cannot be written there is no reason to end otherwise than without it."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if self._stream is not None:
            try:
                self._stream.write(text)
            except OSError:
                silence(self._stream)
        return len(text)

    def flush(self) -> None:
        if self._stream is not None:
            try:
                self._stream.flush()
            except OSError:
                silence(self._stream)

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def silence(stream: TextIO) -> None:
    """Let what is still in the buffer of *stream*, and all that follows, go nowhere: Python would complain of it at its exit."""
    # What is no stream of the system has nothing to send elsewhere.
    with contextlib.suppress(OSError, ValueError):
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


@contextlib.contextmanager
def sound_streams() -> Iterator[None]:
    """While it lasts, none of the three is ``None``, and writing to standard error does not fail."""
    before = sys.stdin, sys.stdout, sys.stderr
    if sys.stdin is None:
        sys.stdin = cast("TextIO", _Closed("standard input"))
    if sys.stdout is None:
        sys.stdout = cast("TextIO", _Closed("standard output"))
    sys.stderr = cast("TextIO", _Aside(sys.stderr))
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
