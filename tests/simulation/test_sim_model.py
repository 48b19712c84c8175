"""What is refused, and what the messages say."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import rpcretry.simulation
from rpcretry.layers import CircuitBreaker, RateLimit, RetryBudget
from rpcretry.retry import RetryStrategy
from rpcretry.simulation import Change, PolicySpec, Scenario, Server, Settings, compare, simulate

PLAIN = PolicySpec("plain", lambda process, source: Settings())
SHORT = Scenario("short", 2, together=0.0, duration=1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Server(capacity=0), "capacity must be more than 0, got 0"),
        (lambda: Server(workers=0), "workers must be at least 1, got 0"),
        (lambda: Server(workers=10**400), "workers must be finite, got 1000"),
        (lambda: Server(workers=10**10), r"workers must be at most 1e\+09, got 10000000000"),
        (lambda: Server(capacity=1e300), r"capacity must be at most 1e\+09, got 1e\+300"),
        (lambda: Server(capacity=1e-308), r"capacity must be at least workers / 1e\+09 s, got 1e-308: a request takes inf s"),
        (lambda: Server(latency="lognormal", sigma=1e308), "sigma must be at most 10, got"),
        (lambda: Change(5, capacity=1e308), r"capacity must be at most 1e\+06, got"),
        (lambda: Change(5, capacity=5e-324), "capacity must be at least 1e-06, got 5e-324"),
        (lambda: Scenario("x", think=1e-300), "think must be at least 1e-06, got 1e-300"),
        (lambda: Scenario("x", rate=1e300), r"rate must be at most 1e\+09, got 1e\+300"),
        (lambda: Scenario("x", rate=1.0, duration=1e10, bucket=1e5), r"duration must be at most 1e\+09, got"),
        (lambda: Server(latency="lognorm"), "latency 'lognorm' does not exist; did you mean lognormal?"),
        (lambda: Server(latency=3), "latency must be a str, got int 3; known are constant, exponential, lognormal, pareto"),
        (lambda: Server(sigma=1.0), "sigma=1.0 does nothing with latency='exponential'; leave it out, or write latency='lognormal'"),
        (lambda: Server(latency="lognormal", alpha=3.0), "alpha=3.0 does nothing with latency='lognormal'"),
        (lambda: Server(latency="pareto", alpha=1.0), "alpha must be more than 1, got 1.0"),
        (lambda: Server(network=0), "network must be at least 1e-06, got 0"),
        (lambda: Server(queue=-1), "queue must be at least 0, got -1"),
        (lambda: Server(full="drop"), "full 'drop' does not exist; known are 503, refuse"),
        (lambda: Server(retry_after=-1), "retry_after must be at least 0, got -1"),
        (lambda: Server(order="filo"), "order 'filo' does not exist; did you mean fifo?"),
        (lambda: Server(abandons=1), "abandons must be True or False, got 1"),
        (lambda: Server(error_rate=1.5), "error_rate must be at most 1, got 1.5"),
        (lambda: Server(error="503"), "error must be an int, got str '503'; give an HTTP status or a JSON-RPC error code"),
        (lambda: Change(-1, down="refuse"), "at must be at least 0, got -1"),
        (lambda: Change(5, 5, down="refuse"), "until must be more than 5, got 5"),
        (lambda: Change(5), "Change changes nothing; give it capacity, down, latency, error_rate or restart"),
        (lambda: Change(5, capacity=0), "capacity must be more than 0, got 0"),
        (lambda: Change(5, down="hangs"), "down 'hangs' does not exist; did you mean hang?"),
        (lambda: Change(5, 6, restart=True), "restart is a moment and has no until, got until=6; leave until out"),
        (lambda: Change(5, restart=True, capacity=0.5), r"restart is a moment and stands alone, got restart, capacity x 0.5; write another Change"),
        (lambda: Change(5, restart="yes"), "restart must be True or False, got 'yes'"),
        (lambda: Change(5, latency=0), "latency must be more than 0, got 0"),
        (lambda: Change(5, error_rate=2), "error_rate must be at most 1, got 2"),
        (lambda: Scenario("", load=0.5), "name must not be empty"),
        (lambda: Scenario("x", clients=0, load=0.5), "clients must be at least 1, got 0"),
        (lambda: Scenario("x", clients=3, processes=4, load=0.5), "processes must be at most clients, 3, got 4: some would have no client; raise clients"),
        (lambda: Scenario("x", duration=0, load=0.5), "duration must be more than 0, got 0"),
        (lambda: Scenario("x", load=0.5, rate=3.0), "rate and load exclude each other: calls come in one way; leave all but one out"),
        (lambda: Scenario("x", load=0), "load must be more than 0, got 0"),
        (lambda: Scenario("x"), "Scenario has no calls; give rate in calls per second, load as a share of the capacity, think in seconds, or together"),
        (lambda: Scenario("x", together=60.0), "together must be less than 60 s, when the run ends, got 60.0"),
        (lambda: Scenario("x", load=0.5, server={}), "server must be a Server, got dict {}; write server=Server(...)"),
        (lambda: Scenario("x", load=0.5, timeline=[3]), "timeline takes Change objects, got int 3"),
        (lambda: Scenario("x", load=0.5, timeline=None), "timeline takes Change objects, got NoneType None"),
        (lambda: Scenario("x", load=0.5, timeline=[Change(60, down="hang")]), "timeline has a Change at 60 s, and the run ends at 60 s; raise duration"),
        (
            lambda: Scenario("x", load=0.5, warmup=20.0, timeline=[Change(10, down="hang")]),
            "warmup must be less than 10 s, when the first change begins, got 20.0",
        ),
        (lambda: Scenario("x", load=0.5, warmup=60), "warmup must be less than 60 s, when the run ends, got 60"),
        (lambda: Scenario("x", load=0.5, bucket=0), "bucket must be more than 0, got 0"),
        (lambda: Scenario("x", load=0.5, bucket=61), "bucket must be at most 60, got 61"),
        (lambda: Scenario("x", load=0.5, bucket=1e-6), "bucket must be at least 6e-05, a millionth of the duration, got 1e-06"),
        (lambda: Scenario("x", load=0.5, idempotent=2), "idempotent must be at most 1, got 2"),
        (lambda: Scenario("x", load=0.5, description=None), "description must be a str, got NoneType None"),
        (lambda: Settings(RetryStrategy), "strategy must be a RetryStrategy or None, got type .*; write RetryStrategy\\(\\)"),
        (lambda: Settings(layers=[RetryBudget]), "layers takes Layer objects, got .*; write RetryBudget\\(\\)"),
        (lambda: Settings(layers=[CircuitBreaker(), RateLimit(1.0)]), "layers has a RateLimit after a CircuitBreaker"),
        (lambda: Settings(timeout=0), "timeout must be more than 0, got 0; give seconds, or None for no limit"),
        (lambda: Settings(deadline="2"), "deadline must be a number, got str '2'; give seconds, or None for no limit"),
        (lambda: PolicySpec("x", Settings()), "make must be a function, got Settings; write lambda process, random: Settings"),
        (lambda: PolicySpec("x", lambda process: Settings()), "make must be callable with 2 arguments"),
        (lambda: PolicySpec(3, lambda process, source: Settings()), "name must be a str, got int 3"),
        (lambda: PolicySpec("x", lambda process, source: Settings(), 3), "description must be a str, got int 3"),
        (lambda: simulate("x", PLAIN), "scenario must be a Scenario, got str 'x'"),
        (lambda: simulate(SHORT, Settings()), "policy must be a PolicySpec, got Settings .*; write PolicySpec\\(name, lambda process, random: ...\\)"),
        (lambda: simulate(SHORT, None), "policy must be a PolicySpec, got NoneType None$"),
        (lambda: simulate(SHORT, PLAIN, 1.5), "seed must be an int, got float 1.5"),
        (lambda: simulate(SHORT, PLAIN, progress=print is None), "progress must be callable, got bool False"),
        (lambda: simulate(SHORT, PolicySpec("bad", lambda process, source: None)), "make of the policy 'bad' must return Settings, it returned NoneType None"),
        (lambda: compare(SHORT, [PLAIN, PLAIN]), "policies has two of the name 'plain'; give each a name of its own"),
        (lambda: compare(SHORT, [PLAIN, None]), "policy must be a PolicySpec, got NoneType None"),
    ],
)
def test_bad_input_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_what_a_policy_raises_goes_through() -> None:
    def make(process: int, source: random.Random) -> Settings:
        raise LookupError("no such process")

    with pytest.raises(LookupError, match="no such process"):
        simulate(SHORT, PolicySpec("broken", make))


def test_a_timeline_is_kept_in_the_order_of_time() -> None:
    late, early = Change(9, down="hang"), Change(2, 3, capacity=0.5)
    scenario = Scenario("x", load=0.5, timeline=[late, early])
    assert scenario.timeline == (early, late)
    assert scenario.trouble == (2, 60.0)
    assert Scenario("x", load=0.5, timeline=late).timeline == (late,)
    assert Scenario("x", load=0.5).trouble is None
    assert Scenario("x", load=0.5, timeline=[Change(2, 99, down="hang"), Change(70, restart=True)], duration=80.0).trouble == (2, 80.0)
    assert hash(scenario) == hash(Scenario("x", load=0.5, timeline=[late, early]))


def test_calls_per_second_are_given_or_follow_from_the_load() -> None:
    assert Scenario("x", rate=30.0).arrivals == 30.0
    assert Scenario("x", load=0.5, server=Server(80.0)).arrivals == 40.0
    assert Scenario("x", think=2.0).arrivals == 0.0


def test_changes_say_what_they_are() -> None:
    assert Change(1, down="503").kind == "down (503)"
    assert Change(1, capacity=0.3, latency=2, error_rate=0.0).kind == "capacity x 0.3, latency x 2, error rate 0"
    assert Change(1, restart=True).kind == "restart"


def test_settings_are_those_of_a_client_where_nothing_is_said() -> None:
    assert Settings() == Settings(None, (), 30.0, None)
    budget = RetryBudget()
    assert Settings(layers=budget).layers == (budget,)


def test_one_policy_need_not_be_in_a_list() -> None:
    told: list[float] = []
    (alone,) = compare(SHORT, PLAIN, progress=told.append)
    assert alone == simulate(SHORT, PLAIN)
    assert told[-1] == 1.0
    shares: list[float] = []
    compare(SHORT, [PLAIN, PolicySpec("other", PLAIN.make)], progress=shares.append)
    assert shares == sorted(shares)
    assert (shares[0] < 0.6, shares[-1]) == (True, 1.0)
    assert compare(SHORT, []) == []


@pytest.mark.parametrize(("before", "within"), [(0, 0), (700, 200_000), (1_000_000, 1_000_000)])
def test_fewer_looks_for_cycles_and_none_where_there_are_none(before: int, within: int) -> None:
    thresholds = gc.get_threshold()
    seen: list[int] = []
    try:
        gc.set_threshold(before, *thresholds[1:])
        simulate(SHORT, PolicySpec("looking", lambda process, source: seen.append(gc.get_threshold()[0]) or Settings()))
        assert (seen, gc.get_threshold()) == ([within], (before, *thresholds[1:]))
    finally:
        gc.set_threshold(*thresholds)


def test_the_package_is_loaded_when_it_is_used() -> None:
    program = (
        "import sys, rpcretry, rpcretry.simulation as s; print([m for m in sys.modules if m.startswith('rpcretry.simulation.')])\n"
        "s.simulate; print([m for m in ('matplotlib', 'pydantic', 'aiohttp', 'requests', 'tomllib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]


def test_its_names_exist() -> None:
    assert all(hasattr(rpcretry.simulation, name) for name in rpcretry.simulation.__all__)
    assert set(rpcretry.simulation.__all__) <= set(dir(rpcretry.simulation))
