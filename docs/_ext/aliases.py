"""One name for each object in the reference, and every other public name of it leads there."""

from __future__ import annotations

import re
from enum import Enum
from importlib import import_module
from typing import Any

from docutils.nodes import Element, TextElement, document
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
    if node.get("refdomain") != "py":
        return None
    # As it stands, or beside where it stands.
    target, module, owner = node.get("reftarget", ""), node.get("py:module") or "", node.get("py:class") or ""
    for whole in (target, f"{module}.{target}", f"{module}.{owner}.{target}"):
        wanted = find(whole)
        # Constants of one value need not be one constant.
        if not (callable(wanted) or isinstance(wanted, (property, Enum))):
            continue
        for name, entry in env.domains["py"].objects.items():  # type: ignore[attr-defined]
            if find(name) is wanted:
                return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, [content], name)
    # What a class's docstring lists as its attributes is described there, and has no place of its own.
    described = f":ivar {target}:" in (getattr(find(f"{module}.{owner}"), "__doc__", None) or "")
    return content if node.get("reftype") == "attr" and described else None


def _lead_back(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: document | None) -> None:
    """Mend the links from the source back to the reference: viewcode takes one module's name for all that it finds in a file."""
    if not pagename.startswith("_modules/rpcretry"):
        return
    objects = app.env.domains["py"].objects  # type: ignore[attr-defined]
    module = pagename.removeprefix("_modules/").replace("/", ".")

    def mended(link: re.Match[str]) -> str:
        target = link[2]
        if target in objects:
            return link[0]
        parts = target.split(".")
        for begin in range(1, len(parts)):
            wanted = find(".".join([module, *parts[begin:]]))
            for name in objects if wanted is not None else ():
                if find(name) is wanted:
                    return f"{link[1]}{name}{link[3]}"
        return ""

    context["body"] = re.sub(r'(<a class="viewcode-back" href="[^"#]*#)([^"]+)(">.*?</a>)', mended, context.get("body", ""))


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    app.connect("missing-reference", _resolve)
    app.connect("html-page-context", _lead_back)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
