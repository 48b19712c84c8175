"""What is said of a simulation: its measures by name, what may be expected of them, and all of it as a document for JSON."""

from __future__ import annotations

import dataclasses
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from .._check import closest, text
from ._model import Scenario
from ._result import Phase, Result

__all__ = ["FORMATS", "MEASURES", "Expectation", "Measure", "document", "draw", "trouble_of"]

FORMATS: Final = (".png", ".svg")
"""How the file of a picture may end."""


class Measure(NamedTuple):
    """One number of a result.

    :ivar read: the number; ``None`` where there is none, infinite for what never happened.
    :ivar meaning: what it is, in a few words.
    """

    read: Callable[[Result], float | None]
    meaning: str


def _recovery(result: Result) -> float | None:
    # Without a level before there is none that could come back.
    never = result.time_to_recovery is None and result.after is not None and result.before.goodput is not None
    return math.inf if never else result.time_to_recovery


def _phase(name: str, read: Callable[[Phase], float | None]) -> Callable[[Result], float | None]:
    def found(result: Result) -> float | None:
        phase: Phase | None = getattr(result, name)
        return None if phase is None else read(phase)

    return found


def _goodput(result: Result) -> float | None:
    return result.succeeded / result.calls if result.calls else None


def _tail(phase: Phase) -> float | None:
    return phase.latency.p99 if phase.latency.count else None


def _latency(name: str) -> Callable[[Result], float | None]:
    def found(result: Result) -> float | None:
        value: float = getattr(result.latency, name)
        return value if result.latency.count else None

    return found


MEASURES: Final[Mapping[str, Measure]] = {
    "amplification": Measure(lambda result: result.amplification, "attempts for each call, over the whole run"),
    "outage_amplification": Measure(lambda result: result.outage_amplification, "attempts for each call, in the change where that is most"),
    "goodput": Measure(_goodput, "share of the calls that succeeded until the run ended, from 0 to 1"),
    "goodput_before": Measure(_phase("before", lambda phase: phase.goodput), "the same, of calls that began before the first change"),
    "goodput_during": Measure(_phase("during", lambda phase: phase.goodput), "the same, of calls that began from the first change to the end of the last"),
    "goodput_after": Measure(_phase("after", lambda phase: phase.goodput), "the same, of calls that began after the last change was over"),
    "time_to_recovery": Measure(_recovery, "seconds after the last change until goodput is back and stays; never where it is not"),
    "peak_to_mean": Measure(lambda result: result.peak_to_mean, "most attempts in a step, by their mean, after the last change"),
    "after_cap": Measure(lambda result: result.after_cap, "the same in the outage, once the delays have reached their longest"),
    "mean": Measure(_latency("mean"), "mean seconds of the calls that succeeded"),
    "p50": Measure(_latency("p50"), "median seconds of the calls that succeeded"),
    "p99": Measure(_latency("p99"), "99 of 100 calls that succeeded took less, in seconds"),
    "p999": Measure(_latency("p999"), "999 of 1000 calls that succeeded took less, in seconds"),
    "p99_before": Measure(_phase("before", _tail), "p99 of calls that began before the first change"),
    "p99_during": Measure(_phase("during", _tail), "p99 of calls that began from the first change to the end of the last"),
    "p99_after": Measure(_phase("after", _tail), "p99 of calls that began after the last change was over"),
    "wasted": Measure(lambda result: result.wasted / result.executed if result.executed else None, "share of what the server executed that was for nobody"),
    "refused": Measure(lambda result: sum(result.refused.values()), "calls or retries that a layer refused"),
    "repeated": Measure(lambda result: result.repeated, "second executions of calls that are not safe to execute twice"),
}
"""The numbers that can be expected of a result, by name."""

RELATIONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}

_WANTED = re.compile(r"(<=|>=|==|<|>) ?(\d{1,12}(?:\.\d{1,12})?|never)", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Expectation:
    """What has to come of a policy in a scenario.

    :ivar scenario: the scenario's name.
    :ivar policy: the policy's name.
    :ivar measure: a name from ``MEASURES``.
    :ivar relation: ``<=``, ``<``, ``>=``, ``>`` or ``==``.
    :ivar limit: what it is compared with; infinite for ``never``.
    """

    scenario: str
    policy: str
    measure: str
    relation: str
    limit: float

    @classmethod
    def parse(cls, scenario: str, policy: str, measure: str, wanted: str) -> Expectation:
        """Read an expectation such as ``<= 1.02``.

        :param wanted: a relation and a number, or ``never`` in place of the number.
        :raises TypeError, ValueError: naming what is wrong.
        """
        text("scenario", scenario)
        text("policy", policy)
        if measure not in MEASURES:
            raise ValueError(f"there is no measure {measure!r:.40}{closest(measure, list(MEASURES))}")
        if not isinstance(wanted, str):
            raise TypeError(f"must be text with a comparison, got {wanted!r:.40}; write '<= {wanted}' or '>= {wanted}'")
        if wanted.strip() == "never":
            wanted = "== never"
        matched = _WANTED.fullmatch(wanted.strip())
        if matched is None:
            raise ValueError(f"must be one of {', '.join(RELATIONS)} and a number, or never, got {wanted!r:.40}; write '<= 1.02'")
        if matched[2] == "never" and measure != "time_to_recovery":
            raise ValueError(f"must have a number, got {wanted!r:.40}: never is about time_to_recovery")
        return cls(scenario, policy, measure, matched[1], math.inf if matched[2] == "never" else float(matched[2]))

    def found(self, result: Result) -> float | None:
        """The number that it is about; ``None`` where the result has none, infinite for what never happened."""
        return MEASURES[self.measure].read(result)

    def holds(self, result: Result) -> bool:
        """Whether *result*, of its scenario and its policy, is as expected. A number that there is none of never is."""
        found = self.found(result)
        return found is not None and RELATIONS[self.relation](found, self.limit)

    def __str__(self) -> str:
        limit = "never" if math.isinf(self.limit) else f"{self.limit:.12g}"
        return f"{self.scenario}: {self.policy}.{self.measure} {self.relation} {limit}"


def trouble_of(scenario: Scenario) -> list[tuple[float, float]]:
    """When something is wrong, in seconds from the start: spans that do not touch, in order."""
    spans: list[tuple[float, float]] = []
    for change in scenario.timeline:
        end = change.end(scenario.duration)
        if spans and change.at <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(spans[-1][1], end)
        else:
            spans.append((change.at, end))
    return spans


def draw(scenarios: Sequence[Scenario], results: Sequence[Result], path: str | Path) -> None:
    """Draw a row for each scenario: the attempts that were sent, the calls that succeeded, and three of the measures, by policy.

    Needs the extra ``plot``.

    :param scenarios: those that the results are of; one without results has no row.
    :param results: what came of them.
    :param path: ends in .png or .svg.
    :raises ModuleNotFoundError: where matplotlib is not installed.
    :raises ValueError: where *path* ends otherwise, or there is no result.
    :raises OSError: where it cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"path must end in {' or '.join(FORMATS)}, got {path.name!r}")
    try:
        # Here, since it takes its time, and is not installed everywhere.
        from ._plot import save
    except ModuleNotFoundError as problem:
        if (problem.name or "").partition(".")[0] != "matplotlib":
            raise
        raise ModuleNotFoundError('a picture needs matplotlib: pip install "rpcretry[plot]"', name=problem.name) from problem
    save(scenarios, results, path)


def document(scenarios: Sequence[Scenario], results: Sequence[Result], expectations: Sequence[Expectation] = ()) -> dict[str, Any]:
    """All of it as dicts, lists, texts and finite numbers, for JSON.

    :param scenarios: those that the results are of.
    :param results: what came of them.
    :param expectations: what was expected; those about other results are left out.
    """
    by_name = {(result.scenario, result.policy): result for result in results}
    checked = [(each, by_name[each.scenario, each.policy]) for each in expectations if (each.scenario, each.policy) in by_name]
    return {
        "scenarios": [
            {
                **_plain(scenario),
                "arrivals": scenario.arrivals,
                "results": [_result(result) for result in results if result.scenario == scenario.name],
            }
            for scenario in scenarios
        ],
        "expectations": [
            {
                "scenario": each.scenario,
                "policy": each.policy,
                "measure": each.measure,
                "expected": str(each).split(f"{each.measure} ", 1)[1],
                "found": _spelled(each.found(result)),
                "holds": each.holds(result),
            }
            for each, result in checked
        ],
    }


def _result(result: Result) -> dict[str, Any]:
    measures = {name: _spelled(measure.read(result)) for name, measure in MEASURES.items()}
    # Without what the run took: the same seed gives the same document.
    found = {name: value for name, value in _fields(result).items() if name not in ("scenario", "policy", "elapsed", "cpu")}
    return {"policy": result.policy, "measures": measures, **found}


def _spelled(value: float | None) -> float | str | None:
    """Infinity is no JSON."""
    return "never" if value == math.inf else value


def _plain(value: Any) -> Any:
    if isinstance(value, Phase):
        return {**_fields(value), "goodput": value.goodput}
    if dataclasses.is_dataclass(value):
        return _fields(value)
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
