"""Documents that are none, and what is said of them."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from documents import TEXT, document, method, param, ref, thing

from rpcretry.openrpc import DocumentError, generate


def within(schema: Any) -> dict[str, Any]:
    return document(method("m", param("p", schema)))


WRONG: dict[str, tuple[Any, str]] = {
    "an_array": ([], r"\$: an OpenRPC document is an object, this is an array"),
    "another_format": ({"openapi": "3.1.0"}, r"\$: this document says openapi, not openrpc"),
    "anything": ({"a": 1}, r"\$: no OpenRPC document"),
    "version_2": ({"openrpc": "2.0.0"}, r"\$\.openrpc: expected a version 1\.x, got '2\.0\.0'"),
    "version_as_number": ({"openrpc": 1.2}, r"\$\.openrpc: expected a string, got a number"),
    "no_methods": ({"openrpc": "1.2.6", "info": {}}, r"\$: an OpenRPC document has methods"),
    "methods_as_object": ({"openrpc": "1.2.6", "methods": {}}, r"\$\.methods: expected an array, got an object"),
    "method_as_string": ({"openrpc": "1.2.6", "methods": ["a"]}, r"\$\.methods\[0\]: expected an object, got a string"),
    "info_as_string": ({"openrpc": "1.2.6", "methods": [], "info": "x"}, r"\$\.info: expected an object"),
    "no_name": (document({"params": []}), r"\$\.methods\[0\]: it has no name"),
    "empty_name": (document(method("")), r"\$\.methods\[0\]\.name: expected a string that is not empty"),
    "twice": (document(method("a"), method("a")), r"\$\.methods\[1\]: there are two methods 'a'"),
    "params_as_object": (document({"name": "a", "params": {}}), r"\$\.methods\[0\]\.params: expected an array, got an object"),
    "param_twice": (document(method("a", param("p"), param("p"))), r"\$\.methods\[0\]\.params\[1\]: there are two params 'p'"),
    "param_without_name": (document(method("a", {"schema": {}})), r"\$\.methods\[0\]\.params\[0\]: it has no name"),
    "result_as_string": (document({"name": "a", "result": "x"}), r"\$\.methods\[0\]\.result: expected an object, got a string"),
    "structure": (document(method("a", paramStructure="byName")), r"\$\.methods\[0\]\.paramStructure: expected by-name, by-position or either, got 'byName'"),
    "code_as_string": (
        document(method("a", errors=[{"code": "1", "message": "x"}])),
        r"\$\.methods\[0\]\.errors\[0\]\.code: expected an integer, got a string",
    ),
    "code_as_bool": (document(method("a", errors=[{"code": True, "message": "x"}])), r"errors\[0\]\.code: expected an integer, got a boolean"),
    "schema_as_string": (within("string"), r"\$\.methods\[0\]\.params\[0\]\.schema: expected an object, got a string"),
    "type": (within({"type": "text"}), r"\.schema\.type: expected one of string, integer, .*got 'text'"),
    "type_as_object": (within({"type": {}}), r"\.schema\.type: expected a string, got an object"),
    "enum": (within({"enum": []}), r"\.schema\.enum: an enum has at least one value"),
    "enum_as_string": (within({"enum": "a"}), r"\.schema\.enum: expected an array"),
    "union": (within({"oneOf": []}), r"\.schema\.oneOf: expected at least one schema"),
    "properties": (within({"properties": [1]}), r"\.schema\.properties: expected an object, got an array"),
    "deep": (within({"properties": {"a b": {"items": {"type": "x"}}}}), r"\.schema\.properties\['a b'\]\.items\.type: expected one of"),
    "dangling": (within(ref("Missing")), r"\.schema\.\$ref.*|\.schema: the reference '#/components/schemas/Missing' points to nothing"),
    "dangling_param": (document(method("a", {"$ref": "#/nowhere"})), r"\$\.methods\[0\]\.params\[0\]: the reference '#/nowhere' points to nothing"),
    "elsewhere": (within({"$ref": "https://example.org/secret-key.json"}), r"\.schema: the reference leads to another document; bundle"),
    "a_file": (within({"$ref": "./schemas.json#/A"}), r"\.schema: the reference leads to another document; bundle"),
    "reference_as_number": (within({"$ref": 1}), r"\.schema\['\$ref'\]: expected a string, got a number"),
    "itself": (document(A=ref("A")), r"\$\.components\.schemas\.A: the schema leads back to itself"),
    "each_other": (document(A=ref("B"), B=ref("A")), r"\$\.components\.schemas\.A: the schema leads back to itself"),
    "a_choice_of_itself": (document(A={"oneOf": [TEXT, ref("A")]}), r"\$\.components\.schemas\.A: the schema leads back to itself"),
    "descriptors_in_a_ring": (
        document(method("a", {"$ref": "#/components/c/A"}), components={"c": {"A": {"$ref": "#/components/c/B"}, "B": {"$ref": "#/components/c/A"}}}),
        r"the reference '#/components/c/[AB]' leads back to itself",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_message_names_the_place(name: str) -> None:
    given, expected = WRONG[name]
    with pytest.raises(DocumentError, match=expected) as caught:
        generate(given)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_document_may_be_too_deep() -> None:
    schema: dict[str, Any] = TEXT
    for _ in range(5_000):
        schema = thing(a=schema)
    with pytest.raises(DocumentError, match=r"\$: the document is nested too deeply"):
        generate(within(schema))


@pytest.mark.parametrize(
    ("name", "kind"), [("", ValueError), ("1st", ValueError), ("class", ValueError), ("_X", ValueError), ("Any", ValueError), (1, TypeError)]
)
def test_a_class_has_a_name_that_a_class_can_have(name: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"class_name must"):
        generate(document(), class_name=name)


@pytest.mark.parametrize("length", [True, "88", 10])
def test_a_line_has_a_length(length: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"line_length must"):
        generate(document(), line_length=length)


@pytest.mark.parametrize("library", ["datamodel_code_generator", "black"])
def test_a_missing_library_is_told_with_its_extra(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=r'pip install "rpcretry\[openrpc\]"'):
        generate(document())
