"""Callbacks: what providers tell us unasked about an attempt. Hints, kept and looked into, never believed.

Each submission is given a URL of its own, whose token only we can make, and a secret to be repeated. What
comes with both is stored before it is answered, and then makes a question due: a poll of the attempt that was
accepted, a look for the one whose outcome is unknown. Nothing else of the job changes by a callback.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from gateway.clock import Clock
from gateway.errors import Refusal
from gateway.ids import ATTEMPT, well_formed
from gateway.jobs.job import Attempt, AttemptState
from gateway.jobs.transitions import TaskKind
from gateway.registry import Registry
from gateway.service.wakeup import Wakeup
from gateway.storage import attempts as attempt_rows
from gateway.storage import callbacks as callback_rows
from gateway.storage import jobs as job_rows
from gateway.storage import tasks as task_rows
from gateway.storage.engine import Database
from gateway.telemetry import get_logger
from gateway.upstream.calls import Callback
from providers.contract.adapter import Adapter
from providers.contract.errors import UnexpectedPayload
from providers.contract.reading import is_ref

_log = get_logger("gateway.callbacks")

PATH = "/v1/callbacks"


class CallbackKeys:
    """Makes and checks the tokens and secrets of callbacks.

    Args:
        public_url: where providers reach this gateway; None wants no callbacks, and takes none.
        secret: of the store; tokens stay good for as long as it stays the same.
    """

    def __init__(self, public_url: str | None, secret: str) -> None:
        self._public_url = public_url
        self._key = hashlib.sha256(b"callbacks\0" + secret.encode()).digest()

    def callback_of(self, adapter: Adapter, attempt_id: str) -> Callback | None:
        """Return where the provider may report an attempt; None where it cannot, or there is no way here."""
        if self._public_url is None or adapter.spec.callback is None or adapter.parse_callback is None:
            return None
        token = f"{attempt_id}.{self._mac('token', attempt_id)}"
        url = f"{self._public_url}{PATH}/{adapter.spec.name}/{token}"
        return Callback(url, self._mac("secret", attempt_id))

    def attempt_of(self, token: str) -> str | None:
        """Return whose token it is; None for one that we did not make."""
        attempt_id, _, mac = token.partition(".")
        if self._public_url is None or not well_formed(attempt_id, ATTEMPT):
            return None
        return attempt_id if self._same(mac, self._mac("token", attempt_id)) else None

    def knows(self, attempt_id: str, secret: str) -> bool:
        """Whether that is the attempt's secret."""
        return self._same(secret, self._mac("secret", attempt_id))

    def _mac(self, purpose: str, attempt_id: str) -> str:
        digest = hmac.digest(self._key, f"{purpose}\0{attempt_id}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    @staticmethod
    def _same(given: str, right: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), right.encode())


class Callbacks:
    """Takes callbacks in.

    Args:
        database: where they are kept.
        clock: stamps them.
        registry: says who calls back, and how it is read.
        keys: tells whose they are.
        wakeup: wakes whoever can look into them.
    """

    def __init__(
        self, database: Database, clock: Clock, registry: Registry, keys: CallbackKeys, wakeup: Wakeup
    ) -> None:
        self._database = database
        self._clock = clock
        self._registry = registry
        self._keys = keys
        self._wakeup = wakeup

    def admit(self, provider: str, token: str, headers: Mapping[str, str]) -> str:
        """Return the attempt that a call is about, before its body is read.

        Args:
            provider: from the URL.
            token: from the URL.
            headers: names in lower case.

        Raises:
            Refusal: `invalid-signature`, the same whatever is wrong.
        """
        adapter = self._registry.adapters.get(provider)
        spec = None if adapter is None else adapter.spec.callback
        attempt_id = self._keys.attempt_of(token)
        if adapter is None or adapter.parse_callback is None or spec is None or attempt_id is None:
            raise _invalid()
        if spec.secret_header is not None:
            given = headers.get(spec.secret_header, "")
            if not self._keys.knows(attempt_id, given):
                raise _invalid()
        return attempt_id

    async def take(self, provider: str, attempt_id: str, headers: Mapping[str, str], body: bytes) -> None:
        """Store a callback that was admitted, and make a question due by it.

        Raises:
            Refusal: `malformed-body`, it names no run; `invalid-signature`, it is another provider's attempt.
            StorageUnavailable: it is not stored; the provider may send it again.
        """
        ref = self._read(provider, headers, body)
        digest = hashlib.sha256(body).hexdigest()

        def operation(connection: Connection) -> str:
            now_ms = self._clock.now_ms()
            attempt = attempt_rows.find(connection, attempt_id)
            if attempt is None or attempt.provider != provider:
                raise _invalid()
            if not callback_rows.insert_new(
                connection, attempt_id=attempt_id, digest=digest, ref=ref, at_ms=now_ms
            ):
                return "known"
            return _heed(connection, attempt, ref, now_ms)

        try:
            outcome = await self._database.write(operation)
        except IntegrityError:  # the same one came twice at the same moment
            outcome = "known"
        # A ref other than the one our own submission was answered with is not ours to believe.
        log = _log.warning if outcome == "other_ref" else _log.info
        log("callback.taken", attempt_id=attempt_id, provider=provider, outcome=outcome)
        self._wakeup.wake()

    def _read(self, provider: str, headers: Mapping[str, str], body: bytes) -> str:
        parse = self._registry.adapters[provider].parse_callback
        if parse is None:
            raise _invalid()
        try:
            ref = parse(headers, body)
        except UnexpectedPayload as error:
            raise Refusal("malformed-body", f"The body names no run: {error}.") from error
        if not is_ref(ref):
            raise Refusal("malformed-body", "The body names no run.")
        return ref


def _heed(connection: Connection, attempt: Attempt, ref: str, now_ms: int) -> str:
    """Make due what the callback suggests; return what that is, in a word."""
    if attempt.state is AttemptState.ACCEPTED:
        if attempt.ref != ref:
            return "other_ref"
        due = task_rows.hurry(connection, TaskKind.POLL, attempt.job_id, at_ms=now_ms)
        return "poll" if due else "stored"
    if attempt.state is not AttemptState.UNKNOWN or attempt.written_off:
        return "stored"  # while it is being submitted, for the case that its answer is lost
    job = job_rows.load(connection, attempt.job_id, lock=True)
    if job is None or job.state.held is None:
        return "stored"
    if not task_rows.hurry(connection, TaskKind.RECONCILE, attempt.job_id, at_ms=now_ms):
        task_rows.insert_many(connection, [(TaskKind.RECONCILE, attempt.job_id, now_ms)])
    return "reconcile"


def _invalid() -> Refusal:
    detail = "The call does not prove that it comes from the provider."
    return Refusal("invalid-signature", detail, headers={"WWW-Authenticate": "Callback-Secret"})
