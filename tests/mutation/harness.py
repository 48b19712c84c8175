"""Runs the tests on one mutant after another, in one process that has imported and collected everything once.

A mutant of a function's body costs a fork: the child gives the function its changed code object and runs the tests that
reach the changed lines, the likeliest to fail first, until one fails. What a module makes when it is imported cannot be
changed so; such a mutant gets a new interpreter (:mod:`fresh`), which imports the changed module from the start.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import difflib
import gc
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import types
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import coverage
import pytest
from fresh import bound_memory, used
from mutants import Mutant

__all__ = ["Harness", "Map", "Result"]

# A test that traces lines itself hides what it runs meanwhile: it may be anything in the modules that it uses.
ANYTHING = (1 << 2000) - 1

# What an entry of a session costs besides the test itself, in seconds.
OVERHEAD = 0.002

# Where the tests of a module are that do not bear its name.
KIN = {
    "_circuit": "breaker",
    "_surface": "breaker",
    "_verdicts": "breaker",
    "_window": "breaker",
    "_failures": "engine",
    "_subject": "engine",
    "policy": "engine",
    "_names": "layers",
}


@dataclass(frozen=True)
class Result:
    """What became of a mutant.

    :ivar status: ``killed``, ``timeout`` (killed by its own endless loop or wait), ``survived``, ``unreached`` (no test
        runs the changed line) or ``invalid`` (Python does not take it, or it compiles to the same), or ``unfit`` (to be run by :class:`Fresh`).
    :ivar test: the test that failed.
    :ivar tests: how many tests ran.
    """

    id: str
    status: str
    test: str = ""
    tests: int = 0


@dataclass
class Map:
    """Which test runs which lines, and how long it takes.

    :ivar lines: for each test, the lines of each module as the bits of an int.
    :ivar seconds: for each test, its duration.
    :ivar failing: the tests that fail without any mutant, and how.
    :ivar files: for each test file, the digest under which it was looked at.
    :ivar modules: the text of each module that the lines are of.
    """

    lines: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failing: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)

    def save(self, file: Path) -> None:
        lines = {test: {path: hex(bits) for path, bits in found.items()} for test, found in self.lines.items()}
        file.write_text(json.dumps({"lines": lines, "seconds": self.seconds, "failing": self.failing, "files": self.files, "modules": self.modules}))

    @classmethod
    def load(cls, file: Path) -> Map:
        if not file.exists():
            return cls()
        raw = json.loads(file.read_text())
        lines = {test: {path: int(bits, 16) for path, bits in found.items()} for test, found in raw["lines"].items()}
        return cls(lines, raw["seconds"], raw["failing"], raw["files"], raw.get("modules", {}))

    def follow(self, modules: dict[str, str]) -> None:
        """Bring the lines up to date with modules that were edited: a new line is reached by what reached the one before it."""
        for path, text in modules.items():
            before = self.modules.get(path, text)
            if before == text:
                continue
            origin, new = list[int](), text.splitlines()
            for _, first, end, start, stop in difflib.SequenceMatcher(None, before.splitlines(), new, autojunk=False).get_opcodes():
                origin += [first + min(place, max(end - first - 1, 0)) for place in range(stop - start)]
            for lines in self.lines.values():
                bits = lines.get(path, 0)
                if bits:
                    # Lines are counted from 1; where one was put in, the old one before it stands for it.
                    lines[path] = sum(1 << number for number, old in enumerate(origin, 1) if bits >> (old + 1) & 1 or bits >> old & 1)
        self.modules = dict(modules)

    def forget(self, file: str) -> None:
        for kept in (self.lines, self.seconds, self.failing):
            for test in [test for test in kept if test.split("::")[0] == file]:
                del kept[test]


class Harness:
    """A pytest plugin that takes the place of the run.

    :param modules: the paths of the modules that are mutated, with their text.
    :param digests: of the test files.
    :param known: what was found out before; brought up to date.
    :param work: called when all is collected, with this.
    """

    def __init__(
        self,
        modules: dict[str, str],
        digests: Callable[[str], str],
        known: Map,
        *,
        work: Callable[[Harness], None],
        log: Callable[[str], None],
        keep: Callable[[Map], None],
        jobs: int,
    ) -> None:
        self.modules = modules
        self.map = known
        self.killers: dict[str, Counter[str]] = defaultdict(Counter)
        self._digests = digests
        self._work = work
        self._log = log
        self._keep = keep
        self._jobs = jobs
        self._failed = ""
        self._items: dict[str, pytest.Item] = {}
        self._functions: dict[str, dict[tuple[str, int], list[types.FunctionType]]] = {}
        self._costs: dict[tuple[str, frozenset[int], frozenset[str], bool], dict[str, float]] = {}
        self._mentions: dict[frozenset[str], dict[str, int]] = {}

    # --- pytest's side ---

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("collection failed")
        self._items = {item.nodeid: item for item in session.items}
        self._find_functions()
        gc.collect()
        # What is never looked at again is not copied into each child.
        gc.freeze()
        self._look()
        self._work(self)
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self._failed:
            self._failed = report.longreprtext[-2000:] or "failed"

    def _run(self, item: pytest.Item, following: pytest.Item | None) -> str:
        self._failed = ""
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        return self._failed

    # --- which test runs what ---

    def _look(self) -> None:
        """Bring the map up to date: run what is new, without a mutant, and once more in another order."""
        self.map.follow(self.modules)
        by_file: dict[str, list[pytest.Item]] = defaultdict(list)
        for test, item in self._items.items():
            by_file[test.split("::")[0]].append(item)
        for gone in set(self.map.files) - set(by_file):
            self.map.forget(gone)
            del self.map.files[gone]
        new = [file for file in by_file if self.map.files.get(file) != self._digests(file)]
        self._log(f"mapping {sum(len(by_file[file]) for file in new)} tests of {len(new)} files")
        for file in new:
            self.map.forget(file)
        # A process for each file: a test that hangs, or breaks the process, costs itself and no other.
        waiting, running = [(file, by_file[file]) for file in new], list[_Errand]()
        while waiting or running:
            while waiting and len(running) < self._jobs:
                running.append(_Errand(*waiting.pop(0), self._watch))
            select.select([errand.pipe for errand in running], [], [], 1.0)
            for errand in [errand for errand in running if errand.is_over()]:
                running.remove(errand)
                found, hung = errand.end()
                if hung:
                    self.map.failing[hung] = "hangs, or breaks the process"
                    self._log(f"{hung} hangs, or breaks the process")
                    rest = [item for item in errand.items if item.nodeid != hung]
                    if rest:
                        waiting.append((errand.file, rest))
                    continue
                for test, (bits, seconds, failure) in found.items():
                    self.map.lines[test] = {path: int(text, 16) for path, text in bits.items()}
                    self.map.seconds[test] = seconds
                    if failure:
                        self.map.failing[test] = failure
                self.map.files[errand.file] = self._digests(errand.file)
                self._keep(self.map)
        if new:
            self._log(f"mapped; {len(self.map.failing)} tests fail without a mutant and are left out: {sorted(self.map.failing)}")

    def verify(self, tests: Iterable[str]) -> list[str]:
        """Those of *tests* that fail without a mutant where they run as they do with one: one after another, in a fork."""
        items = [self._items[test] for test in sorted(tests, key=lambda test: self.map.seconds.get(test, 0.0)) if test in self._items]
        failing = []
        while items:
            errand = _Errand("", items, self._check)
            while not errand.is_over():
                select.select([errand.pipe], [], [], 1.0)
            found, hung = errand.end()
            failing += [hung] if hung else found
            items = [item for item in items if item.nodeid != hung] if hung else []
        self.map.failing |= dict.fromkeys(failing, "fails now and then")
        self._keep(self.map)
        return failing

    def _check(self, items: list[pytest.Item], tell: Callable[[str], None]) -> dict[str, str]:
        failures = {}
        for place, item in enumerate(items):
            tell(item.nodeid)
            failure = self._run(item, items[place + 1] if place + 1 < len(items) else None)
            if failure:
                failures[item.nodeid] = failure
        return failures

    def _watch(self, items: list[pytest.Item], tell: Callable[[str], None]) -> dict[str, Any]:
        files = {str(Path(path).resolve()): path for path in self.modules}
        cov = coverage.Coverage(data_file=None, include=list(files), config_file=False)
        cov.start()
        traced = [False]
        settrace = sys.settrace

        def noted(function: Any) -> None:
            traced[0] = True
            settrace(function)

        sys.settrace = noted  # type: ignore[assignment]
        blind: set[str] = set()
        ends: dict[str, tuple[float, str]] = {}
        for place, item in enumerate(items):
            tell(item.nodeid)
            cov.switch_context(item.nodeid)
            began, traced[0] = time.process_time(), False
            failure = self._run(item, items[place + 1] if place + 1 < len(items) else None)
            ends[item.nodeid] = time.process_time() - began, failure
            if traced[0]:
                blind.add(item.nodeid)
        cov.stop()
        data = cov.get_data()
        lines: dict[str, dict[str, int]] = defaultdict(dict)
        with (
            data._connect() as con,
            con.execute(
                "select context.context, file.path, line_bits.numbits from line_bits join context on context.id = context_id join file on file.id = file_id"
            ) as rows,
        ):
            for test, path, bits in rows:
                if test in ends:
                    lines[test][files[path]] = ANYTHING if test in blind else int.from_bytes(bits, "little")
        return {test: ({path: hex(bits) for path, bits in lines[test].items()}, seconds, failure) for test, (seconds, failure) in ends.items()}

    def tests_for(self, mutant: Mutant, budget: float, *, anyhow: bool = False) -> list[str]:
        """The tests that run the changed lines, the likeliest to notice first, of *budget* seconds together.

        :param anyhow: where none does, those that run what names it, or else anything of its module.
        """
        here, anywhere = self.killers[f"{mutant.path}:{mutant.function}"], self.killers[mutant.path]
        key = mutant.path, mutant.lines, mutant.names, anyhow
        if key not in self._costs:
            self._costs[key] = self._costs_of(mutant, anyhow)
        costs = self._costs[key]
        ranked = sorted(costs, key=lambda test: costs[test] / (1 + 3 * here[test] + anywhere[test]) if test in anywhere else costs[test])
        chosen, left = [], budget
        for test in ranked:
            left -= self.map.seconds[test] + OVERHEAD
            if left < 0 and chosen:
                break
            chosen.append(test)
        return chosen

    def _costs_of(self, mutant: Mutant, anyhow: bool) -> dict[str, float]:
        """The tests that reach the changed lines, and how long each takes; longer the less likely it is to notice anything."""
        path, bits = mutant.path, sum(1 << line for line in mutant.lines)
        reached = [test for test, lines in self.map.lines.items() if lines.get(path, 0) & bits]
        if anyhow and all(self.map.lines[test][path] == ANYTHING for test in reached):
            wanted = self._mentioning(mutant)
            reached = [test for test, lines in self.map.lines.items() if any(lines.get(path, 0) & bits for path, bits in wanted.items())]
        stem = Path(mutant.path).stem
        own, folder = KIN.get(stem, stem), f"/{Path(mutant.path).parent.name}/"
        versions: Counter[str] = Counter()
        costs = {}
        for test in sorted(reached, key=self.map.seconds.__getitem__):
            if test in self.map.failing or test not in self._items:
                continue
            name = test.partition("[")[0]
            # Of the many versions of one test first one each.
            versions[name] += 1
            file = name.partition("::")[0]
            near = 0.3 if own in file else 0.6 if folder in file else 1.0
            costs[test] = (self.map.seconds[test] + OVERHEAD) * near * (1 + versions[name] / 4)
        return costs

    def _mentioning(self, mutant: Mutant) -> dict[str, int]:
        names = mutant.names or frozenset({mutant.function.rpartition(".")[2]})
        if names not in self._mentions:
            word = re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(names)))})\b")
            self._mentions[names] = {path: sum(1 << number for number in _lines_with(word, text)) for path, text in self.modules.items()}
        wanted = dict(self._mentions[names])
        wanted[mutant.path] |= sum(1 << line for line in mutant.lines)
        return wanted if self._reached(wanted) else {mutant.path: ANYTHING}

    def _reached(self, wanted: dict[str, int]) -> bool:
        return any(lines.get(path, 0) & bits for lines in self.map.lines.values() for path, bits in wanted.items())

    # --- mutants of functions ---

    def run_all(self, mutants: Iterable[Mutant], budget: float) -> Iterator[Result]:
        """What becomes of each of *mutants*, in the order in which it is known."""
        waiting, running = iter(mutants), dict[int, _Child]()
        more = True
        while more or running:
            while more and len(running) < self._jobs:
                mutant = next(waiting, None)
                if mutant is None:
                    more = False
                    break
                tests = self.tests_for(mutant, budget)
                if not tests:
                    # It may run when the module is imported; and so where only those come by of which that is not known.
                    yield Result(mutant.id, "unfit")
                    continue
                child = self._start(mutant, tests)
                running[child.pipe] = child
            if not running:
                continue
            ready, _, _ = select.select(list(running), [], [], 0.2)
            for pipe in ready:
                running[pipe].read(self.map)
            for pipe, child in list(running.items()):
                result = child.result()
                if result is not None:
                    del running[pipe]
                    if result.status == "survived" and all(self.map.lines[test][child.mutant.path] == ANYTHING for test in child.tests):
                        result = Result(child.mutant.id, "unfit")
                    self.credit(child.mutant, result)
                    yield result

    def credit(self, mutant: Mutant, result: Result) -> None:
        if result.test and result.status == "killed":
            self.killers[f"{mutant.path}:{mutant.function}"][result.test] += 1
            self.killers[mutant.path][result.test] += 1

    def _start(self, mutant: Mutant, tests: list[str]) -> _Child:
        out, into = os.pipe()
        pid = os.fork()
        if pid:
            os.close(into)
            return _Child(mutant, tests, pid, out)
        try:
            quieten()
            bound_memory()
            fit = self._mutate(mutant)
            if fit != "changed":
                os._exit(4 if fit == "same" else 5)
            items = [self._items[test] for test in tests]
            for place, item in enumerate(items):
                os.write(into, b"%d\n" % place)
                if self._run(item, items[place + 1] if place + 1 < len(items) else None):
                    os._exit(1)
            os._exit(0)
        except BaseException:
            # A test that breaks the run itself has noticed something.
            os._exit(1)

    def _mutate(self, mutant: Mutant) -> str:
        """Give the functions that exist their changed code: ``changed``, ``same``, or ``unfit`` where a function cannot take it."""
        path = str(Path(mutant.path).resolve())
        try:
            whole = compile(mutant.source, path, "exec")
        except SyntaxError:
            return "same"
        functions = self._functions[path]
        fit = "same"
        for key, code in _codes(whole):
            name = key[0]
            if name != mutant.function and not name.startswith(f"{mutant.function}.<locals>."):
                continue
            for function in functions.get(key, ()):
                if function.__code__ != code:
                    if code.co_freevars != function.__code__.co_freevars:
                        # It no longer says super(), or names no more what is outside of it.
                        return "unfit"
                    fit = "changed"
                    function.__code__ = code
        return fit

    def _find_functions(self) -> None:
        """The functions that exist, each under the name and number of its code in its module."""
        places: dict[str, dict[tuple[str, int], tuple[str, int]]] = {}
        for path, text in self.modules.items():
            whole = str(Path(path).resolve())
            places[whole] = {(code.co_qualname, code.co_firstlineno): key for key, code in _codes(compile(text, whole, "exec"))}
            self._functions[whole] = defaultdict(list)
        for thing in gc.get_objects():
            if type(thing) is types.FunctionType and thing.__code__.co_filename in places:
                code, path = thing.__code__, thing.__code__.co_filename
                self._functions[path][places[path][code.co_qualname, code.co_firstlineno]].append(thing)


def _lines_with(word: re.Pattern[str], text: str) -> set[int]:
    """The lines in which *word* stands, and the whole of a function in whose head it does: a default matters where the function runs."""
    found = {number for number, line in enumerate(text.splitlines(), 1) if word.search(line)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and found.intersection(range(node.lineno, node.body[0].lineno)):
            found.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return found


def _codes(code: types.CodeType) -> Iterator[tuple[tuple[str, int], types.CodeType]]:
    """Each code object in *code*, under its name and its number among those of that name."""
    numbers: Counter[str] = Counter()

    def visit(outer: types.CodeType) -> Iterator[tuple[tuple[str, int], types.CodeType]]:
        for inner in outer.co_consts:
            if isinstance(inner, types.CodeType):
                numbers[inner.co_qualname] += 1
                yield (inner.co_qualname, numbers[inner.co_qualname]), inner
                yield from visit(inner)

    return visit(code)


class _Child:
    """A process that runs tests on one mutant, and tells the number of each before it."""

    def __init__(self, mutant: Mutant, tests: list[str], pid: int, pipe: int) -> None:
        self.mutant = mutant
        self.tests = tests
        self.pipe = pipe
        self._pid = pid
        self._at = 0
        self._over = False
        self._begin(2.0)

    def _begin(self, seconds: float) -> None:
        # Time on the processor, since the machine may be busy; and time that passes, for what waits without end.
        self._most, self._ends = used(self._pid) + 1.0 + 5.0 * seconds, time.monotonic() + 15.0 + 20.0 * seconds

    def read(self, known: Map) -> None:
        told = os.read(self.pipe, 65536)
        if not told:
            self._over = True
        else:
            self._at = int(told.split()[-1])
            self._begin(known.seconds[self.tests[self._at]])

    def result(self) -> Result | None:
        late = not self._over and (time.monotonic() > self._ends or used(self._pid) > self._most)
        if not self._over and not late:
            return None
        if self._over:
            # It closed its end by ending; a moment, so that its own exit code is the one that counts.
            os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
        code = bury(self._pid)
        os.close(self.pipe)
        test = self.tests[self._at]
        if late:
            return Result(self.mutant.id, "timeout", test, self._at + 1)
        if code in (4, 5):
            return Result(self.mutant.id, "invalid" if code == 4 else "unfit")
        return Result(self.mutant.id, "killed" if code else "survived", test if code else "", self._at + 1)


class _Errand:
    """What *work* makes of *items* in a fork: the parent stays as it is."""

    def __init__(self, file: str, items: list[pytest.Item], work: Callable[[list[pytest.Item], Callable[[str], None]], dict[str, Any]]) -> None:
        self.file, self.items = file, items
        self.pipe, into = os.pipe()
        self._text, self._ends = b"", time.monotonic() + 120
        self._pid = os.fork()
        if self._pid == 0:
            try:
                quieten()
                with os.fdopen(into, "w") as out:
                    found = work(items, lambda test: print(json.dumps(test), file=out, flush=True))
                    print(json.dumps(found), file=out)
                os._exit(0)
            finally:
                os._exit(1)
        os.close(into)

    def is_over(self) -> bool:
        while select.select([self.pipe], [], [], 0)[0]:
            told = os.read(self.pipe, 1 << 20)
            self._text, self._ends = self._text + told, time.monotonic() + 120
            if not told:
                return True
        return time.monotonic() > self._ends

    def end(self) -> tuple[dict[str, Any], str]:
        """What came of it, and the test that hung or broke the process, if one did."""
        bury(self._pid)
        os.close(self.pipe)
        told = [json.loads(line) for line in self._text.decode().splitlines()]
        last = told[-1] if told else self.items[0].nodeid
        return ({}, last) if isinstance(last, str) else (last, "")


def quieten() -> None:
    """For a child: a group of its own, and nothing to read or to write to."""
    os.setsid()
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)


def bury(pid: int) -> int:
    """End a child and all that it left behind. Returns its exit code."""
    done, status = os.waitpid(pid, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if not done:
        _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


class Fresh:
    """New interpreters for mutants that show at import: a server that has imported all but the package, and forks.

    :param test: one that uses the module which is checked.
    """

    def __init__(self, test: str) -> None:
        self._test = test
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fresh.py"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def run(self, mutant: Mutant, tests: list[str], seconds: float) -> Result:
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes")
        process.stdin.write(json.dumps({"path": mutant.path, "source": mutant.source, "tests": tests, "limit": 15 + 5 * seconds}) + "\n")
        answer = json.loads(process.stdout.readline())
        return Result(mutant.id, answer["status"], answer["test"], len(tests))

    def check(self, mutant: Mutant) -> None:
        """That it changes what it says: nothing for a module as it is, everything for one that cannot be imported."""
        test = self._test
        for source, status in ((Path(mutant.path).read_text(), "survived"), ("raise RuntimeError\n", "killed")):
            found = self.run(dataclasses.replace(mutant, source=source), [test], 60.0)
            if found.status != status:
                raise RuntimeError(f"{mutant.path} with {source[:30]!r}: {found}")

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            # A pipe that the collector closes in some test of a later fork would fail that one.
            self._process.stdout.close()
        # Left open it is found by the collector in the middle of some test, which fails with a ResourceWarning.
        if self._process.stdout is not None:
            self._process.stdout.close()
