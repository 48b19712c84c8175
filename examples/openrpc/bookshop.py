"""Bookshop 1.0.0

Written by ``rpcretry openrpc``. What is changed here is lost when it is written anew:

    rpcretry openrpc DOCUMENT -o FILE --force --line-length 160
"""

# Whether rpcretry is first-party, and so where it stands, depends on the folder.
# isort: skip_file
from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Protocol

from pydantic import Field
from rpcretry import AsyncInterface, JsonRpcError, notification, rpc
from rpcretry.openrpc import Model
from typing_extensions import TypeAliasType

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
    """Books, and orders of them.

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
