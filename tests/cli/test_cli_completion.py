"""Shell completion, in bash itself."""

import shlex
import shutil
import subprocess
import sys

import pytest
from cli_process import environment

pytestmark = pytest.mark.slow

BASH = shutil.which("bash") or "bash"


def in_bash(script, folder, **changes):
    # The completion calls the program by its name, wherever the tests' own interpreter lies.
    program = folder / "bin" / "rpcretry"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m rpcretry.cli "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{environment()['PATH']}"
    return subprocess.run([BASH, "--norc", "-c", script], capture_output=True, text=True, timeout=60, env=environment(PATH=path, **changes), check=False)


ASK = """
complete -p rpcretry
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _rpcretry_completion rpcretry; echo "${COMPREPLY[@]}"; }
ask rpcretry ""
ask rpcretry call --max
ask rpcretry call URL method --backend ""
"""


def test_what_show_completion_prints_completes(tmp_path):
    done = in_bash('eval "$(rpcretry --show-completion)"' + ASK, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    registered, commands, options, values = done.stdout.splitlines()
    assert registered == "complete -o default -F _rpcretry_completion rpcretry"
    assert {"call", "backoff", "demo"} <= set(commands.split())
    assert options == "--max-batch-size"
    assert values == "requests aiohttp"


def test_install_completion_writes_into_the_home_folder_and_works(tmp_path):
    (tmp_path / "home").mkdir()
    done = in_bash('rpcretry --install-completion && source "$HOME/.bashrc"' + ASK, tmp_path, HOME=str(tmp_path / "home"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-2:] == ["--max-batch-size", "requests aiohttp"]
