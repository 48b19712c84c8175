"""Checked by mypy --strict, never run: what callers get from the clients' signatures."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, assert_type

import rpcretry
import rpcretry.backends.aiohttp
import rpcretry.backends.requests
import rpcretry.testing
from rpcretry.outcome import Attempt, Member, Outcome, Retry, Stop, Wait
from rpcretry.retry import Backoff, ExponentialBackoff, FullJitter, Layer, RetryStrategy


@dataclass
class User:
    name: str


@dataclass(frozen=True)
class RandomBackoff(Backoff):
    most: float = 1.0

    def __call__(self) -> Iterator[float]:
        return (self.most for _ in range(self.attempts))


class Gate(Layer):
    def admit(self, attempt: Attempt, now: float) -> Wait | None:
        return None

    def judge(self, attempt: Attempt, member: Member, outcome: Outcome, verdict: Retry, now: float) -> Retry | Stop:
        return verdict if outcome.delivery is rpcretry.Delivery.NOT_SENT else Stop("enough")


def sync(client: rpcretry.Client, batch: rpcretry.BatchRequest, request: rpcretry.Request) -> None:
    assert_type(client.call("m", 1, _result=int), int)
    assert_type(client.call("m", a=1, _result=User), User)
    assert_type(client("m", _result=list[User]), list[User])
    assert_type(client.call("m", 1), Any)
    assert_type(client.send(request), rpcretry.Response[Any])
    assert_type(client.send(request, _result=User), rpcretry.Response[User])
    assert_type(client.send(request, _result=User).result, User)
    assert_type(client.send(batch), rpcretry.BatchResponse)
    assert_type(client.send(batch)[0], rpcretry.Response[Any])
    client.notify("m", 1)
    assert_type(client.proxy.a.b(1), Any)
    assert_type(client.using(deadline=5, retry_strategy=None), rpcretry.Client)


async def asynchronous(client: rpcretry.AsyncClient, batch: rpcretry.BatchRequest, request: rpcretry.Request) -> None:
    pending = client.call("m", 1, _result=int)
    started: Coroutine[Any, Any, int] = pending
    assert_type(await started, int)
    assert_type(await client.call("m", a=1, _result=User), User)
    assert_type(await client("m", _result=list[User]), list[User])
    assert_type(await client.call("m", 1), Any)
    assert_type(await client.send(request), rpcretry.Response[Any])
    assert_type((await client.send(request, _result=User)).result, User)
    assert_type(await client.send(batch), rpcretry.BatchResponse)
    await client.notify("m", 1)
    assert_type(await client.proxy.a.b(1), Any)
    assert_type(client.using(timeout=None, headers={"X-Trace": "1"}), rpcretry.AsyncClient)


def ready_made() -> None:
    strategy = RetryStrategy(
        exceptions={TimeoutError}, codes={2001, range(3000, 3100)}, idempotent={"get_*"}, backoff=ExponentialBackoff(3, jitter=FullJitter())
    )
    with rpcretry.backends.requests.Client("http://localhost", retry_strategy=strategy, layers=[Gate()], on_event=print) as client:
        assert_type(client, rpcretry.backends.requests.Client)
        assert_type(client.using(deadline=1), rpcretry.backends.requests.Client)
    rpcretry.backends.aiohttp.Client("http://localhost", retry_strategy=RetryStrategy(backoff=RandomBackoff(3)))


def wrong(client: rpcretry.Client, request: rpcretry.Request) -> None:
    # Each of these is a mistake; that mypy says so is what is tested: an ignore that is not needed fails.
    rpcretry.Clint  # type: ignore[attr-defined]
    rpcretry.testing.RpcMok  # type: ignore[attr-defined]
    client.call()  # type: ignore[call-overload]
    client.call("m", _timeout="5")  # type: ignore[call-overload]
    client.call("m", _retry_strategy=ExponentialBackoff(3))  # type: ignore[call-overload]
    client.send("m")  # type: ignore[call-overload]
    client.send(request, timeout=5)  # type: ignore[call-overload]
    RetryStrategy(max_retries=3)  # type: ignore[call-arg]
    RetryStrategy(exceptions={1})  # type: ignore[arg-type]
    ExponentialBackoff(attempts=3, multiplier=2)  # type: ignore[call-arg]
    ExponentialBackoff(attempts="3")  # type: ignore[arg-type]
    rpcretry.Request(1)  # type: ignore[arg-type]
    rpcretry.Request("m", id=1.5)  # type: ignore[arg-type]
    value: str = client.call("m", _result=int)  # type: ignore[assignment]
    del value
