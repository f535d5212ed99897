"""`motion-gateway held`: the jobs that wait because nobody knows whether their submission was made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

from gateway.cli.configured import settings_options
from gateway.cli.holding import with_holds
from gateway.cli.screen import open_console, printable
from gateway.jobs.job import Job
from gateway.jobs.view import instant
from gateway.service.holds import HeldJob


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@settings_options
def command(*, as_json: bool, database: str | None, config: Path | None) -> None:
    """List the held jobs, the oldest first; also while a gateway serves the database.

    `motion-gateway resolve` settles one.
    """
    found = with_holds(database, config, lambda holds: holds.all())
    if as_json:
        document = {"held": [_document(one) for one in found]}
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))
    elif found:
        _print_table(found)
    else:
        click.echo("nothing is held")


def reason_of(one: HeldJob) -> str:
    """Say why nobody knows: what became of the call."""
    return one.held.reason if one.attempt.error is None else one.attempt.error.message


def _document(one: HeldJob) -> dict[str, object]:
    return {
        "job": one.job.id,
        "owner": one.job.owner,
        "since": instant(one.held.since_ms),
        "until": instant(one.held.until_ms),
        "provider": one.attempt.provider,
        "account": one.attempt.account,
        "attempt": one.attempt.id,
        "reason": reason_of(one),
        "sent_at": instant(one.attempt.started_at_ms),
        "estimated_usd": _usd(one.job.estimated_micro_usd),
        "provider_may_bill": one.job.state.provider_may_bill,
    }


def _usd(micro_usd: int | None) -> float | None:
    return None if micro_usd is None else micro_usd / 1_000_000


def _print_table(found: Sequence[HeldJob]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("Job", "Owner", "At", "Sent", "Held until", "Cost", "Reason"):
        # An id that is folded cannot be copied.
        table.add_column(name, no_wrap=name == "Job", overflow="fold")
    for one in found:
        cells = (
            one.job.id,
            one.job.owner,
            f"{one.attempt.provider}/{one.attempt.account}",
            _second(one.attempt.started_at_ms),
            _second(one.held.until_ms),
            _at_stake(one.job),
            printable(reason_of(one)),
        )
        table.add_row(*map(Text, cells))
    open_console().print(table)


def _at_stake(job: Job) -> str:
    """Say what the submission in doubt costs if it was made, by our estimate; and what may come on top."""
    cost = job.estimated_micro_usd
    price = "unknown" if cost is None else f"${cost / 1_000_000:.2f}"
    return f"{price} + earlier" if job.state.provider_may_bill else price


def _second(at_ms: int) -> str:
    return instant(at_ms)[:19].replace("T", " ")
