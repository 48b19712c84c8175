"""Retries that successes pay for."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from .._check import number, text
from ..errors import BudgetExhaustedError
from ..events import BudgetRefused
from ..outcome import Attempt, Member, Outcome, Retry, Stop, telling
from ..retry.layer import Layer
from ..transport import SharedExchange
from ._names import checks_names

__all__ = ["RetryBudget"]

# Calls of one turn of a loop are told their delays this much apart, in seconds, and go again together all the same.
TOGETHER = 0.01

# Ten times 0.1 is a little less than 1, and pays for it all the same.
NEARLY = 1 - 1e-6

# What other libraries and in-house helpers call our parameters.
_SYNONYMS = {
    "budget": "capacity",
    "max_tokens": "capacity",
    "percent_can_retry": "refund: 0.1 lets one retry follow ten successes",
    "ratio": "refund",
    "retry_cost": "cost",
    "retry_ratio": "refund: 0.1 lets one retry follow ten successes",
    "success_increment": "refund",
    "token_ratio": "refund",
    "tokens": "capacity",
}


@checks_names(_SYNONYMS)
class RetryBudget(Layer):
    """Keeps retries from piling up on a server that is down: each one costs tokens, and only successes bring tokens back.

    One budget may serve any number of clients and functions that lead to the same server; it is full at first.
    A retry that the deadline or another layer stopped after all is paid back. One that waits out its delay is not, even
    if it is cancelled or refused then. Calls that were joined into one exchange pay, and are paid back, once: those with a
    shorter delay than that of the one that paid go again along with it, and one with a longer delay pays for itself.

    With the numbers given here a client that has been well may send 100 retries in a row, and from then on one for every
    ten successes. So at most a tenth is added to the load of a server that mostly answers, and nothing at all, once the
    tokens are gone, to one that answers nobody. A budget that is fed by requests instead, say with a fifth of them, goes on
    adding that fifth for as long as the server is down, which can be what keeps it down.

    :param capacity: the tokens that it holds at most.
    :param cost: the tokens that each retry of a request costs.
    :param refund: the tokens that each success brings. An error response is none.
    :param name: what it is called in errors and events.
    :ivar capacity: the tokens that it holds at most.
    :raises TypeError, ValueError: naming the parameter, its value and the fix.
    """

    def __init__(self, capacity: float = 100.0, *, cost: float = 1.0, refund: float = 0.1, name: str = "default") -> None:
        self.capacity = float(number("capacity", capacity, above=0))
        self.cost = float(number("cost", cost, above=0))
        if cost > capacity:
            raise ValueError(f"cost must be at most the capacity, {capacity!r}, got {cost!r}: no retry could ever be paid for; raise capacity")
        # Without one it would run dry sometime and stay so.
        self.refund = float(number("refund", refund, above=0))
        self.name = text("name", name)
        self._enough = self.cost * NEARLY
        self._level = self.capacity
        self._spent: dict[Member, SharedExchange | None] = {}
        # What stands for the retries in the mark of a shared exchange; the budget itself stands for its successes.
        self._retry = object()
        # The thread that holds it may come back: the collector closes a dead coroutine, which abandons its attempt, and a
        # signal handler may make a call. So the level is read and written without a call between.
        self._lock = threading.RLock()

    @property
    def level(self) -> float:
        """The tokens that are left, from 0 to the capacity."""
        return self._level

    def spend(self) -> bool:
        """Pay for one retry, for code that retries by itself.

        :returns: whether there was enough; if not, nothing was taken.
        """
        with self._lock:
            return self._take()

    def record_success(self) -> None:
        """Bring back what one success brings, for code that retries by itself."""
        with self._lock:
            self._bring(self.refund)

    def reset(self) -> None:
        """Fill it up."""
        with self._lock:
            self._level = self.capacity

    def judge(self, attempt: Attempt, member: Member, outcome: Outcome, verdict: Retry, now: float) -> Retry | Stop:
        shared = outcome.shared
        with self._lock:
            paid_for = None if shared is None else shared.noted(self._retry)
            if paid_for is not None and now + verdict.delay <= paid_for + TOGETHER and paid_for < attempt.deadline:
                # Another of the calls that were joined into the exchange that failed has paid: it goes along with that one.
                return verdict._replace(delay=max(verdict.delay, paid_for - now))
            paid, level = self._take(), self._level
            if paid:
                self._spent[member] = shared
                if shared is not None:
                    shared.note(self._retry, now + verdict.delay)
        if paid:
            return verdict
        attempt.tell(BudgetRefused(*attempt.so_far(now), reason=self.name, level=level))
        message = f"retry budget {self.name!r}: {level:.2f} tokens are left, and a retry costs {self.cost:g}"
        raise BudgetExhaustedError(message, name=self.name, level=level)

    def settle(self, attempt: Attempt, outcomes: Sequence[Outcome], now: float) -> None:
        capacity = self.capacity
        # Without the lock: what this attempt spent this thread wrote, and a success that comes while the budget is full
        # brings nothing, whoever spends next.
        if self._level >= capacity and not self._spent:
            return
        tokens = 0.0
        for outcome in telling(attempt.members, outcomes):
            if outcome.error is None and (outcome.shared is None or outcome.shared.claim(self)):
                tokens += self.refund
        with self._lock:
            if self._spent:
                for member in attempt.members:
                    if member in self._spent:
                        shared = self._spent.pop(member)
                        if not isinstance(member.verdict, Retry):
                            tokens += self.cost
                            if shared is not None:
                                shared.forget(self._retry)
            self._bring(tokens)

    def abandon(self, attempt: Attempt, now: float) -> None:
        # Only an interrupt between judge and settle leaves anything to give back here.
        with self._lock:
            for member in attempt.members:
                if member in self._spent:
                    shared = self._spent.pop(member)
                    if shared is not None:
                        shared.forget(self._retry)
                    self._bring(self.cost)

    def _take(self) -> bool:
        level = self._level
        if level < self._enough:
            return False
        self._level = level - self.cost if level > self.cost else 0.0
        return True

    def _bring(self, tokens: float) -> None:
        level = self._level + tokens
        self._level = level if level < self.capacity else self.capacity

    def __repr__(self) -> str:
        return f"<RetryBudget {self.name!r}: {self._level:g} of {self.capacity:g}>"
