"""Who may come in: an operator, by a key given once and a cookie from then on; and what a form must bear.

Where the settings ask for no key, which they may on loopback only, everybody is in; then a page must have
been asked for by a name of this machine, since any site may point its own name here.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from gateway.api.auth import ANYBODY, MAX_KEY_BYTES, Doorkeeper
from gateway.api.replies import AnyRequest
from gateway.console.forms import cookie_of, header_of, take_form
from gateway.console.origin import is_ours, is_safely_named
from gateway.console.session import LIFE_S, LOCAL, Session, Sessions
from gateway.errors import GatewayError, Refusal
from gateway.service.inflow import Inflow
from gateway.service.keys import Keys, Principal, Scope
from gateway.settings.model import Server
from gateway.settings.rates import Rate

PATH: Final = "/console"
COOKIE: Final = "motion_gateway_console"
TRIES: Final = Rate(10, 60)
"""Log-ins from one address with keys that are not good: a key has 256 random bits, so that this only spares
the log. A good one is let in whatever was tried before it: behind a proxy everybody has one address."""
POLICY: Final = "log-ins"
TOO_MANY: Final = "So many log-ins were tried from there that no more are looked at just now. Wait a minute."
TOKEN: Final = "token"  # noqa: S105  (a field's name)


class NotLoggedIn(GatewayError):
    """There is no session, or it is over, or its key is not good any more."""


class Visitor(Struct, frozen=True, kw_only=True):
    """Who looks at a page."""

    principal: Principal
    session: Session
    token: str
    """For the forms of the page."""

    @property
    def named(self) -> bool:
        """Whether a key was asked for, and can be taken back."""
        return self.session != LOCAL


class Entrance:
    """Lets operators in.

    Args:
        keys: knows them.
        door: counts their requests as the API's.
        sessions: signs what their browsers bear.
        tries: counts log-ins that failed.
        required: whether a key is asked for at all.
        server: where this gateway is reached, and how long a form may take to come.
    """

    def __init__(
        self,
        *,
        keys: Keys,
        door: Doorkeeper,
        sessions: Sessions,
        tries: Inflow,
        required: bool,
        server: Server,
    ) -> None:
        self._keys = keys
        self._door = door
        self._sessions = sessions
        self._tries = tries
        self._required = required
        self._server = server

    async def admit(self, request: AnyRequest) -> Visitor:
        """Return who asks for a page, and count the request.

        Raises:
            NotLoggedIn: the key is to be asked for.
            Refusal: `forbidden`, the key lost its scope, or the name is none of ours; `quota-exceeded`.
        """
        if not self._required:
            host, public_url = header_of(request, b"host"), self._server.public_url
            if not is_safely_named(host, listens=self._server.host, public_url=public_url):
                raise Refusal("forbidden", "Without keys this page is served on loopback's own names only.")
            return Visitor(principal=ANYBODY, session=LOCAL, token=self._sessions.token(LOCAL))
        session = self._sessions.read(cookie_of(request, COOKIE) or "")
        principal = None if session is None else await self._keys.holder(session.key_id)
        if session is None or principal is None:
            raise NotLoggedIn
        _check_scope(principal)
        await self._door.count(request, principal)
        return Visitor(principal=principal, session=session, token=self._sessions.token(session))

    async def admit_form(self, request: AnyRequest) -> tuple[Visitor, dict[str, str]]:
        """Return who sends a form that changes something, and its fields.

        Raises:
            NotLoggedIn: as `admit`.
            Refusal: as `admit`; `forbidden`, it was not sent by a page of this session.
        """
        self._check_origin(request)
        visitor = await self.admit(request)
        fields = await take_form(request, timeout_s=self._server.body_timeout_s)
        if not self._sessions.fits(visitor.session, fields.get(TOKEN, "")):
            raise Refusal("forbidden", "The form was not sent by a page of this session. Reload it.")
        return visitor, fields

    async def log_in(self, request: AnyRequest) -> tuple[str, str]:
        """Take a key; returns the cookie of a new session, and the page that was asked for before.

        Raises:
            Refusal: `unauthenticated`, the same for every key that is not good; `forbidden`, it lacks the
                scope, or the form is not ours; `quota-exceeded`, too many tries.
        """
        self._check_origin(request)
        fields = await take_form(request, timeout_s=self._server.body_timeout_s)
        key = fields.get("key", "").strip()
        usable = key.isascii() and 0 < len(key) <= MAX_KEY_BYTES
        principal = await self._keys.authenticate(key) if usable else None
        if principal is None:
            client = request.scope["client"]
            self._tries.take("", "" if client is None else client[0])
            raise Refusal("unauthenticated", "This key is not good here.")
        _check_scope(principal)
        await self._door.count(request, principal)
        cookie = self._cookie(request, self._sessions.begin(principal.key_id), life_s=LIFE_S)
        return cookie, fields.get("to", "")

    def forget(self, request: AnyRequest, session: Session) -> str:
        """End a session; returns the cookie that ends it in its browser."""
        self._sessions.end(session)
        return self._cookie(request, "", life_s=0)

    @property
    def asks(self) -> bool:
        """Whether a key is asked for."""
        return self._required

    def _check_origin(self, request: AnyRequest) -> None:
        ours = is_ours(
            origin=header_of(request, b"origin"),
            site=header_of(request, b"sec-fetch-site"),
            host=header_of(request, b"host"),
            public_url=self._server.public_url,
        )
        if not ours:
            raise Refusal("forbidden", "The form was not sent by a page of this gateway.")

    def _cookie(self, request: AnyRequest, value: str, *, life_s: int) -> str:
        cookie = f"{COOKIE}={value}; Path={PATH}; Max-Age={life_s}; HttpOnly; SameSite=Strict"
        # The browser's own word on how it reached us, since TLS may end in front of us.
        seen = (header_of(request, b"origin") or "", self._server.public_url or "")
        return cookie + ("; Secure" if any(one.lower().startswith("https://") for one in seen) else "")


def _check_scope(principal: Principal) -> None:
    if Scope.OPERATOR not in principal.scopes:
        raise Refusal("forbidden", "This key lacks the scope operator, which these pages ask for.")
