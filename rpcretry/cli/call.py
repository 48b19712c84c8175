"""``rpcretry call``: one request, notification or batch, and what came of it."""

from __future__ import annotations

import asyncio
import ssl
import sys
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from .._specs import SpecError, parse_backoff, parse_causes
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
from ..events import AttemptStarted, Event, Sink
from ..messages import BatchRequest, BatchResponse, Request, Response
from ..retry import RetryStrategy
from . import INTERRUPTED, PROTOCOL, RPC_ERROR, TRANSPORT, UNUSABLE
from ._ends import CommandError, ending
from ._exact import ExactCodec, write
from ._inputs import Secrets, basic_auth, headers_of, in_locale, params_of, params_of_text, read_batch, target_of
from ._options import Invocation
from ._output import printable, put
from .attempts import NOT_DECLARED, Watch, make_lines

__all__ = ["exit_code", "explain", "run"]

T = TypeVar("T")


class _UnderWay:
    """A client's sink that knows whether an attempt is under way."""

    def __init__(self) -> None:
        self.is_so = False

    def __call__(self, event: Event) -> None:
        self.is_so = isinstance(event, AttemptStarted)


def run(asked: Invocation, library: str) -> int:
    """Make the call and print what came of it.

    :param library: the HTTP library, ``requests`` or ``aiohttp``.
    :returns: the exit code.
    :raises CommandError: where there is nothing to print on standard output.
    """
    secrets, codec = Secrets(), ExactCodec()
    request, is_array = _requests(asked, secrets)
    watch = Watch(make_lines(sys.stderr), len(request) if isinstance(request, BatchRequest) else 1) if asked.verbose else None
    under_way = _UnderWay()
    indent = None if asked.compact else 2
    try:
        url, options = _client_options(asked, secrets, [under_way] if watch is None else [under_way, watch])
        send = _over_aiohttp if library == "aiohttp" else _over_requests
        found = send(asked, url, request, {**options, "codec": codec}, secrets)
    except RpcRetryError as problem:
        raise CommandError(secrets.clean(explain(problem, may_add_idempotent=not asked.notify)), exit_code(problem)) from None
    except KeyboardInterrupt:
        if not under_way.is_so:
            raise
        raise CommandError("interrupted while an attempt was under way; the server may have executed it", INTERRUPTED) from None
    finally:
        if watch is not None:
            watch.break_off()
    if isinstance(found, BatchResponse):
        answers = [_answer(response, codec if asked.raw else None, secrets) for response in found]
        if is_array:
            _put(write(answers, indent))
        elif answers:
            _put("\n".join(map(write, answers)))
        if watch is not None:
            watch.count([response.error for response in found if response.error is not None])
        return RPC_ERROR if found.is_error else 0
    if asked.notify:
        return 0
    if asked.raw:
        _put(write(codec.last, indent))
    if found.error is not None:
        raise CommandError(secrets.clean(explain(found.error)), exit_code(found.error))
    if not asked.raw:
        _put(write(found.result, indent))
    return 0


def _put(text: str) -> None:
    """Print what came of the call, which cannot be undone where that fails."""
    with ending("the call was made, but its result could not be written"):
        put(text)


def exit_code(error: RpcRetryError | Exception) -> int:
    """The exit code that says of what kind *error* is."""
    if isinstance(error, JsonRpcError):
        return RPC_ERROR
    if isinstance(error, InvalidTargetError):
        return UNUSABLE
    return PROTOCOL if isinstance(error, ProtocolError) else TRANSPORT


def explain(error: Exception, *, may_add_idempotent: bool = False) -> str:
    """What *error* is, in a line, and more of them where there is more to say.

    :param may_add_idempotent: whether there is an option to declare the method idempotent.
    """
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
    hint = f"{NOT_DECLARED}; add --idempotent if it may be executed twice" if may_add_idempotent else NOT_DECLARED
    lines += [note.removeprefix("rpcretry: ").replace(NOT_DECLARED, hint) for note in getattr(error, "__notes__", ())]
    return "\n  ".join(map(printable, lines))


def _requests(asked: Invocation, secrets: Secrets) -> tuple[Request | BatchRequest, bool]:
    """What to send, and whether the answer to a batch is to be an array."""
    if asked.batch is not None:
        if asked.method is not None or asked.params_text is not None or asked.notify:
            raise CommandError("--batch takes methods and params from its file; leave METHOD, params and --notify out", UNUSABLE)
        requests, is_array = read_batch(asked.batch)
        return _usable(lambda: BatchRequest(*requests), secrets), is_array
    method = asked.method
    if method is None:
        raise CommandError("METHOD is missing; write: rpcretry call URL METHOD, or --batch FILE", UNUSABLE)
    in_locale("METHOD", method)
    if asked.params_text is not None and asked.params:
        raise CommandError("give the params as arguments or by --params, not both", UNUSABLE)
    params = params_of(asked.params or ()) if asked.params_text is None else params_of_text(asked.params_text)
    # The id is the client's: 1.
    request = _usable(lambda: Request(method, params, None) if asked.notify else Request(method, params), secrets)
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


def _usable(make: Callable[[], T], secrets: Secrets) -> T:
    """What *make* makes. What it refuses is the user's."""
    try:
        return make()
    except (TypeError, ValueError) as problem:
        raise CommandError(secrets.clean(printable(str(problem))), UNUSABLE) from None


def _client_options(asked: Invocation, secrets: Secrets, sinks: list[Sink]) -> tuple[str, dict[str, Any]]:
    """The URL, and what both clients take."""
    url = target_of(asked.url, secrets)
    if asked.cacert is not None:
        if asked.insecure:
            raise CommandError("--insecure trusts any certificate, --cacert those in a file; give one of them", UNUSABLE)
        # Tried before anything else is: requests would find out when it is connected.
        _trusting(asked.cacert)
    options: dict[str, Any] = {
        "headers": headers_of(asked.header or (), asked.header_env or (), asked.bearer_env, secrets),
        "auth": None if asked.auth_env is None else basic_auth(asked.auth_env, secrets),
        "retry_strategy": _strategy(asked),
        "deadline": asked.deadline,
        "max_batch_size": asked.max_batch_size,
        "on_event": sinks,
    }
    if asked.timeout is not None:
        options["timeout"] = asked.timeout
    return url, options


def _over_requests(asked: Invocation, url: str, request: Request | BatchRequest, options: dict[str, Any], secrets: Secrets) -> Any:
    from ..backends.requests import Client

    # The user said so, and reads one line of it in --help instead of one for each connection.
    warnings.filterwarnings("ignore", message="Unverified HTTPS request")
    verify = asked.cacert if asked.cacert is not None else not asked.insecure
    with _usable(lambda: Client(url, verify=verify, **options), secrets) as client:
        return client.send(request)


def _over_aiohttp(asked: Invocation, url: str, request: Request | BatchRequest, options: dict[str, Any], secrets: Secrets) -> Any:
    from ..backends.aiohttp import Client

    trusted: bool | ssl.SSLContext = not asked.insecure if asked.cacert is None else _trusting(asked.cacert)

    async def send() -> Any:
        async with _usable(lambda: Client(url, ssl=trusted, **options), secrets) as client:
            return await client.send(request)

    return asyncio.run(send())


def _trusting(path: str) -> ssl.SSLContext:
    """What trusts the certificates in that file."""
    try:
        return ssl.create_default_context(cafile=path)
    except FileNotFoundError:
        raise CommandError(f"--cacert: there is no file {printable(path)}", UNUSABLE) from None
    except OSError as problem:
        # One of TLS speaks of its own library, and not of the file.
        reason = "it holds no certificates" if isinstance(problem, ssl.SSLError) else problem.strerror or problem
        raise CommandError(f"--cacert: cannot use {printable(path)}: {reason}", UNUSABLE) from None


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
