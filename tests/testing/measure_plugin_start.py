"""What the plugin adds to a run of pytest that does not use it: ``python tests/testing/measure_plugin_start.py [ROUNDS]``.

Runs with and without it take turns. The processor's time says more than the clock's on a machine that is busy.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple


class Run(NamedTuple):
    wall: float
    processor: float


def run(folder: Path, *args: str) -> Run:
    began = time.perf_counter()
    # With caches of bytecode, as everywhere but in some containers.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "cache")
    # Other plugins differ from one run to the next by more than this one costs.
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"pytest ended with {process.returncode}")
    return Run(time.perf_counter() - began, usage.ru_utime + usage.ru_stime)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_nothing.py").write_text("def test_nothing() -> None:\n    pass\n")
        with_it, without = [], []
        # The first of each fills the caches.
        for number in range(rounds + 1):
            pair = run(folder, "-p", "rpcretry.testing.plugin"), run(folder)
            if number:
                with_it.append(pair[0])
                without.append(pair[1])
    for what in Run._fields:
        there, not_there = ([getattr(one, what) for one in runs] for runs in (with_it, without))
        paired = statistics.median(a - b for a, b in zip(there, not_there, strict=True))
        print(
            f"{what:9}: {statistics.median(there) * 1000:.1f} ms with, {statistics.median(not_there) * 1000:.1f} ms without; "
            f"difference of the medians {(statistics.median(there) - statistics.median(not_there)) * 1000:+.1f} ms, "
            f"median of the pairs {paired * 1000:+.1f} ms, of the shortest {(min(there) - min(not_there)) * 1000:+.1f} ms"
        )


if __name__ == "__main__":
    main()
