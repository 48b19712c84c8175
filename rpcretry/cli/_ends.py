"""How a command ends where it does not end well: one line on standard error, and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

import typer

from . import BROKEN_PIPE, INTERRUPTED

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


def failure(message: str, code: int = 1) -> typer.Exit:
    """Say why on standard error. Returns what to raise."""
    typer.echo(f"rpcretry: {message}", err=True)
    return typer.Exit(code)


@contextlib.contextmanager
def ending(what: str, code: int = 1) -> Iterator[None]:
    """Turn what ends a command into its exit code.

    :param what: the command, in the sentence "... broke off".
    :param code: the exit code where the system fails, as by a full disk.
    """
    try:
        yield
    except CommandError as problem:
        raise failure(problem.message, problem.code) from None
    except KeyboardInterrupt:
        raise failure("interrupted", INTERRUPTED) from None
    except OSError as problem:
        if problem.errno == errno.EPIPE:
            _fall_silent()
            raise typer.Exit(BROKEN_PIPE) from None
        raise failure(f"{what} broke off: {problem}", code) from None


def _fall_silent() -> None:
    """Let what is still to be written go nowhere: nobody reads it, and Python would complain of that at its exit."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            try:
                stream.flush()
            except OSError:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
