"""Deliveries of a job, and sending one again; pages of deliveries and endpoints, which are read alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from gateway.api import paging
from gateway.api.auth import Doorkeeper
from gateway.api.replies import AnyRequest, Reply, json_reply
from gateway.api.schemas import DeliveryPage
from gateway.ids import DELIVERY, JOB, well_formed
from gateway.service.deliveries import Deliveries, unknown_delivery
from gateway.service.jobs import not_found
from gateway.service.keys import Scope

PAGE = {"limit": paging.parse_limit, "cursor": paging.parse_cursor_text}


class Named(Protocol):
    """What pages are made of."""

    @property
    def id(self) -> str:
        """Sorts by creation."""
        ...


T = TypeVar("T", bound=Named)


class Place(Struct, frozen=True):
    """Which page was asked for."""

    scope: str
    before: str | None
    limit: int


def place(request: AnyRequest, scope: str, key: bytes) -> Place:
    """Read which page is wanted.

    Args:
        request: has `limit` and `cursor` in its query, and nothing else.
        scope: of the list, and who reads it: a cursor is good for nothing else.
        key: of cursors.

    Raises:
        Refusal: `validation-failed` or `invalid-cursor`.
    """
    query = paging.parse_query(request.scope["query_string"], PAGE)
    before = paging.decode_cursor(query["cursor"], scope, key=key).job_id if "cursor" in query else None
    return Place(scope, before, query.get("limit", paging.DEFAULT_LIMIT))


def reply_page(found: Sequence[T], asked: Place, key: bytes) -> tuple[list[T], str | None]:
    """Cut off what is too much, and say where the next page begins."""
    shown = list(found[: asked.limit])
    if len(found) <= asked.limit:
        return shown, None
    return shown, paging.encode_cursor(0, shown[-1].id, asked.scope, key=key)


def delivery_routes(deliveries: Deliveries, door: Doorkeeper, cursor_key: bytes) -> list[HTTPRouteHandler]:
    """Return the routes of single deliveries, and of a job's."""

    @get("/v1/jobs/{job_id:str}/deliveries")
    async def of_job(request: AnyRequest) -> Reply:
        principal = await door.admit(request, Scope.JOBS)
        job_id: str = request.path_params["job_id"]
        if not well_formed(job_id, JOB):
            raise not_found()
        asked = place(request, f"deliveries of {job_id} for {principal.sees!r}", cursor_key)
        found = await deliveries.of_job(
            job_id, owner=principal.sees, before=asked.before, limit=asked.limit + 1
        )
        shown, cursor = reply_page(found, asked, cursor_key)
        return json_reply(DeliveryPage(deliveries=shown, next_cursor=cursor))

    @post("/v1/deliveries/{delivery_id:str}/redeliver")
    async def redeliver(request: AnyRequest) -> Reply:
        principal = await door.admit(request, Scope.JOBS)
        delivery_id: str = request.path_params["delivery_id"]
        if not well_formed(delivery_id, DELIVERY):
            raise unknown_delivery()
        return json_reply(await deliveries.redeliver(delivery_id, owner=principal.sees), status=202)

    return [of_job, redeliver]
