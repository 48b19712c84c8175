"""The tables of the page about presets say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rpcretry import Request, presets
from rpcretry.retry import DEFAULT_BACKOFF

PAGE = (Path(__file__).parent.parent.parent / "docs" / "presets.rst").read_text()
ROWS = {
    table: {cells[0].strip("`"): cells[1:] for cells in ([cell.strip() for cell in re.split(r"\n     - ", row)] for row in text.split("\n   * - ")[2:])}
    for table, text in zip(("retried", "never"), [found[0] for found in re.finditer(r"\.\. list-table::\n(?:(?: .*)?\n)+", PAGE)], strict=True)
}


def test_the_table_has_every_preset() -> None:
    assert set(ROWS["retried"]) == {name for name, value in vars(presets).items() if isinstance(value, presets.Preset)}


@pytest.mark.parametrize("name", ROWS["retried"])
def test_the_codes_and_the_number_of_retries_are_those_of_the_code(name: str) -> None:
    codes, _, _, delays = ROWS["retried"][name]
    preset = getattr(presets, name)
    assert {int(code) for code in re.findall(r"-?\d+", codes)} == preset.codes
    assert delays.startswith(f"{preset.backoff.attempts}, ")
    if delays == "3, within 0.1, 0.2 and 0.4 s":
        assert preset.backoff == DEFAULT_BACKOFF


@pytest.mark.parametrize("name", ROWS["never"])
def test_what_the_page_calls_never_repeated_is_not(name: str) -> None:
    methods = re.findall(r"``(\S+?)``", ROWS["never"][name][0])
    assert len(methods) >= 5
    for method in methods:
        called = method.replace("*", "Something")
        params = {"service": "object", "method": "execute", "args": ["db", 2, "secret", "sale.order", called]} if name == "odoo" else None
        assert not getattr(presets, name).methods(Request("call" if name == "odoo" else called, params))


@pytest.mark.parametrize("name", [name for name in ROWS["retried"] if name not in ("transient", "bitcoin", "odoo")])
def test_what_the_page_calls_the_list_is_in_it(name: str) -> None:
    globs = [glob for glob in re.findall(r"``(\S+?)``", ROWS["retried"][name][2]) if glob != "system.multicall"]
    listed = getattr(presets, name).methods.names
    assert globs
    assert [glob for glob in globs if glob not in listed and not any(re.fullmatch(glob.replace("*", ".*"), method) for method in listed)] == []
