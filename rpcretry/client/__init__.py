"""The clients, and where their ids come from."""

from ._async import AsyncClient
from ._sync import Client
from .ids import IdSource, random_ids, sequential_ids, uuid_ids
from .options import ClientOptions

__all__ = ["AsyncClient", "Client", "ClientOptions", "IdSource", "random_ids", "sequential_ids", "uuid_ids"]
