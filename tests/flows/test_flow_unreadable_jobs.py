"""A job that this version cannot read: asked for, it has a problem of its own; the others are served."""

from __future__ import annotations

import pytest
from refusals import judged
from running_gateway import RunningGateway, asked
from sqlalchemy import update

from gateway.storage.tables import jobs


async def spoilt(running: RunningGateway, job_id: str, state: str) -> None:
    change = update(jobs).where(jobs.c.id == job_id).values(state=state)
    await running.gateway.parts.store.database.write(lambda connection: connection.execute(change).rowcount)


async def test_it_alone_is_refused_and_comes_back_with_who_can_read_it(
    running: RunningGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    client = running.client
    ids = [(await client.post("/v1/jobs", json=asked())).json()["id"] for _ in range(3)]
    broken = ids[1]
    (before,) = await running.gateway.parts.store.database.read(
        lambda connection: list(connection.execute(jobs.select().where(jobs.c.id == broken)))
    )
    await spoilt(running, broken, '{"status":"paused"}')
    for reply in (
        await client.get(f"/v1/jobs/{broken}"),
        await client.get(f"/v1/jobs/{broken}/timeline"),
        await client.post(f"/v1/jobs/{broken}/cancel"),
    ):
        judged(reply, 503, "job-unreadable")
        assert reply.headers["retry-after"] == "30"
        assert "paused" not in reply.text
    assert broken in capsys.readouterr().err
    page = (await client.get("/v1/jobs")).json()["jobs"]
    assert [job["id"] for job in page] == [ids[2], ids[0]]
    await spoilt(running, broken, before.state)
    assert (await client.get(f"/v1/jobs/{broken}")).json()["status"] == "queued"
