"""Jobs that a backup brought back: they go on with the run they have, and nowhere else."""

from __future__ import annotations

from store_stage import Stage
from worker_bench import SUCCEEDED, Bench

from gateway.service.restoring import count_unfinished, settle_restored
from gateway.storage import tables
from providers.contract.status import JobStatus


async def test_a_restored_job_is_followed_to_the_end_of_its_run(stage: Stage) -> None:
    bench = Bench(stage)
    running, waiting = await bench.accepted(), await stage.accept()
    seen: list[tuple[int, int]] = []
    settled = await settle_restored(
        stage.database, stage.record, stage.clock, on_settled=lambda *word: seen.append(word)
    )
    assert (settled.ended, settled.followed, seen) == (1, 1, [(1, 2), (2, 2)])
    assert (await stage.job(waiting)).state.status is JobStatus.FAILED
    assert not [row for row in await stage.rows(tables.tasks) if row["subject"] == waiting]
    assert await count_unfinished(stage.database) == 1
    await bench.after(60, SUCCEEDED)
    assert (await stage.job(running)).state.status is JobStatus.SUCCEEDED
    assert len(bench.provider.asked) == 2, "the submission, and the poll"
