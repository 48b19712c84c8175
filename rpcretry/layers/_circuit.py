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
answer from before an outage neither closes nor opens the circuit after it. What comes of a call of this generation
moves the state also after its lease: a lease only says how long a probe keeps others out.

A thread may come here while it is here already: the garbage collector closes an abandoned coroutine whose call gives
its slot back, or a signal handler makes a call. So the lock is re-entrant. Between a check and the assignments that
follow from it nothing is called and no container is made, since CPython interrupts a thread nowhere else.
"""

from __future__ import annotations

import contextlib
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
        self._lock = threading.RLock()
        self._state = CLOSED
        self._generation = 0
        self.passage: Permit | None = Permit(0)
        self._until = 0.0
        self._probes: list[Permit] = []
        self._successes = 0
        self._window = self._fresh_window()
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

    def _fresh_window(self) -> CallWindow | TimeWindow | None:
        if self._rules.failure_rate is None:
            return None
        length = self._rules.window
        return CallWindow(length) if isinstance(length, int) else TimeWindow(length.total_seconds())

    def _clear(self) -> None:
        self._successful = self._failed = self._rejected = self._state_changes = self._opened = self._consecutive = 0

    # --- reading ---

    def status(self, now: float) -> tuple[CircuitState, float]:
        """The state, and the seconds until a probe is let through: 0 unless it is open."""
        with self._lock:
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
        remaining = 0.0
        with self._lock:
            while True:
                permit = self.passage
                if permit is not None:
                    return permit, ()
                generation, state, probes = self._generation, self._state, self._probes
                if state is OPEN and now < self._until:
                    remaining = self._until - now
                    break
                # Looked at again by _change, and below: this thread may have moved the circuit meanwhile.
                ends = now + self._recovery if ends_by == math.inf else ends_by
                if state is OPEN:
                    # Its slot comes with the change, so that whoever has the change to tell is let through.
                    permit = Permit(generation + 1, ends, by_hand)
                    changes = self._change(generation, HALF_OPEN, "recovery time over", now, probes=[permit])
                    if changes:
                        return permit, changes
                    continue
                most = self._rules.half_open_max_calls
                if len(probes) >= most:
                    for probe in tuple(probes):
                        if probe.ends <= now:
                            self._release(probe)
                    if len(probes) >= most and probes is self._probes:
                        break
                # First taken and then counted: of two who take the last slot, the later one sees both.
                permit = Permit(generation, ends, by_hand)
                probes.append(permit)
                if probes is not self._probes:
                    continue
                if len(probes) <= most:
                    return permit, ()
                self._release(permit)
                break
            self._rejected += 1
        raise CircuitOpenError(f"circuit breaker {self.name} is {_why(state, remaining)}", name=self.name, state=state, remaining=remaining)

    def give_back(self, permit: Permit) -> None:
        """The call ended in nothing that counts. May come twice."""
        with self._lock:
            self._release(permit)

    def _release(self, permit: Permit) -> None:
        if permit in self._probes:
            with contextlib.suppress(ValueError):
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
            changes = self._move(permit.generation, failed, now)
        return self._drawn(changes)

    def record_by_hand(self, failed: bool | None, now: float) -> Sequence[Change]:
        """A call ended whose permit nobody kept: the oldest slot that was taken by hand, and has not ended, is free again.

        :param failed: ``None`` counts nothing.
        """
        changes: Sequence[Change] = ()
        with self._lock:
            for probe in tuple(self._probes):
                if probe.by_hand and probe.ends > now:
                    self._release(probe)
                    break
            if failed is None:
                return ()
            self._failed += failed
            self._successful += not failed
            while True:
                generation = self._generation
                if self._state is not OPEN:
                    break
                if now < self._until:
                    return changes
                # One that never asks would otherwise leave the circuit open for ever.
                changes = (*changes, *self._change(generation, HALF_OPEN, "recovery time over", now))
            changes = (*changes, *self._move(generation, failed, now))
        return self._drawn(changes)

    def _move(self, generation: int, failed: bool, now: float) -> Sequence[Change]:
        """Count a result of *generation*, unless that is over."""
        rules = self._rules
        if generation != self._generation:
            return ()
        row = self._consecutive = self._consecutive + 1 if failed else 0
        if self._state is HALF_OPEN:
            if failed:
                return self._change(generation, OPEN, "a probe failed", now, self._delay)
            good = self._successes = self._successes + 1
            if good < rules.success_threshold:
                return ()
            return self._change(generation, CLOSED, f"{good} probe{'s' if good > 1 else ''} succeeded", now)
        window = self._window
        if window is None or rules.failure_rate is None:
            if row < rules.failure_threshold:
                return ()
            return self._change(generation, OPEN, f"{row} failure{'s' if row > 1 else ''} in a row", now, self._delay)
        window.add(failed, now)
        calls, failures = window.calls, window.failures
        if calls < rules.minimum_calls or failures / calls < rules.failure_rate:
            return ()
        return self._change(generation, OPEN, f"failure rate {failures / calls:.2f}", now, self._delay)

    # --- by hand ---

    def hold(self, reason: str, now: float) -> Sequence[Change]:
        """Open until :meth:`close`."""
        changes: Sequence[Change] = ()
        with self._lock:
            while True:
                generation = self._generation
                if self._state is not OPEN:
                    changes = (*changes, *self._change(generation, OPEN, reason, now, math.inf))
                elif now < self._until:
                    self._until = math.inf
                    return changes
                else:
                    changes = (*changes, *self._change(generation, HALF_OPEN, "recovery time over", now))

    def close(self, reason: str, now: float, *, forget: bool = False) -> Sequence[Change]:
        """Close; with *forget* clear all that was counted, too, and let no call from before move anything."""
        changes: Sequence[Change] = ()
        with self._lock:
            while True:
                generation = self._generation
                if self._state is CLOSED:
                    break
                if self._state is OPEN and now >= self._until:
                    changes = (*changes, *self._change(generation, HALF_OPEN, "recovery time over", now))
                else:
                    changes = (*changes, *self._change(generation, CLOSED, reason, now))
            if forget:
                if not changes:
                    self._change(generation, CLOSED, reason, now)
                self._clear()
        return self._drawn(changes)

    # --- the changes ---

    def _change(
        self, generation: int, state: CircuitState, reason: str, now: float, delay: float = 0.0, probes: list[Permit] | None = None
    ) -> Sequence[Change]:
        """Put *state* in place of that of *generation*; nothing where that is over.

        :param delay: how long it is to stay open.
        :param probes: those that are out from the beginning.
        """
        fresh: list[Permit] = [] if probes is None else probes
        passage = Permit(generation + 1) if state is CLOSED else None
        window = self._fresh_window() if state is CLOSED else self._window
        if generation != self._generation:
            return ()
        # From here on nothing is called, up to the last assignment.
        previous = self._state
        self._generation = generation + 1
        self._state = state
        self._probes = fresh
        self._successes = 0
        self._window = window
        if state is OPEN:
            self._until = now + delay
            if delay != math.inf:
                self._recovery = delay
            self._opened += 1
        elif state is CLOSED:
            self._consecutive = 0
        self.passage = passage
        self._state_changes += 1
        return (Change(previous, state, reason, delay),)

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
