"""How a command ends where it does not end well: a message on standard error, and an exit code."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterator

import typer

from . import BROKEN_PIPE, INTERRUPTED, UNWRITABLE
from ._streams import silence

__all__ = ["CommandError", "ending", "failure"]


class CommandError(Exception):
    """The end of a command that failed.

    :param message: what to say, one line or several.
    :param code: the exit code.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def failure(message: str, code: int) -> typer.Exit:
    """Say why on standard error. Returns what to raise."""
    print(f"rpcretry: {message}", file=sys.stderr, flush=True)
    return typer.Exit(code)


@contextlib.contextmanager
def ending(what: str) -> Iterator[None]:
    """Turn what ends a command into its exit code.

    :param what: the command, in the sentence "... broke off".
    """
    try:
        yield
    except CommandError as problem:
        raise failure(problem.message, problem.code) from None
    except KeyboardInterrupt:
        raise failure("interrupted", INTERRUPTED) from None
    except OSError as problem:
        try:
            sys.stdout.flush()
        except OSError:
            silence(sys.stdout)
        if problem.errno == errno.EPIPE:
            raise typer.Exit(BROKEN_PIPE) from None
        raise failure(f"{what} broke off: {problem}", UNWRITABLE) from None
