"""aria2 is killed and started again, and the program goes on. Needs aria2c; nothing is downloaded."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
import time

from rpcretry import Request, presets
from rpcretry.backends.requests import Client
from rpcretry.retry import PeriodicBackoff

TOKEN = "token:of-this-example"


class Server:
    """aria2c on a free port of 127.0.0.1."""

    def __init__(self) -> None:
        program = shutil.which("aria2c")
        if program is None:
            sys.exit("this example needs aria2c: apt-get install aria2, or see https://aria2.github.io")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        secret = TOKEN.removeprefix("token:")
        self.command = [program, "--no-conf", "--quiet", "--enable-rpc", f"--rpc-listen-port={self.port}", f"--rpc-secret={secret}"]

    def start(self) -> None:
        self.process = subprocess.Popen(self.command)
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        sys.exit("aria2c does not listen")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def main() -> None:
    server = Server()
    server.start()
    restart = threading.Timer(0.3, server.start)
    # The preset gives up after less than a second; a restart may take longer.
    strategy = presets.aria2.extended(backoff=PeriodicBackoff(attempts=100, interval=0.05))
    try:
        with Client(f"http://127.0.0.1:{server.port}/jsonrpc", retry_strategy=strategy) as client:
            print("waiting downloads:", client.call("aria2.tellWaiting", TOKEN, 0, 10))

            server.kill()
            restart.start()
            # Nobody listens, so nothing was sent, so even this goes again.
            response = client.send(Request("aria2.addUri", [TOKEN, ["http://127.0.0.1/file"], {"pause": "true"}]))
            print("added after the restart:", response.attempts > 1)

            calls = [{"methodName": f"aria2.{name}", "params": [TOKEN]} for name in ("getVersion", "getGlobalStat")]
            (_version,), (stat,) = client.call("system.multicall", calls)
            print("waiting downloads:", stat["numWaiting"])

            refused = client.send(Request("aria2.tellStatus", [TOKEN, "ffffffffffffffff"]))
            print(f"asked once: {refused.error}, attempts: {refused.attempts}")
    finally:
        if restart.ident is not None:
            restart.join()
        server.kill()


if __name__ == "__main__":
    main()
