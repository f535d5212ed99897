"""Accounts: a credential at a provider, and the adapter that speaks for it."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from msgspec import Struct

from gateway.routing.account import Account
from gateway.routing.health import Limits
from gateway.settings import Secret, Settings
from providers.contract.adapter import Adapter


class UpstreamAccount(Struct, frozen=True, kw_only=True):
    """One credential, ready to be used."""

    adapter: Adapter
    name: str
    api_key: Secret
    base_url: str
    options: Mapping[str, str]
    poll_scale: float = 1.0
    limits: Limits = Limits()
    weight: float = 1.0
    longest_run_s: int | None = None
    """By the settings, after which an attempt in doubt gives its slot back; None: as the adapter declares."""
    simulated: bool = False

    @property
    def id(self) -> Account:
        """Its name to those who know no adapter."""
        return self.adapter.spec.name, self.name

    @property
    def plain_http(self) -> bool:
        """Whether it is reached over plain http, which settings allow on loopback only."""
        return urlsplit(self.base_url).scheme == "http"


class Accounts:
    """Every account in use, in the order of preference."""

    def __init__(self, accounts: tuple[UpstreamAccount, ...]) -> None:
        self._accounts = {(account.adapter.spec.name, account.name): account for account in accounts}

    def get(self, provider: str, name: str) -> UpstreamAccount | None:
        """Return the account of that name, or None when the settings no longer have it."""
        return self._accounts.get((provider, name))

    def names(self) -> frozenset[Account]:
        """Return the id of every account."""
        return frozenset(self._accounts)

    def all(self) -> tuple[UpstreamAccount, ...]:
        """Return every account."""
        return tuple(self._accounts.values())


def accounts_of(settings: Settings, adapters: Mapping[str, Adapter]) -> Accounts:
    """Join the settings' accounts with their adapters."""
    found: list[UpstreamAccount] = []
    for name in settings.enabled_providers:
        adapter, provider = adapters[name], settings.providers[name]
        found += [
            UpstreamAccount(
                adapter=adapter,
                name=account.name,
                api_key=account.api_key,
                base_url=account.base_url,
                options={**adapter.spec.default_options(), **provider.options},
                poll_scale=provider.poll_scale,
                limits=Limits(
                    max_in_flight=account.max_in_flight,
                    submits_per_second=account.submits_per_second,
                    scale=min(1.0, provider.poll_scale),
                ),
                weight=account.weight,
                longest_run_s=provider.longest_run_s,
                simulated=account.simulated,
            )
            for account in provider.accounts
        ]
    return Accounts(tuple(found))
