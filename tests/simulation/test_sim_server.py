"""What the simulated server does, one thing at a time."""

from __future__ import annotations

import dataclasses
import gc
import random
from typing import Any

import pytest

from rpcretry.errors import HTTPStatusError, JsonRpcError
from rpcretry.layers import RetryBudget
from rpcretry.outcome import Attempt, Member, Outcome, Retry, Stop
from rpcretry.retry import ExponentialBackoff, FullJitter, Layer, PeriodicBackoff, RetryStrategy
from rpcretry.simulation import Change, PolicySpec, Result, Scenario, Server, Settings, simulate

# One worker that takes a tenth of a second, and a way of a hundredth.
SLOW = Server(10.0, 1, "constant", network=0.01)


class Seen(Layer):
    """Keeps the failures; asked only where there is a strategy."""

    def __init__(self) -> None:
        self.errors: list[tuple[float, Exception | None]] = []

    def judge(self, attempt: Attempt, member: Member, outcome: Outcome, verdict: Retry, now: float) -> Retry | Stop:
        self.errors.append((round(now, 6), outcome.error))
        return verdict


def run(
    server: Server = SLOW, *timeline: Change, clients: int = 1, timeout: float | None = None, strategy: Any = None, layers: Any = (), **scenario: Any
) -> Result:
    policy = PolicySpec("policy", lambda process, source: Settings(strategy, layers, timeout))
    scenario.setdefault("together", 1.0)
    return simulate(Scenario("case", clients, server=server, timeline=timeline, **{"duration": 20.0, **scenario}), policy)


def ends(found: Result) -> tuple[int, dict[str, int]]:
    return found.succeeded, found.failed


def test_a_call_takes_its_way_and_its_work() -> None:
    found = run()
    assert found.latency.mean == pytest.approx(0.12)
    assert found.latency.p50 == pytest.approx(0.12, rel=0.01)
    assert found.utilisation == pytest.approx(0.1 / 20)


def test_those_that_queue_are_served_in_their_order() -> None:
    # The one that came last waits for four others, or for nobody but the first.
    fifo, lifo = (run(dataclasses.replace(SLOW, order=order), clients=5) for order in ("fifo", "lifo"))
    assert fifo.latency.mean == lifo.latency.mean == pytest.approx(0.12 + 0.2)
    assert fifo.queue_wait == pytest.approx(0.2)
    assert fifo.series.queue == lifo.series.queue


def test_one_that_is_late_is_worked_on_for_nobody() -> None:
    found = run(clients=3, timeout=0.25)
    assert ends(found) == (2, {"RequestTimeoutError": 1})
    assert (found.executed, found.wasted, found.dropped) == (3, 1, 0)


def test_a_server_that_abandons_drops_from_its_queue_whoever_has_gone() -> None:
    found = run(dataclasses.replace(SLOW, abandons=True), clients=4, timeout=0.25)
    # The third is being worked on when its time is up, and is finished; the fourth still queues.
    assert ends(found) == (2, {"RequestTimeoutError": 2})
    assert (found.executed, found.wasted, found.dropped) == (3, 1, 1)


def test_a_full_queue_turns_away() -> None:
    found = run(dataclasses.replace(SLOW, queue=1), clients=4)
    assert ends(found) == (2, {"HTTPStatusError": 2})
    refused = run(dataclasses.replace(SLOW, queue=1, full="refuse"), clients=4)
    assert ends(refused) == (2, {"ConnectError": 2})
    assert found.rejected == refused.rejected == 2


@pytest.mark.parametrize(("after", "delivery"), [(None, "maybe executed"), (0.25, "rejected"), (1e-6, "rejected"), (3.0, "rejected")])
def test_503_says_what_a_server_s_does(after: float | None, delivery: str) -> None:
    seen = Seen()
    strategy = RetryStrategy(statuses=503, backoff=PeriodicBackoff(1, 0.1))
    run(dataclasses.replace(SLOW, queue=0, retry_after=after), clients=2, strategy=strategy, layers=[seen])
    ((first, error),) = seen.errors
    assert first == 1.02
    assert isinstance(error, HTTPStatusError)
    assert (error.status, error.delivery.value) == (503, delivery)
    assert (error.headers or {}).get("retry-after") == (None if after is None else {0.25: "0.25", 1e-6: "0.000001", 3.0: "3"}[after])


def test_a_hint_is_waited_for() -> None:
    found = run(dataclasses.replace(SLOW, queue=0, retry_after=2.0), clients=2, strategy=RetryStrategy(backoff=PeriodicBackoff(1, 0.1)))
    assert ends(found) == (2, {})
    assert found.latency.p99 == pytest.approx(0.02 + 2.0 + 0.12, rel=0.01)


@pytest.mark.parametrize(("error", "kind"), [(500, HTTPStatusError), (429, HTTPStatusError), (-32603, JsonRpcError), (7, JsonRpcError)])
def test_the_server_s_own_error_is_what_it_is_said_to_be(error: int, kind: type[Exception]) -> None:
    seen = Seen()
    strategy = RetryStrategy(statuses=range(400, 600), codes=range(-40000, 399), backoff=PeriodicBackoff(1, 0.1))
    found = run(dataclasses.replace(SLOW, error_rate=1.0, error=error), strategy=strategy, layers=[seen])
    assert isinstance(seen.errors[0][1], kind)
    assert found.executed == 2
    assert found.wasted == 0
    assert found.failures == 1


def test_an_outage_that_refuses_loses_what_the_server_has() -> None:
    found = run(SLOW, Change(1.15, 3.0, down="refuse"), clients=4)
    # One is done, one is being worked on, two queue.
    assert ends(found) == (1, {"ConnectionLostError": 3})
    assert (found.executed, found.lost, found.in_server) == (1, 3, 0)
    assert found.latency_all.p99 == pytest.approx(0.16, rel=0.01)
    assert found.utilisation == pytest.approx((0.1 + 0.04) / 20)


@pytest.mark.parametrize(("down", "error"), [("refuse", "ConnectError"), ("503", "HTTPStatusError"), ("hang", "RequestTimeoutError")])
def test_who_calls_during_an_outage_fails(down: Any, error: str) -> None:
    found = run(SLOW, Change(0.5, 3.0, down=down), clients=2, timeout=0.4)
    assert ends(found) == (0, {error: 2})
    assert (found.lost, found.rejected) == ((2, 0) if down == "hang" else (0, 2))
    assert found.latency_all.p50 == pytest.approx(0.4 if down == "hang" else 0.02, rel=0.01)


def test_a_server_that_hangs_goes_on_with_what_it_has_and_nobody_hears_of_it() -> None:
    found = run(SLOW, Change(1.15, 3.0, down="hang"), clients=4, timeout=0.5)
    assert ends(found) == (1, {"RequestTimeoutError": 3})
    assert (found.executed, found.wasted, found.lost) == (4, 3, 0)


def test_a_restart_loses_what_the_server_has_and_goes_on() -> None:
    found = run(SLOW, Change(1.15, restart=True), clients=4, strategy=RetryStrategy(exceptions=ConnectionError, backoff=PeriodicBackoff(1, 0.1)))
    assert ends(found) == (4, {})
    assert (found.attempts, found.executed, found.lost) == (7, 4, 3)
    assert found.outages == ()
    assert found.outage_amplification is None


def test_less_capacity_is_fewer_workers_and_exactly_that_much_less() -> None:
    half = Server(100.0, 10, "constant", network=0.01)
    found = run(half, Change(0.5, 9.0, capacity=0.25), clients=30)
    # 25 a second: three workers, each a fifth slower, take ten times 0.12 s.
    assert found.latency_all.p999 == pytest.approx(0.02 + 10 * 0.12, rel=0.01)
    assert found.series.busy[1] == 3


def test_those_that_are_busy_when_capacity_falls_finish() -> None:
    found = run(Server(40.0, 4, "constant", network=0.01), Change(1.05, 9.0, capacity=0.25), clients=4)
    assert found.latency_all.p999 == pytest.approx(0.12, rel=0.01)


def test_latency_keeps_the_workers_busy_for_longer() -> None:
    found = run(SLOW, Change(0.5, 9.0, latency=3.0), clients=2)
    assert found.latency.mean == pytest.approx(0.02 + 0.45)


def test_changes_at_once_work_together_and_end_one_by_one() -> None:
    found = run(SLOW, Change(0.5, 1.5, latency=2.0), Change(0.7, 9.0, latency=3.0), clients=2)
    # The second begins at 1.61, when only the later one is left.
    assert found.latency_all.p999 == pytest.approx(0.02 + 0.6 + 0.3, rel=0.01)
    broken = run(SLOW, Change(0.5, 9.0, error_rate=1.0), Change(0.5, 0.9, down="refuse"))
    assert ends(broken) == (0, {"HTTPStatusError": 1})


def test_only_what_is_declared_safe_is_repeated_and_what_is_not_is_counted() -> None:
    late = {"timeout": 0.05, "server": SLOW}
    safe = run(strategy=RetryStrategy(backoff=PeriodicBackoff(2, 0.1)), **late)
    unsafe = run(strategy=RetryStrategy(backoff=PeriodicBackoff(2, 0.1)), idempotent=0.0, **late)
    careless = run(strategy=RetryStrategy(exceptions=TimeoutError, backoff=PeriodicBackoff(2, 0.1)), idempotent=0.0, **late)
    assert (safe.attempts, unsafe.attempts, careless.attempts) == (3, 1, 3)
    assert (safe.repeated, unsafe.repeated, careless.repeated) == (0, 0, 2)
    named = run(strategy=RetryStrategy(idempotent="write", backoff=PeriodicBackoff(2, 0.1)), idempotent=0.0, **late)
    assert named.attempts == 3


def test_an_attempt_whose_limit_is_shorter_than_the_way_ends_by_it() -> None:
    found = run(dataclasses.replace(SLOW, network=0.5), timeout=0.2)
    assert found.latency_all.mean == pytest.approx(0.2)
    assert (found.executed, found.wasted) == (1, 1)


def test_an_answer_that_comes_late_is_wasted() -> None:
    # Done in time, and still on its way when the time is up.
    found = run(dataclasses.replace(SLOW, network=0.2), timeout=0.4)
    assert ends(found) == (0, {"RequestTimeoutError": 1})
    assert (found.executed, found.wasted) == (1, 1)
    broken = run(dataclasses.replace(SLOW, network=0.2, error_rate=1.0), timeout=0.4)
    assert (broken.executed, broken.wasted) == (1, 1)


# --- clients and processes ---


def test_each_process_has_its_own_budget() -> None:
    levels: list[RetryBudget] = []

    def make(process: int, source: random.Random) -> Settings:
        levels.append(RetryBudget(2.0))
        return Settings(RetryStrategy(backoff=PeriodicBackoff(3, 0.1)), levels[process])

    scenario = Scenario("budgets", 12, 3, together=0.1, duration=5.0, server=SLOW, timeline=(Change(0.0, 4.0, down="refuse"),))
    found = simulate(scenario, PolicySpec("budget", make))
    assert found.attempts == 12 + 3 * 2
    assert [budget.level for budget in levels] == [0.0] * 3
    assert found.refused == {"BudgetExhaustedError": 12}
    assert found.outage_amplification == 18 / 12


def test_each_process_is_given_its_number_and_its_own_random_numbers() -> None:
    given: list[tuple[int, float]] = []

    def make(process: int, source: random.Random) -> Settings:
        given.append((process, source.random()))
        return Settings()

    for _ in range(2):
        simulate(Scenario("three", 3, 3, together=0.0, duration=1.0), PolicySpec("policy", make))
    assert [process for process, _ in given] == [0, 1, 2, 0, 1, 2]
    assert given[:3] == given[3:]
    assert len(set(given)) == 3


def test_a_closed_loop_waits_for_the_end_of_its_call() -> None:
    found = run(SLOW, Change(0.0, 10.0, down="hang"), clients=3, think=0.01, together=None)
    assert (found.calls, found.unfinished) == (3, 3)


def test_together_in_a_closed_loop_is_the_first_call() -> None:
    found = run(dataclasses.replace(SLOW, workers=50, capacity=500.0), clients=50, think=100.0, together=2.5, duration=4.0)
    assert found.series.calls[:2] == (0, 0)
    assert found.series.calls[2] >= 50


def test_a_seeded_strategy_and_one_that_draws_from_the_module_are_repeatable() -> None:
    def make(process: int, source: random.Random) -> Settings:
        return Settings(RetryStrategy(backoff=ExponentialBackoff(5, base=0.1, jitter=FullJitter(random=source.random))))

    scenario = Scenario("jitter", 50, together=0.1, duration=5.0, server=SLOW, timeline=(Change(0.0, 4.0, down="refuse"),), bucket=0.01)
    module = PolicySpec("policy", lambda process, source: Settings(RetryStrategy(backoff=ExponentialBackoff(5, base=0.1, jitter=True))))
    for policy in (PolicySpec("policy", make), module):
        assert simulate(scenario, policy) == simulate(scenario, policy)
        assert simulate(scenario, policy, 1) != simulate(scenario, policy)


def test_what_a_run_changes_is_put_back() -> None:
    random.seed(5)
    state, thresholds = random.getstate(), gc.get_threshold()
    told: list[float] = []

    def stop(share: float) -> None:
        told.append(share)
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(Scenario("short", 5, load=0.5, duration=10.0, server=SLOW), PolicySpec("plain", lambda process, source: Settings()), progress=stop)
    assert told == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert (random.getstate(), gc.get_threshold()) == (state, thresholds)


def test_a_strategy_that_breaks_ends_its_calls_and_not_the_run() -> None:
    def broken(outcome: Outcome, tries: int) -> bool:
        raise LookupError("broken")

    found = run(dataclasses.replace(SLOW, error_rate=1.0), clients=2, strategy=RetryStrategy(when=broken))
    assert ends(found) == (0, {"LookupError": 2})


def test_a_refusal_that_comes_late_is_a_timeout() -> None:
    found = run(dataclasses.replace(SLOW, network=0.2), Change(0.5, 3.0, down="refuse"), timeout=0.3)
    assert ends(found) == (0, {"RequestTimeoutError": 1})
    assert found.latency_all.mean == pytest.approx(0.3)


def test_a_server_that_abandons_does_not_queue_whoever_had_gone_before() -> None:
    found = run(dataclasses.replace(SLOW, network=0.2, abandons=True), clients=2, timeout=0.15)
    assert (found.executed, found.wasted, found.dropped) == (1, 1, 1)


def test_capacity_that_is_back_is_used_at_once() -> None:
    found = run(Server(40.0, 4, "constant", network=0.01), Change(0.5, 1.05, capacity=0.25), clients=3)
    assert found.latency.p999 == pytest.approx(0.16, rel=0.01)
