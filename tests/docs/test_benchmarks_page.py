"""The page about benchmarks shows the committed numbers, and the command that writes them works. No time is asserted."""

from __future__ import annotations

import copy
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pages import DOCS, ROOT, tables

BENCHMARKS = ROOT / "tests" / "benchmarks"
BENCH = BENCHMARKS / "bench.py"
PAGE = (DOCS / "benchmarks.rst").read_text()
DATA = json.loads((DOCS / "_reports" / "bench.json").read_text())


def part(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the benchmarks that needs no peers."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module(name)


@pytest.fixture
def catalog(monkeypatch: pytest.MonkeyPatch) -> Any:
    return part("bench_catalog", monkeypatch)


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Any:
    return part("bench_report", monkeypatch)


def test_the_tables_are_those_of_the_committed_numbers(report: Any) -> None:
    assert report.filled(PAGE, DATA) == PAGE


def test_a_number_that_was_changed_by_hand_is_found(report: Any) -> None:
    other = copy.deepcopy(DATA)
    other["rows"][0]["found"]["pjrpc"]["median"] *= 2
    assert report.filled(PAGE, other) != PAGE


def test_the_page_has_every_scenario_and_every_contestant(catalog: Any, report: Any) -> None:
    titles = [row[0] for row in tables("benchmarks.rst")[0]]
    for scenario in catalog.SCENARIOS.values():
        for kind in scenario.kinds:
            assert f"{scenario.title}, {kind}, {scenario.unit}" in titles
    header = re.search(r"^\.\. begin table\n.*?^   \* - (.*?)^   \* - ", PAGE, re.MULTILINE | re.DOTALL)
    assert header
    columns = {name for cell in re.findall(r"^     - (.+)$", header[1], re.MULTILINE) for name in cell.split(", ")}
    assert columns == set(catalog.CONTESTANTS)
    assert report.contestants_of(DATA) == set(catalog.CONTESTANTS)
    # And says of each how it was used.
    used = PAGE[PAGE.index("How each was used") : PAGE.index(".. begin cannot")]
    assert [name for name in catalog.CONTESTANTS if name not in used.lower()] == []


def test_each_cell_has_a_number_or_says_that_it_cannot(catalog: Any, report: Any) -> None:
    for row in DATA["rows"]:
        for column in report.COLUMNS:
            name = report.column_of(column, row["kind"])
            assert (name in row["found"]) != ((row["scenario"], name) in catalog.CANNOT), (row["title"], name)
    reasons = {(row[0], row[1]) for row in tables("benchmarks.rst")[1]}
    assert reasons == {(catalog.SCENARIOS[scenario].title, name) for scenario, name in catalog.CANNOT}


def test_every_comparison_with_a_target_is_there_and_says_whether_it_was_met(catalog: Any) -> None:
    assert {row["name"][0] for row in DATA["targets"]} == set(catalog.LETTERS)
    shown = {row[0]: row[5] for row in tables("benchmarks.rst")[4]}
    assert set(shown) == {" ".join(row["name"].split()) for row in DATA["targets"]}
    for row in DATA["targets"]:
        verdict = shown[" ".join(row["name"].split())]
        assert verdict == "met" if row["found"] <= row["target"] else re.fullmatch(r"missed\. .{30,}", verdict), row["name"]


def test_the_numbers_are_of_a_whole_run_and_name_no_machine(catalog: Any, report: Any) -> None:
    assert (DATA["scale"], DATA["rounds"]) == report.WHOLE, "write them by: tox -e bench -- --write docs"
    assert set(DATA["versions"]) == set(catalog.VERSIONS)
    assert set(DATA["machine"]) == {"processor", "cores", "system", "python"}
    assert not re.search(r"/(?:home|root|tmp|work|usr|venv)/", json.dumps(DATA))
    assert set(DATA["recovery"]["sync"]) | set(DATA["recovery"]["async"]) == set(catalog.CONTESTANTS)


def test_nobody_returned_another_calls_result() -> None:
    for runs in DATA["recovery"].values():
        # Each made as many calls as the others, and each call ended in one way or another.
        assert len({run["completed"] + run["failed"] + run["wrong"] for run in runs.values()}) == 1
        assert runs["rpcretry"]["wrong"] == 0
        assert runs["rpcretry"]["completed"] > runs["by hand"]["completed"]


def test_a_page_without_a_place_for_a_table_is_refused(report: Any) -> None:
    with pytest.raises(ValueError, match="'targets'"):
        report.filled(PAGE.replace(".. begin targets", ".. begin nothing"), DATA)


def test_the_data_is_written_only_where_the_page_has_its_places(report: Any, tmp_path: Path) -> None:
    (tmp_path / "benchmarks.rst").write_text("Benchmarks\n==========\n")
    with pytest.raises(ValueError, match="once"):
        report.write(tmp_path, DATA)
    assert [path.name for path in tmp_path.iterdir()] == ["benchmarks.rst"]


def test_the_page_is_written_from_the_data(report: Any, tmp_path: Path) -> None:
    (tmp_path / "benchmarks.rst").write_text(re.sub(r"^(\.\. begin \w+\n).*?^(\.\. end)", r"\1\2", PAGE, flags=re.MULTILINE | re.DOTALL))
    report.write(tmp_path, DATA)
    assert (tmp_path / "benchmarks.rst").read_text() == PAGE
    assert report.read(tmp_path) == DATA


# --- the command ---


def bench(*arguments: str, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run it in a process where the modules *without* cannot be found."""
    program = (
        "import importlib.util, runpy, sys\n"
        f"without, find = {without!r}, importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name in without else find(name, *rest)\n"
        f"sys.argv[:] = {[str(BENCH), *arguments]!r}\n"
        f"sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        f"runpy.run_path({str(BENCH)!r}, run_name='__main__')\n"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


def test_a_tiny_run_works_without_the_peers(catalog: Any, tmp_path: Path) -> None:
    done = bench("--quick", "--only", "null,retried", "--alone", "--json", str(tmp_path / "found.json"), without=catalog.NEEDED)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(Null call, \w+|Fails twice, then succeeds, \w+), µs a call$", done.stdout, re.MULTILINE) == [
        "Null call, sync",
        "Null call, async",
        "Fails twice, then succeeds, sync",
        "Fails twice, then succeeds, async",
    ]
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert [set(row["found"]) for row in rows] == [{"rpcretry", "by hand"}] * 2 + [{"rpcretry"}] * 2
    assert all(found["median"] > 0 for row in rows for found in row["found"].values())


def test_the_scenarios_over_loopback_work_without_the_peers(catalog: Any, tmp_path: Path) -> None:
    names = ["sequential", "hundred", "batch", "large", "typed"]
    done = bench("--quick", "--only", ",".join([*names, "recovery"]), "--alone", "--json", str(tmp_path / "found.json"), without=catalog.NEEDED)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert {(row["scenario"], row["kind"]) for row in found["rows"]} == {(name, kind) for name in names for kind in ("sync", "async")}
    assert {"not joined", "rpcretry"} <= set(next(row for row in found["rows"] if row["title"].endswith("joined"))["found"])
    for runs in found["recovery"].values():
        assert {run["completed"] + run["failed"] for run in runs.values()} == {20}
        # Who does not retry asks once for each call.
        assert runs["by hand"]["requests"] == 20 < runs["rpcretry"]["requests"]


def test_it_says_what_to_install_where_a_peer_is_missing(catalog: Any) -> None:
    done = bench("--quick", "--only", "null", without=("pjrpc", "tenacity"))
    assert done.returncode == 2
    assert re.search(r"pjrpc.*tenacity; write: python -m pip install -e '\.\[bench\]'\nor leave the peers out by --alone$", done.stderr.strip())
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "nul"], "--only takes letters from abcdefgh and names from null, .*, got 'nul'"),
        (["--only", "a", "--alone"], "--alone leaves the peers out, with whom 'a' compares"),
        (["--write", "docs", "--quick"], "--write takes a whole run"),
        (["--scale", "0"], "--scale must be above 0"),
    ],
)
def test_a_mistaken_option_measures_nothing(arguments: list[str], said: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert re.search(said, done.stderr)
    assert "measuring" not in done.stderr


def test_letters_and_names_may_be_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = part("bench", monkeypatch).chosen
    assert chosen("afh", False) == ("afh", [])
    assert chosen("a,null memory", False) == ("a", ["null", "memory"])
    letters, names = chosen(None, False)
    assert (letters, names[:2], names[-1]) == ("abcdefgh", ["null", "retried"], "profile")
