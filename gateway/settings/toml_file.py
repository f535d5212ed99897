"""The TOML file: which one, and what it sets. Unknown keys are noted with the nearest known one."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from gateway.settings.forms import account_name
from gateway.settings.keys import (
    ACCOUNT_BOUNDS,
    CONFIG_VARIABLE,
    DEFAULT_ACCOUNT,
    FILE,
    Keys,
    account_path,
    nearest,
)
from gateway.settings.problems import Problems
from gateway.settings.sources import Found, Given, put

DEFAULT_FILE: Final = "motion-gateway.toml"
_ACCOUNT_FIELDS: Final = frozenset({"name", "api_key", f"api_key{FILE}", "base_url", *ACCOUNT_BOUNDS})


def find_file(
    config_path: Path | None, environ: Mapping[str, str], cwd: Path, problems: Problems
) -> tuple[Path, str] | None:
    """Return the TOML file to read and its name in messages; None when there is none."""
    named = environ.get(CONFIG_VARIABLE)
    if config_path is not None:
        return cwd / config_path, str(config_path)
    if named is not None:
        if named.strip():
            return cwd / named, named
        problems.add(CONFIG_VARIABLE, "environment", "is empty; name a file, or leave it out altogether")
    if (cwd / DEFAULT_FILE).exists():
        return cwd / DEFAULT_FILE, DEFAULT_FILE
    return None


def read_toml(path: Path, origin: str, keys: Keys, problems: Problems) -> Found:
    """Read a TOML file; what is wrong with it is noted."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        problems.add("configuration file", origin, f"cannot be read ({error.strerror}); name a readable file")
    except UnicodeDecodeError:
        problems.add("configuration file", origin, "is not UTF-8 text; write it as UTF-8")
    except tomllib.TOMLDecodeError as error:
        problems.add("configuration file", origin, f"is not TOML: {error}")
    else:
        return _TomlReader(origin, path.parent, keys, problems).read(document)
    return {}


class _TomlReader:
    """Walks one document."""

    def __init__(self, origin: str, folder: Path, keys: Keys, problems: Problems) -> None:
        self._origin = origin
        self._folder = folder
        self._keys = keys
        self._problems = problems
        self._found: Found = {}

    def read(self, document: Mapping[str, Any]) -> Found:
        self._table(document, "")
        return self._found

    def _table(self, table: Mapping[str, Any], prefix: str) -> None:
        for name, value in table.items():
            path = f"{prefix}{name}"
            plain = path.removesuffix(FILE)
            secret = plain in self._keys.leaves and self._keys.leaves[plain].secret
            if "." in name:
                self._unknown(path, prefix)
            elif path in self._keys.leaves or (secret and path != plain):
                self._value(plain if secret else path, value, is_file=secret and path != plain)
            elif path not in self._keys.sections:
                self._unknown(path, prefix)
            elif path.endswith(".accounts"):
                self._accounts(path, value)
            elif isinstance(value, dict):
                self._table(cast("dict[str, Any]", value), f"{path}.")
            else:
                self._wrong(path, f"must be a table, written [{path}]")

    def _accounts(self, path: str, value: object) -> None:
        try:
            entries = msgspec.convert(value, list[dict[str, Any]])
        except msgspec.ValidationError:
            self._wrong(
                path, "must be a list of tables: accounts = [{name, api_key or api_key_file, base_url}]"
            )
            return
        provider = path.split(".")[1]
        names: set[str] = set()
        for index, entry in enumerate(entries):
            self._account(provider, f"{path}[{index}]", entry, names)

    def _account(self, provider: str, path: str, entry: Mapping[str, Any], names: set[str]) -> None:
        self._refuse_unknown(path, entry)
        try:
            name = account_name(entry.get("name", DEFAULT_ACCOUNT))
        except ValueError as error:
            self._wrong(f"{path}.name", str(error))
            return
        if name in names:
            self._wrong(f"{path}.name", f"{name!r} is used twice; give each account its own name")
            return
        names.add(name)
        # Kept even without a key, so that the account is known to be there and its key to be missing.
        self._value(account_path(provider, name, "name"), name, is_file=False)
        for field in ("api_key", f"api_key{FILE}", "base_url", *ACCOUNT_BOUNDS):
            if field in entry:
                target = account_path(provider, name, field.removesuffix(FILE))
                self._value(target, entry[field], is_file=field.endswith(FILE))

    def _refuse_unknown(self, path: str, entry: Mapping[str, Any]) -> None:
        for field in sorted(entry.keys() - _ACCOUNT_FIELDS):
            problem = f"is not a setting; the nearest is {nearest(field, _ACCOUNT_FIELDS)}"
            self._wrong(f"{path}.{field}", problem)

    def _value(self, path: str, value: object, *, is_file: bool) -> None:
        beside = self._folder if is_file else None
        put(self._found, path, Given(value=value, origin=self._origin, beside=beside), self._problems)

    def _unknown(self, path: str, prefix: str) -> None:
        within = [known for known in self._names() if known.startswith(prefix)]
        close = nearest(path, within or self._names())
        self._wrong(path, f"is not a setting; the nearest is {close}")

    def _names(self) -> list[str]:
        """What can stand in a file: the environment's account is written as a list there."""
        return [path for path in (*self._keys.leaves, *self._keys.sections) if ".accounts." not in path]

    def _wrong(self, key: str, problem: str) -> None:
        self._problems.add(key, self._origin, problem)
