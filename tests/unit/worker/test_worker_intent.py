"""An intent whose commit was answered to nobody: nothing was sent, so nothing may be left in doubt."""

from __future__ import annotations

from typing import Any

import pytest
from store_stage import Stage
from worker_bench import MADE, Bench

from gateway.errors import OutcomeUnknown
from gateway.jobs.job import AttemptState
from gateway.service.record import Decide
from gateway.storage.tasks import Claim


@pytest.mark.parametrize("stored", [True, False])
async def test_an_intent_in_doubt_is_taken_back_and_the_job_submitted_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, *, stored: bool
) -> None:
    bench = Bench(stage)
    intent, times = stage.record.intent, 0

    async def deafened(claim: Claim, decide: Decide, **options: Any) -> Any:
        nonlocal times
        times += 1
        if stored or times > 1:
            recorded = await intent(claim, decide, **options)
        if times == 1:
            raise OutcomeUnknown("the connection broke in a commit")
        return recorded

    monkeypatch.setattr(stage.record, "intent", deafened)
    job_id = await stage.accept()
    await bench.work()
    assert bench.provider.asked == []
    assert await stage.states(job_id) == [AttemptState.REFUSED] * stored
    await bench.after(5, MADE)
    assert len(bench.provider.asked) == 1
    assert await stage.states(job_id) == [*[AttemptState.REFUSED] * stored, AttemptState.ACCEPTED]
