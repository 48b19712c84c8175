"""The client's end of the pipes to the server's process."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any


class ServerProcess:
    """Starts the server, and asks it things. Threads may share one."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("soak_server.py"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lock = threading.Lock()
        self.port = 0

    @property
    def url(self) -> str:
        """Where it serves, once it was told to begin."""
        return f"http://127.0.0.1:{self.port}/"

    def begin(self, seed: int) -> None:
        """Have it serve a client that it knows nothing of."""
        self.port = int(self.ask("begin", seed=seed))

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def ask(self, do: str, **given: Any) -> Any:
        """What it answers to a command."""
        with self._lock:
            pipe = self._process.stdin
            if pipe is None:
                raise RuntimeError("the server has no pipe")
            pipe.write(json.dumps({"do": do, **given}) + "\n")
            pipe.flush()
            return json.loads(self._line())

    def _line(self) -> str:
        pipe = self._process.stdout
        line = pipe.readline() if pipe is not None else ""
        if not line:
            raise RuntimeError(f"the server's process ended: exit code {self._process.poll()}")
        return line
