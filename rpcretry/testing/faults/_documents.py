"""Toxics of JSON-RPC documents: wrong ids, and batches that are not what was asked."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Final

from ..._check import count, text
from ..._unset import UNSET
from ._toxic import Stage, Toxic, choice, flag
from ._turn import Turn, plain_answer

__all__ = [
    "BareObject",
    "DuplicateItems",
    "ExtraAnswer",
    "ForeignItems",
    "Listed",
    "MissingItems",
    "OneError",
    "Reorder",
    "RpcError",
    "StaleAnswer",
    "WrongId",
]

POISON: Final = "this is the answer to another request"


def _other(id: object) -> object:
    return id + 1_000_000 if isinstance(id, int) else f"{id}-other"


def _next(id: object) -> object:
    return id + 1 if isinstance(id, int) else f"{id}-next"


def _as_text(id: object) -> object:
    return str(id) if isinstance(id, int) else int(id) if isinstance(id, str) and id.isascii() and id.isdigit() else UNSET


IDS: Final[dict[str, Callable[[object], object]]] = {
    "other": _other,
    "text": _as_text,
    "float": lambda own: float(own) if isinstance(own, int) else UNSET,
    "true": lambda own: True,
    "null": lambda own: None,
    "missing": lambda own: UNSET,
}


class _OfAnswer(Toxic):
    _stage: ClassVar[Stage] = Stage.ANSWER

    def fits(self, turn: Turn) -> bool:
        return turn.is_answered


class _OfBatch(_OfAnswer):
    def fits(self, turn: Turn) -> bool:
        return turn.is_answered and turn.is_batch


@dataclasses.dataclass(frozen=True)
class RpcError(_OfAnswer):
    """Answers with a JSON-RPC error: to a batch with one for each member.

    :param executed: whether the methods are executed before.
    """

    code: int = -32005
    message: str = "Limit exceeded"
    executed: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.code, bool) or not isinstance(self.code, int):
            raise TypeError(f"code must be an int, got {type(self.code).__name__} {self.code!r:.60}")
        text("message", self.message)
        flag("executed", self.executed)

    @property
    def executes(self) -> bool:
        return self.executed

    def apply(self, turn: Turn) -> bool:
        error = {"code": self.code, "message": self.message}
        ids = [call.id for call in turn.arrival.calls if call.id is not UNSET]
        found = [{"jsonrpc": "2.0", "id": id, "error": error} for id in ids]
        turn.document = found if turn.is_batch else found[0]
        return True


@dataclasses.dataclass(frozen=True)
class OneError(_OfBatch):
    """Answers a batch with one error object whose id is null.

    :param executed: whether the batch is executed before.
    """

    code: int = -32600
    message: str = "Invalid Request"
    executed: bool = False

    def __post_init__(self) -> None:
        RpcError(self.code, self.message, self.executed)

    @property
    def executes(self) -> bool:
        return self.executed

    def apply(self, turn: Turn) -> bool:
        turn.document = {"jsonrpc": "2.0", "id": None, "error": {"code": self.code, "message": self.message}}
        return True


@dataclasses.dataclass(frozen=True)
class WrongId(_OfAnswer):
    """Answers with another id than the request's. Of a batch, one member that is drawn.

    :param kind: ``other``; the same as ``text``, as ``float``; ``true``; ``null``; or ``missing``.
    """

    kind: str = "other"

    def __post_init__(self) -> None:
        choice("kind", self.kind, tuple(IDS))

    def apply(self, turn: Turn) -> bool:
        found: Any = copy.deepcopy(turn.document)
        answer = found[turn.random.randrange(len(found))] if isinstance(found, list) and found else found
        if not isinstance(answer, dict) or "id" not in answer:
            return False
        id = IDS[self.kind](answer["id"])
        if id is not UNSET:
            answer["id"] = id
        elif self.kind == "missing":
            del answer["id"]
        else:
            return False
        turn.document = found
        return True


@dataclasses.dataclass(frozen=True)
class StaleAnswer(_OfAnswer):
    """Answers with the document of the request before, while the request itself is executed.

    :param of: the request before on the same ``connection``, or on another one of the ``server``.
    """

    of: str = "connection"

    def __post_init__(self) -> None:
        choice("of", self.of, ("connection", "server"))

    def fits(self, turn: Turn) -> bool:
        return super().fits(turn) and self._found(turn) is not UNSET

    def _found(self, turn: Turn) -> object:
        return turn.previous if self.of == "connection" else turn.elsewhere

    def apply(self, turn: Turn) -> bool:
        turn.document = self._found(turn)
        return True


@dataclasses.dataclass(frozen=True)
class ExtraAnswer(_OfAnswer):
    """Sends two whole HTTP answers to one request.

    :param place: where the second stands, ``before`` or ``after`` the right one.
    :param id: whose it is by its id: ``own`` for a copy of the right answer, ``next`` for the id that the client's next request is likely to have, or
        ``other`` for an id of nobody's. But for the copy its result is a text that nobody asked for.
    """

    place: str = "after"
    id: str = "next"

    def __post_init__(self) -> None:
        choice("place", self.place, ("before", "after"))
        choice("id", self.id, ("own", "next", "other"))

    @property
    def harmless(self) -> bool:
        return self.place == "after" or self.id == "own"

    @property
    def lingers(self) -> bool:
        # The right answer, which comes behind it, may be late enough for the next request.
        return self.place == "before"

    def apply(self, turn: Turn) -> bool:
        if turn.document is UNSET:
            return False
        document: object = turn.document
        if self.id != "own":
            id = [call.id for call in turn.arrival.calls if call.id is not UNSET][-1]
            document = {"jsonrpc": "2.0", "id": _next(id) if self.id == "next" else _other(id), "result": POISON}
        (turn.before if self.place == "before" else turn.after).append(plain_answer(document))
        return True


@dataclasses.dataclass(frozen=True)
class _Items(_OfBatch):
    items: int = 1

    def __post_init__(self) -> None:
        count("items", self.items, least=1)

    def apply(self, turn: Turn) -> bool:
        if not isinstance(turn.document, list) or not turn.document:
            return False
        found = list(turn.document)
        self._change(turn, found)
        turn.document = found
        return True

    def _change(self, turn: Turn, found: list[Any]) -> None:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class MissingItems(_Items):
    """Leaves members of a batch unanswered.

    :param items: how many, drawn; all of them where there are no more.
    """

    def _change(self, turn: Turn, found: list[Any]) -> None:
        ids = list(dict.fromkeys(answer.get("id") for answer in found))
        left_out = turn.random.sample(ids, min(self.items, len(ids)))
        found[:] = [answer for answer in found if answer.get("id") not in left_out]


@dataclasses.dataclass(frozen=True)
class DuplicateItems(_Items):
    """Answers members of a batch twice, the second time with another result.

    :param items: how many, drawn.
    """

    def _change(self, turn: Turn, found: list[Any]) -> None:
        for answer in turn.random.sample(found, min(self.items, len(found))):
            twin = {"jsonrpc": "2.0", "id": answer.get("id"), "result": POISON}
            found.insert(turn.random.randrange(len(found) + 1), twin)


@dataclasses.dataclass(frozen=True)
class ForeignItems(_Items):
    """Puts answers to ids that nobody asked for among those of a batch.

    :param items: how many.
    """

    _harmless: ClassVar[bool] = True

    def _change(self, turn: Turn, found: list[Any]) -> None:
        for place in range(self.items):
            id = f"nobody's {place}" if place % 2 else 1_000_000_000 + place
            found.insert(turn.random.randrange(len(found) + 1), {"jsonrpc": "2.0", "id": id, "result": POISON})


@dataclasses.dataclass(frozen=True)
class Reorder(_OfBatch):
    """Answers the members of a batch in another order, which is drawn. JSON-RPC allows any."""

    _harmless: ClassVar[bool] = True

    def apply(self, turn: Turn) -> bool:
        if not isinstance(turn.document, list) or len(turn.document) < 2:
            return False
        found = list(turn.document)
        turn.random.shuffle(found)
        turn.document = found if found != turn.document else found[::-1]
        return True


@dataclasses.dataclass(frozen=True)
class BareObject(_OfBatch):
    """Answers a batch with the first of its answers alone, and no array around it."""

    def apply(self, turn: Turn) -> bool:
        if not isinstance(turn.document, list) or not turn.document:
            return False
        turn.document = turn.document[0]
        return True


@dataclasses.dataclass(frozen=True)
class Listed(_OfAnswer):
    """Puts an array around the answer to a single call, as some servers do."""

    _harmless: ClassVar[bool] = True

    def fits(self, turn: Turn) -> bool:
        return turn.is_answered and not turn.is_batch

    def apply(self, turn: Turn) -> bool:
        if not isinstance(turn.document, dict):
            return False
        turn.document = [turn.document]
        return True
