"""The interface of a document, called against a server of the same document: OpenRPC's own for Node.

The server checks params against the document's schemas by itself, so what it takes is what the document says.
"""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from installing import unavailable

import rpcretry.backends.aiohttp
import rpcretry.backends.requests
from rpcretry import InvalidParamsError, ServerError
from rpcretry.cli import main

SERVER = Path(__file__).parent / "server"
DATA = Path(__file__).parent / "data"

FILES = ("package.json", "package-lock.json", "serve.js")


@pytest.fixture(scope="session")
def installed(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the server and what it needs, kept from one run to the next."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        unavailable("node and npm are not installed; apt-get install nodejs npm")
    cache = getattr(pytestconfig, "cache", None)
    folder = cache.mkdir("openrpc-server") if cache is not None else tmp_path_factory.mktemp("openrpc-server")
    changed = not (folder / "installed").exists() or (folder / FILES[1]).read_bytes() != (SERVER / FILES[1]).read_bytes()
    for name in FILES:
        shutil.copy(SERVER / name, folder)
    if changed:
        # Nothing of what is installed runs here: no package of these needs its script.
        done = subprocess.run(
            [str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True, timeout=100, check=False
        )
        if done.returncode:
            unavailable(f"npm could not install the server: {done.stderr[-500:]}")
        (folder / "installed").touch()
    return folder


@pytest.fixture(scope="module")
def url(installed: Path) -> Iterator[str]:
    with subprocess.Popen(["node", "serve.js", str(DATA / "library.json")], cwd=installed, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port = next((line.removeprefix("port ").strip() for line in process.stdout if line.startswith("port ")), None)
            assert port is not None, "the server did not start; what it says is above"
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.kill()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[types.ModuleType]:
    """The module, made by the command."""
    path = tmp_path_factory.mktemp("live") / "live_library.py"
    with pytest.raises(SystemExit, match="0"):
        main(["openrpc", str(DATA / "library.json"), "--class-name", "Library", "-o", str(path)])
    yield imported(path)
    del sys.modules[path.stem]


def imported(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_calls_by_name_and_by_position(library: types.ModuleType, url: str) -> None:
    with rpcretry.backends.requests.Client(url, errors=library.ERRORS, trust_env=False) as client:
        api = client.typed(library.Library)
        kafka, beowulf = api.catalogue_search(["prose", "verse"])
        assert kafka == library.Book(
            title="Die Verwandlung", authors=[library.Author(name="Franz Kafka", born=date(1883, 7, 3))], language="de", year=1915, x_rating=4.5
        )
        assert beowulf.year is None
        assert len(api.catalogue_search(words=["prose"], limit=1)) == 1
        assert api.catalogue_subjects() == library.Subject(name="all", narrower=["prose"])
        loan = api.loans_borrow("card-1", 7)
        assert (loan.at, loan.due, loan.copy_) == (datetime(2024, 5, 1, 10, tzinfo=UTC), date(2024, 5, 29), 7)
        assert api.loans_borrow("card-1", 7, days=1).due == date(2024, 5, 2)
        assert api.loans_list("card-1")["first"] == library.Loan(at=loan.at, copy=7, due=loan.due)
        assert api.loans_find("card-1") == api.loans_find("card-1", "open")
        assert api.loans_find("card-1", state="late") is None


def test_what_was_left_out_is_left_out_and_what_is_no_identifier_arrives(library: types.ModuleType, url: str) -> None:
    with rpcretry.backends.requests.Client(url, trust_env=False) as client:
        api = client.typed(library.Library)
        filter = library.CatalogueSearchFilter(published=library.CatalogueSearchFilterPublished(from_=1900))
        # The server refuses null for what the schema has no null for.
        (echo,) = api.catalogue_search(["echo"], filter, class_="830")
        assert echo.title == '{"filter":{"published":{"from":1900}},"mark":"830"}'
        assert api.desk_return(library.DiscItem(kind="disc", copy=7)) is None
        with pytest.raises(InvalidParamsError):
            client.call("desk.return", {"kind": "disc", "copy": 7, "scratched": None})


def test_the_servers_errors_are_of_the_documents_classes(library: types.ModuleType, url: str) -> None:
    with rpcretry.backends.requests.Client(url, errors=library.ERRORS, trust_env=False) as client:
        api = client.typed(library.Library)
        with pytest.raises(library.NotOnShelfError, match="The copy is not on its shelf") as gone:
            api.loans_borrow("card-1", 404)
        assert gone.value.data == library.Whereabouts(place="bindery", since=datetime(2024, 1, 31, 8, tzinfo=UTC))
        with pytest.raises(ServerError) as owing:
            api.loans_borrow("card-1", 11)
        assert isinstance(owing.value, library.TheReaderOwesAFeeError)
        assert owing.value.data.cents == 250
        # What the interface refuses, the server refuses as well.
        with pytest.raises(TypeError, match="reader"):
            api.loans_borrow("abc", 7)
        with pytest.raises(InvalidParamsError):
            client.call("loans.borrow", "abc", 7)


def test_awaited_calls_and_a_notification(library: types.ModuleType, url: str) -> None:
    async def calls() -> None:
        async with rpcretry.backends.aiohttp.Client(url, errors=library.ERRORS, trust_env=False) as client:
            api = client.typed(library.AsyncLibrary)
            before = await api.desk_rung()
            assert await api.desk_ring(2) is None
            # This server crashes where params are left out of which all are optional.
            assert await api.desk_ring(times=1) is None
            assert await api.desk_rung() == before + 3
            found = await asyncio.gather(*(api.loans_borrow("card-1", number) for number in (1, 2, 404)), return_exceptions=True)
            assert [type(item).__name__ for item in found] == ["Loan", "Loan", "NotOnShelfError"]

    asyncio.run(calls())


@pytest.mark.parametrize("backend", ["requests", "aiohttp"])
def test_the_server_hands_out_its_document(url: str, tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The document comes without references: each schema stands wherever it is used.
    path = tmp_path / f"discovered_{backend}.py"
    with pytest.raises(SystemExit, match="0"):
        main(["openrpc", url, "--class-name", "Library", "-o", str(path), "--backend", backend])
    monkeypatch.setitem(sys.modules, path.stem, None)
    module = imported(path)
    assert [name for name in vars(module.Library) if not name.startswith("_")] == [name for name in vars(imported_golden().Library) if not name.startswith("_")]
    with rpcretry.backends.requests.Client(url, errors=module.ERRORS, trust_env=False) as client:
        api = client.typed(module.Library)
        assert isinstance(api.catalogue_search(["prose"])[0], module.Book)
        with pytest.raises(module.NotOnShelfError):
            api.loans_borrow("card-1", 404)


def imported_golden() -> types.ModuleType:
    module = imported(DATA / "library.py")
    del sys.modules[module.__name__]
    return module
