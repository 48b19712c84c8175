"""The tests that the page about testing shows, and those of the example, pass when they are copied."""

from __future__ import annotations

import re
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
import throwaway  # noqa: F401 - imports what runs in this process would forget

from rpcretry.testing import RpcMock, UnexpectedCall

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing.rst").read_text()
BLOCKS = [textwrap.dedent(block).strip() for block in re.findall(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", PAGE, re.MULTILINE)]
CONFTEST = [block for block in BLOCKS if block.startswith("# conftest.py")]
TESTS = [block for block in BLOCKS if "def test_" in block or "class Test" in block]


def test_the_first_block_is_a_complete_file(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_prices=TESTS[0])
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)


@pytest.mark.slow
def test_every_test_of_the_page_passes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")
    pytester.makepyfile(test_page="\n\n\n".join(TESTS))
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-W", "error")
    shown = len(re.findall(r"^def test_", "\n".join(TESTS), re.MULTILINE))
    outcomes = done.parseoutcomes()
    assert set(outcomes) == {"passed"}
    # Those of the contract beside them.
    assert outcomes["passed"] > shown + 20
    assert shown >= 14


def test_the_fixture_and_the_setting_for_a_session(pytester: pytest.Pytester) -> None:
    (conftest,) = CONFTEST
    block = re.search(r"^\.\. code-block:: toml\n\n((?:   .*\n|\n)+)", PAGE, re.MULTILINE)
    assert block is not None
    settings = textwrap.dedent(block[1])
    assert tomllib.loads(settings)["tool"]["pytest"]["ini_options"] == {"rpcretry_max_attempts": "1"}
    lifting = next(test for test in TESTS if "max_attempts(None)" in test)
    test = """
import pytest
from rpcretry import ConnectError

def test_one_try(rpc_mock):
    rpc_mock.on("get_price").raises(ConnectError)
    with pytest.raises(ConnectError):
        total("EUR")
    assert len(rpc_mock.calls) == 1
"""
    source = TESTS[0].partition("def test_")[0] + test + lifting
    pytester.makepyfile(test_session=source)
    pytester.makepyprojecttoml(settings)
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)
    (pytester.path / "pyproject.toml").unlink()
    pytester.makeconftest(conftest)
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)


def test_the_message_that_the_page_shows_is_the_one_that_is_given() -> None:
    mock = RpcMock()
    mock.on("sum", params=[1, 3]).returns(3)
    with pytest.raises(UnexpectedCall) as raised:
        mock.client().call("sum", 1, 2)
    assert f"     {raised.value}\n" in PAGE


def test_the_example(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("prices.py", "test_prices.py"):
        (pytester.path / name).write_text((ROOT / "examples" / "testing" / name).read_text())
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-W", "error")
    done.assert_outcomes(passed=5)
    assert "prices" not in sys.modules
