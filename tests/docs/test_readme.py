"""The README's two commands, and that CI runs what the README says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.rst").read_text()
COMMANDS = re.findall(r"^ +(python3 -m venv .+)$", README, re.MULTILINE)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(extra: str) -> Iterator[str]:
    """What an extra asks for, extras in it resolved."""
    for item in PROJECT["optional-dependencies"][extra]:
        nested = re.fullmatch(r"rpcretry\[([\w,]+)\]", item)
        if nested is None:
            yield item
        else:
            for name in nested[1].split(","):
                yield from requirements(name)


def test_there_are_two_commands_the_demo_and_the_tests() -> None:
    assert COMMANDS == [
        "python3 -m venv .venv && .venv/bin/pip install '.[all]' && .venv/bin/rpcretry demo",
        "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/python -m pytest",
    ]


def test_what_they_name_exists() -> None:
    extras = PROJECT["optional-dependencies"]
    for command in COMMANDS:
        (named,) = re.findall(r"'\.\[(\w+)\]'", command)
        assert named in extras
    assert "rpcretry" in PROJECT["scripts"]
    assert any(item.startswith("pytest") for item in extras["test"])


def test_the_tests_need_nothing_that_the_command_does_not_install() -> None:
    wanted = " ".join(requirements("test"))
    for package in ("pytest", "hypothesis", "mypy", "ruff", "sphinx", "furo", "matplotlib", "aiohttp", "requests", "typer", "rich"):
        assert re.search(rf"\b{package}\b", wanted), f"{package} is not in the extra 'test'"


@pytest.mark.skipif(sys.platform == "win32", reason="CI's script is bash")
def test_ci_runs_the_readmes_commands() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    done = subprocess.run(["bash", str(script), "--show"], capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == COMMANDS


def test_the_readme_opens_with_what_it_is() -> None:
    title, line, *rest = README.splitlines()
    assert (title, set(line)) == ("rpcretry", {"="})
    opening = "\n".join(rest).strip().split("\n\n", 1)[0]
    assert opening.startswith("A JSON-RPC 2.0 client for Python")
    assert len(re.findall(r"[.?!](?:\s|$)", opening)) <= 3


def test_it_is_proper_restructuredtext() -> None:
    # As package indexes read it, which know nothing of Sphinx.
    command = [sys.executable, "-m", "docutils", "--report=1", "--halt=2", str(ROOT / "README.rst")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "<h1" in done.stdout


def test_its_links_lead_to_files() -> None:
    links = re.findall(r"`[^`<]+ <([^>]+)>`_", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_its_commands_are_ones_that_there_are() -> None:
    from rpcretry.cli.app import app

    group = typer.main.get_command(app)
    shown = re.findall(r"^   rpcretry (\w+) (.*)$", README, re.MULTILINE)
    assert {name for name, _ in shown} >= {"call", "backoff", "openrpc"}
    for name, words in shown:
        # It reads the words, and does nothing.
        command = group.commands[name]  # type: ignore[attr-defined]
        command.make_context(name, shlex.split(words))


def test_it_names_no_registry_and_no_path_of_a_machine() -> None:
    for path in (ROOT / "README.rst", ROOT / "tox.ini", ROOT / ".ci" / "run", *(ROOT / "docs").glob("*.rst"), *(ROOT / "examples").glob("*.py")):
        assert not re.search(r"pypi\.org|/root/|/home/|/work/", path.read_text()), path
