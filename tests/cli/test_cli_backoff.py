"""``rpcretry backoff``: the table, the numbers and the picture."""

import io
import json
import math
import random
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from cli_process import environment, here, process
from matplotlib.image import imread

from rpcretry.cli._plot import figure_of
from rpcretry.cli.backoff import SAMPLES, survey, title_of
from rpcretry.retry import ExponentialBackoff, FullJitter

PLAIN = """\
ExponentialBackoff(attempts=5, base=0.1, factor=2)

retry  delay  waited
    1  0.100   0.100  ##
    2  0.200   0.300  #####
    3  0.400   0.700  ##########
    4  0.800   1.500  ####################
    5  1.600   3.100  ########################################

5 retries wait 3.100 s
"""

# Drawn from --seed 0; it changes where the order of draws does.
JITTERED = """\
ExponentialBackoff(attempts=3, jitter=FullJitter(), base=0.1, factor=2)
1,000 samples, --seed 0; # up to the mean, - up to the most

retry  least   mean   most  waited
    1  0.000  0.051  0.100   0.051  #####-----
    2  0.000  0.100  0.200   0.151  ##########----------
    3  0.000  0.200  0.400   0.351  ####################--------------------

3 retries wait 0.351 s in the mean, from 0.030 to 0.647 s
"""


@pytest.mark.slow
def test_the_table_as_a_process():
    done = process("backoff", "exponential:base=0.1,factor=2,attempts=5")
    assert (done.returncode, done.stdout, done.stderr) == (0, PLAIN, "")


def test_the_table_of_a_jitter_says_how_it_came_about():
    done = here("backoff", "exponential:base=0.1,jitter=full")
    assert done == (0, JITTERED, "")
    assert here("backoff", "exponential:base=0.1,jitter=full") == done
    assert here("backoff", "exponential:base=0.1,jitter=full", "--seed", "1").out != done.out


@pytest.mark.parametrize(
    ("spec", "limit", "end"),
    [
        ("fibonacci:attempts=inf,max_value=60", 12, "the first 12 retries wait 263.000 s\nthere is no last one; --limit shows more\n"),
        ("periodic:attempts=1000002", 2, "the first 2 retries wait 2.000 s\n1,000,000 more follow; --limit shows more\n"),
        ("periodic:attempts=1", 1, "\n1 retry wait 1.000 s\n"),
        ("periodic:attempts=0", 20, "PeriodicBackoff(attempts=0, interval=1)\nno retries\n"),
        ("immediate:attempts=2", 20, "    2  0.000   0.000\n\n2 retries wait 0.000 s\n"),
    ],
)
def test_the_end_of_the_table(spec, limit, end):
    done = here("backoff", spec, "--limit", str(limit))
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith(end)


@pytest.mark.parametrize(
    ("spec", "column"),
    [
        ("exponential:base=0.0001,attempts=3", ["0.00010", "0.00020", "0.00040"]),
        ("periodic:interval=0.0000123,attempts=1", ["0.000012"]),
        ("periodic:interval=0.001,attempts=1", ["0.001"]),
        ("periodic:interval=1e-12,attempts=1", ["0.000000000"]),
        ("linear:base=0,increment=5,attempts=2", ["0.000", "5.000"]),
    ],
)
def test_short_delays_have_digits(spec, column):
    lines = here("backoff", spec).out.splitlines()
    assert [line.split()[1] for line in lines[3 : 3 + len(column)]] == column


def test_of_a_full_jitter_the_mean_says_how_many_digits():
    row = here("backoff", "exponential:base=0.0003,jitter=full,attempts=1").out.splitlines()[4].split()
    assert row[1] == "0.00000"
    assert 0.00012 < float(row[2]) < 0.00018
    assert {len(cell) for cell in row[1:5]} == {7}


@pytest.mark.parametrize(("columns", "longest"), [(200, 60), (60, 38), (20, 10)])
def test_bars_are_as_long_as_the_terminal_is_wide(monkeypatch, columns, longest):
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    screen = Terminal()
    here("backoff", "linear:attempts=4", stdout=screen)
    assert max(map(len, re.findall("#+", screen.getvalue()))) == longest


@pytest.mark.parametrize(("retries", "samples"), [(3, 1_000), (200, 1_000), (1_000, 200)])
def test_of_many_retries_there_are_fewer_samples(retries, samples):
    found = survey("periodic:attempts=inf,jitter=0.1", retries, 0)
    assert (len(found.samples), len(found.delays)) == (samples, retries)
    # The limit is more than there is.
    assert len(survey("periodic:attempts=2,jitter=0.1", 1_000, 0).samples) == 1_000


def test_bars_are_as_long_as_the_delays():
    rows = [line.split() for line in here("backoff", "linear:attempts=4").out.splitlines()[3:7]]
    assert [len(row[3]) for row in rows] == [10, 20, 30, 40]


def test_the_numbers_as_json():
    found = json.loads(here("backoff", "periodic:interval=0.5,attempts=2", "--json").out)
    assert found == {
        "backoff": "PeriodicBackoff(attempts=2, interval=0.5)",
        "attempts": 2,
        "samples": 1,
        "seed": None,
        "retries": [
            {"retry": 1, "delay": {"least": 0.5, "mean": 0.5, "most": 0.5}, "waited": {"least": 0.5, "mean": 0.5, "most": 0.5}},
            {"retry": 2, "delay": {"least": 0.5, "mean": 0.5, "most": 0.5}, "waited": {"least": 1.0, "mean": 1.0, "most": 1.0}},
        ],
    }
    endless = json.loads(here("backoff", "exponential:attempts=inf,jitter=0.1", "--limit", "3", "--seed", "7", "--json").out)
    assert (endless["attempts"], endless["samples"], endless["seed"], len(endless["retries"])) == (None, SAMPLES, 7, 3)
    assert json.loads(here("backoff", "immediate:attempts=0", "--json").out)["retries"] == []


def test_the_samples_are_those_of_the_backoff_itself():
    found = survey("exponential:base=0.1,attempts=4,jitter=full", 20, seed=3)
    backoff = ExponentialBackoff(4, base=0.1, jitter=FullJitter(random=random.Random(3).random))
    runs = [list(backoff()) for _ in range(SAMPLES)]
    assert found.samples == runs
    assert found.delays[2].mean == pytest.approx(sum(run[2] for run in runs) / SAMPLES)
    assert found.waited[3].most == max(map(sum, runs))
    # Far within what 1,000 draws from 0 to 0.8 s differ by.
    assert math.isclose(found.delays[3].mean, 0.4, abs_tol=0.05)


def test_decorrelated_jitter_is_sampled():
    assert here("backoff", "decorrelated:attempts=2").out.splitlines()[1] == "1,000 samples, --seed 0; # up to the mean, - up to the most"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["expnential"], "unknown backoff 'expnential'; did you mean exponential?"),
        (["exponential:max_delay=3"], "exponential has no parameter 'max_delay'; here it is called max_value"),
        (["exponential:base=x"], "exponential: base must be a number, got 'x'"),
        (["periodic", "--limit", "0"], "--limit"),
        (["periodic", "--limit", "1001"], "--limit"),
        (["periodic", "--plot", "delays.gif"], "--plot takes a file that ends in .png or .svg, got 'delays.gif'"),
        (["periodic:attempts=0", "--plot", "delays.svg"], "--plot: a backoff without retries has no delays to draw; give attempts=1 or more"),
        ([], "SPEC"),
    ],
)
def test_wrong_usage_is_2(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = here("backoff", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert list(tmp_path.iterdir()) == []


# --- the picture ---------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["exponential:base=0.1,attempts=8,jitter=full", "fibonacci:attempts=6"])
def test_a_png_shows_something(tmp_path, spec):
    file = tmp_path / "delays.PNG"
    done = here("backoff", spec, "--plot", str(file))
    assert (done.code, done.err) == (0, "")
    assert done.out.count("\n") > 6
    assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    picture = imread(file)[:, :, :3]
    assert picture.shape == (540, 1350, 3)
    # Neither blank nor noise: the ink is a small part, in both halves, and of many shades.
    for half in (picture[:, :675], picture[:, 675:]):
        assert 0.7 < (half.min(axis=2) == 1.0).mean() < 0.98
        assert len({tuple(pixel) for pixel in half.reshape(-1, 3)}) > 50


def test_an_svg_has_the_words_the_marks_and_the_same_bytes_each_time(tmp_path):
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    for file in (first, second):
        assert here("backoff", "exponential:base=0.1,attempts=8,jitter=equal", "--plot", str(file)).code == 0
    assert first.read_bytes() == second.read_bytes()
    root = ElementTree.parse(first).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = {"".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")}
    title = "ExponentialBackoff(attempts=8, jitter=EqualJitter(), base=0.1, factor=2)"
    assert {"Delay before each retry", "Waited in all", "seconds", "retry", "mean", "samples", "least to most", title} <= texts
    # A mark for each of 200 samples of 8 delays.
    assert len(list(root.iter("{http://www.w3.org/2000/svg}use"))) > 1_600


def drawn(spec, limit=20):
    found = survey(spec, limit, 0)
    figure = figure_of(found, title_of(found.backoff))
    figure.savefig(io.BytesIO())
    return figure


@pytest.mark.parametrize(
    ("spec", "left", "right"), [("periodic:attempts=1", ["1"], ["0", "1"]), ("periodic:attempts=2,jitter=0.5", ["1", "2"], ["0", "1", "2"])]
)
def test_retries_are_counted_in_whole_numbers(spec, left, right):
    figure = drawn(spec)
    for axes, ticks in zip(figure.axes, (left, right), strict=True):
        low, high = axes.get_xlim()
        shown = [label.get_text() for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True) if low <= place <= high]
        assert shown == ticks


@pytest.mark.parametrize(
    "spec",
    ["periodic:attempts=1", "linear:attempts=inf,base=0.123456,increment=0.98765,jitter=0.123456,max_value=123456.7"],
)
def test_the_title_fits_whatever_its_length(spec):
    figure = drawn(spec)
    extent = figure._suptitle.get_window_extent()
    assert extent.x0 >= 0
    assert extent.x1 <= figure.bbox.width
    assert extent.width > figure.bbox.width / 5


def test_the_legend_is_readable():
    legend = drawn("periodic:attempts=3,jitter=0.1").axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["samples", "mean"]
    assert [handle.get_alpha() for handle in legend.legend_handles] == [1, 1]
    assert legend.markerscale == 2


def test_without_delays_the_scale_is_empty_and_not_made_up():
    assert [axes.get_ylim() for axes in drawn("immediate:attempts=3").axes] == [(0, 1), (0, 1)]
    assert drawn("periodic:attempts=3,interval=5").axes[0].get_ylim()[1] > 5


def test_many_retries_are_drawn_with_few_points():
    (scattered,) = [each for each in drawn("periodic:attempts=inf,jitter=0.1", 1_000).axes[0].collections if len(each.get_offsets()) > 1]
    assert 1_000 <= len(scattered.get_offsets()) <= 4_000


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path):
    path = tmp_path / "nowhere" / "a.svg"
    assert here("backoff", "periodic", "--plot", str(path)) == (5, "", f"rpcretry: cannot write {path}: No such file or directory\n")


@pytest.mark.slow
def test_without_matplotlib_there_is_the_table_and_no_picture(tmp_path):
    program = f"""
import sys
sys.modules["matplotlib"] = None
from rpcretry.cli import main
try:
    main(["backoff", "periodic:attempts=1"])
except SystemExit as ended:
    print(ended.code)
main(["backoff", "periodic", "--plot", {str(tmp_path / "a.png")!r}])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 2
    assert done.stdout.endswith("\n1 retry wait 1.000 s\n0\n")
    assert done.stderr == 'rpcretry: --plot needs matplotlib; install with: pip install "rpcretry[plot]"\n'
