"""`motion-gateway usage`: what owners' jobs cost."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

from gateway.api.usage import parse_day
from gateway.cli.chosen_database import existing_settings
from gateway.cli.configured import settings_options, with_store
from gateway.cli.screen import open_console
from gateway.service.usage import Usage, UsageView
from gateway.storage.store import Store


def _day(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        return parse_day(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from error


@click.command()
@click.option("--owner", metavar="NAME", help="Only this owner.  [default: everybody]")
@click.option(
    "--from",
    "first",
    callback=_day,
    metavar="DAY",
    help="The first day (UTC), such as 2026-11-01.  [default: the first of the month of --to]",
)
@click.option("--to", "last", callback=_day, metavar="DAY", help="The last day.  [default: today]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, as GET /v1/usage answers.")
@settings_options
def command(
    *,
    owner: str | None,
    first: str | None,
    last: str | None,
    as_json: bool,
    database: str | None,
    config: Path | None,
) -> None:
    """Show spend by owner, day and provider; also while a gateway serves the database.

    Everything is booked on the day on which its job was accepted. Simulated jobs cost nothing, and are left
    out.
    """
    settings = existing_settings(database, config)

    async def look(store: Store) -> UsageView:
        return await Usage(store.database, store.clock).show(owner=owner, first=first, last=last)

    found = with_store(settings, look)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
        return
    _print_rows(found)
    if found.budgets:
        _print_budgets(found)


def _print_rows(found: UsageView) -> None:
    table = Table(
        title=f"{found.first} to {found.last}", box=box.SIMPLE_HEAD, show_footer=True, title_justify="left"
    )
    for name, footer in (("Owner", "total"), ("Day", ""), ("Provider", "")):
        table.add_column(name, footer=footer)
    table.add_column("Jobs", justify="right")
    table.add_column("Charged", justify="right", footer=_usd(found.charged_usd))
    table.add_column("Reserved", justify="right", footer=_usd(found.reserved_usd))
    for row in found.rows:
        money = (str(row.jobs), _usd(row.charged_usd), _usd(row.reserved_usd))
        table.add_row(*map(Text, (row.owner, row.day, row.provider or "(waiting)", *money)))
    open_console().print(table)


def _print_budgets(found: UsageView) -> None:
    table = Table("Owner", "Month", box=box.SIMPLE_HEAD, title="Budgets", title_justify="left")
    for name in ("Budget", "Used", "Left"):
        table.add_column(name, justify="right")
    for one in found.budgets:
        money = (_usd(one.budget_usd), _usd(one.used_usd), _usd(one.left_usd))
        table.add_row(*map(Text, (one.owner, one.month, *money)))
    open_console().print(table)


def _usd(amount: float) -> str:
    return f"{amount:,.2f} USD"
