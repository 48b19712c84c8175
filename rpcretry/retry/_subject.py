"""What the engine asks a call about what it consists of."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from ..outcome import Member, Outcome

__all__ = ["Subject"]


class Subject:
    """A call with one member that is no request; other calls override what differs."""

    __slots__ = ()

    @property
    def operation(self) -> str:
        """What the call is called in events and messages."""
        return "call"

    def make_members(self) -> list[Member]:
        """What the call consists of; asked once, and only when the engine needs to know."""
        return [Member(None)]

    def recall_key(self, member: Member) -> Hashable | None:
        """What the last good result of *member* is kept under; ``None`` where there can be none."""
        return None

    def stand_in(self, member: Member, value: Any) -> Any:
        """The value of the outcome in which a fallback's *value* is the result."""
        return value

    def result_of(self, value: Any) -> Any:
        """The result in the value of an outcome."""
        return value

    def is_too_large(self, members: Sequence[Member], outcomes: Sequence[Outcome]) -> bool:
        """Whether the attempt did nothing because it carried too much, and is to go again in smaller ones."""
        return False

    def portion(self, ready: list[Member]) -> list[Member]:
        """Those of *ready* that may travel together."""
        return ready
