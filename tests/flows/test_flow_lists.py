"""Lists of jobs: pages, filters, cursors."""

from __future__ import annotations

import pytest
from running_gateway import PROVIDERS, StartGateway, fault


@pytest.mark.parametrize(("count", "expected"), [(4, [2, 2]), (5, [2, 2, 1])])
async def test_pages_are_newest_first_and_meet_at_their_cursors(
    start_gateway: StartGateway, count: int, expected: list[int]
) -> None:
    running = await start_gateway()
    await running.gateway.stop_worker()
    made = [await running.accept(PROVIDERS[0]) for _ in range(count)]
    seen: list[str] = []
    cursor: str | None = None
    sizes = []
    while True:
        query = {"limit": "2"} | ({} if cursor is None else {"cursor": cursor})
        page = (await running.client.get("/v1/jobs", params=query)).json()
        seen += [job["id"] for job in page["jobs"]]
        sizes.append(len(page["jobs"]))
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert sizes == expected
    assert sorted(seen) == sorted(made)
    assert seen == sorted(seen, reverse=True)


async def test_filters_choose(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    provider, other = PROVIDERS[0], PROVIDERS[1]
    running.break_(fault("accept_500", provider=other), fault("no_rows", "list"))
    done, held = await running.accept(provider), await running.accept(other)
    finished = await running.ended(done)
    await running.held(held)
    await running.gateway.stop_worker()
    waiting = await running.accept(provider)

    async def found(**query: str) -> set[str]:
        reply = await running.client.get("/v1/jobs", params=query)
        assert reply.status_code == 200, reply.text
        return {job["id"] for job in reply.json()["jobs"]}

    assert await found() == {done, held, waiting}
    assert await found(status="succeeded") == {done}
    assert await found(status="queued") == {held, waiting}
    assert await found(held="true") == {held}
    assert await found(held="false") == {done, waiting}
    assert await found(provider=other) == {held}
    assert await found(provider=provider, status="queued") == set()
    assert await found(created_before=finished["created_at"]) == set()
    assert await found(created_after=finished["created_at"]) == {held, waiting}
    assert await found(status="failed") == set()


async def test_a_cursor_is_worth_nothing_elsewhere(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    await running.gateway.stop_worker()
    for _ in range(2):
        await running.accept()
    cursor = (await running.client.get("/v1/jobs?limit=1")).json()["next_cursor"]
    assert (await running.client.get("/v1/jobs", params={"cursor": cursor})).status_code == 200
    async with running.another_client("somebody else") as client:
        for asking, query in (
            (running.client, {"cursor": cursor, "status": "queued"}),
            (running.client, {"cursor": cursor[:-1]}),
            (running.client, {"cursor": "A" * len(cursor)}),
            (client, {"cursor": cursor}),
        ):
            reply = await asking.get("/v1/jobs", params=query)
            assert (reply.status_code, reply.json()["type"]) == (400, "/problems/invalid-cursor")
