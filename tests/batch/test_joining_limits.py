"""How large joined batches are, and what a server that finds them too large changes about that."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from joining_rig import Server, all_of, as_reply, client_of, plainly, run

import rpcretry
from rpcretry import HTTPStatusError, JsonRpcError
from rpcretry.client import Joining
from rpcretry.layers.breaker import CircuitBreaker
from rpcretry.layers.budget import RetryBudget
from rpcretry.transport import Exchange, Reply

CODE = -32005
PLAIN = Reply(b"<html>", 413)
ERROR = {"jsonrpc": "2.0", "id": None, "error": {"code": CODE, "message": "too large"}}
OTHER = {"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": "too large"}}

# How servers say it, and whether by a code that is named here.
WAYS = [
    pytest.param(PLAIN, False, id="413"),
    pytest.param(as_reply([], 413), False, id="413 and no answers"),
    pytest.param(as_reply(OTHER, 413), False, id="413 around an object"),
    pytest.param(as_reply([OTHER], 413), False, id="413 around a nameless array"),
    pytest.param(as_reply([ERROR], 413), True, id="413 around a named code"),
    pytest.param(as_reply(ERROR), True, id="code"),
    pytest.param(as_reply([ERROR]), True, id="code in an array"),
    pytest.param(as_reply(ERROR, 503), True, id="code under 503"),
]


def taking(most: int, refusal: Reply) -> Callable[[Any], Any]:
    """A server that takes so many requests."""
    return lambda document: refusal if isinstance(document, list) and len(document) > most else as_reply(plainly(document))


async def calls(client: Any, count: int, *params: object) -> list[Any]:
    return await all_of(*(client.call("m", *params) for _ in range(count)))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# --- what the user has set ---


@pytest.mark.parametrize(
    ("joining", "options", "largest"),
    [
        (Joining(), {"max_batch_size": 20}, 20),
        (Joining(max_size=10), {"max_batch_size": 20}, 10),
        (Joining(max_size=30), {"max_batch_size": 20}, 20),
        (Joining(max_size=30), {"max_batch_size": None}, 30),
    ],
)
def test_the_smaller_number_holds(joining: Joining, options: dict[str, Any], largest: int) -> None:
    server = Server()
    client = client_of(server, joining, **options)

    async def act() -> None:
        assert not any(isinstance(result, Exception) for result in await calls(client, 60))
        assert server.sizes == [largest] * (60 // largest)

    run(act)


@pytest.mark.parametrize(("joined", "own"), [(1_000_000, 500), (500, 1_000_000), (500, None)])
def test_the_smaller_number_of_bytes_holds(joined: int, own: int | None) -> None:
    server = Server()
    client = client_of(server, Joining(max_bytes=joined), max_batch_bytes=own)

    async def act() -> None:
        await calls(client, 60)
        assert 400 < max(len(exchange.body) for exchange in server.exchanges) <= 500

    run(act)


def test_a_header_of_each_calls_own_keeps_it_alone() -> None:
    server = Server()
    numbers = iter(range(100))

    async def sign(exchange: Exchange, proceed: Any) -> Reply:
        reply: Reply = await proceed(exchange.with_headers({"X-Signature": str(next(numbers))}))
        return reply

    async def act() -> None:
        await calls(client_of(server, middlewares=[sign]), 5)
        assert server.sizes == [0] * 5

    run(act)


# --- what the server says ---


@pytest.mark.parametrize(("refusal", "by_code"), WAYS)
def test_each_way_to_say_it_halves_the_batch_and_the_later_ones(refusal: Reply, by_code: bool, caplog: pytest.LogCaptureFixture) -> None:
    server = Server(taking(2, refusal))
    client = client_of(server, split_on={413, CODE})

    async def act() -> None:
        with caplog.at_level(logging.WARNING, "rpcretry"):
            assert await calls(client, 4) == [["m", None, index] for index in (1, 2, 3, 4)]
            assert server.sizes == [4, 2, 2]
            assert len(warnings(caplog)) == 1
            server.seen.clear()
            await calls(client, 4)
            assert max(server.sizes) <= 2
            assert len(warnings(caplog)) == 1
        assert f"({CODE if by_code else 413})" in caplog.text

    run(act)


def test_a_code_is_about_the_number_of_requests() -> None:
    server = Server(taking(5, as_reply(ERROR)))
    client = client_of(server, split_on={413, CODE})

    async def act() -> None:
        await calls(client, 20, "x" * 10)
        assert server.sizes == [20, 10, 10, 5, 5, 5, 5]
        # Neither the size of these requests nor that of those says anything about it.
        for text in ("x" * 3000, ""):
            server.seen.clear()
            await calls(client, 20, text)
            assert server.sizes == [5, 5, 5, 5]

    run(act)


def test_a_status_is_about_the_bytes() -> None:
    server = Server(lambda document: PLAIN if len(json.dumps(document)) > 20_000 else as_reply(plainly(document)))
    client = client_of(server)

    async def act() -> None:
        await calls(client, 20, "x" * 3000)
        assert max(server.sizes) == 20
        server.seen.clear()
        await calls(client, 20, "x" * 3000)
        assert max(server.sizes) <= 6
        server.seen.clear()
        # As many small ones as before.
        await calls(client, 100)
        assert server.sizes == [100]

    run(act)


def test_an_answer_in_the_name_of_a_request_says_more_than_the_status() -> None:
    failures = [{**OTHER, "id": 1}, {**OTHER, "id": 2}]
    server = Server(lambda document: as_reply(failures, 413))
    client = client_of(server)

    async def act() -> None:
        results = await calls(client, 2)
        assert all(isinstance(result, JsonRpcError) and result.code == -32000 for result in results)
        assert server.sizes == [2]

    run(act)


# --- what is not about the size ---


@pytest.mark.parametrize("dedupe", [(), "m"], ids=["", "shared"])
@pytest.mark.parametrize("kinds", [("call", "call"), ("call", "notify"), ("notify", "notify")], ids="-".join)
@pytest.mark.parametrize("refusal", [PLAIN, as_reply(OTHER, 413), as_reply(ERROR), as_reply(ERROR, 413)], ids=["413", "413 object", "code", "both"])
def test_three_refusals_in_a_row_were_not_about_the_size(refusal: Reply, kinds: tuple[str, str], dedupe: Any, caplog: pytest.LogCaptureFixture) -> None:
    server = Server(lambda document: refusal)
    client = client_of(server, Joining(dedupe=dedupe), split_on={413, CODE})

    async def act() -> None:
        with caplog.at_level(logging.INFO, "rpcretry"):
            await all_of(*(getattr(client, kind)("m", place) for place, kind in enumerate(kinds)))
        assert server.sizes == [2, 0, 0]
        server.behave, server.seen = plainly, []
        for _ in range(2):
            await all_of(*(client.call("m", place) for place in range(50)))
        assert server.sizes == [50, 50]
        assert caplog.records == []

    run(act)


def test_a_code_under_503_that_single_requests_get_was_not_about_the_size() -> None:
    server = Server(lambda document: as_reply(ERROR, 503))
    client = client_of(server, split_on={413, CODE})

    async def act() -> None:
        assert [failure.code for failure in await calls(client, 2)] == [CODE] * 2
        server.behave, server.seen = plainly, []
        await calls(client, 50)
        assert server.sizes == [50]

    run(act)


@pytest.mark.parametrize(
    "outcome",
    [rpcretry.ConnectionLostError("gone"), Reply(b"<html>", 500), Reply(b"<html>", 200)],
    ids=["no answer", "500", "no JSON"],
)
@pytest.mark.parametrize("count", [2, 4])
def test_what_is_no_answer_confirms_nothing(outcome: Any, count: int) -> None:
    server = Server(lambda document: PLAIN if isinstance(document, list) and len(document) == count else outcome)
    client = client_of(server)

    async def act() -> None:
        assert all(isinstance(failure, Exception) for failure in await calls(client, count))
        server.behave, server.seen = plainly, []
        await calls(client, 50)
        assert server.sizes == [50]

    run(act)


def test_one_part_that_is_answered_confirms_it() -> None:
    """The other has the one request that is too large for itself."""
    server = Server(lambda document: PLAIN if len(json.dumps(document)) > 2000 else as_reply(plainly(document)))
    client = client_of(server)

    async def act() -> None:
        *good, bad = await all_of(*(client.call("m") for _ in range(3)), client.call("m", "x" * 3000))
        assert not any(isinstance(result, Exception) for result in good)
        assert isinstance(bad, HTTPStatusError)
        # [m m] were answered; then the m that went with the large one.
        assert server.sizes == [4, 2, 2, 0, 0]
        server.seen.clear()
        await calls(client, 50)
        assert max(server.sizes) > 20
        assert sum(server.sizes) == 50

    run(act)


def test_an_error_that_a_part_gets_is_an_answer() -> None:
    missing = {"jsonrpc": "2.0", "error": {"code": -32601, "message": "no such method"}}
    server = Server(lambda document: as_reply(ERROR) if isinstance(document, list) else as_reply({**missing, "id": document["id"]}))
    client = client_of(server, split_on={CODE})

    async def act() -> None:
        assert [type(failure) for failure in await calls(client, 2)] == [rpcretry.MethodNotFoundError] * 2
        server.seen.clear()
        await calls(client, 2)
        assert server.sizes == [0, 0]

    run(act)


@pytest.mark.parametrize("count", [2, 3, 4, 9])
@pytest.mark.parametrize("status", [400, 413])
def test_a_client_that_is_closed_meanwhile_sends_no_parts(status: int, count: int) -> None:
    class Closing(Server):
        async def exchange(self, exchange: Exchange, /) -> Reply:
            reply = await super().exchange(exchange)
            await client.aclose()
            return reply

    server = Closing(lambda document: Reply(b"<html>", status))
    client = client_of(server)

    async def act() -> None:
        assert [type(failure) for failure in await calls(client, count)] == [rpcretry.ClientClosedError] * count
        assert server.sizes == [count]

    run(act)


# --- who counts ---


@pytest.mark.parametrize("status", [413, 503])
def test_a_batch_that_is_halved_counts_for_no_layer(status: int) -> None:
    breaker, budget = CircuitBreaker(failure_threshold=1), RetryBudget(10)
    server = Server(taking(2, as_reply(ERROR, status)))
    client = client_of(server, layers=[breaker, budget], split_on={413, CODE})

    async def act() -> None:
        assert not any(isinstance(result, Exception) for result in await calls(client, 4))
        assert (breaker.stats.successful, breaker.stats.failed) == (2, 0)
        assert budget.level == 10

    run(act)
