"""The store fails at the moment of a result: what stands is told once, and a ref is never known to nobody."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from store_stage import Stage, types_of
from worker_bench import MADE, SUCCEEDED, Answer, Bench, Killed, NobodyThere, Reply

from gateway.errors import OutcomeUnknown, StorageUnavailable
from gateway.jobs.job import AttemptState
from gateway.jobs.transitions import TaskKind
from gateway.service import record as record_module
from gateway.storage import tables
from providers.contract.status import JobStatus

AWAY = 3


class Failing:
    """A database that loses the answer to a write of some kind, and is away for the next few.

    Args:
        stage: whose.
        write: how the name of the operation begins.
        stood: whether what was committed stands.
        away: how many writes fail after it.
    """

    def __init__(self, stage: Stage, write: str, *, stood: bool, away: int = AWAY) -> None:
        self._write, self._named, self._stood, self._away = stage.database.write, write, stood, away
        self.failed = 0
        database: Any = stage.database
        database.write = self.write

    async def write(self, operation: Any, *, vital: bool = True) -> Any:
        if not self.failed and operation.__qualname__.startswith(self._named):
            self.failed = 1
            if self._stood:
                await self._write(operation, vital=vital)
            raise OutcomeUnknown("the connection broke in a commit")
        if 0 < self.failed <= self._away:
            self.failed += 1
            raise StorageUnavailable("the server is away")
        return await self._write(operation, vital=vital)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda _seconds: sleep(0))
    monkeypatch.setattr(record_module, "PAUSES_S", (0.0,) * (AWAY + 1))


def told(stage: Stage, kind: str) -> int:
    return types_of(stage.heard).count(kind)


@pytest.mark.parametrize("stood", [True, False], ids=["stood", "did not stand"])
@pytest.mark.parametrize(
    ("answer", "state", "kind"),
    [
        (MADE, AttemptState.ACCEPTED, "attempt.accepted"),
        (Reply(422), AttemptState.REFUSED, "attempt.refused"),
        (NobodyThere(), AttemptState.REFUSED, "attempt.refused"),
        (httpx.ReadTimeout("silence"), AttemptState.UNKNOWN, "attempt.unknown"),
    ],
    ids=["made", "refused", "refused for now", "unknown"],
)
async def test_a_submission_whose_result_was_stored_unanswered_is_told_once(  # noqa: PLR0917  (pytest names them)
    stage: Stage,
    capfd: pytest.CaptureFixture[str],
    answer: Answer,
    state: AttemptState,
    kind: str,
    stood: bool,  # noqa: FBT001 - a column
) -> None:
    bench = Bench(stage)
    job_id = await stage.accept()
    Failing(stage, "Record.result.", stood=stood)
    await bench.work(answer)
    assert await stage.states(job_id) == [state]
    assert told(stage, kind) == (await stage.events(job_id)).count(kind) == 1
    assert len(await stage.rows(tables.exchanges)) == 1
    assert "submit.late" not in capfd.readouterr().err


@pytest.mark.parametrize("stood", [True, False], ids=["stood", "did not stand"])
async def test_an_end_that_was_stored_unanswered_is_told_once(
    stage: Stage,
    stood: bool,  # noqa: FBT001 - a column
) -> None:
    bench = Bench(stage)
    job_id = await bench.accepted()
    Failing(stage, "Record.result.", stood=stood)
    await bench.after(5, SUCCEEDED)
    assert (await stage.job(job_id)).state.status is JobStatus.SUCCEEDED
    assert told(stage, "job.succeeded") == 1


async def test_a_result_that_kept_its_task_is_told_once(stage: Stage) -> None:
    """The task is given back under the version it was claimed under: the lease alone proves nothing."""
    bench = Bench(stage)
    job_id = await bench.accepted()
    Failing(stage, "Record.result.", stood=True)
    await bench.after(5, Reply(200, {"status": "RUNNING"}))
    assert (await stage.job(job_id)).state.status is JobStatus.RUNNING
    assert told(stage, "job.running") == (await stage.events(job_id)).count("job.running") == 1


@pytest.mark.parametrize("stood", [True, False], ids=["stood", "did not stand"])
async def test_a_submission_found_left_behind_is_told_once(
    stage: Stage,
    stood: bool,  # noqa: FBT001 - a column
) -> None:
    bench = Bench(stage)
    await stage.accept()
    with pytest.raises(Killed):
        await bench.work(Killed())
    stage.clock.advance(60)
    Failing(stage, "Record.result.", stood=stood)
    await bench.work()
    assert told(stage, "attempt.unknown") == told(stage, "job.held") == 1


@pytest.mark.parametrize("stood", [True, False], ids=["stood", "did not stand"])
async def test_a_cancel_that_was_stored_unanswered_is_answered_and_told_once(
    stage: Stage,
    stood: bool,  # noqa: FBT001 - a column
) -> None:
    job_id = await stage.accept()
    Failing(stage, "Record.transition.", stood=stood)
    shown = await stage.jobs.cancel(job_id, owner="alice")
    assert shown.status is JobStatus.CANCELLED
    assert told(stage, "job.cancelled") == (await stage.events(job_id)).count("job.cancelled") == 1


async def test_a_cancel_that_nobody_can_look_up_is_not_known_to_have_happened(stage: Stage) -> None:
    job_id = await stage.accept()
    failing = Failing(stage, "Record.transition.", stood=True, away=100)
    with pytest.raises(OutcomeUnknown, match="broke in a commit"):
        await stage.jobs.cancel(job_id, owner="alice")
    assert failing.failed == AWAY + 2


@pytest.mark.parametrize("ends", ["is stopped", "is killed"])
async def test_a_ref_that_cannot_be_stored_is_in_the_log(
    stage: Stage,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    ends: str,
) -> None:
    """The provider has answered, the store is away, and then this process ends."""
    bench = Bench(stage)
    job_id = await stage.accept()
    task = await stage.claim(TaskKind.SUBMIT)
    stuck, tried = asyncio.Event(), asyncio.Event()

    async def away(*_: Any, **__: Any) -> Any:
        tried.set()
        if ends == "is stopped":
            await stuck.wait()
        raise StorageUnavailable("the server is away")

    async def cut() -> None:
        monkeypatch.setattr(stage.database, "write", away)

    bench.provider.meanwhile = cut
    bench.provider.says(Reply(201, {"id": "what-was-paid-for"}))
    submitting = asyncio.create_task(bench.submit(task))
    await tried.wait()
    if ends == "is killed":  # and says nothing any more
        await asyncio.sleep(0)
        said = capfd.readouterr().err
    submitting.cancel()
    await asyncio.gather(submitting, return_exceptions=True)
    if ends == "is stopped":
        said = capfd.readouterr().err
    (line,) = [one for one in said.splitlines() if "submit.unrecorded" in one]
    attempt_id = bench.provider.asked[0].headers["x-client-id"]
    assert all(part in line for part in ('"error"', job_id, attempt_id, "what-was-paid-for"))
    assert "submit.unrecorded" not in capfd.readouterr().err
