"""Callbacks: what providers tell us unasked about an attempt. Hints, kept and looked into, never believed.

Each submission is given a URL of its own, whose token only we can make, and a secret to prove itself by. What
comes there, and proves what its adapter declares, is stored before it is answered, and then makes a question
due: a poll of the attempt that was accepted, a look for the one whose outcome is unknown. Nothing else of the
job changes by a callback.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from gateway.clock import Clock
from gateway.errors import Refusal
from gateway.ids import ATTEMPT, well_formed
from gateway.jobs.job import Attempt, AttemptState
from gateway.jobs.transitions import TaskKind
from gateway.registry import Registry
from gateway.service.inflow import Inflow
from gateway.service.wakeup import Wakeup
from gateway.storage import attempts as attempt_rows
from gateway.storage import callbacks as callback_rows
from gateway.storage import jobs as job_rows
from gateway.storage import tasks as task_rows
from gateway.storage.callbacks import CallbackRow
from gateway.storage.engine import Database
from gateway.telemetry import get_logger, redact_exchange_body
from gateway.upstream.calls import CALLBACK_MASK, Callback
from providers.contract.adapter import Adapter
from providers.contract.errors import UnexpectedPayload
from providers.contract.proof import Headers, flaw_of_call, flaw_of_head
from providers.contract.reading import is_ref

_log = get_logger("gateway.callbacks")

PATH = "/v1/callbacks"
COALESCED_MS = 2000
"""Between two questions about one attempt that callbacks lead to."""
MOST_KEPT = 100
"""Callbacks of one attempt; an honest provider sends a few. Those beyond are neither kept nor heeded."""


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
        return Callback(url, self.secret_of(attempt_id))

    def attempt_of(self, token: str) -> str | None:
        """Return whose token it is; None for one that we did not make."""
        attempt_id, _, mac = token.partition(".")
        if self._public_url is None or not well_formed(attempt_id, ATTEMPT):
            return None
        return attempt_id if self._same(mac, self._mac("token", attempt_id)) else None

    def secret_of(self, attempt_id: str) -> str:
        """Return what the provider of an attempt is to prove itself by."""
        return self._mac("secret", attempt_id)

    def without(self, attempt_id: str, text: str) -> str:
        """Take an attempt's secrets out of a text that is kept."""
        for purpose in ("token", "secret"):
            text = text.replace(self._mac(purpose, attempt_id), CALLBACK_MASK)
        return text

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
        registry: says who calls back, how that is proven, and how it is read.
        keys: tells whose they are.
        wakeup: wakes whoever can look into them.
        redact: takes secrets out of what is kept.
        on_call: told of each call: provider, and what came of it (`telemetry.labels.CALLBACK_OUTCOMES`).
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        registry: Registry,
        keys: CallbackKeys,
        wakeup: Wakeup,
        *,
        redact: Callable[[str], str],
        on_call: Callable[[str, str], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._registry = registry
        self._keys = keys
        self._wakeup = wakeup
        self._redact = redact
        self._on_call = on_call
        self._inflow = Inflow(clock)

    def admit(self, provider: str, token: str, headers: Headers, *, source: str) -> str:
        """Return the attempt that a call is about, before its body is read.

        Args:
            provider: from the URL.
            token: from the URL.
            headers: as they came, names in lower case.
            source: the address it comes from.

        Raises:
            Refusal: `invalid-signature`, the same whatever is wrong; `quota-exceeded`, too many came.
        """
        attempt_id = self._keys.attempt_of(token)
        found = self._registry.adapters.get(provider)
        spec = None if found is None or found.parse_callback is None else found.spec.callback
        if spec is None or attempt_id is None:
            raise self._refused(provider, "token")
        flaw = flaw_of_head(
            spec.proof, headers, secret=self._keys.secret_of(attempt_id), now_s=self._clock.now_ms() // 1000
        )
        if flaw is not None:
            raise self._refused(provider, flaw)
        # Only now: whoever cannot prove itself must not use up what the provider may send.
        try:
            self._inflow.take(provider, source)
        except Refusal:
            self._on_call(provider, "throttled")
            raise
        return attempt_id

    async def take(self, provider: str, attempt_id: str, headers: Headers, body: bytes) -> None:
        """Store a callback that was admitted, and make a question due by it.

        Raises:
            Refusal: `invalid-signature`, it is not what the provider signed, or about another provider's
                attempt; `malformed-body`, it names no run.
            StorageUnavailable: it is not stored; the provider may send it again.
        """
        adapter = self._registry.adapters[provider]
        ref = self._read(adapter, attempt_id, headers, body)
        shown = redact_exchange_body(body, lambda text: self._redact(self._keys.without(attempt_id, text)))
        digest = hashlib.sha256(body).hexdigest()

        def operation(connection: Connection) -> str:
            now_ms = self._clock.now_ms()
            attempt = attempt_rows.find(connection, attempt_id)
            if attempt is None or attempt.provider != provider:
                return "stranger"
            if callback_rows.has(connection, attempt_id, digest):
                return "known"
            past = callback_rows.past_of(connection, attempt_id)
            if past.kept >= MOST_KEPT:
                return "full"
            if attempt.state in {AttemptState.SUBMITTING, AttemptState.UNKNOWN}:
                # That it was accepted may be being written just now: of the two, the second sees the first.
                job_rows.load(connection, attempt.job_id, lock=True)
                attempt = attempt_rows.find(connection, attempt_id) or attempt
            outcome, due_at_ms = _heed(connection, attempt, ref, past.due_at_ms, now_ms)
            row = CallbackRow(
                attempt_id=attempt_id,
                digest=digest,
                ref=ref,
                received_at_ms=now_ms,
                body=shown,
                due_at_ms=due_at_ms,
            )
            callback_rows.insert_one(connection, row)
            return outcome

        try:
            outcome = await self._database.write(operation)
        except IntegrityError:  # the same one came twice at the same moment
            outcome = "known"
        if outcome == "stranger":
            raise self._refused(provider, outcome)
        self._on_call(provider, outcome)
        # A ref other than the one our own submission was answered with is not ours to believe.
        log = _log.warning if outcome in {"other_ref", "full"} else _log.info
        log("callback.taken", attempt_id=attempt_id, provider=provider, outcome=outcome)
        self._wakeup.wake()

    def _read(self, adapter: Adapter, attempt_id: str, headers: Headers, body: bytes) -> str:
        name, spec, parse = adapter.spec.name, adapter.spec.callback, adapter.parse_callback
        if spec is None or parse is None:
            raise self._refused(name, "token")
        flaw = flaw_of_call(
            spec.proof,
            headers,
            body,
            secret=self._keys.secret_of(attempt_id),
            now_s=self._clock.now_ms() // 1000,
        )
        if flaw is not None:
            raise self._refused(name, flaw)
        try:
            ref = parse(dict(headers), body)
        except UnexpectedPayload as error:
            self._on_call(name, "unreadable")
            raise Refusal("malformed-body", f"The body names no run: {error}.") from error
        if not is_ref(ref):
            self._on_call(name, "unreadable")
            raise Refusal("malformed-body", "The body names no run.")
        return ref

    def _refused(self, provider: str, outcome: str) -> Refusal:
        """Count a call that proves nothing, and return the one answer to all of them."""
        self._on_call(provider, outcome)
        detail = "The call does not prove that it comes from the provider."
        return Refusal("invalid-signature", detail, headers={"WWW-Authenticate": "Callback-Secret"})


def _heed(
    connection: Connection, attempt: Attempt, ref: str, last_due_ms: int | None, now_ms: int
) -> tuple[str, int | None]:
    """Make due what the callback suggests; return what that is, in a word, and when.

    Args:
        connection: of the transaction.
        attempt: that it is about.
        ref: that it names.
        last_due_ms: when the last question is, or was, due that a callback about this attempt led to.
        now_ms: the instant.
    """
    kind = _question(connection, attempt, ref)
    if not isinstance(kind, TaskKind):
        return kind, None
    if last_due_ms is not None and last_due_ms > now_ms:  # the question of an earlier one is still to come
        return "coalesced", None
    at_ms = now_ms if last_due_ms is None else max(now_ms, last_due_ms + COALESCED_MS)
    due_ms = task_rows.bring_forward(connection, kind, attempt.job_id, at_ms=at_ms)
    if due_ms is None and kind is TaskKind.RECONCILE:
        task_rows.insert_many(connection, [(kind, attempt.job_id, at_ms)])
        due_ms = at_ms
    return ("stored" if due_ms is None else kind.value), due_ms


def _question(connection: Connection, attempt: Attempt, ref: str) -> TaskKind | str:
    """Return what to ask about an attempt of which a callback names that ref; a word where it is nothing."""
    if attempt.state is AttemptState.ACCEPTED:
        return TaskKind.POLL if attempt.ref == ref else "other_ref"
    if attempt.state is not AttemptState.UNKNOWN or attempt.written_off:
        return "stored"  # while it is being submitted, for the case that its answer is lost
    job = job_rows.load(connection, attempt.job_id, lock=True)
    return "stored" if job is None or job.state.held is None else TaskKind.RECONCILE
