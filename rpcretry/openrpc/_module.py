"""A module of a document: models, exception classes, the interface, and its awaited twin."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import keyword
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from .._check import count
from ..errors import error_class, error_registry
from ._document import By, Document, DocumentError, ErrorObject, Method, Param, Place, read
from ._models import READ, Models, make_models, quoted_types
from ._names import IMPORTED, TYPES, Names, class_name, is_plain, snake_name, variable_name
from ._schemas import Schemas, clean_text

__all__ = ["generate"]

LINE_LENGTH = 88

OURS = ("AsyncInterface", "JsonRpcError", "notification", "rpc")

STANDARD = error_registry()

# What a method must not be called: its name would stand for it in the annotations of the methods after it.
SHADOWED = TYPES | IMPORTED | {"rpc", "notification"}


@dataclasses.dataclass
class Failure:
    """What is raised for a code.

    :ivar own: whether the module has a class of its own for it.
    """

    name: str
    base: str
    objects: list[ErrorObject]
    own: bool
    data: list[str]


def generate(document: object, *, class_name: str | None = None, line_length: int = LINE_LENGTH) -> str:
    """The text of a module for a document: pydantic models of its schemas, exception classes of its errors in ``ERRORS``, an
    interface with a method for each of its own, and the same interface with awaited methods.

    The same document gives the same text, with the same versions of datamodel-code-generator and black.

    :param document: an OpenRPC document of version 1.x, as :func:`json.loads` returns it.
    :param class_name: the name of the interface; that of the title without it. The awaited one has ``Async`` before it.
    :param line_length: where black breaks lines.
    :raises DocumentError: where the document is none, or nothing can be made of it; the message names the place.
    :raises TypeError, ValueError: where *class_name* is no name of a class.
    :raises ImportError: where the extra ``openrpc`` is not installed.
    """
    check_class_name(class_name)
    count("line_length", line_length, least=40)
    require()
    try:
        checked = read(document)
        module = _Module(checked, class_name, line_length)
        # The library makes up names of its own, and says so only afterwards.
        made_up = module.models.names - module.schemas.definitions.keys()
        if not made_up.isdisjoint({module.interface, module.awaited, *(failure.name for failure in module.failures.values())}):
            module = _Module(checked, class_name, line_length, made_up)
        return module.text()
    except RecursionError:
        raise DocumentError("$: the document is nested too deeply") from None


def check_class_name(name: object) -> None:
    """Refuse what cannot be the name of an interface; None is that of the title."""
    if name is None:
        return
    if not isinstance(name, str):
        raise TypeError(f"class_name must be a str, got {type(name).__name__} {name!r:.60}")
    if not name.isidentifier() or keyword.iskeyword(name) or name[0] == "_":
        raise ValueError(f"class_name must be a name that a class can have, got {name!r:.60}; write it as Wallet")
    if name in SHADOWED:
        raise ValueError(f"class_name must not be {name!r}, which is something else in the module; write it as {name.capitalize()}Api")


def require() -> None:
    """Refuse to go on without the extra.

    :raises ImportError: saying what to install.
    """
    for library in ("black", "datamodel_code_generator"):
        try:
            importlib.import_module(library)
        except ImportError:
            raise ImportError(f'interfaces are written with {library.replace("_", "-")}; install it with: pip install "rpcretry[openrpc]"') from None


class _Module:
    def __init__(self, document: Document, interface: str | None, line_length: int, taken: Iterable[str] = ()) -> None:
        self.document = document
        self.asked = interface
        self.line_length = line_length
        # Lines of a docstring are indented twice, and longer ones than that are hard to read.
        self.width = min(line_length, 108) - 8
        self.names = Names({*SHADOWED, READ, *taken})
        keys = {class_name(key) for key in document.schemas}
        # Some titles are sentences.
        title = class_name(" ".join(document.title.split()[:5])[:60], "Api")
        self.interface = self.names.give(interface or (title if title not in keys and f"Async{title}" not in keys else f"{title}Api"))
        self.awaited = self.names.give(f"Async{self.interface}")
        self.schemas = Schemas(document.root, self.names, self.width)
        self.schemas.add(list(document.schemas.items()))
        self._keys = Names()
        self.expressions: dict[str, Any] = {}
        # Where each param and result has its type among the expressions.
        self.key_of: dict[int, str] = {}
        for method in document.methods:
            for param in method.params:
                self.key_of[id(param)] = self._ask(param.schema, method.name, param.name)
            if method.result is not None:
                self.key_of[id(method.result)] = self._ask(method.result.schema, method.name, "result")
        self.failures = self._failures()
        self.schemas.refuse_loops()
        self.models: Models = make_models(self.schemas.definitions, self.expressions)

    def _ask(self, schema: Place, *hint: str) -> str:
        """Have a type expression made; returns what it is asked for by."""
        key = self._keys.give("_".join(snake_name(part, "a") for part in hint))
        self.expressions[key] = self.schemas.expression(schema, "".join(map(class_name, hint)))
        return key

    def _clean(self, text: str) -> str:
        return clean_text(text, self.width)

    # --- errors ---

    def _failures(self) -> dict[int, Failure]:
        objects: dict[int, list[ErrorObject]] = {}
        for method in self.document.methods:
            for error in method.errors:
                objects.setdefault(error.code, []).append(error)
        return {code: self._failure(code, objects[code]) for code in sorted(objects)}

    def _failure(self, code: int, objects: list[ErrorObject]) -> Failure:
        base = error_class(STANDARD, code)
        wishes = {_error_name(error) for error in objects}
        data = {repr(error.data.value): error.data for error in objects if error.data is not None}
        if isinstance(base.CODE, int) and not data:
            return Failure(base.__name__, base.__name__, objects, False, [])
        # One code has one class, whatever it stands for in which method.
        wish = wishes.pop() if len(wishes) == 1 else _code_name(code)
        name = self.names.give(wish, f"{self.interface}{wish}", _code_name(code))
        return Failure(name, base.__name__, objects, True, [self._ask(schema, name, "data") for schema in data.values()])

    def _error_class(self, code: int, failure: Failure) -> str:
        messages = _unique(self._clean(error.message) for error in failure.objects)
        lines = [
            f"class {failure.name}({failure.base}):",
            _docstring([self._clean(f"{code}: {' / '.join(messages) or 'an error of the server'}")]),
            "",
            f"    CODE = {code}",
        ]
        if len(messages) == 1 and "\n" not in messages[0]:
            lines.append(f"    MESSAGE = {messages[0]!r}")
        if failure.data:
            lines.append(f"    data: {' | '.join(_unique(self.models.types[key] for key in failure.data))}")
        return "\n".join(lines)

    # --- methods ---

    def _methods(self) -> list[str]:
        shadowed = SHADOWED | self.models.names | {here for _, _, here in self.models.imports}
        names = Names(shadowed)
        wishes = {method.name: snake_name(method.name) for method in self.document.methods}
        # A name that needs no change is not taken by one that was changed into it.
        given = {name: names.give(name) for name, wish in wishes.items() if wish == name and name not in shadowed}
        return [
            self._method(method, given.get(method.name) or names.give(f"{wish}_" if (wish := wishes[method.name]) in shadowed else wish))
            for method in self.document.methods
        ]

    def _method(self, method: Method, name: str) -> str:
        options = [f"name={method.name!r}"]
        if method.by == "name" and method.params:
            options.append('by="name"')
        variables = _variables(method.params, method.by)
        last_required = max((index for index, param in enumerate(method.params) if param.required), default=-1)
        needed = [param.required or (method.by == "position" and index < last_required) for index, param in enumerate(method.params)]
        # In an object the order says nothing.
        keyword_only = ["*"] if sorted(needed, reverse=True) != needed else []
        declared = [self._declared(param, variables[param.name], given, method.by) for param, given in zip(method.params, needed, strict=True)]
        result = "None" if method.result is None else self.models.types[self.key_of[id(method.result)]]
        doc = self._method_docs(method, variables)
        return "\n".join(
            [
                f"    @{'rpc' if method.result is not None else 'notification'}({', '.join(options)})",
                f"    def {name}({', '.join(['self', *keyword_only, *declared])}) -> {result}:",
                *([_docstring(doc, "        ")] if doc else []),
                "        ...",
            ]
        )

    def _declared(self, param: Param, variable: str, given: bool, by: By) -> str:
        type_ = self.models.types[self.key_of[id(param)]]
        if by == "name" and variable != param.name:
            type_ = _aliased(type_, param.name)
        if given:
            return f"{variable}: {type_}"
        # What the server takes where it is left out, if the document says so in a word that Python has, too.
        schema = self.expressions[self.key_of[id(param)]]
        return f"{variable}: {type_} = {schema['default']!r}" if "default" in schema else f"{variable}: {type_} = ..."

    def _method_docs(self, method: Method, variables: dict[str, str]) -> list[str]:
        doc = [self._clean(method.summary), self._clean(method.description)] if method.description != method.summary else [self._clean(method.summary)]
        if method.deprecated:
            doc.append("Deprecated.")
        fields = [
            (f"param {variables[param.name]}", " ".join(filter(None, ["Deprecated." if param.deprecated else "", param.description])))
            for param in method.params
        ]
        if method.result is not None:
            fields.append(("returns", method.result.description))
        for error in method.errors:
            fields.append((f"raises {self.failures[error.code].name}", error.message or f"code {error.code}"))
        listed = "\n".join(self._clean(f":{field}: {said}").replace("\n", "\n    ") for field, said in fields if said.strip())
        return [part for part in (*doc, listed) if part]

    # --- the module ---

    def text(self) -> str:
        document = self.document
        own = [(code, failure) for code, failure in self.failures.items() if failure.own]
        heading = self._clean(" ".join([*(document.title.split() or [self.interface]), *document.version.split()]))
        methods = self._methods()
        uses = f"``client.typed({self.interface})`` makes its methods calls; of an async client it is ``client.typed({self.awaited})``."
        body = "\n\n\n".join(
            [
                *([self.models.body] if self.models.body else []),
                *(self._error_class(code, failure) for code, failure in own),
                f"ERRORS: list[type[JsonRpcError]] = [{', '.join(failure.name for _, failure in own)}]\n"
                '"""What a client raises for these codes; give it as ``errors=ERRORS``."""',
                "\n".join(
                    [
                        f"class {self.interface}(Protocol):",
                        _docstring([self._clean(document.description), self._clean(uses)]),
                        *(f"\n{method}" for method in methods),
                    ]
                ),
                f'class {self.awaited}({self.interface}, AsyncInterface, Protocol):\n    """The same methods, awaited."""',
            ]
        )
        made = "Written by ``rpcretry openrpc``. What is changed here is lost when it is written anew:"
        head = "\n".join(
            [
                _docstring([heading, self._clean(made), f"    {self._command()}"], ""),
                "",
                "# Whether rpcretry is first-party, and so where it stands, depends on the folder.",
                "# isort: skip_file",
                "from __future__ import annotations",
                "",
                self._imports(body, [failure.base for _, failure in own]),
            ]
        )
        return _formatted(f"{head}\n\n{body}\n", self.line_length)

    def _command(self) -> str:
        """What writes the module anew. Where the document came from is not in it: a URL may hold a key."""
        options = [] if self.asked is None else [f"--class-name {self.asked}"]
        options += [] if self.line_length == LINE_LENGTH else [f"--line-length {self.line_length}"]
        return " ".join(["rpcretry openrpc DOCUMENT -o FILE --force", *options])

    def _imports(self, body: str, bases: list[str]) -> str:
        used = _used(body)
        wanted = {("typing", "Annotated", "Annotated"), ("typing", "Protocol", "Protocol"), ("typing", "Any", "Any"), *self.models.imports}
        wanted |= {("pydantic", "Field", "Field"), ("rpcretry.openrpc", "Model", "Model"), ("rpcretry.openrpc", "Number", "Number")}
        wanted |= {("rpcretry", name, name) for name in (*OURS, *bases)}
        modules: dict[str, list[str]] = {}
        for module, name, here in sorted(wanted, key=lambda item: (item[1].islower(), item[1].lower(), item[2])):
            if here in used:
                modules.setdefault(module, []).append(name if name == here else f"{name} as {here}")
        lines = [(module.split(".")[0] not in sys.stdlib_module_names, f"from {module} import {', '.join(names)}") for module, names in sorted(modules.items())]
        return "\n".join(line for third, line in lines if not third) + "\n\n" + "\n".join(line for third, line in lines if third)


def _aliased(type_: str, name: str) -> str:
    """The type of a param that is called otherwise on the server."""
    tree = ast.parse(type_, mode="eval").body
    alias = ast.keyword("alias", ast.Constant(name))
    if isinstance(tree, ast.Subscript) and ast.unparse(tree.value) == "Annotated" and isinstance(tree.slice, ast.Tuple):
        last = tree.slice.elts[-1]
        if isinstance(last, ast.Call) and ast.unparse(last.func) == "Field":
            last.keywords.append(alias)
            return ast.unparse(tree)
    return f"Annotated[{type_}, Field(alias={name!r})]"


def _used(body: str) -> set[str]:
    """The names that the text uses, also those in quotes."""
    tree = ast.parse(body)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "TypeAliasType":
            used |= {name for text in quoted_types(node.args[1]) for name in re.findall(r"\w+", text)}
    return used


def _variables(params: Sequence[Param], by: By) -> dict[str, str]:
    """What the params are called, those that can keep their names first. By position the server does not see the names,
    and they are written as Python's are."""
    names = Names({"self"})
    wishes = {param.name: snake_name(param.name, "param") if by == "position" else variable_name(param.name) for param in params}
    plain = {name: names.give(name) for name, wish in wishes.items() if name == wish and is_plain(name)}
    return {name: plain.get(name) or names.give(wish) for name, wish in wishes.items()}


def _error_name(error: ErrorObject) -> str:
    name = class_name(error.name or " ".join(error.message.split()[:6]), "")
    return _code_name(error.code) if not name else name if name.endswith("Error") else f"{name}Error"


def _code_name(code: int) -> str:
    return f"Error{'Minus' if code < 0 else ''}{abs(code)}"


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(item for item in items if item))


def _docstring(parts: Sequence[str], indent: str = "    ") -> str:
    text = "\n\n".join(part for part in parts if part).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    closing = f"\n{indent}" if "\n" in text or text.endswith('"') else ""
    lines = "\n".join(f"{indent}{line}" if line else "" for line in text.split("\n"))
    return f'{indent}"""{lines.removeprefix(indent)}{closing}"""'


def _formatted(text: str, line_length: int) -> str:
    from black import format_str
    from black.mode import Mode, TargetVersion

    return format_str(text, mode=Mode(line_length=line_length, target_versions={TargetVersion.PY311}))
