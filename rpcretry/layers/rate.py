"""At most so many requests in so many seconds."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from .._check import callable_with, count, number, plain_callable_with, seconds, text
from ..errors import LimitReachedError
from ..messages import check_method
from ..outcome import Attempt, Member, Outcome, Wait
from ..retry.layer import Layer
from ._names import checks_names
from .concurrency import first_of

__all__ = ["RateLimit"]

# What other libraries and in-house helpers call our parameters.
_SYNONYMS = {
    "calls": "rate",
    "capacity": "burst",
    "interval": "per",
    "limit": "rate",
    "limit_for_period": "rate",
    "limit_refresh_period": "per, in seconds",
    "max_burst": "burst",
    "max_calls": "rate",
    "max_rate": "rate",
    "max_tokens": "burst",
    "period": "per",
    "refill": "rate",
    "refill_rate": "rate",
    "requests_per_second": "rate",
    "time_period": "per",
    "timeout": "max_wait",
    "tokens": "rate",
    "weight": "cost",
}

REASON = "rate limit"

Cost: TypeAlias = "Mapping[str, float] | Callable[[Member], float]"


class _Queued:
    """One in the queue.

    :ivar cost: in seconds of refilling.
    :ivar room: what may be missing to a full bucket when it goes, in the same.
    :ivar gives_up: when it has waited too long.
    :ivar wake: ``None`` for one that knows that it is at the head: it waits by time.
    """

    __slots__ = ("cost", "gives_up", "room", "wake")

    def __init__(self, cost: float, room: float, gives_up: float, wake: Callable[[], None] | None) -> None:
        self.cost = cost
        self.room = room
        self.gives_up = gives_up
        self.wake = wake


class _Taken:
    """What an attempt took that may not have gone out yet.

    :ivar cost: in seconds of refilling.
    :ivar spare: how much of it can be given back: a bucket that has been fuller since would have run over by the rest.
    """

    __slots__ = ("cost", "spare")

    def __init__(self, cost: float) -> None:
        self.cost = cost
        self.spare = math.inf


@checks_names(_SYNONYMS)
class RateLimit(Layer):
    """Lets *rate* requests out in each *per* seconds, a token bucket: it fills at that rate, and each request takes a token.

    The others queue, first come, first served. In any time of *t* seconds at most ``burst + rate * t / per`` tokens go out;
    ``burst=1`` spaces requests evenly. A batch takes the tokens of all its requests at once. An exchange that costs
    more than *burst* waits for a full bucket and leaves it that far below empty, so that the mean rate holds. What costs
    nothing passes at once. The tokens of an attempt that never went out, since a layer further in refused it or it was
    cancelled before, come back; those of one that did go out do not.

    One limit may serve any number of clients and functions, threads and tasks. It says when exchanges are let out: a layer
    further in that queues may bunch them again.

    :param rate: tokens in each *per* seconds.
    :param per: seconds.
    :param burst: how many tokens are saved up at most. Not given, it is *rate*, and at least 1: what *per* seconds bring.
    :param cost: the tokens that a request costs: a mapping from method names, where those not in it cost 1, or a plain
        function of the :class:`~rpcretry.outcome.Member`. Not given, each costs 1.
    :param max_waiting: how many may queue; 0 to refuse at once, ``None`` for any number.
    :param max_wait: seconds that one may queue; ``None`` for as long as it takes. One whose turn would come later is
        refused at once.
    :param name: what it is called in errors.
    :param clock: the clock of the clients that it serves, for :attr:`level` alone.
    :raises TypeError, ValueError: naming the parameter, its value and the fix.

    ``admit`` raises :class:`~rpcretry.LimitReachedError`, with the seconds until its turn as ``remaining``, where the queue is
    full or the wait too long. A call whose deadline comes before its turn ends at once.
    """

    # The bucket is kept as one number, the time when it will be full: a level would have to be brought forward at each
    # look, and would differ by a rounding from what the wait for it was worked out from. Tokens are counted in the
    # seconds that they take to come. (The virtual scheduling form of the generic cell rate algorithm, ITU-T I.371.)

    def __init__(
        self,
        rate: float,
        *,
        per: float = 1.0,
        burst: float | None = None,
        cost: Cost | None = None,
        max_waiting: int | None = None,
        max_wait: float | None = None,
        name: str = "default",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rate = float(number("rate", rate, above=0))
        self.per = float(number("per", per, above=0))
        self.burst = max(1.0, self.rate) if burst is None else float(number("burst", burst, above=0))
        self.max_waiting = None if max_waiting is None else count("max_waiting", max_waiting)
        self.max_wait = seconds("max_wait", max_wait)
        self.name = text("name", name)
        callable_with("clock", clock, 0, "pass time.monotonic")
        self.clock = clock
        self._each = self.per / self.rate
        self._whole = self.burst * self._each
        if not (self._each > 0 and 0 < self._whole < math.inf):
            raise ValueError(f"rate must be one that a clock can measure, got {rate!r} in per={per!r} s with burst={self.burst!r}; give numbers nearer to 1")
        # Seconds that are nothing. Without them roundings would hold up, or refuse, the last one of a burst.
        self._slack = min(1e-6, self._each / 100)
        # A function has no method, and so no entry.
        self._costs: dict[str | None, float] = {}
        self._price: Callable[[Member], float] | None = None
        if isinstance(cost, Mapping):
            for method, tokens in cost.items():
                check_method(method)
                self._costs[method] = number(f"cost[{method!r}]", tokens, least=0)
        elif cost is not None:
            plain_callable_with("cost", cost, 1, "give a mapping from method names to tokens, or a function of the Member")
            self._price = cost
        self._is_flat = cost is None
        self._full_at = -math.inf
        # The head waits by time, those behind it until they are woken.
        self._queue: OrderedDict[Attempt, _Queued] = OrderedDict()
        self._queued = 0.0
        # What may still be given back, in the order of taking.
        self._taken: dict[Attempt, _Taken] = {}
        # The thread that holds it may come back: the collector closes a dead coroutine, which abandons its attempt, and a
        # signal handler may make a call. So nothing is iterated over but copies, and a head is looked for again after
        # parking. A token that is then counted twice, or not at all, may be.
        self._lock = threading.RLock()

    @property
    def level(self) -> float:
        """The tokens in the bucket now; below 0 after an exchange that cost more than it holds."""
        return self.burst - max(0.0, self._full_at - self.clock()) / self._each

    @property
    def waiting(self) -> int:
        """How many are in the queue."""
        return len(self._queue)

    def reset(self) -> None:
        """Fill the bucket. What queues goes on from there, but for the first, which waits as long as it was told to."""
        with self._lock:
            self._full_at = -math.inf
            # Nothing of it comes back to a bucket that is full.
            self._taken.clear()

    def admit(self, attempt: Attempt, now: float) -> Wait | None:
        if self._queue:
            with self._lock:
                queued = self._queue.get(attempt)
            if queued is not None:
                return self._ask_again(attempt, queued, now)
        # A function of the user's is called here: once for an attempt, and without the lock.
        cost = len(attempt.members) * self._each if self._is_flat else self._cost(attempt)
        if not cost:
            return None
        room = self._whole - cost if cost < self._whole else 0.0
        with self._lock:
            ahead = bool(self._queue)
            if ahead:
                goes_at = max(self._full_at, now) + self._queued - room
            else:
                goes_at = self._full_at - room
                if now + self._slack >= goes_at:
                    self._take(attempt, cost, now)
                    return None
            gives_up = math.inf if self.max_wait is None else now + self.max_wait
            is_full = self.max_waiting is not None and len(self._queue) >= self.max_waiting
            if not is_full and goes_at <= gives_up:
                if goes_at >= attempt.deadline:
                    # The engine ends it now; in the queue it would only be in the way of the others.
                    return Wait(goes_at, REASON)
                queued = self._queue[attempt] = _Queued(cost, room, gives_up, attempt.park() if ahead else None)
                self._queued += cost
                if ahead and first_of(self._queue) is attempt:
                    # Those ahead left within this call, when there was nobody to wake.
                    return self._at_head(attempt, queued)
                return Wait(gives_up if ahead else goes_at, REASON)
        raise self._refusal(f"the queue is full, max_waiting={self.max_waiting}" if is_full else self._too_long(), max(0.0, goes_at - now))

    def _ask_again(self, attempt: Attempt, queued: _Queued, now: float) -> Wait | None:
        with self._lock:
            is_first = first_of(self._queue) is attempt
            if not is_first and now < queued.gives_up:
                # Anew each time, since the engine drops the parking of a wait that is over; the place in the queue stays.
                queued.wake = attempt.park()
                is_first = first_of(self._queue) is attempt
                if not is_first:
                    return Wait(queued.gives_up, REASON)
                attempt.parking = None
            goes_at = self._full_at - queued.room
            goes = is_first and now + self._slack >= goes_at
            if goes:
                self._take(attempt, queued.cost, now)
            elif is_first and goes_at <= queued.gives_up:
                return self._at_head(attempt, queued)
            self._leave(attempt)
        self._wake_head()
        if not goes:
            raise self._refusal(self._too_long(), goes_at - now if is_first else None)
        return None

    def settle(self, attempt: Attempt, outcomes: Sequence[Outcome], now: float) -> None:
        # Without the lock: a dict pops in one step.
        self._taken.pop(attempt, None)
        if self._queue:
            self._wake_head()

    def abandon(self, attempt: Attempt, now: float) -> None:
        with self._lock:
            self._leave(attempt)
            if attempt in self._taken and not attempt.sent:
                self._put_back(attempt, now)
            self._taken.pop(attempt, None)
        self._wake_head()

    def _at_head(self, attempt: Attempt, queued: _Queued) -> Wait:
        queued.wake = attempt.parking = None
        return Wait(self._full_at - queued.room, REASON)

    def _wake_head(self) -> None:
        """Tell the head that it is one. Again and again until it has come: an interrupt may have hit the first time."""
        if not self._queue:
            return
        with self._lock:
            head = first_of(self._queue)
            queued = None if head is None else self._queue.get(head)
            wake = None if queued is None else queued.wake
        if wake is not None:
            wake()

    def _cost(self, attempt: Attempt) -> float:
        tokens = 0.0
        for member in attempt.members:
            more = self._costs.get(member.method, 1.0) if self._price is None else number("the tokens that cost returns", self._price(member), least=0)
            tokens += more
            if tokens * self._each == math.inf:
                whose = "a function" if member.method is None else f"the method {member.method!r}"
                raise ValueError(f"cost must be one that a clock can measure, got {more:g} tokens for {whose} at {self.rate:g} in {self.per:g} s; give fewer")
        return tokens * self._each

    def _take(self, attempt: Attempt, cost: float, now: float) -> None:
        entry = _Taken(cost)
        if self._taken:
            self._look_over(now)
        # One after the other without a call between them, so that nothing comes between them either.
        full_at = self._full_at
        self._full_at = (full_at if full_at > now else now) + cost
        self._taken[attempt] = entry

    def _look_over(self, now: float) -> None:
        """What was taken before finds the bucket as full as it is now."""
        taken = self._taken
        missing = max(0.0, self._full_at - now)
        for other in reversed(list(taken)):
            entry = taken.get(other)
            if entry is None:
                continue
            if other.sent:
                # It can no longer be given back, so that usually nothing is left to look at.
                taken.pop(other, None)
            elif entry.spare <= missing:
                # The later it was taken the more it has to spare.
                break
            else:
                entry.spare = missing

    def _put_back(self, attempt: Attempt, now: float) -> None:
        """As if the attempt had never taken anything."""
        order = list(self._taken)
        back = self._taken.pop(attempt, None)
        if back is None:
            return
        amount = min(back.cost, back.spare, self._full_at - now)
        if amount <= 0:
            return
        self._full_at -= amount
        is_later = True
        for other in reversed(order):
            if other is attempt:
                is_later = False
                continue
            taken = self._taken.get(other)
            if taken is None:
                continue
            if is_later:
                taken.spare -= amount
            elif taken.spare > back.spare - amount:
                taken.spare = back.spare - amount
            else:
                break

    def _leave(self, attempt: Attempt) -> None:
        """Take *attempt* out of the queue."""
        queued = self._queue.pop(attempt, None)
        if queued is not None:
            self._queued -= queued.cost
        if not self._queue:
            # The sum of what is left is 0, whatever roundings say.
            self._queued = 0.0

    def _too_long(self) -> str:
        return f"that is more than max_wait={self.max_wait:g} s"

    def _refusal(self, why: str, remaining: float | None) -> LimitReachedError:
        turn = "its turn did not come" if remaining is None else f"its turn comes in {remaining:.3g} s"
        return LimitReachedError(f"rate limit {self.name!r}: {turn}, and {why}", name=self.name, remaining=remaining)

    def __repr__(self) -> str:
        return f"<RateLimit {self.name!r}: {self.rate:g} in {self.per:g} s, burst {self.burst:g}, {self.waiting} waiting>"
