"""What is simulated: clients, a server, what goes wrong with it, and the settings that are compared. Values; nothing runs here."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, get_args

from .._check import callable_with, closest, count, deadline_in_seconds, number, seconds, text
from ..layers import as_layers
from ..retry.layer import Layer
from ..retry.strategy import RetryStrategy

__all__ = ["Change", "Down", "Full", "LatencyKind", "Order", "PolicySpec", "Scenario", "Server", "Settings"]

LatencyKind: TypeAlias = Literal["constant", "exponential", "lognormal", "pareto"]
Order: TypeAlias = Literal["fifo", "lifo"]
Down: TypeAlias = Literal["refuse", "hang", "503"]
Full: TypeAlias = Literal["503", "refuse"]

# The time limit of an attempt where nothing else is said, that of a client.
TIMEOUT = 30.0

# What exceeds it, in seconds, workers or requests per second, is a slip, and more than the numbers of a run are good for.
MANY = 1e9


@dataclasses.dataclass(frozen=True)
class Server:
    """A queue in front of workers.

    :param capacity: requests per second that it completes when all workers are busy.
    :param workers: how many requests it works on at once; one takes ``workers / capacity`` seconds in the mean.
    :param latency: how the seconds that a request takes are spread about that mean: ``"constant"``, ``"exponential"``,
        ``"lognormal"`` or ``"pareto"``.
    :param sigma: the standard deviation of the logarithm, for ``"lognormal"``; 1 where it is not given.
    :param alpha: the shape, above 1, for ``"pareto"``; 2.5 where it is not given. The smaller, the longer the tail.
    :param network: seconds that a request, and an answer, is on its way; a microsecond or more.
    :param queue: how many requests may queue; what comes when it is full is turned away at once. ``None`` for any number.
    :param full: how: ``"503"``, HTTP 503, or ``"refuse"``, no connection.
    :param retry_after: seconds that every 503 asks for in a Retry-After header; ``None`` for 503 without one. A 503 with one says that
        nothing was executed.
    :param order: who is served first, ``"fifo"`` the one that came first or ``"lifo"`` the one that came last.
    :param abandons: whether it drops from its queue those whose caller has gone. A server that does not works for nobody while it is late,
        which is what keeps an overload going after its cause is gone.
    :param error_rate: the share, from 0 to 1, of what it executes that ends in an error.
    :param error: that error: an HTTP status from 400 to 599, or else a JSON-RPC error code.
    :raises TypeError, ValueError: naming the parameter, its value and the fix.
    """

    capacity: float = 1000.0
    workers: int = 10
    latency: LatencyKind = "exponential"
    sigma: float | None = None
    alpha: float | None = None
    network: float = 0.001
    queue: int | None = None
    full: Full = "503"
    retry_after: float | None = None
    order: Order = "fifo"
    abandons: bool = False
    error_rate: float = 0.0
    error: int = 503

    def __post_init__(self) -> None:
        number("capacity", self.capacity, above=0, most=MANY)
        count("workers", self.workers, least=1)
        number("workers", self.workers, most=MANY)
        if self.service_time > MANY:
            raise ValueError(f"capacity must be at least workers / {MANY:g} s, got {self.capacity!r}: a request takes {self.service_time:g} s")
        _one_of("latency", self.latency, get_args(LatencyKind))
        if self.sigma is not None:
            # Beyond, of a million numbers none comes near their mean.
            number("sigma", self.sigma, above=0, most=10)
            _only_for("sigma", self.sigma, self.latency, "lognormal")
        if self.alpha is not None:
            number("alpha", self.alpha, above=1)
            _only_for("alpha", self.alpha, self.latency, "pareto")
        # At once, a server that refuses would be asked again and again at one moment, without end.
        number("network", self.network, least=1e-6)
        if self.queue is not None:
            count("queue", self.queue)
        _one_of("full", self.full, get_args(Full))
        if self.retry_after is not None:
            number("retry_after", self.retry_after, least=0)
        _one_of("order", self.order, get_args(Order))
        _flag("abandons", self.abandons)
        number("error_rate", self.error_rate, least=0, most=1)
        if isinstance(self.error, bool) or not isinstance(self.error, int):
            raise TypeError(f"error must be an int, got {type(self.error).__name__} {self.error!r:.60}; give an HTTP status or a JSON-RPC error code")

    @property
    def service_time(self) -> float:
        """The seconds that a request takes in the mean, without the time in the queue."""
        return self.workers / self.capacity


@dataclasses.dataclass(frozen=True)
class Change:
    """Something that goes wrong with the server for a while. Those that overlap work together.

    :param at: seconds from the start of the run.
    :param until: when it is over; ``None`` for the end of the run.
    :param capacity: the part of its capacity that the server has left, above 0: a brown-out. It has that part of its workers, and where that is
        no whole number, as few more as are needed, that are slower. Those that are busy finish what they have.
    :param down: an outage. ``"refuse"``: no connection is made. ``"503"``: something in front of it answers HTTP 503. Both lose what it was
        working on and what queued. ``"hang"``: nothing is answered, neither what comes in that time nor what it is working on; it goes on with
        what it had.
    :param latency: what the time that a request takes is multiplied by. A worker is busy that much longer, so that less gets through, too.
    :param error_rate: the share, from 0 to 1, of what it executes that ends in the server's error, in addition to its own.
    :param restart: lose what it is working on and what queues, at that moment, and go on at once. It stands alone, without ``until``.
    :raises TypeError, ValueError: naming the parameter, its value and the fix.
    """

    at: float
    until: float | None = None
    capacity: float | None = None
    down: Down | None = None
    latency: float | None = None
    error_rate: float | None = None
    restart: bool = False

    def __post_init__(self) -> None:
        number("at", self.at, least=0)
        if self.until is not None:
            number("until", self.until, above=self.at)
        if self.capacity is not None:
            _factor("capacity", self.capacity)
        if self.down is not None:
            _one_of("down", self.down, get_args(Down))
        if self.latency is not None:
            _factor("latency", self.latency)
        if self.error_rate is not None:
            number("error_rate", self.error_rate, least=0, most=1)
        _flag("restart", self.restart)
        if self.restart and self.until is not None:
            raise ValueError(f"restart is a moment and has no until, got until={self.until!r}; leave until out, or write down='refuse' for one that takes time")
        if self.restart and any(value is not None for value in (self.capacity, self.down, self.latency, self.error_rate)):
            raise ValueError(f"restart is a moment and stands alone, got {self.kind}; write another Change for the rest")
        if not self.kind:
            raise ValueError("Change changes nothing; give it capacity, down, latency, error_rate or restart")

    @property
    def kind(self) -> str:
        """What it is, in a few words."""
        words = [f"down ({self.down})" if self.down is not None else "", "restart" if self.restart else ""]
        words += [f"{name} x {value:g}" for name, value in (("capacity", self.capacity), ("latency", self.latency)) if value is not None]
        words += [f"error rate {self.error_rate:g}"] if self.error_rate is not None else []
        return ", ".join(filter(None, words))

    def end(self, duration: float) -> float:
        """When it is over in a run of *duration* seconds. A restart is over at once."""
        return self.at if self.restart else duration if self.until is None else min(self.until, duration)


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Who calls which server for how long, and what goes wrong.

    Calls come in one of three ways. ``rate`` and ``load`` are an open loop: they begin at random moments (a Poisson process), whatever became
    of those before, as users come to a site. ``think`` is a closed loop: each client makes a call, waits for its end, pauses, and makes the
    next one, as workers on a queue do. With ``together`` alone each client makes one call, and no more.

    :param name: what it is called in reports.
    :param clients: how many there are.
    :param processes: how many processes the clients are spread over. Each has one budget, one breaker and one limit of its own, as in a real
        deployment, so this says what they are worth.
    :param duration: seconds that are simulated.
    :param rate: calls per second of all clients.
    :param load: the same as a share of the server's capacity: 0.8 leaves it idle for a fifth of the time.
    :param think: the mean of the seconds, exponentially distributed, between the end of a client's call and its next.
    :param together: a moment at which every client begins a call, whatever else it does: the start of a herd. In a closed loop it is the first.
    :param server: what they call.
    :param timeline: what goes wrong with it, and when.
    :param idempotent: the share of the calls, from 0 to 1, whose method is declared safe to execute twice, and is called ``read``; the rest are
        called ``write``, and the strategy says what may be repeated of them.
    :param warmup: seconds at the start that the level before the first change is worked out without.
    :param bucket: the width in seconds of the steps of a series.
    :param description: a sentence for reports.
    :raises TypeError, ValueError: naming the parameter, its value and the fix.
    """

    name: str
    clients: int = 1000
    processes: int = 1
    duration: float = 60.0
    rate: float | None = None
    load: float | None = None
    think: float | None = None
    together: float | None = None
    server: Server = dataclasses.field(default_factory=Server)
    timeline: tuple[Change, ...] = ()
    idempotent: float = 1.0
    warmup: float = 0.0
    bucket: float = 1.0
    description: str = ""

    def __post_init__(self) -> None:
        text("name", self.name)
        count("clients", self.clients, least=1)
        count("processes", self.processes, least=1)
        if self.processes > self.clients:
            raise ValueError(f"processes must be at most clients, {self.clients}, got {self.processes}: some would have no client; raise clients")
        number("duration", self.duration, above=0, most=MANY)
        given = [name for name in ("rate", "load", "think") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: calls come in one way; leave all but one out")
        for name in given:
            number(name, getattr(self, name), above=0, most=MANY)
        if self.think is not None:
            # With less, a client that is refused at once would call again and again at one moment, without end.
            number("think", self.think, least=1e-6)
        if self.together is not None:
            number("together", self.together, least=0)
            _before("together", self.together, self.duration, "when the run ends")
        elif not given:
            raise ValueError("Scenario has no calls; give rate in calls per second, load as a share of the capacity, think in seconds, or together")
        if not isinstance(self.server, Server):
            raise TypeError(f"server must be a Server, got {type(self.server).__name__} {self.server!r:.60}; write server=Server(...)")
        object.__setattr__(self, "timeline", _timeline(self.timeline, self.duration))
        number("idempotent", self.idempotent, least=0, most=1)
        number("warmup", self.warmup, least=0)
        begins = min([self.duration, *(change.at for change in self.timeline if change.at > 0)])
        _before("warmup", self.warmup, begins, "when the first change begins" if begins < self.duration else "when the run ends")
        number("bucket", self.bucket, above=0, most=self.duration)
        if self.duration / self.bucket > 1e6:
            raise ValueError(f"bucket must be at least {self.duration / 1e6:g}, a millionth of the duration, got {self.bucket!r}")
        if not isinstance(self.description, str):
            raise TypeError(f"description must be a str, got {type(self.description).__name__} {self.description!r:.60}")

    @property
    def arrivals(self) -> float:
        """Calls per second of the open loop; 0 without one."""
        return self.rate if self.rate is not None else self.load * self.server.capacity if self.load is not None else 0.0

    @property
    def trouble(self) -> tuple[float, float] | None:
        """From the first change to the end of the last, in seconds from the start; ``None`` without changes."""
        if not self.timeline:
            return None
        return min(change.at for change in self.timeline), max(change.end(self.duration) for change in self.timeline)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What one process goes by, as a client is given it.

    :param strategy: which failures are tried again; ``None`` for none.
    :param layers: one :class:`~rpcretry.retry.Layer` or several, from the outermost to the innermost: budget, breaker, limits. Make new ones
        each time: one object that several processes, or runs, are given is one budget for all of them, as nobody can have it in production. A
        strategy has its :class:`~rpcretry.layers.RetryAfter` anyway.
    :param timeout: seconds for each attempt; ``None`` for no limit.
    :param deadline: seconds for the whole call; ``None`` for no limit.
    :raises TypeError, ValueError: naming the parameter, its value and the fix.
    """

    strategy: RetryStrategy | None = None
    layers: Layer | Sequence[Layer] = ()
    timeout: float | None = TIMEOUT
    deadline: float | None = None

    def __post_init__(self) -> None:
        if self.strategy is not None and not isinstance(self.strategy, RetryStrategy):
            hint = "RetryStrategy()" if self.strategy is RetryStrategy else "RetryStrategy(backoff=...)"
            raise TypeError(f"strategy must be a RetryStrategy or None, got {type(self.strategy).__name__} {self.strategy!r:.60}; write {hint}")
        object.__setattr__(self, "layers", as_layers(self.layers))
        object.__setattr__(self, "timeout", seconds("timeout", self.timeout))
        object.__setattr__(self, "deadline", deadline_in_seconds("deadline", self.deadline))


@dataclasses.dataclass(frozen=True)
class PolicySpec:
    """Settings to compare with others.

    :param name: what they are called in reports.
    :param make: called once for each process with its number, from 0, and a source of random numbers of its own; returns the
        :class:`Settings` of that process. What draws from the :mod:`random` module itself is repeatable, too.
    :param description: a sentence for reports.
    :raises TypeError, ValueError: naming the parameter, its value and the fix.
    """

    name: str
    make: Callable[[int, random.Random], Settings]
    description: str = ""

    def __post_init__(self) -> None:
        text("name", self.name)
        if isinstance(self.make, Settings):
            raise TypeError("make must be a function, got Settings; write lambda process, random: Settings(...), so that each process has its own")
        callable_with("make", self.make, 2, "it gets the number of the process and a random.Random, and returns Settings")
        if not isinstance(self.description, str):
            raise TypeError(f"description must be a str, got {type(self.description).__name__} {self.description!r:.60}")

    def settings(self, process: int, source: random.Random) -> Settings:
        """The settings of one process.

        :raises TypeError: where ``make`` returned something else.
        """
        made: Any = self.make(process, source)
        if not isinstance(made, Settings):
            raise TypeError(f"make of the policy {self.name!r} must return Settings, it returned {type(made).__name__} {made!r:.60}")
        return made


def _one_of(name: str, value: object, known: Sequence[str]) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, got {type(value).__name__} {value!r:.60}; known are {', '.join(known)}")
    if value not in known:
        raise ValueError(f"{name} {value!r:.60} does not exist{closest(value, known)}")


def _only_for(name: str, value: object, latency: str, wanted: str) -> None:
    if latency != wanted:
        raise ValueError(f"{name}={value!r} does nothing with latency={latency!r}; leave it out, or write latency={wanted!r}")


def _factor(name: str, value: float) -> None:
    number(name, value, above=0, most=1e6)
    number(name, value, least=1e-6)


def _flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r:.60}")


def _before(name: str, value: float, end: float, what: str) -> None:
    if value >= end:
        raise ValueError(f"{name} must be less than {end:g} s, {what}, got {value!r}")


def _timeline(value: object, duration: float) -> tuple[Change, ...]:
    changes: tuple[Any, ...] = (value,) if isinstance(value, Change) else tuple(value) if isinstance(value, (list, tuple)) else (value,)
    for change in changes:
        if not isinstance(change, Change):
            raise TypeError(f"timeline takes Change objects, got {type(change).__name__} {change!r:.60}; write timeline=[Change(at=..., ...)]")
        if change.at >= duration:
            raise ValueError(f"timeline has a Change at {change.at:g} s, and the run ends at {duration:g} s; raise duration")
    return tuple(sorted(changes, key=lambda change: change.at))
