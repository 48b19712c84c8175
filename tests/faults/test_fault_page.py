"""docs/faults.rst: every toxic is in its tables, with what the code says of it."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fault_rig import ALL

import rpcretry.testing.faults as faults
from rpcretry.testing.faults import Toxic

sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))

from pages import DOCS, literals, tables

PAGE = "faults.rst"


def rows() -> list[tuple[str, list[str], str, str]]:
    """Name, parameters, and the last two cells of each row."""
    found = []
    for table in tables(PAGE):
        for toxic, _, executes, harmless in table:
            match = re.fullmatch(r"(\w+)\((.*)\)", literals(toxic)[0])
            assert match is not None, toxic
            found.append((match[1], [name for name in match[2].split(", ") if name], executes, harmless))
    return found


def share(values: set[bool]) -> str:
    return "some" if len(values) > 1 else "yes" if values == {True} else "no"


def test_every_toxic_is_in_the_tables_once() -> None:
    public = [name for name in faults.__all__ if isinstance(getattr(faults, name), type) and issubclass(getattr(faults, name), Toxic)]
    assert sorted(name for name, *_ in rows()) == sorted(set(public) - {"Toxic"})


@pytest.mark.parametrize(("name", "parameters", "executes", "harmless"), rows(), ids=[row[0] for row in rows()])
def test_a_row_says_what_the_code_says(name: str, parameters: list[str], executes: str, harmless: str) -> None:
    cls = getattr(faults, name)
    assert parameters == [field.name for field in dataclasses.fields(cls)]
    mine = [toxic for toxic in ALL if type(toxic) is cls]
    assert mine
    assert share({toxic.executes for toxic in mine}) == executes
    assert share({toxic.harmless for toxic in mine}) == harmless


def test_every_word_that_a_toxic_takes_is_on_the_page() -> None:
    text = (DOCS / PAGE).read_text()
    for module, names in (("_heads", ("AFTER", "LENGTHS")), ("_documents", ("IDS",)), ("_connections", ("STOPS",))):
        found = __import__(f"rpcretry.testing.faults.{module}", fromlist=["x"])
        for name in names:
            for word in getattr(found, name):
                assert f"``{word}``" in text, (name, word)


INTERRUPTED = """
import builtins, os, runpy, signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
plain = builtins.print
def show(*values, **options):
    plain(*values, **options)
    builtins.print = plain
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
builtins.print = show
sys.argv = ["faults", "--rate", "0"]
runpy.run_module("rpcretry.testing.faults", run_name="__main__")
"""


def test_the_command_serves_until_it_is_interrupted() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert re.match(r"http://127\.0\.0\.1:\d+/\n\n0 executed, met: nothing\n", done.stdout), done.stdout
    wrong = subprocess.run([sys.executable, "-m", "rpcretry.testing.faults", "--rate", "7"], capture_output=True, text=True, timeout=30, check=False)
    assert wrong.returncode == 2
    assert "rate must be at most 1" in wrong.stderr
