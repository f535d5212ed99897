"""What is peculiar to AI/ML API, and that its emulation and its adapter understand each other."""

from __future__ import annotations

import itertools
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
import pytest

from providers.aimlapi import adapter
from providers.aimlapi.emulation import emulation, refusal
from providers.aimlapi.spec import ACT_TWO, PATHS, SPEC
from providers.contract.adapter import CallContext
from providers.contract.emulation import (
    Answer,
    Create,
    Poll,
    Received,
    Rules,
    SimulatedFailure,
    SimulatedJob,
    WireRequest,
    json_response,
)
from providers.contract.errors import ErrorCode
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
from providers.contract.report import Cost, Failure
from providers.contract.status import JobStatus

URL = "https://cdn.aimlapi.com/x/y.mp4?_jwt=a"
PLAIN = MotionRequest(
    character=Character(type=CharacterType.IMAGE, url="https://media.example/hero.png"),
    reference=Reference(url="https://media.example/act.mp4"),
)
FULL = MotionRequest(
    character=Character(type=CharacterType.VIDEO, url="https://media.example/a%20b.mp4?x=1&y=ü"),
    reference=Reference(url="https://media.example/act.mp4"),
    ratio=Ratio.WIDE,
    body_control=False,
    expression_intensity=5,
    seed=0,
)
DIGITS = ["0123456789abcdef0123456789abcde" + last for last in "0123"] + ["f" * 32]
PATH_CHOICES = list(PATHS)


def context(ref: str = "", attempt_id: str = "att_01", **options: str) -> CallContext:
    return CallContext(model=ACT_TWO, attempt_id=attempt_id, options=options, ref=ref)


def carried(request: HttpRequest, key: str = "key") -> WireRequest:
    """What the provider sees of a request, read back from its percent-encoded target."""
    parts = urlsplit(request.target)
    headers = {name.lower(): value for name, value in request.headers}
    return WireRequest(
        method=request.method,
        path=tuple(unquote(segment) for segment in parts.path.split("/")[1:]),
        query=dict(parse_qsl(parts.query)),
        headers={**headers, "authorization": f"Bearer {key}"},
        body=b"" if request.json is None else msgspec.json.encode(request.json),
    )


def received(request: MotionRequest, **options: str) -> Received:
    return emulation.receive(carried(adapter.build_submit(request, context(**options))), Rules())


def posted(**changes: object) -> WireRequest:
    """A plain create with some fields of its body replaced."""
    built = adapter.build_submit(PLAIN, context())
    return carried(msgspec.structs.replace(built, json={**(built.json or {}), **changes}))


def answered(arrived: Received) -> HttpResponse:
    assert isinstance(arrived, Answer)
    return arrived.response


def code_of(response: HttpResponse) -> ErrorCode:
    failure = adapter.parse_failure(response)
    return classify(SPEC, failure, http_status=response.status).code


def polled(document: object) -> Update:
    return normalize(SPEC, adapter.parse_poll(json_response(200, document)))


def simulated(word: str, **fields: object) -> SimulatedJob:
    job = SimulatedJob(ref="r1", request=PLAIN, word=word, created_at="2026-11-21T00:00:00Z", credits=650_000)
    return msgspec.structs.replace(job, **fields)


@pytest.mark.parametrize("choice", PATH_CHOICES)
def test_submit_and_poll_use_the_path_frozen_on_the_attempt(choice: str) -> None:
    assert adapter.build_submit(PLAIN, context(api_path=choice)).path == PATHS[choice]
    poll = adapter.build_poll(context(ref="r1", api_path=choice))
    assert poll.path == PATHS[choice]
    assert poll.query == (("generation_id", "r1"),)
    assert not poll.paid


def test_the_current_path_is_the_default() -> None:
    assert SPEC.default_options() == {"api_path": "current"}
    assert adapter.build_submit(PLAIN, context()).path == ("v2", "video", "generations")


@pytest.mark.parametrize("attempt_id", ["a", "att_01h.x:Y-9", "x" * 128])
def test_the_attempt_id_is_sent_as_client_request_id(attempt_id: str) -> None:
    built = adapter.build_submit(PLAIN, context(attempt_id=attempt_id))
    assert built.headers == (("X-Client-Request-Id", attempt_id),)


@pytest.mark.parametrize("attempt_id", ["", "x" * 129, "a b", "a/b", "a\n", "ä", "a\r\nX-Other: 1"])
def test_an_attempt_id_they_would_silently_drop_is_refused(attempt_id: str) -> None:
    with pytest.raises(ValueError, match="X-Client-Request-Id"):
        adapter.build_submit(PLAIN, context(attempt_id=attempt_id))


def test_media_stand_under_url_and_the_ratio_under_frame_size() -> None:
    assert adapter.build_submit(FULL, context()).json == {
        "model": "runway/act_two",
        "character": {"type": "video", "url": FULL.character.url},
        "reference": {"type": "video", "url": FULL.reference.url},
        "frame_size": "1584:672",
        "body_control": False,
        "expression_intensity": 5,
        "seed": 0,
    }


def test_auto_moderation_is_conveyed_by_silence_and_low_is_refused() -> None:
    assert not unconveyable(ACT_TWO, PLAIN)
    low = ContentModeration(public_figure_threshold=Threshold.LOW)
    request = msgspec.structs.replace(PLAIN, content_moderation=low)
    (problem,) = unconveyable(ACT_TWO, request)
    assert problem.option == "content_moderation.public_figure_threshold"
    assert problem.supported == ("auto",)
    with pytest.raises(ValueError, match="public_figure_threshold"):
        adapter.build_submit(request, context())


def test_only_the_six_ratios_that_runway_knows_are_offered() -> None:
    (param,) = [param for param in ACT_TWO.params if param.option == "ratio"]
    assert param.values == {ratio.value: ratio.value for ratio in Ratio}


def test_there_is_no_cancel() -> None:
    assert SPEC.cancel is None
    assert adapter.build_cancel is None
    assert emulation.show_cancelled is None


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({"credits_used": 325_000}, Cost(credits=325_000, micro_usd=162_500)),
        ({"credits_used": 2_000_000}, Cost(credits=2_000_000, micro_usd=1_000_000)),
        ({"credits_used": 0}, Cost(credits=0, micro_usd=0)),
        ({"credits_used": 2480, "usd_spent": 0.00124}, Cost(credits=2480, micro_usd=1240)),
        ({"credits_used": 2480, "usd_spent": 0.5}, Cost(credits=2480, micro_usd=500_000)),
        ({"usd_spent": 0.1625}, Cost(micro_usd=162_500)),
        ({"credits_used": "325000"}, None),
        ({"credits_used": True}, None),
        ({"tokens_used": 325_000}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_credit_is_half_a_micro_usd_and_a_price_in_usd_wins(usage: object, cost: Cost | None) -> None:
    generation = {"id": "r1", "status": "completed", "video": {"url": URL}, "meta": {"usage": usage}}
    assert polled(generation).cost == cost


@pytest.mark.parametrize(
    "video", [URL, [URL], [None, URL], {"url": URL}, {"url": URL, "duration": 5}, [{"url": URL}], [[], URL]]
)
def test_a_video_is_found_in_every_shape(video: object) -> None:
    assert polled({"id": "r1", "status": "completed", "video": video}).outputs == (URL,)


@pytest.mark.parametrize(
    "video", [None, "", [], [None], {}, {"url": None}, "pending", 7, "http://a.example/x"]
)
def test_completed_without_a_usable_url_is_no_success(video: object) -> None:
    update = polled({"id": "r1", "status": "completed", "video": video})
    assert update.status is JobStatus.FAILED
    assert update.error is not None
    assert update.error.code is ErrorCode.PROVIDER_CONTRACT
    assert update.drift


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("queued", JobStatus.QUEUED),
        ("waiting", JobStatus.QUEUED),
        ("generating", JobStatus.RUNNING),
        ("active", JobStatus.RUNNING),
        ("completed", JobStatus.SUCCEEDED),
        ("complete", JobStatus.SUCCEEDED),
        ("error", JobStatus.FAILED),
        ("failed", JobStatus.FAILED),
        ("cancelled", None),
        ("done", None),
    ],
)
def test_a_word_outside_the_table_changes_nothing_though_their_sample_ends_on_it(
    word: str, status: JobStatus | None
) -> None:
    assert polled({"id": "r1", "status": word, "video": [URL]}).status is status
    assert polled({"id": "r1", "status": word.upper(), "video": [URL]}).status is status


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (None, None),
        ("", None),
        ({}, None),
        ("it broke", Failure(message="it broke")),
        ({"name": "Oops", "message": "it broke"}, Failure(code="Oops", message="it broke")),
        ({"name": "Oops", "message": None, "detail": "it broke"}, Failure(code="Oops", message="it broke")),
        ({"message": ["a", "b"]}, Failure(message="a; b")),
        ({"error": "it broke"}, Failure(message="it broke")),
        (
            {"detail": [{"loc": ["body", 0], "msg": "no face", "type": "face", "input": "secret"}, "two"]},
            Failure(code="face", message="body.0: no face; two"),
        ),
        ({"detail": [{"loc": "body", "msg": ""}]}, Failure(message='{"loc":"body","msg":""}')),
        ({"reason": 7}, Failure(message='{"reason":7}')),
        ([1, 2], Failure(message="1; 2")),
        (True, Failure(message="true")),
    ],
)
def test_a_reason_is_found_in_every_form_of_error(error: object, failure: Failure | None) -> None:
    seen = adapter.parse_poll(json_response(200, {"id": "r1", "status": "error", "error": error}))
    assert seen.failure == failure


def test_a_long_reason_is_cut() -> None:
    detail = [{"loc": ["x" * 900], "msg": "y" * 900}] * 9
    failure = adapter.parse_poll(json_response(200, {"status": "error", "error": {"detail": detail}})).failure
    assert failure is not None
    assert len(failure.message) == 500


@pytest.mark.parametrize("status_code", [403, "403"])
def test_status_code_reads_the_same_as_string_and_number(status_code: int | str) -> None:
    response = refusal(403, "out of credits", status_code=status_code)
    assert adapter.parse_failure(response) == Failure(message="out of credits")
    assert code_of(response) is ErrorCode.INSUFFICIENT_FUNDS


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"message": ', b"[]", b"\xff", b"[" * 40])
def test_a_refusal_without_a_readable_body_is_judged_by_its_status(body: bytes) -> None:
    for status, code in ((403, "insufficient_funds"), (429, "rate_limited"), (504, "timeout")):
        assert code_of(HttpResponse(status=status, body=body)) == code


@pytest.mark.parametrize("field", ["id", "generation_id"])
def test_the_ref_of_a_create_is_found_under_both_of_its_names(field: str) -> None:
    assert adapter.parse_submit(json_response(200, {field: "r1", "status": "queued"})).ref == "r1"


def test_the_ids_made_have_all_four_forms_and_keep_apart() -> None:
    bare, with_model, digits, nanoid, dashed = [emulation.ref_of(made) for made in DIGITS]
    assert bare.count("-") == 4
    assert with_model.endswith(":runway/act_two")
    assert digits.isdigit()
    assert len(nanoid) == len(dashed) == 21
    assert dashed.startswith("-")
    assert len({emulation.ref_of(f"{number:032x}") for number in range(1000)}) == 1000


@pytest.mark.parametrize("choice", PATH_CHOICES)
@pytest.mark.parametrize("digits", DIGITS)
def test_every_form_of_id_survives_create_and_poll(digits: str, choice: str) -> None:
    ref = emulation.ref_of(digits)
    submitted = adapter.parse_submit(emulation.show_created(simulated("queued", ref=ref)))
    assert submitted.ref == ref
    poll = adapter.build_poll(context(ref=submitted.ref, api_path=choice))
    assert emulation.receive(carried(poll), Rules()) == Poll(ref=ref)


@pytest.mark.parametrize("choice", PATH_CHOICES)
@pytest.mark.parametrize(
    "request_",
    [PLAIN, FULL, *(msgspec.structs.replace(PLAIN, ratio=ratio, seed=2**32 - 1) for ratio in Ratio)],
)
def test_the_emulation_reads_what_the_adapter_builds(request_: MotionRequest, choice: str) -> None:
    create = received(request_, api_path=choice)
    assert isinstance(create, Create)
    assert create.request == request_
    assert create.modes["api_path"] == choice
    assert create.client_request_id == "att_01"


def test_the_emulation_fills_in_what_a_create_leaves_out() -> None:
    bare = {"model": "runway/act_two", "character": {"type": "image", "url": PLAIN.character.url}}
    body = bare | {"reference": {"type": "video", "url": PLAIN.reference.url}, "prompt": "passes unseen"}
    wire = msgspec.structs.replace(posted(), body=msgspec.json.encode(body))
    create = emulation.receive(wire, Rules())
    assert isinstance(create, Create)
    assert create.request == PLAIN


def test_a_create_shows_two_fields_and_echoes_a_valid_client_request_id() -> None:
    create = received(PLAIN)
    assert isinstance(create, Create)
    reply = emulation.show_created(simulated("queued", modes=create.modes))
    assert msgspec.json.decode(reply.body) == {"id": "r1", "status": "queued"}
    assert reply.headers["x-inference-id"] == "r1"
    assert reply.headers["x-client-request-id"] == "att_01"


def test_the_emulation_drops_an_invalid_client_request_id_silently() -> None:
    wire = posted()
    wire = msgspec.structs.replace(wire, headers={**wire.headers, "x-client-request-id": "a/b"})
    create = emulation.receive(wire, Rules())
    assert isinstance(create, Create)
    assert create.client_request_id is None
    reply = emulation.show_created(simulated("queued", modes=create.modes))
    assert "x-client-request-id" not in reply.headers


ALL_MODES = [
    dict(zip(emulation.modes, values, strict=True)) | {"api_path": choice}
    for *values, choice in itertools.product(*emulation.modes.values(), PATH_CHOICES)
]


def test_every_word_of_the_course_is_read_right_in_every_mode() -> None:
    means = {"queued": JobStatus.QUEUED, "generating": JobStatus.RUNNING}
    for modes, leg in itertools.product(ALL_MODES, emulation.course):
        job = simulated(leg.word, modes=modes)
        update = normalize(SPEC, adapter.parse_poll(emulation.show_job(job)))
        assert update.status is means[leg.word], modes
        created = adapter.parse_submit(emulation.show_created(job))
        assert created.status == update.provider_status


def test_success_is_read_right_in_every_mode() -> None:
    for modes in ALL_MODES:
        job = simulated(emulation.succeeded_word, output_url=URL, modes=modes)
        update = normalize(SPEC, adapter.parse_poll(emulation.show_job(job)))
        assert (update.status, update.outputs) == (JobStatus.SUCCEEDED, (URL,)), modes
        assert update.cost in {None, Cost(credits=650_000, micro_usd=325_000)}


def test_every_failure_is_read_right_in_every_mode() -> None:
    for modes, (code, failure) in itertools.product(ALL_MODES, emulation.failures.items()):
        job = simulated(emulation.failed_word, failure=failure, modes=modes)
        update = normalize(SPEC, adapter.parse_poll(emulation.show_job(job)))
        assert update.status is JobStatus.FAILED
        assert update.error is not None
        assert update.error.code == code, modes
        assert failure.message in update.error.message


@pytest.mark.parametrize(
    ("modes", "video"),
    [
        ({"api_path": "legacy"}, [URL]),
        ({"api_path": "current"}, {"url": URL}),
        ({}, {"url": URL}),
        ({"api_path": "legacy", "video": "object"}, {"url": URL}),
        ({"api_path": "current", "video": "list"}, [URL]),
    ],
)
def test_the_path_decides_the_shape_of_video_unless_a_mode_does(modes: dict[str, str], video: object) -> None:
    reply = emulation.show_job(simulated("completed", output_url=URL, modes=modes))
    assert msgspec.json.decode(reply.body)["video"] == video


def test_a_finished_generation_carries_its_cost_in_headers_too() -> None:
    reply = emulation.show_job(simulated("completed", output_url=URL))
    assert reply.headers["x-aimlapi-credits-used"] == "650000"
    assert reply.headers["x-aimlapi-usd-spent"] == "0.325000000"


def test_a_second_costs_what_the_price_says() -> None:
    assert emulation.credits_per_s == ACT_TWO.price.micro_usd_per_s * 2


@pytest.mark.parametrize("code", sorted(emulation.refusals))
def test_every_refusal_is_read_right(code: str) -> None:
    response = emulation.refusals[code]
    assert code_of(response) == code
    document = msgspec.json.decode(response.body)
    assert sorted(document) == ["message", "path", "requestId", "statusCode", "timestamp"]
    assert adapter.parse_failure(response).message == document["message"]


def test_an_unknown_generation_is_missing() -> None:
    assert emulation.show_missing().status == 404


@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer other", "key", "Basic key"])
def test_a_wrong_key_is_refused(header: str) -> None:
    wire = msgspec.structs.replace(posted(), headers={"authorization": header})
    response = answered(emulation.receive(wire, Rules(keys=frozenset({"key"}))))
    assert code_of(response) is ErrorCode.UNAUTHORIZED


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "runway/gen4_turbo"},
        {"frame_size": "848:480"},
        {"frame_size": "16:9"},
        {"expression_intensity": 6},
        {"seed": -1},
        {"body_control": "yes"},
        {"character": {"type": "image", "uri": "https://media.example/hero.png"}},
        {"reference": {"type": "image", "url": "https://media.example/act.png"}},
        {"character": {"type": "image", "url": "http://media.example/hero.png"}},
        {"character": {"type": "image", "url": "https://127.0.0.1/hero.png"}},
        {"character": {"type": "image", "url": "https://localhost/hero.png"}},
        {"character": {"type": "image", "url": "data:image/png;base64,AAAA"}},
        {"reference": {"type": "video", "url": "https://["}},
        {"reference": {"type": "video", "url": "https://"}},
    ],
)
def test_a_body_they_would_not_take_is_refused(changes: dict[str, object]) -> None:
    response = answered(emulation.receive(posted(**changes), Rules()))
    assert response.status == 400
    assert code_of(response) is ErrorCode.INVALID_REQUEST
    assert adapter.parse_failure(response).message.startswith("Body validation error ")


def test_loopback_media_pass_only_where_the_rules_allow_it() -> None:
    wire = posted(character={"type": "image", "url": "http://127.0.0.1:9/hero.png"})
    assert isinstance(emulation.receive(wire, Rules(allow_loopback_media=True)), Create)
    assert isinstance(emulation.receive(wire, Rules()), Answer)


def test_a_body_that_is_no_json_is_refused() -> None:
    wire = msgspec.structs.replace(posted(), body=b'{"model": ')
    assert answered(emulation.receive(wire, Rules())).status == 400


def test_a_poll_without_an_id_is_refused() -> None:
    wire = msgspec.structs.replace(carried(adapter.build_poll(context(ref="r1"))), query={})
    assert answered(emulation.receive(wire, Rules())).status == 400


@pytest.mark.parametrize("method", ["DELETE", "PUT"])
def test_there_is_nothing_but_create_and_poll(method: str) -> None:
    wire = msgspec.structs.replace(carried(adapter.build_poll(context(ref="r1"))), method=method)
    assert answered(emulation.receive(wire, Rules())).status == 404


def test_the_probe_asks_for_the_balance() -> None:
    assert adapter.build_probe is not None
    assert answered(emulation.receive(carried(adapter.build_probe()), Rules())).successful


def test_a_failure_without_a_known_text_is_the_providers() -> None:
    job = simulated("error", failure=SimulatedFailure(code="X", message="See https://assets.example/a.png"))
    update = normalize(SPEC, adapter.parse_poll(emulation.show_job(job)))
    assert update.error is not None
    assert update.error.code is ErrorCode.PROVIDER_ERROR
