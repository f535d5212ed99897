"""/v1/deliveries, and those of a job."""

from __future__ import annotations

from gateway.api import schemas
from gateway.api.openapi.operation import Operation
from gateway.api.openapi.parameters import page_of
from gateway.api.openapi.refusals import PAGE
from gateway.service.deliveries import DeliveryView

DELIVERIES = (
    Operation(
        method="get",
        path="/v1/jobs/{job_id}/deliveries",
        id="listJobDeliveries",
        summary="A job's webhooks, newest first, each with its tries.",
        answers=schemas.DeliveryPage,
        parameters=page_of("Entries"),
        refusals=("not-found", *PAGE),
    ),
    Operation(
        method="post",
        path="/v1/deliveries/{delivery_id}/redeliver",
        id="redeliver",
        summary="Send a webhook again now, delivered or not: the same bytes under the same `webhook-id`.",
        answers=DeliveryView,
        status=202,
        refusals=("not-found", "endpoint-disabled"),
    ),
)
