"""What a circuit breaker makes of an outcome, in the words and in the values that its function gets."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from rpcretry import UNSET, CircuitOpenError, ConnectionLostError, JsonRpcError, RetryExhaustedError
from rpcretry.layers._verdicts import Verdicts
from rpcretry.outcome import Outcome

LOST = ConnectionLostError("reset")
EXHAUSTED = RetryExhaustedError("x", attempts=2, last_exception=LOST, elapsed=1.0)


def wrapped(problem: Exception, cause: BaseException | None) -> Exception:
    problem.__cause__ = cause
    return problem


def refused(failure_on: Any) -> str:
    with pytest.raises((TypeError, ValueError)) as caught:
        Verdicts(failure_on)
    return str(caught.value)


def test_the_function_gets_the_last_failure_of_a_whole_call() -> None:
    seen: list[Outcome] = []
    verdicts = Verdicts(lambda outcome: bool(seen.append(outcome)))
    assert verdicts.of(Outcome(error=wrapped(EXHAUSTED, LOST))) is False
    assert [(outcome.error, outcome.value) for outcome in seen] == [(LOST, UNSET)]


def test_what_was_raised_from_nothing_is_what_it_is() -> None:
    seen: list[Outcome] = []
    verdicts = Verdicts(lambda outcome: bool(seen.append(outcome)))
    alone = wrapped(RetryExhaustedError("x", attempts=2, last_exception=None, elapsed=1.0), None)
    assert verdicts.of(Outcome(error=alone)) is False
    assert [outcome.error for outcome in seen] == [alone]
    # A refusal from nothing says nothing about the server, and nobody is asked.
    assert verdicts.of(Outcome(error=CircuitOpenError("x"))) is None
    assert len(seen) == 1


@pytest.mark.parametrize(("outcome", "failed"), [(Outcome(5), False), (Outcome(error=LOST), True), (Outcome(error=JsonRpcError("no")), True)])
def test_where_the_function_fails_every_error_is_a_failure_and_the_log_says_so(outcome: Outcome, failed: bool, caplog: pytest.LogCaptureFixture) -> None:
    def broken(outcome: Outcome) -> bool:
        return "yes"  # type: ignore[return-value]

    with caplog.at_level(logging.ERROR, "rpcretry"):
        assert Verdicts(broken).of(outcome) is failed
    (record,) = caplog.records
    assert record.getMessage() == f"failure_on: {broken!r} raised on {outcome!r}"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "failure_on must return True or False, got str 'yes'"


def test_bad_input_is_named_with_the_fix() -> None:
    def nothing() -> bool:
        return True

    async def awaited(outcome: Outcome) -> bool:
        return True

    fix = "it gets the Outcome and returns whether that is a failure"
    assert refused(nothing) == f"failure_on must be callable with 1 argument, got {nothing!r:.80} with () -> 'bool'; {fix}"
    assert refused(awaited) == f"failure_on must be a plain function, got {awaited!r:.80}, which nobody would await; {fix}"
    assert refused(KeyboardInterrupt) == "failure_on takes subclasses of Exception, got KeyboardInterrupt: cancellation and interrupts are never retried"
    assert refused([True]) == "failure_on takes ints and ranges, got bool True"
    assert refused("x") == "failure_on takes exception classes, codes and ranges of codes, or one function of the Outcome, got 'x'"


def test_one_success_among_failures_proves_that_the_server_is_alive() -> None:
    verdicts = Verdicts()
    failed, refusal, well = Outcome(error=LOST), Outcome(error=CircuitOpenError("x")), Outcome(5)
    assert verdicts.among([failed, well]) is False
    assert verdicts.among([refusal, failed]) is True
    assert verdicts.among([failed, refusal]) is True
    assert verdicts.among([refusal]) is None
