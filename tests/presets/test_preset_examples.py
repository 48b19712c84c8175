"""The examples of the presets print what happens, and it is this."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "real"))
from installing import from_debian

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "presets"

SHOWN = {
    "aria2.py": """\
waiting downloads: []
added after the restart: True
waiting downloads: 1
asked once: GID ffffffffffffffff is not found [1], attempts: 1
""",
    "bitcoin.py": """\
blocks: 850000 after 4 attempts
while it warms up, a payment goes again: f4184fc5
where the queue is full it does not: HTTP 500: Work queue depth exceeded
""",
    "ethereum.py": """\
block 68943 after 5 attempts
a transaction over the limit goes again: 0x5c50
one whose answer is lost does not: maybe executed
sent: ['0x02f8', '0x02f9']
unless you say that it may: 0x5c50
sent: ['0x02f8', '0x02f9', '0x02fa', '0x02fa']
""",
    "odoo.py": """\
[{'id': 7, 'name': 'Ada'}] after 4 attempts
the write: maybe executed; look before you write again
[{'id': 7, 'name': 'Ada Lovelace'}]
no access, asked once: Odoo Server Error [200]
""",
    "transient.py": """\
a read goes again after HTTP 503 and the code 2001: 41.5
a payment, too, where the server says that it did nothing: paid 100
and not where it says nothing: maybe executed
requests: ['get_price', 'get_price', 'get_price', 'pay', 'pay', 'pay', 'pay']
""",
}


def test_every_preset_has_an_example() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SHOWN)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SHOWN))
def test_the_example_of_the_preset_runs(name: str, tmp_path: Path) -> None:
    if name == "aria2.py":
        from_debian("aria2c", "aria2")
    # A proxy in the environment would be asked for loopback addresses.
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout) == (0, SHOWN[name]), done.stderr
    assert "Traceback" not in done.stderr
