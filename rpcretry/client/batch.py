"""Batches that are written like calls: each leaves a handle, under which its answer is found once the batch was sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import get_ident
from typing import Any, Generic, TypeVar, cast, overload

from .._requests import Requests
from .._unset import UNSET, Unset
from ..errors import BatchUnfinishedError, Delivery
from ..messages import BatchResponse, Request, RequestId, Response, check_method, fresh, prepared
from ..outcome import Outcome
from .batch_call import Answers, BatchCall, BatchPlan, reason_for_all, response_to
from .options import CALL_OPTIONS, Convert, as_convert, params_of
from .proxy import Proxy

__all__ = ["BatchCore", "Handle"]

T = TypeVar("T")

MakePlan = Callable[[Requests, "Mapping[int, Convert | None]"], BatchPlan]


class Handle(Generic[T]):
    """Stands for a request of a batch, and for its answer once the batch was sent."""

    __slots__ = ("_batch", "_place")

    def __init__(self, batch: BatchCore, place: int) -> None:
        self._batch = batch
        self._place = place

    def result(self) -> T:
        """The result. Raises the error of this request, a new instance each time, and never another's.

        :raises BatchUnfinishedError: where the batch was not sent, or not to the end.
        """
        results = self._batch._results
        if results is not None:
            return cast("T", results[self._place])
        outcome, _ = self._batch._outcome(self._place)
        if outcome.error is not None:
            raise fresh(outcome.error)
        return cast("T", outcome.result)

    @property
    def error(self) -> Exception | None:
        """The failure; ``None`` for a success.

        :raises BatchUnfinishedError: where the batch was not sent, or not to the end.
        """
        return self._batch._outcome(self._place)[0].error

    @property
    def response(self) -> Response[T]:
        """The response with its status, headers and attempts; one with the error where there is one.

        :raises BatchUnfinishedError: where the batch was not sent, or not to the end.
        """
        return response_to(self.request, *self._batch._outcome(self._place))

    @property
    def request(self) -> Request:
        """The request; its id is ``UNSET`` until the batch is sent, unless you gave it one."""
        requests = self._batch._requests
        return prepared(requests.methods[self._place], requests.params[self._place], requests.ids[self._place])

    @property
    def is_done(self) -> bool:
        """Whether there is an answer, or a failure in its place."""
        return self._batch._is_done

    def __eq__(self, other: object) -> bool:
        return self._batch is other._batch and self._place == other._place if isinstance(other, Handle) else NotImplemented

    def __hash__(self) -> int:
        return hash((id(self._batch), self._place))

    def __repr__(self) -> str:
        state = "pending" if not self.is_done else "ok" if self.error is None else type(self.error).__name__
        return f"<Handle of {self.request!r}: {state}>"


class BatchCore:
    """Requests that go as one batch when the ``with`` block is left; none does where the block raised.

    :ivar proxy: the server's methods as attributes, as those of the client.
    """

    def __init__(self, make_plan: MakePlan) -> None:
        self._make_plan = make_plan
        # The one that may fill it now.
        self._thread: int | None = None
        self._requests = Requests()
        # What came of all: the results, where every call succeeded at once, or
        self._results: list[Any] | None = None
        # the outcome of each and its tries; from here
        self._outcomes: list[tuple[Outcome, int]] | None = None
        # until somebody wants more than the results.
        self._answers: Sequence[Answers] = ()
        self._converts: dict[int, Convert | None] = {}
        self._taken: set[RequestId] = set()
        self._state, self._delivery = "new", Delivery.NOT_SENT
        self._why = "the batch has not been sent yet; read results after the with block"

    # --- before it is sent ---

    @overload
    def call(self, method: str, /, *args: Any, _result: type[T], **params: Any) -> Handle[T]: ...
    @overload
    def call(self, method: str, /, *args: Any, _result: Any = ..., **params: Any) -> Handle[Any]: ...
    def call(self, method: str, /, *args: Any, _result: Any = UNSET, **params: Any) -> Handle[Any]:
        """Add a call.

        :param method: the method's name.
        :param args: the params by position, or
        :param params: the params by name; one whose name starts with ``_`` goes through :meth:`send`.
        :param _result: the type that the result is validated into, by pydantic.
        """
        if type(method) is not str or not method:
            check_method(method)
        given: object = args or UNSET
        if params:
            given = _params(method, args, params)
        if _result is UNSET and self._thread == get_ident():
            # What _add does, without what most calls do not need: this is the way of most of them.
            requests = self._requests
            place = len(requests.methods)
            requests.methods.append(method)
            requests.params.append(given)
            requests.ids.append(UNSET)
            return Handle(self, place)
        return self._add(method, given, UNSET, _result)

    __call__ = call

    def notify(self, method: str, /, *args: Any, **params: Any) -> None:
        """Add a notification: a request without an answer."""
        check_method(method)
        given: object = _params(method, args, params) if params else args or UNSET
        self._add(method, given, None, UNSET)

    @overload
    def send(self, request: Request, *, _result: type[T]) -> Handle[T]: ...
    @overload
    def send(self, request: Request, *, _result: Any = ...) -> Handle[Any]: ...
    def send(self, request: Request, *, _result: Any = UNSET) -> Handle[Any]:
        """Add a request, which may have an id of its own, or be a notification."""
        if not isinstance(request, Request):
            hint = "; use call(method, ...) for a method's name" if isinstance(request, str) else ""
            raise TypeError(f"send takes a Request, got {type(request).__name__} {request!r:.60}{hint}")
        return self._add(request._method, request._params, request._id, _result)

    @property
    def proxy(self) -> Proxy[Any]:
        """The server's methods as attributes: ``batch.proxy.sum(1, 2)`` is ``batch.call("sum", 1, 2)``."""
        return Proxy(self.call)

    def _add(self, method: str, params: object, id: RequestId | Unset | None, result: Any) -> Handle[Any]:
        convert = UNSET if result is UNSET else None if result is None else as_convert(result)
        if self._thread != get_ident():
            raise self._refused()
        if id is not UNSET and id is not None:
            if id in self._taken:
                raise ValueError(f"two requests of the batch have the id {id!r:.40}; leave id out to have the client number them")
            self._taken.add(id)
        place = len(self._requests)
        self._requests.add(method, params, id)
        if convert is not UNSET:
            self._converts[place] = convert
        return Handle(self, place)

    def _refused(self) -> BatchUnfinishedError:
        if self._state == "new":
            return BatchUnfinishedError("the batch is not open; write: with client.batch() as batch")
        if self._state == "open":
            # Two threads in it at once would leave each other's handles with the wrong answers.
            return BatchUnfinishedError("a batch is filled by the thread that opened it; have the others return what is to be called")
        return BatchUnfinishedError("the batch is over, and takes no more requests; make another with client.batch()", delivery=self._delivery)

    # --- sending ---

    def _open(self) -> None:
        if self._state != "new":
            raise BatchUnfinishedError("a batch is entered once; make another with client.batch()", delivery=self._delivery)
        self._state, self._thread = "open", get_ident()

    def _close(self, problem: BaseException | None) -> BatchPlan | None:
        """The block was left: what is to be sent now; ``None`` for nothing."""
        if self._state == "over":
            return None
        self._thread = None
        self._state, self._why = "over", "the batch was not sent"
        if problem is not None:
            self._why = f"the batch was not sent, since its block raised {type(problem).__name__}"
        elif not self._requests:
            self._results = []
        if problem is not None or not self._requests:
            return None
        plan = self._make_plan(self._requests, self._converts)
        self._why, self._delivery = "sending the batch was cut off, and the server may have executed its requests", Delivery.MAYBE_EXECUTED
        return plan

    def _keep(self, calls: Sequence[BatchCall], found: dict[Any, Any]) -> None:
        """Take what came of *calls*, which is not all where sending was cut off: the others say what may have become of them."""
        results = found.copy()
        # Tracebacks hold the frame that it comes from.
        found.clear()
        answers = [results[call] for call in calls if isinstance(results.get(call), Answers)]
        if not answers:
            return
        self._answers = answers
        if all(part.results is not None for part in answers) and len(answers) == len(calls):
            first = answers[0].results
            self._results = first if len(answers) == 1 else [result for part in answers for result in part.results or ()]
            return
        self._outcomes = [each for call in calls for each in self._left(call, results.get(call))]
        for outcome, _ in self._outcomes:
            if outcome.error is not None:
                # Its traceback holds frames that hold this batch. What is raised is a copy in any case.
                outcome.error.__traceback__ = None

    def _finish(self, calls: Sequence[BatchCall], found: dict[Any, Any]) -> None:
        """Take what came of all *calls*. Raises the failure of the batch as a whole."""
        self._keep(calls, found)
        problem = reason_for_all(self._answers) if self._results is None else None
        if problem is not None:
            raise fresh(problem)

    def _left(self, call: BatchCall, answers: Any) -> list[tuple[Outcome, int]]:
        if isinstance(answers, Answers):
            return list(answers.each())
        if call.has_begun:
            return [(Outcome(error=BatchUnfinishedError(self._why, delivery=Delivery.MAYBE_EXECUTED)), 1) for _ in range(call.size)]
        why = "sending the batch was cut off before this part of it was sent"
        return [(Outcome(error=BatchUnfinishedError(why, delivery=Delivery.NOT_SENT)), 0) for _ in range(call.size)]

    # --- afterwards ---

    @property
    def _is_done(self) -> bool:
        return self._results is not None or self._outcomes is not None

    def _all(self) -> list[tuple[Outcome, int]]:
        if self._outcomes is None:
            if self._results is None:
                raise BatchUnfinishedError(self._why, delivery=self._delivery)
            self._outcomes = [each for part in self._answers for each in part.each()]
        return self._outcomes

    def _outcome(self, place: int) -> tuple[Outcome, int]:
        return self._all()[place]

    def results(self) -> list[Any]:
        """The results of all calls in the order in which they were added.

        :raises ExceptionGroup: of all failures, each with a note that names its request.
        :raises BatchUnfinishedError: where the batch was not sent, or not to the end.
        """
        if self._results is not None:
            # A notification has none, and a batch with one is never in this short form.
            return self._results.copy()
        failed = self.failed
        if failed:
            raise ExceptionGroup(f"{len(failed)} of the {len(self._requests)} requests of the batch failed", [_noted(handle) for handle in failed])
        return [handle.result() for handle in self]

    @property
    def responses(self) -> BatchResponse:
        """The responses in the order of the requests, notifications left out unless they failed."""
        return BatchResponse([handle.response for handle in self._handles() if self._requests.ids[handle._place] is not None or handle.error is not None])

    @property
    def succeeded(self) -> list[Handle[Any]]:
        """The handles of the calls that have a result."""
        return [handle for handle in self if handle.error is None]

    @property
    def failed(self) -> list[Handle[Any]]:
        """The handles of the requests that failed; a notification may be among them."""
        return [Handle(self, place) for place, (outcome, _) in enumerate(self._all()) if outcome.error is not None]

    def _handles(self) -> list[Handle[Any]]:
        return [Handle(self, place) for place in range(len(self._requests))]

    def __iter__(self) -> Iterator[Handle[Any]]:
        """The handles of the calls in the order in which they were added."""
        return iter([Handle(self, place) for place, id in enumerate(self._requests.ids) if id is not None])

    def __len__(self) -> int:
        return len(self._requests) - self._requests.ids.count(None)

    # One without calls is no less a batch.
    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._requests)}, {'done' if self._is_done else self._state}>"


def _noted(handle: Handle[Any]) -> Exception:
    error = fresh(cast("Exception", handle.error))
    request = handle.request
    # A list of its own: a copy shares that of the original.
    error.__notes__ = [*getattr(error, "__notes__", ()), f"of {request._method!r}{'' if request._id is None else f', id {request._id!r:.40}'}"]
    return error


def _params(method: str, args: tuple[object, ...], params: dict[str, object]) -> dict[str, object]:
    for name in params:
        if name in CALL_OPTIONS and name != "_result":
            raise TypeError(f"{name!r} holds for the whole batch; write client.batch({name}=...)")
    return params_of(method, args, params)
