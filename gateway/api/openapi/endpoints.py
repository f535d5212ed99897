"""/v1/webhook-endpoints."""

from __future__ import annotations

from gateway.api import schemas
from gateway.api.openapi.operation import Operation
from gateway.api.openapi.parameters import page_of
from gateway.api.openapi.refusals import PAGE, RECEIVER
from gateway.service.endpoints import EndpointDeleted, EndpointView, EndpointWithSecret
from gateway.service.pings import PingView
from gateway.service.recovery import Recovered

ENDPOINTS = (
    Operation(
        method="post",
        path="/v1/webhook-endpoints",
        id="createEndpoint",
        summary="Make a receiver of what happens to all jobs of the owner. Its secret is shown this once.",
        takes=schemas.CreateEndpoint,
        answers=EndpointWithSecret,
        status=201,
        headers=("Location",),
        refusals=(*RECEIVER, "too-many-endpoints"),
    ),
    Operation(
        method="get",
        path="/v1/webhook-endpoints",
        id="listEndpoints",
        summary="List webhook endpoints, newest first.",
        answers=schemas.EndpointPage,
        parameters=page_of("Entries"),
        refusals=PAGE,
    ),
    Operation(
        method="get",
        path="/v1/webhook-endpoints/{endpoint_id}",
        id="readEndpoint",
        summary="Read a webhook endpoint.",
        answers=EndpointView,
        refusals=("not-found",),
    ),
    Operation(
        method="patch",
        path="/v1/webhook-endpoints/{endpoint_id}",
        id="changeEndpoint",
        summary="Change an endpoint's URL, events or description. What waits goes to the new URL.",
        takes=schemas.ChangeEndpoint,
        answers=EndpointView,
        refusals=("not-found", *RECEIVER),
    ),
    Operation(
        method="delete",
        path="/v1/webhook-endpoints/{endpoint_id}",
        id="deleteEndpoint",
        summary="Forget an endpoint. What waits for it is not sent; jobs still show what was.",
        answers=EndpointDeleted,
        refusals=("not-found",),
    ),
    Operation(
        method="post",
        path="/v1/webhook-endpoints/{endpoint_id}/rotate",
        id="rotateEndpoint",
        summary="Give it another secret, shown this once; the old one signs beside it for 24 hours.",
        answers=EndpointWithSecret,
        refusals=("not-found", "rotated-too-often"),
    ),
    Operation(
        method="post",
        path="/v1/webhook-endpoints/{endpoint_id}/test",
        id="testEndpoint",
        summary="Send it a `ping` now, even while it is disabled, and tell what came of it.",
        answers=PingView,
        refusals=("not-found", "test-under-way"),
    ),
    Operation(
        method="post",
        path="/v1/webhook-endpoints/{endpoint_id}/enable",
        id="enableEndpoint",
        summary="Send to it again: what happens from now on, and what still waits.",
        answers=EndpointView,
        refusals=("not-found",),
    ),
    Operation(
        method="post",
        path="/v1/webhook-endpoints/{endpoint_id}/disable",
        id="disableEndpoint",
        summary="Send to it no more, until it is enabled.",
        answers=EndpointView,
        refusals=("not-found",),
    ),
    Operation(
        method="post",
        path="/v1/webhook-endpoints/{endpoint_id}/recover",
        id="recoverEndpoint",
        summary="Send it all that it did not get since an instant, also from while it was disabled.",
        takes=schemas.RecoverEndpoint,
        answers=Recovered,
        status=202,
        refusals=("not-found", "endpoint-disabled"),
    ),
    Operation(
        method="get",
        path="/v1/webhook-endpoints/{endpoint_id}/deliveries",
        id="listEndpointDeliveries",
        summary="What was sent to it, newest first, each delivery with its tries.",
        answers=schemas.DeliveryPage,
        parameters=page_of("Entries"),
        refusals=("not-found", *PAGE),
    ),
)
