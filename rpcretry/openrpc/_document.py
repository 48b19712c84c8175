"""An OpenRPC document, read and checked: what the generator needs of it, and nothing else."""

from __future__ import annotations

import dataclasses
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any, Literal

__all__ = ["Document", "DocumentError", "ErrorObject", "Method", "Param", "Place", "read"]

By = Literal["name", "position"]

TYPES = ("string", "integer", "number", "boolean", "object", "array", "null")

# Who says "either" means it, and by name any optional param may be left out. Who says nothing means it by the
# specification only: many such servers, Ethereum's among them, read nothing but arrays.
STRUCTURES: Mapping[str, By] = {"": "position", "by-position": "position", "by-name": "name", "either": "name"}


class DocumentError(ValueError):
    """The document is no OpenRPC document, or holds something that no interface can be made of.

    The message begins with the JSON path of the place, from ``$``, where there is one.
    """


@dataclasses.dataclass(frozen=True)
class Place:
    """A value of the document, and where it stands.

    :ivar value: the value.
    :ivar path: its JSON path.
    """

    value: Any
    path: str

    def __getitem__(self, key: str | int) -> Place:
        step = f"[{key}]" if isinstance(key, int) else f".{key}" if re.fullmatch(r"[\w-]+", key) else f"[{key!r:.60}]"
        return Place(self.value[key], self.path + step)

    def get(self, key: str, default: Any = None) -> Place:
        """The member of an object; *default* where there is none, or null, which some servers write for that."""
        return self[key] if self.value.get(key) is not None else Place(default, f"{self.path}.{key}")

    def object(self) -> Place:
        """The place itself, if an object stands there."""
        return self if isinstance(self.value, dict) else self.refuse(f"expected an object, got {kind(self.value)}")

    def list(self) -> list[Place]:
        """The items, if an array stands there."""
        if not isinstance(self.value, list):
            self.refuse(f"expected an array, got {kind(self.value)}")
        return [self[index] for index in range(len(self.value))]

    def members(self) -> Iterator[tuple[str, Place]]:
        """The members, if an object stands there."""
        for name in self.object().value:
            if not is_unicode(name):
                self.refuse(f"the name {name!a:.80} holds half of a surrogate pair, which cannot be sent")
            yield name, self[name]

    def text(self, *, empty: bool = False) -> str:
        """The string that stands there.

        :param empty: whether it is prose, which may be empty.
        """
        if not isinstance(self.value, str):
            self.refuse(f"expected a string, got {kind(self.value)}")
        if not (self.value or empty):
            self.refuse("expected a string that is not empty")
        if not (empty or is_unicode(self.value)):
            self.refuse(f"the string {self.value!a:.80} holds half of a surrogate pair, which cannot be sent")
        return str(self.value)

    def refuse(self, problem: str) -> Any:
        """Say what is wrong here.

        :raises DocumentError: always.
        """
        raise DocumentError(f"{self.path}: {problem}")


def is_unicode(text: str) -> bool:
    """Whether UTF-8 has it. JSON has escapes for halves of surrogate pairs as well."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def kind(value: object) -> str:
    """What JSON calls the type of a value."""
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array", dict: "an object", type(None): "null"}
    return names.get(type(value), type(value).__name__)


@dataclasses.dataclass(frozen=True)
class Param:
    """A content descriptor: one param, or the result.

    :ivar name: as the document has it.
    :ivar schema: where its schema stands.
    :ivar required: whether a call has to give it.
    """

    name: str
    schema: Place
    required: bool
    description: str
    deprecated: bool


@dataclasses.dataclass(frozen=True)
class ErrorObject:
    """An error that a method may answer with.

    :ivar name: of the component, where it is one.
    :ivar data: the schema of its data, where it has one.
    """

    code: int
    message: str
    name: str
    data: Place | None


@dataclasses.dataclass(frozen=True)
class Method:
    """A method.

    :ivar by: how its params travel.
    :ivar result: ``None`` for a notification.
    """

    name: str
    summary: str
    description: str
    deprecated: bool
    by: By
    params: tuple[Param, ...]
    result: Param | None
    errors: tuple[ErrorObject, ...]


@dataclasses.dataclass(frozen=True)
class Document:
    """What an interface is made of.

    :ivar root: the whole document, for references.
    :ivar schemas: those of the components, by name.
    """

    root: Place
    title: str
    version: str
    description: str
    methods: tuple[Method, ...]
    schemas: Mapping[str, Place]


def read(value: object) -> Document:
    """Read a document.

    :param value: it, as :func:`json.loads` returns it.
    :raises DocumentError: naming the place that is wrong.
    """
    root = Place(value, "$")
    if not isinstance(value, dict):
        raise DocumentError(f"$: an OpenRPC document is an object, this is {kind(value)}")
    if "openrpc" not in value:
        other = next((name for name in ("openapi", "swagger", "asyncapi") if name in value), None)
        raise DocumentError(f"$: this document says {other}, not openrpc" if other else "$: no OpenRPC document, it has no member openrpc")
    version = root["openrpc"].text()
    if not re.match(r"1\.\d", version):
        root["openrpc"].refuse(f"expected a version 1.x, got {version!r:.40}")
    if "methods" not in value:
        root.refuse("an OpenRPC document has methods, this one has none")
    info = root.get("info", {}).object()
    components = root.get("components", {}).object()
    methods: dict[str, Method] = {}
    for place in root["methods"].list():
        target = resolved(place, root)
        method = _method(target, root)
        if method.name in methods:
            place.refuse(f"there are two methods {method.name!r:.80}")
        methods[method.name] = method
    return Document(
        root,
        info.get("title", "").text(empty=True),
        info.get("version", "").text(empty=True),
        info.get("description", "").text(empty=True),
        tuple(methods.values()),
        dict(components.get("schemas", {}).members()),
    )


def _method(place: Place, root: Place) -> Method:
    value = place.object().value
    name = _required(place, "name").text()
    params = tuple(_descriptor(item, root, is_param=True) for item in place.get("params", []).list())
    seen: set[str] = set()
    for index, param in enumerate(params):
        if param.name in seen:
            place["params"][index].refuse(f"there are two params {param.name!r:.80}")
        seen.add(param.name)
    structure = place.get("paramStructure", "").text(empty=True)
    if structure not in STRUCTURES:
        place["paramStructure"].refuse(f"expected by-name, by-position or either, got {structure!r:.40}")
    return Method(
        name,
        place.get("summary", "").text(empty=True),
        place.get("description", "").text(empty=True),
        place.get("deprecated", False).value is True,
        STRUCTURES[structure],
        params,
        # Null is no descriptor, and does not say that there is no answer: the call may return anything.
        _descriptor(place.get("result", {}), root, is_param=False) if "result" in value else None,
        tuple(_error(item, root) for item in place.get("errors", []).list()),
    )


def _required(place: Place, key: str) -> Place:
    if key not in place.value:
        place.refuse(f"it has no {key}")
    return place[key]


def _descriptor(place: Place, root: Place, *, is_param: bool) -> Param:
    """What a method takes or returns. OpenRPC's own examples have results without a schema, and without a name."""
    target = resolved(place, root).object()
    return Param(
        _required(target, "name").text() if is_param else "result",
        target.get("schema", True),
        target.get("required", False).value is True,
        target.get("description", "").text(empty=True) or target.get("summary", "").text(empty=True),
        target.get("deprecated", False).value is True,
    )


def _error(place: Place, root: Place) -> ErrorObject:
    target = resolved(place, root).object()
    code = _required(target, "code")
    if isinstance(code.value, bool) or not isinstance(code.value, int):
        code.refuse(f"expected an integer, got {kind(code.value)}")
    data = target.get("data")
    # A copy of a component, as it stands in a document without references, has its name, too.
    components = root.get("components", {}).object().get("errors", {}).value
    name = next((key for key, item in components.items() if item == target.value), "") if isinstance(components, dict) else ""
    return ErrorObject(code.value, target.get("message", "").text(empty=True), name, data if _is_schema(data.value) else None)


def _is_schema(value: object) -> bool:
    """Whether the data of an error is a schema. The specification has a value there, and many documents have a schema."""
    if not isinstance(value, dict):
        return False
    type_ = value.get("type")
    names = type_ if isinstance(type_, list) else [type_]
    return (
        isinstance(value.get("$ref"), str)
        or (bool(names) and all(name in TYPES for name in names))
        or any(isinstance(value.get(key), list) for key in ("oneOf", "anyOf", "allOf", "enum"))
        or isinstance(value.get("properties"), dict)
    )


def unescape(step: str) -> str:
    """A step of a JSON pointer, as it is in the document."""
    return urllib.parse.unquote(step).replace("~1", "/").replace("~0", "~")


def find(reference: str, root: Place) -> Place | None:
    """What a local reference points to; ``None`` where nothing stands there."""
    place = root
    for step in map(unescape, reference.removeprefix("#").split("/")[1:]):
        if isinstance(place.value, dict) and step in place.value:
            place = place[step]
        elif isinstance(place.value, list) and step.isdecimal() and int(step) < len(place.value):
            place = place[int(step)]
        else:
            return None
    return place


def resolved(place: Place, root: Place) -> Place:
    """What stands there, or what the reference there points to.

    :raises DocumentError: where it points nowhere, elsewhere, or to itself.
    """
    seen: set[str] = set()
    while isinstance(place.value, dict) and "$ref" in place.value:
        reference = place["$ref"].text()
        if reference in seen:
            place.refuse(f"the reference {reference!r:.80} leads back to itself")
        seen.add(reference)
        target = find(reference, root) if reference.startswith("#/") else None
        if target is None:
            no_target(place, reference)
        else:
            place = target
    return place


def no_target(place: Place, reference: str) -> None:
    """Refuse a reference.

    :raises DocumentError: always.
    """
    if reference.startswith("#"):
        place.refuse(f"the reference {reference!r:.80} points to nothing")
    # A URL may hold a key.
    place.refuse("the reference leads to another document; bundle the documents into one first")
