"""How Sphinx builds these pages."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

from pygments.lexers.shell import BashLexer, BashSessionLexer
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import rpcretry
from rpcretry.retry import Backoff, RetryStrategy

project = "rpcretry"
author = "The rpcretry authors"
copyright = "The rpcretry authors"
release = version = rpcretry.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode", "aliases", "pictures"]
exclude_patterns = ["_build", "_ext", "_generated"]
html_theme = "furo"
html_title = f"rpcretry {release}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["pages.css"]
highlight_language = "text"
pygments_style = "friendly"

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints = "none"
python_maximum_signature_line_length = 100

# There is no network to look other projects' names up in; names of this project are still checked.
nitpick_ignore_regex = [
    (r"py:.*", r"(requests|aiohttp|abc|collections|datetime|enum|random|sys|time|typing|json|unittest|pydantic)\b.*"),
    (r"py:obj", r"rpcretry\.(messages|client\.interface)\.(T|P|T_co)"),
]


class Console(BashSessionLexer):
    """Commands with what they print, after prompts; or commands alone, to be copied, which Pygments would take for output."""

    def get_tokens_unprocessed(self, text: str) -> Any:
        session = any(line.startswith("$ ") for line in text.splitlines())
        return super().get_tokens_unprocessed(text) if session else BashLexer(**self.options).get_tokens_unprocessed(text)


HANDED_OUT = {"Batch", "AsyncBatch", "Handle", "Bulk", "AsyncBulk", "BulkItem", "BulkResult"}


def _signature(app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None) -> tuple[str, str | None] | None:
    # Their __new__ takes anything, in order to name the right parameter; what they take is in __init__.
    if what == "class" and isinstance(obj, type) and issubclass(obj, (Backoff, RetryStrategy)):
        parameters = [parameter.replace(annotation=parameter.empty) for parameter in list(inspect.signature(obj.__init__).parameters.values())[1:]]
        return str(inspect.Signature(parameters)), None
    # Those are handed out, and made by nobody else.
    return ("", None) if name.rpartition(".")[2] in HANDED_OUT else None


def _bases(app: Sphinx, name: str, obj: Any, options: Any, bases: list[Any]) -> None:
    # A base that is an implementation's own says nothing to a reader.
    bases[:] = [base for base in bases if not getattr(base, "__name__", str(base)).startswith(("_", "ClientCore"))] or [object]


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.add_lexer("console", Console)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-bases", _bases)
