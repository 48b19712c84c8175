"""What was measured, as tables for a terminal and for the page, and as JSON. Imports nothing of the peers."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench_catalog import BY_HAND, CANNOT, CONTESTANTS, DECORATORS, OURS, SCALES, SCENARIOS, WHY

# The scale and the rounds of a whole run.
WHOLE = (1.0, 31)
PAGE, DATA = "benchmarks.rst", "_reports/bench.json"
JSONRPC = "jsonrpc-requests, jsonrpc-async"
# The columns of the table after ours: two packages of one author, for sync and for async, share one.
COLUMNS = ("pjrpc", "jsonrpcclient", JSONRPC, BY_HAND, *DECORATORS)
KINDS = {"sync": "jsonrpc-requests", "async": "jsonrpc-async"}


def number(value: float) -> str:
    """Three digits, and those before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def scale_of(unit: str) -> float:
    return SCALES[unit.split()[0]]


def column_of(name: str, kind: str) -> str:
    return KINDS[kind] if name == JSONRPC else name


# --- the terminal ---


def terminal(data: Mapping[str, Any]) -> Iterator[str]:
    """The lines that a run prints."""
    for row in data["rows"]:
        yield f"\n{row['title']}, {row['unit']}"
        for name, found in row["found"].items():
            yield f"  {name:<20}{number(found['median'] * scale_of(row['unit'])):>10}{found['ratio']:>8.2f}"
    if data["waiting"]:
        yield f"\n{'Calls that wait, KiB a call':<32}{'traced':>10}{'resident':>10}"
        yield from (f"  {name:<30}{number(each['traced'] / 1024):>10}{number(each['resident'] / 1024):>10}" for name, each in data["waiting"].items())
    for kind, runs in data["recovery"].items():
        yield f"\n{'Failing, then recovering, ' + kind:<32}{'completed':>10}{'failed':>8}{'wrong':>7}{'requests':>10}{'seconds':>9}"
        for name, run in runs.items():
            yield f"  {name:<30}{run['completed']:>10.0f}{run['failed']:>8.0f}{run['wrong']:>7.0f}{run['requests']:>10.0f}{run['seconds']:>9.2f}"
    if data["targets"]:
        yield f"\n{'median of rounds taken in turns':<40}{'ours us':>11}{'peer us':>11}{'found':>8}{'target':>8}"
        for row in data["targets"]:
            peer = "" if row["peer"] is None else f"{row['peer'] * 1e6:.2f}"
            verdict = "" if row["found"] <= row["target"] else "  missed"
            yield f"{row['name']:<40}{row['ours'] * 1e6:>11.2f}{peer:>11}{row['found']:>8.2f}{row['target']:>8.2f}{verdict}"


# --- the page ---


def list_table(header: Iterable[str], rows: Iterable[Iterable[str]], *, widths: str = "auto", classes: str = "") -> Iterator[str]:
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield f"   :widths: {widths}"
    if classes:
        yield f"   :class: {classes}"
    yield ""
    for cells in [header, *rows]:
        for place, cell in enumerate(cells):
            yield f"   {'* -' if place == 0 else '  -'} {cell}".rstrip()


def cell(row: Mapping[str, Any], name: str) -> str:
    found = row["found"].get(name)
    if found is None:
        return "cannot" if (row["scenario"], name) in CANNOT else ""
    value = number(found["median"] * scale_of(row["unit"]))
    return value if name == OURS else f"{value} ({found['ratio']:.2f})"


def main_table(data: Mapping[str, Any]) -> Iterator[str]:
    rows = ([f"{row['title']}, {row['unit']}", cell(row, OURS), *(cell(row, column_of(name, row["kind"])) for name in COLUMNS)] for row in data["rows"])
    yield from list_table(["Scenario", OURS, *COLUMNS], rows, classes="compact")


def cannot_table(data: Mapping[str, Any]) -> Iterator[str]:
    rows = [[SCENARIOS[scenario].title, name, why] for (scenario, name), why in CANNOT.items()]
    yield from list_table(["Scenario", "Who", "Why"], rows, widths="25 20 55")


def recovery_table(data: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        [f"{name}, {kind}", *(f"{run[field]:.0f}" for field in ("completed", "failed", "wrong", "requests")), f"{run['seconds']:.2f}"]
        for kind, runs in data["recovery"].items()
        for name, run in runs.items()
    ]
    yield from list_table(["Who", "Completed", "Failed", "Wrong", "Requests", "Seconds"], rows, classes="compact")


def memory_table(data: Mapping[str, Any]) -> Iterator[str]:
    rows = [[name, number(each["traced"] / 1024), number(each["resident"] / 1024)] for name, each in data["waiting"].items()]
    yield from list_table(["Who", "By tracemalloc, KiB", "Resident, KiB"], rows)


def why_missed(name: str) -> str:
    return next((why for start, why in WHY.items() if name.startswith(start)), "The profile below has what there is to say.")


def targets_table(data: Mapping[str, Any]) -> Iterator[str]:
    rows = []
    for row in data["targets"]:
        met = row["found"] <= row["target"]
        peer = "" if row["peer"] is None else number(row["peer"] * 1e6)
        found = f"{row['found']:.2f}"
        rows.append([row["name"], number(row["ours"] * 1e6), peer, found, f"{row['target']:.2f}", "met" if met else f"missed. {why_missed(row['name'])}"])
    yield from list_table(["Comparison", "Ours, µs", "Peer, µs", "Found", "Target", "Met"], rows, widths="30 9 9 8 8 36")


def parts_table(data: Mapping[str, Any]) -> Iterator[str]:
    for name, rows in data["profile"]["parts"].items():
        yield f"*{name[0].upper()}{name[1:]}*"
        yield ""
        cells = [[row["name"].replace("- ", "› "), f"{row['microseconds']:.2f}", "" if row["added"] is None else f"{row['added']:+.2f}"] for row in rows]
        has_added = any(row["added"] is not None for row in rows)
        header = ["Part", "µs", "Added, µs"] if has_added else ["Part", "µs"]
        yield from list_table(header, cells if has_added else [row[:2] for row in cells])
        yield ""


def functions_table(data: Mapping[str, Any], most: int = 12) -> Iterator[str]:
    for name, profile in data["profile"]["functions"].items():
        yield f"*{name[0].upper()}{name[1:]}: {number(profile['microseconds'])} µs a call*"
        yield ""
        shown = profile["rows"][:most]
        others = profile["others"] + sum(row["own"] for row in profile["rows"][most:])
        cells = [[f"``{row['name']}``", f"{row['calls']:.2f}", f"{row['own']:.2f}"] for row in shown]
        yield from list_table(["Function", "Calls", "Own µs"], [*cells, ["all others", "", f"{others:.2f}"]])
        yield ""


def machine(data: Mapping[str, Any]) -> Iterator[str]:
    about = data["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    text = f"Measured on {data['date']}: {about['processor']}, {about['cores']} cores, {about['system']}, {about['python']}. {versions}."
    yield from textwrap.wrap(text, 120)
    if (data["scale"], data["rounds"]) != WHOLE:
        yield ""
        yield f"A short run, ``--scale {data['scale']:g} --rounds {data['rounds']}``: its numbers show that it works, and little else."


BLOCKS = {
    "machine": machine,
    "table": main_table,
    "cannot": cannot_table,
    "recovery": recovery_table,
    "memory": memory_table,
    "targets": targets_table,
    "parts": parts_table,
    "functions": functions_table,
}
BLOCK = re.compile(r"^\.\. begin (\w+)\n(.*?)^\.\. end \1$", re.MULTILINE | re.DOTALL)


def rendered(name: str, data: Mapping[str, Any]) -> str:
    """A block of the page."""
    return "\n".join(BLOCKS[name](data)).rstrip() + "\n"


def filled(text: str, data: Mapping[str, Any]) -> str:
    """The page with each of its blocks written anew from *data*.

    :raises ValueError: where a block has no place in it.
    """
    found = [match[1] for match in BLOCK.finditer(text)]
    if sorted(found) != sorted(BLOCKS):
        raise ValueError(f"the page must have each of the blocks {sorted(BLOCKS)} once, between '.. begin NAME' and '.. end NAME', it has {sorted(found)}")
    return BLOCK.sub(lambda match: f".. begin {match[1]}\n\n{rendered(match[1], data)}\n.. end {match[1]}", text)


def write(folder: Path, data: Mapping[str, Any]) -> None:
    """Write the data and the page of the documentation in *folder*; its picture is drawn from the data when the pages are built."""
    page = folder / PAGE
    text = filled(page.read_text(), data)
    path = folder / DATA
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    page.write_text(text)


def read(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / DATA).read_text())
    return data


def contestants_of(data: Mapping[str, Any]) -> set[str]:
    return {name for row in data["rows"] for name in row["found"] if name in CONTESTANTS}
