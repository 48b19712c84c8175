"""Side by side with peers, in one run: medians, and ratios of what is measured in turns.

Machines are noisy, so nothing here asserts a time: the table names the target beside the measured ratio.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench_catalog import INSTALL, LETTERS, NEEDED, NEEDED_ALONE, PROFILE, RECOVERY, SCENARIOS, VERSIONS
from bench_report import WHOLE, read, terminal, write

# What --only takes besides letters, in the order in which it is measured.
NAMES = (*SCENARIOS, RECOVERY, PROFILE)


def chosen(text: str | None, alone: bool) -> tuple[str, list[str]]:
    """The letters and the names in an ``--only``.

    :raises ValueError: for one that there is not.
    """
    if text is None:
        return ("" if alone else LETTERS), list(NAMES)
    letters, names = "", []
    for part in filter(None, re.split(r"[\s,]+", text)):
        if part in NAMES:
            names.append(part)
        elif set(part) <= set(LETTERS):
            letters += part
        else:
            raise ValueError(f"--only takes letters from {LETTERS} and names from {', '.join(NAMES)}, got {part!r}")
    if alone and letters:
        raise ValueError(f"--alone leaves the peers out, with whom {letters!r} compares; name scenarios: {', '.join(NAMES)}")
    return letters, names


def missing(modules: Iterable[str]) -> list[str]:
    return [name for name in modules if not is_there(name)]


def is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def machine() -> dict[str, Any]:
    """The kind of machine, without names of hosts or folders."""
    processor = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        processor = named[1].strip() if named else processor
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return {"processor": processor, "cores": os.cpu_count(), "system": platform.system(), "python": python}


def versions() -> dict[str, str]:
    found = {}
    for name in VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def measured(letters: str, names: list[str], scale: float, rounds: int, alone: bool) -> dict[str, Any]:
    """Everything that was chosen, as JSON takes it."""
    # Here, since these need what may be missing.
    import processes
    import profile_call
    import recovery
    import scenarios

    size = scenarios.Size(scale, rounds, alone)
    data: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "scale": scale,
        "rounds": rounds,
        "rows": [],
        "waiting": {},
        "recovery": {},
        "targets": [],
        "profile": {},
    }
    simple = {"null": scenarios.null, "retried": scenarios.retried, "import": processes.imports}
    found: dict[str, dict[str, scenarios.Found]] = {}
    for name in names:
        if name in simple:
            say(name)
            found[name] = simple[name](size)
    if "memory" in names:
        say("memory")
        waiting = processes.waiting(size)
        found["memory"] = processes.as_row(waiting)
        data["waiting"] = {name: each._asdict() for name, each in waiting.items()}
    loopback = [name for name in scenarios.LOOPBACK if name in names]
    if loopback:
        for name, rows in scenarios.over_loopback(loopback, size):
            say(name)
            found[name] = rows
    for name in SCENARIOS:
        for kind, row in found.get(name, {}).items():
            plain, joined = scenarios.joined_apart(row)
            title = f"{SCENARIOS[name].title}, {kind}"
            for apart, contestants in ((title, plain), (f"{title}, joined", joined)):
                if contestants is not None:
                    cells = {who: one._asdict() for who, one in contestants.items()}
                    data["rows"].append({"scenario": name, "kind": kind, "title": apart, "unit": SCENARIOS[name].unit, "found": cells})
    if RECOVERY in names:
        say(RECOVERY)
        data["recovery"] = {kind: {name: run._asdict() for name, run in runs.items()} for kind, runs in recovery.recovery(size).items()}
    if letters:
        import targets

        say(letters)
        data["targets"] = [row._asdict() for row in targets.compared(letters, scale, rounds)]
    if PROFILE in names:
        say(PROFILE)
        data["profile"] = profile_call.measured(scale, size.fewer(0.5))
    return rounded(data)


def rounded(value: Any) -> Any:
    """Six digits of each number: more are noise, and a longer file."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def say(name: str) -> None:
    """On stderr, since a whole run takes minutes."""
    print(f"measuring {name}", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=WHOLE[0], help="how many calls, relative to the usual number")
    parser.add_argument("--rounds", type=int, default=WHOLE[1], help="how many rounds each comparison takes; those of long calls take fewer")
    parser.add_argument("--only", help=f"which comparisons: letters from {LETTERS}, for those with a target, and names: {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="as few calls as show that it works: --scale 0.02 --rounds 3")
    parser.add_argument("--alone", action="store_true", help="without the peers: rpcretry, and what is written by hand")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    parser.add_argument("--write", type=Path, metavar="DOCS", help="write the data, the tables and the picture of the documentation in that folder")
    parser.add_argument("--render", type=Path, metavar="DOCS", help="measure nothing: write the tables anew from the data that is there")
    given = parser.parse_args(arguments)
    if given.render:
        write(given.render, read(given.render))
        return 0
    if given.write and (given.only is not None or given.alone or given.quick):
        parser.error("--write takes a whole run: leave --only, --alone and --quick out")
    if not (0 < given.scale < math.inf) or given.rounds < 1:
        parser.error(f"--scale must be above 0 and --rounds at least 1, got {given.scale:g} and {given.rounds}")
    try:
        letters, names = chosen(given.only, given.alone)
    except ValueError as problem:
        parser.error(str(problem))
    absent = missing((*NEEDED_ALONE, *(() if given.alone else NEEDED)))
    if absent:
        print(f"these are not installed: {', '.join(absent)}; write: {INSTALL}", file=sys.stderr)
        print("or leave the peers out by --alone", file=sys.stderr)
        return 2
    scale, rounds = (0.02, 3) if given.quick else (given.scale, given.rounds)
    data = measured(letters, names, scale, rounds, given.alone)
    print("\n".join(terminal(data)))
    if PROFILE in names and data["profile"]:
        import profile_call

        profile_call.show(data["profile"])
    if given.json:
        given.json.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    if given.write:
        write(given.write, data)
        draw(given.write)
    return 0


def draw(folder: Path) -> None:
    """Draw the picture, as a build of the pages does."""
    sys.path.insert(0, str(folder / "_ext"))
    import matplotlib as mpl
    from drawing import STYLE
    from picture_benchmarks import draw_benchmarks

    (folder / "_generated").mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        draw_benchmarks(folder / "_generated" / "benchmarks.svg")


if __name__ == "__main__":
    sys.exit(main())
