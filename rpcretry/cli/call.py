"""``rpcretry call``: one request, notification or batch, and what came of it."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import ssl
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from .._unset import UNSET
from ..errors import (
    DeadlineExceeded,
    HTTPStatusError,
    InvalidTargetError,
    JsonRpcError,
    ProtocolError,
    RpcRetryError,
    TransportError,
)
from ..messages import BatchRequest, BatchResponse, Request, Response
from ..retry import RetryStrategy
from . import PROTOCOL, RPC_ERROR, TRANSPORT, UNUSABLE
from ._ends import CommandError
from ._exact import ExactCodec, write
from ._inputs import Secrets, basic_auth, headers_of, params_of, params_of_text, read_batch, target_of
from ._output import printable, put
from .attempts import PlainLines, make_lines
from .specs import SpecError, parse_backoff, parse_causes

__all__ = ["Invocation", "run"]

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Invocation:
    """What was asked for, as it stands on the command line.

    :ivar library: the HTTP library.
    :ivar indent: spaces for each level of the result; ``None`` for one line.
    """

    url: str
    method: str | None
    params: Sequence[str]
    library: str
    params_text: str | None = None
    batch: str | None = None
    notify: bool = False
    headers: Sequence[str] = ()
    header_env: Sequence[str] = ()
    bearer_env: str | None = None
    auth_env: str | None = None
    timeout: float | None = None
    deadline: float | None = None
    retry: bool = False
    backoff: str | None = None
    on: str | None = None
    idempotent: bool = False
    max_batch_size: int | None = None
    insecure: bool = False
    cacert: str | None = None
    raw: bool = False
    indent: int | None = 2
    verbose: bool = False


def run(asked: Invocation) -> int:
    """Make the call and print what came of it.

    :returns: the exit code.
    :raises CommandError: where there is nothing to print on standard output.
    """
    secrets, codec = Secrets(), ExactCodec()
    requests, is_array = _requests(asked)
    lines = make_lines(sys.stderr) if asked.verbose else None
    try:
        url, options = _client_options(asked, secrets, lines)
        found = _send(asked, url, requests, {**options, "codec": codec})
    except RpcRetryError as problem:
        raise CommandError(secrets.clean(explain(problem)), exit_code(problem)) from None
    finally:
        if lines is not None:
            lines.break_off()
    if isinstance(found, BatchResponse):
        answers = [_answer(response, codec if asked.raw else None, secrets) for response in found]
        if is_array:
            put(write(answers, asked.indent))
        elif answers:
            put("\n".join(map(write, answers)))
        return RPC_ERROR if found.is_error else 0
    if asked.notify:
        return 0
    if asked.raw:
        put(write(codec.last, asked.indent))
    if found.error is not None:
        raise CommandError(secrets.clean(explain(found.error)), exit_code(found.error))
    if not asked.raw:
        put(write(found.result, asked.indent))
    return 0


def exit_code(error: RpcRetryError | Exception) -> int:
    """The exit code that says of what kind *error* is."""
    if isinstance(error, JsonRpcError):
        return RPC_ERROR
    if isinstance(error, InvalidTargetError):
        return UNUSABLE
    return PROTOCOL if isinstance(error, ProtocolError) else TRANSPORT


def explain(error: Exception) -> str:
    """What *error* is, in a line, and a second one where there is more to say."""
    if isinstance(error, JsonRpcError):
        message = f"error {error.code}: {error.message}" if error.message else f"error {error.code}"
        lines = [f"the server answered with {message}", *([] if error.data is UNSET else [f"data: {write(error.data)}"])]
    else:
        # Of a protocol error nothing is known that its name does not say.
        fate = f", {error.delivery.value}" if isinstance(error, (TransportError, HTTPStatusError, DeadlineExceeded)) else ""
        lines = [f"{str(error) or type(error).__name__} ({type(error).__name__}{fate})"]
    cause = error.__cause__
    if isinstance(error, DeadlineExceeded) and isinstance(cause, RpcRetryError):
        lines.append(f"the last failure before it: {str(cause) or type(cause).__name__} ({type(cause).__name__})")
    lines += [note.removeprefix("rpcretry: ") for note in getattr(error, "__notes__", ())]
    return "\n  ".join(map(printable, lines))


def _requests(asked: Invocation) -> tuple[Request | BatchRequest, bool]:
    """What to send, and whether the answer to a batch is to be an array."""
    if asked.batch is not None:
        if asked.method is not None or asked.params_text is not None or asked.notify:
            raise CommandError("--batch takes methods and params from its file; leave METHOD, params and --notify out", UNUSABLE)
        requests, is_array = read_batch(asked.batch)
        return _usable(lambda: BatchRequest(*requests)), is_array
    method = asked.method
    if method is None:
        raise CommandError("METHOD is missing; write: rpcretry call URL METHOD, or --batch FILE", UNUSABLE)
    if asked.params_text is not None and asked.params:
        raise CommandError("give the params as arguments or by --params, not both", UNUSABLE)
    params = params_of(asked.params) if asked.params_text is None else params_of_text(asked.params_text)
    # The id is the client's: 1.
    request = _usable(lambda: Request(method, params, None) if asked.notify else Request(method, params))
    return request, False


def _strategy(asked: Invocation) -> RetryStrategy | None:
    if not (asked.retry or asked.on is not None or asked.backoff is not None):
        if asked.idempotent:
            raise CommandError("--idempotent says what may be repeated; add --retry, --on or --backoff", UNUSABLE)
        return None
    given: dict[str, Any] = {"idempotent": True} if asked.idempotent else {}
    try:
        if asked.backoff is not None:
            given["backoff"] = parse_backoff(asked.backoff)
        if asked.on is not None:
            given |= {name: found for name, found in parse_causes(asked.on)._asdict().items() if found}
    except SpecError as problem:
        raise CommandError(str(problem), UNUSABLE) from None
    return RetryStrategy(**given)


def _usable(make: Callable[[], T]) -> T:
    """What *make* makes. What it refuses is the user's."""
    try:
        return make()
    except (TypeError, ValueError) as problem:
        raise CommandError(printable(str(problem)), UNUSABLE) from None


def _client_options(asked: Invocation, secrets: Secrets, lines: PlainLines | None) -> tuple[str, dict[str, Any]]:
    """The URL, and what both clients take."""
    url = target_of(asked.url, secrets)
    for option, seconds in (("--timeout", asked.timeout), ("--deadline", asked.deadline)):
        if seconds is not None and not 0 < seconds < math.inf:
            raise CommandError(
                f"{option} takes seconds, more than 0, got {seconds:g}; leave it out for {'30 s' if option == '--timeout' else 'no limit'}", UNUSABLE
            )
    if asked.cacert is not None and not Path(asked.cacert).is_file():
        raise CommandError(f"--cacert: there is no file {asked.cacert}", UNUSABLE)
    options: dict[str, Any] = {
        "headers": headers_of(asked.headers, asked.header_env, asked.bearer_env, secrets),
        "auth": None if asked.auth_env is None else basic_auth(asked.auth_env, secrets),
        "retry_strategy": _strategy(asked),
        "deadline": asked.deadline,
        "max_batch_size": asked.max_batch_size,
        "on_event": () if lines is None else lines.event,
    }
    if asked.timeout is not None:
        options["timeout"] = asked.timeout
    return url, options


def _send(asked: Invocation, url: str, request: Request | BatchRequest, options: dict[str, Any]) -> Any:
    if asked.library == "aiohttp":
        return asyncio.run(_over_aiohttp(asked, url, request, options))
    from ..backends.requests import Client

    # The user said so, and reads one line of it in --help instead of one for each connection.
    warnings.filterwarnings("ignore", message="Unverified HTTPS request")
    verify = asked.cacert if asked.cacert is not None else not asked.insecure
    with _usable(lambda: Client(url, verify=verify, **options)) as client:
        return client.send(request)


async def _over_aiohttp(asked: Invocation, url: str, request: Request | BatchRequest, options: dict[str, Any]) -> Any:
    from ..backends.aiohttp import Client

    def make() -> Client:
        trusted: bool | ssl.SSLContext = not asked.insecure
        if asked.cacert is not None:
            try:
                trusted = ssl.create_default_context(cafile=asked.cacert)
            except OSError as problem:
                raise ValueError(f"--cacert: {asked.cacert} holds no certificates: {problem}") from None
        return Client(url, ssl=trusted, **options)

    async with _usable(make) as client:
        return await client.send(request)


def _answer(response: Response[Any], codec: ExactCodec | None, secrets: Secrets) -> dict[str, Any]:
    """What is printed of one request of a batch: the server's own object where there is a codec that kept it."""
    error = response.error
    if codec is not None and response.id in codec.answers and (error is None or isinstance(error, JsonRpcError)):
        return codec.answers[response.id]
    answer: dict[str, Any] = {"id": response.id}
    if error is None:
        answer["result"] = response.result
    elif isinstance(error, JsonRpcError):
        answer["error"] = {"code": error.code, "message": error.message, **({} if error.data is UNSET else {"data": error.data})}
    else:
        answer["error"] = {"type": type(error).__name__, "message": secrets.clean(str(error))}
    return answer
