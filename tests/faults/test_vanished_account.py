"""An account that jobs under way need is gone from the settings: the start is refused, and says why."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
from patience import WAIT_S
from running_gateway import (
    EMULATIONS,
    PROVIDERS,
    REGISTRY,
    asked,
    client_of,
    environment,
    open_gateway,
)
from serve_process import SERVE, ServeProcess, made_key

from gateway.app.gateway import Gateway
from gateway.cli.verdicts import Mark, Verdict, check_database
from gateway.clock import SystemClock
from gateway.errors import SettingsError
from gateway.service.accounts_needed import missing_accounts, refuse_missing
from gateway.service.keys import Scope
from gateway.settings import load
from gateway.simulator import Simulator, serve_simulator

CONFIG_ERROR = 78
FIRST, SECOND = PROVIDERS[:2]


def test_what_is_there_is_not_missed() -> None:
    refuse_missing({("acme", "default"): 7}, {("acme", "default"), ("acme", "other")})
    refuse_missing({}, set())


def test_a_refusal_names_provider_account_and_how_many() -> None:
    needed = {("acme", "main"): 3, ("zeta", "default"): 1, ("acme", "other"): 5}
    assert missing_accounts(needed, {("acme", "other")}) == [
        "the account 'main' at acme is gone, and 3 jobs are still under way there",
        "the account 'default' at zeta is gone, and 1 job is still under way there",
    ]
    with pytest.raises(SettingsError, match="Put it back into the settings"):
        refuse_missing(needed, set())


def verdicts(environ: Mapping[str, str], folder: Path) -> list[Verdict]:
    """What `check` says about the database."""
    return list(check_database(load(REGISTRY.specs, environ=environ, cwd=folder).settings, REGISTRY))


async def run(environ: dict[str, str], *command: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        SERVE, *command, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, " ".join(said.decode().split())


async def test_serve_refuses_to_start_and_check_finds_it_until_the_account_is_back(tmp_path: Path) -> None:
    simulator = Simulator(EMULATIONS, clock=SystemClock(), run_s=1000.0, render=False)
    async with await serve_simulator(simulator) as providers:
        urls = {name: f"{providers.url}/{name}" for name in PROVIDERS}
        environ = environment(tmp_path, urls)
        key = await made_key(environ, tmp_path, Scope.JOBS)
        served = ServeProcess(environ, tmp_path / "serve.log")
        async with served, client_of(served.url, key.key) as client:
            job_id = (await client.post("/v1/jobs", json=asked(FIRST))).json()["id"]
            async with asyncio.timeout(WAIT_S):
                while not (await client.get(f"/v1/jobs/{job_id}")).json()["attempts"]:  # noqa: ASYNC110 - in another process
                    await asyncio.sleep(0.02)
            assert await served.end(signal.SIGTERM) == 0
        without = environment(tmp_path, {name: url for name, url in urls.items() if name != FIRST})
        status, said = await run(without, "serve", "--port", "0")
        assert status == CONFIG_ERROR
        assert f"the account 'default' at {FIRST} is gone, and 1 job is still under way there" in said
        findings = [one for one in verdicts(without, tmp_path) if one.mark is Mark.FINDING]
        assert [(one.area, one.name) for one in findings] == [("database", "accounts")]
        assert findings[0].text.startswith(f"serve refuses to start: the account 'default' at {FIRST}")
        # The built-in simulator is no account of that name either.
        status, said = await run(environment(tmp_path, {}), "serve", "--port", "0")
        assert status == CONFIG_ERROR, said
        assert [one for one in verdicts(environ, tmp_path) if one.mark is Mark.FINDING] == []


async def test_jobs_that_have_ended_need_no_account(tmp_path: Path) -> None:
    async with await serve_simulator(
        Simulator(EMULATIONS, clock=SystemClock(), run_s=0.1, render=False)
    ) as providers:
        urls = {name: f"{providers.url}/{name}" for name in PROVIDERS}
        async with open_gateway(tmp_path, providers, base_urls=urls) as running:
            for name in (FIRST, SECOND):
                await running.ended(await running.accept(name))
        environ = environment(tmp_path, {SECOND: urls[SECOND]})
        gateway = Gateway(load(REGISTRY.specs, environ=environ, cwd=tmp_path).settings, REGISTRY)
        await gateway.check_accounts()
        await gateway.close()
