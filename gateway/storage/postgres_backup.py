"""A PostgreSQL database dumped and read back, by PostgreSQL's own tools."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.engine import make_url

from gateway.errors import BackupRefused
from gateway.storage.backup_name import give_name, refuse_taken
from gateway.storage.postgres_schema import connected
from gateway.storage.restore_marker import refuse_marked

SERVICE: Final = "motion-gateway"
LOADER: Final = "motion-gateway restore"
"""Under which the server knows a pg_restore of ours (application_name)."""
_REVISION: Final = re.compile(r"^COPY [^\n]*alembic_version[^\n]*\n([^\n]+)\n\\\.$", re.MULTILINE)


def dump_server(database: str, target: Path, *, replace: bool) -> None:
    """Dump a database, over one snapshot and beside whoever uses it, in pg_dump's custom format.

    Args:
        database: the setting: `postgresql://...`.
        target: the file to be.
        replace: whether one of that name is replaced.

    Raises:
        BackupRefused: the file is there, cannot be written, or pg_dump is missing or failed.
        SchemaRefused: a restore of the database is not finished.
        StorageUnavailable: the server cannot be reached.
    """
    refuse_taken(target, replace=replace)
    with connected(database) as connection:
        refuse_marked(connection)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    except OSError as error:
        raise BackupRefused(f"the folder {target.parent} cannot be written ({error.strerror})") from error
    partial = Path(name)
    try:
        with service_of(database) as environ:
            _run("pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={partial}",
                 f"--dbname=service={SERVICE}", environ=environ)  # fmt: skip
        _run("pg_restore", "--list", str(partial), environ=dict(os.environ))
        os.fsync(descriptor)
        give_name(partial, target, replace=replace)
    finally:
        os.close(descriptor)
        partial.unlink(missing_ok=True)


def load_dump(database: str, dump: Path) -> None:
    """Read a dump into a database, all of it or nothing.

    Raises:
        BackupRefused: pg_restore is missing or failed.
    """
    with service_of(database, name=LOADER) as environ:
        _run("pg_restore", "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges",
             f"--dbname=service={SERVICE}", str(dump), environ=environ)  # fmt: skip


def revision_of(dump: Path) -> str | None:
    """Return the schema's revision in a dump; None when it is none of ours.

    Raises:
        BackupRefused: it is no dump, or pg_restore is missing.
    """
    listed = _run("pg_restore", "--data-only", "--table=alembic_version", "--file=-", str(dump),
                  environ=dict(os.environ))  # fmt: skip
    found = _REVISION.search(listed)
    return None if found is None else found[1]


@contextmanager
def service_of(database: str, *, name: str = SERVICE) -> Generator[dict[str, str]]:
    """Return the environment in which libpq finds the database: a file, since others see command lines.

    Args:
        database: the setting: `postgresql://...`.
        name: under which the server is to know the tool.
    """
    url = make_url(database).set(drivername="postgresql").render_as_string(hide_password=False)
    parameters = {key: value for key, value in conninfo_to_dict(url).items() if value}
    parameters["application_name"] = name
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "service.conf"
        file.touch(mode=0o600)
        file.write_text(f"[{SERVICE}]\n" + "".join(f"{key}={value}\n" for key, value in parameters.items()))
        yield {**os.environ, "PGSERVICEFILE": str(file)}


def _run(tool: str, *arguments: str, environ: dict[str, str]) -> str:
    path = shutil.which(tool)
    if path is None:
        raise BackupRefused(
            f"{tool} is not on the PATH; install PostgreSQL's client tools, of the server's version or newer"
        )
    done = subprocess.run([path, *arguments], env=environ, capture_output=True, text=True, check=False)  # noqa: S603  (PostgreSQL's own, found on the PATH)
    if done.returncode:
        said = "; ".join(done.stderr.split("\n")[:2]).strip("; ")
        raise BackupRefused(f"{tool} failed: {said or f'exit code {done.returncode}'}")
    return done.stdout
