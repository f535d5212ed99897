"""Every metric, declared once: name, kind, unit, meaning, labels, buckets, and how replicas are put together.

`metrics` carries the table out, `deploy/METRICS.md` is written from it, and alerts and dashboards are held
against it. Label values come from closed sets, so that no provider's word, URL or client can add a time
series: what is not in its set is counted as `other`, and what is absent as `none`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct

from gateway.telemetry.labels import (
    CALLBACK_OUTCOMES,
    CODES,
    DELIVERY_OUTCOMES,
    DISABLED,
    ENDPOINT_STATES,
    METHODS,
    OPERATIONS,
    OUTCOMES,
    PERCENTS,
    POLICIES,
    SETTLED,
    STATUSES,
    TOLD,
    WATCHES,
)

PREFIX: Final = "motion_gateway_"

JOB_BUCKETS: Final = (1, 2, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600, 900, 1800, 3600, 7200)
CALL_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 45, 60, 90)
LAG_BUCKETS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 300, 1800, 7200)
REQUEST_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
COMMIT_BUCKETS: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64)


class Kind(StrEnum):
    """How a metric moves."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Fleet(StrEnum):
    """How the figures of a fleet's replicas are put together."""

    SUM = "sum"
    """Each counts its own: what all of them did, or have, is the sum."""
    MAX = "max"
    """Each that works looks at the one store: all say the same, or nothing yet, so take the largest."""


class Own(StrEnum):
    """Label values that an installation brings."""

    PROVIDERS = "names of the installed adapters"
    MODELS = "public names of their models"
    ACCOUNTS = "names of the provider's accounts in the settings"
    ROUTES = "path templates of the API"
    HTTP_STATUS = "HTTP statuses, 100 to 599"
    VERSION = "the running version"


class Label(Struct, frozen=True):
    """One label of a metric."""

    name: str
    values: tuple[str, ...] | Own
    """What it may be, besides `none` and `other`."""


class Metric(Struct, frozen=True, kw_only=True):
    """One metric."""

    name: str
    """As exported, less `PREFIX`."""
    kind: Kind
    meaning: str
    unit: str
    group: str
    """Under which the reference has it."""
    fleet: Fleet
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds, of histograms."""
    slow: bool = False
    """Whether it is a figure of the store that is looked at less often than the others."""
    from_zero: bool = False
    """Whether every series is there from the start, so that the first event shows as an increase."""

    @property
    def series(self) -> tuple[str, ...]:
        """Names of its samples, as a query has them."""
        name = PREFIX + self.name
        if self.kind is Kind.HISTOGRAM:
            return (f"{name}_bucket", f"{name}_sum", f"{name}_count")
        return (name,)


_PROVIDER = Label("provider", Own.PROVIDERS)
_STATUS = Label("status", STATUSES)
_OPERATION = Label("operation", OPERATIONS)
_ACCOUNT = Label("account", Own.ACCOUNTS)
_ROUTE, _METHOD = Label("route", Own.ROUTES), Label("method", METHODS)

JOBS, PROVIDERS, MONEY, SLOTS = "Jobs", "Providers", "Limits and money", "Queue and slots"
WEBHOOKS, HTTP, PROCESS = "Webhooks", "HTTP", "Storage and process"

METRICS: Final = (
    Metric(
        name="jobs_accepted_total",
        kind=Kind.COUNTER,
        unit="jobs",
        meaning="Jobs accepted and stored, by model.",
        labels=(Label("model", Own.MODELS),),
        group=JOBS,
        fleet=Fleet.SUM,
        from_zero=True,
    ),
    Metric(
        name="jobs_finished_total",
        kind=Kind.COUNTER,
        unit="jobs",
        meaning="Jobs that reached a final status; `code` is the error's, or none.",
        labels=(_PROVIDER, _STATUS, Label("code", CODES)),
        group=JOBS,
        fleet=Fleet.SUM,
    ),
    Metric(
        name="job_duration_seconds",
        kind=Kind.HISTOGRAM,
        unit="seconds",
        meaning="Seconds from acceptance to the final status.",
        labels=(_PROVIDER, _STATUS),
        buckets=JOB_BUCKETS,
        group=JOBS,
        fleet=Fleet.SUM,
    ),
    Metric(
        name="jobs_in_progress",
        kind=Kind.GAUGE,
        unit="jobs",
        meaning="Unfinished jobs in the database, by status.",
        labels=(_PROVIDER, _STATUS),
        group=JOBS,
        fleet=Fleet.MAX,
    ),
    Metric(
        name="jobs_held",
        kind=Kind.GAUGE,
        unit="jobs",
        meaning="Jobs that wait because nobody can tell whether their paid submission was made.",
        group=JOBS,
        fleet=Fleet.MAX,
    ),
    Metric(
        name="outputs_expiring",
        kind=Kind.GAUGE,
        unit="jobs",
        meaning="Succeeded jobs whose output's URL lapses within six hours, of the 2,000 that lapse first."
        " `told`: delivered (a webhook of the success was acknowledged), undelivered (none was yet), unasked"
        " (nobody asked for one; whether somebody read the job is not kept).",
        labels=(Label("told", TOLD),),
        group=JOBS,
        fleet=Fleet.MAX,
        slow=True,
    ),
    Metric(
        name="provider_requests_total",
        kind=Kind.COUNTER,
        unit="calls",
        meaning="Calls to providers, by operation and what came of them.",
        labels=(_PROVIDER, _OPERATION, Label("outcome", OUTCOMES)),
        group=PROVIDERS,
        fleet=Fleet.SUM,
    ),
    Metric(
        name="provider_request_duration_seconds",
        kind=Kind.HISTOGRAM,
        unit="seconds",
        meaning="Seconds a call to a provider took, connecting and reading included.",
        labels=(_PROVIDER, _OPERATION),
        buckets=CALL_BUCKETS,
        group=PROVIDERS,
        fleet=Fleet.SUM,
    ),
    Metric(
        name="submissions_unknown_total",
        kind=Kind.COUNTER,
        unit="submissions",
        meaning="Paid submissions whose outcome was unknown when they ended.",
        labels=(_PROVIDER,),
        group=PROVIDERS,
        fleet=Fleet.SUM,
        from_zero=True,
    ),
    Metric(
        name="submissions_settled_total",
        kind=Kind.COUNTER,
        unit="submissions",
        meaning="What became of them: adopted (their run was found), resubmitted (written off, at somebody's"
        " risk), failed, expired, cancelled, late (their own answer came after all, perhaps as well).",
        labels=(_PROVIDER, Label("how", SETTLED)),
        group=PROVIDERS,
        fleet=Fleet.SUM,
        from_zero=True,
    ),
    Metric(
        name="unmapped_status_total",
        kind=Kind.COUNTER,
        unit="polls",
        meaning="Polls that answered with a status word no table has.",
        labels=(_PROVIDER,),
        group=PROVIDERS,
        fleet=Fleet.SUM,
        from_zero=True,
    ),
    Metric(
        name="callbacks_total",
        kind=Kind.COUNTER,
        unit="calls",
        meaning="Calls made under /v1/callbacks, and what came of them: poll, reconcile: led to one;"
        " coalesced, stored, other_ref, known, full: led to none; throttled, unreadable: refused; the rest:"
        " not proven to be the provider's (stale: signed by a clock too far from ours).",
        labels=(_PROVIDER, Label("outcome", CALLBACK_OUTCOMES)),
        group=PROVIDERS,
        fleet=Fleet.SUM,
        from_zero=True,
    ),
    Metric(
        name="poll_lag_seconds",
        kind=Kind.HISTOGRAM,
        unit="seconds",
        meaning="Seconds from when a poll was due to when it was asked.",
        buckets=LAG_BUCKETS,
        group=PROVIDERS,
        fleet=Fleet.SUM,
    ),
    Metric(
        name="detection_lag_seconds",
        kind=Kind.HISTOGRAM,
        unit="seconds",
        meaning="At most the seconds from a provider's finish to our knowing: since the previous poll.",
        buckets=LAG_BUCKETS,
        group=PROVIDERS,
        fleet=Fleet.SUM,
    ),
    Metric(
        name="rate_limited_total",
        kind=Kind.COUNTER,
        unit="requests",
        meaning="Requests that a limit kept out: requests (of a key), jobs-in-flight and budget (of an"
        " owner), queue (of all), watchers (of an owner, or of all).",
        labels=(Label("policy", POLICIES),),
        group=MONEY,
        fleet=Fleet.SUM,
        from_zero=True,
    ),
    Metric(
        name="spend_usd_total",
        kind=Kind.COUNTER,
        unit="USD",
        meaning="USD charged, by the providers' word or else by estimate.",
        labels=(_PROVIDER,),
        group=MONEY,
        fleet=Fleet.SUM,
        from_zero=True,
    ),
    Metric(
        name="owners_at_budget",
        kind=Kind.GAUGE,
        unit="owners",
        meaning="Owners with a monthly budget of which at least that many percent are charged or reserved;"
        " those at 100 are among those at 80. A budget of nothing does not count.",
        labels=(Label("percent", PERCENTS),),
        group=MONEY,
        fleet=Fleet.MAX,
        slow=True,
    ),
    Metric(
        name="queue_oldest_seconds",
        kind=Kind.GAUGE,
        unit="seconds",
        meaning="Age of the oldest job that waits to be submitted, seconds since its acceptance; 0 without"
        " any.",
        group=SLOTS,
        fleet=Fleet.MAX,
    ),
    Metric(
        name="slots_in_use",
        kind=Kind.GAUGE,
        unit="runs",
        meaning="Runs at an account, over all processes.",
        labels=(_PROVIDER, _ACCOUNT),
        group=SLOTS,
        fleet=Fleet.MAX,
    ),
    Metric(
        name="slots_limit",
        kind=Kind.GAUGE,
        unit="runs",
        meaning="The cap on them just now; +Inf without any.",
        labels=(_PROVIDER, _ACCOUNT),
        group=SLOTS,
        fleet=Fleet.MAX,
    ),
    Metric(
        name="breaker_open",
        kind=Kind.GAUGE,
        unit="0 or 1",
        meaning="1 from when calls of a kind to an account are withheld (the last ones failed, its key is"
        " refused, or its balance is used up) until one goes well: also while one is made to try it, and"
        " while nobody calls, then for an hour. For a 429, while its pause lasts.",
        labels=(_PROVIDER, _ACCOUNT, _OPERATION),
        group=SLOTS,
        fleet=Fleet.MAX,
    ),
    Metric(
        name="webhook_attempts_total",
        kind=Kind.COUNTER,
        unit="tries",
        meaning="Tries to deliver a webhook, by outcome.",
        labels=(Label("outcome", DELIVERY_OUTCOMES),),
        group=WEBHOOKS,
        fleet=Fleet.SUM,
        from_zero=True,
    ),
    Metric(
        name="webhook_lag_seconds",
        kind=Kind.HISTOGRAM,
        unit="seconds",
        meaning="Seconds from a job's event to the receiver's acknowledgement; not of what was asked for"
        " again.",
        buckets=LAG_BUCKETS,
        group=WEBHOOKS,
        fleet=Fleet.SUM,
    ),
    Metric(
        name="webhook_backlog",
        kind=Kind.GAUGE,
        unit="deliveries",
        meaning="Deliveries not yet acknowledged nor given up.",
        group=WEBHOOKS,
        fleet=Fleet.MAX,
    ),
    Metric(
        name="webhook_oldest_seconds",
        kind=Kind.GAUGE,
        unit="seconds",
        meaning="Age of the oldest of those deliveries, seconds; 0 without any.",
        group=WEBHOOKS,
        fleet=Fleet.MAX,
    ),
    Metric(
        name="webhook_endpoints",
        kind=Kind.GAUGE,
        unit="endpoints",
        meaning="Webhook endpoints, by state.",
        labels=(Label("state", ENDPOINT_STATES),),
        group=WEBHOOKS,
        fleet=Fleet.MAX,
    ),
    Metric(
        name="webhook_endpoints_disabled_total",
        kind=Kind.COUNTER,
        unit="endpoints",
        meaning="Webhook endpoints disabled: gone (answered 410), failing (no success for 120 hours, and"
        " failures on three days), requested.",
        labels=(Label("reason", DISABLED),),
        group=WEBHOOKS,
        fleet=Fleet.SUM,
        from_zero=True,
    ),
    Metric(
        name="http_requests_total",
        kind=Kind.COUNTER,
        unit="requests",
        meaning="Requests answered by the API.",
        labels=(_ROUTE, _METHOD, Label("status", Own.HTTP_STATUS)),
        group=HTTP,
        fleet=Fleet.SUM,
    ),
    Metric(
        name="http_request_duration_seconds",
        kind=Kind.HISTOGRAM,
        unit="seconds",
        meaning="Seconds from a request's head to the end of its answer, but for what its client wished to"
        " wait or to watch.",
        labels=(_ROUTE, _METHOD),
        buckets=REQUEST_BUCKETS,
        group=HTTP,
        fleet=Fleet.SUM,
    ),
    Metric(
        name="watchers",
        kind=Kind.GAUGE,
        unit="requests",
        meaning="Event streams that are open, and requests that wait for a job's end.",
        labels=(Label("kind", WATCHES),),
        group=HTTP,
        fleet=Fleet.SUM,
        from_zero=True,
    ),
    Metric(
        name="storage_failing",
        kind=Kind.GAUGE,
        unit="0 or 1",
        meaning="1 while this process cannot write to the database: by its last commit (SQLite), or because"
        " the server cannot be reached (PostgreSQL).",
        group=PROCESS,
        fleet=Fleet.SUM,
    ),
    Metric(
        name="storage_refused_total",
        kind=Kind.COUNTER,
        unit="operations",
        meaning="Operations on the database that failed because it could not be used just then.",
        group=PROCESS,
        fleet=Fleet.SUM,
    ),
    Metric(
        name="storage_commit_seconds",
        kind=Kind.HISTOGRAM,
        unit="seconds",
        meaning="Seconds a database transaction took, commit included.",
        buckets=COMMIT_BUCKETS,
        group=PROCESS,
        fleet=Fleet.SUM,
    ),
    Metric(
        name="storage_batch_size",
        kind=Kind.HISTOGRAM,
        unit="operations",
        meaning="Operations that shared one commit.",
        buckets=BATCH_BUCKETS,
        group=PROCESS,
        fleet=Fleet.SUM,
    ),
    Metric(
        name="event_loop_lag_seconds",
        kind=Kind.HISTOGRAM,
        unit="seconds",
        meaning="Seconds by which the event loop woke later than asked.",
        buckets=REQUEST_BUCKETS,
        group=PROCESS,
        fleet=Fleet.SUM,
    ),
    Metric(
        name="build_info",
        kind=Kind.GAUGE,
        unit="1",
        meaning="Always 1; the label tells the running version.",
        labels=(Label("version", Own.VERSION),),
        group=PROCESS,
        fleet=Fleet.SUM,
    ),
)
