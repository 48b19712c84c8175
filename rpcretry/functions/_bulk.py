"""Many calls of a function, each retried, several at once."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from .._check import is_async_callable
from .._unset import UNSET
from ..bulk._calls import Place, Resumable
from ..bulk._core import refuse_names
from ..bulk._progress import ProgressLike
from ..bulk._sync import Bulk
from ..outcome import Outcome
from ..retry.engine import Step
from ._call import FunctionCall
from ._options import SYNONYMS, RetryOptions
from ._retrying import Retrying, check_function, name_of

if TYPE_CHECKING:
    from ..bulk._async import AsyncBulk

__all__ = ["bulk"]

T = TypeVar("T")
R = TypeVar("R")


class Repeatable(Resumable, FunctionCall):
    """A call of a bulk: all but how it is performed."""

    __slots__ = ()

    # An error in the user's function is found by its traceback.
    keeps_traces = True

    def start(self, now: float) -> Step:
        if self.cut_at is None:
            return self.begin(now)
        self.thaw(now)
        return self.resume(now)

    def value_of(self, outcome: Outcome) -> Any:
        return None if outcome.value is UNSET else outcome.value


class Repeated(Repeatable):
    """A call of a plain function."""

    __slots__ = ("cut_at", "places")


class FunctionPlan:
    """How a function is called for each item."""

    host = None

    def __init__(self, kind: type[Any], plan: Retrying, name: str, sleep: Callable[[float], Any], function: Callable[..., Any]) -> None:
        self._kind = kind
        self._settings = (plan.policy, name, plan.clock, sleep, function)
        self.clock = plan.clock

    def check(self, element: Any) -> Exception | None:
        return None

    def check_again(self, element: Any) -> None:
        """Nothing was made of it."""

    def identity(self, element: Any) -> Any:
        return None

    def calls(self, places: Sequence[Place]) -> Sequence[Any]:
        call = self._kind(*self._settings, (places[0][1],), {})
        call.places, call.cut_at = places, None
        return (call,)


@overload
def bulk(  # type: ignore[overload-overlap]
    function: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    concurrency: int = ...,
    partial_success_threshold: float = ...,
    progress: ProgressLike = ...,
    **options: Unpack[RetryOptions],
) -> AsyncBulk[T, R]: ...
@overload
def bulk(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    concurrency: int = ...,
    partial_success_threshold: float = ...,
    progress: ProgressLike = ...,
    **options: Unpack[RetryOptions],
) -> Bulk[T, R]: ...
def bulk(
    function: Callable[..., Any],
    items: Any,
    *,
    concurrency: int = 16,
    partial_success_threshold: float = 1.0,
    progress: ProgressLike = None,
    **options: Any,
) -> Any:
    """Call *function* with each of *items*, several at once, each call retried as by :func:`retry`.

    Nothing is called before the bulk is consumed, and not much more than is consumed: iterate over it for a stream of
    :class:`~rpcretry.bulk.BulkItem` in bounded memory, or ``run()`` it. Of an ``async def`` it is an :class:`~rpcretry.bulk.AsyncBulk`.

    :param items: an iterable of any length; for an async function it may be an async one.
    :param concurrency: how many calls are under way at once; those of a plain function each in a thread, with 1 in the consumer's.
    :param partial_success_threshold: the share that has to succeed, from 0 to 1, for ``run()`` to return.
    :param progress: ``True`` for a bar on a terminal, or a callable that gets a :class:`~rpcretry.bulk.BulkProgress`.
    :param options: those of :class:`RetryOptions`.
    :raises TypeError, ValueError: naming the parameter, its value and the fix.
    """
    if isinstance(function, Iterable) and callable(items):
        raise TypeError("bulk takes the function first, and then the items")
    if not callable(function) and not inspect.isawaitable(function):
        raise TypeError(f"bulk: function must be callable, got {type(function).__name__} {function!r:.60}; write bulk(function, items)")
    check_function(function)
    if options.keys() - RetryOptions.__annotations__.keys():
        refuse_names("bulk", options, ["concurrency", "partial_success_threshold", "progress", *RetryOptions.__annotations__], SYNONYMS)
    plan = Retrying(**options)
    settings: dict[str, Any] = {"concurrency": concurrency, "batch_size": 1, "partial_success_threshold": partial_success_threshold, "progress": progress}
    if is_async_callable(function):
        from ..bulk._async import AsyncBulk
        from ._async import as_sleep
        from ._bulk_async import AsyncRepeated

        name = plan.name or name_of(function)
        return AsyncBulk(items, FunctionPlan(AsyncRepeated, plan, name, as_sleep(plan._sleep, name), function), "items", **settings)
    name, sleep = plan._check_sync(function)
    return Bulk(items, FunctionPlan(Repeated, plan, name, sleep, function), "items", **settings)
