"""GET /v1/jobs/{id}/events: what a stream tells, from where, how it ends, and who may have one."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from event_reader import Sent, logged, reading
from raw_client import connected, request_bytes
from running_gateway import (
    BOTH_ENGINES,
    ENDED,
    PATIENCE_S,
    Document,
    JumpClock,
    RunningGateway,
    StartGateway,
    client_of,
    open_gateway,
    replaced,
)
from sqlalchemy import Connection, update
from webhook_receiver import open_receiver

from gateway.api import streams
from gateway.errors import StorageUnavailable
from gateway.jobs import transitions
from gateway.service import watch as watch_module
from gateway.service.keys import Scope
from gateway.service.watch import Watch
from gateway.storage import events as event_rows
from gateway.storage import jobs as job_rows
from gateway.storage import tables
from gateway.webhooks.events import EventType

OPEN = {"WEBHOOKS__ALLOW_HTTP": "true", "WEBHOOKS__ALLOWED_NETWORKS": "127.0.0.1/32"}
EVERY_EVENT = [event.value for event in EventType]


async def cancel(running: RunningGateway, job_id: str) -> None:
    reply = await running.client.post(f"/v1/jobs/{job_id}/cancel")
    assert reply.status_code == 200, reply.text


async def waiting_jobs(running: RunningGateway, count: int) -> list[str]:
    """Jobs that nobody carries out."""
    await running.gateway.stop_worker()
    return [await running.accept() for _ in range(count)]


async def watchers(running: RunningGateway, count: int, kind: str = "stream") -> None:
    """Wait until that many watch."""

    async def as_many() -> bool:
        return await running.metric("watchers", kind=kind) == count

    await running.when(as_many)


@BOTH_ENGINES
async def test_a_stream_tells_the_whole_log_in_order_and_ends_with_the_job(
    start_gateway: StartGateway,
) -> None:
    running = await start_gateway()
    job_id = await running.accept()
    async with reading(running.client, job_id) as stream:
        headers = stream.response.headers
        sent = await stream.rest()
    told = logged(sent)
    events = await running.timeline(job_id, "event")
    assert headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-store"
    assert sent[0].retry_ms == streams.RETRY_MS
    assert [(one.id, one.type) for one in told] == [(one["sequence"], one["type"]) for one in events]
    assert told[-1].type == "job.succeeded"
    assert told[-1].data["data"] == await running.job(job_id)
    assert [one.data["timestamp"] for one in told] == [one["at"] for one in events]
    statuses = [one.data["data"]["status"] for one in told]
    assert statuses == sorted(statuses, key=["queued", "running", "succeeded"].index)


async def test_an_event_carries_what_its_webhook_carries(start_gateway: StartGateway) -> None:
    running = await start_gateway(settings=OPEN)
    async with open_receiver() as receiver:
        job_id = await running.accept(webhook={"url": receiver.url(), "events": EVERY_EVENT})
        await running.ended(job_id)
        async with reading(running.client, job_id) as stream:
            told = {one.id: one.data for one in logged(await stream.rest())}
        ended = next(number for number, one in told.items() if one["data"]["status"] in ENDED)

        def has_ended(messages: list[Any]) -> bool:
            return any(message.event["sequence"] == ended for message in messages)

        messages = await receiver.received(1)
        while not has_ended(messages):
            messages = await receiver.received(len(messages) + 1)
        for message in messages:
            expected = told[message.event["sequence"]]
            ours, theirs = dict(expected["data"]), dict(message.event["data"])
            if message.event["sequence"] != ended:  # of the past it is not in the log
                assert ours.pop("progress") in {None, theirs.pop("progress")}
            assert ours == theirs
            assert expected | {"data": None} == message.event | {"data": None}


async def test_last_event_id_resumes_after_it(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    job_id = await running.accept()
    await running.ended(job_id)
    async with reading(running.client, job_id, after=0) as stream:
        everything = logged(await stream.rest())
    for after in range(1, len(everything)):
        async with reading(running.client, job_id, after=after) as stream:
            assert logged(await stream.rest()) == everything[after:]


async def test_who_has_heard_the_end_is_told_not_to_come_back(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    job_id = await running.accept()
    await running.ended(job_id)
    last = (await running.timeline(job_id, "event"))[-1]["sequence"]
    reply = await running.client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": str(last)})
    assert (reply.status_code, reply.content) == (204, b"")


HOSTILE_IDS = (
    *(b"", b"-1", b"+1", b"1.0", b"01", b"1e3", b"0x1", b"job_1", b"1, 2", b"99999999999", b"9" * 5000),
    *(b"\xd9\xa1", b"\xb2", b"1;x", b"NaN"),
)


@pytest.mark.parametrize("value", HOSTILE_IDS)
async def test_a_last_event_id_that_is_none_is_refused_by_name(running: RunningGateway, value: bytes) -> None:
    job_id = await running.accept()
    headers = [(b"Last-Event-ID", value)]
    reply = await running.client.get(f"/v1/jobs/{job_id}/events", headers=headers)
    assert reply.status_code == 400, value
    assert reply.json()["type"] == "/problems/bad-header"
    assert "Last-Event-ID" in reply.json()["detail"]


async def test_two_last_event_ids_and_one_of_the_future_are_refused(running: RunningGateway) -> None:
    job_id = await running.accept()
    for headers in ([("Last-Event-ID", "0"), ("Last-Event-ID", "0")], [("Last-Event-ID", "2")]):
        reply = await running.client.get(f"/v1/jobs/{job_id}/events", headers=headers)
        assert reply.status_code == 400
        assert "Last-Event-ID" in reply.json()["detail"]
    assert await running.metric("watchers", kind="stream") == 0


async def test_anothers_stream_is_answered_like_an_unknown_jobs(running: RunningGateway) -> None:
    job_id = await running.accept()
    unknown = f"job_{0:032x}"
    async with running.another_client("stranger") as stranger:
        replies = [
            await stranger.get(f"/v1/jobs/{one}/events", headers={"X-Request-Id": "same"})
            for one in (job_id, unknown, "nonsense")
        ]
    assert [reply.status_code for reply in replies] == [404, 404, 404]
    assert len({reply.content for reply in replies}) == 1
    async with running.another_client("ops", Scope.OPERATOR) as operator, reading(operator, job_id) as stream:
        assert (await stream.until("job.accepted")).data["data"]["id"] == job_id


async def test_a_stream_needs_a_key(running: RunningGateway) -> None:
    job_id = await running.accept()
    reply = await running.client.get(f"/v1/jobs/{job_id}/events", headers={"Authorization": "Bearer mgk_x"})
    assert reply.status_code == 401


async def test_head_is_answered_at_once_and_other_methods_are_refused(running: RunningGateway) -> None:
    job_id = await running.accept()
    path = f"/v1/jobs/{job_id}/events"
    head = await running.client.head(path)
    assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream")
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        refused = await running.client.request(method, path)
        assert refused.status_code == 405
        assert refused.headers["allow"] == "GET, HEAD, OPTIONS"
    assert await running.metric("watchers", kind="stream") == 0


async def test_progress_is_told_between_events_without_an_id(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    (job_id,) = await waiting_jobs(running, 1)
    database = running.gateway.parts.store.database
    async with reading(running.client, job_id) as stream:
        await stream.until("job.accepted")
        for progress in (0.25, 0.5):
            await database.write(partial(job_rows.save_progress, values=[(job_id, progress)]))
            sent = await stream.until("progress")
            assert (sent.id, sent.data["progress"]) == (None, progress)
        async with reading(running.client, job_id, after=1) as late:
            assert (await late.until("progress")).data["progress"] == 0.5
        await cancel(running, job_id)
        assert [one.type for one in await stream.rest()][-1] == "job.cancelled"


async def test_silence_is_broken_every_fifteen_seconds(start_gateway: StartGateway) -> None:
    clock = JumpClock()
    running = await start_gateway(clock=clock)
    (job_id,) = await waiting_jobs(running, 1)
    async with reading(running.client, job_id) as stream:
        await stream.until("job.accepted")
        for _ in range(2):
            clock.jump(streams.HEARTBEAT_S)
            assert await stream.comment() == ""
        await cancel(running, job_id)
        rest = await stream.rest()
    assert [one.comment for one in rest if one.comment is not None] == [], "a heartbeat came early"


async def test_a_revoked_key_hears_no_more(start_gateway: StartGateway) -> None:
    clock = JumpClock()
    running = await start_gateway(clock=clock)
    (job_id,) = await waiting_jobs(running, 1)
    async with reading(running.client, job_id) as stream:
        await stream.until("job.accepted")
        assert await running.gateway.parts.keys.revoke(running.key.id)
        clock.jump(streams.HEARTBEAT_S)
        assert [one.comment for one in await stream.rest()] == ["the key is no longer good"]


async def test_a_revoked_key_hears_no_more_however_much_there_is_to_tell(start_gateway: StartGateway) -> None:
    clock = JumpClock()
    running = await start_gateway(clock=clock)
    (job_id,) = await waiting_jobs(running, 1)
    database = running.gateway.parts.store.database
    async with reading(running.client, job_id) as stream:
        await stream.until("job.accepted")
        assert await running.gateway.parts.keys.revoke(running.key.id)
        kinds: list[str] = []
        for number in range(1, 9):
            clock.jump(2.0)
            moved = partial(job_rows.save_progress, values=[(job_id, number / 10)])
            await database.write(moved)
            sent = await stream.next()
            assert sent is not None
            if sent.comment is not None:
                assert sent.comment == "the key is no longer good"
                break
            kinds.append(sent.type)
    assert set(kinds) <= {"progress"}
    assert 2.0 * len(kinds) <= 10


async def test_nobody_has_more_streams_than_their_share_nor_all_more_than_there_are(
    start_gateway: StartGateway,
) -> None:
    running = await start_gateway(settings={"SERVER__WATCHERS_MAX": "3", "SERVER__WATCHERS_PER_OWNER": "2"})
    (job_id,) = await waiting_jobs(running, 1)
    path = f"/v1/jobs/{job_id}/events"
    async with (
        AsyncExitStack() as stack,
        running.another_client("ops", Scope.OPERATOR) as operator,
        running.another_client("more", Scope.OPERATOR) as more,
    ):
        opened = [await stack.enter_async_context(reading(running.client, job_id)) for _ in range(2)]
        for stream in opened:
            await stream.until("job.accepted")
        ours = await running.client.get(path)
        async with reading(operator, job_id):
            all_ = await more.get(path)
        for refused in (ours, all_):
            assert refused.status_code == 503
            assert refused.json()["type"] == "/problems/temporary-reduced-capacity"
            assert refused.json()["violated-policies"] == ["watchers"]
            assert int(refused.headers["retry-after"]) >= 1
        assert "2 of your requests" in ours.json()["detail"]
        assert await running.metric("rate_limited_total", policy="watchers") == 2
        await watchers(running, 2)
    await watchers(running, 0)
    async with reading(running.client, job_id) as stream:
        await stream.until("job.accepted")


async def test_streams_end_at_once_when_the_gateway_stops(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    (job_id,) = await waiting_jobs(running, 1)
    async with reading(running.client, job_id) as stream:
        await stream.until("job.accepted")
        running.gateway.hang_up()
        assert [one.comment for one in await stream.rest()] == ["the gateway is stopping"]
    refused = await running.client.get(f"/v1/jobs/{job_id}/events")
    assert refused.status_code == 503


async def test_a_client_that_goes_away_gives_its_place_back(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    (job_id,) = await waiting_jobs(running, 1)
    async with reading(running.client, job_id) as stream:
        await stream.until("job.accepted")
        await watchers(running, 1)
    await watchers(running, 0)
    assert not running.gateway.parts.watch._topics


def many_events(connection: Connection, *, job_id: str, count: int) -> None:
    """Make a log long: things that happened to the job and changed nothing of it."""
    rows: list[Document] = [
        {"job_id": job_id, "sequence": number, "at_ms": 0, "type": "hold.undecided", "data": "{}"}
        for number in range(2, count + 2)
    ]
    event_rows.insert_many(connection, rows)
    connection.execute(update(tables.jobs).where(tables.jobs.c.id == job_id).values(sequence=count + 1))


async def test_a_client_that_does_not_read_is_dropped_with_all_that_was_kept_for_it(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PATIENCE_S", 0.2)
    running = await start_gateway()
    await running.gateway.stop_worker()
    job_id = await running.accept(metadata={str(number): "x" * 500 for number in range(15)})
    # More than any kernel keeps for a connection.
    await running.gateway.parts.store.database.write(partial(many_events, job_id=job_id, count=2000))
    async with connected(running.url) as connection:
        connection._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        transport: Any = connection._writer.transport
        transport.pause_reading()
        key = f"Authorization: Bearer {running.key.key}"
        await connection.send(request_bytes(f"/v1/jobs/{job_id}/events", key, method="GET"))
        await watchers(running, 1)
        await watchers(running, 0)
        transport.resume_reading()
        with pytest.raises(ConnectionResetError):
            await connection.rest()


async def test_a_job_that_cannot_be_read_is_a_problem_at_first_and_the_end_of_a_stream_later(
    start_gateway: StartGateway,
) -> None:
    running = await start_gateway()
    (job_id,) = await waiting_jobs(running, 1)
    database = running.gateway.parts.store.database

    def newer(connection: Connection, at: int = 2) -> None:
        data = '{"state":{"status":"paused"}}'
        row: Document = {"job_id": job_id, "sequence": at, "at_ms": 0, "type": "job.paused", "data": data}
        event_rows.insert_many(connection, [row])
        connection.execute(update(tables.jobs).where(tables.jobs.c.id == job_id).values(sequence=at))

    def undo(connection: Connection) -> None:
        connection.execute(tables.events.delete().where(tables.events.c.sequence == 2))
        connection.execute(update(tables.jobs).where(tables.jobs.c.id == job_id).values(sequence=1))

    async with reading(running.client, job_id) as stream:
        await stream.until("job.accepted")
        await database.write(newer)
        assert [one.comment for one in await stream.rest()] == ["the job cannot be read any more"]
    refused = await running.client.get(f"/v1/jobs/{job_id}/events")
    assert refused.status_code == 503
    assert refused.json()["type"] == "/problems/job-unreadable"
    await database.write(undo)


async def test_the_time_of_a_stream_is_no_time_of_a_request(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    (job_id,) = await waiting_jobs(running, 1)
    route = "/v1/jobs/{job_id}/events"
    async with reading(running.client, job_id) as stream:
        await stream.until("job.accepted")
        held_s = 0.3
        await asyncio.sleep(held_s)  # the very thing that must not be counted
    await watchers(running, 0)

    async def counted() -> bool:
        return await running.metric("http_requests_total", route=route, method="GET", status="200") == 1

    await running.when(counted)
    assert await running.metric("http_request_duration_seconds_sum", route=route, method="GET") < held_s


async def test_two_hundred_streams_end_with_their_jobs(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    jobs = await waiting_jobs(running, 50)
    looks: list[int] = []
    watch = running.gateway.parts.watch
    look = watch._look

    async def counting(job_ids: list[str]) -> None:
        looks.append(len(job_ids))
        await look(job_ids)

    async with AsyncExitStack() as stack:
        with replaced(watch, "_look", counting):
            # A client has no more than a hundred connections.
            clients = [
                await stack.enter_async_context(client_of(running.url, running.key.key)) for _ in range(4)
            ]
            opened = [
                await stack.enter_async_context(reading(client, job_id))
                for job_id in jobs
                for client in clients
            ]
            await watchers(running, 200)
            record = running.gateway.parts.tools.record
            now_ms = running.gateway.parts.store.clock.now_ms()
            decide = partial(transitions.cancel_requested, now_ms=now_ms)
            await asyncio.gather(*(record.transition(job_id, decide) for job_id in jobs))
            told = await asyncio.gather(*(stream.rest() for stream in opened))
    ends = [_last(sent) for sent in told]
    assert ends == [(job_id, "job.cancelled") for job_id in jobs for _ in range(4)]
    assert max(looks) <= 50, "a look is at jobs, not at streams"
    await watchers(running, 0)


def _last(sent: list[Sent]) -> tuple[str, str]:
    last = logged(sent)[-1]
    job_id: str = last.data["data"]["id"]
    return job_id, last.type


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_a_stream_at_one_replica_tells_what_another_does(
    start_gateway: StartGateway, database_url: str, tmp_path: Path
) -> None:
    working = await start_gateway()
    async with open_gateway(tmp_path, working.simulator, database=database_url, works=False) as serving:
        job_id = await serving.accept()
        async with reading(serving.client, job_id) as stream:
            told = logged(await stream.rest())
    assert told[-1].type == "job.succeeded"
    assert [one.id for one in told] == list(range(1, len(told) + 1))


async def test_a_database_that_is_away_for_a_while_ends_no_stream(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    (job_id,) = await waiting_jobs(running, 1)
    watch: Watch = running.gateway.parts.watch
    stories = running.gateway.parts.stories
    async with reading(running.client, job_id) as stream:
        await stream.until("job.accepted")
        failed = asyncio.Event()

        async def away(_job_ids: list[str]) -> Any:
            failed.set()
            raise StorageUnavailable("away")

        with replaced(stories._read, "_run", away):
            await cancel(running, job_id)
            await asyncio.wait_for(failed.wait(), PATIENCE_S)
        assert logged(await stream.rest())[-1].type == "job.cancelled"
    assert not watch._blind


async def test_what_this_process_commits_is_told_without_waiting_for_a_tick(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "TICK_S", 3600.0)
    running = await start_gateway()
    (job_id,) = await waiting_jobs(running, 1)
    async with reading(running.client, job_id) as stream:
        await stream.until("job.accepted")
        await cancel(running, job_id)
        assert (await stream.until("job.cancelled")).data["data"]["status"] == "cancelled"
