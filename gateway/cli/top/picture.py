"""One picture of a gateway, as rich draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.api.schemas import AccountView, ProvidersView
from gateway.cli.screen import printable, word_of
from gateway.cli.top.figures import Figures
from gateway.jobs.view import JobView
from gateway.service.usage import UsageView

STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")
UNFINISHED = ("queued", "running")
_COLORS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan"}


class Seen(Struct, frozen=True, kw_only=True):
    """What a gateway answered."""

    url: str
    at: str
    """When, to the second."""
    figures: Figures
    providers: ProvidersView
    usage: UsageView
    jobs: Sequence[JobView]


def draw(seen: Seen, *, trouble: str | None = None) -> RenderableType:
    """Draw all of it.

    Args:
        seen: what was answered last.
        trouble: why nothing newer was; None when this is new.
    """
    head = Text.assemble(
        ("Motion Gateway ", "bold"), printable(seen.figures.version), f"  {seen.url}  {seen.at}"
    )
    parts: list[RenderableType] = [head]
    if seen.figures.none_unless_known is None:
        asked = "? is of the store, which this process does not look at; one that carries out jobs knows"
        parts.append(Text(asked, style="dim"))
    if trouble is not None:
        parts.append(Text(f"nothing newer: {printable(trouble)}", style="bold red"))
    parts += [_summary(seen), _accounts(seen), _jobs(seen.jobs)]
    return Group(*parts)


def _summary(seen: Seen) -> Table:
    figures = seen.figures
    absent = figures.none_unless_known
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 1))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    held = f"held {_shown(figures.held)}"
    table.add_row(
        "Jobs",
        Text.assemble(_counts(UNFINISHED, figures.unfinished, absent), "  ", _loud(held, figures.held)),
    )
    doubt = f"unknown submissions {_shown(figures.unknown)}"
    ended = _counts(STATUSES[2:], figures.ended, 0)
    table.add_row("Since start", Text.assemble(ended, "  ", _loud(doubt, figures.unknown)))
    off = figures.endpoints.get("disabled", absent)
    waits = f"waiting {_shown(figures.backlog)}, the oldest {_span(figures.oldest_s)}"
    endpoints = f"  endpoints {_shown(figures.endpoints.get('enabled', absent))}  "
    table.add_row("Webhooks", Text.assemble(waits, endpoints, _loud(f"disabled {_shown(off)}", off)))
    spent = f"charged {seen.usage.charged_usd:.2f} USD  reserved {seen.usage.reserved_usd:.2f} USD"
    table.add_row("This month", Text(spent))
    for budget in seen.usage.budgets:
        used = f"{printable(budget.owner)}: {budget.used_usd:.2f} of {budget.budget_usd:.2f} USD"
        table.add_row("Budget", _loud(used, budget.left_usd <= 0))
    return table


def _accounts(seen: Seen) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("Account", "Slots", "Calls", "Failed", "State"):
        table.add_column(name, justify="right" if name in {"Slots", "Calls", "Failed"} else "left")
    used = [one for one in seen.providers.providers if one.accounts]
    for provider in used:
        made, failed = seen.figures.calls.get(provider.name, (0, 0))
        for number, account in enumerate(provider.accounts):
            shut = sorted(
                operation
                for name, of, operation in seen.figures.shut
                if (name, of) == (provider.name, account.name)
            )
            table.add_row(
                Text(printable(f"{provider.name}/{account.name}")),
                Text(f"{account.slots_in_use} of {account.slots_limit or 'any'}"),
                # Counted by provider: said once.
                Text("" if number else str(made)),
                Text("" if number or not made else f"{failed / made:.0%}"),
                _state(account, shut),
            )
    if not used:
        table.add_row(Text("no provider has an account", style="dim"))
    return table


def _state(account: AccountView, shut: Sequence[str]) -> Text:
    if account.unavailable is not None:
        return Text(printable(account.unavailable.reason), style="bold red")
    if shut:
        return Text(f"withheld: {', '.join(shut)}", style="yellow")
    return Text("simulated" if account.simulated else "ready", style="green")


def _jobs(jobs: Sequence[JobView]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("Job", "Created", "Status", "Provider", "Model", "Cost"):
        # An id that is folded cannot be copied.
        table.add_column(name, no_wrap=name == "Job", justify="right" if name == "Cost" else "left")
    for job in jobs:
        charged, estimated = job.cost.charged_usd, job.cost.estimated_usd
        cost = f"{charged:.2f}" if charged is not None else "" if estimated is None else f"~{estimated:.2f}"
        color = "bold yellow" if job.held is not None else _COLORS.get(job.status, "")
        table.add_row(
            Text(job.id),
            Text(job.created_at[11:19]),
            Text(printable(word_of(job)), style=color),
            Text(printable(job.provider or "")),
            Text(printable(job.model)),
            Text(cost),
        )
    if not jobs:
        table.add_row(Text("no job yet", style="dim"))
    return table


def _counts(statuses: Sequence[str], found: Mapping[str, int | None], absent: int | None) -> str:
    return "  ".join(f"{status} {_shown(found.get(status, absent))}" for status in statuses)


def _shown(count: int | None) -> str:
    return "?" if count is None else str(count)


def _loud(text: str, wrong: object) -> Text:
    return Text(text, style="bold red" if wrong else "")


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
