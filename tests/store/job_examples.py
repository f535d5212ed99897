"""Jobs, attempts and a made-up provider, for tests of the rooms that work on them."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from gateway.jobs.job import Attempt, AttemptState, Job, JobRequest, JobState, JobWebhook, RoutingWish
from gateway.storage.callbacks import CallbackRow
from gateway.webhooks.events import EventType
from providers.contract.adapter import Adapter, CallContext
from providers.contract.exchange import HttpRequest, HttpResponse
from providers.contract.mapping import build_body
from providers.contract.motion import OPTIONS, Character, CharacterType, MotionRequest, Reference
from providers.contract.reading import read_object, read_object_if_any, ref_at, status_at, text_at
from providers.contract.report import Cost, Failure, Observation, Submitted
from providers.contract.spec import (
    AuthSpec,
    CancelSpec,
    MediaLimits,
    ModelSpec,
    OutputSpec,
    ParamSpec,
    PollSpec,
    Price,
    Source,
    Spec,
    Standing,
    StatusWord,
)
from providers.contract.status import JobStatus

NOW_MS = 1_800_000_000_000
DEADLINE_S = 600
EVERY_EVENT = tuple(event.value for event in EventType)
OUTPUT_URL = "https://cdn.example/film.mp4"
SOURCE = Source("made up for a test", "2026-11-21", Standing.INFERRED)

POLL = PollSpec(
    first_s=5, interval_s=10, later_s=30, later_after_s=300, slow_s=60, floor_s=2, jitter=0, source=SOURCE
)
CANCEL = CancelSpec(stops=True, destroys_output=False, ref_gone=False, source=SOURCE)


def a_model(name: str = "act-two", **changes: Any) -> ModelSpec:
    """A model whose table conveys every option."""
    params = tuple(ParamSpec(option=path, field=tuple(path.split(".")), source=SOURCE) for path in OPTIONS)
    model = ModelSpec(
        name=name,
        upstream=f"vendor/{name}",
        character_types=tuple(CharacterType),
        params=params,
        constants=(),
        reference_min_s=3,
        reference_max_s=30,
        media=MediaLimits(image_max_bytes=None, video_max_bytes=None, source=SOURCE),
        price=Price(micro_usd_per_s=50_000, source=SOURCE),
        typical_run_s=60,
        source=SOURCE,
    )
    return replace(model, **changes)


def a_spec(name: str = "acme", **changes: Any) -> Spec:
    """A provider whose words are ours in upper case."""
    spec = Spec(
        name=name,
        title=name.title(),
        contract_version=1,
        base_url=f"https://api.{name}.example",
        base_url_env=f"{name.upper()}_BASE_URL",
        key_env=f"{name.upper()}_API_KEY",
        auth=AuthSpec("Authorization", "Bearer ", SOURCE),
        models=(a_model(),),
        statuses=tuple(StatusWord(status.value.upper(), status, SOURCE) for status in JobStatus),
        failures=(),
        poll=POLL,
        output=OutputSpec(life_s=3600, renewable=False, source=SOURCE),
        cancel=CANCEL,
        longest_run_s=3600,
        source=SOURCE,
    )
    return replace(spec, **changes)


def an_adapter(spec: Spec | None = None) -> Adapter:
    """Speaks JSON: POST /jobs, GET and DELETE /jobs/{ref}."""
    spec = spec or a_spec()
    return Adapter(
        spec=spec,
        build_submit=_build_submit,
        parse_submit=lambda reply: Submitted(ref=ref_at(read_object(reply), "id")),
        build_poll=lambda context: HttpRequest(method="GET", path=("jobs", context.ref)),
        parse_poll=_parse_poll,
        parse_failure=_parse_failure,
        build_cancel=None if spec.cancel is None else _build_cancel,
    )


def _build_submit(request: MotionRequest, context: CallContext) -> HttpRequest:
    headers = (("X-Client-Id", context.attempt_id),)
    body = build_body(context.model, request)
    return HttpRequest(method="POST", path=("jobs",), headers=headers, json=body, paid=True)


def _build_cancel(context: CallContext) -> HttpRequest:
    return HttpRequest(method="DELETE", path=("jobs", context.ref))


def _parse_poll(reply: HttpResponse) -> Observation:
    document = read_object(reply)
    url = text_at(document, "url")
    micro_usd, progress = document.get("micro_usd"), document.get("progress")
    return Observation(
        status=status_at(document, "status"),
        outputs=() if url is None else (url,),
        progress=progress if isinstance(progress, float) else None,
        cost=Cost(micro_usd=micro_usd) if isinstance(micro_usd, int) else None,
    )


def _parse_failure(reply: HttpResponse) -> Failure:
    document = read_object_if_any(reply)
    return Failure(code=text_at(document, "code"), message=text_at(document, "message") or "")


def a_request(**changes: Any) -> JobRequest:
    """A request with every default filled in and no webhook."""
    request = JobRequest(
        character=Character(type=CharacterType.IMAGE, url="https://media.example/face.png"),
        reference=Reference(url="https://media.example/dance.mp4"),
        deadline_s=DEADLINE_S,
    )
    return replace(request, **changes)


def a_webhook(*events: str) -> JobWebhook:
    """A receiver of these events, or of all."""
    return JobWebhook(url="https://receiver.example/hook", events=events or EVERY_EVENT)


def wishing(*providers: str, exclude: tuple[str, ...] = ()) -> JobRequest:
    """A request with a routing wish."""
    return a_request(routing=RoutingWish(providers=providers, exclude=exclude))


def a_state(**changes: Any) -> JobState:
    """The state of a job just accepted."""
    return replace(JobState(deadline_at_ms=NOW_MS + DEADLINE_S * 1000), **changes)


def a_job(number: int = 1, *, request: JobRequest | None = None, **state: Any) -> Job:
    """A job accepted at NOW_MS, with changes to its state."""
    return Job(
        id=f"job_{number:032x}",
        owner="alice",
        created_at_ms=NOW_MS,
        request=request or a_request(),
        metadata={},
        state=a_state(**state),
        sequence=1,
    )


def an_attempt(
    state: AttemptState = AttemptState.SUBMITTING, number: int = 1, job: Job | None = None, **changes: Any
) -> Attempt:
    """An attempt at the made-up provider; one that was accepted has a ref."""
    known = state not in {AttemptState.SUBMITTING, AttemptState.UNKNOWN, AttemptState.REFUSED}
    attempt = Attempt(
        id=f"att_{number:032x}",
        job_id=(job or a_job()).id,
        number=number,
        provider="acme",
        account="default",
        state=state,
        ref=f"ref-{number}" if known else None,
        started_at_ms=NOW_MS,
        accepted_at_ms=NOW_MS if known else None,
    )
    return replace(attempt, **changes)


def reply(status: int = 200, document: object = None, **headers: str) -> HttpResponse:
    """A provider's answer."""
    body = b"" if document is None else msgspec.json.encode(document)
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status=status, headers=fields, body=body)


def a_callback(attempt_id: str, ref: str, *, at_ms: int) -> CallbackRow:
    """What a provider posted about an attempt, and what led to nothing."""
    body = f'{{"ref":"{ref}"}}'
    return CallbackRow(
        attempt_id=attempt_id, digest=ref, ref=ref, received_at_ms=at_ms, body=body, due_at_ms=None
    )
