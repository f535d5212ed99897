"""Eachlabs' calls, built and read. Source of every field: `spec.OPENAPI`, unless the line says otherwise."""

from __future__ import annotations

from collections.abc import Mapping

from providers.contract.adapter import CallContext
from providers.contract.exchange import HttpRequest, HttpResponse
from providers.contract.mapping import build_body
from providers.contract.motion import MotionRequest
from providers.contract.reading import (
    decode_object,
    is_list,
    message_of,
    number_at,
    read_object,
    read_object_if_any,
    ref_at,
    status_at,
    text_at,
    urls_in,
    value_at,
)
from providers.contract.report import Cost, Failure, Observation, Submitted
from providers.contract.status import JobStatus
from providers.eachlabs.spec import SPEC

#: How a word that speaks of moderation begins: their own class, and Runway's failure codes.
MODERATION = ("content_moderation", "CONTENT_MODERATION", "SAFETY.")


def build_submit(request: MotionRequest, context: CallContext) -> HttpRequest:
    """POST /v1/prediction. `X-Request-Id` is for their support to find it by: it does not deduplicate."""
    body = build_body(context.model, request)
    if context.callback_url:
        body["webhook_url"] = context.callback_url
        if context.callback_secret:
            body["webhook_secret"] = context.callback_secret
    return HttpRequest(
        method="POST",
        path=("v1", "prediction"),
        headers=(("X-Request-Id", context.attempt_id),),
        json=body,
        paid=True,
    )


def parse_submit(response: HttpResponse) -> Submitted:
    """Read `{status, message, predictionID}`; the Python SDK page shows `id` instead.

    Its `status: success` means accepted, so it is not kept: the poll vocabulary would read it as finished.
    """
    return Submitted(ref=ref_at(read_object(response), "predictionID", "id"))


def build_poll(context: CallContext) -> HttpRequest:
    """GET /v1/prediction/{id}."""
    return HttpRequest(method="GET", path=("v1", "prediction", context.ref))


def parse_poll(response: HttpResponse) -> Observation:
    """Read a prediction; result and reason share the field `output`, and only the word tells which it is."""
    prediction = read_object(response)
    status = status_at(prediction, "status")
    entry = SPEC.word(status)
    failed = entry is not None and entry.means is JobStatus.FAILED
    ended = entry is not None and entry.means.terminal
    return Observation(
        status=status,
        outputs=() if failed else urls_in(value_at(prediction, "output"), "url", "video"),
        failure=_failure(prediction) if failed else None,
        # 0 until the end, which is no cost yet.
        cost=_cost(number_at(prediction, "metrics", "cost")) if ended else None,
    )


def parse_failure(response: HttpResponse) -> Failure:
    """Read `{error}`, `{status, error, details}` or the `{}` of some refusals; details are of any type."""
    document = read_object_if_any(response)
    parts = (value_at(document, "error"), value_at(document, "details"))
    return Failure(message=message_of(": ".join(message_of(part) for part in parts if part)))


def build_cancel(context: CallContext) -> HttpRequest:
    """POST /v1/prediction/{id}/cancel: closes the record, is not certain to reach the run."""
    return HttpRequest(method="POST", path=("v1", "prediction", context.ref, "cancel"))


def parse_callback(headers: Mapping[str, str], body: bytes) -> str:
    """Read `{exec_id, flow_id, status, output, error}` (`spec.WEBHOOK`); `exec_id` is the prediction's id.

    Nothing but the secret in a header speaks for the rest, so the rest is left unread.
    """
    del headers
    return ref_at(decode_object(body), "exec_id")


def _failure(prediction: dict[str, object]) -> Failure | None:
    """Read the envelope, the bare `{error}` of a dispatch failure, and last the logs (`spec.CATALOG`)."""
    output = value_at(prediction, "output")
    # A webhook puts the reason into a list (`spec.WEBHOOK`); a poll might.
    envelope = value_at(output, 0) if is_list(output) else output
    reasons = (
        value_at(envelope, "error_message"),
        value_at(envelope, "error"),
        output if isinstance(output, str) else None,
        value_at(prediction, "error"),  # the Python SDK page
        value_at(prediction, "logs"),
    )
    texts = (message_of(reason) for reason in reasons if reason)
    message = next((text for text in texts if text), "")
    # Only `true` says something: `false` is also sent for faults of the platform that a second run would not
    # meet (`spec.CATALOG`).
    transient = value_at(envelope, "retryable") is True
    code = _code(envelope)
    return Failure(code=code, message=message, transient=transient) if code or message or transient else None


def _code(envelope: object) -> str | None:
    """The word that says most: one about moderation, else the error code, else the category."""
    error_code = text_at(envelope, "error_code")
    category = text_at(envelope, "classification", "category") or text_at(envelope, "classification")
    upstream = text_at(envelope, "provider_error_code")
    words = [word for word in (error_code, category, upstream) if word is not None]
    moderated = (word for word in words if word.startswith(MODERATION))
    return next(moderated, words[0] if words else None)


def _cost(usd: float | None) -> Cost | None:
    return None if usd is None else Cost(micro_usd=round(usd * 1_000_000))
