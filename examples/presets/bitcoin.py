"""bitcoind starts, and then has more to do than places in its queue."""

from __future__ import annotations

from rpcretry import HTTPStatusError, presets
from rpcretry.backends.requests import Client
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import Answer, LoopbackServer, Received, rpc

node = rpc({"getblockcount": lambda: 850_000, "sendtoaddress": lambda address, amount: "f4184fc5"})
troubles: list[str] = []


def handler(request: Received) -> Answer:
    """The answers of bitcoind, as recorded: JSON in an HTTP 500 while it warms up, text in one where its queue is full."""
    if not troubles:
        return node(request)
    trouble = troubles.pop(0)
    if trouble == "queue":
        return Answer(b"Work queue depth exceeded", 500, {"Content-Type": "text/html; charset=ISO-8859-1"})
    return Answer({"result": None, "error": {"code": -28, "message": trouble}, "id": request.json["id"]}, 500)


def main() -> None:
    # The preset waits for minutes, as long as a node may take to load.
    strategy = presets.bitcoin.extended(backoff=PeriodicBackoff(attempts=5, interval=0.02))
    with LoopbackServer(handler) as server, Client(server.url, retry_strategy=strategy) as client:
        troubles[:] = ["Loading block index...", "Verifying blocks...", "queue"]
        print("blocks:", client.call("getblockcount"), "after", len(server.requests), "attempts")

        troubles[:] = ["Loading wallet..."]
        print("while it warms up, a payment goes again:", client.call("sendtoaddress", "bc1q", 0.1))

        troubles[:] = ["queue"]
        try:
            client.call("sendtoaddress", "bc1q", 0.1)
        except HTTPStatusError as error:
            print(f"where the queue is full it does not: {error}")


if __name__ == "__main__":
    main()
