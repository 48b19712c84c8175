"""aria2's JSON-RPC interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..messages import Request
from ._methods import MethodList
from ._preset import Preset

__all__ = ["aria2"]


def _names_of(request: Request) -> Sequence[str]:
    """The method; for ``system.multicall`` those that it calls."""
    params = request.params
    if request.method != "system.multicall" or not isinstance(params, Sequence) or len(params) != 1:
        return (request.method,)
    calls = params[0]
    if not isinstance(calls, Sequence) or isinstance(calls, (str, bytes)):
        return (request.method,)
    names = [call.get("methodName") if isinstance(call, Mapping) else None for call in calls]
    return [name if isinstance(name, str) else request.method for name in names]


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
"""The methods of aria2 that read. What is not in it is not repeated; a ``system.multicall`` is if all of its calls are."""

aria2 = Preset(
    "aria2",
    methods=METHODS,
    # aria2 has one code for all that it says itself, and none that asks to come again.
    codes=(),
    doc="""For aria2's JSON-RPC interface, ``/jsonrpc``.

    * HTTP 429, and 503 with Retry-After (of a proxy; aria2 itself sends neither), a connection that was never made: every method goes again.
    * HTTP 408, 502, 503 and 504 (of a proxy), a connection that broke, a timeout: the methods ``tell*``
      and ``get*`` of the manual, ``system.listMethods`` and ``system.listNotifications`` go again, and a ``system.multicall`` of nothing but these.
      ``addUri`` would add a second download, so it never does, and nor does anything else that changes what is downloaded or how.
    * No error of aria2 is retried. Its code 1 stands for all that it says itself (a GID that is not found, a wrong token, a wrong param: answers
      recorded from aria2 1.36), and comes with HTTP 400.
    * Delays as of ``RetryStrategy()``: three retries within 0.1, 0.2 and 0.4 s.

    The secret token is the first of the params; no message, repr or event shows them.
    """,
)
