"""`motion-gateway check`: is this installation fit to serve?"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.cli.configured import load_settings, settings_options
from gateway.cli.exits import FAILED
from gateway.cli.screen import busy, open_console, printable
from gateway.cli.verdicts import (
    Mark,
    Verdict,
    check_adapters,
    check_credentials,
    check_database,
    check_policy,
    check_settings,
)
from gateway.registry import load_adapters

_COLORS = {Mark.OK: "green", Mark.NOTE: "yellow", Mark.FINDING: "bold red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@settings_options
def command(*, as_json: bool, database: str | None, config: Path | None) -> None:
    """Check settings, database, credentials (by a free call) and adapters; exits 1 on a finding.

    Settings that are refused altogether exit 78, as they would at `serve`. Nothing is changed or paid.
    """
    registry = load_adapters()
    loaded = load_settings(registry, config=config, database=database)
    settings = loaded.settings
    with busy(open_console(stderr=True), "settings") as now:
        verdicts = [*check_settings(loaded, registry)]
        now("database")
        verdicts += check_database(settings, registry)
        now("credentials")
        verdicts += asyncio.run(check_credentials(settings, registry))
        for name in registry.adapters:
            now(f"conformance of {name}")
            verdicts += check_adapters(registry, [name])
        verdicts += check_policy(settings)
    found = any(verdict.mark is Mark.FINDING for verdict in verdicts)
    if as_json:
        document = msgspec.json.encode({"ok": not found, "checks": verdicts})
        click.echo(msgspec.json.format(document, indent=2))
    else:
        _print_table(open_console(), verdicts)
    if found:
        raise SystemExit(FAILED)


def _print_table(console: Console, verdicts: Sequence[Verdict]) -> None:
    table = Table("", "What", "", "", box=box.SIMPLE_HEAD, show_header=False)
    last = ""
    for verdict in verdicts:
        area = verdict.area if verdict.area != last else ""
        last = verdict.area
        table.add_row(
            Text(area, style="bold"),
            Text(verdict.name),
            Text(verdict.mark, style=_COLORS[verdict.mark]),
            Text(printable(verdict.text)),
            end_section=False,
        )
    console.print(table)
    counts = Counter(verdict.mark for verdict in verdicts)
    findings = counts[Mark.FINDING]
    told = f"{findings} finding{'' if findings == 1 else 's'}" if findings else "nothing to find fault with"
    if not any(verdict.area == "credentials" and verdict.name != "all" for verdict in verdicts):
        told += "; no credential was checked"
    notes = f", {counts[Mark.NOTE]} to note" if counts[Mark.NOTE] else ""
    console.print(f"  {told}{notes}", style=_COLORS[Mark.FINDING if findings else Mark.OK])
