"""Strategies for kinds of servers: what they answer when a repetition helps, and which of their methods may be executed twice.

Each is a :class:`~rpcretry.RetryStrategy`, to be used as it is: ``Client(url, retry_strategy=presets.ethereum)``. Its
``extended(...)`` makes another one of it, and its ``methods`` are the list.
"""

from ._aria2 import aria2
from ._bitcoin import bitcoin
from ._ethereum import ethereum
from ._methods import MethodList
from ._odoo import odoo
from ._preset import Preset, transient

__all__ = [
    "MethodList",
    "Preset",
    "aria2",
    "bitcoin",
    "ethereum",
    "odoo",
    "transient",
]
