"""The decision engine. Every state transition of a call is in this file.

A call is a loop of attempts. The engine says what comes next and does none of it::

    begin ──► admit ──► Attempt ──► (the driver does the I/O) ──► settle ──► Stop
                ▲ ▲ │                                               │ │       ▲
                │ └─┘ Wait: a layer queues it                       │ └► Rescue: a fallback is asked
                └────── Wait: the delay before another try ◄────────┘

``begin``, ``resume`` and ``settle`` return the next step: an :class:`~rpcretry.outcome.Attempt` to make, a :class:`~rpcretry.outcome.Wait`
to wait for (then ``resume``), a :class:`~rpcretry.outcome.Rescue` to ask (then ``rescued`` or ``unrescued``), or a :class:`~rpcretry.outcome.Stop`:
the call is over, and each member holds its outcome. ``abandon`` ends it from outside. It is told the time and never asks.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from ..context import CurrentAttempt
from ..errors import ClientClosedError, DeadlineExceeded, Delivery, JsonRpcError, Refused, ResultValidationError
from ..events import AttemptStarted, CallFailed, CallSucceeded, FallbackUsed, RetryScheduled, Waited, begun, logger, publish, settled, tell_success
from ..messages import fresh
from ..outcome import Attempt, Member, Outcome, Parking, Rescue, Retry, Stop, Wait
from ._failures import caused, deadline_exceeded, give_up, worse
from ._subject import Subject
from .fallback import Fallback
from .policy import Policy

__all__ = ["Engine", "Step"]

Step: TypeAlias = Attempt | Wait | Rescue | Stop

OK = Stop("ok")
SMALLER = Retry(0.0, "batch too large")

# A loop's timer may fire this much before its time, in seconds; an attempt that the deadline cut is still recognised as such.
SLACK = 0.01

# The shortest wait for admission in seconds.
SHORTEST = 1e-6

BY_INDEX, BY_DUE = operator.attrgetter("index"), operator.attrgetter("due")


class Engine(Subject):
    """One call.

    :param policy: what it goes by.
    """

    __slots__ = ("_asked", "_attempt", "_ends", "_failed", "_held", "_pending", "members", "number", "policy", "started", "told")

    # The steps that are for the driver to perform.
    unit: type = Attempt

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._attempt: Attempt | None = None
        self.members: Sequence[Member] = ()

    @property
    def parking(self) -> Parking | None:
        """Where to be woken from the wait that was asked for, if it is one that ends so."""
        return self._attempt.parking if self._attempt is not None else None

    def current(self, now: float) -> CurrentAttempt:
        """Where the call stands, for :func:`rpcretry.current_attempt`."""
        errors = (member.outcome.error for member in self.members if member.outcome is not None)
        # The quick way counts nothing: it is the first attempt.
        attempt = self._attempt
        number = attempt.number if attempt is not None else self.number if self.members else 1
        remaining = None if self._ends == math.inf else max(0.0, self._ends - now)
        return CurrentAttempt(self.operation, number, self._max_attempts(number), next(filter(None, errors), None), now - self.started, remaining)

    # --- the first attempt ---

    def open(self, now: float) -> float:
        """Start the clock. Returns when the first attempt must have ended."""
        self.started, policy = now, self.policy
        self._ends = ends = math.inf if policy.deadline is None else now + policy.deadline
        limit = ends if policy.timeout is None else now + policy.timeout
        return limit if limit < ends else ends

    def begin(self, now: float) -> Step:
        """Admit the first attempt."""
        self.number, ends_by, members = 0, self.open(now), self.make_members()
        self.told = begun(self.policy.told, self.operation, members) if self.policy.begins else self.policy.told
        self._pending: list[Member] = []
        self.members = members
        if len(members) > 1:
            members = self.portion(members)
            self._pending = list(self.members[len(members) :])
            for member in self._pending:
                member.due = now
        return self._admit(self._new_attempt(1, members, ends_by), now, 0)

    def _catch_up(self) -> Attempt:
        # The quick way made no records. It was sent, and an interrupt is to find that: they are there all at once, or not at all.
        members, self.told = self.make_members(), self.policy.told
        for member in members:
            member.tries = 1
        attempt = self._attempt_of(1, members, self._limit(self.started))
        attempt.sent = True
        self._pending, self.number, self._asked = [], 1, 0
        self.members, self._attempt = members, attempt
        return attempt

    def _new_attempt(self, number: int, members: list[Member], ends_by: float) -> Attempt:
        self._asked, self._attempt = 0, self._attempt_of(number, members, ends_by)
        return self._attempt

    def _attempt_of(self, number: int, members: list[Member], ends_by: float) -> Attempt:
        return Attempt(number, members, ends_by, self.operation, self.started, self._ends, self.policy.max_attempts, self.told)

    def _limit(self, now: float) -> float:
        return self._ends if self.policy.timeout is None else min(now + self.policy.timeout, self._ends)

    # --- admission ---

    def _admit(self, attempt: Attempt, now: float, asked: int) -> Step:
        if now >= self._ends:
            return self._expire(attempt, now)
        policy = self.policy
        for admit in policy.admits[asked:]:
            asked += 1
            if admit is not None:
                self._asked = asked
                try:
                    wait = admit(attempt, now)
                except Exception as problem:
                    self._asked = asked - 1
                    return self._refuse(attempt, fresh(problem) if isinstance(problem, Refused) else problem, now)
                if wait is not None:
                    return self._hold(attempt, wait, now)
        self._asked = asked
        attempt.sent = True
        self.number = attempt.number
        for member in attempt.members:
            member.tries += 1
        if policy.starts_heard:
            publish(self.told, AttemptStarted(*self._so_far(now)))
        return attempt

    def _hold(self, attempt: Attempt, wait: Wait, now: float) -> Step:
        layer = type(self.policy.gates[self._asked - 1]).__name__
        if not isinstance(wait, Wait) or wait.until != wait.until:
            return self._refuse(attempt, TypeError(f"{layer}.admit must return None or a Wait until a time, it returned {wait!r:.60}"), now)
        self._held = (now, wait.reason)
        if attempt.parking is not None:
            return wait if wait.until < self._ends or self._ends == math.inf else Wait(self._ends, wait.reason)
        if wait.until == math.inf:
            return self._refuse(attempt, RuntimeError(f"{layer}.admit returned Wait(inf) without attempt.park(): nothing could ever wake it"), now)
        # A wait that is too short to move the clock would be asked for again for ever.
        until = max(wait.until, now + SHORTEST)
        return Wait(until, wait.reason) if until < self._ends else self._expire(attempt, now)

    def resume(self, now: float) -> Step:
        """The wait is over, by time or by a wake."""
        attempt = self._attempt
        if attempt is None:
            return self._advance(now)
        attempt.parking, attempt.ends_by = None, self._limit(now)
        since, reason = self._held
        if now > since:
            publish(self.told, Waited(*attempt.so_far(now), now - since, reason))
        return self._admit(attempt, now, self._asked - 1)

    # --- after the exchange ---

    def settle(self, outcomes: Sequence[Outcome], now: float) -> Step:
        """The attempt ended with one outcome for each of its members, in their order."""
        attempt = self._attempt or self._catch_up()
        if len(self.members) == 1 and outcomes[0].error is None and self.policy.success_ends:
            # The way of most calls, made short.
            member, policy = self.members[0], self.policy
            member.outcome, member.verdict = outcomes[0], OK
            self._release(attempt, outcomes, now)
            if self.number > 1 or self.told is not policy.told:
                publish(self.told, CallSucceeded(*attempt.so_far(now)))
                if self.told is not policy.told:
                    settled(self.told, outcomes)
            elif policy.successes_heard:
                tell_success(policy.successes_heard, attempt.operation, attempt.max_attempts, now - self.started)
            return OK if policy.fallback is None else self._fall_back(policy.fallback, "ok", now)
        again: list[Member] = []
        too_large, whole = self.is_too_large(attempt.members, outcomes), 0
        for member, outcome in zip(attempt.members, outcomes, strict=True):
            verdict = self._verdict(attempt, member, outcome, now, too_large)
            if isinstance(verdict, Retry):
                if now + verdict.delay < self._ends:
                    member.due, whole = now + verdict.delay, whole or verdict.whole
                    again.append(member)
                else:
                    verdict = self._late(member, outcome, now)
            member.verdict = verdict
        if len(again) > 1:
            together = [member for member in again if isinstance(member.verdict, Retry) and not member.verdict.held]
            longest = max((member.due for member in together), default=now)
            for member in together:
                member.due = longest
        if whole:
            again = self._kept_whole(attempt, again)
        self._release(attempt, outcomes, now)
        if again:
            self._pending += again
            self._announce(again, now)
        # A wait even where there is no delay, so that an async driver lets others have their turn.
        step = Wait(min(map(BY_DUE, self._pending)), "backoff") if self._pending else self._conclude(now)
        if self.told is not self.policy.told:
            settled(self.told, outcomes)
        return step

    def _release(self, attempt: Attempt, outcomes: Sequence[Outcome], now: float) -> None:
        for layer in self.policy.settlers:
            try:
                layer.settle(attempt, outcomes, now)
            except Exception:
                logger.exception("%s.settle raised", type(layer).__name__)
            # Counted down last: one that an interrupt kept from settling is abandoned, with those that it kept waiting.
            self._asked -= 1
        self._attempt = None

    def _kept_whole(self, attempt: Attempt, again: list[Member]) -> list[Member]:
        # What is repeated under one idempotency key must be the same body: all that went together, and nobody else.
        together = len(again) == len(attempt.members) and all(member.due == again[0].due for member in again)
        for member in again:
            if isinstance(member.verdict, Retry) and together:
                # The number of the attempt tells the body from others that wait.
                member.verdict = member.verdict._replace(whole=attempt.number)
            elif isinstance(member.verdict, Retry) and member.verdict.whole:
                member.verdict = Stop("may have been executed, and the others of its batch do not go again with it")
        return [member for member in again if isinstance(member.verdict, Retry)]

    def _verdict(self, attempt: Attempt, member: Member, outcome: Outcome, now: float, too_large: bool) -> Retry | Stop:
        before, member.outcome = member.outcome, outcome
        error, strategy = outcome.error, self.policy.strategy
        if too_large:
            member.delivery = worse(member.delivery, Delivery.REJECTED)
            return SMALLER
        if error is not None:
            # By naming a code the strategy says that the server did not act.
            named = isinstance(error, JsonRpcError) and strategy is not None and strategy.names(error.code)
            member.delivery = worse(member.delivery, Delivery.REJECTED if named else outcome.delivery)
            if isinstance(error, (Refused, DeadlineExceeded, ClientClosedError)):
                if not isinstance(error, DeadlineExceeded) and error.__cause__ is None and before is not None:
                    # A breaker's or a call's inside of the function, or the client is closed: raised from the failure before, as a layer's is.
                    caused(error, before.error)
                return Stop("refused")
            if isinstance(error, ResultValidationError):
                return Stop("error")
        if isinstance(error, TimeoutError) and now >= self._ends - SLACK:
            return self._late(member, outcome, now)
        if strategy is None or (error is None and self.policy.success_ends):
            return OK if error is None else Stop("error")
        if error is None:
            member.delivery = Delivery.MAYBE_EXECUTED  # The server did it, whatever the strategy waits for and whatever comes of later tries.
        try:
            return self.policy.judge(attempt, member, outcome, strategy.propose(member, outcome), now)
        except Refused as refusal:
            member.outcome = Outcome(error=caused(fresh(refusal), error))
            return Stop("refused")
        except Exception as problem:
            # A predicate, a backoff or a layer is broken. Its error is raised from the failure that it hid.
            member.outcome = Outcome(error=caused(problem, error))
            return Stop("error in the strategy")

    def _late(self, member: Member, outcome: Outcome, now: float) -> Stop:
        late = deadline_exceeded(self.operation, self.policy.deadline or 0.0, now - self.started, self.number)
        member.outcome = Outcome(error=caused(late, outcome.error))
        return Stop("deadline")

    def _advance(self, now: float) -> Step:
        if not self._pending:
            return self._conclude(now)
        if (due := min(map(BY_DUE, self._pending))) > now:
            return Wait(due, "backoff")
        if len(self._pending) == 1:
            ready, self._pending = self._pending, []
        else:
            # In the order of the call, whatever the order in which their delays ended.
            ready = sorted((member for member in self._pending if member.due <= now), key=BY_INDEX)
            body = max((member.verdict.whole for member in ready if isinstance(member.verdict, Retry)), default=0)
            # Under a key the same body: neither cut nor filled up.
            ready = [member for member in ready if isinstance(member.verdict, Retry) and member.verdict.whole == body] if body else self.portion(ready)
            chosen = set(ready)
            self._pending = [member for member in self._pending if member not in chosen]
        return self._admit(self._new_attempt(self.number + 1, ready, self._limit(now)), now, 0)

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
        for layer in reversed(self.policy.gates[: self._asked]):
            try:
                layer.abandon(attempt, now)
            except Exception:
                logger.exception("%s.abandon raised", type(layer).__name__)
        settled(self.told if attempt.sent else (), None)

    def abandon(self, now: float) -> None:
        """The call ends from outside: it was cancelled or interrupted. Does nothing once the call is over."""
        if self._attempt is not None:
            self._withdraw(self._attempt, now)
        settled(getattr(self, "told", ()), None)
        # An earlier failure's traceback holds the driver's frame, and that frame this call.
        self._failed: list[tuple[Member, Iterator[Rescue]]] = []
        for member in self.members:
            member.outcome = None

    def _conclude(self, now: float) -> Stop | Rescue:
        policy, reason, error = self.policy, "ok", None
        for member in self.members:
            verdict, outcome = member.verdict, member.outcome
            if verdict is not OK and isinstance(verdict, Stop) and outcome is not None:
                outcome.error = give_up(self.operation, policy.strategy, member, outcome.error, verdict.reason, now - self.started)
                if error is None:
                    error, reason = outcome.error, verdict.reason
        if error is not None and (policy.sinks or self.number > 1):
            publish(self.told, CallFailed(*self._so_far(now), reason, error))
        elif error is None and (policy.successes_heard or self.number > 1):
            publish(self.told, CallSucceeded(*self._so_far(now)))
        return Stop(reason) if policy.fallback is None else self._fall_back(policy.fallback, reason, now)

    # --- fallbacks ---

    def _fall_back(self, fallback: Fallback, reason: str, now: float) -> Stop | Rescue:
        self._failed = []
        for member in self.members:
            outcome = member.outcome
            if outcome is None or member.is_notification:
                continue
            if outcome.error is not None:
                if fallback.covers(outcome.error):
                    self._failed.append((member, fallback.offers(outcome.error, self.recall_key(member), now)))
            elif fallback.remembers and member.verdict is not None and member.verdict.reason == "ok":
                # What the strategy did not accept is returned when the tries run out, but it is no good result.
                key = self.recall_key(member)
                if key is not None:
                    fallback.remember(key, self.result_of(outcome.value), now)
        # Taken from the end.
        self._failed.reverse()
        return self._next_rescue(reason)

    def _next_rescue(self, reason: str) -> Stop | Rescue:
        while self._failed:
            offer = next(self._failed[-1][1], None)
            if offer is not None:
                self._held = (0.0, offer.name)
                return offer
            self._failed.pop()
        return Stop(reason)

    def rescued(self, value: Any, now: float) -> Stop | Rescue:
        """The fallback that was asked gave *value*."""
        member, _ = self._failed.pop()
        error = member.outcome.error if member.outcome else None
        if error is not None:
            publish(self.told, FallbackUsed(*self._so_far(now), self._held[1], error))
        member.outcome = Outcome(self.stand_in(member, value))
        return self._next_rescue("fallback")

    def unrescued(self, problem: Exception, now: float) -> Stop | Rescue:
        """The fallback that was asked failed, too."""
        member, _ = self._failed[-1]
        member.outcome = Outcome(error=caused(problem, member.outcome.error if member.outcome else None))
        return self._next_rescue("fallback")

    # --- telling ---

    def _announce(self, again: list[Member], now: float) -> None:
        first = min(again, key=BY_DUE)
        reason, error = first.verdict.reason if first.verdict else "retry", first.outcome.error if first.outcome else None
        publish(self.told, RetryScheduled(*self._so_far(now, 1), first.due - now, reason, error, len(again)))

    def _so_far(self, now: float, more: int = 0) -> tuple[str, int, int | None, float]:
        return self.operation, self.number, self._max_attempts(self.number + more), now - self.started

    def _max_attempts(self, number: int) -> int | None:
        limit = self.policy.max_attempts
        # The halves of a batch, and members that a hint holds apart, make more exchanges than any of them has tries.
        return None if limit is None or number > limit else limit
