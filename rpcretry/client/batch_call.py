"""One call of a client that carries several requests, and batches that go as several such calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from .._requests import BatchName, Requests
from .._unset import UNSET
from ..codec import Reader, encode_batch, encode_requests, read_batch, read_in_order, split_batch
from ..errors import DeadlineExceeded, Delivery, JsonRpcError, MissingResponseError, ResultValidationError, RetryExhaustedError, RpcRetryError
from ..messages import BatchRequest, BatchResponse, Request, RequestId, Response, fresh
from ..outcome import Attempt, Member, Outcome
from ..retry._failures import worse
from ..retry.engine import OK
from ..transport import NO_HEADERS, Exchange, Reply
from .batch_limits import BatchLimits, names_a_request, says_too_large
from .call import Answer, Call, Order
from .keys import told_apart, with_key
from .options import Convert, Options

__all__ = ["Answers", "BatchCall", "BatchPlan", "batch_response", "cut", "reason_for_all", "response_to"]


class Answers:
    """What became of the requests of one call, in their order.

    :ivar requests: the requests.
    :ivar results: their results, where all of them succeeded at once and nobody asked for more; else ``None``, and
    :ivar outcomes: the outcome of each and its tries.
    """

    __slots__ = ("outcomes", "reply", "requests", "results")

    def __init__(self, requests: Requests, results: list[Any] | None, reply: Reply | None, outcomes: list[tuple[Outcome, int]]) -> None:
        self.requests = requests
        self.results = results
        self.reply = reply
        self.outcomes = outcomes

    def each(self) -> Iterator[tuple[Outcome, int]]:
        """The outcome of each request and its tries."""
        if self.results is None or self.reply is None:
            return iter(self.outcomes)
        reply = self.reply
        return ((Answer(_id_of(request), result, reply), 1) for request, result in zip(self.requests, self.results, strict=True))


def _bare(reply: Reply) -> Reply:
    # Answers are kept for longer than the call lasts, and the body of all need not be.
    return Reply(b"", reply.status, reply.headers)


class Whole:
    """What the parts of a batch have in common.

    :ivar began: when the first of them began, on the clock of the engine; ``None`` before.
    :ivar keys: the idempotency keys that were given out, by the places of the requests that they are for.
    :ivar most: how many requests go at once, once the server found more too many; what is too much for it now, is too much a moment later.
    """

    __slots__ = ("began", "keys", "most")

    def __init__(self) -> None:
        self.began: float | None = None
        self.most: int | None = None
        self.keys: dict[tuple[int, ...], str] = {}


class BatchCall(Call):
    """Several requests, in one exchange at first, and then in as few as their delays allow.

    :param requests: numbered requests, no two of the same id.
    :param body: the requests, encoded.
    :param converts: what turns each result into the type that was asked for, where that is not the same for all.
    :param first: the place of the first of them in the batch that the call is a part of.
    """

    __slots__ = ("_body", "_converts", "_first", "_fragments", "_is_answered", "_reply", "_requests", "_results", "_sent", "_whole")

    def __init__(
        self,
        options: Options,
        reader: Reader,
        requests: Requests,
        body: bytes,
        converts: Sequence[Convert | None] | None = None,
        first: int = 0,
        whole: Whole | None = None,
    ) -> None:
        super().__init__(options, reader)
        self._requests = requests
        self._converts = converts
        self._body = body
        self._first = first
        self._whole = Whole() if whole is None else whole
        self._fragments: list[bytes] | None = None
        self._results: list[Any] | None = None
        self._reply: Reply | None = None
        self._sent: Exchange | None = None
        if options.key is not None:
            # A source that fails does so before anything else is done, as it does for a single call.
            self._key(range(len(requests)))

    @property
    def operation(self) -> str:
        return BatchName(f"batch of {len(self._requests)}")

    def make_members(self) -> list[Member]:
        return [Member(request, index) for index, request in enumerate(self._requests)]

    def open(self, now: float) -> float:
        # The deadline is that of the whole batch, and an attempt's limit its own.
        whole = self._whole
        if whole.began is None:
            whole.began = now
        super().open(whole.began)
        return self._limit(now)

    def start(self, now: float) -> Order:
        if self.policy.quick and self._whole.most is None:
            ends_by = self.open(now)
            if ends_by > now:
                return self._exchange(range(len(self._requests)), self._requests, self._body, ends_by)
        if self.policy.fallback is not None:
            # Begun first: the codec may ask for the current attempt.
            self.open(now)
            if self.policy.fallback.remembers:
                self._fragments = split_batch(self._body)
                self._recalled = self._recalls(self._requests, self._fragments, self._converts)
        return self._order(self.begin(now), now)

    def exchange(self, attempt: Attempt) -> Exchange:
        members = attempt.members
        if len(members) == len(self._requests):
            return self._exchange(range(len(members)), self._requests, self._body, attempt.ends_by)
        if self._fragments is None:
            self._fragments = split_batch(self._body)
        chosen = [member.index for member in members]
        body = encode_batch([self._fragments[index] for index in chosen])
        return self._exchange(chosen, tuple([self._requests[index] for index in chosen]), body, attempt.ends_by)

    def _exchange(self, chosen: Sequence[int], requests: Sequence[Request], body: bytes, ends_by: float) -> Exchange:
        headers = self._options.headers
        if self._options.key is not None:
            headers = with_key(headers, self._key(chosen))
        ids = requests.ids if isinstance(requests, Requests) else [request._id for request in requests]
        awaited = cast("list[RequestId]", [id for id in ids if id is not None] if None in ids else ids)
        self._sent = Exchange(body, requests, tuple(awaited), headers, ends_by)
        return self._sent

    def _key(self, chosen: Sequence[int]) -> str:
        # One for each body: a server that knows the key gives the answer to the body that it came with.
        keys, source = self._whole.keys, self._options.key
        places = tuple(self._first + index for index in chosen)
        if places not in keys and source is not None:
            key = source(BatchRequest(*(self._requests[index] for index in chosen)))
            keys[places] = told_apart(key, places) if key in keys.values() else key
        return keys[places]

    def received(self, reply: Reply, now: float) -> Order:
        sent = self._sent
        if sent is None:
            raise RuntimeError("received was called before an exchange was asked for")
        try:
            document = self._reader.parse(reply) if sent.ids else UNSET
            if self._attempt is None and self.policy.quick and self._options.convert is None and self._converts is None and len(sent.ids) == len(sent.requests):
                self._results = read_in_order(document, sent.ids)
                if self._results is not None:
                    self._reply = _bare(reply)
                    return OK
            self._is_answered = names_a_request(document)
            values = read_batch(self._reader, reply, sent, document)
        except Exception as problem:
            return self.failed(self._problem(problem, reply), now)
        reply = _bare(reply)
        places = range(len(values)) if self._attempt is None else [member.index for member in self._attempt.members]
        outcomes = [self._outcome(index, value, reply) for index, value in zip(places, values, strict=True)]
        return self._order(self.settle(outcomes, now), now)

    def _outcome(self, index: int, value: Any, reply: Reply) -> Outcome:
        if isinstance(value, Exception):
            return Outcome(UNSET, value)
        request = self._requests[index]
        convert = self._options.convert if self._converts is None else self._converts[index]
        if convert is not None and request._id is not None:
            try:
                value = self._converted(convert, request, value, reply)
            except Exception as problem:
                return Outcome(UNSET, problem)
        return Answer(_id_of(request), value, reply)

    def failed(self, problem: Exception, now: float) -> Order:
        count = len(self._sent.requests) if self._sent is not None else 0
        self._is_answered = False
        return self._order(self.settle([Outcome(UNSET, problem if index == 0 else fresh(problem)) for index in range(count)], now), now)

    def portion(self, ready: list[Member]) -> list[Member]:
        return ready[: self._whole.most]

    def is_too_large(self, members: Sequence[Member], outcomes: Sequence[Outcome]) -> bool:
        # Of a notification nothing is said in either case.
        said = [outcome.error for outcome, member in zip(outcomes, members, strict=True) if outcome.error is not None or not member.is_notification]
        if len(outcomes) < 2 or not says_too_large(said, self._options.limits.split_on, self._is_answered):
            return False
        if self._options.key is not None and any(member.delivery is Delivery.MAYBE_EXECUTED for member in members):
            # It went out before under its key. Its parts have keys of their own, by which the server would not know them.
            return False
        half, most = (len(outcomes) + 1) // 2, self._whole.most
        # A part that was on its way may be told of a larger one later.
        self._whole.most = half if most is None else min(half, most)
        return True

    @property
    def size(self) -> int:
        """How many requests there are."""
        return len(self._requests)

    @property
    def has_begun(self) -> bool:
        """Whether the server may have seen any of it."""
        return hasattr(self, "started")

    def result(self) -> Answers:
        """What became of the requests. Raises nothing."""
        if self._results is not None and not self.members:
            return Answers(self._requests, self._results, self._reply, [])
        return Answers(self._requests, None, None, self._take())


def cut(limits: BatchLimits, requests: Requests, body: bytes) -> list[tuple[range, Requests, bytes]]:
    """The parts in which a batch goes: the places of its requests, the requests, and their body."""
    if (limits.size is None or len(requests) <= limits.size) and (limits.bytes is None or len(body) <= limits.bytes):
        return [(range(len(requests)), requests, body)]
    fragments = split_batch(body)
    parts = limits.parts([len(fragment) for fragment in fragments])
    return [(part, requests.part(part), encode_batch(fragments[part.start : part.stop])) for part in parts]


class BatchPlan:
    """A batch, as one call or as several.

    :ivar calls: the calls, each with a part of the requests in order.
    :ivar concurrency: how many of them may be under way at once.
    """

    __slots__ = ("calls", "concurrency")

    def __init__(self, options: Options, reader: Reader, requests: Requests, converts: Sequence[Convert | None] | None = None) -> None:
        self.concurrency = options.limits.concurrency
        parts, whole = cut(options.limits, requests, encode_requests(reader.codec, requests)), Whole()
        self.calls = [
            BatchCall(options, reader, some, body, None if converts is None else converts[part.start : part.stop], part.start, whole)
            for part, some, body in parts
        ]


def reason_for_all(answers: Sequence[Answers]) -> Exception | None:
    """The failure of the batch as a whole: where nothing came of any request, and for one reason. Its delivery is the worst of all."""
    outcomes: list[Outcome] = []
    for part in answers:
        if part.results is not None:
            return None
        for outcome, _ in part.outcomes:
            error, own = outcome.error, part.outcomes[0][0].error
            if error is None or isinstance(error, (JsonRpcError, ResultValidationError)) or not _same(error, own):
                return None
            outcomes.append(outcome)
    first = outcomes[0].error
    if any(_reason(outcome.error) != _reason(first) for outcome in outcomes):
        return None
    if isinstance(first, RpcRetryError):
        worst = first.delivery
        for outcome in outcomes:
            worst = worse(worst, outcome.delivery)
        if worst is not first.delivery:
            # A copy: that of the first request says what became of it alone.
            first = fresh(first).with_traceback(first.__traceback__)
            first.delivery = worst
    return first


def _same(error: Exception, other: Exception | None) -> bool:
    """Whether two requests of one exchange failed for one reason, and not each for its own."""
    return type(error) is type(other) and (str(error) == str(other) or isinstance(error, (DeadlineExceeded, RetryExhaustedError)))


def _reason(error: object) -> tuple[object, ...]:
    # The parts of a batch end at different times, after different numbers of tries, with different excerpts, and say so.
    if isinstance(error, RetryExhaustedError):
        return type(error), *_reason(error.last_exception)
    return type(error), str(error) if isinstance(error, MissingResponseError) else getattr(error, "status", None)


def response_to(request: Request, outcome: Outcome, tries: int) -> Response[Any]:
    """What *outcome* is to the caller of *request*."""
    error = outcome.error
    if error is not None:
        status = getattr(error, "status", None) or 200
        return Response(_id_of(request), error=error, status=status, headers=outcome.headers or NO_HEADERS, attempts=tries)
    response: Response[Any] = outcome.value
    response._attempts = tries
    return response


def batch_response(answers: Sequence[Answers]) -> BatchResponse:
    """The responses in the order of the requests. Raises the failure of the batch as a whole."""
    problem = reason_for_all(answers)
    if problem is not None:
        try:
            raise problem
        finally:
            # Its traceback holds this frame.
            del problem, answers
    only = answers[0]
    if len(answers) == 1 and only.results is not None and only.reply is not None:
        return BatchResponse.of_results(only.requests.ids, only.results, only.reply.status, only.reply.headers)
    responses: list[Response[Any]] = []
    for part in answers:
        for request, (outcome, tries) in zip(part.requests, part.each(), strict=True):
            if request._id is not None or outcome.error is not None:
                responses.append(response_to(request, outcome, tries))
    return BatchResponse(responses)


def _id_of(request: Request) -> RequestId | None:
    return None if request._id is UNSET else request._id
