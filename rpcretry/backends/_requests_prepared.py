"""Preparing a request of requests once, and copying it for every exchange.

``Session.request`` merges the session, reads the environment and encodes the URL again for every call. Where the
session would only do the same again, its work is kept; ``Session.send`` still does the sending, so that adapters,
hooks and cookies have their effect.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import requests
import requests.auth
import requests.cookies
from requests.structures import CaseInsensitiveDict

from ..codec import REDIRECTS
from ._requests_adapter import current

__all__ = ["Prepared", "Redirected", "is_plain", "state_of", "watched"]

# The steps of Session.request. A session that overrides one of them gets to do them all.
STEPS = ("request", "send", "prepare_request", "merge_environment_settings")


class Redirected(Exception):
    """Ends Session.send before it reads the body of a redirect, whatever its size."""

    def __init__(self, response: requests.Response) -> None:
        super().__init__()
        self.response = response


def refuse_redirect(response: requests.Response, *_: Any, **__: Any) -> None:
    """A response hook: requests reads a redirect whole, also where it is told not to follow it."""
    if response.status_code in REDIRECTS and "location" in response.headers:
        raise Redirected(response)


def _note(response: requests.Response, *_: Any, **__: Any) -> None:
    """A response hook: a hook of the user's that raises leaves nobody but us to close the response."""
    if current.progress is not None:
        current.progress.response = response


def watched(hooks: Any) -> dict[str, list[Any]]:
    """The response hooks of the user's with ours between and after them."""
    chosen = [hooks] if callable(hooks) else list(hooks or ())
    return {"response": [step for hook in chosen for step in (_note, hook)] + [refuse_redirect]}


def is_plain(session: requests.Session, auth: object) -> bool:
    """Whether preparing a request once comes to the same as preparing it for each exchange."""
    chosen = auth or session.auth
    # A subclass of HTTPBasicAuth may do anything, such as fetch a token that changes.
    if chosen is not None and not isinstance(chosen, tuple) and type(chosen) is not requests.auth.HTTPBasicAuth:
        return False
    kind, own = type(session), session.__dict__
    return all(getattr(kind, name) is getattr(requests.Session, name) and name not in own for name in STEPS)


def state_of(session: requests.Session) -> object:
    """What a prepared request depends on and the session's owner may change at any time."""
    auth, params = session.auth, session.params
    return (
        list(session.headers.items()),
        # Both may be changed in place.
        (auth.username, auth.password) if isinstance(auth, requests.auth.HTTPBasicAuth) else auth,
        dict(session.proxies),
        session.verify,
        session.cert,
        copy.deepcopy(params) if params else None,
        {event: hooks if callable(hooks) else list(hooks) for event, hooks in session.hooks.items()},
        session.trust_env,
    )


class Prepared:
    """A request that was prepared once, and what Session.send is to be told with it.

    :param kept: the headers of the exchange that it was prepared for.
    """

    __slots__ = ("_fields", "_hooks", "_method", "_url", "kept", "settings", "state")

    def __init__(self, template: requests.PreparedRequest, settings: Mapping[str, Any], state: object, kept: object) -> None:
        self._method = template.method
        self._url = template.url
        self._fields = _Fields(template.headers.items())
        self._hooks = watched(template.hooks.get("response"))
        self.settings = settings
        self.state = state
        self.kept = kept

    def request(self, body: bytes, cookies: Any, *, owned: bool) -> requests.PreparedRequest:
        """A copy with that body, and the session's cookies as they are now."""
        prepared = requests.PreparedRequest()
        prepared.method = self._method
        prepared.url = self._url
        fields = self._fields.copy()
        fields["Content-Length"] = str(len(body))
        prepared.headers = fields
        prepared.body = body
        prepared.hooks = self._hooks
        if not owned:
            jar = requests.cookies.RequestsCookieJar()
            jar.update(cookies)
            prepared.prepare_cookies(jar)
        elif len(cookies):
            prepared.prepare_cookies(cookies)
        return prepared


class _Fields(CaseInsensitiveDict[str]):
    """Headers that copy themselves at once: urllib3 copies them again for every request."""

    _store: dict[str, tuple[str, str]]

    def copy(self) -> _Fields:
        twin = _Fields.__new__(_Fields)
        twin._store = self._store.copy()
        return twin
