"""A key that is not the one a database's secrets were sealed with is refused before it seals any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from postgres_server import fresh_database
from sqlalchemy import Connection, delete, select

from gateway.cli.verdicts import Mark, check_database
from gateway.errors import SettingsError
from gateway.registry import load_adapters
from gateway.settings import Secret, Settings
from gateway.storage import keys as key_rows
from gateway.storage.engine import Operation
from gateway.storage.store import check_key, open_store
from gateway.storage.tables import secrets_canary


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/gateway.db"
        return
    with fresh_database() as fresh:
        yield fresh


def with_key(url: str, key: str | None) -> Settings:
    return Settings(database=url, secret_key=None if key is None else Secret(key))


async def opened(settings: Settings, *work: Operation[object]) -> None:
    store = open_store(settings)
    for operation in work:
        await store.database.write(operation)
    await store.database.close()


async def test_the_first_key_stays_the_databases_own(url: str) -> None:
    await opened(with_key(url, "first"))
    for refused in (opened(with_key(url, "second")), opened(with_key(url, "first "))):
        with pytest.raises(SettingsError, match="secret_key is not the key"):
            await refused
    await opened(with_key(url, "first"))


async def test_a_database_of_before_is_held_against_an_owners_secret(url: str) -> None:
    settings = with_key(url, "first")
    store = open_store(settings)

    def before(connection: Connection) -> None:
        connection.execute(delete(secrets_canary))
        sealed = store.sealer.seal("whsec", bound_to="alice")
        key_rows.insert_owner(connection, name="alice", sealed_webhook_secret=sealed, at_ms=0)

    await store.database.write(before)
    await store.database.close()
    with pytest.raises(SettingsError, match="secret_key is not the key"):
        await opened(with_key(url, "second"))
    await opened(settings, lambda connection: connection.execute(select(secrets_canary)).one())


async def test_checking_a_key_changes_nothing(url: str) -> None:
    await opened(with_key(url, "first"), lambda connection: connection.execute(delete(secrets_canary)))
    check_key(with_key(url, "second"))
    await opened(with_key(url, "first"))
    with pytest.raises(SettingsError):
        check_key(with_key(url, "second"))


async def test_check_finds_a_wrong_key(url: str) -> None:
    await opened(with_key(url, "first"))
    registry = load_adapters()
    for key, mark in (("first", Mark.OK), ("second", Mark.FINDING)):
        verdicts = check_database(with_key(url, key), registry)
        assert [one.mark for one in verdicts if one.name == "secrets"] == [mark]


async def test_the_key_beside_a_file_is_named_when_it_is_another(tmp_path: Path) -> None:
    settings = with_key(f"sqlite:///{tmp_path}/gateway.db", None)
    await opened(settings)
    with closing((tmp_path / "gateway.db.key").open("w")) as file:
        file.write("another")
    with pytest.raises(SettingsError, match=r"gateway\.db\.key is not the key"):
        await opened(settings)
