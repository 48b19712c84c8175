"""The contestants over transports that answer, or fail, at once: each as its own documentation says to use it.

The modules of the peers are imported where they are used, so that rpcretry can be measured without them.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any, TypeAlias

from bench_catalog import BY_HAND, OURS
from transports import TEXT, AsyncNull, AsyncSession, Null, Session, Trouble, by_hand, by_hand_async

import rpcretry
from rpcretry.retry import Backoff, ExponentialBackoff, ImmediateBackoff, PeriodicBackoff, RetryStrategy

Calls: TypeAlias = dict[str, Callable[[], Any]]

# Retries, and the seconds before the first of them where they have to take time; each further one waits twice as long.
RETRIES, BASE = 3, 0.05
# What waits for this many seconds waits until it is cancelled.
LONG = 3_600.0
# Kept open as long as the process lasts.
OPEN: list[Any] = []


class Settings:
    """How all of them retry.

    :param failure: the exception to retry.
    :param wait: ``"none"``, ``"long"`` or ``"backoff"``: full jitter around a base that doubles, or the nearest that there is.
    """

    def __init__(self, failure: type[Exception], wait: str = "none", statuses: tuple[int, ...] = ()) -> None:
        self.failure = failure
        self.wait = wait
        self.statuses = statuses

    def ours(self) -> RetryStrategy:
        # Each retry is a warning unless the program wants none; it is the same for stamina, below. The others say nothing unless asked.
        logging.getLogger("rpcretry").setLevel(logging.ERROR)
        backoff: Backoff
        if self.wait == "backoff":
            backoff = ExponentialBackoff(RETRIES, base=BASE, factor=2.0, jitter=True)
        else:
            backoff = ImmediateBackoff(RETRIES) if self.wait == "none" else PeriodicBackoff(RETRIES, interval=LONG)
        return RetryStrategy(exceptions={self.failure}, statuses=self.statuses, backoff=backoff)

    def pjrpc(self) -> Any:
        import pjrpc.client.retry as retry

        if self.wait == "backoff":
            # Its jitter adds; this comes to the same in the mean for the first delay.
            backoff = retry.ExponentialBackoff(RETRIES, base=BASE / 2, factor=2.0, jitter=lambda attempt: random.uniform(-BASE / 2, BASE / 2) * 2**attempt)
        else:
            backoff = retry.PeriodicBackoff(RETRIES, interval=0.0 if self.wait == "none" else LONG)
        return retry.RetryStrategy(backoff=backoff, exceptions={self.failure})

    def decorators(self) -> dict[str, Callable[[Any], Any]]:
        """The four, each around a function or a coroutine function."""
        import backoff
        import opnieuw
        import stamina
        import tenacity
        from opnieuw.test_util import retry_immediately
        from stamina.instrumentation import set_on_retry_hooks

        # Left alone it logs each retry, by structlog where that is installed.
        set_on_retry_hooks([])
        if self.wait == "none" and not OPEN:
            # It has no other way to wait for nothing: with a window of 0 s it gives up at once.
            OPEN.append(retry_immediately(namespace="none"))
            OPEN[0].__enter__()
        delays = {"none": (0.0, 0.0), "long": (LONG, 0.0), "backoff": (BASE / 2, BASE / 2)}[self.wait]
        total: Any = {"none": 0.0, "long": 1e9, "backoff": BASE * (2**RETRIES - 1)}[self.wait]
        waits: dict[str, Any] = {
            "none": tenacity.wait_none(),
            "long": tenacity.wait_fixed(LONG),
            "backoff": tenacity.wait_random_exponential(multiplier=BASE),
        }
        kinds: dict[str, dict[str, Any]] = {
            "none": {"wait_gen": backoff.constant, "interval": 0, "jitter": None},
            "long": {"wait_gen": backoff.constant, "interval": LONG, "jitter": None},
            "backoff": {"wait_gen": backoff.expo, "factor": BASE},
        }
        return {
            "tenacity": tenacity.retry(
                stop=tenacity.stop_after_attempt(RETRIES + 1), wait=waits[self.wait], retry=tenacity.retry_if_exception_type(self.failure), reraise=True
            ),
            "stamina": stamina.retry(
                on=self.failure, attempts=RETRIES + 1, timeout=None, wait_initial=delays[0], wait_max=2 * LONG, wait_jitter=delays[1], wait_exp_base=2
            ),
            "backoff": backoff.on_exception(exception=self.failure, max_tries=RETRIES + 1, **kinds[self.wait]),
            "opnieuw": opnieuw.retry(
                retry_on_exceptions=self.failure,
                max_calls_total=RETRIES + 1,
                retry_window_after_first_call_in_seconds=total,
                namespace=self.wait,
            ),
        }


def null_sync(failures: int | None = 0, *, alone: bool = False) -> Calls:
    """Sync calls over a transport that fails so many times in each call; those that can retry, where it does."""
    settings = Settings(ConnectionError)

    def own() -> Trouble | None:
        return None if failures == 0 else Trouble(failures)

    client = rpcretry.Client(Null(own()), retry_strategy=settings.ours())
    calls: Calls = {OURS: lambda: client.call("sum", 1, 2)}
    if alone:
        return calls if failures else calls | {BY_HAND: by_hand()}
    import jsonrpc_requests
    import jsonrpcclient
    import pjrpc.client
    import pjrpc.client.retry

    class PjrpcNull(pjrpc.client.AbstractClient):
        failing = own()

        def _request(self, request_text: str, is_notification: bool, request_kwargs: Any) -> str:
            if self.failing is not None:
                self.failing()
            return TEXT

    peer = PjrpcNull(middlewares=[pjrpc.client.retry.RetryMiddleware(settings.pjrpc())])
    calls["pjrpc"] = lambda: peer.call("sum", 1, 2)
    if not failures:

        def transported(text: str) -> str:
            return TEXT

        calls["jsonrpcclient"] = lambda: jsonrpcclient.parse_json(transported(jsonrpcclient.request_json("sum", params=(1, 2)))).result
        server = jsonrpc_requests.Server("http://localhost/", session=Session())
        calls["jsonrpc-requests"] = lambda: server.sum(1, 2)
        calls[BY_HAND] = by_hand()
    calls.update({name: decorate(by_hand(own())) for name, decorate in settings.decorators().items()})
    return calls


def nothing() -> None: ...


def null_async(failures: int | None = 0, *, wait: str = "none", trouble: Callable[[], object] | None = None, alone: bool = False) -> Calls:
    """The same, async.

    :param trouble: a transport's trouble that all of them share; one each without it.
    """
    settings = Settings(ConnectionError, wait)

    def own() -> Callable[[], object] | None:
        return trouble if trouble is not None or failures == 0 else Trouble(failures)

    client = rpcretry.AsyncClient(AsyncNull(own()), retry_strategy=settings.ours())
    calls: Calls = {OURS: lambda: client.call("sum", 1, 2)}
    plain = failures == 0 and trouble is None
    if alone:
        return calls | {BY_HAND: by_hand_async()} if plain else calls
    import jsonrpc_async
    import jsonrpcclient
    import pjrpc.client
    import pjrpc.client.retry

    class PjrpcNull(pjrpc.client.AbstractAsyncClient):
        failing = staticmethod(own() or nothing)

        async def _request(self, request_text: str, is_notification: bool, request_kwargs: Any) -> str:
            self.failing()
            return TEXT

    peer = PjrpcNull(middlewares=[pjrpc.client.retry.AsyncRetryMiddleware(settings.pjrpc())])
    calls["pjrpc"] = lambda: peer.call("sum", 1, 2)
    if plain:

        async def transported(text: str) -> str:
            return TEXT

        async def jsonrpcclient_call() -> Any:
            parsed: Any = jsonrpcclient.parse_json(await transported(jsonrpcclient.request_json("sum", params=(1, 2))))
            return parsed.result

        calls["jsonrpcclient"] = jsonrpcclient_call
        session: Any = AsyncSession()
        server = jsonrpc_async.Server("http://localhost/", session=session)
        calls["jsonrpc-async"] = lambda: server.sum(1, 2)
        calls[BY_HAND] = by_hand_async()
    calls.update({name: decorate(by_hand_async(own())) for name, decorate in settings.decorators().items()})
    return calls
