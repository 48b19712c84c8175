"""What ``client.typed`` returns: an object whose methods are calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .._check import closest
from ..messages import prepared
from ._interface_plan import MethodPlan, plan_of
from .call import SingleCall
from .options import Options

if TYPE_CHECKING:
    from .core import ClientCore

__all__ = ["typed_as"]


class Typed:
    """The methods of an interface, bound to a client. Each is made when it is first asked for."""

    def __init__(self, client: ClientCore[Any], cls: type, methods: Mapping[str, MethodPlan]) -> None:
        self._client = client
        self._interface = cls
        self._methods = methods
        self.__doc__ = cls.__doc__

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # What isinstance asks: it stands for the interface, without being made of it.
        return self._interface

    def __getattr__(self, name: str) -> Any:
        if name[:1] == "_":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        method = self._methods.get(name)
        if method is not None:
            # From now on it is found without coming here.
            made = self.__dict__[name] = _call_of(self._client, method)
            return made
        for base in self._interface.__mro__:
            if name in vars(base):
                # A constant, or a class.
                return vars(base)[name]
        hint = closest(name, list(self._methods))
        raise AttributeError(f"{self._interface.__name__} has no method {name!r}{hint if len(hint) < 200 else '; dir() lists them'}", name=name, obj=self)

    def __dir__(self) -> list[str]:
        return sorted({*dir(Typed), *self._methods})

    def __repr__(self) -> str:
        return f"<{self._interface.__name__} of {self._client!r}>"

    # Whoever pickles or copies it would be surprised by a second client.
    def __reduce__(self) -> Any:
        raise TypeError(f"what typed({self._interface.__name__}) returned cannot be pickled or copied; keep the client, and call typed again")


def typed_as(client: ClientCore[Any], interface: object) -> Any:
    """An object with the methods of *interface*.

    :raises TypeError: where the class declares something that cannot be called.
    """
    cls, plan = plan_of(interface)
    if plan.awaited is not None and not client._is_async:
        raise TypeError(
            f"{plan.awaited} is awaited, and {type(client).__name__} does not wait so; use an AsyncClient, or declare it with def, without AsyncInterface"
        )
    made = Typed(client, cls, plan.methods)
    for name in plan.checked:
        getattr(made, name)
    return made


def _call_of(client: ClientCore[Any], plan: MethodPlan) -> Callable[..., Any]:
    options, shared, drive = _options_of(client, plan), client._shared, client._drive
    params, method, reader, next_id, notify = plan.params, plan.method, shared.reader, shared.next_id, plan.is_notification
    key = options.key

    def call(*args: Any, **named: Any) -> Any:
        if shared.closed:
            raise client._closed()
        request = prepared(method, params(args, named), None if notify else next_id())
        return drive(SingleCall(options if key is None else options.keyed(request), reader, request, False), shared)

    call.__name__, call.__qualname__, call.__doc__ = plan.label.rpartition(".")[2], plan.label, plan.doc
    described: Any = call
    described.__signature__ = plan.params.signature
    return call


def _options_of(client: ClientCore[Any], plan: MethodPlan) -> Options:
    # What a view was told with using() is of the one who calls, and counts before what the interface says of all calls.
    own = {name: value for name, value in plan.options.items() if name not in client._said}
    try:
        return client._options.replace(**own, convert=plan.convert, idempotent=plan.idempotent)
    except (TypeError, ValueError) as problem:
        raise type(problem)(f"{plan.label}: {problem}") from None
