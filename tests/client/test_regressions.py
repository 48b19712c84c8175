"""What attacks on the finished client found; each test failed before its mend."""

from __future__ import annotations

import asyncio
import dataclasses
import email.message
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import Rig, both_drivers

from rpcretry import (
    AsyncClient,
    BatchRequest,
    Client,
    ClientClosedError,
    ConnectError,
    ConnectionLostError,
    DeadlineExceeded,
    Delivery,
    HTTPStatusError,
    JsonRpcError,
    MissingResponseError,
    Refused,
    Request,
    RetryStrategy,
)
from rpcretry.outcome import Attempt, Member, Outcome, Retry, Stop, Wait
from rpcretry.retry import ImmediateBackoff, Layer, PeriodicBackoff
from rpcretry.testing import AsyncScriptedBackend, ScriptedBackend, error, result
from rpcretry.transport import Exchange, Headers, Reply

EVERY = RetryStrategy(exceptions={Exception}, codes={2001}, backoff=PeriodicBackoff(3))


def answers(*items: dict[str, Any], status: int = 200) -> Reply:
    return Reply(json.dumps([{"jsonrpc": "2.0", **item} for item in items]).encode(), status)


# --- never another's result, never twice ---


def test_ids_that_repeat_are_refused_in_a_batch_and_not_shared() -> None:
    for batch in (BatchRequest(Request("a"), Request("b")), BatchRequest(Request("a", id=1), Request("b"))):
        backend = ScriptedBackend([result("A")])
        with pytest.raises(ValueError, match="ids gave 1 again"):
            Client(backend, ids=lambda: 1).send(batch)
        assert backend.exchanges == []


def test_ids_of_the_callers_own_are_stepped_over() -> None:
    backend = ScriptedBackend([result(0)])
    Client(backend).send(BatchRequest(Request("a", id=2), Request("b"), Request("c"), Request("d", id=1)))
    assert [request["id"] for request in backend.bodies[0]] == [2, 3, 4, 1]


async def never(request: Request) -> bool:
    return False


def generated(request: Request) -> Iterator[bool]:
    yield False


@pytest.mark.parametrize("predicate", [never, generated])
def test_a_predicate_that_would_be_true_for_its_coroutine_is_refused(predicate: Any) -> None:
    with pytest.raises(TypeError, match="idempotent must be a plain function"):
        RetryStrategy(idempotent=predicate)
    with pytest.raises(TypeError, match="when must be a plain function"):
        RetryStrategy(when=predicate)


@both_drivers
def test_a_predicate_that_answers_no_bool_repeats_nothing(driver: str) -> None:
    rig = Rig(driver, ConnectionLostError("x"), result(1), retry_strategy=RetryStrategy(idempotent=lambda request: "no"))  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match="idempotent must return True or False, got str 'no'") as caught:
        rig.call("pay")
    assert isinstance(caught.value.__cause__, ConnectionLostError)
    assert rig.sent == 1


@both_drivers
def test_an_attribute_called_delivery_proves_nothing(driver: str) -> None:
    class Foreign(ConnectionError):
        delivery = "not sent"

    rig = Rig(driver, Foreign(), result(1), retry_strategy=RetryStrategy())
    with pytest.raises(Foreign):
        rig.call("pay")
    assert rig.sent == 1


@both_drivers
def test_a_batchs_failure_tells_the_worst_of_its_members(driver: str) -> None:
    strategy = RetryStrategy(codes={2001}, exceptions={MissingResponseError, ConnectError}, backoff=PeriodicBackoff(3, interval=5))
    busy = {"id": 1, "error": {"code": 2001, "message": "busy"}}
    for order in (("a", "b"), ("b", "a")):
        requests = [Request(name, id=1 if name == "a" else 2) for name in order]
        rig = Rig(driver, answers(busy), retry_strategy=strategy, deadline=1)
        with pytest.raises(DeadlineExceeded) as late:
            rig.send(BatchRequest(*requests))
        assert late.value.delivery is Delivery.MAYBE_EXECUTED
        rig = Rig(driver, answers(busy), *[ConnectError("x")] * 3, retry_strategy=strategy)
        with pytest.raises(ConnectError) as refused:
            rig.send(BatchRequest(*requests))
        assert refused.value.delivery is Delivery.MAYBE_EXECUTED


@both_drivers
def test_an_errors_delivery_tells_of_all_tries(driver: str) -> None:
    strategy = RetryStrategy(idempotent=True, backoff=PeriodicBackoff(1))
    rig = Rig(driver, ConnectionLostError("x"), error(-32005, status=429), retry_strategy=strategy)
    with pytest.raises(JsonRpcError) as caught:
        rig.call("get")
    assert caught.value.delivery is Delivery.MAYBE_EXECUTED
    rig = Rig(driver, *[error(2001)] * 2, retry_strategy=RetryStrategy(codes={2001}, backoff=PeriodicBackoff(1)))
    with pytest.raises(JsonRpcError) as caught:
        rig.call("pay")
    assert caught.value.delivery is Delivery.REJECTED


@both_drivers
def test_a_notification_in_a_batch_that_http_refused_goes_again(driver: str) -> None:
    refused = Reply(b'{"jsonrpc":"2.0","id":null,"error":{"code":-32005,"message":"x"}}', 429)
    rig = Rig(driver, refused, result(1), retry_strategy=RetryStrategy(backoff=PeriodicBackoff(1)))
    assert rig.send(BatchRequest(Request("a"), Request("n", id=None))).results == [1]
    assert [[request["method"] for request in body] for body in rig.backend.bodies] == [["a", "n"], ["a", "n"]]


# --- time ---


def test_retries_without_delay_let_the_loop_go_on() -> None:
    class Dead:
        async def exchange(self, exchange: Exchange) -> Reply:
            raise ConnectError("x")

        async def aclose(self) -> None: ...

    async def main() -> float:
        client = AsyncClient(Dead(), retry_strategy=RetryStrategy(backoff=ImmediateBackoff(10_000_000)))
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.03):
                await client.call("m")
        return time.monotonic() - start

    assert asyncio.run(main()) < 2


def test_a_batch_full_of_foreign_ids_is_read_in_no_time() -> None:
    count = 4_000
    backend = ScriptedBackend([answers(*({"id": -1 - n, "result": n} for n in range(count)))])
    start = time.process_time()
    response = Client(backend).send(BatchRequest(*(Request("m") for _ in range(count))))
    assert time.process_time() - start < 1.5
    assert all(isinstance(one.error, MissingResponseError) for one in response)


# --- nothing lost, nothing obscure ---


@both_drivers
def test_a_bug_in_a_layer_is_raised_from_the_failure_before_it(driver: str) -> None:
    class Buggy(Layer):
        def admit(self, attempt: Attempt, now: float) -> Wait | None:
            if attempt.number == 2:
                raise ZeroDivisionError("bug")
            return None

    rig = Rig(driver, ConnectError("first"), retry_strategy=EVERY, layers=Buggy(), watched=True)
    with pytest.raises(ZeroDivisionError) as caught:
        rig.call("get")
    assert isinstance(caught.value.__cause__, ConnectError)
    assert type(rig.events[-1]).__name__ == "CallFailed"


@pytest.mark.parametrize(("given", "words"), [(True, "Wait until a time"), (Wait(float("nan")), "Wait until a time"), (Wait(float("inf")), "park")])
@both_drivers
def test_an_admit_that_returns_nonsense_is_named(driver: str, given: Any, words: str) -> None:
    class Odd(Layer):
        def admit(self, attempt: Attempt, now: float) -> Wait | None:
            answer: Wait | None = given
            return answer

    rig = Rig(driver, layers=Odd(), retry_strategy=EVERY)
    with pytest.raises((TypeError, RuntimeError), match=f"Odd.admit.*{words}"):
        rig.call("get")


@both_drivers
def test_a_judge_that_returns_nothing_is_named(driver: str) -> None:
    class Silent(Layer):
        def judge(self, attempt: Attempt, member: Member, outcome: Outcome, verdict: Retry, now: float) -> Retry | Stop:
            return None  # type: ignore[return-value]

    rig = Rig(driver, ConnectError("x"), layers=Silent(), retry_strategy=EVERY)
    with pytest.raises(TypeError, match=r"Silent.judge must return a Retry or a Stop, it returned None"):
        rig.call("get")


def test_a_layer_of_coroutines_is_refused() -> None:
    class Awaited(Layer):
        async def admit(self, attempt: Attempt, now: float) -> Wait | None:  # type: ignore[override]
            return None

    with pytest.raises(TypeError, match=r"Awaited.admit must be a plain function"):
        Client(ScriptedBackend(()), layers=Awaited())


@both_drivers
def test_a_layer_that_refuses_gives_back_what_it_took_itself(driver: str) -> None:
    class Counter(Layer):
        held = 0

        def admit(self, attempt: Attempt, now: float) -> Wait | None:
            if self.held >= 1 or attempt.number == 2:
                raise Refused("full")
            self.held += 1
            return None

        def settle(self, attempt: Attempt, outcomes: Any, now: float) -> None:
            self.held -= 1

        def abandon(self, attempt: Attempt, now: float) -> None:
            self.held -= 1

    layer = Counter()
    with pytest.raises(Refused):
        Rig(driver, ConnectError("x"), layers=layer, retry_strategy=EVERY).call("get")
    assert layer.held == 0
    with pytest.raises(DeadlineExceeded):
        Rig(driver, layers=layer, deadline=0).call("get")
    assert layer.held == 0


@both_drivers
def test_an_exception_that_takes_no_attributes_is_raised_as_it_is(driver: str) -> None:
    @dataclasses.dataclass(frozen=True)
    class Frozen(Exception):
        text: str

    rig = Rig(driver, *[Frozen("x")] * 4, retry_strategy=EVERY)
    with pytest.raises(Frozen):
        rig.call("get")
    assert rig.sent == 4


@pytest.mark.parametrize(("given", "words"), [(None, "NoneType"), (b"{}", "bytes"), (Reply("{}"), "bytes as body"), (Reply(b"{}", "200"), "int as status")])  # type: ignore[arg-type]
def test_a_backend_that_returns_something_else_is_named(given: Any, words: str) -> None:
    class Odd:
        def exchange(self, exchange: Exchange) -> Reply:
            reply: Reply = given
            return reply

        def close(self) -> None: ...

    with pytest.raises(TypeError, match=words):
        Client(Odd()).call("m")
    with pytest.raises(TypeError, match=words):
        Client(Odd()).send(BatchRequest(Request("m")))


def test_headers_of_the_standard_library_are_headers() -> None:
    message = email.message.Message()
    message["Retry-After"] = "7"
    with pytest.raises(HTTPStatusError) as caught:
        Client(ScriptedBackend([Reply(b"<html>", 503, message)])).call("m")  # type: ignore[arg-type]
    assert caught.value.headers == {"Retry-After": "7"}
    assert Headers(None) == {}  # type: ignore[arg-type]


def test_a_backend_without_close_is_refused_at_once() -> None:
    class Open:
        def exchange(self, exchange: Exchange) -> Reply:
            return Reply(b"")

    with pytest.raises(TypeError, match=r"Open must have a method close\(\)"):
        Client(Open())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding"])
def test_headers_that_frame_the_body_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is set by the HTTP library"):
        Client(ScriptedBackend(()), headers={name: "3"})


def test_a_codec_of_text_is_refused_before_anything_is_sent() -> None:
    class Text:
        def dumps(self, value: object) -> bytes:
            return json.dumps(value)  # type: ignore[return-value]

        def loads(self, body: bytes, charset: str | None) -> object:
            return json.loads(body)

    backend = ScriptedBackend([result(1)])
    with pytest.raises(TypeError, match=r"codec.dumps must return bytes, got str; write .encode\(\)"):
        Client(backend, codec=Text()).call("m", "é")
    with pytest.raises(TypeError, match=r"codec\.loads must be callable with 2 arguments"):
        Client(backend, codec=json)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="codec must be an instance"):
        Client(backend, codec=Text)  # type: ignore[arg-type]
    assert backend.exchanges == []


# --- closing ---


def test_a_call_that_backs_off_over_a_closed_client_sends_no_more() -> None:
    backend = ScriptedBackend([ConnectError("x"), result(1)])
    client = Client(backend, retry_strategy=EVERY, sleep=lambda seconds: client.close())
    with pytest.raises(ClientClosedError) as caught:
        client.call("m")
    assert caught.value.delivery is Delivery.NOT_SENT
    assert (len(backend.exchanges), backend.closed, client.backend) == (1, True, backend)


def test_a_call_begun_before_and_awaited_after_closing_sends_nothing() -> None:
    async def main() -> None:
        backend = AsyncScriptedBackend([result(1)])
        client = AsyncClient(backend, retry_strategy=EVERY)
        pending = client.call("m")
        await client.aclose()
        with pytest.raises(ClientClosedError):
            await pending
        assert backend.exchanges == []

    asyncio.run(main())


# --- words ---


def test_a_methods_name_cannot_add_lines_to_a_log(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig("sync", ConnectError("x"), result(1), retry_strategy=EVERY)
    with caplog.at_level("DEBUG", logger="rpcretry"):
        rig.call("a: ok\nERROR root: forged")
    assert caplog.records
    assert not any("\n" in record.getMessage() for record in caplog.records)


def test_a_strategy_that_judges_successes_does_so_whoever_watches() -> None:
    class Until(RetryStrategy):
        def __init__(self, wanted: str) -> None:
            super().__init__(backoff=PeriodicBackoff(3), idempotent=True)
            self.wanted = wanted

        def propose(self, member: Member, outcome: Outcome) -> Retry | Stop:
            return Stop("ok") if outcome.result == self.wanted else Retry(0.1, "not yet")

    for watched in (False, True):
        rig = Rig("sync", result("pending"), result("done"), retry_strategy=Until("done"), watched=watched)
        assert rig.call("state") == "done"
    with pytest.raises(AttributeError):
        del Until("x").wrap


# --- what is said of a mistake ---


def test_a_call_that_nobody_awaits_is_named_as_one() -> None:
    """Python warned of a coroutine 'drive', which no user has heard of."""
    client = AsyncClient(AsyncScriptedBackend(()))
    ways: list[tuple[Callable[[], object], str]] = [
        (lambda: client.call("m"), "rpcretry call"),
        (lambda: client.notify("m"), "rpcretry call"),
        (lambda: client.proxy.m(), "rpcretry call"),
        (lambda: client.send(Request("m")), "rpcretry call"),
        (lambda: client.send(BatchRequest(Request("m"))), "AsyncClient.send"),
    ]
    for forgotten, name in ways:
        with pytest.warns(RuntimeWarning, match=f"^coroutine '{name}' was never awaited"):
            forgotten()
