"""What a policy works out once: who is asked, and who is told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from support import Recorder

from rpcretry.events import AttemptStarted, CallFailed, CallSucceeded, Event
from rpcretry.layers import RetryAfter, RetryBudget
from rpcretry.outcome import Attempt, Member, Outcome, Retry, Stop
from rpcretry.retry import Layer
from rpcretry.retry.policy import CAPS, Cap, Policy

VERDICT = Retry(1.0, "exception")


def judged(*layers: Layer, verdict: Retry | Stop = VERDICT, tries: int = 1) -> Retry | Stop:
    member = Member(None)
    member.tries = tries
    return Policy(layers=layers).judge(Attempt(1, [member], math.inf, "x"), member, Outcome(error=OSError("x")), verdict, 0.0)


@pytest.fixture(autouse=True)
def no_caps() -> Iterator[None]:
    assert CAPS == []
    yield
    CAPS.clear()


# --- who is asked ---


def test_after_a_stop_nobody_is_asked() -> None:
    outer, inner = Recorder(), Recorder(judgement=lambda verdict: Stop("no"))
    assert judged(outer, inner) == Stop("no")
    assert judged(inner, verdict=Stop("ok")) == Stop("ok")
    assert (outer.count("judge"), inner.count("judge")) == (0, 1)


@pytest.mark.parametrize(("cap", "tries", "asked"), [(3, 2, 1), (3, 3, 0), (3, 4, 0), (1, 1, 0), (None, 9, 1)])
def test_no_layer_pays_for_a_retry_that_a_cap_forbids(cap: int | None, tries: int, asked: int) -> None:
    CAPS.append(Cap(cap))
    layer = Recorder()
    assert judged(layer, tries=tries) == (VERDICT if asked else Stop("attempts"))
    assert layer.count("judge") == asked


def test_the_cap_that_was_entered_last_counts() -> None:
    CAPS.extend([Cap(1), Cap(None)])
    assert judged(tries=5) == VERDICT
    CAPS.extend([Cap(5), Cap(7)])
    assert (judged(tries=6), judged(tries=7)) == (VERDICT, Stop("attempts"))


def test_who_judges_alone_is_not_asked_about_attempts() -> None:
    budget, hint = RetryBudget(), RetryAfter()
    policy = Policy(layers=[budget, hint, Layer()])
    assert (policy.gates, policy.judges, policy.quick) == ((budget,), (hint, budget), False)
    assert Policy(layers=[hint, Layer()]).quick


# --- who is told ---


class Sink:
    def __call__(self, event: Event) -> None: ...


class OfCalls(Sink):
    """One that has another sink for each call."""

    wants: tuple[type[Event], ...] = (CallFailed,)

    def begin_call(self, operation: str, members: Any) -> Any:
        return self


def wanting(*kinds: type[Event]) -> Sink:
    sink = Sink()
    sink.wants = kinds  # type: ignore[attr-defined]
    return sink


@pytest.mark.parametrize(
    ("sinks", "begins", "starts", "successes"),
    [
        ([], False, False, 0),
        ([Sink()], False, True, 1),
        ([wanting(CallFailed)], False, False, 0),
        ([wanting(AttemptStarted)], False, True, 0),
        ([wanting(CallSucceeded)], False, False, 1),
        ([wanting(CallFailed), wanting(AttemptStarted)], False, True, 0),
        # It is told everything, whatever it wants.
        ([OfCalls()], True, True, 1),
        ([wanting(CallFailed), OfCalls()], True, True, 1),
    ],
)
def test_only_what_somebody_wants_to_hear_is_told(sinks: list[Any], begins: bool, starts: bool, successes: int) -> None:
    policy = Policy(sinks=sinks)
    assert (policy.begins, policy.starts_heard, len(policy.successes_heard), policy.quick) == (begins, starts, successes, not (starts or successes))
