"""How the key is sent, and the settings an adapter has."""

from __future__ import annotations

import re
from collections.abc import Iterator

from providers.conformance.finding import Finding
from providers.contract.adapter import Adapter
from providers.contract.spec import AuthSpec, Spec

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110, section 5.6.2
_VALUE = re.compile(r"[ -~]*")
_OPTION = re.compile(r"[a-z][a-z0-9_]*")
_SECRET = re.compile(r"authorization|api-?key|token|secret|cookie|password", re.IGNORECASE)

#: Headers that belong to the connection or to the gateway's own client.
RESERVED = frozenset(
    {"accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding"}
)


def check_access(adapter: Adapter) -> Iterator[Finding]:
    """Check auth, its choices, fixed headers and options."""
    spec = adapter.spec
    yield from _check_auth(spec.auth, "spec.auth")
    for choice, auth in spec.auth_choices.items():
        yield from _check_auth(auth, f"spec.auth_choices[{choice}]")
    yield from _check_choices(spec)
    for problem in header_problems(spec.fixed_headers, spec):
        yield Finding("declared.fixed-headers", "spec.fixed_headers", problem)
    yield from _check_options(spec)


def header_problems(headers: tuple[tuple[str, str], ...], spec: Spec) -> Iterator[str]:
    """Say what is wrong with headers an adapter sets itself, fixed or on a call."""
    ways = (spec.auth, *spec.auth_choices.values())
    keys = {auth.header.casefold() for auth in ways}
    prefixes = {auth.prefix.casefold() for auth in ways if auth.prefix.strip()}
    seen: set[str] = set()
    for name, value in headers:
        folded = name.casefold()
        if _HEADER.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            yield f"{name!r}: {value!r} cannot be sent as a header"
        if folded in RESERVED:
            yield f"{name} is set by the gateway; leave it out"
        if folded in keys or _SECRET.search(name) or any(value.casefold().startswith(p) for p in prefixes):
            yield f"{name} looks like a credential; an adapter holds none, the gateway adds the key"
        if folded in seen:
            yield f"{name} is set twice"
        seen.add(folded)


def _check_auth(auth: AuthSpec, where: str) -> Iterator[Finding]:
    if _HEADER.fullmatch(auth.header) is None or _VALUE.fullmatch(auth.prefix) is None:
        problem = f"{auth.header!r} with prefix {auth.prefix!r} cannot be sent as a header"
        yield Finding("declared.auth", where, problem)


def _check_choices(spec: Spec) -> Iterator[Finding]:
    option = next((option for option in spec.options if option.name == "auth"), None)
    values: tuple[str, ...] = () if option is None else option.values
    for choice in spec.auth_choices:
        if choice not in values:
            problem = "can never be chosen: there is no such value of an option named auth"
            yield Finding("declared.auth", f"spec.auth_choices[{choice}]", problem)
    for value in values[1:]:
        if value not in spec.auth_choices:
            problem = f"{value} changes nothing: spec.auth_choices has no entry for it"
            yield Finding("declared.auth", "spec.options[auth]", problem)


def _check_options(spec: Spec) -> Iterator[Finding]:
    seen: set[str] = set()
    for option in spec.options:
        where = f"spec.options[{option.name}]"
        if _OPTION.fullmatch(option.name) is None:
            problem = "the name must be lower-case letters, digits and underscores"
            yield Finding("declared.options", where, problem)
        if option.name in seen:
            yield Finding("declared.options", where, "is declared twice")
        seen.add(option.name)
        if not option.values or len(set(option.values)) != len(option.values) or not all(option.values):
            problem = f"the values {option.values} must be there, differ, and not be empty"
            yield Finding("declared.options", where, problem)
        if not option.meaning.strip():
            yield Finding("declared.options", where, "has no meaning; say what an operator chooses with it")
