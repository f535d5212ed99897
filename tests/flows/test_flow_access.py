"""Whose jobs, whose keys."""

from __future__ import annotations

from running_gateway import JumpClock, StartGateway

from gateway.service.keys import Scope


async def test_somebody_elses_job_looks_like_none(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    await running.gateway.stop_worker()
    job_id = await running.accept()
    unknown = "job_" + "0" * 32
    async with running.another_client("somebody else") as client:
        for method, path in (("GET", ""), ("GET", "/timeline"), ("POST", "/cancel")):
            bodies = []
            for given in (job_id, unknown):
                reply = await client.request(
                    method, f"/v1/jobs/{given}{path}", headers={"X-Request-Id": "the-same"}
                )
                assert reply.status_code == 404
                bodies.append(reply.content)
            assert bodies[0] == bodies[1]
        assert (await client.get("/v1/jobs")).json()["jobs"] == []
    async with running.another_client("the boss", Scope.OPERATOR) as client:
        assert (await client.get(f"/v1/jobs/{job_id}")).status_code == 200
        assert [job["id"] for job in (await client.get("/v1/jobs")).json()["jobs"]] == [job_id]
        assert (await client.post(f"/v1/jobs/{job_id}/cancel")).json()["status"] == "cancelled"


async def test_a_key_does_what_its_scopes_say(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    for scopes, jobs, metrics in (
        ([Scope.JOBS], 200, 403),
        ([Scope.METRICS], 403, 200),
        ([Scope.OPERATOR], 200, 200),
    ):
        async with running.another_client("scoped", *scopes) as client:
            assert (await client.get("/v1/jobs")).status_code == jobs
            assert (await client.get("/v1/providers")).status_code == jobs
            refused = await client.get("/metrics")
            assert refused.status_code == metrics
            if metrics == 403:
                assert refused.json()["type"] == "/problems/forbidden"


async def test_a_revoked_key_is_refused_within_ten_seconds(start_gateway: StartGateway) -> None:
    clock = JumpClock()
    running = await start_gateway(clock=clock)
    assert (await running.client.get("/v1/jobs")).status_code == 200
    assert await running.gateway.parts.keys.revoke(running.key.id)
    clock.jump(10)
    refused = await running.client.get("/v1/jobs")
    assert (refused.status_code, refused.json()["type"]) == (401, "/problems/unauthenticated")
    assert refused.headers["www-authenticate"].startswith("Bearer")
