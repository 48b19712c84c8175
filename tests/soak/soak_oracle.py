"""Knows the right answer to every request, and writes down every deviation."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import pickle
import re
import threading
import time
import traceback
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from soak_bank import BUSY
from soak_plan import MAKERS, PROTECTED, Operation, Single

from rpcretry import HTTPStatusError, JsonRpcError, ProtocolError, Refused, RpcRetryError
from rpcretry.errors import Delivery

WRONG = "wrong answers"
UNDOCUMENTED = "undocumented exceptions"
LATE = "ended later than deadline + 1 s"
TWICE = "double executions of protected methods"
DENIED = "executed, and the error denies it"
UNDONE = "succeeded, and not executed"
LOST = "requests without an end"
UNEXPLAINED = "failures that no fault explains"
SHARED = "exceptions raised to two callers"
UNPICKLED = "exceptions that do not pickle"
NOISE = "unraisable, unretrieved or unclosed"
KEYS = "idempotency keys with two bodies"
LEAKED_FDS = "leaked file descriptors and sockets"
LEAKED_THREADS = "leaked threads"
LEAKED_TASKS = "leaked tasks"
LEAKED_CONNECTIONS = "connections left open at the server"
LEAKED_PERMITS = "permits not returned, budget or breaker stuck"
LEAKED_OBJECTS = "live calls, attempts and replies"
GROWTH = "memory growth of 5 % or more"
CHECKS = [
    WRONG, UNDOCUMENTED, LATE, TWICE, DENIED, UNDONE, LOST, UNEXPLAINED, SHARED, UNPICKLED, NOISE, KEYS,
    LEAKED_FDS, LEAKED_THREADS, LEAKED_TASKS, LEAKED_CONNECTIONS, LEAKED_PERMITS, LEAKED_OBJECTS, GROWTH,
]  # fmt: skip

# What became of a request, one byte each.
NEW, FLYING, RIGHT, NOT_SENT, REJECTED, MAYBE, CUT = range(7)
ENDS = {RIGHT: "right answer", NOT_SENT: "error, not sent", REJECTED: "error, rejected", MAYBE: "error, maybe executed", CUT: "cut off by us"}
OF_DELIVERY = {Delivery.NOT_SENT: NOT_SENT, Delivery.REJECTED: REJECTED, Delivery.MAYBE_EXECUTED: MAYBE}

METHODS = list(MAKERS)
# Whose executions are not counted by request: it is one for several.
UNCOUNTED = METHODS.index("get_price")

# What only a fault of the server can lead to. One that no fault was committed for is the answer to something else, left on the connection.
OF_FAULTS = (JsonRpcError, ProtocolError, HTTPStatusError)

# What the bank's own errors say, and those of toxics do not.
OF_REQUEST = re.compile(r"no to request (\d+)")

# What a call may take beyond its deadline, and an operation, which is more than a call, beyond those of its calls.
GRACE, OPERATION_GRACE = 1.0, 5.0
KEPT = 20


class Offence(NamedTuple):
    """A deviation, with all that helps to find its cause."""

    check: str
    token: int | None
    what: str


class Moment(NamedTuple):
    """A time, and for how long this thread has waited for a core so far: a machine that is too busy to run a call does not hang it."""

    time: float
    waited: float


def waited_by(thread: int) -> float:
    """For how many seconds a thread, by its native id, has waited for a core so far."""
    try:
        return int(Path(f"/proc/self/task/{thread}/schedstat").read_bytes().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        # Not on Linux, or it is gone: then every call has to be in time.
        return 0.0


def moment() -> Moment:
    """Now, for this thread."""
    return Moment(time.monotonic(), waited_by(threading.get_native_id()))


@dataclasses.dataclass
class Flight:
    """An operation under way."""

    operation: Operation
    began: float
    limit: float
    thread: int
    native: int
    waited: float
    task: asyncio.Task[Any] | None
    told: bool = False
    refused: bool = False

    @property
    def due(self) -> float:
        """When it has to be over, where its thread had to wait for cores as long as it did."""
        return self.began + self.limit + max(0.0, waited_by(self.native) - self.waited)


class Oracle:
    """Judges what comes of the requests. Threads may share one.

    What it keeps for each request is allocated at the start, so that it does not look like a leak.
    """

    def __init__(self, calls: int) -> None:
        self.status = bytearray(calls)
        self.method = bytearray(calls)
        self.odd = bytearray(calls)
        self.offences: list[Offence] = []
        self.found: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.methods: Counter[str] = Counter()
        self.cuts = self.judged = self.starved = 0
        self.latencies: dict[str, array[float]] = {}
        self.flying: dict[int, Flight] = {}
        self._lock = threading.Lock()

    def offend(self, check: str, what: str, token: int | None = None) -> None:
        with self._lock:
            self.found[check] += 1
            if self.found[check] <= KEPT:
                self.offences.append(Offence(check, token, what))

    # --- operations ---

    def begins(self, operation: Operation, seconds: float | None = None) -> None:
        """It is about to begin.

        :param seconds: when it has to be over, where that is not its deadline or its cut.
        """
        if seconds is None:
            seconds = operation.deadline if operation.cut_as_whole is None else min(operation.deadline, operation.cut_as_whole)
        now = time.monotonic()
        for single in operation.calls:
            if self.status[single.token] == NEW:
                self.status[single.token] = FLYING
                self.method[single.token] = METHODS.index(single.method)
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        native = threading.get_native_id()
        self.flying[operation.index] = Flight(operation, now, seconds + OPERATION_GRACE, threading.get_ident(), native, waited_by(native), task)

    def ends(self, operation: Operation, *, was_cut: bool = False) -> bool:
        """It is over. Returns whether any of it was refused by a layer."""
        flight = self.flying.pop(operation.index)
        now = time.monotonic()
        if now > flight.began + flight.limit and now > flight.due and not flight.told:
            self.late(flight, now)
        lost = [single for single in operation.calls if self.status[single.token] == FLYING]
        with self._lock:
            self.kinds[operation.kind] += len(operation.calls)
            self.methods.update(single.method for single in operation.calls)
            self.cuts += was_cut
            self.latencies.setdefault(operation.kind, array("f")).append(now - flight.began)
        for single in lost:
            self.status[single.token] = CUT
            if not was_cut:
                self.offend(LOST, f"{named(operation, single)}: neither a result nor an error", single.token)
        return flight.refused

    def late(self, flight: Flight, now: float, stack: str = "") -> None:
        """It should be over by now."""
        flight.told = True
        operation = flight.operation
        what = f"{operation.kind} {operation.index}: {now - flight.began:.2f} s, its end was due after {flight.limit - OPERATION_GRACE:.2f} s"
        self.offend(LATE, f"{what}\n{stack}", operation.calls[0].token)

    def took(self, operation: Operation, since: Moment, token: int | None = None) -> None:
        """One call of it took from *since* until now."""
        now = moment()
        seconds, waited = now.time - since.time, now.waited - since.waited
        if seconds <= operation.deadline + GRACE:
            return
        if seconds <= operation.deadline + GRACE + waited:
            self.starved += 1
            return
        what = f"{operation.kind} {operation.index}: a call took {seconds:.2f} s, its deadline was {operation.deadline} s"
        self.offend(LATE, f"{what}; for {waited:.2f} s of it no core was free", token)

    # --- requests ---

    def answered(self, operation: Operation, single: Single, result: Any) -> None:
        """A result came."""
        self.status[single.token] = RIGHT
        if single.is_refused or not same(result, single.expected):
            wanted = f"error {single.expected}" if single.is_refused else repr(single.expected)
            self.offend(WRONG, f"{named(operation, single)}: got {result!r:.300}, expected {wanted:.300}", single.token)

    def failed(self, operation: Operation, single: Single, problem: BaseException, *, is_own: bool = True) -> None:
        """It failed.

        :param is_own: whether no other request of the same batch was given this very exception.
        """
        token = single.token
        if isinstance(problem, asyncio.CancelledError):
            self.status[token] = CUT
            if operation.cut is None:
                self.offend(UNDOCUMENTED, f"{named(operation, single)}: cancelled, and not by us", token)
            return
        with self._lock:
            self.errors[type(problem).__name__] += 1
            self.judged += 1
        if isinstance(problem, Refused) and operation.index in self.flying:
            self.flying[operation.index].refused = True
        self.status[token] = MAYBE
        self.documented(f"{named(operation, single)}", problem, token, is_own=is_own)
        if not isinstance(problem, RpcRetryError):
            return
        if isinstance(problem, JsonRpcError) and (said := OF_REQUEST.fullmatch(problem.message)) is not None:
            of = int(said[1])
            if of != token:
                self.offend(WRONG, f"{named(operation, single)}: got the error of request {of}: {problem!r:.200}", token)
            elif single.is_refused:
                self.status[token] = RIGHT
                if problem.code != single.expected:
                    self.offend(WRONG, f"{named(operation, single)}: got {problem!r:.200}, expected the code {single.expected}", token)
                return
            elif (single.method, problem.code) != ("busy", BUSY):
                self.offend(WRONG, f"{named(operation, single)}: got {problem!r:.200}, which is no error of this method", token)
        else:
            self.odd[token] = isinstance(problem, OF_FAULTS)
        self.status[token] = OF_DELIVERY[problem.delivery]

    def documented(self, whose: str, problem: BaseException, token: int | None = None, *, is_own: bool = True) -> None:
        """Every exception has to be one of the package's, an instance of its own, and picklable."""
        if not isinstance(problem, RpcRetryError) or type(problem).__module__ != "rpcretry.errors":
            trace = "".join(traceback.format_exception(problem))
            self.offend(UNDOCUMENTED, f"{whose}: {type(problem).__module__}.{type(problem).__qualname__}: {problem!s:.300}\n{trace[-3000:]}", token)
            return
        if is_own:
            # Copies carry the mark, too, and are known by their own identity.
            if vars(problem).get("_soak") == id(problem):
                self.offend(SHARED, f"{whose}: {problem!r:.300}", token)
            vars(problem)["_soak"] = id(problem)
        if self.judged % 20 == 0:
            try:
                again = pickle.loads(pickle.dumps(problem)), copy.copy(problem)
            except Exception as trouble:
                self.offend(UNPICKLED, f"{whose}: {problem!r:.300}: {trouble!r:.300}", token)
            else:
                if any(type(one) is not type(problem) or str(one) != str(problem) for one in again):
                    self.offend(UNPICKLED, f"{whose}: {problem!r:.300} became {again!r:.300}", token)

    # --- afterwards ---

    def reconcile(self, executed: Mapping[str, Mapping[str, int]], misused: Iterable[str], handed_out: int) -> None:
        """Compare what the server executed with what the client said about it.

        :param executed: how often, by method and token.
        :param misused: the keys that came with another body than before.
        :param handed_out: how many requests there were.
        """
        for key in misused:
            self.offend(KEYS, f"the key {key} came with two different bodies")
        counts: Counter[int] = Counter()
        for method, by_token in executed.items():
            for text, times in by_token.items():
                token = int(text)
                counts[token] += times
                if method in PROTECTED and times > 1:
                    self.offend(TWICE, f"{method} for request {token} was executed {times} times; the client says: {self.end_of(token)}", token)
        for token in range(handed_out):
            status, times, index = self.status[token], counts[token], self.method[token]
            who = f"{METHODS[index]} for request {token}"
            if status in (NEW, FLYING):
                self.offend(LOST, f"request {token} has not ended", token)
            elif index == UNCOUNTED:
                continue
            elif status in (NOT_SENT, REJECTED) and times:
                self.offend(DENIED, f"{who}: {ENDS[status]}, and the server executed it {times} times", token)
            elif status == RIGHT and not times and METHODS[index] not in ("refuse", "log"):
                self.offend(UNDONE, f"{who} was answered, and never executed", token)

    @property
    def to_explain(self) -> list[int]:
        """The requests that failed in a way to which only a fault leads."""
        return [token for token, odd in enumerate(self.odd) if odd and self.method[token] != UNCOUNTED]

    def end_of(self, token: int) -> str:
        return ENDS.get(self.status[token], "nothing") if 0 <= token < len(self.status) else "no such request"

    @property
    def ends_by_name(self) -> dict[str, int]:
        """How many requests ended how."""
        return {name: self.status.count(end) for end, name in ENDS.items()}


def same(one: Any, other: Any) -> bool:
    """Equal in value, types and order."""
    return type(one) is type(other) and repr(one) == repr(other)


def named(operation: Operation, single: Single) -> str:
    """A request in a message."""
    deadline = f"deadline {operation.deadline} s" + (f", cut {operation.cut}" if operation.cut is not None else "")
    return f"{operation.kind} {operation.index}, request {single.token}: {single.method}({single.params!r:.120}), {deadline}"
