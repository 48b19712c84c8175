"""``rpcretry demo``, as a process wherever a user would see the difference."""

import contextlib
import dataclasses
import functools
import io
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import rpcretry
from rpcretry.cli import demo as demo_module
from rpcretry.cli import main
from rpcretry.cli._scenarios import SCENARIOS
from rpcretry.cli.demo import run
from rpcretry.cli.report import ColourReport, PlainReport, make_report
from rpcretry.retry import ImmediateBackoff, RetryStrategy

QUICK = {scenario.title: scenario for scenario in SCENARIOS}
GOOD_DAY = QUICK["a good day"]
PAYMENT = QUICK["a connection dropped after the work, on a payment: never repeated"]
UNKNOWN = QUICK["an error that no repetition mends"]
BATCH = QUICK["a batch with code 2001 for one: only that one goes again"]
NOTIFICATION = QUICK["a notification: whatever is answered is dropped"]

BACKENDS = ["requests", "aiohttp"]

STEERING = ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "PYTHONWARNINGS", "COLUMNS")


def environment(**changes):
    return {name: value for name, value in os.environ.items() if name not in STEERING} | changes


def rpc(*arguments, **changes):
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", "rpcretry.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(**changes), check=False)


def section(output, backend):
    """What the demo printed about one backend."""
    return re.split(r"^(?:backend \w+|summary)$", output.split(f"backend {backend}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def delays(output):
    return re.findall(r"again in ([\d.]+) s", output)


def summary(output):
    return {fields[0]: list(map(int, fields[1:])) for fields in re.findall(r"^  (\w+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)$", output, re.MULTILINE)}


def played(scenarios, backends=BACKENDS, seed=7):
    """Run *scenarios* in this process; returns whether all ended as stated, and what was printed."""
    stream = io.StringIO()
    return run(backends, seed, PlainReport(stream), scenarios), stream.getvalue()


def expecting(scenario, **changes):
    return dataclasses.replace(scenario, expected=dataclasses.replace(scenario.expected, **changes))


# --- the whole demo ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole():
    started = time.monotonic()
    # A proxy in the environment, which knows nothing of this machine's loopback, must not matter.
    done = rpc("demo", "--seed", "7", http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9")
    return done, time.monotonic() - started


@pytest.mark.slow
def test_demo_exits_with_0_is_quiet_and_takes_under_10_seconds(whole):
    done, seconds = whole
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("Every call ended as its scenario says, also the 14 that had to fail.\n")
    assert seconds < 10


@pytest.mark.slow
def test_demo_summary_counts_calls_attempts_recovered_and_failed(whole):
    output = whole[0].stdout
    attempts = sum(scenario.expected.attempts for scenario in SCENARIOS)
    failed = sum(scenario.expected.error is not None for scenario in SCENARIOS)
    recovered = sum(scenario.expected.error is None and scenario.expected.attempts > 1 for scenario in SCENARIOS)
    row = [len(SCENARIOS), attempts, recovered, failed, len(SCENARIOS)]
    assert summary(output) == {"requests": row, "aiohttp": row, "total": [2 * number for number in row]}
    assert len(re.findall(r"^    attempt \d/\d  ", output, re.MULTILINE)) == 2 * attempts
    assert [attempts, recovered, failed] == [30, 6, 7]


@pytest.mark.slow
def test_demo_plays_every_scenario_on_both_backends(whole):
    titles = [scenario.title for scenario in SCENARIOS]
    for backend in BACKENDS:
        assert re.findall(r"^  (\S.*)$", section(whole[0].stdout, backend), re.MULTILINE) == titles


@pytest.mark.slow
def test_demo_is_plain_ascii_in_a_pipe(whole):
    output = whole[0].stdout
    assert output.isascii()
    assert all(char.isprintable() or char == "\n" for char in output)


@pytest.mark.slow
def test_demo_shows_that_a_payment_whose_answer_was_lost_is_not_repeated(whole):
    for backend in BACKENDS:
        block = section(whole[0].stdout, backend).split(PAYMENT.title)[1].split("\n\n")[0]
        assert block.count("attempt") == 1
        assert "ConnectionLostError (maybe executed)" in block
        assert "the server executed pay once" in block


@pytest.mark.slow
def test_demo_has_the_same_delays_for_the_same_seed_on_every_backend(whole):
    output = whole[0].stdout
    assert delays(section(output, "requests")) == delays(section(output, "aiohttp"))
    again = rpc("demo", "--seed", "7", "--backend", "aiohttp")
    assert again.returncode == 0
    # Not the delays alone: nothing in it is measured or differs by port.
    assert section(again.stdout, "aiohttp") == section(output, "aiohttp")
    assert set(summary(again.stdout)) == {"aiohttp"}


@pytest.mark.slow
def test_demo_has_other_delays_for_another_seed_with_the_console_script(whole):
    script = Path(sys.executable).with_name("rpcretry")
    if not script.exists():
        pytest.skip("the package is not installed with its script")
    done = subprocess.run([script, "demo", "--seed", "8", "--backend", "requests"], capture_output=True, text=True, timeout=60, env=environment(), check=False)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = delays(section(whole[0].stdout, "requests")), delays(section(done.stdout, "requests"))
    assert len(first) == len(second) > 10
    # What the server asks for is the same whatever the seed.
    assert [one for one, other in zip(first, second, strict=True) if one == other] == ["1.000"]


@pytest.mark.slow
def test_demo_on_a_terminal_is_in_colour_and_ends_of_ctrl_c():
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    # A shell gives its background jobs an ignored Control-C, which processes inherit; this one must hear it.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "rpcretry.cli", "demo"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment(TERM="xterm-256color", COLUMNS="100")
        )
    finally:
        signal.signal(signal.SIGINT, before)
    os.close(theirs)
    try:
        # The second scenario waits for a second, so that the interrupt meets a sleeping client.
        seen = read_until(ours, b"again in")
        process.send_signal(signal.SIGINT)
        seen += read_until(ours, None)
        code = process.wait(10)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"\x1b[32m" in seen
    assert b"rpcretry: interrupted" in seen
    assert b"Traceback" not in seen
    assert code == -signal.SIGINT


def read_until(descriptor, wanted):
    seen, ends = b"", time.monotonic() + 20
    while (wanted is None or wanted not in seen) and time.monotonic() < ends:
        if select.select([descriptor], [], [], 0.2)[0]:
            try:
                piece = os.read(descriptor, 65_536)
            except OSError:
                # How Linux says that the other end of a terminal is closed.
                break
            if not piece:
                break
            seen += piece
    return seen


@pytest.mark.slow
def test_demo_ends_quietly_when_the_reader_of_its_pipe_leaves():
    process = subprocess.Popen([sys.executable, "-m", "rpcretry.cli", "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    with process:
        assert process.stdout.readline().startswith(b"rpcretry demo")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


# --- a scenario that is not kept -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        (expecting(GOOD_DAY, result=6), "expected the result 6, got 5"),
        (expecting(GOOD_DAY, attempts=2), "expected 2 attempts, got 1"),
        (expecting(GOOD_DAY, error=ConnectionError), "expected ConnectionError, got the result 5"),
        (expecting(GOOD_DAY, executed={"sum": 2}), "expected the server to execute sum x2, it executed sum x1"),
        (expecting(PAYMENT, error=None, result="paid 99"), "expected the result 'paid 99', got ConnectionLostError"),
        (expecting(PAYMENT, error=ConnectionError), "expected ConnectionError, got ConnectionLostError"),
        (expecting(UNKNOWN, code=-32602), "expected the code -32602, got -32601"),
        (expecting(NOTIFICATION, executed={}), "expected the server to execute nothing, it executed tick x1"),
        (dataclasses.replace(GOOD_DAY, requests=(("sum", (object(),)),)), "expected the result 5, got TypeError"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.title,
)
def test_a_call_that_ends_otherwise_is_listed(scenario, message):
    succeeded, output = played([scenario])
    assert not succeeded
    assert output.count(message) == 4, "live and in the list, for both backends"
    assert "2 calls did not end as the scenario says:" in output
    assert f"  aiohttp: {scenario.title}: {message}" in output
    assert summary(output)["total"][-1] == 0


def test_the_server_notices_a_payment_that_is_made_twice():
    careless = dataclasses.replace(PAYMENT, strategy=lambda random: RetryStrategy(idempotent=True, backoff=ImmediateBackoff(attempts=3)))
    succeeded, output = played([careless])
    assert not succeeded
    assert "expected the server to execute pay x1, it executed pay x2" in output


@pytest.mark.slow
def test_the_server_notices_a_batch_that_is_repeated_as_a_whole():
    whole_batch = (("sum", "reserve", "get_price"), ("sum", "reserve", "get_price"))
    succeeded, output = played([expecting(BATCH, exchanges=whole_batch)])
    assert not succeeded
    assert "the server saw 2 (sum+reserve+get_price; reserve)" in output


@pytest.mark.parametrize(("scenario", "code"), [(GOOD_DAY, 0), (expecting(GOOD_DAY, result=6), 1)], ids=["kept", "falsified"])
def test_the_exit_code_says_whether_every_scenario_was_kept(scenario, code, monkeypatch, capsys):
    monkeypatch.setattr(demo_module, "run", functools.partial(run, scenarios=[GOOD_DAY, scenario]))
    with pytest.raises(SystemExit) as exited:
        main(["demo", "--seed", "1"])
    output, errors = capsys.readouterr()
    assert (exited.value.code, errors) == (code, "")
    assert ("MISMATCH" in output) is bool(code)


def test_a_batch_member_that_fails_fails_the_batch():
    broken = dataclasses.replace(BATCH, requests=(("sum", (1, 2)), ("nothing", ())), faults=())
    succeeded, output = played([broken])
    assert not succeeded
    assert "got MethodNotFoundError" in output


# --- the report ----------------------------------------------------------------------------------


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def coloured(monkeypatch, **variables):
    for name in STEERING:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "100", **variables}.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    report = make_report(stream)
    assert run(BACKENDS, 7, report, [GOOD_DAY, UNKNOWN])
    return report, stream.getvalue()


def without_styles(text):
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def test_a_terminal_gets_colour_and_a_table(monkeypatch):
    report, output = coloured(monkeypatch)
    assert isinstance(report, ColourReport)
    assert Counter(re.findall(r"\x1b\[(31|32)m", output)) >= Counter({"31": 2, "32": 7})
    assert "│ requests │     2 │        2 │         0 │      1 │         2 │" in without_styles(output)


def test_a_narrow_terminal_gets_the_summary_uncut(monkeypatch):
    _, output = coloured(monkeypatch, COLUMNS="40")
    assert summary(without_styles(output))["total"] == [4, 4, 0, 2, 4]


def test_a_terminal_that_knows_no_colour_gets_plain_lines(monkeypatch):
    report, output = coloured(monkeypatch, TERM="dumb")
    assert isinstance(report, PlainReport)
    assert "\x1b" not in output


def test_colour_and_plain_lines_say_the_same(monkeypatch):
    _, output = coloured(monkeypatch)
    _, plain = played([GOOD_DAY, UNKNOWN])
    assert without_styles(output).split("summary")[0] == plain.split("summary")[0]


def test_plain_lines_carry_no_control_characters_whatever_is_printed():
    stream = io.StringIO()
    PlainReport(stream).write(("a\x1b[31mb\r\nc\u2713\x00", ""))
    assert stream.getvalue() == "a\\x1b[31mb\\r\\nc\\u2713\\x00\n"


# --- the command line ----------------------------------------------------------------------------


def test_version():
    done = rpc("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"rpcretry {rpcretry.__version__}\n", "")


@pytest.mark.parametrize(("arguments", "words"), [(["--help"], ["demo", "--version"]), (["demo", "--help"], ["--seed", "--backend", "130"])])
def test_help_has_examples(arguments, words):
    done = rpc(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    for word in [*words, "Examples:\n", "  rpcretry demo --seed 7"]:
        assert word in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--seed", "x"], "invalid value for '--seed': "),
        (["demo", "--backend", "httpx"], "invalid value for '--backend': "),
        (["dmo"], "no such command 'dmo'"),
        (["demo", "--nope"], "no such option: --nope"),
        (["demo", "more\x1b[1m"], "got unexpected extra argument"),
        (["backoff"], "missing argument 'SPEC'"),
        (["backoff", "periodic", "--limit", "0"], "invalid value for '--limit': "),
        (["call", "http://localhost/", "--batch", "file", "--max-batch-size", "0"], "invalid value for '--max-batch-size': "),
    ],
)
def test_wrong_usage_exits_with_2_and_names_what_is_wrong(arguments, message, capsys):
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    output, errors = capsys.readouterr()
    assert (exited.value.code, output) == (2, "")
    first, *more = errors.splitlines()
    assert first.startswith(f"rpcretry: {message}")
    assert not first.endswith(".")
    assert "\x1b" not in errors
    assert all(line.startswith("  ") for line in more)
    assert more[-1].endswith(" --help")


def test_without_a_command_there_is_the_help(capsys):
    with pytest.raises(SystemExit) as exited:
        main([])
    # Versions of typer differ in where it goes, and in the exit code.
    assert exited.value.code in (0, 2)
    assert "".join(capsys.readouterr()).startswith("Usage: rpcretry [OPTIONS] COMMAND")


@pytest.mark.parametrize(
    ("blocked", "arguments", "message"),
    [
        ("typer", ["demo"], 'the command line needs typer and rich; install them with: pip install "rpcretry[cli]"'),
        ("rich", ["demo"], 'the command line needs typer and rich; install them with: pip install "rpcretry[cli]"'),
        ("typer", ["--version"], 'the command line needs typer and rich; install them with: pip install "rpcretry[cli]"'),
        ("requests", ["demo"], 'the demo needs requests; install with: pip install "rpcretry[requests]" (or run it with: --backend aiohttp)'),
        ("aiohttp", ["demo"], 'the demo needs aiohttp; install with: pip install "rpcretry[aiohttp]" (or run it with: --backend requests)'),
        ("aiohttp", ["demo", "--backend", "aiohttp"], 'the demo needs aiohttp; install with: pip install "rpcretry[aiohttp]"'),
        ("requests aiohttp", ["demo"], 'the demo needs requests and aiohttp; install with: pip install "rpcretry[aiohttp,requests]"'),
    ],
)
def test_a_missing_library_gives_the_command_that_mends_it(blocked, arguments, message):
    program = f"""
import sys
for name in {blocked.split()!r}:
    sys.modules[name] = None
from rpcretry.cli import main
sys.exit(main({arguments!r}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=environment(), check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"rpcretry: {message}\n")


def test_the_entry_point_imports_no_library():
    program = "import sys, rpcretry.cli; print(sorted({'typer', 'rich', 'click', 'aiohttp', 'requests', 'asyncio'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=environment(), check=True)
    assert done.stdout == "[]\n"


def test_a_server_that_cannot_listen_is_one_line(monkeypatch, capsys):
    def refuse(handler):
        raise OSError(98, "Address already in use")

    monkeypatch.setattr("rpcretry.cli._server.LoopbackServer", refuse)
    with pytest.raises(SystemExit) as exited:
        main(["demo"])
    assert exited.value.code == 1
    assert capsys.readouterr().err == "rpcretry: the demo cannot listen on 127.0.0.1: [Errno 98] Address already in use\n"


def test_output_that_cannot_be_written_is_one_line(monkeypatch, capsys):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    with contextlib.redirect_stdout(Full()), pytest.raises(SystemExit) as exited:
        main(["demo"])
    assert exited.value.code == 5
    assert capsys.readouterr().err == "rpcretry: the demo broke off: No space left on device\n"
