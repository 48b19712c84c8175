"""What each preset retries, after which delays, and how another is made from it. Both drivers, in virtual time."""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
import pickle
import subprocess
import sys
from typing import Any

import pytest
from support import Rig, both_drivers, fresh

import rpcretry
from rpcretry import (
    Classification,
    ConnectError,
    ConnectionLostError,
    Delivery,
    HTTPStatusError,
    JsonRpcError,
    Request,
    RequestTimeoutError,
    RetryStrategy,
    functions,
    presets,
)
from rpcretry.presets import MethodList, Preset
from rpcretry.retry import AdditiveJitter, EqualJitter, ExponentialBackoff, ImmediateBackoff, PeriodicBackoff
from rpcretry.testing import error, http, result

ALL = {name: getattr(presets, name) for name in ("transient", "ethereum", "bitcoin", "odoo", "aria2")}
QUEUE_FULL = http(500, b"Work queue depth exceeded")
VERSION = {"service": "common", "method": "version", "args": []}
READ = {"service": "object", "method": "execute_kw", "args": ["db", 2, "hunter2", "res.partner", "read", [[7]]]}
WRITE = {"service": "object", "method": "execute_kw", "args": ["db", 2, "hunter2", "res.partner", "write", [[7], {"name": "Ada"}]]}


def rolled_back(name: str) -> Any:
    return error(200, "Odoo Server Error", data={"name": name, "debug": "Traceback ...", "message": "could not serialize access due to concurrent update"})


# A read and an act of each; of an unknown server the act is all there is.
READS: dict[str, tuple[str, Any]] = {
    "ethereum": ("eth_blockNumber", None),
    "bitcoin": ("getblockcount", None),
    "odoo": ("call", READ),
    "aria2": ("aria2.tellActive", None),
}
ACTS: dict[str, tuple[str, Any]] = {
    "transient": ("get_price", None),
    "ethereum": ("eth_sendRawTransaction", ["0x02f8"]),
    "bitcoin": ("sendtoaddress", ["bc1q", 0.1]),
    "odoo": ("call", WRITE),
    "aria2": ("aria2.addUri", [["http://localhost/file"]]),
}

LOST = {
    "a lost connection": fresh(ConnectionLostError("reset")),
    "a timeout": fresh(RequestTimeoutError("too slow")),
    "502": http(502),
    "503": http(503),
    "504": http(504),
    "408": http(408),
}
REFUSED = {
    "no connection": fresh(ConnectError("refused")),
    "429": http(429),
    "503 with Retry-After": http(503, headers={"Retry-After": "0"}),
}


def attempts(driver: str, preset: RetryStrategy, request: tuple[str, Any], *script: Any) -> int:
    rig = Rig(driver, *script, result("done"), retry_strategy=preset)
    with contextlib.suppress(OSError, HTTPStatusError):
        rig.send(Request(*request))
    return rig.sent


@both_drivers
@pytest.mark.parametrize("failure", LOST)
def test_what_may_have_been_executed_goes_again_where_it_reads(failure: str, driver: str) -> None:
    assert {name: attempts(driver, ALL[name], request, LOST[failure]) for name, request in READS.items()} == dict.fromkeys(READS, 2)
    assert {name: attempts(driver, ALL[name], request, LOST[failure]) for name, request in ACTS.items()} == dict.fromkeys(ACTS, 1)


@both_drivers
@pytest.mark.parametrize("failure", REFUSED)
def test_what_was_not_executed_goes_again_whatever_it_is(failure: str, driver: str) -> None:
    for requests in (READS, ACTS):
        assert {name: attempts(driver, ALL[name], request, REFUSED[failure]) for name, request in requests.items()} == dict.fromkeys(requests, 2)


RETRIED_CODES = {
    "transient": {-32005, 429},
    "ethereum": {-32005, -32007, 429},
    "bitcoin": {-28},
    "odoo": set(),
    "aria2": set(),
}
KNOWN_CODES = [1, 100, 200, 429, -28, -1, -5, -6, -8, -32000, -32001, -32002, -32003, -32004, -32005, -32007, -32016, -32600, -32601, -32602, -32603, -32700]


@both_drivers
@pytest.mark.parametrize("name", ALL)
def test_a_code_goes_again_for_every_method_if_it_says_that_nothing_was_done(name: str, driver: str) -> None:
    for request in (ACTS[name], READS.get(name, ACTS[name])):
        assert {code for code in KNOWN_CODES if attempts(driver, ALL[name], request, error(code)) == 2} == RETRIED_CODES[name]
    assert ALL[name].codes == RETRIED_CODES[name]


@pytest.mark.parametrize("name", ALL)
def test_what_is_wrong_for_good_does_not_go_again(name: str) -> None:
    request = READS.get(name, ACTS[name])
    for answer in (http(400), http(401), http(403), http(404), http(500), fresh(rpcretry.CertificateError("not trusted")), error(-32601, status=404)):
        rig = Rig("sync", answer, result("done"), retry_strategy=ALL[name])
        with contextlib.suppress(rpcretry.RpcRetryError):
            rig.send(Request(*request))
        assert rig.sent == 1


# --- what only one kind of server says ---


@both_drivers
def test_a_full_queue_of_bitcoind_goes_again_for_reads(driver: str) -> None:
    assert attempts(driver, presets.bitcoin, READS["bitcoin"], QUEUE_FULL, QUEUE_FULL, http(503, b"Work queue depth exceeded")) == 4
    assert attempts(driver, presets.bitcoin, ACTS["bitcoin"], QUEUE_FULL) == 1
    assert attempts(driver, presets.bitcoin, ACTS["bitcoin"], http(503, b"Work queue depth exceeded")) == 1
    assert attempts(driver, presets.bitcoin, READS["bitcoin"], http(400, b"Work queue depth exceeded")) == 1
    # An HTTP 500 of something else, and one around an error of the call.
    assert attempts(driver, presets.bitcoin, READS["bitcoin"], http(500, b"<html>Internal Server Error")) == 1
    assert attempts(driver, presets.bitcoin, READS["bitcoin"], error(-5, "No such mempool transaction. Work queue depth exceeded", status=500)) == 1
    assert attempts(driver, presets.bitcoin, READS["bitcoin"], error(-28, "Loading block index...", status=500)) == 2


@both_drivers
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("psycopg2.errors.SerializationFailure", 2),
        ("psycopg2.errors.DeadlockDetected", 2),
        ("psycopg2.errors.LockNotAvailable", 2),
        ("psycopg2.extensions.TransactionRollbackError", 2),
        ("odoo.exceptions.AccessError", 1),
        ("odoo.exceptions.AccessDenied", 1),
        ("odoo.exceptions.ValidationError", 1),
        ("psycopg2.errors.UniqueViolation", 1),
        ("builtins.ValueError", 1),
    ],
)
def test_a_transaction_of_odoo_that_was_rolled_back_goes_again_for_reads(name: str, expected: int, driver: str) -> None:
    assert attempts(driver, presets.odoo, READS["odoo"], rolled_back(name)) == expected
    assert attempts(driver, presets.odoo, ("call", VERSION), rolled_back(name)) == expected
    assert attempts(driver, presets.odoo, ACTS["odoo"], rolled_back(name)) == 1


@pytest.mark.parametrize(
    "data", [None, "psycopg2.errors.SerializationFailure", {}, {"name": None}, {"name": ["psycopg2.errors.SerializationFailure"]}, [1]], ids=str
)
def test_odd_data_of_odoo_is_no_reason(data: Any) -> None:
    assert attempts("sync", presets.odoo, READS["odoo"], error(200, "Odoo Server Error", data=data)) == 1
    # The name counts only in Odoo's own error.
    assert attempts("sync", presets.odoo, READS["odoo"], error(201, "other", data={"name": "psycopg2.errors.SerializationFailure"})) == 1


def test_classify_knows_them() -> None:
    full = HTTPStatusError("HTTP 500", status=500, excerpt="Work queue depth exceeded")
    assert presets.bitcoin.classify(full) is Classification.RETRYABLE
    assert presets.ethereum.classify(full) is Classification.NON_RETRYABLE
    assert presets.bitcoin.extended(fatal=HTTPStatusError).classify(full) is Classification.NON_RETRYABLE
    assert presets.bitcoin.classify(JsonRpcError("warming up", code=-28)) is Classification.RETRYABLE


def test_a_call_that_succeeds_is_not_looked_at() -> None:
    # What the presets of bitcoin and odoo ask about failures costs a success nothing.
    assert all(preset.ignores_success for preset in ALL.values())
    assert not presets.bitcoin.extended(when=lambda outcome, attempt: False).ignores_success


# --- batches ---


@both_drivers
def test_only_the_reads_of_a_batch_go_again(driver: str) -> None:
    rig = Rig(driver, http(502), result("0x1"), retry_strategy=presets.ethereum)
    read, act, poll = rig.send(
        rpcretry.BatchRequest(Request("eth_chainId"), Request("eth_sendRawTransaction", ["0x"]), Request("eth_getFilterChanges", ["0x1"]))
    )
    assert (read.result, act.error.status, poll.error.status) == ("0x1", 502, 502)
    assert [[one["method"] for one in body] if isinstance(body, list) else [body["method"]] for body in rig.backend.bodies[1:]] == [["eth_chainId"]]


# --- delays ---


def bounds(preset: Preset) -> list[tuple[float, float]]:
    """The least and the most of each delay, by drawing the extremes."""
    backoff: Any = preset.backoff
    kind = backoff.jitter

    def drawn(extreme: float) -> list[float]:
        if isinstance(kind, AdditiveJitter):
            jitter: Any = AdditiveJitter(kind.most, random=lambda: extreme)
        elif isinstance(kind, EqualJitter):
            jitter = EqualJitter(random=lambda: extreme)
        else:
            jitter = rpcretry.retry.FullJitter(random=lambda: extreme)
        twin = ExponentialBackoff(backoff.attempts, base=backoff.base, factor=backoff.factor, max_value=backoff.max_value, jitter=jitter)
        return [round(delay, 6) for delay in twin()]

    return list(zip(drawn(0.0), drawn(1.0), strict=True))


def test_the_delays_are_those_that_the_docstrings_tell() -> None:
    jitter: Any = presets.ethereum.backoff
    assert jitter.jitter.most == 1.0
    assert bounds(presets.ethereum) == [(1, 2), (2, 3), (4, 5), (8, 9)]
    assert bounds(presets.bitcoin) == [(0.25, 0.5), (0.5, 1), (1, 2), (2, 4), (4, 8)] + [(5, 10)] * 29
    least, most = (sum(delays) for delays in zip(*bounds(presets.bitcoin), strict=True))
    assert (least / 60, most / 60) == (pytest.approx(2.5, abs=0.1), pytest.approx(5, abs=0.1))
    for name in ("transient", "odoo", "aria2"):
        assert bounds(ALL[name]) == [(0, 0.1), (0, 0.2), (0, 0.4)]
        assert ALL[name].backoff == rpcretry.retry.DEFAULT_BACKOFF


@both_drivers
def test_a_node_that_takes_two_and_a_half_minutes_to_load_is_waited_for(driver: str) -> None:
    rig = Rig(driver, retry_strategy=presets.bitcoin)
    ready_at = rig.time.now + 150
    answers = iter(lambda: result(850_000) if rig.time.now >= ready_at else error(-28, "Loading block index...", status=500), None)
    rig.backend._items = answers
    assert rig.call("getblockcount") == 850_000
    assert all(wait <= 10 for wait in rig.waits)
    assert rig.sent < 60


@both_drivers
def test_a_node_that_does_not_run_is_waited_for_too(driver: str) -> None:
    rig = Rig(driver, *[fresh(ConnectError("refused"))] * 35, retry_strategy=presets.bitcoin)
    with pytest.raises(ConnectError):
        rig.call("sendtoaddress", "bc1q", 0.1)
    assert rig.sent == 35
    assert 150 <= sum(rig.waits) <= 300


@both_drivers
def test_a_deadline_is_kept(driver: str) -> None:
    rig = Rig(driver, *[error(-28, "Loading block index...")] * 40, retry_strategy=presets.bitcoin, deadline=5)
    with pytest.raises(rpcretry.DeadlineExceeded):
        rig.call("getblockcount")
    assert sum(rig.waits) <= 5


@both_drivers
def test_the_pause_that_the_error_asks_for_is_made(driver: str) -> None:
    data = {"current_rps": 13.333, "allowed_rps": 10.0, "backoff_seconds": 30.0}
    rig = Rig(driver, error(-32005, "project ID request rate exceeded", data=data, status=429), result("0x10"), retry_strategy=presets.ethereum)
    assert rig.call("eth_sendRawTransaction", "0x02f8") == "0x10"
    assert rig.waits == [30.0]


# --- transient is RetryStrategy() ---


@both_drivers
def test_transient_is_the_default_strategy_by_a_name(driver: str) -> None:
    plain = RetryStrategy()
    assert repr(presets.transient.backoff) == repr(plain.backoff)
    assert presets.transient.is_guarded
    assert plain.is_guarded
    for answer in (*LOST.values(), *REFUSED.values(), *map(error, KNOWN_CODES), *map(http, (400, 401, 404, 500))):
        assert attempts(driver, presets.transient, ("sum", [1, 2]), answer) == attempts(driver, plain, ("sum", [1, 2]), answer)


# --- extending ---


def test_what_is_given_is_added() -> None:
    mine = presets.ethereum.extended(
        codes=-32016, statuses=range(520, 528), exceptions=KeyError, fatal=[-32007, ValueError], idempotent="erigon_*", never="debug_*"
    )
    assert mine.codes == {*presets.ethereum.codes, -32016}
    assert mine.statuses == {*presets.ethereum.statuses, range(520, 528)}
    assert mine.exceptions == {ConnectionError, TimeoutError, KeyError}
    assert mine.fatal == {-32007, ValueError}
    assert mine.backoff is presets.ethereum.backoff
    assert attempts("sync", mine, ACTS["ethereum"], error(-32016)) == 2
    assert attempts("sync", mine, ACTS["ethereum"], error(-32007)) == 1
    assert attempts("sync", mine, READS["ethereum"], http(522)) == 2
    assert attempts("sync", mine, ("erigon_forks", None), http(502)) == 2
    assert attempts("sync", mine, ("debug_traceTransaction", None), http(502)) == 1
    # The one that it was made of is as it was.
    assert attempts("sync", presets.ethereum, ("debug_traceTransaction", None), http(502)) == 2
    assert presets.ethereum.codes == RETRIED_CODES["ethereum"]


def test_what_besu_means_by_the_codes_can_be_made_final() -> None:
    besu = presets.ethereum.extended(fatal={-32005, -32007})
    for answer in (error(-32005, "Transaction gas limit exceeds block gas limit"), error(-32007, "Sender account not authorized to send transactions")):
        assert attempts("sync", presets.ethereum, ACTS["ethereum"], answer) == 2
        assert attempts("sync", besu, ACTS["ethereum"], answer) == 1
    assert attempts("sync", besu, ACTS["ethereum"], error(429)) == 2


def test_what_the_user_declares_counts_as_said() -> None:
    raw = presets.ethereum.extended(idempotent="eth_sendRawTransaction")
    assert raw.is_idempotent(Request("eth_sendRawTransaction"))
    assert not raw.is_idempotent(Request("eth_sendTransaction"))
    assert presets.ethereum.extended(idempotent=True).is_idempotent(Request("eth_sendTransaction"))
    assert presets.ethereum.extended(idempotent=lambda request: request.method == "eth_sign").is_idempotent(Request("eth_sign"))
    assert not raw.extended(never="eth_send*").is_idempotent(Request("eth_sendRawTransaction"))


def test_names_of_odoo_and_aria2_are_those_inside_of_the_params() -> None:
    mine = presets.odoo.extended(idempotent="stock.quant.get_stock", never="*.read_group")
    call = {"service": "object", "method": "execute_kw", "args": ["db", 2, "hunter2", "stock.quant", "get_stock", []]}
    assert mine.is_idempotent(Request("call", call))
    assert mine.is_idempotent(Request("call", READ))
    assert not mine.is_idempotent(Request("call", {**call, "args": ["db", 2, "hunter2", "stock.quant", "read_group", []]}))
    assert not presets.odoo.is_idempotent(Request("call", call))
    # The name of the wire declares nothing.
    assert not presets.odoo.extended(idempotent="call").is_idempotent(Request("call", WRITE))
    downloads = presets.aria2.extended(idempotent="aria2.pauseAll")
    assert downloads.is_idempotent(Request("system.multicall", [[{"methodName": "aria2.pauseAll"}, {"methodName": "aria2.tellActive"}]]))


def test_backoff_and_wrap_are_replaced() -> None:
    mine = presets.bitcoin.extended(backoff=PeriodicBackoff(attempts=1, interval=2.0), wrap=True)
    rig = Rig("sync", QUEUE_FULL, QUEUE_FULL, retry_strategy=mine)
    with pytest.raises(rpcretry.RetryExhaustedError) as caught:
        rig.call("getblockcount")
    assert (caught.value.attempts, rig.waits) == (2, [2.0])
    assert mine.extended().wrap
    assert not mine.extended(wrap=False).wrap
    assert mine.extended().max_attempts == 2


def test_failures_add_up() -> None:
    def is_7(problem: Exception) -> bool:
        return isinstance(problem, JsonRpcError) and problem.code == 7

    for mine in (presets.bitcoin.extended(failures=is_7), presets.bitcoin.extended(failures=is_7).extended()):
        assert attempts("sync", mine, READS["bitcoin"], QUEUE_FULL, error(7)) == 3
        assert attempts("sync", mine, READS["bitcoin"], error(8)) == 1
        assert attempts("sync", mine, ACTS["bitcoin"], error(7)) == 1
    assert attempts("sync", presets.ethereum.extended(failures=is_7), READS["ethereum"], error(7)) == 2
    assert attempts("sync", presets.bitcoin, READS["bitcoin"], error(7)) == 1


def test_none_adds_nothing() -> None:
    names = [name for name in inspect.signature(Preset.extended).parameters if name not in ("self", "unknown")]
    mine = presets.ethereum.extended(**dict.fromkeys(names))
    assert repr(mine) == repr(presets.ethereum)
    assert mine.__doc__ == presets.ethereum.__doc__
    assert repr(mine.methods) == repr(presets.ethereum.methods)
    empty = Preset("acme", methods=MethodList(), codes=None, statuses=None, exceptions=None, fatal=None)
    assert (empty.codes, empty.statuses, empty.exceptions, empty.fatal) == (set(), set(), set(), set())
    assert not empty.matches(JsonRpcError("limit exceeded", code=-32005))


def test_one_that_was_extended_says_so() -> None:
    mine = presets.ethereum.extended(codes=-32016, never="debug_*")
    assert mine.__doc__.startswith("``ethereum``, extended with codes, never. Without that it is:\n\nFor Ethereum nodes")
    # A list of its items that are indented less or more than the first line is another thing in reST.
    assert "\n* JSON-RPC codes by which" in mine.__doc__
    assert "-32016" in repr(mine)
    named = mine.extended(name="mine", statuses=range(520, 528))
    assert named.__doc__.startswith("``ethereum``, extended with statuses. Without that it is:\n\n``ethereum``, extended with codes, never.")
    assert repr(named).startswith(
        "Preset('mine', codes=[-32016, -32007, -32005, 429], statuses=[408, 429, 502, 503, 504, range(520, 528)], backoff=ExponentialBackoff("
    )
    told = presets.transient.extended(name="acme", codes=2001, doc="As Acme says.")
    assert (told.name, told.__doc__) == ("acme", "As Acme says.")
    assert Preset("acme", methods=MethodList()).extended(wrap=True).__doc__ == "``acme``, extended with wrap."
    assert Preset("acme", methods=MethodList()).extended().__doc__ == Preset.__doc__


def test_one_of_a_subclass_is_extended_to_one_of_the_subclass() -> None:
    class Stubborn(Preset):
        def matches(self, error: Exception) -> str | None:
            return "exception"

    mine = Stubborn("stubborn", methods=MethodList(), backoff=ImmediateBackoff(attempts=1)).extended(idempotent="get_*")
    assert type(mine) is Stubborn
    assert attempts("sync", mine, ("get_price", None), error(7)) == 2
    assert repr(mine).startswith("Stubborn('stubborn', ")


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        (presets.transient, False),
        (presets.transient.extended(idempotent=True), True),
        (presets.ethereum.extended(idempotent=True), True),
        (presets.transient.extended(idempotent="*"), False),
        (presets.transient.extended(idempotent=lambda request: True), False),
        (presets.transient.extended(idempotent=True, never="pay"), False),
        (presets.transient.extended(idempotent=MethodList(True)), True),
    ],
)
def test_a_function_may_run_twice_where_everything_may(preset: Preset, expected: bool) -> None:
    assert preset.is_idempotent(None) is expected
    tries = []

    @functions.retry(strategy=preset.extended(backoff=ImmediateBackoff(attempts=1)))
    def pay() -> int:
        tries.append(1)
        raise ConnectionLostError("reset")

    with pytest.raises(ConnectionLostError):
        pay()
    assert len(tries) == (2 if expected else 1)


def test_conditions_add_up() -> None:
    pending = presets.bitcoin.extended(when=lambda outcome, attempt: 0.0 if outcome.ok and outcome.result == "pending" else None)
    both = pending.extended(when=lambda outcome, attempt: outcome.ok and outcome.result == "later", backoff=ImmediateBackoff(attempts=9))
    rig = Rig("sync", QUEUE_FULL, result("pending"), result("later"), result("done"), retry_strategy=both)
    assert rig.call("getblockcount") == "done"
    assert rig.sent == 4
    assert presets.bitcoin.when is None


def test_the_condition_that_was_added_last_is_asked_first_and_may_answer_0() -> None:
    slow = presets.transient.extended(idempotent=True, when=lambda outcome, attempt: 5.0 if outcome.code == 1 else None)
    fast = slow.extended(when=lambda outcome, attempt: 0.0 if attempt == 1 else None)
    rig = Rig("sync", error(1), error(1), result("done"), retry_strategy=fast)
    assert rig.call("pay") == "done"
    assert [wait for wait in rig.waits if wait] == [5.0]


def test_an_iterator_is_looked_at_once() -> None:
    mine = presets.transient.extended(
        codes=iter([1, range(5, 7)]), statuses=iter([418]), exceptions=iter([KeyError]), fatal=iter([9]), idempotent=iter(["a"]), never=iter(["b"])
    )
    assert {1, range(5, 7)} <= mine.codes
    assert 418 in mine.statuses
    assert KeyError in mine.exceptions
    assert mine.fatal == {9}
    assert (mine.methods.names, mine.methods.never) == ({"a"}, {"b"})
    assert mine.names(6)


def test_one_of_ones_own() -> None:
    mine = Preset("acme", codes={2001}, statuses=(), methods=MethodList("get_*", never="get_lock"), backoff=ImmediateBackoff(attempts=1), doc="As Acme says.")
    assert attempts("sync", mine, ("pay", None), error(2001)) == 2
    assert attempts("sync", mine, ("get_price", None), http(502)) == 1
    assert attempts("sync", mine, ("get_price", None), fresh(ConnectionLostError("reset"))) == 2
    assert attempts("sync", mine, ("get_lock", None), fresh(ConnectionLostError("reset"))) == 1
    assert mine.__doc__ == "As Acme says."
    assert repr(mine) == "Preset('acme', codes=[2001], statuses=[], backoff=ImmediateBackoff(attempts=1, jitter=None, max_value=None))"


@pytest.mark.parametrize(
    ("build", "kind", "message"),
    [
        (lambda: presets.ethereum.extended(max_retries=3), TypeError, "no parameter 'max_retries'; here it is backoff="),
        (lambda: presets.ethereum.extended(code=3), TypeError, r"Preset\.extended has no parameter 'code'; did you mean codes"),
        (lambda: presets.ethereum.extended(nevr="x"), TypeError, "no parameter 'nevr'; did you mean never"),
        (lambda: presets.ethereum.extended(methods=MethodList()), TypeError, "no parameter 'methods'; here it is idempotent and never"),
        (lambda: presets.ethereum.extended(zzz=1), TypeError, "'zzz'; known are name, codes, statuses, exceptions, failures, when, fatal, idempotent, never, "),
        (lambda: Preset("acme", idempotent="get_*"), TypeError, r"Preset has no parameter 'idempotent'; here it is methods=MethodList\(\.\.\.\)"),
        (lambda: Preset("acme", never="pay"), TypeError, "Preset has no parameter 'never'; here it is methods=MethodList"),
        (lambda: Preset("acme", methods=MethodList(), max_retries=3), TypeError, "Preset has no parameter 'max_retries'; here it is backoff="),
        (lambda: Preset("acme", zzz=3), TypeError, "'zzz'; known are name, methods, codes, statuses, exceptions, failures, when, fatal, backoff, wrap, doc$"),
        (lambda: Preset("acme", methods=MethodList(), doc=3), TypeError, "doc must be a str, got int 3"),
        (lambda: presets.ethereum.extended(doc=3), TypeError, "doc must be a str, got int 3"),
        (lambda: presets.ethereum.extended(name=""), ValueError, "name must not be empty"),
        (lambda: presets.bitcoin.extended(failures=lambda: True), TypeError, "failures must be callable with 1 argument"),
        (lambda: presets.ethereum.extended(codes=b"ab"), TypeError, "codes takes ints and ranges, got bytes b'ab'"),
        (lambda: presets.ethereum.extended(codes=[[1]]), TypeError, r"codes takes ints and ranges, got list \[1\]"),
        (lambda: presets.ethereum.extended(codes="429"), TypeError, "codes takes ints and ranges, got str '429'"),
        (lambda: presets.ethereum.extended(codes=2.5), TypeError, "codes takes ints and ranges, got float 2.5"),
        (lambda: presets.ethereum.extended(statuses=[True]), TypeError, "statuses takes ints and ranges, got bool True"),
        (lambda: presets.ethereum.extended(exceptions=[429]), TypeError, r"exceptions takes exception classes, got 429; write codes=\{429\}"),
        (lambda: presets.ethereum.extended(exceptions=rpcretry.CircuitOpenError), ValueError, "exceptions must not name CircuitOpenError"),
        (lambda: presets.ethereum.extended(fatal=["x"]), TypeError, "fatal takes exception classes, got 'x'"),
        (lambda: presets.ethereum.extended(when=3), TypeError, "when must be callable, got int 3"),
        (lambda: presets.ethereum.extended(idempotent=[3]), TypeError, "idempotent takes method names and globs, got int 3"),
        (lambda: presets.ethereum.extended(never=3), TypeError, "never takes method names and globs, got int 3"),
        (lambda: presets.ethereum.extended(backoff=3), TypeError, "backoff must be a Backoff"),
        (lambda: presets.ethereum.extended(wrap=1), TypeError, "wrap must be True or False, got 1"),
        (lambda: Preset("acme", methods="get_*"), TypeError, r"methods must be a MethodList, got str 'get_\*'; write methods=MethodList"),
        (lambda: Preset("", methods=MethodList()), ValueError, "name must not be empty"),
        (lambda: Preset("acme", methods=MethodList(), failures=3), TypeError, "failures must be callable, got int 3; it gets the exception"),
        (lambda: Preset("acme", methods=MethodList(), codes="x"), TypeError, "codes takes ints and ranges"),
    ],
)
def test_bad_input_is_named_with_the_fix(build: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        build()


# --- as values ---


@pytest.mark.parametrize("name", ALL)
def test_a_preset_is_a_strategy_that_says_where_its_numbers_come_from(name: str) -> None:
    preset = ALL[name]
    assert isinstance(preset, RetryStrategy)
    assert preset.name == name
    assert preset.is_guarded
    assert preset.__doc__ != Preset.__doc__
    assert all(f"{number}" in preset.__doc__ for number in (preset.codes | preset.statuses))
    assert preset.extended().__doc__ == preset.__doc__
    assert repr(preset).startswith(f"Preset({name!r}, codes={sorted(preset.codes)}, statuses=[408, 429, 502, 503, 504], backoff=ExponentialBackoff(attempts=")


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("copied", [copy.copy, lambda value: pickle.loads(pickle.dumps(value))], ids=["copy", "pickle"])
def test_a_preset_is_copied_and_pickled(name: str, copied: Any) -> None:
    twin = copied(ALL[name])
    assert repr(twin) == repr(ALL[name])
    assert twin.__doc__ == ALL[name].__doc__
    request = READS.get(name, ACTS[name])
    assert attempts("sync", twin, request, http(502)) == attempts("sync", ALL[name], request, http(502))


def test_a_preset_does_not_change() -> None:
    for name in ("codes", "methods", "backoff", "name", "anything"):
        with pytest.raises(AttributeError, match=r"a Preset is immutable; extended\(\.\.\.\) makes another one"):
            setattr(presets.ethereum, name, 1)
    with pytest.raises(AttributeError, match="a Preset is immutable; it keeps its codes"):
        del presets.ethereum.codes


def test_params_are_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig("sync", *[fresh(ConnectionLostError("reset"))] * 4, retry_strategy=presets.odoo, watched=True)
    with caplog.at_level(logging.DEBUG), pytest.raises(ConnectionLostError) as caught:
        rig.call("call", **READ)
    assert caught.value.delivery is Delivery.MAYBE_EXECUTED
    shown = f"{caplog.text} {caught.value!r} {caught.value} {getattr(caught.value, '__notes__', '')} {rig.events!r} {presets.odoo!r} {Request('call', READ)!r}"
    assert "RetryScheduled" in shown
    assert "hunter2" not in shown


def test_presets_are_loaded_when_asked_for_and_load_no_http_library() -> None:
    program = (
        "import sys, rpcretry; print('rpcretry.presets' in sys.modules); import rpcretry.presets;"
        "print([name for name in ('aiohttp', 'requests', 'urllib3', 'pydantic', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["False", "[]"]


def test_what_is_public_is_named() -> None:
    assert set(presets.__all__) == {*ALL, "MethodList", "Preset"}
    assert list(inspect.signature(Preset).parameters)[:3] == ["name", "methods", "codes"]
