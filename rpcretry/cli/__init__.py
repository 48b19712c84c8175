"""The command ``rpcretry``. This module imports neither typer nor rich, so that it can say when they are missing."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence

from ._streams import sound_streams

__all__ = ["BROKEN_PIPE", "CRASHED", "INTERRUPTED", "PROTOCOL", "RPC_ERROR", "TRANSPORT", "UNUSABLE", "UNWRITABLE", "main"]

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
CRASHED = 70
"""The exit code of a mistake of this program, with its traceback: EX_SOFTWARE of sysexits.h."""
INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells report it: 128 and the number of SIGINT. The process itself ends of the signal."""
BROKEN_PIPE = 141
"""The exit code where the reader of a pipe has left, as shells report it: 128 and the number of SIGPIPE."""

LIBRARIES = ("typer", "rich", "click")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    :param argv: the arguments after the program's name; those of the process where not given. The process is then this command's
        own, and ends of SIGINT after Ctrl-C, as it does by default.
    :returns: the exit code, where nothing exited before.
    :raises SystemExit: with the exit code of the command.
    """
    try:
        with sound_streams():
            return _run(argv)
    except SystemExit as ended:
        if ended.code == INTERRUPTED and argv is None:
            _die_of_interrupt()
        raise


def _run(argv: Sequence[str] | None) -> int:
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
        raise SystemExit(INTERRUPTED) from None
    except Exception:
        # An exit code of its own: Python's would be that of a JSON-RPC error.
        traceback.print_exc()
        print("rpcretry: this is a mistake of rpcretry, not of yours; please report it with the lines above", file=sys.stderr)
        raise SystemExit(CRASHED) from None
    return 0


def _die_of_interrupt() -> None:
    """End as shells expect of what Ctrl-C ended. After an exit code, even 130, they would go on with a loop."""
    # Whoever had the signal ignored, as nohup and jobs in the background have, does not want to see it; Windows has no such end.
    if os.name == "nt" or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    # In another thread than the main one handlers cannot be set.
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
