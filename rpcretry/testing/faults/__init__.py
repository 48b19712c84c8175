"""A hostile server, for tests: a JSON-RPC server on loopback that misbehaves by seed, down to the bytes, and counts what it has executed.

A :class:`FaultServer` serves; toxics say what goes wrong, and compose; a :class:`Mix` draws them. It needs no test framework and no HTTP library.
The names below are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._lazy import homes_of, lazily

if TYPE_CHECKING:
    from ._bodies import Gzip as Gzip
    from ._bodies import GzipBomb as GzipBomb
    from ._bodies import Huge as Huge
    from ._calls import current_request as current_request
    from ._choice import Faults as Faults
    from ._choice import InTurn as InTurn
    from ._choice import Mix as Mix
    from ._choice import bad_day as bad_day
    from ._connections import Close as Close
    from ._connections import CloseIdle as CloseIdle
    from ._connections import CloseReused as CloseReused
    from ._connections import Drip as Drip
    from ._connections import Garbage as Garbage
    from ._connections import Latency as Latency
    from ._connections import Refuse as Refuse
    from ._connections import Reset as Reset
    from ._connections import Silence as Silence
    from ._connections import SlowAccept as SlowAccept
    from ._connections import Truncate as Truncate
    from ._documents import BareObject as BareObject
    from ._documents import DuplicateItems as DuplicateItems
    from ._documents import ExtraAnswer as ExtraAnswer
    from ._documents import ForeignItems as ForeignItems
    from ._documents import Listed as Listed
    from ._documents import MissingItems as MissingItems
    from ._documents import OneError as OneError
    from ._documents import Reorder as Reorder
    from ._documents import RpcError as RpcError
    from ._documents import StaleAnswer as StaleAnswer
    from ._documents import WrongId as WrongId
    from ._heads import BadChunks as BadChunks
    from ._heads import Chunked as Chunked
    from ._heads import ContentLength as ContentLength
    from ._heads import Http10 as Http10
    from ._heads import Interim as Interim
    from ._heads import InvalidHeader as InvalidHeader
    from ._heads import LongHeader as LongHeader
    from ._heads import NoLength as NoLength
    from ._heads import Redirect as Redirect
    from ._heads import RetryAfter as RetryAfter
    from ._heads import Status as Status
    from ._log import LogEntry as LogEntry
    from ._server import FaultServer as FaultServer
    from ._toxic import Stage as Stage
    from ._toxic import Toxic as Toxic
    from ._turn import Arrival as Arrival
    from ._turn import Turn as Turn

_MODULES = {
    "_bodies": ("Gzip", "GzipBomb", "Huge"),
    "_calls": ("current_request",),
    "_choice": ("Faults", "InTurn", "Mix", "bad_day"),
    "_connections": ("Close", "CloseIdle", "CloseReused", "Drip", "Garbage", "Latency", "Refuse", "Reset", "Silence", "SlowAccept", "Truncate"),
    "_documents": (
        "BareObject",
        "DuplicateItems",
        "ExtraAnswer",
        "ForeignItems",
        "Listed",
        "MissingItems",
        "OneError",
        "Reorder",
        "RpcError",
        "StaleAnswer",
        "WrongId",
    ),
    "_heads": (
        "BadChunks",
        "Chunked",
        "ContentLength",
        "Http10",
        "Interim",
        "InvalidHeader",
        "LongHeader",
        "NoLength",
        "Redirect",
        "RetryAfter",
        "Status",
    ),
    "_log": ("LogEntry",),
    "_server": ("FaultServer",),
    "_toxic": ("Stage", "Toxic"),
    "_turn": ("Arrival", "Turn"),
}
_HOMES = homes_of(_MODULES)

__all__ = sorted(_HOMES)

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(__name__, _HOMES)
