"""`deploy/motion-gateway.toml` is what the settings are: every one, no other, and its default."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.registry import load_adapters
from gateway.settings import load
from gateway.settings.keys import declared_keys
from gateway.settings.model import Account
from providers.contract.errors import FINAL, ErrorCode

EXAMPLE = Path(__file__).parents[2] / "deploy" / "motion-gateway.toml"
SPECS = load_adapters().specs
MARK = "# an example"
SET_BY_US = {"simulated"}
SECRETS = "/run/secrets/"


def uncommented() -> str:
    """The file with every setting in force."""
    return re.sub(r"^#(?=\S)", "", EXAMPLE.read_text(), flags=re.MULTILINE)


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in table.items():
        deeper = flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
        found |= deeper
    return found


def key_of(path: str) -> str:
    """A key as any provider has it: what can be set for each is shown for one."""
    if path.startswith("providers.") and ".options." not in path:
        path = re.sub(r"^providers\.\w+", "providers.*", path)
    return path.removesuffix("_file")


def settable() -> dict[str, str]:
    """Every key, as `key_of` writes it, with a path that has it; accounts are a list, and stand alone."""
    final = {f".failover.{code}" for code in FINAL}
    paths = [
        path
        for path in declared_keys(SPECS).leaves
        if ".accounts." not in path and not path.endswith(tuple(final))
    ]
    return {key_of(path): path for path in paths} | {"providers.*.accounts": "providers.runway.accounts"}


@pytest.fixture
def in_force(tmp_path: Path) -> Path:
    """The file with every setting in force, its secrets in a folder of the test's."""
    text = uncommented()
    for name in re.findall(rf'"{SECRETS}([^"]+)"', text):
        (tmp_path / name).write_text(f"the-secret-of-{name}\n")
    path = tmp_path / "all.toml"
    path.write_text(text.replace(SECRETS, ""))
    return path


def test_the_example_as_it_is_changes_nothing(tmp_path: Path) -> None:
    given = load(SPECS, environ={}, config_path=EXAMPLE, cwd=tmp_path)
    assert given.settings == load(SPECS, environ={}, cwd=tmp_path).settings
    assert set(given.origins.values()) == {"default"}


def test_the_example_has_every_setting_and_no_other() -> None:
    assert {key_of(path) for path in flat(tomllib.loads(uncommented()))} == set(settable())


def test_an_account_is_shown_with_every_field() -> None:
    (account,) = tomllib.loads(uncommented())["providers"]["runway"]["accounts"]
    fields = {field.name for field in msgspec.structs.fields(Account)} - SET_BY_US
    assert {name.removesuffix("_file") for name in account} == fields


def test_the_example_loads_with_every_setting_in_force(in_force: Path, tmp_path: Path) -> None:
    settings = load(SPECS, environ={}, config_path=in_force, cwd=tmp_path).settings
    assert settings.secret_key is not None
    assert settings.secret_key.reveal() == "the-secret-of-motion-gateway-key"
    assert [account.api_key.reveal() for account in settings.providers["runway"].accounts] == [
        "the-secret-of-runway"
    ]
    assert settings.providers["runway"].failover[ErrorCode.RATE_LIMITED] == "retry"


def test_what_is_not_marked_as_an_example_is_the_default(in_force: Path, tmp_path: Path) -> None:
    text = uncommented()
    plain = load(SPECS, environ={}, cwd=tmp_path)
    written = load(SPECS, environ={}, config_path=in_force, cwd=tmp_path)
    shown = msgspec.to_builtins(written.settings, enc_hook=str)
    default = msgspec.to_builtins(plain.settings, enc_hook=str)
    for path in flat(tomllib.loads(text)):
        name = path.removesuffix("_file")
        differs = value_at(shown, name) != value_at(default, name)
        line = line_of(path, text)
        assert line.endswith(MARK) == differs, f"{path}: {line}"


def value_at(document: Any, path: str) -> Any:
    for part in path.split("."):
        document = document.get(part)
    return document


def line_of(path: str, text: str) -> str:
    """The line that sets a key, in its own section."""
    section, _, name = path.rpartition(".")
    body = text.partition(f"\n[{section}]\n")[2].partition("\n[")[0] if section else text
    lines = [line for line in body.splitlines() if line.startswith(f"{name} = ")]
    lines += [line for line in text.splitlines() if line.startswith(f"[[{path}]]")]
    return lines[0]
