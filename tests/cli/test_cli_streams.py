"""What a command does where a stream is closed, full or left by its reader, and how it ends of Ctrl-C and of its own mistakes."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from cli_process import environment, here

import rpcretry.cli
from rpcretry.cli import main
from rpcretry.testing import SILENCE, Answer, LoopbackServer

REPLY = {"jsonrpc": "2.0", "id": 1, "result": 1}
COMMAND = f"{sys.executable} -m rpcretry.cli"


@pytest.fixture(scope="module")
def url():
    def answer(request):
        asked = request.json
        if asked.get("method") == "busy":
            return Answer(b"busy", 503)
        return Answer({**REPLY, "result": "x" * 1_000_000} if asked.get("method") == "big" else REPLY)

    with LoopbackServer(answer) as server:
        yield server.url


def in_bash(line, **changes):
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, env=environment(**changes), check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code", "out", "err"),
    [
        ("call URL m >&-", 5, "", "rpcretry: the call was made, but its result could not be written: standard output is closed\n"),
        ("call URL m >/dev/full", 5, "", "rpcretry: the call was made, but its result could not be written: No space left on device\n"),
        ("call URL m --raw >/dev/full", 5, "", "rpcretry: the call was made, but its result could not be written: No space left on device\n"),
        ("call URL m --notify >&-", 0, "", ""),
        ("call URL --batch - <&-", 2, "", "rpcretry: --batch: cannot read -: standard input is closed\n"),
        ("--help >/dev/full", 5, "", "rpcretry: the output broke off: No space left on device\n"),
        ("call --help >/dev/full", 5, "", "rpcretry: the output broke off: No space left on device\n"),
        ("backoff periodic >/dev/full", 5, "", "rpcretry: the table broke off: No space left on device\n"),
        # Of standard error nothing depends.
        ("call URL m -v 2>/dev/full", 0, "1\n", ""),
        ("call URL m -v 2>&-", 0, "1\n", ""),
        ("call URL busy -v 2>/dev/full", 3, "", ""),
        ("call 2>/dev/full", 2, "", ""),
    ],
)
def test_streams_that_are_closed_or_full(url, line, code, out, err):
    done = in_bash(f"{COMMAND} {line.replace('URL', url)}")
    assert (done.returncode, done.stdout, done.stderr) == (code, out, err)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code"),
    [
        # The first line comes from standard error, and head leaves with it. What came of the call counts, or that nobody reads it.
        ("call URL busy -v --on http:503 --backoff immediate:attempts=1 2>&1 | head -n 1", 3),
        ("call URL big -v 2>&1 | head -n 1", 141),
        ("call URL m -v 2>&1 >/dev/null | true", 0),
    ],
)
def test_readers_that_leave(url, line, code):
    done = in_bash(f"{COMMAND} {line.replace('URL', url)}; echo ${{PIPESTATUS[0]}}")
    printed = done.stdout.splitlines()
    assert (int(printed[-1]), done.stderr) == (code, "")
    assert "Traceback" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("library", ["requests", "aiohttp"])
def test_ctrl_c_ends_a_loop_of_a_shell(library):
    asked = threading.Event()

    def answer(request):
        asked.set()
        return SILENCE

    with LoopbackServer(answer) as server:
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            loop = f"for i in 1 2 3; do {COMMAND} call {server.url} m --backend {library}; echo went on; done"
            shell = subprocess.Popen(
                ["bash", "-c", loop], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(), start_new_session=True
            )
        finally:
            signal.signal(signal.SIGINT, before)
        with shell:
            try:
                assert asked.wait(20)
                # As a terminal does it: the shell and what it runs get it.
                os.killpg(shell.pid, signal.SIGINT)
                out, _ = shell.communicate(timeout=10)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(shell.pid, signal.SIGKILL)
    assert (shell.returncode, out) == (-signal.SIGINT, "rpcretry: interrupted while an attempt was under way; the server may have executed it\n")


def test_a_program_that_calls_main_is_not_ended(monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("rpcretry.cli.call.run", interrupt)
    assert here("call", "http://localhost/", "m") == (130, "", "rpcretry: interrupted\n")


def test_where_the_signal_is_ignored_the_exit_code_is_130(monkeypatch):
    killed = []
    monkeypatch.setattr(os, "kill", lambda *arguments: killed.append(arguments))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        rpcretry.cli._die_of_interrupt()
        assert killed == []
        signal.signal(signal.SIGINT, signal.default_int_handler)
        rpcretry.cli._die_of_interrupt()
    finally:
        signal.signal(signal.SIGINT, before)
    assert killed == [(os.getpid(), signal.SIGINT)]


def test_a_mistake_of_the_program_is_70_and_keeps_its_traceback(monkeypatch):
    def mistaken(*arguments):
        return {}["no such thing"]

    monkeypatch.setattr("rpcretry.cli.call.run", mistaken)
    done = here("call", "http://localhost/", "m")
    assert (done.code, done.out) == (70, "")
    assert done.err.startswith("Traceback (most recent call last):\n")
    assert "in mistaken\n" in done.err
    assert done.err.endswith("KeyError: 'no such thing'\nrpcretry: this is a mistake of rpcretry, not of yours; please report it with the lines above\n")


def test_the_streams_are_put_back():
    before = sys.stdin, sys.stdout, sys.stderr
    here("call")
    with contextlib.suppress(SystemExit):
        main(["--version"])
    assert (sys.stdin, sys.stdout, sys.stderr) == before


def test_standard_error_that_fails_in_the_middle_is_silent_from_then_on():
    class Leaving(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

    started = time.monotonic()
    with contextlib.redirect_stderr(Leaving()), contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as ended:
        main(["call", "http://127.0.0.1:1/", "m", "-v"])
    assert ended.value.code == 3
    assert time.monotonic() - started < 5
