"""The state machine of one circuit. Every change of its state is in this file; it is told the time and never asks.

::

               failures               recovery time over
      CLOSED ────────────► OPEN ────────────────────────────► HALF_OPEN
        ▲                  ▲                                   │     │
        │                  └────────── a probe failed ─────────┘     │
        └───────────────────────────── probes succeeded ─────────────┘

Besides, it is opened and closed by hand from any state.

A call that is let through holds a permit of the generation in which it was let through; the generation changes with
every change of the state. What comes of a call of an earlier generation is counted and moves nothing, so that a slow
answer from before an outage neither closes nor opens the circuit after it.
"""

from __future__ import annotations

import datetime
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import CircuitOpenError, CircuitState
from ..events import logger
from ..retry.backoff import Backoff, within
from ._window import CallWindow, TimeWindow

__all__ = ["Change", "CircuitStats", "Machine", "Permit", "Rules"]

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN

# A probe that its limit cuts tells so a moment after its lease, which ends with the limit: timers fire late, and a busy
# loop gets round to them later still. Seconds for which such a result still counts as the probe's; without them a
# server that only times out would never open the circuit again.
GRACE = 1.0


@dataclass(frozen=True, slots=True)
class CircuitStats:
    """What a circuit counted since it was made or reset.

    :ivar total: the calls that it let through and that ended, and those that it turned away: the sum of the next three.
    :ivar successful: calls that ended well, or in an error that is no failure of the server.
    :ivar failed: calls that failed.
    :ivar rejected: calls that it turned away.
    :ivar state_changes: how often its state changed.
    :ivar opened_count: how often it opened.
    :ivar consecutive_failures: the failures since the last success.
    """

    total: int = 0
    successful: int = 0
    failed: int = 0
    rejected: int = 0
    state_changes: int = 0
    opened_count: int = 0
    consecutive_failures: int = 0


class Rules(NamedTuple):
    """What all circuits of a breaker go by; checked by the breaker."""

    failure_threshold: int
    recovery: float | Backoff
    half_open_max_calls: int
    success_threshold: int
    failure_rate: float | None
    window: int | datetime.timedelta
    minimum_calls: int


class Change(NamedTuple):
    """A change of the state."""

    previous: CircuitState
    state: CircuitState
    reason: str
    remaining: float


class Permit:
    """What a call holds that was let through.

    :ivar ends: when the lease of a probe ends; ``math.inf`` for a call of a closed circuit.
    """

    __slots__ = ("by_hand", "ends", "generation")

    def __init__(self, generation: int, ends: float = math.inf, by_hand: bool = False) -> None:
        self.generation = generation
        self.ends = ends
        self.by_hand = by_hand


class Machine:
    """One circuit. Methods that may change the state return the changes, for the caller to tell without a lock.

    :param name: what errors call it.
    :param rules: what it goes by.
    :ivar passage: the permit of every call while the circuit is closed, read without a lock; else ``None``.
    """

    __slots__ = (
        "_consecutive",
        "_delay",
        "_delays",
        "_epoch",
        "_failed",
        "_generation",
        "_lock",
        "_opened",
        "_probes",
        "_recovery",
        "_rejected",
        "_rules",
        "_state",
        "_state_changes",
        "_successes",
        "_successful",
        "_until",
        "_window",
        "name",
        "passage",
    )

    def __init__(self, name: str, rules: Rules) -> None:
        self.name = name
        self._rules = rules
        self._lock = threading.Lock()
        self._state = CLOSED
        self._generation = 0
        self.passage: Permit | None = Permit(0)
        self._until = 0.0
        self._probes: list[Permit] = []
        self._successes = 0
        self._window: CallWindow | TimeWindow | None = None
        if rules.failure_rate is not None:
            length = rules.window
            self._window = CallWindow(length) if isinstance(length, int) else TimeWindow(length.total_seconds())
        self._clear()
        # How long the circuit stays open the next time, and how long it did the last.
        self._delays: Iterator[float] | None = None
        self._epoch = 0
        if isinstance(rules.recovery, Backoff):
            self._delays = iter(rules.recovery())
            first = next(self._delays, None)
            if first is None:
                raise ValueError(f"recovery_timeout must yield at least one delay, got {rules.recovery!r:.80}; give it attempts=1 or more")
            self._delay = within(first)
        else:
            self._delay = rules.recovery
        self._recovery = self._delay

    def _clear(self) -> None:
        self._successful = self._failed = self._rejected = self._state_changes = self._opened = self._consecutive = 0

    # --- reading ---

    def status(self, now: float) -> tuple[CircuitState, float]:
        """The state, and the seconds until a probe is let through: 0 unless it is open."""
        with self._lock:
            return self._status(now)

    def _status(self, now: float) -> tuple[CircuitState, float]:
        if self._state is not OPEN:
            return self._state, 0.0
        return (OPEN, self._until - now) if now < self._until else (HALF_OPEN, 0.0)

    def stats(self) -> CircuitStats:
        """What was counted, as one consistent record."""
        with self._lock:
            total = self._successful + self._failed + self._rejected
            return CircuitStats(total, self._successful, self._failed, self._rejected, self._state_changes, self._opened, self._consecutive)

    # --- letting calls through ---

    def admit(self, now: float, ends_by: float = math.inf, by_hand: bool = False) -> tuple[Permit, Sequence[Change]]:
        """Let a call through.

        :param ends_by: when the lease of a probe ends; ``math.inf`` for a lease as long as the circuit was open.
        :raises CircuitOpenError: where it is turned away.
        """
        changes: Sequence[Change] = ()
        with self._lock:
            permit = self.passage
            if permit is not None:
                return permit, changes
            state, remaining = self._status(now)
            if state is HALF_OPEN:
                if self._state is OPEN:
                    changes = (self._change(HALF_OPEN, "recovery time over", now),)
                elif len(self._probes) >= self._rules.half_open_max_calls:
                    self._probes = [probe for probe in self._probes if probe.ends > now]
                if len(self._probes) < self._rules.half_open_max_calls:
                    permit = Permit(self._generation, now + self._recovery if ends_by == math.inf else ends_by, by_hand)
                    self._probes.append(permit)
                    return permit, changes
            self._rejected += 1
        raise CircuitOpenError(f"circuit breaker {self.name} is {_why(state, remaining)}", name=self.name, state=state, remaining=remaining)

    def give_back(self, permit: Permit) -> None:
        """The call ended in nothing that counts. May come twice."""
        if permit.ends != math.inf:
            with self._lock:
                self._release(permit)

    def _release(self, permit: Permit) -> None:
        if permit in self._probes:
            self._probes.remove(permit)

    # --- counting ---

    def record(self, permit: Permit, failed: bool, now: float) -> Sequence[Change]:
        """The call that holds *permit* ended."""
        with self._lock:
            if failed:
                self._failed += 1
            else:
                self._successful += 1
                if permit is self.passage and self._window is None:
                    self._consecutive = 0
                    return ()
            if permit.generation != self._generation:
                return ()
            self._release(permit)
            if now > permit.ends + GRACE:
                return ()
            changes = self._move(failed, now)
        return self._drawn(changes)

    def record_by_hand(self, failed: bool | None, now: float) -> Sequence[Change]:
        """A call ended whose permit nobody kept: the oldest slot that was taken by hand, and has not ended, is free again.

        :param failed: ``None`` counts nothing.
        """
        with self._lock:
            for probe in self._probes:
                if probe.by_hand and probe.ends > now:
                    self._release(probe)
                    break
            if failed is None:
                return ()
            if failed:
                self._failed += 1
            else:
                self._successful += 1
            changes: Sequence[Change] = ()
            if self._state is OPEN:
                if now < self._until:
                    return ()
                # One that never asks would otherwise leave the circuit open for ever.
                changes = (self._change(HALF_OPEN, "recovery time over", now),)
            changes = (*changes, *self._move(failed, now))
        return self._drawn(changes)

    def _move(self, failed: bool, now: float) -> Sequence[Change]:
        rules = self._rules
        self._consecutive = self._consecutive + 1 if failed else 0
        if self._state is HALF_OPEN:
            if failed:
                return (self._trip("a probe failed", now),)
            self._successes += 1
            if self._successes < rules.success_threshold:
                return ()
            return (self._change(CLOSED, f"{self._successes} probe{'s' if self._successes > 1 else ''} succeeded", now),)
        window = self._window
        if window is None or rules.failure_rate is None:
            if self._consecutive < rules.failure_threshold:
                return ()
            return (self._trip(f"{self._consecutive} failure{'s' if self._consecutive > 1 else ''} in a row", now),)
        window.add(failed, now)
        if window.calls < rules.minimum_calls or window.failures / window.calls < rules.failure_rate:
            return ()
        return (self._trip(f"failure rate {window.failures / window.calls:.2f}", now),)

    # --- by hand ---

    def hold(self, reason: str, now: float) -> Sequence[Change]:
        """Open until :meth:`close`."""
        with self._lock:
            self._until = math.inf
            return () if self._state is OPEN else (self._change(OPEN, reason, now),)

    def close(self, reason: str, now: float, *, forget: bool = False) -> Sequence[Change]:
        """Close; with *forget* clear all that was counted, too, and let no call from before move anything."""
        with self._lock:
            changes = () if self._state is CLOSED else (self._change(CLOSED, reason, now),)
            if forget:
                if not changes:
                    self._renew(CLOSED)
                self._clear()
        return self._drawn(changes)

    # --- the changes ---

    def _trip(self, reason: str, now: float) -> Change:
        self._recovery = self._delay
        self._until = now + self._delay
        return self._change(OPEN, reason, now)

    def _change(self, state: CircuitState, reason: str, now: float) -> Change:
        previous = self._state
        self._renew(state)
        self._state_changes += 1
        self._opened += state is OPEN
        return Change(previous, state, reason, self._until - now if state is OPEN else 0.0)

    def _renew(self, state: CircuitState) -> None:
        self._state = state
        self._generation += 1
        self._probes = []
        self._successes = 0
        self.passage = None
        if state is CLOSED:
            self._consecutive = 0
            if self._window is not None:
                self._window.clear()
            self.passage = Permit(self._generation)

    # --- how long it stays open ---

    def _drawn(self, changes: Sequence[Change]) -> Sequence[Change]:
        # A backoff is the user's code, so the next delay is drawn beforehand, and outside of the lock.
        if changes and isinstance(self._rules.recovery, Backoff) and changes[-1].state is not HALF_OPEN:
            try:
                self._draw(self._rules.recovery, afresh=changes[-1].state is CLOSED)
            except Exception:
                logger.exception("recovery_timeout: %r raised", self._rules.recovery)
        return changes

    def _draw(self, backoff: Backoff, afresh: bool) -> None:
        fresh = iter(backoff()) if afresh else None
        with self._lock:
            # Who takes the iterator is alone with it; a generator that is running cannot be asked.
            delays, self._delays = self._delays if fresh is None else fresh, None
            self._epoch += afresh
            epoch = self._epoch
        following = None if delays is None else next(delays, None)
        delay = None if following is None else within(following)
        with self._lock:
            if epoch == self._epoch and delays is not None:
                self._delays = delays
                self._delay = self._delay if delay is None else delay


def _why(state: CircuitState, remaining: float) -> str:
    if state is HALF_OPEN:
        return "half-open, and all the probes that it allows are out"
    if remaining == math.inf:
        return "held open until close or reset is called"
    return f"open, and lets a probe through in {remaining:.2f} s"
