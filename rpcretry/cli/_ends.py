"""How a command ends where it does not end well: a message on standard error, and an exit code."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer

from . import BROKEN_PIPE, INTERRUPTED, UNUSABLE, UNWRITABLE
from ._streams import silence

__all__ = ["CommandError", "ending", "failure", "writing"]

# typer has click's errors, newer ones of its own copy, and gives a name only to those that commands raise.
UsageError: Final[Any] = typer.BadParameter.__mro__[1]


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

    :param what: what the message of an error of the system begins with.
    """
    try:
        yield
    except CommandError as problem:
        raise failure(problem.message, problem.code) from None
    except KeyboardInterrupt:
        raise failure("interrupted", INTERRUPTED) from None
    except UsageError as problem:
        if type(problem).show is not UsageError.show:
            # It is no error but the help that is shown without arguments.
            raise
        raise failure(_usage(problem), UNUSABLE) from None
    except OSError as problem:
        try:
            sys.stdout.flush()
        except OSError:
            silence(sys.stdout)
        if problem.errno == errno.EPIPE:
            raise typer.Exit(BROKEN_PIPE) from None
        raise failure(f"{what}: {problem.strerror or problem}", UNWRITABLE) from None


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """While *path* is written: where that fails the message names it.

    :raises CommandError: where it cannot be written.
    """
    try:
        yield
    except OSError as problem:
        if problem.errno == errno.EPIPE:
            raise
        raise CommandError(f"cannot write {path}: {problem.strerror or problem}", UNWRITABLE) from None


def _usage(problem: Any) -> str:
    """What is wrong with the arguments, and where to look."""
    # Needs rich, which a command that ends well may do without.
    from ._output import printable

    lines = problem.format_message().removesuffix(".").splitlines()
    lines[0] = lines[0][:1].lower() + lines[0][1:]
    if problem.ctx is not None:
        lines.append(f"see {problem.ctx.command_path} --help")
    return "\n  ".join(map(printable, lines))
