"""The usual request is written into a frame that is kept for its method: the same document as written whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpcretry import Request
from rpcretry._encoding import encode_request
from rpcretry.codec import JsonCodec

CODEC = JsonCodec()


class Whole(JsonCodec):
    """The same codec by another type, for which no frame is kept."""


names = st.text(st.characters(exclude_categories=())).filter(lambda name: not name.startswith("rpc."))
values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=5)
params = st.lists(values, max_size=3) | st.dictionaries(names, values, max_size=3)


def written(codec: JsonCodec, request: Request) -> object:
    try:
        # Not the bytes: beside a lone surrogate the slow writer escapes more in what it writes, which is then less.
        return list(json.loads(encode_request(codec, request), parse_int=str).items())
    except (TypeError, ValueError) as problem:
        return type(problem), str(problem)


@settings(max_examples=60)
@given(names.filter(bool), params, st.integers() | st.integers(-(2**80), 2**80))
def test_the_same_document_or_the_same_error(method: str, given: Any, id: int) -> None:
    request = Request(method, given, id=id)
    # Twice, since the second finds the frame.
    assert written(CODEC, request) == written(CODEC, request) == written(Whole(), request)


@pytest.mark.parametrize("method", ["100%", "%d", "%b%s", '"', "\\", "\0", "\u2028", "\ud800", "\U0001f600"])
@pytest.mark.parametrize("given", [[], {}, (1, 2), {"%b": "%d"}, [float("nan")], [object()], {"a": "NaN"}])
def test_signs_that_mean_something_in_a_frame(method: str, given: Any) -> None:
    request = Request(method, given, id=1)
    assert written(CODEC, request) == written(Whole(), request)


@pytest.mark.parametrize("depth", [10, 198, 199, 200, 201, 202, 250])
def test_nesting_at_the_limit_of_the_fast_parser(depth: int) -> None:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    request = Request("deep", inner, id=1)
    assert written(CODEC, request) == written(Whole(), request)


def test_an_id_of_as_many_digits_as_python_writes() -> None:
    request = Request("m", [1], id=10**4299)
    assert written(CODEC, request) == written(Whole(), request)
