"""Webhook endpoints, what was sent to each, and enabling one again."""

from __future__ import annotations

from typing import Final

from litestar import get, post
from litestar.handlers import BaseRouteHandler

from gateway.api import paging
from gateway.api.replies import AnyRequest, Reply
from gateway.console.desk import ConsoleDesk, done_word, path_id
from gateway.console.forms import read_query
from gateway.console.pages import redirect
from gateway.ids import ENDPOINT, well_formed
from gateway.service.endpoints import unknown_endpoint

PAGE: Final = 50


def endpoint_pages(desk: ConsoleDesk) -> list[BaseRouteHandler]:
    """Return the pages about endpoints, and the form that enables one."""
    filters = {"cursor": paging.parse_cursor_text, "done": done_word}

    @get("/endpoints")
    async def page(request: AnyRequest) -> Reply:
        visitor = await desk.entrance.admit(request)
        query = read_query(request, filters)
        asked = _place(query, "console endpoints", desk)
        found = await desk.endpoints.page(owner=None, before=asked.before, limit=PAGE + 1)
        shown, cursor = paging.cut_page(found, asked, key=desk.cursor_key)
        return await desk.show(
            "endpoints.html",
            visitor,
            endpoints=shown,
            cursor=cursor,
            first="cursor" not in query,
            done=query.get("done", ""),
        )

    @get("/endpoints/{endpoint_id:str}")
    async def endpoint(request: AnyRequest) -> Reply:
        visitor = await desk.entrance.admit(request)
        query, endpoint_id = read_query(request, filters), _endpoint_id(request)
        asked = _place(query, f"console deliveries of {endpoint_id}", desk)
        shown = await desk.endpoints.show(endpoint_id, owner=None)
        found = await desk.deliveries.of_endpoint(
            endpoint_id, owner=None, before=asked.before, limit=PAGE + 1
        )
        deliveries, cursor = paging.cut_page(found, asked, key=desk.cursor_key)
        return await desk.show(
            "endpoint.html",
            visitor,
            endpoint=shown,
            deliveries=deliveries,
            cursor=cursor,
            first="cursor" not in query,
            done=query.get("done", ""),
        )

    @post("/endpoints/{endpoint_id:str}/enable")
    async def enable(request: AnyRequest) -> Reply:
        await desk.entrance.admit_form(request)
        endpoint_id = _endpoint_id(request)
        await desk.endpoints.enable(endpoint_id, owner=None)
        return redirect(f"/console/endpoints/{endpoint_id}?done=enable").reply()

    return [page, endpoint, enable]


def _place(query: dict[str, object], scope: str, desk: ConsoleDesk) -> paging.Place:
    place = {name: value for name, value in query.items() if name == "cursor"}
    return paging.place_of({**place, "limit": PAGE}, scope, key=desk.cursor_key)


def _endpoint_id(request: AnyRequest) -> str:
    text = path_id(request, "endpoint_id")
    if not well_formed(text, ENDPOINT):
        raise unknown_endpoint()
    return text
