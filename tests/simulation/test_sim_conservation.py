"""What must add up, whatever happens."""

from __future__ import annotations

import math
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rpcretry.layers import AdaptiveDelay, CircuitBreaker, ConcurrencyLimit, RateLimit, RetryBudget
from rpcretry.retry import ExponentialBackoff, Layer, PeriodicBackoff, RetryStrategy
from rpcretry.simulation import Change, PolicySpec, Result, Scenario, Server, Settings, compare, simulate

STRATEGIES: list[Callable[[], RetryStrategy | None]] = [
    lambda: None,
    RetryStrategy,
    lambda: RetryStrategy(backoff=PeriodicBackoff(4, 0.05)),
    lambda: RetryStrategy(exceptions=Exception, statuses=range(400, 600), codes=range(-32099, -31999), backoff=ExponentialBackoff(9, base=0.1, jitter=0.3)),
    lambda: RetryStrategy(when=lambda outcome, tries: tries < 3, backoff=PeriodicBackoff(2, 0.0), wrap=True),
]

LAYERS: list[Callable[[], list[Layer]]] = [
    list,
    lambda: [RetryBudget(5.0)],
    lambda: [CircuitBreaker(recovery_timeout=0.3)],
    lambda: [ConcurrencyLimit(3, max_waiting=10)],
    lambda: [RateLimit(40.0, burst=3.0, max_wait=0.5), AdaptiveDelay()],
    lambda: [RetryBudget(20.0), RateLimit(60.0, burst=5.0), ConcurrencyLimit(4), CircuitBreaker(recovery_timeout=0.2, half_open_max_calls=2)],
]

trouble = st.one_of(
    st.fixed_dictionaries({"down": st.sampled_from(["refuse", "hang", "503"])}),
    st.fixed_dictionaries({"capacity": st.sampled_from([0.05, 0.3, 2.0])}),
    st.fixed_dictionaries({"latency": st.sampled_from([0.5, 5.0]), "error_rate": st.sampled_from([0.0, 0.5, 1.0])}),
    st.just({"restart": True}),
)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    kind = draw(trouble)
    at = draw(st.sampled_from([0.0, 0.5, 1.0, 1.7]))
    until = None if "restart" in kind else draw(st.sampled_from([None, 1.75, 2.5, 9.0]))
    return Change(at, until, **kind)


servers = st.builds(
    Server,
    capacity=st.sampled_from([20.0, 60.0, 200.0]),
    workers=st.integers(1, 6),
    latency=st.sampled_from(["constant", "exponential", "lognormal", "pareto"]),
    network=st.sampled_from([1e-6, 0.001, 0.08, 0.3]),
    queue=st.sampled_from([None, 0, 5]),
    full=st.sampled_from(["503", "refuse"]),
    retry_after=st.sampled_from([None, 0.0, 0.25]),
    order=st.sampled_from(["fifo", "lifo"]),
    abandons=st.booleans(),
    error_rate=st.sampled_from([0.0, 0.2]),
    error=st.sampled_from([503, 429, 500, -32005, 7]),
)

LOADS: list[dict[str, Any]] = [{"load": 0.8}, {"load": 2.0, "together": 0.7}, {"think": 0.1}, {"think": 0.2, "together": 1.0}, {"together": 0.3}]


@settings(max_examples=150, deadline=None)
@given(
    server=servers,
    timeline=st.lists(changes(), max_size=3),
    load=st.sampled_from(LOADS),
    clients=st.integers(2, 30),
    processes=st.integers(1, 2),
    idempotent=st.sampled_from([0.0, 0.5, 1.0]),
    limits=st.sampled_from([(None, None), (0.25, None), (0.5, 0.8), (None, 0.4)]),
    chosen=st.tuples(st.sampled_from(STRATEGIES), st.sampled_from(LAYERS)),
    seed=st.integers(0, 3),
)
@example(
    server=Server(20.0, 1, latency="constant", network=1e-6),
    timeline=[Change(0.0, capacity=2.0), Change(0.0, capacity=2.0)],
    load={"load": 0.8},
    clients=2,
    processes=1,
    idempotent=0.0,
    limits=(None, None),
    chosen=(STRATEGIES[4], list),
    seed=0,
)
def test_nothing_is_lost_and_nothing_is_counted_twice(
    server: Server,
    timeline: list[Change],
    load: dict[str, Any],
    clients: int,
    processes: int,
    idempotent: float,
    limits: tuple[float | None, float | None],
    chosen: tuple[Callable[[], RetryStrategy | None], Callable[[], list[Layer]]],
    seed: int,
) -> None:
    made: list[Layer] = []

    def make(process: int, source: random.Random) -> Settings:
        layers = chosen[1]()
        made.extend(layers)
        return Settings(chosen[0](), layers, *limits)

    scenario = Scenario(
        "any", clients, processes, 3.1, **load, server=server, timeline=tuple(timeline), idempotent=idempotent, bucket=0.5, warmup=0.2 * (not timeline)
    )
    found = simulate(scenario, PolicySpec("any", make), seed)
    adds_up(found, timeline)
    keeps_its_bounds(made)
    if chosen[0]() is None:
        assert found.attempts <= found.calls
    if idempotent == 1.0:
        assert found.repeated == 0
    assert found == simulate(scenario, PolicySpec("any", make), seed)


def adds_up(found: Result, timeline: list[Change]) -> None:
    series = found.series
    assert found.calls == found.succeeded + found.failures + found.unfinished
    assert found.unfinished >= 0
    assert found.attempts == found.executed + found.rejected + found.lost + found.dropped + found.in_server
    assert found.succeeded + found.wasted <= found.executed
    assert found.latency.count == found.succeeded
    assert found.latency_all.count == found.succeeded + found.failures
    totals = (found.calls, found.attempts, found.succeeded, found.failures, found.succeeded, found.succeeded + found.failures)
    assert tuple(map(sum, (series.calls, series.attempts, series.good, series.failed, series.succeeded, series.ended))) == totals
    assert {len(column) for column in (series.calls, series.queue, series.busy, series.succeeded, series.ended)} == {7}
    assert sum(found.refused.values()) <= found.failures
    phases = [phase for phase in (found.before, found.during, found.after) if phase is not None]
    assert sum(phase.calls for phase in phases) <= found.calls
    for phase in phases:
        assert 0 <= phase.succeeded + phase.failed <= phase.calls
    # Changes that overlap work together: two that double the workers leave four times as many.
    most = math.prod(max(1.0, change.capacity or 1.0) for change in timeline)
    assert 0 <= found.utilisation <= most * 1.0005
    assert found.time_to_recovery is None or found.time_to_recovery >= 0


def keeps_its_bounds(layers: list[Layer]) -> None:
    for layer in layers:
        if isinstance(layer, RetryBudget):
            assert 0 <= layer.level <= layer.capacity
        elif isinstance(layer, ConcurrencyLimit):
            assert layer.in_use <= layer.limit
            assert layer.max_waiting is None or layer.waiting <= layer.max_waiting


@pytest.mark.parametrize("down", ["refuse", "503", "hang"])
@pytest.mark.parametrize("layers", LAYERS)
def test_what_was_taken_is_given_back_when_all_calls_have_ended(down: Any, layers: Callable[[], list[Layer]]) -> None:
    made: list[Layer] = []

    def make(process: int, source: random.Random) -> Settings:
        made.extend(layers())
        return Settings(RetryStrategy(backoff=PeriodicBackoff(3, 0.2)), made, 0.3)

    scenario = Scenario("herd", 60, together=0.1, duration=30.0, server=Server(100.0, 4, retry_after=0.5), timeline=(Change(0.2, 0.7, down=down),))
    found = simulate(scenario, PolicySpec("any", make))
    assert (found.calls, found.unfinished, found.in_server) == (60, 0, 0)
    for layer in made:
        if isinstance(layer, ConcurrencyLimit):
            assert (layer.in_use, layer.waiting) == (0, 0)
        elif isinstance(layer, RateLimit):
            assert layer.waiting == 0
        elif isinstance(layer, CircuitBreaker):
            assert not layer._permits


def test_a_call_that_nobody_ends_is_under_way_at_the_end() -> None:
    policy = PolicySpec("patient", lambda process, source: Settings(timeout=None))
    found = simulate(Scenario("hang", 10, together=1.0, duration=5.0, timeline=(Change(0.5, 2.0, down="hang"),)), policy)
    assert (found.calls, found.unfinished, found.lost, found.executed) == (10, 10, 10, 0)
    assert found.before.goodput is None
    assert found.during is not None
    # Those who wait for ever were not served.
    assert found.during.goodput == 0.0


# --- repeatable ---


DEFAULTS = PolicySpec("default", lambda process, source: Settings(RetryStrategy(), [RetryBudget(), CircuitBreaker()], 0.5))
FIXED = PolicySpec("fixed", lambda process, source: Settings(RetryStrategy(backoff=PeriodicBackoff(3, 0.1)), timeout=0.5))
DAY = Scenario("day", 50, 5, duration=6.0, rate=150.0, server=Server(200.0, error_rate=0.05), timeline=(Change(2.0, 3.0, capacity=0.2),), idempotent=0.7)


def test_the_same_seed_gives_the_same_result_whoever_else_is_compared() -> None:
    alone = simulate(DAY, DEFAULTS, 3)
    random.random()
    together = compare(DAY, [FIXED, DEFAULTS], 3)
    assert together[1] == alone
    assert pickle.loads(pickle.dumps(alone)) == alone
    assert simulate(DAY, DEFAULTS, 4) != alone


def test_the_result_is_the_same_on_every_version() -> None:
    # Written down from a run; a change of the model may change it, a version of Python may not.
    found = simulate(DAY, DEFAULTS, 3)
    assert (found.calls, found.attempts, found.succeeded, found.executed) == (904, 446, 319, 446)
    assert found.failed == {"CircuitOpenError": 555, "HTTPStatusError": 7, "RequestTimeoutError": 23}
    assert found.latency.p99 == pytest.approx(0.41453234216884965)


def test_all_policies_meet_the_same_calls() -> None:
    fixed, defaults = compare(DAY, [FIXED, DEFAULTS])
    assert fixed.series.calls == defaults.series.calls
    # Before anything went wrong they cannot be told apart, errors apart.
    calm = Scenario("calm", 50, duration=4.0, rate=150.0, server=Server(200.0))
    one, other = compare(calm, [FIXED, DEFAULTS])
    assert (one.latency, one.series) == (other.latency, other.series)


def test_the_hash_seed_has_no_say() -> None:
    program = (
        "from rpcretry.simulation import *; from rpcretry.retry import *; from rpcretry.layers import *\n"
        "day = Scenario('day', 50, 5, duration=4.0, rate=150.0, server=Server(200.0, error_rate=0.1), timeline=(Change(1.0, 2.0, down='hang'),))\n"
        "make = lambda process, source: Settings(RetryStrategy(), [RetryBudget(), ConcurrencyLimit(9), CircuitBreaker(key='method')], 0.5)\n"
        "found = simulate(day, PolicySpec('p', make)); print(found.failed, found.latency_all, found.series)"
    )
    outputs = {
        subprocess.run([sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True).stdout for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_two_threads_do_not_disturb_each_other() -> None:
    alone = [simulate(DAY, policy) for policy in (FIXED, DEFAULTS)]
    found: dict[str, Result] = {}

    def run(policy: PolicySpec) -> None:
        found[policy.name] = simulate(DAY, policy)

    threads = [threading.Thread(target=run, args=(policy,)) for policy in (FIXED, DEFAULTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found["fixed"], found["default"]] == alone
