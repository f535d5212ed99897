"""PostgreSQL's own dangers, each with a real server: broken connections, lost answers, locks, conflicts."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from typing import Any, TypeVar

import psycopg
import pytest
from fault_proxy import FaultProxy, open_proxy
from postgres_server import (
    NAMED,
    create_database,
    drop_database,
    fresh_database,
    shared_url,
    socket_of,
    through,
)
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError
from store_stage import Stage, StoppedClock

from gateway.clock import SystemClock
from gateway.errors import OutcomeUnknown, SchemaRefused, StorageUnavailable
from gateway.settings import Secret, Settings
from gateway.storage.engine import Operation
from gateway.storage.postgres import READERS, WRITERS, PostgresDatabase
from gateway.storage.postgres_line import open_server
from gateway.storage.postgres_schema import inspect_server, migrate_server
from gateway.storage.store import open_store
from gateway.storage.tables import jobs

T = TypeVar("T")

HOUR_MS = 3_600_000
QUICK_S = 0.6
PATIENCE_S = 5.0


@pytest.fixture
def url() -> Iterator[str]:
    with fresh_database() as fresh:
        yield fresh


@asynccontextmanager
async def opened(url: str, deadline_s: float = 10.0) -> AsyncIterator[PostgresDatabase]:
    # Opening waits for the server; a proxy before it runs in this loop.
    database = await asyncio.to_thread(PostgresDatabase, url, local=SystemClock(), deadline_s=deadline_s)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[tuple[FaultProxy, str]]:
    """A proxy before the server, and the database's URL by way of it."""
    if NAMED in os.environ:
        pytest.skip("the server is not ours to put a proxy before")
    async with open_proxy(socket_of(url)) as proxy:
        yield proxy, through(url, proxy.port)


def add(name: str) -> Operation[None]:
    def operation(connection: Connection) -> None:
        statement = "INSERT INTO owners (name, sealed_webhook_secret, created_at_ms) VALUES (:name, '', 0)"
        connection.execute(text(statement), {"name": name})

    return operation


def names(connection: Connection) -> list[str]:
    return list(connection.execute(text("SELECT name FROM owners ORDER BY name")).scalars())


async def eventually(database: PostgresDatabase, operation: Operation[T]) -> T:
    """Write as soon as the server takes it again."""
    while True:
        try:
            return await database.write(operation)
        except StorageUnavailable:
            await asyncio.sleep(0.02)


async def changed(look: Callable[[], T], before: T) -> T:
    """What it becomes, once it is another."""
    while True:
        seen = look()
        if seen != before:
            return seen
        await asyncio.sleep(0.02)


async def test_a_connection_that_is_ended_in_a_transaction_leaves_nothing_and_is_replaced(url: str) -> None:
    def killed(connection: Connection) -> None:
        add("a")(connection)
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with psycopg.connect(url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [pid])
        connection.execute(text("SELECT 1"))

    async with opened(url) as database:
        with pytest.raises(StorageUnavailable) as caught:
            await database.write(killed)
        assert not isinstance(caught.value, OutcomeUnknown)
        await eventually(database, add("b"))
        assert await database.read(names) == ["b"]


async def test_connections_that_a_restart_ended_cost_nobody_an_error(url: str) -> None:
    async with opened(url) as database:
        slow = text("SELECT pg_sleep(0.2)")
        await asyncio.gather(
            *(database.write(lambda one: one.execute(slow)) for _ in range(WRITERS)),
            *(database.read(lambda one: one.execute(slow)) for _ in range(READERS)),
        )  # all connected
        with psycopg.connect(url, autocommit=True) as other:
            ended = other.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchone()
        assert ended is not None
        assert ended[0] >= WRITERS + READERS
        wanted = [str(number) for number in range(2 * WRITERS)]
        await asyncio.gather(*(database.write(add(name)) for name in wanted))
        seen = await asyncio.gather(*(database.read(names) for _ in range(2 * READERS)))
        assert seen == [sorted(wanted)] * (2 * READERS)


async def test_a_connection_that_breaks_twice_is_not_tried_a_third_time(url: str) -> None:
    times = 0

    def killed(connection: Connection) -> None:
        nonlocal times
        times += 1
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with psycopg.connect(url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [pid])
        connection.execute(text("SELECT 1"))

    async with opened(url) as database:
        await asyncio.gather(
            *(database.write(lambda one: one.execute(text("SELECT pg_sleep(0.2)"))) for _ in range(WRITERS))
        )  # all connected
        with pytest.raises(StorageUnavailable):
            await database.write(killed)
        assert times == 2


async def test_a_commit_whose_answer_is_lost_is_called_unknown_and_stands(url: str) -> None:
    async with proxied(url) as (proxy, by_proxy), opened(by_proxy, deadline_s=QUICK_S) as database:

        def deafened(connection: Connection) -> None:
            add("a")(connection)
            proxy.down.blackhole = True

        with pytest.raises(OutcomeUnknown):
            await database.write(deafened)
        proxy.clear()
        await eventually(database, add("b"))
        assert await database.read(names) == ["a", "b"]


async def test_a_job_whose_commit_was_answered_to_nobody_is_accepted_once(url: str) -> None:
    async with proxied(url) as (proxy, by_proxy), opened(by_proxy, deadline_s=QUICK_S) as database:
        stage = Stage(database)
        write, times = database.write, 0

        async def deafened(operation: Operation[Any], **how: Any) -> Any:
            nonlocal times
            times += 1
            first = times == 1

            def then_deaf(connection: Connection) -> Any:
                result = operation(connection)
                proxy.down.blackhole = first
                return result

            try:
                return await write(then_deaf, **how)
            finally:
                proxy.clear()

        database.write = deafened  # type: ignore[method-assign]
        job_id = await stage.accept(idempotency_key="once")
        assert times == 2
        assert [row["id"] for row in await stage.rows(jobs)] == [job_id]
        assert await stage.accept(idempotency_key="once") == job_id


async def test_a_server_that_swallows_everything_is_given_up_in_time(url: str) -> None:
    async with proxied(url) as (proxy, by_proxy), opened(by_proxy, deadline_s=QUICK_S) as database:
        proxy.up.blackhole = True
        with pytest.raises(StorageUnavailable) as caught:
            await database.write(add("a"))
        assert not isinstance(caught.value, OutcomeUnknown)
        proxy.clear()
        await eventually(database, add("b"))
        assert await database.read(names) == ["b"]


async def test_a_waiter_that_leaves_takes_its_deadline_from_nobody(url: str) -> None:
    async with proxied(url) as (proxy, by_proxy):
        database = await asyncio.to_thread(
            PostgresDatabase, by_proxy, local=SystemClock(), deadline_s=QUICK_S
        )
        await asyncio.gather(*(database.write(names) for _ in range(2 * WRITERS)))  # connected
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def deafened(connection: Connection) -> None:
            proxy.down.blackhole = True
            loop.call_soon_threadsafe(begun.set)
            add("a")(connection)

        waiter = asyncio.create_task(database.write(deafened))
        await begun.wait()
        waiter.cancel()
        async with asyncio.timeout(PATIENCE_S):
            await database.close()
        assert not any(thread.is_alive() for thread in database._threads)


async def test_a_server_that_falls_silent_while_it_is_connected_to_is_given_up_in_time(url: str) -> None:
    async with proxied(url) as (proxy, by_proxy):
        async with await psycopg.AsyncConnection.connect(by_proxy, application_name="motion-gateway"):
            greeting = proxy.down.passed
        async with opened(by_proxy, deadline_s=QUICK_S) as database:
            proxy.down.silent_after = greeting
            began = time.monotonic()
            with pytest.raises(StorageUnavailable, match="too long to connect"):
                await database.write(add("a"))
            assert time.monotonic() - began < PATIENCE_S
            proxy.clear()


async def test_closing_does_not_wait_for_what_nothing_can_end(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.storage.postgres.LAST_WORDS_S", 0.05)
    database = await asyncio.to_thread(PostgresDatabase, url, local=SystemClock())
    database._deadline_s = 0.05
    release, begun = threading.Event(), threading.Event()

    def stuck(_connection: Connection) -> None:
        begun.set()
        release.wait(60)

    waiter = asyncio.ensure_future(database.write(stuck))
    await asyncio.to_thread(begun.wait, PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S):
        await database.close()
    release.set()
    await waiter


async def test_a_listener_that_fails_ends_no_thread(url: str) -> None:
    def on_commit(_seconds: float, _operations: int) -> None:
        raise ZeroDivisionError

    database = await asyncio.to_thread(PostgresDatabase, url, local=SystemClock(), on_commit=on_commit)
    for number in range(WRITERS + 1):
        await database.write(add(str(number)))
    await database.close()


async def test_what_waited_too_long_for_its_turn_is_never_begun(url: str) -> None:
    async with opened(url, deadline_s=QUICK_S) as database:
        await asyncio.gather(*[database.write(names) for _ in range(WRITERS)])  # connected
        busy = [database.write(lambda one: one.execute(text("SELECT pg_sleep(2)"))) for _ in range(WRITERS)]
        began: list[Connection] = []
        late = database.write(began.append)
        outcomes = await asyncio.gather(*busy, late, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StorageUnavailable}, outcomes
        await eventually(database, add("a"))
        assert began == []


async def test_a_waiter_that_leaves_cuts_no_transaction_in_two(url: str) -> None:
    async with opened(url) as database:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow(connection: Connection) -> None:
            loop.call_soon_threadsafe(begun.set)
            add("a")(connection)
            connection.execute(text("SELECT pg_sleep(0.1)"))

        waiter = asyncio.create_task(database.write(slow))
        await begun.wait()
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        # The writers finish what they began before they let go.
    async with opened(url) as database:
        assert await database.read(names) == ["a"]


async def test_two_transactions_that_lock_each_other_both_succeed(url: str) -> None:
    async with opened(url) as database:
        for name in ("a", "b"):
            await database.write(add(name))

        def locking(first: str, second: str) -> Operation[None]:
            def operation(connection: Connection) -> None:
                for name in (first, second):
                    connection.execute(
                        text("UPDATE owners SET created_at_ms = created_at_ms + 1 WHERE name = :name"),
                        {"name": name},
                    )
                    connection.execute(text("SELECT pg_sleep(0.1)"))

            return operation

        await asyncio.gather(
            database.write(locking("a", "b")),
            database.write(locking("b", "a")),
        )
        told = text("SELECT sum(created_at_ms) FROM owners")
        assert await database.read(lambda one: one.execute(told).scalar_one()) == 4


async def test_a_table_that_somebody_locked_is_storage_unavailable_not_a_hang(url: str) -> None:
    async with opened(url) as database:
        with psycopg.connect(url) as other:
            other.execute("LOCK TABLE owners")
            with pytest.raises(StorageUnavailable, match="lock timeout"):
                await database.write(add("a"))
        await database.write(add("a"))


async def test_a_server_that_takes_no_writes_is_storage_unavailable(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as other:
        other.execute(f"ALTER DATABASE {other.info.dbname} SET default_transaction_read_only = on")
    async with opened(url) as database:
        with pytest.raises(StorageUnavailable, match="read-only"):
            await database.write(add("a"))


async def test_a_broken_rule_is_told_as_itself_and_undoes_its_own_transaction_alone(url: str) -> None:
    async with opened(url) as database:
        await database.write(add("a"))
        with pytest.raises(IntegrityError):
            await database.write(add("a"))
        await database.write(add("b"))
        assert await database.read(names) == ["a", "b"]


async def test_a_read_sees_one_snapshot_and_cannot_write(url: str) -> None:
    async with opened(url) as database:

        def twice(connection: Connection) -> tuple[list[str], list[str]]:
            before = names(connection)
            with psycopg.connect(url, autocommit=True) as other:
                other.execute("INSERT INTO owners VALUES ('late', '', 0)")
            return before, names(connection)

        assert await database.read(twice) == ([], [])
        with pytest.raises(StorageUnavailable):
            await database.read(add("a"))


async def test_trouble_comes_and_goes_without_any_traffic(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.storage.postgres.WATCH_S", 0.05)
    async with proxied(url) as (proxy, by_proxy), opened(by_proxy) as database:
        assert database.trouble is None
        await proxy.refuse()
        proxy.reset()
        assert "PostgreSQL" in str(await changed(lambda: database.trouble, None))
        await proxy.listen()
        await changed(lambda: database.trouble is None, False)


async def test_the_time_is_the_servers_whatever_the_machine_says(url: str) -> None:
    local = StoppedClock()
    local.ms -= HOUR_MS
    database = PostgresDatabase(url, local=local)
    now_ms = database.clock.now_ms()
    assert abs(now_ms - time.time() * 1000) < HOUR_MS
    assert abs(now_ms - local.now_ms()) > HOUR_MS
    local.advance(5)
    assert database.clock.now_ms() == now_ms + 5000
    await database.close()


async def test_a_server_that_is_away_refuses_the_start(url: str) -> None:
    async with proxied(url) as (proxy, by_proxy):
        await proxy.refuse()
        with pytest.raises(StorageUnavailable, match="cannot be reached"):
            await asyncio.to_thread(PostgresDatabase, by_proxy, local=SystemClock())


def test_an_older_schema_is_refused_until_migrated_which_happens_once() -> None:
    url = create_database(shared_url())
    settings = Settings(database=url, secret_key=Secret("a key for tests"))
    try:
        with pytest.raises(SchemaRefused, match="motion-gateway migrate"):
            open_store(settings)
        with ThreadPoolExecutor(4) as threads:
            applied = list(threads.map(migrate_server, [url] * 4))
        assert sorted(map(bool, applied)) == [False, False, False, True]
        assert inspect_server(url).pending == ()
    finally:
        drop_database(url)


def test_a_newer_schema_is_refused(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaRefused, match="9999"):
        open_store(Settings(database=url, secret_key=Secret("a key for tests")))
    with pytest.raises(SchemaRefused, match="9999"):
        migrate_server(url)


def test_hot_tables_leave_room_for_updates_in_place(url: str) -> None:
    with closing(open_server(url).connect()) as connection, connection.begin():
        told = text("SELECT relname, reloptions FROM pg_class WHERE relname IN ('tasks', 'jobs', 'attempts')")
        options = {row.relname: row.reloptions for row in connection.execute(told)}
    assert all("fillfactor=80" in chosen for chosen in options.values())
    assert "autovacuum_vacuum_scale_factor=0.02" in options["tasks"]


def test_a_table_that_is_locked_at_the_start_is_no_reason_to_refuse_for_good(url: str) -> None:
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE alembic_version")
        with pytest.raises(StorageUnavailable) as caught:
            inspect_server(url)
    assert "\n" not in str(caught.value)
