"""What came of a call, as pure functions.

The rule for money: a submission was NOT made if, and only if, no connection ever stood, or our own last check
withheld it, or the answer is a definite 4xx. A 3xx and a 408 say nothing definite; a 5xx, a time-out, a reset
and an unreadable 2xx may all hide an accepted job. What is not certain is `Unknown`, and is never repeated.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from gateway.upstream.client import Reply
from providers.contract.adapter import Adapter
from providers.contract.errors import ErrorCode, UnexpectedPayload, UpstreamError
from providers.contract.exchange import HttpResponse
from providers.contract.normalize import Update, classify, normalize
from providers.contract.report import Failure, Sighting


class Made(Struct, frozen=True):
    """The provider has it, under this ref."""

    ref: str


class NotMade(Struct, frozen=True, kw_only=True):
    """Nothing was made, for certain."""

    error: UpstreamError
    retry_after: str | None = None
    """The reply's Retry-After, unread."""


class Withheld(Struct, frozen=True):
    """Nothing was sent, for certain: our own last check said no, with the connection in hand."""

    reason: str


class Unknown(Struct, frozen=True):
    """It may have been made."""

    reason: str


Submission = Made | NotMade | Withheld | Unknown


class Seen(Struct, frozen=True):
    """A poll that says something."""

    update: Update


class Missing(Struct, frozen=True):
    """The provider does not know the ref."""


class Trouble(Struct, frozen=True, kw_only=True):
    """The call failed, which says nothing about the job."""

    error: UpstreamError
    retry_after: str | None = None
    doubtful: bool = False
    """Whether a cancel that came to this may have been carried out all the same."""
    definite: bool = False
    """Whether the provider answered, and refused this one question."""


Poll = Seen | Missing | Trouble


class Done(Struct, frozen=True):
    """The provider took the cancel."""


Cancelling = Done | Missing | Withheld | Trouble


class Sighted(Struct, frozen=True):
    """A look for a lost submission that came to its end."""

    sightings: tuple[Sighting, ...]


Look = Sighted | Trouble


def submission(adapter: Adapter, reply: Reply) -> Submission:
    """Say what came of a paid call."""
    if reply.response is None:
        return _unanswered(reply)
    response = reply.response
    if response.successful:
        try:
            return Made(adapter.parse_submit(response).ref)
        except UnexpectedPayload as error:
            return Unknown(f"the answer ({response.status}) cannot be read: {error}")
        except Exception as error:  # noqa: BLE001  (an adapter's bug must not lose the answer to what was paid)
            return Unknown(f"the adapter failed on the answer ({response.status}): {type(error).__name__}")
    if _definite(response):
        return NotMade(error=_error(adapter, response), retry_after=response.headers.get("retry-after"))
    return Unknown(f"the provider answered {response.status}, which does not say whether it took the job")


def _unanswered(reply: Reply) -> Submission:
    if not reply.connected:
        message = f"no connection: {reply.failure}"
        return NotMade(error=UpstreamError(code=ErrorCode.PROVIDER_UNAVAILABLE, message=message))
    if reply.withheld:
        return Withheld(reply.failure)
    return Unknown(f"no answer after the request went out: {reply.failure}")


def poll(adapter: Adapter, reply: Reply, *, allow_http: bool) -> Poll:
    """Say what came of a poll. Only a reply that can be read says anything about the job."""
    response = reply.response
    if response is None:
        return _no_answer(reply)
    if response.status == 404:
        return Missing()
    if not response.successful:
        return _refused(adapter, response)
    try:
        return Seen(normalize(adapter.spec, adapter.parse_poll(response), allow_http=allow_http))
    except UnexpectedPayload as error:
        return Trouble(error=UpstreamError(code=ErrorCode.PROVIDER_CONTRACT, message=str(error)))


def cancelling(adapter: Adapter, reply: Reply) -> Cancelling:
    """Say what came of a cancel."""
    if reply.response is None and reply.connected and reply.withheld:
        return Withheld(reply.failure)
    outcome = looked(adapter, reply)
    if not isinstance(outcome, Trouble):
        return outcome
    return replace(outcome, doubtful=reply.connected and not outcome.definite)


def looked(adapter: Adapter, reply: Reply) -> Done | Missing | Trouble:
    """Say what came of one question of a look. A 404 is an answer: that run is not there."""
    response = reply.response
    if response is None:
        return _no_answer(reply)
    if response.successful:
        return Done()
    if response.status == 404:
        return Missing()
    return _refused(adapter, response)


def _refused(adapter: Adapter, response: HttpResponse) -> Trouble:
    return Trouble(
        error=_error(adapter, response),
        retry_after=response.headers.get("retry-after"),
        definite=_definite(response),
    )


def _definite(response: HttpResponse) -> bool:
    """Whether a refusal says that nothing was done."""
    return 400 <= response.status < 500 and response.status != 408


def _no_answer(reply: Reply) -> Trouble:
    return Trouble(error=UpstreamError(code=ErrorCode.PROVIDER_UNAVAILABLE, message=reply.failure))


def _error(adapter: Adapter, response: HttpResponse) -> UpstreamError:
    try:
        failure = adapter.parse_failure(response)
    except Exception as error:  # noqa: BLE001  (the status alone says whether anything was done)
        failure = Failure(message=f"the adapter failed on the answer: {type(error).__name__}")
    return classify(adapter.spec, failure, http_status=response.status)
