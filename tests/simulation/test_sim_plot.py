"""The picture of a simulation, its measures, and its document."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread

from rpcretry import CircuitBreaker, RetryBudget, RetryStrategy
from rpcretry.simulation import Change, Expectation, PolicySpec, Result, Scenario, Server, Settings, compare, document, draw
from rpcretry.simulation._plot import BARS, COLOURS, DENSE, STYLES, _capacity, _looks, figure_of
from rpcretry.simulation._report import MEASURES, trouble_of

DOWN = Scenario(
    "down",
    clients=50,
    rate=50,
    duration=40,
    server=Server(100, workers=2),
    timeline=(Change(10, 20, down="refuse"),),
    description="Nobody is there for ten seconds.",
)
HERD = Scenario("herd", clients=50, together=1, duration=10, server=Server(100, workers=2), timeline=(Change(1, 2, down="503"), Change(1.5, 3, capacity=0.5)))
POLICIES = [
    PolicySpec("none", lambda process, source: Settings(None, timeout=1)),
    PolicySpec("retries", lambda process, source: Settings(RetryStrategy(), timeout=1)),
    PolicySpec("budget", lambda process, source: Settings(RetryStrategy(), RetryBudget(20), timeout=1)),
    PolicySpec("breaker", lambda process, source: Settings(RetryStrategy(), CircuitBreaker(recovery_timeout=60), timeout=1)),
]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return [*compare(DOWN, POLICIES), *compare(HERD, POLICIES[:2])]


def texts(file: Path) -> set[str]:
    root = ElementTree.parse(file).getroot()
    assert root.tag == f"{SVG}svg"
    return {"".join(element.itertext()).strip() for element in root.iter(f"{SVG}text")}


def test_an_svg_has_the_words_and_the_same_bytes_each_time(tmp_path: Path, results: list[Result]) -> None:
    first, second = tmp_path / "a.svg", tmp_path / "b.SVG"
    for file in (first, second):
        draw([DOWN, HERD], results, file)
    assert first.read_bytes() == second.read_bytes()
    found = texts(first)
    assert {"down", "herd", "Nobody is there for ten seconds.", "50 clients", "what the server can do"} <= found
    assert {"attempts a second", "% of calls that succeed", "% of calls served by then", "none", "retries", "budget", "breaker", "never"} <= found


def test_a_png_shows_something(tmp_path: Path, results: list[Result]) -> None:
    file = tmp_path / "storm.png"
    draw([DOWN, HERD], results, str(file))
    picture = imread(file)[:, :, :3]
    # 14 inches at 150 dots each: sharp at 1400 pixels.
    assert picture.shape[1] == 2100
    assert 0.6 < (picture.min(axis=2) == 1.0).mean() < 0.98
    colours = {tuple(round(255 * value) for value in pixel) for pixel in picture[::3, ::3].reshape(-1, 3)}
    for colour in COLOURS[:4]:
        assert tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5)) in colours


def test_nothing_is_drawn_over_something_else(results: list[Result]) -> None:
    figure = figure_of([DOWN, HERD], results)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    width, height = figure.bbox.width, figure.bbox.height
    boxes = [axes.get_tightbbox(renderer) for axes in figure.axes if axes.axison]
    legend = figure.legends[0].get_window_extent(renderer)
    for box in [*boxes, legend]:
        assert box.x0 >= 0
        assert box.x1 <= width + 1
        assert box.y1 <= height + 1
    assert not any(legend.overlaps(axes.get_window_extent(renderer)) for axes in figure.axes)
    panels = [axes.get_window_extent(renderer) for axes in figure.axes]
    assert not any(first.overlaps(second) for place, first in enumerate(panels) for second in panels[:place])
    # The curves have most of it.
    assert all(axes.get_window_extent(renderer).width > 0.2 * width for axes in (figure.axes[0], figure.axes[1]))


def test_a_policy_has_one_look_in_all_rows_and_none_is_alike_in_a_row() -> None:
    looks = _looks([["a", "b", "c"], ["a", "d", "e"], ["b", "d"]])
    assert looks["a"][0] == COLOURS[0]
    # What is not together in a row may share a look, so that few are needed.
    assert looks["d"] == looks["b"] == (COLOURS[1], STYLES[0])
    assert looks["e"] == looks["c"]
    many = [str(number) for number in range(28)]
    assert len(set(_looks([many]).values())) == 28
    assert len(_looks([[*many, "one more"]])) == 29
    clash = _looks([["a"], ["b"], ["a", "c"], ["b", "c"]])
    assert clash["a"] == clash["b"] != clash["c"]


def test_lines_below_others_are_broader(results: list[Result]) -> None:
    curves = figure_of([DOWN], results).axes[0].get_lines()[:4]
    widths = [line.get_linewidth() for line in curves]
    assert widths == sorted(widths, reverse=True)
    assert len(set(widths)) == 4
    assert len(results[0].series.calls) <= DENSE


def test_the_attempts_are_those_of_the_series(results: list[Result]) -> None:
    uneven = dataclasses.replace(DOWN, bucket=1.5)
    (found,) = compare(uneven, POLICIES[:1])
    line = figure_of([uneven], [found]).axes[0].get_lines()[0]
    times, rates = line.get_data()
    # The last step has a second, and not one and a half.
    assert times[0] == 0.75
    assert times[-1] == 39.5
    assert rates[-1] == found.series.attempts[-1]
    assert rates[3] == pytest.approx(found.series.attempts[3] / 1.5)


def test_the_capacity_is_what_the_changes_leave() -> None:
    assert _capacity(DOWN) == ([0.0, 10, 20, 40.0], [100.0, 0.0, 100.0, 100.0])
    changes = (Change(2, 6, capacity=0.5), Change(4, latency=2.0), Change(5, restart=True), Change(1, 3, error_rate=0.2))
    times, left = _capacity(Scenario("s", rate=1, duration=8, server=Server(100), timeline=changes))
    assert times == [0.0, 1, 2, 3, 4, 5, 6, 8.0]
    assert left == [100, 100, 50, 50, 25, 25, 50, 50]


def test_bars_are_as_long_as_the_numbers_and_never_says_so(results: list[Result]) -> None:
    figure = figure_of([DOWN], results)
    amplification, recovery, tail = figure.axes[2:]
    assert [axes.get_title(loc="left") for axes in (amplification, recovery, tail)] == [BARS[0].title, BARS[1].title, BARS[4].title]
    assert [bar.get_width() for bar in amplification.patches] == [result.outage_amplification for result in results[:4]]
    assert [text.get_text() for text in recovery.texts] == ["0", "0", "0", "never"]
    assert recovery.patches[3].get_hatch()
    assert [label.get_text() for label in amplification.get_yticklabels()] == ["none", "retries", "budget", "breaker"]


def test_a_column_without_numbers_is_left_out(results: list[Result]) -> None:
    calm = Scenario("calm", rate=50, duration=10, server=Server(100))
    figure = figure_of([calm], compare(calm, POLICIES[:2]))
    assert [axes.axison for axes in figure.axes] == [True, True, True, False, False]
    assert figure.axes[2].get_title(loc="left") == "seconds of a\nsuccess, p99"
    # One policy alone is compared with nothing, and its numbers are shown all the same.
    assert figure_of([DOWN], results[:1]).axes[2].get_title(loc="left") == BARS[0].title


def test_crowds_beyond_measure_are_drawn_on_a_logarithmic_scale() -> None:
    steep = Scenario("steep", clients=2000, together=1, duration=10, bucket=0.1, server=Server(10, workers=2))
    assert figure_of([steep], compare(steep, POLICIES[:1])).axes[0].get_yscale() == "symlog"


def test_wrong_use_is_refused(tmp_path: Path, results: list[Result]) -> None:
    with pytest.raises(ValueError, match=r"path must end in \.png or \.svg, got 'a\.pdf'"):
        draw([DOWN], results, tmp_path / "a.pdf")
    with pytest.raises(ValueError, match="results has none of these scenarios"):
        draw([HERD], results[:4], tmp_path / "a.svg")
    with pytest.raises(FileNotFoundError):
        draw([DOWN], results, tmp_path / "nowhere" / "a.svg")
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_rest_works_and_the_error_says_what_to_install() -> None:
    program = """
import sys
sys.modules["matplotlib"] = None
from rpcretry.simulation import *
try:
    draw([], [], "storm.svg")
except ModuleNotFoundError as problem:
    print(problem)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == 'a picture needs matplotlib: pip install "rpcretry[plot]"\n'


# --- measures, expectations and the document -----------------------------------------------------


def test_measures_are_those_of_the_result(results: list[Result]) -> None:
    found = {name: measure.read(results[1]) for name, measure in MEASURES.items()}
    result = results[1]
    assert found["outage_amplification"] == result.outages[0].attempts / result.outages[0].calls > 3.5
    assert found["goodput"] == result.succeeded / result.calls
    assert (found["goodput_before"], found["goodput_after"]) == (result.before.goodput, result.after.goodput)
    assert found["p99_after"] == result.after.latency.p99
    assert found["refused"] == 0
    assert MEASURES["refused"].read(results[2]) == sum(results[2].refused.values()) > 0
    assert all(measure.meaning for measure in MEASURES.values())


def test_never_is_not_the_same_as_no_recovery_to_speak_of(results: list[Result]) -> None:
    recovery = MEASURES["time_to_recovery"].read
    assert recovery(results[3]) == math.inf
    assert recovery(results[0]) == 0
    # A herd alone has no level before, and a calm day nothing to recover from.
    assert recovery(results[4]) is None
    assert recovery(compare(Scenario("calm", rate=5, duration=5), POLICIES[:1])[0]) is None


@pytest.mark.parametrize(
    ("measure", "wanted", "holds"),
    [
        ("amplification", "<= 100", True),
        ("amplification", "< 1", False),
        ("outage_amplification", "> 3.5", True),
        ("refused", "== 0", True),
        ("goodput_before", ">= 0.99", True),
        ("goodput_during", ">= 0.99", False),
        ("time_to_recovery", "never", False),
        ("time_to_recovery", "< never", True),
        ("after_cap", "<= 1000", False),
    ],
)
def test_expectations_hold_or_not(results: list[Result], measure: str, wanted: str, holds: bool) -> None:
    assert Expectation.parse("down", "retries", measure, wanted).holds(results[1]) is holds


def test_expectations_about_never(results: list[Result]) -> None:
    stuck = results[3]
    assert Expectation.parse("down", "breaker", "time_to_recovery", "never").holds(stuck)
    assert Expectation.parse("down", "breaker", "time_to_recovery", "> 100").holds(stuck)
    assert not Expectation.parse("down", "breaker", "time_to_recovery", "<= 100").holds(stuck)
    assert str(Expectation.parse("down", "breaker", "time_to_recovery", "never")) == "down: breaker.time_to_recovery == never"
    assert str(Expectation.parse("down", "breaker", "goodput", "<=0.50")) == "down: breaker.goodput <= 0.5"


def test_trouble_is_spans_that_do_not_touch() -> None:
    changes = (Change(1, 3, capacity=0.5), Change(3, 4, latency=2.0), Change(6, restart=True), Change(7, down="503"))
    assert trouble_of(Scenario("s", rate=1, duration=9, timeline=changes)) == [(1, 4), (6, 6), (7, 9)]
    assert trouble_of(HERD) == [(1, 3)]


def test_the_document_is_json_and_the_same_for_the_same_seed(results: list[Result]) -> None:
    expectations = [Expectation.parse("down", "breaker", "time_to_recovery", "never"), Expectation.parse("other", "none", "goodput", "> 1")]
    found = document([DOWN, HERD], results, expectations)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    again = document([DOWN, HERD], [*compare(DOWN, POLICIES), *compare(HERD, POLICIES[:2])], expectations)
    assert again == found
    down, herd = found["scenarios"]
    assert [result["policy"] for result in down["results"]] == ["none", "retries", "budget", "breaker"]
    assert len(herd["results"]) == 2
    assert (down["server"]["capacity"], down["timeline"][0]["down"], down["arrivals"]) == (100, "refuse", 50)
    stuck = down["results"][3]
    assert stuck["measures"]["time_to_recovery"] == "never"
    assert set(stuck["measures"]) == set(MEASURES)
    assert stuck["series"]["attempts"] == list(results[3].series.attempts)
    assert stuck["before"]["goodput"] == results[3].before.goodput
    assert not {"elapsed", "cpu"} & set(stuck)
    # Of what was not run nothing is said.
    (expected,) = found["expectations"]
    assert expected == {"scenario": "down", "policy": "breaker", "measure": "time_to_recovery", "expected": "== never", "found": "never", "holds": True}
