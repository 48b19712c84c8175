"""Typed interfaces from OpenRPC documents.

:func:`generate` makes of a document the text of a module: models of its schemas, exception classes of its errors, and an
interface for ``client.typed(...)``. The command ``rpcretry openrpc`` writes it to a file. It needs the extra ``openrpc``.
"""

from __future__ import annotations

from ._document import DocumentError
from ._module import generate

__all__ = ["DocumentError", "generate"]
