"""The commands, and what each takes. What a command does is in a module of its name, imported when it runs."""

from __future__ import annotations

import enum
import errno
import random
from importlib import import_module
from typing import Annotated

import typer

from .. import __version__
from . import INTERRUPTED, UNUSABLE

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    # Rich would draw boxes into pipes, and reflow the examples.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class BackendChoice(enum.StrEnum):
    """What ``--backend`` takes."""

    requests = "requests"
    aiohttp = "aiohttp"
    both = "both"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rpcretry {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    """A JSON-RPC 2.0 client that keeps working on bad days.

    \b
    Examples:
      rpcretry demo                  watch calls survive a server that misbehaves
      rpcretry demo --seed 7         the same delays each time
      rpcretry COMMAND --help        what a command takes
    """


@app.command()
def demo(
    seed: Annotated[
        int | None, typer.Option(metavar="INT", help="Seed of all jitter; the same seed gives the same delays. Drawn and shown if not given.")
    ] = None,
    backend: Annotated[BackendChoice, typer.Option(help="Which HTTP library makes the calls.")] = BackendChoice.both,
) -> None:
    """Make calls to a server that misbehaves on purpose, and show each attempt.

    The server runs in this process, on a free port of 127.0.0.1. It takes a few seconds.

    \b
    Exit codes:
      0    every call ended as its scenario says
      1    one did not; the differences are listed
      2    wrong usage, or a library is not installed
      130  interrupted

    \b
    Examples:
      rpcretry demo
      rpcretry demo --seed 7 --backend aiohttp
      rpcretry demo | tee demo.txt   plain lines, no colour
    """
    backends = ["requests", "aiohttp"] if backend is BackendChoice.both else [backend.value]
    try:
        succeeded = _demo(backends, random.SystemRandom().randrange(1_000_000) if seed is None else seed)
    except KeyboardInterrupt:
        raise _failure("interrupted", INTERRUPTED) from None
    except OSError as problem:
        if problem.errno == errno.EPIPE:
            # Typer ends quietly for a reader that has left, such as head.
            raise
        raise _failure(f"the demo broke off: {problem}") from None
    raise typer.Exit(0 if succeeded else 1)


# Further commands (call, backoff, simulate) go here, each with a module of its name beside demo.py.


def _failure(message: str, code: int = 1) -> typer.Exit:
    """Say why on standard error, in one line."""
    typer.echo(f"rpcretry: {message}", err=True)
    return typer.Exit(code)


def _demo(backends: list[str], seed: int) -> bool:
    _require(backends)
    from .demo import CannotListenError, run
    from .report import make_report

    try:
        return run(backends, seed, make_report())
    except CannotListenError as problem:
        raise _failure(f"the demo cannot listen on 127.0.0.1: {problem}") from None


def _require(libraries: list[str]) -> None:
    """Exit where an HTTP library is missing, saying how to mend that."""
    missing = [name for name in libraries if not _can_import(name)]
    if missing:
        present = [name for name in libraries if name not in missing]
        hint = f" (or run it with: --backend {present[0]})" if present else ""
        names, extras = " and ".join(missing), ",".join(sorted(missing))
        raise _failure(f'the demo needs {names}; install with: pip install "rpcretry[{extras}]"{hint}', UNUSABLE)


def _can_import(name: str) -> bool:
    try:
        import_module(name)
    except ImportError:
        return False
    return True
