"""A simulator of retries: many clients, one server and its bad day, in virtual time, with the engine that real calls go by.

The names below are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import homes_of, lazily

if TYPE_CHECKING:
    from ._files import PolicyFileError as PolicyFileError
    from ._files import Study as Study
    from ._files import load as load
    from ._model import Change as Change
    from ._model import PolicySpec as PolicySpec
    from ._model import Scenario as Scenario
    from ._model import Server as Server
    from ._model import Settings as Settings
    from ._report import Expectation as Expectation
    from ._report import document as document
    from ._report import draw as draw
    from ._result import Latency as Latency
    from ._result import Outage as Outage
    from ._result import Phase as Phase
    from ._result import Result as Result
    from ._result import Series as Series
    from ._run import compare as compare
    from ._run import simulate as simulate

_MODULES = {
    "_files": ("PolicyFileError", "Study", "load"),
    "_model": ("Change", "PolicySpec", "Scenario", "Server", "Settings"),
    "_report": ("Expectation", "document", "draw"),
    "_result": ("Latency", "Outage", "Phase", "Result", "Series"),
    "_run": ("compare", "simulate"),
}
_HOMES = homes_of(_MODULES)

__all__ = sorted(_HOMES)

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(__name__, _HOMES)
