"""docs/cli.rst: its commands print what it says, and its tables are those of the program."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from cli_process import TOOK, environment, here

import rpcretry.cli
import rpcretry.retry
from rpcretry._specs import KINDS
from rpcretry.testing import Answer, LoopbackServer, rpc

PAGE = (Path(__file__).parent.parent.parent / "docs" / "cli.rst").read_text()
URL = "http://localhost/api/v1"


class Answered(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def served():
    """What the page talks to."""
    locked = iter([True, True])

    def reserve(seat):
        if next(locked, False):
            raise Answered(2001, "seat map is locked")
        return f"{seat} is yours"

    working = rpc(
        {
            "sum": lambda *numbers: sum(numbers),
            "get_user": lambda **params: {**params, "name": "Ada Lovelace"},
            "get_price": lambda symbol: 41.5,
            "reserve": reserve,
        }
    )

    def answer(request):
        document = request.json
        alone = document if isinstance(document, dict) else {}
        if alone.get("method") == "echo":
            # As it was written.
            params = re.search(r'"params":(.*),"id":1}$', request.body.decode())[1]
            return Answer(f'{{"jsonrpc":"2.0","id":1,"result":{params}}}'.encode())
        if alone.get("method") == "whoami":
            right = request.headers.get("authorization") == "Bearer s3cret-t0ken"
            return Answer({"jsonrpc": "2.0", "id": 1, "result": f"the one with the {'right' if right else 'wrong'} token"})
        answers = [_answered(each, working, request) for each in (document if isinstance(document, list) else [document])]
        return Answer(answers if isinstance(document, list) else answers[0])

    return LoopbackServer(answer)


def _answered(document, working, request):
    if document["method"] == "get_user" and document["params"] == {"id": 0}:
        return {"jsonrpc": "2.0", "id": document["id"], "error": {"code": -32602, "message": "no such user", "data": {"id": 0}}}
    alone = type(request)(request.method, request.path, request.headers, json.dumps(document).encode(), 1)
    return json.loads(working(alone).body)


def commands():
    """Each command of the page, and what it prints."""
    for block in re.findall(r"^\.\. code-block:: console\n\n((?:(?:   .*)?\n)+)", PAGE, re.MULTILINE):
        for piece in re.split(r"^\$ ", textwrap.dedent(block).strip(), flags=re.MULTILINE)[1:]:
            command, _, printed = piece.partition("\n")
            yield command, printed.strip("\n")


def is_plain(command):
    """Whether it needs no shell."""
    return command.startswith("rpcretry ") and not re.search(r"[|;>$]|env:", command)


def in_a_shell(listed, folder):
    """What commands print, one after the other in one shell."""
    program = folder / "bin" / "rpcretry"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m rpcretry.cli "$@"\n')
    program.chmod(0o755)
    script = "\n".join(["exec 2>&1", *(f"{command}\necho '@@@'" for command in listed)])
    path = f"{program.parent}:{environment()['PATH']}"
    done = subprocess.run(["bash", "--norc", "-c", script], cwd=folder, capture_output=True, text=True, timeout=100, env=environment(PATH=path), check=True)
    return done.stdout.split("@@@\n")[:-1]


@pytest.mark.slow
def test_the_commands_of_the_page_print_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # jq is not ours; without it the other commands are run, but where every change is judged.
    has_jq = shutil.which("jq") is not None
    assert has_jq or not os.environ.get("CI"), "jq is not installed; apt-get install jq"
    # What such a command writes, the next one may read.
    listed = [(command, printed) for command, printed in commands() if has_jq or not re.search(r"\bjq\b|users\.jsonl", command)]
    assert len(listed) >= 20
    with served() as server:

        def local(command):
            # Nobody listens on port 1 of either; one of them may also be asked by IPv6.
            return command.replace(URL, server.url).replace("http://localhost:1 ", "http://127.0.0.1:1 ")

        shelled = [command for command, _ in listed if not is_plain(command)]
        found = dict(zip(shelled, in_a_shell(map(local, shelled), tmp_path), strict=True))
        for command, printed in listed:
            if is_plain(command):
                done = here(*shlex.split(local(command))[1:])
                found[command] = done.err + done.out
            assert TOOK.sub("", found[command]).replace("127.0.0.1", "localhost").strip("\n") == TOOK.sub("", printed), command
            assert len(TOOK.findall(found[command])) == len(TOOK.findall(printed)), command
    assert (tmp_path / "delays.svg").stat().st_size > 10_000
    assert 5 <= len(shelled) <= 12


def rows(header):
    """The rows of the table whose first header is *header*."""
    (body,) = re.findall(rf"^   \* - {header}\n(.*?)(?=^\S|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return [[" ".join(cell.split()) for cell in re.split(r"^     - ", row, flags=re.MULTILINE)] for row in re.split(r"^   \* - ", body, flags=re.MULTILINE)[1:]]


def test_the_exit_codes_are_those_of_the_program_and_of_its_help():
    documented = {int(code) for code, _ in rows("Code")}
    known = {value for name, value in vars(rpcretry.cli).items() if name in rpcretry.cli.__all__ and isinstance(value, int)}
    helped = {int(code) for code in re.findall(r"^ +(\d+)  ", here("call", "--help").out.split("Exit codes:")[1].split("Examples:")[0], re.MULTILINE)}
    assert documented == known | {0} == helped


def test_the_kinds_of_backoffs_are_those_of_the_program():
    for kind, cls, own in rows("Kind"):
        known = KINDS[kind.strip("`")]
        assert cls == f":class:`~rpcretry.retry.{known.__name__}`"
        parameters = set(known.__dataclass_fields__) - {"attempts", "jitter", "max_value", "random"}
        assert set(re.findall(r"``(\w+)``", own)) == parameters
    assert {kind.strip("`") for kind, _, _ in rows("Kind")} == set(KINDS)


def test_every_option_of_the_page_exists():
    options = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", PAGE)) - {"--force"}
    known = set(re.findall(r"--[a-z][a-z-]+", "".join(here(*command, "--help").out for command in ((), ("call",), ("backoff",), ("demo",), ("simulate",)))))
    assert options - known == set()


def test_the_options_of_a_simulation_are_those_of_the_program():
    documented = set(re.findall(r"(--[a-z]+)", " ".join(option for option, _ in rows("Option of ``simulate``"))))
    assert documented == set(re.findall(r"^ +(?:-\w, )?(--[a-z]+)", here("simulate", "--help").out, re.MULTILINE)) - {"--help"}
