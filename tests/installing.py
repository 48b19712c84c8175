"""Programs that tests need beside Python's packages: found, or installed, or it is said why not."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import NoReturn

import pytest

# Servers stand where users need not look for them.
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])


def unavailable(reason: str) -> NoReturn:
    """Skip, and in CI fail."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def from_debian(program: str, package: str) -> str:
    """Where *program* is, after an attempt to install *package*; without it the test is :func:`unavailable`."""
    found = shutil.which(program, path=PATH)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", package]):
            subprocess.run(command, check=False, capture_output=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        found = shutil.which(program, path=PATH)
    return found or unavailable(f"{program} is not installed and could not be; apt-get install {package}")
