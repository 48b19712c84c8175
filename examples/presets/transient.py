"""What is usually transient, and two things more that this server's manual says."""

from __future__ import annotations

from rpcretry import ConnectionLostError, presets
from rpcretry.backends.requests import Client
from rpcretry.testing import RESET, Answer, LoopbackServer, Received, rpc

working = rpc({"get_price": lambda symbol: 41.5, "pay": lambda amount: f"paid {amount}"})
troubles: list[object] = []

# The manual says: 2001 means that the table is locked, and that nothing was done.
LOCKED = {"code": 2001, "message": "the table is locked"}


def handler(request: Received) -> object:
    trouble = troubles.pop(0) if troubles else None
    if trouble is LOCKED:
        return Answer({"jsonrpc": "2.0", "id": request.json["id"], "error": LOCKED})
    return trouble or working(request)


def main() -> None:
    strategy = presets.transient.extended(codes={2001}, idempotent="get_*")
    with LoopbackServer(handler) as server, Client(server.url, retry_strategy=strategy) as client:
        troubles[:] = [Answer(b"", status=503), LOCKED]
        print("a read goes again after HTTP 503 and the code 2001:", client.call("get_price", "ACME"))

        troubles[:] = [Answer(b"", status=429), LOCKED]
        print("a payment, too, where the server says that it did nothing:", client.call("pay", 100))

        troubles[:] = [RESET]
        try:
            client.call("pay", 20)
        except ConnectionLostError as error:
            print(f"and not where it says nothing: {error.delivery.value}")

        print("requests:", [body["method"] for body in server.bodies])


if __name__ == "__main__":
    main()
