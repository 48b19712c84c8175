"""Every Python block of the README and of the pages runs, and prints what its comments say.

The blocks of a page share their names, in order. ``http://localhost/api/v1`` is replaced by the URL of a server
on loopback, a fresh one for each page. A comment after a ``print`` is what it prints; ``...`` in it stands for
anything; several prints of one line are joined by a comma.

Two kinds of blocks are not run in this way. What a program looked like before it came here, in another library's words, is
marked by ``:class: before`` and has to be proper Python. Blocks with tests in them are run by pytest besides, all those of a
page as one file.
"""

from __future__ import annotations

import ast
import asyncio
import gc
import inspect
import io
import logging
import math
import os
import re
import subprocess
import sys
import tokenize
import types
import unittest.mock
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pages import PAGES, ROOT, Block, blocks_of

from rpcretry import InvalidParamsError
from rpcretry.testing import LoopbackServer, rpc

EXAMPLES = ROOT / "examples"
URL = "http://localhost/api/v1"


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


def run_page(path: Path, until: float = math.inf) -> None:
    """Run the blocks of a page, one after the other, as far as the one that begins at line *until*."""
    module = types.ModuleType(f"blocks_of_{path.stem}")
    printed = Printed()
    module.__dict__["print"] = printed
    sys.modules[module.__name__] = module
    sys.path.insert(0, str(EXAMPLES))
    handlers, level = list(logging.root.handlers), logging.root.level
    try:
        with unittest.mock.patch.dict(os.environ), served() as server, asyncio.Runner() as runner:
            for block in blocks_of(path.read_text()):
                if block.before or block.line > until:
                    continue
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


# The page about testing sets up whole sessions, and has tests that know how.
ELSEWHERE = {"testing.rst": ROOT / "tests" / "testing" / "test_testing_page.py"}
WITH_TESTS = [path for path in PAGES if path.name not in ELSEWHERE and any(block.has_tests for block in blocks_of(path.read_text()))]


def test_the_pages_whose_tests_run_elsewhere_are_read_there() -> None:
    for page, tests in ELSEWHERE.items():
        assert f'"{page}"' in tests.read_text()


@pytest.mark.parametrize("path", WITH_TESTS, ids=lambda path: path.name)
def test_the_tests_in_the_blocks_of_the_page_pass(path: Path, tmp_path: Path) -> None:
    blocks = [block for block in blocks_of(path.read_text()) if block.has_tests]
    (tmp_path / "test_page.py").write_text("\n\n".join(block.code for block in blocks))
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [name for block in blocks for name in re.findall(r"def (test_\w+)", block.code)]
    assert len(names) == len(set(names)), "two tests of one name: one of them is never run"
    assert f"{len(names)} passed" in done.stdout


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_what_is_not_run_is_proper_python_and_of_another_library(path: Path) -> None:
    for block in blocks_of(path.read_text()):
        if block.before:
            ast.parse(block.code)
            assert path.stem.startswith("migrating"), "only those pages show programs as they were before"
            assert "rpcretry" not in block.code


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_python_hides_from_this_test(path: Path) -> None:
    text = path.read_text()
    kinds = set(re.findall(r"^ *\.\. (?:code-block|code|sourcecode|doctest|testcode|highlight):: *(\S*)", text, re.MULTILINE))
    assert kinds <= {"python", "console", "text", "toml"}, "python blocks are written '.. code-block:: python'"
    assert ">>>" not in text
    for match in re.finditer(r"(?m)^.*[^:\s]::\s*$", text):
        assert match[0].lstrip().startswith(".. "), f"a literal block without a language: {match[0]!r}"


# Blocks of text that read as Python, and are held elsewhere.
TEXT_THAT_IS_PYTHON = {"openrpc.rst": "tests/openrpc reads what the generator writes"}


def is_python(code: str) -> bool:
    """Whether a text is a program, and no words, numbers or JSON."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return False
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Call)
    return any(isinstance(node, kinds) for node in ast.walk(tree))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_python_hides_in_a_block_of_another_kind(path: Path) -> None:
    hidden = [block.line for kind in ("text", "console") for block in blocks_of(path.read_text(), kind) if is_python(block.code)]
    assert bool(hidden) == (path.name in TEXT_THAT_IS_PYTHON), f"{path.name}: the blocks at {hidden}"


def test_the_log_lines_of_the_tutorial_are_what_its_block_logs(caplog: pytest.LogCaptureFixture) -> None:
    page = ROOT / "docs" / "tutorial.rst"
    (lines,) = [block.code.strip().splitlines() for block in blocks_of(page.read_text(), "text")]
    before = max(block.line for block in blocks_of(page.read_text()) if block.line < next(blocks_of(page.read_text(), "text")).line)
    with caplog.at_level(logging.INFO, "rpcretry"):
        run_page(page, until=before)
    # How long it waits is drawn.
    logged = [f"{record.levelname} {record.getMessage()}" for record in caplog.records][-len(lines) :]
    assert [re.sub(r"in [\d.]+ s", "in ... s", line) for line in logged] == [re.sub(r"in [\d.]+ s", "in ... s", line) for line in lines]


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
