"""What is measured in a process each: the import, and the memory of calls that wait."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import sys
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bench_catalog import BY_HAND, DECORATORS, OURS
from measuring import Measured
from scenarios import Found, Size

WAITING, FLOOR = 10_000, "a task that sleeps"

# What a program imports that makes a call.
IMPORTS: dict[str, dict[str, str]] = {
    "sync": {
        OURS: "import rpcretry.backends.requests",
        "pjrpc": "import pjrpc.client.backend.requests",
        "jsonrpcclient": "import jsonrpcclient, requests",
        "jsonrpc-requests": "import jsonrpc_requests",
        BY_HAND: "import json, requests",
        **{name: f"import {name}, json, requests" for name in DECORATORS},
    },
    "async": {
        OURS: "import rpcretry.backends.aiohttp",
        "pjrpc": "import pjrpc.client.backend.aiohttp",
        "jsonrpcclient": "import jsonrpcclient, aiohttp",
        "jsonrpc-async": "import jsonrpc_async",
        BY_HAND: "import json, aiohttp",
        **{name: f"import {name}, json, aiohttp" for name in DECORATORS},
    },
}


def imports(size: Size) -> dict[str, Found]:
    """Seconds, by the clock of a process that does nothing else."""

    def run(statement: str) -> float:
        # -X importtime and a profiler would add to it; its own clock leaves the start of the interpreter out.
        program = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
        return float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)

    found: dict[str, Found] = {}
    for kind, statements in IMPORTS.items():
        chosen = {name: statement for name, statement in statements.items() if not size.alone or name in (OURS, BY_HAND)}
        samples: dict[str, list[float]] = {name: [] for name in chosen}
        for index in range(size.fewer(0.2) + 1):
            for name, statement in chosen.items():
                taken = run(statement)
                # The first one may compile, or read from a disk.
                if index:
                    samples[name].append(taken)
        ours = samples[OURS]
        found[kind] = {
            name: Measured(statistics.median(values), statistics.median(a / b for a, b in zip(ours, values, strict=True))) for name, values in samples.items()
        }
    return found


class Waiting(NamedTuple):
    """Bytes of each of many async calls that wait for their first retry.

    :ivar traced: as tracemalloc counts them.
    :ivar resident: as the process has them in memory, in whole pages.
    """

    traced: float
    resident: float


def waiting(size: Size) -> dict[str, Waiting]:
    """Those of all that retry, and of a task that only sleeps."""
    names = (OURS, FLOOR) if size.alone else (OURS, "pjrpc", *DECORATORS, FLOOR)
    count = size.calls(WAITING)
    return {name: Waiting(measured_apart(name, count, traced=True), measured_apart(name, count, traced=False)) for name in names}


def as_row(found: Mapping[str, Waiting]) -> dict[str, Found]:
    """The same as a row of the table."""
    ours = found[OURS].traced
    return {"async": {name: Measured(each.traced, ours / each.traced) for name, each in found.items() if name != FLOOR}}


def measured_apart(name: str, waiting: int, *, traced: bool) -> float:
    command = [sys.executable, __file__, name, "--waiting", str(waiting), *(["--traced"] if traced else [])]
    said: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return float(said["bytes"])


async def waiting_calls(name: str, count: int, traced: bool) -> float:
    """Bytes that each of so many waiting calls takes."""
    from peers import LONG, null_async

    asked = 0

    def fail() -> None:
        nonlocal asked
        asked += 1
        raise ConnectionError("the benchmark's transport fails")

    if name == FLOOR:

        async def call() -> None:
            await asyncio.sleep(LONG)
    else:
        call = null_async(None, wait="long", trouble=fail, alone=name == OURS)[name]
    # One of them imports and caches what is needed once.
    first = asyncio.create_task(call())
    await turns()
    gc.collect()
    if traced:
        tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0] if traced else resident_bytes()
    tasks = [asyncio.create_task(call()) for _ in range(count)]
    await turns()
    gc.collect()
    after = tracemalloc.get_traced_memory()[0] if traced else resident_bytes()
    if name != FLOOR and asked != count + 1:
        raise SystemExit(f"{asked} calls failed and wait, {count + 1} should")
    if any(task.done() for task in tasks):
        raise SystemExit("a call ended that should wait")
    for task in [first, *tasks]:
        task.cancel()
    await asyncio.gather(first, *tasks, return_exceptions=True)
    return (after - before) / count


async def turns() -> None:
    """Let all come to where they wait."""
    for _ in range(20):
        await asyncio.sleep(0)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="whose calls wait")
    parser.add_argument("--waiting", type=int, default=WAITING, help="how many of them")
    parser.add_argument("--traced", action="store_true", help="by tracemalloc, and not by resident memory")
    given = parser.parse_args()
    print(json.dumps({"bytes": asyncio.run(waiting_calls(given.name, given.waiting, given.traced))}))


if __name__ == "__main__":
    main()
