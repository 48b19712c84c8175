"""One call of a client: the engine, with requests for members, and exchanges for attempts.

A driver asks for the next step and does what it says: an :class:`~rpcretry.transport.Exchange` is to be made, then
``received`` or ``failed`` tells what came of it; a :class:`~rpcretry.outcome.Wait` is to be waited for, then ``go_on``; a
:class:`~rpcretry.outcome.Rescue` is to be asked; after a :class:`~rpcretry.outcome.Stop`, ``result`` returns or raises.
"""

from __future__ import annotations

import abc
from collections.abc import Hashable, Sequence
from typing import Any, TypeAlias

from .._encoding import without_id
from .._unset import UNSET
from ..codec import Reader, encode_request, read_notification, read_single
from ..errors import JsonRpcError, ResultValidationError, RpcRetryError
from ..messages import Request, RequestId, Response
from ..outcome import Attempt, Member, Outcome, Rescue, Stop, Wait
from ..retry.engine import OK, Engine, Step
from ..transport import NO_HEADERS, Exchange, Headers, Reply
from .keys import HEADER
from .options import Convert, Options

__all__ = ["Answer", "Call", "Order", "SingleCall"]

Order: TypeAlias = Exchange | Wait | Rescue | Stop


class Answer(Outcome):
    """A success; its response is made when somebody looks at it."""

    __slots__ = ("_id", "_reply", "_value")

    def __init__(self, id: RequestId | None, value: object, reply: Reply) -> None:
        self.error = None
        self.shared = reply.shared
        self._id = id
        self._value = value
        self._reply = reply

    @property
    def value(self) -> Response[Any]:
        return Response(self._id, self._value, status=self._reply.status, headers=self._reply.headers)

    @property
    def result(self) -> Any:
        return None if self._value is UNSET else self._value


class Call(Engine, abc.ABC):
    """What both kinds of call share."""

    __slots__ = ("_options", "_reader", "_recalled")

    unit = Exchange
    _recalled: list[Hashable]

    def __init__(self, options: Options, reader: Reader) -> None:
        self.policy = options.policy
        self._attempt = None
        self.members = ()
        self._options = options
        self._reader = reader

    def start(self, now: float) -> Order:
        """The first step."""
        return self._order(self.begin(now), now)

    def go_on(self, now: float) -> Order:
        """The step after a wait."""
        return self._order(self.resume(now), now)

    @abc.abstractmethod
    def received(self, reply: Reply, now: float) -> Order:
        """The step after an exchange that brought a reply."""

    @abc.abstractmethod
    def failed(self, problem: Exception, now: float) -> Order:
        """The step after an exchange that raised."""

    @abc.abstractmethod
    def result(self) -> Any:
        """What the call returns; raises what it raises. To be called once, after a Stop."""

    @abc.abstractmethod
    def exchange(self, attempt: Attempt) -> Exchange:
        """What to send for *attempt*."""

    def recall_key(self, member: Member) -> Hashable | None:
        fallback = self.policy.fallback
        return self._recalled[member.index] if fallback is not None and fallback.remembers else None

    def _recalls(self, requests: Sequence[Request], bodies: Sequence[bytes], converts: Sequence[Convert | None] | None = None) -> list[Hashable]:
        # By what is sent: params that are changed later, or can be read only once, are not those that the result is for.
        options, codec = self._options, self._reader.codec
        # One fallback may serve several clients, and one client several users, who may not see each other's results. What
        # one call asks to be validated into a type is no result for another.
        headers = {name.lower(): value for name, value in options.headers.items()} if options.headers is not None else {}
        headers.pop(HEADER.lower(), None)
        where = (self._reader, frozenset(headers.items()))
        each = [options.convert] * len(requests) if converts is None else converts
        return [
            (*where, convert, body if request._id is None or request._id is UNSET else without_id(codec, request._id, body))
            for request, body, convert in zip(requests, bodies, each, strict=True)
        ]

    def stand_in(self, member: Member, value: Any) -> Response[Any]:
        id = member.request._id if member.request is not None else None
        return Response(None if id is UNSET else id, value, attempts=member.tries)

    def result_of(self, value: Response[Any]) -> Any:
        return value._result

    def _converted(self, convert: Convert, request: Request, value: Any, reply: Reply) -> Any:
        try:
            return convert(value, request._method, reply.status)
        except ResultValidationError as problem:
            problem.headers = Headers(reply.headers)
            raise
        except Exception as problem:
            # A mistake in a validator of the user's is no failure of the server, which has done its work: nothing to try again.
            message = f"the result of {request._method!r} could not be validated: its type's validator raised {type(problem).__name__}"
            error = ResultValidationError(message, result=value, status=reply.status)
            error.headers = Headers(reply.headers)
            try:
                raise error from problem
            finally:
                # Its traceback holds this frame.
                del error

    def _order(self, step: Step, now: float) -> Order:
        if type(step) is not Attempt:
            return step
        try:
            return self.exchange(step)
        except Exception as problem:
            # Where the key of a batch that shrank comes from is broken. It never went out, and what went before is not lost.
            step.sent = False
            for member in step.members:
                member.tries -= 1
            return self._order(self._refuse(step, problem, now), now)

    def _problem(self, problem: Exception, reply: object) -> Exception:
        if not isinstance(reply, Reply):
            return TypeError(f"a backend's exchange, and a middleware, must return a Reply, it returned {type(reply).__name__} {reply!r:.60}")
        if not isinstance(reply.body, bytes) or not isinstance(reply.status, int):
            return TypeError(f"a Reply must have bytes as body and an int as status, got {type(reply.body).__name__} and {type(reply.status).__name__}")
        if isinstance(problem, JsonRpcError):
            # It is an answer: how the codec came to raise it concerns nobody, and would keep its frames alive.
            problem.__traceback__ = None
        if reply.shared is not None and isinstance(problem, RpcRetryError):
            problem._shared_exchange = reply.shared
        return problem

    def _take(self) -> list[tuple[Outcome, int]]:
        # The exceptions' tracebacks hold the driver's frame, which holds this call: it must let go of them.
        taken = [(member.outcome or Outcome(), member.tries) for member in self.members]
        for member in self.members:
            member.outcome = None
        self.members = ()
        return taken


class SingleCall(Call):
    """A single request.

    :param raw: whether the caller wants the whole :class:`~rpcretry.Response`, its error included.
    """

    __slots__ = ("_body", "_id", "_raw", "_reply", "_request", "_value")

    def __init__(self, options: Options, reader: Reader, request: Request, raw: bool) -> None:
        # Not through super(): this is the way of every call.
        self.policy = options.policy
        self._attempt = None
        self.members = ()
        self._options = options
        self._reader = reader
        self._request = request
        id = request._id
        self._id: RequestId | None = None if id is UNSET else id
        self._raw = raw
        self._body = encode_request(reader.codec, request)

    @property
    def operation(self) -> str:
        method = self._request._method
        # A line break in it would make one line of a log two.
        return method if method.isprintable() else repr(method)[1:-1]

    def make_members(self) -> list[Member]:
        return [Member(self._request)]

    def start(self, now: float) -> Order:
        if self.policy.quick:
            ends_by = self.open(now)
            if ends_by > now:
                return self._exchange(ends_by)
        if self.policy.fallback is not None:
            # Begun first: the codec may ask for the current attempt.
            self.open(now)
            if self.policy.fallback.remembers:
                self._recalled = self._recalls((self._request,), (self._body,))
        step = self.begin(now)
        return self._exchange(step.ends_by) if type(step) is Attempt else self._order(step, now)

    def exchange(self, attempt: Attempt) -> Exchange:
        return self._exchange(attempt.ends_by)

    def _exchange(self, ends_by: float) -> Exchange:
        id = self._id
        return Exchange(self._body, (self._request,), () if id is None else (id,), self._options.headers, ends_by)

    def received(self, reply: Reply, now: float) -> Order:
        try:
            if self._id is not None:
                value = read_single(self._reader, reply, self._id)
                convert = self._options.convert
                self._value = value if convert is None else self._converted(convert, self._request, value, reply)
            else:
                self._value = None
                read_notification(self._reader, reply)
        except Exception as problem:
            return self.failed(self._problem(problem, reply), now)
        self._reply = reply
        if self.policy.quick and self._attempt is None:
            return OK
        step = self.settle((Answer(self._id, self._value, reply),), now)
        return OK if step is OK else self._order(step, now)

    def failed(self, problem: Exception, now: float) -> Order:
        return self._order(self.settle((Outcome(UNSET, problem),), now), now)

    def result(self) -> Any:
        if not self.members:
            # The quick way.
            if self._raw:
                return Response(self._id, self._value, status=self._reply.status, headers=self._reply.headers)
            return self._value
        (member,), self.members = self.members, ()
        outcome = member.outcome or Outcome()
        if type(outcome) is Answer and outcome.error is None and not self._raw:
            return self._value
        # The exception's traceback holds the driver's frame, which holds this call: it must let go of it.
        member.outcome = None
        error, tries = outcome.error, member.tries
        if error is not None:
            if self._raw and isinstance(error, JsonRpcError):
                return Response(self._id, error=error, status=error.status or 200, headers=error.headers or NO_HEADERS, attempts=tries)
            try:
                raise error
            finally:
                del error, outcome, member
        if not self._raw:
            return outcome.result
        response: Response[Any] = outcome.value
        response._attempts = tries
        return response
