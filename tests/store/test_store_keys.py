"""API keys and their owners."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from store_stage import Stage

from gateway.errors import StorageUnavailable
from gateway.service.keys import CACHED_S, KNOWN_KEYS, KNOWN_S, PREFIX, Keys, Principal, Scope
from gateway.storage import tables
from gateway.webhooks.signing import decode_secret


async def test_a_key_is_known_by_what_it_was_created_for(stage: Stage) -> None:
    created = await stage.keys.create(name="laptop", owner="alice", scopes=[Scope.METRICS, Scope.JOBS])
    principal = await stage.keys.authenticate(created.key)
    assert principal == Principal(created.id, "alice", frozenset({Scope.JOBS, Scope.METRICS}))
    assert principal.sees == "alice"
    assert created.key.startswith(PREFIX)
    (row,) = await stage.keys.all()
    assert (row.name, row.scopes, row.revoked_at_ms) == ("laptop", "jobs metrics", None)


async def test_an_operator_sees_all(stage: Stage) -> None:
    created = await stage.keys.create(name="n", owner="alice", scopes=[Scope.OPERATOR])
    principal = await stage.keys.authenticate(created.key)
    assert principal is not None
    assert principal.sees is None


async def test_neither_key_nor_secret_is_stored_in_clear(stage: Stage) -> None:
    created = await stage.keys.create(name="n", owner="alice", scopes=[Scope.JOBS])
    assert created.webhook_secret is not None
    stored = str(await stage.everything())
    for secret in (created.key, created.key.removeprefix(PREFIX), created.webhook_secret):
        assert secret not in stored
    assert decode_secret(created.webhook_secret)


async def test_an_owner_gets_its_secret_once(stage: Stage) -> None:
    first = await stage.keys.create(name="a", owner="alice", scopes=[])
    second = await stage.keys.create(name="b", owner="alice", scopes=[])
    assert first.webhook_secret is not None
    assert second.webhook_secret is None
    assert await stage.keys.ensure_owner("alice") is None
    assert await stage.keys.ensure_owner("bob") is not None
    assert [row["name"] for row in await stage.rows(tables.owners)] == ["alice", "bob"]


async def test_keys_made_at_once_for_a_new_owner_share_it(stage: Stage) -> None:
    created = await asyncio.gather(
        *(stage.keys.create(name=str(number), owner="alice", scopes=[]) for number in range(10))
    )
    assert sum(one.webhook_secret is not None for one in created) == 1
    assert await stage.keys.count() == len({one.key for one in created}) == 10


@pytest.mark.parametrize("key", ["", "mgk_", "mgk_" + "a" * 10_000, "ü", "\udcff", "\x00"])
async def test_no_other_text_is_a_key(stage: Stage, key: str) -> None:
    await stage.keys.create(name="n", owner="alice", scopes=[])
    assert await stage.keys.authenticate(key) is None


async def test_a_revoked_key_is_refused_within_the_time_it_is_remembered(stage: Stage) -> None:
    created = await stage.keys.create(name="n", owner="alice", scopes=[Scope.JOBS])
    assert await stage.keys.authenticate(created.key) is not None
    assert await stage.keys.revoke(created.id)
    assert not await stage.keys.revoke(created.id)
    assert not await stage.keys.revoke("key_x")
    assert await stage.keys.authenticate(created.key) is not None, "remembered"
    stage.clock.advance(CACHED_S)
    assert await stage.keys.authenticate(created.key) is None
    assert await stage.keys.count() == 0


async def test_a_known_key_is_not_asked_for_again_and_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = await stage.keys.create(name="n", owner="alice", scopes=[])
    await stage.keys.authenticate(created.key)
    monkeypatch.setattr(stage.database, "read", None)
    assert await stage.keys.authenticate(created.key) is not None


async def test_a_failed_creation_leaves_no_owner(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.storage.keys.insert_one", None)
    with pytest.raises(TypeError):
        await stage.keys.create(name="n", owner="alice", scopes=[])
    assert await stage.rows(tables.owners) == []


async def away(_operation: Any) -> Any:
    raise StorageUnavailable("the server is away")


async def hanging(_operation: Any) -> Any:
    await asyncio.Event().wait()


WATCHING = pytest.mark.parametrize("scope", [Scope.METRICS, Scope.OPERATOR])


@WATCHING
async def test_who_watches_is_known_for_an_hour_without_the_database(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, scope: Scope
) -> None:
    created = await stage.keys.create(name="prometheus", owner="alice", scopes=[scope])
    principal = await stage.keys.recognize(created.key)
    assert principal == Principal(created.id, "alice", frozenset({scope}))
    monkeypatch.setattr(stage.database, "read", away)
    stage.clock.advance(KNOWN_S - 1)
    assert await stage.keys.recognize(created.key) == principal
    with pytest.raises(StorageUnavailable):
        await stage.keys.authenticate(created.key)
    stage.clock.advance(1)
    with pytest.raises(StorageUnavailable):
        await stage.keys.recognize(created.key)


async def test_who_watches_does_not_wait_for_a_database_that_hangs(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(stage.database, stage.clock, stage.ids, stage.sealer, asked_s=0.01)
    created = await keys.create(name="prometheus", owner="alice", scopes=[Scope.METRICS])
    principal = await keys.recognize(created.key)
    monkeypatch.setattr(stage.database, "read", hanging)
    stage.clock.advance(CACHED_S)
    async with asyncio.timeout(20):
        assert await keys.recognize(created.key) == principal is not None


@pytest.mark.parametrize("seen", ["authenticate", "holder", "revoke"])
async def test_a_key_that_was_seen_revoked_is_not_known_any_more(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, seen: str
) -> None:
    created = await stage.keys.create(name="prometheus", owner="alice", scopes=[Scope.METRICS])
    await stage.keys.recognize(created.key)
    if seen == "revoke":
        await stage.keys.revoke(created.id)
        assert await stage.keys.recognize(created.key) is not None, "remembered, as for every route"
    else:
        await Keys(stage.database, stage.clock, stage.ids, stage.sealer).revoke(created.id)
        stage.clock.advance(CACHED_S)
        asked = created.id if seen == "holder" else created.key
        assert await getattr(stage.keys, seen)(asked) is None
    stage.clock.advance(CACHED_S)
    monkeypatch.setattr(stage.database, "read", away)
    with pytest.raises(StorageUnavailable):
        await stage.keys.recognize(created.key)


async def test_a_key_for_jobs_is_not_known_without_the_database(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = await stage.keys.create(name="app", owner="alice", scopes=[Scope.JOBS])
    assert await stage.keys.recognize(created.key) is not None
    stage.clock.advance(CACHED_S)
    monkeypatch.setattr(stage.database, "read", away)
    with pytest.raises(StorageUnavailable):
        await stage.keys.recognize(created.key)


async def test_of_too_many_keys_the_latest_are_known(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    created = [
        await stage.keys.create(name=str(number), owner="alice", scopes=[Scope.METRICS])
        for number in range(KNOWN_KEYS + 1)
    ]
    for one in created:
        await stage.keys.recognize(one.key)
    stage.clock.advance(CACHED_S)
    monkeypatch.setattr(stage.database, "read", away)
    with pytest.raises(StorageUnavailable):
        await stage.keys.recognize(created[0].key)
    for one in created[1:]:
        assert await stage.keys.recognize(one.key) is not None
