"""The pages build without a warning, references to names of this package included."""

from __future__ import annotations

import importlib
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from pages import DOCS

from rpcretry import CircuitState, RetryBudget


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-b", "html", "-d", str(out / "doctrees"), str(DOCS), str(out / "html")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "html"


def test_every_page_is_built_and_reachable(built: Path) -> None:
    pages = {path.stem for path in DOCS.glob("*.rst")}
    assert {path.stem for path in built.glob("*.html")} >= pages
    index = (built / "index.html").read_text()
    assert [page for page in pages - {"index"} if f'href="{page}.html"' not in index] == []


PICTURES = {
    "strategies": ["backoffs.svg", "jitter.svg"],
    "why_full_jitter": ["herd.svg", "contention.svg"],
    "recommended": ["recommended.svg"],
    "engine": ["engine.svg"],
    "breaker": ["breaker_states.svg", "breaker_timeline.svg"],
    "budget": ["budget.svg", "rate_limit.svg"],
    "deadlines": ["deadline.svg"],
    "batches": ["partial_retry.svg", "joining.svg"],
    "benchmarks": ["benchmarks.svg"],
    "simulation": ["storm.svg"],
}


def test_the_pictures_are_there(built: Path) -> None:
    for page, pictures in PICTURES.items():
        text = (built / f"{page}.html").read_text()
        for picture in pictures:
            assert re.search(rf'<img alt="[^"]{{40,}}"[^>]*src="_images/{picture}"', text), "a picture needs words for those who do not see it"
            assert (built / "_images" / picture).stat().st_size > 5_000
    assert {picture for pictures in PICTURES.values() for picture in pictures} == set(part("pictures").PICTURES)


class Links(HTMLParser):
    """What a page points to, and what may be pointed to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.targets.append(value)
            elif value and name in ("id", "name"):
                self.places.add(value)


def dead_links(folder: Path) -> Iterator[str]:
    """The links within the pages that lead nowhere."""
    pages = {path: Links(path.read_text()) for path in folder.rglob("*.html")}
    for path, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            place = unquote(parts.fragment)
            if not file.exists():
                yield f"{path.name}: {target}: no such file"
            elif place and file in pages and place not in pages[file].places:
                yield f"{path.name}: {target}: no such place"


def test_no_link_within_the_pages_is_dead(built: Path) -> None:
    assert list(dead_links(built.resolve())) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there">1</a><a href="b.html#not">2</a><a href="c.html">3</a><a href="https://x/y">4</a><a href="#here">5</a>'
    )
    (tmp_path / "b.html").write_text('<p id="there"></p>')
    assert list(dead_links(tmp_path)) == ["a.html: b.html#not: no such place", "a.html: c.html: no such file", "a.html: #here: no such place"]


def test_commands_are_shown_as_commands_and_programs_before_as_such(built: Path) -> None:
    tutorial, before = (built / "tutorial.html").read_text(), (built / "migrating_tenacity.html").read_text()
    # go: what Pygments takes for the output of a command, and shows in grey.
    (install,) = re.findall(r'<div class="highlight-console[^"]*">(.*?rpcretry\[requests\].*?)</div>', tutorial, re.DOTALL)
    assert 'class="go"' not in install
    style = (built / "_static" / "pages.css").read_text()
    assert 'href="_static/pages.css' in before
    assert '<div class="before highlight-python' in before
    assert ".before .highlight {" in style


def test_the_front_page_says_in_three_sentences_whom_it_is_for(built: Path) -> None:
    (said,) = re.findall(r"^\*\*For whom\.\*\* (.*?)\n\n", (DOCS / "index.rst").read_text(), re.MULTILINE | re.DOTALL)
    assert len(re.findall(r"[.?!](?:\s|$)", said)) == 3
    assert "It is for " in said
    assert "It is not for " in said


def test_the_pages_load_nothing_from_elsewhere(built: Path) -> None:
    for page in built.glob("*.html"):
        found = re.findall(r"<(?:script|img|link rel=\"stylesheet\")[^>]*(?:src|href)=\"(?:https?:)?//", page.read_text())
        assert found == [], page.name


def test_the_engines_picture_has_each_transition(built: Path) -> None:
    engine = part("picture_engine")
    edges = set(engine.transitions())
    assert {("_admit", "Attempt"), ("_hold", "Wait"), ("_advance", "Wait"), ("_conclude", "Stop"), ("settle", "Wait"), ("settle", "_conclude")} <= edges
    assert {("_conclude", "_fall_back"), ("_next_rescue", "Rescue"), ("rescued", "_next_rescue"), ("unrescued", "_next_rescue")} <= edges
    assert {name for edge in edges for name in edge} == set(engine.PLACES)
    drawn = (built / "_images" / "engine.svg").read_text()
    for name in engine.PLACES:
        assert f">{name.removeprefix('_').replace('_', ' ')}</text>" in drawn


def test_the_breakers_picture_has_each_change_of_its_state() -> None:
    closed, half_open, open_ = CircuitState.CLOSED, CircuitState.HALF_OPEN, CircuitState.OPEN
    assert set(part("picture_breaker").changes()) == {
        (closed, open_, "5 failures in a row"),
        (open_, half_open, "recovery time over"),
        (half_open, closed, "2 probes succeeded"),
        (half_open, open_, "a probe failed"),
        (closed, open_, "open() was called"),
        (half_open, open_, "open() was called"),
        (open_, closed, "close() was called"),
        (half_open, closed, "close() was called"),
        (open_, closed, "reset() was called"),
        (half_open, closed, "reset() was called"),
    }


def test_the_outage_on_the_breakers_page_is_as_it_says() -> None:
    breaker = part("picture_breaker")
    run = breaker.outage()
    begun, ended = breaker.DOWN
    assert (begun, ended, breaker.RECOVERY) == (10, 47, 15)
    reached = [when for when, end in run.calls if end != "refused" and begun <= when < ended]
    assert len(reached) == 7
    assert min(when for when, end in run.calls if end == "ok" and when >= ended) - ended == 12
    assert [state.name for _, state in run.states] == ["CLOSED", "OPEN", "HALF_OPEN", "OPEN", "HALF_OPEN", "OPEN", "HALF_OPEN", "CLOSED"]


def test_the_outage_on_the_budgets_page_is_as_it_says() -> None:
    budget = part("picture_budget")
    with_budget, without = budget.outage(RetryBudget()), budget.outage(None)
    down = slice(*budget.DOWN)
    assert {second.load for second in without[down]} == {4.0}
    assert sum(second.load - 1 for second in with_budget[down]) * budget.CALLS == pytest.approx(100)
    assert {second.load for second in with_budget[budget.DOWN[0] + 4 :]} == {1.0}


def test_the_rate_limits_picture_keeps_to_the_rate() -> None:
    rate = part("picture_rate")
    run = rate.run()
    assert len(run.went) == len(run.asked) == 29
    assert run.went[:10] == [1.0] * 10
    gaps = [later - earlier for earlier, later in itertools.pairwise(run.went[9:25])]
    assert gaps == pytest.approx([0.2] * 15)
    assert run.went[25:] == run.asked[25:]
    assert min(tokens for _, tokens in run.level) >= -1e-6


def test_the_deadlines_picture_shows_three_ends() -> None:
    deadline = part("picture_deadline")
    cut, last, not_begun = (make() for make in deadline.RUNS.values())
    assert [bar.kind for bar in cut.bars] == ["cut", "wait", "ok"]
    assert [bar.kind for bar in last.bars] == ["cut", "wait", "cut", "wait", "ended"]
    assert last.ended == deadline.DEADLINE
    assert [bar.kind for bar in not_begun.bars] == ["failed", "wait", "failed"]
    assert not_begun.ended == pytest.approx(4.2)


def test_the_crowd_on_the_page_about_jitter_is_as_it_says() -> None:
    contention = part("picture_contention")
    plain, jittered = contention.herd(False), contention.herd(True)
    text = (DOCS / "why_full_jitter.rst").read_text()
    assert contention.HERD == 300
    assert f"can serve {contention.CAPACITY} requests" in text
    for slots, said in ((plain, "after\n331 s, and 3150 requests"), (jittered, "it is 4.8 s and 493 requests")):
        assert said in text
        seconds, requests = re.findall(r"[\d.]+", said)
        # The last of them is served within the last slot that had one.
        assert (len(slots) * contention.SLOT, sum(slots)) == (pytest.approx(float(seconds), abs=0.15), int(requests))
    meetings = [slot for slot, count in enumerate(plain) if count > contention.CAPACITY]
    assert [round(slot * contention.SLOT, 6) for slot in meetings[:4]] == [1, 3, 7, 15]


def test_the_races_on_the_page_about_jitter_are_as_it_says() -> None:
    contention = part("picture_contention")
    text = (DOCS / "why_full_jitter.rst").read_text()
    rows = re.findall(r"   \* - ([a-z ]+)\n     - (\d+)\n     - ([\d.]+)\n", text)
    assert [kind for kind, *_ in rows] == list(contention.KINDS)
    means = {kind: list(contention.means(kind)) for kind in contention.KINDS}
    found = {kind: runs[-1] for kind, runs in means.items()}
    assert {kind: (str(run.calls), f"{run.seconds:.1f}") for kind, run in found.items()} == {kind: (calls, seconds) for kind, calls, seconds in rows}
    for place, clients in enumerate(contention.CLIENTS):
        runs = {kind: means[kind][place] for kind in means}
        assert min(runs, key=lambda kind: runs[kind].calls) == ("full" if clients >= 60 else "decorrelated")
        assert sorted(runs, key=lambda kind: runs[kind].seconds) == ["decorrelated", "full", "equal", "no jitter"]
        assert max(runs, key=lambda kind: runs[kind].calls) == "no jitter"
    # How much sooner the page says that it is.
    sooner = {clients: 1 - means["decorrelated"][place].seconds / means["full"][place].seconds for place, clients in enumerate(contention.CLIENTS)}
    assert (round(sooner[100], 2), round(sooner[40], 2)) == (0.14, pytest.approx(1 / 3, abs=0.02))


def test_the_pictures_are_the_same_each_time(tmp_path: Path) -> None:
    pictures = part("pictures")
    first, second = tmp_path / "first", tmp_path / "second"
    pictures.draw_all(first)
    pictures.draw_all(second)
    for name in pictures.PICTURES:
        assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.fixture(autouse=True)
def _their_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS / "_ext")


def part(name: str) -> Any:
    """A module of the pages' own."""
    return importlib.import_module(name)
