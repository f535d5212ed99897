"""Runway's tables."""

from __future__ import annotations

from providers.contract import CONTRACT_VERSION
from providers.contract.errors import ErrorCode
from providers.contract.motion import CharacterType, Ratio, Threshold
from providers.contract.spec import (
    AuthSpec,
    CancelSpec,
    Constant,
    FailureRule,
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

OPENAPI = Source("github.com/runwayml/openapi openapi.json", "2026-11-21", Standing.SPEC)
DOCS = Source("docs.dev.runwayml.com", "2026-11-21", Standing.DOCS)
ERRORS = Source("docs.dev.runwayml.com/errors", "2026-11-21", Standing.DOCS)
TROUBLESHOOTING = Source("docs.dev.runwayml.com/errors/troubleshooting", "2026-11-21", Standing.DOCS)
CAPTURED = Source(
    "replies captured in public code that runs against the API", "2026-11-21", Standing.CAPTURED
)
INFERRED = Source("not documented; accepted on reading, never relied on", "2026-11-21", Standing.INFERRED)

VERSION_HEADER = ("X-Runway-Version", "2024-11-06")

ACT_TWO = ModelSpec(
    name="act-two",
    upstream="act_two",
    character_types=(CharacterType.IMAGE, CharacterType.VIDEO),
    constants=(Constant(field=("model",), value="act_two", source=OPENAPI),),
    params=(
        ParamSpec(
            option="character.type",
            field=("character", "type"),
            values={kind.value: kind.value for kind in CharacterType},
            source=OPENAPI,
        ),
        ParamSpec(option="character.url", field=("character", "uri"), max_length=2048, source=OPENAPI),
        ParamSpec(
            option="reference.type", field=("reference", "type"), values={"video": "video"}, source=OPENAPI
        ),
        ParamSpec(option="reference.url", field=("reference", "uri"), max_length=2048, source=OPENAPI),
        ParamSpec(
            option="ratio",
            field=("ratio",),
            values={ratio.value: ratio.value for ratio in Ratio},
            source=OPENAPI,
        ),
        ParamSpec(option="body_control", field=("bodyControl",), source=OPENAPI),
        ParamSpec(
            option="expression_intensity",
            field=("expressionIntensity",),
            minimum=1,
            maximum=5,
            implied=3,
            source=OPENAPI,
        ),
        ParamSpec(option="seed", field=("seed",), minimum=0, maximum=2**32 - 1, source=OPENAPI),
        ParamSpec(
            option="content_moderation.public_figure_threshold",
            field=("contentModeration", "publicFigureThreshold"),
            values={threshold.value: threshold.value for threshold in Threshold},
            implied=Threshold.AUTO.value,
            source=OPENAPI,
        ),
    ),
    reference_min_s=3.0,
    reference_max_s=30.0,
    media=MediaLimits(image_max_bytes=16_000_000, video_max_bytes=32_000_000, source=DOCS),
    # 5 credits a second at $0.01 a credit; the floor of 15 credits was reported at launch.
    price=Price(micro_usd_per_s=50_000, minimum_micro_usd=150_000, source=DOCS),
    typical_run_s=60.0,
    source=OPENAPI,
)

SPEC = Spec(
    name="runway",
    title="Runway",
    contract_version=CONTRACT_VERSION,
    base_url="https://api.dev.runwayml.com",
    base_url_env="RUNWAYML_BASE_URL",
    key_env="RUNWAYML_API_SECRET",
    auth=AuthSpec("Authorization", "Bearer ", OPENAPI),
    fixed_headers=(VERSION_HEADER,),
    models=(ACT_TWO,),
    statuses=(
        StatusWord("PENDING", JobStatus.QUEUED, OPENAPI),
        # Queued by our own concurrency tier, not an error; it runs later.
        StatusWord("THROTTLED", JobStatus.QUEUED, OPENAPI, slow=True),
        StatusWord("RUNNING", JobStatus.RUNNING, OPENAPI),
        StatusWord("SUCCEEDED", JobStatus.SUCCEEDED, OPENAPI),
        StatusWord("FAILED", JobStatus.FAILED, OPENAPI),
        StatusWord("CANCELLED", JobStatus.CANCELLED, OPENAPI),
        StatusWord("CANCELED", JobStatus.CANCELLED, INFERRED),
    ),
    failures=(
        FailureRule(code=ErrorCode.CONTENT_REJECTED, provider_code="SAFETY.", source=ERRORS),
        FailureRule(
            code=ErrorCode.CONTENT_REJECTED, provider_code="INPUT_PREPROCESSING.SAFETY.", source=ERRORS
        ),
        FailureRule(
            code=ErrorCode.PROVIDER_ERROR, provider_code="INPUT_PREPROCESSING.INTERNAL", source=ERRORS
        ),
        FailureRule(code=ErrorCode.INVALID_MEDIA, provider_code="ASSET.", source=ERRORS),
        FailureRule(code=ErrorCode.PROVIDER_UNAVAILABLE, provider_code="THIRD_PARTY.", source=ERRORS),
        FailureRule(code=ErrorCode.PROVIDER_ERROR, provider_code="INTERNAL.", source=ERRORS),
        # Out of credits is a 400 that only its text tells from a bad request.
        FailureRule(
            code=ErrorCode.INSUFFICIENT_FUNDS,
            http_status=400,
            message_contains="enough credits",
            source=CAPTURED,
        ),
        # A refused asset is a 400 too, told by its reason; the page lists these, not as a closed set.
        *(
            FailureRule(
                code=ErrorCode.INVALID_MEDIA, http_status=400, message_contains=reason, source=TROUBLESHOOTING
            )
            for reason in ("asset", "invalid URL", "HTTPS URLs", "hosted on a domain", "invalid data URI")
        ),
        # Whatever the reason says: an issue with a field that is nothing but media is about the media.
        FailureRule(
            code=ErrorCode.INVALID_MEDIA, http_status=400, message_contains=".uri: ", source=INFERRED
        ),
    ),
    poll=PollSpec(
        first_s=6.0,
        interval_s=6.0,
        later_s=15.0,
        later_after_s=300.0,
        slow_s=20.0,
        floor_s=5.0,
        jitter=0.25,
        source=DOCS,
    ),
    output=OutputSpec(life_s=24 * 3600, renewable=True, source=DOCS),
    cancel=CancelSpec(stops=True, destroys_output=True, ref_gone=True, source=OPENAPI),
    # Create fetches and measures the assets before the task exists.
    submit_timeout_s=60.0,
    longest_run_s=6 * 3600,
    micro_usd_per_credit=10_000,
    source=OPENAPI,
)
