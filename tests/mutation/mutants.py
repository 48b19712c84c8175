"""What is changed in a module to see whether a test notices.

The operators are those of mutmut, and two more that it lacks: a returned value becomes None, and a statement that is
a call is left out. mutmut itself leaves out decorated functions (every property), ``__new__``, ``__setattr__``, module
constants and class bodies; nothing of that is left out here.
"""

from __future__ import annotations

import builtins
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import libcst as cst
from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper, ParentNodeProvider, PositionProvider
from mutmut.mutation.mutators import mutation_operators, operator_string

__all__ = ["IMPORTED", "Mutant", "mutants_of"]

IMPORTED = "<module>"
"""The function of a mutant that is no function's body: it changes what importing the module makes."""

# Calls whose arguments are words for people.
WORDY = frozenset({"exception", "warning", "info", "debug", "add_note", "annotate", "unreadable"})


@dataclass(frozen=True)
class Mutant:
    """One change of one module.

    :ivar id: a digest of the module's path, the function, the change and its number among equal ones.
    :ivar function: the qualified name of the outermost function around it, or :data:`IMPORTED`.
    :ivar lines: the lines of the module that have to run for it to matter: those of the node and the first of its statement.
    :ivar names: what the changed statement of a module or class body defines, and the class or function that it stands in.
    :ivar source: the whole module with the change.
    :ivar wording: whether only the words of a message differ.
    """

    id: str
    path: str
    function: str
    lines: frozenset[int]
    names: frozenset[str]
    diff: tuple[str, ...]
    source: str
    wording: bool


def _gives_none(node: cst.Return) -> Iterator[cst.CSTNode]:
    if node.value is not None and not (isinstance(node.value, cst.Name) and node.value.value == "None"):
        yield node.with_changes(value=cst.Name("None"), whitespace_after_return=cst.SimpleWhitespace(" "))


def _leaves_out(node: cst.Expr) -> Iterator[cst.CSTNode]:
    if isinstance(node.value, cst.Call):
        # super() makes a cell, which must stay.
        has_cell = any(isinstance(child, cst.Call) and isinstance(child.func, cst.Name) and child.func.value == "super" for child in _walk(node))
        yield cst.Expr(cst.Name("__class__")) if has_cell else cst.Pass()


def _words(node: cst.FormattedStringText) -> Iterator[cst.CSTNode]:
    if node.value.strip():
        yield node.with_changes(value=f"XX{node.value}XX")


def _word(node: cst.BaseString) -> Iterator[cst.CSTNode]:
    # Of mutmut's three the first: "XX" around it. Other letter cases kill no other mistake.
    yield from list(operator_string(node))[:1]


OPERATORS: list[tuple[type[Any], Callable[[Any], Iterable[cst.CSTNode]]]] = [
    *((kind, operator) for kind, operator in mutation_operators if operator is not operator_string),
    (cst.BaseString, _word),
    (cst.FormattedStringText, _words),
    (cst.Return, _gives_none),
    (cst.Expr, _leaves_out),
]


def _walk(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    yield node
    for child in node.children:
        yield from _walk(child)


class _Finder(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider, ParentNodeProvider)

    def __init__(self) -> None:
        self.found: list[tuple[cst.CSTNode, cst.CSTNode, str, frozenset[int], frozenset[str], bool]] = []
        self._scopes: list[tuple[str, bool]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if self._is_left_out(node):
            return False
        for kind, operator in OPERATORS:
            if isinstance(node, kind):
                for mutated in operator(node):
                    self.found.append((node, mutated, *self._place(node)))
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            # Decorators, defaults and bases are made outside of it.
            self._scopes.append((node.name.value, isinstance(node, cst.FunctionDef)))
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, (cst.FunctionDef, cst.ClassDef)):
            self._scopes.pop()

    def _is_left_out(self, node: cst.CSTNode) -> bool:
        if isinstance(node, (cst.Annotation, cst.Import, cst.ImportFrom)):
            return True
        if isinstance(node, (cst.Assign, cst.AnnAssign)):
            target = node.targets[0].target if isinstance(node, cst.Assign) else node.target
            # Slots and the names of a module's public part are held by other tools; aliases are for type checkers.
            if isinstance(target, cst.Name) and target.value in ("__all__", "__slots__"):
                return True
            if isinstance(node.value, cst.Call) and isinstance(node.value.func, cst.Name) and node.value.func.value in ("TypeVar", "ParamSpec"):
                return True
            if isinstance(node, cst.AnnAssign) and isinstance(node.annotation.annotation, cst.Name) and node.annotation.annotation.value == "TypeAlias":
                return True
        if isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value in ("len", "isinstance", "cast"):
            return True
        # A docstring, or the text under a constant.
        return isinstance(node, cst.Expr) and isinstance(node.value, (cst.SimpleString, cst.ConcatenatedString))

    def _place(self, node: cst.CSTNode) -> tuple[str, frozenset[int], frozenset[str], bool]:
        chain = [node]
        while True:
            parent = self.get_metadata(ParentNodeProvider, chain[-1], None)
            if parent is None:
                break
            chain.append(parent)
        function, names = self._function(chain), frozenset[str]()
        wording = _is_wording(chain)
        span = self.get_metadata(PositionProvider, node)
        lines = set(range(span.start.line, span.end.line + 1))
        for link in chain:
            if isinstance(link, cst.BaseCompoundStatement) and link is not node:
                break
            if isinstance(link, cst.SimpleStatementLine):
                lines.add(self.get_metadata(PositionProvider, link).start.line)
                if function == IMPORTED:
                    names = frozenset(child.value for child in _targets(link))
                break
        if function == IMPORTED:
            names |= frozenset(link.name.value for link in chain if isinstance(link, (cst.FunctionDef, cst.ClassDef)))
            for link in chain:
                if isinstance(link, (cst.FunctionDef, cst.ClassDef)):
                    # A default, or a decorator: it matters wherever the function, or a method of the class, runs.
                    whole = self.get_metadata(PositionProvider, link)
                    lines.update(range(whole.start.line, whole.end.line + 1))
        return function, frozenset(lines), names, wording

    def _function(self, chain: list[cst.CSTNode]) -> str:
        """The qualified name of the outermost function in whose body it is."""
        place: list[str] = []
        for inner, outer in zip(reversed(chain[:-1]), reversed(chain[1:]), strict=True):
            if isinstance(outer, cst.ClassDef) and inner is outer.body:
                place.append(outer.name.value)
            if isinstance(outer, cst.FunctionDef) and inner is outer.body:
                return ".".join((*place, outer.name.value))
        return IMPORTED


def _targets(line: cst.SimpleStatementLine) -> Iterator[cst.Name]:
    """The names that a statement defines, or, where it defines none, those that it is about."""
    for small in line.body:
        targets: list[cst.CSTNode] = [small]
        if isinstance(small, cst.Assign):
            targets = [target.target for target in small.targets]
        elif isinstance(small, cst.AnnAssign):
            targets = [small.target]
        for target in targets:
            yield from (child for child in _walk(target) if isinstance(child, cst.Name) and not hasattr(builtins, child.value))


def _is_wording(chain: list[cst.CSTNode]) -> bool:
    node = chain[0]
    if not isinstance(node, (cst.SimpleString, cst.FormattedStringText, cst.ConcatenatedString)):
        return False
    for inner, link in itertools.pairwise(chain):
        if isinstance(link, (cst.FormattedString, cst.Raise, cst.ConcatenatedString)):
            return True
        if isinstance(link, cst.Call) and isinstance(inner, cst.Arg):
            name = link.func.attr.value if isinstance(link.func, cst.Attribute) else link.func.value if isinstance(link.func, cst.Name) else ""
            if name in WORDY or name.endswith(("Error", "Exceeded")):
                return True
            # callable_with("name", value, 0, "how to mend it")
            if name in ("callable_with", "plain_callable_with"):
                return True
        if isinstance(link, (cst.Assign, cst.AnnAssign)):
            target = link.targets[0].target if isinstance(link, cst.Assign) else link.target
            if isinstance(target, cst.Name) and target.value in ("hint", "fix", "message", "_SYNONYMS", "why", "what", "order"):
                return True
    return False


def mutants_of(path: str, source: str) -> list[Mutant]:
    """All mutants of a module, in the order of its lines."""
    wrapper = MetadataWrapper(cst.parse_module(source))
    finder = _Finder()
    wrapper.visit(finder)
    spans = wrapper.resolve(ByteSpanPositionProvider)
    before, lines = source.encode(), source.splitlines()
    known, seen, found = {source}, dict[str, int](), list[Mutant]()
    for node, mutated, function, touched, names, wording in finder.found:
        if getattr(node, "lpar", ()) and getattr(mutated, "lpar", ()):
            # The span is that between the brackets.
            mutated = mutated.with_changes(lpar=(), rpar=())
        span = spans[node]
        changed = (before[: span.start] + wrapper.module.code_for_node(mutated).encode() + before[span.start + span.length :]).decode()
        if changed in known:
            continue
        known.add(changed)
        diff = _diff(lines, changed.splitlines())
        text = "\n".join((path, function, *diff))
        number = seen[text] = seen.get(text, 0) + 1
        digest = hashlib.sha256(f"{text}\n{number}".encode()).hexdigest()[:12]
        found.append(Mutant(digest, path, function, touched, names, diff, changed, wording))
    return found


def _diff(old: list[str], new: list[str]) -> tuple[str, ...]:
    first, end = 0, 0
    while first < min(len(old), len(new)) and old[first] == new[first]:
        first += 1
    while end < min(len(old), len(new)) - first and old[-1 - end] == new[-1 - end]:
        end += 1
    return (*(f"-{line}" for line in old[first : len(old) - end]), *(f"+{line}" for line in new[first : len(new) - end]))
