"""The same wire from the provider's side, for the simulator: still data and pure functions.

An emulation reads what arrives into a `Received` value and shows simulated jobs in the provider's words.
The simulator (`gateway/simulator`) owns everything that moves: time, faults, media, counting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from providers.contract.exchange import HttpResponse
from providers.contract.motion import MotionRequest


class Rules(Struct, frozen=True, kw_only=True):
    """How strict the simulated provider is."""

    keys: frozenset[str] | None = None
    """The keys it knows; None accepts any that is not empty."""
    allow_loopback_media: bool = False
    """Whether plain http and loopback hosts pass as media, which no real provider accepts."""

    def knows(self, key: str) -> bool:
        """Whether a key is accepted."""
        return bool(key) and (self.keys is None or key in self.keys)

    def could_fetch(self, url: str) -> bool:
        """Whether a media URL is of a form that a provider takes: https with a host name, no address."""
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
        except ValueError:
            return False
        if self.allow_loopback_media:
            return parts.scheme in {"http", "https"} and bool(host)
        is_address = host.replace(".", "").isdigit() or ":" in host
        return parts.scheme == "https" and bool(host) and host != "localhost" and not is_address


class WireRequest(Struct, frozen=True, kw_only=True):
    """What arrived, below the mount point."""

    method: str
    path: tuple[str, ...]
    """Segments, percent-decoded."""
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    """Names in lower case."""
    body: bytes = b""


class Create(Struct, frozen=True, kw_only=True):
    """A well-formed create call."""

    request: MotionRequest
    modes: Mapping[str, str] = {}
    """What the call itself decides about how its job is shown, such as the path it came by."""
    client_request_id: str | None = None
    callback_url: str = ""
    """Where the job's end is to be reported; empty when nowhere."""
    callback_secret: str = ""


class Poll(Struct, frozen=True, kw_only=True):
    """A question about a job."""

    ref: str


class Cancel(Struct, frozen=True, kw_only=True):
    """A wish to cancel or delete a job."""

    ref: str


class ListJobs(Struct, frozen=True, kw_only=True):
    """A question about the jobs there are, newest first. Instants are milliseconds since 1970 (UTC)."""

    limit: int
    offset: int
    within_s: float | None = None
    """Only jobs taken on this many seconds ago or less."""
    since_ms: int | None = None
    """Only jobs taken on then or later."""
    until_ms: int | None = None
    """Only jobs taken on then or earlier."""
    words: frozenset[str] | None = None
    """Only jobs that stand at one of these words now."""
    ended_only: bool = False
    """Whether a job is listed from its end on, and not from its beginning."""


class Answer(Struct, frozen=True, kw_only=True):
    """Everything else: a refusal, or a call that concerns no job."""

    response: HttpResponse


Received = Create | Poll | Cancel | ListJobs | Answer


class SimulatedFailure(Struct, frozen=True, kw_only=True):
    """A failure as the provider would name it."""

    code: str
    message: str


class SimulatedJob(Struct, frozen=True, kw_only=True):
    """A job as it stands at the moment it is shown."""

    ref: str
    request: MotionRequest
    word: str
    created_at: str
    """RFC 3339."""
    progress: float | None = None
    output_url: str | None = None
    """Set once it succeeded; signed anew for every look."""
    failure: SimulatedFailure | None = None
    duration_s: float = 0.0
    """Of the reference."""
    credits: int = 0
    modes: Mapping[str, str] = {}


class CallbackMessage(Struct, frozen=True, kw_only=True):
    """What is posted to a job's callback URL."""

    headers: tuple[tuple[str, str], ...]
    body: bytes


class Leg(Struct, frozen=True):
    """A stretch of a job's run during which one status word is shown."""

    word: str
    share: float
    """Part of the whole run, 0 to 1."""
    progress: bool = False
    """Whether a rising progress is shown."""


class Emulation(Struct, frozen=True, kw_only=True):
    """One provider's wire from its own side."""

    name: str
    """The adapter's name; also where it is mounted."""
    course: tuple[Leg, ...]
    """The words on the way, in their order."""
    succeeded_word: str
    failed_word: str
    cancelled_word: str
    credits_per_s: int
    ref_of: Callable[[str], str]
    """Make a ref of the provider's form out of 32 random hex digits."""
    receive: Callable[[WireRequest, Rules], Received]
    show_created: Callable[[SimulatedJob], HttpResponse]
    show_job: Callable[[SimulatedJob], HttpResponse]
    show_missing: Callable[[], HttpResponse]
    """The answer about a ref the provider does not know."""
    show_cancelled: Callable[[SimulatedJob], HttpResponse] | None = None
    show_listing: Callable[[tuple[SimulatedJob, ...], ListJobs, int], HttpResponse] | None = None
    """(the page's jobs, the question, how many jobs all pages hold) -> answer; None when there is no list."""
    show_callback: Callable[[SimulatedJob, str], CallbackMessage] | None = None
    """(a job that succeeded or failed, its secret) -> message; None when it calls nobody back. The end of a
    cancelled job is never reported."""
    refuse_asset: Callable[[str, str], HttpResponse] | None = None
    """(option, reason) -> refusal at create; None when assets are only looked at while the job runs."""
    forgets_cancelled: bool = False
    """Whether a cancelled or deleted job is unknown afterwards."""
    failures: Mapping[str, SimulatedFailure] = {}
    """Failures it can be told to show, by our error code."""
    refusals: Mapping[str, HttpResponse] = {}
    """Refusals at create it can be told to give, by our error code."""
    modes: Mapping[str, tuple[str, ...]] = {}
    """Ways of showing that were all seen in life; the first of each is the default."""


def json_response(status: int, document: object, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """Build a JSON reply."""
    body = msgspec.json.encode(document)
    return HttpResponse(
        status=status, headers={"content-type": "application/json", **(headers or {})}, body=body
    )
