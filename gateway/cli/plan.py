"""`motion-gateway plan`: asks a running gateway where a job would go, without posting it."""

from __future__ import annotations

import asyncio

import click
import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

from gateway.cli.client import Planned, open_client
from gateway.cli.exits import Failed
from gateway.cli.job_body import Body, job_options
from gateway.cli.screen import open_console, printable
from gateway.service.plans import CandidateView, LeftOutView, PlanView


@click.command()
@job_options
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON, with each provider's request.")
def command(*, body: Body, as_json: bool) -> None:
    """Show where the gateway at MOTION_GATEWAY_URL would try a job, and why nowhere else.

    Nothing is stored, and nothing is sent to a provider. Exits 1 when nobody can take the job.
    """
    planned = asyncio.run(_ask(body))
    if as_json:
        click.echo(msgspec.json.format(planned.document, indent=2))
    else:
        _print(planned.plan)
    if not planned.plan.candidates:
        raise Failed("nobody can take this job")


async def _ask(body: Body) -> Planned:
    async with open_client() as client:
        return await client.plan(body)


def _print(plan: PlanView) -> None:
    console = open_console()
    told = "" if plan.duration_told else ", the longest there is: its duration was not told"
    limit = "" if plan.max_cost_usd is None else f"; at most ${plan.max_cost_usd:g} in all"
    failover = "with" if plan.failover else "without"
    click.echo(f"{plan.model}, policy {plan.policy}, {failover} failover{limit}; {plan.duration_s:g} s{told}")
    if plan.candidates:
        table = Table("", "Account", "Cost", "Run", "Now", "Request", box=box.SIMPLE_HEAD)
        for number, one in enumerate(plan.candidates, start=1):
            table.add_row(*map(Text, (str(number), *_candidate(one))))
        console.print(table)
    if plan.left_out:
        table = Table("Left out", "Code", "Reason", box=box.SIMPLE_HEAD)
        for left in plan.left_out:
            table.add_row(*map(Text, _left_out(left)), style="dim")
        console.print(table)


def _candidate(one: CandidateView) -> tuple[str, ...]:
    now = "ready"
    if one.unavailable is not None:
        until = "" if one.unavailable.until is None else f" until {one.unavailable.until[:19]}"
        now = f"{one.unavailable.code}{until}: {one.unavailable.reason}"
    return (
        f"{one.provider}/{one.account}{' (simulated)' if one.simulated else ''}",
        f"${one.estimated_usd:.2f}",
        f"{one.expected_run_s:.0f} s, {one.expected_run_by}",
        printable(now),
        f"{one.request.method} {one.request.path}",
    )


def _left_out(one: LeftOutView) -> tuple[str, ...]:
    name = one.provider if one.account is None else f"{one.provider}/{one.account}"
    return name, one.code, printable(one.reason)
