"""The pages build without a warning, references to names of this package included."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parent.parent.parent / "docs"


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


def test_the_pictures_are_there(built: Path) -> None:
    for page, pictures in {"strategies": ["backoffs.svg", "jitter.svg"], "engine": ["engine.svg"]}.items():
        text = (built / f"{page}.html").read_text()
        for picture in pictures:
            assert f"_images/{picture}" in text
            assert (built / "_images" / picture).stat().st_size > 5_000


def test_the_pages_load_nothing_from_elsewhere(built: Path) -> None:
    for page in built.glob("*.html"):
        found = re.findall(r"<(?:script|img|link rel=\"stylesheet\")[^>]*(?:src|href)=\"(?:https?:)?//", page.read_text())
        assert found == [], page.name


def test_the_engines_picture_has_each_transition(built: Path) -> None:
    pictures = _pictures()
    edges = set(pictures.transitions())
    assert {("_admit", "Attempt"), ("_hold", "Wait"), ("_advance", "Wait"), ("_conclude", "Stop"), ("settle", "Wait"), ("settle", "_conclude")} <= edges
    assert {name for edge in edges for name in edge} == set(pictures.PLACES)
    drawn = (built / "_images" / "engine.svg").read_text()
    for name in pictures.PLACES:
        assert f">{name.removeprefix('_')}</text>" in drawn


def test_the_pictures_are_the_same_each_time(tmp_path: Path) -> None:
    pictures = _pictures()
    first, second = tmp_path / "first", tmp_path / "second"
    pictures.draw_all(first)
    pictures.draw_all(second)
    for name in pictures.PICTURES:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def _pictures() -> Any:
    spec = importlib.util.spec_from_file_location("pictures", DOCS / "_ext" / "pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
