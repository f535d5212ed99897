"""The Grafana dashboard: rows of panels as data, built by Grafana's own library.

What a process counts is summed over the replicas, what belongs to the store is the largest (`METRICS.md`).
"""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef
from msgspec import Struct

from gateway.telemetry.declared import PREFIX

SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH, HEIGHT = 8, 8
QUANTILES: Final = (("0.5", "half"), ("0.99", "99 %"))
WINDOW: Final = "[$__rate_interval]"


class Query(Struct, frozen=True):
    """One expression, and what its series are called."""

    expr: str
    legend: str


class Panel(Struct, frozen=True):
    """One graph."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    about: str = ""


def rates(name: str, *labels: str) -> tuple[Query, ...]:
    """A counter a second, over all replicas, by these labels."""
    by = f" by ({', '.join(labels)})" if labels else ""
    legend = " ".join(f"{{{{{label}}}}}" for label in labels) or "all"
    return (Query(f"sum{by} (rate({PREFIX}{name}{WINDOW}))", legend),)


def increases(name: str, *labels: str) -> tuple[Query, ...]:
    """What a counter grew by in an hour, over all replicas, by these labels."""
    by = f" by ({', '.join(labels)})" if labels else ""
    legend = " ".join(f"{{{{{label}}}}}" for label in labels) or "all"
    return (Query(f"sum{by} (increase({PREFIX}{name}[1h]))", legend),)


def largest(name: str, *labels: str, legend: str = "") -> Query:
    """A figure of the store."""
    by = f" by ({', '.join(labels)})" if labels else ""
    shown = " ".join((*([legend] if legend else []), *(f"{{{{{label}}}}}" for label in labels)))
    return Query(f"max{by} ({PREFIX}{name})", shown or "all")


def quantiles(name: str, *labels: str) -> tuple[Query, ...]:
    """The half and the 99 % of a histogram, over all replicas."""
    by = ", ".join((*labels, "le"))
    return tuple(
        Query(
            f"histogram_quantile({quantile}, sum by ({by}) (rate({PREFIX}{name}_bucket{WINDOW})))",
            " ".join((*(f"{{{{{label}}}}}" for label in labels), word)),
        )
        for quantile, word in QUANTILES
    )


ROWS: Final[tuple[tuple[str, tuple[Panel, ...]], ...]] = (
    (
        "Money and jobs",
        (
            Panel("Spent in an hour", "currencyUSD", increases("spend_usd_total", "provider")),
            Panel(
                "Submissions in doubt",
                "none",
                (
                    *increases("submissions_unknown_total", "provider"),
                    largest("jobs_held", legend="held now"),
                ),
                "Nobody can tell whether they were made: `motion-gateway held`.",
            ),
            Panel("Doubts settled in an hour", "none", increases("submissions_settled_total", "how")),
            Panel("Jobs accepted", "cps", rates("jobs_accepted_total", "model")),
            Panel("Jobs finished", "cps", rates("jobs_finished_total", "status", "code")),
            Panel("From acceptance to the end", "s", quantiles("job_duration_seconds", "provider")),
            Panel("Unfinished jobs", "none", (largest("jobs_in_progress", "provider", "status"),)),
            Panel(
                "Owners at their budget",
                "none",
                (largest("owners_at_budget", "percent"),),
                "At least that many percent of the month's budget are charged or reserved.",
            ),
            Panel("Films that lapse within six hours", "none", (largest("outputs_expiring", "told"),)),
        ),
    ),
    (
        "Providers",
        (
            Panel("Calls", "cps", rates("provider_requests_total", "provider", "operation", "outcome")),
            Panel("How long calls take", "s", quantiles("provider_request_duration_seconds", "operation")),
            Panel("Withheld", "none", (largest("breaker_open", "provider", "account", "operation"),)),
            Panel("Status words in no table", "none", increases("unmapped_status_total", "provider")),
            Panel("Callbacks", "cps", rates("callbacks_total", "provider", "outcome")),
            Panel("From a run's end to our knowing, at most", "s", quantiles("detection_lag_seconds")),
        ),
    ),
    (
        "Queue and slots",
        (
            Panel("The oldest that waits", "s", (largest("queue_oldest_seconds"),)),
            Panel(
                "Slots",
                "none",
                (
                    largest("slots_in_use", "provider", "account", legend="in use"),
                    largest("slots_limit", "provider", "account", legend="limit"),
                ),
            ),
            Panel("Polls late by", "s", quantiles("poll_lag_seconds")),
        ),
    ),
    (
        "Webhooks",
        (
            Panel("Tries", "cps", rates("webhook_attempts_total", "outcome")),
            Panel("From the event to the acknowledgement", "s", quantiles("webhook_lag_seconds")),
            Panel("Not acknowledged", "none", (largest("webhook_backlog"),)),
            Panel("The oldest of them", "s", (largest("webhook_oldest_seconds"),)),
            Panel("Endpoints", "none", (largest("webhook_endpoints", "state"),)),
            Panel("Disabled in an hour", "none", increases("webhook_endpoints_disabled_total", "reason")),
        ),
    ),
    (
        "HTTP",
        (
            Panel("Requests", "reqps", rates("http_requests_total", "route", "method", "status")),
            Panel("How long they take", "s", quantiles("http_request_duration_seconds", "route")),
            Panel("Kept out by a limit", "reqps", rates("rate_limited_total", "policy")),
            Panel("Watching", "none", (Query(f"sum by (kind) ({PREFIX}watchers)", "{{kind}}"),)),
        ),
    ),
    (
        "Storage and process",
        (
            Panel(
                "Replicas",
                "none",
                (
                    Query(f"sum by (version) ({PREFIX}build_info)", "{{version}}"),
                    Query(f"sum ({PREFIX}storage_failing)", "cannot write"),
                ),
            ),
            Panel("Refused by the database", "cps", rates("storage_refused_total")),
            Panel("Transactions", "s", quantiles("storage_commit_seconds")),
            Panel("Operations in one commit", "none", quantiles("storage_batch_size")),
            Panel("The event loop wakes late by", "s", quantiles("event_loop_lag_seconds", "instance")),
        ),
    ),
)


def made(panel: Panel, number: int) -> timeseries.Panel:
    """Build a panel."""
    legend = (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    found = (
        timeseries.Panel()
        .id(number)
        .title(panel.title)
        .description(panel.about)
        .unit(panel.unit)
        .datasource(SOURCE)
        .span(WIDTH)
        .height(HEIGHT)
        .min(0)
        .legend(legend)
    )
    for letter, query in zip("ABCDEF", panel.queries, strict=False):
        target = prometheus.Dataquery().ref_id(letter).expr(query.expr).legend_format(query.legend)
        found = found.with_target(target.datasource(SOURCE))
    return found


def board() -> str:
    """Return the dashboard's JSON."""
    built = (
        dashboard.Dashboard("Motion Gateway")
        .uid("motion-gateway")
        .tags(["motion-gateway"])
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    number = 0
    for title, panels in ROWS:
        number += 1
        built = built.with_row(dashboard.Row(title).id(number))
        for panel in panels:
            number += 1
            built = built.with_panel(made(panel, number))
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"
