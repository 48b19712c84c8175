"""A JSON-RPC server for benchmarks: as little work for each request as asyncio allows, in a process of its own.

``sum`` is answered by 3 whatever its params are, ``large`` by about a megabyte, and ``models`` by a thousand objects. With
``--flaky SECONDS`` it answers ``echo`` by its first param, turns half of the requests of the first seconds away with HTTP 503, and
says at its end what it counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import time

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
ID = re.compile(rb'"id": ?(\d+|"[^"]*")')


def records(count: int) -> list[dict[str, object]]:
    """Accounts, as a server would send them."""
    return [
        {"id": number, "owner": f"customer {number}", "balance": number * 1.25, "currency": "EUR", "tags": ["private", "checked"], "active": number % 7 != 0}
        for number in range(count)
    ]


MODELS = records(1_000)
LARGE = records(8_700)
RESULTS = {b'"models"': json.dumps(MODELS).encode(), b'"large"': json.dumps(LARGE).encode()}


class Server(asyncio.Protocol):
    def __init__(self) -> None:
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            found = LENGTH.search(self.buffer[: end + 2])
            total = end + 4 + (int(found[1]) if found else 0)
            if len(self.buffer) < total:
                return
            request, self.buffer = self.buffer[:total], self.buffer[total:]
            self.answer(request, end)

    def answer(self, request: bytes, end: int) -> None:
        ids = ID.findall(request, end)
        result = b"3"
        if request.find(b'"sum"', end) < 0:
            result = next((text for method, text in RESULTS.items() if request.find(method, end) >= 0), result)
        body = b",".join([b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id, result) for id in ids])
        if request.startswith(b"[", end + 4):
            body = b"[%b]" % body
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


class Flaky(Server):
    """Turns half of the requests away until its time is over; the time begins with the first one."""

    seconds = 0.0
    begun = 0.0
    requests = refused = 0
    chance = random.Random(7)

    def answer(self, request: bytes, end: int) -> None:
        now = time.monotonic()
        cls = type(self)
        cls.begun = cls.begun or now
        cls.requests += 1
        if now - cls.begun < self.seconds and self.chance.random() < 0.5:
            cls.refused += 1
            self.transport.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbusy")
            return
        document = json.loads(request[end + 4 :])
        body = json.dumps({"jsonrpc": "2.0", "id": document["id"], "result": document["params"][0]}).encode()
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


async def main(kind: type[Server]) -> None:
    server = await asyncio.get_running_loop().create_server(kind, "127.0.0.1", 0, backlog=2_048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(json.dumps({"requests": Flaky.requests, "refused": Flaky.refused}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flaky", type=float, metavar="SECONDS", help="turn half of the requests away for so long")
    given = parser.parse_args()
    if given.flaky is not None:
        Flaky.seconds = given.flaky
    asyncio.run(main(Server if given.flaky is None else Flaky))
