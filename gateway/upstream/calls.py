"""The calls to a provider: build, send, read, normalize; each with the exchange for the timeline."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from gateway.clock import Clock
from gateway.crash_points import Point, reach
from gateway.jobs.job import Attempt
from gateway.net import BeforeSend
from gateway.telemetry import get_logger, redact_exchange_body
from gateway.telemetry.tracing import Tracing, Untraced
from gateway.upstream import classify
from gateway.upstream.accounts import UpstreamAccount
from gateway.upstream.client import Client, Reply
from providers.contract.adapter import MOST_LOOKS, Adapter, CallContext, Sought
from providers.contract.errors import ErrorCode, UnexpectedPayload, UpstreamError
from providers.contract.exchange import HttpRequest, HttpResponse
from providers.contract.motion import MotionRequest
from providers.contract.spec import ModelSpec

_log = get_logger("gateway.upstream")

R = TypeVar("R")


class Spoken(Struct, frozen=True, kw_only=True):
    """What was said, for the timeline."""

    operation: str
    at_ms: int
    duration_ms: int
    outcome: str
    status: int | None
    said: _Said

    @property
    def request(self) -> str:
        """Method, target and body; redacted and cut."""
        return self.said.request()

    @property
    def response(self) -> str:
        """The body's beginning, or what went wrong; redacted and cut."""
        return self.said.response()


class _Said:
    """Both sides of a call as they were; redacted when somebody wants them, since most are never kept."""

    __slots__ = ("_answer", "_redact", "_wire")

    def __init__(self, wire: HttpRequest, answer: bytes, redact: Callable[[str], str]) -> None:
        self._wire = wire
        self._answer = answer
        self._redact = redact

    def request(self) -> str:
        body = "" if self._wire.json is None else "\n" + msgspec.json.encode(self._wire.json).decode()
        return redact_exchange_body(f"{self._wire.method} {self._wire.target}{body}".encode(), self._redact)

    def response(self) -> str:
        return redact_exchange_body(self._answer, self._redact)


class Called(Struct, Generic[R], frozen=True):
    """A call's outcome, and what was said."""

    outcome: R
    spoken: Spoken


class Looked(Struct, frozen=True):
    """What a look for a lost submission came to, and what was said on the way."""

    outcome: classify.Look
    said: tuple[Spoken, ...]


class Callback(Struct, frozen=True):
    """Where a provider may report an attempt's end, and what it is to prove itself with there."""

    url: str
    secret: str


class _Sent(Struct, frozen=True):
    attempt: Attempt
    wire: HttpRequest
    reply: Reply
    at_ms: int
    callback: Callback | None


OnCall = Callable[[str, str, str, float], None]
"""Told about each call: provider, operation, outcome, seconds."""

CallbackOf = Callable[[Adapter, str], Callback | None]
"""(adapter, attempt id) -> the attempt's callback; None where there is to be none."""

CALLBACK_MASK = "********"


def no_callback(_adapter: Adapter, _attempt_id: str) -> Callback | None:
    """Want no callbacks."""
    return None


class Calls:
    """What can be asked of a provider.

    Args:
        client: sends.
        clock: stamps the exchanges.
        redact: takes secrets out of a text.
        on_call: counts.
        callback_of: gives each submission its callback.
        tracing: makes a span of each.
    """

    def __init__(
        self,
        client: Client,
        clock: Clock,
        redact: Callable[[str], str],
        on_call: OnCall,
        *,
        callback_of: CallbackOf = no_callback,
        tracing: Tracing | None = None,
    ) -> None:
        self._tracing = tracing or Untraced()
        self._callback_of = callback_of
        self._client = client
        self._clock = clock
        self._redact = redact
        self._on_call = on_call

    def build_submit(
        self, account: UpstreamAccount, request: MotionRequest, model: ModelSpec, attempt: Attempt
    ) -> HttpRequest:
        """Build the paid call without making it, so that what cannot be built is known before the intent."""
        context = _context(model, attempt, self._callback_of(account.adapter, attempt.id))
        return account.adapter.build_submit(request, context)

    async def submit(
        self, account: UpstreamAccount, wire: HttpRequest, attempt: Attempt, *, before_send: BeforeSend
    ) -> Called[classify.Submission]:
        """Make the paid call, once. Its intent must be committed before.

        Args:
            account: who pays.
            wire: the call, built before.
            attempt: the intent.
            before_send: asked when the connection stands; when it raises, nothing is sent.
        """

        async def last_check() -> None:
            await before_send()
            reach(Point.SUBMIT_BEFORE_SEND)

        timeout_s = account.adapter.spec.submit_timeout_s
        sent = await self._send("submit", account, wire, attempt, timeout_s, before_send=last_check)
        return self._called("submit", account, sent, classify.submission(account.adapter, sent.reply))

    async def poll(
        self, account: UpstreamAccount, model: ModelSpec, attempt: Attempt
    ) -> Called[classify.Poll]:
        """Ask how an accepted attempt stands."""
        adapter = account.adapter
        wire = adapter.build_poll(_context(model, attempt))
        sent = await self._send("poll", account, wire, attempt, adapter.spec.poll_timeout_s)
        outcome = classify.poll(adapter, sent.reply, allow_http=account.plain_http)
        return self._called("poll", account, sent, outcome)

    async def cancel(
        self, account: UpstreamAccount, model: ModelSpec, attempt: Attempt, *, before_send: BeforeSend
    ) -> Called[classify.Cancelling] | None:
        """Ask the provider to stop; None when it has no way to.

        Args:
            account: where it runs.
            model: which.
            attempt: what is to stop.
            before_send: asked when the connection stands; when it raises, nothing is sent.
        """
        adapter = account.adapter
        if adapter.build_cancel is None:
            return None
        wire = adapter.build_cancel(_context(model, attempt))
        timeout_s = adapter.spec.poll_timeout_s
        sent = await self._send("cancel", account, wire, attempt, timeout_s, before_send=before_send)
        return self._called("cancel", account, sent, classify.cancelling(adapter, sent.reply))

    async def reconcile(
        self, account: UpstreamAccount, model: ModelSpec, attempt: Attempt, sought: Sought
    ) -> Looked:
        """Look for a submission whose outcome is unknown, by free requests. One failed call ends the look.

        Raises:
            LookupError: the adapter has no way to look.
        """
        adapter = account.adapter
        if adapter.reconcile is None:
            raise LookupError(f"{adapter.spec.name} has no way to look for a lost submission")
        said: list[Spoken] = []
        look = adapter.reconcile(_context(model, attempt), sought)
        try:
            wire = next(look)
            for _ in range(MOST_LOOKS):
                if wire.paid:
                    return _doubtful(said, "the adapter's look asks for a paid request")
                timeout_s = adapter.spec.poll_timeout_s
                sent = await self._send("reconcile", account, wire, attempt, timeout_s)
                called = self._called("reconcile", account, sent, classify.looked(adapter, sent.reply))
                said.append(called.spoken)
                if isinstance(called.outcome, classify.Trouble):
                    return Looked(called.outcome, tuple(said))
                wire = look.send(_answer(sent))
        except StopIteration as seen:
            return Looked(classify.Sighted(seen.value), tuple(said))
        except UnexpectedPayload as error:
            return _doubtful(said, f"an answer cannot be read: {error}")
        finally:
            look.close()
        return _doubtful(said, f"the adapter's look wants more than {MOST_LOOKS} requests")

    async def probe(self, account: UpstreamAccount) -> Reply | None:
        """Make the free call that proves the key; None when the provider has none."""
        adapter = account.adapter
        if adapter.build_probe is None:
            return None
        return await self._client.send(
            account, adapter.build_probe(), timeout_s=adapter.spec.poll_timeout_s, options=account.options
        )

    async def _send(
        self,
        operation: str,
        account: UpstreamAccount,
        wire: HttpRequest,
        attempt: Attempt,
        timeout_s: float,
        *,
        before_send: BeforeSend | None = None,
    ) -> _Sent:
        at_ms = self._clock.now_ms()
        name = account.adapter.spec.name
        about = {
            "http.request.method": wire.method,
            "motion_gateway.provider": name,
            "motion_gateway.account": account.name,
            "motion_gateway.attempt_id": attempt.id,
        }
        with self._tracing.span(f"{name} {operation}", "client", about) as span:
            reply = await self._client.send(
                account, wire, timeout_s=timeout_s, options=attempt.options, before_send=before_send
            )
            if reply.response is None:
                span.failed("no answer")
            else:
                span.note({"http.response.status_code": reply.response.status})
        return _Sent(attempt, wire, reply, at_ms, self._callback_of(account.adapter, attempt.id))

    def _called(self, operation: str, account: UpstreamAccount, sent: _Sent, outcome: R) -> Called[R]:
        word, reply = _word(outcome), sent.reply
        self._on_call(account.adapter.spec.name, operation, word, reply.duration_s)
        raw = reply.failure.encode() if reply.response is None else reply.response.body
        spoken = Spoken(
            operation=operation,
            at_ms=sent.at_ms,
            duration_ms=round(reply.duration_s * 1000),
            outcome=word,
            status=None if reply.response is None else reply.response.status,
            said=_Said(sent.wire, raw, lambda text: self._redact(_without(sent.callback, text))),
        )
        if _log.is_enabled_for(logging.DEBUG):  # to redact what was said costs more than to say it
            _log.debug(
                "provider.called",
                provider=account.adapter.spec.name,
                account=account.name,
                job_id=sent.attempt.job_id,
                attempt_id=sent.attempt.id,
                operation=operation,
                outcome=word,
                status=spoken.status,
                duration_ms=spoken.duration_ms,
                request=spoken.request,
                response=spoken.response,
            )
        return Called(outcome, spoken)


def _context(model: ModelSpec, attempt: Attempt, callback: Callback | None = None) -> CallContext:
    return CallContext(
        model=model,
        attempt_id=attempt.id,
        options=attempt.options,
        ref=attempt.ref or "",
        callback_url="" if callback is None else callback.url,
        callback_secret="" if callback is None else callback.secret,
    )


def _without(callback: Callback | None, text: str) -> str:
    """Take a callback's secrets out of a text that the job's owner reads: they are the provider's to use."""
    if callback is None:
        return text
    token = callback.url.rpartition("/")[2]
    return text.replace(callback.secret, CALLBACK_MASK).replace(token, CALLBACK_MASK)


def _answer(sent: _Sent) -> HttpResponse:
    if sent.reply.response is None:
        raise AssertionError("unreachable: no answer is trouble")
    return sent.reply.response


def _doubtful(said: list[Spoken], message: str) -> Looked:
    error = UpstreamError(code=ErrorCode.PROVIDER_CONTRACT, message=message)
    return Looked(classify.Trouble(error=error), tuple(said))


def _word(outcome: object) -> str:
    """Name an outcome for metrics: made, unknown, done, seen, missing, or the error's code."""
    if isinstance(outcome, classify.NotMade | classify.Trouble):
        return outcome.error.code
    return type(outcome).__name__.lower()
