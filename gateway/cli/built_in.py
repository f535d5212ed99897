"""The simulator as the provider, where there is no other: accounts that lead to it, marked simulated."""

from __future__ import annotations

import secrets
from collections.abc import Collection

from msgspec.structs import replace

from gateway.settings import Account, Secret, Settings
from gateway.settings.hosts import is_loopback
from gateway.storage.store import database_path

ACCOUNT = "simulator"
"""Not `default`: a job that a real account was paid for must never be asked about, or ended, by a simulator
that a lost secret brought up."""


def why_no_simulator(settings: Settings, *, works: bool) -> str | None:
    """Say where alone the simulator stands in for a provider; None where it does.

    It lives in the process that serves, so nobody else must work on its jobs: not another worker, and not
    whatever is started on a shared database once there is an account.

    Args:
        settings: as loaded.
        works: whether this process carries out jobs itself.
    """
    if not is_loopback(settings.server.host):
        return f"on loopback only, and server.host is {settings.server.host}"
    if not works:
        return "only for a gateway that works itself, and this one has --no-worker"
    if database_path(settings) is None:
        return "on a SQLite database only, and this one is PostgreSQL, where others work on its jobs, too"
    return None


def simulated(settings: Settings, names: Collection[str], *, url: str, poll_scale: float) -> Settings:
    """Return settings under which providers are simulated.

    Args:
        settings: as loaded; not changed.
        names: of the providers that have an emulation. Others are left as they are.
        url: of the simulator.
        poll_scale: factor on their poll times; simulated jobs are short.
    """
    providers = dict(settings.providers)
    for name in names:
        if name in providers:
            account = Account(
                name=ACCOUNT,
                api_key=Secret(f"simulated-{secrets.token_hex(12)}"),
                base_url=f"{url}/{name}",
                simulated=True,
            )
            providers[name] = replace(providers[name], accounts=(account,), poll_scale=poll_scale)
    return replace(settings, providers=providers)
