"""Methods of the server as attributes: ``client.proxy.sum(1, 2)``, ``client.proxy.aria2.addUri([...])``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["Proxy"]

CallT = TypeVar("CallT", bound=Callable[..., Any])


class Proxy(Generic[CallT]):
    """A method of the server, or the first part of a dotted name.

    Attributes lengthen the name, calling it sends. Names that start with ``_`` are refused, so that whatever
    inspects an object (a notebook, copy, pickle) sends nothing; ``proxy["_name"]`` takes any name.
    """

    __slots__ = ("_call", "_name")

    def __init__(self, call: CallT, name: str = "") -> None:
        self._call = call
        self._name = name

    def __getattr__(self, name: str) -> Method[CallT]:
        if name[:1] == "_":
            raise AttributeError(f"{name!r} is not taken for a method of the server; write proxy[{name!r}] to call it")
        return Method(self._call, f"{self._name}.{name}" if self._name else name)

    def __getitem__(self, name: str) -> Method[CallT]:
        if not isinstance(name, str) or not name:
            raise TypeError(f"the name of a method must be a non-empty str, got {name!r:.60}")
        return Method(self._call, f"{self._name}.{name}" if self._name else name)

    # Without this, __getitem__ would make Python take it for a sequence.
    __iter__ = None
    __contains__ = None

    def __repr__(self) -> str:
        return f"<proxy of {self._name}>" if self._name else "<proxy>"

    # Whoever pickles or copies a proxy would be surprised by a call.
    def __reduce__(self) -> Any:
        raise TypeError("a proxy cannot be pickled or copied; keep the client")


class Method(Proxy[CallT]):
    """A proxy with a name, which can be called."""

    __slots__ = ()

    def __call__(self, /, *args: Any, **params: Any) -> Any:
        return self._call(self._name, *args, **params)
