"""What is peculiar to Runway, and that its two sides understand each other."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from providers.conformance.samples import variations
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
)
from providers.contract.errors import ErrorCode, UnexpectedPayload
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
from providers.contract.report import Failure
from providers.contract.status import JobStatus
from providers.runway import adapter
from providers.runway.emulation import emulation

MODEL = adapter.spec.models[0]
REF = emulation.ref_of("6f1e2c1a8d3b4a579c550d6f2b7e9a14")
CONTEXT = CallContext(model=MODEL, attempt_id="att_1", ref=REF)
RULES = Rules(keys=frozenset({"key_good"}))
REQUEST = MotionRequest(
    character=Character(type=CharacterType.IMAGE, url="https://media.example/hero.png"),
    reference=Reference(url="https://media.example/act.mp4"),
)
JOB = SimulatedJob(
    ref=REF, request=REQUEST, word="PENDING", created_at="2026-10-01T10:00:00.000Z", duration_s=10, credits=50
)
HEADERS = {"authorization": "Bearer key_good", "x-runway-version": "2024-11-06"}


def sent(request: HttpRequest, headers: dict[str, str] | None = None) -> WireRequest:
    """Turn what the adapter builds into what arrives, as the gateway sends it."""
    body = b"" if request.json is None else msgspec.json.encode(request.json)
    return WireRequest(
        method=request.method, path=request.path, headers=HEADERS if headers is None else headers, body=body
    )


def created(request: MotionRequest, rules: Rules = RULES) -> object:
    return emulation.receive(sent(adapter.build_submit(request, CONTEXT)), rules)


def refusal(received: object) -> Any:
    assert isinstance(received, Answer)
    failure = adapter.parse_failure(received.response)
    return classify(adapter.spec, failure, http_status=received.response.status)


def shown(job: SimulatedJob) -> Update:
    return normalize(adapter.spec, adapter.parse_poll(emulation.show_job(job)))


# The tables.


def test_the_version_header_is_on_every_call() -> None:
    assert dict(adapter.spec.fixed_headers) == {"X-Runway-Version": "2024-11-06"}


@pytest.mark.parametrize(
    ("seconds", "micro_usd"), [(3, 150_000), (1, 150_000), (10, 500_000), (30, 1_500_000)]
)
def test_a_second_costs_five_credits_with_a_floor_of_fifteen(seconds: float, micro_usd: int) -> None:
    assert MODEL.price.estimate(seconds) == micro_usd


def test_a_cancel_stops_destroys_and_leaves_a_404() -> None:
    cancel = adapter.spec.cancel
    assert cancel is not None
    assert (cancel.stops, cancel.destroys_output, cancel.ref_gone) == (True, True, True)


@pytest.mark.parametrize(
    ("code", "ours"),
    [
        ("SAFETY.INPUT.TEXT", ErrorCode.CONTENT_REJECTED),
        ("SAFETY.OUTPUT.ANYTHING.NEW", ErrorCode.CONTENT_REJECTED),
        ("INPUT_PREPROCESSING.SAFETY.TEXT", ErrorCode.CONTENT_REJECTED),
        ("INPUT_PREPROCESSING.INTERNAL", ErrorCode.PROVIDER_ERROR),
        ("ASSET.INVALID", ErrorCode.INVALID_MEDIA),
        ("INTERNAL.BAD_OUTPUT.CODE01", ErrorCode.PROVIDER_ERROR),
        ("THIRD_PARTY.UNAVAILABLE", ErrorCode.PROVIDER_UNAVAILABLE),
        (None, ErrorCode.PROVIDER_ERROR),
    ],
)
def test_failure_codes_are_matched_by_their_family(code: str | None, ours: ErrorCode) -> None:
    assert classify(adapter.spec, Failure(code=code), http_status=None).code is ours


def test_the_word_asset_in_a_failed_run_does_not_make_it_a_refusal() -> None:
    assert classify(adapter.spec, Failure(message="asset"), http_status=None).code is ErrorCode.PROVIDER_ERROR


def test_only_the_final_cost_is_a_cost() -> None:
    body = {"id": REF, "status": "RUNNING", "estimatedCost": {"credits": 50}}
    seen = adapter.parse_poll(HttpResponse(status=200, body=msgspec.json.encode(body)))
    assert seen.cost is None


@pytest.mark.parametrize(
    ("issues", "message"),
    [
        ([], "bad"),
        ([{"path": ["a", 0, "b"], "message": "m"}], "bad; a.0.b: m"),
        ([{"path": "a", "message": "m"}], "bad; m"),
        ([{"code": "too_big"}], "bad; too_big"),
        ([None, 7, {}, {"path": ["a"]}], "bad"),
        ([{"message": str(number)} for number in range(9)], "bad; 0; 1; 2; 3; 4"),
    ],
)
def test_issues_of_any_shape_become_one_line(issues: list[object], message: str) -> None:
    body = msgspec.json.encode({"error": "bad", "issues": issues})
    assert adapter.parse_failure(HttpResponse(status=400, body=body)).message == message


# The adapter's submits, read by the emulation.


def every_request() -> list[MotionRequest]:
    full = replace(
        REQUEST,
        character=Character(type=CharacterType.VIDEO, url="https://media.example/hero.mp4"),
        ratio=Ratio.WIDE,
        body_control=False,
        expression_intensity=1,
        seed=4_294_967_295,
        content_moderation=ContentModeration(public_figure_threshold=Threshold.LOW),
    )
    varied = itertools.chain.from_iterable(variations(MODEL, request) for request in (REQUEST, full))
    return [REQUEST, full, *(request for _, request in varied if not unconveyable(MODEL, request))]


@pytest.mark.parametrize("request_", every_request())
def test_what_is_submitted_arrives_as_it_was_asked(request_: MotionRequest) -> None:
    assert created(request_) == Create(request=request_)


def test_a_ref_arrives_whole() -> None:
    assert emulation.receive(sent(adapter.build_poll(CONTEXT)), RULES) == Poll(ref=REF)
    assert adapter.build_cancel is not None
    assert emulation.receive(sent(adapter.build_cancel(CONTEXT)), RULES) == Cancel(ref=REF)


def test_a_created_job_gives_its_ref() -> None:
    assert adapter.parse_submit(emulation.show_created(JOB)).ref == REF


def test_a_probe_is_answered_without_a_job() -> None:
    assert adapter.build_probe is not None
    received = emulation.receive(sent(adapter.build_probe()), RULES)
    assert isinstance(received, Answer)
    assert received.response.successful


# The emulation's replies, read by the adapter.


def test_every_word_of_the_course_is_known_and_only_moves_up() -> None:
    updates = [shown(replace(JOB, word=leg.word)) for leg in emulation.course]
    assert [update.status for update in updates] == [*[JobStatus.QUEUED] * 3, JobStatus.RUNNING]
    assert [update.slow for update in updates] == [False, True, False, False]
    assert sum(leg.share for leg in emulation.course) == pytest.approx(1)


def test_progress_is_shown_while_running() -> None:
    assert shown(replace(JOB, word="RUNNING", progress=0.42)).progress == 0.42


def test_success_shows_its_output_and_what_it_cost() -> None:
    url = "https://cdn.example/out.mp4?sig=1"
    update = shown(replace(JOB, word=emulation.succeeded_word, output_url=url))
    assert (update.status, update.outputs) == (JobStatus.SUCCEEDED, (url,))
    assert update.cost is not None
    assert (update.cost.credits, update.cost.micro_usd) == (50, 500_000)


@pytest.mark.parametrize(("code", "failure"), emulation.failures.items())
def test_every_failure_it_can_show_is_read_as_what_it_is(code: str, failure: SimulatedFailure) -> None:
    update = shown(replace(JOB, word=emulation.failed_word, failure=failure))
    assert update.status is JobStatus.FAILED
    assert update.error is not None
    assert (update.error.code, update.error.message) == (code, failure.message)
    assert update.error.provider_code == failure.code


@pytest.mark.parametrize(("code", "response"), emulation.refusals.items())
def test_every_refusal_it_can_give_is_read_as_what_it_is(code: str, response: HttpResponse) -> None:
    assert refusal(Answer(response=response)).code == code


def test_a_cancelled_job_is_gone_or_says_so() -> None:
    assert emulation.show_cancelled is not None
    assert emulation.show_cancelled(JOB).status == 204
    assert emulation.forgets_cancelled
    assert emulation.show_missing().status == 404
    assert shown(replace(JOB, word=emulation.cancelled_word)).status is JobStatus.CANCELLED


def test_a_reply_about_a_missing_job_is_no_job() -> None:
    with pytest.raises(UnexpectedPayload):
        adapter.parse_poll(emulation.show_missing())


@pytest.mark.parametrize("option", ["character", "reference"])
def test_an_asset_that_cannot_be_fetched_is_invalid_media(option: str) -> None:
    assert emulation.refuse_asset is not None
    error = refusal(Answer(response=emulation.refuse_asset(option, "Received HTTP response code 302.")))
    assert error.code is ErrorCode.INVALID_MEDIA
    assert f"{option}.uri: Failed to fetch asset. Received" in error.message


# What the emulation refuses, as Runway does.


@pytest.mark.parametrize(
    ("headers", "code", "words"),
    [
        ({}, ErrorCode.UNAUTHORIZED, "key"),
        ({"authorization": "Bearer "}, ErrorCode.UNAUTHORIZED, "key"),
        ({"authorization": "Bearer key_bad"}, ErrorCode.UNAUTHORIZED, "key"),
        ({"authorization": "key_good"}, ErrorCode.UNAUTHORIZED, "key"),
        ({"authorization": "Bearer key_good"}, ErrorCode.INVALID_REQUEST, "missing"),
        ({**HEADERS, "x-runway-version": "2024-01-01"}, ErrorCode.INVALID_REQUEST, "not supported"),
    ],
)
def test_key_and_version_are_needed(headers: dict[str, str], code: ErrorCode, words: str) -> None:
    error = refusal(emulation.receive(sent(adapter.build_poll(CONTEXT), headers), RULES))
    assert error.code is code
    assert words in error.message


@pytest.mark.parametrize(
    "url",
    [
        "http://media.example/a.png",
        "https://93.184.216.34/a.png",
        "https://[::1]/a.png",
        "https://[a/b.png",
        "ftp://a.example/a",
    ],
)
def test_media_must_be_https_on_a_domain(url: str) -> None:
    request = replace(REQUEST, character=Character(type=CharacterType.IMAGE, url=url))
    error = refusal(created(request))
    assert error.code is ErrorCode.INVALID_MEDIA
    assert "character.uri" in error.message


def test_loopback_media_pass_where_a_test_allows_them() -> None:
    request = replace(REQUEST, reference=Reference(url="http://127.0.0.1:8080/act.mp4"))
    assert created(request, replace(RULES, allow_loopback_media=True)) == Create(request=request)


BODY: dict[str, Any] = dict(adapter.build_submit(REQUEST, CONTEXT).json or {})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({**BODY, "ratio": "16:9"}, "ratio: "),
        ({**BODY, "expressionIntensity": 6}, "expressionIntensity: "),
        ({**BODY, "seed": -1}, "seed: "),
        ({**BODY, "model": "act_one"}, "model: "),
        ({**BODY, "contentModeration": {"publicFigureThreshold": "auto", "stray": 1}}, "contentModeration"),
        ({**BODY, "reference": {"type": "image", "uri": "https://media.example/a"}}, "reference.type: "),
        ({key: value for key, value in BODY.items() if key != "character"}, "character"),
    ],
)
def test_a_body_outside_the_schema_is_refused_with_issues(body: dict[str, Any], words: str) -> None:
    wire = sent(HttpRequest(method="POST", path=("v1", "character_performance"), json=body))
    error = refusal(emulation.receive(wire, RULES))
    assert error.code is ErrorCode.INVALID_REQUEST
    assert "Validation of body failed" in error.message
    assert words in error.message


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": "\xff"}', b'{"a":' * 100_000])
def test_a_body_that_is_no_json_is_refused(body: bytes) -> None:
    wire = WireRequest(method="POST", path=("v1", "character_performance"), headers=HEADERS, body=body)
    assert refusal(emulation.receive(wire, RULES)).code is ErrorCode.INVALID_REQUEST


def test_a_short_body_takes_the_defaults_of_the_schema() -> None:
    short = {key: BODY[key] for key in ("model", "character", "reference")}
    wire = sent(
        HttpRequest(method="POST", path=("v1", "character_performance"), json={**short, "prompt": "x"})
    )
    assert emulation.receive(wire, RULES) == Create(request=REQUEST)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ("v1", "character_performance")),
        ("POST", ("v1", "tasks", REF)),
        ("GET", ()),
        ("GET", ("v2", "tasks", REF)),
    ],
)
def test_there_is_nothing_elsewhere(method: str, path: tuple[str, ...]) -> None:
    received = emulation.receive(WireRequest(method=method, path=path, headers=HEADERS), RULES)
    assert isinstance(received, Answer)
    assert received.response.status == 404
