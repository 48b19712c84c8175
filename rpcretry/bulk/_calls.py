"""Calls that can be cut off and gone on with, and whose result is a list of items."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from ..drivers._sync import drive
from ..errors import TransportError
from ..messages import fresh
from ..outcome import Attempt, Member, Outcome, Stop
from ..retry._failures import give_up
from ..retry.engine import OK, Engine
from ._items import BulkItem

__all__ = ["Place", "Refusal", "Resumable"]

Place: TypeAlias = tuple[int, Any]
"""The index of a request among all of a bulk, and the request."""

# The folder of the drivers, as frames name it.
DRIVERS = drive.__code__.co_filename.removesuffix("_sync.py")


CUT, CONCLUDED = Stop("cut off"), Stop("concluded")


class Refusal:
    """Stands for the call of a request that cannot be sent: it is over when it starts."""

    __slots__ = ("_items",)

    unit = Attempt
    parking = None

    def __init__(self, place: Place, problem: Exception) -> None:
        problem.__traceback__ = None
        self._items: list[BulkItem[Any, Any]] = [BulkItem(*place, None, problem, 0)]

    def start(self, now: float) -> Stop:
        return OK

    def abandon(self, now: float) -> None:
        """There is nothing to give back."""

    def result(self) -> list[BulkItem[Any, Any]]:
        return self._items

    def divided(self) -> tuple[list[BulkItem[Any, Any]], None]:
        return self._items, None

    def failed_with(self, problem: Exception) -> list[BulkItem[Any, Any]]:
        return self._items


class Resumable(Engine):
    """A call that a cut leaves in order: what was in flight has failed, and what would have been tried again can go on.

    To be mixed into a call; *places* and *cut_at* are slots of that class.

    :ivar places: what its members are to the bulk, by their index.
    :ivar cut_at: when it was cut off, on the clock of the engine; ``None`` for never.
    :ivar keeps_traces: whether a failure keeps what its traceback says of the user's code.
    """

    __slots__ = ()

    keeps_traces = False

    places: Sequence[Place]
    cut_at: float | None

    def value_of(self, outcome: Outcome) -> Any:
        """The result in a success."""
        return outcome.result

    def thaw(self, now: float) -> None:
        """Go on after a cut: while nobody wanted it to, its deadline stood still."""
        if self.cut_at is not None:
            stood = now - self.cut_at
            self.cut_at = None  # type: ignore[misc]
            self.started += stood
            self._ends += stood

    def abandon(self, now: float) -> None:
        """It was cut off. Sinks are not told of what waits: it may go on."""
        attempt = self._attempt
        if attempt is None and not self.members:
            if not hasattr(self, "started") or self.is_over():
                return
            attempt = self._catch_up()
        in_flight = set(attempt.members) if attempt is not None and attempt.sent else set()
        if attempt is not None:
            self._withdraw(attempt, now)
        self._failed = []
        self._pending = []
        for member in self.members:
            if member in in_flight:
                member.outcome, member.verdict = Outcome(error=cut_off(self.operation)), CUT
            elif not isinstance(member.verdict, Stop):
                self._pending.append(member)
        self.cut_at = now  # type: ignore[misc]

    def divided(self) -> tuple[list[BulkItem[Any, Any]], Sequence[Member] | None]:
        """After a cut: the items of those that are over, and the members that go on; ``None`` where none do.

        An interrupt may come before they are stored, and then it is asked again.
        """
        if self.cut_at is None:
            if not hasattr(self, "started"):
                return [], ()
            # An interrupt came between its end and whoever wanted its result.
            return self.ended() if self.is_over() else self.failed_with(cut_off(self.operation)), None
        left = set(self._pending)
        over = [member for member in self.members if member not in left]
        if left or any(member.verdict == CUT for member in over):
            # They end without the conclusion that is drawn when all have.
            for member in over:
                verdict, outcome = member.verdict, member.outcome
                if outcome is not None and isinstance(verdict, Stop) and verdict not in (CUT, CONCLUDED):
                    elapsed = self.cut_at - self.started
                    error = give_up(self.operation, self.policy.strategy, member, outcome.error, verdict.reason, elapsed)
                    # Statements between which no signal handler comes: it is drawn once.
                    outcome.error = error
                    member.verdict = CONCLUDED
        return self.items_of(over), self._pending or None

    def is_over(self) -> bool:
        """Whether its result can be asked for."""
        return bool(self.members) and all(isinstance(member.verdict, Stop) for member in self.members)

    def ended(self) -> list[BulkItem[Any, Any]]:
        """Its items."""
        return self.items_of(self.members)

    def result(self) -> list[BulkItem[Any, Any]]:
        """Its items. It lets go of its outcomes, when they are made."""
        items = self.ended()
        self.members = ()
        return items

    def unsent(self) -> None:
        """The attempt that is under way has turned out not to have been sent. To be abandoned after that."""
        attempt = self._attempt or self._catch_up()
        attempt.sent = False
        self.number -= 1
        for member in attempt.members:
            member.tries -= 1

    def items_of(self, members: Iterable[Member]) -> list[BulkItem[Any, Any]]:
        """The items of members that are over."""
        items: list[BulkItem[Any, Any]] = []
        for member in members:
            outcome = member.outcome or Outcome()
            error = outcome.error
            value = None if error is not None else self.value_of(outcome)
            if error is not None:
                trim(error, self.keeps_traces)
            items.append(BulkItem(*self.places[member.index], value, error, member.tries))
        return items

    def failed_with(self, problem: Exception) -> list[BulkItem[Any, Any]]:
        """The items where *problem* ended the call."""
        trim(problem, self.keeps_traces)
        left = [(self.places[member.index], member.tries) for member in self.members] or [(place, 1) for place in self.places]
        return [BulkItem(*place, None, fresh(problem) if number else problem, tries) for number, (place, tries) in enumerate(left)]


def cut_off(operation: str) -> TransportError:
    """The failure of what was in flight."""
    return TransportError(f"{operation}: cut off while it was under way, and may have been executed")


def trim(error: Exception, keeps_traces: bool) -> None:
    """Take from tracebacks what begins in a driver: its frames hold the call, and with it bodies and replies."""
    link: BaseException | None = error
    for _ in range(10):
        if link is None:
            break
        trace = link.__traceback__
        if trace is not None and trace.tb_frame.f_code.co_filename.startswith(DRIVERS):
            # The second frame is that of the attempt, and those after it are the user's.
            after = trace.tb_next if keeps_traces else None
            link.__traceback__ = after.tb_next if after is not None else None
        link = link.__cause__
