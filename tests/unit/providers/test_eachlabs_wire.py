"""What is peculiar to Eachlabs: its calls, replies and refusals."""

from __future__ import annotations

import pytest
from eachlabs_examples import OUTPUT, REF, REQUEST, arrived, body_of, context, seen
from msgspec.structs import replace

from providers.contract.emulation import Cancel, Poll, Rules, json_response
from providers.contract.errors import UnexpectedPayload
from providers.contract.mapping import unconveyable
from providers.contract.motion import ContentModeration, Threshold
from providers.contract.normalize import Update, classify
from providers.contract.report import Cost
from providers.eachlabs import adapter
from providers.eachlabs.emulation import emulation
from providers.eachlabs.spec import ACT_TWO, SPEC


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
