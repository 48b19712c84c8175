"""Odoo: everything is the method "call", so the params tell a read from a write."""

from __future__ import annotations

from typing import Any

from rpcretry import ConnectionLostError, JsonRpcError, presets
from rpcretry.backends.requests import Client
from rpcretry.testing import RESET, Answer, LoopbackServer, Received

troubles: list[object] = []
partners = {7: "Ada"}


def serve(service: str, method: str, args: list[Any]) -> Any:
    if service == "common":
        return 2 if method == "login" else {"server_version": "17.0"}
    _db, _uid, _password, _model, verb, parameters = args[:6]
    if verb == "write":
        partners[7] = parameters[1]["name"]
        return True
    return [{"id": 7, "name": partners[7]}]


def handler(request: Received) -> object:
    """Answers in Odoo's form; RESET does the work first, and loses the answer."""
    trouble = troubles.pop(0) if troubles else None
    if isinstance(trouble, str):
        data = {"name": trouble, "message": "could not serialize access due to concurrent update", "arguments": [], "context": {}, "debug": "Traceback ..."}
        return Answer({"jsonrpc": "2.0", "id": request.json["id"], "error": {"code": 200, "message": "Odoo Server Error", "data": data}})
    if isinstance(trouble, Answer):
        return trouble
    result = serve(**request.json["params"])
    return trouble or Answer({"jsonrpc": "2.0", "id": request.json["id"], "result": result})


def main() -> None:
    with LoopbackServer(handler) as server, Client(server.url, retry_strategy=presets.odoo) as client:

        def execute(model: str, method: str, *args: Any) -> Any:
            return client.call("call", service="object", method="execute_kw", args=["shop", uid, "secret", model, method, list(args)])

        uid = client.call("call", service="common", method="login", args=["shop", "admin", "secret"])
        before = len(server.requests)
        troubles[:] = [Answer(b"<html>", status=502), "psycopg2.errors.SerializationFailure", RESET]
        print(execute("res.partner", "search_read", []), "after", len(server.requests) - before, "attempts")

        troubles[:] = [RESET]
        try:
            execute("res.partner", "write", [7], {"name": "Ada Lovelace"})
        except ConnectionLostError as error:
            print(f"the write: {error.delivery.value}; look before you write again")
        print(execute("res.partner", "read", [7]))

        troubles[:] = ["odoo.exceptions.AccessError"]
        try:
            execute("res.partner", "read", [7])
        except JsonRpcError as error:
            print(f"no access, asked once: {error}")


if __name__ == "__main__":
    main()
