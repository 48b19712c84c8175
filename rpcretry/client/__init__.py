"""The clients, and where their ids come from."""

from ._async import AsyncBatch, AsyncClient
from ._sync import Batch, Client
from .batch import Handle
from .ids import IdSource, random_ids, sequential_ids, uuid_ids
from .interface import AsyncInterface, RpcMethod, notification, rpc
from .joining import Joining
from .options import ClientOptions

__all__ = [
    "AsyncBatch",
    "AsyncClient",
    "AsyncInterface",
    "Batch",
    "Client",
    "ClientOptions",
    "Handle",
    "IdSource",
    "Joining",
    "RpcMethod",
    "notification",
    "random_ids",
    "rpc",
    "sequential_ids",
    "uuid_ids",
]
