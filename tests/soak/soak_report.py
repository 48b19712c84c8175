"""What a run found, as a table."""

from __future__ import annotations

import os
import platform
import sys
from array import array
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from soak_oracle import CHECKS, KEPT
from soak_run import Finding

LIBRARIES = ("rpcretry", "aiohttp", "requests", "urllib3", "pydantic", "psutil")
NAME, CELL = 46, 14


def report(findings: Sequence[Finding]) -> str:
    """The whole report."""
    return "\n".join(line.rstrip() for line in _lines(findings)) + "\n"


def _lines(findings: Sequence[Finding]) -> Iterator[str]:
    settings = findings[0].settings
    yield f"rpcretry soak, seed {settings.seed}"
    yield f"{platform.python_implementation()} {platform.python_version()} on {sys.platform}, {os.cpu_count()} cores; {', '.join(_versions())}"
    yield ""
    yield _row("", [finding.settings.backend for finding in findings])
    yield _row("requests", [f"{finding.done:,}" for finding in findings])
    yield _row("seconds", [f"{finding.seconds:.0f}" for finding in findings])
    yield _row("at once", [f"{finding.settings.at_once} {'tasks' if finding.settings.backend == 'aiohttp' else 'threads'}" for finding in findings])
    yield ""
    yield "Checks (0 is wanted)"
    for check in CHECKS:
        yield _row(f"  {check}", [str(finding.oracle.found[check]) for finding in findings])
    yield ""
    yield from _table("Requests by kind of operation", [finding.oracle.kinds for finding in findings])
    yield from _table("Requests by method", [finding.oracle.methods for finding in findings])
    yield from _table("Ends", [finding.oracle.ends_by_name for finding in findings])
    yield from _table("Errors by class", [finding.oracle.errors for finding in findings])
    yield from _table("Executed by the server, repetitions of reads included", [finding.executed for finding in findings])
    yield from _table("Faults that the server committed", [finding.server["met"] for finding in findings])
    yield "Client"
    yield _row("  operations cut off by us", [f"{finding.oracle.cuts:,}" for finding in findings])
    for name in ("calls", "attempts", "retries", "successful_after_retry", "deadline_exceeded", "breaker_opens", "breaker_rejections", "budget_refusals"):
        yield _row(f"  {name.replace('_', ' ')}", [f"{getattr(finding.metrics, name):,}" for finding in findings])
    yield _row("  connections made", [f"{finding.server['connections']:,}" for finding in findings])
    yield _row("  bodies that came again under their key", [f"{finding.server['repeated']:,}" for finding in findings])
    yield _row("  resident memory after the warm-up, MiB", [f"{finding.baseline.rss / 2**20:.1f}" for finding in findings])
    yield _row("  resident memory at the end, MiB", [f"{finding.last.rss / 2**20:.1f}" for finding in findings])
    yield _row("  growth", [f"{finding.growth:+.1%}" for finding in findings])
    yield _row("  growth of allocated blocks", [f"{finding.last.blocks / finding.baseline.blocks - 1:+.1%}" for finding in findings])
    yield _row("  calls that were late for want of a core alone", [f"{finding.oracle.starved:,}" for finding in findings])
    yield _row("  longest stall of the machine, s", [f"{finding.stall:.2f}" for finding in findings])
    yield ""
    yield f"{'Seconds from begin to end: p50 / p99 / max':<{NAME}}"
    for kind in sorted({kind for finding in findings for kind in finding.oracle.latencies}):
        yield _row(f"  {kind}", [_quantiles(finding.oracle.latencies.get(kind)) for finding in findings], 24)
    yield ""
    yield "Verdict"
    for finding in findings:
        yield _row(f"  {finding.settings.backend}", [_verdict(finding)])
    for finding in findings:
        yield from _offences(finding)


def _verdict(finding: Finding) -> str:
    if finding.oracle.found:
        return f"FAILED: {sum(finding.oracle.found.values())} deviations"
    if not finding.is_clean:
        return f"INCOMPLETE: {finding.done:,} of {finding.settings.calls:,} requests in {finding.settings.seconds:.0f} s; give --seconds more"
    return "clean"


def _offences(finding: Finding) -> Iterator[str]:
    for number, offence in enumerate(finding.oracle.offences[:KEPT], 1):
        yield ""
        yield f"{finding.settings.backend} {number}. {offence.check}, seed {finding.settings.seed}, request {offence.token}"
        for line in offence.what.splitlines():
            yield f"    {line}"
        for met in finding.histories.get(str(offence.token), []):
            yield f"    the server: {met}"


def _versions() -> Iterator[str]:
    for library in LIBRARIES:
        try:
            yield f"{library} {version(library)}"
        except PackageNotFoundError:
            continue


def _row(name: str, cells: Sequence[str], width: int = CELL) -> str:
    return f"{name:<{NAME}}" + "".join(f"{cell:>{width}}" for cell in cells)


def _table(title: str, columns: Sequence[Any]) -> Iterator[str]:
    yield title
    names = {name: sum(column.get(name, 0) for column in columns) for column in columns for name in column}
    for name in sorted(names, key=lambda name: (-names[name], name)):
        yield _row(f"  {name}", [f"{column.get(name, 0):,}" for column in columns])
    yield ""


def _quantiles(samples: array[float] | None) -> str:
    if not samples:
        return "-"
    ordered = sorted(samples)
    p50, p99 = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    return f"{p50:.3f} / {p99:.3f} / {ordered[-1]:.2f}"
