"""What keeps the layout true: the direction of imports, what is loaded when, and what no module may do."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rpcretry"
MODULES = sorted(PACKAGE.rglob("*.py"))

# From the bottom to the top; a part imports only from lower ranks, and from itself.
RANKS = [
    {"_unset", "_check", "_lazy"},
    {"errors", "messages", "outcome", "events", "metrics", "context", "codec", "_json", "_encoding", "_requests", "_unreadable", "transport"},
    {"retry"},
    {"layers", "_specs"},
    {"drivers"},
    {"bulk"},
    {"functions", "client"},
    {"backends", "openrpc", "testing", "presets", "simulation"},
    {"integrations"},
    {"cli"},
]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def rank_of(part: str) -> int:
    return next(rank for rank, parts in enumerate(RANKS) if part in parts)


def imports_of(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Absolute names of what a module imports, wherever in the module it does."""
    package = name_of(path).split(".")
    if path.name != "__init__.py":
        package.pop()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, node.module] if node.module else base)
            # `from . import x` names a module of the package.
            for alias in node.names if not node.module else []:
                if (PACKAGE.parent.joinpath(*name.split("."), alias.name)).is_dir() or PACKAGE.parent.joinpath(*name.split("."), f"{alias.name}.py").is_file():
                    yield f"{name}.{alias.name}", node
            if node.module:
                yield name, node


def test_every_part_has_a_rank() -> None:
    for path in MODULES:
        part = part_of(name_of(path))
        if part:
            assert rank_of(part) >= 0, path


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_one_way(path: Path) -> None:
    part = part_of(name_of(path))
    if not part:
        return
    for name, _ in imports_of(path):
        other = part_of(name) if name.startswith("rpcretry") else ""
        if other and other != part:
            assert rank_of(other) <= rank_of(part), f"{name_of(path)} imports {name}"
            if rank_of(other) == rank_of(part):
                assert rank_of(part) in (0, 1), f"{name_of(path)} imports {name} of the same rank"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_is_longer_than_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_assert_checks_nothing(path: Path) -> None:
    # Under -O an assert is gone, and with it whatever it was to refuse.
    asserts = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]
    assert not asserts or name_of(path) == "rpcretry.testing.contract"


DECIDING = [path for path in MODULES if part_of(name_of(path)) in ("retry", "layers", "outcome", "errors", "messages", "codec", "transport")]


@pytest.mark.parametrize("path", DECIDING, ids=name_of)
def test_what_decides_does_no_io(path: Path) -> None:
    forbidden = {"asyncio", "socket", "ssl", "select", "subprocess", "aiohttp", "requests", "urllib3", "http", "pydantic"}
    for name, _ in imports_of(path):
        assert name.split(".")[0] not in forbidden, f"{name_of(path)} imports {name}"
    source = path.read_text()
    # Circuits, calls and breakers open, too.
    called = re.sub(r"def \w*open\(|self\.open\(", "", source)
    for call in ("time.sleep(", "time.monotonic(", "time.time(", "open("):
        assert call not in called, f"{name_of(path)} calls {call}"


def test_the_drivers_differ_in_nothing_but_async() -> None:
    def driver(module: str) -> str:
        tree = ast.parse((PACKAGE / "drivers" / f"{module}.py").read_text())
        found = next(node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == "drive")
        body = "\n".join(ast.unparse(statement) for statement in found.body)
        assert len(body.splitlines()) <= 30
        return body.replace("await ", "")

    assert driver("_sync") == driver("_async")


def test_importing_the_package_loads_no_http_library() -> None:
    heavy = ("aiohttp", "requests", "urllib3", "pydantic", "asyncio", "typer", "rich")
    program = f"import sys, rpcretry; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_client_without_typed_results_loads_no_pydantic() -> None:
    program = "import sys, rpcretry.backends.requests as r; r.Client('http://localhost'); print('pydantic' in sys.modules, 'aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_public_names_exist_and_none_is_a_submodule() -> None:
    import rpcretry

    submodules = {path.stem if path.name != "__init__.py" else path.parent.name for path in PACKAGE.glob("*.py")} | {
        path.parent.name for path in PACKAGE.glob("*/__init__.py")
    }
    for name in rpcretry.__all__:
        assert getattr(rpcretry, name) is not None
        assert name not in submodules
    assert set(rpcretry.__all__) <= set(dir(rpcretry))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rpcretry.nothing


def test_the_names_for_type_checkers_are_those_of_the_running_package() -> None:
    import rpcretry

    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    named = {alias.asname or alias.name for node in checked.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert named | {"__version__"} == set(rpcretry.__all__)


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "__main__.py"], ids=name_of)
def test_all_names_in_all_exist(path: Path) -> None:
    module = importlib.import_module(name_of(path))
    for name in getattr(module, "__all__", ()):
        assert hasattr(module, name), name
