"""Deliveries of a job, and sending one again."""

from __future__ import annotations

from litestar import get, post
from litestar.handlers import HTTPRouteHandler

from gateway.api import paging
from gateway.api.auth import Doorkeeper
from gateway.api.replies import AnyRequest, Reply, json_reply
from gateway.api.schemas import DeliveryPage
from gateway.ids import DELIVERY, JOB, well_formed
from gateway.service.deliveries import Deliveries, unknown_delivery
from gateway.service.jobs import not_found
from gateway.service.keys import Scope


def delivery_routes(deliveries: Deliveries, door: Doorkeeper, cursor_key: bytes) -> list[HTTPRouteHandler]:
    """Return the routes of single deliveries, and of a job's."""

    @get("/v1/jobs/{job_id:str}/deliveries")
    async def of_job(request: AnyRequest) -> Reply:
        principal = await door.admit(request, Scope.JOBS)
        job_id: str = request.path_params["job_id"]
        if not well_formed(job_id, JOB):
            raise not_found()
        scope = f"deliveries of {job_id} for {principal.sees!r}"
        asked = paging.parse_place(request.scope["query_string"], scope, key=cursor_key)
        found = await deliveries.of_job(
            job_id, owner=principal.sees, before=asked.before, limit=asked.limit + 1
        )
        shown, cursor = paging.cut_page(found, asked, key=cursor_key)
        return json_reply(DeliveryPage(deliveries=shown, next_cursor=cursor))

    @post("/v1/deliveries/{delivery_id:str}/redeliver")
    async def redeliver(request: AnyRequest) -> Reply:
        principal = await door.admit(request, Scope.JOBS)
        delivery_id: str = request.path_params["delivery_id"]
        if not well_formed(delivery_id, DELIVERY):
            raise unknown_delivery()
        return json_reply(await deliveries.redeliver(delivery_id, owner=principal.sees), status=202)

    return [of_job, redeliver]
