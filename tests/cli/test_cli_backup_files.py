"""`backup` and `restore` as files: what they make, keep and refuse, with hard links or without."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from cli_command import Done, names, run
from postgres_server import fresh_database, tools_path
from running_gateway import BOTH_ENGINES

from gateway.storage import schema
from gateway.storage.sqlite import open_engine

SECRET = "MOTION_GATEWAY_SECRET_KEY"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A database with a key in it."""
    assert run(tmp_path, "keys", "create", "--name", "first").returncode == 0
    return tmp_path / "motion-gateway.db"


def test_a_backup_is_one_file_for_its_owner_and_replaces_none_unasked(stored: Path, tmp_path: Path) -> None:
    before = names(tmp_path)
    made = run(tmp_path, "backup", "it.backup")
    assert made.returncode == 0
    assert f"the key in {stored}.key" in made.stderr
    backup = tmp_path / "it.backup"
    assert names(tmp_path) == {*before, "it.backup"}
    assert backup.stat().st_mode & 0o777 == 0o600
    backup.write_text("precious")
    refused = run(tmp_path, "backup", "it.backup")
    assert (refused.returncode, backup.read_text()) == (1, "precious")
    assert "--force" in refused.stderr
    assert run(tmp_path, "backup", "it.backup", "--force").returncode == 0
    assert backup.read_bytes().startswith(b"SQLite format 3")
    assert names(tmp_path) == {*before, "it.backup"}


@pytest.mark.usefixtures("stored")
def test_the_old_database_is_kept_and_what_came_after_the_backup_is_gone(tmp_path: Path) -> None:
    run(tmp_path, "backup", "it.backup")
    run(tmp_path, "keys", "create", "--name", "second")
    done = run(tmp_path, "restore", "it.backup", "--fail-queued")
    assert done.returncode == 0, done.stderr
    assert "second" not in run(tmp_path, "keys", "list").stdout
    (kept,) = tmp_path.glob("motion-gateway.db.replaced-*")
    assert str(kept) in done.stderr
    with closing(sqlite3.connect(kept)) as old:
        assert old.execute("SELECT name FROM api_keys ORDER BY name").fetchall() == [("first",), ("second",)]


def test_a_restore_asks_what_is_to_become_of_jobs_that_may_have_been_submitted_since(
    stored: Path, tmp_path: Path
) -> None:
    run(tmp_path, "backup", "it.backup")
    before = stored.read_bytes()
    done = run(tmp_path, "restore", "it.backup")
    assert done.returncode == 2
    assert "nothing is paid twice" in done.stderr
    assert stored.read_bytes() == before


def spoiled(backup: Path) -> None:
    content = bytearray(backup.read_bytes())
    content[4096 * 3 : 4096 * 5] = b"\xa5" * 8192
    backup.write_bytes(content)


def newer(backup: Path) -> None:
    with closing(sqlite3.connect(backup, isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")


def foreign(backup: Path) -> None:
    backup.unlink()
    with closing(sqlite3.connect(backup)) as connection:
        connection.execute("CREATE TABLE theirs (id)")


def other_key(backup: Path) -> None:
    (backup.parent / "motion-gateway.db.key").write_text("another key\n")


def no_key(backup: Path) -> None:
    (backup.parent / "motion-gateway.db.key").unlink()


@pytest.mark.parametrize(
    ("spoil", "code", "said"),
    [
        (spoiled, 1, "malformed|damaged"),
        (newer, 78, "9999"),
        (foreign, 1, "no database of Motion Gateway"),
        (lambda backup: backup.write_text("no database " * 500), 1, "not a database"),
        (Path.unlink, 1, "there is no file"),
        (other_key, 78, "is not the key"),
        (no_key, 78, "is not the key"),
    ],
    ids=["damaged", "newer", "foreign", "no database", "missing", "another key", "no key"],
)
def test_what_cannot_be_restored_changes_nothing(
    stored: Path, tmp_path: Path, spoil: Any, code: int, said: str
) -> None:
    run(tmp_path, "backup", "it.backup")
    spoil(tmp_path / "it.backup")
    before, beside = stored.read_bytes(), names(tmp_path)
    done = run(tmp_path, "restore", "it.backup", "--fail-queued")
    assert done.returncode == code, done.stderr
    assert any(word in done.stderr for word in said.split("|")), done.stderr
    assert (stored.read_bytes(), names(tmp_path)) == (before, beside | {"motion-gateway.db.lock"})


def test_a_damaged_database_is_not_backed_up(stored: Path, tmp_path: Path) -> None:
    spoiled(stored)
    done = run(tmp_path, "backup", "it.backup")
    assert done.returncode == 1
    assert not (tmp_path / "it.backup").exists()


@pytest.mark.usefixtures("stored")
def test_a_backup_of_an_older_version_is_brought_up_on_the_way(tmp_path: Path) -> None:
    with closing(open_engine(tmp_path / "it.backup").connect()) as connection, connection.begin():
        command.upgrade(schema._config(connection), "0010")
    assert run(tmp_path, "restore", "it.backup", "--fail-queued").returncode == 0
    assert "up to date" in run(tmp_path, "migrate", "--show").stdout


def test_a_server_is_restored_into_an_empty_database_only(tmp_path: Path) -> None:
    with fresh_database() as url:
        given = {SECRET: "a key for tests", "PATH": tools_path()}
        assert run(tmp_path, "backup", "it.backup", "--database", url, **given).returncode == 0
        done = run(tmp_path, "restore", "it.backup", "--fail-queued", "--database", url, **given)
    assert done.returncode == 1
    assert "not empty" in done.stderr


def test_what_pg_dump_needs_is_said_where_it_is_not_there(tmp_path: Path) -> None:
    with fresh_database() as url:
        done = run(
            tmp_path, "backup", "it.backup", "--database", url, **{SECRET: "k" * 8, "PATH": str(tmp_path)}
        )
    assert done.returncode == 1
    assert "pg_dump is not on the PATH" in done.stderr
    assert names(tmp_path) == set()


@pytest.fixture
def backed_up(engine: str, database_url: str, tmp_path: Path) -> Callable[..., Done]:
    """The command `backup`, of a database with a key in it."""
    given = {SECRET: "a key for tests", "PATH": tools_path()}
    there = ("--database", database_url)
    assert run(tmp_path, "keys", "create", "--name", "first", *there, **given).returncode == 0
    begin = b"SQLite format 3" if engine == "sqlite" else b"PGDMP"

    def back_up(*options: str) -> Done:
        done = run(tmp_path, "backup", "it.backup", *options, *there, **given)
        if done.returncode == 0:
            assert (tmp_path / "it.backup").read_bytes().startswith(begin)
        assert not list(tmp_path.glob("*.partial"))
        return done

    return back_up


def no_links(*_: object) -> None:
    """What os.link says on exFAT, and on many a CIFS."""
    raise PermissionError(errno.EPERM, "Operation not permitted")


@BOTH_ENGINES
def test_a_backup_is_made_where_there_are_no_hard_links(
    backed_up: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", no_links)
    done = backed_up()
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "it.backup").stat().st_mode & 0o777 == 0o600


@BOTH_ENGINES
def test_a_file_that_came_meanwhile_is_kept_where_there_are_no_hard_links(
    backed_up: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def came(_copy: Path, target: Path) -> None:
        target.write_text("precious")
        no_links()

    monkeypatch.setattr(os, "link", came)
    refused = backed_up()
    assert (refused.returncode, (tmp_path / "it.backup").read_text()) == (1, "precious")
    assert "is there already" in refused.stderr


@BOTH_ENGINES
def test_a_name_that_cannot_be_given_is_refused_in_words(
    backed_up: Callable[..., Done], tmp_path: Path
) -> None:
    (tmp_path / "it.backup").mkdir()
    refused = backed_up("--force")
    assert refused.returncode == 1
    assert "no file can be named" in refused.stderr
