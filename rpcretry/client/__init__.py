"""The clients, and where their ids come from."""

from ._async import AsyncClient
from ._sync import Client
from .ids import IdSource, random_ids, sequential_ids, uuid_ids

__all__ = ["AsyncClient", "Client", "IdSource", "random_ids", "sequential_ids", "uuid_ids"]
