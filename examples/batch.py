"""Batches: a handle for each call, failures in their places, retries of those alone that failed, and parts of a large one."""

from __future__ import annotations

from rpcretry import BatchRequest, Request, RetryStrategy
from rpcretry.backends.requests import Client
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import Answer, LoopbackServer, Received, rpc

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


methods = rpc({"sum": lambda a, b: a + b, "reserve": reserve, "withdraw": withdraw, "tick": lambda: None})


def serve(request: Received) -> Answer:
    """Answers batches of up to ten requests."""
    return methods(request) if len(request.json) <= 10 else Answer(b"too large", status=413)


def main() -> None:
    strategy = RetryStrategy(codes={2001}, backoff=PeriodicBackoff(attempts=3, interval=0.05))
    with LoopbackServer(serve) as server, Client(server.url, retry_strategy=strategy) as client:
        # Sent when the block is left. Each call leaves a handle.
        with client.batch() as batch:
            total = batch.proxy.sum(1, 2)
            seat = batch.call("reserve", "12A", _result=str)
            batch.notify("tick")
            money = batch.call("withdraw", 1_000_000)
        print(f"total: {total.result()}; seat: {seat.result()!r}, on attempt {seat.response.attempts}; money: {money.error}")
        try:
            batch.results()
        except ExceptionGroup as group:
            print(group)
        for body in server.bodies:
            print("sent:", ", ".join(request["method"] for request in body))

        # A list of requests that is there already, and more of them than the server takes at once.
        responses = client.send(BatchRequest(*[Request("sum", [number, number]) for number in range(25)]))
        print("results:", sum(responses.results), "from batches of", *[len(body) for body in server.bodies[3:]])


if __name__ == "__main__":
    main()
