"""Lists of jobs: who is in them and when, and what can be made to go wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from simulator_fleet import EMULATIONS, NAMES, RUN_S, Caller, FakeClock, Fleet, asking, fleet, read, script

from providers.contract.adapter import Sought
from providers.contract.report import Sighting

LISTING = [name for name in NAMES if EMULATIONS[name].show_listing is not None]
PATHS = {"aimlapi": "/aimlapi/v2/logs?period=24h", "eachlabs": "/eachlabs/v1/executions?limit=50"}
ROWS = {"aimlapi": ("data", "inference_id"), "eachlabs": ("executions", "id")}
KEY = {"authorization": "Bearer key_test"}
START_MS = FakeClock().now_ms()


async def listed(providers: Fleet, name: str, query: str = "", headers: Mapping[str, str] = KEY) -> list[str]:
    answer = await providers.http.get(PATHS[name] + query, headers=headers)
    assert answer.status_code == 200, answer.text
    rows, ref = ROWS[name]
    return [row[ref] for row in answer.json()[rows]]


async def looked(caller: Caller, *, sent_ms: int, doubted_ms: int, **sought: Any) -> tuple[Sighting, ...]:
    """Look for a lost submission the way the gateway will."""
    assert caller.adapter.reconcile is not None
    body = caller.adapter.build_submit(asking(), caller.context()).json
    assert body is not None
    wanted = Sought(body=body, sent_ms=sent_ms, doubted_ms=doubted_ms, **sought)
    looking = caller.adapter.reconcile(caller.context(), wanted)
    try:
        request = next(looking)
        while True:
            response = await caller.http.send(caller.prepared(request))
            assert response.is_success or response.status_code == 404, response.text
            request = looking.send(read(response))
    except StopIteration as ended:
        seen: tuple[Sighting, ...] = ended.value
        return seen


def test_the_providers_that_can_be_searched_are_simulated_so() -> None:
    assert LISTING == ["aimlapi", "eachlabs"]


@pytest.mark.parametrize("name", LISTING)
async def test_the_newest_job_comes_first_and_pages_go_on(name: str) -> None:
    async with fleet() as providers:
        refs: list[str] = []
        for _ in range(5):
            refs.append(await providers[name].submitted())
            providers.clock.now_s += 1
        await providers.finish()
        first = await listed(providers, name, "&limit=2")
        second = await listed(providers, name, "&limit=2&offset=2")
        beyond = await listed(providers, name, "&limit=2&offset=10")
        stats = await providers.stats()
    assert [*first, *second] == refs[:0:-1]
    assert beyond == []
    assert stats["lists"] == dict.fromkeys(NAMES, 0) | {name: 3}


async def test_a_log_has_no_row_before_the_end_and_executions_have_one_at_once() -> None:
    async with fleet() as providers:
        refs = {name: await providers[name].submitted() for name in LISTING}
        assert await listed(providers, "eachlabs") == [refs["eachlabs"]]
        assert await listed(providers, "aimlapi") == []
        await providers.finish()
        assert await listed(providers, "aimlapi") == [refs["aimlapi"]]


async def test_rows_can_be_late_by_a_set_time() -> None:
    async with fleet(rows_late_s=30.0) as providers:
        refs = {name: await providers[name].submitted() for name in LISTING}
        await providers.finish()
        providers.clock.now_s += 30 - RUN_S
        assert await listed(providers, "eachlabs") == [refs["eachlabs"]]
        providers.clock.now_s += RUN_S - 0.1
        assert await listed(providers, "aimlapi") == []
        providers.clock.now_s += 0.2
        assert await listed(providers, "aimlapi") == [refs["aimlapi"]]


async def test_a_failed_request_has_a_row_without_cost() -> None:
    async with fleet(faults=script("fail:provider_error")) as providers:
        ref = await providers["aimlapi"].submitted()
        await providers.finish()
        answer = await providers.http.get(PATHS["aimlapi"], headers=KEY)
    (row,) = answer.json()["data"]
    assert (row["inference_id"], row["status"], row["cost"]) == (ref, "failed", {"usd": 0, "credits": 0})
    assert row["client_request_id"] == "att_test"


async def test_a_request_that_fails_at_a_poll_has_its_row_from_then_on() -> None:
    async with fleet(faults=script("fail:provider_error", "poll")) as providers:
        ref = await providers["aimlapi"].submitted()
        assert await listed(providers, "aimlapi") == []
        await providers["aimlapi"].poll(ref)
        assert await listed(providers, "aimlapi") == [ref]


async def test_a_cancelled_prediction_stays_in_the_list() -> None:
    async with fleet() as providers:
        ref = await providers["eachlabs"].submitted()
        await providers["eachlabs"].cancel(ref)
        answer = await providers.http.get(PATHS["eachlabs"], headers=KEY)
    (row,) = answer.json()["executions"]
    assert (row["id"], row["status"]) == (ref, "cancelled")


async def test_windows_and_words_narrow_a_list() -> None:
    async with fleet() as providers:
        early = await providers["eachlabs"].submitted()
        providers.clock.now_s += 3600
        late = await providers["eachlabs"].submitted()
        await providers.finish()
        newest = await providers["eachlabs"].submitted()
        border = "2026-09-21T14:23:00Z"  # ten minutes after the start
        assert await listed(providers, "eachlabs", f"&to={border}") == [early]
        assert await listed(providers, "eachlabs", f"&from={border}") == [newest, late]
        assert await listed(providers, "eachlabs", "&status=success") == [late, early]
        assert await listed(providers, "eachlabs", "&status=created,starting") == [newest]
        assert await listed(providers, "aimlapi", "&status=failed") == []


async def test_a_period_ends_where_it_says() -> None:
    async with fleet() as providers:
        await providers["aimlapi"].submitted()
        await providers.finish()
        providers.clock.now_s = 24 * 3600
        assert len(await listed(providers, "aimlapi")) == 1
        providers.clock.now_s = 24 * 3600 + 1
        assert await listed(providers, "aimlapi") == []


@pytest.mark.parametrize("name", LISTING)
async def test_a_list_wants_the_key(name: str) -> None:
    async with fleet() as providers:
        answer = await providers.http.get(PATHS[name])
        assert answer.status_code == 401
        assert (await providers.stats())["lists"][name] == 0


@pytest.mark.parametrize("name", LISTING)
async def test_rows_can_be_missing_for_some_looks(name: str) -> None:
    async with fleet(faults=script("no_rows", "list", times=2)) as providers:
        ref = await providers[name].submitted()
        await providers.finish()
        assert [await listed(providers, name) for _ in range(3)] == [[], [], [ref]]


@pytest.mark.parametrize("name", LISTING)
async def test_a_lists_answer_can_be_spoilt(name: str) -> None:
    async with fleet(faults=script("accept_502", "list", times=1)) as providers:
        await providers[name].submitted()
        await providers.finish()
        answer = await providers.http.get(PATHS[name], headers=KEY)
        assert answer.status_code == 502
        assert len(await listed(providers, name)) == 1


@pytest.mark.parametrize("name", LISTING)
async def test_a_lost_submission_is_found_by_the_adapter_and_no_other_is_taken_for_it(name: str) -> None:
    async with fleet(faults=script("accept_502", times=1)) as providers:
        caller = providers[name]
        lost = await caller.submit()
        assert lost.status_code == 502
        assert await looked(caller, sent_ms=START_MS, doubted_ms=START_MS + 1000) == () or name == "eachlabs"
        providers.clock.now_s += 600
        await caller.submitted(asking("https://media.example/villain.png"))
        await providers.finish()
        seen = await looked(caller, sent_ms=START_MS, doubted_ms=START_MS + 1000)
        ours = [sighting for sighting in seen if await matches(caller, sighting)]
        stats = await providers.stats()
    assert len(ours) == 1
    assert stats["accepted"][name] == 2


async def matches(caller: Caller, sighting: Sighting) -> bool:
    """What the gateway will hold against it: the first submission, by its inputs, or by its time."""
    if sighting.inputs is None:
        return sighting.client_id == "att_test" and sighting.created_ms == START_MS
    body: dict[str, Any] = caller.adapter.build_submit(asking(), caller.context()).json or {}
    return all(body[name] == value for name, value in sighting.inputs.items())


async def test_a_provider_without_a_list_says_so() -> None:
    async with fleet() as providers:
        headers = {**KEY, "x-runway-version": "2024-11-06"}
        answer = await providers.http.get("/runway/v1/tasks", headers=headers)
        assert answer.status_code == httpx.codes.NOT_FOUND
