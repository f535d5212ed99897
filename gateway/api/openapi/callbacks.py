"""/v1/callbacks, for providers."""

from __future__ import annotations

from gateway.api import schemas
from gateway.api.openapi.operation import Operation

CALLBACKS = (
    Operation(
        method="post",
        path="/v1/callbacks/{provider}/{token}",
        id="takeCallback",
        summary="For providers: report the end of a run. It is asked for then, and nothing else is believed.",
        scope=None,
        storage=True,
        answers=schemas.CallbackTaken,
        # The body is the provider's own, so that no Struct of ours takes it.
        refusals=(
            "invalid-signature",
            "quota-exceeded",
            "bad-request",
            "malformed-body",
            "request-timeout",
            "body-too-large",
        ),
    ),
)
