"""The tables of simulation.rst about the defaults: each row is a run of the simulator. This prints them as they stand on the page::

python docs/_ext/storm_study.py
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable, Iterator

from rpcretry import BudgetExhaustedError, CircuitBreaker, RetryBudget, RetryStrategy
from rpcretry.outcome import Attempt, Member, Outcome, Retry
from rpcretry.retry import DEFAULT_BACKOFF, UNLIMITED, Backoff, EqualJitter, ExponentialBackoff, FullJitter, Layer, PeriodicBackoff
from rpcretry.simulation import Change, PolicySpec, Result, Scenario, Server, Settings, simulate

SEED = 0

Row = list[str]
Make = Callable[[int, random.Random], Settings]


class RequestFedBudget(Layer):
    """What other libraries have: each call brings a part of a token, whatever becomes of it."""

    def __init__(self, share: float = 0.2, capacity: float = 100.0) -> None:
        self.share, self.capacity, self.level = share, capacity, capacity

    def admit(self, attempt: Attempt, now: float) -> None:
        if attempt.number == 1:
            self.level = min(self.capacity, self.level + self.share)

    def judge(self, attempt: Attempt, member: Member, outcome: Outcome, verdict: Retry, now: float) -> Retry:
        if self.level < 1:
            raise BudgetExhaustedError("no tokens", name="request-fed", level=self.level)
        self.level -= 1
        return verdict


def seeded(backoff: Backoff, source: random.Random) -> Backoff:
    """With full jitter from *source*."""
    return dataclasses.replace(backoff, jitter=FullJitter(random=source.random))


def default(source: random.Random, **changes: float) -> RetryStrategy:
    """The strategy as it comes, but for *changes* of its backoff."""
    return RetryStrategy(backoff=seeded(dataclasses.replace(DEFAULT_BACKOFF, **changes), source))


def run(scenario: Scenario, make: Make) -> Result:
    return simulate(scenario, PolicySpec("policy", make), seed=SEED)


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def recovery(result: Result) -> str:
    return "never" if result.time_to_recovery is None else f"{result.time_to_recovery:.0f} s"


# --- jitter --------------------------------------------------------------------------------------

PATIENT: dict[str, Callable[[random.Random], Backoff]] = {
    "5 s each time": lambda source: PeriodicBackoff(UNLIMITED, interval=5.0),
    "exponential": lambda source: ExponentialBackoff(UNLIMITED, base=0.5, max_value=10.0),
    "exponential, equal jitter": lambda source: ExponentialBackoff(UNLIMITED, base=0.5, max_value=10.0, jitter=EqualJitter(random=source.random)),
    "exponential, full jitter": lambda source: ExponentialBackoff(UNLIMITED, base=0.5, max_value=10.0, jitter=FullJitter(random=source.random)),
}


def jitters() -> Iterator[Row]:
    """A thousand clients lose their connection at one moment, for a minute and a half, and never give up."""
    server = Server(capacity=300, workers=6, queue=200)
    down = Change(5, 95, down="refuse")
    herd = Scenario("herd", clients=1000, together=5, duration=140, bucket=0.5, server=server, timeline=(down,))
    for name, backoff in PATIENT.items():

        def make(process: int, source: random.Random, backoff: Callable[[random.Random], Backoff] = backoff) -> Settings:
            return Settings(RetryStrategy(backoff=backoff(source)), timeout=1)

        found = run(herd, make)
        served = itertools.accumulate(found.series.good)
        last = next((time + herd.bucket - 95 for time, good in zip(found.series.times, served, strict=True) if good == herd.clients), None)
        yield [name, f"{found.outages[0].amplification:.1f}", f"{found.after_cap:.1f}", "not within 45 s" if last is None else f"{last:.1f} s"]


# --- what feeds a budget -------------------------------------------------------------------------

LOADS = (0.6, 0.8, 0.9)

BUDGETS: dict[str, Callable[[], Layer | tuple[()]]] = {
    "no retries": tuple,
    "no budget": tuple,
    "a success brings 0.1": RetryBudget,
    "a call brings 0.1": lambda: RequestFedBudget(0.1),
    "a call brings 0.2": RequestFedBudget,
}


def budgets() -> Iterator[Row]:
    """A total outage, a brown-out at three loads, and errors that are no outage."""
    for name, layer in BUDGETS.items():

        def make(process: int, source: random.Random, name: str = name, layer: Callable[[], Layer | tuple[()]] = layer) -> Settings:
            return Settings(None if name == "no retries" else default(source), layer(), timeout=1)

        outage = Scenario("outage", load=0.5, duration=140, server=Server(capacity=100, workers=2), timeline=(Change(5, 125, down="refuse"),))
        brown = [
            Scenario("brown-out", load=load, duration=100, server=Server(capacity=100, workers=2), timeline=(Change(10, 20, capacity=0.3),)) for load in LOADS
        ]
        flaky = run(Scenario("flaky", load=0.5, duration=100, server=Server(capacity=100, workers=2, error_rate=0.2)), make)
        succeed = percent(flaky.succeeded / (flaky.succeeded + flaky.failures))
        yield [name, f"{run(outage, make).outage_amplification:.3f}", *(recovery(run(each, make)) for each in brown), succeed]


# --- how many retries, and how long --------------------------------------------------------------

RETRIES = (0, 1, 2, 3, 5)


def retries() -> Iterator[Row]:
    """One error in ten, and then nobody there."""
    for count in RETRIES:

        def make(process: int, source: random.Random, count: int = count) -> Settings:
            return Settings(default(source, attempts=count), timeout=1)

        flaky = Scenario("flaky", load=0.5, duration=100, server=Server(capacity=200, workers=4, error_rate=0.1))
        outage = Scenario("outage", load=0.5, duration=60, server=Server(capacity=100, workers=2), timeline=(Change(10, 50, down="refuse"),))
        found = run(flaky, make)
        yield [
            str(count),
            f"{100 * found.succeeded / (found.succeeded + found.failures):.2f} %",
            f"{found.amplification:.2f}",
            f"{run(outage, make).outage_amplification:.2f}",
        ]


GAPS = (0.1, 0.3, 1.0, 3.0, 10.0)

LASTING: dict[str, dict[str, float]] = {
    "3 retries from 0.1 s: the default": {},
    "5 retries from 0.1 s": {"attempts": 5},
    "8 retries from 0.1 s": {"attempts": 8},
    "3 retries from 1 s": {"base": 1.0},
}


def gaps() -> Iterator[Row]:
    """Of the calls that begin while nobody is there, how many succeed after all."""
    for name, changes in LASTING.items():

        def make(process: int, source: random.Random, changes: dict[str, float] = changes) -> Settings:
            return Settings(default(source, **changes), timeout=1)

        cells = []
        for gap in GAPS:
            scenario = Scenario("gap", load=0.5, duration=60, server=Server(capacity=800, workers=16), timeline=(Change(1, 1 + gap, down="refuse"),))
            during = run(dataclasses.replace(scenario, duration=1 + gap + 40, rate=min(400, 800 / gap), load=None), make).during
            cells.append("-" if during is None or during.goodput is None else f"{100 * during.goodput:.0f} %")
        yield [name, *cells]


# --- the breaker ---------------------------------------------------------------------------------

BREAKERS: dict[str, Callable[[], CircuitBreaker]] = {
    "5 in a row, 5 s: the default": CircuitBreaker,
    "5 in a row, 30 s": lambda: CircuitBreaker(recovery_timeout=30),
    "5 in a row, 60 s": lambda: CircuitBreaker(recovery_timeout=60),
    "half of 100 calls, 5 s": lambda: CircuitBreaker(failure_rate=0.5, window=100, minimum_calls=50),
}
ERRORS = (0.1, 0.3)


def breakers() -> Iterator[Row]:
    """A total outage of fifty seconds, and errors that are no outage."""
    for name, layer in BREAKERS.items():

        def make(process: int, source: random.Random, layer: Callable[[], CircuitBreaker] = layer) -> Settings:
            return Settings(default(source), layer(), timeout=1)

        outage = Scenario("outage", load=0.5, duration=130, server=Server(capacity=100, workers=2), timeline=(Change(10, 60, down="refuse"),))
        found = run(outage, make)
        flaky = [run(Scenario("flaky", load=0.5, duration=120, server=Server(capacity=100, workers=2, error_rate=rate)), make) for rate in ERRORS]
        ended = [percent(each.succeeded / (each.succeeded + each.failures)) for each in flaky]
        yield [name, f"{found.outage_amplification:.3f}", recovery(found), *ended]


# --- processes -----------------------------------------------------------------------------------

PROCESSES = (1, 2, 10, 60, 300)


def processes() -> Iterator[Row]:
    """A hundred calls a second for a minute without a server, by more and more processes."""
    for count in PROCESSES:

        def make(process: int, source: random.Random) -> Settings:
            return Settings(default(source), RetryBudget(), timeout=1)

        down = Change(5, 65, down="refuse")
        scenario = Scenario("outage", clients=300, processes=count, load=0.5, duration=70, server=Server(capacity=200, workers=4), timeline=(down,))
        yield [f"{count:,}", f"{6000 / count:,.0f}", f"{run(scenario, make).outage_amplification:.2f}"]


TABLES: dict[str, Callable[[], Iterator[Row]]] = {
    "jitters": jitters,
    "budgets": budgets,
    "retries": retries,
    "gaps": gaps,
    "breakers": breakers,
    "processes": processes,
}

if __name__ == "__main__":
    for table, rows in TABLES.items():
        print(f".. {table}")
        for row in rows():
            print("\n".join(f"   {'*' if not place else ' '} - {cell}" for place, cell in enumerate(row)))
        print()
