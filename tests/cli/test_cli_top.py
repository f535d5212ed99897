"""`top`: a running gateway at a glance, once into a pipe and live at a terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_command import COMMAND, PATIENCE_S, Done, _environment, run, run_process, started
from running_gateway import RunningGateway, StartGateway, fault

from gateway.cli.top.figures import read_figures
from gateway.service.keys import Scope


async def operators(running: RunningGateway, *scopes: Scope) -> dict[str, str]:
    key = await running.gateway.parts.keys.create(name="top", owner="ops", scopes=scopes or [Scope.OPERATOR])
    return {"MOTION_GATEWAY_URL": running.url, "MOTION_GATEWAY_KEY": key.key, "COLUMNS": "120", "LINES": "60"}


async def top(folder: Path, *arguments: str, **environment: str) -> Done:
    return await asyncio.to_thread(run_process, folder, "top", *arguments, **environment)


async def test_one_picture_shows_jobs_accounts_spend_and_what_is_held(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    running = await start_gateway()
    done_id = await running.accept("runway")
    await running.ended(done_id)
    running.break_(fault("accept_500", provider="runway", times=1))
    held_id = await running.accept("runway", metadata={"note": "\x1b[2J"})
    await running.held(held_id)

    async def counted() -> bool:
        return await running.metric("jobs_held") == 1

    await running.when(counted)
    shown = await top(tmp_path, "--once", **await operators(running))
    assert shown.returncode == 0, shown.stderr
    words = " ".join(shown.stdout.split())
    assert "queued 1 running 0 held 1" in words
    assert "succeeded 1 failed 0 cancelled 0 unknown submissions 1" in words
    assert "runway/default 1 of any" in words
    assert f"{held_id}" in words
    assert "held (submission_unknown)" in words
    assert f"{done_id}" in words
    assert "This month charged" in words
    assert "\x1b" not in shown.stdout


async def test_what_a_process_without_a_worker_does_not_know_is_shown_as_unknown(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    running = await start_gateway(works=False)
    await running.accept("runway")
    shown = await top(tmp_path, "--once", **await operators(running))
    assert shown.returncode == 0, shown.stderr
    words = " ".join(shown.stdout.split())
    assert "queued ? running ? held ?" in words
    assert "waiting ?, the oldest ?" in words
    assert "which this process does not look at" in words
    assert "runway/default" in words


async def test_without_the_scope_it_says_what_is_wanted(start_gateway: StartGateway, tmp_path: Path) -> None:
    running = await start_gateway()
    refused = await top(tmp_path, **await operators(running, Scope.JOBS))
    assert refused.returncode == 1
    assert "403" in refused.stderr
    assert "metrics" in refused.stderr


async def test_where_nobody_listens_it_says_so(tmp_path: Path) -> None:
    away = await top(tmp_path, MOTION_GATEWAY_URL="http://127.0.0.1:1")
    assert away.returncode == 1
    assert "nothing answers at http://127.0.0.1:1" in away.stderr


class Terminal:
    """The command at a pseudo-terminal."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [str(COMMAND), "top", "--every", "0.5"],
            cwd=folder,
            env=_environment({**environment, "TERM": "xterm"}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)

    def until(self, wanted: Callable[[str], Any]) -> str:
        """Read what comes until it is as wanted; what came since the call before."""
        seen = ""
        while not wanted(seen):
            seen += os.read(self._ours, 65_536).decode(errors="replace")
        return seen

    def close(self) -> None:
        self.process.kill()
        self.process.wait(timeout=PATIENCE_S)
        os.close(self._ours)


@pytest.fixture
def at_terminal(tmp_path: Path) -> Any:
    opened: list[Terminal] = []

    def open_at(environment: dict[str, str]) -> Terminal:
        opened.append(Terminal(tmp_path, environment))
        return opened[-1]

    yield open_at
    for terminal in opened:
        terminal.close()


async def test_at_a_terminal_it_goes_on_until_it_is_interrupted(
    start_gateway: StartGateway, at_terminal: Callable[[dict[str, str]], Terminal]
) -> None:
    running = await start_gateway()
    terminal = at_terminal(await operators(running))
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.to_thread(terminal.until, lambda seen: "no job yet" in seen)
        job_id = await running.accept("runway")
        await asyncio.to_thread(terminal.until, lambda seen: job_id in seen)
        terminal.process.send_signal(signal.SIGINT)
        await asyncio.to_thread(terminal.until, lambda seen: "\x1b[?1049l" in seen)
        assert await asyncio.to_thread(terminal.process.wait, PATIENCE_S) == 0


async def test_one_that_is_asked_too_often_says_so_and_the_last_picture_stays(
    start_gateway: StartGateway, at_terminal: Callable[[dict[str, str]], Terminal]
) -> None:
    running = await start_gateway(settings={"LIMITS__RATE": "5/m"})
    terminal = at_terminal(await operators(running))
    async with asyncio.timeout(PATIENCE_S):
        seen = await asyncio.to_thread(terminal.until, lambda seen: "nothing newer" in seen)
        assert "429" in seen
        await asyncio.to_thread(terminal.until, lambda seen: seen.count("nothing newer") > 1)
        assert terminal.process.poll() is None


async def test_a_gateway_that_goes_away_is_said_and_the_last_picture_stays(
    at_terminal: Callable[[dict[str, str]], Terminal], tmp_path: Path
) -> None:
    key = (
        await asyncio.to_thread(run, tmp_path, "keys", "create", "--name", "n", "--scope", "operator")
    ).stdout
    with started(tmp_path, "serve", "--port", "0") as serve:
        (url,) = await asyncio.to_thread(serve.find, r"URL\s+(http://\S+)")
        terminal = at_terminal({"MOTION_GATEWAY_URL": url, "MOTION_GATEWAY_KEY": key.strip()})
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.to_thread(terminal.until, lambda seen: "no job yet" in seen)
            serve.process.kill()
            gone = "nothing newer"
            seen = await asyncio.to_thread(
                terminal.until, lambda seen: "no job yet" in seen.partition(gone)[2]
            )
    assert "Traceback" not in seen


def test_figures_add_up_what_is_told_by_provider() -> None:
    text = """
motion_gateway_jobs_in_progress{provider="runway",status="queued"} 2.0
motion_gateway_jobs_in_progress{provider="none",status="queued"} 3.0
motion_gateway_provider_requests_total{provider="runway",operation="poll",outcome="seen"} 7.0
motion_gateway_provider_requests_total{provider="runway",operation="submit",outcome="rate_limited"} 1.0
motion_gateway_breaker_open{provider="runway",account="default",operation="submit"} 1.0
motion_gateway_breaker_open{provider="runway",account="default",operation="poll"} 0.0
"""
    figures = read_figures(text)
    assert figures.unfinished == {"queued": 5}
    assert figures.calls == {"runway": (8, 1)}
    assert figures.shut == {("runway", "default", "submit")}
