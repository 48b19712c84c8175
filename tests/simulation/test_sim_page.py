"""docs/simulation.rst: its tables and its numbers are those of the simulator, and its example is the one that is there."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from rpcretry.cli import main
from rpcretry.cli.attempts import PlainLines
from rpcretry.cli.simulate import _expected, _table
from rpcretry.simulation import Result, Scenario, Study, load
from rpcretry.simulation._files import OURS, POLICY_KEYS
from rpcretry.simulation._report import MEASURES

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "outage.toml"
PAGE = (ROOT / "docs" / "simulation.rst").read_text()
PROSE = " ".join(PAGE.split())


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the pages' own, by its name."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "_ext")
    return importlib.import_module


@pytest.fixture
def report(part: Any) -> dict[tuple[str, str], Result]:
    return {(result.scenario, result.policy): result for result in part("picture_storm").read_report()[1]}


def rows(first: str) -> list[list[str]]:
    """The rows of the table whose first header begins with *first*."""
    (body,) = re.findall(rf"^   \* - {first}.*?\n(   \* - .*?)(?=^\S|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return [[" ".join(cell.split()) for cell in re.split(r"^     - ", row, flags=re.MULTILINE)] for row in re.split(r"^   \* - ", body, flags=re.MULTILINE)[1:]]


HEADERS = {
    "jitters": "Delays\n",
    "budgets": "Budget\n",
    "retries": "Retries\n",
    "gaps": "Delays, full jitter\n",
    "breakers": "Breaker\n",
    "processes": "Processes\n",
}


@pytest.mark.parametrize("table", HEADERS)
def test_the_tables_about_the_defaults_are_runs_of_the_simulator(part: Any, table: str) -> None:
    tables = part("storm_study").TABLES
    assert list(tables) == list(HEADERS)
    # As python docs/_ext/storm_study.py prints them.
    assert rows(HEADERS[table].strip("\n") + "$") == list(tables[table]())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_example_is_as_it_expects_and_as_the_pages_show(tmp_path: Path) -> None:
    """The command of the page, whose report the picture and the numbers of the page are made of."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as ended:
        main(["simulate", str(EXAMPLE), "--plot", str(tmp_path / "storm.png"), "-o", str(tmp_path / "storm.json")])
    assert ended.value.code == 0
    assert "NOT AS EXPECTED" not in out.getvalue()
    assert out.getvalue().count("as expected: ") == len(load(EXAMPLE).expectations) >= 9
    assert (tmp_path / "storm.png").stat().st_size > 50_000
    # After a change: rpcretry simulate examples/outage.toml -o docs/_reports/storm.json
    assert json.loads((tmp_path / "storm.json").read_text()) == json.loads((ROOT / "docs" / "_reports" / "storm.json").read_text())


def test_the_report_is_read_as_it_was_written(part: Any, report: dict[tuple[str, str], Result]) -> None:
    scenarios, results = part("picture_storm").read_report()
    study = load(EXAMPLE)
    assert scenarios == list(study.scenarios)
    assert [(result.scenario, result.policy) for result in results] == [
        (scenario.name, policy.name) for scenario in study.scenarios for policy in study.policies_of(scenario)
    ]
    assert all(expectation.holds(report[expectation.scenario, expectation.policy]) for expectation in study.expectations)


def test_the_first_run_prints_what_the_page_shows(report: dict[tuple[str, str], Result]) -> None:
    study = load(EXAMPLE)
    scenario = next(each for each in study.scenarios if each.name == "metastable")
    found = [report["metastable", policy.name] for policy in study.policies_of(scenario)]
    out = io.StringIO()
    lines = PlainLines(out)
    _table(scenario, found, study.expectations, lines)
    _expected(Study((scenario,), study.policies, study.expectations), found, lines)
    (block,) = re.findall(r"\$ rpcretry simulate examples/outage\.toml --scenario metastable\n((?:   .*\n|\n)+)", PAGE)
    assert textwrap.dedent(block).strip("\n") == out.getvalue().strip("\n")


def test_the_numbers_of_the_prose_are_those_of_the_report(report: dict[tuple[str, str], Result]) -> None:
    outage, metastable, herd = (lambda policy, name=name: report[name, policy] for name in ("outage", "metastable", "herd"))
    for said in (
        f"Three retries make {outage('full').outage_amplification:.2f} attempts of each call",
        f"makes it {outage('budget').outage_amplification:.3f}, and",
        f"Without retries it is worked off in {metastable('none').time_to_recovery:.0f} s.",
        f"{100 * metastable('full').wasted / metastable('full').executed:.0f} % of the work is for nobody, and not one call succeeds",
        f"A budget brings the service back in {metastable('budget').time_to_recovery:.0f} s, a breaker in {metastable('breaker').time_to_recovery:.0f} s.",
        f"the fullest half second has {herd('patient-exponential').after_cap:.0f} times as many attempts",
        f"With full jitter it is {herd('patient-full').after_cap:.1f} times",
    ):
        assert said in PROSE
    assert metastable("full").after.succeeded == 0
    assert outage("breaker").outage_amplification < 0.01
    # Three retries of every kind, as the page says, and the budget in each of two processes.
    assert all(outage(policy).outage_amplification > 3.9 for policy in ("fixed", "exponential", "full"))
    # What requests at random moments have.
    assert herd("patient-full").after_cap == pytest.approx(herd("patient-full").after_cap_floor, abs=0.1)


def test_the_measures_are_those_of_the_program() -> None:
    assert rows("Measure$") == [[f"``{name}``", measure.meaning] for name, measure in MEASURES.items()]


def test_the_keys_are_those_of_the_program() -> None:
    policy = [key for cell, _ in rows("Key of a policy$") for key in re.findall(r"``(\w+)``", cell)]
    assert sorted(policy) == sorted(POLICY_KEYS)
    scenario = [key for cell, _ in rows("Key of a scenario$") for key in re.findall(r"``(\w+)``", cell)]
    fields = {field.name for field in dataclasses.fields(Scenario)} - {"name", "timeline"}
    assert sorted(scenario) == sorted(fields | {"change", *OURS})
