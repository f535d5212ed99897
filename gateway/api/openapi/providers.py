"""/v1/providers."""

from __future__ import annotations

from gateway.api import schemas
from gateway.api.openapi.operation import Operation

PROVIDERS = (
    Operation(
        method="get",
        path="/v1/providers",
        id="listProviders",
        summary="Providers, their models, and what each can be told.",
        answers=schemas.ProvidersView,
    ),
)
