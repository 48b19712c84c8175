"""Lending library 2.1.0

Written by ``rpcretry openrpc``. What is changed here is lost when it is written anew:

    rpcretry openrpc DOCUMENT -o FILE --force --class-name Library --line-length 160
"""

# Whether rpcretry is first-party, and so where it stands, depends on the folder.
# isort: skip_file
from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal, Protocol

from pydantic import Field
from rpcretry import AsyncInterface, JsonRpcError, ServerError, notification, rpc
from rpcretry.openrpc import Model, Number
from typing_extensions import TypeAliasType

CatalogueSearchWord = TypeAliasType("CatalogueSearchWord", Annotated[str, Field(min_length=2)])

CardNumber = TypeAliasType("CardNumber", Annotated[str, Field(max_length=12, min_length=4)])
"""As it is printed on the card."""

Language = TypeAliasType("Language", Literal["de", "en", "fr"])


class Author(Model):
    name: str
    born: date | None = None


class Subject(Model):
    name: str
    narrower: list[str] | None = None


class Dated(Model):
    at: datetime


class Loan(Dated):
    copy_: Annotated[int, Field(alias="copy")]
    due: date


class PaperItem(Model):
    kind: Literal["paper"]
    copy_: Annotated[int, Field(alias="copy")]


class DiscItem(Model):
    kind: Literal["disc"]
    copy_: Annotated[int, Field(alias="copy")]
    scratched: bool | None = None


class Whereabouts(Model):
    place: str
    since: datetime | None = None


class CatalogueSearchFilterPublished(Model):
    from_: Annotated[int | None, Field(alias="from")] = None
    to: int | None = None


class TheReaderOwesAFeeErrorData(Model):
    cents: int


class Book(Model):
    """A title, of which there may be several copies."""

    title: str
    authors: list[Author]
    language: Language | None = None
    year: int | None = None
    """When it was first printed."""
    subject: Subject | None = None
    x_rating: Annotated[Number | None, Field(alias="x-rating")] = None


Item = TypeAliasType("Item", PaperItem | DiscItem)


class CatalogueSearchFilter(Model):
    languages: list[Language] | None = None
    published: CatalogueSearchFilterPublished | None = None


class TheReaderOwesAFeeError(ServerError):
    """-32011: The reader owes a fee"""

    CODE = -32011
    MESSAGE = "The reader owes a fee"
    data: TheReaderOwesAFeeErrorData


class NotOnShelfError(JsonRpcError):
    """4404: The copy is not on its shelf"""

    CODE = 4404
    MESSAGE = "The copy is not on its shelf"
    data: Whereabouts


ERRORS: list[type[JsonRpcError]] = [TheReaderOwesAFeeError, NotOnShelfError]
"""What a client raises for these codes; give it as ``errors=ERRORS``."""


class Library(Protocol):
    """Books, who has them, and when they are due.

    Every copy has a number of its own.

    ``client.typed(Library)`` makes its methods calls; of an async client it is
    ``client.typed(AsyncLibrary)``.
    """

    @rpc(name="catalogue.search", by="name")
    def catalogue_search(
        self,
        words: Annotated[list[CatalogueSearchWord], Field(min_length=1)],
        filter: CatalogueSearchFilter = ...,
        limit: Annotated[int, Field(ge=1, le=50)] = 10,
        class_: Annotated[str, Field(pattern="^[0-9]{3}$", alias="class")] = ...,
    ) -> list[Book]:
        """Find books.

        What is left out does not narrow the search down.

        :param words: Any of these words.
        :param filter: What else has to be so.
        :param class_: The shelf mark.
        :returns: The best matches first.
        """
        ...

    @rpc(name="catalogue.subjects")
    def catalogue_subjects(self) -> Subject:
        """The tree of subjects."""
        ...

    @rpc(name="loans.borrow")
    def loans_borrow(self, reader: CardNumber, copy: Annotated[int, Field(ge=1)], days: int = 28) -> Loan:
        """Borrow a copy.

        :param reader: The number of the reader's card.
        :raises NotOnShelfError: The copy is not on its shelf
        :raises TheReaderOwesAFeeError: The reader owes a fee
        :raises InvalidParamsError: Invalid params
        """
        ...

    @rpc(name="loans.list")
    def loans_list(self, reader: CardNumber) -> dict[str, Loan]:
        """Use loans.find.

        Deprecated.

        :param reader: The number of the reader's card.
        """
        ...

    @rpc(name="loans.find", by="name")
    def loans_find(self, reader: CardNumber, state: Literal["open", "late", "closed"] = ...) -> Loan | None:
        """:param reader: The number of the reader's card."""
        ...

    @rpc(name="desk.return")
    def desk_return(self, item: Item) -> None: ...

    @notification(name="desk.ring")
    def desk_ring(self, times: int = ...) -> None:
        """Ring the bell."""
        ...

    @rpc(name="desk.rung")
    def desk_rung(self) -> int: ...


class AsyncLibrary(Library, AsyncInterface, Protocol):
    """The same methods, awaited."""
