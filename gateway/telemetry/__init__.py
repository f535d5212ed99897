"""What the running program says about itself, without saying too much.

`logs` writes structured lines, `metrics` counts, `tracing` ties what belongs to one job together (`otel`
sends it), `redaction` takes secrets out of logs and of stored exchanges. Read `redaction` first: the other
rooms use it wherever foreign text is kept.

Not here: the timeline of a job (`gateway.storage`), health (`gateway.api`), which secrets were loaded
(`gateway.settings`; `app` hands their texts to `Redactor`).
"""

from gateway.telemetry.logs import bound, configure, get_logger
from gateway.telemetry.metrics import HttpMeter, Metrics
from gateway.telemetry.redaction import Redactor, redact, redact_exchange_body, redact_url

__all__ = [
    "HttpMeter",
    "Metrics",
    "Redactor",
    "bound",
    "configure",
    "get_logger",
    "redact",
    "redact_exchange_body",
    "redact_url",
]
