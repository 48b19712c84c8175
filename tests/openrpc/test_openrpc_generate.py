"""Modules that are made of documents: that of a whole document to the letter, those of awkward ones by what they do."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
import types
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from documents import AWKWARD, NUMBER, TEXT, WHOLE, document, method, param, ref, thing

from rpcretry import AsyncClient, Client, InvalidParamsError, MethodNotFoundError, ResultValidationError, ServerError
from rpcretry.openrpc import generate
from rpcretry.testing import AsyncScriptedBackend, ScriptedBackend, error, result

ROOT = Path(__file__).parent.parent.parent
DATA = Path(__file__).parent / "data"

Load = Callable[[dict[str, Any]], types.ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Generates the module of a document and imports it."""
    number = iter(range(100))

    def loaded(of: dict[str, Any]) -> types.ModuleType:
        path = tmp_path / f"generated_{next(number)}.py"
        path.write_text(generate(of, class_name="Api"), encoding="utf-8")
        return imported(path, monkeypatch)

    return loaded


def imported(path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Annotations are looked up there.
    monkeypatch.setitem(sys.modules, path.stem, module)
    spec.loader.exec_module(module)
    return module


def called(module: types.ModuleType, *answers: Any) -> tuple[Any, Callable[[], Any]]:
    """The interface over a script, and what gives the params that were sent last."""
    backend = ScriptedBackend(list(answers))
    client = Client(backend, errors=module.ERRORS)
    return client.typed(module.Api), lambda: json.loads(backend.exchanges[-1].body).get("params", "none")


# --- whole documents ---


@pytest.mark.parametrize(("folder", "name", "interface"), [(DATA, "library", "Library"), (ROOT / "examples" / "openrpc", "bookshop", None)])
def test_the_module_of_a_document_is_as_it_was(folder: Path, name: str, interface: str | None) -> None:
    written = generate(json.loads((folder / f"{name}.json").read_text()), class_name=interface, line_length=160)
    kept = (folder / f"{name}.py").read_text()
    options = "" if interface is None else f" --class-name {interface}"
    hint = f"if that is better: rpcretry openrpc {name}.json -o {name}.py --force --line-length 160{options}"
    # Where lines are broken is for the formatter to say, whose next version may say otherwise.
    assert ast.unparse(ast.parse(written)) == ast.unparse(ast.parse(kept)), hint


def test_the_same_document_gives_the_same_module_wherever_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = json.loads((DATA / "library.json").read_text())
    first = generate(library)
    (tmp_path / "pyproject.toml").write_text(
        "[tool.datamodel-codegen]\nsnake-case-field = true\n[tool.black]\nline-length = 40\n[tool.isort]\nforce_single_line = true\n"
    )
    monkeypatch.chdir(tmp_path)
    assert generate(library) == first
    assert generate(json.loads(json.dumps(library))) == first
    assert str(ROOT) not in first
    assert max(map(len, first.splitlines())) <= 88


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the modules of all awkward documents, and of the whole ones."""
    folder = tmp_path_factory.mktemp("awkward")
    for name, of in AWKWARD.items():
        (folder / f"awkward_{name}.py").write_text(generate(of, line_length=160), encoding="utf-8")
    for path in (DATA / "library.json", ROOT / "examples" / "openrpc" / "bookshop.json"):
        (folder / f"whole_{path.stem}.py").write_text(generate(json.loads(path.read_text())), encoding="utf-8")
    return folder


CHECKERS = {
    "mypy": ["mypy", "--strict", "--config-file=", "--cache-dir=cache", "."],
    "ruff": ["ruff", "check", "--isolated", "--no-cache", "."],
    "ruff with the rules of this project": ["ruff", "check", "--no-cache", f"--config={ROOT / 'pyproject.toml'}", "."],
    "ruff format": ["ruff", "format", "--check", "--no-cache", f"--config={ROOT / 'pyproject.toml'}", *(f"awkward_{name}.py" for name in AWKWARD)],
    "pyright": ["pyright", "--pythonpath", sys.executable, "whole_library.py", "whole_bookshop.py"],
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_type_checkers_and_linters_find_nothing_in_the_modules(awkward: Path, checker: str) -> None:
    done = subprocess.run([sys.executable, "-m", *CHECKERS[checker]], cwd=awkward, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", AWKWARD)
def test_a_client_takes_the_interface(awkward: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = imported(awkward / f"awkward_{name}.py", monkeypatch)
    interface = next(value for name, value in vars(module).items() if f"Async{name}" in vars(module) and getattr(value, "_is_protocol", False))
    names = {declared.name for declared in vars(interface).values() if hasattr(declared, "is_notification")}
    assert names == {item["name"] for item in AWKWARD[name]["methods"] if "name" in item} | ({"b"} if name.startswith("references") else set())
    if names:
        Client(ScriptedBackend([]), errors=module.ERRORS).typed(interface)
        AsyncClient(AsyncScriptedBackend([]), errors=module.ERRORS).typed(vars(module)[f"Async{interface.__name__}"])


def test_text_of_the_document_is_never_code(awkward: Path) -> None:
    tree = ast.parse((awkward / "awkward_hostile_text.py").read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    assert {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)} <= {"__future__", "typing", "pydantic", "rpcretry", "typing_extensions"}
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert called <= {"Field", "rpc", "notification", "handler", "type", "type(self).model_fields.items", "document.pop", "model_serializer"}


# --- what calls send ---


def test_params_by_name_go_under_their_own_names(load: Load) -> None:
    names = ["from", "self", "a-b", "a_b", "_x", "class", "l"]
    module = load(document(method("m", *[param(name, TEXT, required=True) for name in names], paramStructure="by-name")))
    api, sent = called(module, result(1))
    api.m(from_="1", self_="2", a_b_2="3", a_b="4", x="5", class_="6", l_="7")
    assert sent() == dict(zip(names, "1234567", strict=True))


def test_params_by_position_go_in_their_order(load: Load) -> None:
    api, sent = called(load(document(method("m", param("from", TEXT, required=True), param("n", {**WHOLE, "default": 3}), param("o", TEXT)))), *[result(1)] * 3)
    api.m("a")
    assert sent() == ["a"]
    api.m("a", o="b")
    assert sent() == ["a", 3, "b"]
    api.m(from_="a", n=4)
    assert sent() == ["a", 4]


@pytest.mark.parametrize(("structure", "expected"), [("by-name", {"a": 1}), ("either", {"a": 1}), ("by-position", [1]), (None, [1])])
def test_the_structure_of_the_params(load: Load, structure: str | None, expected: Any) -> None:
    given = {} if structure is None else {"paramStructure": structure}
    api, sent = called(load(document(method("m", param("a", WHOLE), param("b", WHOLE), **given))), result(1))
    api.m(1)
    assert sent() == expected


def test_an_optional_param_before_a_required_one(load: Load) -> None:
    optional_first = param("optional", WHOLE), param("needed", WHOLE, required=True)
    module = load(document(method("position", *optional_first), method("name", *optional_first, paramStructure="by-name")))
    api, sent = called(module, result(1), result(1))
    with pytest.raises(TypeError, match="needed"):
        api.position(1)
    api.position(1, 2)
    assert sent() == [1, 2]
    api.name(needed=2)
    assert sent() == {"needed": 2}


def test_what_was_not_given_of_a_model_is_not_sent(load: Load) -> None:
    filter = {"type": "object", "properties": {"min": NUMBER, "max-size": WHOLE, "order": {"enum": ["up", "down"], "default": "up"}, "inner": thing(a=TEXT)}}
    module = load(document(method("m", param("filter", filter, required=True))))
    api, sent = called(module, *[result(1)] * 3)
    api.m(module.MFilter(**{"max-size": 3}))
    assert sent() == [{"max-size": 3, "order": "up"}]
    api.m(module.MFilter(min=None, inner=module.MFilterInner(a="x")))
    assert sent() == [{"min": None, "order": "up", "inner": {"a": "x"}}]
    # A dict does as well, at run time.
    api.m({"min": 1.5})
    assert sent() == [{"min": 1.5, "order": "up"}]


def test_a_wrong_call_fails_before_it_is_sent(load: Load) -> None:
    module = load(document(method("m", param("short", {"type": "string", "maxLength": 2}, required=True), param("state", {"enum": ["a", "b"]}))))
    api, _ = called(module)
    for wrong in (("abc",), (1,), ("ab", "c"), ("ab", "a", 1), ()):
        with pytest.raises(TypeError, match=r"Api\.m\(\)"):
            api.m(*wrong)


def test_a_notification_waits_for_no_answer(load: Load) -> None:
    module = load(document(method("log", param("line", TEXT, required=True), result=None)))
    backend = ScriptedBackend([result(1)])
    assert Client(backend).typed(module.Api).log("x") is None
    assert "id" not in json.loads(backend.exchanges[0].body)


# --- what comes back ---


def test_results_are_of_their_types(load: Load) -> None:
    loan = {"type": "object", "properties": {"due": {"type": "string", "format": "date"}, "at": {"type": "string", "format": "date-time"}}, "required": ["due"]}
    module = load(document(method("one", result=ref("Loan")), method("all", result={"type": "object", "additionalProperties": ref("Loan")}), Loan=loan))
    # Without an offset, as many servers have it.
    api, _ = called(module, result({"due": "2024-05-01"}), result({"x": {"due": "2024-05-01", "at": "2024-05-01T10:00:00"}}), result({"due": "soon"}))
    assert api.one() == module.Loan(due=date(2024, 5, 1))
    assert api.all()["x"].at == datetime(2024, 5, 1, 10)
    with pytest.raises(ResultValidationError, match="due"):
        api.one()


def test_recursive_results(load: Load) -> None:
    module = load(AWKWARD["recursion"])
    api, _ = called(module, result({"a": [1, {"b": None}]}), result({"odd": {"even": {"odd": {}}}}))
    assert api.a(module.Tree(children=[module.Tree(children=[])])) == {"a": [1, {"b": None}]}
    assert api.b() == module.Even(odd=module.Odd(even=module.Even(odd=module.Odd())))


def test_unions_keep_their_members_apart(load: Load) -> None:
    module = load(AWKWARD["unions"])
    shapes = [result({"kind": "square", "a": 2}), result({"kind": "circle", "r": 1}), result("text"), result(None), result({"a": "x"})]
    api, _ = called(module, *shapes)
    assert [api.b(), api.b()] == [module.BResultSquare(kind="square", a=2), module.BResultCircle(kind="circle", r=1)]
    assert [api.h(), api.h()] == ["text", None]
    assert api.h().a == "x"


# --- errors ---


def test_errors_have_classes_of_their_codes_with_typed_data(load: Load) -> None:
    why = {"code": 7, "message": "Gone", "data": ref("Why")}
    busy = {"code": -32000, "message": "Busy", "data": {"seconds": 3}}
    module = load(document(method("m", errors=[why, busy, {"code": -32602, "message": "Invalid params"}]), Why=thing(reason=TEXT)))
    api, _ = called(module, error(7, "It left", data={"reason": "sold"}), error(-32000, ""), error(-32602, "no"))
    with pytest.raises(module.GoneError, match="It left") as gone:
        api.m()
    assert gone.value.data == module.Why(reason="sold")
    with pytest.raises(module.BusyError, match="Busy") as caught:
        api.m()
    assert isinstance(caught.value, ServerError)
    with pytest.raises(InvalidParamsError):
        api.m()
    assert [cls.CODE for cls in module.ERRORS] == [-32000, 7]


def test_a_code_that_two_methods_mean_otherwise_has_one_class(load: Load) -> None:
    module = load(AWKWARD["errors"])
    assert module.Error5.__annotations__["data"] == "Error5Data | Error5Data2"
    assert issubclass(module.NoSuchError, MethodNotFoundError)
    assert len({cls.CODE for cls in module.ERRORS}) == len(module.ERRORS)


# --- models ---


def test_copies_of_a_component_are_the_component() -> None:
    text = generate(AWKWARD["a_document_without_references"])
    assert "def a(self) -> Pet" in text
    assert "def b(self) -> list[Pet]" in text
    assert text.count("class Pet(") == text.count("class Tag(") == 1
    # Of the same title, and not the same.
    assert "def c(self) -> CResult" in text


def test_local_references_mean_the_schema_that_they_stand_in(load: Load) -> None:
    module = load(AWKWARD["local_references"])
    api, sent = called(module, result(1), result(1), result(1))
    api.b([{"b": 1}])
    assert sent() == [[{"b": 1}]]
    with pytest.raises(TypeError):
        api.b([{"a": "x"}])
    api.c({"next": {"next": {}}})
    assert sent() == [{"next": {"next": {}}}]


def test_a_pattern_that_pydantic_does_not_know_is_left_out(load: Load) -> None:
    api, sent = called(load(AWKWARD["constraints"]), result(1))
    api.a("abc", "x", "y-z")
    assert sent() == ["abc", "x", "y-z"]
    with pytest.raises(TypeError, match="pattern"):
        api.a("abc", "x", "a b")


def test_what_people_read_is_in_the_docstrings(load: Load) -> None:
    module = load(document(method("m", param("a", TEXT, description="First."), summary="Does it.", description="In full.", deprecated=True)))
    assert module.Api.m.__doc__.split("\n\n        ") == ["Does it.", "In full.", "Deprecated.", ":param a: First.\n        "]
    assert "client.typed(AsyncApi)" in module.Api.__doc__
