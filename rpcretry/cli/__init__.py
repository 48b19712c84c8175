"""The command ``rpcretry``. This module imports neither typer nor rich, so that it can say when they are missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["BROKEN_PIPE", "INTERRUPTED", "PROTOCOL", "RPC_ERROR", "TRANSPORT", "UNUSABLE", "UNWRITABLE", "main"]

RPC_ERROR = 1
"""The exit code where the server answered with a JSON-RPC error."""
UNUSABLE = 2
"""The exit code for wrong usage and for libraries that are not installed."""
TRANSPORT = 3
"""The exit code where no answer came: no connection, a timeout, an HTTP error, the deadline."""
PROTOCOL = 4
"""The exit code where the answer is no JSON-RPC answer to what was asked."""
UNWRITABLE = 5
"""The exit code where the result cannot be written, such as to a full disk."""
INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells report it: 128 and the number of SIGINT."""
BROKEN_PIPE = 141
"""The exit code where the reader of a pipe has left, as shells report it: 128 and the number of SIGPIPE."""

LIBRARIES = ("typer", "rich", "click")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    :param argv: the arguments after the program's name; those of the process where not given.
    :returns: the exit code, where nothing exited before.
    :raises SystemExit: with the exit code of the command.
    """
    try:
        try:
            import rich  # noqa: F401  app imports it late

            from .app import app
        except ModuleNotFoundError as problem:
            if (problem.name or "").partition(".")[0] not in LIBRARIES:
                raise
            print('rpcretry: the command line needs typer and rich; install them with: pip install "rpcretry[cli]"', file=sys.stderr)
            return UNUSABLE
        app(args=None if argv is None else list(argv), prog_name="rpcretry")
    except KeyboardInterrupt:
        print("rpcretry: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0
