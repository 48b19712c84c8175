"""Every Python block of the README and of the pages runs, and prints what its comments say.

The blocks of a page share their names, in order. ``http://localhost/api/v1`` is replaced by the URL of a server
on loopback, a fresh one for each page. A comment after a ``print`` is what it prints; ``...`` in it stands for
anything; several prints of one line are joined by a comma.
"""

from __future__ import annotations

import ast
import asyncio
import gc
import inspect
import io
import logging
import re
import sys
import textwrap
import tokenize
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rpcretry import InvalidParamsError
from rpcretry.testing import LoopbackServer, rpc

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.rst", *sorted((ROOT / "docs").glob("*.rst"))]
EXAMPLES = ROOT / "examples"
URL = "http://localhost/api/v1"


class Block(NamedTuple):
    line: int
    code: str


def blocks_of(text: str) -> Iterator[Block]:
    """The Python blocks of a page, with the number of the line before the first of their lines."""
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        match = re.fullmatch(r"( *)\.\. code-block:: python\s*", lines[number])
        number += 1
        if match is None:
            continue
        margin = len(match[1])
        start = number
        while number < len(lines) and (not lines[number].strip() or len(lines[number]) - len(lines[number].lstrip()) > margin):
            number += 1
        body = lines[start:number]
        while body and (not body[0].strip() or re.match(r"\s+:[\w-]+:", body[0])):
            body.pop(0)
            start += 1
        yield Block(start, textwrap.dedent("\n".join(body)))


def claims_of(code: str) -> dict[int, str]:
    """What the comments after prints claim, by the line of the print."""
    comments = {
        token.start[0]: token.string.lstrip("# ").strip() for token in tokenize.generate_tokens(io.StringIO(code).readline) if token.type == tokenize.COMMENT
    }
    return {
        node.lineno: comments[node.end_lineno or node.lineno]
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print" and (node.end_lineno or node.lineno) in comments
    }


def is_as_claimed(printed: str, claim: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in claim.split("..."))
    return re.fullmatch(pattern, printed, re.DOTALL) is not None


class Printed:
    """Stands in for print and keeps what each line printed."""

    def __init__(self) -> None:
        self.by_line: dict[int, list[str]] = {}

    def __call__(self, *values: object, sep: str = " ", end: str = "\n", **_: Any) -> None:
        line = sys._getframe(1).f_lineno
        self.by_line.setdefault(line, []).append(sep.join(map(str, values)) + end.rstrip("\n"))


def get_user(id: int) -> dict[str, object]:
    if id < 1:
        raise InvalidParamsError("no such user")
    return {"id": id, "name": "Ada Lovelace", "born": "1815-12-10"}


def withdraw(amount: int) -> None:
    raise Answered(2002, "not enough money")


class Answered(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def reserve() -> Callable[[str], str]:
    """Busy at the first two calls."""
    busy = iter([True, True])

    def call(seat: str) -> str:
        if next(busy, False):
            raise Answered(2001, "seat map is locked")
        return f"{seat} is yours"

    return call


def served() -> LoopbackServer:
    """What the pages talk to."""
    return LoopbackServer(
        rpc(
            {
                "sum": lambda *numbers: sum(numbers),
                "subtract": lambda minuend, subtrahend: minuend - subtrahend,
                "get_price": lambda symbol: 41.5,
                "get_user": get_user,
                "pay": lambda amount: f"paid {amount}",
                "tick": lambda: None,
                "withdraw": withdraw,
                "reserve": reserve(),
                "system.listMethods": lambda: ["sum", "get_price"],
                "echo": lambda **params: params,
            }
        )
    )


def run_page(path: Path) -> None:
    """Run the blocks of a page, one after the other."""
    module = types.ModuleType(f"blocks_of_{path.stem}")
    printed = Printed()
    module.__dict__["print"] = printed
    sys.modules[module.__name__] = module
    sys.path.insert(0, str(EXAMPLES))
    handlers, level = list(logging.root.handlers), logging.root.level
    try:
        with served() as server, asyncio.Runner() as runner:
            for block in blocks_of(path.read_text()):
                run_block(path, block, module.__dict__, printed, server.url, runner)
    finally:
        del sys.modules[module.__name__]
        sys.path.remove(str(EXAMPLES))
        # A page may show how to set logging up.
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
    # What a page leaves open is to be heard of here, and not in some later test.
    module.__dict__.clear()
    gc.collect()


def run_block(path: Path, block: Block, names: dict[str, Any], printed: Printed, url: str, runner: asyncio.Runner) -> None:
    # Blank lines before it, so that tracebacks name the line of the page.
    source = "\n" * block.line + block.code.replace(URL, url.rstrip("/"))
    printed.by_line.clear()
    try:
        code = compile(source, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        found = eval(code, names)
        if inspect.iscoroutine(found):
            runner.run(found)
    except Exception as problem:
        problem.add_note(f"in the block at {path.relative_to(ROOT)}:{block.line + 1}")
        raise
    for line, claim in claims_of(source).items():
        said = ", ".join(printed.by_line.get(line, ["<nothing>"]))
        assert is_as_claimed(said, claim), f"{path.relative_to(ROOT)}:{line} prints {said!r}, and says {claim!r}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_block_of_the_page_runs_and_prints_what_it_says(path: Path) -> None:
    run_page(path)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_python_hides_from_this_test(path: Path) -> None:
    text = path.read_text()
    kinds = set(re.findall(r"^ *\.\. (?:code-block|code|sourcecode|doctest|testcode|highlight):: *(\S*)", text, re.MULTILINE))
    assert kinds <= {"python", "console", "text", "toml"}, "python blocks are written '.. code-block:: python'"
    assert ">>>" not in text
    for match in re.finditer(r"(?m)^.*[^:\s]::\s*$", text):
        assert match[0].lstrip().startswith(".. "), f"a literal block without a language: {match[0]!r}"


def test_the_pages_have_blocks() -> None:
    counts = {path.name: len(list(blocks_of(path.read_text()))) for path in PAGES}
    assert counts["README.rst"] >= 1
    assert sum(counts.values()) >= 30, counts


# --- this test's own parts ---


def test_a_block_ends_with_its_indentation() -> None:
    text = "Text\n\n.. code-block:: python\n   :caption: one\n\n   a = 1\n\n   b = 2\n\nMore\n\n* item\n\n  .. code-block:: python\n\n     c = 3\n"
    first, second = blocks_of(text)
    assert (first.code.strip(), second.code.strip()) == ("a = 1\n\nb = 2", "c = 3")
    assert text.splitlines()[first.line] == "   a = 1"


@pytest.mark.parametrize(
    ("printed", "claim", "expected"),
    [("3", "3", True), ("3", "4", False), ("ConnectError('no')", "ConnectError(...)", True), ("13", "3", False), ("", "...", True)],
)
def test_a_claim_is_compared_whole(printed: str, claim: str, expected: bool) -> None:
    assert is_as_claimed(printed, claim) is expected


def test_a_wrong_claim_and_a_broken_block_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    page = tmp_path / "page.rst"
    for body, kind in (("print(1 + 1)  # 3", AssertionError), ("if False:\n       print(1)  # 1", AssertionError), ("undefined", NameError)):
        page.write_text(f".. code-block:: python\n\n   {body}\n")
        with pytest.raises(kind):
            run_page(page)
