"""What is known from runs: which test reaches which line, and what became of each mutant."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ANYTHING", "Map", "Result"]


# A test that traces lines itself hides what it runs meanwhile: it may be anything in the modules that it uses.
ANYTHING = (1 << 2000) - 1


@dataclass(frozen=True)
class Result:
    """What became of a mutant.

    :ivar status: ``killed``, ``timeout`` (killed by its own endless loop or wait), ``survived``, ``unreached`` (no test
        runs the changed line) or ``invalid`` (Python does not take it, or it compiles to the same), or ``unfit`` (to be run by :class:`Fresh`).
    :ivar test: the test that failed.
    :ivar tests: how many tests ran.
    :ivar twice: whether that test failed once more, alone.
    """

    id: str
    status: str
    test: str = ""
    tests: int = 0
    twice: bool = False


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
                if bits and bits != ANYTHING:
                    # Lines are counted from 1; where one was put in, the old one before it stands for it.
                    lines[path] = sum(1 << number for number, old in enumerate(origin, 1) if bits >> (old + 1) & 1 or bits >> old & 1)
        self.modules = dict(modules)

    def forget(self, file: str) -> None:
        for kept in (self.lines, self.seconds, self.failing):
            for test in [test for test in kept if test.split("::")[0] == file]:
                del kept[test]
