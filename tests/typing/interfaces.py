"""Checked by mypy --strict and pyright, never run: that interfaces have the types that they declare, sync and async."""

# pyright: strict

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, assert_type

import rpcretry
import rpcretry.backends.aiohttp
import rpcretry.backends.requests
from rpcretry import UNSET, AsyncInterface, RetryStrategy, Unset, notification, rpc
from rpcretry.client import RpcMethod

T = TypeVar("T")


@dataclass
class Balance:
    amount: int


class Wallet(Protocol):
    @rpc(name="wallet.getBalance", by="name", idempotent=True, timeout=5, deadline=None, retry_strategy=RetryStrategy(idempotent=True))
    def get_balance(self, address: str, confirmations: int = 1) -> Balance: ...

    @rpc
    def list_all(self, first: int, /, *, most: int | None = None) -> list[Balance]: ...

    @rpc
    def lock(self) -> None: ...

    @rpc
    def anything(self, *values: float) -> Any: ...

    @notification
    def log(self, line: str) -> None: ...

    @notification(name="wallet.trace")
    def trace(self, /, **fields: int) -> None: ...

    def ping(self) -> str: ...


class Awaited(Wallet, AsyncInterface, Protocol):
    @rpc
    def more(self, number: int) -> str: ...


class Native(Protocol):
    async def ping(self) -> str: ...

    @rpc(idempotent=True)
    async def get_balance(self, address: str) -> Balance: ...

    @notification
    async def log(self, line: str) -> None: ...


class NativeAwaited(Native, AsyncInterface, Protocol): ...


class Abstract(abc.ABC):
    @rpc
    @abc.abstractmethod
    def get_balance(self, address: str) -> Balance: ...

    @abc.abstractmethod
    def ping(self) -> str: ...


class Plain:
    @rpc
    def get_balance(self, address: str) -> Balance:
        raise NotImplementedError


class AwaitedPlain(Plain, AsyncInterface): ...


class Repository(Protocol[T]):
    @rpc
    def get(self, id: int) -> T: ...

    def all(self) -> list[T]: ...


class Balances(Repository[Balance], Protocol): ...


def sync(client: rpcretry.Client) -> None:
    wallet = client.typed(Wallet)
    assert_type(wallet, Wallet)
    assert_type(wallet.get_balance("a"), Balance)
    assert_type(wallet.get_balance(address="a", confirmations=2), Balance)
    assert_type(wallet.list_all(1, most=2), list[Balance])
    assert_type(wallet.anything(1, 2.5), Any)
    assert_type(wallet.ping(), str)
    wallet.lock()
    wallet.log("a")
    wallet.trace(a=1)
    kept: Callable[[str, int], Balance] = wallet.get_balance
    del kept
    assert_type(client.using(timeout=5).typed(Wallet), Wallet)
    assert_type(client.typed(Abstract).get_balance("a"), Balance)
    assert_type(client.typed(Abstract).ping(), str)
    assert_type(client.typed(Plain).get_balance("a"), Balance)
    assert_type(client.typed(Repository[Balance]).get(1), Balance)
    assert_type(client.typed(Repository[Balance]).all(), list[Balance])
    assert_type(client.typed(Balances).get(1), Balance)
    assert_type(rpcretry.backends.requests.Client("http://localhost").typed(Wallet), Wallet)


async def asynchronous(client: rpcretry.AsyncClient) -> None:
    wallet = client.typed(Awaited)
    assert_type(wallet, Awaited)
    pending: Coroutine[Any, Any, Balance] = wallet.get_balance("a")
    assert_type(await pending, Balance)
    assert_type(await wallet.list_all(1, most=2), list[Balance])
    assert_type(await wallet.anything(1, 2.5), Any)
    assert_type(await wallet.more(1), str)
    await wallet.lock()
    await wallet.log("a")
    await wallet.trace(a=1)
    kept: Callable[[str, int], Awaitable[Balance]] = wallet.get_balance
    del kept
    native = client.typed(Native)
    assert_type(await native.ping(), str)
    assert_type(await native.get_balance("a"), Balance)
    await native.log("a")
    assert_type(await client.typed(NativeAwaited).get_balance("a"), Balance)
    assert_type(await client.typed(AwaitedPlain).get_balance("a"), Balance)
    assert_type(await rpcretry.backends.aiohttp.Client("http://localhost").typed(Awaited).get_balance("a"), Balance)


def of_the_class() -> None:
    method: RpcMethod[[str], Balance] = Plain.get_balance
    del method
    assert_type(Plain.get_balance.name, str | None)


def wrong_calls(client: rpcretry.Client) -> None:
    # Each of these is a mistake; that both checkers say so is what is tested.
    wallet = client.typed(Wallet)
    wallet.get_balance(1)  # type: ignore[arg-type]
    wallet.get_balance()  # type: ignore[call-arg]
    wallet.get_balance("a", 1, 2)  # type: ignore[call-arg]
    wallet.get_balance("a", confirmation=1)  # type: ignore[call-arg]
    wallet.get_balance("a", _timeout=1)  # type: ignore[call-arg]
    wallet.list_all(first=1)  # type: ignore[call-arg]
    wallet.list_all(1, 2)  # type: ignore[call-arg]
    wallet.anything("a")  # type: ignore[arg-type]
    wallet.log(1)  # type: ignore[arg-type]
    wallet.trace(a="b")  # type: ignore[arg-type]
    wallet.ping(1)  # type: ignore[call-arg]
    wallet.balance("a")  # type: ignore[attr-defined]
    wallet.get_balance("a").total  # type: ignore[attr-defined]
    text: str = wallet.get_balance("a")  # type: ignore[assignment]
    number: int = wallet.ping()  # type: ignore[assignment]
    client.typed(Repository[Balance]).get("a")  # type: ignore[arg-type]
    wrong: Plain = client.typed(Wallet)  # type: ignore[assignment]
    del text, number, wrong
    client.typed(3)  # type: ignore[arg-type]
    client.typed("Wallet")  # type: ignore[arg-type]
    client.typed(Wallet, timeout=5)  # type: ignore[call-arg]


async def wrong_awaits(client: rpcretry.AsyncClient, sync_client: rpcretry.Client) -> None:
    wallet = client.typed(Awaited)
    await sync_client.typed(Wallet).get_balance("a")  # type: ignore[misc]
    balance: Balance = wallet.get_balance("a")  # type: ignore[assignment]
    wallet.get_balance("a").amount  # type: ignore[attr-defined]
    await wallet.get_balance(1)  # type: ignore[arg-type]
    await wallet.more()  # type: ignore[call-arg]
    wallet.lock()  # type: ignore[unused-coroutine]
    client.typed(Native).ping()  # type: ignore[unused-coroutine]
    text: str = await wallet.get_balance("a")  # type: ignore[assignment]
    del balance, text


class Wrong(Protocol):
    """Each of these is a mistake; that both checkers say so is what is tested."""

    @rpc("name")  # type: ignore[call-overload, untyped-decorator]
    def named(self) -> str: ...

    @rpc(by="order")  # type: ignore[call-overload, untyped-decorator]
    def ordered(self) -> str: ...

    @rpc(timeout="5")  # type: ignore[call-overload, untyped-decorator]
    def timed(self) -> str: ...

    @rpc(retries=3)  # type: ignore[call-overload, untyped-decorator]
    def retried(self) -> str: ...

    @rpc(idempotent="get_*")  # type: ignore[call-overload, untyped-decorator]
    def repeated(self) -> str: ...

    @rpc  # type: ignore[arg-type]
    def selfless() -> str: ...

    @notification  # type: ignore[type-var]
    def told(self) -> int: ...

    @notification(idempotent=True)  # type: ignore[call-overload, untyped-decorator]
    def repeated_note(self) -> None: ...


class Changed(Wallet, Protocol):
    """mypy compares what an override takes and returns. pyright compares the descriptors, and wants to be told."""

    @rpc
    def get_balance(self, address: str, confirmations: int = 1, currency: str = "") -> Balance: ...  # pyright: ignore[reportIncompatibleVariableOverride]

    @rpc
    def ping(self) -> str: ...  # pyright: ignore[reportIncompatibleMethodOverride]


class SameAgain(Wallet, Protocol):
    """The same signature is no change for pyright, either."""

    @rpc(timeout=60)
    def get_balance(self, address: str, confirmations: int = 1) -> Balance: ...


class ChangedBadly(Wallet, Protocol):
    @rpc
    def get_balance(self, address: int) -> Balance: ...  # type: ignore[override]


class Fake(Plain):
    """A double that is written as a subclass."""

    def get_balance(self, address: str) -> Balance:  # pyright: ignore[reportIncompatibleVariableOverride]
        return Balance(1)


class Structural:
    """A double that has the methods alone: mypy takes it for the Protocol, and pyright does not."""

    def get(self, id: int) -> Balance:
        return Balance(id)

    def all(self) -> list[Balance]:
        return []


class Later(Protocol):
    @rpc
    def soon(self) -> Awaitable[int]: ...


class AwaitedLater(Later, AsyncInterface, Protocol): ...


class Limited(Protocol):
    def find(self, name: str, limit: int | Unset = UNSET) -> list[str]: ...


def takes(repository: Repository[Balance]) -> None: ...


def overrides(client: rpcretry.Client) -> None:
    assert_type(client.typed(Changed).get_balance("a", currency="EUR"), Balance)
    assert_type(client.typed(SameAgain).get_balance("a"), Balance)
    assert_type(client.typed(Fake).get_balance("a"), Balance)
    takes(Structural())  # pyright: ignore[reportArgumentType]
    client.typed(Limited).find("a", UNSET)
    client.typed(Limited).find("a", 3)
    client.typed(Limited).find("a", "3")  # type: ignore[arg-type]


async def declared_awaitables(client: rpcretry.AsyncClient) -> None:
    assert_type(await client.typed(AwaitedLater).soon(), int)
    assert_type(await client.typed(Later).soon(), int)


async def functions_of_the_class(client: rpcretry.Client, aclient: rpcretry.AsyncClient) -> None:
    assert_type(Wallet.get_balance(client.typed(Wallet), "a"), Balance)
    assert_type(await Awaited.get_balance(aclient.typed(Awaited), "a"), Balance)
    Wallet.get_balance(client.typed(Wallet), 1)  # type: ignore[call-overload]
