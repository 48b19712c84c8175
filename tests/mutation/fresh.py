"""A server that has imported everything but the package: for each mutant it forks a process that imports that changed.

It reads a line of JSON for each mutant from its input, and writes one to its output.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import select
import signal
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from _pytest.assertion import rewrite as pytest_assertion
from _pytest.assertion.rewrite import AssertionRewritingHook

PRELOADED = ("aiohttp", "aioresponses", "asyncio", "concurrent.futures", "hypothesis.stateful", "pydantic", "requests", "responses", "rich", "trustme", "typer")


def used(pid: int) -> float:
    """The seconds that a process has had on the processor."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bound_memory() -> None:
    """A mutant that collects without end ends by itself."""
    now = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 2**31, now + 2**31))


class _Changed(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> types.CodeType:
        return compile(self._source, self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, path: str, source: str) -> None:
        self.name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        self._path, self._source = str(Path(path).resolve()), source

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path, loader=_Changed(fullname, self._path, self._source))


class _Chosen:
    """Runs the chosen tests in their order, and says which one failed."""

    def __init__(self, tests: list[str]) -> None:
        self._order = {test: place for place, test in enumerate(tests)}
        self.failed = ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((item for item in items if item.nodeid in self._order), key=lambda item: self._order[item.nodeid])
        if len(items) < len(self._order):
            # A mutant that changes a test's parameters, which come from the package, is seen.
            self.failed = "a test that is named otherwise"

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid


QUIET = ("-s", "-p", "no:terminal", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "timeout=0", "-W", "ignore::pytest.PytestAssertRewriteWarning")
OPTIONS = (*QUIET, "-m", "not slow")
"""How both kinds of run ask for the tests: without output, and without the time limit, which would be a second one."""


class _Rewriting(AssertionRewritingHook):
    """pytest's own finder, which comes before all others, and leaves one module to ours."""

    changed = ""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        return None if name == self.changed else super().find_spec(name, path, target)


def _run(path: str, source: str, tests: list[str], into: int) -> None:
    finder = _Finder(path, source)
    sys.meta_path.insert(0, finder)
    _Rewriting.changed = finder.name
    # The package is a plugin of pytest, whose modules it would load itself.
    pytest_assertion.AssertionRewritingHook = _Rewriting  # type: ignore[misc]
    bound_memory()
    chosen = _Chosen(tests)
    code = -1
    try:
        code = pytest.main(["-x", *OPTIONS, *dict.fromkeys(test.split("::")[0] for test in tests)], plugins=[chosen])
    except BaseException as problem:
        chosen.failed = chosen.failed or f"the run itself: {type(problem).__name__}"
    killed = bool(code or chosen.failed)
    os.write(into, json.dumps({"status": "killed" if killed else "survived", "test": chosen.failed or "the import" * killed}).encode())


def main() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    settings = importlib.import_module("hypothesis").settings
    settings.register_profile("mutation", derandomize=True, database=None, deadline=None)
    settings.load_profile("mutation")
    for line in sys.stdin:
        job = json.loads(line)
        out, into = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.setsid()
            quiet = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(quiet, stream)
            _run(job["path"], job["source"], job["tests"], into)
            os._exit(0)
        os.close(into)
        ends, told = time.monotonic() + 10 * job["limit"], b""
        answer = {"status": "timeout", "test": ""}
        # Time on the processor, since the machine may be busy; and time that passes, for what waits without end.
        while time.monotonic() < ends and used(pid) < job["limit"]:
            ready, _, _ = select.select([out], [], [], 0.5)
            if ready:
                told = os.read(out, 65536)
                # Gone without a word: a test, or the import, broke the process.
                answer = json.loads(told) if told else {"status": "killed", "test": "the process itself"}
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(out)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
