"""Webhook endpoints: receivers that hear of all their owner's jobs.

A secret is shown when it is made, and never again. What an endpoint did not get, because it failed for too
long or was disabled at the time, is kept byte for byte and can be recovered (`gateway.service.recovery`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import asdict, replace
from sqlalchemy import Connection

from gateway.clock import Clock
from gateway.errors import FieldProblem, Refusal
from gateway.ids import ENDPOINT, Ids
from gateway.jobs.view import instant
from gateway.net import DialPolicy, UrlRefused
from gateway.service.endpoint_keys import sealed_before
from gateway.storage import endpoints as endpoint_rows
from gateway.storage import keys as key_rows
from gateway.storage.endpoints import Endpoint, EndpointState, Reason, Signing
from gateway.storage.engine import Database
from gateway.storage.sealing import Sealer
from gateway.telemetry import get_logger
from gateway.webhooks.events import DEFAULT_EVENTS
from gateway.webhooks.keys import make_key
from gateway.webhooks.receivers import check_receiver

_log = get_logger("gateway.webhooks")

MOST_OF_AN_OWNER = 50
OVERLAP_MS = 24 * 3_600_000
"""How long after a rotation the previous secret signs, too."""
OWNERS_NAMED = 20
"""To whoever names one that does not exist."""


class EndpointView(Struct, frozen=True, kw_only=True):
    """A receiver of what happens to its owner's jobs."""

    id: str
    owner: str
    url: str
    events: list[str]
    description: str | None
    signing: Signing
    public_key: str | None
    """`whpk_` and base64 of the Ed25519 key that verifies its messages; null for hmac."""
    previous_secret_until: str | None
    """After a rotation: until then the previous secret, or private key, signs beside the new one."""
    state: EndpointState
    disabled_reason: Reason | None
    """`gone`: it answered 410. `failing`: no success for 120 hours, and failures on three days.
    `requested`: somebody wished it."""
    disabled_at: str | None
    failing_since: str | None
    """The first failure since the last success."""
    created_at: str
    updated_at: str
    """When its URL, events or description changed last."""


class EndpointWithSecret(EndpointView, frozen=True, kw_only=True):
    """An endpoint whose secret was made just now."""

    secret: str | None
    """`whsec_...`, shown this once; null for ed25519, where the public key verifies."""


class EndpointDeleted(Struct, frozen=True, kw_only=True):
    """An endpoint that is no more. Its deliveries stay readable with their jobs."""

    id: str
    deleted: bool = True


class Endpoints:
    """Makes, changes and forgets endpoints; every call is bound to an owner, or to None for an operator.

    Args:
        database: where.
        clock: stamps them.
        ids: names them.
        sealer: seals their secrets.
        receivers: which URLs they may have.
        on_disabled: told of each that was disabled on request, by reason.
        wake: tells the worker that something is due.
        random_bytes: gives that many random bytes.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        ids: Ids,
        sealer: Sealer,
        *,
        receivers: DialPolicy,
        on_disabled: Callable[[str], None] = lambda _: None,
        wake: Callable[[], None] = lambda: None,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._sealer = sealer
        self._receivers = receivers
        self._on_disabled = on_disabled
        self._wake = wake
        self._random_bytes = random_bytes

    async def create(
        self,
        *,
        owner: str,
        url: str,
        events: Sequence[str] = DEFAULT_EVENTS,
        description: str | None = None,
        signing: Signing = "hmac",
    ) -> EndpointWithSecret:
        """Make an endpoint.

        Raises:
            Refusal: `invalid-url`, `forbidden-target` or `insecure-callback`, as for a job's own webhook;
                `too-many-endpoints`; `not-found` for an owner that does not exist.
        """
        made = make_key(signing, self._random_bytes)
        now_ms, endpoint_id = self._clock.now_ms(), self._ids.new(ENDPOINT)
        endpoint = Endpoint(
            id=endpoint_id,
            owner=owner,
            url=self._checked(url),
            events=_joined(events),
            description=description,
            signing=signing,
            sealed_secret=self._sealer.seal(made.secret, bound_to=endpoint_id),
            public_key=made.public_key,
            created_at_ms=now_ms,
            updated_at_ms=now_ms,
        )

        def operation(connection: Connection) -> None:
            if not endpoint_rows.lock_owner(connection, owner):
                raise _unknown_owner(connection, owner)
            if endpoint_rows.count_of(connection, owner) >= MOST_OF_AN_OWNER:
                raise Refusal("too-many-endpoints", f"{owner} has {MOST_OF_AN_OWNER} endpoints already")
            endpoint_rows.insert_one(connection, endpoint)

        await self._database.write(operation)
        return _with_secret(endpoint, made.shown)

    async def show(self, endpoint_id: str, *, owner: str | None) -> EndpointView:
        """Return an endpoint.

        Raises:
            Refusal: `not-found`, the same for an unknown one and another owner's.
        """
        return endpoint_view(await self.load(endpoint_id, owner=owner))

    async def load(self, endpoint_id: str, *, owner: str | None) -> Endpoint:
        """Return an endpoint as stored; raises like `show`."""
        found = await self._database.read(lambda connection: endpoint_rows.load(connection, endpoint_id))
        return visible(found, owner)

    async def page(self, *, owner: str | None, before: str | None, limit: int) -> list[EndpointView]:
        """Return a page of endpoints, newest first."""
        found = await self._database.read(
            lambda connection: endpoint_rows.page(connection, owner=owner, before=before, limit=limit)
        )
        return [endpoint_view(one) for one in found]

    async def change(
        self,
        endpoint_id: str,
        *,
        owner: str | None,
        url: str | None = None,
        events: Sequence[str] | None = None,
        description: str | bool | None = False,
    ) -> EndpointView:
        """Change what was given, and nothing else.

        What waits goes to the new URL, which begins afresh: what comes of tries at the old one says nothing
        of it.

        Args:
            endpoint_id: the endpoint.
            owner: whose it must be.
            url: the new one.
            events: the new ones, for what happens from now on.
            description: the new one, None for none; False leaves it.

        Raises:
            Refusal: as `create` and `show` do.
        """
        values: dict[str, object] = {}
        if url is not None:
            values["url"] = self._checked(url)
        if events is not None:
            values["events"] = _joined(events)
        if not isinstance(description, bool):
            values["description"] = description
        if values:
            values["updated_at_ms"] = self._clock.now_ms()

        def changes(endpoint: Endpoint) -> Mapping[str, object]:
            moved = values.get("url", endpoint.url) != endpoint.url
            return {**values, "version": endpoint.version + 1, **endpoint_rows.WELL} if moved else values

        return endpoint_view(await self._change(endpoint_id, owner, changes))

    async def rotate(self, endpoint_id: str, *, owner: str | None) -> EndpointWithSecret:
        """Give an endpoint another secret; the one it has signs beside it for 24 hours.

        Raises:
            Refusal: `not-found`; `rotated-too-often`, three earlier ones sign beside it still.
        """
        held = await self.load(endpoint_id, owner=owner)
        made = make_key(held.signing, self._random_bytes)
        sealed = self._sealer.seal(made.secret, bound_to=endpoint_id)
        now_ms = self._clock.now_ms()

        def values(endpoint: Endpoint) -> Mapping[str, object]:
            if endpoint.sealed_secret == sealed:  # written again after a commit whose answer was lost
                return {}
            return {
                "sealed_secret": sealed,
                "public_key": made.public_key,
                "sealed_previous_secret": sealed_before(
                    endpoint, self._sealer, at_ms=now_ms, until_ms=now_ms + OVERLAP_MS
                ),
                "previous_until_ms": now_ms + OVERLAP_MS,
            }

        return _with_secret(await self._change(endpoint_id, owner, values), made.shown)

    async def enable(self, endpoint_id: str, *, owner: str | None) -> EndpointView:
        """Send to it again what happens from now on, and what still waits; `recover` brings the rest.

        Raises:
            Refusal: `not-found`.
        """

        def values(endpoint: Endpoint) -> Mapping[str, object]:
            if endpoint.enabled:
                return {}
            return {
                "state": "enabled",
                "disabled_reason": None,
                "disabled_at_ms": None,
                "version": endpoint.version + 1,
                **endpoint_rows.WELL,
            }

        changed = await self._change(endpoint_id, owner, values)
        self._wake()
        return endpoint_view(changed)

    async def disable(self, endpoint_id: str, *, owner: str | None) -> EndpointView:
        """Send to it no more, until it is enabled.

        Raises:
            Refusal: `not-found`.
        """
        now_ms = self._clock.now_ms()
        disabled = False

        def values(endpoint: Endpoint) -> Mapping[str, object]:
            nonlocal disabled
            disabled = endpoint.enabled
            return endpoint_rows.disabling("requested", now_ms) if disabled else {}

        changed = await self._change(endpoint_id, owner, values)
        if disabled:
            self._on_disabled("requested")
            _log.warning(
                "endpoint.disabled", endpoint_id=endpoint_id, owner=changed.owner, reason="requested"
            )
        return endpoint_view(changed)

    async def delete(self, endpoint_id: str, *, owner: str | None) -> EndpointDeleted:
        """Forget an endpoint; what waits for it is not sent.

        Raises:
            Refusal: `not-found`.
        """

        def operation(connection: Connection) -> None:
            visible(endpoint_rows.load(connection, endpoint_id, lock=True), owner)
            endpoint_rows.remove(connection, endpoint_id)

        await self._database.write(operation)
        return EndpointDeleted(id=endpoint_id)

    async def _change(
        self, endpoint_id: str, owner: str | None, values: Callable[[Endpoint], Mapping[str, object]]
    ) -> Endpoint:
        def operation(connection: Connection) -> Endpoint:
            endpoint = visible(endpoint_rows.load(connection, endpoint_id, lock=True), owner)
            new = values(endpoint)
            if not new:
                return endpoint
            endpoint_rows.change(connection, endpoint_id, new)
            return replace(endpoint, **new)

        return await self._database.write(operation)

    def _checked(self, url: str) -> str:
        try:
            return check_receiver(url, self._receivers)
        except UrlRefused as error:
            problem = FieldProblem("/url", error.message)
            raise Refusal(error.slug, error.message, errors=(problem,)) from error


def check_enabled(endpoint: Endpoint | None) -> None:
    """Refuse what cannot be sent.

    Raises:
        Refusal: `endpoint-disabled`, or deleted.
    """
    if endpoint is None:
        raise Refusal("endpoint-disabled", "the endpoint was deleted")
    if not endpoint.enabled:
        raise Refusal("endpoint-disabled", f"the endpoint is disabled ({endpoint.disabled_reason})")


def unknown_endpoint() -> Refusal:
    """Make the one answer for endpoints that do not exist and endpoints that are somebody else's."""
    return Refusal("not-found", "there is no such endpoint")


def _unknown_owner(connection: Connection, owner: str) -> Refusal:
    """Say who there is: a mistyped owner's endpoint would hear of nothing, and nobody would know why."""
    names = key_rows.owner_names(connection, limit=OWNERS_NAMED + 1)
    named = ", ".join(map(repr, names[:OWNERS_NAMED])) + (", ..." if len(names) > OWNERS_NAMED else "")
    return Refusal("not-found", f"there is no owner {owner!r}; there is {named or 'none yet'}")


def endpoint_view(endpoint: Endpoint) -> EndpointView:
    """Show an endpoint, without its secrets."""
    return EndpointView(
        id=endpoint.id,
        owner=endpoint.owner,
        url=endpoint.url,
        events=endpoint.events.split(),
        description=endpoint.description,
        signing=endpoint.signing,
        public_key=endpoint.public_key,
        previous_secret_until=_instant(endpoint.previous_until_ms),
        state=endpoint.state,
        disabled_reason=endpoint.disabled_reason,
        disabled_at=_instant(endpoint.disabled_at_ms),
        failing_since=_instant(endpoint.failing_since_ms),
        created_at=instant(endpoint.created_at_ms),
        updated_at=instant(endpoint.updated_at_ms),
    )


def _with_secret(endpoint: Endpoint, secret: str | None) -> EndpointWithSecret:
    return EndpointWithSecret(**asdict(endpoint_view(endpoint)), secret=secret)


def _instant(ms: int | None) -> str | None:
    return None if ms is None else instant(ms)


def visible(endpoint: Endpoint | None, owner: str | None) -> Endpoint:
    """Return the endpoint, if it is one of the owner's; None is an operator, who sees all.

    Raises:
        Refusal: `not-found`, the same for an unknown one and another owner's.
    """
    if endpoint is None or (owner is not None and endpoint.owner != owner):
        raise unknown_endpoint()
    return endpoint


def _joined(events: Sequence[str]) -> str:
    return " ".join(str(event) for event in dict.fromkeys(events))
