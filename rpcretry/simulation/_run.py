"""A run: a scenario and a policy become a result."""

from __future__ import annotations

import gc
import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from .._check import callable_with
from ._calls import Process
from ._driver import Driver
from ._events import Events
from ._measures import peak_floor, peak_to_mean, recovery, until_longest
from ._model import Change, PolicySpec, Scenario, Settings
from ._result import Outage, Phase, Result
from ._server import ServerModel, work_source
from ._tally import Histogram, Tally, steps_of

__all__ = ["compare", "simulate"]

Progress: TypeAlias = Callable[[float], object]

# How many objects more there must be before Python looks for cycles among them.
FEW_COLLECTIONS = 200_000

# They share the source of the random module.
_one_at_a_time = threading.RLock()


def simulate(scenario: Scenario, policy: PolicySpec, seed: int = 0, progress: Progress | None = None) -> Result:
    """Run *scenario* with every process going by *policy*.

    What decides is the engine that real calls go by, with its strategies and layers; only the wait and the server are simulated. The same
    arguments give the same result. In an open loop, when calls begin and how long the server works on each for the first time is the same for
    all policies of one seed, so that they differ in nothing else. Nothing is logged, and no time passes but what the computing takes. While it runs the
    :mod:`random` module is seeded, so that strategies that draw from it are repeatable; it is put back afterwards.

    :param scenario: who calls which server, and what goes wrong.
    :param policy: what the clients go by.
    :param seed: of the random numbers.
    :param progress: called with the share that is done, from 0 to 1, about a hundred times. What it raises ends the run.
    :raises TypeError, ValueError: naming the parameter, its value and the fix; and what the policy's ``make`` raises.
    """
    if not isinstance(scenario, Scenario):
        raise TypeError(f"scenario must be a Scenario, got {type(scenario).__name__} {scenario!r:.60}")
    if not isinstance(policy, PolicySpec):
        hint = "; write PolicySpec(name, lambda process, random: ...)" if isinstance(policy, Settings) or callable(policy) else ""
        raise TypeError(f"policy must be a PolicySpec, got {type(policy).__name__} {policy!r:.60}{hint}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed must be an int, got {type(seed).__name__} {seed!r:.60}")
    if progress is not None:
        callable_with("progress", progress, 1, "it gets the share that is done, from 0 to 1")
    with _one_at_a_time:
        state, thresholds = random.getstate(), gc.get_threshold()
        # A hundred thousand calls under way are looked over again and again otherwise, for cycles that they do not make.
        # 0 is somebody's word that there are to be no such looks.
        gc.set_threshold(max(FEW_COLLECTIONS, thresholds[0]) if thresholds[0] else 0, *thresholds[1:])
        try:
            return _Run(scenario, policy, seed, progress).result()
        finally:
            gc.set_threshold(*thresholds)
            random.setstate(state)


def compare(scenario: Scenario, policies: Iterable[PolicySpec], seed: int = 0, progress: Progress | None = None) -> list[Result]:
    """Run *scenario* with each of *policies*. None of them has an effect on the result of another.

    :param scenario: who calls which server, and what goes wrong.
    :param policies: what the clients go by.
    :param seed: of the random numbers.
    :param progress: called with the share that is done of all, from 0 to 1.
    :returns: the results in the order of the policies.
    :raises TypeError, ValueError: as :func:`simulate` does, and where two policies have one name.
    """
    chosen: list[Any] = [policies] if isinstance(policies, PolicySpec) else list(policies)
    names = [policy.name for policy in chosen if isinstance(policy, PolicySpec)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"policies has two of the name {name!r}; give each a name of its own")

    def part(place: int) -> Progress | None:
        return None if progress is None else lambda share: progress((place + share) / len(chosen))

    return [simulate(scenario, policy, seed, part(place)) for place, policy in enumerate(chosen)]


class _Run:
    """One run."""

    def __init__(self, scenario: Scenario, policy: PolicySpec, seed: int, progress: Progress | None) -> None:
        self.started, self.cpu = time.perf_counter(), time.process_time()
        self.scenario, self.policy, self.seed, self.progress = scenario, policy, seed, progress
        # What draws from the module itself draws the same, whoever ran before.
        random.seed(f"{seed} random")
        processes = [Process(policy, number, self.source(f"process {number}")) for number in range(scenario.processes)]
        self.longest_after = until_longest(processes[0].settings.strategy)
        self.events = Events()
        self.tally = Tally(scenario)
        self.draw_work = work_source(scenario.server, self.source("work"))
        self.driver = Driver(self.events, processes, scenario.server.network, self.tally)
        again = work_source(scenario.server, self.source("work again"))
        self.server = ServerModel(scenario.server, self.events, self.driver, again, self.source("errors").random)
        self.driver.server = self.server
        self.draw_arrival, self.draw_kind = self.source("arrivals").random, self.source("kinds").random
        self.draw_client, self.draw_pause = self.source("clients").random, self.source("pauses").random
        self.steps = steps_of(scenario.duration, scenario.bucket)

    def source(self, name: str) -> random.Random:
        """Numbers that nothing else draws from. A str seeds by its SHA-512, which neither hash seed nor version changes."""
        return random.Random(f"{self.seed} {name}")

    # --- what happens ---

    def plan(self) -> None:
        """Enter what the scenario says. The earlier something is entered, the earlier it comes among those of one time."""
        scenario, events = self.scenario, self.events
        begins, ends = scenario.trouble or (0.0, 0.0)
        for at in sorted({0.0, min(scenario.warmup, begins or math.inf), begins, ends} | {edge for _, edges in self.outages() for edge in edges}):
            events.at(at, self._mark)
        events.at(scenario.bucket, self._step, None, 1)
        for change in scenario.timeline:
            events.at(change.at, self.server.change, change, 1)
            if change.until is not None:
                events.at(change.until, self.server.change, change, 0)
        if scenario.together is not None:
            events.at(scenario.together, self._all_begin)
        if scenario.arrivals:
            events.at(self._gap(), self._arrive)
        elif scenario.think is not None:
            self.driver.ended = self._pause
            if scenario.together is None:
                for client in range(scenario.clients):
                    self._pause(0.0, client)

    def outages(self) -> list[tuple[Change, tuple[float, float]]]:
        """The changes that last, each from when to when."""
        return [(change, (change.at, change.end(self.scenario.duration))) for change in self.scenario.timeline if not change.restart]

    def _mark(self, now: float, about: None, flight: int) -> None:
        self.tally.mark(now)

    def _step(self, now: float, about: None, number: int) -> None:
        self.tally.end_step(self.server.waiting, self.server.busy)
        if number + 1 < self.steps:
            # From the number, so that roundings do not add up.
            self.events.at((number + 1) * self.scenario.bucket, self._step, None, number + 1)
        if self.progress is not None and number % max(1, self.steps // 100) == 0:
            self.progress(number / self.steps)

    def _begin(self, now: float, client: int) -> None:
        share = self.scenario.idempotent
        self.driver.begin(now, client, self.draw_work(), safe=share >= 1 or self.draw_kind() < share)

    def _all_begin(self, now: float, about: None, flight: int) -> None:
        for client in range(self.scenario.clients):
            self._begin(now, client)

    def _gap(self) -> float:
        # Between the arrivals of a Poisson process.
        return -math.log(1.0 - self.draw_arrival()) / self.scenario.arrivals

    def _arrive(self, now: float, about: None, flight: int) -> None:
        self.events.at(now + self._gap(), self._arrive)
        self._begin(now, int(self.draw_client() * self.scenario.clients))

    def _pause(self, now: float, client: int) -> None:
        self.events.at(now - math.log(1.0 - self.draw_pause()) * (self.scenario.think or 0.0), self._go_on, client)

    def _go_on(self, now: float, client: int, flight: int) -> None:
        self._begin(now, client)

    # --- what came of it ---

    def result(self) -> Result:
        scenario, tally, server, end = self.scenario, self.tally, self.server, self.scenario.duration
        self.plan()
        self.events.run(end)
        tally.mark(end)
        tally.end_step(server.waiting, server.busy)
        server.close(end)
        if self.progress is not None:
            self.progress(1.0)
        series = tally.series()
        begins, ends = scenario.trouble or (end, end)
        before = self.phase(1, min(scenario.warmup, begins), begins)
        after = (ends, end) if scenario.timeline and ends < end else None
        outages = [Outage(change.kind, *edges, *tally.between(*edges)) for change, edges in self.outages()]
        cap = self.at_longest()
        good, bad = _merged([part.good for part in tally.parts]), _merged([part.bad for part in tally.parts])
        return Result(
            scenario=scenario.name,
            policy=self.policy.name,
            seed=self.seed,
            duration=end,
            calls=tally.calls,
            succeeded=tally.good,
            failed=dict(sorted(tally.failed.items())),
            unfinished=tally.calls - tally.good - tally.bad,
            attempts=tally.attempts,
            executed=server.executed,
            wasted=server.wasted,
            repeated=server.repeated,
            rejected=server.rejected,
            lost=server.lost,
            dropped=server.dropped,
            in_server=server.waiting + server.busy + len(self.events.of(server.arrive)),
            refused=dict(sorted(tally.refused.items())),
            latency=good.read(),
            latency_all=good.merge(bad).read(),
            before=before,
            during=self.phase(2, begins, ends) if scenario.timeline else None,
            after=self.phase(3, *after) if after else None,
            outages=tuple(outages),
            time_to_recovery=recovery(series, before.goodput, ends) if after else None,
            peak_to_mean=peak_to_mean(series, *after) if after else None,
            peak_floor=peak_floor(series, *after) if after else None,
            after_cap=peak_to_mean(series, *cap) if cap else None,
            after_cap_from=cap[0] if cap else None,
            after_cap_floor=peak_floor(series, *cap) if cap else None,
            utilisation=server.worked / (scenario.server.workers * end),
            queue_wait=server.waited / server.served if server.served else 0.0,
            series=series,
            elapsed=time.perf_counter() - self.started,
            cpu=time.process_time() - self.cpu,
        )

    def phase(self, number: int, at: float, until: float) -> Phase:
        part = self.tally.parts[number]
        latency, failures = part.good.read(), part.bad
        return Phase(at, until, *self.tally.between(at, until), latency.count, failures.count, latency, part.good.merge(failures).read())

    def at_longest(self) -> tuple[float, float] | None:
        """The part of the longest outage in which the delays are at their longest."""
        outage = max((edges for _, edges in self.outages()), key=lambda edges: edges[1] - edges[0], default=None)
        if outage is None or self.longest_after is None or outage[0] + self.longest_after >= outage[1]:
            return None
        return outage[0] + self.longest_after, outage[1]


def _merged(histograms: Sequence[Histogram]) -> Histogram:
    merged = Histogram()
    for histogram in histograms:
        merged = merged.merge(histogram)
    return merged
