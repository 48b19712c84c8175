"""What 18 real servers answered, read by the codec and by both clients. ``data/README.md`` says where it is from.

``data/outcomes.json`` says for each server and case what the answer means to a caller: ``result 3`` (``result ...`` where
it is long; then it is compared with what the json module finds in the body), ``error -32601``, ``IdentityError``,
``HTTPStatusError 502``; ``nothing`` for a notification; a list for the members of a batch. It was made by this reader once
and then reviewed line by line. An HTTP status other than 200 around a JSON-RPC answer stands behind it.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import DRIVERS, Rig, both_drivers

from rpcretry import BatchRequest, HTTPStatusError, JsonRpcError, MissingResponseError, ProtocolError, Request, RetryStrategy
from rpcretry.codec import JsonCodec, Reader, encode_batch, encode_request, read_batch, read_notification, read_single
from rpcretry.errors import Delivery, error_registry
from rpcretry.transport import Exchange, Headers, Reply

DATA = Path(__file__).parent / "data"
OUTCOMES = json.loads((DATA / "outcomes.json").read_text())
SERVERS = sorted(path.stem for path in DATA.glob("*.json") if path.stem != "outcomes")
READER = Reader(JsonCodec(), error_registry())

# A client of ours sends none of these. They are read as the answer to the nearest request that it would send;
# all that are not named here and cannot be sent (a scalar, no JSON at all, a GET without a body, ids that are null or
# an array) as the answer to a single request with id 7.
NEAREST: dict[str, list[int]] = {
    "batch_empty": [7],
    "batch_invalid_members": [1, 2, 3],
    "batch_duplicate_ids": [1, 2],
    "batch_parse_error": [1, 2],
}
NEAREST_SINGLE = {
    # Equal to True in Python.
    "id_bool": 1,
    # The record lacks the body that was sent; the servers that answer show its id.
    "wrong_path": 1,
}


class Recorded(NamedTuple):
    """One exchange, and the requests that its answer is read as the answer to."""

    case: str
    requests: tuple[Request, ...]
    batch: bool
    reply: Reply

    @property
    def ids(self) -> tuple[int | str, ...]:
        return tuple(request.id for request in self.requests if isinstance(request.id, (int, str)))


def requests_of(case: str, body: str) -> tuple[tuple[Request, ...], bool]:
    if case in NEAREST:
        return tuple(Request("m", id=id) for id in NEAREST[case]), True
    if case in NEAREST_SINGLE:
        return (Request("m", id=NEAREST_SINGLE[case]),), False
    try:
        sent = json.loads(body)
        if isinstance(sent, list):
            return tuple(BatchRequest(*[Request(one["method"], id=one.get("id")) for one in sent])), True
        if "id" not in sent:
            return (Request(sent["method"], id=None),), False
        Request("m", id=sent["id"])
        return (Request("m", id=7 if sent["id"] is None else sent["id"]),), False
    except (ValueError, TypeError, KeyError):
        return (Request("m", id=7),), False


def recorded(server: str) -> list[Recorded]:
    exchanges = []
    for one in json.loads((DATA / f"{server}.json").read_text()):
        requests, batch = requests_of(one["case"], one["request"])
        headers = Headers({"Content-Type": one["content_type"]} if one["content_type"] else {})
        exchanges.append(Recorded(one["case"], requests, batch, Reply(one["body"].encode(), one["status"], headers)))
    return exchanges


def told(value: object, status: int = 200) -> str:
    """What a caller got, in a few words."""
    around = "" if status == 200 else f" (HTTP {status})"
    if isinstance(value, HTTPStatusError):
        return f"{type(value).__name__} {value.status}"
    if isinstance(value, JsonRpcError):
        return f"error {value.code}{around}"
    if isinstance(value, ProtocolError):
        return f"{type(value).__name__}{around}"
    assert not isinstance(value, BaseException), f"{value!r} is not among the documented errors"
    text = json.dumps(value)
    return f"result {text if len(text) <= 20 else '...'}{around}"


def read(exchange: Recorded) -> Any:
    """What the codec makes of an answer, in the words of the table."""
    try:
        if exchange.batch:
            body = encode_batch([encode_request(READER.codec, request) for request in exchange.requests])
            values = read_batch(READER, exchange.reply, Exchange(body, exchange.requests, exchange.ids))
            return [
                "nothing" if request.is_notification else told(value, exchange.reply.status) for request, value in zip(exchange.requests, values, strict=True)
            ]
        if exchange.requests[0].is_notification:
            read_notification(READER, exchange.reply)
            return "nothing"
        return told(read_single(READER, exchange.reply, exchange.ids[0]), exchange.reply.status)
    except (JsonRpcError, ProtocolError, HTTPStatusError) as problem:
        return told(problem, exchange.reply.status)


@pytest.mark.parametrize("server", SERVERS)
def test_every_answer_reads_as_what_it_means(server: str) -> None:
    assert {exchange.case: read(exchange) for exchange in recorded(server)} == OUTCOMES[server]


@both_drivers
@pytest.mark.parametrize("server", SERVERS)
def test_call_send_and_notify_give_the_same(server: str, driver: str) -> None:
    for exchange in recorded(server):
        expected = OUTCOMES[server][exchange.case]
        for how, got in through_a_client(driver, exchange).items():
            if isinstance(expected, list) and not isinstance(got, list):
                # One reason for all of them is raised once.
                assert expected == [got] * len(expected), (exchange.case, how)
            elif isinstance(expected, list):
                assert got == [one for one in expected if one != "nothing"], (exchange.case, how)
            else:
                assert got == expected, (exchange.case, how)


def through_a_client(driver: str, exchange: Recorded) -> dict[str, Any]:
    reply = exchange.reply

    def sent() -> Any:
        rig = Rig(driver, reply)
        if exchange.batch:
            answers = rig.send(BatchRequest(*exchange.requests))
            assert [answer.id for answer in answers] == list(exchange.ids)
            return [told(answer.error if answer.is_error else answer.result, answer.status) for answer in answers]
        answer = rig.send(exchange.requests[0])
        assert answer.status == reply.status
        assert dict(answer.headers) == dict(reply.headers)
        if exchange.requests[0].is_notification:
            assert answer.result is None
            return "nothing"
        return told(answer.error if answer.is_error else answer.result, answer.status)

    def called() -> Any:
        return told(Rig(driver, reply, ids=lambda: exchange.ids[0]).call("m"), reply.status)

    def notified() -> Any:
        assert Rig(driver, reply).notify("m") is None
        return "nothing"

    ways = {"send": sent} if exchange.batch else {"send": sent, "notify": notified} if exchange.requests[0].is_notification else {"send": sent, "call": called}
    return {name: outcome_of(way, reply.status) for name, way in ways.items()}


def outcome_of(way: Any, status: int) -> Any:
    try:
        return way()
    except (JsonRpcError, ProtocolError, HTTPStatusError) as problem:
        return told(problem, status)


def singles() -> list[Any]:
    return [
        pytest.param(one, OUTCOMES[server][one.case], id=f"{server}-{one.case}")
        for server in SERVERS
        for one in recorded(server)
        if not one.batch and not one.requests[0].is_notification
    ]


@pytest.mark.parametrize(("exchange", "expected"), singles())
def test_the_table_agrees_with_a_reader_that_knows_nothing_of_ours(exchange: Recorded, expected: str) -> None:
    """The table was made by the reader that it tests: here the json module says what is in the body."""
    kind, _, rest = expected.partition(" ")
    status = exchange.reply.status
    try:
        document = json.loads(exchange.reply.body)
    except ValueError:
        # Nothing to read: the status decides between the two.
        assert kind == ("ProtocolError" if 200 <= status < 300 else "HTTPStatusError")
        return
    own = [exchange.ids[0]]
    if kind == "result":
        assert repr([document["id"]]) == repr(own)
        assert document.get("error") is None
        # typed-rpc leaves out the result of a method that returns nothing.
        assert "result" in document or set(document) == {"jsonrpc", "id"}
        assert read_single(READER, exchange.reply, exchange.ids[0]) == document.get("result")
    elif kind == "error":
        assert repr([document["id"]]) in (repr(own), "[None]")
        assert document["error"]["code"] == int(rest.split()[0])
    elif kind == "IdentityError":
        assert repr([document["id"]]) != repr(own)
        assert "error" not in document or document["id"] is not None
    elif kind == "HTTPStatusError":
        assert status == int(rest)
        assert not {"jsonrpc", "result", "error"} & set(document)
    else:
        pytest.fail(f"no other outcome is expected of JSON, and here is {expected}")


def test_errors_keep_what_the_server_said() -> None:
    seen = 0
    for server in SERVERS:
        for exchange in recorded(server):
            try:
                document = json.loads(exchange.reply.body)
            except ValueError:
                continue
            if exchange.batch or exchange.requests[0].is_notification or not isinstance(document, dict) or "error" not in document:
                continue
            if not isinstance(document["error"], dict) or document.get("id") not in (None, *exchange.ids):
                continue
            with pytest.raises(JsonRpcError) as caught:
                read_single(READER, exchange.reply, exchange.ids[0])
            error = document["error"]
            assert (caught.value.code, caught.value.message) == (error["code"], error["message"])
            assert caught.value.data == error.get("data", caught.value.data)
            assert caught.value.status == exchange.reply.status
            assert caught.value.headers == exchange.reply.headers
            seen += 1
    assert seen > 250


def test_a_foreign_id_keeps_the_reason_that_came_with_it() -> None:
    (exchange,) = [one for one in recorded("monerod") if one.case == "parse_error"]
    with pytest.raises(ProtocolError, match=r"answered id 0 to the request with id 7: the error Parse error \[-32700\]") as caught:
        read_single(READER, exchange.reply, 7)
    assert [error.code for error in caught.value.errors] == [-32700]
    (exchange,) = [one for one in recorded("monerod") if one.case == "batch_of_one"]
    (member,) = read_batch(READER, exchange.reply, Exchange(b"", exchange.requests, exchange.ids))
    assert isinstance(member, MissingResponseError)
    assert "but said: Parse error [-32700]" in str(member)


def test_only_a_429_of_nginx_says_that_nothing_was_done() -> None:
    # Its 503 has no Retry-After, and its 502 and 504 come after the request went on to the server.
    problems = {}
    for exchange in recorded("nginx-front"):
        try:
            read_single(READER, exchange.reply, 1)
        except HTTPStatusError as problem:
            problems[exchange.case] = problem.delivery
    assert [case for case, delivery in problems.items() if delivery is Delivery.REJECTED] == ["lim429_second"]
    assert len(problems) == 6


@both_drivers
def test_a_strategy_recovers_what_nginx_refused(driver: str) -> None:
    by_case = {one.case: one.reply for one in recorded("nginx-front")}
    rig = Rig(driver, by_case["lim429_second"], by_case["lim429_after_1s"], retry_strategy=RetryStrategy(), ids=lambda: 1)
    assert rig.call("add", 1, 2) == 3
    assert rig.sent == 2


def test_no_page_of_a_server_shows_a_path_in_a_message() -> None:
    # Express repeats the path of the URL, where keys live.
    for server, path in (("json-rpc-2.0", "/json-rpc/definitely-not-here"), ("typed-rpc", "/api/definitely-not-here")):
        (exchange,) = [one for one in recorded(server) if one.case == "wrong_path"]
        assert path.encode() in exchange.reply.body
        with pytest.raises(HTTPStatusError) as caught:
            read_single(READER, exchange.reply, 1)
        assert "definitely-not-here" not in f"{caught.value} {caught.value!r} {caught.value.excerpt}"


def test_the_table_is_whole() -> None:
    assert set(OUTCOMES) == set(SERVERS)
    assert len(SERVERS) == 18
    assert len(DRIVERS) == 2
    kinds = Counter(
        str(kind).partition(" ")[0]
        for cases in OUTCOMES.values()
        for outcome in cases.values()
        for kind in (outcome if isinstance(outcome, list) else [outcome])
    )
    assert kinds == {"result": 273, "error": 371, "nothing": 70, "IdentityError": 81, "MissingResponseError": 33, "ProtocolError": 13, "HTTPStatusError": 42}
    shapes = Counter(
        "batch" if one.batch else "notification" if one.requests[0].is_notification else "single" for server in SERVERS for one in recorded(server)
    )
    assert sum(shapes.values()) == 767
    assert set(shapes) == {"batch", "notification", "single"}
