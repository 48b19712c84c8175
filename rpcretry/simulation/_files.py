"""Policy files: scenarios, policies and what is expected of them, in TOML.

What may stand in a table, and what a value has to be, is said where the value is used: the keys are the parameters of
:class:`Scenario`, :class:`Server`, :class:`Change` and of the layers, and it is they who refuse.
"""

from __future__ import annotations

import dataclasses
import datetime
import inspect
import random
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from .._check import closest, count, number
from .._specs import SpecError, parse_backoff, parse_causes
from ..layers import AdaptiveDelay, CircuitBreaker, ConcurrencyLimit, RateLimit, RetryAfter, RetryBudget
from ..retry.backoff import Backoff
from ..retry.jitter import FullJitter
from ..retry.layer import Layer
from ..retry.strategy import DEFAULT_BACKOFF, RetryStrategy
from ._model import Change, PolicySpec, Scenario, Server, Settings
from ._report import MEASURES, Expectation

__all__ = ["PolicyFileError", "Study", "load", "scaled"]

T = TypeVar("T")

LAYERS: Final[Mapping[str, type[Layer]]] = {
    "budget": RetryBudget,
    "adaptive": AdaptiveDelay,
    "concurrency": ConcurrencyLimit,
    "rate": RateLimit,
    "breaker": CircuitBreaker,
    "retry_after": RetryAfter,
}
"""The layers by their keys in a policy, from the outermost to the innermost."""

# What cannot be said in TOML, or has no meaning where time is virtual.
UNSAYABLE: Final = frozenset({"clock", "wall_clock", "listeners", "failure_on"})

# The parameter that a layer's key may stand for alone: rate = 10.
ALONE: Final = {"budget": "capacity", "concurrency": "limit", "rate": "rate"}

# The keys of a scenario that are not about the scenario itself.
OURS: Final = ("policies", "expect")

# Bytes. A file that somebody wrote has thousands; what is none, such as a device, must not fill the memory.
LARGEST: Final = 1 << 20

POLICY_KEYS: Final = ("like", "description", "retry", "backoff", "on", "idempotent", "timeout", "deadline", *LAYERS)

# What else one might write.
MEANT: Final = {
    "preset": "retry = true, the default strategy",
    "strategy": "retry = true, the default strategy, or backoff and on",
    "retry_on": "on",
    "exceptions": "on",
    "codes": 'on, as in on = "2001,-32005"',
    "statuses": 'on, as in on = "http:503"',
    "jitter": 'part of backoff, as in backoff = "exponential:jitter=full"',
    "attempts": 'part of backoff, as in backoff = "exponential:attempts=3"',
    "retry_budget": "budget",
    "circuit_breaker": "breaker",
    "rate_limit": "rate",
    "concurrency_limit": "concurrency",
    "bulkhead": "concurrency",
    "inherits": "like",
    "extends": "like",
    "timeline": "[[scenario.NAME.change]] tables",
    "changes": "[[scenario.NAME.change]] tables",
    "expectations": "expect",
    "name": "the last word in the head of the table",
}


class PolicyFileError(ValueError):
    """A policy file that cannot be used. The message names the file, the table, the key, the value and the fix."""


@dataclasses.dataclass(frozen=True)
class Study:
    """What a policy file holds.

    :ivar scenarios: in the order of the file.
    :ivar policies: in the order of the file.
    :ivar expectations: what has to come of them.
    :ivar chosen: the names of the policies of the scenarios that do not run with all of them.
    """

    scenarios: tuple[Scenario, ...]
    policies: tuple[PolicySpec, ...]
    expectations: tuple[Expectation, ...] = ()
    chosen: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def policies_of(self, scenario: Scenario) -> tuple[PolicySpec, ...]:
        """Those that *scenario* is to be run with, in the order of the file."""
        names = self.chosen.get(scenario.name)
        return self.policies if names is None else tuple(policy for policy in self.policies if policy.name in names)


def load(path: str | Path) -> Study:
    """Read a policy file.

    :raises PolicyFileError: where something in it is wrong.
    :raises OSError: where it cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        found = file.read(LARGEST + 1)
    if len(found) > LARGEST:
        raise PolicyFileError(f"{path.name} is larger than {LARGEST >> 20} MiB, which no policy file is; is it another file?")
    try:
        document = tomllib.loads(found.decode())
    except RecursionError:
        raise PolicyFileError(f"{path.name} has arrays or tables nested too deeply; no key of a policy file needs more than a few levels") from None
    except ValueError as problem:
        # Of tomllib, or bytes that are no UTF-8.
        raise PolicyFileError(f"{path.name} is no TOML: {problem}") from None
    return _study(document, _Place(path.name))


def scaled(scenario: Scenario, clients: int) -> Scenario:
    """The same scenario with more clients or fewer, and a server, a queue and processes to match, so that each client sees the same.

    :param clients: how many there are to be.
    :raises TypeError, ValueError: where *clients* is no int of at least 1.
    """
    count("clients", clients, least=1)
    times = clients / scenario.clients

    def whole(value: int) -> int:
        return max(1, round(value * times))

    before = scenario.server
    workers = whole(before.workers)
    server = dataclasses.replace(
        before,
        # The time that a request takes, workers / capacity, stays what it is also where the workers come to no whole number.
        capacity=before.capacity * workers / before.workers,
        workers=workers,
        # It holds as many seconds of work as before.
        queue=None if before.queue is None else round(before.queue * workers / before.workers),
    )
    rate = None if scenario.rate is None else scenario.rate * workers / before.workers
    return dataclasses.replace(scenario, clients=clients, processes=min(clients, whole(scenario.processes)), rate=rate, server=server)


class _Place:
    """Where in the file something stands, for messages."""

    def __init__(self, file: str, table: str = "", key: str = "") -> None:
        self.file, self.table, self.key = file, table, key

    def at(self, key: str) -> _Place:
        return _Place(self.file, self.table, f"{self.key}.{key}" if self.key else key)

    def refuse(self, problem: object) -> NoReturn:
        where = " ".join(filter(None, (f"[{self.table}]" if self.table else "", f"{self.key}:" if self.key else "")))
        raise PolicyFileError(f"{self.file}: {where} {problem}" if where else f"{self.file}: {problem}") from None

    def known(self, given: Mapping[str, object], known: list[str]) -> None:
        """Refuse keys that do not exist."""
        for key in given:
            if key not in known:
                meant = MEANT.get(key)
                self.refuse(f"no such key: {key!r:.40}{f'; here it is {meant}' if meant else closest(key, known)}")

    def table_of(self, value: object, fix: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.refuse(f"must be a table, got {_shown(value)}; write {fix}")
        return value

    def built(self, cls: Callable[..., T], given: Mapping[str, object], hidden: frozenset[str] = frozenset(), **more: object) -> T:
        """What *cls* makes of the keys of a table."""
        parameters = {name: parameter for name, parameter in inspect.signature(cls).parameters.items() if name not in hidden and name not in more}
        self.known(given, list(parameters))
        for name, parameter in parameters.items():
            if parameter.default is parameter.empty and name not in given:
                self.refuse(f"{name} is missing")
        try:
            return cls(**given, **more)
        except (TypeError, ValueError) as problem:
            self.refuse(problem)


def _study(document: dict[str, Any], place: _Place) -> Study:
    place.known(document, ["scenario", "policy"])
    policies: list[PolicySpec] = []
    tables: dict[str, dict[str, Any]] = {}
    for name, table, at in _tables(document, "policy", place):
        tables[name] = _inherited(name, table, tables, at)
        policies.append(_policy(name, tables[name], at))
    scenarios: list[Scenario] = []
    expectations: list[Expectation] = []
    chosen: dict[str, tuple[str, ...]] = {}
    for name, table, at in _tables(document, "scenario", place):
        scenarios.append(_scenario(name, table, at))
        if "policies" in table:
            chosen[name] = _names(table["policies"], list(tables), at.at("policies"))
        known = list(chosen.get(name, tables))
        expectations += _expectations(name, table.get("expect", {}), known, _Place(place.file, f"scenario.{name}.expect"))
    return Study(tuple(scenarios), tuple(policies), tuple(expectations), chosen)


def _tables(document: dict[str, Any], kind: str, place: _Place) -> Iterator[tuple[str, dict[str, Any], _Place]]:
    found = document.get(kind)
    if found is None or found == {}:
        place.refuse(f"there is no {kind} in it; write [{kind}.NAME] and its keys below")
    for name, table in place.at(kind).table_of(found, f"[{kind}.NAME]").items():
        if not name:
            place.refuse(f"a {kind} has an empty name; write [{kind}.NAME]")
        at = _Place(place.file, f"{kind}.{name}")
        yield name, at.table_of(table, f"[{kind}.{name}] and its keys below"), at


# --- scenarios -----------------------------------------------------------------------------------


def _scenario(name: str, table: dict[str, Any], place: _Place) -> Scenario:
    given = {key: value for key, value in table.items() if key not in OURS}
    server = place.at("server").built(Server, place.at("server").table_of(given.pop("server", {}), "server = { capacity = 1000 }"))
    changes = given.pop("change", [])
    if not isinstance(changes, list):
        place.at("change").refuse(f"must be a list of tables, got {_shown(changes)}; write [[scenario.{name}.change]], with two brackets")
    timeline = []
    for position, change in enumerate(changes, 1):
        at = place.at(f"change {position}")
        timeline.append(at.built(Change, at.table_of(change, f"[[scenario.{name}.change]]")))
    known = [field.name for field in dataclasses.fields(Scenario) if field.name not in ("name", "timeline")]
    place.known(given, [*known, "change", *OURS])
    return place.built(Scenario, given, name=name, server=server, timeline=tuple(timeline))


def _names(value: object, known: list[str], place: _Place) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        place.refuse(f"must be a list of names, got {_shown(value)}; write policies = ['{known[0]}'], or leave it out for all")
    for name in value:
        if name not in known:
            place.refuse(f"there is no policy {_shown(name)}{closest(str(name), known)}")
    return tuple(value)


def _expectations(scenario: str, given: object, policies: list[str], place: _Place) -> Iterator[Expectation]:
    for policy, table in place.table_of(given, "POLICY.MEASURE = '<= 1.02'").items():
        if policy not in policies:
            place.refuse(f"there is no policy {policy!r:.40}{closest(policy, policies)}")
        for measure, wanted in place.at(policy).table_of(table, f"{policy}.MEASURE = '<= 1.02'").items():
            at = place.at(policy).at(measure) if measure in MEASURES else place.at(policy)
            yield at.built(Expectation.parse, {}, scenario=scenario, policy=policy, measure=measure, wanted=wanted)


# --- policies ------------------------------------------------------------------------------------


def _inherited(name: str, table: dict[str, Any], before: dict[str, dict[str, Any]], place: _Place) -> dict[str, Any]:
    """The table with what it does not say itself from the one that it is like."""
    place.known(table, list(POLICY_KEYS))
    given = dict(table)
    if "like" in given:
        like = given.pop("like")
        if not isinstance(like, str) or like not in before:
            known = f"; before it are {', '.join(before)}" if before else "; it is the first"
            place.refuse(f"like must name a policy that stands before it in the file, got {_shown(like)}{known}")
        given = {**{key: value for key, value in before[like].items() if key != "description"}, **given}
    return given


def _policy(name: str, table: dict[str, Any], place: _Place) -> PolicySpec:
    given = dict(table)
    description = given.pop("description", "")

    def make(process: int, source: random.Random) -> Settings:
        return _settings(given, source, place)

    spec = place.built(PolicySpec, {}, name=name, make=make, description=description)
    # Whatever is wrong is to be heard of now, and not in the middle of a simulation.
    spec.settings(0, random.Random(0))
    return spec


def _settings(given: dict[str, Any], source: random.Random, place: _Place) -> Settings:
    strategy = _strategy(given, source, place)
    if strategy is None:
        for key in ("budget", "adaptive", "retry_after", "idempotent"):
            if given.get(key, False) is not False:
                place.refuse(f"{key} is about retries, and this policy has none; add retry = true, or backoff")
    layers = [_layer(key, given[key], source, place.at(key)) for key in LAYERS if given.get(key, False) is not False]
    if strategy is not None and given.get("retry_after") is False:
        # Every strategy has one, and this one does not listen.
        layers.append(RetryAfter(max_delay=0))
    return place.built(Settings, {key: given[key] for key in ("timeout", "deadline") if key in given}, strategy=strategy, layers=layers)


def _strategy(given: dict[str, Any], source: random.Random, place: _Place) -> RetryStrategy | None:
    wanted = given.get("retry", "backoff" in given or "on" in given)
    if not isinstance(wanted, bool):
        place.refuse(f"retry must be true or false, got {_shown(wanted)}; the delays are said by backoff")
    if not wanted:
        return None
    options: dict[str, Any] = {"backoff": dataclasses.replace(DEFAULT_BACKOFF, jitter=FullJitter(random=source.random))}
    if "backoff" in given:
        options["backoff"] = _backoff(given["backoff"], source, place.at("backoff"))
    if "on" in given:
        causes = given["on"]
        if isinstance(causes, list):
            causes = ",".join(map(str, causes))
        if not isinstance(causes, str):
            place.refuse(f"on must be text, got {_shown(causes)}; write on = 'http:503,TimeoutError'")
        try:
            options |= {name: found for name, found in parse_causes(causes)._asdict().items() if found}
        except SpecError as problem:
            place.at("on").refuse(problem)
    if "idempotent" in given:
        options["idempotent"] = given["idempotent"]
    try:
        return RetryStrategy(**options)
    except (TypeError, ValueError) as problem:
        place.refuse(problem)


def _backoff(value: object, source: random.Random, place: _Place) -> Backoff:
    if not isinstance(value, str):
        place.refuse(f"must be text, got {_shown(value)}; write 'exponential:base=0.1,attempts=3,jitter=full', as for rpcretry backoff")
    try:
        return parse_backoff(value, source.random)
    except SpecError as problem:
        place.refuse(problem)


def _layer(key: str, value: object, source: random.Random, place: _Place) -> Layer:
    """The layer that a key asks for: ``true`` for one as it comes, a number for what it is mostly about, or a table of its parameters."""
    if value is True:
        value = {}
    elif isinstance(value, (int, float)) and key in ALONE:
        value = {ALONE[key]: value}
    given = dict(place.table_of(value, f"{key} = true, or {key} = {{ ... }} with the parameters of {LAYERS[key].__name__}"))
    if key == "breaker":
        if isinstance(given.get("recovery_timeout"), str):
            given["recovery_timeout"] = _backoff(given["recovery_timeout"], source, place.at("recovery_timeout"))
        if isinstance(given.get("window"), str):
            given["window"] = _span(given["window"], place.at("window"))
    return place.built(LAYERS[key], given, UNSAYABLE)


def _span(text: str, place: _Place) -> datetime.timedelta:
    matched = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?s", text, re.ASCII)
    if matched is None:
        place.refuse(f"must be a number of calls, or seconds such as '10 s', got {_shown(text)}")
    return datetime.timedelta(seconds=number("window", float(matched[1])))


def _shown(value: object) -> str:
    """A value as TOML has it, more or less."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "a table" if isinstance(value, dict) else f"{value!r:.60}"
