"""Takes webhooks in as a careful receiver does: verified, known again by their id, put in their order."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct

from gateway.api.body import ClientGone, read_body
from gateway.api.problems import PROBLEMS
from gateway.clock import Clock
from gateway.errors import Refusal
from gateway.webhooks.verifying import Flaw, Key, flaw_of
from providers.contract.errors import UnexpectedPayload
from providers.contract.reading import decode_object, text_at, value_at

BODY_MAX_BYTES: Final = 1_048_576
BODY_TIMEOUT_S: Final = 10.0
REMEMBERED: Final = 10_000
"""Messages and jobs that are known again; the oldest are forgotten."""
NOT_BELIEVED: Final = 401

_Message = MutableMapping[str, Any]


class Verdict(StrEnum):
    """What a request is."""

    VERIFIED = "verified"
    """Genuine, fresh and new."""
    AGAIN = "again"
    """Genuine and fresh, with a `webhook-id` that came before: it must not be acted on twice."""
    UNSIGNED = Flaw.UNSIGNED.value
    STALE = Flaw.STALE.value
    FORGED = Flaw.FORGED.value
    UNVERIFIED = "unverified"
    """There is no key to verify it with."""
    UNREAD = "unread"
    """Its body was too large, too slow or broken off."""


class Heard(Struct, frozen=True, kw_only=True):
    """One request, and what it was answered.

    Unless the verdict is `verified` or `again`, anybody may have written what it says.
    """

    at_ms: int
    verdict: Verdict
    answered: int
    webhook_id: str | None = None
    times: int = 0
    """How often this message came, this time included; 0 unless it is genuine."""
    type: str | None = None
    job_id: str | None = None
    status: str | None = None
    sequence: int | None = None
    overtaken: bool = False
    """Whether a later event of the same job came before it."""


class Desk:
    """The ASGI application: POST to any path.

    Args:
        keys: to verify with; without any, nothing is known of what comes but what it says.
        clock: tells how old a message is.
        answer: the status for what is genuine.
        tell: told of every request, before it is answered.

    Attributes:
        counts: requests by verdict.
    """

    def __init__(
        self, keys: Sequence[Key], clock: Clock, *, answer: int, tell: Callable[[Heard], None]
    ) -> None:
        self._keys, self._clock, self._answer, self._tell = keys, clock, answer, tell
        self.counts: Counter[Verdict] = Counter()
        self._times = _Recent()
        self._latest = _Recent()

    async def asgi(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        if scope["method"] != "POST":
            await _reply(send, 405, (b"allow", b"POST"))
            return
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        try:
            heard = self._judge(headers, await _body(receive, headers))
        except Refusal as refusal:
            status = PROBLEMS[refusal.slug].status
            heard = Heard(at_ms=self._clock.now_ms(), verdict=Verdict.UNREAD, answered=status)
        except ClientGone:
            return
        self.counts[heard.verdict] += 1
        self._tell(heard)
        # What was refused unread leaves its body on the connection, which cannot go on then.
        unread = heard.verdict is Verdict.UNREAD
        await _reply(send, heard.answered, *([(b"connection", b"close")] if unread else []))

    def _judge(self, headers: Sequence[tuple[str, str]], body: bytes) -> Heard:
        at_ms = self._clock.now_ms()
        flaw = flaw_of(self._keys, headers, body, now_s=at_ms // 1000) if self._keys else None
        message_id = next((value for name, value in headers if name == "webhook-id"), None)
        said = _said(body)
        job_id, sequence = text_at(said, "data", "id"), value_at(said, "sequence")
        number = sequence if isinstance(sequence, int) and not isinstance(sequence, bool) else None
        times, overtaken = 0, False
        if self._keys and flaw is None and message_id is not None:
            times = self._times.get(message_id) + 1
            self._times.put(message_id, times)
            if job_id is not None and number is not None:
                latest = self._latest.get(job_id)
                overtaken = number < latest
                self._latest.put(job_id, max(number, latest))
        known = Verdict.AGAIN if times > 1 else Verdict.VERIFIED if self._keys else Verdict.UNVERIFIED
        return Heard(
            at_ms=at_ms,
            verdict=known if flaw is None else Verdict(flaw.value),
            answered=self._answer if flaw is None else NOT_BELIEVED,
            webhook_id=message_id,
            times=times,
            type=text_at(said, "type"),
            job_id=job_id,
            status=text_at(said, "data", "status"),
            sequence=number,
            overtaken=overtaken,
        )


class _Recent:
    """Numbers by name; the names that were put longest ago are forgotten."""

    def __init__(self) -> None:
        self._numbers: OrderedDict[str, int] = OrderedDict()

    def get(self, name: str) -> int:
        return self._numbers.get(name, 0)

    def put(self, name: str, number: int) -> None:
        self._numbers[name] = number
        self._numbers.move_to_end(name)
        if len(self._numbers) > REMEMBERED:
            self._numbers.popitem(last=False)


def _said(body: bytes) -> dict[str, object]:
    """Read the body, whoever wrote it; empty where it is no object."""
    try:
        return decode_object(body)
    except UnexpectedPayload:
        return {}


async def _body(receive: Callable[[], Awaitable[_Message]], headers: Sequence[tuple[str, str]]) -> bytes:
    length = next((value for name, value in headers if name == "content-length"), None)
    return await read_body(receive, limit=BODY_MAX_BYTES, timeout_s=BODY_TIMEOUT_S, content_length=length)


async def _reply(
    send: Callable[[_Message], Awaitable[None]], status: int, *fields: tuple[bytes, bytes]
) -> None:
    bodiless = status in {204, 304}  # which have no length either (RFC 9110, section 8.6)
    length = [] if bodiless else [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": [*length, *fields]})
    await send({"type": "http.response.body", "body": b""})
