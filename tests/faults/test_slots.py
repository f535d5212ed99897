"""Slots are shared by a fleet and right after any death: never one run more than is allowed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from engines import POSTGRES, fresh
from patience import WAIT_S
from running_gateway import PROVIDERS
from storm import storm

SLOTS = 3
JOBS, KILLS = 40, 10


async def test_three_workers_killed_at_random_never_have_a_fourth_run_at_once(tmp_path: Path) -> None:
    settings = {
        name: value
        for provider in PROVIDERS
        for name, value in {
            f"PROVIDERS__{provider.upper()}__MAX_IN_FLIGHT": str(SLOTS),
            # A run in doubt keeps its slot for this long: longer than one takes there, on a busy machine too.
            f"PROVIDERS__{provider.upper()}__LONGEST_RUN_S": "10",
        }.items()
    }
    with fresh(POSTGRES, tmp_path) as database:
        async with asyncio.timeout(WAIT_S):
            figures = await storm(
                POSTGRES, database, tmp_path, jobs=JOBS, kills=KILLS, pace_s=0.05, seed=3, settings=settings
            )
    assert figures.most_in_flight == SLOTS
    assert sum(figures.statuses.values()) == JOBS
