"""Typed interfaces from OpenRPC documents.

:func:`generate` makes of a document the text of a module: models of its schemas, exception classes of its errors, and an
interface for ``client.typed(...)``. The command ``rpcretry openrpc`` writes it to a file. It needs the extra ``openrpc``.
The module that it makes does not: its models and numbers are :class:`Model` and :data:`Number`, which need pydantic alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazily

if TYPE_CHECKING:
    from ._base import Model as Model
    from ._base import Number as Number
    from ._document import DocumentError as DocumentError
    from ._module import generate as generate

_HOMES = {"DocumentError": "_document", "Model": "_base", "Number": "_base", "generate": "_module"}

__all__ = ["DocumentError", "Model", "Number", "generate"]

if not TYPE_CHECKING:
    # Whoever imports a generated module does not load the generator.
    __getattr__, __dir__ = lazily(__name__, _HOMES)
