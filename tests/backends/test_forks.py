"""A client that was used, and then the process forks: as servers do that load the program once for all their workers."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from rpcretry.backends.requests import Client
from rpcretry.testing import LoopbackServer, rpc

# Without a thread beside it, since a process with threads should not fork.
FORKING = """
import os, sys
from rpcretry.backends.requests import Client

url, verify, workers, calls = sys.argv[1], sys.argv[2] or True, 3, 60
client = Client(url, verify=verify, timeout=10)
assert client.call("echo", "parent") == "parent"
pids = []
for worker in range(workers):
    pid = os.fork()
    if pid == 0:
        wrong = 0
        for number in range(calls):
            try:
                wrong += client.call("echo", f"{worker}.{number}") != f"{worker}.{number}"
            except Exception:
                wrong += 1
        os._exit(min(wrong, 100))
    pids.append(pid)
wrong = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
print(wrong, client.call("echo", "still here"))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("secure", [False, True])
def test_processes_that_were_forked_do_not_share_a_connection(secure: bool, tmp_path: Path) -> None:
    context, verify = None, ""
    if secure:
        authority, context, verify = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), str(tmp_path / "ca.pem")
        authority.issue_cert("127.0.0.1").configure_cert(context)
        authority.cert_pem.write_to_path(verify)
    with LoopbackServer(rpc({"echo": lambda word: word}), tls=context) as server:
        found = subprocess.run([sys.executable, "-c", FORKING, server.url, verify], capture_output=True, text=True, timeout=60, check=False)
        assert (found.stdout, found.stderr) == ("[0, 0, 0] still here\n", "")
        # One for each process: that of the parent is still the one that it began with.
        assert server.connections == 4


def test_a_connection_is_used_again_in_the_process_that_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackServer(rpc({"echo": lambda word: word})) as server, Client(server.url) as client:
        client.call("echo", 1)
        client.call("echo", 2)
        assert server.connections == 1
        monkeypatch.setattr(os, "getpid", lambda: -1)
        client.call("echo", 3)
        client.call("echo", 4)
        assert server.connections == 2
