"""What is peculiar to Eachlabs, and that its emulation and its adapter understand each other."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from msgspec.structs import replace

from providers.contract.adapter import CallContext
from providers.contract.emulation import (
    Answer,
    Cancel,
    Create,
    Poll,
    Rules,
    SimulatedFailure,
    SimulatedJob,
    WireRequest,
    json_response,
)
from providers.contract.errors import UnexpectedPayload
from providers.contract.exchange import HttpRequest, HttpResponse
from providers.contract.mapping import unconveyable
from providers.contract.motion import (
    Character,
    CharacterType,
    ContentModeration,
    MotionRequest,
    Ratio,
    Reference,
    Threshold,
)
from providers.contract.normalize import Update, classify, normalize
from providers.contract.report import Cost
from providers.contract.status import JobStatus
from providers.eachlabs import adapter
from providers.eachlabs.emulation import MODES, emulation
from providers.eachlabs.spec import ACT_TWO, SPEC

REF = "f2762a7e-2362-40cf-be4a-b0cffe2e1177"
OUTPUT = "https://cdn.example/out.mp4?sig=1"
REQUEST = MotionRequest(
    character=Character(type=CharacterType.IMAGE, url="https://media.example/hero.png"),
    reference=Reference(url="https://media.example/act.mp4"),
)
EVERY_OPTION = MotionRequest(
    character=Character(type=CharacterType.VIDEO, url="https://media.example/hero.mp4?a=1&b=%2F"),
    reference=Reference(url="https://media.example/act.mp4"),
    ratio=Ratio.WIDE,
    body_control=False,
    expression_intensity=1,
    seed=2**32 - 1,
    content_moderation=ContentModeration(public_figure_threshold=Threshold.LOW),
)
REQUESTS = {
    "defaults": REQUEST,
    "every option": EVERY_OPTION,
    "seed zero": replace(REQUEST, seed=0),
    **{f"ratio {ratio}": replace(REQUEST, ratio=ratio) for ratio in Ratio},
}


def context(ref: str = "", **options: str) -> CallContext:
    return CallContext(model=ACT_TWO, attempt_id="att_1", ref=ref, options=options)


def arrived(asked: HttpRequest, key: Mapping[str, str] | None = None) -> WireRequest:
    """What the provider's side sees of a request that the gateway sent."""
    auth = {"authorization": "Bearer k"} if key is None else key
    return WireRequest(
        method=asked.method,
        path=asked.path,
        query=dict(asked.query),
        headers={**auth, **{name.lower(): value for name, value in asked.headers}},
        body=b"" if asked.json is None else msgspec.json.encode(asked.json),
    )


def body_of(request: MotionRequest) -> dict[str, object]:
    body = adapter.build_submit(request, context()).json
    assert body is not None
    return body


def job(word: str = "created", **changes: object) -> SimulatedJob:
    shown = SimulatedJob(
        ref=REF,
        request=REQUEST,
        word=word,
        created_at="2026-11-21T10:00:00Z",
        duration_s=5.0,
        credits=round(5.0 * emulation.credits_per_s),
    )
    return replace(shown, **changes)


def seen(response: HttpResponse) -> Update:
    assert response.status == 200
    return normalize(SPEC, adapter.parse_poll(response))


def poll_of(**fields: object) -> Update:
    return seen(json_response(200, {"id": REF, **fields}))


# --- The calls


def test_submit_is_paid_and_bears_the_attempt() -> None:
    asked = adapter.build_submit(REQUEST, context())
    assert (asked.method, asked.target, asked.paid) == ("POST", "/v1/prediction", True)
    assert asked.headers == (("X-Request-Id", "att_1"),)


@pytest.mark.parametrize("threshold", Threshold)
def test_moderation_is_always_sent_since_silence_would_mean_low(threshold: Threshold) -> None:
    request = replace(REQUEST, content_moderation=ContentModeration(public_figure_threshold=threshold))
    given = body_of(request)["input"]
    assert isinstance(given, dict)
    assert given["public_figure_moderation"] == threshold.value


def test_the_reference_type_is_conveyed_by_silence() -> None:
    given = body_of(REQUEST)["input"]
    assert isinstance(given, dict)
    assert {name for name in given if "reference" in name} == {"reference_uri"}
    assert unconveyable(ACT_TWO, REQUEST) == ()


@pytest.mark.parametrize(
    ("options", "header", "prefix"),
    [
        ({}, "Authorization", "Bearer "),
        ({"auth": "bearer"}, "Authorization", "Bearer "),
        ({"auth": "x-api-key"}, "X-API-Key", ""),
    ],
)
def test_the_option_auth_chooses_the_header(options: dict[str, str], header: str, prefix: str) -> None:
    auth = SPEC.auth_for({**SPEC.default_options(), **options})
    assert (auth.header, auth.prefix) == (header, prefix)


@pytest.mark.parametrize("ref", [REF, "a/b", "-x", "1:2/3", "..%2f"])
def test_a_ref_stays_one_segment_of_every_call(ref: str) -> None:
    assert adapter.build_cancel is not None
    for asked, kind in (
        (adapter.build_poll(context(ref)), Poll),
        (adapter.build_cancel(context(ref)), Cancel),
    ):
        assert not asked.paid
        assert emulation.receive(arrived(asked), Rules()) == kind(ref=ref)


# --- Create replies


@pytest.mark.parametrize(
    ("reply", "ref"),
    [
        ({"status": "success", "message": "Prediction created successfully", "predictionID": REF}, REF),
        ({"id": REF, "status": "starting"}, REF),
        ({"predictionID": "one", "id": "two"}, "one"),
        ({"predictionID": "", "id": "two"}, "two"),
        ({"predictionID": None, "id": "two"}, "two"),
        ({"predictionID": "failed", "status": "error"}, "failed"),
    ],
)
def test_create_gives_a_ref_and_never_a_word(reply: dict[str, object], ref: str) -> None:
    submitted = adapter.parse_submit(json_response(200, reply))
    assert (submitted.ref, submitted.status) == (ref, None)


@pytest.mark.parametrize("reply", [{}, {"status": "success"}, {"predictionID": 7}, {"id": ["x"]}])
def test_create_without_a_ref_is_unreadable(reply: dict[str, object]) -> None:
    with pytest.raises(UnexpectedPayload):
        adapter.parse_submit(json_response(200, reply))


# --- Poll replies


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (
            "the get-prediction page",
            {
                "created": "queued",
                "starting": "queued",
                "processing": "running",
                "success": "succeeded",
                "error": "failed",
                "cancelled": "cancelled",
            },
        ),
        ("the specification", {"failed": "failed"}),
        ("webhooks", {"succeeded": "succeeded", "failed": "failed"}),
        (
            "workflows",
            {"running": "running", "completed": "succeeded", "failed": "failed", "cancelled": "cancelled"},
        ),
        ("the SDK pages", {"completed": "succeeded", "failed": "failed"}),
        ("the failure envelope", {"ERROR": "failed"}),
    ],
)
def test_every_vocabulary_is_read(place: str, words: dict[str, str]) -> None:
    assert {word: poll_of(status=word, output=OUTPUT).status for word in words} == words, place


@pytest.mark.parametrize("word", ["archived", "timeout", "ok", "SUCCESSFUL"])
def test_an_unknown_word_changes_nothing_whatever_stands_beside_it(word: str) -> None:
    update = poll_of(status=word, output=OUTPUT, metrics={"cost": 0.25})
    assert (update.status, update.outputs, update.cost) == (None, (), None)


@pytest.mark.parametrize(
    "output",
    [
        OUTPUT,
        [OUTPUT],
        [{"url": OUTPUT}],
        {"url": OUTPUT},
        {"video": OUTPUT},
        {"video": {"url": OUTPUT}},
        {"video": [OUTPUT]},
        {"url": "", "video": OUTPUT},
    ],
)
def test_every_shape_of_output_gives_the_url(output: object) -> None:
    assert poll_of(status="success", output=output).outputs == (OUTPUT,)


@pytest.mark.parametrize("output", [None, "", [], {}, 7, True, "done", {"error": "no"}, "ftp://x.example/o"])
def test_a_success_without_a_usable_url_is_a_broken_contract(output: object) -> None:
    update = poll_of(status="success", output=output)
    assert update.error is not None
    assert (update.status, update.error.code, update.drift) == ("failed", "provider_contract", True)


@pytest.mark.parametrize("word", ["error", "failed"])
@pytest.mark.parametrize("output", ["upstream said no", OUTPUT, [OUTPUT], {"url": OUTPUT}])
def test_what_a_failure_leaves_in_output_is_never_a_result(word: str, output: object) -> None:
    assert poll_of(status=word, output=output).outputs == ()


@pytest.mark.parametrize(
    ("word", "given", "cost"),
    [
        ("created", 0, None),
        ("processing", 0, None),
        ("processing", 0.1, None),
        ("success", 0.25, 250_000),
        ("success", 0.0000004, 0),
        ("error", 0, 0),
        ("cancelled", 0, 0),
        ("success", -1, None),
        ("success", 1e12, None),
        ("success", "0.25", None),
        ("success", True, None),
        ("success", None, None),
    ],
)
def test_the_cost_is_in_dollars_and_none_before_the_end(word: str, given: object, cost: int | None) -> None:
    update = poll_of(status=word, output=OUTPUT, metrics={"cost": given})
    assert update.cost == (None if cost is None else Cost(micro_usd=cost))


@pytest.mark.parametrize(
    ("output", "code", "provider_code"),
    [
        ({"error_code": "PROVIDER_AUTH_ERROR"}, "provider_error", "PROVIDER_AUTH_ERROR"),
        ({"error_code": "PROVIDER_REJECTED"}, "invalid_media", "PROVIDER_REJECTED"),
        ({"error_code": "PROVIDER_REJECTED", "retryable": False}, "invalid_media", "PROVIDER_REJECTED"),
        ({"error_code": "PROVIDER_REJECTED", "retryable": True}, "provider_unavailable", "PROVIDER_REJECTED"),
        ({"error_code": "EXECUTION_TIMEOUT", "retryable": True}, "timeout", "EXECUTION_TIMEOUT"),
        ({"error_code": "NEW", "retryable": False}, "provider_error", "NEW"),
        ({"error_code": "NEW", "retryable": True}, "provider_unavailable", "NEW"),
        ({"retryable": True}, "provider_unavailable", None),
        ({"classification": {"category": "RATE_LIMIT"}}, "rate_limited", "RATE_LIMIT"),
        (
            {"error_code": "PROVIDER_FAILED", "classification": {"category": "RATE_LIMIT"}},
            "provider_error",
            "PROVIDER_FAILED",
        ),
        (
            {"error_code": "INPUT_VALIDATION_ERROR", "classification": {"category": "content_moderation"}},
            "content_rejected",
            "content_moderation",
        ),
        (
            {"error_code": "X", "provider_error_code": "SAFETY.OUTPUT.VIDEO"},
            "content_rejected",
            "SAFETY.OUTPUT.VIDEO",
        ),
        (
            {
                "error_code": "INPUT_VALIDATION_ERROR",
                "error_message": "public_figure_moderation: not offered",
            },
            "invalid_request",
            "INPUT_VALIDATION_ERROR",
        ),
        ({"provider_error_code": "failed"}, "provider_error", "failed"),
        ({}, "provider_error", None),
        (None, "provider_error", None),
        ([], "provider_error", None),
    ],
)
def test_the_envelope_is_classified(output: object, code: str, provider_code: str | None) -> None:
    error = poll_of(status="error", output=output).error
    assert error is not None
    assert (error.code, error.provider_code) == (code, provider_code)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"output": {"error": "Execution failed", "error_message": "exec_error"}, "logs": "l"}, "exec_error"),
        ({"output": {"error": "Execution failed", "error_message": ""}, "logs": "l"}, "Execution failed"),
        ({"output": [{"output": "", "error": "upstream timed out"}]}, "upstream timed out"),
        ({"output": "no", "logs": "l"}, "no"),
        ({"output": None, "error": "top", "logs": "l"}, "top"),
        ({"output": None, "error": "", "logs": "l"}, "l"),
        ({"output": {"error": "  "}, "logs": "l"}, "l"),
        ({"output": None, "logs": None}, "Eachlabs gave no reason"),
    ],
)
def test_the_reason_is_looked_for_from_the_envelope_to_the_logs(
    fields: dict[str, object], message: str
) -> None:
    error = poll_of(status="error", **fields).error
    assert error is not None
    assert error.message == message


# --- Refusals


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, {"error": "Invalid input for model"}, "invalid_request"),
        (400, {}, "invalid_request"),
        (401, {}, "unauthorized"),
        (402, {"status": 402, "error": "payment required", "details": "reserved"}, "insufficient_funds"),
        (403, {"error": "forbidden"}, "unauthorized"),
        (404, {"error": "Failed to fetch model: model not found"}, "provider_error"),
        (404, {"error": "Prediction not found"}, "invalid_request"),
        (422, {}, "invalid_request"),
        (422, {"error": "x", "details": [{"loc": ["input", "character_uri"]}]}, "invalid_media"),
        (422, {"error": "x", "details": {"public_figure_moderation": "not offered"}}, "invalid_request"),
        (429, {"status": 429, "error": "too many requests", "details": "10 concurrent"}, "rate_limited"),
        (500, {"error": "Internal server error"}, "provider_unavailable"),
        (503, {"error": "Internal server error"}, "provider_unavailable"),
        (504, {}, "timeout"),
    ],
)
def test_every_refusal_is_classified(status: int, body: dict[str, object], code: str) -> None:
    response = json_response(status, body)
    assert classify(SPEC, adapter.parse_failure(response), http_status=status).code == code


def test_a_refusal_of_any_length_makes_a_short_message() -> None:
    failure = adapter.parse_failure(json_response(422, {"error": "e" * 9000, "details": ["d" * 9000]}))
    assert len(failure.message) == 500


# --- The emulation


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_the_emulation_reads_what_the_adapter_builds(request_: MotionRequest) -> None:
    received = emulation.receive(arrived(adapter.build_submit(request_, context())), Rules())
    assert received == Create(request=request_, client_request_id="att_1")


def test_the_emulation_fills_in_their_defaults() -> None:
    body = body_of(REQUEST)
    given = body["input"]
    assert isinstance(given, dict)
    for name in ("public_figure_moderation", "body_control", "expression_intensity"):
        del given[name]
    asked = replace(adapter.build_submit(REQUEST, context()), json=body)
    received = emulation.receive(arrived(asked), Rules())
    low = ContentModeration(public_figure_threshold=Threshold.LOW)
    assert isinstance(received, Create)
    assert received.request == replace(REQUEST, content_moderation=low)


@pytest.mark.parametrize("option", ["bearer", "x-api-key"])
def test_the_emulation_takes_either_header(option: str) -> None:
    auth = SPEC.auth_for({"auth": option})
    asked, rules = adapter.build_submit(REQUEST, context()), Rules(keys=frozenset({"k"}))
    header = auth.header.lower()
    assert isinstance(emulation.receive(arrived(asked, {header: f"{auth.prefix}k"}), rules), Create)
    for refused in ({header: f"{auth.prefix}wrong"}, {header: auth.prefix}, {}):
        answer = emulation.receive(arrived(asked, refused), rules)
        assert answer == Answer(response=json_response(401, {}))


@pytest.mark.parametrize(
    "url",
    ["http://media.example/a.mp4", "http://127.0.0.1:9/a.mp4", "https://127.0.0.1/a.mp4", "https://[::1]/a",
     "https://localhost/a.mp4", "ftp://media.example/a", "a.mp4", "https://["],
)  # fmt: skip
@pytest.mark.parametrize("field", ["character", "reference"])
def test_the_emulation_refuses_media_that_no_provider_fetches(field: str, url: str) -> None:
    part = replace(getattr(REQUEST, field), url=url)
    asked = adapter.build_submit(replace(REQUEST, **{field: part}), context())
    answer = emulation.receive(arrived(asked), Rules())
    assert isinstance(answer, Answer)
    error = classify(SPEC, adapter.parse_failure(answer.response), http_status=answer.response.status)
    assert (answer.response.status, error.code) == (422, "invalid_media")
    assert f"{field}_uri" in error.message


def test_the_emulation_allows_loopback_media_when_told() -> None:
    part = replace(REQUEST.reference, url="http://127.0.0.1:9/a.mp4")
    asked = adapter.build_submit(replace(REQUEST, reference=part), context())
    assert isinstance(emulation.receive(arrived(asked), Rules(allow_loopback_media=True)), Create)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 422, "invalid_request"),
        (b"\xff", 422, "invalid_request"),
        (b'{"x":' + b"[" * 100_000, 422, "invalid_request"),
        (b"{}", 400, "invalid_request"),
        (b'{"model": "runway-act-two", "input": {}}', 400, "invalid_request"),
        (
            msgspec.json.encode({**body_of(REQUEST), "model": "runway-act-one"}),
            404,
            "provider_error",
        ),
    ],
)
def test_the_emulation_refuses_bodies_in_their_ways(body: bytes, status: int, code: str) -> None:
    wire = replace(arrived(adapter.build_submit(REQUEST, context())), body=body)
    answer = emulation.receive(wire, Rules())
    assert isinstance(answer, Answer)
    error = classify(SPEC, adapter.parse_failure(answer.response), http_status=answer.response.status)
    assert (answer.response.status, error.code) == (status, code)


def test_the_emulation_knows_no_other_route() -> None:
    wire = WireRequest(method="GET", path=("v1", "models"), headers={"x-api-key": "k"})
    answer = emulation.receive(wire, Rules())
    assert isinstance(answer, Answer)
    assert answer.response.status == 404


@pytest.mark.parametrize("created_id", MODES["created_id"])
def test_the_adapter_reads_every_create_reply(created_id: str) -> None:
    reply = emulation.show_created(job(modes={"created_id": created_id}))
    assert adapter.parse_submit(reply).ref == REF


def test_the_adapter_reads_every_word_of_the_course() -> None:
    shown = [seen(emulation.show_job(job(leg.word))) for leg in emulation.course]
    assert [update.status for update in shown] == [JobStatus.QUEUED, JobStatus.QUEUED, JobStatus.RUNNING]
    assert all(update.cost is None and update.progress is None for update in shown)
    assert sum(leg.share for leg in emulation.course) == pytest.approx(1.0)


@pytest.mark.parametrize("output", MODES["output"])
def test_the_adapter_reads_every_success(output: str) -> None:
    shown = job(emulation.succeeded_word, output_url=OUTPUT, modes={"output": output})
    update = seen(emulation.show_job(shown))
    assert (update.status, update.outputs) == ("succeeded", (OUTPUT,))
    assert update.cost == Cost(micro_usd=ACT_TWO.price.estimate(5.0))


@pytest.mark.parametrize("failed_word", MODES["failed_word"])
@pytest.mark.parametrize("envelope", MODES["envelope"])
@pytest.mark.parametrize(("code", "failure"), emulation.failures.items(), ids=emulation.failures)
def test_the_adapter_reads_every_failure(
    code: str, failure: SimulatedFailure, failed_word: str, envelope: str
) -> None:
    modes = {"failed_word": failed_word, "envelope": envelope}
    update = seen(emulation.show_job(job(emulation.failed_word, failure=failure, modes=modes)))
    assert update.error is not None
    assert (update.status, update.provider_status, update.drift) == ("failed", failed_word, False)
    assert update.error.code == (code if envelope == "full" else "provider_error")
    assert update.error.message.startswith(failure.message)
    assert update.cost == Cost(micro_usd=0)


@pytest.mark.parametrize(("code", "refusal"), emulation.refusals.items(), ids=emulation.refusals)
def test_the_adapter_reads_every_refusal(code: str, refusal: HttpResponse) -> None:
    assert classify(SPEC, adapter.parse_failure(refusal), http_status=refusal.status).code == code


@pytest.mark.parametrize("word", MODES["cancel_word"])
def test_a_cancel_is_a_success_that_says_nothing_of_the_job(word: str) -> None:
    assert emulation.show_cancelled is not None
    reply = emulation.show_cancelled(job(modes={"cancel_word": word}))
    assert reply.successful
    assert msgspec.json.decode(reply.body)["status"] == word


def test_a_cancelled_job_can_still_be_asked_for() -> None:
    assert not emulation.forgets_cancelled
    assert seen(emulation.show_job(job(emulation.cancelled_word))).status == "cancelled"
    late = job(emulation.succeeded_word, output_url=OUTPUT)
    assert seen(emulation.show_job(late)).status == "succeeded"


def test_a_missing_job_is_a_404() -> None:
    assert emulation.show_missing().status == 404


@pytest.mark.parametrize("mode", emulation.modes)
def test_the_first_of_each_mode_is_the_default(mode: str) -> None:
    first = {mode: emulation.modes[mode][0]}
    failed = emulation.failures["provider_error"]
    assert emulation.show_cancelled is not None
    for show, shown in (
        (emulation.show_created, job()),
        (emulation.show_cancelled, job()),
        (emulation.show_job, job("success", output_url=OUTPUT)),
        (emulation.show_job, job("error", failure=failed)),
    ):
        assert show(shown) == show(replace(shown, modes=first))
