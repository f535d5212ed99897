"""`motion-gateway restore`: a backup, in the database's place."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import click

from gateway.cli.chosen_database import chosen_settings
from gateway.cli.configured import settings_options
from gateway.cli.screen import busy, measured, open_console
from gateway.clock import Clock, SystemClock
from gateway.errors import BackupRefused, SchemaRefused
from gateway.ids import Ids
from gateway.service.record import Record, Recorded
from gateway.service.restoring import count_unfinished, settle_restored
from gateway.settings import Settings
from gateway.storage.engine import Database
from gateway.storage.postgres_backup import revision_of
from gateway.storage.postgres_restore import finish_restore, load_server, restoring
from gateway.storage.schema import is_known
from gateway.storage.sqlite import SQLiteDatabase
from gateway.storage.sqlite_backup import copied, flush, put_in_place
from gateway.storage.sqlite_file import migrate_file
from gateway.storage.store import check_key_of, database_path, lock_store, migrate_store, open_store

CHOOSE = """say what is to become of jobs that had no run when the backup was made:
  --fail-queued  they fail, since they may have been submitted since; nothing is paid twice
  --requeue      they are submitted; those that were submitted since are paid twice"""


class _Untold:
    """Nobody listens yet: the timelines tell of it, and the webhooks once a gateway serves."""

    def recorded(self, recorded: Recorded) -> None:
        """Hear of a transition."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--fail-queued", "queued", flag_value="fail", help="End jobs that may have been submitted since."
)
@click.option("--requeue", "queued", flag_value="requeue", help="Submit them, at the risk of paying twice.")
@settings_options
def command(*, file: Path, queued: str | None, database: str | None, config: Path | None) -> None:
    """Put a backup in the place of the database, which nobody may serve meanwhile; or nothing is changed.

    \b
    A backup is older than the world, so say what is to become of its jobs that had no run:
    --fail-queued  they fail with `submission_unknown`, since they may have been submitted since. Jobs that
                   had a run are followed to its end, and go nowhere else. Nothing is paid twice.
    --requeue      all go on as they were: what was submitted since is paid twice.

    \b
    The old SQLite file is kept beside the new one. On PostgreSQL the database must be a new, empty one, and
    is filled by pg_restore; if that is broken off, the same command finishes it, and nobody can use the
    database before. What was accepted, revoked or changed since the backup was made is not in it: see
    deploy/README.md.
    """  # noqa: D301  (click's own mark)
    if queued is None:
        raise click.UsageError(CHOOSE)
    settings = chosen_settings(database, config)
    path = database_path(settings)
    if path is None:
        settled, kept = _restore_server(settings, file, fail=queued == "fail"), None
    else:
        settled, kept = _restore_file(settings, path.resolve(), file, fail=queued == "fail")
    click.echo(f"{settings.database_shown} is as it was in {file}; {settled}", err=True)
    if kept is not None:
        click.echo(f"What was there before is kept as {kept}", err=True)


def _restore_file(settings: Settings, path: Path, file: Path, *, fail: bool) -> tuple[str, Path | None]:
    """Make the file that is to be, all of it, before the old one loses its place."""
    console = open_console(stderr=True)
    lock = lock_store(settings)
    try:
        with (
            measured(console, f"reading {file}") as shown,
            copied(file, beside=path, on_copied=shown) as copy,
        ):
            migrate_file(copy)
            check_key_of(settings, copy)
            settled = asyncio.run(_settle_file(copy, fail=fail))
            flush(copy)
            aside = path.with_name(f"{path.name}.replaced-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
            return settled, aside if put_in_place(copy, path, aside=aside) else None
    finally:
        if lock is not None:
            lock.release()


async def _settle_file(copy: Path, *, fail: bool) -> str:
    database = SQLiteDatabase(copy)
    try:
        return await _settle(database, SystemClock(), fail=fail)
    finally:
        await database.close()


def _restore_server(settings: Settings, file: Path, *, fail: bool) -> str:
    """Fill the database and settle its jobs; whenever this dies, it is empty, or refused until it is done."""
    revision = revision_of(file)
    if revision is None:
        raise BackupRefused(f"{file} is no backup of a database of Motion Gateway")
    if not is_known(revision):
        raise SchemaRefused(
            f"{file} has schema {revision}, which this version does not know; run a newer one"
        )
    with restoring(settings.database):
        with busy(open_console(stderr=True), f"pg_restore from {file}"):
            load_server(settings.database, file, choice="--fail-queued" if fail else "--requeue")
            migrate_store(settings, restoring=True)
        settled = asyncio.run(_settle_server(settings, fail=fail))
        finish_restore(settings.database)
    return settled


async def _settle_server(settings: Settings, *, fail: bool) -> str:
    store = open_store(settings, restoring=True)
    try:
        return await _settle(store.database, store.clock, fail=fail)
    finally:
        await store.database.close()


async def _settle(database: Database, clock: Clock, *, fail: bool) -> str:
    """Do with the jobs of a backup what was chosen, and say what came of it."""
    if not fail:
        return f"{await count_unfinished(database)} unfinished jobs go on as they were"
    record = Record(database, clock, Ids(clock), _Untold())
    with measured(open_console(stderr=True), "settling jobs") as shown:
        settled = await settle_restored(database, record, clock, on_settled=shown)
    return f"{settled.ended} unfinished jobs failed, {settled.followed} go on with what they have"
