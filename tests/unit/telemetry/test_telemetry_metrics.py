from __future__ import annotations

import math
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry import Metrics
from gateway.telemetry.declared import METRICS, PREFIX, Fleet, Kind, Own
from gateway.telemetry.labels import CALLBACK_OUTCOMES, CODES, DELIVERY_OUTCOMES, OUTCOMES, STATUSES
from gateway.upstream import classify
from gateway.webhooks.outcome import Outcome
from providers.contract.errors import ErrorCode
from providers.contract.proof import Flaw
from providers.contract.status import JobStatus

EXPECTED = {
    "jobs_accepted_total": {"model"},
    "rate_limited_total": {"policy"},
    "spend_usd_total": {"provider"},
    "jobs_finished_total": {"provider", "status", "code"},
    "job_duration_seconds": {"provider", "status"},
    "jobs_in_progress": {"provider", "status"},
    "jobs_held": set(),
    "provider_requests_total": {"provider", "operation", "outcome"},
    "provider_request_duration_seconds": {"provider", "operation"},
    "submissions_unknown_total": {"provider"},
    "submissions_settled_total": {"provider", "how"},
    "unmapped_status_total": {"provider"},
    "callbacks_total": {"provider", "outcome"},
    "slots_in_use": {"provider", "account"},
    "slots_limit": {"provider", "account"},
    "breaker_open": {"provider", "account", "operation"},
    "poll_lag_seconds": set(),
    "detection_lag_seconds": set(),
    "webhook_attempts_total": {"outcome"},
    "webhook_lag_seconds": set(),
    "webhook_backlog": set(),
    "webhook_oldest_seconds": set(),
    "webhook_endpoints": {"state"},
    "webhook_endpoints_disabled_total": {"reason"},
    "watchers": {"kind"},
    "http_requests_total": {"route", "method", "status"},
    "http_request_duration_seconds": {"route", "method"},
    "storage_commit_seconds": set(),
    "storage_batch_size": set(),
    "event_loop_lag_seconds": set(),
    "build_info": {"version"},
    "owners_at_budget": {"percent"},
    "outputs_expiring": {"told"},
    "queue_oldest_seconds": set(),
    "storage_failing": set(),
    "storage_refused_total": set(),
}  # fmt: skip


def fresh() -> Metrics:
    return Metrics(version="1.2.3", providers=["alpha"], models=["act-two"], routes=["/v1/jobs"])


def page(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.render()[0].decode())
    return {
        (sample.name.removeprefix("motion_gateway_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def use_everything(metrics: Metrics, word: str) -> None:
    metrics.job_accepted(word)
    metrics.job_finished(word, word, word, 1.0)
    metrics.set_jobs_in_progress({(word, word): 1, (None, "queued"): 2})
    metrics.provider_request(word, word, word, 0.1)
    metrics.submission_unknown(word)
    metrics.unmapped_status(word)
    metrics.callback(word, word)
    metrics.rate_limited(word)
    metrics.set_slots("alpha", "default", 2, 3)
    metrics.set_unwell("alpha", "default", "submit", unwell=True)
    metrics.spent(word, 1)
    metrics.webhook_attempt(word)
    metrics.endpoint_disabled(word)
    metrics.set_endpoints({word: 1, "enabled": 2})
    metrics.set_expiring({word: 1, "unasked": 2})
    metrics.set_at_budget({word: 1, "80": 2})
    metrics.http(word, word).done(200, 0.001)


def test_every_promised_metric_is_there_with_its_labels() -> None:
    metrics = fresh()
    use_everything(metrics, "x")
    found: dict[str, set[str]] = {}
    for name, labels in page(metrics):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        found.setdefault(base, set()).update({label for label, _ in labels} - {"le"})
    assert found == EXPECTED


def test_all_names_have_the_prefix_and_a_meaning() -> None:
    text = fresh().render()[0].decode()
    helps = re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE)
    assert len(helps) == len(EXPECTED)
    assert all(name.startswith("motion_gateway_") and meaning.endswith(".") for name, meaning in helps)
    assert "_created" not in text


def test_hostile_words_land_in_other_and_add_no_series() -> None:
    metrics = fresh()
    use_everything(metrics, "x")
    before = len(page(metrics))
    for number in range(10_000):
        use_everything(metrics, f"word-{number}")
    after = page(metrics)
    assert len(after) == before
    assert (
        after["jobs_finished_total", (("code", "other"), ("provider", "other"), ("status", "other"))]
        == 10_001
    )


def test_known_words_keep_their_names_and_absent_ones_are_none() -> None:
    metrics = fresh()
    metrics.job_finished("alpha", "failed", "timeout", 61.0)
    metrics.job_finished(None, "cancelled", None, 0.5)
    metrics.provider_request("alpha", "submit", "made", 0.2)
    metrics.http(None, "GET").done(404, 0.001)
    shown = page(metrics)
    assert (
        shown["jobs_finished_total", (("code", "timeout"), ("provider", "alpha"), ("status", "failed"))] == 1
    )
    assert (
        shown["jobs_finished_total", (("code", "none"), ("provider", "none"), ("status", "cancelled"))] == 1
    )
    made = (("operation", "submit"), ("outcome", "made"), ("provider", "alpha"))
    assert shown["provider_requests_total", made] == 1
    assert shown["http_requests_total", (("method", "GET"), ("route", "none"), ("status", "404"))] == 1


def test_the_closed_sets_are_those_of_the_rooms_that_count() -> None:
    kinds = (
        classify.Made,
        classify.Withheld,
        classify.Unknown,
        classify.Seen,
        classify.Missing,
        classify.Done,
    )
    assert {kind.__name__.lower() for kind in kinds} | set(CODES) == set(OUTCOMES)
    assert set(DELIVERY_OUTCOMES) == {outcome.value for outcome in Outcome}
    assert {flaw.value for flaw in Flaw} < set(CALLBACK_OUTCOMES)
    assert set(CODES) == {code.value for code in ErrorCode}
    assert set(STATUSES) == {status.value for status in JobStatus}


def test_counters_that_alarm_begin_at_zero() -> None:
    shown = page(fresh())
    assert shown["submissions_unknown_total", (("provider", "alpha"),)] == 0
    assert shown["unmapped_status_total", (("provider", "alpha"),)] == 0


def test_jobs_in_progress_are_set_and_not_added() -> None:
    metrics = fresh()
    metrics.set_jobs_in_progress(
        {("alpha", "running"): 3, (None, "queued"): 2, ("x", "queued"): 1, ("y", "queued"): 1}
    )
    shown = page(metrics)
    assert shown["jobs_in_progress", (("provider", "alpha"), ("status", "running"))] == 3
    assert shown["jobs_in_progress", (("provider", "none"), ("status", "queued"))] == 2
    assert shown["jobs_in_progress", (("provider", "other"), ("status", "queued"))] == 2
    metrics.set_jobs_in_progress({})
    shown = page(metrics)
    assert shown["jobs_in_progress", (("provider", "alpha"), ("status", "running"))] == 0
    assert ("jobs_in_progress", (("provider", "other"), ("status", "queued"))) not in shown


def test_meters_are_made_once_for_each_route_and_method() -> None:
    metrics = fresh()
    meter = metrics.http("/v1/jobs", "POST")
    assert metrics.http("/v1/jobs", "POST") is meter
    assert metrics.http("/nowhere", "POST") is metrics.http("/elsewhere", "POST")
    for status in (202, 202, 422, 0, 999):
        meter.done(status, 0.003)
    shown = page(metrics)
    labels = (("method", "POST"), ("route", "/v1/jobs"))
    assert shown["http_requests_total", (*labels, ("status", "202"))] == 2
    assert shown["http_requests_total", (*labels, ("status", "other"))] == 2
    assert shown["http_request_duration_seconds_count", labels] == 5


@pytest.mark.parametrize(
    ("name", "short", "long"),
    [("job_duration_seconds", "1.0", "7200.0"), ("http_request_duration_seconds", "0.001", "60.0")],
)
def test_buckets_span_what_is_measured(name: str, short: str, long: str) -> None:
    metrics = fresh()
    use_everything(metrics, "x")
    bounds = {dict(labels)["le"] for found, labels in page(metrics) if found == f"{name}_bucket"}
    assert {short, long, "+Inf"} <= bounds


def test_two_gateways_in_one_process_count_apart() -> None:
    one, other = fresh(), fresh()
    one.job_accepted("act-two")
    one.poll_lag_seconds.observe(0.2)
    assert page(one)["jobs_accepted_total", (("model", "act-two"),)] == 1
    assert page(other)["jobs_accepted_total", (("model", "act-two"),)] == 0


def test_the_page_has_prometheus_content_type_and_the_version() -> None:
    body, content_type = fresh().render()
    assert content_type.startswith("text/plain")
    assert b'motion_gateway_build_info{version="1.2.3"} 1.0' in body


def test_the_table_is_what_is_exported() -> None:
    metrics = fresh()
    use_everything(metrics, "x")
    families = {
        family.name: family for family in text_string_to_metric_families(metrics.render()[0].decode())
    }
    assert len(families) == len(METRICS)
    for metric in METRICS:
        found = families[(PREFIX + metric.name).removesuffix("_total")]
        assert (found.type, found.documentation) == (metric.kind.value, metric.meaning), metric.name
        assert {sample.name for sample in found.samples} == set(metric.series)
        own = {frozenset(sample.labels) - {"le"} for sample in found.samples}
        assert own == {frozenset(label.name for label in metric.labels)}, metric.name


def test_what_a_process_counts_is_summed_and_what_the_store_holds_is_not() -> None:
    for metric in METRICS:
        assert metric.unit
        assert (metric.kind is Kind.HISTOGRAM) == bool(metric.buckets), metric.name
        assert metric.buckets == tuple(sorted(set(metric.buckets))), metric.name
        assert (metric.kind is Kind.COUNTER) == metric.name.endswith("_total"), metric.name
        if metric.kind is not Kind.GAUGE:
            assert metric.fleet is Fleet.SUM, metric.name


def test_every_closed_set_is_kept_and_a_set_of_our_own_never_ends_in_other() -> None:
    metrics = fresh()
    use_everything(metrics, "x")
    own = {Own.PROVIDERS: {"alpha"}, Own.MODELS: {"act-two"}, Own.ROUTES: {"/v1/jobs"}}
    allowed = {
        (series, label.name): own.get(label.values) if isinstance(label.values, Own) else set(label.values)
        for metric in METRICS
        for series in metric.series
        for label in metric.labels
    }
    for name, labels in page(metrics):
        for label, value in dict(labels).items():
            known = allowed.get((PREFIX + name, label))
            assert known is None or value in known | {"other", "none"}, (name, label, value)


def test_what_belongs_to_the_store_is_not_shown_before_anybody_looked() -> None:
    shown = page(fresh())
    for metric in METRICS:
        values = [value for (name, _), value in shown.items() if name == metric.name]
        if metric.fleet is Fleet.MAX:
            assert [math.isnan(value) for value in values] == [True] * (not metric.labels), metric.name


def test_a_database_in_trouble_shows_as_failing_while_it_is() -> None:
    metrics = fresh()
    assert page(metrics)["storage_failing", ()] == 0
    trouble: list[str | None] = ["the disk is full"]
    metrics.watch_storage(lambda: trouble[0])
    assert page(metrics)["storage_failing", ()] == 1
    trouble[0] = None
    assert page(metrics)["storage_failing", ()] == 0
