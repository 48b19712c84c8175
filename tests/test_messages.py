"""Requests and responses as values."""

from __future__ import annotations

import copy
import dataclasses
import decimal
import enum
import pickle
import traceback
import types
import uuid
from typing import Any

import multidict
import pytest
from requests.structures import CaseInsensitiveDict

from rpcretry import UNSET, BatchRequest, BatchResponse, ConnectError, JsonRpcError, MissingResponseError, Request, Response
from rpcretry.codec import JsonCodec, Reader, encode_request, read_single
from rpcretry.errors import error_registry
from rpcretry.transport import Headers, Reply


@dataclasses.dataclass
class Point:
    x: int = 1


class Number(enum.IntEnum):
    SEVEN = 7


class Name(enum.StrEnum):
    MINE = "mine"


class Old(str, enum.Enum):  # noqa: UP042 - its str() is not its value
    MINE = "mine"


# --- requests ---


@pytest.mark.parametrize("params", [[], [1], (1, 2), {}, {"a": 1}, Point(), types.MappingProxyType({"a": 1}), {1}, [None]], ids=repr)
def test_params_are_taken_as_they_are(params: object) -> None:
    request = Request("m", params)
    assert request.params is params
    assert (request.method, request.id, request.is_notification) == ("m", UNSET, False)


def test_no_params_and_none_are_the_same() -> None:
    assert Request("m").params is Request("m", None).params is Request("m", UNSET).params is UNSET
    assert Request("m") == Request("m", None) != Request("m", [])


@pytest.mark.parametrize("params", ["text", b"bytes", bytearray(b"x"), 1, 1.5, True, Name.MINE, Number.SEVEN], ids=repr)
def test_a_scalar_is_no_params(params: object) -> None:
    with pytest.raises(TypeError, match=r"params must be a list, tuple, dict, dataclass or model, got .*; write params=\[.*\] to send it as the one param"):
        Request("m", params)


@pytest.mark.parametrize("params", [{1: 2}, {"a": 1, None: 2}, {b"a": 1}, types.MappingProxyType({1: 2})], ids=repr)
def test_names_of_params_are_text(params: object) -> None:
    with pytest.raises(TypeError, match="the names of params must be str, got"):
        Request("m", params)


@pytest.mark.parametrize(("method", "kind"), [(1, TypeError), (None, TypeError), (b"m", TypeError), ("", ValueError), (["m"], TypeError)], ids=repr)
def test_a_method_is_a_name(method: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="method must"):
        Request(method)


@pytest.mark.parametrize("id", [0, 1, -5, 2**70, "", "a", "日本"], ids=repr)
def test_ids_are_ints_and_text(id: int | str) -> None:
    request = Request("m", id=id)
    assert request.id == id
    assert type(request.id) is type(id)
    assert Request("m", [1]).with_id(id) == Request("m", [1], id)


@pytest.mark.parametrize("id", [1.0, True, False, b"a", uuid.UUID(int=1), decimal.Decimal(1), [1], {}, object()], ids=lambda value: type(value).__name__)
def test_other_ids_are_refused(id: Any) -> None:
    with pytest.raises(TypeError, match=r"id must be an int or a str, got .*; use str.* for a UUID, and id=None for a notification"):
        Request("m", id=id)


@pytest.mark.parametrize(("id", "plain"), [(Number.SEVEN, 7), (Name.MINE, "mine"), (Old.MINE, "mine")], ids=repr)
def test_the_member_of_an_enum_is_the_id_that_it_is_on_the_wire(id: Any, plain: object) -> None:
    request = Request("m", id=id)
    assert request.id == plain
    assert type(request.id) is type(plain)
    codec = JsonCodec()
    sent = codec.loads(encode_request(codec, request))["id"]  # type: ignore[index]
    assert read_single(Reader(codec, error_registry()), Reply(codec.dumps({"id": sent, "result": 3})), request.id) == 3


def test_a_notification_has_no_id() -> None:
    request = Request("m", id=None)
    assert request.is_notification
    assert request.id is None
    assert not Request("m").is_notification


def test_requests_are_values() -> None:
    assert Request("m", [1], 1) == Request("m", [1], 1)
    assert hash(Request("m", [1], 1)) == hash(Request("m", [1], 1))
    assert Request("m", [1], 1) != Request("m", [1], 2) != Request("m", [2], 2) != Request("n", [2], 2)
    assert Request("m", id="1") != Request("m", id=1)
    assert Request("m", id=None) != Request("m")
    assert Request("m") != "m"
    for twin in (pickle.loads(pickle.dumps(Request("m", [1], 1))), copy.copy(Request("m", [1], 1)), copy.deepcopy(Request("m", [1], 1))):
        assert twin == Request("m", [1], 1)
    assert pickle.loads(pickle.dumps(Request("m"))).params is UNSET


@pytest.mark.parametrize("value", [Request("m"), BatchRequest(Request("m")), Response(1, 2), BatchResponse([])], ids=lambda value: type(value).__name__)
def test_values_are_immutable_from_outside(value: object) -> None:
    names = [name for name in dir(type(value)) if isinstance(getattr(type(value), name), property)]
    assert names
    for name in names:
        with pytest.raises(AttributeError):
            setattr(value, name, 1)
    with pytest.raises(AttributeError):
        value.extra = 1  # type: ignore[attr-defined]
    assert not hasattr(value, "__dict__")


def test_the_repr_of_a_request_shows_no_params() -> None:
    text = repr(BatchRequest(Request("login", {"password": "KEY"}, 1), Request("login", ["KEY"]), Request("ping", id=None)))
    assert "KEY" not in text
    assert "password" not in text
    assert text == "BatchRequest(Request('login', params=<dict>, id=1), Request('login', params=<list>), Request('ping', id=None))"


# --- batches of requests ---


def test_a_batch_is_a_sequence_of_its_requests() -> None:
    requests = [Request("a", id=1), Request("b", id=None), Request("c")]
    batch = BatchRequest(*requests)
    assert list(batch) == requests
    assert len(batch) == 3
    assert batch[0] is requests[0]
    assert batch[1:] == tuple(requests[1:])
    assert requests[2] in batch
    assert not batch.is_notification
    assert BatchRequest(requests[1]).is_notification
    assert batch == BatchRequest(*requests) != BatchRequest(*requests[:2])
    assert batch != requests
    assert hash(batch) == hash(BatchRequest(*requests))
    assert pickle.loads(pickle.dumps(batch)) == batch


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch needs at least one request"):
        BatchRequest()


@pytest.mark.parametrize("bad", [[Request("m")], "m", None, {"method": "m"}, (Request("m"),)], ids=repr)
def test_what_is_no_request_is_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match=r"BatchRequest takes Request objects, got .*; write BatchRequest\(\*requests\) for a list"):
        BatchRequest(bad)


def test_two_requests_with_one_id_are_refused() -> None:
    with pytest.raises(ValueError, match="two requests of the batch have the id 1"):
        BatchRequest(Request("a", id=1), Request("b", id=1))
    with pytest.raises(ValueError, match="two requests of the batch have the id 7"):
        BatchRequest(Request("a", id=Number.SEVEN), Request("b", id=7))
    assert len(BatchRequest(Request("a", id=1), Request("b", id="1"), Request("c"), Request("d"), Request("e", id=None), Request("f", id=None))) == 6


# --- responses ---

MAPPINGS = [
    {"Retry-After": "1"},
    Headers({"Retry-After": "1"}),
    CaseInsensitiveDict({"Retry-After": "1"}),
    multidict.CIMultiDict({"Retry-After": "1"}),
    multidict.CIMultiDictProxy(multidict.CIMultiDict({"Retry-After": "1"})),
    types.MappingProxyType({"Retry-After": "1"}),
]


def test_a_response_has_what_came() -> None:
    response: Response[int] = Response(7, 3, status=201, headers={"A": "b"}, attempts=2)
    assert (response.id, response.result, response.error, response.status, response.attempts) == (7, 3, None, 201, 2)
    assert response.is_success
    assert not response.is_error
    assert response.headers == {"A": "b"}
    assert Response(1, None).result is None
    assert Response(None).result is None


@pytest.mark.parametrize(
    "error", [JsonRpcError("no", code=5, data=[1]), MissingResponseError("gone"), ConnectError("c"), ValueError("v"), KeyError("k")], ids=repr
)
def test_an_error_raises_a_new_instance_each_time(error: Exception) -> None:
    error.__cause__ = OSError("cause")
    error.add_note("a note")
    response: Response[Any] = Response(1, error=error)
    assert response.error is error
    assert response.is_error
    seen = []
    for _ in range(3):
        with pytest.raises(type(error)) as caught:
            response.result
        seen.append(caught.value)
        assert str(caught.value) == str(error)
        assert caught.value.__cause__ is error.__cause__
        assert caught.value.__notes__ == ["a note"]
    assert len({id(one) for one in (*seen, error)}) == 4
    assert error.__traceback__ is None
    # One caller's frames are not in another caller's traceback.
    assert len({len(traceback.extract_tb(one.__traceback__)) for one in seen}) == 1


@pytest.mark.parametrize("headers", MAPPINGS, ids=lambda headers: type(headers).__name__)
def test_a_response_pickles_whatever_its_headers_are(headers: Any) -> None:
    for response in (
        Response(1, {"a": 1}, status=201, headers=headers, attempts=3),
        Response(1, error=JsonRpcError("m", code=5, data=1, headers=headers), headers=headers),
    ):
        twin = pickle.loads(pickle.dumps(response))
        assert twin == response
        assert (twin.id, twin.status, twin.attempts) == (response.id, response.status, response.attempts)
        assert twin.headers["retry-after"] == "1"
        assert pickle.loads(pickle.dumps(BatchResponse([response]))) == BatchResponse([response])
        assert copy.copy(response) == copy.deepcopy(response) == response


@pytest.mark.parametrize("headers", MAPPINGS, ids=lambda headers: type(headers).__name__)
def test_headers_are_found_in_any_case_and_cannot_be_changed(headers: Any) -> None:
    found = Response(1, 2, headers=headers).headers
    assert found["RETRY-AFTER"] == "1"
    assert "retry-after" in found
    with pytest.raises(TypeError):
        found["Retry-After"] = "2"  # type: ignore[index]
    assert "1" not in repr(found)


def test_repeated_headers_are_joined() -> None:
    headers = Headers(multidict.CIMultiDict([("Set-Cookie", "a"), ("X", "y"), ("set-cookie", "b")]))
    assert headers == {"Set-Cookie": "a, b", "X": "y"}


def test_responses_are_values() -> None:
    assert Response(1, [2]) == Response(1, [2], status=500, attempts=9)
    assert Response(1, 2) != Response("1", 2)
    assert Response(1, 2) != Response(1, 3)
    assert Response(1, 2) != 2

    def failed(code: int = 5, message: str = "m", data: object = UNSET, cls: type[JsonRpcError] = JsonRpcError) -> Response[Any]:
        return Response(1, error=cls(message, code=code, data=data))

    class Mine(JsonRpcError):
        pass

    assert failed() == failed()
    assert failed() != Response(1, None)
    for other in (failed(code=6), failed(message="n"), failed(data=1), failed(cls=Mine)):
        assert failed() != other


def test_a_batch_response_is_a_sequence() -> None:
    responses = [Response(1, "a"), Response("1", "b"), Response(3, "c")]
    batch = BatchResponse(responses)
    assert list(batch) == responses
    assert batch[0] is responses[0]
    assert batch[1:] == tuple(responses[1:])
    assert batch.results == ["a", "b", "c"]
    assert batch.is_success
    assert not batch.is_error
    assert batch.by_id(1).result == "a"
    assert batch.by_id("1").result == "b"
    for missing in (2, True, 1.0):
        with pytest.raises(KeyError):
            batch.by_id(missing)  # type: ignore[arg-type]
    assert batch == BatchResponse(responses) != BatchResponse(responses[:2])
    assert batch != responses
    assert BatchResponse() == BatchResponse([])


def test_one_error_in_a_batch_leaves_the_others_their_results() -> None:
    batch = BatchResponse([Response(1, "a"), Response(2, error=JsonRpcError("no", code=5)), Response(3, "c")])
    assert batch.is_error
    assert not batch.is_success
    with pytest.raises(JsonRpcError, match=r"no \[5\]"):
        batch.results
    assert [response.result for response in batch if response.is_success] == ["a", "c"]
