"""Batches whose answers are not there."""

from __future__ import annotations

from ._base import Delivery, RpcRetryError

__all__ = ["BatchUnfinishedError"]


class BatchUnfinishedError(RpcRetryError, RuntimeError):
    """An answer was asked for, or a request added, at a time when the batch has no place for it.

    :param delivery: what the server may have done with the requests of the batch.
    """

    def __init__(self, message: str = "", *, delivery: Delivery = Delivery.NOT_SENT) -> None:
        super().__init__(message)
        self.delivery = delivery
