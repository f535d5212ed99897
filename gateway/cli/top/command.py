"""The command: asks again and again, and draws what it is told."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from datetime import UTC, datetime

import click
from rich.live import Live

from gateway.cli.client import (
    DEFAULT_URL,
    URL_VARIABLE,
    GatewayClient,
    open_client,
)
from gateway.cli.exits import Failed
from gateway.cli.screen import open_console
from gateway.cli.top.figures import read_figures
from gateway.cli.top.picture import Seen, draw

JOBS = 12


@click.command()
@click.option("--once", is_flag=True, help="Print one picture and end, as where the output is no terminal.")
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(0.5, 3600),
    default=2.0,
    show_default=True,
    help="Seconds between two looks.",
)
def command(*, once: bool, every_s: float) -> None:
    """Watch a running gateway: jobs, accounts with slots and breakers, webhooks, spend, the latest jobs.

    Over HTTP, with a key of scope `operator`; MOTION_GATEWAY_URL and MOTION_GATEWAY_KEY name both. What has
    ended is counted by the process that answers, since it started.
    """
    console = open_console()
    if once or not console.is_terminal:
        console.print(draw(asyncio.run(_once())))
        return
    with suppress(KeyboardInterrupt):
        asyncio.run(_live(every_s))


async def _once() -> Seen:
    async with open_client() as client:
        return await _look(client)


async def _live(every_s: float) -> None:
    async with open_client() as client:
        seen = await _look(client)  # what is wrong at the start ends it, and says so below the prompt
        with Live(draw(seen), console=open_console(), screen=True, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(every_s)
                trouble = None
                try:
                    seen = await _look(client)
                except Failed as error:  # it restarts, perhaps, or is asked too often
                    trouble = error.message
                live.update(draw(seen, trouble=trouble), refresh=True)


async def _look(client: GatewayClient) -> Seen:
    """Ask for all that is shown.

    Raises:
        Failed: the gateway refuses, or answers what this version cannot read.
        NobodyHome: nothing listens there.
        NoAnswer: it does not answer.
    """
    metrics, providers, usage, page = await asyncio.gather(
        client.metrics(), client.providers(), client.usage(), client.latest(JOBS)
    )
    try:
        figures = read_figures(metrics)
    except (ValueError, KeyError) as error:
        raise Failed(f"the metrics cannot be read by this version ({error!r})") from error
    return Seen(
        url=os.environ.get(URL_VARIABLE) or DEFAULT_URL,
        at=f"{datetime.now(UTC):%H:%M:%S}Z",
        figures=figures,
        providers=providers,
        usage=usage,
        jobs=page.jobs,
    )
