"""``rpcretry`` as a process, and in this one."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

from rpcretry.cli import main

# What would change the output, or the process, from outside.
STEERING = ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "PYTHONWARNINGS", "COLUMNS", "LINES", "PYTHONIOENCODING")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")

# Compiled once for all processes, and outside of the tree.
COMPILED = tempfile.TemporaryDirectory(prefix="rpcretry-compiled-")


# What -v says of time, which differs each time.
TOOK = re.compile(r" after \d+\.\d{3} s(?:, \d+\.\d{3} s in all)?")


def environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in (*STEERING, *PROXIES, "PYTHONDONTWRITEBYTECODE")}
    return kept | {"PYTHONPYCACHEPREFIX": COMPILED.name} | changes


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-X", "dev", "-W", "error", "-m", "rpcretry.cli", *arguments]


def process(*arguments: str, input: str | None = None, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    stdin = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, env=environment(**changes), check=False, encoding="utf-8", **stdin)


@contextlib.contextmanager
def running(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """While it runs. It hears Ctrl-C, which jobs in the background of a shell do not."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        started = subprocess.Popen(command(*arguments), env=environment(), **options)
    finally:
        signal.signal(signal.SIGINT, before)
    with started:
        try:
            yield started
        finally:
            started.kill()


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def here(*arguments: str, stdout: io.TextIOBase | None = None) -> Ended:
    """Run in this process, which is a hundred times as fast."""
    out, err = stdout or io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: Any = main(arguments)
        except SystemExit as ended:
            code = ended.code
    return Ended(code, out.getvalue() if isinstance(out, io.StringIO) else "", err.getvalue())
