"""What a client may send, by type and range; unknown fields are refused. What it means is in `semantics`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.jobs.job import Policy, Priority, UnknownPolicy
from gateway.jobs.view import JobView
from gateway.service.deliveries import DeliveryView
from gateway.service.endpoints import EndpointView
from gateway.service.plans import UnavailableView
from providers.contract.motion import CharacterType, Threshold

Url = Annotated[str, Meta(min_length=1, max_length=2048, description="An https URL with a host name.")]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
RatioWord = Literal[
    "1280:720", "720:1280", "960:960", "1104:832", "832:1104", "1584:672",
    "16:9", "9:16", "1:1", "4:3", "3:4", "21:9",
]  # fmt: skip
Description = Annotated[str, Meta(max_length=200, description="For people.")] | None
EventWord = Literal["job.succeeded", "job.failed", "job.cancelled", "job.running", "job.progress", "job.held"]

UNKNOWN_POLICY = (
    "What happens when nobody can tell whether the paid submission was made; from the settings when left out."
    " `hold`: the job waits, and goes on once its run is found, where the provider can be searched for it;"
    " else an operator decides, or it fails when the hold ends. `fail`: it fails at once. `resubmit`: it is"
    " searched for once where that is possible, and else submitted again, once at most, at the risk of paying"
    " twice: a run may be shown only when it has ended."
)
POLICY = (
    "How candidates are ordered. `priority`: as in `providers`, else as the gateway prefers. `cheapest`: by"
    " estimated cost. `fastest`: by measured run times, declared ones where too few are measured. `weighted`:"
    " at random, by the accounts' weights. When left out: `priority` where `providers` are given, else the"
    " key's, else the gateway's."
)
FAILOVER = (
    "Whether another candidate may be tried: where nothing was made, for certain, or the provider says that"
    " its run failed and that is not billed, or fits `max_cost_usd`. Never while a submission's outcome is"
    " unknown, nor for rejected content, media or requests. From the settings when left out."
)
MAX_COST = (
    "What all runs of the job together may cost, USD, by estimates and by what providers report. Without it a"
    " failed run that may be billed is followed by no other."
)


class _Body(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class CreateCharacter(_Body, frozen=True, kw_only=True):
    """Who performs."""

    type: CharacterType
    url: Url


class CreateReference(_Body, frozen=True, kw_only=True):
    """The performance to follow."""

    type: Literal["video"]
    url: Url
    duration_s: (
        Annotated[float, Meta(ge=3, le=30, description="Seconds; used for the cost estimate.")] | UnsetType
    ) = UNSET


class CreateModeration(_Body, frozen=True, kw_only=True):
    """How the provider is to moderate."""

    public_figure_threshold: Threshold = Threshold.AUTO


class CreateRouting(_Body, frozen=True, kw_only=True):
    """Where the job may run."""

    providers: Annotated[
        tuple[Name, ...],
        Meta(max_length=16, description="Only these; in this order, unless `policy` says otherwise."),
    ] = ()
    exclude: Annotated[tuple[Name, ...], Meta(max_length=16)] = ()
    policy: Annotated[Policy, Meta(description=POLICY)] | UnsetType = UNSET
    failover: Annotated[bool, Meta(description=FAILOVER)] | UnsetType = UNSET
    max_cost_usd: Annotated[float, Meta(gt=0, le=10_000, description=MAX_COST)] | UnsetType = UNSET


class CreateWebhook(_Body, frozen=True, kw_only=True):
    """Whom to tell when something happens to the job."""

    url: Url
    events: Annotated[tuple[EventWord, ...], Meta(min_length=1, max_length=6)] | UnsetType = UNSET
    secret: (
        Annotated[str, Meta(max_length=128, description="`whsec_` and base64 of 24 to 64 bytes.")] | UnsetType
    ) = UNSET


class CreateJob(_Body, frozen=True, kw_only=True):
    """A motion transfer to be done."""

    character: CreateCharacter
    reference: CreateReference
    ratio: RatioWord = "1280:720"
    body_control: bool = True
    expression_intensity: Annotated[int, Meta(ge=1, le=5)] = 3
    seed: Annotated[int, Meta(ge=0, le=4_294_967_295)] | UnsetType = UNSET
    content_moderation: CreateModeration = CreateModeration()
    model: Name = "act-two"
    routing: CreateRouting = CreateRouting()
    webhook: CreateWebhook | UnsetType = UNSET
    deadline_s: Annotated[int, Meta(ge=60, le=86_400)] | UnsetType = UNSET
    priority: Annotated[Priority, Meta(description="Which of an owner's waiting jobs goes first.")] = "normal"
    on_unknown_submission: Annotated[UnknownPolicy, Meta(description=UNKNOWN_POLICY)] | UnsetType = UNSET
    metadata: Annotated[
        dict[
            Annotated[str, Meta(min_length=1, max_length=64)],
            Annotated[str, Meta(max_length=512)],
        ],
        Meta(max_length=16),
    ] = {}


class ResolveJob(_Body, frozen=True, kw_only=True):
    """An operator's word on a held job."""

    action: Annotated[
        Literal["adopt", "resubmit", "fail"],
        Meta(
            description="`adopt`: go on with the run that `provider_ref` names. `resubmit`: submit again; if"
            " the first submission was made after all, both may be billed. `fail`: give the job up."
        ),
    ]
    provider_ref: (
        Annotated[
            str, Meta(min_length=1, max_length=512, description="The provider's id of the run; for adopt.")
        ]
        | UnsetType
    ) = UNSET
    attempt: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=64,
                description="The id of the attempt that this is about. With it, a job that was submitted"
                " again since you looked is left alone (409).",
            ),
        ]
        | UnsetType
    ) = UNSET


class CreateEndpoint(_Body, frozen=True, kw_only=True):
    """A receiver that is to hear of all its owner's jobs."""

    url: Url
    events: Annotated[tuple[EventWord, ...], Meta(min_length=1, max_length=6)] | UnsetType = UNSET
    description: Description = None
    signing: Annotated[
        Literal["hmac", "ed25519"],
        Meta(
            description="`hmac`: a shared secret, shown once (signatures `v1`). `ed25519`: a pair, whose"
            " public half is shown (signatures `v1a`)."
        ),
    ] = "hmac"


class ChangeEndpoint(_Body, frozen=True, kw_only=True):
    """What is to change; the rest stays."""

    url: Url | UnsetType = UNSET
    events: Annotated[tuple[EventWord, ...], Meta(min_length=1, max_length=6)] | UnsetType = UNSET
    description: Description | UnsetType = UNSET


Instant = Annotated[
    str,
    Meta(min_length=1, max_length=64, description="RFC 3339 with a zone, such as 2026-01-31T08:00:00Z."),
]


class RecoverEndpoint(_Body, frozen=True, kw_only=True):
    """From when on an endpoint is to get what it did not get."""

    since: Instant


class EndpointPage(Struct, frozen=True, kw_only=True):
    """Some endpoints, newest first."""

    endpoints: list[EndpointView]
    next_cursor: str | None
    """null on the last page."""


class DeliveryPage(Struct, frozen=True, kw_only=True):
    """Some deliveries, newest first, each with its tries."""

    deliveries: list[DeliveryView]
    next_cursor: str | None
    """null on the last page."""


class JobPage(Struct, frozen=True, kw_only=True):
    """Jobs, newest first."""

    jobs: list[JobView]
    next_cursor: str | None
    """Give it as `cursor` for the jobs after these; null at the end."""


class ModelView(Struct, frozen=True, kw_only=True):
    """A model at a provider, and what it can be told."""

    name: str
    upstream: str
    character_types: list[str]
    reference_min_s: float
    reference_max_s: float
    options: dict[str, OptionView]
    price_usd_per_s: float
    minimum_usd: float
    typical_run_s: float


class OptionView(Struct, frozen=True, kw_only=True):
    """One option: its values where they form a closed set, its range where it is a number."""

    values: list[str] | None
    minimum: int | None
    maximum: int | None


class AccountView(Struct, frozen=True, kw_only=True):
    """A credential at the provider."""

    name: str
    simulated: bool
    slots_in_use: int
    """Runs there that have not ended, over all processes."""
    slots_limit: int | None
    """null: no limit."""
    unavailable: UnavailableView | None
    """null: it can take a job now."""


class ProviderView(Struct, frozen=True, kw_only=True):
    """A provider this gateway knows."""

    name: str
    title: str
    enabled: bool
    """Whether it has an account and so can be chosen."""
    models: list[ModelView]
    accounts: list[AccountView]
    cancel: Literal["stops", "detaches", "none"]
    """What cancelling does there: end the run, only stop following it, or nothing at all."""
    output_life_s: int


class ProvidersView(Struct, frozen=True, kw_only=True):
    """Every provider installed."""

    providers: list[ProviderView]


class CallbackTaken(Struct, frozen=True, kw_only=True):
    """The callback is stored, now or before."""

    taken: bool


class HealthView(Struct, frozen=True, kw_only=True):
    """Whether the gateway can work."""

    status: Literal["ok", "unavailable"]
    reason: str | None
