"""A node with a limit on a bad day. A transaction is never sent twice by accident; a question is asked until it is answered."""

from __future__ import annotations

import asyncio

from rpcretry import ConnectionLostError, presets
from rpcretry.backends.aiohttp import Client
from rpcretry.retry import ImmediateBackoff
from rpcretry.testing import RESET, Answer, LoopbackServer, Received, rpc

sent: list[str] = []


def send(raw: str) -> str:
    sent.append(raw)
    return "0x5c50"


node = rpc({"eth_blockNumber": lambda: "0x10d4f", "eth_sendRawTransaction": send})
troubles: list[object] = []


def handler(request: Received) -> object:
    """Answers as QuickNode and Alchemy do over their limit; RESET does the work first, and loses the answer."""
    trouble = troubles.pop(0) if troubles else None
    if isinstance(trouble, int):
        return Answer({"jsonrpc": "2.0", "id": request.json["id"], "error": {"code": trouble, "message": "over the limit"}})
    if trouble is RESET:
        node(request)
    return trouble or node(request)


async def main() -> None:
    # The preset waits for seconds, as the limits of public nodes ask for; nobody has to wait here.
    strategy = presets.ethereum.extended(backoff=ImmediateBackoff(attempts=4))
    with LoopbackServer(handler) as server:
        async with Client(server.url, retry_strategy=strategy) as client:
            troubles[:] = [-32007, 429, RESET, Answer(b"", status=502)]
            print("block", int(await client.proxy.eth_blockNumber(), 16), "after", len(server.requests), "attempts")

            troubles[:] = [-32005]
            print("a transaction over the limit goes again:", await client.proxy.eth_sendRawTransaction("0x02f8"))

            troubles[:] = [RESET]
            try:
                await client.proxy.eth_sendRawTransaction("0x02f9")
            except ConnectionLostError as error:
                print(f"one whose answer is lost does not: {error.delivery.value}")
            print("sent:", sent)

            # The bytes of a signed transaction have one hash, so the chain takes them once. Who relies on it says so.
            mine = strategy.extended(idempotent="eth_sendRawTransaction")
            troubles[:] = [RESET]
            print("unless you say that it may:", await client.call("eth_sendRawTransaction", "0x02fa", _retry_strategy=mine))
            print("sent:", sent)


if __name__ == "__main__":
    asyncio.run(main())
