"""Checked by mypy --strict, never run: that retried functions keep their parameters and types, and that wrong options are errors."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, assert_type

import rpcretry
from rpcretry.functions import Block, RetryableClient, Retrying, RetryOptions, retry, retrying
from rpcretry.retry import Fallback, PeriodicBackoff, RetryStrategy


@retry
def bare(first: int, *, key: str = "") -> list[str]:
    return [key] * first


@retry(max_attempts=5, on=(OSError, KeyError), when=lambda error, attempt: attempt < 3, retry_result=lambda value: value is None, fatal=ValueError)
def given(first: int, *rest: float) -> bytes | None:
    return None


@retry()
def called() -> None: ...


@retry
async def async_bare(first: int) -> str:
    return str(first)


@retry(timeout=5, deadline=30, backoff=PeriodicBackoff(3, 0.5), fallback=lambda error: "x", on_retry=lambda attempt, error: None, wrap=True)
async def async_given(first: int, second: str = "") -> str:
    return second


class Service(RetryableClient):
    @retry
    def method(self, key: str) -> int:
        return len(key)

    @retry(max_attempts=2)
    async def amethod(self, key: str) -> int:
        return len(key)

    @classmethod
    @retry
    def build(cls, size: int) -> Service:
        return cls()

    @staticmethod
    @retry(name="static")
    def static(size: int) -> float:
        return size / 2

    @property
    @retry
    def value(self) -> int:
        return 5

    def fetch(self, key: str) -> bytes:
        return key.encode()

    async def afetch(self, key: str) -> bytes:
        return key.encode()

    def use(self) -> None:
        assert_type(self.with_retry(self.fetch)("k"), bytes)
        self.with_retry(self.fetch)(1)  # type: ignore[arg-type]
        later: Coroutine[Any, Any, bytes] = self.with_async_retry(self.afetch)("k")
        later.close()
        self.with_async_retry(lambda: self.afetch("k"))
        self.with_async_retry(self.fetch)  # type: ignore[arg-type]


def sync(service: Service) -> None:
    assert_type(bare(1, key="x"), list[str])
    assert_type(given(1, 2.5), bytes | None)
    kept: Callable[[int], str] = retry(lambda number: str(number))
    assert_type(kept(1), str)
    assert_type(service.method("k"), int)
    assert_type(Service.build(1), Service)
    assert_type(Service.static(1), float)
    assert_type(service.value, int)
    assert_type(retry(functools.partial(len, "abc"))(), int)
    assert_type(retry(max_attempts=2), Retrying)
    assert_type(retrying(), Retrying)


async def asynchronous(service: Service) -> None:
    pending: Coroutine[Any, Any, str] = async_bare(1)
    assert_type(await pending, str)
    assert_type(await async_given(1, second="x"), str)
    assert_type(await service.amethod("k"), int)


def direct(plan: Retrying, service: Service) -> None:
    assert_type(plan.execute(service.fetch, "k"), bytes)
    assert_type(plan.execute(len, [1]), int)
    assert_type(plan.execute(lambda: 5), int)


async def direct_async(plan: Retrying, service: Service) -> None:
    assert_type(await plan.execute_async(service.afetch, key="k"), bytes)
    disguised: Callable[[], Awaitable[int]] = lambda: service.amethod("k")
    assert_type(await plan.execute_async(disguised), int)


def blocks() -> int:
    for attempt in retrying(max_attempts=4, deadline=5):
        assert_type(attempt, Block)
        with attempt:
            assert_type(attempt.number, int)
            assert_type(attempt.max_attempts, int | None)
            assert_type(attempt.last_exception, Exception | None)
    one: Iterator[Block] = iter(retrying())
    other: AsyncIterator[Block] = aiter(retrying())
    del one, other
    return 5


async def async_blocks() -> None:
    async for attempt in retrying(on=KeyError):
        assert_type(attempt, Block)
        with attempt:
            pass


def context() -> None:
    now = rpcretry.current_attempt()
    assert_type(now, rpcretry.CurrentAttempt | None)
    if now is not None:
        assert_type((now.number, now.max_attempts, now.remaining), tuple[int, int | None, float | None])


def options_in_one_place() -> None:
    shared: RetryOptions = {"max_attempts": 5, "deadline": 30.0, "fallback": Fallback(5), "strategy": RetryStrategy(idempotent=True)}
    retry(**shared)
    Retrying(**shared)
    RetryableClient(**shared)


def wrong(plan: Retrying, service: Service) -> None:
    # Each of these is a mistake; that mypy says so is what is tested: an ignore that is not needed fails.
    retry(max_retries=3)  # type: ignore[call-overload]
    retry(max_attempts="3")  # type: ignore[call-overload]
    retry(on=KeyboardInterrupt)  # type: ignore[arg-type]
    retry(when="always")  # type: ignore[call-overload]
    retry(3)  # type: ignore[call-overload]
    retrying(initial_delay=3)  # type: ignore[call-arg]
    Retrying(backoff=3)  # type: ignore[arg-type]
    RetryableClient(tries=3)  # type: ignore[call-arg]
    bare("1")  # type: ignore[arg-type]
    bare(1, 2)  # type: ignore[call-arg, arg-type]
    given(1, key=2)  # type: ignore[call-arg]
    service.method(1)  # type: ignore[arg-type]
    plan.execute(service.fetch, 1)  # type: ignore[arg-type]
    plan.execute(service.fetch)  # type: ignore[call-arg]
    number: int = bare(1)  # type: ignore[assignment]
    text: str = async_bare(1)  # type: ignore[assignment]
    del number, text
