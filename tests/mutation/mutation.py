"""Changes retry/, layers/ and the codec one place at a time, and counts the changes that no test notices.

``tox -e mutation``, or ``python tests/mutation/mutation.py --only layers/budget.py``. It works on a copy of the tree, can be
interrupted, and goes on where it was. It exits with 1 where the score is below 90 %, or a surviving mutant is not
explained in ``survivors.toml``.

Why not ``mutmut run``: it runs the suite twice in one process, which tests whose parameters are iterators do not survive; it
starts pytest anew for each mutant, with up to thousands of tests by name, which took seconds where the test takes
milliseconds; and it leaves out properties, constants and class bodies. So the operators are mutmut's and the running is ours.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from queue import Empty, SimpleQueue

import fresh
import hypothesis
import pytest
from harness import Harness
from known import Map, Result
from mutants import IMPORTED, Mutant, mutants_of
from processes import Fresh

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# The codec is three files. They come first, since they are the quickest.
TARGETS = ("rpcretry/_json.py", "rpcretry/_encoding.py", "rpcretry/codec.py", "rpcretry/layers/*.py", "rpcretry/retry/*.py")

# Those that run in this process, without a subprocess and without a network beyond the loopback, and that reach the targets.
TESTS = (
    "tests/acceptance",
    "tests/batch",
    "tests/client",
    "tests/functions",
    "tests/integrations",
    "tests/layers",
    "tests/retry",
    "tests/test_codec.py",
    "tests/test_codec_edges.py",
    "tests/test_corpus.py",
    "tests/test_errors.py",
    "tests/test_messages.py",
    "tests/testing/test_max_attempts.py",
    "tests/testing/test_rpc_mock.py",
)

# Each of these makes thousands of calls in one test, and takes seconds where the others take milliseconds.
LEFT_OUT = (
    "--ignore=tests/acceptance/test_deadline_property.py",
    "--ignore=tests/batch/test_hostile_property.py",
    "--deselect=tests/retry/test_backoff.py::test_any_backoff_up_to_a_million",
    "--deselect=tests/retry/test_backoff.py::test_trap_overflow_at_large_n",
)

# From how many files the tests of a mutant are taken that needs a new interpreter.
FILES = 12

LEAST = 90.0

KILLED = ("killed", "timeout")
NOTICED_NOT = ("survived", "unreached")


class Run:
    """One run of the program.

    :param options: as the command line gave them.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.state = Path(options.state)
        self.tree = self.state / "tree"
        self.began = time.monotonic()
        self.results: dict[str, Result] = {}
        self.mutants: list[Mutant] = []
        self.code = 0

    def log(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:7.1f} s] {text}", flush=True)

    # --- what is kept between runs ---

    def copy(self) -> None:
        """A tree of our own: nobody edits it meanwhile, and nothing is left in the repository."""
        self.state.mkdir(parents=True, exist_ok=True)
        if self.options.fresh:
            shutil.rmtree(self.tree, ignore_errors=True)
            for file in self.state.glob("*.json*"):
                file.unlink()
        for folder in (Path("rpcretry"), Path("tests")):
            shutil.rmtree(self.tree / folder, ignore_errors=True)
            shutil.copytree(ROOT / folder, self.tree / folder, ignore=shutil.ignore_patterns("__pycache__", "mutation"))
        for name in ("pyproject.toml", "README.rst", "LICENSE"):
            shutil.copy2(ROOT / name, self.tree / name)

    def load(self) -> None:
        file = self.state / "results.jsonl"
        if file.exists():
            for line in file.read_text().splitlines():
                result = Result(**json.loads(line))
                self.results[result.id] = result

    def keep(self, result: Result) -> None:
        self.results[result.id] = result
        with (self.state / "results.jsonl").open("a") as file:
            file.write(json.dumps(result.__dict__) + "\n")

    # --- the work ---

    def chosen(self) -> dict[str, str]:
        found = [path for pattern in TARGETS for path in sorted(self.tree.glob(pattern))]
        return {str(path.relative_to(self.tree)): path.read_text() for path in found}

    def main(self) -> int:
        self.copy()
        self.load()
        modules = self.chosen()
        only = self.options.only
        self.mutants = [mutant for path, text in modules.items() if not only or any(part in path for part in only) for mutant in mutants_of(path, text)]
        self.log(f"{len(self.mutants)} mutants of {len({mutant.path for mutant in self.mutants})} modules")
        os.chdir(self.tree)
        sys.path.insert(0, str(self.tree))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(self.tree), os.environ.get("PYTHONPATH"))))
        hypothesis.settings.register_profile("mutation", derandomize=True, database=None, deadline=None)
        hypothesis.settings.load_profile("mutation")
        if self.options.list:
            return self.report()
        map_file = self.state / "map.json"
        harness = Harness(modules, _digest, Map.load(map_file), work=self.work, log=self.log, keep=lambda known: known.save(map_file), jobs=self.options.jobs)
        code = pytest.main([*fresh.OPTIONS, *TESTS, *LEFT_OUT], plugins=[harness])
        if code not in (0, 5):
            self.log(f"the tests could not be collected: {code}")
            return 2
        return self.report()

    def wanted(self, wording: bool) -> list[Mutant]:
        again = self.options.again
        return [
            mutant
            for mutant in self.mutants
            if mutant.wording is wording
            and ((known := self.results.get(mutant.id)) is None or known.status == "unfit" or (again and known.status in NOTICED_NOT))
        ]

    def work(self, harness: Harness) -> None:
        by_id = {mutant.id: mutant for mutant in self.mutants}
        for result in self.results.values():
            if result.id in by_id:
                harness.credit(by_id[result.id], result)
        for wording in (False, True):
            if wording and self.options.no_wording:
                continue
            self._run(harness, self.wanted(wording), "of the wording of messages" if wording else "of behaviour")
            self.confirm(harness, wording)
            failing = set(harness.verify({result.test for result in self.results.values() if result.status == "killed"}))
            if failing:
                self.log(f"these fail without a mutant, too, and prove nothing: {sorted(failing)}")
                again = [mutant for mutant in self.mutants if (known := self.results.get(mutant.id)) is not None and known.test in failing]
                self._run(harness, again, "once more without those")

    def confirm(self, harness: Harness, wording: bool) -> None:
        """Run what failed once more, alone: a test that fails now and then kills nothing."""
        banned: dict[str, set[str]] = defaultdict(set)
        for _ in range(3):
            todo = [
                mutant
                for mutant in self.mutants
                if mutant.wording is wording and mutant.function != IMPORTED and self._status(mutant) == "killed" and not self.results[mutant.id].twice
            ]
            todo = [mutant for mutant in todo if self.results[mutant.id].test in harness.map.seconds]
            if not todo:
                break
            self.log(f"{len(todo)} once more with the test that failed")
            missed = set()
            for result in harness.run_all(todo, self.options.budget, lambda mutant: [self.results[mutant.id].test]):
                if result.status in KILLED:
                    self.keep(dataclasses.replace(self.results[result.id], twice=True))
                else:
                    missed.add(result.id)
                    banned[result.id].add(self.results[result.id].test)
            self.log(f"{len(missed)} of them pass alone and are run without it: {sorted({test for id in missed for test in banned[id]})[:20]}")
            again = [mutant for mutant in todo if mutant.id in missed]
            for result in harness.run_all(
                again, self.options.budget, lambda mutant: [test for test in harness.tests_for(mutant, self.options.budget) if test not in banned[mutant.id]]
            ):
                self.keep(result)

    def _run(self, harness: Harness, todo: list[Mutant], what: str) -> None:
        by_id = {mutant.id: mutant for mutant in todo}
        quick = [mutant for mutant in todo if mutant.function != IMPORTED and self._status(mutant) != "unfit"]
        self.log(f"{len(todo)} {what} to run")
        done, left = Counter[str](), Counter(mutant.path for mutant in quick)
        for result in harness.run_all(quick, self.options.budget):
            self.keep(result)
            done[result.status] += 1
            path = by_id[result.id].path
            left[path] -= 1
            if not left[path]:
                self.log(f"{path} done; so far {dict(done)}")
                self.write_survivors()
        slow = [mutant for mutant in todo if mutant.function == IMPORTED or self._status(mutant) == "unfit"]
        self._in_new_interpreters(harness, slow)
        self.write_survivors()

    def _status(self, mutant: Mutant) -> str:
        known = self.results.get(mutant.id)
        return known.status if known is not None else ""

    def _in_new_interpreters(self, harness: Harness, mutants: list[Mutant]) -> None:
        if not mutants:
            return
        self.log(f"{len(mutants)} in new interpreters")
        jobs: SimpleQueue[tuple[Mutant, list[str], float]] = SimpleQueue()
        results: SimpleQueue[Result | Exception] = SimpleQueue()
        for mutant in mutants:
            tests = harness.tests_for(mutant, self.options.budget, anyhow=True)
            # Each file costs its collection.
            files = list(dict.fromkeys(test.split("::")[0] for test in tests))[:FILES]
            tests = [test for test in tests if test.split("::")[0] in files]
            if tests:
                jobs.put((mutant, tests, sum(harness.map.seconds[test] for test in tests)))
            else:
                results.put(Result(mutant.id, "unreached"))

        probe = mutants[0]
        reaching = [test for test, lines in harness.map.lines.items() if probe.path in lines and test not in harness.map.failing]
        cheapest = min(reaching, key=harness.map.seconds.__getitem__)

        def serve() -> None:
            server = Fresh(cheapest)
            try:
                server.check(probe)
                while True:
                    results.put(server.run(*jobs.get_nowait()))
            except Empty:
                pass
            except Exception as problem:
                results.put(problem)
            finally:
                server.close()

        threads = [threading.Thread(target=serve) for _ in range(self.options.jobs)]
        for thread in threads:
            thread.start()
        for _ in mutants:
            result = results.get()
            if isinstance(result, Exception):
                raise result
            self.keep(result)
        for thread in threads:
            thread.join()

    # --- what is said of it ---

    def survivors(self) -> list[Mutant]:
        return [mutant for mutant in self.mutants if self._status(mutant) in NOTICED_NOT]

    def write_survivors(self) -> None:
        folder = self.state / "survivors"
        folder.mkdir(exist_ok=True)
        by_path: dict[str, list[Mutant]] = defaultdict(list)
        for mutant in self.survivors():
            by_path[mutant.path].append(mutant)
        for path in {mutant.path for mutant in self.mutants}:
            name = path.removeprefix("rpcretry/").replace("/", ".")
            (folder / f"{name}.txt").write_text("\n".join(self.shown(mutant) for mutant in by_path[path]))

    def shown(self, mutant: Mutant) -> str:
        known = self.results[mutant.id]
        what = "no test reaches it" if known.status == "unreached" else f"{known.tests} tests pass"
        return "\n".join((f"{mutant.path}:{min(mutant.lines)} {mutant.function} [{mutant.id}]{' (wording)' * mutant.wording}: {what}", *mutant.diff, ""))

    def report(self) -> int:
        self.write_survivors()
        reasons = explained()
        lines, code = self.table(), 0
        survivors = self.survivors()
        open_ones = [mutant for mutant in survivors if key_of(mutant) not in reasons]
        lines += ["", f"{len(survivors)} survivors, {len(survivors) - len(open_ones)} explained", ""]
        for mutant in survivors:
            lines += [self.shown(mutant).rstrip(), f"    because: {reasons.get(key_of(mutant), 'NOT EXPLAINED')}", ""]
        missing = sum(mutant.id not in self.results for mutant in self.mutants)
        if missing:
            lines.append(f"{missing} mutants have not been run")
        text = "\n".join(lines) + "\n"
        print(text)
        if self.options.report:
            self.options.report.write_text(text)
        if not self.options.only:
            behind = [key for key in reasons if key not in {key_of(mutant) for mutant in self.mutants}]
            for key in behind:
                print(f"survivors.toml explains what is no mutant: {key}")
            code = bool(open_ones or behind or missing)
        return 1 if code or self.score([mutant for mutant in self.mutants if not mutant.wording]) < LEAST else 0

    def counts(self, mutants: Iterable[Mutant]) -> Counter[str]:
        return Counter(self._status(mutant) for mutant in mutants)

    def score(self, mutants: Iterable[Mutant]) -> float:
        counts = self.counts(mutants)
        killed = sum(counts[status] for status in KILLED)
        total = killed + sum(counts[status] for status in NOTICED_NOT)
        return 100.0 * killed / total if total else 100.0

    def table(self) -> list[str]:
        by_path: dict[str, list[Mutant]] = defaultdict(list)
        for mutant in self.mutants:
            by_path[mutant.path.removeprefix("rpcretry/")].append(mutant)
        by_path["total"] = self.mutants
        lines = [f"{'module':24} {'mutants':>8} {'killed':>7} {'in time':>8} {'survive':>8} {'score':>8} {'wording':>8} {'killed':>7} {'with it':>8}"]
        for path, mutants in by_path.items():
            plain = [mutant for mutant in mutants if not mutant.wording]
            words = [mutant for mutant in mutants if mutant.wording]
            one, other = self.counts(plain), self.counts(words)
            ran, said = [sum(counts[status] for status in (*KILLED, *NOTICED_NOT)) for counts in (one, other)]
            survived, killed = sum(one[status] for status in NOTICED_NOT), other["killed"] + other["timeout"]
            lines.append(
                f"{path:24} {ran:8} {one['killed']:7} {one['timeout']:8} {survived:8} {self.score(plain):7.1f}% {said:8} {killed:7} {self.score(mutants):7.1f}%"
            )
        return lines


def key_of(mutant: Mutant) -> tuple[str, str, str]:
    return mutant.path.removeprefix("rpcretry/"), mutant.function, "\n".join(line[0] + line[1:].strip() for line in mutant.diff)


def explained() -> dict[tuple[str, str, str], str]:
    """The reasons for which a mutant may survive: by module, function and change."""
    file = HERE / "survivors.toml"
    if not file.exists():
        return {}
    found = tomllib.loads(file.read_text())
    return {(entry["module"], entry["function"], entry["change"].strip()): entry["reason"] for entry in found.get("survivor", ())}


def _digest(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="PART", help="only modules whose path has this part; may be given more than once")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many mutants run at once")
    parser.add_argument("--budget", type=float, default=30.0, metavar="S", help="the seconds of tests that a mutant gets at most")
    parser.add_argument("--again", action="store_true", help="run the survivors of earlier runs once more, after new tests were written")
    parser.add_argument("--fresh", action="store_true", help="forget earlier runs")
    parser.add_argument("--list", action="store_true", help="report on earlier runs, and run nothing")
    parser.add_argument("--no-wording", action="store_true", help="leave out mutants of the words of messages")
    parser.add_argument("--report", type=lambda path: Path(path).resolve(), metavar="FILE", help="write the report into this file, too")
    parser.add_argument("--state", metavar="DIR", default=str(Path(tempfile.gettempdir()) / "rpcretry-mutation"), help="what is kept between runs")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(Run(arguments()).main())
