"""Odoo's JSON-RPC services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeGuard

from ..errors import JsonRpcError
from ..messages import Request
from ._methods import MethodList, params_on_the_wire
from ._preset import Preset

__all__ = ["odoo"]

# How an exception of the database is named in ``error.data.name``; the last one is psycopg2's general class for a transaction that was rolled back.
_ROLLED_BACK = frozenset(
    {
        "psycopg2.errors.DeadlockDetected",
        "psycopg2.errors.LockNotAvailable",
        "psycopg2.errors.SerializationFailure",
        "psycopg2.extensions.TransactionRollbackError",
    }
)

_SERVER_ERROR = 200


def _names_of(request: Request) -> Sequence[str]:
    """``model.method`` for a call of a model's method, ``service:method`` for the others, nothing for what cannot be read."""
    params = params_on_the_wire(request)
    if request.method != "call" or not isinstance(params, dict):
        return ()
    service, method, args = params.get("service"), params.get("method"), params.get("args")
    if service == "object" and method in ("execute", "execute_kw"):
        # The database, the user's id, the password; then the model and its method.
        if isinstance(args, list) and len(args) > 4 and isinstance(args[3], str) and _is_word(args[4]):
            return (f"{args[3]}.{args[4]}",)
        return ()
    return (f"{service}:{method}",) if _is_word(service) and _is_word(method) else ()


def _is_word(name: object) -> TypeGuard[str]:
    """Whether it can be a service or a method: one with a dot in it would read like another's."""
    return isinstance(name, str) and name.isidentifier()


METHODS = MethodList(
    {
        "*.check_access_rights",
        "*.check_access_rule",
        "*.exists",
        "*.fields_get",
        "*.formatted_read_group",
        "*.get_metadata",
        "*.has_access",
        "*.name_get",
        "*.name_search",
        "*.read",
        "*.read_group",
        "*.search",
        "*.search_count",
        "*.search_read",
        "common:about",
        "common:authenticate",
        "common:login",
        "common:version",
    },
    names_of=_names_of,
)
"""What of Odoo may be executed twice, as ``model.method`` and ``service:method``. What is not in it is not repeated where it may have
been executed."""


def _was_rolled_back(error: Exception) -> bool:
    if not isinstance(error, JsonRpcError) or error.code != _SERVER_ERROR:
        return False
    # A client may give the data a type.
    data = error.raw_data
    name = data.get("name") if isinstance(data, Mapping) else None
    return isinstance(name, str) and name in _ROLLED_BACK


odoo = Preset(
    "odoo",
    methods=METHODS,
    # Odoo has 200 for nearly all, and no code that asks to come again.
    codes=(),
    failures=_was_rolled_back,
    doc="""For Odoo's ``/jsonrpc``, where all is the method ``call`` with the params ``service``, ``method`` and ``args``.

    What may be executed twice is read from the params: ``res.partner.search_read`` for a model's method by ``execute`` or ``execute_kw``,
    ``common:version``, with a colon, for the other services. ``odoo.extended(idempotent="stock.quant.get_stock")`` names methods in the
    same way. A request that cannot be read so is not repeated where it may have been executed. The params hold the password; no message, repr
    or event shows them.

    * HTTP 429, and 503 with Retry-After (of a proxy), a connection that was never made: everything goes again.
    * HTTP 408, 502, 503 and 504 (of the proxy in front), a connection that broke, a timeout: the methods that read go again: "Search/Read" and
      "Fields" of Odoo's "ORM API" page, those that the Rust crate odoo-api documents as reads, and ``login``, ``authenticate``, ``version``
      and ``about`` of ``common``. A login that is made twice is noted twice in ``res.users.log``, nothing else. ``create``,
      ``write``, ``unlink``, ``copy``, actions and all methods that are not in the list do not; ``default_get`` neither: a default may draw
      the next number of a sequence.
    * The error 200, "Odoo Server Error", stands for nearly all errors. It is retried where ``error.data.name`` is a serialization failure, a
      deadlock or a lock that was not to be had (``PG_CONCURRENCY_ERRORS_TO_RETRY`` in ``odoo/service/model.py``), for methods that read.
      Odoo itself tried five times before it answers so. It rolled the transaction back each time, but not what a method did outside of
      the database, so ``write`` does not go again. Access errors, validation errors and the error 100 (session expired) are final.
    * Delays as of ``RetryStrategy()``: three retries within 0.1, 0.2 and 0.4 s.

    The documentation ("External RPC API") says that ``/jsonrpc`` goes with Odoo 22; what takes its place is no JSON-RPC.
    """,
)
