"""For tests: a mock of servers, a scripted backend, virtual time, fewer tries, a server on loopback, and the contract of a backend as tests.

It needs no test framework. pytest finds the fixtures of :mod:`rpcretry.testing.plugin` by itself, and collects the tests of
:mod:`rpcretry.testing.contract`. The names below are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import homes_of, lazily

if TYPE_CHECKING:
    from ._attempts import max_attempts as max_attempts
    from ._attempts import no_retries as no_retries
    from ._calls import Call as Call
    from ._calls import UnexpectedCall as UnexpectedCall
    from ._expectations import Expectation as Expectation
    from ._expectations import including as including
    from .mock import RpcMock as RpcMock
    from .scripted import AsyncScriptedBackend as AsyncScriptedBackend
    from .scripted import Item as Item
    from .scripted import ScriptedBackend as ScriptedBackend
    from .scripted import error as error
    from .scripted import http as http
    from .scripted import result as result
    from .scripted import took as took
    from .server import RESET as RESET
    from .server import SILENCE as SILENCE
    from .server import Answer as Answer
    from .server import Handler as Handler
    from .server import LoopbackServer as LoopbackServer
    from .server import Received as Received
    from .server import rpc as rpc
    from .virtual import VirtualTime as VirtualTime

_MODULES = {
    "_attempts": ("max_attempts", "no_retries"),
    "_calls": ("Call", "UnexpectedCall"),
    "_expectations": ("Expectation", "including"),
    "mock": ("RpcMock",),
    "scripted": ("AsyncScriptedBackend", "Item", "ScriptedBackend", "error", "http", "result", "took"),
    "server": ("RESET", "SILENCE", "Answer", "Handler", "LoopbackServer", "Received", "rpc"),
    "virtual": ("VirtualTime",),
}
_HOMES = homes_of(_MODULES)

__all__ = sorted(_HOMES)

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(__name__, _HOMES)
