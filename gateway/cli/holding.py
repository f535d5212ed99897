"""Held jobs, straight on the database: beside a gateway that may be serving it, with the same settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from gateway.cli.configured import load_settings, with_store
from gateway.cli.exits import Failed
from gateway.ids import Ids
from gateway.registry import load_adapters
from gateway.service.announce import log
from gateway.service.callbacks import CallbackKeys
from gateway.service.holds import Holds
from gateway.service.record import Record, Recorded
from gateway.storage.store import Store, exists
from gateway.telemetry import Redactor
from gateway.upstream.accounts import accounts_of
from gateway.upstream.calls import Calls
from gateway.upstream.client import Client, open_upstream

T = TypeVar("T")


class _Logged:
    """Hears of transitions, and logs them; whoever works on the job next looks by itself.

    The counters of whatever serves the database do not count what is settled here: this log tells of it.
    """

    def recorded(self, recorded: Recorded) -> None:
        """Log it."""
        log(recorded)


def _uncounted(_provider: str, _operation: str, _outcome: str, _seconds: float) -> None:
    """Count nothing: this process has no metrics to be asked for."""


def with_holds(database: str | None, config: Path | None, work: Callable[[Holds], Awaitable[T]]) -> T:
    """Open the database for a moment and work on its held jobs.

    Args:
        database: `--database`.
        config: `--config`.
        work: what to do.

    Raises:
        Failed: there is no database.
        SchemaRefused: it cannot be used by this version.
        SettingsError: a setting is wrong.
    """
    registry = load_adapters()
    settings = load_settings(registry, config=config, database=database).settings
    if not exists(settings):
        raise Failed(f"there is no database at {settings.database}; name it with --database or --config")

    async def with_them(store: Store) -> T:
        upstream = open_upstream()
        try:
            calls = Calls(
                Client(upstream),
                store.clock,
                Redactor(settings.secrets()).text,
                _uncounted,
                callback_of=CallbackKeys(settings.server.public_url, store.secret).callback_of,
            )
            record = Record(store.database, store.clock, Ids(store.clock), _Logged())
            accounts = accounts_of(settings, registry.adapters)
            return await work(Holds(store.database, record, store.clock, accounts=accounts, calls=calls))
        finally:
            await upstream.aclose()

    return with_store(settings, with_them)
