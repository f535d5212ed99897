"""The simulator as the provider, where there is no other: accounts that lead to it, marked simulated."""

from __future__ import annotations

import secrets
from collections.abc import Collection

from msgspec.structs import replace

from gateway.settings import Account, Secret, Settings

ACCOUNT = "simulator"
"""Not `default`: a job that a real account was paid for must never be asked about, or ended, by a simulator
that a lost secret brought up."""


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
