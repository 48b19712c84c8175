"""The first calls: params by position and by name, a notification, a typed result, an error of the server.

The server is a toy that runs in this process; put the URL of yours in its place.
"""

from __future__ import annotations

import dataclasses
import datetime

import rpcretry
from rpcretry.backends.requests import Client
from rpcretry.testing import LoopbackServer, rpc


@dataclasses.dataclass
class User:
    id: int
    name: str
    born: datetime.date


def get_user(id: int) -> dict[str, object]:
    return {"id": id, "name": "Ada Lovelace", "born": "1815-12-10"}


def main() -> None:
    methods = rpc({"sum": lambda a, b: a + b, "tick": lambda: None, "get_user": get_user})
    with LoopbackServer(methods) as server, Client(server.url) as client:
        print("by position:", client.call("sum", 1, 2))
        print("by name:    ", client.call("sum", a=1, b=2))
        print("as a method:", client.proxy.sum(1, 2))

        client.notify("tick")

        user = client.call("get_user", 7, _result=User)
        print(f"typed:       {user.name}, born in {user.born.year}")

        response = client.send(rpcretry.Request("sum", params=[1, 2], id="mine"))
        print(f"the whole:   id {response.id}, result {response.result}, HTTP {response.status}")

        try:
            client.call("summ", 1, 2)
        except rpcretry.MethodNotFoundError as error:
            print(f"an error:    {error}")


if __name__ == "__main__":
    main()
