"""Every metric, declared once with its unit and meaning; all names begin with `motion_gateway_`.

Label values come from closed sets, so that no provider's word, URL or client can add a time series: what is
not in its set is counted as `other`, and what is absent as `none`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from gateway.telemetry.labels import (
    CALLBACK_OUTCOME,
    CALLBACK_OUTCOMES,
    CODE,
    DELIVERY_OUTCOME,
    DELIVERY_OUTCOMES,
    DISABLED,
    DISABLED_WHY,
    ENDPOINT_STATES,
    METHOD,
    NONE,
    OPERATION,
    OTHER,
    OUTCOME,
    POLICIES,
    POLICY,
    SETTLED,
    SETTLED_HOW,
    STATUS,
    WATCH,
    WATCHES,
    Closed,
)

PREFIX: Final = "motion_gateway"

JOB_BUCKETS: Final = (1, 2, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600, 900, 1800, 3600, 7200)
CALL_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 45, 60, 90)
LAG_BUCKETS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 300, 1800, 7200)
REQUEST_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
COMMIT_BUCKETS: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64)

# A `_created` series beside each counter would double the page, and nobody reads them.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library left it without annotations


class HttpMeter:
    """Counts the requests of one route and method; get it once, then each request costs two additions."""

    __slots__ = ("_by_status", "_labels", "_seconds", "_total")

    def __init__(self, total: Counter, seconds: Histogram, route: str, method: str) -> None:
        self._total = total
        self._labels = (route, method)
        self._seconds = seconds.labels(route, method)
        self._by_status: dict[int, Counter] = {}

    def done(self, status: int, seconds: float) -> None:
        """Count a request that was answered with `status` after `seconds`."""
        counter = self._by_status.get(status)
        if counter is None:
            counter = self._by_status[_known_status(status)] = self._child(status)
        counter.inc()
        self._seconds.observe(seconds)

    def _child(self, status: int) -> Counter:
        known = _known_status(status)
        return self._total.labels(*self._labels, str(known) if known else OTHER)


class Metrics:
    """All metrics of one running gateway, in a registry of their own.

    Attributes without labels are used as they are (`metrics.poll_lag_seconds.observe(0.2)`); the rest has a
    method each, which closes the label values.

    Args:
        version: of the gateway.
        providers: names of the installed adapters.
        models: public names of the models.
        routes: path templates of the HTTP API, such as `/v1/jobs/{id}`.
    """

    def __init__(
        self, *, version: str, providers: Iterable[str], models: Iterable[str], routes: Iterable[str]
    ) -> None:
        self._registry = CollectorRegistry()
        self._providers, self._models = tuple(providers), tuple(models)
        self._provider, self._model = Closed(self._providers), Closed(self._models)
        self._route = Closed(routes)
        self._http: dict[tuple[str, str], HttpMeter] = {}
        self._declare_jobs()
        self._declare_providers()
        self._declare_limits()
        self._declare_webhooks()
        self._declare_http()
        self._declare_process()
        self._gauge("build_info", "Always 1; the label tells the running version.", "version").labels(
            version
        ).set(1)

    def _declare_jobs(self) -> None:
        self._accepted = self._counter("jobs_accepted", "Jobs accepted and stored, by model.", "model")
        self._finished = self._counter(
            "jobs_finished",
            "Jobs that reached a final status; `code` is the error's, or none.",
            "provider", "status", "code",
        )  # fmt: skip
        self._duration = self._histogram(
            "job_duration_seconds",
            "Seconds from acceptance to the final status.",
            JOB_BUCKETS,
            "provider", "status",
        )  # fmt: skip
        self._in_progress = self._gauge(
            "jobs_in_progress", "Unfinished jobs in the database, by status.", "provider", "status"
        )
        self.jobs_held = self._gauge(
            "jobs_held", "Jobs that wait because nobody can tell whether their paid submission was made."
        )
        for model in self._models:
            self._accepted.labels(model)

    def _declare_providers(self) -> None:
        self._requests = self._counter(
            "provider_requests",
            "Calls to providers, by operation and what came of them.",
            "provider", "operation", "outcome",
        )  # fmt: skip
        self._request_seconds = self._histogram(
            "provider_request_duration_seconds",
            "Seconds a call to a provider took, connecting and reading included.",
            CALL_BUCKETS,
            "provider", "operation",
        )  # fmt: skip
        self._unknown = self._counter(
            "submissions_unknown", "Paid submissions whose outcome was unknown when they ended.", "provider"
        )
        self._settled = self._counter(
            "submissions_settled",
            "What became of them: adopted (their run was found), resubmitted (written off, at somebody's"
            " risk), failed, expired, cancelled, late (their own answer came after all, perhaps as well).",
            "provider", "how",
        )  # fmt: skip
        self._unmapped = self._counter(
            "unmapped_status", "Polls that answered with a status word no table has.", "provider"
        )
        self._callbacks = self._counter(
            "callbacks",
            "Calls made under /v1/callbacks, and what came of them: poll, reconcile: led to one; coalesced,"
            " stored, other_ref, known, full: led to none; throttled, unreadable: refused; the rest: not"
            " proven to be the provider's (stale: signed by a clock too far from ours).",
            "provider", "outcome",
        )  # fmt: skip
        self.poll_lag_seconds = self._histogram(
            "poll_lag_seconds", "Seconds from when a poll was due to when it was asked.", LAG_BUCKETS
        )
        self.detection_lag_seconds = self._histogram(
            "detection_lag_seconds",
            "Upper bound of the seconds from a provider's finish to our knowing: since the previous poll.",
            LAG_BUCKETS,
        )
        for provider in self._providers:  # from zero, so that the first one shows as an increase
            self._unknown.labels(provider)
            for how in SETTLED:
                self._settled.labels(provider, how)
            self._unmapped.labels(provider)
            for outcome in CALLBACK_OUTCOMES:
                self._callbacks.labels(provider, outcome)

    def _declare_limits(self) -> None:
        self._limited = self._counter(
            "rate_limited",
            "Requests that a limit kept out: requests (of a key), jobs-in-flight and budget (of an owner),"
            " queue (of all), watchers (of an owner, or of all).",
            "policy",
        )
        self._spent = self._counter(
            "spend_usd", "USD charged, by the providers' word or else by estimate.", "provider"
        )
        for policy in POLICIES:
            self._limited.labels(policy)
        for provider in self._providers:
            self._spent.labels(provider)

    def _declare_webhooks(self) -> None:
        self._attempts = self._counter(
            "webhook_attempts", "Tries to deliver a webhook, by outcome.", "outcome"
        )
        self.webhook_lag_seconds = self._histogram(
            "webhook_lag_seconds",
            "Seconds from a job's event to the receiver's acknowledgement.",
            LAG_BUCKETS,
        )
        self._slots_in_use = self._gauge(
            "slots_in_use", "Runs at an account, over all processes.", "provider", "account"
        )
        self._slots_limit = self._gauge(
            "slots_limit", "The cap on them just now; +Inf without any.", "provider", "account"
        )
        self._breaker_open = self._gauge(
            "breaker_open",
            "1 while calls of a kind to an account are withheld: its last ones failed, or it is paused.",
            "provider",
            "account",
            "operation",
        )
        self.webhook_backlog = self._gauge("webhook_backlog", "Deliveries not yet acknowledged nor given up.")
        self.webhook_oldest_seconds = self._gauge(
            "webhook_oldest_seconds", "Age of the oldest of those deliveries, seconds; 0 without any."
        )
        self._endpoints_disabled = self._counter(
            "webhook_endpoints_disabled",
            "Webhook endpoints disabled: gone (answered 410), failing (no success for 120 hours), requested.",
            "reason",
        )
        self._endpoints = self._gauge("webhook_endpoints", "Webhook endpoints, by state.", "state")
        for reason in DISABLED:
            self._endpoints_disabled.labels(reason)
        for outcome in DELIVERY_OUTCOMES:
            self._attempts.labels(outcome)

    def _declare_http(self) -> None:
        self._http_total = self._counter(
            "http_requests", "Requests answered by the API.", "route", "method", "status"
        )
        self._http_seconds = self._histogram(
            "http_request_duration_seconds",
            "Seconds from a request's head to the end of its answer, but for what its client wished to wait"
            " or to watch.",
            REQUEST_BUCKETS,
            "route", "method",
        )  # fmt: skip
        self._watchers = self._gauge(
            "watchers", "Event streams that are open, and requests that wait for a job's end.", "kind"
        )
        for kind in WATCHES:
            self._watchers.labels(kind)

    def _declare_process(self) -> None:
        self.storage_commit_seconds = self._histogram(
            "storage_commit_seconds", "Seconds a database transaction took, commit included.", COMMIT_BUCKETS
        )
        self.storage_batch_size = self._histogram(
            "storage_batch_size", "Operations that shared one commit.", BATCH_BUCKETS
        )
        self.event_loop_lag_seconds = self._histogram(
            "event_loop_lag_seconds",
            "Seconds by which the event loop woke later than asked.",
            REQUEST_BUCKETS,
        )

    def job_accepted(self, model: str) -> None:
        """Count a job that was accepted."""
        self._accepted.labels(self._model(model)).inc()

    def job_finished(self, provider: str | None, status: str, code: str | None, seconds: float) -> None:
        """Count a job that reached a final status, `seconds` after it was accepted."""
        known, ended = self._provider(provider), STATUS(status)
        self._finished.labels(known, ended, CODE(code)).inc()
        self._duration.labels(known, ended).observe(seconds)

    def set_jobs_in_progress(self, counts: Mapping[tuple[str | None, str], int]) -> None:
        """Set the number of unfinished jobs by (provider, status); pairs left out become 0."""
        sums = {(name, status): 0 for name in (*self._providers, NONE) for status in ("queued", "running")}
        for (provider, status), count in counts.items():
            pair = self._provider(provider), STATUS(status)
            sums[pair] = sums.get(pair, 0) + count
        self._in_progress.clear()
        for pair, count in sums.items():
            self._in_progress.labels(*pair).set(count)

    def provider_request(self, provider: str, operation: str, outcome: str, seconds: float) -> None:
        """Count a call to a provider; `outcome` is one of `OUTCOMES`."""
        known, asked = self._provider(provider), OPERATION(operation)
        self._requests.labels(known, asked, OUTCOME(outcome)).inc()
        self._request_seconds.labels(known, asked).observe(seconds)

    def set_slots(self, provider: str, account: str, in_use: int, limit: int | None) -> None:
        """Set an account's slots in use, over the whole fleet, and the cap on them (None: there is none)."""
        self._slots_in_use.labels(provider, account).set(in_use)
        self._slots_limit.labels(provider, account).set(math.inf if limit is None else limit)

    def set_shut(self, provider: str, account: str, operation: str, *, shut: bool) -> None:
        """Set whether a kind of call to an account is withheld just now."""
        self._breaker_open.labels(provider, account, operation).set(shut)

    def submission_unknown(self, provider: str) -> None:
        """Count a paid submission of which nobody can tell whether it was made."""
        self._unknown.labels(self._provider(provider)).inc()

    def submission_settled(self, provider: str, how: str) -> None:
        """Count what became of such a submission; `how` is one of `labels.SETTLED`."""
        self._settled.labels(self._provider(provider), SETTLED_HOW(how)).inc()

    def rate_limited(self, policy: str) -> None:
        """Count a request that a limit kept out; `policy` is one of `labels.POLICIES`."""
        self._limited.labels(POLICY(policy)).inc()

    def set_watchers(self, kind: str, count: int) -> None:
        """Set how many watch jobs; `kind` is one of `labels.WATCHES`."""
        self._watchers.labels(WATCH(kind)).set(count)

    def spent(self, provider: str, micro_usd: int) -> None:
        """Count what a run was found to have cost."""
        self._spent.labels(self._provider(provider)).inc(micro_usd / 1_000_000)

    def unmapped_status(self, provider: str) -> None:
        """Count a status word that no table has."""
        self._unmapped.labels(self._provider(provider)).inc()

    def callback(self, provider: str, outcome: str) -> None:
        """Count a call made to us in a provider's name; `outcome` is one of `labels.CALLBACK_OUTCOMES`."""
        self._callbacks.labels(self._provider(provider), CALLBACK_OUTCOME(outcome)).inc()

    def webhook_attempt(self, outcome: str) -> None:
        """Count a try to deliver; `outcome` is one of `DELIVERY_OUTCOMES`."""
        self._attempts.labels(DELIVERY_OUTCOME(outcome)).inc()

    def endpoint_disabled(self, reason: str) -> None:
        """Count an endpoint that was disabled; `reason` is one of `DISABLED`."""
        self._endpoints_disabled.labels(DISABLED_WHY(reason)).inc()

    def set_endpoints(self, counts: Mapping[str, int]) -> None:
        """Set the number of endpoints by state; states left out become 0."""
        for state in ENDPOINT_STATES:
            self._endpoints.labels(state).set(counts.get(state, 0))

    def http(self, route: str | None, method: str) -> HttpMeter:
        """Return the meter of a route's template (None: no route matched) and method."""
        meter = self._http.get((route or NONE, method))
        if meter is None:
            known = self._route(route), METHOD(method)
            meter = self._http.get(known) or HttpMeter(self._http_total, self._http_seconds, *known)
            self._http[known] = meter
        return meter

    def render(self) -> tuple[bytes, str]:
        """Return the page in Prometheus's text format, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", meaning, labels, registry=self._registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", meaning, labels, registry=self._registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", meaning, labels, buckets=buckets, registry=self._registry)


def _known_status(status: int) -> int:
    """Return an HTTP status, or 0 for a number that is none."""
    return status if 100 <= status <= 599 else 0
