"""Who calls: `Authorization: Bearer mgk_...`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from typing import Any, cast

from gateway.api.rate_fields import RATE_FIELDS, REQUESTS, rate_fields
from gateway.api.replies import AnyRequest
from gateway.errors import Refusal, StorageUnavailable
from gateway.service.keys import ASKED_S, Keys, Principal, Scope
from gateway.service.throttle import Taken, Throttle

MAX_KEY_BYTES = 256
_SCHEME = b"bearer "
JITTER = 0.1
"""Part of a wait by which those who were refused together are told to come back at different times."""

Ask = Callable[[str], Awaitable[Principal | None]]
"""Tells whose key a text is; None when it is no good one."""

#: Who everybody is where the settings ask for no key, which they may on loopback only.
ANYBODY = Principal("none", "local", frozenset(Scope))


class Doorkeeper:
    """Tells callers apart.

    Args:
        keys: knows them.
        required: whether a key is asked for at all.
        throttle: counts the requests of keys that have a rate.
        on_denied: told of each request beyond a rate, by policy.
        spread: random numbers from 0 to 1, for what refused callers are told to wait.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        required: bool,
        throttle: Throttle,
        on_denied: Callable[[str], None],
        spread: Callable[[], float],
    ) -> None:
        self._keys = keys
        self._required = required
        self._throttle = throttle
        self._on_denied = on_denied
        self._spread = spread

    async def admit(self, request: AnyRequest, scope: Scope) -> Principal:
        """Return who calls, and count the call. What is not let through is not counted.

        Args:
            request: its answer will bear the fields of the key's rate, whatever it is.
            scope: what the route asks for; an operator may do everything.

        Raises:
            Refusal: `unauthenticated`, the same for every key that is not good; `forbidden` for a good one
                without the scope; `bad-header` for more than one key; `quota-exceeded` for one that asks too
                often.
        """
        if not self._required:
            return ANYBODY
        principal = await self._principal(request.scope["headers"], scope, self._keys.authenticate)
        await self.count(request, principal)
        return principal

    async def admit_watcher(self, request: AnyRequest) -> Principal:
        """Return who reads the metrics, as `admit` does; also while the database is away, of which they tell.

        Then those are let in who were good of late, and they are not counted.

        Raises:
            Refusal: as `admit`.
            StorageUnavailable: the database is away, and the key was not seen here of late.
        """
        if not self._required:
            return ANYBODY
        principal = await self._principal(request.scope["headers"], Scope.METRICS, self._keys.recognize)
        # A page out of memory: it costs less than not to be seen while something is wrong.
        with suppress(StorageUnavailable, TimeoutError):
            async with asyncio.timeout(ASKED_S):
                await self.count(request, principal)
        return principal

    async def count(self, request: AnyRequest, principal: Principal) -> None:
        """Count a call of somebody who was let in, here or by another door.

        Raises:
            Refusal: `quota-exceeded`, the key asks too often.
        """
        taken = await self._throttle.take(principal.key_id, principal.rate)
        if taken is not None:
            cast("MutableMapping[str, Any]", request.scope)[RATE_FIELDS] = rate_fields(taken)
            if not taken.admitted:
                self._on_denied(REQUESTS)
                raise self._too_often(taken)

    async def still_good(self, request: AnyRequest, scope: Scope) -> bool:
        """Whether who was admitted would be again. It is not counted, and nobody is sent away for a doubt."""
        if not self._required:
            return True
        try:
            await self._principal(request.scope["headers"], scope, self._keys.authenticate)
        except StorageUnavailable:
            return True
        except Refusal:
            return False
        return True

    def _too_often(self, taken: Taken) -> Refusal:
        again_s = math.ceil(taken.reset_s * (1 + JITTER * self._spread()))
        detail = f"This key may send {taken.rate} requests; the next one is due in {again_s} s."
        headers = {"Retry-After": str(max(1, again_s))}
        return Refusal("quota-exceeded", detail, headers=headers, policies=(REQUESTS,))

    async def _principal(self, headers: Iterable[tuple[bytes, bytes]], scope: Scope, ask: Ask) -> Principal:
        given = [value for name, value in headers if name == b"authorization"]
        if len(given) > 1:
            raise Refusal("bad-header", "There is more than one Authorization header.")
        principal = await _identify(given[0], ask) if given else None
        if principal is None:
            raise Refusal(
                "unauthenticated",
                "Send an API key as Authorization: Bearer mgk_...; `motion-gateway keys create` makes one.",
                headers={"WWW-Authenticate": 'Bearer realm="motion-gateway"'},
            )
        if scope not in principal.scopes and Scope.OPERATOR not in principal.scopes:
            raise Refusal("forbidden", f"This key lacks the scope {scope}.")
        return principal


async def _identify(value: bytes, ask: Ask) -> Principal | None:
    if len(value) > MAX_KEY_BYTES or value[: len(_SCHEME)].lower() != _SCHEME or not value.isascii():
        return None
    return await ask(value[len(_SCHEME) :].strip().decode("ascii"))
