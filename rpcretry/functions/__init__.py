"""Retries around any function, method or block: the engine of the clients, without a client."""

from ._blocks import Block
from ._bulk import bulk
from ._client import RetryableClient
from ._options import RetryOptions
from ._retrying import Retrying, retry, retrying

__all__ = ["Block", "RetryOptions", "RetryableClient", "Retrying", "bulk", "retry", "retrying"]
