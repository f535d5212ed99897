"""The one translation: only an explicit word ends a job, and no rubbish comes through."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from providers.contract.errors import DECISIONS, HTTP_DEFAULTS, ErrorCode
from providers.contract.normalize import classify, normalize, priced, rule_for
from providers.contract.report import Cost, Failure, Observation
from providers.contract.spec import FailureRule, Source, Standing, StatusWord
from providers.contract.status import RANKS, TERMINAL, JobStatus
from providers.runway.spec import SPEC as RUNWAY

#: The same examples everywhere, and no clock: a slow machine is no failure.
STEADY = settings(derandomize=True, database=None, deadline=None)

SOURCE = Source("made up for a test", "2026-11-21", Standing.INFERRED)


def rule(code: ErrorCode, **conditions: Any) -> FailureRule:
    return FailureRule(code=code, source=SOURCE, **conditions)


SPEC = replace(
    RUNWAY,
    title="Made Up",
    statuses=(
        StatusWord("waiting", JobStatus.QUEUED, SOURCE),
        StatusWord("held", JobStatus.QUEUED, SOURCE, slow=True),
        StatusWord("working", JobStatus.RUNNING, SOURCE),
        StatusWord("Done", JobStatus.SUCCEEDED, SOURCE),
        StatusWord("broken", JobStatus.FAILED, SOURCE),
        StatusWord("stopped", JobStatus.CANCELLED, SOURCE),
    ),
    failures=(
        rule(ErrorCode.CONTENT_REJECTED, provider_code="SAFETY."),
        rule(ErrorCode.INVALID_MEDIA, provider_code="ASSET"),
        rule(ErrorCode.INSUFFICIENT_FUNDS, http_status=400, message_contains="Credits"),
        rule(ErrorCode.RATE_LIMITED, http_status=403),
        rule(ErrorCode.TIMEOUT, message_contains="too long"),
    ),
    micro_usd_per_credit=10_000,
)
URL = "https://cdn.example/a.mp4"


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("waiting", JobStatus.QUEUED),
        ("WORKING", JobStatus.RUNNING),
        (" done ", JobStatus.SUCCEEDED),
        ("broken", JobStatus.FAILED),
        ("Stopped", JobStatus.CANCELLED),
        ("work", None),
        ("workings", None),
        ("", None),
        ("succeeded", None),
    ],
)
def test_a_word_means_what_the_table_says_and_else_nothing(word: str, status: JobStatus | None) -> None:
    update = normalize(SPEC, Observation(status=word, outputs=(URL,)))
    assert update.status is status


@STEADY
@given(st.text())
def test_no_word_but_a_listed_one_ends_a_job(word: str) -> None:
    update = normalize(SPEC, Observation(status=word, outputs=(URL,), failure=Failure(code="X")))
    assert update.status is None or word.strip().casefold() in {
        "waiting",
        "held",
        "working",
        "done",
        "broken",
        "stopped",
    }
    assert "\x00" not in update.provider_status


def test_an_unknown_word_brings_no_output_error_or_cost() -> None:
    seen = Observation(
        status="new", outputs=(URL,), failure=Failure(message="x"), cost=Cost(credits=1), progress=0.5
    )
    update = normalize(SPEC, seen)
    assert (update.status, update.outputs, update.error, update.cost, update.progress) == (
        None,
        (),
        None,
        None,
        0.5,
    )
    assert update.provider_status == "new"


def test_a_slow_word_is_marked() -> None:
    assert normalize(SPEC, Observation(status="held")).slow
    assert not normalize(SPEC, Observation(status="waiting")).slow


def test_success_is_complete_and_priced() -> None:
    update = normalize(SPEC, Observation(status="done", outputs=(URL,), progress=0.3, cost=Cost(credits=2.5)))
    assert (update.status, update.outputs, update.progress) == (JobStatus.SUCCEEDED, (URL,), 1.0)
    assert update.cost == Cost(credits=2.5, micro_usd=25_000)
    assert not update.drift


@pytest.mark.parametrize("outputs", [(), ("",), ("http://cdn.example/a",), ("nonsense", "ftp://a.example")])
def test_success_without_a_usable_output_is_a_failure_that_contradicts_itself(
    outputs: tuple[str, ...],
) -> None:
    update = normalize(SPEC, Observation(status="done", outputs=outputs, cost=Cost(credits=1)))
    assert update.status is JobStatus.FAILED
    assert update.drift
    assert update.outputs == ()
    assert update.error is not None
    assert update.error.code is ErrorCode.PROVIDER_CONTRACT
    assert update.cost == Cost(credits=1, micro_usd=10_000)


def test_usable_outputs_are_kept_beside_unusable_ones() -> None:
    assert normalize(SPEC, Observation(status="done", outputs=("x", URL))).outputs == (URL,)


def test_plain_http_is_an_output_only_where_allowed() -> None:
    seen = Observation(status="done", outputs=("http://127.0.0.1/a.mp4",))
    assert normalize(SPEC, seen, allow_http=True).status is JobStatus.SUCCEEDED


def test_a_failure_without_a_reason_is_still_a_failure() -> None:
    update = normalize(SPEC, Observation(status="broken", outputs=(URL,)))
    assert update.status is JobStatus.FAILED
    assert update.error is not None
    assert (update.error.code, update.error.message) == (ErrorCode.PROVIDER_ERROR, "Made Up gave no reason")
    assert update.outputs == ()


@pytest.mark.parametrize(
    ("progress", "shown"),
    [(0.0, 0.0), (0.42, 0.42), (1.0, 1.0), (-0.1, None), (1.1, None), (float("nan"), None), (None, None)],
)
def test_progress_is_a_fraction_or_not_shown(progress: float | None, shown: float | None) -> None:
    assert normalize(SPEC, Observation(status="working", progress=progress)).progress == shown


@pytest.mark.parametrize(
    ("failure", "http_status", "code"),
    [
        (Failure(code="SAFETY.INPUT"), None, ErrorCode.CONTENT_REJECTED),
        (Failure(code="SAFETY"), None, ErrorCode.CONTENT_REJECTED),
        (Failure(code="SAFETYNET"), None, ErrorCode.PROVIDER_ERROR),
        (Failure(code="safety.input"), None, ErrorCode.PROVIDER_ERROR),
        (Failure(code="ASSET"), None, ErrorCode.INVALID_MEDIA),
        (Failure(code="ASSET.X"), None, ErrorCode.PROVIDER_ERROR),
        (Failure(message="not enough CREDITS left"), 400, ErrorCode.INSUFFICIENT_FUNDS),
        (Failure(message="not enough credits left"), 402, ErrorCode.INSUFFICIENT_FUNDS),
        (Failure(message="not enough credits left"), None, ErrorCode.PROVIDER_ERROR),
        (Failure(), 403, ErrorCode.RATE_LIMITED),
        (Failure(message="it took too long"), None, ErrorCode.TIMEOUT),
        (Failure(code="SAFETY.X", message="too long"), 403, ErrorCode.CONTENT_REJECTED),
        *((Failure(), status, code) for status, code in HTTP_DEFAULTS.items() if status != 403),
        (Failure(), 404, ErrorCode.INVALID_REQUEST),
        (Failure(), 418, ErrorCode.INVALID_REQUEST),
        (Failure(), 301, ErrorCode.PROVIDER_ERROR),
        (Failure(), 599, ErrorCode.PROVIDER_ERROR),
        (Failure(), None, ErrorCode.PROVIDER_ERROR),
    ],
)
def test_the_first_rule_that_fits_decides_else_the_http_status(
    failure: Failure, http_status: int | None, code: ErrorCode
) -> None:
    assert classify(SPEC, failure, http_status=http_status).code is code


def test_the_deciding_rule_can_be_asked_for() -> None:
    assert rule_for(SPEC, Failure(code="ASSET"), http_status=None) == SPEC.failures[1]
    assert rule_for(SPEC, Failure(), http_status=500) is None


def test_what_the_provider_said_is_kept_but_bounded_and_clean() -> None:
    error = classify(SPEC, Failure(code="A\x00" * 600, message="one\r\ntwo\x00"), http_status=500)
    assert error.message == "one two"
    assert error.provider_code is not None
    assert len(error.provider_code) <= 500
    assert "\x00" not in error.provider_code
    assert classify(SPEC, Failure(code="\x00"), http_status=500).provider_code is None


@pytest.mark.parametrize(
    ("cost", "result"),
    [
        (None, None),
        (Cost(), None),
        (Cost(credits=0), Cost(credits=0, micro_usd=0)),
        (Cost(credits=50), Cost(credits=50, micro_usd=500_000)),
        (Cost(credits=0.00004), Cost(credits=0.00004, micro_usd=0)),
        (Cost(micro_usd=7), Cost(micro_usd=7)),
        (Cost(credits=1, micro_usd=7), Cost(credits=1, micro_usd=7)),
        (Cost(credits=-50), None),
        (Cost(micro_usd=-1), None),
        (Cost(credits=float("nan")), None),
        (Cost(credits=float("inf")), None),
        (Cost(credits=2.0**52), Cost(credits=2.0**52)),
        (Cost(credits=1, micro_usd=2**63), Cost(credits=1, micro_usd=10_000)),
    ],
)
def test_a_cost_is_priced_and_what_cannot_be_one_is_dropped(cost: Cost | None, result: Cost | None) -> None:
    assert priced(SPEC, cost) == result


def test_credits_without_a_price_stay_credits() -> None:
    assert priced(replace(SPEC, micro_usd_per_credit=None), Cost(credits=3)) == Cost(credits=3)


def test_every_code_has_a_decision_and_a_refusal_of_the_caller_never_moves_on() -> None:
    assert set(DECISIONS) == set(ErrorCode)
    for decision in DECISIONS.values():
        assert 400 <= decision.http_status < 600
        assert not (
            decision.fault == "caller" and (decision.retry or decision.failover or decision.retryable)
        )


def test_statuses_rank_upwards_to_the_terminal_ones() -> None:
    assert {status for status in JobStatus if status.terminal} == TERMINAL
    assert [JobStatus.QUEUED.rank, JobStatus.RUNNING.rank] == [0, 1]
    assert {RANKS[status] for status in TERMINAL} == {2}
