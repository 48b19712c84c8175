"""Jitter: how each kind spreads a delay, and how a ``jitter=`` argument is read."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcretry.retry import AdditiveJitter, EqualJitter, FullJitter, Jitter, PeriodicBackoff, ProportionalJitter
from rpcretry.retry.jitter import as_jitter

delays = st.floats(0, 86_400)
draws = st.floats(0, 1, exclude_max=True)


@given(delays, draws)
def test_full_jitter_is_anything_up_to_the_delay(delay: float, draw: float) -> None:
    assert FullJitter(random=lambda: draw)(delay) == delay * draw


@given(delays, draws)
def test_equal_jitter_keeps_half(delay: float, draw: float) -> None:
    assert delay / 2 <= EqualJitter(random=lambda: draw)(delay) <= delay


@given(delays, draws, st.floats(0, 1, exclude_min=True))
def test_proportional_jitter_goes_each_way(delay: float, draw: float, proportion: float) -> None:
    spread = ProportionalJitter(proportion, random=lambda: draw)(delay)
    assert delay * (1 - proportion) * 0.999999 <= spread <= delay * (1 + proportion) * 1.000001


@given(delays, draws, st.floats(0, 1e6, exclude_min=True))
def test_additive_jitter_adds(delay: float, draw: float, most: float) -> None:
    assert delay <= AdditiveJitter(most, random=lambda: draw)(delay) <= delay + most


@pytest.mark.parametrize("make", [FullJitter, EqualJitter, lambda **k: ProportionalJitter(0.5, **k), lambda **k: AdditiveJitter(2.0, **k)])
def test_random_is_injectable(make: type[Jitter]) -> None:
    one, two = make(random=random.Random(7).random), make(random=random.Random(7).random)
    assert [one(1.0) for _ in range(5)] == [two(1.0) for _ in range(5)]
    assert len({make()(1.0) for _ in range(50)}) > 40


@pytest.mark.parametrize(
    ("value", "kind"),
    [(None, type(None)), (False, type(None)), (True, FullJitter), (0.1, ProportionalJitter), (1, ProportionalJitter), (EqualJitter(), EqualJitter)],
)
def test_how_an_argument_is_read(value: object, kind: type) -> None:
    assert type(as_jitter(value)) is kind  # type: ignore[arg-type]


def test_a_callable_without_arguments_is_added() -> None:
    jitter = as_jitter(lambda: random.gauss(mu=0.5, sigma=0.0))
    assert jitter is not None
    assert jitter(1.0) == 1.5


def test_a_jitter_of_the_users_transforms_the_delay() -> None:
    class Halved(Jitter):
        def __call__(self, delay: float) -> float:
            return delay / 2

    assert list(PeriodicBackoff(2, 3.0, jitter=Halved())()) == [1.5, 1.5]
    assert repr(Halved()) == "Halved()"


class Needy:
    def __call__(self, delay: float) -> float:
        return delay


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        (0, ValueError, ["jitter", "(0, 1]", "got 0"]),
        (0.0, ValueError, ["jitter", "(0, 1]", "got 0.0"]),
        (-0.1, ValueError, ["jitter", "(0, 1]", "-0.1"]),
        (1.01, ValueError, ["jitter", "(0, 1]", "1.01"]),
        (math.nan, ValueError, ["jitter", "(0, 1]", "nan"]),
        (math.inf, ValueError, ["jitter", "(0, 1]", "inf"]),
        ("full", TypeError, ["jitter", "'full'", "True"]),
        ([0.1], TypeError, ["jitter", "[0.1]"]),
        (FullJitter, TypeError, ["jitter", "class FullJitter", "jitter=FullJitter()"]),
        (lambda delay: delay, TypeError, ["jitter", "no argument", "Jitter subclass"]),
        (Needy(), TypeError, ["jitter", "no argument", "Jitter subclass"]),
    ],
)
def test_bad_jitter_is_refused_when_the_backoff_is_made(bad: object, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        PeriodicBackoff(1, jitter=bad)  # type: ignore[arg-type]
    assert type(caught.value) is error
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("make", "error", "word"),
    [
        (lambda: ProportionalJitter(0), ValueError, "proportion"),
        (lambda: ProportionalJitter("a"), TypeError, "proportion"),  # type: ignore[arg-type]
        (lambda: AdditiveJitter(0), ValueError, "most"),
        (lambda: AdditiveJitter(math.inf), ValueError, "most"),
        (lambda: FullJitter(random=0.5), TypeError, "random"),  # type: ignore[arg-type]
        (lambda: FullJitter(random=lambda a: a), TypeError, "random"),  # type: ignore[arg-type,misc]
    ],
)
def test_bad_parameters_of_a_jitter_are_named(make: object, error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        make()  # type: ignore[operator]


def test_a_jitter_without_its_method_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="__call__"):
        Jitter()  # type: ignore[abstract]


@pytest.mark.parametrize("value", [True, 0.5])
def test_the_source_that_is_ours_is_not_looked_at_for_each_call(value: bool | float, monkeypatch: pytest.MonkeyPatch) -> None:
    # A signature is dear, and jitter=True makes its Jitter at the first failure of each call.
    monkeypatch.setattr("rpcretry.retry.jitter.callable_with", lambda *_: pytest.fail("looked at a signature"))
    assert as_jitter(value) is not None
