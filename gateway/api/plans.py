"""/v1/plan: where a job would go, and why nowhere else. Nothing is stored, and nothing is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from litestar import post
from litestar.handlers import HTTPRouteHandler

from gateway.api.jobs import JobDesk, read_job
from gateway.api.replies import AnyRequest, Reply, json_reply
from gateway.ids import JOB, Ids
from gateway.service.keys import Scope
from gateway.service.plans import Planner


def plan_routes(
    desk: JobDesk, planner: Planner, ids: Ids, renew: Callable[[], Awaitable[None]]
) -> HTTPRouteHandler:
    """Return the route of /v1/plan.

    It takes a job's body and refuses what a job's route would refuse, but answers where that finds nobody: to
    say why is what it is for. An Idempotency-Key has nothing to hold on to here, and is not looked at.
    """

    @post("/v1/plan")
    async def plan(request: AnyRequest) -> Reply:
        principal = await desk.door.admit(request, Scope.JOBS)
        _, meant = await read_job(request, desk, principal)
        await renew()
        # A job posted now would get another id, and so might be dealt another order of the policy `weighted`.
        planned = planner.plan(meant.request, seed=ids.new(JOB))
        return json_reply(planner.show(meant.request, planned))

    return plan
