"""Spans by OpenTelemetry. The extra `otel` brings it; nothing else imports this file's imports.

Where spans go, how many are kept and what the service is called is told by OpenTelemetry's own environment
variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`, `OTEL_SERVICE_NAME`, ...).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import SpanKind, Status, StatusCode, format_span_id, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway.telemetry.tracing import HEADER, Attributes, Kind, Span

KINDS: Final = {"server": SpanKind.SERVER, "internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT}
_READ: Final = TraceContextTextMapPropagator().extract


class OtelTracing:
    """Makes spans.

    Args:
        exporter: where they go; None: by OTLP over HTTP, as the environment says.
        version: of this program.
    """

    def __init__(self, exporter: SpanExporter | None = None, *, version: str) -> None:
        named = Resource({SERVICE_NAME: "motion-gateway", "service.version": version})
        # Not the process's global provider: whoever embeds the gateway may have one.
        self._provider = TracerProvider(resource=named.merge(OTELResourceDetector().detect()))
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("motion-gateway", version)

    @contextmanager
    def span(
        self, name: str, kind: Kind, attributes: Attributes, *, parent: str | None = None
    ) -> Generator[Span]:
        """Open a span; see `Tracing.span`."""
        with self._tracer.start_as_current_span(
            name,
            context=None if parent is None else _READ({HEADER: parent}),
            kind=KINDS[kind],
            attributes=attributes,
            # An exception's text may hold what a provider or a receiver said.
            record_exception=False,
            set_status_on_exception=False,
        ) as opened:
            span = _Seen(opened)
            try:
                yield span
            except BaseException as error:
                span.failed(type(error).__name__)
                raise

    def close(self) -> None:
        """Send what is left. Blocks."""
        self._provider.shutdown()


class _Seen:
    __slots__ = ("_span",)

    def __init__(self, span: OtelSpan) -> None:
        self._span = span

    @property
    def context(self) -> str | None:
        now = self._span.get_span_context()
        return f"00-{format_trace_id(now.trace_id)}-{format_span_id(now.span_id)}-{now.trace_flags:02x}"

    def note(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def failed(self, reason: str) -> None:
        self._span.set_status(Status(StatusCode.ERROR, reason))
