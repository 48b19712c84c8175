"""The picture of ``examples/outage.toml``, drawn from the report of a run, since a run takes a quarter of a minute. The report is made by::

rpcretry simulate examples/outage.toml -o docs/_reports/storm.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from rpcretry.simulation import Result, Scenario, draw

REPORT = Path(__file__).parent.parent / "_reports" / "storm.json"


def read_report(path: Path = REPORT) -> tuple[list[Scenario], list[Result]]:
    """The scenarios and the results of a report."""
    scenarios: list[Scenario] = []
    found: list[dict[str, Any]] = []
    for document in json.loads(path.read_text())["scenarios"]:
        scenarios.append(TypeAdapter(Scenario).validate_python(document))
        # What the run itself took is in no report.
        found += [{**result, "scenario": document["name"], "elapsed": 0.0, "cpu": 0.0} for result in document["results"]]
    return scenarios, TypeAdapter(list[Result]).validate_python(found)


def draw_storm(path: Path) -> None:
    """What the policies of the example make of its three scenarios."""
    draw(*read_report(), path)
