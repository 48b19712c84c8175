"""The processes in which tests run: forks of the one that has collected them, and new interpreters."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fresh import used
from known import Map, Result
from mutants import Mutant

__all__ = ["Child", "Errand", "Fresh", "quieten"]


class Child:
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


class Errand:
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
