"""Giants and bombs: neither side holds them. A process of its own makes one exchange of each kind and says how much its memory has grown."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# What is left of growth when a client that holds 4 MB at the most meets hundreds.
MEBIBYTES = 40

PROGRAM = """
import json, resource, sys
sys.path.insert(0, sys.argv[1])
from wire import Wire
from rpcretry import RpcRetryError
from rpcretry.testing.faults import BadChunks, Chunked, FaultServer, GzipBomb, Huge

kind = sys.argv[2]
found = {}
with FaultServer({"add": lambda a, b: a + b}) as server, Wire(kind, server.url, max_response_size=4_000_000, timeout=2) as client:
    client.call("add", 1, 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for toxics in ([Huge()], [Huge(), Chunked(65_536)], [GzipBomb()], [GzipBomb(), Chunked(65_536)], [BadChunks("line")]):
        server.faults = toxics
        try:
            client.call("add", 1, 2)
        except RpcRetryError as problem:
            found[repr(toxics)] = type(problem).__name__
        server.faults = None
        assert client.call("add", 1, 2) == 3
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps([found, grown // 1024]))
"""


@pytest.mark.parametrize("kind", ["requests", "aiohttp"])
def test_neither_the_server_nor_the_client_holds_a_giant(kind: str) -> None:
    folder = str(Path(__file__).parent.parent / "backends")
    done = subprocess.run([sys.executable, "-c", PROGRAM, folder, kind], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found, grown = json.loads(done.stdout)
    endless = found.popitem()[1]
    assert set(found.values()) == {"ResponseTooLargeError"}
    assert len(found) == 4
    assert endless in ("ConnectionLostError", "RequestTimeoutError")
    assert grown < MEBIBYTES
