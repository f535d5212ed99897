"""Reads all settings: defaults, then a TOML file, then the environment, then the command line; later wins.

Everything wrong is collected and told in one error. The steps: `keys` says what can be set, `sources` finds
what was written, `values` and `forms` read it, `accounts` builds the providers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from gateway.settings.accounts import build_provider
from gateway.settings.forms import FORMS, secret_text
from gateway.settings.hosts import is_loopback
from gateway.settings.keys import ACCOUNT_BOUNDS, Key, Keys, declared_keys, is_section, nearest
from gateway.settings.model import Settings
from gateway.settings.problems import Problems
from gateway.settings.secret import Secret
from gateway.settings.sources import Found, Given, read_environment, read_overrides
from gateway.settings.toml_file import find_file, read_toml
from gateway.settings.values import convert
from providers.contract.spec import Spec

SECRET_FILE_MAX: Final = 65_536
"""Bytes; a larger file is no secret."""
DEFAULT: Final = "default"

T = TypeVar("T", bound=Struct)


class Loaded(Struct, frozen=True):
    """The settings, and where each came from."""

    settings: Settings
    origins: Mapping[str, str]
    """By key, such as `server.port`: "environment MOTION_GATEWAY_SERVER__PORT", "motion-gateway.toml",
    "--port", "default"."""


def load(
    specs: Sequence[Spec],
    *,
    environ: Mapping[str, str],
    config_path: Path | None = None,
    cwd: Path,
    overrides: Mapping[str, object] = {},
) -> Loaded:
    """Read and check every setting.

    Args:
        specs: of the installed adapters; they say which providers, variables and options there are.
        environ: the environment.
        config_path: the file that `--config` names; None looks at MOTION_GATEWAY_CONFIG, then for
            `motion-gateway.toml` in `cwd`.
        cwd: where relative paths start. Those inside a TOML file start at its folder.
        overrides: by key (`server.port`), what the command line gave; None values count as not given.

    Raises:
        SettingsError: anything is wrong; one line for each problem, naming key, origin and what would be
            right, never the value of a secret.
    """
    problems = Problems()
    keys = declared_keys(specs)
    found = _find(keys, problems, environ=environ, config_path=config_path, cwd=cwd, overrides=overrides)
    values = _read(keys, found, problems)
    settings = _build(Settings, "", values)
    providers = {spec.name: build_provider(spec, found, values, problems) for spec in specs}
    settings = msgspec.structs.replace(settings, providers=providers)
    _check_together(settings, found, problems)
    problems.check()
    written = {path: given.origin for path, given in found.items()}
    # Where nothing is said of an error the contract's table decides, which is no setting's default.
    unset = {path: DEFAULT for path in keys.leaves if ".accounts." not in path and ".failover." not in path}
    return Loaded(settings, unset | written)


def _find(
    keys: Keys,
    problems: Problems,
    *,
    environ: Mapping[str, str],
    config_path: Path | None,
    cwd: Path,
    overrides: Mapping[str, object],
) -> Found:
    """Return what counts, by path: the last place that gives a value wins."""
    file = find_file(config_path, environ, cwd, problems)
    found = read_toml(*file, keys, problems) if file else {}
    found |= read_environment(environ, cwd, keys, problems)
    return found | read_overrides(overrides, keys, problems)


def _read(keys: Keys, found: Found, problems: Problems) -> dict[str, object]:
    """Return the values that could be read; what could not is noted."""
    values: dict[str, object] = {}
    for path, given in found.items():
        try:
            values[path] = _value(path, keys.leaves.get(path), given)
        except ValueError as error:
            problems.add(path, given.origin, str(error))
    return values


def _value(path: str, key: Key | None, given: Given) -> object:
    # Accounts that a file names are no declared keys; their fields are texts, one of them secret, or bounds.
    account_secret = key is None and path.endswith(".api_key")
    if account_secret or (key is not None and key.secret):
        return _secret(given, header=path.endswith(".api_key"))
    kind = key.type if key else ACCOUNT_BOUNDS.get(path.rpartition(".")[2], str)
    value = convert(given.value, kind, text=given.text)
    return FORMS[path](value) if path in FORMS else value


def _secret(given: Given, *, header: bool) -> Secret:
    text = given.value.reveal() if isinstance(given.value, Secret) else given.value
    if not isinstance(text, str):
        raise ValueError("must be a text")  # noqa: TRY004  (one kind of error for everything that was written wrong)
    if given.beside is not None:
        text = _file_text(given.beside, text)
    return Secret(secret_text(text, header=header))


def _file_text(folder: Path, name: str) -> str:
    """Read a secret from a file. The name is never shown: it may be the secret, set under the wrong key."""
    if not name.strip():
        raise ValueError("is empty; name the file that holds the secret, or leave it out altogether")
    try:
        with (folder / name).open("rb") as file:
            content = file.read(SECRET_FILE_MAX + 1)
        text = content.decode()
    except OSError as error:
        raise ValueError(
            f"names a file that cannot be read ({error.strerror}); name a readable one"
        ) from None
    except ValueError:
        raise ValueError("names a file that is not UTF-8 text") from None
    if len(content) > SECRET_FILE_MAX:
        raise ValueError(f"names a file larger than {SECRET_FILE_MAX} bytes, which is no secret")
    return text.removesuffix("\n").removesuffix("\r")


def _build(struct: type[T], prefix: str, values: Mapping[str, object]) -> T:
    """Build a section out of the values read; fields without one keep their defaults."""
    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        path = f"{prefix}{field.name}"
        if is_section(field.type):
            given[field.name] = _build(field.type, f"{path}.", values)
        elif path in values:
            given[field.name] = values[path]
    return struct(**given)


def _check_together(settings: Settings, found: Found, problems: Problems) -> None:
    """Note settings that are right alone and wrong together."""
    if settings.worker.heartbeat_s * 2 > settings.worker.lease_s:
        key = "worker.heartbeat_s" if "worker.heartbeat_s" in found else "worker.lease_s"
        half = settings.worker.lease_s / 2
        problems.add(
            key, _origin(found, key), f"heartbeat_s must be at most half of lease_s, that is, {half:g}"
        )
    if not settings.auth.required and not is_loopback(settings.server.host):
        problems.add(
            "auth.required",
            _origin(found, "auth.required"),
            f"false is accepted on loopback only, but server.host ({_origin(found, 'server.host')}) is not;"
            " keep true, or listen on 127.0.0.1",
        )
    if not settings.database.startswith("sqlite:") and settings.secret_key is None:
        origin = _origin(found, "database")
        reason = f"is not set, and a PostgreSQL database (from {origin}) has no file beside it to keep one in"
        problems.add("secret_key", DEFAULT, f"{reason}; set a long random text, the same in every process")
    _check_preference(settings, found, problems)


def _check_preference(settings: Settings, found: Found, problems: Problems) -> None:
    key, preferred = "routing.providers", settings.routing.providers
    origin = _origin(found, key)
    for name in dict.fromkeys(preferred):
        if name not in settings.providers:
            close = nearest(name, settings.providers)
            problems.add(key, origin, f"{name!r} is not an installed provider; the nearest is {close}")
        if preferred.count(name) > 1:
            problems.add(key, origin, f"{name!r} is listed twice; list it once")


def _origin(found: Found, key: str) -> str:
    return found[key].origin if key in found else DEFAULT
