"""Batches: results in order, failures in their places, and retries of those alone that failed."""

from __future__ import annotations

from rpcretry import BatchRequest, Request, RetryStrategy
from rpcretry.backends.requests import Client
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import LoopbackServer, rpc

locked = [True, True]


class Failure(Exception):
    """An error that the server answers with.

    :ivar code: its JSON-RPC code.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def reserve(seat: str) -> str:
    if locked:
        locked.pop()
        raise Failure(2001, "the seat map is locked")
    return f"{seat} is yours"


def withdraw(amount: int) -> None:
    raise Failure(2002, "not enough money")


def main() -> None:
    methods = rpc({"sum": lambda a, b: a + b, "reserve": reserve, "withdraw": withdraw, "tick": lambda: None})
    strategy = RetryStrategy(codes={2001}, backoff=PeriodicBackoff(attempts=3, interval=0.05))
    batch = BatchRequest(
        Request("sum", [1, 2]),
        Request("reserve", ["12A"]),
        Request("tick", id=None),
        Request("withdraw", [1_000_000]),
    )
    with LoopbackServer(methods) as server, Client(server.url, retry_strategy=strategy) as client:
        for response in client.send(batch):
            what = response.result if response.is_success else f"failed: {response.error}"
            print(f"id {response.id}: {what} (attempt {response.attempts})")
        for body in server.bodies:
            print("sent:", ", ".join(request["method"] for request in body))


if __name__ == "__main__":
    main()
