"""Models and type expressions, by datamodel-code-generator."""

from __future__ import annotations

import ast
import copy
import dataclasses
import json
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ._document import DocumentError
from ._names import member_names

__all__ = ["READ", "Models", "make_models", "quoted_types"]

# The class whose fields have the types of params, results and data. It is read, and does not stay.
READ = "RpcretryTypesToBeRead"

# What may be in the text that the library made of somebody's document.
MODULES = frozenset({"__future__", "builtins", "collections.abc", "datetime", "decimal", "enum", "pydantic", "typing", "typing_extensions", "uuid"})
CALLED = frozenset({"pydantic.ConfigDict", "pydantic.Field", "typing_extensions.TypeAliasType"})


@dataclasses.dataclass(frozen=True)
class Models:
    """What the library wrote.

    :ivar imports: what it imports: module, name, and the name here.
    :ivar body: the classes and type aliases.
    :ivar names: what they are called.
    :ivar types: the type expressions, by the names of what was asked for.
    """

    imports: tuple[tuple[str, str, str], ...]
    body: str
    names: frozenset[str]
    types: Mapping[str, str]


def make_models(definitions: Mapping[str, Any], expressions: Mapping[str, Any]) -> Models:
    """Models of all definitions, and a type expression for each of the other schemas.

    :raises DocumentError: where the library makes nothing of them.
    """
    document = {
        "title": READ,
        "type": "object",
        "properties": dict(expressions),
        # A field that may be left out would be one that may be None.
        "required": list(expressions),
        "definitions": dict(definitions),
    }
    text = _written(document, _members_by_model(definitions))
    try:
        text = _edited(text)
        tree = ast.parse(text)
    except SyntaxError as problem:
        raise DocumentError(f"$.components.schemas: datamodel-code-generator made no Python of the schemas: {problem}") from problem
    # Each statement has its lines to itself.
    lines = text.split("\n")
    imports: list[tuple[str, str, str]] = []
    kept: list[str] = []
    names: set[str] = set()
    types: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            imports += [(node.module, alias.name, alias.asname or alias.name) for alias in node.names if node.module != "__future__"]
        elif not _declares(node, {here: f"{module}.{name}" for module, name, here in imports}):
            # The document may be a stranger's, and whoever imports the module runs it.
            raise DocumentError(f"$.components.schemas: datamodel-code-generator made something else than classes of them: {ast.unparse(node):.80}")
        elif isinstance(node, ast.ClassDef) and node.name == READ:
            fields = [field for field in node.body if isinstance(field, ast.AnnAssign)]
            if len(fields) != len(expressions):
                raise DocumentError("$.components.schemas: datamodel-code-generator found no type for some of the params or results")
            types = {name: _expression(field.annotation) for name, field in zip(expressions, fields, strict=True)}
        elif ast.unparse(node) != f"{READ}.model_rebuild()":
            segment = _alias(node) if isinstance(node, ast.Assign) else "\n".join(lines[node.lineno - 1 : node.end_lineno])
            # What is said of an alias stands right below it.
            kept.append(f"{kept.pop()}\n{segment}" if kept and _is_text(node) else segment)
            names |= {node.name} if isinstance(node, ast.ClassDef) else {target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)}
    if any("Union[" in item for item in kept):
        imports.append(("typing", "Union", "Union"))
    return Models(tuple(imports), "\n\n".join(kept), frozenset(names), types)


def _members_by_model(definitions: Mapping[str, Any]) -> dict[str, str]:
    """What members are called in Python, by model and member, where that is not their own name.

    A model that has members from others is a subclass of theirs, so among all of these a name means one member.
    """
    families = {name: {name} for name in definitions}
    for name, schema in definitions.items():
        for other in _merged(schema):
            family = families[name] | families[other]
            families |= dict.fromkeys(family, family)
    # For the models that the library makes of parts of ours.
    everywhere = [member for schema in definitions.values() for member in _own_members(schema) if "." not in member]
    renamed = member_names(everywhere, definitions)
    for name in definitions:
        # In the order of the document, whatever that of a set is.
        members = [member for other in definitions if other in families[name] for member in _own_members(definitions[other])]
        renamed |= {f"{name}.{member}": here for member, here in member_names(members, definitions).items()}
    return renamed


def _merged(schema: Mapping[str, Any]) -> Iterator[str]:
    """The definitions whose members become members of this one."""
    for key in ("allOf", "anyOf", "oneOf") if "properties" in schema else ("allOf",):
        for part in schema.get(key, ()):
            if "$ref" in part:
                yield part["$ref"].rpartition("/")[2]
            yield from _merged(part)


def _own_members(schema: Mapping[str, Any]) -> Iterator[str]:
    yield from schema.get("properties", ())
    # What is required and not described is a member all the same.
    yield from schema.get("required", ())
    for key in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(key, ()):
            yield from _own_members(part)


def _edited(text: str) -> str:
    """The text with our base for models, and our numbers for floats."""
    tree = ast.parse(text)
    floats = {"float"} | {alias.asname or "" for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names if alias.name == "float"}
    edits: list[tuple[ast.expr, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in floats:
            edits.append((node, "Number"))
        elif isinstance(node, ast.ClassDef) and node.name != READ:
            edits += [(base, "Model") for base in node.bases if ast.unparse(base) == "BaseModel"]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "TypeAliasType" and len(node.args) == 2:
            quoted = (part for part in ast.walk(node.args[1]) if isinstance(part, ast.Constant) and part.value in set(quoted_types(node.args[1])))
            edits += [(part, repr(re.sub(r"\bfloat\b", "Number", str(part.value)))) for part in quoted]
    lines = [line.encode() for line in text.split("\n")]
    for expression, new in sorted(edits, key=lambda edit: (edit[0].lineno, edit[0].col_offset), reverse=True):
        line = lines[expression.lineno - 1]
        lines[expression.lineno - 1] = line[: expression.col_offset] + new.encode() + line[expression.end_col_offset :]
    return b"\n".join(lines).decode()


def _written(document: Mapping[str, Any], renamed: Mapping[str, str]) -> str:
    from datamodel_code_generator import generate
    from datamodel_code_generator.enums import DataModelType, InputFileType
    from datamodel_code_generator.format import DatetimeClassType, PythonVersion
    from datamodel_code_generator.parser import LiteralType

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # What its next version does otherwise, and which package it would like: nothing that the user can act on.
        warnings.simplefilter("ignore")
        output = Path(folder, "models.py")
        try:
            generate(
                json.dumps(document),
                input_filename="openrpc.json",
                input_file_type=InputFileType.JsonSchema,
                output=output,
                output_model_type=DataModelType.PydanticV2BaseModel,
                target_python_version=PythonVersion.PY_311,
                class_name=READ,
                # Formatted as a whole later, and without what a pyproject.toml nearby says.
                formatters=[],
                settings_path=Path(folder),
                custom_file_header="#",
                disable_timestamp=True,
                use_standard_collections=True,
                use_union_operator=True,
                use_annotated=True,
                field_constraints=True,
                # A str that has a name is still a str to whoever passes one; a root model is not.
                use_type_alias=True,
                enum_field_as_literal=LiteralType.All,
                strict_nullable=True,
                use_schema_description=True,
                use_field_description=True,
                use_single_line_docstring=True,
                # Many servers say date-time and leave the offset out.
                output_datetime_class=DatetimeClassType.Datetime,
                aliases=renamed,
                # There are none left; a second lock on the network.
                allow_remote_refs=False,
            )
        except Exception as problem:
            reason = (str(problem).strip() or type(problem).__name__).splitlines()[0]
            raise DocumentError(f"$.components.schemas: datamodel-code-generator makes no models of the schemas: {reason:.200}") from problem
        return output.read_text(encoding="utf-8")


def _declares(node: ast.stmt, imported: Mapping[str, str]) -> bool:
    """Whether it is a class of plain fields, a type alias, the description of one, or the like.

    :param imported: what the names mean that are imported.
    """
    if not all(_is_known(call, imported) for call in ast.walk(node) if isinstance(call, ast.Call)):
        return False
    if isinstance(node, ast.ClassDef):
        return not node.decorator_list and all(isinstance(item, ast.AnnAssign | ast.Assign | ast.Pass) or _is_text(item) for item in node.body)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return True
    return isinstance(node, ast.Assign | ast.AnnAssign) or _is_text(node)


def _is_known(call: ast.Call, imported: Mapping[str, str]) -> bool:
    name = ast.unparse(call.func)
    return imported.get(name) in CALLED or re.fullmatch(r"\w+\.model_rebuild\(\)", ast.unparse(call)) is not None


def _alias(alias: ast.Assign) -> str:
    """A type alias. One that names itself has each such member of its union in quotes as a whole, as type checkers and linters
    of all kinds take it; how the library writes it differs from one version to the next."""
    if isinstance(alias.value, ast.Call) and len(alias.value.args) == 2:
        members = list(_members(alias.value.args[1]))
        if any(quoted_types(alias.value.args[1])):
            parts = [ast.Constant(ast.unparse(_Unquoting().visit(member))) if any(quoted_types(member)) else member for member in members]
            union = ast.Subscript(ast.Name("Union"), ast.Tuple(parts))
            alias.value.args[1] = union if len(parts) > 1 else parts[0]
    return ast.unparse(alias)


def _members(type_: ast.expr) -> Iterator[ast.expr]:
    """The members of a union, however it is written."""
    outer = ast.unparse(type_.value) if isinstance(type_, ast.Subscript) else ""
    if isinstance(type_, ast.BinOp):
        yield from _members(type_.left)
        yield from _members(type_.right)
    elif isinstance(type_, ast.Subscript) and outer == "Union" and isinstance(type_.slice, ast.Tuple):
        for member in type_.slice.elts:
            yield from _members(member)
    elif isinstance(type_, ast.Subscript) and outer == "Optional":
        yield from _members(type_.slice)
        yield ast.Constant(None)
    else:
        yield type_


def quoted_types(type_: ast.AST) -> Iterator[str]:
    """What stands in a type expression in quotes, and is a type, too: the strings of literals and of ``Field(pattern="...")`` are none."""
    if isinstance(type_, ast.Constant) and isinstance(type_.value, str):
        yield type_.value
    elif not (isinstance(type_, ast.Call) or (isinstance(type_, ast.Subscript) and ast.unparse(type_.value) == "Literal")):
        for inner in ast.iter_child_nodes(type_):
            yield from quoted_types(inner)


class _Unquoting(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return ast.parse(node.value, mode="eval").body if isinstance(node.value, str) else node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        return node if ast.unparse(node.value) == "Literal" else self.generic_visit(node)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _expression(annotation: ast.expr) -> str:
    """The annotation, without the field's own other name."""
    annotation = copy.deepcopy(annotation)
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated" and isinstance(annotation.slice, ast.Tuple):
        kept = []
        for item in annotation.slice.elts:
            if isinstance(item, ast.Call) and ast.unparse(item.func) == "Field":
                item.keywords = [keyword for keyword in item.keywords if keyword.arg not in ("alias", "title", "description")]
                if not (item.keywords or item.args):
                    continue
            kept.append(item)
        if len(kept) == 1:
            return ast.unparse(kept[0])
        annotation.slice.elts = kept
    return ast.unparse(annotation)
