"""From the names of a document to those of a Python module."""

from __future__ import annotations

import builtins
import keyword
import re
import unicodedata
from collections.abc import Iterable, Sequence

from pydantic import BaseModel

__all__ = ["Names", "class_name", "is_plain", "member_names", "snake_name", "variable_name"]

# Linters take these letters for digits.
AMBIGUOUS = frozenset({"l", "O", "I"})

TYPES = frozenset(name for name in vars(builtins) if isinstance(getattr(builtins, name), type)) | {"None", "True", "False"}

# What a generated module imports, or may. A class of that name would take its place.
IMPORTED = frozenset(
    {"Annotated", "Any", "ConfigDict", "BaseModel", "Field", "Literal", "Model", "Number", "Protocol", "TypeAliasType", "UUID"}
    | {"Dict", "List", "Optional", "RootModel", "StringConstraints", "Union"}
    | {
        "AsyncInterface",
        "ERRORS",
        "JsonRpcError",
        "InternalError",
        "InvalidParamsError",
        "InvalidRequestError",
        "MethodNotFoundError",
        "ParseError",
        "ServerError",
    }
)

# What stands in the annotations of members. A member of that name would be what the annotations after it mean.
ANNOTATING = frozenset({"bool", "dict", "float", "int", "list", "set", "str", "tuple"}) | IMPORTED


def _pieces(text: str) -> list[str]:
    """The parts of a name that are letters and digits, in any script."""
    return [piece for piece in re.split(r"[\W_]+", unicodedata.normalize("NFKC", text)) if piece]


def class_name(text: str, otherwise: str = "Model") -> str:
    """``wallet.getBalance`` becomes ``WalletGetBalance``."""
    name = "".join(piece[0].upper() + piece[1:] for piece in _pieces(text))
    return _usable(name, otherwise)


def snake_name(text: str, otherwise: str = "call") -> str:
    """``wallet.getBalance`` becomes ``wallet_get_balance``."""
    humps = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", "_".join(_pieces(text)))
    return _usable(humps.lower(), otherwise)


def variable_name(text: str, otherwise: str = "param") -> str:
    """The name as it is where it can be a parameter, else what is nearest to it."""
    return text if is_plain(text) else _usable("_".join(_pieces(text)), otherwise)


def is_plain(text: str) -> bool:
    """Whether a parameter may have this very name."""
    normal = unicodedata.normalize("NFKC", text) == text
    return normal and text.isidentifier() and text[0] != "_" and not keyword.iskeyword(text) and text not in AMBIGUOUS and text != "self"


def member_names(members: Sequence[str], taken: Iterable[str]) -> dict[str, str]:
    """What the members of a model are called in Python, where that is not their own name.

    :param taken: what means something else in the module.
    """
    reserved = ANNOTATING | frozenset(taken) | frozenset(dir(BaseModel))
    # A member that needs no change keeps its name.
    plain = {name for name in members if is_plain(name) and name not in reserved}
    names = Names({*reserved, *plain})
    wishes = {name: variable_name(name, "field") for name in members}
    return {name: names.give(f"{wish}_" if wish in reserved else wish) for name, wish in wishes.items() if name not in plain}


def _usable(name: str, otherwise: str) -> str:
    if not name.isidentifier():
        # It begins with a digit, or nothing of it is left.
        name = f"{otherwise}_{name}".rstrip("_") if otherwise.islower() else otherwise + name
    if not name.isidentifier():
        name = otherwise
    return f"{name}_" if keyword.iskeyword(name) or name in AMBIGUOUS or name == "self" else name


class Names:
    """Names that are given once each.

    :param taken: what is not to be given.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def __contains__(self, name: object) -> bool:
        return name in self._taken

    def give(self, *wishes: str) -> str:
        """The first of *wishes* that is free, else the last one with a number."""
        for wish in wishes:
            if wish not in self._taken:
                break
        else:
            separator = "_" if wish.lower() == wish else ""
            wish = next(name for number in range(2, 1_000_000) if (name := f"{wish}{separator}{number}") not in self._taken)
        self._taken.add(wish)
        return wish
