"""Issue 5, done 3: the plugin in a throwaway project, as pytest finds it by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import throwaway  # noqa: F401 - imports what runs in this process would forget

pytest_plugins = ["pytester"]

CODE = """
    from rpcretry import RetryStrategy
    from rpcretry.backends.requests import Client
    from rpcretry.retry import ExponentialBackoff

    STRATEGY = RetryStrategy(exceptions={ConnectionError}, codes={-32005}, backoff=ExponentialBackoff(attempts=3, base=0.1))
    client = Client("http://prices.test/rpc", retry_strategy=STRATEGY)

    def total(*symbols):
        try:
            return sum(client.call("get_price", symbol) for symbol in symbols)
        except:
            return None
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with code that makes its own client."""
    pytester.makepyfile(prices=CODE)
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\nfilterwarnings = ["error"]\naddopts = "-p no:cacheprovider"')
    return pytester


def test_code_with_a_client_of_its_own(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import asyncio
        from rpcretry import ConnectError
        from rpcretry.backends.aiohttp import Client
        from prices import STRATEGY, total

        def test_fail_twice(rpc_mock, virtual_time):
            rpc_mock.on("get_price", params=["EUR"]).raises(ConnectError, times=2).then.returns(41.5)
            assert total("EUR") == 41.5
            assert virtual_time.delays == [0.1, 0.2]
            assert rpc_mock.time is virtual_time
            assert rpc_mock.calls == [("get_price", ["EUR"])] * 3

        def test_async_without_another_plugin(rpc_mock):
            rpc_mock.on("get_price").error(-32005).then.returns(1)

            async def main():
                async with Client("http://other.test", retry_strategy=STRATEGY) as client:
                    return await client.call("get_price", "USD")

            assert asyncio.run(main()) == 1
            assert rpc_mock.time.delays == [0.1]

        def test_own_client(rpc_mock):
            rpc_mock.on("sum").calls(lambda a, b: a + b)
            assert rpc_mock.client().proxy.sum(1, 2) == 3
        """
    )
    project.runpytest_inprocess().assert_outcomes(passed=3)


def test_virtual_time_alone(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import time
        from rpcretry.functions import retry

        @retry(jitter=0.5, base_delay=50)
        def fetch():
            raise ConnectionError

        def test_waits(virtual_time):
            began = time.monotonic()
            try:
                fetch()
            except ConnectionError:
                pass
            assert len(virtual_time.delays) == 2
            assert time.monotonic() - began < 5

        def test_it_is_over(monkeypatch):
            waited = []
            monkeypatch.setattr(time, "sleep", waited.append)
            try:
                retry(jitter=False, base_delay=50)(fetch.__wrapped__)()
            except ConnectionError:
                pass
            assert [round(seconds) for seconds in waited] == [50, 60]
        """
    )
    project.runpytest_inprocess().assert_outcomes(passed=2)


def test_an_unexpected_call_fails_the_test_that_swallowed_it(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        from prices import total

        def test_swallowed(rpc_mock):
            rpc_mock.on("get_price", params=["USD"]).returns(1)
            assert total("EUR") is None
        """
    )
    done = project.runpytest_inprocess()
    done.assert_outcomes(passed=1, errors=1)
    done.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_swallowed*", "unexpected call: get_price with params ['EUR'?; get_price was expected with params ['USD'?"],
        consecutive=True,
    )


def test_an_unexpected_call_that_comes_out_is_told_once_and_shows_no_insides(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from prices import client

        def test_comes_out(rpc_mock):
            rpc_mock.on("get_price").returns(1, times=5)
            client.call("get_prise", "EUR")

        def test_asserts(rpc_mock):
            rpc_mock.on("get_price").returns(1)
            client.call("get_price", "EUR")
            rpc_mock.assert_called_once_with("get_price", "USD")

        def test_skips(rpc_mock):
            rpc_mock.on("get_price").returns(1, times=5)
            pytest.skip("not today")
        """
    )
    done = project.runpytest_inprocess("-rA")
    done.assert_outcomes(failed=2, skipped=1)
    done.stdout.fnmatch_lines(
        [
            "E  *UnexpectedCall: unexpected call: get_prise with params ['EUR'?; did you mean get_price? Expected are get_price",
            "E  *AssertionError: wanted one call of get_price with params ['USD'?",
            "E  *and it was one of   get_price with params ['EUR'?",
        ]
    )
    text = done.stdout.str()
    assert "testing/mock.py" not in text
    assert "testing/_installed.py" not in text
    assert "not all replies were used" not in text


def test_replies_that_are_left_fail_the_test(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        from rpcretry import ConnectError
        from prices import total

        def test_left(rpc_mock):
            rpc_mock.on("get_price").raises(ConnectError, times=2).then.returns(3)
            rpc_mock.on("unused").returns(1)

        def test_not_strict(rpc_mock):
            rpc_mock.strict = False
            rpc_mock.on("get_price").returns(3, times=2)
        """
    )
    done = project.runpytest_inprocess()
    done.assert_outcomes(passed=2, errors=1)
    done.stdout.fnmatch_lines(["*ERROR at teardown of test_left*", "not all replies were used:", "  get_price with any params: 0 of 3 used"], consecutive=True)
    assert "During handling" not in done.stdout.str()


def test_what_failed_or_was_skipped_elsewhere_is_no_further_error(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import unittest
        import pytest
        from rpcretry.testing import RpcMock

        @pytest.fixture
        def skips(rpc_mock):
            rpc_mock.on("x").returns(1, times=1)
            pytest.skip("no database")

        @pytest.fixture
        def breaks(rpc_mock):
            rpc_mock.on("x").returns(1, times=1)
            raise RuntimeError("no database")

        @pytest.fixture
        def own():
            with RpcMock(url="http://own.test") as mock:
                mock.on("x").returns(1, times=1)
                yield mock

        def test_skipped_in_setup(skips):
            pass

        def test_broken_in_setup(breaks):
            pass

        def test_by_name_skipped(request):
            request.getfixturevalue("rpc_mock").on("x").returns(1, times=1)
            pytest.skip("later")

        def test_by_name_failed(request):
            request.getfixturevalue("rpc_mock").client().call("y")

        def test_a_fixture_of_ones_own_skipped(own):
            pytest.skip("later")

        def test_a_fixture_of_ones_own_failed(own):
            own.client().call("y")

        @pytest.mark.xfail
        def test_expected(rpc_mock):
            rpc_mock.on("x").returns(1, times=1)
            assert 0

        class TestOld(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def _mock(self, rpc_mock):
                rpc_mock.on("x").returns(1, times=1)

            def test_fails(self):
                self.assertEqual(1, 2)

            def test_skipped(self):
                self.skipTest("later")

        def test_left(own):
            pass
        """
    )
    done = project.runpytest_inprocess()
    # The errors are the fixture that broke, and the reply that was left by a test that passed.
    done.assert_outcomes(skipped=4, failed=3, errors=2, xfailed=1, passed=1)
    done.stdout.fnmatch_lines(["*ERROR at setup of test_broken_in_setup*", "*ERROR at teardown of test_left*"])


def test_a_project_may_have_a_virtual_time_of_its_own(project: pytest.Pytester) -> None:
    project.makeconftest("import pytest\n\n@pytest.fixture\ndef virtual_time():\n    return 'mine'")
    project.makepyfile(
        """
        from rpcretry import ConnectError
        from prices import total

        def test_both(rpc_mock, virtual_time):
            rpc_mock.on("get_price").raises(ConnectError, times=1).then.returns(1)
            assert total("EUR") == 1
            assert (virtual_time, rpc_mock.time.delays) == ("mine", [0.1])
        """
    )
    project.runpytest_inprocess().assert_outcomes(passed=1)


def test_a_sleep_that_was_patched_before_the_first_use(project: pytest.Pytester) -> None:
    project.makepyfile(prices=CODE.replace("base=0.1", "base=10.0"))
    project.makepyfile(
        """
        import time
        import pytest
        from rpcretry import ConnectError
        from prices import total

        @pytest.fixture
        def patched(monkeypatch):
            monkeypatch.setattr(time, "sleep", lambda seconds: None)

        def check(rpc_mock):
            rpc_mock.on("get_price").raises(ConnectError, times=2).then.returns(1)
            began = time.perf_counter()
            assert total("EUR") == 1
            assert rpc_mock.time.delays == [10.0, 20.0]
            assert time.perf_counter() - began < 5

        def test_patched(patched, rpc_mock):
            check(rpc_mock)

        def test_after_it(rpc_mock):
            check(rpc_mock)
        """
    )
    # In a process of its own: what is imported when is the point.
    done = subprocess.run([sys.executable, "-m", "pytest"], cwd=project.path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_no_backend_is_imported_for_a_mock(project: pytest.Pytester) -> None:
    project.makeconftest(REPORT)
    project.makepyfile("def test_it(rpc_mock):\n    rpc_mock.on('sum').returns(3)\n    assert rpc_mock.client().call('sum') == 3")
    found = loaded(project)
    assert "'rpcretry.testing.mock'" in found
    assert "'requests'" not in found
    assert "'aiohttp'" not in found


def test_calls_that_differ_show_where(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        from prices import client

        def test_calls(rpc_mock):
            rpc_mock.on("get_price").returns(1)
            client.call("get_price", "EUR")
            client.call("get_price", "USD")
            assert rpc_mock.calls == [("get_price", ["EUR"]), ("get_price", ["GBP"])]
        """
    )
    done = project.runpytest_inprocess("-vv")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["E  *At index 1 diff: ('get_price', ['USD'?) != ('get_price', ['GBP'?)"])


def test_tries_for_a_whole_run(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from rpcretry.functions import retry
        from rpcretry.testing import max_attempts

        def tries():
            count = 0

            @retry(max_attempts=5, base_delay=0)
            def fails():
                nonlocal count
                count += 1
                raise ConnectionError

            with pytest.raises(ConnectionError):
                fails()
            return count

        def test_tries():
            assert tries() == 2
            with max_attempts(None):
                assert tries() == 5
        """
    )
    project.runpytest_inprocess("-o", "rpcretry_max_attempts=2").assert_outcomes(passed=1)
    project.runpytest_inprocess().assert_outcomes(failed=1)
    for wrong in ("0", "many"):
        done = project.runpytest_inprocess("-o", f"rpcretry_max_attempts={wrong}")
        assert done.ret == pytest.ExitCode.USAGE_ERROR
        done.stderr.fnmatch_lines([f"*rpcretry_max_attempts must be an int of at least 1, got '{wrong}'*"])


def test_tries_from_a_fixture_of_the_session(project: pytest.Pytester) -> None:
    project.makeconftest(
        """
        import pytest
        from rpcretry.testing import no_retries

        @pytest.fixture(scope="session", autouse=True)
        def _no_retries():
            with no_retries():
                yield
        """
    )
    project.makepyfile(
        """
        import pytest
        from rpcretry import ConnectError
        from prices import client

        @pytest.mark.parametrize("number", [1, 2])
        def test_one_try(rpc_mock, number):
            rpc_mock.on("get_price").raises(ConnectError)
            with pytest.raises(ConnectError):
                client.call("get_price", "EUR")
            assert len(rpc_mock.calls) == 1
        """
    )
    project.runpytest_inprocess().assert_outcomes(passed=2)


def test_unittest_and_doctest_items_are_let_be(project: pytest.Pytester) -> None:
    project.makepyfile(
        '''
        import unittest
        import pytest
        from prices import client

        class TestOld(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def _mock(self, rpc_mock):
                self.rpc_mock = rpc_mock

            def test_old(self):
                self.rpc_mock.on("get_price").returns(1)
                self.assertEqual(client.call("get_price", "EUR"), 1)

            def test_fails(self):
                client.call("get_price", "EUR")

        def documented():
            """
            >>> 1 + 1
            3
            """
        '''
    )
    done = project.runpytest_inprocess("--doctest-modules")
    done.assert_outcomes(passed=1, failed=2)


def test_the_contract_of_a_backend(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        from rpcretry.backends.requests import RequestsBackend
        from rpcretry.testing.contract import BackendContract

        class TestMine(BackendContract):
            def make(self, url):
                return RequestsBackend(url)

        class TestBroken(BackendContract):
            def make(self, url):
                backend = RequestsBackend(url)
                backend.exchange = lambda exchange: 1 / 0
                return backend
        """
    )
    done = project.runpytest_inprocess("-k", "header or redirect or past or body_comes or refused", "-p", "no:rpcretry")
    outcomes = done.parseoutcomes()
    assert outcomes["passed"] >= 5
    assert outcomes["failed"] >= 5


# --- what the plugin costs whoever does not use it ---

REPORT = """
    import sys

    def pytest_unconfigure():
        loaded = [name for name in sys.modules if name.split(".")[0] in ("rpcretry", "pydantic", "pydantic_core", "requests", "aiohttp")]
        print("LOADED", sorted(loaded))
"""


def loaded(project: pytest.Pytester, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-s", "-W", "error", *args], cwd=project.path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return next(line for line in done.stdout.splitlines() if line.startswith("LOADED"))


def test_a_run_that_does_not_use_it_imports_nothing(project: pytest.Pytester) -> None:
    project.makeconftest(REPORT)
    project.makepyfile("def test_nothing():\n    pass")
    assert loaded(project) == "LOADED ['rpcretry', 'rpcretry._lazy', 'rpcretry.testing', 'rpcretry.testing.plugin']"
    assert loaded(project, "-p", "no:rpcretry") == "LOADED []"


def test_a_run_that_uses_virtual_time_imports_no_http_library(project: pytest.Pytester) -> None:
    project.makeconftest(REPORT)
    project.makepyfile("def test_time(virtual_time):\n    assert virtual_time.delays == []")
    found = loaded(project, "-p", "rpcretry")
    assert "'requests'" not in found
    assert "'aiohttp'" not in found
    assert "rpcretry.testing.mock" not in found


def test_without_the_plugin_there_are_no_fixtures(project: pytest.Pytester) -> None:
    project.makepyfile("def test_mock(rpc_mock):\n    pass")
    done = project.runpytest_inprocess("-p", "no:rpcretry")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*fixture 'rpc_mock' not found*"])


def test_fixtures_are_listed_with_what_they_do(project: pytest.Pytester) -> None:
    done = project.runpytest_inprocess("--fixtures")
    done.stdout.fnmatch_lines(["virtual_time -- *", "    Waits of clients*", "rpc_mock -- *", "    Stands in for all JSON-RPC servers*"])


def test_a_library_that_is_not_installed_is_no_trouble(project: pytest.Pytester) -> None:
    project.makeconftest(
        """
        import sys

        class NotThere:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ("aiohttp", "requests"):
                    raise ModuleNotFoundError(name)

        sys.meta_path.insert(0, NotThere())
        """
    )
    project.makepyfile(
        prices="",
        test_it="""
        def test_it(rpc_mock):
            rpc_mock.on("sum").returns(3)
            assert rpc_mock.client().call("sum") == 3
        """,
    )
    done = subprocess.run([sys.executable, "-m", "pytest"], cwd=project.path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


# --- the package's own part ---


def test_names_for_type_checkers_are_those_of_the_running_module() -> None:
    import ast

    import rpcretry.testing

    tree = ast.parse(Path(rpcretry.testing.__file__).read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    named = {alias.asname or alias.name for node in checked.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert named == set(rpcretry.testing.__all__)
    for name in rpcretry.testing.__all__:
        assert getattr(rpcretry.testing, name) is not None
    assert set(rpcretry.testing.__all__) <= set(dir(rpcretry.testing))
    with pytest.raises(AttributeError, match=r"module 'rpcretry\.testing' has no attribute 'nothing'"):
        rpcretry.testing.nothing
