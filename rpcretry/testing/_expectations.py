"""What a mock replies to which calls."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import decimal
import enum
import inspect
import json
import math
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from .._check import callable_with, count, is_async_callable, number
from .._unset import UNSET, Unset
from ..codec import JsonCodec
from ..errors import JsonRpcError
from ..messages import check_method
from ..transport import NO_HEADERS, Exchange, Reply
from ._calls import Address, Call, UnexpectedCall, shown
from .scripted import Item, error, http, result

__all__ = ["UNANSWERED", "Expectation", "Step", "including"]

CODEC = JsonCodec()

# What the codec writes as something else, beside models and dataclasses.
WRITTEN = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, enum.Enum, uuid.UUID)


class Including:
    """Equal to every dict that has certain members; see :func:`including`."""

    def __init__(self, members: Mapping[str, object]) -> None:
        self._members = dict(members)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Including):
            return self._members == other._members
        return isinstance(other, Mapping) and all(name in other and value == other[name] for name, value in self._members.items())

    __hash__ = None  # type: ignore[assignment]  # as that of a dict

    def __repr__(self) -> str:
        return f"including({', '.join(f'{name}={value!r}' for name, value in self._members.items())})"


def including(**members: object) -> Including:
    """A matcher for params, or for something in them: any object that has these members, whatever else it has.

    ``rpc_mock.on("search", params=including(symbol="EUR"))``; for a value that does not matter there is ``unittest.mock.ANY``.
    """
    return Including(members)


def unanswered(exchange: Exchange) -> Reply:
    """An item: the server says nothing to this request; in a batch it leaves it out."""
    return Reply(b"")


UNANSWERED: Item = unanswered


class Step:
    """One reply of an expectation.

    :ivar item: what it is.
    :ivar seconds: how long it takes.
    :ivar times: for how many calls it is good; ``None`` for any number.
    :ivar used: how many have had it.
    """

    __slots__ = ("item", "seconds", "times", "used")

    def __init__(self, item: Item, seconds: float, times: int | Unset | None) -> None:
        self.item = item
        self.seconds = seconds
        self.times = times
        self.used = 0


class Expectation:
    """What the mock replies to some calls; made by :meth:`RpcMock.on`.

    Every method adds a reply and returns the expectation, so that replies are written one after the other. A reply that is alone is
    good for any number of calls. Of several each is good for one call, in their order, or for as many as ``times`` says; one with
    ``times=None`` for all that are left. A call that comes when they are used up fails the test.
    """

    def __init__(self, method: str, params: object, url: str | None) -> None:
        check_method(method)
        self.method = method
        self._address = None if url is None else Address(url)
        self._check: Callable[[Any], object] | None = None
        if callable(params):
            callable_with("params", params, 1, "it gets the params of a call, and says whether it is for this one")
            if is_async_callable(params):
                raise TypeError(f"params must be a plain function, got {params!r:.60}, which nobody would await; write def")
            self._check = params
        elif isinstance(params, (str, bytes, int, float, set, frozenset)):
            raise TypeError(f"params must be a list, a dict, None for none, or a function, got {type(params).__name__} {params!r:.60}; write [{params!r:.20}]")
        self.params = lists(params)
        self._steps: list[Step] = []
        self._delay: float | None = None

    # --- replies ---

    @property
    def then(self) -> Expectation:
        """The expectation itself, for sentences: ``.raises(ConnectError, times=2).then.returns(3)``."""
        return self

    def after(self, seconds: float) -> Expectation:
        """The next reply takes that many seconds of virtual time. An attempt that has to end before ends there, as a real one would."""
        self._delay = number("seconds", seconds, least=0)
        return self

    def returns(self, value: object = None, *, times: int | Unset | None = UNSET) -> Expectation:
        """The call succeeds with *value*: anything that params may be made of, models and dataclasses, too.

        :raises TypeError, ValueError: where it cannot be written as JSON.
        """
        return self._add(result(plain("value", value)), times)

    def error(
        self,
        code: int,
        message: str = "",
        *,
        data: object = UNSET,
        status: int = 200,
        headers: Mapping[str, str] = NO_HEADERS,
        times: int | Unset | None = UNSET,
    ) -> Expectation:
        """The server answers with a JSON-RPC error.

        :param data: what comes with the error.
        :param status: the HTTP status around it.
        :param headers: HTTP headers of the answer.
        :raises TypeError, ValueError: naming the parameter, its value and the fix.
        """
        return self._add(_failing(code, message, data, status, headers), times)

    def http(self, status: int, body: bytes = b"", *, headers: Mapping[str, str] = NO_HEADERS, times: int | Unset | None = UNSET) -> Expectation:
        """The whole exchange is answered with an HTTP status and a body that is no JSON-RPC.

        :raises TypeError, ValueError: naming the parameter, its value and the fix.
        """
        return self._add(http(status, body, headers), times)

    def raises(self, problem: Exception | type[Exception], *, times: int | Unset | None = UNSET) -> Expectation:
        """The whole exchange fails: no answer comes, and the client sees *problem*, such as :class:`~rpcretry.ConnectError`.

        A :class:`~rpcretry.JsonRpcError` is answered as the error that it is.
        """
        kind = problem if isinstance(problem, type) else type(problem)
        if not issubclass(kind, Exception):
            raise TypeError(f"raises takes an exception or its class, got {problem!r:.60}")
        if isinstance(problem, type):
            try:
                problem = problem(f"{kind.__name__} of the mock")
            except Exception:
                raise TypeError(f"raises cannot make a {kind.__name__} of a message; give an instance") from None
        return self._add(_answering(problem) if isinstance(problem, JsonRpcError) else problem, times)

    def calls(self, function: Callable[..., object], *, times: int | Unset | None = UNSET) -> Expectation:
        """The call succeeds with what *function* returns. It gets the params, by position or by name as they were sent.

        What it raises the exchange raises; a :class:`~rpcretry.JsonRpcError` is answered as the error that it is, and an
        ``AssertionError`` fails the test. So do params that it does not take.
        """
        if not callable(function) or (isinstance(function, type) and issubclass(function, BaseException)):
            raise TypeError(f"calls takes a function, got {function!r:.60}; for a value write .returns(value), for an exception .raises(...)")
        if is_async_callable(function):
            raise TypeError(f"calls takes a plain function, got {function!r:.60}; write def")
        return self._add(_calling(self.method, function), times)

    def hangs(self, *, times: int | Unset | None = UNSET) -> Expectation:
        """No answer ever comes: the attempt ends by its time limit, at once and in virtual time."""
        self._delay = math.inf
        return self._add(UNANSWERED, times)

    def unanswered(self, *, times: int | Unset | None = UNSET) -> Expectation:
        """The server leaves the request out of its answer to a batch. To a single request it answers with an empty body."""
        return self._add(UNANSWERED, times)

    def replies(self, *items: Item) -> Expectation:
        """Replies of :mod:`rpcretry.testing`, one for each call: ``.replies(error(-32005), http(503), ConnectError(), result(3))``."""
        if not items:
            raise TypeError("replies takes at least one item, such as result(3) or error(-32000)")
        for item in items:
            if not (callable(item) or isinstance(item, (Reply, Exception))):
                raise TypeError(f"replies takes replies, exceptions and callables that return them, got {item!r:.60}; for a value write result({item!r:.20})")
        for item in items:
            self._add(item, UNSET)
        return self

    def _add(self, item: Item, times: int | Unset | None) -> Expectation:
        if times is not UNSET and times is not None:
            count("times", times, least=1)
        if self._steps and self._steps[-1].times is None:
            raise ValueError(f"{self}: the reply before has times=None, so that this one would never come")
        delay, self._delay = self._delay or 0.0, None
        self._steps.append(Step(item, delay, times))
        return self

    # --- for the mock ---

    @property
    def _place(self) -> tuple[int, bool]:
        """What comes first has the smaller place: those that say more, and those that end."""
        said = (self.params is not UNSET) + (self._address is not None)
        return -said, self.limit is None

    @property
    def limit(self) -> int | None:
        """For how many calls it is good; ``None`` for any number."""
        total = 0
        for step in self._steps:
            times = self._times(step)
            if times is None:
                return None
            total += times
        return total

    @property
    def used(self) -> int:
        """How many calls it has replied to."""
        return sum(step.used for step in self._steps)

    @property
    def is_unfinished(self) -> bool:
        """Whether a reply is missing: there is none, or none after a delay."""
        return not self._steps or self._delay is not None

    def _times(self, step: Step) -> int | None:
        if step.times is UNSET:
            return None if len(self._steps) == 1 else 1
        return step.times

    def _is_at(self, url: str | None) -> bool:
        """Whether it is for a server at *url*."""
        return self._address is None or self._address.covers(url)

    def _is_for(self, call: Call) -> bool:
        """Whether a call with that method is one of those that are meant."""
        if not self._is_at(call.url):
            return False
        if self._check is not None:
            try:
                return bool(self._check(copy.deepcopy(call.params)))
            except Exception as problem:
                raise UnexpectedCall(f"the function given as params for {self.method} raised {problem!r:.80} for {shown(*call)}") from problem
        return self.params is UNSET or bool(self.params == call.params)

    def _next(self) -> Step | None:
        """The next reply; ``None`` where they are used up.

        :raises UnexpectedCall: where there never was one.
        """
        if self.is_unfinished:
            raise UnexpectedCall(f"{self} has no reply{'' if self._delay is None else ' after its delay'}; add .returns(...)")
        for step in self._steps:
            times = self._times(step)
            if times is None or step.used < times:
                step.used += 1
                return step
        return None

    def __str__(self) -> str:
        where = "" if self._address is None else f" at {self._address.host}"
        if self._check is not None:
            return f"{self.method} with params for which {getattr(self._check, '__name__', repr(self._check))} is true{where}"
        return shown(self.method, self.params) + where

    def __repr__(self) -> str:
        limit = self.limit
        return f"<Expectation: {self}, {self.used} of {'any number' if limit is None else limit} used>"


def plain(name: str, value: object) -> Any:
    """*value* as JSON carries it.

    :raises TypeError, ValueError: where it does not.
    """
    try:
        return json.loads(CODEC.dumps(value))
    except (TypeError, ValueError) as problem:
        raise type(problem)(f"{name} must be one that JSON can carry: {problem}") from None


def lists(value: Any) -> Any:
    """*value* as JSON carries it: lists for tuples, objects for models and dataclasses, texts for dates. Matchers in it stay."""
    if isinstance(value, (list, tuple)):
        return [lists(item) for item in value]
    if isinstance(value, dict):
        return {name: lists(item) for name, item in value.items()}
    if value is UNSET:
        # Itself an Enum.
        return value
    is_written = isinstance(value, WRITTEN) or dataclasses.is_dataclass(value) or hasattr(type(value), "model_dump")
    return plain("params", value) if is_written else value


def _failing(code: int, message: str, data: object, status: int, headers: Mapping[str, str]) -> Callable[[Exchange], Reply]:
    return error(code, message, data=UNSET if data is UNSET else plain("data", data), status=status, headers=headers)


def _answering(problem: JsonRpcError) -> Callable[[Exchange], Reply]:
    return _failing(problem.code, problem.message, problem.raw_data, problem.status or 200, problem.headers or NO_HEADERS)


def _calling(method: str, function: Callable[..., object]) -> Callable[[Exchange], Any]:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        # Some builtins do not say what they take; calling them will tell.
        signature = None

    def play(exchange: Exchange) -> Any:
        params = json.loads(exchange.body).get("params") or []
        args, kwargs = ((), params) if isinstance(params, dict) else (params, {})
        if signature is not None:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as problem:
                raise UnexpectedCall(f"{shown(method, params)} does not fit the function given to calls, which takes {signature}: {problem}") from None
        try:
            value = function(*args, **kwargs)
        except JsonRpcError as problem:
            return _answering(problem)(exchange)
        try:
            return result(plain("what the function given to calls returns", value))(exchange)
        except (TypeError, ValueError) as problem:
            raise UnexpectedCall(f"{method}: {problem}") from problem

    return play
