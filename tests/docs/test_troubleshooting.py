"""The page by symptom: each message that it quotes is one that the package writes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rpcretry import Client, HTTPStatusError
from rpcretry.testing import ScriptedBackend, http

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "troubleshooting.rst").read_text()
ENTRY = re.compile(r"^([^\n]+)\n(~+)\n(.*?)(?=^[^\n]+\n[~-]{3,}\n|\Z)", re.MULTILINE | re.DOTALL)
GAP = "\0"


def texts(path: Path) -> Iterator[str]:
    """What a module may write: its strings, with a gap in the place of each value."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else GAP for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


WRITTEN = [text for path in (ROOT / "rpcretry").rglob("*.py") for text in texts(path)]
ENTRIES = [(title, body) for title, _, body in ENTRY.findall(PAGE)]
MESSAGES = [title.strip("`") for title, body in ENTRIES if title.startswith("``") and title.endswith("``") and "*Cause.*" in body]


def is_written(message: str) -> bool:
    """Whether one text begins with what is quoted, and has a value in the place of each of the dots."""
    wanted = re.compile(rf"[^{GAP}]*{GAP}.*".join(re.escape(part.strip()) for part in message.split("...")), re.DOTALL)
    return any(wanted.match(text) for text in WRITTEN)


def test_there_are_messages_and_behaviour() -> None:
    assert len(MESSAGES) >= 20
    assert len(ENTRIES) - len(MESSAGES) >= 8


@pytest.mark.parametrize("message", MESSAGES)
def test_the_message_is_in_the_source(message: str) -> None:
    assert is_written(message)


@pytest.mark.parametrize("message", ["no connection at all to ...", "... took too long for the answer of", "rpcretry: ... gave in"])
def test_a_message_that_nobody_writes_is_found(message: str) -> None:
    assert not is_written(message)


def test_a_status_without_json_rpc_reads_as_its_title_says() -> None:
    # Its text is put together from parts that are all values, so the source does not show it.
    assert "HTTP ...: ..." in MESSAGES
    with pytest.raises(HTTPStatusError, match=r"^HTTP 404: <html>$"):
        Client(ScriptedBackend([http(404, body=b"<html>")])).call("sum")


def test_each_message_has_its_cause_and_its_fix() -> None:
    for title, body in ENTRIES:
        if title.strip("`") in MESSAGES:
            assert "*Cause.* " in body, title
            assert "*Fix.* " in body, title


def test_the_lines_under_titles_are_as_long_as_the_titles() -> None:
    for title, line in re.findall(r"^([^\n]+)\n([~=-]{3,})$", PAGE, re.MULTILINE):
        assert len(title) == len(line), title
