"""aria2's JSON-RPC interface."""

from __future__ import annotations

from collections.abc import Sequence

from ..messages import Request
from ._methods import MethodList, params_on_the_wire
from ._preset import Preset

__all__ = ["aria2"]


def _names_of(request: Request) -> Sequence[str]:
    """The method; for ``system.multicall`` those that it calls."""
    if request.method != "system.multicall":
        return (request.method,)
    params = params_on_the_wire(request)
    if not isinstance(params, list) or len(params) != 1 or not isinstance(params[0], list):
        return ()
    names = [call["methodName"] for call in params[0] if isinstance(call, dict) and isinstance(call.get("methodName"), str)]
    return names if len(names) == len(params[0]) else ()


METHODS = MethodList(
    {
        "aria2.getFiles",
        "aria2.getGlobalOption",
        "aria2.getGlobalStat",
        "aria2.getOption",
        "aria2.getPeers",
        "aria2.getServers",
        "aria2.getSessionInfo",
        "aria2.getUris",
        "aria2.getVersion",
        "aria2.tellActive",
        "aria2.tellStatus",
        "aria2.tellStopped",
        "aria2.tellWaiting",
        "system.listMethods",
        "system.listNotifications",
    },
    names_of=_names_of,
)
"""The methods of aria2 that read. What is not in it is not repeated where it may have been executed; a ``system.multicall`` is if
all of its calls are."""

aria2 = Preset(
    "aria2",
    methods=METHODS,
    # None of aria2's codes asks to come again.
    codes=(),
    doc="""For aria2's JSON-RPC interface, ``/jsonrpc``.

    * HTTP 429, and 503 with Retry-After (of a proxy; aria2 itself sends neither), a connection that was never made: every method goes again.
    * HTTP 408, 502, 503 and 504 (of a proxy), a connection that broke, a timeout: the methods ``tell*``
      and ``get*`` of the manual, ``system.listMethods`` and ``system.listNotifications`` go again, and a ``system.multicall`` of nothing but these.
      ``addUri`` would add a second download, so it does not, and nor does anything else that changes what is downloaded or how.
    * No error of aria2 is retried: 1 with HTTP 400 (a GID that is not found, no such method, a param of the wrong type), -32600 with 400,
      -32602 and -32700 with 500 (recorded from aria2 1.36).
    * Delays as of ``RetryStrategy()``: three retries within 0.1, 0.2 and 0.4 s.

    The secret token is the first of the params; no message, repr or event shows them.
    """,
)
