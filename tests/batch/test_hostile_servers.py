"""Every hostile server of the table, in every way to send several requests at once: each gets its own right answer or its own error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hostile import MIXES, SAID, SERVERS, WAY_IDS, WAYS, Batches, Ended, Hostile, Server, Style, body, check, document_of, key, requests, right, truth
from test_corpus import OUTCOMES, Recorded, recorded, told
from test_corpus import SERVERS as RECORDED

from rpcretry import HTTPStatusError, JsonRpcError, Request, ResponseTooLargeError, RpcRetryError
from rpcretry.transport import Exchange, Reply

ways = pytest.mark.parametrize(("style", "driver"), WAYS, ids=WAY_IDS)


@ways
@pytest.mark.parametrize("hostile", SERVERS, ids=[hostile.name for hostile in SERVERS])
def test_each_member_gets_its_own_answer_or_its_own_error(hostile: Hostile, style: Style, driver: str) -> None:
    for mix in MIXES:
        server = Server(hostile.reply, hostile.fates)
        asked = requests(mix)
        ended = style.run(driver, server, asked)
        assert len(ended) == len(asked)
        for request, end in zip(asked, ended, strict=True):
            check(request, end.value, server.fates.get(key(request.id)), server.last.get(key(request.id)))
            if not request.is_notification:
                sent = server.tries(request)
                assert sent == 1 or hostile.refuses
                # What joined calls cost beyond their tries is no failure of theirs.
                assert end.tries in (None, 1 if style.goes_alone else sent)


def test_no_two_servers_of_the_table_have_one_name() -> None:
    names = [hostile.name for hostile in SERVERS]
    assert len(set(names)) == len(names) > 100


# --- what real servers answered ---


def recorded_batches(server: str) -> list[tuple[Recorded, Any]]:
    return [(exchange, OUTCOMES[server][exchange.case]) for exchange in recorded(server) if exchange.batch and exchange.ids]


@ways
@pytest.mark.parametrize("server", RECORDED)
def test_what_real_servers_answered_to_a_batch(server: str, style: Style, driver: str) -> None:
    """In every way each member gets what the reader makes of it. A request that the client sends alone after that is answered as the batch was."""
    for exchange, expected in recorded_batches(server):
        ended = style.run(driver, lambda _, reply=exchange.reply: reply, exchange.requests)
        # One reason for all of them stands in the table once.
        meanings = expected if isinstance(expected, list) else [expected] * len(ended)
        for request, end, meant in zip(exchange.requests, ended, meanings, strict=True):
            if request.is_notification or (style.goes_alone and isinstance(end.value, Exception)):
                assert end.value is None or isinstance(end.value, RpcRetryError)
            else:
                assert told(end.value, exchange.reply.status) == meant, exchange.case


def test_the_corpus_holds_batches_of_every_server() -> None:
    batches = {server: len(recorded_batches(server)) for server in RECORDED}
    assert sum(batches.values()) == 110
    assert [server for server, count in batches.items() if not count] == ["bitcoind-sv-busy", "nginx-front"]


# --- the body cut at every byte, and every single byte of it gone ---


@ways
def test_a_body_that_is_cut_anywhere_is_nobodys_answer(style: Style, driver: str) -> None:
    asked = [Request("get", [0], id=1), Request("fail", [1], id="b")]
    whole = body([right(document_of(request)) for request in asked]).body
    for end in range(len(whole)):
        server = Server(lambda _, end=end: Reply(whole[:end]), ["protocol"])
        for request, ended in zip(asked, style.run(driver, server, asked), strict=True):
            check(request, ended.value, "protocol", server.last[key(request.id)])


@ways
def test_no_changed_byte_gives_anybody_anothers_answer(style: Style, driver: str) -> None:
    """A bit that falls over may change a value, which no client can see, but not whose it is."""
    asked = [Request("get", [0], id=1), Request("get", [1], id=2), Request("fail", [2], id="c")]
    whole = body([right(document_of(request)) for request in asked][::-1]).body
    others = {request.id: {truth(document_of(other)) for other in asked if other is not request} for request in asked}
    for place in range(0, len(whole), 1 if driver == "sync" else 7):
        for byte in (b"", b"1", b'"', b",", b"\xff"):
            changed = whole[:place] + byte + whole[place + 1 :]
            if changed.count(b'"id": 1') + changed.count(b'"id":11') != 1 or changed.count(b'"id": 2') != 1:
                # One that has become the other's id is its answer as far as anybody can tell.
                continue
            for request, ended in zip(asked, style.run(driver, Server(lambda _, changed=changed: Reply(changed)), asked), strict=True):
                _of_no_other(ended, others[request.id])


def _of_no_other(ended: Ended, others: set[str]) -> None:
    if isinstance(ended.value, Exception):
        assert isinstance(ended.value, RpcRetryError)
        assert not isinstance(ended.value, JsonRpcError) or ended.value.data not in list(others)
    else:
        assert ended.value not in list(others)


# --- what is told of it ---


@ways
def test_no_two_members_share_an_error_and_none_shares_its_data(style: Style, driver: str) -> None:
    """A caller that adds a note to its error, or changes what came with it, changes nobody else's."""
    asked = requests("failing")
    for reply in (
        body([{"id": None, "error": {"code": SAID, "message": "m"}}]),
        body({"id": None, "error": {"code": SAID, "message": "m"}}),
        body([]),
        body([right(document_of(request)) for request in asked] * 2),
    ):
        errors = [end.value for end in style.run(driver, lambda _, reply=reply: reply, asked)]
        raised = [error for error in errors if isinstance(error, Exception)]
        assert len(raised) == len(asked)
        assert len({id(error) for error in raised}) in (1, len(asked))
        assert len({id(error) for error in raised}) == len(asked) or isinstance(style, Batches)


@ways
def test_the_status_and_headers_of_an_http_error_reach_every_member(style: Style, driver: str) -> None:
    asked = requests("failing")
    for end in style.run(driver, lambda _: Reply(b"<html>", 502, {"X-Trace": "abc"}), asked):
        assert isinstance(end.value, HTTPStatusError)
        assert (end.value.status, end.value.headers["x-trace"]) == (502, "abc")


@ways
def test_a_body_over_the_limit_is_every_members_failure(style: Style, driver: str) -> None:
    def serve(exchange: Exchange) -> Reply:
        raise ResponseTooLargeError("larger than 10 bytes")

    for end in style.run(driver, serve, requests()):
        assert isinstance(end.value, ResponseTooLargeError)


@ways
def test_an_error_that_is_none_of_ours_reaches_every_member(style: Style, driver: str) -> None:
    """A backend of the user's lets its library's exception through."""

    class LibraryError(Exception):
        def __init__(self, code: int, what: str) -> None:
            super().__init__(f"{code} {what}")

    def serve(exchange: Exchange) -> Reply:
        raise LibraryError(7, "gone")

    for end in style.run(driver, serve, requests()):
        assert type(end.value) is LibraryError
        assert str(end.value) == "7 gone"


@ways
def test_a_backend_that_returns_no_reply_is_named(style: Style, driver: str) -> None:
    for wrong in (None, b"[]", [], Reply(None)):  # type: ignore[arg-type]
        for end in style.run(driver, lambda _, wrong=wrong: wrong, requests("failing")):
            assert isinstance(end.value, TypeError)
            assert "Reply" in str(end.value)


# --- ids ---


def echo(exchange: Exchange) -> Reply:
    """A well-behaved server, the last request's answer first."""
    document = json.loads(exchange.body)
    answers = [{"jsonrpc": "2.0", "id": one["id"], "result": one["params"]} for one in (document if isinstance(document, list) else [document])][::-1]
    ids = [key(answer["id"]) for answer in answers]
    assert len(set(ids)) == len(ids), "equal ids met in one batch"
    return body(answers if isinstance(document, list) else answers[0])


@ways
def test_ids_of_the_callers_and_of_the_client_do_not_meet(style: Style, driver: str) -> None:
    """1, 2 and 3 are what the client would give next."""
    given = [Request("get", [place], id=id) for place, id in enumerate((3, "1", 2, 1))]
    asked = [*[Request("get", [place + 10]) for place in range(4)], *given, *[Request("get", [place + 20]) for place in range(4)]]
    for request, end in zip(asked, style.run(driver, echo, asked), strict=True):
        assert end.value == request.params


@ways
def test_equal_ids_never_meet_in_one_batch(style: Style, driver: str) -> None:
    """Callers who know nothing of each other, or a source that repeats itself: a batch of one caller's with two alike is refused before."""
    asked = [Request("get", [place], id=7 if place % 2 else "7") for place in range(10)]
    if style.takes_equal_ids:
        for request, end in zip(asked, style.run(driver, echo, asked), strict=True):
            assert end.value == request.params
    else:
        with pytest.raises(ValueError, match="two requests of the batch have the id '7'"):
            style.run(driver, echo, asked)
