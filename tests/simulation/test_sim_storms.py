"""What the simulator was built to show: retries that bring a server down, and what keeps them from it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rpcretry.layers import CircuitBreaker, RetryBudget
from rpcretry.retry import UNLIMITED, Backoff, ExponentialBackoff, FullJitter, Layer, PeriodicBackoff, RetryStrategy
from rpcretry.simulation import Change, PolicySpec, Result, Scenario, Server, Settings, simulate

SERVER = Server(200.0, 2)
CUT = Scenario("metastable", load=0.8, duration=48.0, server=SERVER, timeline=(Change(10.0, 20.0, capacity=0.3),))


def policy(backoff: Backoff | None = None, *layers: Callable[[], Layer]) -> PolicySpec:
    strategy = None if backoff is None else RetryStrategy(backoff=backoff)
    return PolicySpec("policy", lambda process, source: Settings(strategy, [layer() for layer in layers], timeout=1.0))


DEFAULT = ExponentialBackoff(3, base=0.1, max_value=20.0, jitter=FullJitter())


@pytest.mark.parametrize("backoff", [PeriodicBackoff(3, 0.1), DEFAULT], ids=["fixed", "full jitter"])
def test_retries_without_a_budget_keep_a_server_down_after_the_cause_is_gone(backoff: Backoff) -> None:
    found = simulate(CUT, policy(backoff))
    assert found.time_to_recovery is None
    assert found.after is not None
    assert found.after.goodput == 0.0
    # It is busy all the time, and for nobody.
    assert found.utilisation > 0.85
    assert found.wasted > 0.75 * found.executed


def test_without_retries_it_recovers() -> None:
    found = simulate(CUT, policy())
    assert found.time_to_recovery == pytest.approx(20, abs=3)
    assert found.amplification == 1.0


def test_a_budget_has_it_recover_almost_as_if_there_were_no_retries() -> None:
    found = simulate(CUT, policy(DEFAULT, RetryBudget))
    assert found.time_to_recovery == pytest.approx(23, abs=3)
    # 100 tokens, for 1,600 calls.
    assert found.outage_amplification == pytest.approx(1 + 100 / 1600, abs=0.01)


def test_a_budget_of_many_processes_never_binds() -> None:
    # The same clients in a hundred processes, each with its own hundred tokens: 16 calls of each in the ten seconds.
    found = simulate(Scenario("many", 1000, 100, 48.0, load=0.8, server=SERVER, timeline=CUT.timeline), policy(DEFAULT, RetryBudget))
    assert found.time_to_recovery is None


def test_a_breaker_has_it_recover_when_its_recovery_time_is_over() -> None:
    slow, quick = (simulate(CUT, policy(DEFAULT, lambda s=seconds: CircuitBreaker(recovery_timeout=s))) for seconds in (30.0, 5.0))  # type: ignore[misc]
    assert slow.outage_amplification is not None
    assert slow.outage_amplification < 0.5
    # It opened about a second after the cut at 10, or was opened again by a probe.
    assert slow.time_to_recovery == pytest.approx(22, abs=3)
    assert quick.time_to_recovery == pytest.approx(4, abs=3)


def test_in_a_total_outage_the_default_budget_adds_at_most_a_hundredth_of_so_many_calls() -> None:
    outage = Scenario("outage", load=0.8, duration=40.0, server=SERVER, timeline=(Change(5.0, 36.0, down="refuse"),))
    without, budget = (simulate(outage, policy(DEFAULT, *layers)) for layers in ((), (RetryBudget,)))
    assert without.outage_amplification == pytest.approx(4.0, abs=0.05)
    # 100 tokens for the 5,000 calls of the one process.
    assert budget.outage_amplification is not None
    assert 1.0 < budget.outage_amplification <= 1.022
    assert budget.time_to_recovery == 0.0


def herd(backoff: Backoff) -> Result:
    scenario = Scenario("herd", 1000, together=5.0, duration=70.0, server=Server(1000.0, 10), timeline=(Change(5.0, 60.0, down="refuse"),))
    return simulate(scenario, policy(backoff))


def test_full_jitter_spreads_a_herd_and_without_jitter_it_stays_one() -> None:
    full = herd(ExponentialBackoff(UNLIMITED, base=0.1, max_value=10.0, jitter=FullJitter()))
    plain = herd(ExponentialBackoff(UNLIMITED, base=0.1, max_value=10.0))
    assert full.after_cap_from == plain.after_cap_from == pytest.approx(5 + 12.7 + 10)
    assert full.after_cap is not None
    assert full.after_cap_floor is not None
    assert full.after_cap < 1.5
    assert full.after_cap == pytest.approx(full.after_cap_floor, rel=0.1)
    assert plain.after_cap is not None
    # All of them once in ten seconds.
    assert plain.after_cap > 8
    assert max(plain.series.attempts[28:60]) == 1000


def test_a_call_costs_little_time() -> None:
    # Ten times what it takes on a machine with nothing else to do.
    found = simulate(Scenario("calm", load=0.8, duration=20.0, server=Server(2500.0, 25)), policy(DEFAULT))
    assert found.calls > 35_000
    assert found.cpu / found.calls < 70e-6
    assert found.elapsed > 0
