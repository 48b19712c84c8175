"""The model against the formulas of queueing theory: what it says of a server without trouble is known exactly."""

from __future__ import annotations

import math
import random

import pytest

from rpcretry.retry import RetryStrategy
from rpcretry.simulation import PolicySpec, Result, Scenario, Server, Settings, simulate

# The mean of 100,000 waits is some hundredths off, since they hang together, the more the busier the server is. Seeds are fixed.
TOLERANCE = 0.05


def run(server: Server, load: float, calls: int, seed: int = 1, *, retries: bool = False) -> Result:
    strategy = RetryStrategy() if retries else None
    policy = PolicySpec("plain", lambda process, source: Settings(strategy, timeout=None))
    return simulate(Scenario("queue", load=load, duration=calls / (load * server.capacity), server=server), policy, seed)


def erlang_c(workers: int, load: float) -> float:
    """The probability of having to wait in an M/M/c queue (Erlang, 1917)."""
    offered = workers * load
    term = offered**workers / math.factorial(workers) / (1 - load)
    return term / (sum(offered**k / math.factorial(k) for k in range(workers)) + term)


# Over eight seeds the mean is within one standard error of the formula, and single runs vary by 3 % (1 worker, 0.7), 6 % (10, 0.8) and 13 % (50, 0.9).
@pytest.mark.parametrize(("workers", "load", "tolerance"), [(1, 0.5, 0.05), (1, 0.7, 0.06), (4, 0.7, 0.08), (10, 0.8, 0.12)])
def test_the_mean_wait_is_that_of_erlang(workers: int, load: float, tolerance: float) -> None:
    server = Server(1000.0, workers, network=1e-6)
    found = run(server, load, 100_000)
    expected = erlang_c(workers, load) * server.service_time / (workers * (1 - load))
    assert found.queue_wait == pytest.approx(expected, rel=tolerance)
    assert found.utilisation == pytest.approx(load, rel=0.01)
    # Little's law, and what a caller sees: the wait, the service, and the way there and back.
    assert found.latency.mean == pytest.approx(found.queue_wait + server.service_time + 2e-6, rel=0.01)


@pytest.mark.parametrize(
    ("server", "variation"),
    [
        (Server(1000.0, 1, "constant", network=1e-6), 0.0),
        (Server(1000.0, 1, "lognormal", sigma=0.5, network=1e-6), math.exp(0.25) - 1),
        # The variance of a Pareto with a mean of 1 is 1 / (alpha * (alpha - 2)).
        (Server(1000.0, 1, "pareto", alpha=4.0, network=1e-6), 1 / 8),
    ],
    ids=["constant", "lognormal", "pareto"],
)
def test_the_mean_wait_is_that_of_pollaczek_and_khinchine(server: Server, variation: float) -> None:
    load = 0.6
    found = run(server, load, 100_000)
    assert found.queue_wait == pytest.approx(load * server.service_time * (1 + variation) / (2 * (1 - load)), rel=TOLERANCE)


def test_the_order_of_the_queue_changes_no_mean_wait_but_its_tail() -> None:
    fifo, lifo = (run(Server(1000.0, 1, order=order), 0.8, 50_000) for order in ("fifo", "lifo"))
    assert lifo.queue_wait == pytest.approx(fifo.queue_wait, rel=0.02)
    assert lifo.latency.p50 < fifo.latency.p50
    assert lifo.latency.p999 > 2 * fifo.latency.p999


def test_a_finite_queue_turns_away_what_erlang_b_says() -> None:
    # M/M/4/4: no queue at all.
    offered = 4 * 0.9
    blocked = offered**4 / math.factorial(4) / sum(offered**k / math.factorial(k) for k in range(5))
    found = run(Server(1000.0, 4, queue=0), 0.9, 100_000)
    assert found.rejected / found.attempts == pytest.approx(blocked, rel=TOLERANCE)
    assert found.failed == {"HTTPStatusError": found.rejected}


def test_percentiles_are_those_of_the_distribution() -> None:
    # A server that nobody waits for: an exponential service time, and the way there and back.
    found = run(Server(1000.0, 100, network=1e-6), 0.2, 100_000).latency
    for share, value in ((0.5, found.p50), (0.99, found.p99)):
        assert value == pytest.approx(-math.log(1 - share) * 0.1, rel=0.03)
    assert found.mean == pytest.approx(0.1, rel=0.01)


@pytest.mark.parametrize("retries", [False, True])
def test_a_server_without_trouble_gets_each_call_once(retries: bool) -> None:
    found = run(Server(1000.0, 10), 0.8, 20_000, retries=retries)
    assert found.amplification == 1.0
    assert found.attempts == found.calls == found.succeeded + found.unfinished
    assert found.wasted == found.rejected == found.lost == found.dropped == 0


def test_arrivals_are_poisson() -> None:
    counts = run(Server(1000.0, 10), 0.5, 50_000).series.calls
    mean = sum(counts) / len(counts)
    assert mean == pytest.approx(500, rel=0.02)
    variance = sum((count - mean) ** 2 for count in counts) / (len(counts) - 1)
    # Of a hundred counts: within three standard deviations of that of a variance.
    assert variance / mean == pytest.approx(1, abs=3 * math.sqrt(2 / len(counts)))


def test_a_closed_loop_keeps_its_clients_busy() -> None:
    # With a server that is always free a cycle takes its pause, the work and the way.
    server = Server(10_000.0, 1000, "constant", network=0.05)
    policy = PolicySpec("plain", lambda process, source: Settings())
    found = simulate(Scenario("loop", 200, think=0.8, duration=100.0, server=server), policy)
    assert found.calls == pytest.approx(200 * 100 / (0.8 + 0.1 + 0.1), rel=0.02)
    assert found.unfinished <= 200


def test_no_number_is_drawn_from_the_module_s_own_source() -> None:
    random.seed(11)
    expected = random.random()
    random.seed(11)
    run(Server(), 0.5, 1000)
    assert random.random() == expected
