"""Asking how an attempt stands: only what can be read counts, and only an explicit word ends a job."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from job_examples import DEADLINE_S, NOW_MS, SOURCE, a_request, a_spec, a_webhook
from msgspec.structs import replace
from store_stage import LEASE_S, Stage
from worker_bench import RUNNING, SUCCEEDED, Answer, Bench, NobodyThere, Reply

from gateway.errors import LeaseLost, StorageUnavailable
from gateway.jobs.job import AttemptState
from gateway.storage import tables
from gateway.worker.poll import LAST_LOOKS
from providers.contract.spec import CancelSpec, StatusWord
from providers.contract.status import JobStatus

HOLLOW = Reply(200, {"status": "SUCCEEDED"})
FAILED = Reply(200, {"status": "FAILED"})
USELESS: list[Answer] = [
    httpx.ReadTimeout("silence"),
    NobodyThere(),
    Reply(500),
    Reply(502, b"<html>"),
    Reply(200, b"<html>"),
    Reply(200, {}),
    Reply(302),
    Reply(401),
    Reply(429),
    Reply(410),
]


@pytest.mark.parametrize("heard", [True, False])
async def test_progress_is_told_to_an_endpoint_that_asks_for_it(stage: Stage, *, heard: bool) -> None:
    bench = Bench(stage)
    url, words = "https://receiver.example/all", ["job.running", "job.progress"]
    made = await stage.endpoints.create(owner="alice", url=url, events=words)
    if not heard:
        await stage.endpoints.disable(made.id, owner="alice")
    job_id = await bench.accepted()
    await bench.after(5, RUNNING)
    for progress in (0.25, 0.25, 0.5):
        await bench.after(30, Reply(200, {"status": "RUNNING", "progress": progress}))
    told = [row for row in await stage.events(job_id) if row == "job.progress"]
    assert told == ["job.progress"] * (2 if heard else 0)
    types = [row["type"] for row in await stage.rows(tables.deliveries)]
    assert types == ["job.running", *told]
    assert (await stage.job(job_id)).progress == 0.5


async def test_whether_progress_is_heard_is_asked_only_where_there_is_some(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, asked = Bench(stage), list[str]()

    async def heard(owner: str) -> bool:
        asked.append(owner)
        raise StorageUnavailable("away for a moment")

    monkeypatch.setattr(stage.outbox, "progress_heard", heard)
    job_id = await bench.accepted()
    bench.tools.outbox.progress_heard = heard  # type: ignore[method-assign]  # counted
    await bench.after(5, RUNNING)
    await bench.after(10, RUNNING)
    assert asked == []
    await bench.after(10, Reply(200, {"status": "RUNNING", "progress": 0.25}))
    assert asked == ["alice"]
    assert (await stage.job(job_id)).progress == 0.25, "it is stored whoever hears of it"


async def test_a_run_is_followed_to_its_end(stage: Stage) -> None:
    bench = Bench(stage)
    job_id = await bench.accepted(request=a_request(webhook=a_webhook()))
    await bench.after(5, Reply(200, {"status": "QUEUED"}))
    await bench.after(10, RUNNING)
    await bench.after(10, SUCCEEDED)
    job = await stage.job(job_id)
    assert (job.state.status, job.progress, len(job.state.outputs)) == (JobStatus.SUCCEEDED, 1.0, 1)
    assert (await stage.events(job_id))[2:] == [
        "attempt.accepted",
        "attempt.observed",
        "job.running",
        "job.succeeded",
    ]
    assert [kind for kind, _ in await stage.tasks()] == ["deliver", "deliver"]
    assert bench.counted("detection_lag_seconds_count") == 1


async def test_a_poll_that_found_no_change_outlives_a_short_outage(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(stage)
    job_id = await bench.accepted()
    await bench.after(5, RUNNING)
    unchanged, failed = stage.leases.unchanged, 0

    async def away(*args: Any, **named: Any) -> bool:
        nonlocal failed
        failed += 1
        if failed <= 2:
            raise StorageUnavailable("the server is away")
        return await unchanged(*args, **named)

    monkeypatch.setattr(stage.leases, "unchanged", away)
    await bench.after(10, RUNNING)
    assert await stage.tasks() == [("poll", 25_000)]
    assert (await stage.job(job_id)).state.status is JobStatus.RUNNING


async def test_a_poll_that_found_no_change_writes_its_next_due_time_alone(stage: Stage) -> None:
    bench = Bench(stage)
    job_id = await bench.accepted()
    await bench.after(5, RUNNING)
    before = await stage.everything()
    for _ in range(3):
        await bench.after(10, RUNNING)
    after = await stage.everything()
    (task,) = after["tasks"]
    assert task["due_at_ms"] == stage.clock.now_ms() + 10_000
    before.pop("tasks")
    after.pop("tasks")
    assert after == before
    assert (await stage.job(job_id)).sequence == 4


async def test_the_pace_follows_the_runs_age_and_the_providers_word(stage: Stage) -> None:
    slow = (*a_spec().statuses, StatusWord("THROTTLED", JobStatus.QUEUED, SOURCE, slow=True))
    bench = Bench(stage, spec=a_spec(statuses=slow))
    await bench.accepted()
    for wait_s, word, next_s in (
        (5, "QUEUED", 10),
        (10, "THROTTLED", 60),
        (60, "RUNNING", 10),
        (230, "RUNNING", 10),  # its age counts from the middle of 15 and 75: by then it was let go
        (40, "RUNNING", 30),
        (30, "THROTTLED", 60),
    ):
        await bench.after(wait_s, Reply(200, {"status": word}))
        ((_, due_ms),) = await stage.tasks()
        assert due_ms == stage.clock.now_ms() - NOW_MS + next_s * 1000


async def test_an_unknown_word_changes_nothing_and_is_counted(stage: Stage) -> None:
    bench = Bench(stage)
    job_id = await bench.accepted()
    await bench.after(5, RUNNING)
    for _ in range(3):
        await bench.after(10, Reply(200, {"status": "VANISHED"}))
    job = await stage.job(job_id)
    assert (job.state.status, await stage.states(job_id)) == (JobStatus.RUNNING, [AttemptState.ACCEPTED])
    assert (await stage.attempts(job_id))[0].provider_status == "VANISHED"
    assert bench.counted("unmapped_status_total") == 3
    assert (await stage.events(job_id)).count("attempt.observed") == 1
    await bench.after(10, SUCCEEDED)
    assert (await stage.job(job_id)).state.status is JobStatus.SUCCEEDED


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Reply(200, {"status": "VANISHED"}), id="unknown word"),
        pytest.param(Reply(200, {"status": "QUEUED"}), id="queued"),
        pytest.param(RUNNING, id="running"),
        pytest.param(Reply(404), id="unknown ref"),
        pytest.param(HOLLOW, id="drift"),
    ],
)
@pytest.mark.parametrize("late_s", [0, 3600], ids=["at", "long after"])
async def test_a_look_at_the_deadline_that_sees_no_end_ends_the_job(
    stage: Stage, answer: Reply, late_s: int
) -> None:
    bench = Bench(stage)
    job_id = await bench.accepted()
    await bench.after(DEADLINE_S - 1, answer)
    assert not (await stage.job(job_id)).state.status.terminal
    assert await stage.tasks() == [("poll", DEADLINE_S * 1000)]
    await bench.after(1 + late_s, answer)
    error = (await stage.job(job_id)).state.error
    assert error is not None
    assert error.code == "deadline_exceeded"
    assert await stage.tasks() == [("cancel", stage.clock.now_ms() - NOW_MS)]


@pytest.mark.parametrize(
    ("answer", "status"),
    [(SUCCEEDED, JobStatus.SUCCEEDED), (FAILED, JobStatus.FAILED)],
    ids=["succeeded", "failed"],
)
@pytest.mark.parametrize("late_s", [0, 100_000], ids=["at", "long after"])
async def test_the_provider_has_the_last_word_at_the_deadline(
    stage: Stage, answer: Reply, status: JobStatus, late_s: int
) -> None:
    job_id = await Bench(stage).accepted()
    stage.clock.advance(DEADLINE_S + late_s)
    started_again = Bench(stage)
    await started_again.sweep()
    await started_again.work(answer)
    state = (await stage.job(job_id)).state
    assert state.status is status
    assert state.error is None or state.error.code != "deadline_exceeded"
    assert await stage.tasks() == []


@pytest.mark.parametrize(
    "answer", [RUNNING, Reply(404), HOLLOW, Reply(500), Reply(429, retry_after="60")], ids=repr
)
async def test_a_poll_is_brought_forward_to_the_deadline(stage: Stage, answer: Reply) -> None:
    bench = Bench(stage)
    await bench.accepted()
    await bench.after(DEADLINE_S - 1, answer)
    assert await stage.tasks() == [("poll", DEADLINE_S * 1000)]


@pytest.mark.parametrize("answer", USELESS, ids=repr)
async def test_a_look_at_the_deadline_that_fails_is_repeated_a_few_times(
    stage: Stage, answer: Answer
) -> None:
    bench = Bench(stage)
    job_id = await bench.accepted()
    for _ in range(LAST_LOOKS):  # before the deadline they do not count
        await bench.after(100, answer)
    stage.clock.advance(DEADLINE_S - 100 * LAST_LOOKS)
    for _ in range(LAST_LOOKS - 1):
        await bench.work(answer)
        await bench.sweep()
        assert not (await stage.job(job_id)).state.status.terminal
        assert await stage.tasks() == [("poll", stage.clock.now_ms() - NOW_MS + 2000)]
        stage.clock.advance(2)
    await bench.work(answer)
    error = (await stage.job(job_id)).state.error
    assert error is not None
    assert error.code == "deadline_exceeded"
    assert await stage.tasks() == [("cancel", stage.clock.now_ms() - NOW_MS)]
    assert bench.provider.calls.count("GET /jobs/r-1") == 2 * LAST_LOOKS


async def test_a_last_look_may_still_find_a_success(stage: Stage) -> None:
    bench = Bench(stage)
    job_id = await bench.accepted()
    await bench.after(DEADLINE_S, Reply(500))
    await bench.after(2, Reply(429, retry_after="60"))
    await bench.after(2, SUCCEEDED)
    assert (await stage.job(job_id)).state.status is JobStatus.SUCCEEDED


@pytest.mark.parametrize("answer", USELESS, ids=repr)
async def test_a_failed_poll_says_nothing_about_the_job(stage: Stage, answer: Answer) -> None:
    bench = Bench(stage)
    job_id = await bench.accepted()
    before = await stage.job(job_id)
    due: list[int] = []
    stage.clock.advance(5)
    for _ in range(7):
        await bench.work(answer)
        ((_, due_ms),) = await stage.tasks()
        wait_ms = due_ms - (stage.clock.now_ms() - NOW_MS)
        due.append(wait_ms // 1000)
        stage.clock.advance(wait_ms / 1000)
    assert due == [2, 4, 8, 16, 32, 60, 60]
    assert (await stage.job(job_id), await stage.states(job_id)) == (before, [AttemptState.ACCEPTED])
    await bench.work(RUNNING)
    ((_, due_ms),) = await stage.tasks()
    assert due_ms == stage.clock.now_ms() - NOW_MS + 10_000


@pytest.mark.parametrize(("field", "wait_s"), [("7", 7), ("60", 60), ("77", 60), ("9999999", 60)])
async def test_a_busy_provider_is_asked_when_it_says_but_within_a_minute(
    stage: Stage, field: str, wait_s: int
) -> None:
    bench = Bench(stage)
    await bench.accepted()
    await bench.after(5, Reply(429, retry_after=field))
    assert await stage.tasks() == [("poll", (5 + wait_s) * 1000)]


async def test_a_success_without_output_is_believed_the_third_time(stage: Stage) -> None:
    bench = Bench(stage)
    job_id = await bench.accepted()
    for wait_s in (5, 10):
        await bench.after(wait_s, HOLLOW)
        assert (await stage.job(job_id)).state.status is JobStatus.QUEUED
    await bench.after(10, HOLLOW)
    error = (await stage.job(job_id)).state.error
    assert error is not None
    assert error.code == "provider_contract"
    said = [row for row in await stage.rows(tables.exchanges) if row["operation"] == "poll"]
    assert len(said) == 3


async def test_a_success_that_gets_its_output_is_a_success(stage: Stage) -> None:
    bench = Bench(stage)
    job_id = await bench.accepted()
    for wait_s, answer in ((5, HOLLOW), (10, HOLLOW), (10, RUNNING), (10, HOLLOW), (10, HOLLOW)):
        await bench.after(wait_s, answer)
    assert (await stage.job(job_id)).state.status is JobStatus.RUNNING, "the doubts were not in a row"
    await bench.after(10, SUCCEEDED)
    assert (await stage.job(job_id)).state.status is JobStatus.SUCCEEDED


async def test_a_ref_unknown_three_times_over_half_a_minute_is_lost(stage: Stage) -> None:
    bench = Bench(stage)
    job_id = await bench.accepted()
    for wait_s in (5, 10, 10):
        await bench.after(wait_s, Reply(404))
        assert (await stage.job(job_id)).state.status is JobStatus.QUEUED
    await bench.after(10, Reply(404))
    error = (await stage.job(job_id)).state.error
    assert error is not None
    assert error.code == "provider_lost"
    assert await stage.states(job_id) == [AttemptState.FAILED]


@pytest.mark.parametrize("between", [RUNNING, Reply(200, {"status": "WEIRD"})], ids=["running", "weird"])
async def test_a_ref_that_is_known_again_was_never_lost(stage: Stage, between: Reply) -> None:
    bench = Bench(stage)
    job_id = await bench.accepted()
    missing = Reply(404)
    for wait_s, answer in ((5, missing), (30, missing), (30, between), (30, missing), (30, missing)):
        await bench.after(wait_s, answer)
    assert not (await stage.job(job_id)).state.status.terminal


async def test_trouble_does_not_make_a_ref_known(stage: Stage) -> None:
    bench = Bench(stage)
    job_id = await bench.accepted()
    for wait_s, answer in ((5, Reply(404)), (10, Reply(404)), (20, Reply(500)), (20, Reply(404))):
        await bench.after(wait_s, answer)
    assert (await stage.job(job_id)).state.status is JobStatus.FAILED


async def test_a_scaled_down_pace_scales_patience_down(stage: Stage) -> None:
    bench = Bench(stage, poll_scale=0.01)
    job_id = await bench.accepted()
    for wait_s in (0.05, 0.1, 0.2):
        await bench.after(wait_s, Reply(404))
    assert (await stage.job(job_id)).state.status is JobStatus.FAILED


@pytest.mark.parametrize(("ref_gone", "status"), [(True, JobStatus.CANCELLED), (False, JobStatus.FAILED)])
async def test_a_ref_that_goes_after_our_cancel_was_cancelled_where_it_goes_with_it(
    stage: Stage,
    ref_gone: bool,  # noqa: FBT001 - a column
    status: JobStatus,
) -> None:
    gone = CancelSpec(stops=True, destroys_output=False, ref_gone=ref_gone, source=SOURCE)
    bench = Bench(stage, spec=a_spec(cancel=gone))
    job_id = await bench.accepted()
    await stage.jobs.cancel(job_id, owner="alice")
    await stage.claim()  # the cancel is some other worker's
    for wait_s in (5, 12, 12, 12):
        stage.clock.advance(wait_s)
        bench.provider.says(Reply(404))
        for task in await stage.dispatch.claim(10):
            if task.claim.kind == "poll":
                await bench.poll(task)
    assert (await stage.job(job_id)).state.status is status


@pytest.mark.parametrize("gone", ["account", "model"])
async def test_without_account_or_model_it_waits_for_better_settings(stage: Stage, gone: str) -> None:
    bench = Bench(stage)
    job_id = await bench.accepted()
    without = replace(bench.account, adapter=replace(bench.account.adapter, spec=a_spec(models=())))
    bench.with_accounts(*((without,) if gone == "model" else ()))
    await bench.after(5)
    assert await stage.tasks() == [("poll", 65_000)]
    bench.with_accounts(bench.account)
    await bench.after(60, SUCCEEDED)
    assert (await stage.job(job_id)).state.status is JobStatus.SUCCEEDED


async def test_a_worker_that_lost_its_lease_writes_nothing(stage: Stage) -> None:
    bench = Bench(stage)
    await bench.accepted()

    async def lose_the_lease() -> None:
        stage.clock.advance(LEASE_S + 1)
        await stage.worker("second").dispatch.claim(10)

    bench.provider.meanwhile = lose_the_lease
    stage.clock.advance(5)
    for answer in (RUNNING, Reply(404), Reply(500), SUCCEEDED):
        bench.provider.says(answer)
        (task,) = await stage.dispatch.claim(10)
        before = await stage.everything()
        with pytest.raises(LeaseLost):
            await bench.poll(task)
        after = await stage.everything()
        assert before.pop("tasks") != after.pop("tasks"), "another worker has it"
        assert after == before
        stage.clock.advance(LEASE_S + 1)


async def test_a_poll_with_nothing_to_ask_for_closes_its_task(stage: Stage) -> None:
    bench = Bench(stage)
    job_id = await bench.accepted()
    stage.clock.advance(5)
    task = await stage.claim()
    refused = tuple(replace(one, state=AttemptState.REFUSED) for one in task.attempts)
    await bench.poll(type(task)(task.claim, task.job, refused))
    assert await stage.tasks() == []
    assert (await stage.job(job_id)).state.status is JobStatus.QUEUED
