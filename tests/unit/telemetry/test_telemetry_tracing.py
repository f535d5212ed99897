"""Trace contexts as they are read, and spans as they are sent."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.app.from_settings import tracing_of
from gateway.errors import SettingsError
from gateway.settings.model import Settings, Tracing
from gateway.telemetry.otel import OtelTracing
from gateway.telemetry.tracing import Untraced, parse_traceparent

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    ("values", "read"),
    [
        ([GOOD], GOOD),
        ([f" {GOOD}\t"], GOOD),
        ([f"00-{TRACE}-{PARENT}-00"], f"00-{TRACE}-{PARENT}-00"),
        ([f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like"], GOOD),
        ([], None),
        ([GOOD, GOOD], None),
        ([""], None),
        ([f"ff-{TRACE}-{PARENT}-01"], None),
        ([f"00-{'0' * 32}-{PARENT}-01"], None),
        ([f"00-{TRACE}-{'0' * 16}-01"], None),
        ([GOOD.upper()], None),
        ([f"{GOOD}-more"], None),
        ([f"cc-{TRACE}-{PARENT}-01.more"], None),
        ([GOOD[:-1]], None),
        ([f"00-{TRACE}-{PARENT}-01\r\nx: y"], None),
        (["é" * 55], None),
    ],
)
def test_a_context_is_read_as_the_standard_has_it_or_not_at_all(values: list[str], read: str | None) -> None:
    assert parse_traceparent([value.encode("latin-1") for value in values]) == read


def test_an_exception_fails_its_span_by_its_type_and_is_raised_on() -> None:
    exporter = InMemorySpanExporter()
    tracing = OtelTracing(exporter, version="0")
    for each in (tracing, Untraced()):
        with pytest.raises(ZeroDivisionError), each.span("a", "internal", {}):
            raise ZeroDivisionError("what a provider said")
    tracing.close()
    (span,) = exporter.get_finished_spans()
    assert (span.status.is_ok, span.status.description, span.events) == (False, "ZeroDivisionError", ())


def test_spans_are_sent_by_otlp_to_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "films")
        tracing = OtelTracing(version="0")
        with tracing.span("submit", "internal", {"motion_gateway.job_id": "job_1"}, parent=GOOD):
            pass
        tracing.close()
        thread.join()
    ((path, body),) = got
    assert path == "/v1/traces"
    for told in (b"submit", b"job_1", b"films", bytes.fromhex(TRACE), bytes.fromhex(PARENT)):
        assert told in body


def test_tracing_without_its_extra_stops_the_start_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "gateway.telemetry.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingsError, match=r"tracing\.enabled .*pip install 'motion-gateway\[otel\]'"):
        tracing_of(Settings(tracing=Tracing(enabled=True)))
