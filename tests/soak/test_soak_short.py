"""The soak run, small enough for every change; and that each of its checks notices what it is for."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from soak_control import ServerProcess
from soak_faults import ALL
from soak_measures import Watchdog
from soak_oracle import CHECKS, CUT, DENIED, LATE, LOST, MAYBE, NOT_SENT, RIGHT, TWICE, UNDONE, WRONG, Moment, Oracle, moment, same
from soak_plan import JOINED_KINDS, KINDS, MAKERS, Operation, Plan, Single
from soak_report import report
from soak_run import PHASES, WIDTHS, Settings, run
from soak_sabotage import SABOTAGES

SOAK = Path(__file__).with_name("soak.py")
# With an outage that is long enough for the breaker to open.
SHORT = (("noisy", 0.1), ("calm", 0.1), ("noisy", 0.35), ("outage", 0.2), ("restart", 0.1), ("recovery", 0.1), ("calm", 0.05))
CALM = (("calm", 0.3), ("calm", 0.7))


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    # What was there before is not looked through again and again.
    gc.collect()
    gc.freeze()
    try:
        with ServerProcess() as process:
            yield process
    finally:
        gc.unfreeze()


@pytest.mark.slow
@pytest.mark.parametrize("backend", WIDTHS)
def test_nothing_goes_wrong(server: ServerProcess, backend: str) -> None:
    finding = run(Settings(backend, 1_200, seed=7, seconds=60, width=16, phases=SHORT), server)
    assert dict(finding.oracle.found) == {}, report([finding])
    assert finding.is_clean, report([finding])
    # It was no idle run: all phases had their effect.
    assert sum(finding.server["met"].values()) > 30
    assert finding.metrics.retries > 30
    assert {"CircuitOpenError", "ConnectionLostError"} <= set(finding.oracle.errors)
    assert finding.oracle.status.count(RIGHT) > 300
    assert (finding.oracle.cuts > 0) is (backend == "aiohttp")


# Each over the one backend or the other, and what may differ between them over both.
BOTH = {"wrong-answer", "double", "leak-object"}
RUNS = [
    (sabotage, backend)
    for number, sabotage in enumerate(SABOTAGES)
    for place, backend in enumerate(WIDTHS)
    if sabotage in BOTH or (backend == "aiohttp" if sabotage == "leak-task" else number % 2 == place)
]


@pytest.mark.slow
@pytest.mark.parametrize(("sabotage", "backend"), RUNS)
def test_what_is_wrong_is_noticed(server: ServerProcess, sabotage: str, backend: str) -> None:
    finding = run(Settings(backend, 140, seed=3, seconds=30, width=4, sabotage=sabotage, phases=CALM), server)
    check = SABOTAGES[sabotage]
    assert finding.oracle.found[check] > 0, report([finding])
    assert not finding.is_clean
    assert f"1. {next(offence.check for offence in finding.oracle.offences)}, seed 3, request" in report([finding])


def test_each_check_is_tried() -> None:
    # An operation without an end cannot be had from outside; see below.
    assert set(SABOTAGES.values()) | {LOST} == set(CHECKS)
    assert {sabotage for sabotage, _ in RUNS} == set(SABOTAGES)


def test_the_page_has_all_checks_and_options() -> None:
    page = (SOAK.parents[2] / "docs" / "soak.rst").read_text()
    cells = re.findall(r"^   \* - (.+)$", page, re.MULTILINE)
    assert [cell for cell in cells if not cell.startswith("``")] == ["Option", "Check", *CHECKS]
    options = re.findall(r'add_argument\("(--\w+)"', SOAK.read_text())
    assert [cell.strip("`") for cell in cells if cell.startswith("``")] == options


@pytest.mark.slow
def test_the_program_says_so_by_its_exit_code_and_in_its_report(tmp_path: Path) -> None:
    written = tmp_path / "made" / "report.txt"
    command = [sys.executable, str(SOAK), "--calls=60", "--seed=5", "--width=2", "--backend=requests", "--sabotage=undocumented", f"--report={written}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    text = written.read_text()
    assert text.strip() == done.stdout.strip()
    assert "FAILED" in text
    assert "requests 1. undocumented exceptions, seed 5, request" in text
    assert "KeyError: 'id'" in text


@pytest.mark.slow
def test_too_little_time_is_no_success(server: ServerProcess) -> None:
    finding = run(Settings("requests", 5_000, seed=1, seconds=0.3, width=2, phases=CALM), server)
    assert 0 < finding.done < 5_000
    assert not finding.is_clean
    assert "INCOMPLETE" in report([finding])


# --- the oracle ---


def operation_of(*singles: Single, cut: tuple[float, str] | None = None) -> Operation:
    return Operation(0, "call", list(singles), 1.0, cut, {"places": [0.5] * 3})


CHARGE = Single(0, "charge", [0], {"charged": 0})


def test_a_request_without_an_end_is_lost() -> None:
    oracle = Oracle(2)
    oracle.begins(operation_of(CHARGE, CHARGE._replace(token=1)))
    oracle.answered(operation_of(CHARGE), CHARGE, {"charged": 0})
    oracle.ends(operation_of(CHARGE, CHARGE._replace(token=1)))
    assert [(offence.check, offence.token) for offence in oracle.offences] == [(LOST, 1)]
    oracle.reconcile({"charge": {"0": 1}}, [], 2)
    assert dict(oracle.found) == {LOST: 1}


def test_one_that_we_cut_off_is_not() -> None:
    oracle = Oracle(1)
    operation = operation_of(CHARGE, cut=(0.0, "cancel"))
    oracle.begins(operation)
    oracle.ends(operation, was_cut=True)
    assert oracle.status[0] == CUT
    assert dict(oracle.found) == {}


@pytest.mark.parametrize(
    ("end", "times", "checks"),
    [
        (RIGHT, 1, []),
        (RIGHT, 0, [UNDONE]),
        (RIGHT, 2, [TWICE]),
        (NOT_SENT, 0, []),
        (NOT_SENT, 1, [DENIED]),
        (MAYBE, 0, []),
        (MAYBE, 1, []),
        (MAYBE, 2, [TWICE]),
        (CUT, 2, [TWICE]),
    ],
)
def test_what_the_client_says_is_compared_with_what_was_executed(end: int, times: int, checks: list[str]) -> None:
    oracle = Oracle(1)
    oracle.begins(operation_of(CHARGE))
    oracle.status[0] = end
    oracle.reconcile({"charge": {"0": times}} if times else {}, [], 1)
    assert sorted(oracle.found) == sorted(checks)


def test_a_call_that_takes_too_long_is_late_unless_no_core_was_free() -> None:
    oracle, now = Oracle(1), moment()
    oracle.took(operation_of(CHARGE), now._replace(time=now.time - 1.5))
    oracle.took(operation_of(CHARGE), Moment(now.time - 2.5, now.waited - 1.0))
    assert (dict(oracle.found), oracle.starved) == ({}, 1)
    oracle.took(operation_of(CHARGE), now._replace(time=now.time - 2.5))
    assert dict(oracle.found) == {LATE: 1}


@pytest.mark.slow
def test_an_operation_that_takes_too_long_is_late_once() -> None:
    oracle = Oracle(1)
    operation = operation_of(CHARGE)
    oracle.begins(operation, -6.0)
    with Watchdog(oracle):
        time.sleep(0.25)
    oracle.answered(operation, CHARGE, {"charged": 0})
    oracle.ends(operation)
    assert dict(oracle.found) == {LATE: 1}
    assert "test_soak_short" in oracle.offences[0].what, "the stack says where it hangs"


@pytest.mark.parametrize(
    ("one", "other"), [(1, 1.0), (1, True), ([1], [True]), ("1", 1), (None, False), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ([1, 2], [2, 1])]
)
def test_what_is_equal_in_python_is_not_therefore_the_same(one: object, other: object) -> None:
    assert same(one, one)
    assert not same(one, other)
    oracle = Oracle(1)
    oracle.answered(operation_of(CHARGE), CHARGE._replace(expected=one), other)
    assert dict(oracle.found) == {WRONG: 1}


# --- the plan ---


def test_the_seed_decides_what_is_called() -> None:
    def plan(seed: int) -> list[Operation]:
        return list(Plan(seed, 3_000, is_async=True).until(3_000))

    assert plan(1) == plan(1)
    assert plan(1) != plan(2)
    # Whoever asks, and in whatever pieces.
    shared = Plan(1, 3_000, is_async=True)
    assert [operation for limit in (100, 1_000, 3_000) for operation in shared.until(limit)] == plan(1)


def test_every_request_has_a_token_of_its_own_and_every_kind_comes() -> None:
    operations = list(Plan(1, 20_000, is_async=True).until(20_000))
    assert [single.token for operation in operations for single in operation.calls] == list(range(20_000))
    assert {operation.kind for operation in operations} == {*KINDS, *JOINED_KINDS}
    assert {single.method for operation in operations for single in operation.calls} == set(MAKERS)
    assert {operation.cut[1] for operation in operations if operation.cut is not None} == {"cancel", "timeout"}


def test_the_phases_are_all_of_it() -> None:
    assert sum(part for _, part in PHASES) == pytest.approx(1)


def test_no_fault_is_a_lie_that_no_client_could_see_through() -> None:
    for group in ALL:
        toxics = group if isinstance(group, tuple) else (group,)
        for toxic in toxics:
            # What is taken for a rejection must be one.
            if type(toxic).__name__ in ("OneError",) or getattr(toxic, "code", None) == -32005 or getattr(toxic, "status", None) == 429:
                assert not toxic.executes, toxic
        if any(type(toxic).__name__ == "RetryAfter" for toxic in toxics) and len(toxics) > 1:
            assert not all(toxic.executes for toxic in toxics), group
