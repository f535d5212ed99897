"""The last step of a backup: a file that is whole gets its name, which was free or was to be replaced."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from gateway.errors import BackupRefused

_CANNOT_FLUSH: Final = frozenset({errno.EINVAL, errno.EBADF, errno.ENOTSUP})
"""What file systems say that keep no folders to be flushed."""


def refuse_taken(target: Path, *, replace: bool) -> None:
    """Make sure, before anything is copied, that a name is free or may be replaced.

    Raises:
        BackupRefused: there is a file of that name.
    """
    if target.exists() and not replace:
        raise _taken(target)


def give_name(copy: Path, target: Path, *, replace: bool) -> None:
    """Give a file its name; the name it had may be left.

    Args:
        copy: in the same folder, flushed.
        target: its name.
        replace: whether a file of that name is replaced.

    Raises:
        BackupRefused: there is a file of that name, or it cannot be given.
    """
    try:
        if replace:
            copy.replace(target)
        else:
            _give_free_name(copy, target)
    except FileExistsError as error:
        raise _taken(target) from error
    except OSError as error:
        raise BackupRefused(f"no file can be named {target} ({error.strerror})") from error
    flush_folder(target.parent)


def flush_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where its file system can."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise
    finally:
        os.close(descriptor)


def _give_free_name(copy: Path, target: Path) -> None:
    try:
        os.link(copy, target)  # which, other than a rename, never replaces what came meanwhile
    except FileExistsError:
        raise
    except OSError:  # no hard links there: exFAT, CIFS
        _take_name(copy, target)


def _take_name(copy: Path, target: Path) -> None:
    """Make the name ours, empty, and rename over that. Whoever dies in between leaves an empty file."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        copy.replace(target)
    except OSError:
        target.unlink(missing_ok=True)
        raise


def _taken(target: Path) -> BackupRefused:
    return BackupRefused(f"{target} is there already; name another file, or give --force to replace it")
