"""The job as users see it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from job_examples import NOW_MS, OUTPUT_URL, a_job, an_attempt
from msgspec.structs import replace

from gateway.jobs.job import AttemptState, Held, Output
from gateway.jobs.view import instant, view
from providers.contract.errors import ErrorCode, UpstreamError
from providers.contract.status import JobStatus

STEADY = settings(derandomize=True, database=None, deadline=None)
NOW = "2027-01-15T08:00:00.000Z"


def shown(*args: Any) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(view(*args)))
    return document


def test_a_new_job_shows_every_field_and_no_guess() -> None:
    document = shown(a_job(), ())
    request = document.pop("request")
    assert document == {
        "id": a_job().id,
        "status": "queued",
        "progress": None,
        "provider": None,
        "model": "act-two",
        "simulated": False,
        "created_at": NOW,
        "started_at": None,
        "finished_at": None,
        "deadline_at": "2027-01-15T08:10:00.000Z",
        "cancel_requested_at": None,
        "provider_may_bill": False,
        "outputs": [],
        "error": None,
        "held": None,
        "attempts": [],
        "cost": {"estimated_usd": None, "charged_usd": None},
        "metadata": {},
    }
    assert request["expression_intensity"] == 3
    assert request["content_moderation"] == {"public_figure_threshold": "auto"}
    assert request["on_unknown_submission"] == "hold"


def test_an_ended_job_shows_what_it_came_to() -> None:
    error = UpstreamError(code=ErrorCode.TIMEOUT, message="too slow", provider_code="E7")
    job = a_job(
        status=JobStatus.FAILED,
        finished_at_ms=NOW_MS + 1,
        error=error,
        outputs=(Output(url=OUTPUT_URL, content_type="video/mp4", expires_at_ms=NOW_MS),),
        held=Held(reason="r", since_ms=NOW_MS, until_ms=NOW_MS + 2),
        provider_may_bill=True,
    )
    document = shown(replace(job, metadata={"a": "ü"}, estimated_micro_usd=1_500_000), ())
    told = {"code": "timeout", "message": "too slow", "retryable": True, "provider_code": "E7"}
    assert (document["error"], document["finished_at"]) == (told, "2027-01-15T08:00:00.001Z")
    assert document["outputs"] == [{"url": OUTPUT_URL, "content_type": "video/mp4", "expires_at": NOW}]
    assert document["held"] == {"reason": "r", "since": NOW, "until": "2027-01-15T08:00:00.002Z"}
    assert (document["metadata"], document["provider_may_bill"]) == ({"a": "ü"}, True)
    assert document["cost"] == {"estimated_usd": 1.5, "charged_usd": None}


def test_every_attempts_charge_counts() -> None:
    attempts = (
        an_attempt(AttemptState.FAILED, micro_usd=250_000),
        an_attempt(AttemptState.REFUSED, 2),
        an_attempt(AttemptState.SUCCEEDED, 3, credits=5.0, micro_usd=0),
        an_attempt(AttemptState.ACCEPTED, 4, credits=1.0),
    )
    document = shown(a_job(), attempts)
    assert document["cost"]["charged_usd"] == 0.25
    assert [one["cost"] for one in document["attempts"]] == [
        {"credits": None, "usd": 0.25},
        None,
        {"credits": 5.0, "usd": 0.0},
        {"credits": 1.0, "usd": None},
    ]
    assert [one["state"] for one in document["attempts"]] == ["failed", "refused", "succeeded", "accepted"]
    assert (document["attempts"][0]["provider_ref"], document["attempts"][1]["provider_ref"]) == (
        "ref-1",
        None,
    )


@STEADY
@given(st.integers(0, 4_102_444_800_000))
def test_an_instant_is_rfc_3339_in_utc_to_the_millisecond(ms: int) -> None:
    text = instant(ms)
    assert len(text) == len(NOW)
    read = datetime.fromisoformat(text)
    assert read.tzinfo == UTC
    assert round(read.timestamp() * 1000) == ms
