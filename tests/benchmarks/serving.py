"""The server of the benchmarks, for as long as a block lasts."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


class Served(str):
    """The URL of a server, and what it counted, once it has ended."""

    counted: dict[str, int]


@contextlib.contextmanager
def served(*options: str) -> Iterator[Served]:
    """A server in a process of its own, which ends with its input."""
    command = [sys.executable, str(Path(__file__).with_name("server.py")), *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise RuntimeError("no pipe from the server")
        url = Served(f"http://127.0.0.1:{int(process.stdout.readline())}/")
        try:
            yield url
        finally:
            url.counted = json.loads(process.communicate()[0])
