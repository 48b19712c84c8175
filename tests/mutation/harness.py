"""Runs the tests on one mutant after another, in one process that has imported and collected everything once.

A mutant of a function's body costs a fork: the child gives the function its changed code object and runs the tests that
reach the changed lines, the likeliest to fail first, until one fails. What a module makes when it is imported cannot be
changed so; such a mutant gets a new interpreter (:mod:`fresh`), which imports the changed module from the start.
"""

from __future__ import annotations

import ast
import gc
import os
import re
import select
import sys
import time
import types
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import coverage
import pytest
from fresh import bound_memory
from known import ANYTHING, Map, Result
from mutants import Mutant
from processes import Child, Errand, quieten

__all__ = ["Harness"]

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
    "_json": "codec",
    "_names": "layers",
}


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
        self._mentions: dict[tuple[str, frozenset[str]], dict[str, int]] = {}

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
        waiting, running = [(file, by_file[file]) for file in new], list[Errand]()
        while waiting or running:
            while waiting and len(running) < self._jobs:
                running.append(Errand(*waiting.pop(0), self._watch))
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
        failing = list[str]()
        while items:
            errand = Errand("", items, self._check)
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

        sys.settrace = noted
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
        with warnings.catch_warnings():
            # A file of tests that reaches none of the modules is no mistake.
            warnings.simplefilter("ignore", coverage.exceptions.CoverageWarning)
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
        chosen, left = list[str](), budget
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
        # What a dataclass makes of itself stands in no line; a test that names it is near all the same.
        naming = {test for test, item in self._items.items() if anyhow and mutant.names.intersection(_names_in(item))}
        reached = list({*reached, *naming} & self.map.seconds.keys())
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
            near = (0.02 if anyhow else 0.3) if own in file else 0.6 if folder in file else 1.0
            near *= 0.1 if test in naming else 1.0
            costs[test] = (self.map.seconds[test] + OVERHEAD) * near * (1 + versions[name] / 4)
        return costs

    def _mentioning(self, mutant: Mutant) -> dict[str, int]:
        names = mutant.names or frozenset({mutant.function.rpartition(".")[2]})
        if (mutant.path, names) not in self._mentions:
            word = re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(names)))})\b")
            self._mentions[mutant.path, names] = {path: sum(1 << number for number in _lines_with(word, text)) for path, text in self.modules.items()}
            if any(name.startswith("_") for name in names):
                # Each module has its own of that name.
                self._mentions[mutant.path, names] = {mutant.path: self._mentions[mutant.path, names][mutant.path]}
        wanted = dict(self._mentions[mutant.path, names])
        wanted[mutant.path] |= sum(1 << line for line in mutant.lines)
        return wanted if self._reached(wanted) else {mutant.path: ANYTHING}

    def _reached(self, wanted: dict[str, int]) -> bool:
        return any(lines.get(path, 0) & bits for lines in self.map.lines.values() for path, bits in wanted.items())

    # --- mutants of functions ---

    def run_all(self, mutants: Iterable[Mutant], budget: float, tests_of: Callable[[Mutant], list[str]] | None = None) -> Iterator[Result]:
        """What becomes of each of *mutants*, in the order in which it is known.

        :param tests_of: the tests for each, where not the usual ones.
        """
        waiting, running = iter(mutants), dict[int, Child]()
        more = True
        while more or running:
            while more and len(running) < self._jobs:
                mutant = next(waiting, None)
                if mutant is None:
                    more = False
                    break
                tests = self.tests_for(mutant, budget) if tests_of is None else tests_of(mutant)
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

    def _start(self, mutant: Mutant, tests: list[str]) -> Child:
        out, into = os.pipe()
        pid = os.fork()
        if pid:
            os.close(into)
            return Child(mutant, tests, pid, out)
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


def _names_in(item: pytest.Item) -> tuple[str, ...]:
    function = getattr(item, "function", None)
    return function.__code__.co_names if isinstance(function, types.FunctionType) else ()


def _lines_with(word: re.Pattern[str], text: str) -> set[int]:
    """The lines in which *word* stands, and the whole of a function or class in whose head it does: it matters where that is used."""
    found = {number for number, line in enumerate(text.splitlines(), 1) if word.search(line)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            first = min((decorator.lineno for decorator in node.decorator_list), default=node.lineno)
            if found.intersection(range(first, node.body[0].lineno)):
                found.update(range(first, (node.end_lineno or first) + 1))
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
