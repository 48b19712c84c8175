"""Modules that are made of documents: that of a whole document to the letter, those of awkward ones by what they do."""

from __future__ import annotations

import ast
import importlib.util
import inspect
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
from rpcretry.openrpc import DocumentError, _models, generate
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
    (folder / "uses.py").write_text(USES, encoding="utf-8")
    return folder


USES = """\
import rpcretry

import whole_library as library


def search(client: rpcretry.Client) -> list[library.Book]:
    published = library.CatalogueSearchFilterPublished(from_=1900)
    filter = library.CatalogueSearchFilter(languages=["de"], published=published)
    return client.typed(library.LendingLibrary).catalogue_search(["prose"], filter)


def rate(book: library.Book) -> library.Book:
    return library.Book(title=book.title, authors=book.authors, x_rating=5)
"""

CHECKERS = {
    "mypy": ["mypy", "--strict", "--config-file=", "--cache-dir=cache", "."],
    "ruff": ["ruff", "check", "--isolated", "--no-cache", "."],
    "ruff with the rules of this project": ["ruff", "check", "--no-cache", f"--config={ROOT / 'pyproject.toml'}", "."],
    "ruff format": ["ruff", "format", "--check", "--no-cache", f"--config={ROOT / 'pyproject.toml'}", *(f"awkward_{name}.py" for name in AWKWARD)],
    "pyright": ["pyright", "--pythonpath", sys.executable, "whole_library.py", "whole_bookshop.py", "uses.py"],
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
    assert {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)} <= {
        "__future__",
        "typing",
        "pydantic",
        "rpcretry",
        "rpcretry.openrpc",
        "typing_extensions",
    }
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert called <= {"Field", "rpc", "notification"}


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
    api.m(module.MFilter(max_size=3))
    assert sent() == [{"max-size": 3}]
    api.m(module.MFilter(min=None, order="up", inner=module.MFilterInner(a="x")))
    assert sent() == [{"min": None, "order": "up", "inner": {"a": "x"}}]
    # A dict does as well, at run time.
    api.m({"min": 1.5})
    assert sent() == [{"min": 1.5}]


def test_members_are_given_under_either_name(load: Load) -> None:
    module = load(document(method("m", param("x", ref("X"), required=True)), X={"type": "object", "properties": dict.fromkeys(["from", "a-b", "a_b"], WHOLE)}))
    assert list(module.X.model_fields) == ["from_", "a_b_2", "a_b"]
    api, sent = called(module, *[result(1)] * 5)
    for given, expected in [
        ({"from_": 1900}, {"from": 1900}),
        ({"from": 1900}, {"from": 1900}),
        ({"a_b": 5}, {"a_b": 5}),
        ({"a_b_2": 6}, {"a-b": 6}),
        ({"a-b": 7, "a_b": 8}, {"a-b": 7, "a_b": 8}),
    ]:
        value = module.X(**given)
        api.m(value)
        assert sent() == [expected]
        assert module.X.model_validate(value.model_dump()) == value
        assert value.model_dump(by_alias=True) == expected


def test_members_of_a_subclass_are_others_than_those_of_its_base(load: Load) -> None:
    module = load(AWKWARD["members_that_mean_something_else"])
    derived = module.Derived(**{"a-b": "x", "a_b": 1, "copy": "y", "copy_": 2})
    assert derived.model_dump(by_alias=True) == {"a-b": "x", "a_b": 1, "copy": "y", "copy_": 2}
    assert (derived.a_b_2, derived.a_b, derived.copy__2, derived.copy_) == ("x", 1, "y", 2)


def test_members_whose_names_mean_something_else(load: Load) -> None:
    schema = AWKWARD["members_that_mean_something_else"]["components"]["schemas"]["Odd"]["properties"]
    module = load(AWKWARD["members_that_mean_something_else"])
    values = {name: "x" for name, of in schema.items() if of == TEXT} | {"limited": 1, "choice": "a", "list-": [1, 2.5], "number": 5}
    api, _ = called(module, result(values))
    odd = api.a()
    assert odd.model_dump(by_alias=True) == values
    assert (odd.Field_, odd.model_dump_, odd.model_x, odd.type, odd.fi, odd.list_, odd.limited) == ("x", "x", "x", "x", "x", "x", 1)


def test_the_json_schema_of_a_model_has_its_members(load: Load) -> None:
    module = load(document(method("m", result={**thing(**{"a-b": WHOLE, "c": TEXT}), "required": ["a-b"]})))
    for mode in ("validation", "serialization"):
        schema = module.MResult.model_json_schema(mode=mode)
        assert schema["properties"]["a-b"] == {"title": "A-B", "type": "integer"}
        assert list(schema["properties"]) == ["a-b", "c"]


def test_a_generated_module_does_not_load_the_generator(tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text(generate(document(method("m", result=thing(a=NUMBER)))))
    code = "import sys, made; assert not {'datamodel_code_generator', 'black', 'rpcretry.openrpc._module'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)


def test_numbers_stay_as_they_are(load: Load) -> None:
    limited = {"type": "number", "minimum": 0, "multipleOf": 0.01}
    module = load(
        document(method("m", param("x", NUMBER), param("y", limited), result=ref("Json")), Json=AWKWARD["recursion"]["components"]["schemas"]["Json"])
    )
    api, sent = called(module, *[result([2**53 + 1, {"a": 6}])] * 4)
    for number in (6, 2**53 + 1, 0.5, 0.07):
        assert repr(api.m(number, number)) == repr([2**53 + 1, {"a": 6}])
        assert repr(sent()) == repr([number, number])
    with pytest.raises(TypeError, match="greater than or equal to 0"):
        api.m(1, -1)


def test_each_of_several_types_has_its_own_limits(load: Load) -> None:
    api, sent = called(load(AWKWARD["lists_of_types"]), *[result(1)] * 6)
    for good in ("ab", 3):
        api.a(good)
        assert sent() == [good]
    for wrong in ("a", 2):
        with pytest.raises(TypeError, match=r"Api\.a\(\)"):
            api.a(wrong)
    for good in ([1, "a"], "", None):
        api.b(good)
        assert sent() == [good]
    for wrong in ([1], [1, 6]):
        with pytest.raises(TypeError, match=r"Api\.b\(\)"):
            api.b(wrong)


def test_limits_that_no_value_can_be_compared_with_are_left_out(load: Load) -> None:
    api, sent = called(load(AWKWARD["limits_of_limits"]), *[result(1)] * 4)
    api.a(huge=10**300, large=1e29, whole=10**29, halves=1, zero=3, negative=3, fives=15, many=[], long="")
    assert sent() == [10**300, 1e29, 10**29, 1, 3, 3, 15, [], ""]
    for wrong in ({"halves": 2}, {"halves": -2}, {"fives": 6}, {"whole": 10**31}):
        with pytest.raises(TypeError, match=next(iter(wrong))):
            api.a(**{"huge": 1, "large": 1, "whole": 1, "halves": 0, "zero": 0, "negative": 0, "fives": 5} | wrong)


def test_members_that_a_server_adds_do_not_break_clients(load: Load) -> None:
    module = load(AWKWARD["objects"])
    assert module.Closed.model_validate({"a": "x", "new": 1}) == module.Closed(a="x")
    # Members that a document speaks of are kept.
    assert module.Mixed.model_validate({"a": "x", "new": 1}).new == 1


def test_results_of_which_little_is_said(load: Load) -> None:
    module = load(AWKWARD["results_without_schema_or_name"])
    api, sent = called(module, *[result({"any": 1})] * 4)
    assert [api.delete_pet(1), api.merge_pull_request("a"), api.null(), api.schemaless(1, "x")] == [{"any": 1}] * 4
    assert sent() == [1, "x"]
    assert module.Api.nothing.is_notification


def test_params_by_position_are_called_as_pythons_are(load: Load) -> None:
    module = load(document(method("m", *[param(name, WHOLE) for name in ("blockNumber", "block_number", "fromBlock", "from", "self")])))
    api, sent = called(module, result(1))
    api.m(1, 2, from_block=3, from_=4, self_=5)
    assert sent() == [1, 2, 3, 4, 5]
    assert list(inspect.signature(module.Api.m.function).parameters)[1:] == ["block_number_2", "block_number", "from_block", "from_", "self_"]


def test_errors_whose_names_are_taken(load: Load) -> None:
    module = load(AWKWARD["names_of_errors"])
    assert [(cls.CODE, cls.__name__) for cls in module.ERRORS] == [(1, "ApiServerError"), (2, "ApiSameError"), (3, "Error3"), (4, "Error4")]


@pytest.mark.parametrize("title", ["FResult1", "AX1"])
def test_names_that_the_library_makes_up_are_taken(title: str) -> None:
    limited = {"anyOf": [{"type": "integer", "minimum": 3}, {"type": "integer", "maximum": 1}]}
    of = document(
        method("a", param("x", limited), errors=[{"code": 1, "message": title}, {"code": 2, "message": "b", "data": TEXT}]),
        method("f", result={**thing(a=TEXT, b=TEXT), "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
        title=title,
    )
    made = ast.parse(generate(of)).body
    names = [node.name for node in made if isinstance(node, ast.ClassDef)]
    names += [node.targets[0].id for node in made if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)]
    assert title in names
    assert len(names) == len(set(names))


def test_letters_that_are_not_seen_are_not_in_docstrings() -> None:
    text = generate(document(method("m", summary="a\u202eb\u200bc\u2066d\ufeffe")))
    assert '"""abcde"""' in text


def test_the_module_says_how_it_is_written_anew() -> None:
    text = generate(document(method("m"), title="Shop"), class_name="Store", line_length=100)
    assert ast.get_docstring(ast.parse(text)).split("\n\n")[2:] == ["    rpcretry openrpc DOCUMENT -o FILE --force --class-name Store --line-length 100"]
    assert text.count("Shop 1") == 1


HOSTILE_TEXT = {
    "import": "import os",
    "import_from": "from os import system as Field",
    "import_of_a_builtin": "from builtins import exec as Field\nField('1')",
    "call": "print(1)",
    "decorator": "@print\nclass A: pass",
    "method": "class A:\n    def f(self): pass",
    "default": "class A:\n    a: int = print(1)",
    "annotation": "class A:\n    a: print(1)",
    "of_the_types": "class {READ}:\n    a_result: conint(ge=1)",
    "call_on_the_types": "class {READ}:\n    a_result: ().__class__.mro()",
    "loop": "while True: pass",
    "alias": "A = TypeAliasType('A', print(1))",
    "rebuild": "A.model_rebuild(print(1))",
    "another_function": "from typing_extensions import deprecated\nA = deprecated('x')",
}


@pytest.mark.parametrize("name", HOSTILE_TEXT)
def test_what_the_library_writes_is_looked_at(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    end = f"\nclass {_models.READ}:\n    a_result: int\n" if "{READ}" not in HOSTILE_TEXT[name] else "\n"
    head = "from pydantic import BaseModel, Field, conint\nfrom typing_extensions import TypeAliasType\n"
    monkeypatch.setattr(_models, "_written", lambda *_: f"{head}{HOSTILE_TEXT[name].replace('{READ}', _models.READ)}{end}")
    with pytest.raises(DocumentError, match=r"made something else than classes of them: "):
        generate(document(method("a")))


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
    # Python 3.13 cleans docstrings as it compiles them.
    assert inspect.cleandoc(module.Api.m.__doc__).split("\n\n") == ["Does it.", "In full.", "Deprecated.", ":param a: First."]
    assert "client.typed(AsyncApi)" in module.Api.__doc__
