"""The contestants over HTTP: each with a session that it keeps, as its own documentation says to use it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeAlias

import aiohttp
import pydantic
import requests
from bench_catalog import BY_HAND, OURS
from peers import Settings
from requests.adapters import HTTPAdapter
from transports import request_of, result_of

import rpcretry.backends.aiohttp
import rpcretry.backends.requests
from rpcretry.client import Joining

# What a contestant can do: by the name of the scenario's operation.
Operations: TypeAlias = dict[str, Callable[..., Any]]
Clients: TypeAlias = dict[str, Operations]

THREADS, BATCH, JOINED = 32, 100, "rpcretry, joined"


class Account(pydantic.BaseModel):
    """What the server's models are."""

    id: int
    owner: str
    balance: float
    currency: str
    tags: list[str]
    active: bool


ACCOUNTS = pydantic.TypeAdapter(list[Account])


def session_of_requests() -> requests.Session:
    session = requests.Session()
    # As many connections are kept as there are threads; requests keeps ten unless told, and drops the others.
    session.mount("http://", HTTPAdapter(pool_maxsize=THREADS))
    return session


def in_order(asked: list[dict[str, Any]], answers: Any) -> list[Any]:
    """The results of a batch, found by their ids."""
    found = {answer["id"]: result_of(answer) for answer in answers}
    return [found[request["id"]] for request in asked]


def operations(call: Callable[..., Any], **others: Callable[..., Any]) -> Operations:
    """Those that every contestant has: results become models by hand."""
    return {
        "sum": lambda: call("sum", 1, 2),
        "echo": lambda number: call("echo", number),
        "large": lambda: call("large"),
        "typed": lambda: ACCOUNTS.validate_python(call("models")),
        **others,
    }


@contextlib.contextmanager
def over_requests(url: str, settings: Settings, *, alone: bool = False) -> Iterator[Clients]:
    """All that are sync."""
    with contextlib.ExitStack() as stack:

        def opened() -> requests.Session:
            return stack.enter_context(session_of_requests())

        client = stack.enter_context(rpcretry.backends.requests.Client(url, retry_strategy=settings.ours()))

        def our_batch() -> list[Any]:
            with client.batch() as batch:
                for _ in range(BATCH):
                    batch.call("sum", 1, 2)
            return batch.results()

        ours = operations(client.call, batch=our_batch, typed=lambda: client.call("models", _result=list[Account]))
        clients: Clients = {OURS: ours}
        hand, hand_batch = by_hand(url, opened())
        if not alone:
            clients |= peers_over_requests(url, settings, opened)
        clients[BY_HAND] = operations(hand, batch=hand_batch)
        if not alone:
            for name, decorate in settings.decorators().items():
                hand, hand_batch = by_hand(url, opened())
                clients[name] = operations(decorate(hand), batch=decorate(hand_batch))
        yield clients


def by_hand(url: str, session: requests.Session) -> tuple[Callable[..., Any], Callable[[], Any]]:
    """A client that is written by hand, for calls and for batches."""
    ids = itertools.count(1)

    def hand(method: str, *params: object) -> Any:
        response = session.post(url, json=request_of(ids, method, *params))
        response.raise_for_status()
        return result_of(response.json())

    def hand_batch() -> list[Any]:
        asked = [request_of(ids, "sum", 1, 2) for _ in range(BATCH)]
        response = session.post(url, json=asked)
        response.raise_for_status()
        return in_order(asked, response.json())

    return hand, hand_batch


def peers_over_requests(url: str, settings: Settings, opened: Callable[[], requests.Session]) -> Clients:
    import jsonrpc_requests
    import jsonrpcclient
    import pjrpc.client.backend.requests
    import pjrpc.client.retry

    retrying = pjrpc.client.retry.RetryMiddleware(settings.pjrpc())
    pjrpc_client = pjrpc.client.backend.requests.Client(url, session=opened(), middlewares=[retrying])

    def pjrpc_batch() -> list[Any]:
        with pjrpc_client.batch() as batch:
            for _ in range(BATCH):
                batch.call("sum", 1, 2)
        return list(batch.get_results())

    session = opened()

    def jsonrpcclient_call(method: str, *params: object) -> Any:
        response = session.post(url, json=jsonrpcclient.request(method, params=params))
        response.raise_for_status()
        return parsed(jsonrpcclient.parse(response.json()))

    def jsonrpcclient_batch() -> list[Any]:
        asked = [jsonrpcclient.request("sum", params=(1, 2)) for _ in range(BATCH)]
        answers: Any = jsonrpcclient.parse(session.post(url, json=asked).json())
        found = {answer.id: parsed(answer) for answer in answers}
        return [found[request["id"]] for request in asked]

    def parsed(answer: Any) -> Any:
        if isinstance(answer, jsonrpcclient.Error):
            raise RuntimeError(answer.message)
        return answer.result

    server = jsonrpc_requests.Server(url, session=opened())

    def jsonrpc_requests_call(method: str, *params: object) -> Any:
        # With a single param its methods read collections.Mapping, which Python has had no longer since 3.10.
        return server.send_request(method, False, params) if len(params) == 1 else getattr(server, method)(*params)

    return {
        "pjrpc": operations(pjrpc_client.call, batch=pjrpc_batch),
        "jsonrpcclient": operations(jsonrpcclient_call, batch=jsonrpcclient_batch),
        "jsonrpc-requests": operations(jsonrpc_requests_call),
    }


# --- async ---


def awaited(call: Callable[..., Awaitable[Any]], **others: Callable[..., Any]) -> Operations:
    async def typed() -> Any:
        return ACCOUNTS.validate_python(await call("models"))

    return {
        "sum": lambda: call("sum", 1, 2),
        "echo": lambda number: call("echo", number),
        "large": lambda: call("large"),
        "typed": typed,
        **others,
    }


@contextlib.asynccontextmanager
async def over_aiohttp(url: str, settings: Settings, *, alone: bool = False) -> AsyncIterator[Clients]:
    """All that are async."""
    async with contextlib.AsyncExitStack() as stack:

        async def opened() -> aiohttp.ClientSession:
            return await stack.enter_async_context(aiohttp.ClientSession())

        client = await stack.enter_async_context(rpcretry.backends.aiohttp.Client(url, retry_strategy=settings.ours()))
        joining = await stack.enter_async_context(rpcretry.backends.aiohttp.Client(url, retry_strategy=settings.ours(), joining=Joining()))

        async def our_batch() -> list[Any]:
            async with client.batch() as batch:
                for _ in range(BATCH):
                    batch.call("sum", 1, 2)
            return batch.results()

        clients: Clients = {
            OURS: awaited(client.call, batch=our_batch, typed=lambda: client.call("models", _result=list[Account])),
            JOINED: {"sum": lambda: joining.call("sum", 1, 2)},
        }
        if not alone:
            clients |= await peers_over_aiohttp(url, settings, opened)
        hand, hand_batch = by_hand_async(url, await opened())
        clients[BY_HAND] = awaited(hand, batch=hand_batch)
        if not alone:
            for name, decorate in settings.decorators().items():
                hand, hand_batch = by_hand_async(url, await opened())
                clients[name] = awaited(decorate(hand), batch=decorate(hand_batch))
        yield clients


def by_hand_async(url: str, session: aiohttp.ClientSession) -> tuple[Callable[..., Any], Callable[[], Any]]:
    ids = itertools.count(1)

    async def hand(method: str, *params: object) -> Any:
        async with session.post(url, json=request_of(ids, method, *params), raise_for_status=True) as response:
            return result_of(await response.json())

    async def hand_batch() -> list[Any]:
        asked = [request_of(ids, "sum", 1, 2) for _ in range(BATCH)]
        async with session.post(url, json=asked, raise_for_status=True) as response:
            return in_order(asked, await response.json())

    return hand, hand_batch


async def peers_over_aiohttp(url: str, settings: Settings, opened: Callable[[], Awaitable[aiohttp.ClientSession]]) -> Clients:
    import jsonrpc_async
    import jsonrpcclient
    import pjrpc.client.backend.aiohttp
    import pjrpc.client.retry

    retrying = pjrpc.client.retry.AsyncRetryMiddleware(settings.pjrpc())
    pjrpc_client = pjrpc.client.backend.aiohttp.Client(url, session=await opened(), middlewares=[retrying])

    async def pjrpc_batch() -> list[Any]:
        async with pjrpc_client.batch() as batch:
            for _ in range(BATCH):
                batch.call("sum", 1, 2)
        return list(batch.get_results())

    session = await opened()

    def parsed(answer: Any) -> Any:
        if isinstance(answer, jsonrpcclient.Error):
            raise RuntimeError(answer.message)
        return answer.result

    async def jsonrpcclient_call(method: str, *params: object) -> Any:
        async with session.post(url, json=jsonrpcclient.request(method, params=params), raise_for_status=True) as response:
            return parsed(jsonrpcclient.parse(await response.json()))

    async def jsonrpcclient_batch() -> list[Any]:
        asked = [jsonrpcclient.request("sum", params=(1, 2)) for _ in range(BATCH)]
        async with session.post(url, json=asked, raise_for_status=True) as response:
            answers: Any = jsonrpcclient.parse(await response.json())
        found = {answer.id: parsed(answer) for answer in answers}
        return [found[request["id"]] for request in asked]

    server = jsonrpc_async.Server(url, session=await opened())
    return {
        "pjrpc": awaited(pjrpc_client.call, batch=pjrpc_batch),
        "jsonrpcclient": awaited(jsonrpcclient_call, batch=jsonrpcclient_batch),
        "jsonrpc-async": awaited(lambda method, *params: getattr(server, method)(*params)),
    }
