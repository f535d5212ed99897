"""API keys and their owners."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

from msgspec import Struct
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from gateway.clock import Clock
from gateway.errors import StorageUnavailable
from gateway.ids import KEY, Ids
from gateway.jobs.job import Policy
from gateway.settings.rates import Rate, parse_rate
from gateway.storage import keys as key_rows
from gateway.storage import limits as limit_rows
from gateway.storage.engine import Database, Operation
from gateway.storage.keys import KeyRow
from gateway.storage.limits import OwnerLimits
from gateway.storage.sealing import Sealer
from gateway.webhooks.keys import make_key

T = TypeVar("T")

PREFIX = "mgk_"
RANDOM_BYTES = 32
CACHED_S = 5.0  # so a revocation holds everywhere within 10 s
CACHED_KEYS = 4096
ASKED_S = 2.0
"""How long those who watch the process wait for the database before it is done without."""
KNOWN_S = 3600.0
"""How long ago a key may have been good that is let in without the database."""
KNOWN_KEYS = 64


class Scope(StrEnum):
    """What a key may do."""

    JOBS = "jobs"
    """Post and read its owner's jobs."""
    OPERATOR = "operator"
    """See and cancel all owners' jobs."""
    METRICS = "metrics"
    """Read /metrics."""


WATCHERS = frozenset({Scope.METRICS, Scope.OPERATOR})
"""What a key must be for to be remembered for so long."""


class Principal(Struct, frozen=True):
    """Who calls."""

    key_id: str
    owner: str
    scopes: frozenset[Scope]
    policy: Policy | None = None
    """Of its jobs that choose none."""
    rate: Rate | None = None
    """Of the key itself."""

    @property
    def sees(self) -> str | None:
        """The owner its reads are bound to; None for an operator, who sees all."""
        return None if Scope.OPERATOR in self.scopes else self.owner


class CreatedKey(Struct, frozen=True, kw_only=True):
    """A new key; the only moment at which it exists in clear."""

    id: str
    key: str
    owner: str
    webhook_secret: str | None
    """Of an owner that is new, too; None for one that has its own already."""


class Keys:
    """Creates, checks and revokes keys.

    Args:
        database: where.
        clock: stamps them, and ages the cache.
        ids: names them.
        sealer: seals owners' webhook secrets.
        random_bytes: gives that many random bytes.
        asked_s: how long `recognize` waits for the database, seconds.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        ids: Ids,
        sealer: Sealer,
        *,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        asked_s: float = ASKED_S,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._sealer = sealer
        self._random_bytes = random_bytes
        self._asked_s = asked_s
        self._cache: dict[bytes, tuple[float, Principal]] = {}
        self._known: dict[bytes, tuple[float, Principal]] = {}

    async def create(
        self,
        *,
        name: str,
        owner: str,
        scopes: Sequence[Scope],
        policy: Policy | None = None,
        rate: Rate | None = None,
        limits: Mapping[str, int | None] = {},
    ) -> CreatedKey:
        """Make a key, and its owner when new.

        Args:
            name: what it is for.
            owner: whose it is.
            scopes: what it may do.
            policy: for its jobs that choose none.
            rate: how often it may ask; None leaves that to the settings.
            limits: `max_in_flight` and `budget_micro_usd` to be set for the owner, who may have other keys.
        """
        key = PREFIX + base64.urlsafe_b64encode(self._random_bytes(RANDOM_BYTES)).rstrip(b"=").decode()
        row = KeyRow(
            id=self._ids.new(KEY),
            hash=hashlib.sha256(key.encode()).hexdigest(),
            name=name,
            owner=owner,
            scopes=" ".join(sorted(scopes)),
            created_at_ms=self._clock.now_ms(),
            policy=policy,
            rate=None if rate is None else str(rate),
        )

        def operation(connection: Connection) -> str | None:
            secret = self._make_owner(connection, owner)
            key_rows.insert_one(connection, row)
            limit_rows.set_owner(connection, owner, limits)
            return secret

        secret = await self._write_owner(operation)
        return CreatedKey(id=row.id, key=key, owner=owner, webhook_secret=secret)

    async def ensure_owner(self, owner: str) -> str | None:
        """Make an owner without a key, for a gateway that asks for none; returns a new owner's secret."""
        return await self._write_owner(lambda connection: self._make_owner(connection, owner))

    async def authenticate(self, key: str) -> Principal | None:
        """Return whose key this is; None for one that is unknown or revoked."""
        digest = _digest(key)
        now = self._clock.monotonic_s()
        cached = self._cache.get(digest)
        if cached is not None and cached[0] > now:
            return cached[1]
        row = await self._database.read(lambda connection: key_rows.find(connection, digest.hex()))
        if row is None or row.revoked_at_ms is not None:
            self._cache.pop(digest, None)
            self._known.pop(digest, None)
            return None
        principal = _principal(row)
        if len(self._cache) >= CACHED_KEYS:
            self._cache.clear()
        self._cache[digest] = (now + CACHED_S, principal)
        if WATCHERS & principal.scopes:
            self._remember(digest, principal)
        return principal

    async def recognize(self, key: str) -> Principal | None:
        """Return whose key this is, for what must be answered when the database is not.

        When it cannot be asked, or does not answer soon, that is whoever the key was when this process last
        looked: an hour ago at most, a key to watch with, and none that was seen revoked since.

        Raises:
            StorageUnavailable: the database cannot be asked, and the key is not remembered.
        """
        digest = _digest(key)
        known = self._remembered(digest)
        try:
            async with asyncio.timeout(None if known is None else self._asked_s):
                return await self.authenticate(key)
        except (StorageUnavailable, TimeoutError):
            if known is None:
                raise
            return known

    def _remembered(self, digest: bytes) -> Principal | None:
        seen_s, principal = self._known.get(digest, (-math.inf, None))
        return principal if self._clock.monotonic_s() - seen_s < KNOWN_S else None

    def _remember(self, digest: bytes, principal: Principal) -> None:
        self._known.pop(digest, None)  # to be the last again: the first are the ones that go
        self._known[digest] = (self._clock.monotonic_s(), principal)
        while len(self._known) > KNOWN_KEYS:
            del self._known[next(iter(self._known))]

    def _forget(self, key_id: str) -> None:
        self._known = {digest: one for digest, one in self._known.items() if one[1].key_id != key_id}

    async def holder(self, key_id: str) -> Principal | None:
        """Return whose key has this id, looked up anew; None for one that is unknown or revoked."""
        row = await self._database.read(lambda connection: key_rows.load(connection, key_id))
        if row is None or row.revoked_at_ms is not None:
            self._forget(key_id)
            return None
        return _principal(row)

    async def all(self) -> list[KeyRow]:
        """Return every key, revoked ones too."""
        return await self._database.read(key_rows.load_all)

    async def limits(self) -> dict[str, OwnerLimits]:
        """Return the owners that have a limit of their own, by name."""
        found = await self._database.read(limit_rows.load_limited)
        return {one.owner: one for one in found}

    async def limit(
        self, key_id: str, rates: Sequence[Rate | None], limits: Mapping[str, int | None]
    ) -> bool:
        """Change limits; a running gateway keeps to them within 10 s. False when there is no such active key.

        Args:
            key_id: the key.
            rates: its new rate, or None for none of its own; empty leaves the rate as it is.
            limits: `max_in_flight` and `budget_micro_usd` to be set for its owner.
        """

        def operation(connection: Connection) -> bool:
            owner = key_rows.find_owner(connection, key_id)
            if owner is None:
                return False
            for rate in rates:
                key_rows.set_rate(connection, key_id, None if rate is None else str(rate))
            limit_rows.set_owner(connection, owner, limits)
            return True

        return await self._database.write(operation)

    async def count(self) -> int:
        """How many keys are active."""
        return await self._database.read(key_rows.count_active)

    async def revoke(self, key_id: str) -> bool:
        """Revoke a key; False when there is no such active key."""
        now_ms = self._clock.now_ms()
        self._forget(key_id)
        return await self._database.write(
            lambda connection: key_rows.revoke(connection, key_id, at_ms=now_ms)
        )

    async def _write_owner(self, operation: Operation[T]) -> T:
        try:
            return await self._database.write(operation)
        except IntegrityError:  # another process made the owner between our look and our insert: look again
            return await self._database.write(operation)

    def _make_owner(self, connection: Connection, owner: str) -> str | None:
        if key_rows.owner_secrets(connection, [owner]):
            return None
        secret = make_key("hmac", self._random_bytes).secret
        sealed = self._sealer.seal(secret, bound_to=owner)
        key_rows.insert_owner(
            connection, name=owner, sealed_webhook_secret=sealed, at_ms=self._clock.now_ms()
        )
        return secret


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _principal(row: KeyRow) -> Principal:
    scopes = frozenset(Scope(word) for word in row.scopes.split())
    rate = None if row.rate is None else parse_rate(row.rate)
    return Principal(row.id, row.owner, scopes, row.policy, rate)
