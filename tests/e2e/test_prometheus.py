"""A real Prometheus scrapes gateways at work: what it says is asked of it, and not of us."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import httpx
import pytest
from ports import reserve_port
from postgres_server import OwnServer, create_database, fresh_database
from prometheus_server import ALERT_NAMES, NEEDS_PROMETHEUS, Prometheus, open_prometheus
from rich.console import Console
from rich.table import Table
from running_gateway import PROVIDERS, StartSimulator, asked, client_of, environment, fault
from serve_process import ServeProcess, WorkProcess, made_key
from webhook_receiver import open_receiver

from gateway.service.keys import Scope
from gateway.simulator import FaultScript, SimulatorServer

pytestmark = [pytest.mark.e2e, NEEDS_PROMETHEUS]

JOBS = 60
SCRAPES = 20
"""Once a second: by far more than a key is remembered for in other routes."""
OPEN = {"WEBHOOKS__ALLOW_HTTP": "true", "WEBHOOKS__ALLOWED_NETWORKS": "127.0.0.1/32"}


class Watched(NamedTuple):
    """Gateways under a Prometheus."""

    prometheus: Prometheus
    clients: list[httpx.AsyncClient]
    """One a replica."""


@asynccontextmanager
async def watched(
    folder: Path, simulator: SimulatorServer, settings: Mapping[str, str], *, replicas: int, workers: int = 0
) -> AsyncIterator[Watched]:
    """Serve with every simulated provider as if it were real, so that money is counted, and scrape it.

    Args:
        folder: for databases and logs.
        simulator: the providers.
        settings: further ones.
        replicas: how many serve the API and work.
        workers: how many work alone.
    """
    urls = {name: f"{simulator.url}/{name}" for name in PROVIDERS}
    environ = environment(folder, urls, **settings)
    migrated = ServeProcess(environ, folder / "first.log", "--migrate")
    async with AsyncExitStack() as stack:
        await migrated.start()
        stack.push_async_callback(migrated.__aexit__, None, None, None)
        key = await made_key(environ, folder, Scope.JOBS, Scope.METRICS)
        others = [ServeProcess(environ, folder / f"{n}.log") for n in range(replicas - 1)]
        served = [migrated, *[await stack.enter_async_context(other) for other in others]]
        clients = [await stack.enter_async_context(client_of(one.url, key.key)) for one in served]
        targets = [f"127.0.0.1:{one.port}" for one in served]
        for number in range(workers):
            port = reserve_port()
            work = WorkProcess(
                environ | {"MOTION_GATEWAY_METRICS__PORT": str(port)}, folder / f"work-{number}.log"
            )
            await stack.enter_async_context(work)
            targets.append(f"127.0.0.1:{port}")
        prometheus = await stack.enter_async_context(open_prometheus(folder, targets, key.key))
        await prometheus.comes_to("sum(up) + 0 * sum(motion_gateway_build_info)", replicas + workers)
        yield Watched(prometheus, clients)


async def test_prometheus_counts_what_a_fleet_did(
    simulator_server: StartSimulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with fresh_database() as url:
        simulator = await simulator_server(run_s=1.0)
        async with (
            open_receiver() as receiver,
            watched(tmp_path, simulator, {"DATABASE": url, **OPEN}, replicas=2, workers=1) as seen,
        ):
            webhook = {"url": receiver.url(), "events": ["job.succeeded"]}

            async def post(number: int) -> None:
                body = asked(PROVIDERS[number % len(PROVIDERS)], webhook=webhook)
                reply = await seen.clients[number % 2].post("/v1/jobs", json=body)
                assert reply.status_code == 202, reply.text

            for number in range(JOBS):
                await post(number)
                await asyncio.sleep(0.05)
            await receiver.received(JOBS)
            usage = (await seen.clients[0].get("/v1/usage")).json()
            prometheus = seen.prometheus
            await prometheus.comes_to("sum(motion_gateway_jobs_finished_total)", JOBS)
            await prometheus.comes_to("sum(motion_gateway_webhook_lag_seconds_count)", JOBS)
            await prometheus.comes_to("max(motion_gateway_outputs_expiring{told='delivered'})", 0)
            with capsys.disabled():
                await show(prometheus)
            ended = await prometheus.query("sum by (provider, status) (motion_gateway_jobs_finished_total)")
            assert {(one["provider"], one["status"]): count for one, count in ended} == {
                (name, "succeeded"): JOBS / len(PROVIDERS) for name in PROVIDERS
            }
            accepted = await prometheus.query("sum by (instance) (motion_gateway_jobs_accepted_total)")
            assert sorted(count for _, count in accepted if count) == [JOBS / 2] * 2, "each counts its own"
            spent = await prometheus.figure("sum(motion_gateway_spend_usd_total)")
            assert usage["charged_usd"] > 0
            assert spent == pytest.approx(usage["charged_usd"])
            await prometheus.comes_to("max(motion_gateway_jobs_in_progress)", 0)
            assert await prometheus.figure("sum(motion_gateway_storage_failing)") == 0
            await prometheus.comes_to("max(motion_gateway_queue_oldest_seconds)", 0)
            assert [up for _, up in await prometheus.query("up")] == [1, 1, 1]
            assert await prometheus.firing() == []


async def test_a_500_after_acceptance_fires_the_alert(
    simulator_server: StartSimulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulator = await simulator_server()
    async with watched(tmp_path, simulator, {}, replicas=1) as seen:
        prometheus, (client,) = seen.prometheus, seen.clients
        groups = (await prometheus.ask("rules"))["groups"]
        assert {rule["name"] for group in groups for rule in group["rules"]} == ALERT_NAMES
        await prometheus.comes_to("motion_gateway_submissions_unknown_total{provider='runway'}", 0)
        assert await prometheus.firing() == []
        simulator.simulator._faults.replace(FaultScript(rules=(fault("accept_500", times=1),)))
        reply = await client.post("/v1/jobs", json=asked("runway"))
        began_s = time.monotonic()
        (alert,) = await prometheus.until(
            lambda: prometheus.firing("MotionGatewayUnknownSubmission"), lambda found: found
        )
        took_s = time.monotonic() - began_s
        assert alert["labels"] == {
            "alertname": "MotionGatewayUnknownSubmission",
            "provider": "runway",
            "severity": "critical",
        }
        await prometheus.comes_to("max(motion_gateway_jobs_held)", 1)
        held = (await client.get(f"/v1/jobs/{reply.json()['id']}")).json()
        assert held["held"]["reason"] == "submission_unknown"
        groups = (await prometheus.ask("rules"))["groups"]
        assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
        with capsys.disabled():
            Console().print(
                f"\n{alert['labels']['alertname']} fired {took_s:.1f} s after the job was posted:"
            )
            Console().print(f"  {alert['annotations']['summary']}")


@pytest.fixture
def server() -> Iterator[OwnServer]:
    """A PostgreSQL server of the test's own; not in `tmp_path`, which its user may not enter."""
    server = OwnServer(Path(tempfile.gettempdir()) / f"motion-gateway-watched-{uuid4().hex[:12]}")
    yield server
    server.close()


async def test_a_database_that_is_away_fires_its_own_alert_and_no_replica_is_said_to_be_down(
    simulator_server: StartSimulator, tmp_path: Path, server: OwnServer
) -> None:
    url = create_database(server.url)
    simulator = await simulator_server()
    settings = {"DATABASE": url, "LIMITS__RATE": "600/m"}
    async with watched(tmp_path, simulator, settings, replicas=1, workers=1) as seen:
        prometheus = seen.prometheus
        await prometheus.comes_to("sum(motion_gateway_storage_failing)", 0)
        await asyncio.to_thread(server.stop, "immediate")
        failing = f"sum(sum_over_time(motion_gateway_storage_failing[{SCRAPES}s]))"
        await prometheus.until(
            lambda: prometheus.figure(failing), lambda found: found is not None and found >= 2 * SCRAPES - 4
        )
        alerts = {alert["labels"]["alertname"] for alert in (await prometheus.ask("alerts"))["alerts"]}
        assert "MotionGatewayStorageFailing" in alerts
        assert "MotionGatewayDown" not in alerts
        assert [up for _, up in await prometheus.query("up")] == [1, 1]
        await asyncio.to_thread(server.start)
        await prometheus.comes_to("sum(motion_gateway_storage_failing)", 0)


async def show(prometheus: Prometheus) -> None:
    """Print what Prometheus saw."""
    table = Table(title="What Prometheus saw", title_justify="left")
    for column in ("figure", "labels", "value"):
        table.add_column(column)
    for name, expression in (
        ("up", "up"),
        ("jobs accepted", "sum by (instance) (motion_gateway_jobs_accepted_total)"),
        ("jobs finished", "sum by (provider, status) (motion_gateway_jobs_finished_total)"),
        ("USD spent", "sum by (provider) (motion_gateway_spend_usd_total)"),
        ("seconds from acceptance to the end, mean",
         "sum(motion_gateway_job_duration_seconds_sum) / sum(motion_gateway_job_duration_seconds_count)"),
        ("seconds to a webhook's acknowledgement, mean",
         "sum(motion_gateway_webhook_lag_seconds_sum) / sum(motion_gateway_webhook_lag_seconds_count)"),
        ("webhooks acknowledged", "sum(motion_gateway_webhook_attempts_total{outcome='delivered'})"),
        ("calls to providers", "sum by (operation) (motion_gateway_provider_requests_total)"),
        ("held", "max(motion_gateway_jobs_held)"),
    ):  # fmt: skip
        for labels, value in await prometheus.query(expression):
            shown = " ".join(f"{key}={one}" for key, one in labels.items() if key not in {"__name__", "job"})
            table.add_row(name, shown, f"{value:g}")
    console = Console(width=100)
    console.print()
    console.print(table)
