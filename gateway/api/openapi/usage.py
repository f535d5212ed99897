"""/v1/usage."""

from __future__ import annotations

from gateway.api.openapi.operation import Operation
from gateway.api.openapi.parameters import Json, in_query
from gateway.service.usage import UsageView

_DAY: Json = {"type": "string", "format": "date"}

USAGE = (
    Operation(
        method="get",
        path="/v1/usage",
        id="readUsage",
        summary="What jobs cost, by owner, day and provider, and what is left of budgets.",
        answers=UsageView,
        parameters=(
            in_query("from", _DAY, "The first day (UTC); the first of the month of `to` when left out."),
            in_query("to", _DAY, "The last day (UTC), at most 366 days later; today when left out."),
            in_query("owner", {"type": "string"}, "Whose jobs; another owner's, or all, for operators only."),
        ),
        refusals=("validation-failed",),
    ),
)
