"""Carries out the table of metrics (`declared`): counts, sets, and writes the page.

Label values pass a door each, which lets in what the table names: the rest is counted as `other`, and what is
absent as `none`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Final, Generic, TypeVar

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from gateway.telemetry.declared import METRICS, PREFIX, Fleet, Label, Metric, Own
from gateway.telemetry.labels import ENDPOINT_STATES, NONE, OTHER, PERCENTS, TOLD, Closed

# A `_created` series beside each counter would double the page, and nobody reads them.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library left it without annotations

M = TypeVar("M", Counter, Gauge, Histogram)
Door = Callable[[str | None], str]
BY_NAME: Final = {metric.name: metric for metric in METRICS}


class Family(Generic[M]):
    """A metric with labels, whose values pass the doors.

    Args:
        made: the metric.
        doors: one a label.
    """

    __slots__ = ("_doors", "made")

    def __init__(self, made: M, doors: tuple[Door, ...]) -> None:
        self.made: M = made
        self._doors = doors

    def close(self, *values: str | None) -> tuple[str, ...]:
        """Return the values as they are exported."""
        return tuple(door(value) for door, value in zip(self._doors, values, strict=True))

    def at(self, *values: str | None) -> M:
        """Return the series of these label values."""
        series: M = self.made.labels(*self.close(*values))
        return series


class HttpMeter:
    """Counts the requests of one route and method; get it once, then each request costs two additions."""

    __slots__ = ("_by_status", "_labels", "_seconds", "_total")

    def __init__(self, total: Family[Counter], seconds: Family[Histogram], route: str, method: str) -> None:
        self._total = total
        self._labels = (route, method)
        self._seconds = seconds.at(route, method)
        self._by_status: dict[int, Counter] = {}

    def done(self, status: int, seconds: float) -> None:
        """Count a request that was answered with `status` after `seconds`."""
        counter = self._by_status.get(status)
        if counter is None:
            known = status if 100 <= status <= 599 else 0
            counter = self._by_status[known] = self._total.at(*self._labels, str(known))
        counter.inc()
        self._seconds.observe(seconds)


class Metrics:
    """All metrics of one running gateway, in a registry of their own.

    Attributes without labels are used as they are (`metrics.poll_lag_seconds.observe(0.2)`); the rest has a
    method each, which closes the label values. What belongs to the store is NaN, or has no series, until this
    process has looked.

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
        self._providers = tuple(providers)
        self._own: Mapping[Own, tuple[str, ...]] = {
            Own.PROVIDERS: self._providers,
            Own.MODELS: tuple(models),
            Own.ROUTES: tuple(routes),
        }
        self._of_store: list[tuple[Gauge, Metric]] = []
        self._http: dict[tuple[str, ...], HttpMeter] = {}
        self._make_jobs()
        self._make_providers()
        self._make_store_figures()
        self._make_webhooks()
        self._make_http()
        self._make_process()
        self._gauges("build_info").at(version).set(1)

    def _make_jobs(self) -> None:
        self._accepted = self._counters("jobs_accepted_total")
        self._finished = self._counters("jobs_finished_total")
        self._duration = self._histograms("job_duration_seconds")
        self._limited = self._counters("rate_limited_total")
        self._spent = self._counters("spend_usd_total")

    def _make_providers(self) -> None:
        self._requests = self._counters("provider_requests_total")
        self._request_seconds = self._histograms("provider_request_duration_seconds")
        self._unknown = self._counters("submissions_unknown_total")
        self._settled = self._counters("submissions_settled_total")
        self._unmapped = self._counters("unmapped_status_total")
        self._callbacks = self._counters("callbacks_total")
        self.poll_lag_seconds = self._histogram("poll_lag_seconds")
        self.detection_lag_seconds = self._histogram("detection_lag_seconds")

    def _make_store_figures(self) -> None:
        self._in_progress = self._gauges("jobs_in_progress")
        self.jobs_held = self._gauge("jobs_held")
        self._expiring = self._gauges("outputs_expiring")
        self._at_budget = self._gauges("owners_at_budget")
        self.queue_oldest_seconds = self._gauge("queue_oldest_seconds")
        self._slots_in_use = self._gauges("slots_in_use")
        self._slots_limit = self._gauges("slots_limit")
        self._breaker_open = self._gauges("breaker_open")
        self.webhook_backlog = self._gauge("webhook_backlog")
        self.webhook_oldest_seconds = self._gauge("webhook_oldest_seconds")
        self._endpoints = self._gauges("webhook_endpoints")

    def _make_webhooks(self) -> None:
        self._attempts = self._counters("webhook_attempts_total")
        self.webhook_lag_seconds = self._histogram("webhook_lag_seconds")
        self._endpoints_disabled = self._counters("webhook_endpoints_disabled_total")

    def _make_http(self) -> None:
        self._http_total = self._counters("http_requests_total")
        self._http_seconds = self._histograms("http_request_duration_seconds")
        self._watchers = self._gauges("watchers")

    def _make_process(self) -> None:
        self._storage_failing = self._gauge("storage_failing")
        self.storage_refused = self._counter("storage_refused_total")
        self.storage_commit_seconds = self._histogram("storage_commit_seconds")
        self.storage_batch_size = self._histogram("storage_batch_size")
        self.event_loop_lag_seconds = self._histogram("event_loop_lag_seconds")

    def job_accepted(self, model: str) -> None:
        """Count a job that was accepted."""
        self._accepted.at(model).inc()

    def job_finished(self, provider: str | None, status: str, code: str | None, seconds: float) -> None:
        """Count a job that reached a final status, `seconds` after it was accepted."""
        self._finished.at(provider, status, code).inc()
        self._duration.at(provider, status).observe(seconds)

    def set_jobs_in_progress(self, counts: Mapping[tuple[str | None, str], int]) -> None:
        """Set the number of unfinished jobs by (provider, status); pairs left out become 0."""
        pairs = product((*self._own[Own.PROVIDERS], None), ("queued", "running"))
        sums = {self._in_progress.close(*pair): 0 for pair in pairs}
        for pair, count in counts.items():
            closed = self._in_progress.close(*pair)
            sums[closed] = sums.get(closed, 0) + count
        self._in_progress.made.clear()
        for closed, count in sums.items():
            self._in_progress.at(*closed).set(count)

    def provider_request(self, provider: str, operation: str, outcome: str, seconds: float) -> None:
        """Count a call to a provider; `outcome` is one of `labels.OUTCOMES`."""
        self._requests.at(provider, operation, outcome).inc()
        self._request_seconds.at(provider, operation).observe(seconds)

    def set_slots(self, provider: str, account: str, in_use: int, limit: int | None) -> None:
        """Set an account's slots in use, over the whole fleet, and the cap on them (None: there is none)."""
        self._slots_in_use.at(provider, account).set(in_use)
        self._slots_limit.at(provider, account).set(math.inf if limit is None else limit)

    def set_unwell(self, provider: str, account: str, operation: str, *, unwell: bool) -> None:
        """Set whether a kind of call to an account has not gone well since it was first withheld."""
        self._breaker_open.at(provider, account, operation).set(unwell)

    def submission_unknown(self, provider: str) -> None:
        """Count a paid submission of which nobody can tell whether it was made."""
        self._unknown.at(provider).inc()

    def submission_settled(self, provider: str, how: str) -> None:
        """Count what became of such a submission; `how` is one of `labels.SETTLED`."""
        self._settled.at(provider, how).inc()

    def rate_limited(self, policy: str) -> None:
        """Count a request that a limit kept out; `policy` is one of `labels.POLICIES`."""
        self._limited.at(policy).inc()

    def set_watchers(self, kind: str, count: int) -> None:
        """Set how many watch jobs; `kind` is one of `labels.WATCHES`."""
        self._watchers.at(kind).set(count)

    def spent(self, provider: str, micro_usd: int) -> None:
        """Count what a run was found to have cost."""
        self._spent.at(provider).inc(micro_usd / 1_000_000)

    def unmapped_status(self, provider: str) -> None:
        """Count a status word that no table has."""
        self._unmapped.at(provider).inc()

    def callback(self, provider: str, outcome: str) -> None:
        """Count a call made to us in a provider's name; `outcome` is one of `labels.CALLBACK_OUTCOMES`."""
        self._callbacks.at(provider, outcome).inc()

    def webhook_attempt(self, outcome: str) -> None:
        """Count a try to deliver; `outcome` is one of `labels.DELIVERY_OUTCOMES`."""
        self._attempts.at(outcome).inc()

    def endpoint_disabled(self, reason: str) -> None:
        """Count an endpoint that was disabled; `reason` is one of `labels.DISABLED`."""
        self._endpoints_disabled.at(reason).inc()

    def set_endpoints(self, counts: Mapping[str, int]) -> None:
        """Set the number of endpoints by state; states left out become 0."""
        for state in ENDPOINT_STATES:
            self._endpoints.at(state).set(counts.get(state, 0))

    def set_expiring(self, counts: Mapping[str, int]) -> None:
        """Set the number of successes whose outputs lapse soon, by `labels.TOLD`; those left out become 0."""
        for told in TOLD:
            self._expiring.at(told).set(counts.get(told, 0))

    def set_at_budget(self, counts: Mapping[str, int]) -> None:
        """Set the number of owners by `labels.PERCENTS` of a budget that they have reached."""
        for percent in PERCENTS:
            self._at_budget.at(percent).set(counts.get(percent, 0))

    def forget_store(self, *, slow: bool) -> None:
        """Say of what belongs to the store that it is not known just now: what moves slowly, or the rest."""
        for gauge, metric in self._of_store:
            if metric.slow is slow:
                _forget(gauge, metric)

    def watch_storage(self, trouble: Callable[[], str | None]) -> None:
        """Show from now on whether the database can be written to.

        Args:
            trouble: why it cannot; None when it can.
        """
        self._storage_failing.set_function(lambda: float(trouble() is not None))

    def http(self, route: str | None, method: str) -> HttpMeter:
        """Return the meter of a route's template (None: no route matched) and method."""
        meter = self._http.get((route or NONE, method))
        if meter is None:
            known = self._http_seconds.close(route, method)
            meter = self._http.get(known) or HttpMeter(self._http_total, self._http_seconds, *known)
            self._http[known] = meter
        return meter

    def render(self) -> tuple[bytes, str]:
        """Return the page in Prometheus's text format, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    @staticmethod
    def _declared(name: str) -> tuple[str, str, list[str]]:
        """Take a metric off the table, for the library: name, meaning and labels."""
        metric = BY_NAME[name]
        return PREFIX + name, metric.meaning, [label.name for label in metric.labels]

    def _counter(self, name: str) -> Counter:
        return Counter(*self._declared(name), registry=self._registry)

    def _gauge(self, name: str) -> Gauge:
        made = Gauge(*self._declared(name), registry=self._registry)
        if BY_NAME[name].fleet is Fleet.MAX:
            self._of_store.append((made, BY_NAME[name]))
            _forget(made, BY_NAME[name])
        return made

    def _histogram(self, name: str) -> Histogram:
        buckets = BY_NAME[name].buckets
        return Histogram(*self._declared(name), buckets=buckets, registry=self._registry)

    def _counters(self, name: str) -> Family[Counter]:
        return self._family(self._counter(name), BY_NAME[name])

    def _gauges(self, name: str) -> Family[Gauge]:
        return self._family(self._gauge(name), BY_NAME[name])

    def _histograms(self, name: str) -> Family[Histogram]:
        return self._family(self._histogram(name), BY_NAME[name])

    def _family(self, made: M, metric: Metric) -> Family[M]:
        found = Family(made, tuple(self._door(label) for label in metric.labels))
        if metric.from_zero:
            for values in product(*(self._values(label) for label in metric.labels)):
                found.at(*values)
        return found

    def _values(self, label: Label) -> tuple[str, ...]:
        return self._own[label.values] if isinstance(label.values, Own) else label.values

    def _door(self, label: Label) -> Door:
        if label.values is Own.HTTP_STATUS:
            return _known_status
        if label.values in {Own.ACCOUNTS, Own.VERSION}:  # from our own settings; nobody else names one
            return _as_it_is
        return Closed(self._values(label))


def _forget(gauge: Gauge, metric: Metric) -> None:
    if metric.labels:
        gauge.clear()
    else:
        gauge.set(math.nan)


def _known_status(status: str | None) -> str:
    """Return an HTTP status, or `other` for a number that is none."""
    return status if status is not None and len(status) == 3 and "100" <= status <= "599" else OTHER


def _as_it_is(value: str | None) -> str:
    return NONE if value is None else value
