"""The declared half of an adapter: tables, each entry with its source.

All durations are seconds, sizes bytes, money integer micro-USD (1 USD = 1,000,000).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

from msgspec import Struct

from providers.contract.errors import ErrorCode
from providers.contract.motion import CharacterType
from providers.contract.status import JobStatus

Scalar = str | int | bool


class Standing(StrEnum):
    """How much a source can be trusted."""

    SPEC = "spec"
    """A published machine-readable specification, or an SDK generated from one."""
    DOCS = "docs"
    """The provider's own prose."""
    CAPTURED = "captured"
    """Seen in captured output, or in code that runs against the provider."""
    THIRD_PARTY = "third_party"
    INFERRED = "inferred"
    """Our own conclusion; accepted for safety, never relied on."""


class Source(Struct, frozen=True):
    """Where a fact was read, and when."""

    where: str
    read_on: str
    """ISO date."""
    standing: Standing


class StatusWord(Struct, frozen=True):
    """One status word of the provider, compared without regard to case."""

    word: str
    means: JobStatus
    source: Source
    slow: bool = False
    """Whether the provider itself holds the job back, so that asking often is pointless."""


class FailureRule(Struct, frozen=True, kw_only=True):
    """One row of the failure table; every condition given must hold, and the first matching row decides."""

    code: ErrorCode
    source: Source
    provider_code: str | None = None
    """Equal to the provider's code, or a prefix of it when it ends in a dot."""
    http_status: int | None = None
    message_contains: str | None = None
    """Compared without regard to case."""
    transient: bool = False
    """True: only a failure that the provider itself calls transient."""


class ParamSpec(Struct, frozen=True, kw_only=True):
    """How one option of ours is conveyed.

    A value that cannot be conveyed makes the provider unfit for the request; nothing is clamped or dropped.
    """

    option: str
    """One of `motion.OPTIONS`."""
    source: Source
    field: tuple[str, ...] = ()
    """Where it stands in the create body; empty when there is no such field."""
    values: Mapping[str, Scalar] | None = None
    """For closed sets: our value to theirs. What is not listed cannot be conveyed."""
    minimum: int | None = None
    maximum: int | None = None
    max_length: int | None = None
    implied: Scalar | None = None
    """What the provider does when the option is left out; with no field, only this value is conveyed."""


class Constant(Struct, frozen=True, kw_only=True):
    """A field of the create body that is always the same."""

    field: tuple[str, ...]
    value: Scalar
    source: Source


class MediaLimits(Struct, frozen=True, kw_only=True):
    """What the provider takes as input media."""

    image_max_bytes: int | None
    video_max_bytes: int | None
    source: Source


class Price(Struct, frozen=True, kw_only=True):
    """What a job costs, by the reference's duration."""

    micro_usd_per_s: int
    minimum_micro_usd: int = 0
    source: Source

    def estimate(self, duration_s: float) -> int:
        """Cost in micro-USD of a reference of `duration_s` seconds."""
        return max(self.minimum_micro_usd, round(self.micro_usd_per_s * duration_s))


class ModelSpec(Struct, frozen=True, kw_only=True):
    """One model the provider sells, under the name clients use."""

    name: str
    """The public name, the same at every provider that sells it."""
    upstream: str
    """The provider's name for it."""
    character_types: tuple[CharacterType, ...]
    params: tuple[ParamSpec, ...]
    constants: tuple[Constant, ...]
    reference_min_s: float
    reference_max_s: float
    media: MediaLimits
    price: Price
    typical_run_s: float
    source: Source


class AuthSpec(Struct, frozen=True):
    """How a key is sent: `header: prefix + key`."""

    header: str
    prefix: str
    source: Source


class OptionSpec(Struct, frozen=True, kw_only=True):
    """A setting of the adapter, frozen on each attempt so that a poll asks the way the submit was made."""

    name: str
    values: tuple[str, ...]
    """The first is the default."""
    meaning: str
    source: Source


class PollSpec(Struct, frozen=True, kw_only=True):
    """When to ask again, until its run times are learned; floor and jitter hold ever after."""

    first_s: float
    interval_s: float
    later_s: float
    """The interval once a run is `later_after_s` old."""
    later_after_s: float
    slow_s: float
    """The interval while the provider says a word marked `slow`."""
    floor_s: float
    """Never more often than this, whatever else is said."""
    jitter: float
    """Part of the interval by which it is varied either way, 0 to 1."""
    source: Source


class CancelSpec(Struct, frozen=True, kw_only=True):
    """What the provider's cancel does."""

    stops: bool
    """Whether the run, and so the bill, is certain to stop."""
    destroys_output: bool
    """Whether a finished job's output is lost by it."""
    ref_gone: bool
    """Whether asking for the ref afterwards answers 404, which then means cancelled."""
    source: Source


class SecretProof(Struct, frozen=True, kw_only=True, tag="secret"):
    """The secret that the submission was given, repeated word for word.

    It is no signature: it says who calls, not that what is said is theirs, nor when they said it.
    """

    header: str
    """Lower case."""


class Signing(Struct, frozen=True, kw_only=True):
    """What is signed, and where the signature stands. Names of headers are in lower case."""

    signature_header: str
    """Holds one signature, or several with spaces between; one that fits is enough."""
    prefix: str = ""
    """How a signature of this kind begins, such as `v1,` or `sha256=`; others are passed over."""
    encoding: Literal["hex", "base64"] = "hex"
    timestamp_header: str
    """Holds whole seconds since 1970; one of `headers`, since a time that is not signed says nothing."""
    tolerance_s: int = 300
    """How far that may be from our clock, either way."""
    headers: tuple[str, ...]
    """Their values are signed first, in this order."""
    separator: str
    """Stands between the parts, and inside none of the values."""
    body: Literal["raw", "sha256_hex"] = "raw"
    """The last part: the body as it came, or its digest."""


class HmacProof(Struct, frozen=True, kw_only=True, tag="hmac"):
    """A MAC by the secret that the submission was given; its key is the text of that secret."""

    signing: Signing
    algorithm: Literal["sha256", "sha512"] = "sha256"


class Ed25519Proof(Struct, frozen=True, kw_only=True, tag="ed25519"):
    """A signature by a key of the provider's own, the same for everybody."""

    signing: Signing
    public_keys: tuple[str, ...]
    """64 hex digits each; more than one while they change theirs."""


Proof = SecretProof | HmacProof | Ed25519Proof
"""How a callback shows that it comes from the provider; `proof` checks it."""


class CallbackSpec(Struct, frozen=True, kw_only=True):
    """How the provider reports a job's end to a URL it was given."""

    proof: Proof | None
    """None: it proves nothing, beyond knowing the URL."""
    source: Source


class BillingSpec(Struct, frozen=True, kw_only=True):
    """What the provider says of runs that fail, where the reply names no cost."""

    failures_free: bool
    """Whether they are not charged."""
    source: Source


class OutputSpec(Struct, frozen=True, kw_only=True):
    """How long a result can be fetched."""

    life_s: int
    """At least this long after it was first shown."""
    renewable: bool
    """Whether another poll gives a fresh URL."""
    content_type: str = "video/mp4"
    source: Source


class Spec(Struct, frozen=True, kw_only=True):
    """Everything about a provider that can be said without code."""

    name: str
    """Lower-case identifier: the settings section, the metric label, the `provider` in the API."""
    title: str
    contract_version: int
    base_url: str
    base_url_env: str
    key_env: str
    """The name under which the provider's own SDK or documentation keeps the key."""
    auth: AuthSpec
    auth_choices: Mapping[str, AuthSpec] = {}
    """Other ways to send the key, chosen by the option `auth`."""
    fixed_headers: tuple[tuple[str, str], ...] = ()
    options: tuple[OptionSpec, ...] = ()
    models: tuple[ModelSpec, ...]
    statuses: tuple[StatusWord, ...]
    failures: tuple[FailureRule, ...]
    poll: PollSpec
    output: OutputSpec
    cancel: CancelSpec | None
    callback: CallbackSpec | None = None
    """None: it calls nobody back."""
    submit_timeout_s: float = 60.0
    poll_timeout_s: float = 10.0
    longest_run_s: int
    """After this an accepted job cannot still be running."""
    micro_usd_per_credit: int | None = None
    billing: BillingSpec | None = None
    """None: it says nothing, so that a run that failed may be billed unless its reply names a cost of 0."""
    client_ids_honoured: bool = False
    """Whether the provider refuses a second submission that bears the same client-made id."""
    source: Source

    def model(self, name: str) -> ModelSpec | None:
        """The model of that public name, or None."""
        return next((model for model in self.models if model.name == name), None)

    def word(self, raw: str) -> StatusWord | None:
        """The entry for a status word, or None for one we do not know."""
        folded = raw.strip().casefold()
        return next((entry for entry in self.statuses if entry.word.casefold() == folded), None)

    def default_options(self) -> dict[str, str]:
        """Every option at its default."""
        return {option.name: option.values[0] for option in self.options}

    def auth_for(self, options: Mapping[str, str]) -> AuthSpec:
        """How the key is sent under these options."""
        return self.auth_choices.get(options.get("auth", ""), self.auth)
