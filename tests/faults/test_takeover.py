"""The jobs of a worker that is gone are taken over: once its leases lapse, or at once when it was stopped."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from audit import check_database
from engines import postgres_settings
from patience import WAIT_S
from postgres_server import fresh_database
from takeover import open_pair

JOBS = 100
LEASE_S = 2.0
SLACK_S = 20.0
"""For a busy machine. Promised are 30 s at leases of 20 s, and 2 s after a SIGTERM: `Pair.lose` measures."""


async def test_the_jobs_of_a_worker_that_died_or_stopped_are_polled_by_another(tmp_path: Path) -> None:
    with fresh_database() as url:
        async with (
            asyncio.timeout(WAIT_S),
            open_pair(tmp_path, postgres_settings(url, LEASE_S), jobs=JOBS) as pair,
        ):
            killed = await pair.lose(signal.SIGKILL)
            assert killed.leases > 0
            assert killed.last_s < LEASE_S + SLACK_S, killed
            stopped = await pair.lose(signal.SIGTERM)
            assert (stopped.exit_code, stopped.leases) == (0, 0)
            assert stopped.last_s < SLACK_S, stopped
        assert check_database(url) == JOBS
