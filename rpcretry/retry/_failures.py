"""What the engine does to the exceptions that it lets through."""

from __future__ import annotations

import contextlib

from ..errors import Delivery

__all__ = ["annotate", "caused", "worse"]

NOTE = "rpcretry: "


def caused(error: Exception, cause: BaseException | None) -> Exception:
    """*error* as raised from *cause*."""
    if cause is not None and cause is not error:
        # An exception class that refuses attributes must not hide the failure.
        with contextlib.suppress(Exception):
            error.__cause__ = cause
    return error


def annotate(error: BaseException, text: str) -> None:
    """Put one note of ours on *error*, in place of the one that it may carry already."""
    notes = [note for note in getattr(error, "__notes__", ()) if not str(note).startswith(NOTE)]
    with contextlib.suppress(Exception):
        error.__notes__ = [*notes, NOTE + text]


def worse(first: Delivery | None, second: Delivery) -> Delivery:
    """The one that promises less about what the server did."""
    order = (Delivery.NOT_SENT, Delivery.REJECTED, Delivery.MAYBE_EXECUTED)
    return second if first is None or order.index(second) > order.index(first) else first
