"""``rpcretry demo``: calls to a server that misbehaves, and whether each ended as its scenario says."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from ..errors import JsonRpcError
from ..events import AttemptStarted, Event
from ..messages import BatchRequest, BatchResponse, Request
from ._scenarios import METHODS, SCENARIOS, Scenario
from ._server import MisbehavingServer

__all__ = ["BACKENDS", "CannotListenError", "Report", "Result", "run"]

# No scenario comes near it; it ends the demo where a backend is broken.
TIMEOUT = 5.0


class CannotListenError(Exception):
    """The server could not be started; the message is the system's reason."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of a scenario on one backend.

    :ivar value: what the call returned.
    :ivar error: what it raised instead, or ``None``.
    :ivar attempts: how many attempts it made.
    :ivar executed: how often the server executed each method.
    :ivar mismatches: how that differs from what the scenario says.
    """

    backend: str
    scenario: Scenario
    value: object
    error: Exception | None
    attempts: int
    executed: dict[str, int]
    mismatches: tuple[str, ...]

    @property
    def recovered(self) -> bool:
        """Whether it succeeded after a failed attempt."""
        return self.error is None and self.attempts > 1


class Report(Protocol):
    """Who is told what happens, as it happens."""

    def opened(self, seed: int) -> None: ...

    def backend(self, name: str) -> None: ...

    def scenario(self, scenario: Scenario) -> None: ...

    def event(self, event: Event) -> None: ...

    def ended(self, result: Result) -> None: ...

    def closed(self, results: Sequence[Result]) -> None: ...


class _Run:
    """The demo on one backend: what both drivers share."""

    def __init__(self, backend: str, server: MisbehavingServer, seed: int, report: Report, scenarios: Sequence[Scenario]) -> None:
        self.backend = backend
        self.server = server
        self.seed = seed
        self.report = report
        self.scenarios = scenarios
        self.results: list[Result] = []
        self._attempts = 0

    @property
    def client_options(self) -> dict[str, Any]:
        # The environment's proxy knows nothing of this machine's loopback.
        return {"timeout": TIMEOUT, "on_event": self._watch, "trust_env": False}

    def _watch(self, event: Event) -> None:
        if isinstance(event, AttemptStarted):
            self._attempts += 1
        self.report.event(event)

    def begin(self, scenario: Scenario) -> None:
        """Prepare the server and the report."""
        self._attempts = 0
        self.server.arm(scenario.faults)
        self.report.scenario(scenario)

    def call(self, client: Any, scenario: Scenario) -> Any:
        """Make the call. Returns what the client's method returns: for an async client, something to await."""
        # From the scenario's own seed, so that the backends have the same delays, whatever came before.
        source = random.Random(f"{self.seed} {scenario.title}").random
        options: dict[str, Any] = {"_retry_strategy": scenario.strategy(source)}
        if scenario.timeout is not None:
            options["_timeout"] = scenario.timeout
        if scenario.deadline is not None:
            options["_deadline"] = scenario.deadline
        if len(scenario.requests) > 1:
            return client.send(BatchRequest(*(Request(method, params) for method, params in scenario.requests)), **options)
        ((method, params),) = scenario.requests
        return (client.notify if scenario.notify else client.call)(method, *params, **options)

    def end(self, scenario: Scenario, value: object, error: Exception | None) -> None:
        """Compare how the call ended with what the scenario says."""
        if isinstance(value, BatchResponse):
            failed = next((response for response in value if response.is_error), None)
            value, error = (value.results, None) if failed is None else (None, failed.error)
        exchanges, executed = list(self.server.exchanges), dict(self.server.executed)
        mismatches = _differences(scenario, value, error, self._attempts, exchanges, executed)
        result = Result(self.backend, scenario, value, error, self._attempts, executed, tuple(mismatches))
        self.results.append(result)
        self.report.ended(result)


def _differences(
    scenario: Scenario, value: object, error: Exception | None, attempts: int, exchanges: list[tuple[str, ...]], executed: dict[str, int]
) -> list[str]:
    expected, found = scenario.expected, []
    if expected.error is None and error is not None:
        found.append(f"expected the result {expected.result!r}, got {type(error).__name__}: {error}")
    elif expected.error is None and value != expected.result:
        found.append(f"expected the result {expected.result!r}, got {value!r}")
    elif expected.error is not None and type(error) is not expected.error:
        got = f"the result {value!r}" if error is None else f"{type(error).__name__}: {error}"
        found.append(f"expected {expected.error.__name__}, got {got}")
    elif isinstance(error, JsonRpcError) and expected.code is not None and error.code != expected.code:
        found.append(f"expected the code {expected.code}, got {error.code}")
    if attempts != expected.attempts:
        found.append(f"expected {expected.attempts} attempts, got {attempts}")
    whole = tuple(method for method, _ in scenario.requests)
    wanted = [whole] * expected.attempts if expected.exchanges is None else list(expected.exchanges)
    if attempts == expected.attempts and exchanges != wanted:
        found.append(f"expected {len(wanted)} exchanges {_listed(wanted)}, the server saw {len(exchanges)} {_listed(exchanges)}")
    if expected.executed is not None and executed != dict(expected.executed):
        found.append(f"expected the server to execute {_counted(expected.executed)}, it executed {_counted(executed)}")
    return found


def _listed(exchanges: Sequence[tuple[str, ...]]) -> str:
    return f"({'; '.join('+'.join(methods) for methods in exchanges)})"


def _counted(executed: Mapping[str, int]) -> str:
    return ", ".join(f"{method} x{count}" for method, count in executed.items()) or "nothing"


def _over_requests(run: _Run) -> None:
    from ..backends.requests import Client

    with Client(run.server.url, **run.client_options) as client:
        for scenario in run.scenarios:
            run.begin(scenario)
            value, failure = None, None
            try:
                value = run.call(client, scenario)
            except Exception as problem:
                failure = problem
            run.end(scenario, value, failure)


async def _over_aiohttp(run: _Run) -> None:
    from ..backends.aiohttp import Client

    async with Client(run.server.url, **run.client_options) as client:
        for scenario in run.scenarios:
            run.begin(scenario)
            value, failure = None, None
            try:
                value = await run.call(client, scenario)
            except Exception as problem:
                failure = problem
            run.end(scenario, value, failure)


BACKENDS: Final[Mapping[str, Callable[[_Run], None]]] = {
    "requests": _over_requests,
    "aiohttp": lambda run: asyncio.run(_over_aiohttp(run)),
}
"""What runs the demo, by the name of the backend."""


def run(backends: Sequence[str], seed: int, report: Report, scenarios: Sequence[Scenario] = SCENARIOS) -> bool:
    """Run the scenarios on each backend.

    :param backends: names from :data:`BACKENDS`.
    :param seed: of all jitter.
    :param report: who is told.
    :returns: whether every call ended as its scenario says.
    :raises CannotListenError: where the server cannot be started.
    """
    results: list[Result] = []
    try:
        server = MisbehavingServer(METHODS)
    except OSError as problem:
        raise CannotListenError(str(problem)) from problem
    with server:
        report.opened(seed)
        for name in backends:
            report.backend(name)
            here = _Run(name, server, seed, report, scenarios)
            BACKENDS[name](here)
            results += here.results
    report.closed(results)
    return not any(result.mismatches for result in results)
