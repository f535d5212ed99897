"""Runway's wire from its own side."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from providers.contract.emulation import (
    Answer,
    Cancel,
    Create,
    Emulation,
    Leg,
    Poll,
    Received,
    Rules,
    SimulatedFailure,
    SimulatedJob,
    WireRequest,
    json_response,
)
from providers.contract.exchange import HttpResponse
from providers.contract.motion import (
    Character,
    CharacterType,
    ContentModeration,
    MotionRequest,
    Ratio,
    Reference,
    Threshold,
)
from providers.runway.spec import VERSION_HEADER

DOC_URL = "https://docs.dev.runwayml.com/api"


class _Asset(Struct):
    type: CharacterType
    uri: Annotated[str, Meta(min_length=13, max_length=2048)]


class _Reference(Struct):
    type: Literal["video"]
    uri: Annotated[str, Meta(min_length=13, max_length=2048)]


class _Moderation(Struct, forbid_unknown_fields=True, rename="camel"):
    public_figure_threshold: Threshold = Threshold.AUTO


class _CharacterPerformance(Struct, rename="camel"):
    model: Literal["act_two"]
    character: _Asset
    reference: _Reference
    ratio: Ratio = Ratio.LANDSCAPE
    body_control: bool = True
    expression_intensity: Annotated[int, Meta(ge=1, le=5)] = 3
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] | None = None
    content_moderation: _Moderation = msgspec.field(default_factory=_Moderation)


_decode = msgspec.json.Decoder(_CharacterPerformance).decode


def receive(wire: WireRequest, rules: Rules) -> Received:
    """Say what arrived, checking in the provider's order: key, version, route, body, assets."""
    refusal = _refuse_headers(wire, rules)
    if refusal is not None:
        return Answer(response=refusal)
    match wire.method, wire.path:
        case "POST", ("v1", "character_performance"):
            return _create(wire, rules)
        case "GET", ("v1", "tasks", ref):
            return Poll(ref=ref)
        case "DELETE", ("v1", "tasks", ref):
            return Cancel(ref=ref)
        case "GET", ("v1", "organization"):
            return Answer(response=json_response(200, ORGANIZATION))
        case _:
            return Answer(response=json_response(404, {"error": "Not found"}))


def _refuse_headers(wire: WireRequest, rules: Rules) -> HttpResponse | None:
    scheme, _, key = wire.headers.get("authorization", "").partition(" ")
    if scheme != "Bearer" or not rules.knows(key):
        return json_response(401, {"error": "The provided API key is not valid."})
    name, version = VERSION_HEADER
    given = wire.headers.get(name.lower())
    if given == version:
        return None
    # The status of this refusal is not published; 400 is our guess.
    reason = f"{name} header is {'missing' if given is None else 'not supported'}; use {version}"
    return json_response(400, {"error": reason, "docUrl": DOC_URL})


def _create(wire: WireRequest, rules: Rules) -> Received:
    try:
        body = _decode(wire.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text, _, where = str(error).partition(" - at `$")
        path = [step for step in where.rstrip("`").replace("[", ".").split(".") if step]
        return Answer(response=invalid(text, path))
    for field, uri in (("character", body.character.uri), ("reference", body.reference.uri)):
        problem = _asset_problem(uri, rules)
        if problem is not None:
            return Answer(response=invalid(problem, [field, "uri"]))
    request = MotionRequest(
        character=Character(type=body.character.type, url=body.character.uri),
        reference=Reference(url=body.reference.uri),
        ratio=body.ratio,
        body_control=body.body_control,
        expression_intensity=body.expression_intensity,
        seed=body.seed,
        content_moderation=ContentModeration(
            public_figure_threshold=body.content_moderation.public_figure_threshold
        ),
    )
    return Create(request=request)


def _asset_problem(uri: str, rules: Rules) -> str | None:
    try:
        parts = urlsplit(uri)
    except ValueError:
        return "Invalid URL"
    host = parts.hostname or ""
    if rules.allow_loopback_media and parts.scheme in {"http", "https"} and host:
        return None
    if parts.scheme != "https":
        return "Only HTTPS URLs are allowed."
    if not host or host.replace(".", "").isdigit() or ":" in host:
        return "URLs must be hosted on a domain."
    return None


def invalid(message: str, path: list[str]) -> HttpResponse:
    """Build the 400 of a body that fails validation."""
    issue = {"code": "custom", "path": path, "message": message}
    return json_response(400, {"error": "Validation of body failed", "issues": [issue], "docUrl": DOC_URL})


def refuse_asset(option: str, reason: str) -> HttpResponse:
    """Refuse an asset that could not be fetched or measured at create."""
    return invalid(f"Failed to fetch asset. {reason}", [option, "uri"])


def show_created(job: SimulatedJob) -> HttpResponse:
    """Answer a create."""
    return json_response(200, {"id": job.ref, "estimatedCost": {"credits": job.credits}})


def show_job(job: SimulatedJob) -> HttpResponse:
    """Answer a poll."""
    task: dict[str, object] = {"id": job.ref, "createdAt": job.created_at, "status": job.word}
    if job.word in {"PENDING", "THROTTLED", "RUNNING"}:
        task["estimatedCost"] = {"credits": job.credits}
    if job.progress is not None:
        task["progress"] = job.progress
    if job.output_url is not None:
        task["output"] = [job.output_url]
        task["cost"] = {"credits": job.credits}
    if job.failure is not None:
        task |= {"failure": job.failure.message, "failureCode": job.failure.code, "cost": {"credits": 0}}
    return json_response(200, task)


def show_missing() -> HttpResponse:
    """Answer about a task that never existed, was deleted or was cancelled."""
    return json_response(404, {"error": "Task not found"})


def show_cancelled(_job: SimulatedJob) -> HttpResponse:
    """Answer a DELETE."""
    return HttpResponse(status=204)


def ref_of(digits: str) -> str:
    """Make a UUID out of 32 hex digits."""
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


ORGANIZATION = {
    "creditBalance": 10_000,
    "tier": {
        "maxMonthlyCreditSpend": 50_000,
        "models": {"act_two": {"maxConcurrentGenerations": 3, "maxDailyGenerations": 500}},
    },
    "usage": {"models": {"act_two": {"dailyGenerations": 0}}},
}

emulation = Emulation(
    name="runway",
    course=(
        Leg("PENDING", 0.1),
        Leg("THROTTLED", 0.1),
        Leg("PENDING", 0.05),
        Leg("RUNNING", 0.75, progress=True),
    ),
    succeeded_word="SUCCEEDED",
    failed_word="FAILED",
    cancelled_word="CANCELLED",
    credits_per_s=5,
    ref_of=ref_of,
    receive=receive,
    show_created=show_created,
    show_job=show_job,
    show_missing=show_missing,
    show_cancelled=show_cancelled,
    refuse_asset=refuse_asset,
    forgets_cancelled=True,
    failures={
        "content_rejected": SimulatedFailure(
            code="SAFETY.INPUT.IMAGE", message="The input image did not pass moderation."
        ),
        "invalid_media": SimulatedFailure(code="ASSET.INVALID", message="The asset could not be used."),
        "provider_error": SimulatedFailure(code="INTERNAL", message="An unexpected error occurred."),
        "provider_unavailable": SimulatedFailure(
            code="THIRD_PARTY.UNAVAILABLE", message="A service we depend on is unavailable."
        ),
    },
    refusals={
        "insufficient_funds": json_response(
            400, {"error": "You do not have enough credits to run this task.", "docUrl": DOC_URL}
        ),
        "rate_limited": json_response(429, {"error": "You have reached the daily limit of generations."}),
    },
)
