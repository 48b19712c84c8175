"""Calls that are made at the same time go as one batch, and each gets its own answer."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joining_rig import Server, all_of, answer_to, as_reply, batches_only, client_of, plainly, run, value_of

import rpcretry.backends.aiohttp
import rpcretry.backends.requests
from rpcretry import (
    AsyncClient,
    BatchRequest,
    Client,
    HTTPStatusError,
    IdentityError,
    InvalidRequestError,
    JsonRpcError,
    MissingResponseError,
    ProtocolError,
    Request,
    current_attempt,
)
from rpcretry.client import Joining
from rpcretry.client.joining import JoiningBackend
from rpcretry.testing import LoopbackServer, ScriptedBackend, rpc
from rpcretry.transport import Exchange, Reply

DATA = Path(__file__).parent.parent / "data"


# --- together ---


def test_calls_of_one_turn_are_one_batch() -> None:
    server = Server()
    client = client_of(server)

    async def act() -> None:
        results = await all_of(*(client.call("m", index) for index in range(5)))
        assert results == [["m", [index], index + 1] for index in range(5)]
        assert server.sizes == [5]
        assert [request["id"] for request in server.seen[0]] == [1, 2, 3, 4, 5]
        assert server.exchanges[0].ids == (1, 2, 3, 4, 5)
        assert [request.method for request in server.exchanges[0].requests] == ["m"] * 5

    run(act)


def test_a_call_alone_is_no_array() -> None:
    server = Server()
    client = client_of(server)

    async def act() -> None:
        assert await client.call("m") == ["m", None, 1]
        assert await client.call("n") == ["n", None, 2]
        await client.notify("o")
        assert server.sizes == [0, 0, 0]

    run(act)


def test_a_call_alone_makes_no_task() -> None:
    made: list[str] = []

    class Watching:
        async def exchange(self, exchange: Exchange, /) -> Reply:
            task = asyncio.current_task()
            assert task is not None
            made.append(task.get_name())
            return as_reply(plainly(json.loads(exchange.body)))

        async def aclose(self) -> None: ...

    async def act() -> None:
        task = asyncio.current_task()
        assert task is not None
        await client_of(Watching()).call("m")
        assert made == [task.get_name()]

    run(act)


def test_a_call_that_nobody_can_join_waits_for_nobody() -> None:
    server = Server()
    client = client_of(server)
    joined: Any = client._joined
    joined._enter = None

    async def act() -> None:
        # No other task is ready, so that nobody could call in this turn.
        assert await client.call("m") == ["m", None, 1]
        asyncio.get_running_loop().call_soon(lambda: None)
        with pytest.raises(TypeError, match="not callable"):
            await client.call("m")

    run(act)


def test_in_loops_that_do_not_show_what_is_ready() -> None:
    """Tasks of a factory may be started at once, and other loops than asyncio's keep to themselves what is ready."""
    server = Server()
    client = client_of(server)

    async def act() -> None:
        asyncio.get_running_loop().set_task_factory(lambda loop, coroutine, **kinds: asyncio.Task(coroutine, loop=loop, **kinds))
        assert await client.call("m") == ["m", None, 1]
        assert len(await all_of(*(client.call("m") for _ in range(3)))) == 3
        assert server.sizes == [0, 3]
        asyncio.get_running_loop().set_task_factory(None)

    run(act)


def test_later_turns_are_other_batches() -> None:
    server = Server()
    client = client_of(server)

    async def late(index: int) -> Any:
        for _ in range(index // 3):
            await asyncio.sleep(0)
        return await client.call("m", index)

    async def act() -> None:
        assert await all_of(*(late(index) for index in range(9))) == [["m", [index], index + 1] for index in range(9)]
        assert server.sizes == [3, 3, 3]

    run(act)


def test_max_delay_waits_for_more() -> None:
    server = Server()
    client = client_of(server, Joining(max_delay=0.01))

    async def late(index: int) -> Any:
        await asyncio.sleep(index * 0.001)
        return await client.call("m", index)

    async def act() -> None:
        began = time.monotonic()
        await all_of(*(late(index) for index in range(3)))
        assert server.sizes == [3]
        assert time.monotonic() - began > 0.009

    run(act)


def test_a_full_group_does_not_wait() -> None:
    server = Server()
    client = client_of(server, Joining(max_size=2, max_delay=30.0))

    async def act() -> None:
        await all_of(client.call("m"), client.call("m"), client.call("m"), client.call("m"))
        assert server.sizes == [2, 2]

    run(act)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_max_size(size: int) -> None:
    server = Server()
    client = client_of(server, Joining(max_size=size))

    async def act() -> None:
        results = await all_of(*(client.call("m", index) for index in range(7)))
        assert results == [["m", [index], index + 1] for index in range(7)]
        assert max(server.sizes) == (0 if size == 1 else size)
        assert len(server.seen) == math.ceil(7 / size)

    run(act)


def test_max_bytes_counts_the_whole_body() -> None:
    server = Server()
    body = len(b'{"jsonrpc":"2.0","method":"m","id":1}')
    exact = client_of(server, Joining(max_bytes=3 * body + 4))

    async def act() -> None:
        await all_of(*(exact.call("m") for _ in range(4)))
        assert server.sizes == [3, 0]
        assert len(server.exchanges[0].body) == 3 * body + 4
        server.seen.clear()
        tight = client_of(server, Joining(max_bytes=3 * body + 3))
        await all_of(*(tight.call("m") for _ in range(4)))
        assert server.sizes == [2, 2]

    run(act)


def test_a_large_request_goes_alone_and_the_others_together() -> None:
    server = Server()
    client = client_of(server, Joining(max_bytes=500))

    async def act() -> None:
        results = await all_of(client.call("a"), client.call("b", "x" * 1000), client.call("c"))
        assert [result[0] for result in results] == ["a", "b", "c"]
        assert sorted(server.sizes) == [0, 2]

    run(act)


def test_a_batch_of_the_callers_goes_as_it_is() -> None:
    server = Server()
    client = client_of(server)

    async def act() -> None:
        one = client.send(BatchRequest(Request("a", id=50)))
        two = client.send(BatchRequest(Request("b", id=60), Request("c", id=61)))
        results = await all_of(client.call("m"), one, two, client.call("n"))
        assert (results[0][0], results[3][0]) == ("m", "n")
        assert results[1].results == [["a", None, 50]]
        assert results[2].results == [["b", None, 60], ["c", None, 61]]
        assert sorted([request["method"] for request in document] for document in server.seen) == [["a"], ["b", "c"], ["m", "n"]]

    run(act)


def test_equal_ids_never_meet() -> None:
    server = Server()
    client = client_of(server)

    async def act() -> None:
        requests = [Request("m", [index], id=id) for index, id in enumerate([1, "1", 2, 1, "x", "x", 1])]
        responses = await all_of(*map(client.send, requests))
        assert [(response.id, response.result) for response in responses] == [
            (request.id, ["m", [index], request.id]) for index, request in enumerate(requests)
        ]
        for document in server.seen:
            ids = [(type(request["id"]), request["id"]) for request in document] if isinstance(document, list) else []
            assert len(ids) == len(set(ids))
        assert [request["id"] for request in server.seen[0]] == [1, "1", 2]

    run(act)


def test_headers_have_to_be_equal() -> None:
    server = Server()
    client = client_of(server, headers={"X-Tenant": "a", "B": "1"})

    async def act() -> None:
        await all_of(
            client.call("a"),
            client.call("b", _headers={"x-tenant": "a"}),
            client.call("c", _headers={"X-Tenant": "b"}),
            client.call("d", _headers={"x-TENANT": "b"}),
            client.call("e", _headers=None),
            client.call("f", _headers={}),
        )
        documents = [document if isinstance(document, list) else [document] for document in server.seen]
        assert sorted([request["method"] for request in document] for document in documents) == [["a", "b", "f"], ["c", "d"], ["e"]]
        tenants = {len(exchange.requests): dict(exchange.headers or {}) for exchange in server.exchanges}
        assert [value for name, value in tenants[3].items() if name.lower() == "x-tenant"] == ["a"]
        assert [value for name, value in tenants[2].items() if name.lower() == "x-tenant"] == ["b"]

    run(act)


def test_an_idempotency_key_keeps_a_call_alone() -> None:
    server = Server()
    client = client_of(server)

    async def act() -> None:
        await all_of(client.call("a"), client.call("b", _idempotency_key=True), client.call("c"), client.call("d", _idempotency_key=True))
        assert sorted(server.sizes) == [0, 0, 2]

    run(act)


def test_notifications_join() -> None:
    server = Server()
    client = client_of(server)

    async def act() -> None:
        results = await all_of(client.notify("a"), client.call("b"), client.notify("c"), client.send(Request("d", id=None)))
        assert results[:3] == [None, ["b", None, 1], None]
        assert (results[3].id, results[3].result, results[3].status) == (None, None, 200)
        assert server.sizes == [4]
        assert server.exchanges[0].ids == (1,)

    run(act)


def test_a_batch_of_notifications_expects_no_body() -> None:
    server = Server(lambda document: Reply(b"", 204))
    client = client_of(server)

    async def act() -> None:
        assert await all_of(client.notify("a"), client.notify("b")) == [None, None]
        assert server.sizes == [2]

    run(act)


def test_a_notification_has_gone_through_whatever_status_the_answers_have() -> None:
    server = Server(lambda document: as_reply([{"jsonrpc": "2.0", "id": 1, "error": {"code": -1, "message": "no"}}], 500))
    client = client_of(server)

    async def act() -> None:
        failure, nothing = await all_of(client.call("a"), client.notify("b"))
        assert (type(failure), failure.code, failure.status, nothing) == (JsonRpcError, -1, 500, None)

    run(act)


def test_a_refusal_reaches_notifications() -> None:
    server = Server(lambda document: Reply(b"slow down", 429))
    client = client_of(server)

    async def act() -> None:
        failures = await all_of(client.notify("a"), client.notify("b"), client.call("c"))
        assert [type(failure) for failure in failures] == [HTTPStatusError] * 3
        assert {failure.delivery for failure in failures} == {rpcretry.Delivery.REJECTED}

    run(act)


# --- what comes back ---


def test_each_gets_its_own_result_or_its_own_error() -> None:
    def behave(document: Any) -> Any:
        failing = {"jsonrpc": "2.0", "error": {"code": -32000, "message": "no", "data": {"a": 1}}}
        return [answer_to(request) if request["method"] == "good" else {**failing, "id": request["id"]} for request in document]

    client = client_of(Server(behave))

    async def act() -> None:
        results = await all_of(*(client.call(method) for method in ("good", "bad", "good", "bad")))
        assert (results[0], results[2]) == (["good", None, 1], ["good", None, 3])
        assert [(error.code, error.data, error.status) for error in (results[1], results[3])] == [(-32000, {"a": 1}, 200)] * 2
        assert results[1] is not results[3]

    run(act)


def test_status_and_headers_stay_on_the_response() -> None:
    client = client_of(Server(lambda document: Reply(json.dumps(plainly(document)).encode(), 207, {"X-Node": "7"})))

    async def act() -> None:
        for response in await all_of(client.send(Request("a")), client.send(Request("b"))):
            assert (response.status, response.headers["x-node"], response.attempts) == (207, "7", 1)

    run(act)


def test_classes_of_errors_and_types_of_results_are_the_clients() -> None:
    class Gone(JsonRpcError):
        CODE = 7

    def behave(document: Any) -> Any:
        return [{"jsonrpc": "2.0", "id": request["id"], **({"result": "5"} if request["method"] == "a" else {"error": {"code": 7}})} for request in document]

    client = client_of(Server(behave), errors=[Gone])

    async def act() -> None:
        five, typed, gone = await all_of(client.call("a"), client.call("a", _result=bytes), client.call("b"))
        assert (five, typed, type(gone)) == ("5", b"5", Gone)

    run(act)


def test_one_that_the_server_left_out() -> None:
    client = client_of(Server(lambda document: [answer_to(document[1])]))

    async def act() -> None:
        missing, found = await all_of(client.call("a"), client.call("b"))
        assert (type(missing), missing.delivery) == (MissingResponseError, rpcretry.Delivery.MAYBE_EXECUTED)
        assert found == ["b", None, 2]

    run(act)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(b"<html>", 200), ProtocolError),
        (Reply(b"", 200), ProtocolError),
        (Reply(b'[{"jsonrpc":"2.0","id":1,"result":1},{"js', 200), ProtocolError),
        (Reply(b"5", 200), ProtocolError),
        (Reply(b"<html>", 502), HTTPStatusError),
        (Reply(b"", 302, {"Location": "http://other/"}), rpcretry.errors.RedirectError),
    ],
    ids=["html", "empty", "cut", "scalar", "502", "redirect"],
)
def test_a_reply_that_is_none_is_everybodys_failure(reply: Reply, expected: type[Exception]) -> None:
    client = client_of(Server(lambda document: reply))

    async def act() -> None:
        failures = await all_of(*(client.call("m") for _ in range(3)))
        assert [type(failure) for failure in failures] == [expected] * 3
        assert len({id(failure) for failure in failures}) == 3
        assert {failure.status for failure in failures} == {reply.status}
        assert len({str(failure) for failure in failures}) == 1

    run(act)


def test_a_single_error_explains_all() -> None:
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": "starting up"}}
    server = Server(lambda document: error)
    client = client_of(server)

    async def act() -> None:
        failures = await all_of(client.call("a"), client.call("b"))
        assert [(type(failure), failure.code) for failure in failures] == [(rpcretry.ServerError, -32000)] * 2
        # It may be one from the middle of the work: nothing goes again.
        assert server.sizes == [2]

    run(act)


ANSWERS = st.sampled_from(["drop", "twice", "foreign", "error", "null id", "other type", "void", "fine", "fine", "fine"])


@settings(max_examples=150, deadline=None)
@given(st.lists(ANSWERS, min_size=2, max_size=9), st.randoms(use_true_random=False), st.integers(min_value=0, max_value=40))
def test_hostile_answers_never_reach_another(kinds: list[str], chance: random.Random, cut: int) -> None:
    def behave(document: Any) -> Any:
        answers: list[Any] = []
        requests = document if isinstance(document, list) else [document]
        for request, kind in zip(requests, kinds, strict=False):
            answer = answer_to(request)
            if kind == "error":
                answer = {"jsonrpc": "2.0", "id": request["id"], "error": {"code": request["id"], "message": "no"}}
            if kind == "null id":
                answer = {"jsonrpc": "2.0", "id": None, "error": {"code": -5, "message": "who"}}
            if kind == "void":
                answer = {"jsonrpc": "2.0", "id": request["id"]}
            if kind == "foreign":
                answer["id"] += 1000
            if kind == "other type":
                answer["id"] = chance.choice([str(request["id"]), request["id"] + 0.5, [request["id"]], True])
            answers += [answer] * {"drop": 0, "twice": 2}.get(kind, 1)
        chance.shuffle(answers)
        body = json.dumps(answers).encode()
        return Reply(body[:-cut] if cut > 30 else body)

    client = client_of(Server(behave))

    async def act() -> None:
        results = await all_of(*(client.call("m", index) for index in range(len(kinds))))
        for index, (kind, result) in enumerate(zip(kinds, results, strict=True)):
            if cut > 30:
                assert isinstance(result, ProtocolError)
            elif kind == "fine":
                assert result == ["m", [index], index + 1]
            elif kind == "twice":
                assert isinstance(result, IdentityError)
            elif kind == "error":
                assert isinstance(result, JsonRpcError)
                assert result.code == index + 1
            elif kind == "void":
                assert result is None
            else:
                assert isinstance(result, (MissingResponseError, JsonRpcError))
                assert getattr(result, "code", -5) == -5

    asyncio.run(act())


def test_a_backends_failure_is_everybodys_own() -> None:
    client = client_of(Server(lambda document: rpcretry.ConnectError("no route")))

    async def act() -> None:
        failures = await all_of(*(client.call("m") for _ in range(3)))
        assert [(type(failure), str(failure), failure.delivery) for failure in failures] == [
            (rpcretry.ConnectError, "no route", rpcretry.Delivery.NOT_SENT)
        ] * 3
        assert len({id(failure) for failure in failures}) == 3

    run(act)


@pytest.mark.parametrize("made", [None, 5, {"a": 1}])
def test_a_backend_that_returns_no_reply(made: Any) -> None:
    class Wrong:
        async def exchange(self, exchange: Exchange, /) -> Any:
            await asyncio.sleep(0)
            return made

        async def aclose(self) -> None: ...

    async def act() -> None:
        failures = await all_of(client_of(Wrong()).call("m"), *(client_of(wrong).call("m") for wrong in [Wrong()]))
        together = client_of(Wrong())
        failures += await all_of(together.call("a"), together.call("b"))
        assert [type(failure) for failure in failures] == [TypeError] * 4
        assert "must return a Reply" in str(failures[-1])

    run(act)


# --- what is around it ---


def test_middlewares_see_each_call_by_itself() -> None:
    seen: list[Any] = []

    async def watch(exchange: Exchange, next: Any) -> Reply:
        reply: Reply = await next(exchange)
        seen.append((json.loads(exchange.body)["method"], reply.status, json.loads(reply.body)))
        return reply

    def behave(document: Any) -> Any:
        fail = {"jsonrpc": "2.0", "id": 2, "error": {"code": 3, "message": "m", "data": [1]}}
        return [answer_to(document[0]), fail]

    server = Server(behave)
    client = client_of(server, middlewares=watch)

    async def act() -> None:
        await all_of(client.call("a"), client.call("b"))
        assert server.sizes == [2]
        fail = {"jsonrpc": "2.0", "id": 2, "error": {"code": 3, "message": "m", "data": [1]}}
        assert seen == [("a", 200, {"jsonrpc": "2.0", "id": 1, "result": ["a", None, 1]}), ("b", 200, fail)]

    run(act)


def test_a_middleware_renews_a_token() -> None:
    tokens = ["old"]

    async def sign(exchange: Exchange, next: Any) -> Reply:
        reply: Reply = await next(exchange.with_headers({"Authorization": tokens[-1]}))
        if reply.status == 401:
            tokens.append("new")
            reply = await next(exchange.with_headers({"Authorization": "new"}))
        return reply

    server = Server()
    server.behave = lambda document: plainly(document) if (server.exchanges[-1].headers or {})["Authorization"] == "new" else Reply(b"who are you", 401)
    client = client_of(server, middlewares=sign)

    async def act() -> None:
        assert await all_of(client.call("a"), client.call("b")) == [["a", None, 1], ["b", None, 2]]
        assert server.sizes == [2, 2]

    run(act)


def test_a_joined_exchange_is_no_calls_attempt() -> None:
    seen: list[Any] = []

    class Asking(Server):
        async def exchange(self, exchange: Exchange, /) -> Reply:
            seen.append(current_attempt())
            return await super().exchange(exchange)

    client = client_of(Asking())

    async def act() -> None:
        await all_of(client.call("a"), client.call("b"))
        await client.call("c")
        assert seen[0] is None
        assert seen[1].operation == "c"

    run(act)


def test_another_codec() -> None:
    class Spaced:
        def dumps(self, value: object, /) -> bytes:
            return json.dumps(value, indent=1, sort_keys=True).encode()

        def loads(self, body: bytes, charset: str | None, /) -> object:
            return json.loads(body)

    server = Server()
    client = client_of(server, Joining(dedupe="get"), codec=Spaced())

    async def act() -> None:
        results = await all_of(client.call("a", 1), client.call("get", {"id": 5}), client.call("get", {"id": 5}), client.call("get", {"id": 6}))
        assert results == [["a", [1], 1], ["get", [{"id": 5}], 2], ["get", [{"id": 5}], 2], ["get", [{"id": 6}], 4]]
        assert server.sizes == [3]

    run(act)


def test_the_clients_backend_stays_the_users() -> None:
    server = Server()

    async def act() -> None:
        async with client_of(server) as client:
            assert client.backend is server
            view = client.using(timeout=5)
            assert await all_of(client.call("a"), view.call("b")) == [["a", None, 1], ["b", None, 2]]
            assert server.sizes == [2]
            await view.aclose()
            assert not server.closed
        assert server.closed

    run(act)


def test_the_backend_by_itself() -> None:
    server = Server()
    client = AsyncClient(server)
    joined = JoiningBackend(server, Joining(), client._shared.reader)
    outer = AsyncClient(joined)

    async def act() -> None:
        assert await all_of(outer.call("a"), outer.call("b")) == [["a", None, 1], ["b", None, 2]]
        assert server.sizes == [2]
        await outer.aclose()
        assert server.closed
        assert repr(joined).startswith("<joining <joining_rig.Server")

    run(act)


def test_over_aiohttp() -> None:
    with LoopbackServer(rpc({"add": lambda a, b: a + b, "fail": lambda: 1 / 0})) as loopback:

        async def act() -> None:
            async with rpcretry.backends.aiohttp.Client(loopback.url, joining=Joining()) as client:
                results = await all_of(*(client.proxy.add(index, 1) for index in range(20)), client.notify("add", 1, 2), client.call("no"))
                assert results[:21] == [*range(1, 21), None]
                assert isinstance(results[21], rpcretry.MethodNotFoundError)
                assert await client.call("add", 1, 2) == 3
            assert [isinstance(body, list) for body in loopback.bodies] == [True, False]

        asyncio.run(act())


# --- servers that take no batches ---


def corpus_refusals() -> list[Any]:
    """What real servers answered to arrays that they do not take."""
    found = []
    for path in sorted(DATA.glob("*.json")):
        if path.stem in ("outcomes",):
            continue
        for entry in json.loads(path.read_text()):
            if entry["case"] in ("batch3_one_failing", "batch_mixed_notification", "batch_only_notifications") and path.stem in ("monerod", "typed-rpc"):
                found.append(pytest.param(Reply(entry["body"].encode(), entry["status"]), id=f"{path.stem}-{entry['case']}"))
    return found


INVALID = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid Request"}}'
REFUSALS = [
    *corpus_refusals(),
    pytest.param(Reply(b'{"jsonrpc":"2.0","error":{"code":-32600,"message":"no batches"}}'), id="without an id"),
    pytest.param(Reply(INVALID, 400), id="-32600 with 400"),
    pytest.param(Reply(INVALID, 500), id="-32600 with 500"),
    pytest.param(Reply(b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}', 500), id="-32700 with 500"),
    *(pytest.param(Reply(b"<html>", status), id=str(status)) for status in (400, 405, 406, 415, 422)),
    pytest.param(Reply(b'{"error":{"code":400,"message":"Bad Request"}}', 400), id="400 as JSON"),
    pytest.param(Reply(b'{"detail":[{"type":"dict_type"}]}', 422), id="422 as JSON"),
]


def test_the_corpus_has_such_servers() -> None:
    assert len(corpus_refusals()) == 6


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_server_that_takes_no_batches_is_remembered(refusal: Reply, caplog: pytest.LogCaptureFixture) -> None:
    server = Server(batches_only(refusal))
    client = client_of(server)

    async def act() -> None:
        with caplog.at_level(logging.WARNING, "rpcretry"):
            assert await all_of(client.call("a"), client.notify("b"), client.call("c")) == [["a", None, 1], None, ["c", None, 2]]
        assert server.sizes == [3, 0, 0, 0]
        assert len(caplog.records) == 1
        assert "no longer joined" in caplog.text
        server.seen.clear()
        assert await all_of(client.call("d"), client.call("e")) == [["d", None, 3], ["e", None, 4]]
        assert server.sizes == [0, 0]

    run(act)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((status, b"<html>") for status in (401, 403, 404, 407, 408, 410, 425, 429, 500, 501, 502, 503, 504)),
        # What is about credentials, or when to come again, is so whatever code came with it.
        *((status, INVALID) for status in (401, 403, 407, 408, 425, 429, 503)),
    ],
)
def test_what_says_nothing_about_batches(status: int, body: bytes) -> None:
    server = Server(batches_only(Reply(body, status)))
    client = client_of(server)

    async def act() -> None:
        failures = await all_of(client.call("a"), client.call("b"))
        assert [failure.status for failure in failures] == [status] * 2
        assert server.sizes == [2]
        await all_of(client.call("a"), client.call("b"))
        assert server.sizes == [2, 2]

    run(act)


@pytest.mark.parametrize("refusal", [Reply(b"<html>", 400), Reply(b"<html>", 405), Reply(INVALID)], ids=["400", "405", "-32600"])
def test_a_refusal_of_everything_is_not_remembered(refusal: Reply) -> None:
    server = Server(lambda document: refusal)
    client = client_of(server)

    async def act() -> None:
        failures = await all_of(client.call("a"), client.call("b"))
        assert {type(failure) for failure in failures} == {HTTPStatusError if refusal.status != 200 else InvalidRequestError}
        assert server.sizes == [2, 0, 0]
        server.behave, server.seen = plainly, []
        await all_of(client.call("a"), client.call("b"))
        assert server.sizes == [2]

    run(act)


def test_one_bad_request_among_good_ones_is_not_remembered() -> None:
    def behave(document: Any) -> Any:
        requests = document if isinstance(document, list) else [document]
        return Reply(b"cannot read that", 400) if any(request["method"] == "bad" for request in requests) else as_reply(plainly(document))

    server = Server(behave)
    client = client_of(server)

    async def act() -> None:
        good, bad, other = await all_of(client.call("good"), client.call("bad"), client.call("other"))
        assert (good[0], bad.status, other[0]) == ("good", 400, "other")
        server.seen.clear()
        await all_of(client.call("good"), client.call("other"))
        assert server.sizes == [2]

    run(act)


def test_singles_that_fail_otherwise_confirm_nothing() -> None:
    server = Server(lambda document: Reply(b"", 400) if isinstance(document, list) else rpcretry.ConnectionLostError("gone"))
    client = client_of(server)

    async def act() -> None:
        failures = await all_of(client.call("a"), client.call("b"))
        assert [type(failure) for failure in failures] == [rpcretry.ConnectionLostError] * 2
        server.behave, server.seen = plainly, []
        await all_of(client.call("a"), client.call("b"))
        assert server.sizes == [2]

    run(act)


def test_an_error_that_a_single_request_gets_is_an_answer() -> None:
    missing = {"jsonrpc": "2.0", "error": {"code": -32601, "message": "no such method"}}
    server = Server(lambda document: Reply(b"<html>", 400) if isinstance(document, list) else as_reply({**missing, "id": document["id"]}, 400))
    client = client_of(server)

    async def act() -> None:
        failures = await all_of(client.call("a"), client.call("b"))
        assert [type(failure) for failure in failures] == [rpcretry.MethodNotFoundError] * 2
        await all_of(client.call("a"), client.call("b"))
        assert server.sizes == [2, 0, 0, 0, 0]

    run(act)


@pytest.mark.parametrize("limit", [1, 2, 3, 10, 60])
def test_a_server_that_finds_batches_too_large(limit: int) -> None:
    def behave(document: Any) -> Any:
        return Reply(b"<html>", 413) if isinstance(document, list) and len(document) > limit else as_reply(plainly(document))

    server = Server(behave)
    client = client_of(server)

    async def act() -> None:
        for burst in range(8):
            results = await all_of(*(client.call("m", index) for index in range(100)))
            assert results == [["m", [index], 100 * burst + index + 1] for index in range(100)]
        # It has learnt, and still joins what may be joined.
        sizes = server.sizes[-(100 // limit + 1) * 2 :]
        server.seen.clear()
        await all_of(*(client.call("m", index) for index in range(100)))
        assert max(server.sizes) <= limit, sizes
        assert max(server.sizes) >= limit // 3 or limit <= 3

    run(act)


def test_a_single_request_that_is_too_large_is_the_callers_failure() -> None:
    def behave(document: Any) -> Any:
        return Reply(b"<html>", 413) if len(json.dumps(document)) > 300 else as_reply(plainly(document))

    server = Server(behave)
    client = client_of(server)

    async def act() -> None:
        results = await all_of(client.call("a"), client.call("b", "x" * 500), client.call("c"), client.call("d"))
        assert [results[0][0], results[2][0], results[3][0]] == ["a", "c", "d"]
        assert (type(results[1]), results[1].status) == (HTTPStatusError, 413)

    run(act)


def too_large(document: list[Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": None, "error": {"code": -32099, "message": "batch limit exceeded"}}


def too_large_in_the_first_ones_name(document: list[Any]) -> list[Any]:
    return [{**too_large(document), "id": document[0]["id"]}]


def too_large_for_each(document: list[Any]) -> list[Any]:
    return [{**too_large(document), "id": request["id"]} for request in document]


@pytest.mark.parametrize("refuse", [too_large, too_large_in_the_first_ones_name, too_large_for_each])
def test_codes_that_say_too_large(refuse: Any) -> None:
    server = Server(lambda document: refuse(document) if isinstance(document, list) and len(document) > 2 else plainly(document))
    client = client_of(server, split_on={-32099})

    async def act() -> None:
        assert await all_of(*(client.call("m", index) for index in range(4))) == [["m", [index], index + 1] for index in range(4)]
        assert server.sizes == [4, 2, 2]

    run(act)


# --- sharing answers ---


def test_equal_reads_share_one_request() -> None:
    server = Server(lambda document: [{"jsonrpc": "2.0", "id": request["id"], "result": {"list": [1]}} for request in document])
    client = client_of(server, Joining(dedupe={"get_*"}))

    async def act() -> None:
        results = await all_of(client.call("get_a", 1), client.call("get_a", 1), client.call("get_a", 2), client.call("set_a", 1), client.call("set_a", 1))
        assert results == [{"list": [1]}] * 5
        assert [(request["method"], request["params"]) for request in server.seen[0]] == [("get_a", [1]), ("get_a", [2]), ("set_a", [1]), ("set_a", [1])]
        results[0]["list"].append(2)
        assert results[1] == {"list": [1]}

    run(act)


def test_it_is_off_by_default() -> None:
    server = Server()
    client = client_of(server)

    async def act() -> None:
        await all_of(client.call("get_a"), client.call("get_a"))
        assert server.sizes == [2]

    run(act)


def test_one_in_flight_is_shared_too_and_one_that_is_over_is_not() -> None:
    server = Server()
    client = client_of(server, Joining(dedupe=["get_a"]))

    async def act() -> None:
        server.gate = asyncio.Event()
        first = asyncio.ensure_future(client.send(Request("get_a", id="x")))
        while not server.seen:
            await asyncio.sleep(0)
        second = asyncio.ensure_future(client.send(Request("get_a", id="y")))
        await asyncio.sleep(0.001)
        server.gate.set()
        one, two = await first, await second
        assert (one.id, one.result) == ("x", ["get_a", None, "x"])
        # The answer is the other's, and the id its own.
        assert (two.id, two.result) == ("y", ["get_a", None, "x"])
        assert server.sizes == [0]
        assert await client.call("get_a") == ["get_a", None, 1]
        assert server.sizes == [0, 0]

    run(act)


def test_sharers_have_errors_of_their_own() -> None:
    server = Server(lambda document: {"jsonrpc": "2.0", "id": document["id"], "error": {"code": 5, "message": "no", "data": {"a": []}}})
    client = client_of(server, Joining(dedupe="get"))

    async def act() -> None:
        failures = await all_of(client.call("get"), client.call("get"), client.call("get"))
        assert [failure.code for failure in failures] == [5] * 3
        assert server.sizes == [0]
        failures[0].data["a"].append(1)
        assert failures[1].data == failures[2].data == {"a": []}
        assert len({id(failure) for failure in failures}) == 3

    run(act)


def test_headers_keep_sharers_apart() -> None:
    server = Server()
    client = client_of(server, Joining(dedupe="get"))

    async def act() -> None:
        await all_of(client.call("get", _headers={"A": "1"}), client.call("get", _headers={"A": "2"}), client.call("get", _headers={"a": "1"}))
        assert server.sizes == [0, 0]

    run(act)


def test_notifications_are_never_shared() -> None:
    server = Server()
    client = client_of(server, Joining(dedupe="*"))

    async def act() -> None:
        await all_of(client.notify("get"), client.notify("get"))
        assert server.sizes == [2]

    run(act)


@pytest.mark.parametrize("leaver", [0, 1])
@pytest.mark.parametrize("sent", [False, True])
def test_a_sharer_that_leaves_harms_nobody(leaver: int, sent: bool) -> None:
    server = Server()
    client = client_of(server, Joining(dedupe="get"))

    async def act() -> None:
        server.gate = asyncio.Event()
        tasks = [asyncio.ensure_future(client.call("get")) for _ in range(3)]
        await asyncio.sleep(0)
        while sent and not server.seen:
            await asyncio.sleep(0)
        tasks[leaver].cancel()
        await asyncio.sleep(0.001)
        server.gate.set()
        results = await all_of(*tasks)
        assert isinstance(results.pop(leaver), asyncio.CancelledError)
        assert results == [["get", None, 1]] * 2
        assert server.sizes == [0]
        assert server.cancelled == 0

    run(act)


def test_all_sharers_leave() -> None:
    server = Server()
    client = client_of(server, Joining(dedupe="get"))

    async def act() -> None:
        server.gate = asyncio.Event()
        tasks = [asyncio.ensure_future(client.call("get")) for _ in range(3)]
        while not server.seen:
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await all_of(*tasks)
        await asyncio.sleep(0)
        assert server.cancelled == 1
        server.gate.set()
        assert await client.call("get") == ["get", None, 4]

    run(act)


def test_one_that_came_later_keeps_its_time() -> None:
    def behave(document: Any) -> Any:
        return plainly(document) if len(server.seen) > 1 else rpcretry.RequestTimeoutError("too slow")

    server = Server(behave)
    client = client_of(server, Joining(dedupe="get"))

    async def act() -> None:
        server.gate = asyncio.Event()
        hasty = asyncio.ensure_future(client.call("get", _timeout=0.02))
        while not server.seen:
            await asyncio.sleep(0)
        patient = asyncio.ensure_future(client.call("get", _timeout=30))
        await asyncio.sleep(0.021)
        server.gate.set()
        with pytest.raises(rpcretry.RequestTimeoutError):
            await hasty
        assert await patient == ["get", None, 2]
        assert server.sizes == [0, 0]

    run(act)


def test_a_result_that_cannot_be_copied_is_fetched_again() -> None:
    deep: Any = "x"
    for _ in range(900):
        deep = [deep]

    class Deep:
        sent = 0

        async def exchange(self, exchange: Exchange, /) -> Reply:
            self.sent += 1
            await asyncio.sleep(0)
            return Reply(b"", document={"jsonrpc": "2.0", "id": exchange.ids[0], "result": deep})

        async def aclose(self) -> None: ...

    server = Deep()
    client = client_of(server, Joining(dedupe="get"))

    async def act() -> None:
        one, two = await all_of(client.call("get"), client.call("get"))
        assert one is deep
        assert two is deep
        assert server.sent == 2

    run(act)


def test_sharing_with_a_server_that_takes_no_batches() -> None:
    server = Server(batches_only(Reply(INVALID)))
    client = client_of(server, Joining(dedupe="get"))

    async def act() -> None:
        results = await all_of(client.call("get"), client.call("get"), client.call("set"))
        assert results == [["get", None, 1], ["get", None, 1], ["set", None, 3]]
        assert server.sizes == [2, 0, 0]
        results = await all_of(client.call("get"), client.call("get"), client.call("set"))
        assert results == [["get", None, 4], ["get", None, 4], ["set", None, 6]]
        assert server.sizes == [2, 0, 0, 0, 0]

    run(act)


# --- what it takes ---


def test_what_joining_may_be() -> None:
    server = Server()
    assert client_of(server, True)._joined is not None
    for none in (None, False):
        assert AsyncClient(server, joining=none)._joined is None
    for wrong, hint in ((Joining, r"joining=Joining\(\)"), (5, "joining=True"), ("yes", "joining=True")):
        with pytest.raises(TypeError, match=f"joining must be a Joining, True or None.*{hint}"):
            AsyncClient(server, joining=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"max_size": 0}, ValueError, "max_size must be at least 1"),
        ({"max_size": 0.5}, TypeError, "max_size must be an int"),
        ({"max_size": True}, TypeError, "max_size must be an int"),
        ({"max_delay": -1}, ValueError, "max_delay must be at least 0"),
        ({"max_delay": math.inf}, ValueError, "max_delay must be finite"),
        ({"max_delay": "1"}, TypeError, "max_delay must be a number"),
        ({"max_bytes": 0}, ValueError, "max_bytes must be at least 1"),
        ({"dedupe": True}, TypeError, "dedupe takes method names"),
        ({"dedupe": [5]}, TypeError, "dedupe takes method names"),
        ({"dedupe": [""]}, ValueError, "empty"),
        ({"dedupe": len}, TypeError, "dedupe takes method names"),
        ({"max_wait": 1}, TypeError, "here it is max_delay"),
        ({"batch_size": 1}, TypeError, "here it is max_size"),
        ({"max_byte": 1}, TypeError, "did you mean max_bytes"),
    ],
)
def test_wrong_settings_are_refused(given: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        Joining(**given)


def test_settings_are_values() -> None:
    assert Joining(dedupe="get_*") == Joining(dedupe=["get_*"]) != Joining()
    assert hash(Joining(5, 0.1)) == hash(Joining(max_size=5, max_delay=0.1))
    with pytest.raises(AttributeError):
        Joining().max_size = 5  # type: ignore[misc]


def test_sync_clients_have_none() -> None:
    for make in (lambda: Client(ScriptedBackend([]), joining=True), lambda: rpcretry.backends.requests.Client("http://localhost", joining=Joining())):  # type: ignore[call-arg]
        with pytest.raises(TypeError, match=r"joining.*client.batch\(\).*async"):
            make()


def test_values_of_the_oracle_differ() -> None:
    assert value_of({"method": "a", "id": 1}) != value_of({"method": "a", "id": "1"})
