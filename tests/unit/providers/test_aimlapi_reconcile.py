"""AI/ML API's request log: a submission is found in it by the id that it bore, and by nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from lost_submissions import DOUBTED_MS, REQUEST, SENT_MS, Looking
from msgspec.structs import replace

from providers.aimlapi import adapter
from providers.aimlapi.emulation import emulation
from providers.aimlapi.reconcile import MOST_PAGES, ROWS_PER_PAGE, SKEW_MS
from providers.contract.emulation import (
    Answer,
    ListJobs,
    Rules,
    SimulatedFailure,
    SimulatedJob,
    WireRequest,
    json_response,
)
from providers.contract.exchange import HttpRequest, HttpResponse
from providers.contract.report import Sighting

CREATED = "2026-11-21T12:00:00.400Z"


def row(ref: str, client_id: str | None = "att_other", created: str = CREATED) -> dict[str, object]:
    return {"created": created, "inference_id": ref, "client_request_id": client_id, "status": "succeeded"}


class Log:
    """Rows in pages, as the log gives them."""

    def __init__(self, rows: Sequence[dict[str, object]]) -> None:
        self.rows = rows

    def __call__(self, request: HttpRequest) -> HttpResponse:
        query = dict(request.query)
        first, limit = int(query["offset"]), int(query["limit"])
        more = first + limit < len(self.rows)
        pagination = {"limit": limit, "offset": first, "total": len(self.rows), "has_more": more}
        return json_response(200, {"data": self.rows[first : first + limit], "pagination": pagination})


def crowd(count: int, created: str = CREATED) -> list[dict[str, object]]:
    return [row(f"inf-{number}", created=created) for number in range(count)]


def test_it_is_found_on_a_later_page_and_no_further_one_is_asked_for() -> None:
    looking = Looking(adapter, Log([*crowd(230), row("ours", "att_1"), *crowd(200)]))
    assert [sighting.ref for sighting in looking.sightings()] == ["ours"]
    assert [dict(request.query)["offset"] for request in looking.asked] == ["0", "100", "200"]


def test_rows_older_than_the_submission_end_the_look() -> None:
    looking = Looking(adapter, Log([*crowd(100, "2026-11-21T11:49:59Z"), row("ours", "att_1")]))
    assert looking.sightings() == []
    assert len(looking.asked) == 1


def test_rows_within_the_skew_of_the_clocks_do_not() -> None:
    looking = Looking(adapter, Log([*crowd(100, "2026-11-21T11:50:01Z"), row("ours", "att_1")]))
    assert [sighting.ref for sighting in looking.sightings()] == ["ours"]


def test_a_log_without_end_is_read_five_pages_deep() -> None:
    looking = Looking(adapter, Log(crowd(10_000)))
    assert looking.sightings() == []
    assert len(looking.asked) == MOST_PAGES == 5
    assert {dict(request.query)["limit"] for request in looking.asked} == {str(ROWS_PER_PAGE)}


def test_a_row_that_moved_to_the_next_page_is_seen_once() -> None:
    moved = [row("nobody", None)]
    looking = Looking(adapter, Log([*crowd(99), *moved, *moved]))
    assert [sighting.ref for sighting in looking.sightings()] == ["nobody"]


@pytest.mark.parametrize("created_ms", [SENT_MS - SKEW_MS - 1, DOUBTED_MS + SKEW_MS + 1])
def test_a_row_without_id_is_shown_only_if_it_is_of_that_time(created_ms: int) -> None:
    shown = simulated("r1", created_ms)
    listed = emulation.show_listing
    assert listed is not None
    looking = Looking(adapter, lambda _: listed((shown,), ListJobs(limit=100, offset=0), 1))
    assert looking.sightings() == []


def test_the_log_is_asked_for_the_model_whatever_the_path_of_the_submission() -> None:
    looking = Looking(adapter, Log([]))
    looking.sightings()
    (asked,) = looking.asked
    assert asked.target == "/v2/logs?period=24h&model=runway%2Fact_two&limit=100&offset=0"


# --- Both sides


def simulated(ref: str, created_ms: int = SENT_MS, **fields: object) -> SimulatedJob:
    at = datetime.fromtimestamp(created_ms / 1000, UTC).isoformat(timespec="milliseconds")
    job = SimulatedJob(ref=ref, request=REQUEST, word="completed", created_at=at, credits=650_000)
    return replace(job, **fields)


def arrived(query: dict[str, str], key: str = "k") -> WireRequest:
    headers = {"authorization": f"Bearer {key}"}
    return WireRequest(method="GET", path=("v2", "logs"), query=query, headers=headers)


def test_what_the_adapter_asks_the_emulation_understands() -> None:
    looking = Looking(adapter, Log([]))
    looking.sightings()
    received = emulation.receive(arrived(dict(looking.asked[0].query)), Rules())
    assert received == ListJobs(limit=100, offset=0, within_s=24 * 3600.0, ended_only=True)


def test_what_the_emulation_shows_the_adapter_reads() -> None:
    failed = simulated(
        "lost",
        modes={"client_request_id": "att_1"},
        failure=SimulatedFailure(code="GenerationError", message="no"),
    )
    listed = emulation.show_listing
    assert listed is not None
    shown = (simulated("other", modes={"client_request_id": "att_2"}), failed, simulated("nobody"))
    looking = Looking(adapter, lambda _: listed(shown, ListJobs(limit=100, offset=0), 3))
    assert looking.sightings() == [
        Sighting(ref="lost", client_id="att_1", created_ms=SENT_MS),
        Sighting(ref="nobody", created_ms=SENT_MS),
    ]


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"period": "0h"},
        {"period": "24"},
        {"period": "24h", "start": "2026-11-21T00:00:00Z", "end": "2026-11-21T01:00:00Z"},
        {"start": "2026-11-21T00:00:00Z"},
        {"start": "yesterday", "end": "today"},
        {"period": "24h", "limit": "0"},
        {"period": "24h", "limit": "101"},
        {"period": "24h", "offset": "-1"},
        {"period": "24h", "status": "succeeded,failed"},
    ],
)
def test_the_emulation_refuses_what_the_log_refuses(query: dict[str, str]) -> None:
    received = emulation.receive(arrived(query), Rules())
    assert isinstance(received, Answer)
    assert received.response.status == 400


def test_the_emulation_wants_its_key_for_the_log() -> None:
    received = emulation.receive(arrived({"period": "24h"}, "wrong"), Rules(keys=frozenset({"right"})))
    assert isinstance(received, Answer)
    assert received.response.status == 401


def test_the_emulation_takes_the_bare_alias_dates_and_an_outcome() -> None:
    query = {
        "start": "2026-11-21T12:00:00Z",
        "end": "2026-11-21T12:01:00",
        "model": "act_two",
        "status": "failed",
    }
    received = emulation.receive(arrived(query), Rules())
    assert received == ListJobs(
        limit=50, offset=0, since_ms=SENT_MS, until_ms=DOUBTED_MS, words=frozenset({"error"}), ended_only=True
    )


def test_another_models_log_is_empty() -> None:
    received = emulation.receive(arrived({"period": "7d", "model": "openai/gpt-5"}), Rules())
    assert isinstance(received, Answer)
    looking = Looking(adapter, lambda _: received.response)
    assert looking.sightings() == []
