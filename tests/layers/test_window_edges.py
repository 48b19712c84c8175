"""What a failure rate and an adaptive delay are counted over, at the edges."""

from __future__ import annotations

import pytest

from rpcretry import ConnectionLostError
from rpcretry.layers import AdaptiveDelay
from rpcretry.layers._window import CallWindow, TimeWindow
from rpcretry.outcome import Attempt, Member, Outcome

LOST = Outcome(error=ConnectionLostError("x"))


@pytest.mark.parametrize("start", [-20.5, -10.0, -0.5, 0.0, 0.5, 1e6])
@pytest.mark.parametrize(("later", "counted"), [(0.0, 2), (8.9, 2), (10.0, 1), (11.0, 1), (1e9, 1)])
def test_a_window_of_time_forgets_between_nine_tenths_and_the_whole_of_it(start: float, later: float, counted: int) -> None:
    window = TimeWindow(10)
    window.add(True, start)
    window.add(False, start + later)
    assert (window.calls, window.failures) == (counted, counted - 1)


def test_where_the_clock_begins_means_nothing() -> None:
    """The slice around 0 is as wide as the others."""
    window = TimeWindow(10)
    window.add(True, -0.5)
    window.add(False, 9.5)
    assert (window.calls, window.failures) == (1, 0)


def test_a_clock_that_went_back_counts_into_the_latest_slice() -> None:
    window = TimeWindow(10)
    window.add(True, 5.0)
    window.add(True, 1.0)
    window.add(False, 14.9)
    assert (window.calls, window.failures) == (3, 2)
    window.add(False, 15.0)
    assert (window.calls, window.failures) == (2, 0)


def test_a_window_of_calls_forgets_the_oldest() -> None:
    window = CallWindow(2)
    for failed, failures in [(True, 1), (False, 1), (False, 0), (True, 1), (True, 2)]:
        window.add(failed, 0.0)
        assert window.failures == failures
    assert window.calls == 2


def test_an_adaptive_delay_comes_back_to_one_by_the_same_steps() -> None:
    layer, rates = AdaptiveDelay(alpha=0.5), []
    for outcomes in ([Outcome(5)], [LOST], [Outcome(5)], [LOST, Outcome(5)]):
        layer.settle(Attempt(1, [Member(None) for _ in outcomes], 0.0, "x"), outcomes, 0.0)
        rates.append(layer.success_rate)
    assert rates == [1.0, 0.5, 0.75, 0.625]
