"""Which keys there are, read off the model and the installed specs, and what each is called where.

A key is a dotted path (`server.port`). Its variable is `MOTION_GATEWAY_` and the path in capitals with two
underscores for each dot. A key that holds a secret has a twin that names a file holding it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Struct

from gateway import crash_points
from gateway.settings.model import Account, Provider, Settings
from gateway.settings.secret import Secret
from providers.contract.errors import ErrorCode
from providers.contract.spec import Spec

PREFIX: Final = "MOTION_GATEWAY_"
CONFIG_VARIABLE: Final = f"{PREFIX}CONFIG"
FOREIGN: Final = frozenset(
    {
        CONFIG_VARIABLE,
        f"{PREFIX}URL",
        f"{PREFIX}KEY",
        f"{PREFIX}WEBHOOK_SECRET",
        f"{PREFIX}WEBHOOK_SECRET_FILE",
        crash_points.VARIABLE,
    }
)
"""Variables that are no settings: where the settings are, what the client commands use, what tests use."""
FOREIGN_PREFIX: Final = f"{PREFIX}TEST_"

FILE: Final = "_file"
DEFAULT_ACCOUNT: Final = "default"


class Key(Struct, frozen=True, kw_only=True):
    """One thing that can be set."""

    path: str
    type: Any
    """Its annotation in the model, as `msgspec.convert` takes it."""
    variable: str
    """The environment variable that sets it."""

    @property
    def secret(self) -> bool:
        """Whether its value must not be shown, and may come from a file."""
        return self.type is Secret


class Keys(Struct, frozen=True):
    """Everything that can be set in this installation."""

    leaves: Mapping[str, Key]
    sections: frozenset[str]
    """Paths that hold further keys, and `providers.<name>.accounts`."""
    variables: Mapping[str, tuple[Key, bool]]
    """Environment name to its key, and whether it names a file that holds the value."""


def declared_keys(specs: Sequence[Spec]) -> Keys:
    """Read all keys off `Settings` and the specs of the installed adapters."""
    leaves, sections = _walk(Settings, "")
    for spec in specs:
        prefix = f"providers.{spec.name}."
        found = [*_provider_keys(spec, prefix), *_account_keys(spec, prefix)]
        leaves += found
        sections += [prefix[:-1], f"{prefix}options", f"{prefix}failover", f"{prefix}accounts"]
    variables = {key.variable: (key, False) for key in leaves}
    variables |= {f"{key.variable}{FILE.upper()}": (key, True) for key in leaves if key.secret}
    return Keys({key.path: key for key in leaves}, frozenset(sections), variables)


def variable_of(path: str) -> str:
    """Name the environment variable of a path: `server.port` is `MOTION_GATEWAY_SERVER__PORT`."""
    return PREFIX + path.replace(".", "__").upper()


def is_section(kind: object) -> bool:
    """Whether a field's annotation is a group of settings and not one of them."""
    return isinstance(kind, type) and issubclass(kind, Struct)


ACCOUNT_BOUNDS: Final[Mapping[str, Any]] = {
    field.name: field.type
    for field in msgspec.structs.fields(Account)
    if field.name in {"max_in_flight", "submits_per_second", "weight"}
}
"""Fields of an account that bound what it is used for, and their types. Where they stand with the provider
itself, as the environment gives them, they are those of each of its accounts that has none of its own."""


def account_path(provider: str, account: str, field: str) -> str:
    """Name a field of an account."""
    return f"providers.{provider}.accounts.{account}.{field}"


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return the valid word most like this one, however far; empty when there is none."""
    close = difflib.get_close_matches(word, sorted(valid), n=1, cutoff=0.0)
    return close[0] if close else ""


def _walk(struct: type[Struct], prefix: str) -> tuple[list[Key], list[str]]:
    leaves: list[Key] = []
    sections: list[str] = []
    for field in msgspec.structs.fields(struct):
        path = f"{prefix}{field.name}"
        kind: Any = field.type
        if path == "providers":
            sections.append(path)
        elif is_section(kind):
            inner, deeper = _walk(kind, f"{path}.")
            leaves += inner
            sections += [path, *deeper]
        else:
            leaves.append(Key(path=path, type=_given(kind), variable=variable_of(path)))
    return leaves, sections


def _given(kind: Any) -> Any:
    """Return what a setting is when it is set: nobody writes None."""
    optional = get_origin(kind) in {Union, UnionType}
    kinds = [one for one in get_args(kind) if one is not NoneType] if optional else []
    # Of texts that may be left out, each has its own form, which says more of what is wrong.
    return kinds[0] if len(kinds) == 1 and kinds[0] is not str else kind


def _provider_keys(spec: Spec, prefix: str) -> list[Key]:
    closed: Any = Literal
    kinds = {field.name: field.type for field in msgspec.structs.fields(Provider)}
    kinds = {name: kind for name, kind in kinds.items() if name not in {"accounts", "options", "failover"}}
    kinds |= {f"failover.{code}": closed["retry", "next", "give_up"] for code in ErrorCode}
    kinds |= {f"options.{option.name}": closed[option.values] for option in spec.options}
    return [
        Key(path=f"{prefix}{name}", type=kind, variable=variable_of(f"{prefix}{name}"))
        for name, kind in kinds.items()
    ]


def _account_keys(spec: Spec, prefix: str) -> list[Key]:
    """Keys of the one account that the environment can speak of, under the names the provider's SDK uses."""
    account = f"{prefix}accounts.{DEFAULT_ACCOUNT}"
    return [
        Key(path=f"{account}.api_key", type=Secret, variable=spec.key_env),
        Key(path=f"{account}.base_url", type=str, variable=spec.base_url_env),
    ]
