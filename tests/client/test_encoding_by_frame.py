"""The quick ways to write: a frame that is kept for a method, and many of a batch at once. The same document as written the slow way."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpcretry import Request, _encoding
from rpcretry._encoding import TOGETHER, encode_batch, encode_request, encode_requests, split_batch
from rpcretry._requests import Requests
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


def test_no_more_frames_are_kept_than_methods_that_a_client_usually_has() -> None:
    assert _encoding._frame.cache_info().maxsize == 1_024


# --- that the quick ways are taken, and when ---


def never(*_: object) -> Any:
    raise AssertionError("not by this way")


@pytest.mark.parametrize("id", [0, 1, 2**64 - 1, 1 - 2**64])
@pytest.mark.parametrize("given", [[1], (1,), {"a": 1}])
def test_the_usual_request_is_written_into_its_frame(id: int, given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_encoding, "_document", never)
    assert json.loads(encode_request(CODEC, Request("m", given, id=id))) == {"jsonrpc": "2.0", "method": "m", "params": json.loads(json.dumps(given)), "id": id}


@pytest.mark.parametrize("id", ["1", None, 2**64, -(2**64), 2**70])
def test_no_frame_has_a_place_for_another_id(id: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_encoding, "_frame", never)
    assert json.loads(encode_request(CODEC, Request("m", [1], id=id))).get("id") == id


@pytest.mark.parametrize("count", [1, TOGETHER - 1, TOGETHER, TOGETHER + 1, 2 * TOGETHER + 3])
def test_a_batch_is_written_many_at_once(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = Requests(Request("m", [number], id=number) for number in range(count))
    one_by_one = encode_batch([encode_request(CODEC, request) for request in requests])
    monkeypatch.setattr(_encoding, "encode_request", never)
    assert encode_requests(CODEC, requests) == one_by_one


@pytest.mark.parametrize("odd", [Request("tick", [1], id=None), Request("bare", id=1), Request("set", {1}, id=2)], ids=lambda request: request.method)
@pytest.mark.parametrize("place", [0, TOGETHER, 2 * TOGETHER])
def test_a_batch_with_one_that_is_unlike_the_others(odd: Request, place: int) -> None:
    """A notification gets no id, not even null, and params that were not given stay away."""
    requests = [Request("m", [number], id=number) for number in range(10, 10 + 2 * TOGETHER)]
    requests.insert(place, odd)
    assert encode_requests(CODEC, Requests(requests)) == encode_batch([encode_request(CODEC, request) for request in requests])


def test_a_batch_over_another_codec_is_written_by_it() -> None:
    class Marked(JsonCodec):
        def dumps(self, value: object, /) -> bytes:
            return b" " + super().dumps(value)

    requests = Requests([Request("m", [1], id=1), Request("m", [2], id=2)])
    assert encode_requests(Marked(), requests) == encode_batch([encode_request(Marked(), request) for request in requests])


@pytest.mark.parametrize(
    ("body", "fragments"),
    [
        (b"[]", []),
        (b"[1]", [b"1"]),
        (b"[1,2]", [b"1", b"2"]),
        (b'[\t{"a": [1,\t2]}\t,\r\n 3 \n]', [b'\t{"a": [1,\t2]}', b"\r\n 3"]),
        (b'["]"]', [b'"]"']),
        (b"[" + b"1" * 5_000 + b"]", [b"1" * 5_000]),
    ],
    ids=itertools.count(),
)
def test_a_batch_is_taken_apart_at_the_ends_of_its_members(body: bytes, fragments: list[bytes]) -> None:
    assert split_batch(body) == fragments


# --- params that are no list and no dict ---


class Several(pydantic.RootModel[list[int]]):
    pass


class One(pydantic.RootModel[int]):
    pass


class Exact:
    """Takes just what the protocol says, and has no default."""

    def dumps(self, value: object, /) -> bytes:
        return CODEC.dumps(value)

    def loads(self, body: bytes, charset: str | None, /) -> object:
        assert charset is None
        return CODEC.loads(body, charset)


@pytest.mark.parametrize("codec", [CODEC, Exact()], ids=lambda codec: type(codec).__name__)
def test_what_becomes_neither_an_array_nor_an_object_is_named(codec: Any) -> None:
    assert json.loads(encode_request(codec, Request("m", Several([1, 2]), id=1)))["params"] == [1, 2]
    with pytest.raises(TypeError, match=r"^params of 'm' must become a JSON array or object, a One becomes neither; write params=\[\.\.\.\]$"):
        encode_request(codec, Request("m", One(1), id=1))
