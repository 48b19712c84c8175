"""mypy --strict over the package and over what callers write; a wrong use that passes is a failure, too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_package_and_callers_are_clean_under_mypy_strict() -> None:
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_reveal_type_names_what_send_call_and_proxy_return(tmp_path: Path) -> None:
    source = tmp_path / "revealed.py"
    source.write_text(
        "import rpcretry\n"
        "def f(client: rpcretry.Client, aclient: rpcretry.AsyncClient, request: rpcretry.Request) -> None:\n"
        "    reveal_type(client.send(request))\n"
        "    reveal_type(client.call('m', _result=int))\n"
        "    reveal_type(client.proxy.m(1))\n"
        "    reveal_type(aclient.call('m', _result=int))\n"
    )
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", str(source)], cwd=ROOT, capture_output=True, text=True, check=False)
    revealed = [line.split('"')[1] for line in done.stdout.splitlines() if "Revealed type" in line]
    assert [name.replace("builtins.", "").replace("typing.", "") for name in revealed] == [
        "rpcretry.messages.Response[Any]",
        "int",
        "Any",
        "Coroutine[Any, Any, int]",
    ]


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "rpcretry" / "py.typed").is_file()
