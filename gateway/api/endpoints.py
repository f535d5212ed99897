"""/v1/webhook-endpoints: an owner's receivers."""

from __future__ import annotations

import msgspec
from litestar import Router, delete, get, patch, post
from litestar.handlers import BaseRouteHandler
from msgspec import UNSET, Struct

from gateway.api import paging
from gateway.api.auth import Doorkeeper
from gateway.api.body import decode_body
from gateway.api.replies import AnyRequest, Reply, json_reply
from gateway.api.request_body import BodyLimits, take_body
from gateway.api.schemas import (
    ChangeEndpoint,
    CreateEndpoint,
    DeliveryPage,
    EndpointPage,
    RecoverEndpoint,
)
from gateway.errors import FieldProblem, Refusal
from gateway.ids import ENDPOINT, well_formed
from gateway.service.deliveries import Deliveries
from gateway.service.endpoints import Endpoints, unknown_endpoint
from gateway.service.keys import Scope
from gateway.service.pings import Pings
from gateway.service.recovery import Recovery
from gateway.webhooks.events import DEFAULT_EVENTS

_create_decoder = msgspec.json.Decoder(CreateEndpoint)
_change_decoder = msgspec.json.Decoder(ChangeEndpoint)
_recover_decoder = msgspec.json.Decoder(RecoverEndpoint)


class EndpointDesk(Struct, frozen=True, kw_only=True):
    """What the routes work with."""

    endpoints: Endpoints
    deliveries: Deliveries
    recovery: Recovery
    pings: Pings
    door: Doorkeeper
    body: BodyLimits
    cursor_key: bytes


def endpoint_routes(desk: EndpointDesk) -> Router:
    """Return the routes of /v1/webhook-endpoints."""

    @post("/")
    async def create(request: AnyRequest) -> Reply:
        principal = await desk.door.admit(request, Scope.JOBS)
        wanted = decode_body(_create_decoder, await take_body(request, desk.body))
        made = await desk.endpoints.create(
            owner=principal.owner,
            url=wanted.url,
            events=DEFAULT_EVENTS if wanted.events is UNSET else wanted.events,
            description=wanted.description,
            signing=wanted.signing,
        )
        return json_reply(made, status=201, headers={"location": f"/v1/webhook-endpoints/{made.id}"})

    @get("/")
    async def page(request: AnyRequest) -> Reply:
        principal = await desk.door.admit(request, Scope.JOBS)
        scope = f"endpoints of {principal.sees!r}"
        asked = paging.parse_place(request.scope["query_string"], scope, key=desk.cursor_key)
        found = await desk.endpoints.page(owner=principal.sees, before=asked.before, limit=asked.limit + 1)
        shown, cursor = paging.cut_page(found, asked, key=desk.cursor_key)
        return json_reply(EndpointPage(endpoints=shown, next_cursor=cursor))

    @get("/{endpoint_id:str}")
    async def read(request: AnyRequest) -> Reply:
        principal = await desk.door.admit(request, Scope.JOBS)
        return json_reply(await desk.endpoints.show(_endpoint_id(request), owner=principal.sees))

    @patch("/{endpoint_id:str}")
    async def change(request: AnyRequest) -> Reply:
        principal = await desk.door.admit(request, Scope.JOBS)
        wanted = decode_body(_change_decoder, await take_body(request, desk.body))
        changed = await desk.endpoints.change(
            _endpoint_id(request),
            owner=principal.sees,
            url=None if wanted.url is UNSET else wanted.url,
            events=None if wanted.events is UNSET else wanted.events,
            description=False if wanted.description is UNSET else wanted.description,
        )
        return json_reply(changed)

    @delete("/{endpoint_id:str}", status_code=200)
    async def remove(request: AnyRequest) -> Reply:
        principal = await desk.door.admit(request, Scope.JOBS)
        return json_reply(await desk.endpoints.delete(_endpoint_id(request), owner=principal.sees))

    handlers: list[BaseRouteHandler] = [create, page, read, change, remove, *_deeds(desk)]
    return Router("/v1/webhook-endpoints", route_handlers=handlers)


def _deeds(desk: EndpointDesk) -> list[BaseRouteHandler]:
    """Return what can be done with an endpoint, and what was."""

    @post("/{endpoint_id:str}/rotate", status_code=200)
    async def rotate(request: AnyRequest) -> Reply:
        principal = await desk.door.admit(request, Scope.JOBS)
        return json_reply(await desk.endpoints.rotate(_endpoint_id(request), owner=principal.sees))

    @post("/{endpoint_id:str}/enable", status_code=200)
    async def enable(request: AnyRequest) -> Reply:
        principal = await desk.door.admit(request, Scope.JOBS)
        return json_reply(await desk.endpoints.enable(_endpoint_id(request), owner=principal.sees))

    @post("/{endpoint_id:str}/disable", status_code=200)
    async def disable(request: AnyRequest) -> Reply:
        principal = await desk.door.admit(request, Scope.JOBS)
        return json_reply(await desk.endpoints.disable(_endpoint_id(request), owner=principal.sees))

    @post("/{endpoint_id:str}/test", status_code=200)
    async def test(request: AnyRequest) -> Reply:
        principal = await desk.door.admit(request, Scope.JOBS)
        endpoint = await desk.endpoints.load(_endpoint_id(request), owner=principal.sees)
        return json_reply(await desk.pings.send(endpoint))

    @post("/{endpoint_id:str}/recover")
    async def recover(request: AnyRequest) -> Reply:
        principal = await desk.door.admit(request, Scope.JOBS)
        wanted = decode_body(_recover_decoder, await take_body(request, desk.body))
        recovered = await desk.recovery.recover(
            _endpoint_id(request), owner=principal.sees, since_ms=_instant(wanted.since)
        )
        return json_reply(recovered, status=202)

    @get("/{endpoint_id:str}/deliveries")
    async def deliveries(request: AnyRequest) -> Reply:
        principal = await desk.door.admit(request, Scope.JOBS)
        endpoint_id = _endpoint_id(request)
        scope = f"deliveries of {endpoint_id} for {principal.sees!r}"
        asked = paging.parse_place(request.scope["query_string"], scope, key=desk.cursor_key)
        found = await desk.deliveries.of_endpoint(
            endpoint_id, owner=principal.sees, before=asked.before, limit=asked.limit + 1
        )
        shown, cursor = paging.cut_page(found, asked, key=desk.cursor_key)
        return json_reply(DeliveryPage(deliveries=shown, next_cursor=cursor))

    return [rotate, enable, disable, test, recover, deliveries]


def _instant(text: str) -> int:
    try:
        return paging.parse_instant(text)
    except ValueError as error:
        problem = FieldProblem("/since", str(error))
        raise Refusal("validation-failed", f"/since: {error}.", errors=(problem,)) from error


def _endpoint_id(request: AnyRequest) -> str:
    text: str = request.path_params["endpoint_id"]
    if not well_formed(text, ENDPOINT):
        raise unknown_endpoint()
    return text
