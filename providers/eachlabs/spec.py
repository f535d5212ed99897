"""Eachlabs' tables."""

from __future__ import annotations

from providers.contract import CONTRACT_VERSION
from providers.contract.errors import ErrorCode
from providers.contract.motion import CharacterType, Ratio, Threshold
from providers.contract.spec import (
    AuthSpec,
    CallbackSpec,
    CancelSpec,
    Constant,
    FailureRule,
    MediaLimits,
    ModelSpec,
    OptionSpec,
    OutputSpec,
    ParamSpec,
    PollSpec,
    Price,
    SecretProof,
    Source,
    Spec,
    Standing,
    StatusWord,
)
from providers.contract.status import JobStatus

READ_ON = "2026-11-21"
REPOSITORY = "github.com/eachlabs/mintlify-docs"
OPENAPI = Source(f"{REPOSITORY} openapi_specs/models.json", READ_ON, Standing.SPEC)
MODEL = Source("GET /v1/model?slug=runway-act-two, request_schema", READ_ON, Standing.SPEC)
PREDICTION = Source(f"{REPOSITORY} api/predictions/get-prediction.mdx", READ_ON, Standing.DOCS)
ERRORS = Source(f"{REPOSITORY} errors.mdx", READ_ON, Standing.DOCS)
#: Said of their video engine; predictions of every model share the envelope.
CATALOG = Source(f"{REPOSITORY} video/billing-limits.mdx", READ_ON, Standing.DOCS)
EXECUTIONS = Source(f"{REPOSITORY} openapi_specs/models.json, /v1/executions", READ_ON, Standing.SPEC)
WEBHOOK = Source(f"{REPOSITORY} api/webhooks/payload-reference.mdx", READ_ON, Standing.DOCS)
WORKFLOWS = Source(f"{REPOSITORY} workflows/endpoints/get-execution.mdx", READ_ON, Standing.DOCS)
PAGE = Source("eachlabs.ai/ai-models/runway-act-two", READ_ON, Standing.DOCS)
OLDER = Source("github.com/eachlabs/docs api.yaml, and samples on model pages", READ_ON, Standing.SPEC)
INFERRED = Source("not documented; accepted on reading, never relied on", READ_ON, Standing.INFERRED)

ACT_TWO = ModelSpec(
    name="act-two",
    upstream="runway-act-two",
    character_types=(CharacterType.IMAGE, CharacterType.VIDEO),
    constants=(
        Constant(field=("model",), value="runway-act-two", source=OPENAPI),
        # The spec calls it deprecated and ignored, the prose calls it required.
        Constant(field=("version",), value="0.0.1", source=OPENAPI),
    ),
    params=(
        ParamSpec(
            option="character.type",
            field=("input", "character_type"),
            values={kind.value: kind.value for kind in CharacterType},
            source=MODEL,
        ),
        ParamSpec(option="character.url", field=("input", "character_uri"), source=MODEL),
        # There is no such field: the reference is always a video.
        ParamSpec(option="reference.type", implied="video", source=MODEL),
        ParamSpec(option="reference.url", field=("input", "reference_uri"), source=MODEL),
        ParamSpec(
            option="ratio",
            field=("input", "aspect_ratio"),
            values={ratio.value: ratio.value for ratio in Ratio},
            source=MODEL,
        ),
        ParamSpec(option="body_control", field=("input", "body_control"), implied=True, source=MODEL),
        ParamSpec(
            option="expression_intensity",
            field=("input", "expression_intensity"),
            minimum=1,
            maximum=5,
            implied=3,
            source=MODEL,
        ),
        # They give no range; this is Runway's, which stands behind them.
        ParamSpec(option="seed", field=("input", "seed"), minimum=0, maximum=2**32 - 1, source=INFERRED),
        # Laxer than Runway's own `auto` when left out, so it is always sent.
        ParamSpec(
            option="content_moderation.public_figure_threshold",
            field=("input", "public_figure_moderation"),
            values={threshold.value: threshold.value for threshold in Threshold},
            implied=Threshold.LOW.value,
            source=MODEL,
        ),
    ),
    reference_min_s=3.0,
    reference_max_s=30.0,
    # Their own limits are 50 MB (playground) and 100 MB (storage); whether they host inputs anew for
    # Runway, which takes these sizes from a URL, is unknown.
    media=MediaLimits(image_max_bytes=16_000_000, video_max_bytes=32_000_000, source=INFERRED),
    price=Price(micro_usd_per_s=50_000, source=PAGE),
    typical_run_s=200.0,
    source=PAGE,
)


def _rows(code: ErrorCode, source: Source, *provider_codes: str) -> tuple[FailureRule, ...]:
    return tuple(FailureRule(code=code, provider_code=theirs, source=source) for theirs in provider_codes)


FAILURES = (
    # A class of its own, whatever the error code beside it says; `SAFETY.` is how Runway names it.
    *_rows(ErrorCode.CONTENT_REJECTED, EXECUTIONS, "content_moderation"),
    *_rows(ErrorCode.CONTENT_REJECTED, INFERRED, "CONTENT_MODERATION", "SAFETY."),
    # Without that class only the text tells; confined to codes under which Runway's words are passed on.
    *(
        FailureRule(
            code=ErrorCode.CONTENT_REJECTED,
            provider_code=theirs,
            message_contains="moderation",
            source=INFERRED,
        )
        for theirs in ("PROVIDER_FAILED", "PROVIDER_REJECTED", "PROVIDER_BAD_REQUEST")
    ),
    # `error_code`, then `classification.category`, then the classes that /v1/executions filters by.
    *_rows(ErrorCode.RATE_LIMITED, CATALOG, "PROVIDER_RATE_LIMIT", "RATE_LIMIT"),
    *_rows(ErrorCode.RATE_LIMITED, EXECUTIONS, "provider_rate_limit"),
    *_rows(ErrorCode.PROVIDER_UNAVAILABLE, CATALOG, "PROVIDER_SERVER_ERROR", "NETWORK_ERROR", "NETWORK"),
    *_rows(ErrorCode.PROVIDER_UNAVAILABLE, EXECUTIONS, "provider_unavailable"),
    *_rows(ErrorCode.TIMEOUT, CATALOG, "EXECUTION_TIMEOUT", "TIMEOUT"),
    *_rows(ErrorCode.TIMEOUT, EXECUTIONS, "execution_timeout"),
    # The key that was refused is theirs with Runway, not ours with them.
    *_rows(ErrorCode.PROVIDER_ERROR, CATALOG, "PROVIDER_AUTH_ERROR", "AUTH"),
    *_rows(ErrorCode.PROVIDER_ERROR, EXECUTIONS, "provider_auth", "invalid_model_config"),
    *_rows(ErrorCode.PROVIDER_ERROR, CATALOG, "PROVIDER_FAILED", "PROVIDER", "INTERNAL", "UNKNOWN"),
    *_rows(ErrorCode.PROVIDER_ERROR, EXECUTIONS, "provider_error", "internal_error", "unknown"),
    # `true` marks a failure that depends on load and not on the request, whichever code it bears.
    FailureRule(code=ErrorCode.PROVIDER_UNAVAILABLE, transient=True, source=CATALOG),
    *_rows(ErrorCode.INVALID_MEDIA, CATALOG, "INPUT_DOWNLOAD_ERROR", "PROVIDER_REJECTED"),
    *_rows(
        ErrorCode.INVALID_REQUEST, CATALOG, "INPUT_VALIDATION_ERROR", "PROVIDER_BAD_REQUEST", "VALIDATION"
    ),
    *_rows(ErrorCode.INVALID_REQUEST, EXECUTIONS, "invalid_user_input"),
    # Both media fields end in `_uri`, no other field does.
    FailureRule(code=ErrorCode.INVALID_MEDIA, http_status=400, message_contains="_uri", source=INFERRED),
    FailureRule(code=ErrorCode.INVALID_MEDIA, http_status=422, message_contains="_uri", source=INFERRED),
    # They stopped selling the model: not the caller's mistake.
    FailureRule(
        code=ErrorCode.PROVIDER_ERROR, http_status=404, message_contains="model not found", source=ERRORS
    ),
    FailureRule(code=ErrorCode.PROVIDER_UNAVAILABLE, http_status=500, source=ERRORS),
)

SPEC = Spec(
    name="eachlabs",
    title="Eachlabs",
    contract_version=CONTRACT_VERSION,
    base_url="https://api.eachlabs.ai",
    base_url_env="EACHLABS_BASE_URL",
    key_env="EACHLABS_API_KEY",
    auth=AuthSpec("Authorization", "Bearer ", OPENAPI),
    auth_choices={"x-api-key": AuthSpec("X-API-Key", "", OLDER)},
    options=(
        OptionSpec(
            name="auth",
            values=("bearer", "x-api-key"),
            meaning="how the key is sent: `Authorization: Bearer`, or `X-API-Key` as before July 2026",
            source=OPENAPI,
        ),
    ),
    models=(ACT_TWO,),
    statuses=(
        # Also what a prediction shows for long while a cap of theirs holds it back.
        StatusWord("created", JobStatus.QUEUED, PREDICTION),
        StatusWord("starting", JobStatus.QUEUED, PREDICTION),
        StatusWord("processing", JobStatus.RUNNING, PREDICTION),
        StatusWord("running", JobStatus.RUNNING, WORKFLOWS),
        StatusWord("success", JobStatus.SUCCEEDED, PREDICTION),
        StatusWord("succeeded", JobStatus.SUCCEEDED, WEBHOOK),
        StatusWord("completed", JobStatus.SUCCEEDED, WORKFLOWS),
        # Also the `ERROR` of the failure envelope.
        StatusWord("error", JobStatus.FAILED, PREDICTION),
        StatusWord("failed", JobStatus.FAILED, OPENAPI),
        StatusWord("cancelled", JobStatus.CANCELLED, PREDICTION),
        StatusWord("canceled", JobStatus.CANCELLED, INFERRED),
    ),
    failures=FAILURES,
    poll=PollSpec(
        first_s=5.0,
        interval_s=5.0,
        later_s=15.0,
        later_after_s=120.0,
        slow_s=15.0,
        floor_s=3.0,
        jitter=0.2,
        source=CATALOG,
    ),
    output=OutputSpec(life_s=24 * 3600, renewable=False, source=CATALOG),
    # It closes their record at once; the run behind it may go on, and may still be shown as a success.
    cancel=CancelSpec(stops=False, destroys_output=False, ref_gone=False, source=OPENAPI),
    # Verbatim: it is no signature, whatever the specification's "used to sign" may promise. Their overview
    # says that only workflows call back as yet.
    callback=CallbackSpec(proof=SecretProof(header="x-webhook-secret"), source=WEBHOOK),
    longest_run_s=6 * 3600,
    source=OPENAPI,
)
