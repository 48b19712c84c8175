"""Policy files: what they hold, and what is said of those that are wrong."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import random
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rpcretry import AdaptiveDelay, CircuitBreaker, ConcurrencyLimit, HTTPStatusError, RateLimit, Request, RetryBudget
from rpcretry.layers import RetryAfter
from rpcretry.retry import DEFAULT_BACKOFF, ExponentialBackoff, FullJitter, PeriodicBackoff
from rpcretry.simulation import Change, Expectation, PolicyFileError, Scenario, Server, Study, load
from rpcretry.simulation._files import LAYERS, _Place, _study, scaled

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "outage.toml"
SCENARIO = "[scenario.s]\nrate = 10\n"
POLICY = "[policy.p]\nretry = true\n"


def study_of(tmp_path: Path, text: str) -> Study:
    file = tmp_path / "some.toml"
    file.write_text(text, "utf-8")
    return load(file)


def settings_of(tmp_path: Path, keys: str, seed: int = 0):
    (policy,) = study_of(tmp_path, f"{SCENARIO}[policy.p]\n{keys}").policies
    return policy.settings(0, random.Random(seed))


# --- scenarios -----------------------------------------------------------------------------------


def test_a_scenario_is_what_its_tables_say(tmp_path: Path) -> None:
    text = """
[scenario.night]
description = "A bad night."
clients = 50
processes = 5
load = 0.5
duration = 20.5
warmup = 1
bucket = 0.5
idempotent = 0.5
together = 3
server = { capacity = 100, workers = 4, latency = "lognormal", sigma = 1.5, queue = 10, full = "refuse", order = "lifo", abandons = true }

[[scenario.night.change]]
at = 5
until = 6.5
down = "hang"

[[scenario.night.change]]
at = 8
restart = true
"""
    server = Server(100, workers=4, latency="lognormal", sigma=1.5, queue=10, full="refuse", order="lifo", abandons=True)
    changes = (Change(5, 6.5, down="hang"), Change(8, restart=True))
    (found,) = study_of(tmp_path, POLICY + text).scenarios
    assert found == Scenario(
        "night",
        clients=50,
        processes=5,
        load=0.5,
        duration=20.5,
        warmup=1,
        bucket=0.5,
        idempotent=0.5,
        together=3,
        server=server,
        timeline=changes,
        description="A bad night.",
    )


def test_the_order_is_that_of_the_file(tmp_path: Path) -> None:
    text = "[scenario.b]\nrate=1\n[scenario.a]\nrate=1\npolicies=['y']\n[policy.z]\n[policy.y]\n[policy.x]\n"
    study = study_of(tmp_path, text)
    assert [scenario.name for scenario in study.scenarios] == ["b", "a"]
    assert [[policy.name for policy in study.policies_of(scenario)] for scenario in study.scenarios] == [["z", "y", "x"], ["y"]]


@pytest.mark.parametrize("clients", [1, 10, 333, 1000, 20_000])
def test_a_scaled_scenario_is_the_same_for_each_client(clients: int) -> None:
    before = Scenario("s", clients=1000, processes=10, rate=300.0, server=Server(400.0, workers=8, queue=100))
    after = scaled(before, clients)
    assert after.clients == clients
    assert after.processes == max(1, round(clients / 100))
    assert after.server.service_time == pytest.approx(before.server.service_time)
    assert after.rate / after.server.capacity == pytest.approx(before.rate / before.server.capacity)
    # As many seconds of work, also where the workers come to no whole number.
    assert after.server.queue / after.server.capacity == pytest.approx(before.server.queue / before.server.capacity, abs=0.51 / after.server.capacity)
    if clients >= 333:
        assert after.server.capacity == pytest.approx(0.4 * clients, rel=0.15)
    assert scaled(before, 1000) == before


def test_scaling_leaves_loads_and_pauses_alone() -> None:
    for scenario in (Scenario("s", load=0.8), Scenario("s", think=2.0)):
        after = scaled(scenario, 3000)
        assert (after.load, after.think, after.server.queue) == (scenario.load, scenario.think, None)
    with pytest.raises(ValueError, match="clients must be at least 1, got 0"):
        scaled(Scenario("s", load=0.8), 0)


# --- policies ------------------------------------------------------------------------------------


def test_a_policy_that_says_nothing_is_that_of_a_client_that_was_told_nothing(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "")
    assert (settings.strategy, settings.layers, settings.timeout, settings.deadline) == (None, (), 30.0, None)


def test_retry_is_the_default_strategy(tmp_path: Path) -> None:
    strategy = settings_of(tmp_path, "retry = true").strategy
    assert strategy.backoff == dataclasses.replace(DEFAULT_BACKOFF, jitter=strategy.backoff.jitter)
    assert isinstance(strategy.backoff.jitter, FullJitter)
    assert strategy.is_guarded
    assert repr(strategy).startswith("RetryStrategy(transient")


def test_the_jitter_draws_from_the_source_of_the_process(tmp_path: Path) -> None:
    for keys in ("retry = true", "backoff = 'exponential:base=0.1,max_value=20,jitter=full'"):
        drawn = [list(settings_of(tmp_path, keys, seed).strategy.backoff()) for seed in (1, 1, 2)]
        assert drawn[0] == drawn[1] != drawn[2]
        source = random.Random(1)
        assert drawn[0] == [base * source.random() for base in (0.1, 0.2, 0.4)]


def test_each_process_has_layers_of_its_own(tmp_path: Path) -> None:
    (policy,) = study_of(tmp_path, f"{SCENARIO}[policy.p]\nretry = true\nbudget = true\nbreaker = true").policies
    first, second = (policy.settings(process, random.Random(process)) for process in (0, 1))
    assert [type(layer) for layer in first.layers] == [RetryBudget, CircuitBreaker]
    assert not set(map(id, first.layers)) & set(map(id, second.layers))


def test_all_layers_from_the_outermost_to_the_innermost(tmp_path: Path) -> None:
    keys = """
retry = true
retry_after = { max_delay = 7 }
breaker = { failure_rate = 0.5, window = "10 s", minimum_calls = 20, recovery_timeout = "exponential:base=5,attempts=4", key = "method" }
rate = { rate = 10, per = 2, burst = 3 }
concurrency = 16
adaptive = { max_factor = 4 }
budget = { capacity = 50, cost = 2, refund = 0.5 }
"""
    budget, adaptive, concurrency, rate, breaker, hints = settings_of(tmp_path, keys).layers
    assert (budget.capacity, budget.cost, budget.refund) == (50, 2, 0.5)
    assert isinstance(adaptive, AdaptiveDelay)
    assert adaptive.max_factor == 4
    assert isinstance(concurrency, ConcurrencyLimit)
    assert "16" in repr(concurrency)
    assert isinstance(rate, RateLimit)
    assert rate.level == 3
    assert isinstance(breaker, CircuitBreaker)
    rules = breaker._common.rules
    assert (rules.failure_rate, rules.window, rules.minimum_calls) == (0.5, datetime.timedelta(seconds=10), 20)
    assert rules.recovery == ExponentialBackoff(4, base=5)
    assert hints.max_delay == 7
    assert list(LAYERS) == ["budget", "adaptive", "concurrency", "rate", "breaker", "retry_after"]


@pytest.mark.parametrize(("keys", "layers"), [("retry_after = true", 1), ("retry_after = false", 1), ("", 0), ("budget = false", 0)])
def test_what_is_false_is_left_out(tmp_path: Path, keys: str, layers: int) -> None:
    found = settings_of(tmp_path, f"retry = true\n{keys}").layers
    assert len(found) == layers
    if keys == "retry_after = false":
        # Every strategy has one; this one takes no hint.
        assert isinstance(found[0], RetryAfter)
        assert found[0].max_delay == 0


def test_what_is_retried_is_said_as_on_the_command_line(tmp_path: Path) -> None:
    strategy = settings_of(tmp_path, "on = ['http:503', 2001]\nbackoff = 'periodic:interval=2'\nidempotent = ['read']").strategy
    assert strategy.backoff == PeriodicBackoff(3, interval=2.0)
    assert strategy.matches(HTTPStatusError("down", status=503)) == "status"
    assert strategy.matches(HTTPStatusError("gone", status=504)) is None
    assert strategy.names(2001)
    assert strategy.is_idempotent(Request("read"))
    assert not strategy.is_idempotent(Request("write"))
    assert settings_of(tmp_path, "on = 'http:504'").strategy.matches(HTTPStatusError("gone", status=504)) == "status"


def test_a_policy_may_be_like_another(tmp_path: Path) -> None:
    text = """
[policy.first]
description = "The first."
backoff = "periodic:interval=2"
timeout = 3
[policy.second]
like = "first"
budget = 20
[policy.third]
like = "second"
timeout = 4
budget = false
"""
    first, second, third = study_of(tmp_path, SCENARIO + text).policies
    assert [policy.description for policy in (first, second, third)] == ["The first.", "", ""]
    found = [policy.settings(0, random.Random(0)) for policy in (first, second, third)]
    assert [settings.timeout for settings in found] == [3, 3, 4]
    assert [settings.strategy.backoff for settings in found] == [PeriodicBackoff(3, interval=2.0)] * 3
    assert [len(settings.layers) for settings in found] == [0, 1, 0]
    assert found[1].layers[0].capacity == 20


# --- expectations --------------------------------------------------------------------------------


def test_expectations_are_read(tmp_path: Path) -> None:
    text = "[scenario.s.expect]\np.amplification = '<= 1.02'\np.time_to_recovery = 'never'\n[scenario.s.expect.q]\ngoodput = ' >0.5 '\n[policy.q]\n"
    assert study_of(tmp_path, SCENARIO + text + POLICY).expectations == (
        Expectation("s", "p", "amplification", "<=", 1.02),
        Expectation("s", "p", "time_to_recovery", "==", float("inf")),
        Expectation("s", "q", "goodput", ">", 0.5),
    )


# --- what is wrong -------------------------------------------------------------------------------

WRONG = {
    # The file.
    "a = ": "some.toml is no TOML: Invalid value (at end of document)",
    "[policies.x]": "some.toml: no such key: 'policies'; did you mean policy?",
    POLICY: "some.toml: there is no scenario in it; write [scenario.NAME] and its keys below",
    SCENARIO: "some.toml: there is no policy in it; write [policy.NAME] and its keys below",
    SCENARIO + "[policy]\n": "some.toml: there is no policy in it; write [policy.NAME] and its keys below",
    "policy = 3\n" + SCENARIO: "some.toml: policy: must be a table, got 3; write [policy.NAME]",
    SCENARIO + "[policy]\nretry = true": "some.toml: [policy.retry] must be a table, got true; write [policy.retry] and its keys below",
    SCENARIO + "[policy.'']": "some.toml: a policy has an empty name; write [policy.NAME]",
    # Scenarios.
    POLICY + "[scenario.s]\nclient = 3\nrate = 1": "some.toml: [scenario.s] no such key: 'client'; did you mean clients?",
    POLICY + "[scenario.s]\nname = 'x'\nrate = 1": "some.toml: [scenario.s] no such key: 'name'; here it is the last word in the head of the table",
    POLICY + "[scenario.s]\ntimeline = []\nrate = 1": "some.toml: [scenario.s] no such key: 'timeline'; here it is [[scenario.NAME.change]] tables",
    POLICY + "[scenario.s]\nrate = '1'": "some.toml: [scenario.s] rate must be a number, got str '1'",
    POLICY + "[scenario.s]\nrate = nan": "some.toml: [scenario.s] rate must be finite, got nan",
    POLICY + "[scenario.s]\nrate = 1\nserver = 3": "some.toml: [scenario.s] server: must be a table, got 3; write server = { capacity = 1000 }",
    POLICY + "[scenario.s]\nrate = 1\nserver = { capcity = 3 }": "some.toml: [scenario.s] server: no such key: 'capcity'; did you mean capacity?",
    POLICY + "[scenario.s]\nrate = 1\nserver = { capacity = 0 }": "some.toml: [scenario.s] server: capacity must be more than 0, got 0",
    POLICY + "[scenario.s]\nrate = 1\n[scenario.s.change]\nat = 3": "some.toml: [scenario.s] change: must be a list of tables, got a table; "
    "write [[scenario.s.change]], with two brackets",
    POLICY + "[scenario.s]\nrate = 1\nchange = [3]": "some.toml: [scenario.s] change 1: must be a table, got 3; write [[scenario.s.change]]",
    POLICY + SCENARIO + "[[scenario.s.change]]\nuntil = 3": "some.toml: [scenario.s] change 1: at is missing",
    POLICY + SCENARIO + "[[scenario.s.change]]\nat=1\nrestart=true\n[[scenario.s.change]]\nat = 3\nuntill = 4": "some.toml: [scenario.s] change 2: "
    "no such key: 'untill'; did you mean until?",
    POLICY + SCENARIO + "policies = 'p'": "some.toml: [scenario.s] policies: must be a list of names, got 'p'; write policies = ['p'], or leave it out for all",
    POLICY + SCENARIO + "policies = ['q']": "some.toml: [scenario.s] policies: there is no policy 'q'; known are p",
    # Policies.
    SCENARIO + "[policy.p]\npreset = 'default'": "some.toml: [policy.p] no such key: 'preset'; here it is retry = true, the default strategy",
    SCENARIO + "[policy.p]\nbudgets = true": "some.toml: [policy.p] no such key: 'budgets'; did you mean budget?",
    SCENARIO + "[policy.p]\nretry = 3": "some.toml: [policy.p] retry must be true or false, got 3; the delays are said by backoff",
    SCENARIO + "[policy.p]\nbackoff = 3": "some.toml: [policy.p] backoff: must be text, got 3; write 'exponential:base=0.1,attempts=3,jitter=full', "
    "as for rpcretry backoff",
    SCENARIO + "[policy.p]\nbackoff = 'exponentail'": "some.toml: [policy.p] backoff: unknown backoff 'exponentail'; did you mean exponential?",
    SCENARIO + "[policy.p]\non = 3": "some.toml: [policy.p] on must be text, got 3; write on = 'http:503,TimeoutError'",
    SCENARIO + "[policy.p]\non = 'CircuitOpenError'": "some.toml: [policy.p] on: CircuitOpenError ends a call and is never retried",
    SCENARIO + "[policy.p]\nretry = true\nidempotent = 3": "some.toml: [policy.p] idempotent ",
    SCENARIO + "[policy.p]\ntimeout = 0": "some.toml: [policy.p] timeout must be more than 0, got 0; give seconds, or None for no limit",
    SCENARIO + "[policy.p]\nbudget = true": "some.toml: [policy.p] budget is about retries, and this policy has none; add retry = true, or backoff",
    SCENARIO + "[policy.p]\nbreaker = 3": "some.toml: [policy.p] breaker: must be a table, got 3; write breaker = true, or breaker = { ... } "
    "with the parameters of CircuitBreaker",
    SCENARIO + "[policy.p]\nbreaker = { failures = 3 }": "some.toml: [policy.p] breaker: no such key: 'failures'; ",
    SCENARIO + "[policy.p]\nbreaker = { clock = 3 }": "some.toml: [policy.p] breaker: no such key: 'clock'; ",
    SCENARIO
    + "[policy.p]\nbreaker = { window = '10' }": "some.toml: [policy.p] breaker.window: must be a number of calls, or seconds such as '10 s', got '10'",
    SCENARIO + "[policy.p]\nrate = true": "some.toml: [policy.p] rate: rate is missing",
    SCENARIO + "[policy.p]\nretry = true\nbudget = -1": "some.toml: [policy.p] budget: capacity must be more than 0, got -1",
    SCENARIO
    + "[policy.p]\nlike = 'q'\n[policy.q]": "some.toml: [policy.p] like must name a policy that stands before it in the file, got 'q'; it is the first",
    SCENARIO + "[policy.q]\n[policy.p]\nlike = 3": "some.toml: [policy.p] like must name a policy that stands before it in the file, got 3; before it are q",
    SCENARIO
    + "[policy.q]\n[policy.p]\nlike = ['q']": "some.toml: [policy.p] like must name a policy that stands before it in the file, got ['q']; before it are q",
    SCENARIO + "[policy.p]\ndescription = 3": "some.toml: [policy.p] description must be a str, got int 3",
    # Expectations.
    POLICY + SCENARIO + "expect = 3": "some.toml: [scenario.s.expect] must be a table, got 3; write POLICY.MEASURE = '<= 1.02'",
    POLICY + SCENARIO + "[scenario.s.expect]\nq.goodput = '> 1'": "some.toml: [scenario.s.expect] there is no policy 'q'; known are p",
    POLICY + SCENARIO + "[scenario.s.expect]\np = '> 1'": "some.toml: [scenario.s.expect] p: must be a table, got '> 1'; write p.MEASURE = '<= 1.02'",
    POLICY + SCENARIO + "[scenario.s.expect]\np.goodptu = '> 1'": "some.toml: [scenario.s.expect] p: there is no measure 'goodptu'; did you mean goodput?",
    POLICY + SCENARIO + "[scenario.s.expect]\np.goodput = 1": "some.toml: [scenario.s.expect] p.goodput: must be text with a comparison, got 1; "
    "write '<= 1' or '>= 1'",
    POLICY + SCENARIO + "[scenario.s.expect]\np.goodput = '~ 1'": "some.toml: [scenario.s.expect] p.goodput: must be one of <=, >=, ==, <, > and a number, "
    "or never, got '~ 1'; write '<= 1.02'",
    POLICY + SCENARIO + "[scenario.s.expect]\np.goodput = 'never'": "some.toml: [scenario.s.expect] p.goodput: must have a number, got '== never': "
    "never is about time_to_recovery",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: WRONG[text][:90])
def test_what_is_wrong_is_named_with_its_place_and_what_to_write(tmp_path: Path, text: str) -> None:
    with pytest.raises(PolicyFileError) as caught:
        study_of(tmp_path, text)
    assert str(caught.value).startswith(WRONG[text])
    # The message has all of it.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


ODD = (True, False, 0, -1, 3.5, float("nan"), float("inf"), "", "x", "\x00", [], [1], ["x"], {}, {"a": 1}, [{}], [[1]], {"x": {"y": 1}})

ALL = """
[policy.x]
like = "full"
description = "x"
on = ["http:503", 2001]
idempotent = ["read"]
deadline = 3.0
breaker = { failure_rate = 0.5, window = "10 s", minimum_calls = 5, recovery_timeout = "periodic:interval=2" }
rate = { rate = 3, burst = 2 }
concurrency = { limit = 3, max_waiting = 3 }
adaptive = { alpha = 0.2 }
retry_after = { max_delay = 3 }
"""


def places(value: object, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Each place in a document."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*place, key)
        yield from places(inner, (*place, key))


@pytest.mark.parametrize("seed", range(4))
def test_whatever_stands_anywhere_is_refused_as_such_or_taken(seed: int) -> None:
    document = tomllib.loads(EXAMPLE.read_text("utf-8") + ALL)
    source = random.Random(seed)
    everywhere = list(places(document))
    assert len(everywhere) > 100
    refused = []
    for _ in range(60):
        changed = copy.deepcopy(document)
        *outer, last = source.choice(everywhere)
        inner: Any = changed
        for key in outer:
            inner = inner[key]
        inner[last] = source.choice(ODD)
        try:
            _study(changed, _Place("some.toml"))
        except PolicyFileError as problem:
            refused.append(str(problem))
    assert len(refused) > 30
    assert all(said.startswith("some.toml: ") and "\n" not in said for said in refused)


def test_bytes_that_are_no_text_are_no_toml(tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(PolicyFileError, match=r"^some\.toml is no TOML: 'utf-8' codec"):
        load(file)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, f"{SCENARIO}[policy.p]\nretry = {'[' * 2000}{']' * 2000}"])
def test_what_is_nested_without_end_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(PolicyFileError, match=r"^some\.toml has arrays or tables nested too deeply"):
        study_of(tmp_path, text)


def test_what_is_no_policy_file_is_not_read_to_its_end() -> None:
    with pytest.raises(PolicyFileError, match=r"^zero is larger than 1 MiB"):
        load("/dev/zero")


def test_the_example_is_read() -> None:
    study = load(str(EXAMPLE))
    assert [scenario.name for scenario in study.scenarios] == ["outage", "metastable", "herd"]
    assert {"none", "fixed", "exponential", "full", "budget", "breaker", "both"} <= {policy.name for policy in study.policies}
    metastable = study.scenarios[1]
    (change,) = metastable.timeline
    assert (metastable.load, change.capacity, change.until - change.at) == (0.8, 0.3, 10)
    said = {str(each) for each in study.expectations}
    assert {"outage: budget.outage_amplification <= 1.02", "metastable: fixed.time_to_recovery == never", "herd: patient-full.after_cap < 1.5"} <= said
