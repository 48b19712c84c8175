"""Typed interfaces from OpenRPC documents.

:func:`generate` makes of a document the text of a module: models of its schemas, exception classes of its errors, and an
interface for ``client.typed(...)``. The command ``rpcretry openrpc`` writes it to a file. It needs the extra ``openrpc``.
The module that it makes does not: its models and numbers are :class:`Model` and :data:`Number`, which need pydantic alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._base import Model as Model
    from ._base import Number as Number
    from ._document import DocumentError as DocumentError
    from ._module import generate as generate

_HOMES = {"DocumentError": "_document", "Model": "_base", "Number": "_base", "generate": "_module"}

__all__ = ["DocumentError", "Model", "Number", "generate"]


def __getattr__(name: str) -> Any:
    """Load a name when it is first used: whoever imports a generated module does not load the generator."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
