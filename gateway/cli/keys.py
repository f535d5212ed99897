"""`motion-gateway keys`: who may call, and as which owner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import click
import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

from gateway.cli.chosen_database import chosen_settings, existing_settings
from gateway.cli.configured import settings_options, with_keys
from gateway.cli.exits import Failed
from gateway.cli.limiting import limit_options, limits_of
from gateway.cli.screen import open_console
from gateway.jobs.job import Policy
from gateway.jobs.view import instant
from gateway.service.keys import Keys, Scope
from gateway.service.quotas import usd
from gateway.settings.rates import Rate
from gateway.storage.keys import KeyRow
from gateway.storage.limits import OwnerLimits

NAME_MAX = 64


@click.group()
def command() -> None:
    """Create, list, limit and revoke API keys; also while a gateway serves the database."""


def _name(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    if not value.strip() or len(value) > NAME_MAX or not value.isprintable() or value != value.strip():
        raise click.BadParameter(f"must be 1 to {NAME_MAX} printable characters, without blanks at the ends.")
    return value


@command.command()
@click.option("--name", required=True, callback=_name, help="What the key is for.")
@click.option(
    "--owner",
    callback=_name,
    help="Whose jobs it posts and reads; an owner may have several keys.  [default: the name]",
)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    default=[Scope.JOBS.value],
    show_default=True,
    help="What it may do; may be given again. operator: see and cancel all owners' jobs.",
)
@click.option(
    "--policy",
    type=click.Choice(get_args(Policy)),
    help="How the candidates for its jobs are ordered that choose no policy.  [default: the gateway's]",
)
@limit_options
@settings_options
def create(
    *,
    name: str,
    owner: str | None,
    scopes: tuple[str, ...],
    policy: Policy | None,
    rate: tuple[Rate | None, ...],
    max_in_flight: tuple[int | None, ...],
    budget_usd: tuple[int | None, ...],
    database: str | None,
    config: Path | None,
) -> None:
    """Make a key: it alone goes to stdout, is shown this once and stored as a hash.

    The rate is the key's. Jobs in flight and the budget are its owner's, and hold for all keys of the owner.
    """
    settings = chosen_settings(database, config)
    chosen = [Scope(word) for word in dict.fromkeys(scopes)]
    limits, own_rate = limits_of(max_in_flight, budget_usd), rate[0] if rate else None
    made = with_keys(
        settings,
        lambda keys: keys.create(
            name=name, owner=owner or name, scopes=chosen, policy=policy, rate=own_rate, limits=limits
        ),
    )
    click.echo(made.key)
    where = settings.database_shown
    click.echo(f"{made.id} for owner {made.owner!r} in {where}; the key is shown this once", err=True)
    if made.webhook_secret is not None:
        click.echo(f"The owner is new. Its webhooks are signed with: {made.webhook_secret}", err=True)
        click.echo("That secret, too, is shown this once.", err=True)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@settings_options
def list_keys(*, as_json: bool, database: str | None, config: Path | None) -> None:
    """Show every key, revoked ones too; never the keys themselves."""
    rows, limits = with_keys(existing_settings(database, config), _all)
    if as_json:
        shown = {"keys": [_document(row, limits) for row in rows]}
        click.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2))
    elif rows:
        _print_table(rows, limits)
    else:
        click.echo("There is no key yet; `motion-gateway keys create --name NAME` makes one.", err=True)


@command.command()
@click.argument("key_id", metavar="ID")
@limit_options
@settings_options
def limit(
    *,
    key_id: str,
    rate: tuple[Rate | None, ...],
    max_in_flight: tuple[int | None, ...],
    budget_usd: tuple[int | None, ...],
    database: str | None,
    config: Path | None,
) -> None:
    """Change the limits of a key and of its owner; a running gateway keeps to them within 10 seconds."""
    limits = limits_of(max_in_flight, budget_usd)
    if not rate and not limits:
        raise click.UsageError("name a limit: --rate, --max-in-flight or --budget-usd")
    if not with_keys(existing_settings(database, config), lambda keys: keys.limit(key_id, rate, limits)):
        raise _no_such_key(key_id)
    click.echo(f"limits of {key_id} changed", err=True)


@command.command()
@click.argument("key_id", metavar="ID")
@settings_options
def revoke(key_id: str, database: str | None, config: Path | None) -> None:
    """End a key's life; a running gateway refuses it within 10 seconds."""
    if not with_keys(existing_settings(database, config), lambda keys: keys.revoke(key_id)):
        raise _no_such_key(key_id)
    click.echo(f"revoked {key_id}", err=True)


def _no_such_key(key_id: str) -> Failed:
    return Failed(f"there is no active key {key_id!r}; `motion-gateway keys list` shows them")


async def _all(keys: Keys) -> tuple[list[KeyRow], dict[str, OwnerLimits]]:
    return await keys.all(), await keys.limits()


def _document(row: KeyRow, limits: Mapping[str, OwnerLimits]) -> dict[str, object]:
    of_owner = limits.get(row.owner) or OwnerLimits(owner=row.owner)
    budget = of_owner.budget_micro_usd
    return {
        "id": row.id,
        "name": row.name,
        "owner": row.owner,
        "scopes": row.scopes.split(),
        "policy": row.policy,
        "created_at": instant(row.created_at_ms),
        "revoked_at": None if row.revoked_at_ms is None else instant(row.revoked_at_ms),
        "rate": row.rate,
        "owner_max_in_flight": of_owner.max_in_flight,
        "owner_budget_usd": None if budget is None else budget / 1_000_000,
    }


def _print_table(rows: Sequence[KeyRow], limits: Mapping[str, OwnerLimits]) -> None:
    table = Table(
        "ID", "Name", "Owner", "Scopes", "Limits", "Policy", "Created", "Revoked", box=box.SIMPLE_HEAD
    )
    for row in rows:
        cells = [
            row.id,
            row.name,
            row.owner,
            row.scopes,
            _limits(row, limits.get(row.owner)),
            row.policy or "",
            _minute(row.created_at_ms),
            _minute(row.revoked_at_ms),
        ]
        # As Text, since names may hold what rich takes for markup.
        table.add_row(*map(Text, cells), style="dim" if row.revoked_at_ms else None)
    open_console().print(table)


def _limits(row: KeyRow, of_owner: OwnerLimits | None) -> str:
    shown = [] if row.rate is None else [row.rate]
    if of_owner is not None and of_owner.max_in_flight is not None:
        shown.append(f"{of_owner.max_in_flight} jobs")
    if of_owner is not None and of_owner.budget_micro_usd is not None:
        shown.append(f"{usd(of_owner.budget_micro_usd)} a month")
    return ", ".join(shown)


def _minute(at_ms: int | None) -> str:
    return "" if at_ms is None else instant(at_ms)[:16].replace("T", " ")
