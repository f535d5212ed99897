"""Who the provider is and where it is found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from providers.conformance.finding import Finding
from providers.contract import CONTRACT_VERSION
from providers.contract.adapter import Adapter

_NAME = re.compile(r"[a-z][a-z0-9]*")
_ENV = re.compile(r"[A-Z][A-Z0-9_]*")


def check_identity(adapter: Adapter) -> Iterator[Finding]:
    """Check contract version, name, title, base URL and the names of environment variables."""
    spec = adapter.spec
    if spec.contract_version != CONTRACT_VERSION:
        problem = f"is {spec.contract_version}, this gateway speaks {CONTRACT_VERSION}; adapt to the contract"
        yield Finding("declared.contract-version", "spec.contract_version", problem)
    if _NAME.fullmatch(spec.name) is None:
        problem = f"{spec.name!r} must be lower-case letters and digits, beginning with a letter"
        yield Finding("declared.name", "spec.name", problem)
    if not spec.title.strip():
        yield Finding("declared.name", "spec.title", "is empty; write the name people know the provider by")
    url_problem = _url_problem(spec.base_url)
    if url_problem is not None:
        yield Finding("declared.base-url", "spec.base_url", f"{spec.base_url!r} {url_problem}")
    for field, env in (("key_env", spec.key_env), ("base_url_env", spec.base_url_env)):
        if _ENV.fullmatch(env) is None:
            problem = f"{env!r} must be an environment variable's name: capitals, digits and underscores"
            yield Finding("declared.env", f"spec.{field}", problem)
    if spec.key_env == spec.base_url_env:
        yield Finding("declared.env", "spec.base_url_env", "is the name of the key's variable as well")


def _url_problem(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (reading it is what raises for a port that is none)
    except ValueError as error:
        return f"is no URL: {error}"
    if parts.scheme != "https" or not parts.hostname:
        return "must begin with https:// and name a host, since the key is sent there"
    if parts.query or parts.fragment or parts.username is not None:
        return "must hold neither query, fragment nor user"
    return "must not end in a slash; paths begin with one" if url.endswith("/") else None
