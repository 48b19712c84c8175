"""A stranger's path: a fresh environment, the package as pip installs it, and the README's four programs copied from it.

The first call, a typed call, a backoff of one's own, and a test with ``rpc_mock``. Each has to run by itself.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from pages import ROOT, blocks_of
from test_code_blocks import claims_of, is_as_claimed

README = (ROOT / "README.rst").read_text()
PROGRAMS = ("first-call", "typed-call", "custom-backoff")
TEST = "test-with-rpc-mock"
# What the README has one type: what is installed, and how the test is run.
((INSTALL, RUN),) = re.findall(r"^   \.venv/bin/(pip install .+)\n   \.venv/bin/python (-m pytest \S+)$", README, re.MULTILINE)


def named(name: str) -> str:
    """The block of the README that has this name."""
    (place,) = [match.start() for match in re.finditer(rf"^\.\. code-block:: python\n   :name: {re.escape(name)}\n", README, re.MULTILINE)]
    return next(blocks_of(README[place:])).code


def run(command: list[str | Path], folder: Path, timeout: float = 60) -> str:
    """What a command prints, run where nothing of this checkout is on the path."""
    # A proxy in the environment would be asked for loopback addresses.
    dropped = re.compile(r"PYTHON.*|VIRTUAL_ENV|COV_.*|(?:http|all)_proxy", re.IGNORECASE)
    environment = {key: value for key, value in os.environ.items() if not dropped.fullmatch(key)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def check_programs(python: Path, folder: Path) -> None:
    """Run the four, and compare what they print with what the README says beside it."""
    folder.mkdir()
    for name in PROGRAMS:
        code = named(name)
        (folder / f"{name}.py").write_text(code)
        printed = run([python, "-W", "error", f"{name}.py"], folder).splitlines()
        claims = [claim for _, claim in sorted(claims_of(code).items())]
        assert claims, f"{name} prints nothing"
        assert len(printed) == len(claims)
        for line, claim in zip(printed, claims, strict=True):
            assert is_as_claimed(line, claim), f"{name} prints {line!r}, and the README says {claim!r}"
    command = shlex.split(RUN)
    (folder / command[-1]).write_text(named(TEST))
    assert "1 passed" in run([python, *command, "-W", "error", "-p", "no:cacheprovider", "--rootdir", folder], folder)


def test_each_of_them_runs_by_itself(tmp_path: Path) -> None:
    check_programs(Path(sys.executable), tmp_path / "copied")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_nothing_to_a_test_in_a_fresh_environment(tmp_path: Path) -> None:
    # Links, as `python -m venv` makes them: this Python may be one that finds its library beside itself only.
    venv.create(tmp_path / "env", with_pip=True, symlinks=os.name != "nt")
    python = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    # What the README says, and no more; the copy of the repository, in which one types it, is this one.
    words = [word.replace(".[", f"{ROOT}[") if word.startswith(".[") else word for word in shlex.split(INSTALL)]
    assert words[2:] != shlex.split(INSTALL)[2:]
    run([python, "-m", *words, "--quiet"], tmp_path, timeout=800)

    where = run([python, "-c", "import rpcretry; print(rpcretry.__file__)"], tmp_path)
    assert where.startswith(str(tmp_path)), "that is no fresh environment"
    check_programs(python, tmp_path / "copied")
    assert "rpcretry" in run([python.with_name("rpcretry"), "--help"], tmp_path)
