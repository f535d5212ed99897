"""The calls to a provider: build, send, read, normalize; each with the exchange for the timeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from gateway.clock import Clock
from gateway.jobs.job import Attempt
from gateway.upstream import classify
from gateway.upstream.accounts import UpstreamAccount
from gateway.upstream.client import Client, Reply
from providers.contract.adapter import CallContext
from providers.contract.exchange import HttpRequest
from providers.contract.motion import MotionRequest
from providers.contract.spec import ModelSpec

R = TypeVar("R")

STORED_CHARACTERS = 4096
READ_BYTES = 65_536  # looked at for secrets before the cut, so that none is cut in two and missed


class Spoken(Struct, frozen=True, kw_only=True):
    """What was said, for the timeline; redacted and cut."""

    operation: str
    at_ms: int
    duration_ms: int
    outcome: str
    request: str
    status: int | None
    response: str


class Called(Struct, Generic[R], frozen=True):
    """A call's outcome, and what was said."""

    outcome: R
    spoken: Spoken


class _Sent(Struct, frozen=True):
    wire: HttpRequest
    reply: Reply
    at_ms: int


OnCall = Callable[[str, str, str, float], None]
"""Told about each call: provider, operation, outcome, seconds."""


class Calls:
    """What can be asked of a provider.

    Args:
        client: sends.
        clock: stamps the exchanges.
        redact: takes secrets out of a text.
        on_call: counts.
    """

    def __init__(self, client: Client, clock: Clock, redact: Callable[[str], str], on_call: OnCall) -> None:
        self._client = client
        self._clock = clock
        self._redact = redact
        self._on_call = on_call

    def build_submit(
        self, account: UpstreamAccount, request: MotionRequest, model: ModelSpec, attempt: Attempt
    ) -> HttpRequest:
        """Build the paid call without making it, so that what cannot be built is known before the intent."""
        return account.adapter.build_submit(request, _context(model, attempt))

    async def submit(
        self, account: UpstreamAccount, wire: HttpRequest, attempt: Attempt
    ) -> Called[classify.Submission]:
        """Make the paid call, once. Its intent must be committed before."""
        sent = await self._send(account, wire, attempt, account.adapter.spec.submit_timeout_s)
        return self._called("submit", account, sent, classify.submission(account.adapter, sent.reply))

    async def poll(
        self, account: UpstreamAccount, model: ModelSpec, attempt: Attempt
    ) -> Called[classify.Poll]:
        """Ask how an accepted attempt stands."""
        adapter = account.adapter
        wire = adapter.build_poll(_context(model, attempt))
        sent = await self._send(account, wire, attempt, adapter.spec.poll_timeout_s)
        outcome = classify.poll(adapter, sent.reply, allow_http=account.plain_http)
        return self._called("poll", account, sent, outcome)

    async def cancel(
        self, account: UpstreamAccount, model: ModelSpec, attempt: Attempt
    ) -> Called[classify.Cancelling] | None:
        """Ask the provider to stop; None when it has no way to."""
        adapter = account.adapter
        if adapter.build_cancel is None:
            return None
        wire = adapter.build_cancel(_context(model, attempt))
        sent = await self._send(account, wire, attempt, adapter.spec.poll_timeout_s)
        return self._called("cancel", account, sent, classify.cancelling(adapter, sent.reply))

    async def probe(self, account: UpstreamAccount) -> Reply | None:
        """Make the free call that proves the key; None when the provider has none."""
        adapter = account.adapter
        if adapter.build_probe is None:
            return None
        return await self._client.send(
            account, adapter.build_probe(), timeout_s=adapter.spec.poll_timeout_s, options=account.options
        )

    async def _send(
        self, account: UpstreamAccount, wire: HttpRequest, attempt: Attempt, timeout_s: float
    ) -> _Sent:
        at_ms = self._clock.now_ms()
        reply = await self._client.send(account, wire, timeout_s=timeout_s, options=attempt.options)
        return _Sent(wire, reply, at_ms)

    def _called(self, operation: str, account: UpstreamAccount, sent: _Sent, outcome: R) -> Called[R]:
        word, reply = _word(outcome), sent.reply
        self._on_call(account.adapter.spec.name, operation, word, reply.duration_s)
        body = "" if sent.wire.json is None else "\n" + msgspec.json.encode(sent.wire.json).decode()
        raw = reply.failure.encode() if reply.response is None else reply.response.body
        # NUL is the one character that a text column of PostgreSQL refuses.
        answer = raw[:READ_BYTES].decode("utf-8", "replace").replace("\x00", "\ufffd")
        spoken = Spoken(
            operation=operation,
            at_ms=sent.at_ms,
            duration_ms=round(reply.duration_s * 1000),
            outcome=word,
            request=self._redact(f"{sent.wire.method} {sent.wire.target}{body}")[:STORED_CHARACTERS],
            status=None if reply.response is None else reply.response.status,
            response=self._redact(answer)[:STORED_CHARACTERS],
        )
        return Called(outcome, spoken)


def _context(model: ModelSpec, attempt: Attempt) -> CallContext:
    return CallContext(model=model, attempt_id=attempt.id, options=attempt.options, ref=attempt.ref or "")


def _word(outcome: object) -> str:
    """Name an outcome for metrics: made, unknown, done, seen, missing, or the error's code."""
    if isinstance(outcome, classify.NotMade | classify.Trouble):
        return outcome.error.code
    return type(outcome).__name__.lower()
