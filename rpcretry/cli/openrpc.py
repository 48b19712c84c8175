"""``rpcretry openrpc``: a module of an OpenRPC document, read from a file, fetched, or asked of a server."""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import json
import re
import secrets
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from ..backends._target import MAX_RESPONSE_SIZE, Target, basic
from ..errors import MethodNotFoundError, RpcRetryError
from ..openrpc import DocumentError, generate
from ..openrpc._module import check_class_name, require
from . import PROTOCOL, RPC_ERROR, TRANSPORT, UNUSABLE
from ._ends import CommandError, writing
from ._inputs import Secrets, headers_of, target_of
from ._output import printable
from .call import exit_code, explain

__all__ = ["Invocation", "run"]

TIMEOUT = 30.0


@dataclasses.dataclass(frozen=True)
class Invocation:
    """What was asked for, as it stands on the command line.

    :ivar source: a file, ``-`` for standard input, or a URL.
    :ivar output: the file to write, or ``-`` for standard output.
    :ivar library: the HTTP library that asks the server, where there is one to ask.
    :ivar fetch: whether the URL is that of the document, whatever its path ends in.
    """

    source: str
    output: str
    library: str
    class_name: str | None = None
    line_length: int = 88
    force: bool = False
    fetch: bool = False
    headers: Sequence[str] = ()
    header_env: Sequence[str] = ()
    bearer_env: str | None = None
    timeout: float = TIMEOUT


def is_url(source: str) -> bool:
    """Whether it is no file. A wrong URL is none either, and may hold a key, which a message about a file would show."""
    return "://" in source or re.match(r"\s*(https?|env):", source) is not None


def run(asked: Invocation) -> None:
    """Write the module.

    :raises CommandError: where nothing was written.
    """
    target = None if asked.output == "-" else Path(asked.output)
    if target is not None and not asked.force and not _is_stream(target) and (target.exists() or target.is_symlink()):
        raise CommandError(f"{target} is there already; write over it with --force", UNUSABLE)
    try:
        require()
    except ImportError as problem:
        raise CommandError(str(problem), UNUSABLE) from None
    try:
        check_class_name(asked.class_name)
    except ValueError as problem:
        raise CommandError(printable(f"--class-name: {problem}"), UNUSABLE) from None
    where = "standard input" if asked.source == "-" else asked.source
    if is_url(asked.source):
        where, document = _from_url(asked)
    else:
        document = _parsed(_read(asked.source), where)
    try:
        module = generate(document, class_name=asked.class_name, line_length=asked.line_length)
    except DocumentError as problem:
        raise CommandError(printable(f"{where}: {problem}"), PROTOCOL) from None
    if target is None:
        # Python source is UTF-8, whatever the terminal's encoding is.
        sys.stdout.flush()
        sys.stdout.buffer.write(module.encode())
        sys.stdout.buffer.flush()
    else:
        _write(target, module)


def _read(path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as problem:
        raise CommandError(f"cannot read {path}: {problem.strerror or problem}", UNUSABLE) from None


def _parsed(body: bytes, where: str) -> Any:
    try:
        return json.loads(body.removeprefix(b"\xef\xbb\xbf"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as problem:
        reason = "it is nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        raise CommandError(printable(f"{where} holds no JSON: {reason}"), PROTOCOL) from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _is_stream(path: Path) -> bool:
    """Whether it is a device or a pipe, or another name of an open file: there is nothing to replace."""
    return path in (Path("/dev/stdout"), Path("/dev/stderr")) or path.is_relative_to("/dev/fd") or (path.exists() and not (path.is_file() or path.is_dir()))


def _write(given: Path, module: str) -> None:
    """Put the module in place as a whole, so that what was there stays where that fails."""
    with writing(given):
        if _is_stream(given):
            given.write_text(module, encoding="utf-8")
        else:
            _replace(given.resolve(), module)


def _replace(path: Path, module: str) -> None:
    # Not by tempfile: what that makes is for its owner alone, and stays so under its new name.
    beside = path.with_name(f".rpcretry-{secrets.token_hex(8)}")
    try:
        with beside.open("x", encoding="utf-8") as file:
            file.write(module)
        if path.exists():
            shutil.copymode(path, beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


# --- over HTTP ---


def _from_url(asked: Invocation) -> tuple[str, Any]:
    """What messages call the place, and the document from there."""
    hidden = Secrets()
    url = target_of(asked.source, hidden)
    headers = headers_of(asked.headers, asked.header_env, asked.bearer_env, hidden)
    try:
        target = Target.parse(url)
    except ValueError as problem:
        raise CommandError(str(problem), UNUSABLE) from None
    if asked.fetch or urlsplit(target.url).path.endswith(".json"):
        return target.host, _parsed(_fetched(target, headers, asked.timeout), target.host)
    try:
        return target.host, _discovered(url, headers, asked)
    except MethodNotFoundError:
        hint = "; give the URL of its document, with --fetch if its path does not end in .json"
        raise CommandError(f"{target.host} has no method rpc.discover{hint}", RPC_ERROR) from None
    except RpcRetryError as problem:
        raise CommandError(hidden.clean(explain(problem)), exit_code(problem)) from None
    except (TypeError, ValueError) as problem:
        raise CommandError(hidden.clean(printable(str(problem))), UNUSABLE) from None


def _discovered(url: str, headers: list[tuple[str, str]], asked: Invocation) -> Any:
    if asked.library == "aiohttp":
        return asyncio.run(_discovered_over_aiohttp(url, headers, asked.timeout))
    from ..backends.requests import Client

    with Client(url, headers=headers, timeout=asked.timeout) as client:
        return client.call("rpc.discover")


async def _discovered_over_aiohttp(url: str, headers: list[tuple[str, str]], timeout: float) -> Any:
    from ..backends.aiohttp import Client

    async with Client(url, headers=headers, timeout=timeout) as client:
        return await client.call("rpc.discover")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Takes the headers, in which there may be keys, nowhere else."""

    def redirect_request(self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str) -> None:
        return None


def _body(reply: http.client.HTTPResponse, ends_by: float) -> bytes:
    """The body, up to a little more than the largest that is taken."""
    body = bytearray()
    while len(body) <= MAX_RESPONSE_SIZE:
        # The socket's own limit begins anew with each byte.
        if time.monotonic() > ends_by:
            raise TimeoutError("timed out")
        piece = reply.read1(65_536)
        if not piece:
            if reply.length:
                raise http.client.IncompleteRead(bytes(body), reply.length)
            break
        body += piece
    return bytes(body)


def _fetched(target: Target, headers: list[tuple[str, str]], timeout: float) -> bytes:
    fields = dict(headers)
    if target.auth is not None and not any(name.lower() == "authorization" for name in fields):
        fields["Authorization"] = basic(target.auth)
    request = urllib.request.Request(target.url, headers={"Accept": "application/json", **fields})
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout) as reply:
            body = _body(reply, time.monotonic() + timeout)
    except urllib.error.HTTPError as problem:
        with problem:
            elsewhere = urlsplit(problem.headers.get("Location", "")).hostname
        to = f", a redirect to {elsewhere}; give the URL of the document itself" if 300 <= problem.code < 400 and elsewhere else ""
        raise CommandError(f"{target.host} answered with HTTP {problem.code}{to}", TRANSPORT) from None
    except (OSError, http.client.HTTPException) as problem:
        # A URLError shows nothing of the URL.
        reason = getattr(problem, "reason", None) or problem
        raise CommandError(printable(f"{target.host}: the document did not come: {reason}"), TRANSPORT) from None
    except ValueError as problem:
        raise CommandError(printable(str(problem)), UNUSABLE) from None
    if len(body) > MAX_RESPONSE_SIZE:
        raise CommandError(f"{target.host}: the document is larger than {MAX_RESPONSE_SIZE // 2**20} MiB", PROTOCOL)
    return body
