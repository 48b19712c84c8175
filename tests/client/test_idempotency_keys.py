"""Idempotency keys: which calls carry one, when it changes, and what may be repeated under it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import random
import re
import secrets
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Recorder, Rig, Slow, both_drivers, fresh

import rpcretry.backends.aiohttp
import rpcretry.backends.requests
from rpcretry import (
    BatchRequest,
    ConnectError,
    ConnectionLostError,
    JsonRpcError,
    MissingResponseError,
    Request,
    RetryBudget,
    RetryStrategy,
)
from rpcretry.layers import CircuitBreaker
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import RESET, Answer, LoopbackServer, Received, error, result
from rpcretry.transport import Exchange, Reply

lost = fresh(ConnectionLostError("reset"))
unconnected = fresh(ConnectError("refused"))
BACKOFF = PeriodicBackoff(4, 0.5)
# Guarded: what may have been executed is repeated for nobody.
GUARDED = RetryStrategy(exceptions={ConnectionError, MissingResponseError}, codes={2001}, idempotent=[], backoff=BACKOFF)
PRESET = RetryStrategy(backoff=BACKOFF)
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")


def keys(rig: Rig) -> list[str | None]:
    return [(exchange.headers or {}).get("Idempotency-Key") for exchange in rig.backend.exchanges]


def methods(rig: Rig) -> list[str]:
    return ["".join(request.method for request in exchange.requests) for exchange in rig.backend.exchanges]


def answers(**members: Any) -> Callable[[Exchange], Reply]:
    """A batch's reply: for each method its result, an error's code as a set, or ``...`` to leave it out."""

    def play(exchange: Exchange) -> Reply:
        items: list[dict[str, Any]] = []
        for request in exchange.requests:
            found = members[request.method]
            if isinstance(found, set):
                items.append({"id": request.id, "error": {"code": next(iter(found)), "message": "no"}})
            elif found is not ... and request.id is not None:
                items.append({"id": request.id, "result": found})
        return Reply(json.dumps([{"jsonrpc": "2.0", **item} for item in items]).encode())

    return play


ABC = BatchRequest(Request("a"), Request("b"), Request("c"))

# Each way to make a call; all of them carry a key.
WAYS = {
    "call": lambda client, **options: client.call("m", 1, **options),
    "proxy": lambda client, **options: client.proxy.m(1, **options),
    "notify": lambda client, **options: client.notify("m", 1, **options),
    "send": lambda client, **options: client.send(Request("m", [1]), **options),
    "notify by send": lambda client, **options: client.send(Request("m", [1], id=None), **options),
    "batch": lambda client, **options: client.send(BatchRequest(Request("m", [1]), Request("n")), **options),
    "batch of notifications": lambda client, **options: client.send(BatchRequest(Request("m", id=None), Request("n", id=None)), **options),
}
every_way = pytest.mark.parametrize("way", WAYS)


# --- which calls carry one ---


@both_drivers
@every_way
def test_all_attempts_of_a_call_carry_one_key_and_each_call_its_own(driver: str, way: str) -> None:
    rig = Rig(driver, unconnected, unconnected, result(0), unconnected, result(0), retry_strategy=PRESET, idempotency_key=True)
    rig.run(WAYS[way])
    rig.run(WAYS[way])
    first, *rest = keys(rig)
    assert first is not None
    assert UUID4.match(first)
    assert rest[:2] == [first] * 2
    assert rest[2] == rest[3] != first


@both_drivers
@every_way
def test_client_view_and_call(driver: str, way: str) -> None:
    act = WAYS[way]
    rig = Rig(driver, *[result(0)] * 9, idempotency_key=lambda: "client")
    rig.run(act)
    rig.run(lambda client: act(client.using(idempotency_key=lambda: "view")))
    rig.run(lambda client: act(client.using(timeout=3)))
    rig.run(lambda client: act(client, _idempotency_key="call"))
    rig.run(lambda client: act(client, _idempotency_key=lambda request: "callable"))
    for none in (None, False):
        rig.run(lambda client, none=none: act(client, _idempotency_key=none))  # type: ignore[misc]
        rig.run(lambda client, none=none: act(client.using(idempotency_key=none)))  # type: ignore[misc]
    assert keys(rig) == ["client", "view", "client", "call", "callable", None, None, None, None]


@both_drivers
def test_without_one_there_is_no_header(driver: str) -> None:
    rig = Rig(driver, *[result(0)] * 2)
    rig.call("m")
    assert rig.backend.exchanges[0].headers is None
    rig.call("m", _idempotency_key=True)
    assert list(rig.backend.exchanges[1].headers) == ["Idempotency-Key"]


@both_drivers
def test_other_headers_stay(driver: str) -> None:
    rig = Rig(driver, *[result(0)] * 3, headers={"X-A": "1"}, idempotency_key=lambda: "made")
    rig.call("m", _headers={"X-B": "2"})
    rig.call("m", _headers=None)
    rig.call("m", _idempotency_key=None)
    assert [dict(exchange.headers) for exchange in rig.backend.exchanges] == [
        {"X-A": "1", "Idempotency-Key": "made", "X-B": "2"},
        {"Idempotency-Key": "made"},
        {"X-A": "1"},
    ]


@both_drivers
def test_a_key_written_out_as_a_header_is_never_overwritten(driver: str) -> None:
    """A program that was started again would otherwise pay a second time, under another key."""
    rig = Rig(driver, *[result(0)] * 2, idempotency_key=True)
    with pytest.raises(ValueError, match=r"give idempotency_key or the header Idempotency-Key, not both.*_idempotency_key="):
        rig.call("pay", _headers={"idempotency-KEY": "order-7"})
    with pytest.raises(ValueError, match="not both"):
        rig.send(BatchRequest(Request("pay")), _headers={"Idempotency-Key": "order-7"})
    assert rig.sent == 0
    rig.call("pay", _headers={"Idempotency-Key": "order-7"}, _idempotency_key=None)
    rig.call("pay", _idempotency_key="order-7")
    assert [exchange.headers["Idempotency-Key"] for exchange in rig.backend.exchanges] == ["order-7"] * 2


# --- where they come from ---


def for_one(request: Any) -> str:
    return f"{type(request).__name__} {request.method}" if isinstance(request, Request) else f"{type(request).__name__} {len(request)}"


class Source:
    def of(self, request: Any) -> str:
        return for_one(request)

    def __call__(self, request: Any) -> str:
        return for_one(request)


def with_default(length: int = 3) -> str:
    return "x" * length


SOURCES: list[tuple[Any, str]] = [
    (for_one, "Request m"),
    (lambda *args: f"{len(args)}", "1"),
    (Source().of, "Request m"),
    (Source(), "Request m"),
    (functools.partial(for_one), "Request m"),
    (lambda: "nothing", "nothing"),
    (with_default, "xxx"),
    (functools.partial(with_default, 5), "xxxxx"),
]


@both_drivers
@pytest.mark.parametrize(("source", "key"), SOURCES)
def test_a_callable_gets_the_request_where_it_needs_an_argument(driver: str, source: Any, key: str) -> None:
    rig = Rig(driver, *[result(0)] * 2, idempotency_key=source)
    rig.call("m")
    rig.call("m", _idempotency_key=source)
    assert keys(rig) == [key] * 2


def test_the_usual_generators_of_keys_work_as_they_are() -> None:
    """``secrets.token_hex`` has an optional length, for which it was given the request."""
    rig = Rig("sync", *[result(0)] * 2, idempotency_key=secrets.token_hex)
    rig.call("m")
    rig.call("m", _idempotency_key=lambda: str(uuid.uuid4()))
    first, second = keys(rig)
    assert first is not None
    assert len(first) == 64
    assert UUID4.match(second or "")


@both_drivers
def test_a_batch_is_given_as_a_batch(driver: str) -> None:
    rig = Rig(driver, result(0), idempotency_key=for_one)
    rig.send(ABC)
    assert keys(rig) == ["BatchRequest 3"]


async def coroutine() -> str:
    return "x"


async def coroutine_of(request: Any) -> str:
    return "x"


def generated(request: Any) -> Iterator[str]:
    yield "x"


class Awaited:
    async def __call__(self, request: Any) -> str:
        return "x"


@both_drivers
@pytest.mark.parametrize("one_call", [False, True])
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (3, "must be True, a str or a callable, got int 3"),
        (0, "must be True, a str or a callable, got int 0"),
        (b"key", "must be True, a str or a callable, got bytes"),
        (lambda a, b: "", "must be callable with .*; it gets the request, or nothing, and returns a str"),
        (lambda *, key: "", "must be callable with .*; it gets the request, or nothing, and returns a str"),
        (coroutine, "must be a plain function"),
        (coroutine_of, "must be a plain function"),
        (functools.partial(coroutine_of), "must be a plain function"),
        (Awaited(), "must be a plain function"),
        (generated, "must be a plain function"),
    ],
)
def test_what_is_no_source_is_refused_before_anything_is_sent(driver: str, one_call: bool, bad: Any, words: str) -> None:
    rig = Rig(driver)
    if one_call:
        with pytest.raises(TypeError, match=f"^_idempotency_key {words}"):
            rig.call("m", _idempotency_key=bad)
    else:
        with pytest.raises(TypeError, match=f"^idempotency_key {words}"):
            Rig(driver, idempotency_key=bad)
        with pytest.raises(TypeError, match=f"^idempotency_key {words}"):
            rig.client.using(idempotency_key=bad)
    assert rig.sent == 0


BAD_KEYS = [
    ("", ValueError, "must not be empty"),
    ("a\r\nX-Injected: 1", ValueError, "holds a control character"),
    ("a\x00", ValueError, "holds a control character"),
    (" secret", ValueError, "begins or ends with a space"),
    ("schlüssel", ValueError, "beyond ASCII"),
    ("key→", ValueError, "beyond ASCII"),
]


@both_drivers
@every_way
@pytest.mark.parametrize(("key", "kind", "words"), [*BAD_KEYS, (uuid.UUID(int=1), TypeError, r"must be a str, got UUID; write str\(\.\.\.\) around it")])
def test_a_key_that_cannot_be_sent_is_refused_by_name(driver: str, way: str, key: Any, kind: type[Exception], words: str) -> None:
    layer = Recorder()
    rig = Rig(driver, layers=layer)
    if isinstance(key, str):
        with pytest.raises(kind, match=f"^_idempotency_key.*{words}") as caught:
            rig.run(lambda client: WAYS[way](client, _idempotency_key=key))
        assert not key or key not in str(caught.value)
    with pytest.raises(kind, match=f"^_idempotency_key.*{words}"):
        rig.run(lambda client: WAYS[way](client, _idempotency_key=lambda: key))
    with pytest.raises(kind, match=f"^idempotency_key.*{words}"):
        rig.run(lambda client: WAYS[way](client.using(idempotency_key=lambda request: key)))
    # It is made before anything is done about the call, for a batch as for a single one.
    assert (rig.sent, layer.log) == (0, [])


@both_drivers
def test_a_key_that_is_written_out_is_for_one_call(driver: str) -> None:
    for make in (lambda: Rig(driver, idempotency_key="order-7"), lambda: Rig(driver).client.using(idempotency_key="order-7")):
        with pytest.raises(ValueError, match=r"^idempotency_key would be the same for all calls, .* use True, a callable, or _idempotency_key"):
            make()


# --- what may be repeated under it ---


@both_drivers
@every_way
@pytest.mark.parametrize("strategy", [GUARDED, PRESET], ids=["guarded", "preset"])
def test_what_may_have_been_executed_is_repeated_with_a_key_and_not_without(driver: str, way: str, strategy: RetryStrategy) -> None:
    rig = Rig(driver, lost, lost, result(0), retry_strategy=strategy)
    rig.run(lambda client: WAYS[way](client, _idempotency_key=True))
    assert (rig.sent, len(set(keys(rig)))) == (3, 1)
    assert rig.backend.bodies[0] == rig.backend.bodies[1] == rig.backend.bodies[2]
    rig = Rig(driver, lost, result(0), retry_strategy=strategy, idempotency_key=True)
    for none in (None, False):
        with pytest.raises(ConnectionLostError):
            rig.run(lambda client, none=none: WAYS[way](client, _idempotency_key=none))  # type: ignore[misc]
        rig = Rig(driver, lost, result(0), retry_strategy=strategy, idempotency_key=True)


@both_drivers
def test_a_strategy_that_comes_with_the_call_knows_of_the_clients_keys(driver: str) -> None:
    rig = Rig(driver, lost, result(1), lost, lost, result(2), idempotency_key=True)
    assert rig.call("m", _retry_strategy=GUARDED) == 1
    with pytest.raises(ConnectionLostError):
        rig.call("m", _retry_strategy=GUARDED, _idempotency_key=None)
    assert rig.run(lambda client: client.using(retry_strategy=GUARDED).call("m")) == 2


@both_drivers
def test_a_key_makes_nothing_retryable(driver: str) -> None:
    rig = Rig(driver, error(7), result(0), retry_strategy=GUARDED, idempotency_key=True)
    with pytest.raises(JsonRpcError):
        rig.call("m")
    rig = Rig(driver, lost, result(0), idempotency_key=True)
    with pytest.raises(ConnectionLostError):
        rig.call("m")


# --- batches ---


@both_drivers
def test_a_batch_that_is_lost_goes_again_whole_under_its_key(driver: str) -> None:
    rig = Rig(driver, lost, lost, answers(a=1, b=2, c=3), retry_strategy=GUARDED, idempotency_key=True)
    assert rig.send(ABC).results == [1, 2, 3]
    assert methods(rig) == ["abc"] * 3
    assert len(set(keys(rig))) == 1
    assert len({exchange.body for exchange in rig.backend.exchanges}) == 1


@both_drivers
def test_bodies_that_may_go_at_one_time_go_one_by_one(driver: str) -> None:
    def apart(exchange: Exchange) -> Reply:
        errors = [{"code": 2001, "message": "busy", "data": {"retry_after": seconds}} for seconds in (1, 2, 3)]
        return Reply(json.dumps([{"jsonrpc": "2.0", "id": id, "error": error} for id, error in zip(exchange.ids, errors, strict=True)]).encode())

    strategy = RetryStrategy(exceptions={ConnectionError}, codes={2001}, idempotent={"get_*"}, backoff=lambda: iter([0.0, 4.0, 4.0]))
    # While c is under way the waits of a and of b are over; each was lost under a key of its own.
    script = [apart, lost, lost, Slow(10.0, answers(c=3)), answers(b=2), answers(a=1)]
    rig = Rig(driver, *script, retry_strategy=strategy, idempotency_key=True)
    assert rig.send(ABC).results == [1, 2, 3]
    assert methods(rig) == ["abc", "a", "b", "c", "b", "a"]
    abc, a, b, c, *again = keys(rig)
    assert again == [b, a]
    assert len({abc, a, b, c}) == 4


@both_drivers
def test_a_batch_that_shrinks_has_another_key_and_keeps_that_one(driver: str) -> None:
    rig = Rig(driver, answers(a=1, b={2001}, c=3), *[answers(b={2001})] * 2, answers(b=2), retry_strategy=GUARDED, idempotency_key=True)
    assert rig.send(ABC).results == [1, 2, 3]
    assert methods(rig) == ["abc", "b", "b", "b"]
    whole, *shrunken = keys(rig)
    assert len(set(shrunken)) == 1
    assert shrunken[0] != whole


@both_drivers
def test_a_batch_that_shrinks_twice_has_three_keys(driver: str) -> None:
    script = answers(a=1, b={2001}, c={2001}), answers(b={2001}, c=3), answers(b=2)
    rig = Rig(driver, *script, retry_strategy=GUARDED, idempotency_key=True)
    rig.send(ABC)
    assert methods(rig) == ["abc", "bc", "b"]
    assert len(set(keys(rig))) == 3


@both_drivers
def test_one_key_for_all_is_told_apart_and_the_same_in_every_run(driver: str) -> None:
    """A program that was started again repeats the call under its own key, and may lose other members than the first time."""

    def run(*script: Any) -> dict[str, str | None]:
        rig = Rig(driver, *script, retry_strategy=GUARDED)
        rig.send(ABC, _idempotency_key="order-7")
        return dict(zip(methods(rig), keys(rig), strict=True))

    first = run(answers(a=1, b={2001}, c={2001}), answers(b={2001}, c=3), answers(b=2))
    second = run(answers(a={2001}, b={2001}, c=3), answers(a=1, b={2001}), answers(b=2))
    assert first["abc"] == second["abc"] == "order-7"
    assert first["b"] == second["b"]
    assert len({*first.values(), *second.values()}) == 4
    assert all(key and key.startswith("order-7") for key in first.values())


@both_drivers
def test_a_source_is_asked_once_for_each_body(driver: str) -> None:
    asked: list[str] = []

    def source(request: Any) -> str:
        asked.append("".join(member.method for member in request))
        return "-".join(member.method for member in request)

    script = lost, answers(a=1, b={2001}, c={2001}), lost, answers(b={2001}, c={2001}), answers(b=2, c=3)
    strategy = RetryStrategy(exceptions={ConnectionError}, codes={2001}, backoff=BACKOFF)
    rig = Rig(driver, *script, retry_strategy=strategy, idempotency_key=source)
    rig.send(ABC)
    assert asked == ["abc", "bc"]
    assert keys(rig) == ["a-b-c", "a-b-c", "b-c", "b-c", "b-c"]


@both_drivers
def test_a_member_that_may_have_been_executed_is_not_repeated_in_a_batch_that_shrinks(driver: str) -> None:
    rig = Rig(driver, answers(a=1, b={2001}, c=...), answers(b=2), retry_strategy=GUARDED, idempotency_key=True)
    a, b, c = rig.send(ABC)
    assert methods(rig) == ["abc", "b"]
    assert (a.result, b.result, c.attempts) == (1, 2, 1)
    assert isinstance(c.error, MissingResponseError)
    assert "may have been executed, and the others of its batch do not go again with it" in c.error.__notes__[0]


@both_drivers
def test_a_member_that_was_left_out_goes_again_where_all_the_others_do(driver: str) -> None:
    rig = Rig(driver, answers(a={2001}, b={2001}, c=...), answers(a=1, b=2, c=3), retry_strategy=GUARDED, idempotency_key=True)
    assert rig.send(ABC).results == [1, 2, 3]
    assert methods(rig) == ["abc", "abc"]
    assert len(set(keys(rig))) == 1


@both_drivers
def test_a_member_that_is_held_apart_shrinks_the_batch(driver: str) -> None:
    def held(exchange: Exchange) -> Reply:
        busy = {"code": 2001, "message": "x", "data": {"retry_after": 9}}
        return Reply(json.dumps([{"jsonrpc": "2.0", "id": 1, "error": busy}, {"jsonrpc": "2.0", "id": 2, "error": {"code": 2001, "message": "x"}}]).encode())

    rig = Rig(driver, held, answers(b=2), answers(a=1), retry_strategy=GUARDED, idempotency_key=True)
    a, b, c = rig.send(ABC)
    assert methods(rig) == ["abc", "b", "a"]
    assert (a.result, b.result, type(c.error)) == (1, 2, MissingResponseError)
    assert len(set(keys(rig))) == 3


@both_drivers
def test_what_declares_nothing_or_is_idempotent_is_repeated_in_parts(driver: str) -> None:
    for idempotent in (None, ["c"]):
        strategy = RetryStrategy(exceptions={MissingResponseError}, codes={2001}, idempotent=idempotent, backoff=BACKOFF)
        rig = Rig(driver, answers(a=1, b={2001}, c=...), answers(b=2, c=3), retry_strategy=strategy, idempotency_key=True)
        assert rig.send(ABC).results == [1, 2, 3]
        assert methods(rig) == ["abc", "bc"]


@both_drivers
def test_the_budget_gets_back_what_was_paid_for_a_member_that_stays_behind(driver: str) -> None:
    budget = RetryBudget(10, refund=0.01)
    rig = Rig(driver, answers(a=1, b={2001}, c=...), answers(b=2), retry_strategy=GUARDED, idempotency_key=True, layers=budget)
    rig.send(ABC)
    assert 9 <= budget.level < 9.1


@both_drivers
def test_a_source_that_fails_for_a_part_loses_nothing_that_went_before(driver: str) -> None:
    """It ended the whole batch, the results of the others and the failure itself."""

    def source(request: Any) -> str:
        if len(request) < 3:
            raise LookupError("no key")
        return "k"

    layer, breaker = Recorder(), CircuitBreaker(failure_threshold=1)
    rig = Rig(driver, answers(a=1, b={2001}, c={2001}), retry_strategy=GUARDED, idempotency_key=source, layers=(layer, breaker), watched=True)
    a, b, c = rig.send(ABC)
    assert (a.result, b.attempts, c.attempts, rig.sent) == (1, 1, 1, 1)
    for response in (b, c):
        assert isinstance(response.error, LookupError)
        assert isinstance(response.error.__cause__, JsonRpcError)
    assert b.error is not c.error
    # It says nothing about the server.
    assert (layer.count("settle"), layer.count("abandon"), breaker.is_closed) == (1, 1, True)
    assert breaker._permits == {}
    assert rig.told[-1] == "CallFailed"


@given(st.integers(0, 10_000), st.booleans())
def test_one_key_is_one_body(seed: int, constant: bool) -> None:
    """Whatever becomes of the members: no key ever goes with two bodies and no body with two keys, so that nothing that the
    server may have executed reaches it under another key."""
    chance = random.Random(seed)
    names = "abcde"
    maybe: dict[str, str] = {}
    broken: list[str] = []

    def play(exchange: Exchange) -> Any:
        key = (exchange.headers or {})["Idempotency-Key"]
        broken.extend(request.method for request in exchange.requests if maybe.get(request.method, key) != key)
        if chance.random() < 0.5:
            maybe.update({request.method: key for request in exchange.requests})
            return ConnectionLostError("reset")
        members = {name: chance.choice([1, {2001}, {2001}, ...]) for name in names}
        for request in exchange.requests:
            # An answer under a key is the answer to all that went out under it.
            maybe.pop(request.method, None)
            if members[request.method] is ...:
                maybe[request.method] = key
        return answers(**members)(exchange)

    strategy = RetryStrategy(exceptions={ConnectionError, MissingResponseError}, codes={2001}, idempotent=[], backoff=PeriodicBackoff(6, 0.1))
    rig = Rig("sync", *[play] * 40, retry_strategy=strategy, idempotency_key=(lambda: "k") if constant else True)
    with contextlib.suppress(ConnectionLostError):
        rig.send(BatchRequest(*map(Request, names)))
    pairs = {(key, exchange.body) for key, exchange in zip(keys(rig), rig.backend.exchanges, strict=True)}
    assert broken == []
    assert len({key for key, _ in pairs}) == len({body for _, body in pairs}) == len(pairs)


# --- on the wire ---


def lines_of(request: Received) -> list[str]:
    return [f"{name}: {value}" for name, value in request.headers.items() if name.lower() == "idempotency-key"]


class Handler:
    """Breaks the connection of the first *losses* requests, and answers the others."""

    def __init__(self, losses: int) -> None:
        self.count = itertools.count()
        self.losses = losses

    def __call__(self, request: Received) -> Any:
        if next(self.count) < self.losses:
            return RESET
        document = request.json
        if isinstance(document, list):
            return Answer([{"jsonrpc": "2.0", "id": item["id"], "result": 1} for item in document])
        return Answer({"jsonrpc": "2.0", "id": document["id"], "result": 1}) if "id" in document else Answer(b"", 204)


QUICKLY = RetryStrategy(backoff=PeriodicBackoff(3, 0.001))
WIRE: dict[str, Callable[[Any, str], Any]] = {
    "call": lambda client, key: client.call("m", _idempotency_key=key),
    "notify": lambda client, key: client.notify("m", _idempotency_key=key),
    "batch": lambda client, key: client.send(BatchRequest(Request("a"), Request("b")), _idempotency_key=key),
}


@pytest.mark.parametrize("kind", ["requests", "aiohttp"])
@pytest.mark.parametrize("way", WIRE)
@pytest.mark.parametrize("key", ["order-7", '"8e03978e"', "a b,c;d=e", "".join(map(chr, range(33, 127)))])
def test_the_bytes_that_arrive(kind: str, way: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with LoopbackServer(Handler(2)) as server:
        if kind == "requests":
            with rpcretry.backends.requests.Client(server.url, retry_strategy=QUICKLY) as client:
                WIRE[way](client, key)
        else:

            async def main() -> None:
                async with rpcretry.backends.aiohttp.Client(server.url, retry_strategy=QUICKLY) as client:
                    await WIRE[way](client, key)

            asyncio.run(main())
        assert len(server.requests) == 3
        assert len({request.body for request in server.requests}) == 1
        for request in server.requests:
            assert lines_of(request) == [f"Idempotency-Key: {key}"]
