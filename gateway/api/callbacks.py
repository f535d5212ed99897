"""/v1/callbacks: where providers report that something happened to a run. What they say is only a hint."""

from __future__ import annotations

from litestar import post
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from gateway.api.body import read_body
from gateway.api.replies import AnyRequest, Reply, json_reply
from gateway.api.schemas import CallbackTaken
from gateway.service.callbacks import Callbacks
from providers.contract.reading import MAX_BYTES


class CallbackDesk(Struct, frozen=True, kw_only=True):
    """What the route works with."""

    callbacks: Callbacks
    body_timeout_s: float


def callback_routes(desk: CallbackDesk) -> list[HTTPRouteHandler]:
    """Return the route that providers call."""

    @post("/v1/callbacks/{provider:str}/{token:str}", status_code=200)
    async def callback(request: AnyRequest) -> Reply:
        provider, token = request.path_params["provider"], request.path_params["token"]
        headers = [
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in request.scope["headers"]
        ]
        client = request.scope["client"]
        # Before the body: nobody else is read from.
        attempt_id = desk.callbacks.admit(
            provider, token, headers, source="" if client is None else client[0]
        )
        body = await read_body(
            request.receive,
            limit=MAX_BYTES,
            timeout_s=desk.body_timeout_s,
            content_length=dict(headers).get("content-length"),
        )
        await desk.callbacks.take(provider, attempt_id, headers, body)
        return json_reply(CallbackTaken(taken=True))

    return [callback]
