"""The decision engine. Every state transition of a call is in this file.

A call is a loop of attempts. The engine says what comes next and does none of it::

    begin ──► admit ──► Attempt ──► (the driver does the I/O) ──► settle ──► Stop
                ▲ ▲ │                                               │
                │ └─┘ Wait: a layer queues it                       │
                └────── Wait: the delay before another try ◄────────┘

``begin``, ``resume`` and ``settle`` return the next step: an :class:`~rpcretry.outcome.Attempt` to make, a
:class:`~rpcretry.outcome.Wait` to wait for (then ``resume``), or a :class:`~rpcretry.outcome.Stop`: the call is
over, and each member holds its outcome. ``abandon`` ends it from outside. It is told the time and never asks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from ..errors import ClientClosedError, DeadlineExceeded, Delivery, HTTPStatusError, JsonRpcError, Refused, RetryExhaustedError, TransportError
from ..events import AttemptStarted, CallFailed, CallSucceeded, Event, LoggingSink, RetryScheduled, log_event, logger, publish
from ..messages import fresh
from ..outcome import Attempt, Member, Outcome, Parking, Retry, Stop, Wait
from ._failures import annotate, caused, worse
from .backoff import LONGEST
from .policy import Policy

__all__ = ["Engine", "Step"]

Step: TypeAlias = Attempt | Wait | Stop

OK = Stop("ok")

# A loop's timer may fire this much before its time, in seconds; an attempt that the deadline cut is still
# recognised as such.
SLACK = 0.01

# The shortest wait for admission in seconds.
SHORTEST = 1e-6


class Engine:
    """One call.

    :param policy: what it goes by.
    """

    __slots__ = ("_asked", "_attempt", "_ends", "_pending", "_waits", "members", "number", "policy", "started")

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._attempt: Attempt | None = None
        self.members: Sequence[Member] = ()

    @property
    def operation(self) -> str:
        """What the call is called in events and messages."""
        return "call"

    def make_members(self) -> list[Member]:
        """What the call consists of; asked once, and only when the engine needs to know."""
        return [Member(None)]

    @property
    def parking(self) -> Parking | None:
        """Where to be woken from the wait that was asked for, if it is one that ends so."""
        return self._attempt.parking if self._attempt is not None else None

    # --- the first attempt ---

    def open(self, now: float) -> float:
        """Start the clock. Returns when the first attempt must have ended."""
        self.started = now
        policy = self.policy
        timeout = policy.timeout
        if policy.deadline is None:
            self._ends = math.inf
            return math.inf if timeout is None else now + timeout
        self._ends = now + policy.deadline
        return self._limit(now)

    def begin(self, now: float) -> Step:
        """Admit the first attempt."""
        self.open(now)
        self.number = 0
        self.members = self.make_members()
        self._pending: list[Member] = []
        return self._launch(self.members, now)

    def _catch_up(self) -> Attempt:
        # The quick way made no records; now that something went wrong they are needed.
        self._pending = []
        self._asked = 0
        self._waits = False
        self.members = self.make_members()
        self.number = 1
        for member in self.members:
            member.tries = 1
        self._attempt = self._new_attempt(1, self.members, self.started)
        return self._attempt

    def _new_attempt(self, number: int, members: Sequence[Member], now: float) -> Attempt:
        policy = self.policy
        return Attempt(number, list(members), self._limit(now), self.operation, self.started, self._ends, policy.max_attempts, policy.sinks)

    def _limit(self, now: float) -> float:
        timeout = self.policy.timeout
        return self._ends if timeout is None else min(now + timeout, self._ends)

    # --- admission ---

    def _launch(self, members: Sequence[Member], now: float) -> Step:
        self._attempt = self._new_attempt(self.number + 1, members, now)
        self._asked = 0
        self._waits = False
        return self._admit(self._attempt, now)

    def _admit(self, attempt: Attempt, now: float) -> Step:
        if now >= self._ends:
            return self._expire(attempt, now)
        gates = self.policy.gates
        while self._asked < len(gates):
            attempt.ends_by = self._limit(now)
            attempt.parking = None
            self._waits = True
            try:
                wait = gates[self._asked].admit(attempt, now)
            except Exception as problem:
                self._waits = False
                return self._refuse(attempt, fresh(problem) if isinstance(problem, Refused) else problem, now)
            if wait is not None:
                return self._hold(attempt, wait, now)
            self._waits = False
            self._asked += 1
        attempt.ends_by = self._limit(now)
        attempt.parking = None
        self.number = attempt.number
        for member in attempt.members:
            member.tries += 1
        if self.policy.sinks:
            self._publish(AttemptStarted, now)
        return attempt

    def _hold(self, attempt: Attempt, wait: Wait, now: float) -> Step:
        layer = type(self.policy.gates[self._asked]).__name__
        if not isinstance(wait, Wait) or wait.until != wait.until:
            return self._refuse(attempt, TypeError(f"{layer}.admit must return None or a Wait until a time, it returned {wait!r:.60}"), now)
        if attempt.parking is not None:
            return wait if wait.until < self._ends or self._ends == math.inf else Wait(self._ends, wait.reason)
        if wait.until == math.inf:
            return self._refuse(attempt, RuntimeError(f"{layer}.admit returned Wait(inf) without attempt.park(): nothing could ever wake it"), now)
        # A wait that is too short to move the clock would be asked for again for ever.
        until = max(wait.until, now + SHORTEST)
        return Wait(until, wait.reason) if until < self._ends else self._expire(attempt, now)

    def resume(self, now: float) -> Step:
        """The wait is over, by time or by a wake."""
        if self._attempt is not None:
            return self._admit(self._attempt, now)
        return self._advance(now)

    # --- after the exchange ---

    def settle(self, outcomes: Sequence[Outcome], now: float) -> Step:
        """The attempt ended with one outcome for each of its members, in their order."""
        attempt = self._attempt or self._catch_up()
        again: list[Member] = []
        for member, outcome in zip(attempt.members, outcomes, strict=True):
            verdict = self._verdict(attempt, member, outcome, now)
            if isinstance(verdict, Retry):
                if now + verdict.delay < self._ends:
                    member.due = now + verdict.delay
                    again.append(member)
                else:
                    verdict = self._late(member, outcome, now)
            member.verdict = verdict
        while self._asked:
            # Counted down first: an interrupt in the middle leaves just the others to be abandoned.
            self._asked -= 1
            layer = self.policy.gates[self._asked]
            try:
                layer.settle(attempt, outcomes, now)
            except Exception:
                logger.exception("%s.settle raised", type(layer).__name__)
        self._attempt = None
        together = [member for member in again if isinstance(member.verdict, Retry) and not member.verdict.held]
        longest = max((member.due for member in together), default=now)
        for member in together:
            member.due = longest
        self._pending += again
        if again:
            self._announce(again, now)
        # A wait even where there is no delay, so that an async driver lets others have their turn.
        return Wait(self._due(), "backoff") if self._pending else self._conclude(now)

    def _verdict(self, attempt: Attempt, member: Member, outcome: Outcome, now: float) -> Retry | Stop:
        member.outcome = outcome
        error, strategy = outcome.error, self.policy.strategy
        if error is not None:
            # By naming a code the strategy says that the server did not act.
            named = isinstance(error, JsonRpcError) and strategy is not None and strategy.names(error.code)
            member.delivery = worse(member.delivery, Delivery.REJECTED if named else outcome.delivery)
        if isinstance(error, (Refused, DeadlineExceeded, ClientClosedError)):
            return Stop("refused")
        if isinstance(error, TimeoutError) and now >= self._ends - SLACK:
            return self._late(member, outcome, now)
        if strategy is None:
            return OK if error is None else Stop("error")
        try:
            verdict = strategy.propose(member, outcome)
            for layer in self.policy.judges:
                if isinstance(verdict, Stop):
                    break
                judged = layer.judge(attempt, member, outcome, verdict, now)
                if isinstance(judged, Stop):
                    verdict = judged
                elif not isinstance(judged, Retry):
                    raise TypeError(f"{type(layer).__name__}.judge must return a Retry or a Stop, it returned {judged!r:.60}")
                elif judged.delay > verdict.delay:
                    verdict = Retry(min(judged.delay, LONGEST), judged.reason, verdict.held or judged.held)
        except Refused as refusal:
            member.outcome = Outcome(error=caused(fresh(refusal), error))
            return Stop("refused")
        except Exception as problem:
            # A predicate, a backoff or a layer is broken. Its error is raised from the failure that it hid.
            member.outcome = Outcome(error=caused(problem, error))
            return Stop("error in the strategy")
        return verdict

    def _late(self, member: Member, outcome: Outcome, now: float) -> Stop:
        member.outcome = Outcome(error=caused(self._deadline_exceeded(now), outcome.error))
        return Stop("deadline")

    def _deadline_exceeded(self, now: float) -> DeadlineExceeded:
        deadline, elapsed = self.policy.deadline or 0.0, now - self.started
        tries = f"{self.number} attempt{'' if self.number == 1 else 's'}"
        return DeadlineExceeded(
            f"{self.operation}: the deadline of {deadline:g} s ended the call after {tries} in {elapsed:.2f} s",
            deadline=deadline,
            elapsed=elapsed,
            attempts=self.number,
        )

    def _advance(self, now: float) -> Step:
        if not self._pending:
            return self._conclude(now)
        if self._due() > now:
            return Wait(self._due(), "backoff")
        # In the order of the call, whatever the order in which their delays ended.
        ready = sorted((member for member in self._pending if member.due <= now), key=_index)
        self._pending = [member for member in self._pending if member.due > now]
        return self._launch(ready, now)

    def _due(self) -> float:
        return min(member.due for member in self._pending)

    # --- the ends ---

    def _expire(self, attempt: Attempt, now: float) -> Step:
        self._withdraw(attempt, now)
        for member in (*attempt.members, *self._pending):
            member.verdict = self._late(member, member.outcome or Outcome(), now)
        self._pending = []
        return self._conclude(now)

    def _refuse(self, attempt: Attempt, problem: Exception, now: float) -> Step:
        self._withdraw(attempt, now)
        for member in attempt.members:
            error = problem if member is attempt.members[0] else fresh(problem)
            member.outcome = Outcome(error=caused(error, member.outcome.error if member.outcome else None))
            member.verdict = Stop("refused" if isinstance(problem, Refused) else "error in a layer")
        return self._advance(now)

    def _withdraw(self, attempt: Attempt, now: float) -> None:
        self._attempt = None
        # Those that let it pass, and the one that has it waiting.
        for layer in reversed(self.policy.gates[: self._asked + self._waits]):
            try:
                layer.abandon(attempt, now)
            except Exception:
                logger.exception("%s.abandon raised", type(layer).__name__)

    def abandon(self, now: float) -> None:
        """The call ends from outside: it was cancelled or interrupted. Does nothing once the call is over."""
        if self._attempt is not None:
            self._withdraw(self._attempt, now)
        # An earlier failure's traceback holds the driver's frame, and that frame this call.
        for member in self.members:
            member.outcome = None

    def _conclude(self, now: float) -> Stop:
        reason = "ok"
        for member in self.members:
            verdict, outcome = member.verdict, member.outcome
            if isinstance(verdict, Stop) and outcome is not None and outcome.error is not None:
                reason = verdict.reason
                outcome.error = self._give_up(member, outcome.error, reason, now)
        if self.policy.sinks or self.number > 1:
            self._publish_end(now)
        return Stop(reason)

    def _give_up(self, member: Member, error: Exception, reason: str, now: float) -> Exception:
        strategy = self.policy.strategy
        if isinstance(error, (TransportError, HTTPStatusError, JsonRpcError, Refused, DeadlineExceeded)):
            # A caller reads from it what the server may have done, in whichever of the tries.
            error.delivery = member.delivery or Delivery.NOT_SENT
        if strategy is None or reason == "error":
            return error
        elapsed = now - self.started
        tries = f"{member.tries} attempt{'' if member.tries == 1 else 's'}"
        if reason == "attempts" and strategy.wrap:
            message = f"{self.operation}: gave up after {tries} in {elapsed:.2f} s: {error!r}"
            return caused(RetryExhaustedError(message, attempts=member.tries, last_exception=error, elapsed=elapsed), error)
        if not isinstance(error, (Refused, DeadlineExceeded)):
            annotate(error, f"gave up after {tries} in {elapsed:.2f} s ({reason})")
        return error

    # --- telling ---

    def _publish(self, kind: type[AttemptStarted] | type[CallSucceeded], now: float) -> None:
        self._tell(kind(self.operation, self.number, self._max_attempts(), now - self.started))

    def _publish_end(self, now: float) -> None:
        for member in self.members:
            error = member.outcome.error if member.outcome else None
            if error is not None:
                reason = member.verdict.reason if member.verdict else "error"
                self._tell(CallFailed(self.operation, self.number, self._max_attempts(), now - self.started, reason, error))
                return
        self._publish(CallSucceeded, now)

    def _announce(self, again: list[Member], now: float) -> None:
        first = min(again, key=lambda member: member.due)
        reason = first.verdict.reason if first.verdict else "retry"
        error = first.outcome.error if first.outcome else None
        self._tell(RetryScheduled(self.operation, self.number, self._max_attempts(), now - self.started, first.due - now, reason, error, len(again)))

    def _max_attempts(self) -> int | None:
        limit = self.policy.max_attempts
        # Members of a batch that a hint holds apart make more exchanges than any of them has tries.
        return None if limit is None or self.number > limit else limit

    def _tell(self, event: Event) -> None:
        sinks = self.policy.sinks
        if not any(isinstance(sink, LoggingSink) for sink in sinks):
            sinks = (*sinks, log_event)
        publish(sinks, event)


def _index(member: Member) -> int:
    return member.index
