"""For tests: a scripted backend, virtual time, a server on loopback, and the contract of a backend as tests.

It needs no test framework; :mod:`rpcretry.testing.contract` is collected by pytest.
"""

from .scripted import AsyncScriptedBackend, Item, ScriptedBackend, VirtualTime, error, http, result, took
from .server import RESET, SILENCE, Answer, Handler, LoopbackServer, Received, rpc

__all__ = [
    "RESET",
    "SILENCE",
    "Answer",
    "AsyncScriptedBackend",
    "Handler",
    "Item",
    "LoopbackServer",
    "Received",
    "ScriptedBackend",
    "VirtualTime",
    "error",
    "http",
    "result",
    "rpc",
    "took",
]
