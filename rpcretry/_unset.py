"""The marker for "not given", where ``None`` already means something."""

from __future__ import annotations

import enum
from typing import Any, Final


class Unset(enum.Enum):
    """The type of :data:`UNSET`; an enum, so that it pickles, copies and narrows to one instance. JSON has no place for it."""

    # pydantic writes the value of an enum's member, and must find nothing there that could be sent.
    UNSET = object()

    def __repr__(self) -> str:
        return "UNSET"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return False

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return getattr, (type(self), "UNSET")


UNSET: Final = Unset.UNSET
