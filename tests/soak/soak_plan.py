"""What is called: a plan that the seed alone decides, whoever asks for its next piece."""

from __future__ import annotations

import random
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

# Params that servers and codecs like to change: equal in Python, and not the same.
VALUES: list[Any] = [None, True, 1, 1.0, 0, False, "", "é\u2028\U0001f600", [], {}, [1, [2, [3]]], {"a": {"b": None}}, -0.5, 2**53 + 1, "x" * 300, "</html>"]
SYMBOLS = ["ACME", "INITECH", "HOOLI", "VEHEMENT"]
DEADLINES = [1.0, 2.0, 3.0, 4.0, 5.0]
ERROR_CODES = [-32000, -32602, 2002, 40_001]
SHIFT = 20


class Single(NamedTuple):
    """One logical request.

    :ivar token: its number, by which the server counts what it executed.
    :ivar expected: the only right result; of ``refuse`` the code of the only right error.
    """

    token: int
    method: str
    params: list[Any]
    expected: Any

    @property
    def is_notification(self) -> bool:
        return self.method == "log"

    @property
    def is_refused(self) -> bool:
        """Whether the right answer is an error."""
        return self.method == "refuse"


class Operation(NamedTuple):
    """What one worker does in one go.

    :ivar kind: which script of :mod:`soak_scripts` does it.
    :ivar calls: its logical requests.
    :ivar deadline: seconds for each of its calls.
    :ivar cut: seconds after which it is cancelled, and how; only where there is something to cancel.
    :ivar options: what the script wants to know besides.
    """

    index: int
    kind: str
    calls: list[Single]
    deadline: float
    cut: tuple[float, str] | None
    options: dict[str, Any]

    @property
    def cut_as_whole(self) -> float | None:
        """Seconds after which all of it is cancelled; of joined calls it may be one that is, and the others go on."""
        if self.cut is None or (self.cut[1] == "cancel" and self.kind in JOINED_KINDS):
            return None
        return self.cut[0]


def price_of(symbol: str) -> int:
    """What ``get_price`` answers."""
    return zlib.crc32(symbol.encode())


def single(draw: random.Random, token: int, methods: str = "") -> Single:
    """A request; *methods* names one or more, divided by blanks."""
    method = draw.choice(methods.split()) if methods else draw.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    return MAKERS[method](draw, token)


def _echo(draw: random.Random, token: int) -> Single:
    value = draw.choice(VALUES)
    return Single(token, "get_echo", [token, value], {"token": token, "value": value})


def _sum(draw: random.Random, token: int) -> Single:
    a, b = token << SHIFT, draw.randrange(1 << SHIFT)
    return Single(token, "get_sum", [a, b], a + b)


def _blob(draw: random.Random, token: int) -> Single:
    size = draw.choice([10, 1_000, 20_000, 200_000])
    return Single(token, "get_blob", [token, size], f"{token}:" + "x" * size)


def _price(draw: random.Random, token: int) -> Single:
    symbol = draw.choice(SYMBOLS)
    return Single(token, "get_price", [symbol], {"symbol": symbol, "price": price_of(symbol)})


def _busy(draw: random.Random, token: int) -> Single:
    return Single(token, "busy", [token, draw.choice([0, 1, 1, 2])], {"done": token})


def _refuse(draw: random.Random, token: int) -> Single:
    code = draw.choice(ERROR_CODES)
    return Single(token, "refuse", [token, code], code)


MAKERS: dict[str, Callable[[random.Random, int], Single]] = {
    "get_echo": _echo,
    "get_sum": _sum,
    "get_blob": _blob,
    "get_price": _price,
    "charge": lambda draw, token: Single(token, "charge", [token], {"charged": token}),
    "busy": _busy,
    "pay": lambda draw, token: Single(token, "pay", [token], {"paid": token}),
    "log": lambda draw, token: Single(token, "log", [token], None),
    "refuse": _refuse,
}
# Of the requests whose kind of operation does not say which it wants.
WEIGHTS = {"get_echo": 30, "get_sum": 30, "charge": 25, "busy": 8, "get_blob": 2, "refuse": 5}
# What must never be executed twice; "pay" goes with a key, by which the server tells.
PROTECTED = frozenset({"charge", "busy", "log", "pay"})

# How often each kind comes, and of how many requests it is.
KINDS: dict[str, tuple[int, tuple[int, int]]] = {
    "call": (300, (1, 1)),
    "proxy": (80, (1, 1)),
    "view": (40, (1, 1)),
    "typed": (40, (1, 1)),
    "send": (60, (1, 1)),
    "named": (40, (1, 1)),
    "keyed": (90, (1, 1)),
    "notify": (80, (1, 1)),
    "batch": (30, (5, 50)),
    "split batch": (10, (10, 50)),
    "keyed batch": (8, (5, 20)),
    "sent batch": (10, (5, 50)),
    "bulk": (4, (20, 60)),
    "bulk of batches": (4, (20, 60)),
    "left bulk": (2, (20, 60)),
}
# Of async clients only.
JOINED_KINDS: dict[str, tuple[int, tuple[int, int]]] = {
    "joined": (150, (1, 12)),
    "joined notify": (20, (2, 6)),
    "shared reads": (60, (2, 10)),
}


class Plan:
    """The operations, in order, until there are enough requests. Threads may share one.

    :ivar handed_out: how many requests were handed out so far.
    """

    def __init__(self, seed: int, calls: int, *, is_async: bool) -> None:
        self.seed = seed
        self.calls = calls
        self.is_async = is_async
        self.handed_out = 0
        self._kinds = {**KINDS, **(JOINED_KINDS if is_async else {})}
        self._index = 0
        self._lock = threading.Lock()

    def until(self, limit: int) -> Iterator[Operation]:
        """The operations up to the request with this number. Several iterators share what there is."""
        while True:
            with self._lock:
                if self.handed_out >= min(limit, self.calls):
                    return
                operation = self._made(self._index, self.handed_out)
                self._index += 1
                self.handed_out += len(operation.calls)
            yield operation

    def _made(self, index: int, first: int) -> Operation:
        # Drawn from the number of the operation, so that it is the same whatever became of those before it.
        draw = random.Random(f"{self.seed}/{index}")
        kind = draw.choices(list(self._kinds), [weight for weight, _ in self._kinds.values()])[0]
        size = min(draw.randint(*self._kinds[kind][1]), self.calls - first)
        calls = [single(draw, first + place, _methods(kind, draw)) for place in range(size)]
        if kind == "shared reads":
            # All of them the same one.
            calls = [calls[0]._replace(token=call.token) for call in calls]
        cut = None
        if self.is_async and draw.random() < 0.08:
            cut = (draw.choice([0.0, 0.001, 0.01, 0.05, 0.2]), draw.choice(["cancel", "timeout"]))
        options: dict[str, Any] = {"places": [draw.random() for _ in range(3)]}
        return Operation(index, kind, calls, draw.choice(DEADLINES), cut, options)


def _methods(kind: str, draw: random.Random) -> str:
    match kind:
        case "notify" | "joined notify":
            return "log"
        case "keyed" | "keyed batch":
            return "pay"
        case "shared reads":
            return "get_price"
        case "typed":
            return "charge get_price"
        case "batch" | "sent batch" | "bulk of batches" if draw.random() < 0.1:
            return "log"
        case _:
            return ""
