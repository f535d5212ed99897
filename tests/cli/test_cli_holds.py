"""`held` and `resolve`: straight on the database, beside the gateway that serves it."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from cli_command import COMMAND, PATIENCE_S, Done, _environment, run
from running_gateway import BOTH_ENGINES, PROVIDERS, RunningGateway, StartGateway, environment, fault

Command = Callable[..., Coroutine[Any, Any, Done]]
PROVIDER = "runway"


def settings_of(running: RunningGateway, folder: Path, database_url: str) -> dict[str, str]:
    """A gateway's own settings, as an environment."""
    urls = {name: f"{running.simulator.url}/{name}" for name in PROVIDERS}
    settings = environment(folder, urls, DATABASE=database_url)
    if not database_url.startswith("sqlite:"):
        settings["MOTION_GATEWAY_SECRET_KEY"] = running.gateway.parts.store.secret
    return settings


@pytest.fixture
def beside(tmp_path: Path, database_url: str) -> Callable[[RunningGateway], Command]:
    """Make what runs a command with a gateway's own settings."""

    def of(running: RunningGateway) -> Command:
        settings = settings_of(running, tmp_path, database_url)

        def carry_out(*arguments: str, said: str = "") -> Done:
            done = subprocess.run(
                [str(COMMAND), *arguments],
                cwd=tmp_path,
                env=_environment(settings),
                input=said,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
            return Done(done.returncode, done.stdout, done.stderr)

        async def command(*arguments: str, said: str = "") -> Done:
            return await asyncio.to_thread(carry_out, *arguments, said=said)

        return command

    return of


async def a_held_job(running: RunningGateway) -> str:
    running.break_(fault("accept_reset", provider=PROVIDER, times=1))
    job_id = await running.accept(PROVIDER)
    await running.held(job_id)
    return job_id


@BOTH_ENGINES
async def test_a_held_job_is_listed_and_adopted(
    start_gateway: StartGateway, beside: Callable[[RunningGateway], Command]
) -> None:
    running = await start_gateway()
    command = beside(running)
    nothing = await command("held")
    assert (nothing.returncode, nothing.stdout) == (0, "nothing is held\n")
    job_id = await a_held_job(running)
    table = (await command("held")).stdout
    assert job_id in table
    assert f"{PROVIDER}/default" in table
    assert "$0.20" in table
    (listed,) = json.loads((await command("held", "--json")).stdout)["held"]
    job = await running.job(job_id)
    attempt = job["attempts"][0]
    assert listed == {
        "job": job_id,
        "owner": "tester",
        "since": job["held"]["since"],
        "until": job["held"]["until"],
        "provider": PROVIDER,
        "account": "default",
        "attempt": attempt["id"],
        "reason": attempt["error"]["message"],
        "sent_at": attempt["started_at"],
        "estimated_usd": job["cost"]["estimated_usd"],
        "provider_may_bill": False,
    }
    unknown = await command("resolve", job_id, "adopt", "not-known")
    assert unknown.returncode == 1
    assert "the provider does not know it" in unknown.stderr
    (ref,) = running.simulator.simulator._mounts[PROVIDER].jobs._jobs
    done = await command("resolve", job_id, "adopt", ref)
    assert done.returncode == 0
    *logged, said = done.stderr.splitlines()
    assert said == f"{job_id} goes on with {ref}"
    # No metric counts what a command settled: its log tells of it.
    events = [json.loads(line) for line in logged]
    assert [one["event"] for one in events] == ["hold.resolved", "attempt.adopted", "submission.settled"]
    assert {(one["job_id"], one["attempt_id"]) for one in events} == {(job_id, attempt["id"])}
    assert (await running.ended(job_id))["status"] == "succeeded"
    again = await command("resolve", job_id, "fail")
    assert again.returncode == 1
    assert "not held" in again.stderr


async def test_what_may_be_paid_twice_is_asked_about(
    start_gateway: StartGateway, beside: Callable[[RunningGateway], Command]
) -> None:
    running = await start_gateway()
    command = beside(running)
    job_id = await a_held_job(running)
    for said in ("n\n", "\n", ""):
        declined = await command("resolve", job_id, "resubmit", said=said)
        assert declined.returncode == 1
        assert "may then be paid twice (estimated at $0.20)" in declined.stdout
    assert await running.accepted(PROVIDER) == 1
    assert (await command("resolve", job_id, "resubmit", said="y\n")).returncode == 0
    job = await running.ended(job_id)
    assert [attempt["state"] for attempt in job["attempts"]] == ["unknown", "succeeded"]
    (said_by,) = [
        one["data"]["note"] for one in await running.timeline(job_id) if one.get("type") == "hold.resolved"
    ]
    assert said_by == {"action": "resubmit", "by": "command line"}


async def test_yes_is_said_to_the_attempt_that_was_shown(
    start_gateway: StartGateway,
    tmp_path: Path,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    beside: Callable[[RunningGateway], Command],
) -> None:
    """While one operator is asked, another has it submitted again, and that one is lost, too."""
    running = await start_gateway()
    command = beside(running)
    job_id = await a_held_job(running)
    loop = asyncio.get_running_loop()

    async def another() -> None:
        running.break_(fault("accept_reset", provider=PROVIDER, times=1))
        assert (await command("resolve", job_id, "resubmit", "--yes")).returncode == 0
        await running.until(job_id, lambda job: len(job["attempts"]) == 2 and job["held"] is not None)

    def asked(_question: str) -> bool:
        asyncio.run_coroutine_threadsafe(another(), loop).result(PATIENCE_S)
        return True

    monkeypatch.setattr("gateway.cli.resolve.click.confirm", asked)
    settings = settings_of(running, tmp_path, database_url)
    late = await asyncio.to_thread(run, tmp_path, "resolve", job_id, "resubmit", **settings)
    assert late.returncode == 1
    assert "it was submitted again" in late.stderr
    assert await running.accepted(PROVIDER) == 2


async def test_it_is_not_asked_about_where_that_is_wanted(
    start_gateway: StartGateway, beside: Callable[[RunningGateway], Command]
) -> None:
    running = await start_gateway()
    command = beside(running)
    first, second = await a_held_job(running), await a_held_job(running)
    assert (await command("resolve", first, "resubmit", "--yes")).returncode == 0
    given_up = await command("resolve", second, "fail")
    assert "may bill it" in given_up.stderr
    assert (await running.ended(first))["status"] == "succeeded"
    assert (await running.job(second))["error"]["code"] == "submission_unknown"


@pytest.mark.parametrize(
    "arguments",
    [
        ("job_1",),
        ("job_1", "adopt"),
        ("job_1", "fail", "ref"),
        ("job_1", "resubmit", "ref"),
        ("job_1", "forget"),
    ],
)
def test_a_word_that_is_none_is_wrong_usage(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert run(tmp_path, "resolve", *arguments).returncode == 2
    assert not list(tmp_path.iterdir())


def test_a_mistyped_database_holds_nothing_and_says_so(tmp_path: Path) -> None:
    for arguments in (("held",), ("resolve", "job_1", "fail")):
        done = run(tmp_path, *arguments, "--database", "sqlite:///typo.db")
        assert done.returncode == 1
        assert "there is no database at" in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_unknown_job_is_not_resolved(tmp_path: Path) -> None:
    run(tmp_path, "migrate")
    for job_id in ("job_1", "job_" + "0" * 32):
        done = run(tmp_path, "resolve", job_id, "fail")
        assert (done.returncode, done.stderr) == (1, "motion-gateway: there is no such job\n")
