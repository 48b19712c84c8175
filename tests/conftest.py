"""Its place puts this folder on the path, so that every test finds ``support`` wherever it lies."""

from __future__ import annotations

import inspect
import signal
from typing import Any
from unittest.mock import Mock

import aiohttp
import aioresponses.core

if "stream_writer" in inspect.signature(aiohttp.ClientResponse).parameters:
    # aioresponses 0.7.9 makes responses without the writer that aiohttp 3.14 asks for.

    class _Response(aiohttp.ClientResponse):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.setdefault("stream_writer", Mock())
            super().__init__(*args, **kwargs)

    aioresponses.core.ClientResponse = _Response

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts its background jobs so, and the tests of Ctrl-C would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)
