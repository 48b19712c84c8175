"""Exception classes of one's own for the codes of one service."""

from __future__ import annotations

from typing import Any

from rpcretry import JsonRpcError, ServerError
from rpcretry.backends.requests import Client
from rpcretry.testing import Answer, LoopbackServer, Received


class ShopError(JsonRpcError):
    """What the shop answers with a code of its own."""

    CODE = range(2000, 3000)


class OutOfStock(JsonRpcError):
    """There is nothing left.

    :ivar data: when there will be more, in days.
    """

    CODE = 2001

    @property
    def days(self) -> int:
        data: Any = self.data
        return int(data["days"])


ERRORS = {
    "buy": {"code": 2001, "message": "out of stock", "data": {"days": 3}},
    "refund": {"code": 2417, "message": "no refund after 30 days"},
    "report": {"code": -32050, "message": "the database is gone"},
}


def handler(request: Received) -> Answer:
    # Like many servers, this one wraps its errors in an HTTP status.
    return Answer({"jsonrpc": "2.0", "id": request.json["id"], "error": ERRORS[request.json["method"]]}, status=500)


def main() -> None:
    with LoopbackServer(handler) as server, Client(server.url, errors=[ShopError, OutOfStock]) as shop:
        try:
            shop.call("buy", "lamp")
        except OutOfStock as error:
            print(f"{type(error).__name__}: more in {error.days} days")
        try:
            shop.call("refund", 17)
        except ShopError as error:
            print(f"{type(error).__name__}: {error.message}, code {error.code}, HTTP {error.status}")
        try:
            shop.call("report")
        except ServerError as error:
            print(f"{type(error).__name__}: {error}")

        # The classes are this client's alone.
        with Client(server.url) as other:
            try:
                other.call("buy", "lamp")
            except JsonRpcError as error:
                print(f"another client: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
