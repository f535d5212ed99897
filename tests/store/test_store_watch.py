"""Watching: one look for all, whoever changed the job; and the log as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import msgspec
import pytest
from job_examples import NOW_MS, a_request, a_webhook
from msgspec.structs import replace
from sqlalchemy import update
from store_stage import Stage

from gateway.errors import Refusal, StorageUnavailable, Unreadable
from gateway.jobs import transitions
from gateway.jobs.job import Job
from gateway.jobs.transitions import Step
from gateway.service import watch as watching
from gateway.service.jobs import not_found
from gateway.service.story import Stories
from gateway.service.watch import Kind, Places, Watch, Watcher
from gateway.storage import events as event_rows
from gateway.storage import jobs as job_rows
from gateway.storage import tables, watched
from gateway.storage.watched import Stamp

PATIENCE_S = 20.0
ALICE, BOB = "alice", "bob"


class Heard:
    """What a watch told of itself."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.denied: list[str] = []


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def watch(stage: Stage, heard: Heard) -> AsyncIterator[Watch]:
    """A watch of five places, two for each owner."""
    opened = Watch(
        stage.database,
        stage.clock,
        Places(all=5, per_owner=2),
        on_count=heard.counts.__setitem__,
        on_denied=heard.denied.append,
        spread=lambda: 0.0,
    )
    yield opened
    await opened.close()


async def stamp_of(watcher: Watcher, wanted: Stamp) -> None:
    """Wait until a watcher was woken by this."""
    async with asyncio.timeout(PATIENCE_S):
        while watcher.stamp != wanted or not watcher.news:
            await watcher.woken(by_s=float("inf"))


async def cancel(stage: Stage, job_id: str) -> None:
    """End a job that was not submitted: by two events."""
    await stage.record.transition(job_id, partial(transitions.cancel_requested, now_ms=NOW_MS + 5))


async def test_what_one_finds_is_news_to_another_who_could_not_read_it(stage: Stage, watch: Watch) -> None:
    job_id = await stage.accept()
    with watch.place(Kind.STREAM, ALICE) as first, watch.place(Kind.STREAM, BOB) as second:
        watch.follow(first, job_id, look=True)
        await stamp_of(first, Stamp(1, None, ended=False))
        first.news = False
        watch.seen(first, None)  # storage was away when it asked
        watch.follow(second, job_id, look=False)
        watch.seen(second, Stamp(3, None, ended=True))
        await stamp_of(first, Stamp(3, None, ended=True))


async def test_a_change_that_nobody_tells_of_is_seen(stage: Stage, watch: Watch) -> None:
    job_id = await stage.accept()
    with watch.place(Kind.STREAM, ALICE) as watcher:
        watch.follow(watcher, job_id, look=True)
        await stamp_of(watcher, Stamp(1, None, ended=False))
        watcher.news = False
        await stage.database.write(lambda connection: job_rows.save_progress(connection, [(job_id, 0.5)]))
        await stamp_of(watcher, Stamp(1, 0.5, ended=False))
        watcher.news = False
        await cancel(stage, job_id)
        await stamp_of(watcher, Stamp(3, 0.5, ended=True))


async def test_all_that_is_watched_is_looked_at_in_one_statement(
    stage: Stage, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def looking(connection: Any, job_ids: list[str]) -> dict[str, Stamp]:
        asked.append(sorted(job_ids))
        return watched.look(connection, job_ids)

    monkeypatch.setattr(watching, "look", looking)
    jobs = sorted([await stage.accept(), await stage.accept()])
    with ExitStack() as stack:
        watchers = [
            stack.enter_context(watch.place(Kind.STREAM, owner)) for owner in (ALICE, ALICE, BOB, BOB)
        ]
        for watcher, job_id in zip(watchers, [*jobs, *jobs], strict=True):
            watch.follow(watcher, job_id, look=False)
        for watcher in watchers:
            await stamp_of(watcher, Stamp(1, None, ended=False))
        assert asked[0] == jobs
        assert len(asked) == 1


async def test_what_this_process_changed_is_looked_at_by_itself(
    stage: Stage, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "TICK_S", 3600.0)  # the tick is no help here
    ours, other = await stage.accept(), await stage.accept()
    with watch.place(Kind.STREAM, ALICE) as watcher, watch.place(Kind.STREAM, BOB) as bystander:
        watch.follow(watcher, ours, look=True)
        watch.follow(bystander, other, look=False)
        await stamp_of(watcher, Stamp(1, None, ended=False))
        watcher.news = False
        await cancel(stage, ours)
        watch.moved(ours)
        await stamp_of(watcher, Stamp(3, None, ended=True))
        assert bystander.stamp == Stamp(1, None, ended=False) or not bystander.news


async def test_a_job_that_is_gone_has_ended(watch: Watch) -> None:
    with watch.place(Kind.WAIT, ALICE) as watcher:
        watch.follow(watcher, f"job_{1:032x}", look=True)
        assert await watch.ended(watcher, within_s=60)


async def test_a_wait_is_over_when_its_time_is(stage: Stage, watch: Watch) -> None:
    job_id = await stage.accept()
    with watch.place(Kind.WAIT, ALICE) as watcher:
        watch.follow(watcher, job_id, look=True)
        waiting = asyncio.create_task(watch.ended(watcher, within_s=30))
        await stamp_of_topic(watcher)
        stage.clock.advance(29)
        await asyncio.sleep(0)
        assert not waiting.done()
        stage.clock.advance(1)
        assert not await asyncio.wait_for(waiting, PATIENCE_S)


async def stamp_of_topic(watcher: Watcher) -> None:
    """Wait until a watcher's job was looked at."""
    async with asyncio.timeout(PATIENCE_S):
        while watcher.stamp is None:  # noqa: ASYNC110 - somebody else waits for the event
            await asyncio.sleep(0.01)


async def test_a_job_that_ended_before_it_was_waited_for_is_seen_at_once(
    stage: Stage, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "TICK_S", 3600.0)
    job_id = await stage.accept()
    await cancel(stage, job_id)
    with watch.place(Kind.STREAM, BOB), watch.place(Kind.WAIT, ALICE) as watcher:
        await asyncio.sleep(0)  # the first look is past: nothing was watched
        watch.follow(watcher, job_id, look=True)
        assert await asyncio.wait_for(watch.ended(watcher, within_s=1), PATIENCE_S)


async def test_places_are_counted_by_owner_and_in_all_and_given_back(watch: Watch, heard: Heard) -> None:
    with ExitStack() as stack:
        for owner in (ALICE, ALICE, BOB, BOB):
            stack.enter_context(watch.place(Kind.STREAM, owner))
        with pytest.raises(Refusal) as ours, watch.place(Kind.WAIT, ALICE):
            pass
        stack.enter_context(watch.place(Kind.WAIT, "carol"))
        with pytest.raises(Refusal) as anybodys, watch.place(Kind.WAIT, "dave"):
            pass
        assert heard.counts == {"stream": 4, "wait": 1}
    for refused in (ours.value, anybodys.value):
        assert (refused.slug, refused.policies) == ("temporary-reduced-capacity", ("watchers",))
        assert refused.headers["Retry-After"] == str(watching.AGAIN_S)
    assert "2 of your requests" in ours.value.detail
    assert "5 requests" in anybodys.value.detail
    assert heard.denied == ["watchers", "watchers"]
    assert heard.counts == {"stream": 0, "wait": 0}
    assert not watch._by_owner


async def test_a_look_that_fails_is_told_once_and_made_up_for(
    stage: Stage, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "TICK_S", 0.01)
    warned: list[str] = []
    monkeypatch.setattr(watching._log, "warning", lambda event, **_: warned.append(event))
    job_id, failed, read = await stage.accept(), asyncio.Event(), stage.database.read
    fails = iter([True, True, True])

    async def unsteady(operation: Any) -> Any:
        if next(fails, False):
            raise StorageUnavailable("away")
        failed.set()
        return await read(operation)

    monkeypatch.setattr(stage.database, "read", unsteady)
    with watch.place(Kind.STREAM, ALICE) as watcher:
        watch.follow(watcher, job_id, look=False)
        await stamp_of(watcher, Stamp(1, None, ended=False))
    assert failed.is_set()
    assert warned == ["watch.blind"]


async def test_who_could_not_read_is_told_again(stage: Stage, watch: Watch) -> None:
    job_id = await stage.accept()
    with watch.place(Kind.STREAM, ALICE) as watcher:
        watch.follow(watcher, job_id, look=True)
        for _ in range(2):
            await stamp_of(watcher, Stamp(1, None, ended=False))
            watcher.news = False
            watch.seen(watcher, None)


async def test_stopping_wakes_everybody_and_lets_no_stream_in(stage: Stage, watch: Watch) -> None:
    job_id = await stage.accept()
    with watch.place(Kind.WAIT, ALICE) as watcher:
        watch.follow(watcher, job_id, look=True)
        waiting = asyncio.create_task(watch.ended(watcher, within_s=60))
        await stamp_of_topic(watcher)
        watch.stop()
        assert not await asyncio.wait_for(waiting, PATIENCE_S)
    with pytest.raises(Refusal), watch.place(Kind.STREAM, ALICE):
        pass
    with watch.place(Kind.WAIT, ALICE) as watcher:
        assert not await watch.ended(watcher, within_s=60)


# --- the log, told ---


async def test_every_event_is_told_as_its_webhook_was_frozen(stage: Stage) -> None:
    job_id = await stage.accept(a_request(webhook=a_webhook()))
    await cancel(stage, job_id)
    story = await Stories(stage.database).tell(job_id, owner=ALICE, after=0)
    frozen = {row["sequence"]: row["body"] for row in await stage.rows(tables.deliveries)}
    assert [one.type for one in story.events] == await stage.events(job_id)
    assert frozen
    assert {one.sequence: one.body for one in story.events if one.sequence in frozen} == frozen
    assert story.stamp == Stamp(len(story.events), None, ended=True)


async def test_only_what_comes_after_is_told(stage: Stage) -> None:
    job_id = await stage.accept()
    await cancel(stage, job_id)
    stories = Stories(stage.database)
    everything = (await stories.tell(job_id, owner=None, after=0)).events
    assert len(everything) == 3
    assert (await stories.tell(job_id, owner=None, after=1)).events == everything[1:]
    assert (await stories.tell(job_id, owner=None, after=3)).events == ()


async def test_the_first_event_tells_no_plan(stage: Stage) -> None:
    job_id = await stage.accept()
    (first,) = (await Stories(stage.database).tell(job_id, owner=ALICE, after=0)).events
    assert set(msgspec.json.decode(first.body)) == {"type", "timestamp", "sequence", "data"}


async def test_progress_of_the_past_is_told_where_the_log_has_it(stage: Stage) -> None:
    job_id = await stage.accept()

    def progressed(job: Job, _attempts: object, to: float = 0.25) -> Step:
        event = transitions.Event(type="job.progress", note={"progress": to})
        return Step(job=replace(job, progress=to), events=(event,))

    await stage.record.transition(job_id, progressed)
    await stage.record.transition(job_id, partial(progressed, to=0.5))
    story = await Stories(stage.database).tell(job_id, owner=ALICE, after=0)
    progress = [msgspec.json.decode(one.body)["data"]["progress"] for one in story.events]
    assert progress == [None, 0.25, 0.5]


async def test_anothers_log_is_not_told_nor_an_unknown_one(stage: Stage) -> None:
    job_id, stories = await stage.accept(), Stories(stage.database)
    for asked in (job_id, f"job_{1:032x}"):
        with pytest.raises(Refusal) as refused:
            await stories.tell(asked, owner=BOB, after=0)
        assert (refused.value.slug, refused.value.detail) == ("not-found", not_found().detail)


@pytest.mark.parametrize(
    "data", ["[]", "{", '{"state":{"status":"paused"}}', '{"attempt":{}}', '{"attempt":{"id":"att_1"}}']
)
async def test_an_entry_that_cannot_be_read_is_said_to_be_so(stage: Stage, data: str) -> None:
    job_id = await stage.accept()
    row: dict[str, object] = {"job_id": job_id, "sequence": 2, "at_ms": 1, "type": "job.x", "data": data}
    await stage.database.write(lambda connection: event_rows.insert_many(connection, [row]))
    await stage.database.write(lambda connection: connection.execute(update(tables.jobs).values(sequence=2)))
    with pytest.raises(Unreadable, match=f"event 2 of {job_id}"):
        await Stories(stage.database).tell(job_id, owner=ALICE, after=1)
