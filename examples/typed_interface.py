"""A server's methods as a class: real signatures for type checkers, checked arguments, results of the declared types.

The server is a toy that runs in this process; put the URL of yours in its place.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any, Protocol

from rpcretry import AsyncInterface, RetryStrategy, notification, rpc, testing
from rpcretry.backends.aiohttp import Client as AsyncClient
from rpcretry.backends.requests import Client


@dataclasses.dataclass
class Balance:
    address: str
    amount: int


class Wallet(Protocol):
    """What the server can do."""

    @rpc(name="wallet.getBalance", by="name", idempotent=True)
    def get_balance(self, address: str, confirmations: int = 1) -> Balance: ...

    @rpc(name="wallet.pay", idempotent=False, timeout=5)
    def pay(self, address: str, amount: int) -> None: ...

    @notification
    def log(self, line: str) -> None: ...


class AsyncWallet(Wallet, AsyncInterface, Protocol):
    """The same, awaited."""


def server() -> testing.LoopbackServer:
    """It resets the first connection."""
    amounts = {"ada": 1000}

    def get_balance(address: str, confirmations: int = 1) -> dict[str, object]:
        return {"address": address, "amount": amounts.get(address, 0)}

    def pay(address: str, amount: int) -> bool:
        amounts["ada"] -= amount
        amounts[address] = amounts.get(address, 0) + amount
        return True

    troubles: list[Any] = [testing.RESET]
    working = testing.rpc({"wallet.getBalance": get_balance, "wallet.pay": pay, "log": lambda line: None})
    return testing.LoopbackServer(lambda request: troubles.pop() if troubles else working(request))


def sync(url: str) -> None:
    with Client(url, retry_strategy=RetryStrategy()) as client:
        wallet = client.typed(Wallet)
        print(wallet.get_balance("ada"))
        wallet.pay("grace", 300)
        wallet.log("paid")
        try:
            wallet.pay("grace", "a lot")  # type: ignore[arg-type]
        except TypeError as error:
            print("nothing was sent:", error)


async def asynchronous(url: str) -> None:
    async with AsyncClient(url, retry_strategy=RetryStrategy()) as client:
        wallet = client.typed(AsyncWallet)
        balances = await asyncio.gather(wallet.get_balance("ada"), wallet.get_balance("grace", confirmations=6))
        print("awaited:", *[f"{balance.address} has {balance.amount}" for balance in balances])


def main() -> None:
    with server() as running:
        sync(running.url)
        asyncio.run(asynchronous(running.url))


if __name__ == "__main__":
    main()
