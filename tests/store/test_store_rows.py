"""What every statement module writes and reads back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import msgspec
import pytest
from job_examples import NOW_MS, OUTPUT_URL, a_job, a_request, a_webhook, an_attempt, wishing
from msgspec.structs import replace
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from gateway.jobs.job import AttemptState, Held, Job, Output
from gateway.jobs.view import view
from gateway.storage import attempts, deliveries, events, exchanges, jobs, keys
from gateway.storage.deliveries import Backlog, Delivery, DeliveryAttempt
from gateway.storage.engine import Database
from gateway.storage.exchanges import Exchange
from gateway.storage.jobs import JobFilter
from gateway.storage.keys import KeyRow
from providers.contract.errors import ErrorCode, UpstreamError
from providers.contract.status import JobStatus

P = ParamSpec("P")
T = TypeVar("T")

FULL = replace(
    a_job(
        9,
        request=a_request(
            seed=4_294_967_295, webhook=a_webhook(), routing=wishing("a", exclude=("b",)).routing
        ),
        status=JobStatus.FAILED,
        provider="acme",
        started_at_ms=NOW_MS + 1,
        finished_at_ms=NOW_MS + 2,
        outputs=(Output(url=OUTPUT_URL, content_type="video/mp4", expires_at_ms=NOW_MS),),
        error=UpstreamError(code=ErrorCode.TIMEOUT, message="m\u0000\U0001f600", provider_code="c"),
        held=Held(reason="r", since_ms=1, until_ms=2),
        cancel_requested_at_ms=3,
        provider_may_bill=True,
    ),
    metadata={"k": "v \u2028 \U0001f600"},
    progress=0.25,
    sequence=7,
    estimated_micro_usd=2**40,
    simulated=True,
    sealed_webhook_secret="sealed",
)


async def write(
    database: Database, statement: Callable[Concatenate[Connection, P], T], *args: P.args, **named: P.kwargs
) -> T:
    return await database.write(lambda connection: statement(connection, *args, **named))


async def read(
    database: Database, statement: Callable[Concatenate[Connection, P], T], *args: P.args, **named: P.kwargs
) -> T:
    return await database.read(lambda connection: statement(connection, *args, **named))


async def store(database: Database, *given: Job) -> None:
    rows = [jobs.row_of(job, idempotency_key=None, fingerprint="f") for job in given]
    await write(database, jobs.insert_many, rows)


@pytest.mark.parametrize("job", [a_job(), FULL])
async def test_a_job_comes_back_as_it_went(database: Database, job: Job) -> None:
    await store(database, job)
    assert await read(database, jobs.load, job.id) == job
    assert await write(database, jobs.load, job.id, lock=True) == job
    found = await read(database, jobs.load_many, [job.id, "job_unknown"])
    assert found == {job.id: job}


async def test_what_is_not_there_is_not_found(database: Database) -> None:
    def operation(connection: Connection) -> list[object]:
        return [
            jobs.load(connection, "job_x"),
            jobs.load_many(connection, []),
            jobs.load_views(connection, ["job_x"]),
            jobs.list_views(connection, JobFilter()),
            attempts.load_of(connection, []),
            attempts.load_of(connection, ["job_x"]),
            events.load_of(connection, "job_x"),
            exchanges.load_of(connection, "job_x"),
            deliveries.load_claimed(connection, []),
            deliveries.load_of(connection, "job_x"),
            deliveries.load_tries(connection, []),
            keys.find(connection, "0"),
            keys.owner_secrets(connection, ["nobody"]),
            keys.owner_secrets(connection, []),
        ]

    found = await database.read(operation)
    assert not any(found)


async def test_a_view_from_the_rows_is_the_view_of_the_values(database: Database) -> None:
    tried = (an_attempt(AttemptState.REFUSED, 1, FULL), an_attempt(AttemptState.FAILED, 2, FULL, micro_usd=7))
    await store(database, FULL, a_job(1))
    for attempt in reversed(tried):
        await write(database, attempts.insert_one, attempt)
    shown = await read(database, jobs.load_views, [FULL.id, a_job(1).id])
    assert {job_id: owner for job_id, (owner, _) in shown.items()} == {FULL.id: "alice", a_job(1).id: "alice"}
    encode = msgspec.json.encode
    assert encode(shown[FULL.id][1]) == encode(view(FULL, tried))
    assert encode(shown[a_job(1).id][1]) == encode(view(a_job(1), ()))


async def test_a_save_finds_the_sequence_or_writes_nothing(database: Database) -> None:
    await store(database, a_job())
    later = replace(FULL, id=a_job().id, sequence=2)
    assert not await write(database, jobs.save, later, seen=2)
    assert await read(database, jobs.load, later.id) == a_job()
    assert await write(database, jobs.save, later, seen=1)
    found = await read(database, jobs.load, later.id)
    assert found is not None
    assert (found.state, found.sequence, found.progress) == (later.state, 2, 0.25)
    assert found.request == a_job().request


async def test_progress_is_written_while_the_job_runs_and_raises_no_sequence(database: Database) -> None:
    await store(database, a_job(1), FULL)
    await database.write(
        lambda connection: jobs.save_progress(connection, [(a_job(1).id, 0.5), (FULL.id, 0.75)])
    )
    found = await read(database, jobs.load_many, [a_job(1).id, FULL.id])
    assert found == {a_job(1).id: replace(a_job(1), progress=0.5), FULL.id: FULL}


HELD = a_job(5, held=Held(reason="r", since_ms=NOW_MS, until_ms=NOW_MS + 50))
RUNNING = a_job(6, status=JobStatus.RUNNING, provider="acme")
OTHERS = replace(a_job(7), owner="bob", created_at_ms=NOW_MS + 100)


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (JobFilter(), [9, 7, 6, 5, 1]),
        (JobFilter(limit=2), [9, 7]),
        (JobFilter(before_id=a_job(6).id), [5, 1]),
        (JobFilter(owner="bob"), [7]),
        (JobFilter(owner="alice", status=JobStatus.RUNNING), [6]),
        (JobFilter(provider="acme"), [9, 6]),
        (JobFilter(created_after_ms=NOW_MS), [7]),
        (JobFilter(created_before_ms=NOW_MS + 100), [9, 6, 5, 1]),
        (JobFilter(held=True), [5]),
        (JobFilter(held=False, status=JobStatus.QUEUED), [7, 1]),
        (JobFilter(owner="nobody"), []),
    ],
)
async def test_a_page_holds_what_was_asked_for_newest_first(
    database: Database, wanted: JobFilter, numbers: list[int]
) -> None:
    ended = replace(FULL, state=replace(FULL.state, held=None))
    await store(database, a_job(1), HELD, RUNNING, OTHERS, ended)
    page = await read(database, jobs.list_views, wanted)
    assert [one.id for one in page] == [a_job(number).id for number in numbers]


async def test_the_sweep_finds_what_is_overdue_and_leaves_the_held_alone(database: Database) -> None:
    due_ms = a_job().state.deadline_at_ms
    await store(database, a_job(1, deadline_at_ms=due_ms + 1), HELD, RUNNING, FULL, OTHERS)
    limited: dict[int, list[str]] = {}
    for limit in (1, 9):
        limited[limit] = await read(database, jobs.find_overdue, now_ms=due_ms, last_word_ms=0, limit=limit)
    assert len(limited[1]) == 1
    assert sorted(limited[9]) == [RUNNING.id, OTHERS.id]
    for now_ms, found in ((NOW_MS + 49, []), (NOW_MS + 50, [HELD.id])):
        holds = await read(database, jobs.find_hold_expired, now_ms=now_ms, limit=9)
        assert holds == found


async def test_the_census_counts_what_is_unfinished(database: Database) -> None:
    ended = replace(FULL, state=replace(FULL.state, held=None))
    await store(database, a_job(1), a_job(2), HELD, RUNNING, ended)
    counts, held = await database.read(jobs.count_unfinished)
    assert (counts, held) == ({(None, "queued"): 3, ("acme", "running"): 1}, 1)


async def test_one_key_stands_for_one_job_of_an_owner(database: Database) -> None:
    def row(job: Job) -> dict[str, object]:
        return jobs.row_of(job, idempotency_key="k", fingerprint="f")

    await database.write(lambda connection: jobs.insert_many(connection, [row(a_job(1)), row(OTHERS)]))
    with pytest.raises(IntegrityError):
        await database.write(lambda connection: jobs.insert_many(connection, [row(a_job(2))]))
    kept = await read(database, jobs.find_kept, [("alice", "k"), ("bob", "k"), ("alice", "x")])
    assert sorted((one.owner, one.job_id) for one in kept) == [("alice", a_job(1).id), ("bob", OTHERS.id)]


async def test_attempts_come_back_in_order_and_a_number_is_used_once(database: Database) -> None:
    first, second = an_attempt(AttemptState.REFUSED), an_attempt(AttemptState.ACCEPTED, 2)
    for attempt in (second, first):
        await write(database, attempts.insert_one, attempt)
    done = replace(second, state=AttemptState.SUCCEEDED, ref="r", micro_usd=5, options={"a": "b"})
    await write(database, attempts.save, done)
    found = await read(database, attempts.load_of, [first.job_id])
    assert found == {first.job_id: (first, done)}
    with pytest.raises(IntegrityError):
        await write(database, attempts.insert_one, replace(second, id="att_other"))


async def test_a_sequence_number_is_used_once(database: Database) -> None:
    def row(sequence: int) -> dict[str, object]:
        return {"job_id": "job_1", "sequence": sequence, "at_ms": 1, "type": "t", "data": '{"note":{}}'}

    await write(database, events.insert_many, [row(2), row(1)])
    found = await read(database, events.load_of, "job_1")
    assert [(one.sequence, bytes(one.data)) for one in found] == [(1, b'{"note":{}}'), (2, b'{"note":{}}')]
    with pytest.raises(IntegrityError):
        await write(database, events.insert_many, [row(3), row(2)])
    assert len(await read(database, events.load_of, "job_1")) == 2


async def test_exchanges_come_back_oldest_first(database: Database) -> None:
    said = [
        Exchange(
            job_id="job_1",
            attempt_id="att_1",
            operation=operation,
            at_ms=5,
            duration_ms=1,
            outcome="made",
            request="POST /",
            status=status,
            response="{}",
        )
        for operation, status in (("submit", 200), ("poll", None))
    ]
    for one in said:
        await write(database, exchanges.insert_one, one)
    assert await read(database, exchanges.load_of, "job_1") == said


def a_delivery(number: int = 1) -> Delivery:
    return Delivery(
        id=f"dlv_{number}",
        job_id="job_1",
        owner="alice",
        sequence=number,
        message_id=f"msg_{number}",
        type="job.succeeded",
        url="https://receiver.example/",
        sealed_secret=None,
        body=b'{"a":\xff\x00}',
        created_at_ms=NOW_MS + number,
    )


async def test_a_body_comes_back_byte_for_byte(database: Database) -> None:
    given = [a_delivery(2), a_delivery(1)]
    await write(database, deliveries.insert_many, given)
    assert await read(database, deliveries.load_of, "job_1") == given[::-1]
    found = await read(database, deliveries.load_claimed, ["dlv_1", "dlv_9"])
    assert found == {"dlv_1": (a_delivery(1), None)}
    again = replace(a_delivery(1), id="dlv_again")
    with pytest.raises(IntegrityError):
        await write(database, deliveries.insert_many, [again])


async def test_tries_are_logged_and_the_backlog_shrinks(database: Database) -> None:
    def tried(number: int) -> DeliveryAttempt:
        return DeliveryAttempt(
            delivery_id="dlv_1",
            number=number,
            at_ms=NOW_MS,
            duration_ms=3,
            outcome="timeout",
            status=None,
            detail="d",
        )

    assert await database.read(deliveries.backlog) == Backlog(0, None)
    await write(database, deliveries.insert_many, [a_delivery(1), a_delivery(2)])
    assert await database.read(deliveries.backlog) == Backlog(2, NOW_MS + 1)
    await write(database, deliveries.add_tries, [tried(1)])
    await write(database, deliveries.add_tries, [tried(1), tried(2)])
    logged = await read(database, deliveries.load_tries, ["dlv_1", "dlv_2"])
    assert logged == [tried(1), tried(2)]
    await write(database, deliveries.settle, [("dlv_1", "delivered", NOW_MS + 9)])
    assert await database.read(deliveries.backlog) == Backlog(1, NOW_MS + 2)
    found = await read(database, deliveries.load, "dlv_1")
    assert found == replace(a_delivery(1), state="delivered", finished_at_ms=NOW_MS + 9)


async def test_a_key_is_found_by_its_hash_and_revoked_once(database: Database) -> None:
    row = KeyRow(id="key_1", hash="f" * 64, name="n", owner="alice", scopes="jobs", created_at_ms=NOW_MS)
    await write(database, keys.insert_one, row)
    assert await read(database, keys.find, "f" * 64) == row
    assert await database.read(keys.count_active) == 1
    for expected in (True, False):
        revoked = await write(database, keys.revoke, "key_1", at_ms=NOW_MS + 1)
        assert revoked is expected
    assert await database.read(keys.load_all) == [replace(row, revoked_at_ms=NOW_MS + 1)]
    assert await database.read(keys.count_active) == 0


async def test_errors_of_the_database_do_not_repeat_what_it_was_told(database: Database) -> None:
    def twice(connection: Connection) -> None:
        for _ in range(2):
            keys.insert_owner(connection, name="alice", sealed_webhook_secret="marker", at_ms=0)

    with pytest.raises(IntegrityError) as caught:
        await database.write(twice)
    assert "marker" not in str(caught.value)
