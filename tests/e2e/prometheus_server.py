"""A real Prometheus beside the gateways of a test, with the alerts that we ship."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from ports import reserve_port

ALERTS = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"
ALERT_NAMES = set(re.findall(r"- alert: (\w+)", ALERTS.read_text()))
PATIENCE_S = 60.0
LOOK_S = 0.2

NEEDS_PROMETHEUS = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is absent (Debian package prometheus); make e2e"
)

Series = dict[str, str]


class Prometheus:
    """A server that scrapes and evaluates every second.

    Args:
        url: where it is.
        http: asks it.
    """

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self.url = url
        self._http = http

    async def ask(self, path: str, **parameters: str) -> Any:
        """Ask its HTTP API; the answer's data."""
        reply = await self._http.get(f"{self.url}/api/v1/{path}", params=parameters)
        assert reply.status_code == 200, reply.text
        return reply.json()["data"]

    async def query(self, expression: str) -> list[tuple[Series, float]]:
        """What it answers now."""
        found = await self.ask("query", query=expression)
        return [(one["metric"], float(one["value"][1])) for one in found["result"]]

    async def figure(self, expression: str) -> float | None:
        """The one value; None where it has none."""
        found = await self.query(expression)
        assert len(found) <= 1, found
        return found[0][1] if found else None

    async def firing(self, name: str = "") -> list[dict[str, Any]]:
        """The alerts that fire now: all, or those of a name."""
        alerts = (await self.ask("alerts"))["alerts"]
        return [
            alert
            for alert in alerts
            if alert["state"] == "firing" and name in {"", alert["labels"]["alertname"]}
        ]

    async def until(self, look: Callable[[], Awaitable[Any]], wanted: Callable[[Any], object]) -> Any:
        """Look until it is as wanted: what is scraped is seen a second or two later."""
        found: Any = None
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not wanted(found := await look()):  # noqa: ASYNC110 - another program's doing
                    await asyncio.sleep(LOOK_S)
        except TimeoutError as error:
            raise AssertionError(f"Prometheus still says {found!r}") from error
        return found

    async def comes_to(self, expression: str, value: float) -> None:
        """Wait until an expression has a value."""
        await self.until(lambda: self.figure(expression), lambda found: found == value)


@asynccontextmanager
async def open_prometheus(folder: Path, targets: Sequence[str], key: str) -> AsyncIterator[Prometheus]:
    """Scrape these gateways until the end.

    Args:
        folder: for its data and its log.
        targets: host and port of each.
        key: of the scope `metrics`.
    """
    (folder / "metrics.key").write_text(key)
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [
            {
                "job_name": "motion-gateway",
                "authorization": {"credentials_file": str(folder / "metrics.key")},
                "static_configs": [{"targets": list(targets)}],
            }
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(configuration))  # JSON is YAML
    address = f"127.0.0.1:{reserve_port()}"
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address={address}",
            stdout=log,
            stderr=log,
        )
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as http:
            await _ready(process, f"http://{address}", http, folder / "prometheus.log")
            yield Prometheus(f"http://{address}", http)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _ready(process: asyncio.subprocess.Process, url: str, http: httpx.AsyncClient, log: Path) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while process.returncode is None:
            try:
                if (await http.get(f"{url}/-/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(LOOK_S)
    raise AssertionError(f"it ended; {log} says why")
