"""What may go again, and whether it has to be the same body: each case of the innermost layer."""

from __future__ import annotations

import pytest

from rpcretry import ConnectionLostError, Delivery, Request, RetryStrategy
from rpcretry.layers import Idempotency
from rpcretry.outcome import Attempt, Member, Outcome, Retry, Stop

UNDECLARED = "may have been executed, and is not declared idempotent"
UNTOLD = "a notification that may have been executed"
MAYBE, NOT_SENT = Delivery.MAYBE_EXECUTED, Delivery.NOT_SENT


def judged(request: Request | None, now: Delivery, before: Delivery, *, keyed: bool, reason: str = "exception", declared: bool | None = None) -> Retry | Stop:
    member = Member(request)
    error = ConnectionLostError("reset")
    error.delivery = now
    member.delivery = before
    layer = Idempotency(RetryStrategy(idempotent="get"), keyed=keyed, declared=declared)
    return layer.judge(Attempt(1, [member], 9.0, "x"), member, Outcome(error=error), Retry(1.0, reason), 0.0)


GET, PUT, TICK = Request("get", id=1), Request("put", id=2), Request("tick", id=None)


@pytest.mark.parametrize(
    ("request_", "now", "before", "unkeyed", "keyed"),
    [
        (GET, MAYBE, MAYBE, "again", "again"),
        (PUT, MAYBE, MAYBE, UNDECLARED, "whole"),
        (TICK, MAYBE, MAYBE, UNTOLD, "whole"),
        (None, MAYBE, MAYBE, UNDECLARED, "whole"),
        # This try did nothing, and one before it may have.
        (GET, NOT_SENT, MAYBE, "again", "again"),
        (PUT, NOT_SENT, MAYBE, "again", "whole"),
        (TICK, NOT_SENT, MAYBE, "again", "whole"),
        (None, NOT_SENT, MAYBE, "again", "whole"),
        (PUT, NOT_SENT, NOT_SENT, "again", "again"),
        (TICK, NOT_SENT, NOT_SENT, "again", "again"),
    ],
)
def test_what_goes_again(request_: Request | None, now: Delivery, before: Delivery, unkeyed: str, keyed: str) -> None:
    for has_key, expected in ((False, unkeyed), (True, keyed)):
        verdict = judged(request_, now, before, keyed=has_key)
        if expected in ("again", "whole"):
            assert verdict == Retry(1.0, "exception", False, expected == "whole")
            assert verdict.whole is (expected == "whole")
        else:
            assert verdict == Stop(expected)


@pytest.mark.parametrize(("declared", "goes"), [(True, True), (False, False), (None, False)])
def test_what_is_known_of_the_method_counts_before_what_the_strategy_says(declared: bool | None, goes: bool) -> None:
    assert isinstance(judged(PUT, MAYBE, MAYBE, keyed=False, declared=declared), Retry) is goes
    assert isinstance(judged(GET, MAYBE, MAYBE, keyed=False, declared=declared), Retry) is (declared is not False)


def test_a_code_is_the_servers_own_word_that_it_did_not_act() -> None:
    assert judged(PUT, MAYBE, MAYBE, keyed=False, reason="code") == Retry(1.0, "code")
    assert judged(PUT, MAYBE, MAYBE, keyed=True, reason="code") == Retry(1.0, "code", False, True)
    assert judged(PUT, MAYBE, MAYBE, keyed=False, reason="status") == Stop(UNDECLARED)
