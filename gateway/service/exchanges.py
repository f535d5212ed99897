"""What was said to a provider, as a row of the timeline."""

from __future__ import annotations

from gateway.storage.exchanges import Exchange
from gateway.upstream.calls import Spoken


def exchange_of(job_id: str, attempt_id: str, spoken: Spoken) -> Exchange:
    """Write down what was said."""
    return Exchange(
        job_id=job_id,
        attempt_id=attempt_id,
        operation=spoken.operation,
        at_ms=spoken.at_ms,
        duration_ms=spoken.duration_ms,
        outcome=spoken.outcome,
        request=spoken.request,
        status=spoken.status,
        response=spoken.response,
    )
