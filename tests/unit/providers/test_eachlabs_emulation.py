"""Eachlabs's emulation: that it and the adapter understand each other."""

from __future__ import annotations

import msgspec
import pytest
from eachlabs_examples import OUTPUT, REF, REQUEST, arrived, body_of, context, seen
from msgspec.structs import replace

from providers.contract.emulation import (
    Answer,
    Create,
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
from providers.contract.normalize import classify
from providers.contract.report import Cost
from providers.contract.status import JobStatus
from providers.eachlabs import adapter
from providers.eachlabs.emulation import MODES, emulation
from providers.eachlabs.spec import ACT_TWO, SPEC

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
