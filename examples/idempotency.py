"""A payment that is never repeated by accident, beside a question that may be asked again."""

from __future__ import annotations

import rpcretry
from rpcretry import RetryStrategy
from rpcretry.backends.requests import Client
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import Answer, LoopbackServer, Received, rpc

ledger: list[int] = []


def pay(amount: int) -> str:
    ledger.append(amount)
    return f"paid {amount}"


working = rpc({"pay": pay, "get_balance": lambda: 1000 - sum(ledger)})
busy: list[Answer] = []
hang_ups = 0


def handler(request: Received) -> Answer | None:
    """Refuses while it is busy; does its work, and then may hang up before the answer is out."""
    global hang_ups
    if busy:
        return busy.pop(0)
    answer = working(request)
    if hang_ups:
        hang_ups -= 1
        return None
    return answer


def main() -> None:
    global hang_ups
    strategy = RetryStrategy(idempotent="get_*", backoff=PeriodicBackoff(attempts=3, interval=0.05))
    with LoopbackServer(handler) as server, Client(server.url, retry_strategy=strategy) as client:
        # The server says that it did not act: even a payment goes again.
        busy.append(Answer(b"", status=503, headers={"Retry-After": "0"}))
        print(client.call("pay", 100), "after", len(server.requests), "attempts")

        # It acts, and the answer is lost. Nobody can know; the call stops here.
        hang_ups = 1
        try:
            client.call("pay", 20)
        except rpcretry.ConnectionLostError as error:
            print(f"the payment of 20: {error.delivery.value}; look before you pay again")

        # Looking is harmless, so it goes again by itself.
        hang_ups = 2
        print("the balance is", client.call("get_balance"), "so it was paid, once:", ledger)


if __name__ == "__main__":
    main()
