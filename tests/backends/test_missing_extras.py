"""A backend whose HTTP library is not installed says which extra brings it."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("library", ["requests", "aiohttp"])
def test_a_backend_without_its_library_names_the_extra(library: str) -> None:
    code = f"""
import sys
sys.modules[{library!r}] = None
try:
    from rpcretry.backends.{library} import Client
except ModuleNotFoundError as problem:
    print(problem.name, problem)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f'{library} rpcretry.backends.{library} needs {library}: pip install "rpcretry[{library}]"\n'
