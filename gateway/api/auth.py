"""Who calls: `Authorization: Bearer mgk_...`."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.errors import Refusal
from gateway.service.keys import Keys, Principal, Scope

MAX_KEY_BYTES = 256
_SCHEME = b"bearer "

#: Who everybody is where the settings ask for no key, which they may on loopback only.
ANYBODY = Principal("none", "local", frozenset(Scope))


class Doorkeeper:
    """Tells callers apart.

    Args:
        keys: knows them.
        required: whether a key is asked for at all.
    """

    def __init__(self, keys: Keys, *, required: bool) -> None:
        self._keys = keys
        self._required = required

    async def admit(self, headers: Iterable[tuple[bytes, bytes]], scope: Scope) -> Principal:
        """Return who calls.

        Args:
            headers: as ASGI gives them, names in lower case.
            scope: what the route asks for; an operator may do everything.

        Raises:
            Refusal: `unauthenticated`, the same for every key that is not good; `forbidden` for a good one
                without the scope; `bad-header` for more than one key.
        """
        if not self._required:
            return ANYBODY
        given = [value for name, value in headers if name == b"authorization"]
        if len(given) > 1:
            raise Refusal("bad-header", "There is more than one Authorization header.")
        principal = await self._identify(given[0]) if given else None
        if principal is None:
            raise Refusal(
                "unauthenticated",
                "Send an API key as Authorization: Bearer mgk_...; `motion-gateway keys create` makes one.",
                headers={"WWW-Authenticate": 'Bearer realm="motion-gateway"'},
            )
        if scope not in principal.scopes and Scope.OPERATOR not in principal.scopes:
            raise Refusal("forbidden", f"This key lacks the scope {scope}.")
        return principal

    async def _identify(self, value: bytes) -> Principal | None:
        if len(value) > MAX_KEY_BYTES or value[: len(_SCHEME)].lower() != _SCHEME or not value.isascii():
            return None
        return await self._keys.authenticate(value[len(_SCHEME) :].strip().decode("ascii"))
