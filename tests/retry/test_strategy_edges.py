"""What a strategy makes of an outcome that nothing but ``when`` could reject, of a backoff that gives no delays, and what the preset is."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest

from rpcretry import ConnectionLostError, HTTPStatusError, JsonRpcError
from rpcretry.outcome import Member, Outcome, Retry, Stop
from rpcretry.retry import ExponentialBackoff, FullJitter, PeriodicBackoff, RetryStrategy
from rpcretry.retry.jitter import as_jitter

FAILED = Outcome(error=ConnectionLostError("reset"))


@pytest.mark.parametrize("answer", [None, False])
@pytest.mark.parametrize(("outcome", "end"), [(Outcome(5), Stop("ok")), (FAILED, Stop("error"))])
def test_a_condition_that_says_no_leaves_the_end_as_it_is(answer: bool | None, outcome: Outcome, end: Stop) -> None:
    member = Member(None)
    assert RetryStrategy(when=lambda outcome, tries: answer).propose(member, outcome) == end
    # It drew nothing.
    assert member.delays is None
    assert RetryStrategy(codes=()).propose(member, outcome) == end


@pytest.mark.parametrize(("answer", "delay"), [(True, 0.5), (0, 0.0), (3, 3.0), (-1, 0.0), (1e9, 86_400.0)])
def test_a_condition_may_say_how_long_and_takes_a_try_all_the_same(answer: float, delay: float) -> None:
    member = Member(None)
    strategy = RetryStrategy(when=lambda outcome, tries: answer, backoff=PeriodicBackoff(1, 0.5))
    assert strategy.propose(member, Outcome(5)) == Retry(delay, "when")
    assert strategy.propose(member, Outcome(5)) == Stop("attempts")


def test_a_condition_is_not_asked_about_what_is_fatal_or_named() -> None:
    asked: list[Outcome] = []
    strategy = RetryStrategy(when=lambda outcome, tries: bool(asked.append(outcome)) or 9.0, fatal={ConnectionError}, exceptions={KeyError})
    assert strategy.propose(Member(None), FAILED) == Stop("error")
    named = strategy.propose(Member(None), Outcome(error=KeyError("x")))
    assert isinstance(named, Retry)
    assert (named.reason, asked) == ("exception", [])


def test_a_backoff_that_gives_no_delays_is_told_by_what_it_gave() -> None:
    def backoff() -> float:
        return 1.0

    strategy = RetryStrategy(exceptions={ConnectionError}, backoff=backoff)  # type: ignore[arg-type]
    with pytest.raises(TypeError) as caught:
        strategy.propose(Member(None), FAILED)
    assert str(caught.value) == f"backoff must return an iterator of seconds, {backoff!r:.60} returned float"


# --- the preset ---


@pytest.mark.parametrize(
    ("error", "matches"),
    [
        (JsonRpcError("x", code=-32005), "code"),
        (JsonRpcError("x", code=429), "code"),
        (JsonRpcError("x", code=-32004), None),
        (JsonRpcError("x", code=1, status=429), "status"),
        (JsonRpcError("x", code=1, status=503), "status"),
        (JsonRpcError("x", code=1, status=502), None),
        *((JsonRpcError("x", code=code, status=503), None) for code in (-32700, -32600, -32601, -32602)),
        (JsonRpcError("x", code=-32603, status=503), "status"),
        *((HTTPStatusError("x", status=status), "status") for status in (408, 429, 502, 503, 504)),
        *((HTTPStatusError("x", status=status), None) for status in (400, 404, 409, 500, 501, 505)),
        (ConnectionLostError("x"), "exception"),
        (TimeoutError("x"), "exception"),
        (OSError("x"), None),
    ],
)
def test_what_the_preset_takes_for_transient(error: Exception, matches: str | None) -> None:
    assert RetryStrategy().matches(error) == matches


def test_the_delays_of_the_preset_have_full_jitter() -> None:
    strategy, member = RetryStrategy(), Member(None)
    assert (strategy.max_attempts, strategy.wrap, strategy.when, strategy.is_guarded, strategy.ignores_success) == (4, False, None, True, True)
    backoff: Any = strategy.backoff
    assert backoff == ExponentialBackoff(attempts=3, base=0.1, factor=2.0, max_value=20.0, jitter=True)
    assert isinstance(as_jitter(backoff.jitter), FullJitter)
    # Without its jitter:
    assert list(dataclasses.replace(backoff, jitter=None)()) == pytest.approx([0.1, 0.2, 0.4])
    verdict = strategy.propose(member, Outcome(error=TimeoutError("x")))
    assert isinstance(verdict, Retry)
    assert 0 <= verdict.delay <= 0.1


def test_help_shows_what_it_takes() -> None:
    shown = inspect.signature(RetryStrategy).parameters
    assert list(shown) == ["exceptions", "codes", "statuses", "when", "fatal", "idempotent", "backoff", "wrap"]
    assert {parameter.kind for parameter in shown.values()} == {inspect.Parameter.KEYWORD_ONLY}
