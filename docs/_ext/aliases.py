"""One name for each object in the reference, and every other public name of it leads there."""

from __future__ import annotations

from enum import Enum
from importlib import import_module
from typing import Any

from docutils.nodes import Element, TextElement
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode


def find(name: str) -> object | None:
    """What a dotted name of this package stands for; ``None`` where there is nothing."""
    parts = name.split(".")
    if parts[0] != "rpcretry":
        return None
    for length in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for part in parts[length:]:
            found = getattr(found, part, None)
        return found  # type: ignore[no-any-return]
    return None


def _resolve(app: Sphinx, env: BuildEnvironment, node: Element, content: TextElement) -> Element | None:
    wanted = find(node.get("reftarget", "")) if node.get("refdomain") == "py" else None
    # Constants of one value need not be one constant.
    if not (callable(wanted) or isinstance(wanted, (property, Enum))):
        return None
    for name, entry in env.domains["py"].objects.items():  # type: ignore[attr-defined]
        if find(name) is wanted:
            return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, [content], name)
    return None


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
