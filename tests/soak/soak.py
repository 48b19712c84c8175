"""100,000 requests through each backend against a server that misbehaves, and everything that went wrong.

Exit code 0: nothing did. 1: something did, or there was not enough time for all requests.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from soak_measures import one_arena
from soak_report import report
from soak_run import WIDTHS, Finding, Settings, run
from soak_sabotage import SABOTAGES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100_000, help="requests for each backend; those of a batch count one each (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=20_261_122, help="decides what is called, what is cut off, and what the server does (default: %(default)s)")
    parser.add_argument("--backend", choices=[*WIDTHS, "both"], default="both")
    parser.add_argument("--seconds", type=float, default=600.0, help="time for all; no request begins after it (default: %(default)s)")
    parser.add_argument("--width", type=int, help="threads, or tasks (default: 32 threads, 200 tasks)")
    parser.add_argument("--report", type=Path, help="a file to write the report to as well")
    parser.add_argument("--sabotage", choices=SABOTAGES, help="make the client wrong on purpose, to see that it is noticed")
    given = parser.parse_args(arguments)
    if given.calls < 1 or given.seconds <= 0 or (given.width is not None and given.width < 1):
        parser.error("--calls, --seconds and --width must be above 0")
    one_arena()
    backends = list(WIDTHS) if given.backend == "both" else [given.backend]
    findings: list[Finding] = []
    began = time.monotonic()
    for place, backend in enumerate(backends):
        # What one does not need is left to the next.
        seconds = (given.seconds - (time.monotonic() - began)) / (len(backends) - place)
        print(f"{backend}: {given.calls:,} requests, seed {given.seed}", file=sys.stderr, flush=True)
        findings.append(run(Settings(backend, given.calls, given.seed, seconds, given.width, given.sabotage)))
    text = report(findings)
    print(text)
    if given.report is not None:
        given.report.parent.mkdir(parents=True, exist_ok=True)
        given.report.write_text(text)
    return 0 if all(finding.is_clean for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
