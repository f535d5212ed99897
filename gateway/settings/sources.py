"""What was written and where: the environment and the command line here, the TOML file in `toml_file`.

Each reader returns what it found by path, and notes what it does not know. Nothing is read as a type here,
and no file that holds a secret is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from gateway.settings.keys import FOREIGN, FOREIGN_PREFIX, PREFIX, Keys, nearest
from gateway.settings.problems import Problems


class Given(Struct, frozen=True, kw_only=True):
    """One value as it was written."""

    value: Any
    origin: str
    """Where it was written, in words."""
    text: bool = False
    """Whether it is a text to be read as the key's type."""
    beside: Path | None = None
    """Set when the value names a file that holds the secret: the folder a relative path starts from."""


Found = dict[str, Given]


def read_environment(environ: Mapping[str, str], cwd: Path, keys: Keys, problems: Problems) -> Found:
    """Read the variables that are settings; unknown ones under our prefix are noted."""
    found: Found = {}
    for name, text in sorted(environ.items()):
        origin = f"environment {name}"
        known = keys.variables.get(name)
        if known is not None:
            key, is_file = known
            given = Given(value=text, origin=origin, text=True, beside=cwd if is_file else None)
            put(found, key.path, given, problems)
        elif name.startswith(PREFIX) and name not in FOREIGN and not name.startswith(FOREIGN_PREFIX):
            ours = {variable for variable in keys.variables if variable.startswith(PREFIX)}
            problems.add(name, "environment", f"is not a setting; the nearest is {nearest(name, ours)}")
    return found


def read_overrides(overrides: Mapping[str, object], keys: Keys, problems: Problems) -> Found:
    """Read what the command line gave, by path; None stands for an option that was not given."""
    found: Found = {}
    for path, value in overrides.items():
        origin = f"--{path.rpartition('.')[2].replace('_', '-')}"
        if value is None:
            continue
        if path in keys.leaves:
            found[path] = Given(value=value, origin=origin, text=isinstance(value, str))
        else:
            problems.add(path, origin, f"is not a setting; the nearest is {nearest(path, keys.leaves)}")
    return found


def put(found: Found, path: str, given: Given, problems: Problems) -> None:
    """Keep a value, unless the same place gives the secret twice: itself and as a file."""
    if path in found:
        both = f"{found[path].origin} and {given.origin}"
        problems.add(path, both, "is given both as a value and as a file; keep one")
    else:
        found[path] = given
