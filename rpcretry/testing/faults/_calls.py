"""The JSON-RPC half of the server: it executes, and counts what it has executed."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..._check import text
from ..._unset import UNSET
from ...client.keys import HEADER
from ._turn import Arrival, Call

__all__ = ["Calls", "canonical", "current_request"]

REMEMBERED: Final = 100_000

_current: contextvars.ContextVar[Arrival] = contextvars.ContextVar("rpcretry_fault_request")


def current_request() -> Arrival:
    """The request that a method of a :class:`FaultServer` is executed for, with its headers.

    :raises RuntimeError: outside of such a method.
    """
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError("current_request() is for the methods of a FaultServer, while it executes them") from None


def canonical(params: object) -> str:
    """Params as JSON, without spaces and with sorted keys; params that were left out are ``[]``."""
    return json.dumps([] if params is UNSET else params, sort_keys=True, separators=(",", ":"), default=repr)


def calls_of(document: object) -> tuple[Call, ...]:
    """The members of a request that are JSON-RPC."""
    members = document if isinstance(document, list) else [document]
    return tuple(
        Call(member["method"], canonical(member.get("params", UNSET)), member.get("id", UNSET))
        for member in members
        if isinstance(member, dict) and isinstance(member.get("method"), str)
    )


class Calls:
    """Executes requests.

    :param methods: functions, plain or async, by the names that they are called by.
    :param dedupe: whether a request that repeats an ``Idempotency-Key`` is answered as the first one was, and not executed.
    """

    def __init__(self, methods: Mapping[str, Callable[..., Any]], *, dedupe: bool) -> None:
        if not isinstance(methods, Mapping):
            raise TypeError(f"methods must be a mapping from names to functions, got {type(methods).__name__}")
        for name, method in methods.items():
            text("a name in methods", name)
            if not callable(method):
                raise TypeError(f"methods[{name!r:.60}] must be callable, got {type(method).__name__} {method!r:.60}")
        self._methods = dict(methods)
        self._dedupe = dedupe
        self._answers: OrderedDict[str, asyncio.Task[tuple[object, int]]] = OrderedDict()
        self._executed: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def counted(self) -> Counter[tuple[str, str]]:
        with self._lock:
            return self._executed.copy()

    def times(self, method: str, params: object) -> int:
        with self._lock:
            return self._executed.get((method, canonical(params)), 0)

    async def answer(self, arrival: Arrival, document: object) -> tuple[object, int]:
        """The document that answers, :data:`UNSET` for none, and how many methods were executed for it."""
        key = arrival.headers.get(HEADER) if self._dedupe else None
        if key is None:
            return await self._answer(arrival, document)
        known = self._answers.get(key)
        if known is not None:
            return (await asyncio.shield(known))[0], 0
        # A repetition may come while the first one is under way; and its client may have gone.
        task = self._answers[key] = asyncio.ensure_future(self._answer(arrival, document))
        while len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)
        return await asyncio.shield(task)

    async def _answer(self, arrival: Arrival, document: object) -> tuple[object, int]:
        _current.set(arrival)
        if not isinstance(document, list):
            answer, executed = await self._one(document)
            return answer, int(executed)
        if not document:
            return _failed(None, -32600, "Invalid Request"), 0
        answers, total = [], 0
        for member in document:
            answer, executed = await self._one(member)
            total += executed
            if answer is not UNSET:
                answers.append(answer)
        return answers or UNSET, total

    async def _one(self, request: object) -> tuple[object, bool]:
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return _failed(request.get("id") if isinstance(request, dict) else None, -32600, "Invalid Request"), False
        name, params = request["method"], request.get("params", UNSET)
        method = self._methods.get(name)
        answer: object
        if method is None:
            answer = _failed(request.get("id"), -32601, "Method not found")
        else:
            with self._lock:
                self._executed[name, canonical(params)] += 1
            try:
                value = method(**params) if isinstance(params, dict) else method(*(params if isinstance(params, list) else ()))
                if inspect.isawaitable(value):
                    value = await value
                json.dumps(value)
                answer = {"jsonrpc": "2.0", "id": request.get("id"), "result": value}
            except (Exception, SystemExit, KeyboardInterrupt) as problem:
                code = getattr(problem, "code", None)
                answer = _failed(request.get("id"), code if isinstance(code, int) else -32000, str(problem) or type(problem).__name__)
        return answer if "id" in request else UNSET, method is not None


def _failed(id: object, code: int, message: str) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}
