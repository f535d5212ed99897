"""/v1/plan."""

from __future__ import annotations

from gateway.api import schemas
from gateway.api.openapi.operation import Operation
from gateway.api.openapi.refusals import RECEIVER
from gateway.service.plans import PlanView

PLANS = (
    Operation(
        method="post",
        path="/v1/plan",
        id="planJob",
        summary="Where a job would be tried, in order, with each call and its cost, and why nowhere else."
        " Nothing is stored or sent, and so no Idempotency-Key is looked at.",
        takes=schemas.CreateJob,
        answers=PlanView,
        refusals=("unknown-model", *RECEIVER),
    ),
)
