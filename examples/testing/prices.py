"""Code that is to be tested: it makes its own client, and knows nothing of tests."""

from __future__ import annotations

from rpcretry import RetryStrategy
from rpcretry.backends.requests import Client
from rpcretry.retry import ExponentialBackoff

STRATEGY = RetryStrategy(idempotent="get_*", backoff=ExponentialBackoff(attempts=3, base=0.1))


def total(url: str, *symbols: str) -> float:
    """What one of each costs."""
    with Client(url, retry_strategy=STRATEGY, timeout=10) as client:
        return sum(client.call("get_price", symbol, _result=float) for symbol in symbols)


def pay(url: str, amount: int) -> str:
    """Pay once, or not at all."""
    with Client(url, retry_strategy=STRATEGY) as client:
        return client.call("pay", amount=amount, _result=str)
