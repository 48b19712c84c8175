"""Bookshop 1.0.0

Written by ``rpcretry openrpc``. What is changed here is lost when it is written anew.
"""

# isort: skip_file
from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, model_serializer
from rpcretry import AsyncInterface, JsonRpcError, notification, rpc
from typing_extensions import TypeAliasType


class Model(BaseModel):
    """What may be left out, and was not given, is not sent."""

    @model_serializer(mode="wrap")
    def _without_what_was_not_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = handler(self)
        for name, field in type(self).model_fields.items():
            if field.default is None and name not in self.model_fields_set:
                document.pop(field.serialization_alias or name, None)
                document.pop(name, None)
        return document


Isbn = TypeAliasType("Isbn", Annotated[str, Field(max_length=17, min_length=10)])


class Book(Model):
    isbn: Isbn
    title: str
    cents: int | None = None
    """The price, where it is known."""
    series: list[Book] | None = None


class Order(Model):
    number: int
    state: Literal["placed", "sent"]
    ready: date


class Stock(Model):
    copies: int


Book.model_rebuild()


class OutOfStockError(JsonRpcError):
    """2001: Out of stock"""

    CODE = 2001
    MESSAGE = "Out of stock"
    data: Stock


ERRORS: list[type[JsonRpcError]] = [OutOfStockError]
"""What a client raises for these codes; give it as ``errors=ERRORS``."""


class Bookshop(Protocol):
    """Bookshop 1.0.0

    Books, and orders of them.

    ``client.typed(Bookshop)`` makes its methods calls; of an async client it is
    ``client.typed(AsyncBookshop)``.
    """

    @rpc(name="books.find", by="name")
    def books_find(self, words: list[str], limit: Annotated[int, Field(ge=1)] = 10, from_: Annotated[int, Field(alias="from")] = ...) -> list[Book]:
        """Find books by words of their titles.

        :param limit: How many at most.
        :param from_: The first year.
        """
        ...

    @rpc(name="orders.place")
    def orders_place(self, isbn: Isbn, copies: Annotated[int, Field(ge=1)] = 1) -> Order:
        """Order copies of a book.

        :raises OutOfStockError: Out of stock
        """
        ...

    @notification(name="tick")
    def tick(self) -> None:
        """Say that the client is alive."""
        ...


class AsyncBookshop(Bookshop, AsyncInterface, Protocol):
    """The same methods, awaited."""
