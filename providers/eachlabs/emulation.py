"""Eachlabs' wire from its own side."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from providers.contract.emulation import (
    Answer,
    CallbackMessage,
    Cancel,
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
from providers.contract.motion import (
    Character,
    CharacterType,
    ContentModeration,
    MotionRequest,
    Ratio,
    Reference,
    Threshold,
)
from providers.contract.reading import instant_at
from providers.eachlabs.spec import ACT_TWO, SPEC

CENTS_PER_S = ACT_TWO.price.micro_usd_per_s // 10_000

#: The category their envelope gives beside each error code. Moderation is a class, not a code.
CATEGORIES = {
    "INPUT_VALIDATION_ERROR": "VALIDATION",
    "INPUT_DOWNLOAD_ERROR": "VALIDATION",
    "PROVIDER_RATE_LIMIT": "RATE_LIMIT",
    "PROVIDER_SERVER_ERROR": "PROVIDER",
    "PROVIDER_FAILED": "PROVIDER",
    "EXECUTION_TIMEOUT": "TIMEOUT",
}
#: What the list of executions can be asked for; it refuses every other word, `cancelled` included.
LISTED_WORDS = frozenset({"created", "starting", "success", "error"})
LOAD_DEPENDENT = frozenset({"PROVIDER_RATE_LIMIT", "PROVIDER_SERVER_ERROR"})

MODES = {
    "created_id": ("predictionID", "id"),
    "output": ("string", "list", "object"),
    "failed_word": ("error", "failed"),
    "envelope": ("full", "bare"),
    "cancel_word": ("cancelled", "success"),
}


class _Input(Struct):
    character_type: CharacterType
    character_uri: str
    reference_uri: str
    aspect_ratio: Ratio
    body_control: bool = True
    expression_intensity: Annotated[int, Meta(ge=1, le=5)] = 3
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] | None = None
    public_figure_moderation: Threshold = Threshold.LOW


class _Prediction(Struct):
    """A create body; `version` and unknown fields are ignored, as their spec says."""

    model: str
    input: _Input
    webhook_url: str | None = None
    webhook_secret: str | None = None


_decode = msgspec.json.Decoder(_Prediction).decode


def receive(wire: WireRequest, rules: Rules) -> Received:
    """Say what arrived: key, route, body, then the media URLs."""
    bearer = wire.headers.get("authorization", "").removeprefix("Bearer ")
    if not rules.knows(bearer or wire.headers.get("x-api-key", "")):
        return Answer(response=json_response(401, {}))
    match wire.method, wire.path:
        case "POST", ("v1", "prediction"):
            return _create(wire, rules)
        case "GET", ("v1", "prediction", ref):
            return Poll(ref=ref)
        case "POST", ("v1", "prediction", ref, "cancel"):
            return Cancel(ref=ref)
        case "GET", ("v1", "executions"):
            return _list(wire)
        case _:
            return Answer(response=json_response(404, {"status": 404, "error": "not found"}))


def _create(wire: WireRequest, rules: Rules) -> Received:
    try:
        body = _decode(wire.body)
    except msgspec.ValidationError as error:
        return Answer(response=invalid(400, "Invalid input for model", str(error)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Answer(response=json_response(422, {}))
    if body.model != ACT_TWO.upstream:
        return Answer(response=json_response(404, {"error": "Failed to fetch model: model not found"}))
    given = body.input
    for field, url in (("character_uri", given.character_uri), ("reference_uri", given.reference_uri)):
        if not rules.could_fetch(url):
            # No check at create is documented; the shape is that of their other refusals with details.
            return Answer(
                response=invalid(422, "invalid request body", f"input.{field}: not a public https URL")
            )
    request = MotionRequest(
        character=Character(type=given.character_type, url=given.character_uri),
        reference=Reference(url=given.reference_uri),
        ratio=given.aspect_ratio,
        body_control=given.body_control,
        expression_intensity=given.expression_intensity,
        seed=given.seed,
        content_moderation=ContentModeration(public_figure_threshold=given.public_figure_moderation),
    )
    return Create(
        request=request,
        client_request_id=wire.headers.get("x-request-id"),
        callback_url=body.webhook_url or "",
        callback_secret=body.webhook_secret or "",
    )


def _list(wire: WireRequest) -> Received:
    query = wire.query
    limit, offset = query.get("limit", "20"), query.get("offset", "0")
    words = frozenset(filter(None, query.get("status", "").split(",")))
    times = {name: instant_at(query, name) for name in ("from", "to")}
    badly_timed = any(query.get(name) and at is None for name, at in times.items())
    paged = limit.isdecimal() and 1 <= int(limit) <= 100 and offset.isdecimal()
    if badly_timed or not paged or not words <= LISTED_WORDS:
        return Answer(response=invalid(400, "invalid query", f"status is one of {sorted(LISTED_WORDS)}"))
    asked = ListJobs(
        limit=int(limit),
        offset=int(offset),
        since_ms=times["from"],
        until_ms=times["to"],
        words=words or None,
    )
    if query.get("model", ACT_TWO.upstream) != ACT_TWO.upstream or query.get("workflow_id"):
        return Answer(response=show_listing((), asked, 0))
    return asked


def invalid(status: int, error: str, details: object) -> HttpResponse:
    """Build a refusal with details, as their shared error handler does."""
    return json_response(status, {"status": status, "error": error, "details": details})


def show_created(job: SimulatedJob) -> HttpResponse:
    """Answer a create: `success` means accepted."""
    message = "Prediction created successfully"
    return json_response(200, {"status": "success", "message": message, _mode(job, "created_id"): job.ref})


def show_job(job: SimulatedJob) -> HttpResponse:
    """Answer a poll."""
    word = _mode(job, "failed_word") if job.failure is not None else job.word
    ended = job.word in {"success", "error", "cancelled"}
    prediction = f"{SPEC.base_url}/v1/prediction/{job.ref}"
    cost = job.credits / 100 if job.output_url is not None else 0
    document = {
        "id": job.ref,
        "input": _input(job.request),
        "status": word,
        "output": _output(job),
        "logs": None,
        "metrics": {"predict_time": ACT_TWO.typical_run_s if ended else 0, "cost": cost},
        "urls": {"get": prediction, "cancel": f"{prediction}/cancel"},
    }
    return json_response(200, document)


def _output(job: SimulatedJob) -> object:
    if job.failure is not None:
        return _envelope(job, job.failure)
    if job.output_url is None:
        return None
    return {"string": job.output_url, "list": [job.output_url], "object": {"url": job.output_url}}[
        _mode(job, "output")
    ]


def _envelope(job: SimulatedJob, failure: SimulatedFailure) -> dict[str, object]:
    if _mode(job, "envelope") == "bare":
        return {"error": failure.message}
    code = failure.code if failure.code in CATEGORIES else "PROVIDER_FAILED"
    return {
        "success": False,
        "status": "ERROR",
        "error": "Execution failed",
        "error_code": code,
        "error_message": failure.message,
        "error_step": "poll",
        "classification": {"category": CATEGORIES.get(failure.code, failure.code)},
        "retryable": code in LOAD_DEPENDENT,
        "execution_id": job.ref,
        "model_id": "e3b3d84f-0000-4000-8000-000000000000",
        "model_slug": ACT_TWO.upstream,
        "provider": "runway",
        "provider_error_code": "failed",
    }


def _input(request: MotionRequest) -> dict[str, object]:
    shown: dict[str, object] = {
        "character_type": request.character.type,
        "character_uri": request.character.url,
        "reference_uri": request.reference.url,
        "aspect_ratio": request.ratio,
        "body_control": request.body_control,
        "expression_intensity": request.expression_intensity,
        "public_figure_moderation": request.content_moderation.public_figure_threshold,
    }
    return shown if request.seed is None else {**shown, "seed": request.seed}


def show_listing(jobs: tuple[SimulatedJob, ...], asked: ListJobs, total: int) -> HttpResponse:
    """Answer with a page of executions, which show no inputs."""
    page = {"total_count": total, "total_capped": False, "offset": asked.offset, "limit": asked.limit}
    return json_response(200, {"executions": [_execution(job) for job in jobs], **page})


def _execution(job: SimulatedJob) -> dict[str, object]:
    return {
        "id": job.ref,
        "model": ACT_TWO.upstream,
        "requested_model": None,
        "status": job.word,
        "workflow_id": None,
        "workflow_execution_id": None,
        "execution_cost": job.credits / 100 if job.output_url is not None else 0,
        "run_time": 0,
        "created_at": job.created_at,
        "started_at": None,
        "completed_at": None,
        "output": job.output_url,
    }


def show_callback(job: SimulatedJob, secret: str) -> CallbackMessage:
    """Report an end; the words are this place's own, and a failure's reason is the first entry of a list."""
    output = _output(job)
    if job.failure is not None:
        output = [{"id": "", "status": "", "output": "", "error": job.failure.message}]
    status = "succeeded" if job.failure is None else "failed"
    body = {"exec_id": job.ref, "flow_id": None, "status": status, "output": output, "error": ""}
    proof = (("x-webhook-secret", secret),) if secret else ()
    return CallbackMessage(
        headers=(("content-type", "application/json"), *proof), body=msgspec.json.encode(body)
    )


def show_missing() -> HttpResponse:
    """Answer about a prediction they do not know."""
    return json_response(404, {"error": "Prediction not found"})


def show_cancelled(job: SimulatedJob) -> HttpResponse:
    """Answer a cancel."""
    message = "Prediction canceled successfully"
    return json_response(
        200, {"status": _mode(job, "cancel_word"), "message": message, "predictionID": job.ref}
    )


def ref_of(digits: str) -> str:
    """Make a UUID out of 32 hex digits."""
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _mode(job: SimulatedJob, name: str) -> str:
    return job.modes.get(name, MODES[name][0])


emulation = Emulation(
    name="eachlabs",
    course=(Leg("created", 0.1), Leg("starting", 0.1), Leg("processing", 0.8)),
    succeeded_word="success",
    failed_word="error",
    cancelled_word="cancelled",
    # They bill in dollars; a credit of the simulator is a cent.
    credits_per_s=CENTS_PER_S,
    ref_of=ref_of,
    receive=receive,
    show_created=show_created,
    show_job=show_job,
    show_missing=show_missing,
    show_cancelled=show_cancelled,
    show_listing=show_listing,
    show_callback=show_callback,
    failures={
        "invalid_request": SimulatedFailure(
            code="INPUT_VALIDATION_ERROR", message="The input was rejected before the run."
        ),
        "invalid_media": SimulatedFailure(
            code="INPUT_DOWNLOAD_ERROR", message="An input could not be downloaded."
        ),
        "content_rejected": SimulatedFailure(
            code="content_moderation", message="The input did not pass the checks."
        ),
        "rate_limited": SimulatedFailure(
            code="PROVIDER_RATE_LIMIT", message="The provider accepts no more jobs at present."
        ),
        "provider_unavailable": SimulatedFailure(
            code="PROVIDER_SERVER_ERROR", message="The provider answered with a server error."
        ),
        "provider_error": SimulatedFailure(code="PROVIDER_FAILED", message="exec_error"),
        "timeout": SimulatedFailure(code="EXECUTION_TIMEOUT", message="The run took too long."),
    },
    refusals={
        "invalid_request": json_response(400, {"error": "Invalid input for model"}),
        "unauthorized": json_response(401, {}),
        "insufficient_funds": invalid(
            402,
            "payment required",
            "the estimated cost of your in-flight executions exceeds your current balance ($1.00). "
            "please wait for an active execution to finish or top up your balance",
        ),
        "rate_limited": invalid(
            429,
            "too many requests",
            "Account rate limited: accounts with a balance of $10.00 or less are limited to 10 concurrent "
            "executions. Keep your balance above $10.00 for higher concurrency, or wait for an active "
            "execution to finish.",
        ),
    },
    modes=MODES,
)
