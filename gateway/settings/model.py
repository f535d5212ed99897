"""Every setting: its name, its default, its unit, its range, what it means.

The field's name is its key (`server.port`), its annotation the range that `load` enforces. Durations end in
`_s` and are seconds, sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.settings.forms import database_secrets, database_shown
from gateway.settings.secret import Secret
from providers.contract.errors import ErrorCode

_DAY_S = 86_400

Count = Annotated[int, Meta(ge=1, le=10_000)]
POLLS_PER_JOB = 8.0
Seconds = Annotated[float, Meta(gt=0, le=3600)]
"""A time-out or an interval; never zero, so that nothing spins."""


class Server(Struct, frozen=True, kw_only=True):
    """The HTTP API's own listener and what it takes from a client."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    """TCP port; 0 takes any free one."""
    public_url: str | None = None
    """Where providers reach this gateway, such as `https://gateway.example`: those that can then report a
    job's end, under `/v1/callbacks`. None: they are only asked."""
    body_max_bytes: Annotated[int, Meta(ge=1024, le=16_777_216)] = 262_144
    """Largest request body; a larger one is answered 413."""
    header_max_bytes: Annotated[int, Meta(ge=1024, le=1_048_576)] = 32_768
    """Largest request head; a larger one is answered 431."""
    headers_max: Annotated[int, Meta(ge=10, le=1000)] = 100
    """Most header lines in one request; more are answered 431."""
    target_max: Annotated[int, Meta(ge=256, le=65_536)] = 4096
    """Longest path with query, in bytes; a longer one is answered 414."""
    head_timeout_s: Seconds = 10.0
    """Within this the whole request head must have arrived."""
    body_timeout_s: Seconds = 10.0
    """Within this the whole request body must have arrived."""
    watchers_max: Annotated[int, Meta(ge=0, le=30_000)] = 5000
    """Most event streams and waiting requests at once in a process; more are answered 503. Each takes a
    file descriptor."""
    watchers_per_owner: Annotated[int, Meta(ge=0, le=30_000)] = 500
    """The most of them that one owner may have."""


class Auth(Struct, frozen=True, kw_only=True):
    """Who may call the API."""

    required: bool = True
    """Whether every call needs a key. False is accepted on a loopback `server.host` only."""


class Metrics(Struct, frozen=True, kw_only=True):
    """GET /metrics."""

    open: bool = False
    """Whether it answers without a key of scope `metrics`."""
    port: Annotated[int, Meta(ge=0, le=65_535)] | None = None
    """Where `work`, which serves no API, answers GET /metrics and /health, at `server.host`; 0 takes any free
    port. None: it listens nowhere. `serve` answers them at its own port."""


class Jobs(Struct, frozen=True, kw_only=True):
    """What holds for jobs that do not say otherwise themselves."""

    deadline_s: Annotated[int, Meta(ge=60, le=_DAY_S)] = 1800
    """Seconds after acceptance at which an unfinished job fails with `deadline_exceeded`."""
    hold_s: Annotated[int, Meta(ge=1, le=30 * _DAY_S)] = _DAY_S
    """Seconds a job whose submission is unknown waits for an operator; then it fails."""
    on_unknown_submission: Literal["hold", "fail", "resubmit"] = "hold"
    """What happens when nobody can tell whether a paid submission was made. `hold`: the job waits, while the
    provider is searched for it where that is possible, for an operator. `fail`: it fails. `resubmit`: after
    one look it is submitted again, once, at the risk of paying twice."""


class Routing(Struct, frozen=True, kw_only=True):
    """Which account is tried first, and whether another is tried after it."""

    providers: tuple[str, ...] = ()
    """Provider names, the preferred first; enabled ones that are not listed follow in alphabetical order.
    Empty: all in alphabetical order."""
    policy: Literal["priority", "cheapest", "fastest", "weighted"] = "priority"
    """How the candidates for a job are ordered. `priority`: as above; `cheapest`: by estimated cost;
    `fastest`: by measured run times; `weighted`: at random, by the accounts' weights. A key or a job may
    choose otherwise."""
    failover: bool = True
    """Whether a job that does not say goes to the next candidate where one certainly made nothing, or its run
    failed unbilled."""


class Limits(Struct, frozen=True, kw_only=True):
    """What callers may ask for; None is without limit.

    Keys and owners that have a limit of their own (`motion-gateway keys`) keep to that one.
    """

    rate: str | None = None
    """Requests of a key in an interval, such as `60/m`: a number, a slash, and s, m, h or d."""
    max_in_flight: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    """Unfinished jobs of an owner."""
    max_queued: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    """Unfinished jobs of all owners together; beyond it new ones are answered 503."""


class Webhooks(Struct, frozen=True, kw_only=True):
    """Telling receivers what happened, and which receivers may be dialled."""

    allowed_networks: tuple[str, ...] = ()
    """Private networks (CIDR) that receivers may be in; empty: public addresses only."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names whose receivers may be at private addresses."""
    allow_http: bool = False
    """Whether a receiver's URL may be plain http."""
    timeout_s: Seconds = 15.0
    """Deadline of one try, from the first look-up to the last byte of the answer."""
    connect_timeout_s: Seconds = 5.0
    """Deadline of connecting, within the above."""
    schedule_s: Annotated[
        tuple[Annotated[float, Meta(ge=0, le=30 * _DAY_S)], ...], Meta(min_length=1, max_length=50)
    ] = (0.0, 5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
    """Seconds waited before each try, counted from the try before; as many tries as entries."""
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.2
    """Part of a wait by which it is varied either way, 0 to 1."""
    concurrency: Count = 64
    """Most deliveries under way at once."""
    per_host_concurrency: Count = 4
    """Most deliveries under way at once to one endpoint, or to one host and port for jobs' own webhooks. A
    receiver that is new, or whose last answer took 3 seconds or more, gets one at a time."""


class Media(Struct, frozen=True, kw_only=True):
    """Which URLs are taken as character or reference."""

    allow_http: bool = False
    """Whether a media URL may be plain http."""
    allowed_networks: tuple[str, ...] = ()
    """Private networks (CIDR) that a media URL may name; empty: none."""


class Worker(Struct, frozen=True, kw_only=True):
    """The loop that carries out due tasks."""

    concurrency: Count = 64
    """Most submits under way at once, and most polls and cancels."""
    lease_s: Seconds = 20.0
    """How long a claimed task stays with its worker after the last heartbeat."""
    heartbeat_s: Seconds = 5.0
    """Interval at which leases are extended; at most half of `lease_s`."""
    idle_s: Seconds = 1.0
    """Longest sleep between two looks for due tasks."""
    stop_s: Annotated[float, Meta(ge=0, le=3600)] = 20.0
    """How long a stopping worker waits for calls under way."""


class Logs(Struct, frozen=True, kw_only=True):
    """What is written to stderr."""

    format: Literal["auto", "json", "console"] = "auto"
    """`json`: one document a line; `console`: for people; `auto`: console on a terminal, else json."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important level that is written."""


class Tracing(Struct, frozen=True, kw_only=True):
    """Spans for OpenTelemetry."""

    enabled: bool = False
    """Send them by OTLP over HTTP; where to, how many and under which name is told by OpenTelemetry's own
    variables (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME). Needs the extra
    `otel`."""


class Account(Struct, frozen=True, kw_only=True):
    """One credential at a provider."""

    name: str = "default"
    """Unique within the provider; letters, digits, `-` and `_`."""
    api_key: Secret
    """The provider's key."""
    base_url: str
    """Where the provider's API is, without a slash at the end; the adapter's own when none is set."""
    max_in_flight: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    """Most runs at the provider at once, over all processes; further jobs wait for their turn. None: no limit
    of ours; a provider that refuses more (429) sets one for a while."""
    submits_per_second: Annotated[float, Meta(gt=0, le=1000)] | None = None
    """Most submits begun in a second, over all processes. None: no limit."""
    weight: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    """Its share of the jobs under the policy `weighted`."""
    simulated: bool = False
    """Whether the gateway's own simulator answers there. Set by the gateway; not a setting."""


class Provider(Struct, frozen=True, kw_only=True):
    """One provider, as this installation uses it."""

    enabled: bool = True
    """False keeps a provider out of use although it has an account."""
    accounts: tuple[Account, ...] = ()
    """Its credentials; without any the provider is not in use."""
    max_in_flight: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    """Most runs at each account at once, over all processes; further jobs wait for their turn. None: no limit
    of ours; a provider that refuses more (429) sets one for a while."""
    submits_per_second: Annotated[float, Meta(gt=0, le=1000)] | None = None
    """Most submits begun at each account in a second, over all processes. None: no limit."""
    weight: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    """Each account's share of the jobs under the policy `weighted`."""
    poll_scale: Annotated[float, Meta(gt=0, le=100)] = 1.0
    """Factor on all declared poll times, the floor among them; tests and demos use a small one."""
    polls_per_job: Annotated[float, Meta(ge=2, le=100)] = POLLS_PER_JOB
    """How often a job is polled on average, once ten of the model's runs there have succeeded: the polls are
    then placed where those runs ended. More find an end sooner; never more often than the declared floor."""
    longest_run_s: Annotated[int, Meta(ge=1, le=30 * _DAY_S)] | None = None
    """After that an attempt in doubt gives its slot back whatever became of it. None: as its adapter says."""
    failover: Mapping[ErrorCode, Literal["retry", "next", "give_up"]] = {}
    """What follows an error of this provider, by code (`rate_limited = "next"`), in the place of the table in
    `providers/contract/errors.py`. `retry`: the same account again; `next`: another candidate; `give_up`."""
    options: Mapping[str, str] = {}
    """The adapter's options, those not set at their defaults."""


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that can be set."""

    database: str = "sqlite:///motion-gateway.db"
    """Where jobs are kept: `sqlite:///` and a path, relative to the working directory unless it begins
    with a further slash; or `postgresql://USER:PASSWORD@HOST/DATABASE`, for any number of processes."""
    secret_key: Secret | None = None
    """Seals webhook secrets in the database; the same in every process. None: a key file beside the SQLite
    database. PostgreSQL needs one."""
    server: Server = Server()
    auth: Auth = Auth()
    metrics: Metrics = Metrics()
    jobs: Jobs = Jobs()
    routing: Routing = Routing()
    limits: Limits = Limits()
    webhooks: Webhooks = Webhooks()
    media: Media = Media()
    worker: Worker = Worker()
    logs: Logs = Logs()
    tracing: Tracing = Tracing()
    providers: Mapping[str, Provider] = {}
    """By adapter name, for every adapter installed."""

    @property
    def enabled_providers(self) -> tuple[str, ...]:
        """Names of the providers in use, in the order of preference."""
        usable = {name for name, provider in self.providers.items() if provider.enabled and provider.accounts}
        first = [name for name in self.routing.providers if name in usable]
        return (*first, *sorted(usable.difference(first)))

    def secrets(self) -> tuple[str, ...]:
        """Return every secret text that was loaded, for the redaction of logs."""
        keys = [account.api_key for provider in self.providers.values() for account in provider.accounts]
        ours = [secret.reveal() for secret in (self.secret_key, *keys) if secret is not None]
        return (*ours, *database_secrets(self.database))

    @property
    def database_shown(self) -> str:
        """The setting `database` for people: without its password."""
        return database_shown(self.database)
