"""AI/ML API's wire from its own side; the request log lists what ended, as the real one seems to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from providers.aimlapi.spec import ACT_TWO, CREDITS_PER_MICRO_USD, PATHS
from providers.aimlapi.wire import CLIENT_REQUEST_ID, CLIENT_REQUEST_ID_FORM
from providers.contract.emulation import (
    Answer,
    Create,
    Emulation,
    Leg,
    ListJobs,
    Poll,
    Received,
    Rules,
    SimulatedFailure,
    SimulatedJob,
    WireRequest,
    json_response,
)
from providers.contract.exchange import HttpResponse
from providers.contract.motion import Character, CharacterType, MotionRequest, Ratio, Reference
from providers.contract.reading import instant_at

CREATE_PATH = "/" + "/".join(PATHS["current"])
REQUEST_ID = "798b860e-98c2-4e8e-8c50-550bcfc2eccc"
TIMESTAMP = "2026-11-21T00:00:00.000Z"
NANOID_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-"
NANOID_LENGTH = 21
#: A positive integer of hours or days (`spec.LOGS`); none of theirs is longer than 92 days.
PERIOD = re.compile(r"([1-9][0-9]{0,3})([hd])")
PERIOD_S = {"h": 3600, "d": 24 * 3600}
OUTCOMES = {"succeeded": "completed", "failed": "error"}
#: The words of the samples and of the page's prose, where they differ from the declared ones.
SPOKEN = {
    "declared": {},
    "samples": {"queued": "waiting", "generating": "active"},
    "prose": {"completed": "complete"},
}


class _Character(Struct):
    type: CharacterType
    url: Annotated[str, Meta(min_length=1)]


class _Reference(Struct):
    type: Literal["video"]
    url: Annotated[str, Meta(min_length=1)]


class _Generation(Struct):
    model: Literal["runway/act_two"]
    character: _Character
    reference: _Reference
    # Two more sizes pass their schema; Runway behind it refuses them, and so does this, earlier.
    frame_size: Ratio = Ratio.LANDSCAPE
    body_control: bool = True
    expression_intensity: Annotated[int, Meta(ge=1, le=5)] = 3
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] | None = None


_decode = msgspec.json.Decoder(_Generation).decode


def receive(wire: WireRequest, rules: Rules) -> Received:
    """Say what arrived, checking key, route, body and assets in this order."""
    scheme, _, key = wire.headers.get("authorization", "").partition(" ")
    if scheme.casefold() != "bearer" or not rules.knows(key):
        reason = "This request requires a valid API key."
        return Answer(response=refusal(401, reason, path=wire.path))
    api_path = next((name for name, path in PATHS.items() if path == wire.path), None)
    if api_path is not None and wire.method == "POST":
        return _create(wire, rules, api_path)
    if api_path is not None and wire.method == "GET":
        ref = wire.query.get("generation_id", "")
        return Poll(ref=ref) if ref else Answer(response=_body_refusal("generation_id: Required", wire))
    if (wire.method, wire.path) == ("GET", ("v2", "logs")):
        return _list(wire)
    if (wire.method, wire.path) == ("GET", ("v2", "billing")):
        return Answer(response=json_response(200, {"current_balance": 100.0, "currency": "USD"}))
    return Answer(response=refusal(404, f"Cannot {wire.method} /{'/'.join(wire.path)}", path=wire.path))


def _create(wire: WireRequest, rules: Rules, api_path: str) -> Received:
    try:
        body = _decode(wire.body)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        return Answer(response=_body_refusal(str(error), wire))
    for field, url in (("character", body.character.url), ("reference", body.reference.url)):
        if not rules.could_fetch(url):
            return Answer(response=_body_refusal(f"{field}.url: Expected a public https URL", wire))
    request = MotionRequest(
        character=Character(type=body.character.type, url=body.character.url),
        reference=Reference(url=body.reference.url),
        ratio=body.frame_size,
        body_control=body.body_control,
        expression_intensity=body.expression_intensity,
        seed=body.seed,
    )
    given = wire.headers.get(CLIENT_REQUEST_ID.lower(), "")
    client_request_id = given if CLIENT_REQUEST_ID_FORM.fullmatch(given) else None
    modes = {"api_path": api_path}
    if client_request_id is not None:
        modes["client_request_id"] = client_request_id  # a job has no other place for it, and it is echoed
    return Create(request=request, modes=modes, client_request_id=client_request_id)


def _list(wire: WireRequest) -> Received:
    """Read a question to the log. Repeated parameters are not told apart: the last counts."""
    query, refused = wire.query, _body_refusal("Invalid query", wire)
    limit, offset = query.get("limit", "50"), query.get("offset", "0")
    if not (limit.isdecimal() and 1 <= int(limit) <= 100 and offset.isdecimal()):
        return Answer(response=refused)
    period = PERIOD.fullmatch(query.get("period", ""))
    since_ms, until_ms = instant_at(query, "start"), instant_at(query, "end")
    by_period, by_dates = period is not None, since_ms is not None and until_ms is not None
    status = query.get("status")
    if by_period == by_dates or (status is not None and status not in OUTCOMES):
        return Answer(response=refused)
    asked = ListJobs(
        limit=int(limit),
        offset=int(offset),
        within_s=None if period is None else float(int(period[1]) * PERIOD_S[period[2]]),
        since_ms=since_ms,
        until_ms=until_ms,
        words=None if status is None else frozenset({OUTCOMES[status]}),
        ended_only=True,
    )
    known = {ACT_TWO.upstream, ACT_TWO.upstream.partition("/")[2]}
    if query.get("model", ACT_TWO.upstream) not in known:
        return Answer(response=show_listing((), asked, 0))
    return asked


def _body_refusal(reason: str, wire: WireRequest) -> HttpResponse:
    return refusal(400, f"Body validation error\n{reason}", path=wire.path)


def refusal(
    status: int, message: str, *, status_code: int | str | None = None, path: tuple[str, ...] = ()
) -> HttpResponse:
    """Build an error reply; the id and the time in it are constants, since nothing here knows either.

    Args:
        status: of the reply.
        message: its text.
        status_code: `statusCode` of the body, a string in one of their examples; the status if left out.
        path: what was called; the create path if left out.
    """
    body = {
        "message": message,
        "path": "/" + "/".join(path) if path else CREATE_PATH,
        "requestId": REQUEST_ID,
        "statusCode": status if status_code is None else status_code,
        "timestamp": TIMESTAMP,
    }
    return json_response(status, body)


def show_created(job: SimulatedJob) -> HttpResponse:
    """Answer a create: two fields, though the schema has the poll's."""
    headers = {"x-inference-id": job.ref}
    if "client_request_id" in job.modes:
        headers["x-client-request-id"] = job.modes["client_request_id"]
    return json_response(200, {"id": job.ref, "status": _spoken(job)}, headers)


def show_job(job: SimulatedJob) -> HttpResponse:
    """Answer a poll: with nullable fields and usage as in 2026, or with neither as in 2025-08."""
    shape = job.modes.get("video", "by_path")
    if shape == "by_path":
        shape = "list" if job.modes.get("api_path") == "legacy" else "object"
    headers = {"x-inference-id": job.ref}
    generation: dict[str, object] = {"id": job.ref, "status": _spoken(job)}
    if shape == "object":
        generation |= {"video": None, "error": None, "meta": None}
    if job.output_url is not None:
        usd = job.credits / (CREDITS_PER_MICRO_USD * 1_000_000)
        headers |= {"x-aimlapi-credits-used": str(job.credits), "x-aimlapi-usd-spent": f"{usd:.9f}"}
        generation["video"] = [job.output_url] if shape == "list" else {"url": job.output_url}
        usage = _usage(job, usd) if shape == "object" else None
        if usage is not None:
            generation["meta"] = {"usage": usage}
    if job.failure is not None:
        generation["error"] = _error(job.failure, job.modes)
    return json_response(200, generation, headers)


def _spoken(job: SimulatedJob) -> str:
    return SPOKEN[job.modes.get("words", "declared")].get(job.word, job.word)


def _usage(job: SimulatedJob, usd: float) -> dict[str, object] | None:
    match job.modes.get("usage", "credits"):
        case "none":
            return None
        case "tokens":
            return {"tokens_used": job.credits}
        case "credits_and_usd":
            return {"credits_used": job.credits, "usd_spent": usd}
        case _:
            return {"credits_used": job.credits}


def _error(failure: SimulatedFailure, modes: Mapping[str, str]) -> object:
    match modes.get("error", "object"):
        case "string":
            return failure.message
        case "detail":
            issue = {"loc": ["body", "character"], "msg": failure.message, "type": failure.code}
            return {"detail": [issue | {"input": "https://media.example/hero.png"}]}
        case _:
            return {"name": failure.code, "message": failure.message}


def show_listing(jobs: tuple[SimulatedJob, ...], asked: ListJobs, total: int) -> HttpResponse:
    """Answer with a page of the log."""
    more = asked.offset + len(jobs) < total
    pagination = {"limit": asked.limit, "offset": asked.offset, "total": total, "has_more": more}
    return json_response(200, {"data": [_row(job) for job in jobs], "pagination": pagination})


def _row(job: SimulatedJob) -> dict[str, object]:
    failed = job.failure is not None
    credits_used = 0 if failed else job.credits
    return {
        "created": job.created_at,
        "status": "failed" if failed else "succeeded",
        "origin": "api",
        "model": ACT_TWO.upstream,
        "cost": {"usd": credits_used / CREDITS_PER_MICRO_USD / 1_000_000, "credits": credits_used},
        "tokens": {"input": 0, "output": 0, "total": 0},
        "request_id": REQUEST_ID,
        "inference_id": job.ref,
        "client_request_id": job.modes.get("client_request_id"),
    }


def show_missing() -> HttpResponse:
    """Answer about an unknown generation; whether theirs is a 404 or a 400 is not documented."""
    return refusal(404, "Generation not found")


def ref_of(digits: str) -> str:
    """Make an id of one of the four forms seen, which the last digit chooses."""
    number = int(digits, 16)
    uuid = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
    match number % 4:
        case 0:
            return uuid
        case 1:
            return f"{uuid}:runway/act_two"
        case 2:
            return str(number)
        case _:
            return "".join(NANOID_ALPHABET[number >> 6 * place & 63] for place in range(NANOID_LENGTH))


emulation = Emulation(
    name="aimlapi",
    course=(Leg("queued", 0.15), Leg("generating", 0.85)),
    succeeded_word="completed",
    failed_word="error",
    cancelled_word="",  # there is no cancel, and so no word for it
    credits_per_s=130_000,
    ref_of=ref_of,
    receive=receive,
    show_created=show_created,
    show_job=show_job,
    show_missing=show_missing,
    show_listing=show_listing,
    failures={
        "content_rejected": SimulatedFailure(
            code="ContentModerationError", message="The input did not pass moderation."
        ),
        "invalid_media": SimulatedFailure(
            code="face_detection_error", message="Could not detect face in the image"
        ),
        "provider_error": SimulatedFailure(code="GenerationError", message="Video generation failed."),
    },
    refusals={
        "invalid_request": refusal(400, "Body validation error"),
        "insufficient_funds": refusal(
            403, "You've run out of credits. Please top up your balance or update your payment method."
        ),
        "rate_limited": refusal(429, "Too Many Requests", status_code="429"),
        "provider_error": refusal(500, "Something wrong with the server. Please, try again later."),
        "provider_unavailable": refusal(503, "Service unavailable"),
        "timeout": refusal(504, "Generation timeout"),
    },
    modes={
        "words": tuple(SPOKEN),
        "video": ("by_path", "object", "list"),
        "usage": ("credits", "credits_and_usd", "tokens", "none"),
        "error": ("object", "string", "detail"),
    },
)
