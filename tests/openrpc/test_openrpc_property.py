"""Whatever stands in a document: a module that Python takes, or the place that is wrong."""

from __future__ import annotations

import copy
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rpcretry.openrpc import DocumentError, generate

LIBRARY = json.loads((Path(__file__).parent / "data" / "library.json").read_text())

KEYS = ["type", "$ref", "properties", "items", "prefixItems", "oneOf", "allOf", "enum", "const", "format", "required", "pattern", "default", "title"]
KEYS += ["description", "additionalProperties", "patternProperties", "definitions", "minimum", "maxLength", "errors", "data", "result", "schema", "name"]

SCHEMAS = [{"type": "string"}, {"properties": {"a": {}}}, {"$ref": "#"}, {"$ref": "#/methods/0"}, {"$ref": "#/components/schemas/Loan"}, {"enum": ["a", 1]}]
VALUES = [None, True, False, 0, -1, 1.5, 10**30, "", "x", "string", "object", "é\ud800", [], {}, ["string", "null"], [1, "a", None], [{}], *SCHEMAS]


def containers(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [*([value] if isinstance(value, (dict, list)) else []), *(found for item in inner for found in containers(item))]


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000), st.sampled_from(VALUES)), min_size=1, max_size=4))
def test_a_damaged_document(changes: list[tuple[int, int, Any]]) -> None:
    document = copy.deepcopy(LIBRARY)
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
        text, problem = generate(document), None
    except DocumentError as error:
        text, problem = "ERRORS = []", str(error)
    assert problem is None or problem.startswith("$")
    with pytest.MonkeyPatch.context() as patch:
        module = types.ModuleType("damaged")
        patch.setitem(sys.modules, "damaged", module)
        exec(compile(text, "damaged.py", "exec", dont_inherit=True), module.__dict__)
    assert module.ERRORS is not None
