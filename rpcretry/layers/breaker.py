"""A circuit breaker: leave a server alone that fails, and ask it now and then whether it is back."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from .._check import count, is_async_callable, number, plain_callable_with, text
from ..events import Sink
from ..outcome import Attempt, Member, Outcome, Wait, telling
from ..retry.backoff import Backoff
from ..retry.layer import Layer
from ..retry.strategy import _several
from ._circuit import Change, CircuitStats, Machine, Permit, Rules
from ._names import checks_names
from ._surface import Circuit, Common
from ._verdicts import FailureOn, Verdicts

__all__ = ["Circuit", "CircuitBreaker", "CircuitStats"]

# What other libraries and in-house helpers call our parameters.
_SYNONYMS = {
    "cooldown": "recovery_timeout",
    "error_threshold": "failure_threshold, or failure_rate",
    "exclude": "failure_on, which says the opposite",
    "excluded_exceptions": "failure_on, which says the opposite",
    "expected_exception": "failure_on",
    "failure_exceptions": "failure_on",
    "failure_rate_threshold": "failure_rate, in (0, 1]",
    "fail_max": "failure_threshold",
    "half_open_max_requests": "half_open_max_calls",
    "max_failures": "failure_threshold",
    "minimum_number_of_calls": "minimum_calls",
    "open_duration": "recovery_timeout",
    "permitted_number_of_calls_in_half_open_state": "half_open_max_calls",
    "reset_timeout": "recovery_timeout",
    "sliding_window_size": "window",
    "timeout": "recovery_timeout",
    "timeout_duration": "recovery_timeout",
}

WINDOW, MINIMUM_CALLS = 100, 10

# The places of the outcomes that concern a circuit: all, where there is one circuit.
ONLY: Sequence[int] = ()


@checks_names(_SYNONYMS)
class CircuitBreaker(Circuit, Layer):
    """Turns calls away while the server fails, and lets a few probes through to see whether it is back.

    Closed, it lets every call through and opens after *failure_threshold* failures in a row, or at *failure_rate*. Open,
    it raises :class:`~rpcretry.CircuitOpenError` without touching the network. After *recovery_timeout* it is half-open:
    at most *half_open_max_calls* probes are out at once, *success_threshold* successes close it, one failure opens it
    again. (The pattern is Nygard's, "Release It!", 2007.)

    As a layer it stands inside of layers that queue; the other order is refused. A probe that never returns holds its slot until the
    end of its attempt's limit, or for the recovery time where the attempt has none. A batch is one call, and fails if
    none of its requests succeeded and one failed; calls that were joined into one exchange count once, by the first that says
    something about the server. A call that is cancelled counts nothing. An open circuit ends a call:
    it is not retried.

    A JSON-RPC error proves that the server is alive and counts as a success, unless HTTP 429, 502, 503 or 504 came with it. So do
    HTTP 4xx other than 408 and 429, and results that are too large or of the wrong type. A URL that cannot be sent, a
    closed client and the refusal of another layer say nothing about the server and are not counted. Every other exception is a failure.

    :param name: what it is called in errors and events.
    :param failure_threshold: failures in a row that open it.
    :param recovery_timeout: seconds that it stays open, or a :class:`~rpcretry.retry.Backoff`: its delays in turn for each
        opening without a close in between, the last of them repeated. In the simulation of the documentation 5 s cost an outage
        a probe in 5 s, and gave the service back 9 to 18 s sooner than 30 s did.
    :param half_open_max_calls: the most probes that are out at once.
    :param success_threshold: successful probes that close it.
    :param failure_on: exception classes, one or any iterable: the failures, instead of the usual ones (those of requests and
        aiohttp match, too, and JSON-RPC errors only classes derived from :class:`~rpcretry.JsonRpcError`). JSON-RPC codes and
        ranges of them: failures besides. Or a plain function that returns a bool. It gets the
        :class:`~rpcretry.outcome.Outcome` and not the exception: ``lambda outcome: isinstance(outcome.error, OSError)``.
    :param failure_rate: in (0, 1]: instead of *failure_threshold*, open when this part of the calls in the window failed.
    :param window: what *failure_rate* looks at: an int, that many last calls; a :class:`~datetime.timedelta`, the calls
        of that time, counted in ten slices.
    :param minimum_calls: how many calls the window must hold before the rate counts.
    :param key: one circuit for each key: ``"method"``, for a function the name of its operation, or a plain function from
        a :class:`~rpcretry.outcome.Member` to a hashable. A circuit is kept for every key ever seen: take keys from a small set.
    :param listeners: callables that take each :class:`~rpcretry.events.BreakerChanged`, one or any iterable.
    :param clock: seconds on a monotonic clock, for everything that is done by hand. A layer goes by the clock of its client:
        give a client with a clock of its own and its breaker the same one.
    :raises TypeError, ValueError: naming the parameter, its value and the fix.
    """

    def __init__(
        self,
        name: str = "default",
        *,
        failure_threshold: int = 5,
        recovery_timeout: float | Backoff = 5.0,
        half_open_max_calls: int = 3,
        success_threshold: int = 2,
        failure_on: FailureOn | None = None,
        failure_rate: float | None = None,
        window: int | datetime.timedelta = WINDOW,
        minimum_calls: int = MINIMUM_CALLS,
        key: str | Callable[[Member], Hashable] | None = None,
        listeners: Sink | Iterable[Sink] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _refuse_misplaced(name)
        text("name", name)
        plain_callable_with("clock", clock, 0, "pass time.monotonic")
        rules = _rules(failure_threshold, recovery_timeout, half_open_max_calls, success_threshold, failure_rate, window, minimum_calls)
        super().__init__(name, Common(rules, Verdicts(failure_on), clock), keyed=key is not None)
        self._key = _as_key(key)
        self._circuits: dict[Hashable, Circuit] = {}
        # Written without a lock: that a key of a dict is set, or popped, is one step, and no two threads share an attempt.
        self._permits: dict[Attempt, Permit] = {}
        self._shares: dict[Attempt, list[tuple[Machine, Permit, Sequence[int]]]] = {}
        for listener in _several(listeners):
            self.add_listener(listener)

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name}: {f'keys: {len(self._circuits)}' if self._own is None else self.state.value}>"

    def add_listener(self, listener: Sink) -> None:
        """Have *listener* called with each :class:`~rpcretry.events.BreakerChanged` from now on, without a lock held."""
        if isinstance(listener, type):
            raise TypeError(f"listeners must be callables, got the class {listener.__name__}; write {listener.__name__}()")
        plain_callable_with("listeners", listener, 1, "it gets a BreakerChanged")
        if is_async_callable(listener):
            raise TypeError(f"listeners must be plain functions, got {listener!r:.60}, which nobody would await; have it call loop.create_task")
        before = self._common.listeners
        while not self._common.listen(before, (*before, listener)):
            before = self._common.listeners

    def remove_listener(self, listener: Sink) -> None:
        """Call *listener* no more.

        :raises ValueError: where it is none.
        """
        while True:
            before = self._common.listeners
            left = list(before)
            # Compared without the lock: their __eq__ is the user's code.
            if listener not in left:
                raise ValueError(f"{listener!r:.60} is no listener of breaker {self.name}")
            left.remove(listener)
            if self._common.listen(before, tuple(left)):
                return

    # --- circuits by key ---

    # Without this, __getitem__ would have Python iterate over the circuits 0, 1, 2 ... and make them.
    __iter__ = None

    def __getitem__(self, key: Hashable) -> Circuit:
        if self._key is None:
            raise TypeError(f"breaker {self.name} has one circuit and no keys; use the breaker itself, or give it key='method'")
        try:
            found = self._circuits.get(key)
        except TypeError:
            raise TypeError(f"key must give something hashable, got {type(key).__name__} {key!r:.60}") from None
        if found is None:
            # One step of the dict's own, and without a lock, since a key's __hash__ and __eq__ are the user's code.
            found = self._circuits.setdefault(key, Circuit(f"{self.name}[{key}]", self._common))
        return found

    def keys(self) -> tuple[Hashable, ...]:
        """The keys that have a circuit; none without ``key=``."""
        return tuple(self._circuits.copy())

    def reset(self) -> None:
        """Close it and clear its counters and :attr:`stats`; with ``key=``, every circuit's."""
        if self._own is not None:
            super().reset()
        for key in self.keys():
            self._circuits[key].reset()

    # --- the layer ---

    def admit(self, attempt: Attempt, now: float) -> Wait | None:
        own = self._own
        if own is None:
            self._admit_keyed(attempt, now)
            return None
        permit = own.passage
        if permit is not None:
            self._permits[attempt] = permit
            return None
        self._permits[attempt], changes = own.admit(now, attempt.ends_by)
        if changes:
            self._common.tell(self.name, changes, attempt, now)
        return None

    def settle(self, attempt: Attempt, outcomes: Sequence[Outcome], now: float) -> None:
        own = self._own
        if own is None:
            self._settle_keyed(attempt, outcomes, now)
            return
        permit = self._permits.pop(attempt, None)
        if permit is None:
            return
        verdicts, outcomes = self._common.verdicts, telling(attempt.members, outcomes)
        first = outcomes[0]
        failed = False if verdicts.plain and first.error is None else verdicts.among(outcomes)
        shared = first.shared
        if failed is None or (shared is not None and not shared.claim(own)):
            own.give_back(permit)
            return
        changes = own.record(permit, failed, now)
        if changes:
            self._common.tell(self.name, changes, attempt, now)

    def abandon(self, attempt: Attempt, now: float) -> None:
        permit = self._permits.pop(attempt, None)
        if permit is not None and self._own is not None:
            self._own.give_back(permit)
        for machine, share, _ in self._shares.pop(attempt, ()):
            machine.give_back(share)

    def _admit_keyed(self, attempt: Attempt, now: float) -> None:
        members = attempt.members
        first = self._machine_of(attempt, members[0])
        passage = first.passage
        if len(members) == 1 and passage is not None:
            self._shares[attempt] = [(first, passage, ONLY)]
            return
        places: dict[Machine, list[int]] = {}
        for place, member in enumerate(members):
            places.setdefault(self._machine_of(attempt, member), []).append(place)
        shares = self._shares[attempt] = []
        told: list[tuple[Machine, Sequence[Change]]] = []
        try:
            for machine, chosen in places.items():
                permit, changes = machine.admit(now, attempt.ends_by)
                shares.append((machine, permit, chosen))
                told.append((machine, changes))
        except BaseException:
            self.abandon(attempt, now)
            raise
        finally:
            for machine, changes in told:
                self._common.tell(machine.name, changes, attempt, now)

    def _settle_keyed(self, attempt: Attempt, outcomes: Sequence[Outcome], now: float) -> None:
        told: list[tuple[Machine, Sequence[Change]]] = []
        verdicts = self._common.verdicts
        shared = outcomes[0].shared
        for machine, permit, places in self._shares.pop(attempt, ()):
            own = outcomes if places is ONLY else telling([attempt.members[place] for place in places], [outcomes[place] for place in places])
            failed = verdicts.among(own)
            if failed is None or (shared is not None and not shared.claim(machine)):
                machine.give_back(permit)
                continue
            changes = machine.record(permit, failed, now)
            if changes:
                told.append((machine, changes))
        for machine, changes in told:
            self._common.tell(machine.name, changes, attempt, now)

    def _machine_of(self, attempt: Attempt, member: Member) -> Machine:
        if self._key is _method:
            # A function is called what its attempt is.
            key: Hashable = attempt.operation if member.request is None else member.request.method
        else:
            key = None if self._key is None else self._key(member)
        try:
            return self._circuits[key]._machine
        except (KeyError, TypeError):
            # New, or not hashable.
            return self[key]._machine


def _as_key(key: object) -> Callable[[Member], Hashable] | None:
    if key is None:
        return None
    if isinstance(key, str):
        if key != "method":
            raise ValueError(f"key must be 'method' or a function of the Member, got {key!r:.60}")
        return _method
    plain_callable_with("key", key, 1, "it gets a Member and returns a hashable; or write key='method'")
    found: Any = key
    return found  # type: ignore[no-any-return]


def _method(member: Member) -> Hashable:
    return member.method


def _refuse_misplaced(name: object) -> None:
    """Say which keyword was meant by what stands in the place of the name."""
    if isinstance(name, (int, float)) and not isinstance(name, bool):
        raise TypeError(f"name must be a str, got {type(name).__name__} {name!r}; for the failures that open it write failure_threshold={name!r}")
    if callable(name):
        what = "failure_on=" if isinstance(name, type) else "@CircuitBreaker().protect"
        raise TypeError(f"name must be a str, got {name!r:.60}; write {what}, if that was meant")


def _rules(
    failure_threshold: int,
    recovery_timeout: float | Backoff,
    half_open_max_calls: int,
    success_threshold: int,
    failure_rate: float | None,
    window: int | datetime.timedelta,
    minimum_calls: int,
) -> Rules:
    if isinstance(recovery_timeout, type) and issubclass(recovery_timeout, Backoff):
        raise TypeError(f"recovery_timeout must be an instance, got the class {recovery_timeout.__name__}; write {recovery_timeout.__name__}(attempts=...)")
    if not isinstance(recovery_timeout, Backoff):
        try:
            number("recovery_timeout", recovery_timeout, above=0)
        except (TypeError, ValueError) as problem:
            raise type(problem)(f"{problem}; give seconds, or a Backoff") from None
    count("failure_threshold", failure_threshold, least=1)
    count("half_open_max_calls", half_open_max_calls, least=1)
    count("success_threshold", success_threshold, least=1)
    count("minimum_calls", minimum_calls, least=1)
    if failure_rate is not None:
        number("failure_rate", failure_rate, above=0, most=1)
        if failure_threshold != 5:
            raise ValueError(f"failure_threshold={failure_threshold} and failure_rate={failure_rate:g} exclude each other; leave one out")
    if isinstance(window, datetime.timedelta):
        if window <= datetime.timedelta(0):
            raise ValueError(f"window must be longer than 0, got {window!r}")
    elif isinstance(window, bool) or not isinstance(window, int):
        raise TypeError(
            f"window must be an int, that many last calls, or a datetime.timedelta, the calls of that time, got {type(window).__name__} {window!r:.60}"
        )
    else:
        count("window", window, least=1)
    if failure_rate is None:
        for name, value, default in (("window", window, WINDOW), ("minimum_calls", minimum_calls, MINIMUM_CALLS)):
            if value != default:
                raise ValueError(f"{name}={value!r} does nothing without failure_rate; write failure_rate=0.5, or leave {name} out")
    elif isinstance(window, int) and minimum_calls > window:
        raise ValueError(f"minimum_calls must be at most window, or the rate would never count, got minimum_calls={minimum_calls} and window={window}")
    return Rules(failure_threshold, recovery_timeout, half_open_max_calls, success_threshold, failure_rate, window, minimum_calls)
