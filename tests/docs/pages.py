"""Reading the pages: their blocks and their tables."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.rst", *sorted(DOCS.glob("*.rst"))]


class Block(NamedTuple):
    line: int
    code: str
    before: bool = False

    @property
    def has_tests(self) -> bool:
        """Whether pytest would find something in it."""
        return not self.before and re.search(r"^(?:async )?def test_|^ +def test_|@pytest\.fixture", self.code, re.MULTILINE) is not None


def blocks_of(text: str, kind: str = "python") -> Iterator[Block]:
    """The blocks of a page in Python, or of another kind, with the number of the line before the first of their lines."""
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        match = re.fullmatch(rf"( *)\.\. code-block:: {kind}\s*", lines[number])
        number += 1
        if match is None:
            continue
        margin = len(match[1])
        start = number
        while number < len(lines) and (not lines[number].strip() or len(lines[number]) - len(lines[number].lstrip()) > margin):
            number += 1
        body = lines[start:number]
        options = []
        while body and (not body[0].strip() or re.match(r"\s+:[\w-]+:", body[0])):
            options.append(body.pop(0).strip())
            start += 1
        yield Block(start, textwrap.dedent("\n".join(body)), ":class: before" in options)


def tables(page: str) -> list[list[list[str]]]:
    """The tables of a page: rows of cells, without their headers."""
    found = []
    for body in re.findall(r"\.\. list-table::\n(.*?)(?=\n\S|\Z)", (DOCS / page).read_text(), re.DOTALL):
        rows = re.split(r"^   \* - ", body, flags=re.MULTILINE)[2:]
        found.append([[" ".join(cell.split()) for cell in re.split(r"^     -(?: |$)", row, flags=re.MULTILINE)] for row in rows])
    return found


def literals(cell: str) -> list[str]:
    return re.findall(r"``(.+?)``", cell)
