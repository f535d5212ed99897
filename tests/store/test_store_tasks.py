"""Claims: each task goes to one worker at a time, the longest due first."""

from __future__ import annotations

import asyncio

import pytest
from job_examples import NOW_MS
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from store_stage import LEASE_S, Stage

from gateway.jobs.transitions import TaskKind
from gateway.service.dispatch import JOB_KINDS
from gateway.service.outbox import DELIVERY_KINDS
from gateway.storage import tasks
from gateway.storage.engine import Database
from gateway.storage.tasks import Claim, Due, Memo

UNTIL_MS = NOW_MS + 20_000


async def put(database: Database, *due: tuple[TaskKind, str, int]) -> None:
    await database.write(lambda connection: tasks.insert_many(connection, due))


async def claim(
    database: Database,
    *,
    kinds: tuple[TaskKind, ...] = JOB_KINDS,
    limit: int = 100,
    now_ms: int = NOW_MS,
    holder: str = "h",
) -> list[Claim]:
    return await database.write(
        lambda connection: tasks.claim(
            connection, kinds=kinds, limit=limit, now_ms=now_ms, until_ms=now_ms + 20_000, holder=holder
        )
    )


def subjects(claims: list[Claim]) -> list[str]:
    return [one.subject for one in claims]


async def test_the_longest_due_come_first_whatever_their_kind(database: Database) -> None:
    await put(
        database,
        (TaskKind.SUBMIT, "c", NOW_MS - 1),
        (TaskKind.POLL, "a", NOW_MS - 3),
        (TaskKind.CANCEL, "b", NOW_MS - 2),
        (TaskKind.POLL, "d", NOW_MS),
        (TaskKind.POLL, "later", NOW_MS + 1),
        (TaskKind.DELIVER, "another lane's", NOW_MS - 9),
    )
    assert subjects(await claim(database, limit=3)) == ["a", "b", "c"]
    assert subjects(await claim(database)) == ["d"]
    assert subjects(await claim(database)) == []
    assert subjects(await claim(database, kinds=DELIVERY_KINDS)) == ["another lane's"]


async def test_a_claim_holds_until_its_lease_lapses_and_raises_the_version(database: Database) -> None:
    await put(database, (TaskKind.POLL, "a", NOW_MS))
    (first,) = await claim(database)
    assert await claim(database, now_ms=UNTIL_MS, holder="another") == []
    (second,) = await claim(database, now_ms=UNTIL_MS + 1, holder="another")
    assert second.version == first.version + 1


async def test_a_lapsed_lease_is_not_free_to_its_own_holder_until_it_gives_it_back(
    database: Database,
) -> None:
    await put(database, (TaskKind.POLL, "at it", NOW_MS), (TaskKind.DELIVER, "left", NOW_MS - 9))
    kinds = (*JOB_KINDS, *DELIVERY_KINDS)
    left, at_it = await claim(database, kinds=kinds)
    late_ms = UNTIL_MS + 3_600_000
    assert await claim(database, kinds=kinds, now_ms=late_ms) == []

    def heartbeat(connection: Connection) -> int:
        assert tasks.extend(connection, [at_it], until_ms=late_ms + 20_000) == []
        return tasks.release_lapsed(connection, holder="h", now_ms=late_ms)

    assert await database.write(heartbeat) == 1
    (again,) = await claim(database, kinds=kinds, now_ms=late_ms)
    assert (again.subject, again.version) == ("left", left.version + 1)
    assert await claim(database, kinds=kinds, now_ms=late_ms, holder="another") == []


async def test_a_heartbeat_that_comes_after_a_task_was_given_back_leaves_it_free(database: Database) -> None:
    await put(database, (TaskKind.POLL, "a", NOW_MS))
    (held,) = await claim(database)

    def give_back(connection: Connection) -> list[tasks.Claim]:
        tasks.again(connection, tasks.Due(claim=held, due_at_ms=NOW_MS))
        return tasks.extend(connection, [held], until_ms=UNTIL_MS)

    assert await database.write(give_back) == [held]
    (again,) = await claim(database, holder="another")
    assert again.version == held.version + 1


async def test_only_lapsed_leases_of_the_holder_itself_are_given_back(database: Database) -> None:
    await put(database, (TaskKind.POLL, "fresh", NOW_MS), (TaskKind.POLL, "another's", NOW_MS - 1))
    await claim(database, limit=1, now_ms=NOW_MS - 20_000 + 1, holder="another")
    await claim(database, limit=1, now_ms=NOW_MS - 1, holder="another")
    await claim(database, now_ms=NOW_MS)
    given_back = await database.write(
        lambda connection: tasks.release_lapsed(connection, holder="h", now_ms=UNTIL_MS)
    )
    assert given_back == 0


@pytest.mark.parametrize("delta_ms", [3_600_000, -3_600_000])
async def test_what_waits_moves_with_a_clock_that_jumped(database: Database, delta_ms: int) -> None:
    """A poll 10 s away stays 10 s away; what the new clock has dated since is not put off."""
    await put(
        database,
        (TaskKind.POLL, "soon", NOW_MS + 10_000),
        (TaskKind.POLL, "new", NOW_MS + delta_ms),
        (TaskKind.CANCEL, "new", NOW_MS + delta_ms + 10_000),
    )
    await database.write(
        lambda connection: tasks.shift_due(connection, delta_ms=delta_ms, at_ms=NOW_MS + delta_ms)
    )
    now_ms = NOW_MS + delta_ms
    due = subjects(await claim(database, now_ms=now_ms + 9_999))
    assert due.count("soon") == 0
    assert due.count("new") >= 1
    later = subjects(await claim(database, now_ms=now_ms + 10_000))
    assert sorted([*due, *later]) == ["new", "new", "soon"]


async def test_concurrent_claimers_never_get_the_same_task(stage: Stage) -> None:
    await put(stage.database, *((TaskKind.SUBMIT, f"job_{number}", NOW_MS) for number in range(300)))

    async def drain() -> list[str]:
        mine: list[str] = []
        while claims := await claim(stage.database, limit=7):
            mine += subjects(claims)
        return mine

    found = await asyncio.gather(*(drain() for _ in range(8)))
    taken = [subject for mine in found for subject in mine]
    assert len(taken) == len(set(taken)) == 300


async def test_a_task_given_back_is_due_later_with_its_memory(database: Database) -> None:
    await put(database, (TaskKind.POLL, "a", NOW_MS))
    (held,) = await claim(database)
    memo = Memo(missing=2, missing_since_ms=5, doubted=1, asked_ms=9)
    due = Due(claim=held, due_at_ms=NOW_MS + 500, tries=3, memo=memo)
    assert await database.write(lambda connection: tasks.again(connection, due))
    assert await claim(database, now_ms=NOW_MS + 499) == []
    (again,) = await claim(database, now_ms=NOW_MS + 500)
    assert (again.tries, again.memo, again.version) == (3, memo, held.version + 1)


async def test_whoever_lost_a_task_can_do_nothing_with_it(database: Database) -> None:
    await put(database, (TaskKind.POLL, "a", NOW_MS))
    (lost,) = await claim(database)
    (held,) = await claim(database, now_ms=UNTIL_MS + 1, holder="another")

    def attempt(connection: Connection) -> list[object]:
        tasks.release(connection, [lost])
        return [
            tasks.still_held(connection, lost),
            tasks.again(connection, Due(claim=lost, due_at_ms=0)),
            tasks.finish(connection, lost),
            tasks.extend(connection, [lost, held], until_ms=UNTIL_MS * 2) == [lost],
            tasks.still_held(connection, held),
        ]

    assert await database.write(attempt) == [False, False, False, True, True]
    assert await claim(database, now_ms=UNTIL_MS * 2) == []
    assert await database.write(lambda connection: tasks.finish(connection, held))
    assert await claim(database, now_ms=UNTIL_MS * 3) == []


async def test_released_tasks_are_due_as_they_were(database: Database) -> None:
    await put(database, (TaskKind.POLL, "a", NOW_MS - 5), (TaskKind.SUBMIT, "b", NOW_MS))
    held = await claim(database)
    await database.write(lambda connection: tasks.release(connection, held[:1]))
    assert subjects(await claim(database)) == ["a"]
    assert await database.write(tasks.release_all) == 2
    assert subjects(await claim(database)) == ["a", "b"]


async def test_the_next_due_is_that_of_a_task_nobody_holds(database: Database) -> None:
    async def next_due(*kinds: TaskKind) -> int | None:
        return await database.read(lambda connection: tasks.next_due_ms(connection, kinds))

    assert await next_due(*JOB_KINDS) is None
    await put(database, (TaskKind.POLL, "a", NOW_MS), (TaskKind.CANCEL, "b", NOW_MS + 7))
    assert await next_due(*JOB_KINDS) == NOW_MS
    assert await next_due(TaskKind.DELIVER) is None
    await claim(database)
    assert await next_due(*JOB_KINDS) == NOW_MS + 7


async def test_a_subject_has_one_task_of_a_kind_which_can_be_hurried_and_dropped(database: Database) -> None:
    await put(database, (TaskKind.POLL, "a", NOW_MS + 900), (TaskKind.CANCEL, "a", NOW_MS + 900))
    with pytest.raises(IntegrityError):
        await put(database, (TaskKind.POLL, "a", NOW_MS))

    def hurry(connection: Connection) -> list[bool]:
        return [tasks.hurry(connection, TaskKind.POLL, subject, at_ms=NOW_MS) for subject in ("a", "b")]

    assert await database.write(hurry) == [True, False]
    (held,) = await claim(database)
    await database.write(lambda connection: tasks.drop(connection, "a", (TaskKind.POLL,)))
    assert not await database.write(lambda connection: tasks.finish(connection, held))
    assert subjects(await claim(database, now_ms=NOW_MS + 900)) == ["a"]


async def test_a_task_made_anew_never_bears_an_old_version(database: Database) -> None:
    seen: set[int] = set()
    now_ms = NOW_MS
    for _ in range(5):
        await put(database, (TaskKind.SUBMIT, "a", now_ms))
        for holder in ("first", "second", "third"):
            (held,) = await claim(database, now_ms=now_ms, holder=holder)
            assert held.version not in seen
            assert held.version < 2**31
            seen.add(held.version)
            now_ms += round(LEASE_S * 1000) + 1
        await database.write(lambda connection: tasks.drop(connection, "a", (TaskKind.SUBMIT,)))
