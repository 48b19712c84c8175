"""A result that the strategy's ``when`` rejects: what ends the call in an error is raised, however the call was made."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from support import Rig, both_drivers, fresh

from rpcretry import (
    BatchRequest,
    BudgetExhaustedError,
    ConnectError,
    DeadlineExceeded,
    Delivery,
    HTTPStatusError,
    Request,
    RetryBudget,
    RetryExhaustedError,
    RetryStrategy,
    RpcRetryError,
)
from rpcretry.retry import Fallback, PeriodicBackoff
from rpcretry.testing import http, result
from rpcretry.transport import Exchange, Reply

WAYS: dict[str, Callable[[Any], Any]] = {
    "call": lambda client: client.call("get"),
    "proxy": lambda client: client.proxy.get(),
    "send": lambda client: client.send(Request("get", id=1)),
    "batch": lambda client: client.send(BatchRequest(Request("get", id=1))),
}


def until_done(wrap: bool = False) -> RetryStrategy:
    return RetryStrategy(when=lambda outcome, number: outcome.result == "pending", backoff=PeriodicBackoff(1, 0.5), wrap=wrap)


@both_drivers
@pytest.mark.parametrize("way", WAYS)
def test_attempts_that_run_out_are_an_error_where_wrap_asks_for_one(driver: str, way: str) -> None:
    rig = Rig(driver, *[result("pending")] * 2, retry_strategy=until_done(wrap=True))
    with pytest.raises(RetryExhaustedError, match=r"gave up after 2 attempts in 0\.50 s: no result was accepted$") as caught:
        rig.run(WAYS[way])
    assert (caught.value.attempts, caught.value.elapsed, caught.value.last_exception, caught.value.__cause__) == (2, pytest.approx(0.5), None, None)


@both_drivers
@pytest.mark.parametrize("way", WAYS)
def test_a_budget_that_does_not_pay_for_another_try_is_an_error(driver: str, way: str) -> None:
    budget = RetryBudget(1, cost=1, refund=0.01)
    rig = Rig(driver, *[result("pending")] * 2, retry_strategy=until_done(), layers=budget)
    # The first retry takes all that there is.
    assert rig.call("get", _retry_strategy=until_done()) == "pending"
    rig = Rig(driver, result("pending"), retry_strategy=until_done(), layers=budget)
    with pytest.raises(BudgetExhaustedError):
        rig.run(WAYS[way])


@both_drivers
@pytest.mark.parametrize("wrap", [False, True])
def test_without_an_error_the_last_result_is_returned(driver: str, wrap: bool) -> None:
    rig = Rig(driver, *[result("pending")] * 2, result("done"), retry_strategy=until_done())
    assert rig.call("get") == "pending"
    assert rig.call("get") == "done"
    rig = Rig(driver, result("pending"), result("done"), retry_strategy=until_done(wrap))
    assert (rig.call("get"), rig.waits) == ("done", [0.5])


@both_drivers
def test_a_fallback_stands_in_for_a_result_that_was_not_accepted(driver: str) -> None:
    rig = Rig(driver, *[result("pending")] * 2, retry_strategy=until_done(wrap=True), fallback=Fallback("cached"))
    assert rig.call("get") == "cached"


@both_drivers
def test_the_log_line_of_such_an_end_names_its_cause(driver: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RetryExhaustedError):
        Rig(driver, *[result("pending")] * 2, retry_strategy=until_done(wrap=True)).call("get")
    assert caplog.messages[-1] == "get: gave up after 2 attempts in 0.50 s (attempts): no result was accepted"


# --- what such a result says of the server: that it did the work ---


def until(attempts: int = 5, **options: Any) -> RetryStrategy:
    return RetryStrategy(when=lambda outcome, number: outcome.result == "pending", backoff=PeriodicBackoff(attempts, 1.0), **options)


@both_drivers
@pytest.mark.parametrize(
    ("script", "options", "kind"),
    [
        ([result("pending")] * 3, {"deadline": 2.5}, DeadlineExceeded),
        ([result("pending"), *[fresh(ConnectError("nobody there"))] * 6], {}, ConnectError),
        ([result("pending")] * 3, {"layers": RetryBudget(1)}, BudgetExhaustedError),
        ([result("pending"), http(429)], {}, HTTPStatusError),
    ],
)
def test_the_end_of_a_call_does_not_deny_it(driver: str, script: list[Any], options: dict[str, Any], kind: type[RpcRetryError]) -> None:
    with pytest.raises(kind) as caught:
        Rig(driver, *script, retry_strategy=until(exceptions={ConnectionError}), **options).call("pay")
    assert caught.value.delivery is Delivery.MAYBE_EXECUTED


BUSY = [{"jsonrpc": "2.0", "id": 1, "result": "ok"}, {"jsonrpc": "2.0", "id": 2, "error": {"code": 2001, "message": "busy"}}]


@both_drivers
@pytest.mark.parametrize("second", [Reply(json.dumps(BUSY).encode()), Reply(b"", 413)])
def test_under_a_key_it_goes_again_in_the_same_body_or_not_at_all(driver: str, second: Reply) -> None:
    keys: list[str] = []

    def seen(answer: Reply) -> Callable[[Exchange], Reply]:
        def give(exchange: Exchange) -> Reply:
            keys.append(exchange.headers["Idempotency-Key"])
            return answer

        return give

    pending = Reply(json.dumps([{"jsonrpc": "2.0", "id": id, "result": "pending"} for id in (1, 2)]).encode())
    one = Reply(b'{"jsonrpc":"2.0","id":2,"result":"pending"}')
    strategy = until(codes={2001}, idempotent={"get_*"})
    script = [seen(pending), seen(second), *[seen(one)] * 3]
    rig = Rig(driver, *script, retry_strategy=strategy, idempotency_key=lambda batch: "+".join(request.method for request in batch))
    with contextlib.suppress(HTTPStatusError):
        rig.send(BatchRequest(Request("pay"), Request("ship")), _deadline=2.5)
    # Each of them was done under that key, and is done once more under any other.
    assert set(keys) == {"pay+ship"}
    assert len(keys) == 2
