"""An adapter: one spec and its named functions.

The functions are pure. A reader raises `errors.UnexpectedPayload` for a reply it cannot read, and
nothing else, whatever bytes it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping

from msgspec import Struct

from providers.contract.exchange import HttpRequest, HttpResponse
from providers.contract.motion import MotionRequest
from providers.contract.report import Allowance, Failure, Observation, Sighting, Submitted
from providers.contract.spec import ModelSpec, Spec


class CallContext(Struct, frozen=True, kw_only=True):
    """What a call is about, besides the request itself."""

    model: ModelSpec
    attempt_id: str
    """Sent as the client's request id where the provider takes one: the attempt is what was submitted."""
    options: Mapping[str, str] = {}
    """The adapter's options as frozen on the attempt."""
    ref: str = ""
    """The provider's ref; empty only while submitting."""
    callback_url: str = ""
    """Where the provider may report this attempt's end; empty when it must not."""
    callback_secret: str = ""
    """What it is to prove itself with there."""


class Sought(Struct, frozen=True, kw_only=True):
    """A submission whose outcome is unknown. Instants are milliseconds since 1970 (UTC), by our clock."""

    body: Mapping[str, object]
    """The create body, as it was sent."""
    sent_ms: int
    doubted_ms: int
    """When its answer was given up: it was taken before that, or not at all."""
    offered: tuple[str, ...] = ()
    """Refs that callbacks named for this attempt: hints, to be looked at."""
    known: frozenset[str] = frozenset()
    """Refs of other attempts of ours: not worth a question each, since none of them can be the one."""


MOST_LOOKS = 40
"""Requests that one `Reconcile` may yield."""

Reconcile = Generator[HttpRequest, HttpResponse, tuple[Sighting, ...]]
"""Yields free requests, at most `MOST_LOOKS`, and returns what it saw.

It is sent the answer to each where that is a 2xx or a 404: a run that vanished must not spoil the look at the
others. Any other answer, and none, says nothing of the submission: whoever drives it closes it then. Like a
reader it raises `UnexpectedPayload` for an answer it cannot read, and nothing else. Where more runs come into
question than may be looked at, it returns none of those that only their inputs could tell: which one is the
only one that fits, is known after seeing them all.
"""


class Adapter(Struct, frozen=True, kw_only=True):
    """Everything the gateway knows of one provider."""

    spec: Spec
    build_submit: Callable[[MotionRequest, CallContext], HttpRequest]
    """The create call, marked `paid`."""
    parse_submit: Callable[[HttpResponse], Submitted]
    """Reads a 2xx answer to it."""
    build_poll: Callable[[CallContext], HttpRequest]
    parse_poll: Callable[[HttpResponse], Observation]
    """Reads a 2xx answer to it."""
    parse_failure: Callable[[HttpResponse], Failure]
    """Reads any answer that is not 2xx; never raises."""
    build_cancel: Callable[[CallContext], HttpRequest] | None = None
    build_probe: Callable[[], HttpRequest] | None = None
    """A free call that proves the key."""
    parse_probe: Callable[[HttpResponse], Allowance] | None = None
    """Reads a 2xx answer to it, where that says what the account has and may do."""
    reconcile: Callable[[CallContext, Sought], Reconcile] | None = None
    """Looks for a submission whose outcome is unknown. Seeing nothing is no proof that nothing runs."""
    parse_callback: Callable[[Mapping[str, str], bytes], str] | None = None
    """Reads the ref out of a callback's headers (names in lower case) and body, once its secret was found
    right; raises like a reader. It is a hint: nothing is believed that a poll does not say as well."""
