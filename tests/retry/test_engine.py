"""The engine: what a call does after each attempt. Every row runs on the sync and the async driver, in virtual time."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Recorder, Rig, Slow, both_drivers, fresh

from rpcretry import (
    BatchRequest,
    ConnectError,
    ConnectionLostError,
    DeadlineExceeded,
    Delivery,
    HTTPStatusError,
    IdentityError,
    JsonRpcError,
    MethodNotFoundError,
    MissingResponseError,
    ProtocolError,
    Refused,
    Request,
    RequestTimeoutError,
    RetryExhaustedError,
    RetryStrategy,
)
from rpcretry.outcome import Retry, Stop
from rpcretry.retry import ExponentialBackoff, PeriodicBackoff
from rpcretry.testing import error, http, result
from rpcretry.transport import Exchange, Reply

lost = fresh(ConnectionLostError("reset"))
unconnected = fresh(ConnectError("refused"))
slow_answer = fresh(RequestTimeoutError("slow"))


def every(attempts: int = 3, interval: float = 0.5, **kinds: Any) -> RetryStrategy:
    return RetryStrategy(backoff=PeriodicBackoff(attempts, interval), **kinds)


TRANSIENT = every()
NAMED = every(exceptions={ConnectionError, TimeoutError})
CODES = every(codes={2001})


@dataclasses.dataclass(frozen=True)
class Row:
    """A behaviour: what the server does, and what the caller and the server see of it."""

    name: str
    script: tuple[Any, ...]
    strategy: RetryStrategy | None = None
    gives: Any = None
    raises: type[Exception] | None = None
    says: str = ""
    notes: tuple[str, ...] = ()
    cause: type[Exception] | None = None
    waits: tuple[float, ...] = ()
    sent: int = 1
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    notify: bool = False


def gave_up(tries: int, seconds: str, reason: str = "attempts") -> tuple[str, ...]:
    return (f"rpcretry: gave up after {tries} attempt{'s' if tries > 1 else ''} in {seconds} s ({reason})",)


GUARD = "may have been executed, and is not declared idempotent"
UNTOLD = "a notification that may have been executed"

ROWS = [
    # --- no strategy ---
    Row("a client without a strategy retries nothing", (unconnected,), None, raises=ConnectError),
    Row("a first attempt that succeeds is all there is", (result(5),), TRANSIENT, gives=5),
    # --- the preset ---
    Row("transient: what was not sent goes again for any method", (unconnected, result(5)), TRANSIENT, gives=5, waits=(0.5,), sent=2),
    Row("transient: what may have been executed does not go again", (lost,), TRANSIENT, raises=ConnectionLostError, notes=gave_up(1, "0.00", GUARD)),
    Row("transient: a timeout does not go again", (slow_answer,), TRANSIENT, raises=RequestTimeoutError, notes=gave_up(1, "0.00", GUARD)),
    Row("transient: a 502 does not go again", (http(502),), TRANSIENT, raises=HTTPStatusError, notes=gave_up(1, "0.00", GUARD)),
    Row("transient: a 503 without Retry-After does not go again", (http(503),), TRANSIENT, raises=HTTPStatusError, notes=gave_up(1, "0.00", GUARD)),
    Row("transient: a 503 with Retry-After was rejected", (http(503, headers={"Retry-After": "0"}), result(5)), TRANSIENT, gives=5, waits=(0.5,), sent=2),
    Row("transient: a 429 was rejected", (http(429), result(5)), TRANSIENT, gives=5, waits=(0.5,), sent=2),
    Row("transient: a code of the preset was rejected", (error(-32005), error(429), result(5)), TRANSIENT, gives=5, waits=(0.5, 0.5), sent=3),
    Row("transient: a 429 around a JSON-RPC error was rejected", (error(-32000, status=429), result(5)), TRANSIENT, gives=5, waits=(0.5,), sent=2),
    Row(
        "transient: a 503 with Retry-After around a JSON-RPC error was rejected",
        (error(-32000, status=503, headers={"Retry-After": "0"}), result(5)),
        TRANSIENT,
        gives=5,
        waits=(0.5,),
        sent=2,
    ),
    Row(
        "transient: a 503 without Retry-After around one was not", (error(-32000, status=503),), TRANSIENT, raises=JsonRpcError, notes=gave_up(1, "0.00", GUARD)
    ),
    Row("transient: an idempotent method goes again", (lost, slow_answer, result(5)), every(idempotent={"get"}), gives=5, waits=(0.5, 0.5), sent=3),
    Row("transient: a method that is not declared does not", (lost,), every(idempotent={"put"}), raises=ConnectionLostError, notes=gave_up(1, "0.00", GUARD)),
    Row("transient: a 500 is an answer", (http(500),), every(idempotent=True), raises=HTTPStatusError),
    Row("transient: a wrong id is never tried again", (Reply(b'{"jsonrpc":"2.0","id":99,"result":1}'),), every(idempotent=True), raises=IdentityError),
    Row("transient: HTML is never tried again", (Reply(b"<html>"),), every(idempotent=True), raises=ProtocolError),
    # --- naming what to retry ---
    Row("named exceptions go again for every method", (lost, slow_answer, result(5)), NAMED, gives=5, waits=(0.5, 0.5), sent=3),
    Row(
        "named exceptions with idempotent= go again for these only",
        (lost,),
        every(exceptions={ConnectionError}, idempotent={"put"}),
        raises=ConnectionLostError,
        notes=gave_up(1, "0.00", GUARD),
    ),
    Row(
        "named exceptions with idempotent=False: what was not sent still goes",
        (unconnected, result(5)),
        every(exceptions={ConnectionError}, idempotent=False),
        gives=5,
        waits=(0.5,),
        sent=2,
    ),
    Row("named codes go again for every method", (error(2001), result(5)), CODES, gives=5, waits=(0.5,), sent=2),
    Row(
        "named codes go again even where idempotent= excludes the method",
        (error(2001), result(5)),
        every(codes={2001}, idempotent={"put"}),
        gives=5,
        waits=(0.5,),
        sent=2,
    ),
    Row("named codes match within HTTP 500", (error(2001, status=500), result(5)), CODES, gives=5, waits=(0.5,), sent=2),
    Row("another code is raised at once, without a note", (error(2002, "no"),), CODES, raises=JsonRpcError, says="no [2002]"),
    Row("an error that follows retries but matches nothing", (error(2001), error(-32601)), CODES, raises=MethodNotFoundError, waits=(0.5,), sent=2),
    Row("named statuses", (http(500), result(5)), every(statuses={500}), gives=5, waits=(0.5,), sent=2),
    Row("fatal wins", (error(2001),), every(codes=range(2000, 3000), fatal={2001}), raises=JsonRpcError),
    # --- when ---
    Row(
        "when: a success that is not yet one",
        (result("pending"), result("pending"), result("done")),
        every(when=lambda o, n: o.result == "pending"),
        gives="done",
        waits=(0.5, 0.5),
        sent=3,
    ),
    Row(
        "when: a success that never becomes one is returned",
        (result("pending"),) * 3,
        every(2, when=lambda o, n: o.result == "pending"),
        gives="pending",
        waits=(0.5, 0.5),
        sent=3,
    ),
    Row("when: seconds of its own", (result(1), result(2), result(3)), every(when=lambda o, n: n * 2.0 if n < 3 else None), gives=3, waits=(2.0, 4.0), sent=3),
    Row(
        "when: a broken one is raised from the failure that it hid",
        (lost,),
        every(when=lambda o, n: 1 / 0),
        raises=ZeroDivisionError,
        cause=ConnectionLostError,
        notes=gave_up(1, "0.00", "error in the strategy"),
    ),
    Row(
        "when: a broken one after a success is raised",
        (result(5),),
        every(when=lambda o, n: 1 / 0),
        raises=ZeroDivisionError,
        notes=gave_up(1, "0.00", "error in the strategy"),
    ),
    # --- give-up ---
    Row(
        "attempts run out: the last exception goes through with one note",
        (lost,) * 4,
        NAMED,
        raises=ConnectionLostError,
        says="reset",
        notes=gave_up(4, "1.50"),
        waits=(0.5, 0.5, 0.5),
        sent=4,
    ),
    Row(
        "attempts run out: the last of several kinds",
        (lost, slow_answer, unconnected),
        every(2, exceptions={OSError}),
        raises=ConnectError,
        notes=gave_up(3, "1.00"),
        waits=(0.5, 0.5),
        sent=3,
    ),
    Row(
        "attempts run out: a code is raised by call",
        (error(2001, "busy"),) * 4,
        CODES,
        raises=JsonRpcError,
        says="busy [2001]",
        notes=gave_up(4, "1.50"),
        waits=(0.5, 0.5, 0.5),
        sent=4,
    ),
    Row("no attempts at all", (lost,), every(0, exceptions={OSError}), raises=ConnectionLostError, notes=gave_up(1, "0.00")),
    Row(
        "wrap: RetryExhaustedError from the last failure",
        (lost,) * 3,
        every(2, exceptions={OSError}, wrap=True),
        raises=RetryExhaustedError,
        says="get: gave up after 3 attempts in 1.00 s: ConnectionLostError('reset')",
        cause=ConnectionLostError,
        waits=(0.5, 0.5),
        sent=3,
    ),
    Row("wrap: an error that is not retried is not wrapped", (error(1),), every(codes={2001}, wrap=True), raises=JsonRpcError),
    Row("wrap: what the idempotency guard stops is not wrapped", (lost,), every(wrap=True), raises=ConnectionLostError, notes=gave_up(1, "0.00", GUARD)),
    # --- the deadline ---
    Row(
        "deadline: a wait that would pass it is not begun",
        (lost, lost),
        NAMED,
        raises=DeadlineExceeded,
        cause=ConnectionLostError,
        says="get: the deadline of 0.75 s ended the call after 2 attempts in 0.50 s",
        waits=(0.5,),
        sent=2,
        options={"deadline": 0.75},
    ),
    Row("deadline: a wait that ends exactly at it is not begun", (lost,), NAMED, raises=DeadlineExceeded, cause=ConnectionLostError, options={"deadline": 0.5}),
    Row("deadline: it cuts an attempt", (Slow(9, result(1)),), NAMED, raises=DeadlineExceeded, cause=RequestTimeoutError, options={"deadline": 0.75}),
    Row(
        "deadline: it cuts an attempt of a client without a strategy",
        (Slow(9, result(1)),),
        None,
        raises=DeadlineExceeded,
        cause=RequestTimeoutError,
        options={"deadline": 0.75},
    ),
    Row(
        "deadline: it cuts a later attempt",
        (lost, Slow(9, result(1))),
        NAMED,
        raises=DeadlineExceeded,
        cause=RequestTimeoutError,
        waits=(0.5,),
        sent=2,
        options={"deadline": 0.75},
    ),
    Row("deadline: of nothing stops before the backend", (), NAMED, raises=DeadlineExceeded, sent=0, options={"deadline": 0}),
    Row("deadline: below nothing stops before the backend", (), None, raises=DeadlineExceeded, sent=0, options={"deadline": -1.5}),
    Row("deadline: an answer that comes late is an answer", (Slow(0.5, result(5)),), NAMED, gives=5, options={"deadline": 0.5}),
    Row("deadline: a failure that is not retried stays what it is", (Slow(0.7, error(1)),), NAMED, raises=JsonRpcError, options={"deadline": 0.7}),
    Row(
        "deadline: not even exceptions={Exception} retries it",
        (Slow(9, result(1)),),
        every(exceptions={Exception}),
        raises=DeadlineExceeded,
        cause=RequestTimeoutError,
        options={"deadline": 1},
    ),
    Row(
        "deadline: not even when retries it",
        (Slow(9, result(1)),),
        every(when=lambda o, n: True),
        raises=DeadlineExceeded,
        cause=RequestTimeoutError,
        options={"deadline": 1},
    ),
    Row(
        "deadline: it is not wrapped",
        (lost,),
        every(exceptions={OSError}, wrap=True),
        raises=DeadlineExceeded,
        cause=ConnectionLostError,
        options={"deadline": 0.25},
    ),
    Row(
        "timeout: an attempt that takes too long is tried again",
        (Slow(9, result(1)), result(5)),
        NAMED,
        gives=5,
        waits=(0.5,),
        sent=2,
        options={"timeout": 2.0},
    ),
    Row(
        "timeout: the preset takes it for maybe executed",
        (Slow(9, result(1)),),
        TRANSIENT,
        raises=RequestTimeoutError,
        notes=gave_up(1, "2.00", GUARD),
        options={"timeout": 2.0},
    ),
    Row(
        "timeout: the last one is a timeout and no deadline",
        (Slow(9, result(1)),) * 4,
        NAMED,
        raises=RequestTimeoutError,
        notes=gave_up(4, "9.50"),
        waits=(0.5,) * 3,
        sent=4,
        options={"timeout": 2.0},
    ),
    # --- Retry-After ---
    Row("Retry-After lengthens the delay", (http(429, headers={"Retry-After": "7"}), result(5)), TRANSIENT, gives=5, waits=(7.0,), sent=2),
    Row("Retry-After never shortens it", (http(429, headers={"Retry-After": "0.1"}), result(5)), TRANSIENT, gives=5, waits=(0.5,), sent=2),
    Row("Retry-After is capped", (http(429, headers={"Retry-After": "3600"}), result(5)), TRANSIENT, gives=5, waits=(60.0,), sent=2),
    Row(
        "Retry-After that passes the deadline stops",
        (http(429, headers={"Retry-After": "7"}),),
        TRANSIENT,
        raises=DeadlineExceeded,
        cause=HTTPStatusError,
        options={"deadline": 5},
    ),
    Row(
        "Retry-After allows no more attempts",
        (http(429, headers={"Retry-After": "7"}),) * 2,
        every(1),
        raises=HTTPStatusError,
        notes=gave_up(2, "7.00"),
        waits=(7.0,),
        sent=2,
    ),
    Row("a hint in error.data", (error(429, data={"retry_after": 4}), result(5)), TRANSIENT, gives=5, waits=(4.0,), sent=2),
    # --- refusals that a backend passes on ---
    Row("a refusal is never retried", (fresh(Refused("full")),), every(exceptions={Exception}), raises=Refused),
    # --- what a backend lets through ---
    Row("an exception of a library goes through as it is", (fresh(requests.ReadTimeout("x")),), TRANSIENT, raises=requests.ReadTimeout),
    Row(
        "an exception of a library is named",
        (fresh(requests.ConnectionError("x")), result(5)),
        every(exceptions={requests.ConnectionError}),
        gives=5,
        waits=(0.5,),
        sent=2,
    ),
    Row(
        "an exception of a library counts as maybe executed",
        (fresh(requests.ConnectionError("x")),),
        every(exceptions={OSError}, idempotent={"put"}),
        raises=requests.ConnectionError,
        notes=gave_up(1, "0.00", GUARD),
    ),
    # --- notifications ---
    Row(
        "notification: an error is no reason to send it again", (Reply(b'{"jsonrpc":"2.0","id":null,"error":{"code":2001,"message":"x"}}'),), CODES, notify=True
    ),
    Row("notification: an answer of nonsense is fine", (Reply(b"<html>"),), TRANSIENT, notify=True),
    Row("notification: one that was not sent goes again", (unconnected, Reply(b"")), TRANSIENT, waits=(0.5,), sent=2, notify=True),
    Row("notification: one that was rejected goes again", (http(429), Reply(b"", 204)), TRANSIENT, waits=(0.5,), sent=2, notify=True),
    Row("notification: one that may have been executed never does", (lost,), NAMED, raises=ConnectionLostError, notes=gave_up(1, "0.00", UNTOLD), notify=True),
    Row(
        "notification: not even of an idempotent method",
        (lost,),
        every(idempotent=True),
        raises=ConnectionLostError,
        notes=gave_up(1, "0.00", UNTOLD),
        notify=True,
    ),
    Row("notification: not even a named status", (http(500),), every(statuses={500}), raises=HTTPStatusError, notes=gave_up(1, "0.00", UNTOLD), notify=True),
    Row("notification: no when makes it go again", (Reply(b""),), every(when=lambda o, n: True), notify=True),
]


@both_drivers
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_engine(row: Row, driver: str) -> None:
    rig = Rig(driver, *row.script, retry_strategy=row.strategy, **row.options)
    act = rig.notify if row.notify else rig.call
    if row.raises is None:
        assert act("get", 1) == row.gives
    else:
        with pytest.raises(row.raises) as caught:
            act("get", 1)
        failure = caught.value
        assert type(failure) is row.raises or (row.raises is JsonRpcError and isinstance(failure, JsonRpcError))
        assert row.says in str(failure)
        assert tuple(getattr(failure, "__notes__", ())) == row.notes
        assert type(failure.__cause__) is (row.cause or type(None))
    assert rig.waits == list(row.waits)
    assert rig.sent == row.sent
    assert len({exchange.body for exchange in rig.backend.exchanges}) <= 1, "a retry sends the same bytes, its id included"


def test_every_row_has_a_name_of_its_own() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


# --- messages and ids ---


@both_drivers
def test_a_retry_resends_the_same_id_and_the_next_call_gets_the_next(driver: str) -> None:
    rig = Rig(driver, error(2001), error(2001), result(1), result(2), retry_strategy=CODES)
    rig.call("a")
    rig.call("b")
    assert [body["id"] for body in rig.backend.bodies] == [1, 1, 1, 2]


@both_drivers
def test_trap_every_call_has_id_1(driver: str) -> None:
    """As pjrpc's proxies do."""
    rig = Rig(driver, result(1), result(2), result(3))
    for method in ("a", "b", "c"):
        rig.call(method)
    assert [body["id"] for body in rig.backend.bodies] == [1, 2, 3]


@both_drivers
def test_each_request_has_its_own_delays(driver: str) -> None:
    """One strategy, two calls: the second begins with the first delay."""
    rig = Rig(
        driver, *[error(2001)] * 3, result(1), *[error(2001)] * 2, result(2), retry_strategy=RetryStrategy(codes={2001}, backoff=ExponentialBackoff(3, 1, 2))
    )
    rig.call("a")
    rig.call("b")
    assert rig.waits == [1, 2, 4, 1, 2]


# --- errors ---


@both_drivers
def test_errors_a_retried_code_that_runs_out_is_returned_by_send(driver: str) -> None:
    rig = Rig(driver, *[error(2001, "busy", status=500)] * 3, retry_strategy=every(2, codes={2001}))
    response = rig.send(Request("get", id="x"))
    assert (response.id, response.is_error, response.error.code, response.status, response.attempts) == ("x", True, 2001, 500, 3)
    with pytest.raises(JsonRpcError, match="busy"):
        response.result


@both_drivers
def test_errors_a_retried_code_that_runs_out_is_raised_by_proxy(driver: str) -> None:
    rig = Rig(driver, *[error(2001, "busy")] * 3, retry_strategy=every(2, codes={2001}))
    with pytest.raises(JsonRpcError) as caught:
        rig.run(lambda client: client.proxy.get())
    assert caught.value.__notes__ == list(gave_up(3, "1.00"))


@both_drivers
def test_send_says_how_many_attempts_a_success_took(driver: str) -> None:
    rig = Rig(driver, error(2001), error(2001), result(5), result(6), retry_strategy=CODES)
    assert [rig.send(Request("get")).attempts for _ in range(2)] == [3, 1]


@both_drivers
def test_errors_wrap_carries_tries_elapsed_and_the_last_exception(driver: str) -> None:
    rig = Rig(driver, lost, slow_answer, retry_strategy=every(1, 2.5, exceptions={OSError}, wrap=True))
    with pytest.raises(RetryExhaustedError) as caught:
        rig.call("get")
    failure = caught.value
    assert (failure.attempts, failure.elapsed) == (2, 2.5)
    assert isinstance(failure.last_exception, RequestTimeoutError)
    assert failure.__cause__ is failure.last_exception
    assert failure.delivery is Delivery.MAYBE_EXECUTED


@both_drivers
def test_errors_wrap_a_retried_code_that_runs_out(driver: str) -> None:
    rig = Rig(driver, *[error(2001)] * 4, retry_strategy=every(1, codes={2001}, wrap=True))
    for act in (lambda: rig.call("get"), lambda: rig.send(Request("get"))):
        with pytest.raises(RetryExhaustedError) as caught:
            act()
        assert isinstance(caught.value.last_exception, JsonRpcError)
        assert caught.value.last_exception.code == 2001


@both_drivers
def test_errors_the_note_is_replaced_and_never_stacked(driver: str) -> None:
    """A backend that raises one instance again, or an outer retry around the call, adds no second note."""
    failure = ConnectionLostError("reset")
    failure.add_note("mine")
    rig = Rig(driver, *[failure] * 5, retry_strategy=every(1, exceptions={OSError}))
    for _ in range(2):
        with pytest.raises(ConnectionLostError):
            rig.call("get")
    assert failure.__notes__ == ["mine", *gave_up(2, "0.50")]


@both_drivers
def test_errors_the_last_exception_keeps_its_traceback_and_the_librarys_cause(driver: str) -> None:
    def break_(exchange: Exchange) -> Reply:
        try:
            raise requests.ConnectionError("reset by peer")
        except requests.ConnectionError as problem:
            raise ConnectionLostError("reset") from problem

    rig = Rig(driver, break_, break_, retry_strategy=every(1, exceptions={requests.ConnectionError}))
    with pytest.raises(ConnectionLostError) as caught:
        rig.call("get")
    assert isinstance(caught.value.__cause__, requests.ConnectionError)
    assert any(entry.name == "break_" for entry in caught.traceback)
    assert rig.sent == 2


@both_drivers
def test_errors_deadline_exceeded_says_how_long_and_how_often(driver: str) -> None:
    rig = Rig(driver, Slow(0.25, lost), Slow(9, lost), retry_strategy=NAMED, deadline=2)
    with pytest.raises(DeadlineExceeded) as caught:
        rig.call("get")
    failure = caught.value
    assert (failure.deadline, round(failure.elapsed, 6), failure.attempts) == (2, 2.0, 2)
    assert isinstance(failure, TimeoutError)
    assert failure.delivery is Delivery.MAYBE_EXECUTED


@both_drivers
def test_errors_deadline_before_the_first_attempt_was_not_sent(driver: str) -> None:
    rig = Rig(driver, deadline=-1)
    with pytest.raises(DeadlineExceeded) as caught:
        rig.call("get")
    assert (caught.value.attempts, caught.value.delivery, caught.value.__cause__) == (0, Delivery.NOT_SENT, None)


@both_drivers
def test_errors_one_instance_is_never_raised_to_two_callers(driver: str) -> None:
    rig = Rig(driver, *[error(7)] * 2, error(7))
    response = rig.send(Request("get"))
    raised = []
    for act in (lambda: response.result, lambda: response.result, lambda: rig.call("get"), lambda: rig.call("get")):
        with pytest.raises(JsonRpcError) as caught:
            act()
        raised.append(caught.value)
    assert len(set(map(id, raised))) == 4


NOT_SENT, REJECTED, MAYBE = Delivery.NOT_SENT, Delivery.REJECTED, Delivery.MAYBE_EXECUTED
rejected = http(429)


@both_drivers
@pytest.mark.parametrize(
    ("script", "options", "delivery"),
    [
        ([unconnected] * 3, {}, NOT_SENT),
        ([lost, unconnected, unconnected], {}, MAYBE),
        ([unconnected, rejected, unconnected], {}, REJECTED),
        ([error(2001), unconnected, unconnected], {}, REJECTED),
        ([rejected, rejected, unconnected], {"deadline": 0.75}, REJECTED),
        ([unconnected] * 2, {"deadline": 0.75}, NOT_SENT),
        ([lost, unconnected], {"deadline": 0.75}, MAYBE),
        ([], {"layers": Recorder(waits=[Refused("full"), Refused("full")])}, NOT_SENT),
        ([fresh(Refused("full"))], {}, NOT_SENT),
        ([unconnected, fresh(Refused("full"))], {}, NOT_SENT),
        ([lost, fresh(Refused("full"))], {}, MAYBE),
        ([error(-32000, status=429), unconnected, unconnected], {"retry_strategy": every(2)}, REJECTED),
        ([lost, unconnected], {"retry_strategy": every(1, exceptions={OSError}, wrap=True)}, MAYBE),
        ([unconnected, unconnected], {"retry_strategy": every(1, exceptions={OSError}, wrap=True)}, NOT_SENT),
    ],
)
def test_errors_delivery_tells_of_all_tries_and_not_only_of_the_last(driver: str, script: list[Any], options: dict[str, Any], delivery: Delivery) -> None:
    """A caller who reads NOT_SENT sends again; were it the last try's alone, the server might act twice."""
    rig = Rig(
        driver, *script, **{"retry_strategy": RetryStrategy(exceptions={OSError}, statuses={429}, codes={2001}, backoff=PeriodicBackoff(2, 0.5)), **options}
    )
    with pytest.raises((ConnectionError, DeadlineExceeded, Refused, RetryExhaustedError)) as caught:
        rig.call("get")
    assert caught.value.delivery is delivery


@both_drivers
def test_errors_a_refusal_after_a_failure_tells_of_the_failure(driver: str) -> None:
    rig = Rig(driver, lost, layers=Recorder(waits=[None, Refused("open")]), retry_strategy=NAMED)
    with pytest.raises(Refused) as caught:
        rig.call("get")
    assert caught.value.delivery is MAYBE


# --- limits ---


@both_drivers
def test_the_engine_an_attempts_limit_is_the_smaller_of_its_own_and_what_is_left(driver: str) -> None:
    rig = Rig(driver, *[Slow(9, result(1))] * 3, retry_strategy=every(5, 1.0, exceptions={TimeoutError}), timeout=2.0, deadline=7.0)
    with pytest.raises(DeadlineExceeded):
        rig.call("get")
    # 2 s, 1 s of delay, 2 s, 1 s of delay, and the 1 s that is left.
    assert [exchange.ends_by - 1_000 for exchange in rig.backend.exchanges] == [2, 5, 7]
    assert rig.time.now == 1_007


@both_drivers
def test_no_limit_is_infinity(driver: str) -> None:
    rig = Rig(driver, result(1), result(2), result(3), timeout=None)
    rig.call("get")
    rig.call("get", _timeout=3)
    rig.call("get", _deadline=float("inf"))
    assert [exchange.ends_by - 1_000 for exchange in rig.backend.exchanges] == [float("inf"), 3, float("inf")]


@given(
    deadline=st.floats(0.01, 50),
    timeout=st.one_of(st.none(), st.floats(0.01, 20)),
    # Shorter ones are nothing in what the virtual clock writes down.
    delays=st.lists(st.just(0.0) | st.floats(1e-6, 30), max_size=6),
    durations=st.lists(st.floats(0, 30), min_size=7, max_size=7),
    hint=st.one_of(st.none(), st.floats(0, 100)),
)
@settings(max_examples=150, deadline=None)
def test_the_engine_no_wait_ever_goes_past_the_deadline(
    deadline: float, timeout: float | None, delays: list[float], durations: list[float], hint: float | None
) -> None:
    """stamina, tenacity and urllib3 sleep past their limit."""
    headers = {} if hint is None else {"retry-after": f"{hint:.3f}"}
    script = [Slow(duration, error(7, headers=headers)) for duration in durations]
    strategy = RetryStrategy(codes={7}, exceptions={TimeoutError}, backoff=lambda: iter(delays))
    rig = Rig("sync", *script, retry_strategy=strategy, deadline=deadline, timeout=timeout)
    with pytest.raises((JsonRpcError, TimeoutError)):
        rig.call("get")
    assert rig.time.now <= 1_000 + deadline + 1e-6
    assert all(exchange.ends_by <= 1_000 + deadline for exchange in rig.backend.exchanges)
    assert all(delay > 0 for delay in rig.time.delays)


@both_drivers
@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_the_engine_looks_once_more_after_the_last_judge(driver: str, spread: float) -> None:
    layer = Recorder(judgement=lambda verdict: Retry(verdict.delay + spread, "longer"))
    rig = Rig(driver, lost, result(5), retry_strategy=NAMED, layers=layer, deadline=0.75)
    if spread:
        with pytest.raises(DeadlineExceeded):
            rig.call("get")
        assert layer.verdicts == [[Stop("deadline")]]
    else:
        assert rig.call("get") == 5
    assert rig.waits == ([] if spread else [0.5])


# --- what is broken in a strategy ---


def exploding() -> Iterator[float]:
    raise LookupError("no delay")


@both_drivers
@pytest.mark.parametrize(
    ("backoff", "kind"),
    [(exploding, LookupError), (lambda: 5, TypeError), (lambda: iter([float("nan")]), ValueError), (lambda: iter(["1"]), TypeError)],
    ids=["raises", "no iterator", "NaN", "str"],
)
def test_a_broken_backoff_is_raised_from_the_failure_that_it_hid(driver: str, backoff: Any, kind: type[Exception]) -> None:
    rig = Rig(driver, lost, result(5), retry_strategy=RetryStrategy(exceptions={OSError}, backoff=backoff))
    with pytest.raises(kind) as caught:
        rig.call("get")
    assert isinstance(caught.value.__cause__, ConnectionLostError)
    assert rig.call("get") == 5


@both_drivers
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_the_engine_what_is_no_exception_is_never_retried(driver: str, kind: type[BaseException]) -> None:
    layer = Recorder()

    def interrupt(exchange: Exchange) -> Reply:
        raise kind

    rig = Rig(
        driver, interrupt, result(5), retry_strategy=every(exceptions={Exception}, when=lambda o, n: True if not o.ok else None), layers=layer, watched=True
    )
    with pytest.raises(kind):
        rig.call("get")
    assert (rig.sent, rig.waits) == (1, [])
    assert layer.log == ["layer.admit", "layer.abandon"]
    assert rig.told == ["AttemptStarted"]
    assert rig.call("get") == 5


# --- batches ---


def answers(*items: Any, status: int = 200, headers: Any = None) -> Any:
    """An item that answers a batch: a dict of each request's method to a result, a code, or nothing."""

    def play(exchange: Exchange) -> Reply:
        import json

        table = items[0]
        found = []
        for request in exchange.requests:
            if request.id is None or request.method not in table:
                continue
            answer = table[request.method]
            found.append(
                {
                    "jsonrpc": "2.0",
                    "id": request.id,
                    **({"error": {"code": answer.code, "message": "x", "data": answer.data}} if isinstance(answer, Fail) else {"result": answer}),
                }
            )
        return Reply(json.dumps(list(reversed(found))).encode() if found else b"", status, headers or {})

    return play


@dataclasses.dataclass(frozen=True)
class Fail:
    code: int
    data: Any = None


def batch(*methods: str) -> BatchRequest:
    return BatchRequest(*[Request(method, id=None if method.startswith("tell") else method.upper()) for method in methods])


def methods(rig: Rig) -> list[list[str]]:
    return [[item["method"] for item in body] for body in rig.backend.bodies]


@both_drivers
def test_batch_members_with_a_retryable_code_go_again_alone_and_answers_keep_the_order(driver: str) -> None:
    """In pjrpc a batch item's code is never seen, and a retry sends the whole batch."""
    rig = Rig(
        driver,
        answers({"a": 1, "b": Fail(2001), "c": 3, "d": Fail(2001), "e": Fail(-32601)}),
        answers({"b": Fail(2001), "d": 4}),
        answers({"b": 2}),
        retry_strategy=CODES,
    )
    response = rig.send(batch("a", "b", "c", "d", "e"))
    assert methods(rig) == [["a", "b", "c", "d", "e"], ["b", "d"], ["b"]]
    assert [[item["id"] for item in body] for body in rig.backend.bodies] == [["A", "B", "C", "D", "E"], ["B", "D"], ["B"]]
    assert [answer.id for answer in response] == ["A", "B", "C", "D", "E"]
    assert [answer.result for answer in response if answer.is_success] == [1, 2, 3, 4]
    assert [answer.attempts for answer in response] == [1, 3, 1, 2, 1]
    assert response.by_id("E").error.code == -32601
    assert rig.waits == [0.5, 0.5]


@both_drivers
def test_batch_each_member_has_its_own_tries(driver: str) -> None:
    """A member that fails first in the second exchange still has all its retries."""
    fail = Fail(2001)
    rig = Rig(
        driver,
        answers({"a": fail, "b": Fail(2001, {"retry_after": 10})}),
        answers({"a": fail}),
        answers({"a": fail}),
        answers({"b": fail}),
        answers({"b": 2}),
        retry_strategy=every(2, codes={2001}),
    )
    response = rig.send(batch("a", "b"))
    assert methods(rig) == [["a", "b"], ["a"], ["a"], ["b"], ["b"]]
    assert [answer.attempts for answer in response] == [3, 3]
    assert response[0].error.code == 2001
    assert response[0].error.__notes__ == list(gave_up(3, "1.00")) or "gave up after 3 attempts" in response[0].error.__notes__[0]
    assert response[1].result == 2
    assert rig.waits == [0.5, 0.5, 9.0, 0.5]


@both_drivers
def test_batch_each_member_has_its_own_delays_and_they_travel_after_the_longest(driver: str) -> None:
    made: list[list[float]] = [[1.0], [4.0], [2.0]]
    rig = Rig(
        driver,
        answers({"a": Fail(2001), "b": Fail(2001), "c": Fail(2001)}),
        result(0),
        retry_strategy=RetryStrategy(codes={2001}, backoff=lambda: iter(made.pop(0))),
    )
    rig.send(batch("a", "b", "c"))
    assert made == []
    assert rig.waits == [4.0]
    assert methods(rig)[1:] == [["a", "b", "c"]]


@both_drivers
def test_batch_a_member_held_by_a_hint_waits_alone(driver: str) -> None:
    rig = Rig(
        driver,
        answers({"a": Fail(2001), "b": Fail(2001, {"retry_after": 7}), "c": Fail(2001), "d": Fail(2001, {"retry_after": 3})}),
        result("soon"),
        result("later"),
        result("last"),
        retry_strategy=CODES,
    )
    response = rig.send(batch("a", "b", "c", "d"))
    assert methods(rig)[1:] == [["a", "c"], ["d"], ["b"]]
    assert rig.waits == [0.5, 2.5, 4.0]
    assert response.results == ["soon", "last", "soon", "later"]


@both_drivers
def test_batch_held_members_that_are_due_together_travel_together_in_order(driver: str) -> None:
    rig = Rig(driver, http(429, headers={"Retry-After": "7"}), result(1), retry_strategy=TRANSIENT)
    assert rig.send(batch("a", "b")).results == [1, 1]
    assert methods(rig) == [["a", "b"], ["a", "b"]]
    assert rig.waits == [7.0]


@both_drivers
def test_batch_members_of_different_waits_that_fall_together_go_in_the_order_of_the_requests(driver: str) -> None:
    made: list[list[float]] = [[5.0, 5.0], [2.0, 3.0]]
    rig = Rig(
        driver,
        answers({"a": Fail(2001, {"retry_after": 5.5}), "b": Fail(2001)}),
        Slow(0.5, answers({"b": Fail(2001)})),
        result("x"),
        retry_strategy=RetryStrategy(codes={2001}, backoff=lambda: iter(made.pop(0))),
    )
    assert rig.send(batch("a", "b")).results == ["x", "x"]
    assert methods(rig) == [["a", "b"], ["b"], ["a", "b"]]


@both_drivers
def test_batch_a_member_left_out_is_maybe_executed(driver: str) -> None:
    """viem and web3.py match by position: a missing item shifts everybody's result."""
    rig = Rig(driver, answers({"a": 1, "c": 3}), retry_strategy=TRANSIENT)
    response = rig.send(batch("a", "b", "c"))
    assert [answer.id for answer in response] == ["A", "B", "C"]
    assert (response[0].result, response[2].result) == (1, 3)
    assert isinstance(response[1].error, MissingResponseError)
    assert response[1].error.delivery is Delivery.MAYBE_EXECUTED
    assert rig.sent == 1


@both_drivers
@pytest.mark.parametrize(
    ("strategy", "again"),
    [
        (every(exceptions={MissingResponseError}), True),
        (every(exceptions={MissingResponseError}, idempotent={"a"}), False),
        (every(exceptions={MissingResponseError}, idempotent={"b"}), True),
    ],
    ids=["named", "guarded", "idempotent"],
)
def test_batch_a_member_left_out_goes_again_only_where_that_is_allowed(driver: str, strategy: RetryStrategy, again: bool) -> None:
    rig = Rig(driver, answers({"a": 1}), answers({"b": 2}), retry_strategy=strategy)
    response = rig.send(batch("a", "b"))
    assert methods(rig) == ([["a", "b"], ["b"]] if again else [["a", "b"]])
    assert response[1].is_success is again


@both_drivers
def test_batch_idempotent_members_alone_go_again_after_a_lost_connection(driver: str) -> None:
    """One failure raises and the rest is lost: that is the trap."""
    rig = Rig(driver, lost, answers({"get_a": 1, "get_c": 3}), retry_strategy=every(idempotent={"get_*"}))
    response = rig.send(batch("get_a", "put_b", "get_c", "tell_d"))
    assert methods(rig) == [["get_a", "put_b", "get_c", "tell_d"], ["get_a", "get_c"]]
    assert [response.by_id(id).result for id in ("GET_A", "GET_C")] == [1, 3]
    assert isinstance(response.by_id("PUT_B").error, ConnectionLostError)
    assert [answer.id for answer in response] == ["GET_A", "PUT_B", "GET_C", None]
    assert isinstance(response[3].error, ConnectionLostError)
    assert [answer.attempts for answer in response] == [2, 1, 2, 1]


@both_drivers
def test_batch_that_was_not_sent_goes_again_whole(driver: str) -> None:
    rig = Rig(driver, unconnected, answers({"a": 1, "b": 2}), retry_strategy=TRANSIENT)
    assert rig.send(batch("a", "tell", "b")).results == [1, 2]
    assert methods(rig) == [["a", "tell", "b"]] * 2


@both_drivers
def test_batch_of_notifications_has_no_answers(driver: str) -> None:
    rig = Rig(driver, Reply(b""), retry_strategy=TRANSIENT)
    assert list(rig.send(batch("tell_a", "tell_b"))) == []
    assert rig.backend.exchanges[0].ids == ()


@both_drivers
def test_batch_that_failed_as_a_whole_raises_the_one_reason(driver: str) -> None:
    rig = Rig(driver, *[lost] * 3, retry_strategy=every(2, exceptions={OSError}))
    with pytest.raises(ConnectionLostError) as caught:
        rig.send(batch("a", "b"))
    assert caught.value.__notes__ == list(gave_up(3, "1.00"))
    assert rig.sent == 3


@both_drivers
def test_batch_one_error_object_answers_all_and_all_go_again(driver: str) -> None:
    whole = Reply(b'{"jsonrpc":"2.0","id":null,"error":{"code":2001,"message":"busy"}}')
    rig = Rig(driver, whole, answers({"a": 1, "b": 2}), retry_strategy=CODES)
    assert rig.send(batch("a", "b")).results == [1, 2]
    assert rig.sent == 2


@both_drivers
def test_batch_whose_codes_run_out_returns_error_responses(driver: str) -> None:
    rig = Rig(driver, *[answers({"a": Fail(2001), "b": Fail(2001)})] * 2, retry_strategy=every(1, codes={2001}))
    response = rig.send(batch("a", "b"))
    assert [answer.error.code for answer in response] == [2001, 2001]
    assert [answer.attempts for answer in response] == [2, 2]
    assert response[0].error is not response[1].error


@both_drivers
def test_batch_the_deadline_ends_the_members_that_are_left_and_keeps_the_others(driver: str) -> None:
    rig = Rig(driver, answers({"a": 1, "b": Fail(2001), "c": Fail(2001, {"retry_after": 9})}), answers({"b": 2}), retry_strategy=CODES, deadline=2.0)
    response = rig.send(batch("a", "b", "c"))
    assert [answer.result for answer in response[:2]] == [1, 2]
    assert isinstance(response[2].error, DeadlineExceeded)
    assert isinstance(response[2].error.__cause__, JsonRpcError)
    assert rig.waits == [0.5]


@both_drivers
def test_batch_the_deadline_ends_those_that_wait_when_it_cuts_those_that_fly(driver: str) -> None:
    rig = Rig(
        driver,
        answers({"a": Fail(2001), "b": Fail(2001, {"retry_after": 3})}),
        Slow(9, result(1)),
        retry_strategy=every(codes={2001}, exceptions={TimeoutError}),
        deadline=4.0,
    )
    with pytest.raises(DeadlineExceeded):
        rig.send(batch("a", "b"))
    assert rig.time.now == 1_004
    assert rig.sent == 2


@both_drivers
def test_batch_numbers_requests_without_an_id_around_those_with_one(driver: str) -> None:
    rig = Rig(driver, answers({"a": 1, "b": 2, "c": 3}))
    response = rig.send(BatchRequest(Request("a"), Request("b", id=1), Request("c")))
    ids = [answer.id for answer in response]
    assert ids[1] == 1
    assert len(set(ids)) == 3
    assert response.results == [1, 2, 3]


@given(
    plan=st.lists(st.lists(st.sampled_from(["ok", "fail", "hold", "fatal"]), min_size=1, max_size=4), min_size=1, max_size=5),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=150, deadline=None)
def test_batch_any_course_ends_with_every_member_answered_in_order(plan: list[list[str]], seed: int) -> None:
    """Each member follows its own script, whatever becomes of the others."""
    import json

    rng = random.Random(seed)
    progress = dict.fromkeys(range(len(plan)), 0)
    seen: list[list[int]] = []

    def serve(exchange: Exchange) -> Reply:
        found = []
        seen.append([int(request.method) for request in exchange.requests])
        for request in exchange.requests:
            index = int(request.method)
            step = plan[index][progress[index]] if progress[index] < len(plan[index]) else "ok"
            progress[index] += 1
            kinds = {
                "ok": {"result": index},
                "fail": {"error": {"code": 7, "message": "x"}},
                "hold": {"error": {"code": 7, "message": "x", "data": {"retry_after": rng.choice([1, 2.5, 3])}}},
                "fatal": {"error": {"code": 8, "message": "x"}},
            }
            found.append({"jsonrpc": "2.0", "id": request.id, **kinds[step]})
        rng.shuffle(found)
        return Reply(json.dumps(found).encode())

    rig = Rig("sync", *[serve] * 40, retry_strategy=RetryStrategy(codes={7}, backoff=PeriodicBackoff(3, 1.0)))
    response = rig.send(BatchRequest(*[Request(str(index)) for index in range(len(plan))]))
    assert len(response) == len(plan)
    for index, answer in enumerate(response):
        course = [*plan[index], "ok"]
        stop = next((place for place, step in enumerate(course) if step in ("ok", "fatal")), len(course))
        tries = min(stop + 1, 4)
        assert answer.attempts == tries == progress[index]
        last = course[tries - 1]
        assert answer.is_success is (last == "ok")
        if last == "ok":
            assert answer.result == index
        else:
            assert answer.error.code == (8 if last == "fatal" else 7)
    assert all(members == sorted(members) for members in seen)
    assert all(len(now) <= len(plan) for _, now in pairwise([[], *seen]))
