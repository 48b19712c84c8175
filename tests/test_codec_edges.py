"""What the codec says exactly where it says that something is wrong, and the short way that nearly every answer takes."""

from __future__ import annotations

import json
from typing import Any

import pydantic_core
import pytest

from rpcretry import HTTPStatusError, IdentityError, JsonRpcError, MissingResponseError, ProtocolError, Request, codec
from rpcretry.codec import JsonCodec, Reader, read_batch, read_in_order, read_notification, read_single
from rpcretry.errors import Delivery, error_registry
from rpcretry.transport import Exchange, Headers, Reply

READER = Reader(JsonCodec(), error_registry())
HEADERS = {"X-Node": "a", "Retry-After": "3"}


class Counted:
    """A codec of the user's that counts."""

    def __init__(self) -> None:
        self.read: list[tuple[bytes, str | None]] = []

    def dumps(self, value: object) -> bytes:
        if not isinstance(value, (dict, list, str)):
            raise TypeError("no")
        return json.dumps(value).encode()

    def loads(self, body: bytes, charset: str | None) -> object:
        self.read.append((body, charset))
        return json.loads(body)


class NeverCareful(Reader):
    """Fails where an answer is looked at a second time."""

    __slots__ = ()

    def parse(self, reply: Reply) -> Any:
        raise AssertionError(f"{reply.body!r} was parsed twice")


def reply(document: object, status: int = 200, headers: Any = ()) -> Reply:
    return Reply(document if isinstance(document, bytes) else json.dumps(document).encode(), status, Headers(headers))


def batch(document: object, ids: Any = (1, 2), status: int = 200, headers: Any = HEADERS) -> list[Any]:
    requests = tuple(Request("m", id=id) for id in ids)
    return read_batch(READER, reply(document, status, headers), Exchange(b"", requests, tuple(id for id in ids if id is not None)))


def ok(id: object, result: object = "r") -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": id, "result": result}


def no(id: object, code: object = -32000, message: object = "no", **more: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message, **more}}


# --- the short way ---


def test_a_usual_answer_is_read_once_and_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The careful way is for what is wrong, and costs several times as much."""
    monkeypatch.setattr(codec, "_read_carefully", lambda *_: pytest.fail("looked at carefully"))
    reader = NeverCareful(JsonCodec(), error_registry())
    assert read_single(reader, reply(ok(1, [5])), 1) == [5]
    assert read_single(reader, reply(ok("a", None) | {"error": None}), "a") is None


def test_the_usual_codec_is_asked_without_a_call_between() -> None:
    assert Reader(JsonCodec(), error_registry())._quick is pydantic_core.from_json
    # One that adds to it is asked itself.
    assert Reader(type("Mine", (JsonCodec,), {})(), error_registry())._quick is not pydantic_core.from_json


def test_a_codec_of_the_users_is_asked_once_for_each_answer() -> None:
    mine = Counted()
    body = json.dumps(ok(1, 5)).encode()
    assert read_single(NeverCareful(mine, error_registry()), Reply(body, 200), 1) == 5
    assert mine.read == [(body, None)]


def test_a_document_that_came_with_the_reply_is_taken_as_it_is() -> None:
    mine = Counted()
    assert read_single(Reader(mine, error_registry()), Reply(b"not looked at", 200, {}, ok(1, 5)), 1) == 5
    assert mine.read == []


@pytest.mark.parametrize("status", [199, 201, 299, 404])
def test_another_status_than_200_is_read_all_the_same(status: int) -> None:
    assert read_single(READER, reply(ok(1, 5), status), 1) == 5


# --- what an error says ---


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("busy", "busy"),
        ({"en": "busy"}, '{"en":"busy"}'),
        ([1, 2], "[1,2]"),
        (5, "5"),
        (False, "false"),
        (None, ""),
    ],
)
def test_a_message_that_is_no_string_is_shown_as_the_json_that_it_is(message: object, text: str) -> None:
    with pytest.raises(JsonRpcError) as caught:
        read_single(READER, reply(no(1, 2001, message)), 1)
    assert caught.value.args[0] == caught.value.message == text


def test_a_message_that_the_codec_cannot_write_is_shown_as_python_shows_it() -> None:
    with pytest.raises(JsonRpcError) as caught:
        read_single(Reader(Counted(), error_registry()), reply(no(1, 2001, 1.5)), 1)
    assert caught.value.message == "1.5"


def test_a_class_that_cannot_be_made_says_what_it_did_not_do() -> None:
    class Mine(JsonRpcError):
        CODE = 2001

        def __init__(self, *args: Any, **parts: Any) -> None:
            pass

    with pytest.raises(JsonRpcError) as caught:
        read_single(Reader(JsonCodec(), error_registry([Mine])), reply(no(1, 2001, "no", data=7), 500, HEADERS), 1)
    problem = caught.value
    assert (type(problem), problem.message, problem.code, problem.data, problem.status) == (JsonRpcError, "no", 2001, 7, 500)
    assert problem.headers["x-node"] == "a"
    (note,) = problem.__notes__
    assert note == ("Mine could not be made for code 2001: TypeError('it did not call super().__init__'); its __init__ must take what JsonRpcError's takes")


def test_what_a_codec_raises_is_named() -> None:
    class Broken(Counted):
        def loads(self, body: bytes, charset: str | None) -> object:
            raise KeyError("secret key")

    with pytest.raises(ProtocolError, match=r"^HTTP 200 with a body that the codec cannot read \(KeyError: 'secret key'\): \{\}$") as caught:
        read_single(Reader(Broken(), error_registry()), reply({}), 1)
    assert isinstance(caught.value.__cause__, KeyError)


# --- whose answer it is ---


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (ok(2), "the server answered id 2 to the request with id 1: a result"),
        ({"jsonrpc": "2.0", "id": None, "result": 5}, "the server answered id None to the request with id 1: a result with a null id"),
        ({"jsonrpc": "2.0", "result": 5}, "the server answered id None to the request with id 1: a result without an id"),
        (no(2), "the server answered id 2 to the request with id 1: the error no [-32000]"),
    ],
)
def test_an_answer_to_somebody_else_says_whose_it_is(document: object, words: str) -> None:
    with pytest.raises(IdentityError) as caught:
        read_single(READER, reply(document, 200, HEADERS), 1)
    problem = caught.value
    assert (str(problem), problem.status, problem.headers["x-node"]) == (words, 200, "a")
    assert problem.excerpt == json.dumps(document)


def test_the_error_in_an_answer_to_somebody_else_is_kept() -> None:
    with pytest.raises(IdentityError) as caught:
        read_single(READER, reply(no(2, 2001)), 1)
    assert [error.code for error in caught.value.errors] == [2001]


@pytest.mark.parametrize("document", [{"jsonrpc": "2.0", "id": 1}, {"jsonrpc": "2.0", "id": 1, "error": None}])
def test_a_success_without_a_value_is_one_by_its_status(document: object) -> None:
    assert read_single(READER, reply(document), 1) is None
    assert read_single(READER, reply(document, 299), 1) is None
    with pytest.raises(HTTPStatusError, match=r"^HTTP 300: "):
        read_single(READER, reply(document, 300), 1)


# --- notifications ---


@pytest.mark.parametrize("status", [200, 204, 299])
def test_any_success_is_fine_for_a_notification(status: int) -> None:
    read_notification(READER, reply(b"<html>", status))


@pytest.mark.parametrize("status", [199, 300, 304])
def test_what_is_no_success_is_no_success_for_a_notification(status: int) -> None:
    with pytest.raises(HTTPStatusError, match=f"^HTTP {status}"):
        read_notification(READER, reply(b"<html>", status))


def test_a_notification_that_was_turned_away_with_a_time_to_come_back_was_turned_away() -> None:
    envelope = reply(no(None), 503, {"Retry-After": "3"})
    with pytest.raises(HTTPStatusError) as caught:
        read_notification(READER, envelope)
    assert caught.value.delivery is Delivery.REJECTED
    # Without the hint the JSON-RPC error says that the server read it.
    read_notification(READER, reply(no(None), 503))


# --- batches ---


@pytest.mark.parametrize(("document", "kind"), [("x", "string"), (5, "number"), (None, "null"), (True, "boolean")])
def test_a_batch_that_is_answered_by_something_else_says_by_what(document: object, kind: str) -> None:
    with pytest.raises(ProtocolError, match=f"^HTTP 200 with a JSON {kind}: "):
        batch(document)


def test_json_that_is_no_answer_at_all_says_so() -> None:
    with pytest.raises(ProtocolError, match=r"^HTTP 200 with JSON that is no JSON-RPC answer: "):
        batch({"detail": "Not Found"})


def test_an_id_that_was_answered_twice_carries_what_the_reply_carried() -> None:
    first, second = batch([ok(1), ok(1), ok(2)])
    assert (str(first), first.status, first.headers["x-node"]) == ("the server answered id 1 more than once", 200, "a")
    assert type(first) is IdentityError
    assert second == "r"


def test_an_answer_with_nothing_in_it_carries_what_the_reply_carried() -> None:
    first, second = batch([{"id": 1}, ok(2)])
    assert (str(first), first.status, first.headers["x-node"]) == ("the answer to id 1 has neither result nor error", 200, "a")
    assert type(first) is ProtocolError
    assert second == "r"


def test_a_request_without_an_answer_carries_what_the_reply_carried() -> None:
    first, second = batch([ok(1)])
    assert first == "r"
    assert (str(second), second.status, second.headers["x-node"], second.errors) == ("the server left the request with id 2 unanswered", 200, "a", ())
    assert type(second) is MissingResponseError


def test_the_first_three_reasons_and_the_first_three_strangers_are_told() -> None:
    outcomes = batch([*(no(None, -32000 - n, f"reason {n}") for n in range(4)), *(ok(id) for id in "abcd")], ids=(1,))
    assert str(outcomes[0]) == (
        "the server left the request with id 1 unanswered, but said: reason 0 [-32000]; reason 1 [-32001]; reason 2 [-32002], "
        "and answered ids that were not asked for: ['a', 'b', 'c']"
    )
    assert [error.code for error in outcomes[0].errors] == [-32000, -32001, -32002, -32003]


def test_an_error_for_the_first_alone_is_told_to_the_others_and_named_no_stranger() -> None:
    """It is most likely meant for all of them, but that is no proof."""
    first, second = batch(no(1, 2001, "down"))
    assert first.code == 2001
    assert str(second) == "the server left the request with id 2 unanswered, but said: down [2001]"
    assert [error.code for error in second.errors] == [2001]


def test_a_lone_answer_to_a_batch_of_one_is_nobody_elses_reason() -> None:
    assert batch(no(1, 2001, "down"), ids=(1,))[0].code == 2001
    # The notification beside it has no answer, and nothing is said of one.
    (first, second) = batch(no(1, 2001, "down"), ids=(1, None))
    assert (first.code, second) == (2001, None)


def test_a_batch_that_was_turned_away_with_a_time_to_come_back_refuses_its_notifications_too() -> None:
    first, second = batch(no(None, 2001, "busy"), ids=(1, None), status=503)
    assert (first.code, first.delivery) == (2001, Delivery.REJECTED)
    assert (type(second), second.delivery) == (HTTPStatusError, Delivery.REJECTED)
    first, second = batch(no(None, 2001, "busy"), ids=(1, None), status=503, headers={})
    assert (first.code, second) == (2001, None)


def test_a_request_that_went_out_without_an_id_is_a_mistake_of_ours() -> None:
    exchange = Exchange(b"", (Request("m", id=1), Request("m")), (1,))
    with pytest.raises(RuntimeError, match=r"^a request went out without an id$"):
        read_batch(READER, reply([ok(1)]), exchange)


@pytest.mark.parametrize(
    "document", [[ok(1)], [ok(1), ok(2), ok(3)], [ok(2), ok(1)], [ok(1), no(2)], [ok(1), {"id": 2}], [ok(1), ok(True)], [ok(1), ok(2) | no(2)], (ok(1), ok(2))]
)
def test_only_a_success_for_each_in_their_order_is_read_in_order(document: object) -> None:
    assert read_in_order(document, [1, 2]) is None
    assert read_in_order([ok(1, "a"), ok(2, None)], [1, 2]) == ["a", None]
