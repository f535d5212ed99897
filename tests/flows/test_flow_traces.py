"""One trace for each job: from the request that made it through every call to its last webhook."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from running_gateway import (
    PROVIDER_KEY,
    PROVIDERS,
    RunningGateway,
    StartGateway,
    StartSimulator,
    asked,
    fault,
    open_gateway,
)
from test_flow_webhooks import OPEN
from webhook_receiver import Receiver, open_receiver

from gateway.telemetry.otel import OtelTracing

PROVIDER = PROVIDERS[0]
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"


class Traces:
    """What was exported, of any number of processes."""

    def __init__(self) -> None:
        self._exporters: list[InMemorySpanExporter] = []

    def tracing(self) -> OtelTracing:
        """Make what one process traces with."""
        self._exporters.append(InMemorySpanExporter())
        return OtelTracing(self._exporters[-1], version="0")

    @property
    def spans(self) -> list[ReadableSpan]:
        return [span for exporter in self._exporters for span in exporter.get_finished_spans()]

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]


def trace_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return format(span.context.trace_id, "032x")


def id_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return format(span.context.span_id, "016x")


def parents(spans: Sequence[ReadableSpan]) -> set[str | None]:
    return {None if span.parent is None else format(span.parent.span_id, "016x") for span in spans}


async def told(running: RunningGateway, receiver: Receiver) -> str | None:
    """Post a job with the caller's context, and read what its webhook says of it."""
    wish = asked(PROVIDER, webhook={"url": receiver.url()})
    reply = await running.client.post("/v1/jobs", json=wish, headers={"traceparent": TRACEPARENT})
    assert reply.status_code == 202, reply.text
    await running.ended(reply.json()["id"])
    (message,) = await receiver.received(1)
    return message.headers.get("traceparent")


async def test_one_trace_leads_from_the_request_through_every_call_to_the_webhook(
    tmp_path: Path, simulator_server: StartSimulator
) -> None:
    traces = Traces()
    simulator = await simulator_server()
    async with (
        open_receiver() as receiver,
        open_gateway(tmp_path, simulator, settings=OPEN, tracing=traces.tracing()) as running,
    ):
        context = await told(running, receiver)
    assert {trace_of(span) for span in traces.spans} == {TRACE}
    (posted,), (submit,), (webhook,) = (traces.named(name) for name in ("POST /v1/jobs", "submit", "webhook"))
    polls = traces.named("poll")
    assert polls
    assert parents([posted]) == {CALLER}
    assert parents([submit, *polls, webhook]) == {id_of(posted)}
    assert parents(traces.named(f"{PROVIDER} submit")) == {id_of(submit)}
    assert parents(traces.named(f"{PROVIDER} poll")) <= {id_of(poll) for poll in polls}
    assert context == f"00-{TRACE}-{id_of(webhook)}-01"


async def test_a_trace_goes_on_in_the_process_that_carries_the_job_out(
    tmp_path: Path, simulator_server: StartSimulator
) -> None:
    traces = Traces()
    simulator = await simulator_server()
    async with open_gateway(tmp_path, simulator, works=False, tracing=traces.tracing()) as first:
        job_id = await first.accept(PROVIDER)
    async with open_gateway(tmp_path, simulator, tracing=traces.tracing()) as second:
        await second.ended(job_id)
    (posted,) = traces.named("POST /v1/jobs")
    assert parents([posted]) == {None}
    assert {trace_of(span) for span in traces.spans} == {trace_of(posted)}
    assert traces.named(f"{PROVIDER} poll")


@pytest.mark.parametrize("given", [TRACEPARENT, None], ids=["traced", "untraced"])
async def test_while_tracing_is_off_a_callers_context_is_handed_on_as_it_came(
    start_gateway: StartGateway, given: str | None
) -> None:
    running = await start_gateway(settings=OPEN)
    async with open_receiver() as receiver:
        if given is None:
            await running.ended(await running.accept(PROVIDER, webhook={"url": receiver.url()}))
            (message,) = await receiver.received(1)
            assert "traceparent" not in message.headers
        else:
            assert await told(running, receiver) == given


async def test_what_fails_fails_its_span_and_no_span_holds_a_secret_or_foreign_text(
    tmp_path: Path, simulator_server: StartSimulator
) -> None:
    traces = Traces()
    simulator = await simulator_server()
    async with open_gateway(tmp_path, simulator, tracing=traces.tracing()) as running:
        running.break_(fault("accept_reset", provider=PROVIDER, times=1))
        refused = await running.client.post("/v1/jobs", json=asked("nobody"))
        assert refused.status_code == 422
        await running.held(await running.accept(PROVIDER, on_unknown_submission="hold"))
    (lost,) = traces.named(f"{PROVIDER} submit")
    assert (lost.status.is_ok, lost.status.description) == (False, "no answer")
    shown = " ".join(span.to_json() for span in traces.spans)
    assert PROVIDER_KEY not in shown
    assert "://" not in shown
