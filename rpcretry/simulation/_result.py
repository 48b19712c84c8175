"""What came of a simulation: values."""

from __future__ import annotations

import dataclasses

__all__ = ["Latency", "Outage", "Phase", "Result", "Series"]


@dataclasses.dataclass(frozen=True)
class Latency:
    """How long calls took, from their beginning to their end, retries and waits included, in seconds.

    Percentiles are read from a histogram whose steps are 1 % wide: they are at most 0.5 % off. The mean is exact.

    :ivar count: of how many calls.
    :ivar mean: their mean; NaN never: 0 where there is none.
    :ivar p50: the median.
    :ivar p99: 99 of 100 took less.
    :ivar p999: 999 of 1000 took less.
    """

    count: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0


@dataclasses.dataclass(frozen=True)
class Phase:
    """The calls that began in a part of the run, whenever they ended.

    :ivar at: when it begins, in seconds from the start.
    :ivar until: when it ends.
    :ivar calls: how many began.
    :ivar attempts: how many attempts were sent in it, of whichever calls.
    :ivar succeeded: how many of the calls succeeded.
    :ivar failed: how many failed; the rest were under way when the run ended.
    :ivar latency: of those that succeeded.
    :ivar latency_all: of all that ended.
    """

    at: float
    until: float
    calls: int
    attempts: int
    succeeded: int
    failed: int
    latency: Latency
    latency_all: Latency

    @property
    def goodput(self) -> float | None:
        """The share of the calls that succeeded, from 0 to 1; ``None`` where there was none. A call that was under way when the run ended did
        not: else those who wait for ever would look best."""
        return self.succeeded / self.calls if self.calls else None


@dataclasses.dataclass(frozen=True)
class Outage:
    """What was sent while something was wrong.

    :ivar kind: what, in a few words.
    :ivar at: when it began, in seconds from the start.
    :ivar until: when it was over.
    :ivar calls: how many calls began in that time.
    :ivar attempts: how many attempts were sent in that time.
    """

    kind: str
    at: float
    until: float
    calls: int
    attempts: int

    @property
    def amplification(self) -> float | None:
        """Attempts for each call; ``None`` where no call began."""
        return self.attempts / self.calls if self.calls else None


@dataclasses.dataclass(frozen=True)
class Series:
    """The run in steps of ``bucket`` seconds. All tuples have one entry for each step, the last of which may be shorter.

    :ivar bucket: the width of a step in seconds.
    :ivar calls: how many calls began: the offered load.
    :ivar attempts: how many attempts were sent.
    :ivar good: how many calls ended well.
    :ivar failed: how many calls ended in a failure.
    :ivar queue: how many requests queued at the server when the step ended.
    :ivar busy: how many the server was working on when the step ended.
    :ivar succeeded: how many of the calls that began in the step succeeded, whenever that was.
    :ivar ended: how many of the calls that began in the step ended.
    """

    bucket: float
    calls: tuple[int, ...]
    attempts: tuple[int, ...]
    good: tuple[int, ...]
    failed: tuple[int, ...]
    queue: tuple[int, ...]
    busy: tuple[int, ...]
    succeeded: tuple[int, ...]
    ended: tuple[int, ...]

    @property
    def times(self) -> tuple[float, ...]:
        """When each step begins, in seconds from the start."""
        return tuple(step * self.bucket for step in range(len(self.calls)))


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of one policy in one scenario. Equal for equal seeds, but for what the run itself took.

    ``calls`` is ``succeeded`` + the sum of ``failed`` + ``unfinished``. ``attempts`` is ``executed`` + ``rejected`` + ``lost`` + ``dropped`` +
    ``in_server``.

    :ivar scenario: the scenario's name.
    :ivar policy: the policy's name.
    :ivar seed: of the random numbers.
    :ivar duration: seconds that were simulated.
    :ivar calls: how many calls began.
    :ivar succeeded: how many of them succeeded.
    :ivar failed: how many failed, by the class of the error that the caller gets.
    :ivar unfinished: how many were under way when the run ended.
    :ivar attempts: how many requests were sent.
    :ivar executed: how many the server executed, those that ended in its error included.
    :ivar wasted: how many of those were for nobody: the caller had gone, or the answer was lost.
    :ivar repeated: how often a call that is not declared safe to execute twice was executed once more.
    :ivar rejected: how many requests were turned away unexecuted: no connection, a full queue, HTTP 503 in front of the server.
    :ivar lost: how many were lost unexecuted: sent to a server that hangs, or held by one that went down.
    :ivar dropped: how many the server dropped from its queue since the caller had gone.
    :ivar in_server: how many were on their way, queued or being worked on when the run ended.
    :ivar refused: how many calls, or their retries, a layer refused, by the class of the refusal; these are among ``failed``.
    :ivar latency: of the calls that succeeded.
    :ivar latency_all: of all calls that ended.
    :ivar before: what began before the first change, after the warm-up; all that did where nothing changes.
    :ivar during: what began from the first change to the end of the last; ``None`` where nothing changes.
    :ivar after: what began after the last change was over; ``None`` where there is no such time.
    :ivar outages: one entry for each change that lasts.
    :ivar time_to_recovery: seconds from the end of the last change until goodput is back, and stays; 0 where it never fell behind, ``None``
        where it is not back by the end of the run, or nothing changes. Back is a step of the series in which at least 99 % of the goodput before is
        reached, less three standard deviations of a share of that many calls.
    :ivar peak_to_mean: after the last change, the most attempts in a step, divided by their mean; ``None`` where there is no such time.
    :ivar peak_floor: what the same comes to for requests at random moments, in as many steps with as many attempts in the mean: a
        Poisson process has peaks, too. About ``1 + sqrt(2 * ln(steps) / mean)``.
    :ivar after_cap: peak to mean during the longest outage, once the delays of the backoff have reached their longest; ``None`` where they do not
        by its end.
    :ivar after_cap_from: from when on that is, in seconds from the start: the start of the outage, and the sum of the delays, without
        jitter, up to and with the first of the longest ones, and a longest one more.
    :ivar after_cap_floor: as ``peak_floor``, for ``after_cap``.
    :ivar utilisation: the share of its workers, at full capacity, that were busy.
    :ivar queue_wait: the mean of the seconds that those queued which the server began to work on.
    :ivar series: the run in steps.
    :ivar elapsed: seconds that the simulation took.
    :ivar cpu: seconds of CPU that it took.
    """

    scenario: str
    policy: str
    seed: int
    duration: float
    calls: int
    succeeded: int
    failed: dict[str, int]
    unfinished: int
    attempts: int
    executed: int
    wasted: int
    repeated: int
    rejected: int
    lost: int
    dropped: int
    in_server: int
    refused: dict[str, int]
    latency: Latency
    latency_all: Latency
    before: Phase
    during: Phase | None
    after: Phase | None
    outages: tuple[Outage, ...]
    time_to_recovery: float | None
    peak_to_mean: float | None
    peak_floor: float | None
    after_cap: float | None
    after_cap_from: float | None
    after_cap_floor: float | None
    utilisation: float
    queue_wait: float
    series: Series
    elapsed: float = dataclasses.field(compare=False)
    cpu: float = dataclasses.field(compare=False)

    @property
    def failures(self) -> int:
        """How many calls failed."""
        return sum(self.failed.values())

    @property
    def amplification(self) -> float | None:
        """Attempts for each call, over the whole run; ``None`` without calls."""
        return self.attempts / self.calls if self.calls else None

    @property
    def outage_amplification(self) -> float | None:
        """Attempts for each call in the outage where that is highest; ``None`` without an outage, or without calls in it."""
        return max((found for outage in self.outages if (found := outage.amplification) is not None), default=None)
