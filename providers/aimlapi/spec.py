"""AI/ML API's tables."""

from __future__ import annotations

from providers.contract import CONTRACT_VERSION
from providers.contract.errors import ErrorCode
from providers.contract.motion import CharacterType, Ratio, Threshold
from providers.contract.spec import (
    AuthSpec,
    BillingSpec,
    Constant,
    FailureRule,
    MediaLimits,
    ModelSpec,
    OptionSpec,
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

OPENAPI = Source("github.com/aimlapi/api-docs video-models/runway/act_two.json", "2026-11-21", Standing.SPEC)
PAGE = Source("docs.aimlapi.com, page of runway/act_two", "2026-11-21", Standing.DOCS)
SAMPLES = Source("code samples and captured replies of docs.aimlapi.com", "2026-11-21", Standing.CAPTURED)
ERRORS = Source("docs.aimlapi.com, errors and messages", "2026-11-21", Standing.DOCS)
LOGS = Source(
    "github.com/aimlapi/api-docs service-endpoints/logs-v2.json and usage-logs.md",
    "2026-11-21",
    Standing.SPEC,
)
RUNWAY_BEHIND = Source(
    "not documented; the limits and habits of Runway, which runs the model behind it",
    "2026-11-21",
    Standing.INFERRED,
)
INFERRED = Source("not documented; accepted on reading, never relied on", "2026-11-21", Standing.INFERRED)
PRICING = Source("docs.aimlapi.com, pricing", "2026-11-21", Standing.DOCS)
RESELLERS = Source("price lists that quote the model per second", "2026-11-21", Standing.THIRD_PARTY)

#: What the option `api_path` chooses between; creates and polls share a path.
PATHS: dict[str, tuple[str, ...]] = {
    "current": ("v2", "video", "generations"),
    "legacy": ("v2", "generate", "video", "runway", "generation"),
}

#: $1 = 2,000,000 credits (docs.aimlapi.com, pricing): half a micro-USD each, too fine for the contract's
#: `micro_usd_per_credit`, so `wire` prices what it reads.
CREDITS_PER_MICRO_USD = 2

ACT_TWO = ModelSpec(
    name="act-two",
    upstream="runway/act_two",
    character_types=(CharacterType.IMAGE, CharacterType.VIDEO),
    constants=(Constant(field=("model",), value="runway/act_two", source=OPENAPI),),
    params=(
        ParamSpec(
            option="character.type",
            field=("character", "type"),
            values={kind.value: kind.value for kind in CharacterType},
            source=OPENAPI,
        ),
        # `url`, where Runway itself says `uri`; the length is Runway's, theirs is not documented.
        ParamSpec(option="character.url", field=("character", "url"), max_length=2048, source=OPENAPI),
        ParamSpec(
            option="reference.type", field=("reference", "type"), values={"video": "video"}, source=OPENAPI
        ),
        ParamSpec(option="reference.url", field=("reference", "url"), max_length=2048, source=OPENAPI),
        # Their schema also lists 848:480 and 640:480, which Runway behind them does not know.
        ParamSpec(
            option="ratio",
            field=("frame_size",),
            values={ratio.value: ratio.value for ratio in Ratio},
            implied=Ratio.LANDSCAPE.value,
            source=OPENAPI,
        ),
        ParamSpec(option="body_control", field=("body_control",), source=OPENAPI),
        ParamSpec(
            option="expression_intensity",
            field=("expression_intensity",),
            minimum=1,
            maximum=5,
            implied=3,
            source=OPENAPI,
        ),
        ParamSpec(option="seed", field=("seed",), minimum=0, maximum=2**32 - 1, source=OPENAPI),
        # No such field: `auto` is conveyed by silence, `low` not at all.
        ParamSpec(
            option="content_moderation.public_figure_threshold",
            implied=Threshold.AUTO.value,
            source=RUNWAY_BEHIND,
        ),
    ),
    reference_min_s=3.0,
    reference_max_s=30.0,
    media=MediaLimits(image_max_bytes=16_000_000, video_max_bytes=32_000_000, source=RUNWAY_BEHIND),
    price=Price(micro_usd_per_s=65_000, source=RESELLERS),
    # Their page says 45 s and rarely over a minute; others report 45 to 200 s for the same model.
    typical_run_s=60.0,
    source=OPENAPI,
)

SPEC = Spec(
    name="aimlapi",
    title="AI/ML API",
    contract_version=CONTRACT_VERSION,
    base_url="https://api.aimlapi.com",
    base_url_env="AIMLAPI_BASE_URL",
    key_env="AIMLAPI_KEY",
    auth=AuthSpec("Authorization", "Bearer ", OPENAPI),
    options=(
        OptionSpec(
            name="api_path",
            values=tuple(PATHS),
            meaning="the path of create and poll: one for every video model, or Runway's of 2025",
            source=SAMPLES,
        ),
    ),
    models=(ACT_TWO,),
    statuses=(
        StatusWord("queued", JobStatus.QUEUED, OPENAPI),
        StatusWord("waiting", JobStatus.QUEUED, SAMPLES),
        StatusWord("generating", JobStatus.RUNNING, OPENAPI),
        StatusWord("active", JobStatus.RUNNING, SAMPLES),
        StatusWord("completed", JobStatus.SUCCEEDED, OPENAPI),
        StatusWord("complete", JobStatus.SUCCEEDED, PAGE),
        StatusWord("error", JobStatus.FAILED, OPENAPI),
        StatusWord("failed", JobStatus.FAILED, INFERRED),
    ),
    # The documented HTTP statuses come first, so that no text decides against them; the texts after them
    # are for a 400 and for the `error` of a generation, which has no codes.
    failures=(
        FailureRule(code=ErrorCode.UNAUTHORIZED, http_status=401, source=ERRORS),
        # "You've run out of credits": their 403 is an empty balance, not a forbidden key.
        FailureRule(code=ErrorCode.INSUFFICIENT_FUNDS, http_status=403, source=ERRORS),
        FailureRule(code=ErrorCode.RATE_LIMITED, http_status=429, source=ERRORS),
        FailureRule(code=ErrorCode.PROVIDER_ERROR, http_status=500, source=ERRORS),
        FailureRule(code=ErrorCode.PROVIDER_UNAVAILABLE, http_status=502, source=ERRORS),
        FailureRule(code=ErrorCode.PROVIDER_UNAVAILABLE, http_status=503, source=ERRORS),
        # "Generation timeout".
        FailureRule(code=ErrorCode.TIMEOUT, http_status=504, source=ERRORS),
        # A doubtful text counts as a rejection: repeated hits can cost the account.
        FailureRule(code=ErrorCode.CONTENT_REJECTED, message_contains="moderation", source=RUNWAY_BEHIND),
        FailureRule(code=ErrorCode.CONTENT_REJECTED, message_contains="safety", source=RUNWAY_BEHIND),
        FailureRule(code=ErrorCode.INVALID_MEDIA, message_contains="detect face", source=SAMPLES),
        FailureRule(code=ErrorCode.INVALID_MEDIA, message_contains="invalid asset", source=RUNWAY_BEHIND),
    ),
    poll=PollSpec(
        first_s=10.0,
        interval_s=10.0,
        later_s=15.0,
        later_after_s=60.0,
        slow_s=15.0,
        floor_s=5.0,
        jitter=0.2,
        source=SAMPLES,
    ),
    # The URL is Runway's signed one behind a proxy; whether another poll renews it is not documented.
    output=OutputSpec(life_s=24 * 3600, renewable=False, source=RUNWAY_BEHIND),
    cancel=None,
    longest_run_s=6 * 3600,
    # Charged after completion.
    billing=BillingSpec(failures_free=True, source=PRICING),
    source=OPENAPI,
)
