"""What tests with a throwaway project share."""

from __future__ import annotations

import importlib
from pathlib import Path

import rpcretry

PACKAGE = Path(rpcretry.__file__).parent
PARTS = ("backends", "bulk", "client", "drivers", "errors", "functions", "layers", "retry", "testing")


def import_everything() -> None:
    """Import the package, but for its extras.

    A run of pytest in this process forgets the modules that it was the first to import, and the next one would have some of them twice.
    """
    for path in (*PACKAGE.glob("*.py"), *(path for part in PARTS for path in (PACKAGE / part).glob("*.py"))):
        importlib.import_module(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"))


import_everything()
