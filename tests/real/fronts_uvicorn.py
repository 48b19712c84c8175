"""uvicorn in a process of its own, on a port that it keeps when it is started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from fronts_nginx import free_ports


class Uvicorn:
    """The application behind uvicorn.

    :param keep_alive: seconds after which it closes an idle connection; uvicorn's own default is 5.
    """

    def __init__(self, folder: Path, keep_alive: int) -> None:
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self.errors = folder / "uvicorn.log"
        self.keep_alive = keep_alive
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Uvicorn:
        for _ in range(5):
            (self.port,) = free_ports(1)
            self.url = f"http://127.0.0.1:{self.port}/rpc"
            try:
                self.start()
            except RuntimeError:
                # Somebody else was faster.
                continue
            return self
        raise RuntimeError(f"uvicorn did not start: {self.errors.read_text()[-2_000:]}")

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)

    def start(self) -> None:
        """Start it and wait until it listens."""
        options = ["--app-dir", str(Path(__file__).parent), "--port", str(self.port), "--timeout-keep-alive", str(self.keep_alive)]
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", "fronts_app:app", *options, "--log-level", "warning", "--no-access-log"],
                env={**os.environ, "FRONTS_LEDGER": str(self.ledger)},
                stdout=errors,
                stderr=errors,
            )
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        self.stop(signal.SIGKILL)
        raise RuntimeError("uvicorn did not start")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it; by SIGTERM it first finishes the requests that it has."""
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(number)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def executed(self, method: str, prefix: str = "") -> Counter[str]:
        """How often *method* was executed with each param that begins so."""
        return Counter({param: count for param, count in self.since(0, method).items() if param.startswith(prefix)})

    def mark(self) -> int:
        """A place in the ledger, for :meth:`since`."""
        return self.ledger.stat().st_size

    def since(self, mark: int, method: str) -> Counter[str]:
        """How often *method* was executed with each param after *mark*."""
        rows = [line.partition(" ") for line in self.ledger.read_bytes()[mark:].decode().splitlines()]
        return Counter(param for name, _, param in rows if name == method)
