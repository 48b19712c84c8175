"""Retries around functions: the decorator, the direct form, and where blocks begin."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, ParamSpec, TypeVar, Unpack, cast, overload

from .._check import is_async_callable
from .._unset import UNSET
from ..context import RUNNING, leave
from ..drivers._sync import drive
from ..events import as_sinks
from ..layers import compose
from ..retry.policy import Policy
from ..retry.strategy import RetryStrategy
from ._blocks import Block, Blocks
from ._call import First, FunctionCall, refused
from ._options import DEFAULTS, FunctionStrategy, OnRetry, RetryOptions, as_clock, as_function_fallback, as_limits, check_names

__all__ = ["Retrying", "retry", "retrying"]

P = ParamSpec("P")
T = TypeVar("T")


class Retrying:
    """How functions are retried. Immutable; one may serve any number of functions, threads and tasks.

    A decorator, ``Retrying(...)(function)``; direct, ``Retrying(...).execute(function, *args)``; and around blocks,
    ``for attempt in Retrying(...): with attempt: ...`` or ``async for``.

    :param options: those of :class:`RetryOptions`.
    :raises TypeError, ValueError: naming the parameter, its value and the fix.
    """

    __slots__ = ("_sleep", "clock", "name", "policy")

    def __init__(self, **options: Unpack[RetryOptions]) -> None:
        check_names(options, type(self).__name__ if type(self) is not Retrying else "retry")
        strategy = options["strategy"] if "strategy" in options else FunctionStrategy(options)
        if not isinstance(strategy, RetryStrategy):
            hint = f"; write {strategy.__name__}()" if isinstance(strategy, type) else "; use max_attempts=1 to retry nothing"
            raise TypeError(f"strategy must be a RetryStrategy, got {type(strategy).__name__} {strategy!r:.60}{hint}")
        sinks = as_sinks(options.get("on_event"))
        if options.get("on_retry") is not None:
            sinks = (*sinks, OnRetry(options["on_retry"]))
        self.name = options.get("name")
        if self.name is not None and not (isinstance(self.name, str) and self.name):
            raise TypeError(f"name must be a non-empty str, got {type(self.name).__name__} {self.name!r:.60}")
        self.clock, self._sleep = as_clock(options)
        self.policy = Policy(strategy, compose(strategy, options.get("layers", ())), sinks, *as_limits(options), as_function_fallback(options))

    def __setattr__(self, name: str, value: object) -> None:
        # The policy comes last. What a subclass adds is the subclass's own.
        if hasattr(self, "policy") and name in Retrying.__slots__:
            raise AttributeError(f"a Retrying is immutable; build another one to change {name}")
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"<Retrying{f' {self.name}' if self.name else ''}: {self.policy.strategy!r}>"

    # --- decorating ---

    def __call__(self, function: Callable[P, T], /) -> Callable[P, T]:
        """The function, retried. Its signature, name and types are kept.

        :raises TypeError: for generators, classes and what cannot be called.
        """
        if isinstance(function, (classmethod, staticmethod)):
            inner: Callable[..., Any] = function.__func__
            return cast("Callable[P, T]", type(function)(self(inner)))
        if isinstance(function, type):
            hint = f"write on={function.__name__}" if issubclass(function, BaseException) else "decorate its methods"
            raise TypeError(f"retry decorates functions and methods, got the class {function.__name__}; {hint}")
        check_function(function)
        return cast("Callable[P, T]", self._around_async(function) if is_async_callable(function) else self._around(function))

    def _check_sync(self, function: object) -> tuple[str, Callable[[float], Any]]:
        name = self.name or ("block" if function is None else name_of(function))
        if self.policy.timeout is not None:
            raise TypeError(
                f"timeout cannot hold for {name}: a sync function cannot be cut off; give deadline=, the timeout of what it calls, or write async def"
            )
        if self.policy.fallback is not None and self.policy.fallback.is_async:
            raise TypeError(f"the fallback of {name} has an async def, which nobody would await; write def")
        sleep = self._sleep or time.sleep
        if is_async_callable(sleep):
            raise TypeError(f"sleep must wait and return for the sync function {name}, as time.sleep does, got {sleep!r:.60}")
        return name, sleep

    def _around_async(self, function: Callable[..., Any]) -> Callable[..., Any]:
        from ._async import wrap

        wrapper = wrap(self.policy, self.name or name_of(function), self.clock, self._sleep, function)
        return named(functools.update_wrapper(wrapper, function), function)

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        name, sleep = self._check_sync(function)
        clock, policy = self.clock, self.policy
        quick = policy.quick and (policy.deadline is None or policy.deadline > 0)
        first = First(name, policy)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if quick:
                # The first attempt concerns nobody but the caller as long as it succeeds.
                begun = clock()
                running = [first, clock, begun]
                token = RUNNING.set(running)
                try:
                    value = function(*args, **kwargs)
                except Exception as failure:
                    call = FunctionCall(policy, name, clock, sleep, function, args, kwargs).after(failure, begun)
                else:
                    return refused(name, value) if hasattr(type(value), "__await__") else value
                finally:
                    running.clear()
                    leave(token)
            else:
                call = FunctionCall(policy, name, clock, sleep, function, args, kwargs)
            return drive(call, call)

        return named(wrapper, function)

    # --- calling ---

    def execute(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call *function* with the arguments, retried.

        :raises TypeError: for an async function; use :meth:`execute_async`.
        """
        check_function(function)
        if is_async_callable(function):
            raise TypeError(f"{name_of(function)} is async; use execute_async, and await it")
        name, sleep = self._check_sync(function)
        call = FunctionCall(self.policy, name, self.clock, sleep, function, args, kwargs)
        value: T = drive(call, call)
        return value

    async def execute_async(self, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for an async function, or any that returns an awaitable."""
        check_function(function)
        from ._async import execute

        value: T = await execute(self.policy, self.name or name_of(function), self.clock, self._sleep, function, args, kwargs)
        return value

    # --- blocks ---

    def __iter__(self) -> Iterator[Block]:
        """``for attempt in retrying(...): with attempt: ...``"""
        _, sleep = self._check_sync(None)
        return Blocks(self._block_call(sleep))

    def __aiter__(self) -> AsyncIterator[Block]:
        """``async for attempt in retrying(...): with attempt: ...``"""
        from ._async import AsyncBlocks, as_sleep

        return AsyncBlocks(self._block_call(as_sleep(self._sleep, self.name or "block")))

    def _block_call(self, sleep: Callable[[float], Any]) -> FunctionCall:
        for given, parameter, reason in (
            (self.policy.fallback is not None, "fallback", "a block returns nothing that it could stand in for; write try and except around the loop"),
            (
                isinstance(self.policy.strategy, FunctionStrategy) and not self.policy.success_ends,
                "retry_result",
                "a block returns nothing that could be looked at; raise RetryableError in it",
            ),
            (self.policy.timeout is not None, "timeout", "a block cannot be cut off from outside; write `async with asyncio.timeout(...)` inside of it"),
        ):
            if given:
                raise TypeError(f"{parameter} cannot hold for a block: {reason}")
        return FunctionCall(self.policy, self.name or "block", self.clock, sleep, _no_function, (), {})


def check_function(function: object) -> None:
    """Refuse what cannot be called, and generators."""
    if not callable(function):
        hint = "; write options by name"
        if isinstance(function, property):
            hint = "; decorate the function inside of the property"
        elif inspect.isawaitable(function):
            hint = "; give the function itself, and its arguments after it"
            if inspect.iscoroutine(function):
                function.close()
        raise TypeError(f"retry decorates functions and methods, got {type(function).__name__} {function!r:.60}{hint}")
    bare: Any = function
    while isinstance(bare, functools.partial):
        bare = bare.func
    for candidate in (bare, type(bare).__call__):
        if inspect.isgeneratorfunction(candidate) or inspect.isasyncgenfunction(candidate):
            raise TypeError(f"{name_of(function)} is a generator: what it has yielded cannot be taken back; retry the function that uses it, or each step")


def name_of(function: object) -> str:
    """What a function is called in events and messages."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def named(wrapper: Callable[..., Any], function: object) -> Callable[..., Any]:
    """*wrapper* under the name of *function*, also where that is a partial or an object, which have none."""
    if not hasattr(function, "__qualname__"):
        wrapper.__qualname__ = name_of(function)
        wrapper.__name__ = wrapper.__qualname__.rpartition(".")[2]
    return wrapper


def _no_function() -> None:
    """Stands where a block has its code."""


@overload
def retry(function: Callable[P, T], /) -> Callable[P, T]: ...
@overload
def retry(**options: Unpack[RetryOptions]) -> Retrying: ...
def retry(function: Any = UNSET, /, **options: Any) -> Any:
    """Retry a sync or async function or method: ``@retry`` or ``@retry(max_attempts=5)``.

    Its signature, name and types are kept. What it may be given is in :class:`RetryOptions`; without anything, three tries on
    ``ConnectionError``, ``TimeoutError``, ``OSError`` and :class:`~rpcretry.RetryableError`, with full jitter within 0.1 and 0.2 s.

    :raises TypeError, ValueError: naming the parameter, its value and the fix.
    """
    plan = Retrying(**options)
    return plan if function is UNSET else plan(function)


def retrying(**options: Unpack[RetryOptions]) -> Retrying:
    """Retry a block: ``for attempt in retrying(...): with attempt: ...``, or ``async for``.

    It takes what :func:`retry` takes, but for what needs a function: ``fallback``, ``retry_result`` and ``timeout``.
    """
    return Retrying(**options)


# inspect and help() would otherwise show no parameters.
_keywords = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=DEFAULTS.get(name)) for name in RetryOptions.__annotations__]
_function = inspect.Parameter("function", inspect.Parameter.POSITIONAL_ONLY, default=None)
retry.__signature__ = inspect.Signature([_function, *_keywords])  # type: ignore[attr-defined]
retrying.__signature__ = Retrying.__signature__ = inspect.Signature(_keywords)  # type: ignore[attr-defined]
