"""The paid call while the store is away: what was paid for is told to it in the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from doubtful_submissions import lose_the_lease
from store_stage import Stage
from worker_bench import MADE, Bench

from gateway.errors import StorageUnavailable
from gateway.jobs.job import AttemptState
from gateway.worker import tools as tools_module

AWAY = 200
"""Writes that fail before the store is back, where it stays away."""


async def test_the_store_is_asked_again_and_again_to_keep_what_was_paid_for(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    failures: list[int] = []
    result = stage.record.result

    async def flaky(*args: Any, **named: Any) -> object:
        if len(failures) < 2:
            failures.append(1)
            raise StorageUnavailable("locked")
        return await result(*args, **named)

    monkeypatch.setattr(stage.record, "result", flaky)
    await bench.work(MADE)
    assert await stage.states(job_id) == [AttemptState.ACCEPTED]
    assert len(failures) == 2


class SwiftPauses:
    """Stands in for asyncio where results are written: pauses take no time, and its loop counts them."""

    CancelledError = asyncio.CancelledError

    def __init__(self) -> None:
        self.paused_s = 0.0

    def get_running_loop(self) -> SwiftPauses:
        return self

    def time(self) -> float:
        return self.paused_s

    async def sleep(self, seconds: float) -> None:
        self.paused_s += seconds


@pytest.mark.parametrize("lost", [False, True], ids=["in time", "after the lease was lost"])
async def test_a_store_that_stays_away_for_long_is_told_the_ref_in_the_end(
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    lost: bool,  # noqa: FBT001 - a column
) -> None:
    bench, pauses = Bench(stage), SwiftPauses()
    job_id = await stage.accept()
    writes = "transition" if lost else "result"
    write = getattr(stage.record, writes)
    failures: list[int] = []

    async def away(*args: Any, **named: Any) -> object:
        if len(failures) < AWAY:
            failures.append(1)
            raise StorageUnavailable("locked")
        return await write(*args, **named)

    async def go_away() -> None:
        if lost:
            await lose_the_lease(bench)
        monkeypatch.setattr(stage.record, writes, away)

    monkeypatch.setattr(tools_module, "asyncio", pauses)
    bench.provider.meanwhile = go_away
    await bench.work(MADE)
    (attempt,) = await stage.attempts(job_id)
    assert (attempt.state, attempt.ref) == (AttemptState.ACCEPTED, "r-1")
    assert len(failures) == AWAY
    assert pauses.paused_s > 10 * tools_module.KEEP_TRYING_S
    assert len(bench.provider.asked) == 1
