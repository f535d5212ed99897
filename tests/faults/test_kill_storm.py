"""A short storm of kills on each engine; `make storm` runs the long ones."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from engines import ENGINES, fresh
from patience import WAIT_S
from storm import storm

JOBS, KILLS = 50, 10


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_storm_of_kills_pays_nothing_twice_and_loses_nothing(tmp_path: Path, engine: str) -> None:
    with fresh(engine, tmp_path) as database:
        async with asyncio.timeout(WAIT_S):
            figures = await storm(
                engine, database, tmp_path, jobs=JOBS, kills=KILLS, pace_s=0.3, seed=20261121
            )
    assert figures.kills.total() >= KILLS
    assert sum(figures.statuses.values()) == JOBS
    assert len(figures.lines()) == len(dict(figures.lines()))
