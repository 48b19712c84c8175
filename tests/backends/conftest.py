"""What the tests of the backends share: a clean environment, and a mark for what waits for real."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if getattr(getattr(item, "function", None), "waits", False):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """The machine's own proxies, netrc file and certificates have no say."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("NETRC", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


class Certificates:
    """An authority that nobody trusts by itself, and a server's certificate by it.

    :ivar server: the context of a server.
    :ivar path: the authority's certificate, for requests.
    :ivar context: a context that trusts it, for aiohttp.
    """

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("127.0.0.1").configure_cert(self.server)
        self.path = str(folder / "authority.pem")
        self.authority.cert_pem.write_to_path(self.path)
        self.context = ssl.create_default_context(cafile=self.path)

    def trust(self, kind: str) -> dict[str, Any]:
        """The client's option that trusts the authority."""
        return {"verify": self.path} if kind == "requests" else {"ssl": self.context}

    def distrust(self, kind: str) -> dict[str, Any]:
        """The client's option that trusts everybody."""
        return {"verify": False} if kind == "requests" else {"ssl": False}


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))
