"""Which accounts jobs under way need, held against those that the settings have."""

from __future__ import annotations

from collections.abc import Container, Mapping

from gateway.errors import SettingsError
from gateway.routing.account import Account

Needed = Mapping[Account, int]
"""Jobs under way by account."""


def missing_accounts(needed: Needed, present: Container[Account]) -> list[str]:
    """Name, in words, each account that jobs under way need and the settings no longer have."""
    return [
        f"the account {account!r} at {provider} is gone, and {_jobs(count)} still under way there"
        for (provider, account), count in sorted(needed.items())
        if (provider, account) not in present
    ]


def refuse_missing(needed: Needed, present: Container[Account]) -> None:
    """Stop a start that could not follow what was paid for.

    Raises:
        SettingsError: an account has vanished that jobs under way need.
    """
    missing = missing_accounts(needed, present)
    if missing:
        raise SettingsError(
            f"{'; '.join(missing)}. Put it back into the settings, under the same name and with its key (and"
            " its provider enabled), until those jobs have ended; or cancel or resolve them before"
        )


def _jobs(count: int) -> str:
    return "1 job is" if count == 1 else f"{count} jobs are"
