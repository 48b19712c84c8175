"""``rpcretry simulate``: the tables, the document, the picture, and how it ends."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_process import environment, here, process, running
from rich.console import Console

import rpcretry.cli.simulate
from rpcretry.simulation import simulate

SMALL = """
[policy.none]
retry = false
timeout = 1
[policy.full]
retry = true
timeout = 1
[policy.budget]
like = "full"
budget = 20

[scenario.gone]
description = "Nobody is there."
clients = 200
processes = 2
rate = 50
duration = 20
server = { capacity = 100, workers = 2 }
[[scenario.gone.change]]
at = 5
until = 10
down = "refuse"
[scenario.gone.expect]
none.outage_amplification = "== 1"
full.outage_amplification = "> 3"

[scenario.calm]
policies = ["full"]
clients = 1
think = 1
duration = 15
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def test_the_tables(file):
    done = here("simulate", str(file))
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "gone: Nobody is there."
    assert lines[1] == "  200 clients in 2 processes; 50 calls/s; a server for 100/s; down (refuse) from 5 s to 10 s; 20 s in all"
    assert lines[3].split("  ")[-1] == "% of work"
    assert " ".join(lines[4].split()) == "policy outage whole run before during after recovery capped after p50 p99 p99.9 refused wasted"
    assert [line.split()[0] for line in lines[5:8]] == ["none", "full", "budget"]
    none, full, budget = (line.split() for line in lines[5:8])
    assert none[1:3] == ["1.000", "1.000"]
    assert float(full[1]) > 3
    assert 1 < float(budget[1]) < 1.4
    assert none[6:8] == ["0.0", "-"]
    assert int(budget[-2]) > 100
    assert lines[9:11] == ["calm", "  1 client; a pause of 1 s between the calls of each; a server for 1,000/s; 15 s in all"]
    assert lines[14].split()[:6] == ["full", "-", "1.000", "100.0", "-", "-"]
    assert lines[16:] == ["as expected: gone: none.outage_amplification == 1 (1)", f"as expected: gone: full.outage_amplification > 3 ({float(full[1]):.4g})"]
    # Under the names of their groups.
    assert len({len(line) for line in lines[3:8]}) == 1
    assert here("simulate", str(file)) == done
    assert here("simulate", str(file), "--seed", "1").out != done.out


def test_what_is_not_as_expected_is_1(file):
    file.write_text(SMALL.replace('"> 3"', '"<= 1.02"'))
    done = here("simulate", str(file))
    assert (done.code, done.err) == (1, "rpcretry: 1 of 2 expectations does not hold\n")
    assert re.search(r"^NOT AS EXPECTED: gone: full\.outage_amplification <= 1\.02 \(3\.\d+\)$", done.out, re.MULTILINE)
    assert here("simulate", str(file), "--json").err == done.err
    # What is not run is not judged.
    assert here("simulate", str(file), "--policy", "none").code == 0


def test_names_choose_what_is_run(file):
    done = here("simulate", str(file), "--scenario", "calm")
    assert [line for line in done.out.splitlines() if not line.startswith(" ")][:1] == ["calm"]
    assert "gone" not in done.out
    document = json.loads(here("simulate", str(file), "--policy", "budget", "--policy", "none", "--json").out)
    chosen = {scenario["name"]: [result["policy"] for result in scenario["results"]] for scenario in document["scenarios"]}
    # The calm scenario is for another policy.
    assert chosen == {"gone": ["none", "budget"], "calm": []}
    assert [each["policy"] for each in document["expectations"]] == ["none"]


def test_the_document(file, tmp_path):
    done = here("simulate", str(file), "--json", "-o", str(tmp_path / "out.json"), "--seed", "5")
    assert (done.code, done.err) == (0, "")
    document = json.loads(done.out)
    assert json.loads((tmp_path / "out.json").read_text()) == document
    assert (document["seed"], [scenario["name"] for scenario in document["scenarios"]]) == (5, ["gone", "calm"])
    result = document["scenarios"][0]["results"][1]
    assert result["measures"]["outage_amplification"] > 3
    assert len(result["series"]["attempts"]) == 20
    # A series is a line, and not twenty.
    assert re.search(r'^ +"attempts": \[\d+(, \d+){19}\],$', done.out, re.MULTILINE)
    assert len(done.out.splitlines()) < 1_000
    assert [each["holds"] for each in document["expectations"]] == [True, True]
    # With the file alone there are the tables.
    assert here("simulate", str(file), "-o", str(tmp_path / "out.json")).out.startswith("gone: Nobody")


def test_more_clients_have_a_server_to_match(file):
    small, large = (json.loads(here("simulate", str(file), "--scenario", "gone", "--json", *more).out) for more in ((), ("--clients", "1000")))
    before, after = small["scenarios"][0], large["scenarios"][0]
    assert (after["clients"], after["processes"], after["rate"], after["server"]["capacity"], after["server"]["workers"]) == (1000, 10, 250, 500, 10)
    for place in range(3):
        first, second = (scenario["results"][place] for scenario in (before, after))
        assert second["calls"] == pytest.approx(5 * first["calls"], rel=0.1)
        assert second["measures"]["outage_amplification"] == pytest.approx(first["measures"]["outage_amplification"], rel=0.05)


def test_a_shorter_run(file):
    done = here("simulate", str(file), "--duration", "12", "--scenario", "gone")
    assert "12 s in all" in done.out
    done = here("simulate", str(file), "--duration", "5")
    said = "rpcretry: --duration 5 is too short for gone: timeline has a Change at 5 s, and the run ends at 5 s; raise duration\n"
    assert done == (2, "", said)
    done = here("simulate", str(file), "--duration", "1e8")
    assert (done.code, done.err) == (2, "rpcretry: --duration 1e+08 is too long for gone: bucket must be at least 100, a millionth of the duration, got 1.0\n")


@pytest.mark.parametrize("name", ["storm.png", "storm.SVG"])
def test_the_picture(file, tmp_path, name):
    done = here("simulate", str(file), "--plot", str(tmp_path / name))
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("gone: Nobody")
    assert (tmp_path / name).read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")
    assert (tmp_path / name).stat().st_size > 20_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--policy", "nobody"], "rpcretry: --policy: there is no 'nobody' in the file; known are none, full, budget\n"),
        (["--scenario", "gon"], "rpcretry: --scenario: there is no 'gon' in the file; did you mean gone?\n"),
        (["--scenario", "calm", "--policy", "none"], "rpcretry: there is nothing to run: calm runs full\n"),
        (["--plot", "storm.gif"], "rpcretry: --plot takes a file that ends in .png or .svg, got 'storm.gif'\n"),
        (["--duration", "0"], "rpcretry: --duration takes seconds, more than 0, got 0; leave it out for what the file says\n"),
        (["--duration", "10s"], "rpcretry: --duration takes a number of seconds, got '10s'; write 10, without a unit\n"),
        (["--clients", "0"], "--clients"),
        (["--colour"], "--colour"),
    ],
)
def test_wrong_usage_is_2_and_runs_nothing(file, arguments, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rpcretry.cli.simulate, "simulate", None)
    done = here("simulate", str(file), *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(said) if said.startswith("rpcretry") else said in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["small.toml"]


def test_a_file_that_is_wrong_or_not_there_is_2(file, tmp_path):
    file.write_text(SMALL.replace("clients = 200", "client = 200"))
    assert here("simulate", str(file)) == (2, "", "rpcretry: small.toml: [scenario.gone] no such key: 'client'; did you mean clients?\n")
    missing = tmp_path / "missing.toml"
    assert here("simulate", str(missing)) == (2, "", f"rpcretry: cannot read {missing}: No such file or directory\n")
    assert here("simulate").code == 2


@pytest.mark.parametrize("option", ["--plot", "-o"])
def test_what_cannot_be_written_is_5_before_anything_runs(file, tmp_path, option, monkeypatch):
    monkeypatch.setattr(rpcretry.cli.simulate, "simulate", None)
    path = tmp_path / "nowhere" / "a.svg"
    assert here("simulate", str(file), option, str(path)) == (5, "", f"rpcretry: cannot write {path}: No such file or directory\n")
    (tmp_path / "folder.svg").mkdir()
    path = tmp_path / "folder.svg"
    assert here("simulate", str(file), option, str(path)) == (5, "", f"rpcretry: cannot write {path}: Is a directory\n")
    monkeypatch.setattr(os, "access", lambda path, mode, **options: mode != os.W_OK)
    path = tmp_path / "a.svg"
    assert here("simulate", str(file), option, str(path)) == (5, "", f"rpcretry: cannot write {path}: Permission denied\n")


def test_a_file_that_cannot_be_written_in_the_end_is_named(file):
    done = here("simulate", str(file), "-o", "/dev/full")
    assert (done.code, done.err) == (5, "rpcretry: cannot write /dev/full: No space left on device\n")
    assert done.out.startswith("gone")


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def on_a_terminal(monkeypatch, columns, *arguments):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen = Terminal()
    code = here("simulate", *arguments, stdout=screen).code
    return code, re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue()), screen.getvalue()


def test_on_a_narrow_terminal_the_columns_are_below_each_other(file, monkeypatch):
    _, wide, _ = on_a_terminal(monkeypatch, 200, str(file), "--scenario", "gone")
    code, narrow, _ = on_a_terminal(monkeypatch, 70, str(file), "--scenario", "gone")
    assert code == 0
    tables = [line for line in narrow.splitlines() if re.match("  (policy|none|full|budget) ", line)]
    assert max(map(len, tables)) <= 70
    assert len(tables) % 4 == 0
    assert len(tables) > 4
    # The same cells, in the same order.
    for name in ("policy", "none", "full", "budget"):
        together = [cell for line in tables if line.split()[0] == name for cell in line.split()[1:]]
        assert together == next(line for line in wide.splitlines() if line.startswith(f"  {name} ")).split()[1:]
    assert re.search(r"^3 runs of [\d,]+ calls in all, \d+\.\d s of CPU$", wide, re.MULTILINE)


def test_colours_say_what_is_as_expected(file, monkeypatch):
    file.write_text(SMALL.replace('"> 3"', '"<= 1.02"'))
    code, plain, coloured = on_a_terminal(monkeypatch, 200, str(file), "--scenario", "gone")
    assert code == 1
    amplification = re.search(r"^  full +([\d.]+)", plain, re.MULTILINE)[1]
    # Red for the one, green for the other, in the table and below it.
    assert re.search(rf"\x1b\[31m +{re.escape(amplification)}\x1b\[0m", coloured)
    assert re.search(r"\x1b\[32m +1\.000\x1b\[0m", coloured)
    assert "\x1b[31mNOT AS EXPECTED" in coloured


def test_ctrl_c_shows_what_is_finished(file, tmp_path, monkeypatch):
    runs = []

    def interrupted(scenario, policy, **options):
        runs.append(policy.name)
        if len(runs) == 3:
            raise KeyboardInterrupt
        return simulate(scenario, policy, **options)

    monkeypatch.setattr(rpcretry.cli.simulate, "simulate", interrupted)
    done = here("simulate", str(file), "-o", str(tmp_path / "out.json"), "--plot", str(tmp_path / "a.svg"))
    assert (done.code, done.err) == (130, "rpcretry: interrupted\n")
    assert [line.split()[0] for line in done.out.splitlines()[5:7]] == ["none", "full"]
    assert "as expected: gone: full" in done.out
    assert [result["policy"] for result in json.loads((tmp_path / "out.json").read_text())["scenarios"][0]["results"]] == ["none", "full"]
    assert not (tmp_path / "a.svg").exists()
    runs[:] = ["", ""]
    # Where nothing is finished nothing is shown, and nothing written over.
    before = (tmp_path / "out.json").read_text()
    assert here("simulate", str(file), "-o", str(tmp_path / "out.json")).out == ""
    assert (tmp_path / "out.json").read_text() == before


@pytest.mark.slow
def test_the_process_ends_of_the_signal(tmp_path):
    # A run of minutes, from a pipe: when that is read, the program is there and hears the signal.
    endless = SMALL.replace("rate = 50", "rate = 500000").replace("capacity = 100,", "capacity = 1000000,")
    os.mkfifo(tmp_path / "endless.toml")
    with running("simulate", str(tmp_path / "endless.toml"), "--policy", "none", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        (tmp_path / "endless.toml").write_text(endless)
        with pytest.raises(subprocess.TimeoutExpired):
            started.wait(0.5)
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=20)
    assert (started.returncode, out, err) == (-signal.SIGINT, b"", b"rpcretry: interrupted\n")


@pytest.mark.slow
def test_streams_that_are_full_or_left(file):
    command = f"{sys.executable} -m rpcretry.cli simulate {file} --scenario calm"
    done = subprocess.run(["bash", "-c", f"{command} >/dev/full"], capture_output=True, text=True, timeout=60, env=environment(), check=False)
    assert (done.returncode, done.stderr) == (5, "rpcretry: the simulation broke off: No space left on device\n")
    done = subprocess.run(
        ["bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True, timeout=60, env=environment(), check=False
    )
    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.mark.slow
def test_without_matplotlib_there_are_the_tables_and_no_picture(file, tmp_path):
    program = f"""
import sys
sys.modules["matplotlib"] = None
from rpcretry.cli import main
try:
    main(["simulate", {str(file)!r}, "--scenario", "calm"])
except SystemExit as ended:
    print(ended.code)
main(["simulate", {str(file)!r}, "--plot", {str(tmp_path / "a.png")!r}])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 2
    assert done.stdout.startswith("calm\n")
    assert done.stdout.endswith("0\n")
    assert done.stderr == 'rpcretry: --plot needs matplotlib; install with: pip install "rpcretry[plot]"\n'


def test_names_are_neither_markup_nor_formulas(file, tmp_path, monkeypatch):
    name = r"[/x] $\frac{$"
    file.write_text(SMALL.replace("[scenario.calm]", f"[scenario.'{name}']\ndescription = '{name}'"))
    screen = io.StringIO()
    monkeypatch.setattr(rpcretry.cli.simulate, "terminal", lambda stream: Console(file=screen, force_terminal=True, width=100))
    done = here("simulate", str(file), "--scenario", name, "--plot", str(tmp_path / "a.svg"))
    assert (done.code, done.err) == (0, "")
    assert name in screen.getvalue()
    assert name in (tmp_path / "a.svg").read_text()


@pytest.mark.slow
def test_a_terminal_sees_how_far_it_is(file):
    import pty

    master, slave = pty.openpty()
    try:
        command = [sys.executable, "-m", "rpcretry.cli", "simulate", str(file), "--scenario", "gone"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=slave, timeout=60, env=environment(TERM="xterm-256color", COLUMNS="100"), check=False)
        os.set_blocking(master, False)
        shown = os.read(master, 100_000).decode()
    finally:
        os.close(master)
        os.close(slave)
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout
    assert "gone: " in shown
    assert "%" in shown


def test_the_example_is_the_one_of_the_help():
    said = here("simulate", "--help").out
    assert "examples/outage.toml" in said
    assert (Path(__file__).parent.parent.parent / "examples" / "outage.toml").exists()
    codes = {int(code) for code in re.findall(r"^ +(\d+)  ", said.split("Exit codes:")[1].split("Examples:")[0], re.MULTILINE)}
    assert codes == {0, 1, 2, 5, 70, 130, 141}


@pytest.mark.slow
def test_as_a_process_it_prints_the_same(file):
    done = process("simulate", str(file), "--scenario", "calm")
    assert (done.returncode, done.stdout, done.stderr) == here("simulate", str(file), "--scenario", "calm")
