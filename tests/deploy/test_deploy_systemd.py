"""`deploy/motion-gateway.service`: what it runs, when it stops, and what systemd says of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from deployed_files import DEPLOY, unknown

from gateway.cli.exits import REFUSED
from gateway.cli.root import COMMANDS
from gateway.settings import Settings

UNIT = DEPLOY / "motion-gateway.service"
EXPOSURE_MAX = 2.0
"""Of `systemd-analyze security`: 0 is a unit that may do nothing, 10 one that may do anything."""


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_it_runs_a_command_with_settings_that_there_are() -> None:
    said = settings()
    (start,) = said["ExecStart"]
    assert start.split()[1] in COMMANDS
    variables = [one.partition("=")[0] for line in said["Environment"] for one in line.split()]
    assert not unknown(variables)


def test_it_waits_longer_than_a_worker_and_does_not_try_what_was_refused() -> None:
    said = settings()
    assert float(said["TimeoutStopSec"][0]) > Settings().worker.stop_s + 10
    assert said["RestartPreventExitStatus"] == [str(REFUSED)]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on the PATH")
def test_systemd_finds_nothing_wrong_and_little_exposed(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    start = settings()["ExecStart"][0].split()[0]
    unit.write_text(UNIT.read_text().replace(start, "/usr/bin/true"))  # ours is not installed there
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert UNIT.name not in verified.stderr, verified.stderr
    exposed = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    level = exposed.stdout.rpartition("Overall exposure level")[2]
    assert float(level.partition(": ")[2].split()[0]) <= EXPOSURE_MAX
