"""Whatever stands in a document: a module that Python takes, or the place that is wrong."""

from __future__ import annotations

import copy
import re
import sys
import types
from typing import Any

import pytest
from documents import document, method, param, ref
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rpcretry import Client
from rpcretry.openrpc import DocumentError, generate
from rpcretry.testing import ScriptedBackend

# Small, since each example takes as long as its document is.
DOCUMENT = document(
    method(
        "find",
        param("from", {"type": "integer", "minimum": 1, "default": 10}),
        param("filter", {"type": "object", "properties": {"max-size": {"type": "number"}, "kind": {"enum": ["a", "b"]}}}),
        result={"type": "array", "items": ref("Book")},
        errors=[{"code": 1, "message": "Gone", "data": ref("Book")}],
        paramStructure="by-name",
    ),
    method("put", param("book", ref("Book"), required=True), result={"type": ["string", "null"], "maxLength": 3}),
    Book={"type": "object", "properties": {"isbn": {"type": "string", "pattern": "^[0-9]+$"}, "series": {"type": "array", "items": ref("Book")}}},
    Copy={"allOf": [ref("Book"), {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}]},
)

KEYS = ["type", "$ref", "properties", "items", "prefixItems", "oneOf", "allOf", "enum", "const", "format", "required", "pattern", "default", "title"]
KEYS += ["description", "additionalProperties", "patternProperties", "definitions", "minimum", "exclusiveMaximum", "multipleOf", "maxLength", "maxItems"]
KEYS += ["errors", "data", "result", "schema", "name", "params", "components"]

LISTS = [{"type": ["string", "integer"], "minLength": 1, "minimum": 1.5}, {"type": ["array", "number"], "items": {"type": "string"}, "maxItems": 3}]
LIMITED = [{"type": "number", "multipleOf": 0}, {"type": "integer", "minimum": 1e30}, {"type": "number", "maximum": 10**400}]
SCHEMAS = [{"type": "string"}, {"properties": {"a": {}}}, {"$ref": "#"}, {"$ref": "#/methods/0"}, ref("Copy"), {"enum": ["a", 1]}, *LISTS, *LIMITED]
VALUES = [None, True, False, 0, -1, 1.5, 10**30, 10**400, 1e30, 2**63, "", "x", "string", "object", "é\ud800", [], {}]
VALUES += [["string", "null"], [1, "a", None], [{}], *SCHEMAS]


def containers(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [*([value] if isinstance(value, (dict, list)) else []), *(found for item in inner for found in containers(item))]


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000), st.sampled_from(VALUES)), min_size=1, max_size=4))
def test_a_damaged_document(changes: list[tuple[int, int, Any]]) -> None:
    document = copy.deepcopy(DOCUMENT)
    for where, which, value in changes:
        all_of_them = containers(document)
        container = all_of_them[where % len(all_of_them)]
        if isinstance(container, dict):
            keys = [*container, *KEYS]
            container[keys[which % len(keys)]] = copy.deepcopy(value)
        else:
            start = which % (len(container) + 1)
            container[start : start + 1] = [copy.deepcopy(value)]
    try:
        text, problem = generate(document, class_name="Api"), None
    except DocumentError as error:
        text, problem = "class Api: pass\nERRORS = []", str(error)
    assert problem is None or re.match(r"\$(?!\.components\.schemas: datamodel)", problem), problem
    with pytest.MonkeyPatch.context() as patch:
        module = types.ModuleType("damaged")
        patch.setitem(sys.modules, "damaged", module)
        exec(compile(text, "damaged.py", "exec", dont_inherit=True), module.__dict__)
        if problem is None:
            # All types are looked at there.
            Client(ScriptedBackend([]), errors=module.ERRORS).typed(module.Api)
