"""API keys and their owners."""

from __future__ import annotations

import asyncio

import pytest
from store_stage import Stage

from gateway.service.keys import CACHED_S, PREFIX, Principal, Scope
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
