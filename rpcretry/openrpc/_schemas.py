"""The schemas of a document, as definitions that have names and say what Python has types for."""

from __future__ import annotations

import json
import math
import re
import sys
import textwrap
import unicodedata
from collections.abc import Iterator
from typing import Any, TypeAlias

from ._document import TYPES, Place, find, is_unicode, kind, no_target
from ._names import Names, class_name

__all__ = ["Schemas", "clean_text"]

Schema: TypeAlias = dict[str, Any]

# The formats that have a Python type which JSON takes back as it came. Others say something about a string, and stay strings:
# pydantic would hide a password in what is sent, and reads addresses only with a further package.
FORMATS = frozenset({"date-time", "date", "time", "duration", "uuid"})

# What is copied; all else that a schema may hold either has its own treatment, or no place in Python's types.
NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
COUNTS = ("minLength", "maxLength", "minItems", "maxItems")

# What is said of values of one type alone, and what several types take each for themselves where they stand side by side.
KEYWORDS: dict[str, frozenset[str]] = {
    "number": frozenset(NUMBERS),
    "integer": frozenset(NUMBERS),
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "array": frozenset({"minItems", "maxItems", "items", "prefixItems"}),
    "object": frozenset({"properties", "required", "additionalProperties", "patternProperties", "allOf", "title", "description"}),
}
LIMITS = (*NUMBERS, *COUNTS, "pattern", "format")
SAID_OF_ALL = frozenset({"title", "description", "default"})

JSON_TYPES: dict[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "number": (int, float),
    "integer": (int,),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}

# The description of OpenRPC itself, which documents give as what rpc.discover returns.
META_SCHEMA = re.compile(r"https?://(meta\.open-rpc\.org\b|[^/]+/open-rpc/(meta-schema|spec)\b)")


class Schemas:
    """Gathers definitions: what the components name, what is referred to, and every object that a schema holds inside.

    An object inside of another shares the definition of a component that is equal, or of an object of the same title: documents
    that servers hand out have their references replaced by copies of what they referred to.

    :param root: the whole document.
    :param names: gives the names of the definitions.
    :param width: of the lines of descriptions.
    :ivar definitions: the cleaned schemas by name.
    """

    def __init__(self, root: Place, names: Names, width: int) -> None:
        self._width = width
        self.definitions: dict[str, Schema] = {}
        self._root = root
        self._names = names
        self._by_identity: dict[int, str] = {}
        self._by_content: dict[tuple[str, int], str] = {}
        self._places: dict[str, Place] = {}
        self._made: list[Schema] = []

    def add(self, components: list[tuple[str, Place]]) -> None:
        """Add the schemas of the components under their own names."""
        for key, place in components:
            name = self._names.give(class_name(key), f"{class_name(key)}Model")
            self._by_identity[id(place.value)] = name
            if _has_members(place.value):
                self._by_content.setdefault(self._content(place, place), name)
        for _, place in components:
            self._fill(self._by_identity[id(place.value)], place, place)

    def expression(self, place: Place, hint: str) -> Schema:
        """The schema at a place, cleaned; an object in it gets a definition, named by its title or else by *hint*."""
        return self._clean(place, hint, place)

    def _fill(self, name: str, place: Place, scope: Place) -> None:
        self.definitions[name], self._places[name] = {}, place
        self.definitions[name] = self._clean(place, name, scope, named=True)

    def _define(self, place: Place, hint: str, scope: Place) -> Schema:
        """A reference to the definition of what stands there."""
        name = self._by_identity.get(id(place.value))
        if name is None and _has_members(place.value):
            name = self._by_content.get(self._content(place, scope))
        if name is None:
            title = place.value.get("title")
            # Titles may be sentences.
            short = isinstance(title, str) and re.fullmatch(r"\w+(\W\w+){0,3}", title) is not None
            name = self._names.give(*([class_name(title)] if short else []), hint)
            self._by_identity[id(place.value)] = name
            if title is not None:
                self._by_content.setdefault(self._content(place, scope), name)
            self._fill(name, place, scope)
        return {"$ref": f"#/definitions/{name}"}

    def _content(self, place: Place, scope: Place) -> tuple[str, int]:
        text = json.dumps(place.value, sort_keys=True)
        # The same words mean something else where they refer to what stands beside them.
        return text, id(scope.value) if re.search(r'"\$ref": "#(?!/components/)', text) else 0

    def _refer(self, place: Place, scope: Place) -> Schema:
        reference = place["$ref"].text()
        if META_SCHEMA.match(reference):
            return {"type": "object"}
        target, inner = None, scope
        if reference == "#":
            target = scope
        elif reference.startswith("#/"):
            target = find(reference, self._root)
            if target is None:
                # Many authors mean the schema that they write, and not the document that it stands in.
                target = find(reference, scope)
            elif not target.path.startswith(f"{scope.path}."):
                inner = target
        if target is None:
            no_target(place, reference)
            return {}
        if isinstance(target.value, bool):
            return {}
        steps = [step for step in re.split(r"[./]", reference) if re.search(r"[^\W\d]", step)]
        named = [step for step in steps if step not in ("#", "schema", "items", "properties", "components", "definitions")]
        return self._define(target.object(), class_name(named[-1] if named else scope.path), inner)

    def _clean(self, place: Place, hint: str, scope: Place, *, named: bool = False) -> Schema:
        """The schema at a place, with what Python has no type for left out.

        :param hint: the name of what it belongs to.
        :param scope: the outermost schema around it.
        :param named: whether it is a definition already.
        """
        value = place.value
        if isinstance(value, bool):
            return {}
        place.object()
        if "$ref" in value:
            return self._refer(place, scope)
        if not named and _has_members(value):
            alone = place["allOf"][0] if isinstance(value.get("allOf"), list) and len(value["allOf"]) == 1 else None
            if alone is not None and isinstance(alone.value, dict) and "$ref" in alone.value and "properties" not in value:
                # The usual way to say something about a reference.
                return self._refer(alone, scope)
            return self._define(place, hint, scope)
        return self._checked(place, hint, scope)

    def _checked(self, place: Place, hint: str, scope: Place) -> Schema:
        value = place.value
        cleaned: Schema = {}
        types = _types(place)
        if len(types) > 1 and not _is_alike(value, types):
            return {"anyOf": [self._clean(self._variant(place, name), f"{hint}{name.capitalize()}" if name != "object" else hint, scope) for name in types]}
        if types:
            cleaned["type"] = types if len(types) > 1 else types[0]
        cleaned |= {key: _limit(key, value[key], types) for key in NUMBERS if _is_limit(key, value.get(key))}
        cleaned |= {key: value[key] for key in COUNTS if type(value.get(key)) is int and 0 <= value[key] < 2**63}
        if "enum" in value:
            if not place["enum"].list():
                place["enum"].refuse("an enum has at least one value")
            cleaned |= _literal("enum", value["enum"], types)
        if "const" in value:
            cleaned |= _literal("const", value["const"], types)
        if isinstance(value.get("description"), str) and value["description"].strip():
            cleaned["description"] = clean_text(value["description"], self._width)
        if isinstance(value.get("format"), str) and value["format"] in FORMATS and types in (["string"], ["string", "null"], ["null", "string"]):
            cleaned["format"] = value["format"]
        if isinstance(value.get("pattern"), str) and _can_match(value["pattern"]):
            cleaned["pattern"] = value["pattern"]
        if "default" in value and _is_of(value["default"], value, types):
            cleaned["default"] = value["default"]
        for key in ("allOf", "anyOf", "oneOf"):
            if key in value:
                cleaned[key] = self._members(place[key], hint, scope, inline=key == "allOf" or "properties" in value)
        return cleaned | self._array(place, hint, scope) | self._object(place, hint, scope)

    def _variant(self, place: Place, type_: str) -> Place:
        """The schema for one of its types alone."""
        others = SAID_OF_ALL.union(*KEYWORDS.values()) - KEYWORDS.get(type_, frozenset())
        variant = {key: value for key, value in place.value.items() if key not in others} | {"type": type_}
        # Definitions are known by identity, which only what lives on keeps.
        self._made.append(variant)
        return Place(variant, place.path)

    def _members(self, place: Place, hint: str, scope: Place, *, inline: bool) -> list[Schema]:
        members = place.list()
        if not members:
            place.refuse("expected at least one schema")
        # What is merged into one class has none of its own.
        return [self._clean(member, hint if inline else f"{hint}{_option(member, index)}", scope, named=inline) for index, member in enumerate(members, 1)]

    def _array(self, place: Place, hint: str, scope: Place) -> Schema:
        cleaned: Schema = {}
        for key in ("prefixItems", "items"):
            if isinstance(place.value.get(key), list) or (key == "prefixItems" and key in place.value):
                if place[key].list():
                    cleaned[key] = [self._clean(item, f"{hint}Item{number}", scope) for number, item in enumerate(place[key].list(), 1)]
            elif key in place.value:
                cleaned[key] = self._clean(place[key], f"{hint}Item", scope)
        return cleaned

    def _object(self, place: Place, hint: str, scope: Place) -> Schema:
        value, cleaned = place.value, Schema()
        if value.get("properties"):
            cleaned["properties"] = {name: self._clean(member, hint + class_name(name, ""), scope) for name, member in place["properties"].members()}
            # Not every author says that it is an object.
            cleaned["type"] = "object"
        if "required" in value and isinstance(value["required"], list):
            cleaned["required"] = [name for item in place["required"].list() if is_unicode(name := item.text(empty=True))]
        if "additionalProperties" in value:
            further = place["additionalProperties"]
            # Beside members with names, the others are kept, and not of a type. That there are none is what a server checks:
            # one that begins to say more does not break its clients.
            if further.value is not False:
                cleaned["additionalProperties"] = True if "properties" in cleaned else self._clean(further, f"{hint}Value", scope)
        elif value.get("patternProperties") and "properties" not in cleaned:
            patterns = list(place["patternProperties"].members())
            values = [self._clean(member, f"{hint}Value", scope) for _, member in patterns]
            cleaned["additionalProperties"] = values[0] if len(values) == 1 else {"anyOf": values}
            cleaned["type"] = "object"
        return cleaned

    def refuse_loops(self) -> None:
        """Refuse what is itself, or a choice between itself and something else.

        :raises DocumentError: naming one of them.
        """
        for start in self.definitions:
            ahead, seen = [start], set[str]()
            while ahead:
                for name in _same_as(self.definitions[ahead.pop()]):
                    if name == start:
                        self._places[start].refuse("the schema leads back to itself")
                    if name not in seen:
                        seen.add(name)
                        ahead.append(name)


def _same_as(schema: Schema) -> Iterator[str]:
    """The definitions of which a value of this schema has to be one, at once and not as a member or item."""
    if "$ref" in schema:
        yield schema["$ref"].rpartition("/")[2]
    for key in ("allOf", "anyOf", "oneOf"):
        for member in schema.get(key, ()):
            yield from _same_as(member)


def _has_members(value: object) -> bool:
    """Whether it is an object with members of its own, for which there is to be a class."""
    return isinstance(value, dict) and "$ref" not in value and bool(value.get("properties") or (isinstance(value.get("allOf"), list) and value["allOf"]))


def _types(place: Place) -> list[str]:
    if "type" not in place.value:
        return []
    types = place.value["type"]
    types = types if isinstance(types, list) else [types]
    for name in types:
        if name not in TYPES:
            place["type"].refuse(f"expected one of {', '.join(TYPES)}, got {name!r:.40}" if isinstance(name, str) else f"expected a string, got {kind(name)}")
    return types


def _is_alike(value: Schema, types: list[str]) -> bool:
    """Whether all that the schema says holds for each of its types; null is allowed beside any."""
    limited = [name for name in types if name != "null"]
    if "object" in types and _has_members(value):
        return False
    return len(limited) < 2 or "enum" in value or "const" in value or not any(key in value for key in LIMITS)


def _is_limit(key: str, value: object) -> bool:
    """Whether numbers can be compared with it. In draft 4 ``exclusiveMinimum`` was a boolean."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    # To binary arithmetic 0.07 is no multiple of 0.01: such a limit is left to the server.
    return abs(value) <= sys.float_info.max and (key != "multipleOf" or (value > 0 and value == int(value)))


def _limit(key: str, value: float, types: list[str]) -> float:
    """The limit, among whole numbers the nearest that says the same."""
    if "integer" not in types or isinstance(value, int):
        return int(value) if key == "multipleOf" else value
    return math.ceil(value) if key in ("minimum", "exclusiveMaximum", "multipleOf") else math.floor(value)


def _literal(key: str, value: Any, types: list[str]) -> Schema:
    """The values, where Python has literals of them; else no more than their types."""
    values = value if key == "enum" else [value]
    # Type checkers know no larger integers.
    if all(item is None or (isinstance(item, str) and is_unicode(item)) or (isinstance(item, int) and abs(item) < 2**63) for item in values):
        return {key: value}
    if types:
        return {}
    names = [next(name for name, kinds in JSON_TYPES.items() if type(item) in kinds) for item in values]
    return {"type": list(dict.fromkeys(names))}


def _option(place: Place, number: int) -> str:
    """What to call one of several variants: by the constant that tells it from the others, where there is one."""
    properties = place.value.get("properties") if isinstance(place.value, dict) else None
    for schema in properties.values() if isinstance(properties, dict) else ():
        if not isinstance(schema, dict):
            continue
        constant = schema.get("const", schema["enum"][0] if isinstance(schema.get("enum"), list) and len(schema["enum"]) == 1 else None)
        if isinstance(constant, str) and class_name(constant, ""):
            return class_name(constant, "")
    return f"Option{number}"


def _can_match(pattern: str) -> bool:
    """Whether pydantic takes the pattern. Its engine has no look-around, for one, and the class would not even be made."""
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    try:
        SchemaValidator(core_schema.str_schema(pattern=pattern))
    except SchemaError:
        return False
    return True


def _is_of(default: object, schema: Schema, types: list[str]) -> bool:
    """Whether a default is a simple value of the type that its schema has."""
    if "enum" in schema:
        return any(default == value and type(default) is type(value) for value in schema["enum"])
    simple = types in (["boolean"], ["integer"], ["number"], ["string"]) and "format" not in schema
    return simple and type(default) in JSON_TYPES[types[0]] and (not isinstance(default, float) or math.isfinite(default))


def clean_text(text: str, width: int) -> str:
    """Text for a docstring: lines of that width, without control characters, letters that are not seen, and what UTF-8 has no
    bytes for."""
    lines = []
    for line in text.strip().splitlines():
        # Letters that are not seen can turn the order of those around them.
        line = "".join(" " if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in line if unicodedata.category(letter) != "Cf").rstrip()
        indent = " " * (len(line) - len(line.lstrip()))
        lines += textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) if len(line) > width else [line]
    return "\n".join(lines)
