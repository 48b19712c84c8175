"""mypy --strict over the package, and mypy and pyright over what callers write; a wrong use that passes is a failure, too.

In tests/typing a line that holds a mistake ends with mypy's ``type: ignore[...]``. mypy says where one of them is not needed; for
pyright the comments are turned off, and what it flags has to be these lines and no others.
"""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
CALLERS = ROOT / "tests" / "typing"


@pytest.mark.slow
def test_package_and_callers_are_clean_under_mypy_strict() -> None:
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def pyright(project: Path, source: Path) -> list[dict[str, Any]]:
    """What pyright says of *source*."""
    (project / "pyrightconfig.json").write_text(
        # The paths of a configuration are relative to it.
        json.dumps({"include": [os.path.relpath(source, project)], "extraPaths": [os.path.relpath(ROOT, project)], "enableTypeIgnoreComments": False})
    )
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "-p", str(project), "--outputjson"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    said = json.loads(done.stdout)
    assert said["summary"]["filesAnalyzed"] > 0, done.stdout + done.stderr
    found: list[dict[str, Any]] = said["generalDiagnostics"]
    return found


@pytest.mark.slow
def test_pyright_flags_the_mistakes_of_callers_and_nothing_else(tmp_path: Path) -> None:
    marked = {
        (path.name, number): line.strip()
        for path in CALLERS.glob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "# type: ignore[" in line
    }
    flagged = collections.defaultdict(list)
    for one in pyright(tmp_path, CALLERS):
        flagged[Path(one["file"]).name, one["range"]["start"]["line"] + 1].append(one["message"])
    assert marked, "the marks have moved"
    assert {place: line for place, line in marked.items() if place not in flagged} == {}, "mistakes that pass"
    assert {place: messages for place, messages in flagged.items() if place not in marked} == {}, "flagged without being a mistake"


@pytest.mark.slow
def test_pyright_finds_that_a_mistake_passes(tmp_path: Path) -> None:
    source = tmp_path / "callers.py"
    source.write_text("import rpcretry\nrpcretry.Request(1)  # type: ignore[arg-type]\nrpcretry.Request('m')\n")
    assert [one["range"]["start"]["line"] for one in pyright(tmp_path, source)] == [1]


@pytest.mark.slow
def test_reveal_type_names_what_send_call_and_proxy_return(tmp_path: Path) -> None:
    source = tmp_path / "revealed.py"
    source.write_text(
        "import rpcretry\n"
        "from typing import Protocol\n"
        "class Wallet(Protocol):\n"
        "    @rpcretry.rpc(idempotent=True)\n"
        "    def balance(self, address: str, depth: int = 1) -> int: ...\n"
        "class Awaited(Wallet, rpcretry.AsyncInterface, Protocol): ...\n"
        "def f(client: rpcretry.Client, aclient: rpcretry.AsyncClient, request: rpcretry.Request) -> None:\n"
        "    reveal_type(client.send(request))\n"
        "    reveal_type(client.call('m', _result=int))\n"
        "    reveal_type(client.proxy.m(1))\n"
        "    reveal_type(aclient.call('m', _result=int))\n"
        "    reveal_type(client.typed(Wallet).balance)\n"
        "    reveal_type(aclient.typed(Awaited).balance)\n"
    )
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", str(source)], cwd=ROOT, capture_output=True, text=True, check=False)
    revealed = [line.split('"')[1] for line in done.stdout.splitlines() if "Revealed type" in line]
    assert [name.replace("builtins.", "").replace("typing.", "") for name in revealed] == [
        "rpcretry.messages.Response[Any]",
        "int",
        "Any",
        "Coroutine[Any, Any, int]",
        "def (address: str, depth: int =) -> int",
        "def (address: str, depth: int =) -> Coroutine[Any, Any, int]",
    ]


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "rpcretry" / "py.typed").is_file()
