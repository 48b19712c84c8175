"""Debian's nginx on loopback, before an upstream that does what a test says."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import trustme

from rpcretry.testing import RESET, Answer, LoopbackServer, Received, rpc

RETRY_AFTER = 7
UNTIL = "Wed, 21 Oct 2037 07:28:00 GMT"
UNTIL_SECONDS = 2_139_722_880
SORRY = "<html><head><title>Sorry</title></head><body>We are back soon.</body></html>"

# $http_x_tag keeps the tests apart: what one uses up of a limit is nothing to the others.
CONFIG = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 512; }}
http {{
    log_format front '$pid $connection $status $http_x_tag';
    access_log {folder}/access.log front;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type text/html;

    limit_req_zone $http_x_tag zone=seldom:1m rate=1r/m;
    limit_req_zone $limited zone=limited:1m rate=1r/m;
    limit_req_zone $http_x_tag zone=often:1m rate=20r/s;
    limit_conn_zone $http_x_tag zone=single:1m;
    map $status $later {{ 503 {retry_after}; default ""; }}
    upstream half {{
        server 127.0.0.1:{dead} max_fails=0;
        server 127.0.0.1:{upstream} max_fails=0;
    }}

    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{tls_port} ssl;
        ssl_certificate {folder}/server.pem;
        ssl_certificate_key {folder}/server.pem;
        root {folder}/pages;
        proxy_http_version 1.1;
        proxy_set_header Connection "";

        location / {{ proxy_pass http://127.0.0.1:{upstream}; }}
        location /dead {{ proxy_pass http://127.0.0.1:{dead}; }}
        location /half {{ proxy_pass http://half; }}
        location /slow {{ proxy_pass http://127.0.0.1:{upstream}; proxy_read_timeout 1s; }}
        location /dies {{ proxy_pass http://127.0.0.1:{upstream}; proxy_buffering off; }}
        location /single {{ limit_conn single 1; proxy_pass http://127.0.0.1:{upstream}; }}
        location /seldom {{ limit_req zone=seldom; proxy_pass http://127.0.0.1:{upstream}; }}
        location /limited {{
            set $limited "";
            if (-f {folder}/closed-$http_x_tag) {{ set $limited $http_x_tag; }}
            limit_req zone=limited; limit_req_status 429; proxy_pass http://127.0.0.1:{upstream};
        }}
        location /often {{ limit_req zone=often; limit_req_status 429; proxy_pass http://127.0.0.1:{upstream}; }}
        location /twice {{ keepalive_requests 2; proxy_pass http://127.0.0.1:{upstream}; }}
        location /brief {{ keepalive_timeout 1s; proxy_pass http://127.0.0.1:{upstream}; }}
        location /small {{ client_max_body_size 1k; proxy_pass http://127.0.0.1:{upstream}; }}
        location /hangup {{ return 444; }}
        location /moved {{ return 301 http://user:s3cret@elsewhere.invalid/k3y?token=s3cret; }}
        location /page.html {{ }}
        location /gzip {{
            gzip on; gzip_proxied any; gzip_types application/json; gzip_min_length 1;
            proxy_pass http://127.0.0.1:{upstream};
        }}
        location /closed {{
            add_header Retry-After $later always;
            if (-f {folder}/closed-$http_x_tag) {{ return 503; }}
            proxy_pass http://127.0.0.1:{upstream};
        }}
        location /until {{ add_header Retry-After "{until}" always; return 503; }}
        location /dressed {{
            proxy_intercept_errors on;
            error_page 500 502 /sorry.html;
            proxy_pass http://127.0.0.1:{upstream};
        }}
        location /glossed {{ error_page 502 =200 /sorry.html; proxy_pass http://127.0.0.1:{dead}; }}
        location = /sorry.html {{ internal; }}
    }}
}}
"""


class Upstream:
    """What stands behind the front: a JSON-RPC server, and on some paths one that misbehaves.

    :ivar executed: how often each method was executed with each first param, by the caller's tag.
    :ivar gate: what ``hold`` waits for.
    :ivar held: is set when ``hold`` has begun.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.executed: Counter[tuple[str, str, Any]] = Counter()
        self.gate, self.held = threading.Event(), threading.Event()
        self._work = rpc({name: lambda param=None: param for name in ("pay", "get", "log")} | {"hold": self._hold})
        self._troubles: dict[str, Callable[[Received], Any]] = {
            "/quits": lambda _: None,
            "/dies": lambda _: [b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"jsonrpc": "2.0", ', 0.05, RESET],
            "/dies/chunked": lambda _: [b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"jso\r\n', 0.05, None],
            "/dies/unmeasured": lambda _: [b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"jsonrpc": "2.0", ', 0.05, None],
            "/slow": lambda _: 1.6,
            "/dressed": lambda request: Answer({"jsonrpc": "2.0", "id": request.json["id"], "error": {"code": 2002, "message": "no"}}, status=500),
        }
        self._troubles["/undressed"] = self._troubles["/dressed"]

    def __call__(self, received: Received) -> Any:
        document = received.json
        with self._lock:
            for request in document if isinstance(document, list) else [document]:
                params = request.get("params") or [None]
                first = next(iter(params.values() if isinstance(params, dict) else params))
                self.executed[received.headers.get("x-tag", ""), request["method"], tuple(first) if isinstance(first, list) else first] += 1
        trouble = self._troubles.get(received.path)
        return self._work(received) if trouble is None else trouble(received)

    def _hold(self) -> bool:
        self.held.set()
        return self.gate.wait(30)

    def of(self, tag: str, method: str) -> Counter[Any]:
        """How often *method* was executed with each first param."""
        with self._lock:
            return Counter({param: count for (by, name, param), count in self.executed.items() if (by, name) == (tag, method)})


class Line(NamedTuple):
    """A request that the front logged: the process and the connection that it came over, the status and the tag."""

    pid: str
    connection: str
    status: int
    tag: str


class Nginx:
    """A front with a free port of its own. It needs no rights: all that it writes goes into *folder*."""

    def __init__(self, program: str, folder: Path, upstream: LoopbackServer) -> None:
        self.program = program
        self.folder = folder
        self.upstream = upstream
        self.authority = trustme.CA()
        self.trusted = str(folder / "authority.pem")
        self.authority.cert_pem.write_to_path(self.trusted)
        self.authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
        (folder / "pages").mkdir()
        (folder / "pages" / "sorry.html").write_text(SORRY)
        (folder / "pages" / "page.html").write_text("<html></html>")
        # Bound and never listening: connections are refused, and nobody else gets the port.
        self._dead = socket.socket()
        self._dead.bind(("127.0.0.1", 0))
        self._sentinels = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Nginx:
        for _ in range(5):
            self._configure()
            with contextlib.suppress(RuntimeError):
                self.start()
                return self
        raise RuntimeError(f"nginx did not start: {self.errors()}")

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._dead.close()

    def _configure(self) -> None:
        self.port, self.tls_port = free_ports(2)
        config = CONFIG.format(
            user="user root;" if os.geteuid() == 0 else "",
            folder=self.folder,
            port=self.port,
            tls_port=self.tls_port,
            upstream=self.upstream.port,
            dead=self._dead.getsockname()[1],
            retry_after=RETRY_AFTER,
            until=UNTIL,
        )
        (self.folder / "nginx.conf").write_text(config)

    def url(self, path: str = "/", *, tls: bool = False) -> str:
        return f"http{'s' if tls else ''}://127.0.0.1:{self.tls_port if tls else self.port}{path}"

    def trust(self, kind: str) -> dict[str, Any]:
        """The client's option that trusts the front's certificate."""
        if kind == "requests":
            return {"verify": self.trusted}
        import ssl

        return {"ssl": ssl.create_default_context(cafile=self.trusted)}

    # --- running ---

    def _command(self, *more: str) -> list[str]:
        return [self.program, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf"), "-e", str(self.folder / "error.log"), *more]

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(self._command(), start_new_session=True, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._sentinel("start")
                return
            time.sleep(0.02)
        self.kill()
        raise RuntimeError("nginx did not start")

    def kill(self) -> None:
        """End master and worker at once, as a power cut would."""
        process, self._process = self._process, None
        if process is not None:
            # Its own session: the worker outlives a master that is killed alone.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def reload(self) -> None:
        """Have it start a new worker, and wait for that; the old one finishes what it has begun."""
        before = self._worker()
        done = subprocess.run(self._command("-s", "reload"), check=False, capture_output=True, text=True, timeout=30)
        if done.returncode:
            raise RuntimeError(f"nginx -s reload: {done.stderr}")
        until = time.monotonic() + 20
        while self._worker() == before:
            if time.monotonic() > until:
                raise RuntimeError(f"nginx did not reload: {self.errors()}")

    def _worker(self) -> str:
        return self._seen(f"worker-{next(self._sentinels)}")[-1].pid

    # --- what it saw ---

    def errors(self) -> str:
        path = self.folder / "error.log"
        return path.read_text()[-2_000:] if path.exists() else "no log"

    def log(self, tag: str) -> list[Line]:
        """The requests with that tag, all that were begun before."""
        # A worker works in order: when this one is logged, those before it are.
        return [line for line in self._seen(f"sentinel-{next(self._sentinels)}") if line.tag == tag]

    def _seen(self, mark: str) -> list[Line]:
        """All lines up to that of a request that is made now."""
        self._sentinel(mark)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            rows = [line.split(" ", 3) for line in (self.folder / "access.log").read_text().splitlines()]
            marks = [place for place, row in enumerate(rows) if row[3] == mark]
            if marks:
                return [Line(row[0], row[1], int(row[2]), row[3]) for row in rows[: marks[0] + 1]]
            time.sleep(0.005)
        raise RuntimeError("nginx did not log the sentinel")

    def _sentinel(self, mark: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/page.html", headers={"X-Tag": mark})
            connection.getresponse().read()
        finally:
            connection.close()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listened on a moment ago."""
    # Not from among those that the system gives to clients: one that calls a server while it is down could get its very port, and
    # be connected to itself.
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(10_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found
