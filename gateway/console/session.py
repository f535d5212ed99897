"""What a browser bears instead of a key: whose session it is and until when, signed. The key is not in it.

Nothing is stored: a session is as good as the key it was begun with, which is looked up at each request.
Whoever logs out is out of the process that hears it, and in the browser; a copy of the cookie is good
elsewhere until its time is over, or the key is revoked.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from gateway.clock import Clock

LIFE_S: Final = 8 * 3600
"""A shift; then the key is asked for again."""
_FORM: Final = re.compile(r"([0-9a-z_]{1,64})\.([0-9]{1,15})\.([0-9a-f]{32})\.([0-9a-f]{64})")
_NONCE_BYTES: Final = 16
MOST_ENDED: Final = 10_000
"""Log-outs remembered, each for as long as its session would last."""


class Session(Struct, frozen=True):
    """One log-in."""

    key_id: str
    until_ms: int
    nonce: str
    """Tells it from other sessions of the same key."""


LOCAL: Final = Session("none", 0, "")
"""Everybody's, where the settings ask for no key."""


class Sessions:
    """Signs and reads sessions.

    Args:
        secret: the store's; the same in every process, so that any of them reads what another signed.
        clock: says when they end.
        random_bytes: gives that many random bytes.
    """

    def __init__(
        self, secret: str, clock: Clock, *, random_bytes: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._key = hashlib.sha256(b"console sessions\0" + secret.encode()).digest()
        self._clock = clock
        self._random_bytes = random_bytes
        self._ended: dict[str, int] = {}
        """When each would have been over, by its nonce, in the order in which they were ended."""

    def begin(self, key_id: str) -> str:
        """Return the text of a new session of a key, for a cookie."""
        until_ms = self._clock.now_ms() + LIFE_S * 1000
        return self._written(Session(key_id, until_ms, self._random_bytes(_NONCE_BYTES).hex()))

    def read(self, text: str) -> Session | None:
        """Return the session that a text is of; None where it is not one of ours, or is over."""
        found = _FORM.fullmatch(text)
        if found is None:
            return None
        session = Session(found[1], int(found[2]), found[3])
        ours = hmac.compare_digest(self._written(session).encode(), text.encode())
        over = self._clock.now_ms() >= session.until_ms or session.nonce in self._ended
        return session if ours and not over else None

    def end(self, session: Session) -> None:
        """Take a session for over from now on."""
        now_ms = self._clock.now_ms()
        self._ended[session.nonce] = session.until_ms
        for nonce in [nonce for nonce, until_ms in self._ended.items() if until_ms <= now_ms]:
            del self._ended[nonce]
        while len(self._ended) > MOST_ENDED:
            del self._ended[next(iter(self._ended))]

    def token(self, session: Session) -> str:
        """Return what each form of a session's pages bears, and which no other site can read or guess."""
        return self._tag("form", session)

    def fits(self, session: Session, token: str) -> bool:
        """Whether a form bears its session's token."""
        return hmac.compare_digest(self.token(session).encode(), token.encode())

    def _written(self, session: Session) -> str:
        return f"{session.key_id}.{session.until_ms}.{session.nonce}.{self._tag('session', session)}"

    def _tag(self, purpose: str, session: Session) -> str:
        text = f"{purpose}\0{session.key_id}\0{session.until_ms}\0{session.nonce}"
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
