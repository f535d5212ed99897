"""A `work` process answers those who watch it, where the settings say so, and nobody else."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from ports import reserve_port
from postgres_server import SECRET_KEY, fresh_database
from running_gateway import PATIENCE_S, client_of, environment
from serve_process import ServeProcess, WorkProcess, made_key

from gateway.service.keys import Scope


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    with fresh_database() as url:
        settings = {"DATABASE": url, "SECRET_KEY": SECRET_KEY, "METRICS__PORT": str(reserve_port())}
        yield environment(tmp_path, {"runway": "http://127.0.0.1:9"}, **settings)


async def looked(http: httpx.AsyncClient) -> str:
    """The page, once the process has looked at the store."""
    async with asyncio.timeout(PATIENCE_S):
        while "motion_gateway_jobs_held NaN" in (page := (await http.get("/metrics")).text):  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.05)
    return page


async def measured(http: httpx.AsyncClient) -> int:
    """How many times its loop was seen to wake."""
    (count,) = re.findall(
        r"^motion_gateway_event_loop_lag_seconds_count (\d+)", (await http.get("/metrics")).text, re.MULTILINE
    )
    return int(count)


async def test_it_shows_health_and_metrics_and_nothing_else(tmp_path: Path, environ: dict[str, str]) -> None:
    key = await made_key(environ, tmp_path, Scope.METRICS)
    url = f"http://127.0.0.1:{environ['MOTION_GATEWAY_METRICS__PORT']}"
    async with WorkProcess(environ, tmp_path / "work.log") as work, client_of(url, key.key) as http:
        assert "motion_gateway_jobs_held 0.0" in await looked(http)
        assert (await http.get("/health/ready")).status_code == 200
        for path in ("/v1/jobs", "/v1/providers", "/docs", "/openapi.json"):
            assert (await http.get(path)).status_code == 404
        async with client_of(url, None) as stranger:
            assert (await stranger.get("/metrics")).status_code == 401
        assert await work.end(signal.SIGTERM) == 0
    assert f"{url}/metrics" in (tmp_path / "work.log").read_text()


@pytest.mark.parametrize("works", [True, False], ids=["serve", "serve --no-worker"])
async def test_whoever_serves_measures_how_late_its_loop_wakes(
    tmp_path: Path,
    environ: dict[str, str],
    works: bool,  # noqa: FBT001 - a column
) -> None:
    key = await made_key(environ, tmp_path, Scope.METRICS)
    options = [] if works else ["--no-worker"]
    async with (
        ServeProcess(environ, tmp_path / "serve.log", *options) as serve,
        client_of(serve.url, key.key) as http,
        asyncio.timeout(PATIENCE_S),
    ):
        while await measured(http) == 0:  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.05)


async def test_whoever_works_alone_measures_how_late_its_loop_wakes(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    key = await made_key(environ, tmp_path, Scope.METRICS)
    url = f"http://127.0.0.1:{environ['MOTION_GATEWAY_METRICS__PORT']}"
    async with (
        WorkProcess(environ, tmp_path / "work.log"),
        client_of(url, key.key) as http,
        asyncio.timeout(PATIENCE_S),
    ):
        while await measured(http) == 0:  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.05)


async def test_a_port_that_is_taken_is_said_by_the_settings_name(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", int(environ["MOTION_GATEWAY_METRICS__PORT"]))):
        work = WorkProcess(environ, tmp_path / "work.log")
        with pytest.raises(AssertionError):
            await work.start()
    assert await work.died() == 1
    log = (tmp_path / "work.log").read_text()
    assert "address already in use" in log
    assert "metrics.port" in log
    assert "Traceback" not in log
