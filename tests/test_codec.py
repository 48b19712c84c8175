"""Bytes to messages and back: strict in what is sent, lenient in what is read."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import decimal
import enum
import itertools
import json
import math
import pickle
import re
import threading
import types
import uuid
import weakref
from typing import Any

import pydantic
import pydantic_core
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic.dataclasses import dataclass as pydantic_dataclass
from support import no_collector

from rpcretry import (
    UNSET,
    HTTPStatusError,
    IdentityError,
    InternalError,
    InvalidParamsError,
    InvalidRequestError,
    JsonRpcError,
    MethodNotFoundError,
    MissingResponseError,
    ParseError,
    ProtocolError,
    RedirectError,
    Request,
    RpcRetryError,
    ServerError,
)
from rpcretry._unreadable import EXCERPT, excerpt_of
from rpcretry.codec import JsonCodec, Reader, encode_batch, encode_request, read_batch, read_notification, read_single
from rpcretry.errors import Delivery, error_registry
from rpcretry.transport import Exchange, Headers, Reply

CODEC = JsonCodec()
READER = Reader(CODEC, error_registry())
NAN, INF = math.nan, math.inf
PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")

# Lone surrogates included; a pair of them is one character in JSON and no longer two.
texts = st.text(st.characters(exclude_categories=())).filter(lambda text: not PAIR.search(text))
scalars = st.none() | st.booleans() | st.integers() | st.integers(-(2**600), 2**600) | st.floats(allow_nan=False, allow_infinity=False) | texts
json_values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5), max_leaves=25)


def sent(params: object = UNSET, **parts: Any) -> Any:
    """What a server finds in the request, by a parser that is not ours."""
    return json.loads(encode_request(CODEC, Request("m", params, **{"id": 1, **parts})))


def answer(body: object, status: int = 200, headers: Any = (), id: int | str = 1) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_single(READER, Reply(data, status, Headers(headers)), id)


def batch(document: object, ids: Any = (1, 2, 3), status: int = 200, headers: Any = ()) -> list[Any]:
    requests = tuple(Request("m", id=id) for id in ids)
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return read_batch(READER, Reply(body, status, Headers(headers)), Exchange(b"", requests, tuple(id for id in ids if id is not None)))


def ok(id: object, result: object = "r") -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": id, "result": result}


def no(id: object, code: object = -32000, message: object = "no") -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}


def nested(depth: int, value: object = 1) -> Any:
    for _ in range(depth):
        value = [value]
    return value


# --- round trips ---


@given(json_values)
def test_any_json_value_round_trips(value: Any) -> None:
    body = encode_request(CODEC, Request("m", [value], id=1))
    # repr, since True equals 1 and -0.0 equals 0.
    assert repr(json.loads(body)["params"]) == repr([value])
    assert repr(CODEC.loads(body)["params"]) == repr([value])  # type: ignore[index]
    assert repr(answer(CODEC.dumps(ok(1, value)))) == repr(value)
    assert repr(answer(json.dumps(ok(1, value)).encode())) == repr(value)
    assert repr(answer(json.dumps(ok(1, value), ensure_ascii=False).encode("utf-8", "surrogatepass"))) == repr(value)
    (member,) = batch(b"[" + CODEC.dumps(ok(1, value)) + b"]", [1])
    assert repr(member) == repr(value)


@pytest.mark.parametrize("depth", [199, 200, 201, 202, 253, 254, 255, 256, 400])
def test_deep_values_round_trip(depth: int) -> None:
    value = nested(depth)
    body = encode_request(CODEC, Request("m", value, id=1))
    assert json.loads(body)["params"] == value
    assert answer(CODEC.dumps(ok(1, value))) == value


@pytest.mark.parametrize("number", [2**63 - 1, 2**63, 2**64, -(2**64) - 1, 10**400, 2**53 + 1])
def test_ints_beyond_64_bits_survive(number: int) -> None:
    assert sent([number])["params"] == [number]
    assert answer(b'{"jsonrpc":"2.0","id":1,"result":%d}' % number) == number


@pytest.mark.parametrize("text", ["é", "日本語", "\U0001f600", "\x00", "\u2028", "\ud800", "a\udfff", "\x7f", '"\\/'])
def test_text_survives_in_params_method_and_id(text: str) -> None:
    document = json.loads(encode_request(CODEC, Request(text, {text: text}, id=text)))
    assert document == {"jsonrpc": "2.0", "method": text, "params": {text: text}, "id": text}
    assert answer(ok(text, text), id=text) == text


# --- NaN and infinity ---


class Model(pydantic.BaseModel):
    x: Any = None


class Floats(pydantic.BaseModel):
    many: list[float] = []


class Constants(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(ser_json_inf_nan="constants")
    x: float


class Words(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(ser_json_inf_nan="strings")
    x: float


class Level(enum.Enum):
    HIGH = "high"
    NOTHING = NAN
    ENDLESS = [1, INF]


class Leveled(pydantic.BaseModel):
    x: Level


class Shaped(pydantic.BaseModel):
    x: int = 1

    @pydantic.field_serializer("x", when_used="json")
    def _shape(self, x: int) -> dict[str, int]:
        return {"x": x}


class Asking(pydantic.BaseModel):
    """With a serializer that itself asks pydantic_core."""

    @pydantic.model_serializer
    def _ask(self) -> str:
        return pydantic_core.to_json(object()).decode()


@dataclasses.dataclass
class Data:
    x: Any = None
    y: Any = 2


@pydantic_dataclass
class PydanticData:
    x: float


class Small(enum.IntEnum):
    ONE = 1


class Ratio(float):
    pass


HIDING = {
    "bare": [NAN],
    "infinity": [INF],
    "minus infinity": [-INF],
    "by name": {"x": NAN},
    "nested": [{"a": [{"b": (1, NAN)}]}],
    "subclass of float": [Ratio("nan")],
    "dataclass": Data(NAN),
    "dataclass in a list": [Data(Data(INF))],
    "model": Model(x=NAN),
    "model with None beside": [Model(x=NAN), None],
    "model field of floats": [Floats(many=[1.0, -INF])],
    "model in model in dict": {"a": Model(x=[Model(x=NAN)])},
    "model in dataclass": [Data(Model(x=INF))],
    "model of constants": [Constants(x=NAN)],
    "model in a model's list of any": Model(x=[{"y": NAN}]),
    "pydantic dataclass": [PydanticData(NAN)],
    "enum": [Level.NOTHING],
    "enum of a list": [Level.ENDLESS],
    "enum in a model": [Leveled(x=Level.NOTHING)],
    "set": [{NAN}],
    "generator": [(value for value in [1, NAN])],
    "defaultdict": [collections.defaultdict(float, a=NAN)],
    "deque": [collections.deque([INF])],
    "mapping proxy": [types.MappingProxyType({"a": NAN})],
    "beside a lone surrogate": ["\ud800", NAN],
    "model beside a lone surrogate": ["\ud800", Model(x=NAN)],
    "deep": nested(300, NAN),
    "beside the word": ["NaN", NAN],
    "beside the words": ["Infinity null", INF],
}


@pytest.mark.parametrize("params", HIDING.values(), ids=HIDING)
def test_nan_and_infinity_are_refused_wherever_they_hide(params: object) -> None:
    with pytest.raises(ValueError, match=r"params of 'm' cannot be sent as JSON: NaN and infinity have no place in JSON; send null or a string"):
        encode_request(CODEC, Request("m", params, id=1))


@pytest.mark.parametrize(
    "params",
    [
        ["NaN", "Infinity", "-Infinity", "null"],
        {"NaN": "Infinity"},
        {"null": None},
        [None, Model(), "null"],
        [Model(x="NaN"), Model(x=None), {"a": [None, (Model(x=[None]),)]}],
        [Data(None), Level.HIGH, None],
        [None, nested(200)],
        [{}, [], (), None],
    ],
)
def test_the_words_nan_infinity_and_null_are_fine(params: object) -> None:
    assert sent(params)["params"] == pydantic_core.to_jsonable_python(params)


def test_a_model_that_writes_its_nan_as_a_word_or_takes_another_shape_in_json_is_fine_beside_none() -> None:
    assert sent([Words(x=NAN), Shaped(), None])["params"] == [{"x": "NaN"}, {"x": {"x": 1}}, None]


@pytest.mark.parametrize("word", ["NaN", "Infinity", "N", "I", "null"])
def test_an_int_of_more_digits_than_python_reads_does_not_matter_beside_a_word(word: str) -> None:
    assert encode_request(CODEC, Request("m", [10**5_000, word, Model()], id=1)).endswith(b'0,"%b",{"x":null}],"id":1}' % word.encode())
    with pytest.raises(ValueError, match="NaN and infinity have no place in JSON"):
        encode_request(CODEC, Request("m", [10**5_000, word, Model(x=NAN)], id=1))


def test_a_bare_value_that_was_written_as_null_is_refused_too() -> None:
    with pytest.raises(ValueError, match="NaN and infinity have no place in JSON"):
        CODEC.dumps(pydantic.RootModel[float](NAN))
    assert CODEC.dumps(None) == b"null"


def test_a_decimal_nan_is_a_string_and_so_no_nan() -> None:
    assert sent([decimal.Decimal("NaN")])["params"] == ["NaN"]


# --- what params may be ---

WHEN = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (WHEN, "2026-01-02T03:04:05Z"),
        (WHEN.date(), "2026-01-02"),
        (datetime.time(1, 2, 3), "01:02:03"),
        (datetime.timedelta(minutes=1), "PT1M"),
        (ID, str(ID)),
        (decimal.Decimal("1.10"), "1.10"),
        (Level.HIGH, "high"),
        (Small.ONE, 1),
        (Data(WHEN, [ID]), {"x": "2026-01-02T03:04:05Z", "y": [str(ID)]}),
        (Model(x={"a": decimal.Decimal(2)}), {"x": {"a": "2"}}),
        (PydanticData(1.5), {"x": 1.5}),
        (b"abc", "abc"),
        ({1}, [1]),
        (frozenset({"a"}), ["a"]),
        (collections.deque([1, 2]), [1, 2]),
        ((value for value in (1, 2)), [1, 2]),
        ({1: 2, ID: 3, Small.ONE: 4}, {"1": 4, str(ID): 3}),
        (types.MappingProxyType({"a": WHEN}), {"a": "2026-01-02T03:04:05Z"}),
        (collections.ChainMap({"a": 1}, {"b": 2}), {"b": 2, "a": 1}),
        (collections.UserList([1, Level.HIGH]), [1, "high"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_python_types_serialise_without_help(value: object, expected: object) -> None:
    one_shot = isinstance(value, types.GeneratorType)
    assert sent([value])["params"] == [expected]
    # The slow encoder, which a lone surrogate calls for, must write the same.
    if not one_shot:
        assert sent(["\ud800", value])["params"] == ["\ud800", expected]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (Data(1), {"x": 1, "y": 2}),
        (Model(x=1), {"x": 1}),
        (PydanticData(1.0), {"x": 1.0}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (range(3), [0, 1, 2]),
        ({7}, [7]),
        ((1, 2), [1, 2]),
        (collections.namedtuple("Point", "x y")(1, 2), [1, 2]),
        (pydantic.RootModel[list[int]]([1]), [1]),
        ((value for value in (1, 2)), [1, 2]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_params_may_be_whatever_becomes_an_array_or_an_object(params: object, expected: object) -> None:
    if isinstance(params, range):
        params = list(params)
    assert sent(params)["params"] == expected


@pytest.mark.parametrize(
    "params", [ID, WHEN, decimal.Decimal(1), Level.HIGH, pydantic.RootModel[int](1), UNSET.__class__], ids=lambda value: type(value).__name__
)
def test_params_that_become_neither_are_refused(params: object) -> None:
    with pytest.raises(TypeError, match=r"params of 'm' (must become a JSON array or object, a \w.* becomes neither; write params=\[...\]|cannot be sent)"):
        encode_request(CODEC, Request("m", params, id=1))


def test_params_that_were_not_given_are_left_out_and_empty_ones_are_sent() -> None:
    assert sent() == sent(None) == {"jsonrpc": "2.0", "method": "m", "id": 1}
    assert sent([])["params"] == []
    assert sent(())["params"] == []
    assert sent({})["params"] == {}
    assert sent([None])["params"] == [None]


def test_a_notification_has_no_id_member() -> None:
    assert sent([1], id=None) == {"jsonrpc": "2.0", "method": "m", "params": [1]}
    assert sent(id=0)["id"] == 0
    assert sent(id="")["id"] == ""


def test_a_batch_is_an_array_of_its_requests() -> None:
    fragments = [encode_request(CODEC, Request("a", [1], id=1)), encode_request(CODEC, Request("b", id=None))]
    assert json.loads(encode_batch(fragments)) == [{"jsonrpc": "2.0", "method": "a", "params": [1], "id": 1}, {"jsonrpc": "2.0", "method": "b"}]


def circle() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


def circle_of_dicts() -> dict[str, Any]:
    a: dict[str, Any] = {}
    a["b"] = {"a": a}
    return a


def circle_of_data() -> Data:
    data = Data()
    data.x = [data]
    return data


def circle_of_models() -> Model:
    model = Model()
    model.x = model
    return model


class Sulky(pydantic.BaseModel):
    x: int = 1

    @pydantic.field_serializer("x")
    def refuse(self, value: int) -> int:
        raise RuntimeError("not today")


@pytest.mark.parametrize(
    ("params", "kind", "reason"),
    [
        ([object()], TypeError, "unknown type: <class 'object'>"),
        ([int], TypeError, "unknown type: <class 'type'>"),
        ([{"a": threading.Lock()}], TypeError, "unknown type: <class '_thread.lock'>"),
        ([ValueError("x")], TypeError, "unknown type: <class 'ValueError'>"),
        ([Data(object())], TypeError, "unknown type: <class 'object'>"),
        ([Model(x=object())], TypeError, "unknown type: <class 'object'>"),
        (["\ud800", object()], TypeError, "unknown type: <class 'object'>"),
        ([Asking()], TypeError, ": Unable to serialize unknown type: <class 'object'>"),
        (["\ud800", (value for value in [1])], TypeError, "a generator can be read only once; write list(...) around it"),
        (object(), TypeError, "unknown type: <class 'object'>"),
        ([b"\xff"], ValueError, "utf-8"),
        ([circle()], ValueError, "Circular reference"),
        ([circle_of_dicts()], ValueError, "Circular reference"),
        ([circle_of_data()], ValueError, "Circular reference"),
        ([circle_of_models()], ValueError, "Circular reference"),
        ([nested(100_000)], ValueError, "nested too deeply"),
        ([Sulky()], ValueError, "not today"),
    ],
    ids=itertools.count(),
)
def test_what_json_refuses_names_the_method_and_the_reason(params: object, kind: type[Exception], reason: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        encode_request(CODEC, Request("pay.now", params, id=1))
    assert type(caught.value) is kind
    assert str(caught.value).startswith("params of 'pay.now' cannot be sent as JSON: ")
    assert reason in str(caught.value)


def test_one_object_in_two_places_is_no_circle() -> None:
    shared = {"a": [1]}
    assert sent([shared, shared, Data(shared, shared)])["params"] == [shared, shared, {"x": shared, "y": shared}]


# --- pydantic_core, and what stands beside it ---


def test_pydantic_core_writes_nan_and_infinity_and_the_codec_does_not() -> None:
    assert pydantic_core.to_json([NAN, INF, -INF]) == b"[NaN,Infinity,-Infinity]"
    assert pydantic_core.to_json([Model(x=NAN)]) == b'[{"x":null}]'
    for value in (NAN, INF, -INF, Model(x=NAN)):
        with pytest.raises(ValueError, match="have no place in JSON"):
            CODEC.dumps([value])


def test_pydantic_core_reads_1e400_as_infinity_which_cannot_go_out_again() -> None:
    assert pydantic_core.from_json(b"1e400") == INF
    assert CODEC.loads(b"1e400") == INF == json.loads("1e400")
    assert answer(b'{"jsonrpc":"2.0","id":1,"result":1e400}') == INF
    with pytest.raises(ValueError, match="have no place in JSON"):
        CODEC.dumps(CODEC.loads(b"1e400"))


def test_pydantic_core_refuses_a_byte_order_mark_and_the_codec_reads_it() -> None:
    body = b"\xef\xbb\xbf" + json.dumps(ok(1, 3)).encode()
    with pytest.raises(ValueError, match="expected value"):
        pydantic_core.from_json(body)
    assert CODEC.loads(body) == ok(1, 3)
    assert answer(body) == 3


def test_pydantic_core_refuses_lone_surrogates_and_the_codec_does_not() -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        pydantic_core.to_json("\ud800")
    with pytest.raises(ValueError, match="hex escape"):
        pydantic_core.from_json(b'"\\ud800"')
    assert CODEC.dumps("\ud800") == b'"\\ud800"'
    assert CODEC.loads(b'"\\ud800"') == "\ud800"


def test_pydantic_core_refuses_depth_over_200_and_the_codec_does_not() -> None:
    with pytest.raises(ValueError, match="depth exceeded"):
        pydantic_core.to_json(nested(256))
    with pytest.raises(ValueError, match="recursion limit"):
        pydantic_core.from_json(b"[" * 202 + b"]" * 202)
    assert json.loads(CODEC.dumps(nested(256))) == nested(256)
    assert CODEC.loads(b"[" * 202 + b"]" * 202) == nested(201, [])


# --- reading one answer ---

GOOD = json.dumps(ok(1, "é")).encode()


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (GOOD, {}, "é"),
        (b"\xef\xbb\xbf" + GOOD, {}, "é"),
        (json.dumps(ok(1, "é"), ensure_ascii=False).encode("utf-16"), {}, "é"),
        (json.dumps(ok(1, "é"), ensure_ascii=False).encode("utf-16-le"), {}, "é"),
        (json.dumps(ok(1, "é"), ensure_ascii=False).encode("utf-32-be"), {}, "é"),
        (json.dumps(ok(1, "é"), ensure_ascii=False).encode("latin-1"), {"content-type": "application/json; charset=ISO-8859-1"}, "é"),
        (json.dumps(ok(1, "é"), ensure_ascii=False).encode("latin-1"), {"CONTENT-TYPE": 'text/plain; Charset="latin1"'}, "é"),
        (json.dumps(ok(1, "日"), ensure_ascii=False).encode("iso-2022-jp"), {"Content-Type": "application/json; charset=iso-2022-jp"}, "日"),
        # UTF-8 under a wrong name is still UTF-8.
        (json.dumps(ok(1, "é"), ensure_ascii=False).encode(), {"Content-Type": "application/json; charset=ascii"}, "é"),
        (GOOD, {"Content-Type": "text/html; charset=no-such-charset"}, "é"),
        (GOOD, {"Content-Type": "text/event-stream"}, "é"),
        (b"\r\n  " + json.dumps(ok(1, "é"), indent=2).replace("\n", "\r\n").encode() + b"\r\n\r\n", {}, "é"),
        (b"[" + GOOD + b"]", {}, "é"),
        (b'{"id":1,"result":"x"}', {}, "x"),
        (b'{"jsonrpc":"1.0","id":1,"result":"x"}', {}, "x"),
        (b'{"jsonrpc":2.0,"id":1,"result":"x","error":null}', {}, "x"),
        (b'{"jsonrpc":"2.0","id":1,"result":"x","error":{}}', {}, "x"),
        (b'{"jsonrpc":"2.0","id":1,"result":"x","error":false}', {}, "x"),
        (b'{"jsonrpc":"2.0","id":1,"result":"x","error":""}', {}, "x"),
        (b'{"jsonrpc":"2.0","id":1,"result":null,"error":null}', {}, None),
        (b'{"jsonrpc":"2.0","id":1,"result":null}', {}, None),
        (b'{"jsonrpc":"2.0","id":1,"result":"x","method":"m","params":[],"extra":true}', {}, "x"),
        (b'{"jsonrpc":"2.0","id":2,"id":1,"result":"w","result":"x"}', {}, "x"),
    ],
    ids=itertools.count(),
)
@pytest.mark.parametrize("status", [200, 201, 299, 400, 500])
def test_every_spelling_of_a_result_is_the_result(body: bytes, headers: dict[str, str], expected: object, status: int) -> None:
    assert answer(body, status, headers) == expected


def test_a_string_id_is_matched_as_it_is() -> None:
    assert answer(ok("abc-é", 3), id="abc-é") == 3
    assert answer(ok("", 3), id="") == 3
    assert answer(ok(12345678901234567890, 3), id=12345678901234567890) == 3


@pytest.mark.parametrize("found", [2, 0, -1, 1.0, 1.5, True, False, "1", " 1", "", [1], [], {"a": 1}, {}, None, 2**64], ids=repr)
@pytest.mark.parametrize("status", [200, 500])
def test_a_result_under_another_id_is_nobodys(found: object, status: int) -> None:
    with pytest.raises(IdentityError) as caught:
        answer(ok(found, "a secret of somebody else's"), status)
    assert caught.value.status == status
    assert "to the request with id 1" in str(caught.value)
    assert caught.value.excerpt


@pytest.mark.parametrize(
    ("asked", "found"), [(0, False), (0, 0.0), (0, ""), ("1", 1), ("", 0), ("true", True), (1, "1"), ("1.0", 1.0), ("None", None)], ids=repr
)
def test_ids_are_compared_by_type_and_value(asked: Any, found: object) -> None:
    with pytest.raises(IdentityError):
        answer(ok(found), id=asked)


def test_a_result_without_an_id_is_nobodys() -> None:
    with pytest.raises(IdentityError, match="a result without an id"):
        answer({"jsonrpc": "2.0", "result": 3})
    with pytest.raises(IdentityError, match="a result without an id"):
        answer({"result": 3})
    with pytest.raises(IdentityError, match="a result with a null id"):
        answer(ok(None))


ERROR = {"code": -32601, "message": "gone"}


@pytest.mark.parametrize(
    ("document", "code", "message", "data"),
    [
        ({"jsonrpc": "2.0", "id": 1, "error": ERROR}, -32601, "gone", UNSET),
        ({"jsonrpc": "2.0", "id": None, "error": ERROR}, -32601, "gone", UNSET),
        ({"jsonrpc": "2.0", "error": ERROR}, -32601, "gone", UNSET),
        ({"error": ERROR}, -32601, "gone", UNSET),
        ({"id": 1, "error": ERROR, "result": None}, -32601, "gone", UNSET),
        ({"id": 1, "error": ERROR, "result": 3}, -32601, "gone", UNSET),
        ([{"id": 1, "error": ERROR}], -32601, "gone", UNSET),
        ({"id": 1, "error": {**ERROR, "data": None}}, -32601, "gone", None),
        ({"id": 1, "error": {**ERROR, "data": [1]}}, -32601, "gone", [1]),
        ({"id": 1, "error": {"code": "-32601", "message": "gone"}}, -32601, "gone", UNSET),
        ({"id": 1, "error": {"code": " +5 ", "message": "gone"}}, 5, "gone", UNSET),
        ({"id": 1, "error": {"code": -32601.0, "message": "gone"}}, -32601, "gone", UNSET),
        ({"id": 1, "error": {"code": 2**70, "message": "gone"}}, 2**70, "gone", UNSET),
        ({"id": 1, "error": {"code": 0, "message": ""}}, 0, "", UNSET),
        ({"id": 1, "error": {"code": True, "message": "gone"}}, 0, "gone", {"code": True, "message": "gone"}),
        ({"id": 1, "error": {"code": 1.5, "message": "gone"}}, 0, "gone", {"code": 1.5, "message": "gone"}),
        ({"id": 1, "error": {"code": "E_GONE", "message": "gone"}}, 0, "gone", {"code": "E_GONE", "message": "gone"}),
        ({"id": 1, "error": {"code": "", "message": "gone"}}, 0, "gone", {"code": "", "message": "gone"}),
        ({"id": 1, "error": {"code": "٣", "message": "gone"}}, 0, "gone", {"code": "٣", "message": "gone"}),
        ({"id": 1, "error": {"code": "9" * 5000, "message": "gone"}}, 0, "gone", {"code": "9" * 5000, "message": "gone"}),
        ({"id": 1, "error": {"code": None, "message": "gone"}}, 0, "gone", {"code": None, "message": "gone"}),
        ({"id": 1, "error": {"message": "gone"}}, 0, "gone", {"message": "gone"}),
        ({"id": 1, "error": {"code": -32601}}, -32601, "Method not found", UNSET),
        ({"id": 1, "error": {"code": -32601, "message": None}}, -32601, "Method not found", UNSET),
        ({"id": 1, "error": {"code": 5, "message": {"en": "gone"}}}, 5, '{"en":"gone"}', UNSET),
        ({"id": 1, "error": {"code": 5, "message": 404}}, 5, "404", UNSET),
        # JSON.stringify(new Error("x")) in JavaScript.
        ({"id": 1, "error": {}}, 0, "", {}),
        ({"id": 1, "error": {}, "result": None}, 0, "", {}),
        ({"id": 1, "error": "gone"}, 0, "gone", UNSET),
        ({"id": 1, "error": "gone", "result": 3}, 0, "gone", UNSET),
        ({"id": 1, "error": ["gone", 5]}, 0, "", ["gone", 5]),
        ({"id": 1, "error": 5}, 0, "", 5),
        ({"id": 1, "error": True}, 0, "", True),
    ],
    ids=itertools.count(),
)
@pytest.mark.parametrize("status", [200, 204, 400, 404, 500])
def test_every_spelling_of_an_error_is_the_error(document: object, code: int, message: str, data: object, status: int) -> None:
    with pytest.raises(JsonRpcError) as caught:
        answer(document, status, {"X-Request-Id": "7"})
    error = caught.value
    assert (error.code, error.message, error.data, error.status) == (code, message, data, status)
    assert error.headers is not None
    assert error.headers["x-request-id"] == "7"
    assert error.delivery is Delivery.MAYBE_EXECUTED


def test_an_error_code_of_nan_or_infinity_is_no_number() -> None:
    for code in (b"NaN", b"1e400", b"-Infinity"):
        with pytest.raises(JsonRpcError) as caught:
            answer(b'{"id":1,"error":{"code":' + code + b',"message":"m"}}')
        assert (caught.value.code, caught.value.message) == (0, "m")


@pytest.mark.parametrize("found", [2, 1.0, True, "1", [1], {}], ids=repr)
def test_an_error_under_another_id_is_the_reason_of_an_identity_error(found: object) -> None:
    with pytest.raises(IdentityError, match=r"the error no \[-32000\]") as caught:
        answer(no(found))
    (reason,) = caught.value.errors
    assert (type(reason), reason.code) == (ServerError, -32000)


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        (-32700, ParseError),
        (-32600, InvalidRequestError),
        (-32601, MethodNotFoundError),
        (-32602, InvalidParamsError),
        (-32603, InternalError),
        (-32000, ServerError),
        (-32099, ServerError),
        (-32100, JsonRpcError),
        (-31999, JsonRpcError),
        (0, JsonRpcError),
        (2001, JsonRpcError),
    ],
)
def test_codes_have_classes(code: int, cls: type[JsonRpcError]) -> None:
    with pytest.raises(JsonRpcError) as caught:
        answer(no(1, code))
    assert type(caught.value) is cls


@pytest.mark.parametrize("body", [b'{"jsonrpc":"2.0","id":1}', b'{"jsonrpc":"2.0","id":1,"error":null}'])
def test_a_success_without_a_value_is_none(body: bytes) -> None:
    """Servers in JavaScript leave out a result that is undefined; the call was done all the same."""
    assert answer(body) is None
    with pytest.raises(HTTPStatusError):
        answer(body, 500)
    for wrong in (body.replace(b":1", b":2"), body.replace(b'"jsonrpc":"2.0",', b"")):
        with pytest.raises(ProtocolError):
            answer(wrong)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "an empty body"),
        (b" \r\n", "an empty body"),
        (b"<html><title>It works</title>", "no JSON"),
        (b'{"jsonrpc":"2.0","id":1,"result":', "no JSON"),
        (GOOD[:-1], "no JSON"),
        (GOOD + b"x", "no JSON"),
        (GOOD + GOOD, "no JSON"),
        (GOOD + b"\x00", "no JSON"),
        (b"\x00" + GOOD, "no JSON"),
        (b"\x00" * 50, "no JSON"),
        (b'{"id":1,"result":"a\x00b"}', "no JSON"),
        (b"{'id':1,'result':3}", "no JSON"),
        (b'{"id":1,"result":3,}', "no JSON"),
        (b'{"jsonrpc":"2.0","id":s1,"result":3}', "no JSON"),
        (b'{"id":1,"result":"\xe9"}', "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b'{"id":1,"result":' + b"9" * 5000 + b"}", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"id":1,"result":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "no JSON"),
        (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "no JSON"),
        (b"null", "a JSON null"),
        (b"true", "a JSON boolean"),
        (b"3", "a JSON number"),
        (b"1e400", "a JSON number"),
        (b'"ok"', "a JSON string"),
        (b"[]", "a JSON array"),
        (b"[3]", "a JSON number"),
        (b"[[" + GOOD + b"]]", "a JSON array"),
        (b"[" + GOOD + b"," + GOOD + b"]", "a JSON array"),
        (b"{}", "no JSON-RPC answer"),
        (b'{"detail":"Not Found"}', "no JSON-RPC answer"),
        (b'{"jsonrpc":"2.0","id":null}', "no JSON-RPC answer"),
        (b'{"id":1}', "neither result nor error"),
        (b'{"jsonrpc":"2.0","id":1,"extra":0}', "neither result nor error"),
        (b'{"jsonrpc":"2.0","id":1,"method":"m","params":[]}', "neither result nor error"),
    ],
    ids=itertools.count(),
)
def test_a_body_that_is_no_answer_is_a_protocol_error_with_status_and_excerpt(body: bytes, words: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        answer(body, 200, {"Server": "s"})
    assert type(caught.value) is ProtocolError
    assert words in str(caught.value)
    assert caught.value.status == 200
    assert caught.value.headers == {"Server": "s"}
    assert caught.value.excerpt == excerpt_of(body)
    with pytest.raises(HTTPStatusError, match=r"^HTTP 502\b") as refused:
        answer(body, 502, {"Server": "s"})
    assert refused.value.status == 502
    assert refused.value.excerpt == excerpt_of(body)
    # Neither drags the parser's failure along, whose frames hold the whole body.
    assert caught.value.__cause__ is refused.value.__cause__ is None


@pytest.mark.parametrize("charset", ["no-such", "hex", "rot13", "undefined", "idna", "unicode_escape", "utf-8", "ü", "x" * 500, "punycode", "zlib_codec"])
def test_no_charset_of_a_server_gets_out_of_hand(charset: str) -> None:
    with pytest.raises(ProtocolError, match="no JSON"):
        answer(b'{"id":1,"result":"\\q\xff', headers={"Content-Type": f"application/json; charset={charset}"})


@pytest.mark.parametrize("status", [300, 304, 400, 404, 418, 500, 503, 599])
@pytest.mark.parametrize(
    "body",
    [
        b'{"error":"not found"}',
        b'{"id":9,"error":"not found"}',
        b'{"result":null}',
        b'{"error":{"message":"no","status":"X"}}',
        b'{"code":-32601,"message":"m"}',
        b"[]",
        b'["error"]',
    ],
)
def test_an_error_page_that_happens_to_be_json_is_an_http_error(body: bytes, status: int) -> None:
    with pytest.raises(HTTPStatusError) as caught:
        answer(body, status)
    assert caught.value.status == status
    with pytest.raises(HTTPStatusError):
        batch(body, status=status)


def test_the_error_page_of_a_gateway_is_no_json_rpc_error() -> None:
    page = {"error": {"code": 503, "message": "The service is currently unavailable.", "status": "UNAVAILABLE"}}
    with pytest.raises(HTTPStatusError, match="HTTP 503"):
        answer(page, 503)
    with pytest.raises(HTTPStatusError, match="HTTP 503"):
        batch(page, status=503)
    # With an envelope around it, or under another status, it is one.
    for document, status in (({"jsonrpc": "2.0", **page}, 503), (page, 500), (page, 200), ({"id": 1, **page}, 503)):
        with pytest.raises(JsonRpcError) as caught:
            answer(document, status)
        assert caught.value.code == 503


@pytest.mark.parametrize(
    ("status", "headers", "delivery"),
    [
        (429, {}, Delivery.REJECTED),
        (503, {"Retry-After": "1"}, Delivery.REJECTED),
        (503, {"retry-after": ""}, Delivery.REJECTED),
        (503, {}, Delivery.MAYBE_EXECUTED),
        (502, {"Retry-After": "1"}, Delivery.MAYBE_EXECUTED),
        (500, {}, Delivery.MAYBE_EXECUTED),
    ],
)
def test_the_status_says_whether_the_server_may_have_acted(status: int, headers: dict[str, str], delivery: Delivery) -> None:
    with pytest.raises(HTTPStatusError) as caught:
        answer(b"<html>", status, headers)
    assert caught.value.delivery is delivery
    with pytest.raises(JsonRpcError) as answered:
        answer(no(1), status, headers)
    assert answered.value.delivery is delivery
    assert [error.delivery for error in batch(no(None), status=status, headers=headers)] == [delivery] * 3


# --- reading a batch ---


def gist(outcomes: list[Any]) -> list[Any]:
    return [type(one).__name__ if isinstance(one, ProtocolError) else one.code if isinstance(one, JsonRpcError) else one for one in outcomes]


MISSING, IDENTITY = "MissingResponseError", "IdentityError"


@pytest.mark.parametrize(
    ("document", "ids", "expected"),
    [
        ([ok(1, "a"), ok(2, "b"), ok(3, "c")], (1, 2, 3), ["a", "b", "c"]),
        ([ok(3, "c"), ok(1, "a"), no(2)], (1, 2, 3), ["a", -32000, "c"]),
        ([ok("1", "s"), ok(1, "i")], (1, "1"), ["i", "s"]),
        ([], (1, 2), [MISSING] * 2),
        ([ok(2, "b")], (1, 2, 3), [MISSING, "b", MISSING]),
        # A missing item shifts nobody's result.
        ([ok(2, "b"), ok(3, "c")], (1, 2, 3), [MISSING, "b", "c"]),
        ([ok(9, "x"), ok(2, "b")], (1, 2), [MISSING, "b"]),
        ([ok(1.0, "x"), ok(True, "x"), ok("1", "x"), ok(None, "x"), {"result": "x"}], (1,), [MISSING]),
        ([ok([1], "x"), ok({}, "x")], (1, 2), [MISSING] * 2),
        ([ok(1, "a"), ok(1, "a")], (1, 2), [IDENTITY, MISSING]),
        ([ok(1, "a"), no(1), ok(2, "b")], (1, 2), [IDENTITY, "b"]),
        ([ok(1, "a"), 3, None, "x", [ok(2)]], (1, 2), ["a", MISSING]),
        ([{"id": 1}, ok(2, "b")], (1, 2), ["ProtocolError", "b"]),
        ([{"id": 1, "error": "gone"}, {"id": 2, "result": "b", "error": None}], (1, 2), [0, "b"]),
        ([{"id": 1, "error": {}, "result": "a"}, {"id": 2, "error": ERROR, "result": 2}], (1, 2), ["a", -32601]),
        # One request without an answer, one answer without an id: nothing else can be meant.
        ([ok(1, "a"), no(None)], (1, 2), ["a", -32000]),
        ([no(None), no(None)], (1, 2), [-32000] * 2),
        ([no(None)], (1, 2, 3), [-32000] * 3),
        # Which of the two it belongs to is open.
        ([ok(1, "a"), no(None)], (1, 2, 3), ["a", MISSING, MISSING]),
        ([no(None), no(None)], (1, 2, 3), [MISSING] * 3),
        ([no(None), no(None, -32600)], (1, 2), [MISSING] * 2),
        ([no(None), no(None, message="other")], (1, 2), [MISSING] * 2),
        ([no(None), ok(9)], (1, 2), [MISSING] * 2),
        ([no(None), no(9)], (1, 2), [MISSING] * 2),
        # All have theirs, and the error is one too many.
        ([ok(1, "a"), ok(2, "b"), no(None)], (1, 2), ["a", "b"]),
        # Notifications are not answered; some servers complain about them with a null id.
        ([ok(1, "a")], (1, None), ["a", None]),
        ([no(None), ok(1, "a")], (None, 1), [None, "a"]),
        ([no(None)], (None, 1), [None, MISSING]),
        ([ok(None, "x"), ok(1, "a")], (None, 1), [None, "a"]),
        # A single object for the whole batch.
        (no(None), (1, 2), [-32000] * 2),
        ({"error": ERROR}, (1, 2), [-32601] * 2),
        (no(None), (None, 1), [None, -32000]),
        (no(None), (1,), [-32000]),
        (ok(1, "a"), (1,), ["a"]),
        ({"id": 1, "result": "a"}, (1,), ["a"]),
        (no(1), (1,), [-32000]),
        (ok(1, "a"), (1, 2), ["a", MISSING]),
        (no(1), (1, 2), [-32000, MISSING]),
        (ok(None, "x"), (1,), [MISSING]),
        ({"result": "x"}, (1,), [MISSING]),
        (ok("1", "x"), (1,), [MISSING]),
        (no(0), (1, 2), [MISSING] * 2),
    ],
    ids=itertools.count(),
)
def test_members_of_a_batch_get_their_own_answers(document: object, ids: tuple[Any, ...], expected: list[Any]) -> None:
    assert gist(batch(document, ids)) == expected


@pytest.mark.parametrize("body", [b"", b"<html>", b"3", b"null", b'"x"', b"{}", b'{"detail":"x"}', b'{"jsonrpc":"2.0","id":null}', b"[{]"])
def test_what_is_no_answer_to_a_batch_is_raised(body: bytes) -> None:
    for ids in ((1,), (1, 2), (1, None)):
        with pytest.raises(ProtocolError):
            batch(body, ids)
        with pytest.raises(HTTPStatusError):
            batch(body, ids, status=500)


def test_members_under_an_http_error_keep_their_answers() -> None:
    first, second = batch([no(1, -32601), ok(2, "b")], (1, 2), status=500, headers={"A": "b"})
    assert (first.code, first.status, first.headers["a"], second) == (-32601, 500, "b", "b")
    (alone,) = batch({"id": 1, "error": "gone"}, (1,), status=500)
    assert (alone.message, alone.status) == ("gone", 500)
    for empty in ([], [3], ["no"], [{"detail": "x"}]):
        with pytest.raises(HTTPStatusError):
            batch(empty, (1, 2), status=503)


def test_the_servers_reason_is_not_lost_with_a_null_id() -> None:
    outcomes = batch([ok(1, "a"), no(None, -32600, "bad"), ok(9)], (1, 2, 3), headers={"A": "b"})
    for outcome, id in zip(outcomes[1:], (2, 3), strict=True):
        assert isinstance(outcome, MissingResponseError)
        assert f"the request with id {id} unanswered, but said: bad [-32600], and answered ids that were not asked for: [9]" in str(outcome)
        assert [(type(reason), reason.code) for reason in outcome.errors] == [(InvalidRequestError, -32600)]
        assert outcome.headers == {"A": "b"}


@pytest.mark.parametrize("document", [no(None, -32600), [no(None, -32600)], [no(None, -32600)] * 3])
def test_each_member_gets_an_error_instance_of_its_own(document: object) -> None:
    outcomes = batch(document)
    assert len({id(outcome) for outcome in outcomes}) == 3
    assert {(type(outcome), outcome.code) for outcome in outcomes} == {(InvalidRequestError, -32600)}


def test_a_member_gets_no_other_members_data() -> None:
    errors = [{"id": None, "error": {"code": -32600, "message": "bad", "data": data}} for data in ("of one", "of the other")]
    assert [(error.code, error.data) for error in batch(errors, (1, 2))] == [(-32600, UNSET)] * 2
    assert [error.data for error in batch([errors[0], errors[0]], (1, 2))] == ["of one"] * 2


def test_a_batch_of_notifications_has_no_answer() -> None:
    assert batch(b"", (None, None)) == [None, None]
    assert batch([no(None), no(None)], (None, None)) == [None, None]
    with pytest.raises(HTTPStatusError):
        batch(b"<html>", (None,), status=500)


mutations = st.sampled_from(["drop", "double", "foreign", "null", "float", "text", "bool", "no id", "error", "null error", "scalar", "empty", "wrap", "swap"])


def mutated(answers: list[Any], at: int, how: str, other: int) -> list[Any]:
    one = answers[at]
    if not isinstance(one, dict):
        return answers
    id = one.get("id")
    changed: list[Any] = {
        "drop": [],
        "double": [one, {**one, "result": {"of": id, "again": True}}],
        "foreign": [{**one, "id": 1000 + at}],
        "null": [{**one, "id": None}],
        "float": [{**one, "id": float(at)}],
        "text": [{**one, "id": str(id)}],
        "bool": [{**one, "id": True}],
        "no id": [{key: value for key, value in one.items() if key != "id"}],
        "error": [{"id": id, "error": {"code": -32000, "message": "no", "data": {"of": id}}}],
        "null error": [{"id": None, "error": {"code": -32000, "message": "no", "data": {"of": id}}}],
        "scalar": [at],
        "empty": [{}],
        "wrap": [[one]],
        "swap": [answers[other]],
    }[how]
    return answers[:at] + changed + answers[at + 1 :]


@given(
    st.integers(1, 6), st.lists(st.tuples(st.integers(0, 5), mutations, st.integers(0, 5)), max_size=6), st.randoms(use_true_random=False), st.integers(0, 2)
)
def test_no_mutation_of_a_batch_gives_a_member_another_ones_result(count: int, changes: list[Any], random: Any, notifications: int) -> None:
    ids = [None] * notifications + list(range(count))
    answers: list[Any] = [{"jsonrpc": "2.0", "id": id, "result": {"of": id}} for id in range(count)]
    for at, how, other in changes:
        if answers:
            answers = mutated(answers, at % len(answers), how, other % len(answers))
    random.shuffle(answers)
    outcomes = batch(answers, tuple(ids))
    assert len(outcomes) == len(ids)
    for id, outcome in zip(ids, outcomes, strict=True):
        if id is None:
            assert outcome is None
        elif isinstance(outcome, JsonRpcError):
            # Details of an error without an id reach a member only where all of them are the same.
            nameless = [one["error"]["data"] for one in answers if isinstance(one, dict) and "error" in one and one.get("id") is None]
            assert outcome.data in (UNSET, {"of": id}) or all(data == outcome.data for data in nameless)
        elif not isinstance(outcome, (MissingResponseError, IdentityError, ProtocolError)):
            # Only what came under this very id, once, and of this type.
            own = [one for one in answers if isinstance(one, dict) and type(one.get("id")) is int and one["id"] == id]
            assert len(own) == 1
            assert outcome == own[0]["result"]
            assert outcome["of"] == id
    if not changes:
        assert outcomes[notifications:] == [{"of": id} for id in range(count)]


# --- notifications ---


@pytest.mark.parametrize("body", [b"", b"ok", b"<html>", b"null", b"[]", json.dumps(ok(1)).encode(), json.dumps(no(None)).encode(), b"\xff\x00"])
@pytest.mark.parametrize("status", [200, 202, 204, 299])
def test_any_body_is_fine_for_a_notification(body: bytes, status: int) -> None:
    assert read_notification(READER, Reply(body, status)) is None


@pytest.mark.parametrize("document", [no(None), [no(None)], ok(1), no(3, -32601)])
def test_an_http_error_around_an_answer_to_a_notification_is_an_answer(document: object) -> None:
    assert read_notification(READER, Reply(json.dumps(document).encode(), 400)) is None


@pytest.mark.parametrize(
    ("status", "body"), [(500, b""), (500, b"<html>"), (404, b'{"detail":"x"}'), (429, b""), (429, json.dumps(no(None)).encode()), (304, b"")]
)
def test_a_notification_that_http_refused_did_not_arrive(status: int, body: bytes) -> None:
    with pytest.raises(HTTPStatusError) as caught:
        read_notification(READER, Reply(body, status))
    assert caught.value.status == status
    assert caught.value.delivery is (Delivery.REJECTED if status == 429 else Delivery.MAYBE_EXECUTED)


# --- redirects and secrets ---


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("https://user:pass@other.example:8443/v3/KEY?token=KEY#KEY", "to host other.example:8443;"),
        ("//other.example/KEY", "to host other.example;"),
        ("/v3/KEY", "within the same host"),
        ("?KEY", "within the same host"),
        ("", "without a Location"),
        ("http://[KEY", "within the same host"),
        (f"http://{'h' * 5000}/KEY", "to host hhh"),
        ("http://h\x1b31m.example/KEY", "to host h\N{REPLACEMENT CHARACTER}31m.example"),
    ],
)
def test_a_redirect_names_the_host_and_nothing_else(status: int, location: str, words: str) -> None:
    reply = Reply(b"", status, {"Location": location})
    for read in (lambda: read_single(READER, reply, 1), lambda: batch(b"", (1,), status, {"Location": location}), lambda: read_notification(READER, reply)):
        with pytest.raises(RedirectError) as caught:
            read()
        assert words in str(caught.value)
        for secret in ("KEY", "pass", "user"):
            assert secret not in f"{caught.value} {caught.value!r}"
        assert len(str(caught.value)) < 250
        assert str(caught.value).isprintable()


@given(st.binary(max_size=2000) | texts.map(lambda text: text.encode("utf-8", "replace")))
def test_excerpts_are_short_and_printable(body: bytes) -> None:
    text = excerpt_of(body)
    assert len(text) <= EXCERPT
    assert text.isprintable()
    assert "\n" not in text


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"<pre>Cannot POST /v3/KEY</pre>", "<pre>Cannot POST …</pre>"),
        (b"The requested URL /v3/KEY?a=KEY was not found", "The requested URL … was not found"),
        (b'{"path":"/v3/KEY","url":"https://u:KEY@h.example/KEY"}', '{"path":"…","url":"…"}'),
        (b'{"path":"\\/v3\\/KEY"}', '{"path":"…"}'),
        (b"Cannot POST &#x2F;v3&#x2F;KEY now", "Cannot POST … now"),
        (b"see http://h.example/KEY, please", "see … please"),
        (
            b"<html>\r\n<head><title>502 Bad Gateway</title></head><br/><hr /> nginx/1.22.1",
            "<html> <head><title>502 Bad Gateway</title></head><br/><hr /> nginx/1.22.1",
        ),
        (b"text/html and 1/2", "text/html and 1/2"),
        (b"x" * 1000, "x" * 119 + "…"),
        (b"", ""),
    ],
)
def test_excerpts_leave_out_the_paths_that_error_pages_repeat(body: bytes, expected: str) -> None:
    assert excerpt_of(body) == expected


def test_no_message_carries_the_value_of_a_header() -> None:
    headers = {"Set-Cookie": "s=KEY", "WWW-Authenticate": "KEY", "Content-Type": "text/plain; charset=KEY", "Retry-After": "KEY", "Location": "/KEY"}
    for body in (b"", b"\xff", b"{}", b"[]", json.dumps(ok(2)).encode(), json.dumps(no(1)).encode(), json.dumps(no(2)).encode()):
        for status in (200, 301, 404, 429, 503):
            with pytest.raises(RpcRetryError) as caught:
                answer(body, status, headers)
            assert "KEY" not in f"{caught.value} {caught.value!r}"
            assert "KEY" not in " ".join(getattr(caught.value, "__notes__", []))


# --- other codecs, parsed replies ---


class Upper:
    """A codec that fails in its own way and writes down what it is asked."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.problem = problem
        self.asked: list[str | None] = []

    def dumps(self, value: object, /) -> bytes:
        if self.problem is not None:
            raise self.problem
        return json.dumps(value).encode()

    def loads(self, body: bytes, charset: str | None, /) -> object:
        self.asked.append(charset)
        if self.problem is not None:
            raise self.problem
        return json.loads(body.decode(charset or "utf-8"))


def test_another_codec_is_asked_for_everything() -> None:
    codec = Upper()
    reader = Reader(codec, error_registry())
    assert json.loads(encode_request(codec, Request("m", {"a": 1}, id=1)))["params"] == {"a": 1}
    assert read_single(reader, Reply(json.dumps(ok(1, 3)).encode()), 1) == 3
    body = json.dumps(ok(1, "é"), ensure_ascii=False).encode("latin-1")
    assert read_single(reader, Reply(body, 200, {"Content-Type": "a/b; charset=latin-1"}), 1) == "é"
    assert codec.asked[-1] == "latin-1"


@pytest.mark.parametrize("problem", [ValueError("no"), KeyError("x"), RuntimeError("broken"), ZeroDivisionError()])
def test_whatever_another_codec_raises_is_a_protocol_error(problem: Exception) -> None:
    reader = Reader(Upper(problem), error_registry())
    with pytest.raises(ProtocolError, match="HTTP 200 with a body that") as caught:
        read_single(reader, Reply(b"{}"), 1)
    assert caught.value.__cause__ is (None if isinstance(problem, ValueError) else problem)
    with pytest.raises(ProtocolError):
        read_batch(reader, Reply(b"[]"), Exchange(b"", (Request("m", id=1),), (1,)))


def test_a_backend_may_have_parsed_the_body_already() -> None:
    assert read_single(READER, Reply(b"", document=ok(1, 3)), 1) == 3
    assert read_batch(READER, Reply(b"", document=[ok(1, 3)]), Exchange(b"", (Request("m", id=1),), (1,))) == [3]
    with pytest.raises(ProtocolError, match="a JSON null"):
        read_single(READER, Reply(b"", document=None), 1)


class Watched(Reply):
    __slots__ = ("__weakref__",)


@pytest.mark.parametrize(
    "body", [json.dumps(no(1)).encode(), json.dumps(no(None)).encode(), json.dumps(ok(2)).encode(), json.dumps(no(2)).encode(), b"", b"<html>", b"[]"]
)
@pytest.mark.parametrize("status", [200, 301, 500])
def test_an_error_that_was_dealt_with_holds_no_reply(body: bytes, status: int) -> None:
    """A reply may be 64 MiB; it must not wait for the cycle collector."""
    for ids in ((1,), (1, 2)):
        with no_collector():
            reply = Watched(body, status)
            gone = weakref.ref(reply)
            with contextlib.suppress(RpcRetryError):
                read_single(READER, reply, 1)
            with contextlib.suppress(RpcRetryError):
                read_batch(READER, reply, Exchange(b"", tuple(Request("m", id=id) for id in ids), ids))
            with contextlib.suppress(RpcRetryError):
                read_notification(READER, reply)
            del reply
            assert gone() is None


# --- whatever a server sends ---

members = st.dictionaries(
    st.sampled_from(["id", "result", "error", "jsonrpc", "method", "code", "message", "data"]),
    json_values | st.integers(-1, 3) | st.sampled_from(["2.0", "1", 1.0, True, None]) | st.fixed_dictionaries({"code": scalars, "message": scalars}),
)
bodies = (
    st.binary(max_size=200)
    | json_values.map(lambda value: json.dumps(value).encode())
    | (members | st.lists(members | json_values, max_size=4)).map(lambda value: json.dumps(value).encode())
    | st.tuples(members.map(lambda value: json.dumps(value).encode()), st.integers(0, 60)).map(lambda pair: pair[0][: -pair[1]])
)
content_types = st.sampled_from(
    ["", "application/json", "text/plain; charset=latin-1", "a/b; charset=utf-16", "x; charset=\xff", "; charset=hex"]
) | st.text().map("x; charset=".__add__)


@given(bodies, st.integers(100, 599) | st.sampled_from([200, 200, 204, 429, 503]), content_types)
def test_whatever_a_server_sends_only_our_errors_come_of_it(body: bytes, status: int, content_type: str) -> None:
    reply = Reply(body, status, {"Content-Type": content_type})
    requests = (Request("m", id=1), Request("m", id=None), Request("m", id="1"))
    ways: list[Any] = [
        lambda: [read_single(READER, reply, 1)],
        lambda: [read_notification(READER, reply)],
        lambda: read_batch(READER, reply, Exchange(b"", requests, (1, "1"))),
        lambda: read_batch(READER, reply, Exchange(b"", requests[:1], (1,))),
    ]
    for way in ways:
        try:
            outcomes = way()
        except (JsonRpcError, ProtocolError, HTTPStatusError) as problem:
            outcomes = [problem]
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, (JsonRpcError, ProtocolError, HTTPStatusError))
                assert outcome.status == status
                assert isinstance(outcome, HTTPStatusError) <= (not 200 <= status < 300)
                assert str(pickle.loads(pickle.dumps(outcome))) == str(outcome)


# --- the slow ways, as a user meets them who calls the codec himself ---


@pytest.mark.parametrize(
    ("value", "body"),
    [
        (["\ud800", 1, {"a": 1, "b": [2, 3]}], rb'["\ud800",1,{"a":1,"b":[2,3]}]'),
        ({uuid.UUID(int=1): ["\ud800", 1], 2: 3}, rb'{"00000000-0000-0000-0000-000000000001":["\ud800",1],"2":3}'),
    ],
)
def test_what_takes_the_slow_writer_is_written_as_short_as_by_the_quick_one(value: object, body: bytes) -> None:
    assert CODEC.dumps(value) == body


def test_what_is_too_deep_says_so_in_both_directions() -> None:
    with pytest.raises(ValueError, match=r"^the value is nested too deeply, or in a circle$"):
        CODEC.dumps(nested(100_000))
    with pytest.raises(ValueError, match=r"^nested too deeply$"):
        CODEC.loads(b"[" * 100_000)


@pytest.mark.parametrize(
    ("charset", "sign"),
    [("cp720", "é"), ("cp737", "α"), ("cp874", "ก"), ("koi8-t", "ж"), ("koi8-u", "ж"), ("utf-8-sig", "é"), ("latin1", "é"), ("UTF-16", "é")],
)
def test_a_charset_that_somebody_registered_is_read(charset: str, sign: str) -> None:
    assert CODEC.loads(f'["{sign}"]'.encode(charset), charset) == [sign]


@pytest.mark.parametrize("charset", ["punycode", "unicode_escape", "nonsense", "hex"])
def test_another_charset_is_unknown(charset: str) -> None:
    with pytest.raises(ValueError, match=r"^in an unknown charset$"):
        CODEC.loads(b"\xff", charset)


def test_the_refusal_of_params_word_for_word() -> None:
    with pytest.raises(TypeError) as raised:
        encode_request(CODEC, Request("m", [object()]))
    assert str(raised.value) == "params of 'm' cannot be sent as JSON: Unable to serialize unknown type: <class 'object'>"
