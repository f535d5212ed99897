"""What a held job's search rests on: whose ref that is, who else is in doubt, what callbacks named."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from job_examples import NOW_MS, a_callback, an_attempt
from msgspec.structs import replace
from sqlalchemy.exc import IntegrityError
from store_stage import Stage

from gateway.ids import ATTEMPT, Ids, first_id
from gateway.jobs.job import Attempt, AttemptState
from gateway.storage import attempts as attempt_rows
from gateway.storage import callbacks as callback_rows
from gateway.storage.callbacks import Past
from gateway.storage.engine import Database


async def put(database: Database, *attempts: Attempt) -> None:
    def operation(connection: Any) -> None:
        for attempt in attempts:
            attempt_rows.insert_one(connection, attempt)

    await database.write(operation)


def attempt(number: int, state: AttemptState, **changes: Any) -> Attempt:
    return an_attempt(state, number=number, **({"job_id": f"job_{number:032x}"} | changes))


async def test_who_is_in_doubt_at_a_provider(stage: Stage) -> None:
    every = [attempt(number, state) for number, state in enumerate(AttemptState, start=1)]
    every.append(attempt(20, AttemptState.UNKNOWN, account="second"))
    await put(stage.database, *every, attempt(21, AttemptState.UNKNOWN, provider="other"))
    found = await stage.database.read(
        lambda connection: attempt_rows.load_unsettled(connection, provider="acme")
    )
    assert {one.state for one in found} == {AttemptState.SUBMITTING, AttemptState.UNKNOWN}
    assert all(one in every for one in found)
    assert {one.account for one in found} == {"default", "second"}


async def test_whose_ref_it_is(stage: Stage) -> None:
    await put(
        stage.database,
        attempt(1, AttemptState.FAILED, ref="r-1"),
        attempt(2, AttemptState.ACCEPTED, ref="r-2", account="second"),
        attempt(3, AttemptState.ACCEPTED, ref="r-3", provider="other"),
        attempt(4, AttemptState.UNKNOWN),
    )

    async def taken(*refs: str, but_of: str = "att_") -> frozenset[str]:
        return await stage.database.read(
            lambda connection: attempt_rows.find_taken(connection, provider="acme", refs=refs, but_of=but_of)
        )

    assert await taken() == frozenset()
    assert await taken("r-1", "r-2", "r-3", "r-4") == {"r-1", "r-2"}
    assert await taken("r-1", but_of=attempt(1, AttemptState.FAILED).id) == frozenset()


async def test_runs_of_ours_of_that_time_are_known(stage: Stage) -> None:
    ids: list[str] = []
    for minute in range(5):
        stage.clock.ms = NOW_MS + minute * 60_000
        ids.append(stage.ids.new(ATTEMPT))
    await put(
        stage.database,
        *(attempt(n, AttemptState.ACCEPTED, id=id_, ref=f"r-{n}") for n, id_ in enumerate(ids)),
    )
    found = await stage.database.read(
        lambda connection: attempt_rows.find_known(
            connection,
            provider="acme",
            since_ms=NOW_MS + 60_000,
            until_ms=NOW_MS + 3 * 60_000 + 1,
            but_of=ids[2],
            limit=10,
        )
    )
    assert found == {"r-1", "r-3"}


async def test_the_first_id_of_an_instant_sorts_before_all_of_it_and_after_all_before(stage: Stage) -> None:
    stage.clock.ms = NOW_MS - 1
    earlier = Ids(stage.clock, lambda bits: 2**bits - 1).new(ATTEMPT)
    stage.clock.ms = NOW_MS
    lowest = Ids(stage.clock, lambda _bits: 0).new(ATTEMPT)
    assert earlier < first_id(ATTEMPT, NOW_MS) < lowest
    assert first_id(ATTEMPT, -1) == first_id(ATTEMPT, 0)


async def test_a_run_is_adopted_once_however_many_want_it(stage: Stage) -> None:
    wanting = [attempt(number, AttemptState.UNKNOWN) for number in range(8)]

    async def adopt(one: Attempt) -> bool:
        try:
            await stage.database.write(
                lambda connection: attempt_rows.adopt(connection, one, ref="r-1", at_ms=NOW_MS)
            )
        except IntegrityError:
            return False
        return True

    assert sum(await asyncio.gather(*map(adopt, wanting))) == 1


async def test_a_callback_is_stored_once_and_names_its_refs_in_their_order(stage: Stage) -> None:
    async def take(digest: str, ref: str, at_ms: int, due_at_ms: int | None = None) -> None:
        row = replace(a_callback("att_1", ref, at_ms=at_ms), digest=digest, due_at_ms=due_at_ms)
        await stage.database.write(lambda connection: callback_rows.insert_one(connection, row))

    async def past(attempt_id: str) -> Past:
        return await stage.database.read(lambda connection: callback_rows.past_of(connection, attempt_id))

    assert await past("att_1") == Past(0, None)
    await take("a", "r-2", NOW_MS + 1)
    with pytest.raises(IntegrityError):
        await take("a", "r-2", NOW_MS + 2)
    await take("b", "r-1", NOW_MS, NOW_MS + 7)
    await take("c", "r-1", NOW_MS + 3, NOW_MS + 5)
    assert await past("att_1") == Past(3, NOW_MS + 7)
    assert await past("att_2") == Past(0, None)
    for digest, known in (("a", True), ("z", False)):
        found = await stage.database.read(
            lambda connection, digest=digest: callback_rows.has(connection, "att_1", digest)  # type: ignore[misc]  # its default is its type
        )
        assert found is known
    for number in range(20):
        await take(f"d{number:02}", f"more-{number}", NOW_MS + 9)

    async def refs(attempt_id: str) -> tuple[str, ...]:
        return await stage.database.read(lambda connection: callback_rows.refs_of(connection, attempt_id))

    assert (await refs("att_1"))[:3] == ("r-1", "r-2", "more-0")
    assert len(await refs("att_1")) == callback_rows.MOST_REFS
    assert await refs("att_2") == ()


async def test_an_attempt_is_found_by_its_id(stage: Stage) -> None:
    one = attempt(1, AttemptState.UNKNOWN)
    await put(stage.database, one)
    found = await stage.database.read(lambda connection: attempt_rows.find(connection, one.id))
    assert found == one
    assert await stage.database.read(lambda connection: attempt_rows.find(connection, "att_x")) is None
