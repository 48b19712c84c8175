"""When to try again: strategies, backoffs, jitter, and the contract of a layer."""

from .backoff import (
    LONGEST,
    UNLIMITED,
    Backoff,
    BackoffLike,
    DecorrelatedJitterBackoff,
    ExponentialBackoff,
    FibonacciBackoff,
    ImmediateBackoff,
    LinearBackoff,
    PeriodicBackoff,
)
from .fallback import LAST_GOOD, Fallback
from .jitter import AdditiveJitter, EqualJitter, FullJitter, Jitter, JitterLike, ProportionalJitter
from .layer import Layer
from .strategy import DEFAULT_BACKOFF, TRANSIENT_CODES, TRANSIENT_STATUSES, Classification, RetryStrategy

__all__ = [
    "DEFAULT_BACKOFF",
    "LAST_GOOD",
    "LONGEST",
    "TRANSIENT_CODES",
    "TRANSIENT_STATUSES",
    "UNLIMITED",
    "AdditiveJitter",
    "Backoff",
    "BackoffLike",
    "Classification",
    "DecorrelatedJitterBackoff",
    "EqualJitter",
    "ExponentialBackoff",
    "Fallback",
    "FibonacciBackoff",
    "FullJitter",
    "ImmediateBackoff",
    "Jitter",
    "JitterLike",
    "Layer",
    "LinearBackoff",
    "PeriodicBackoff",
    "ProportionalJitter",
    "RetryStrategy",
]
