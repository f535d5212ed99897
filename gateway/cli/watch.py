"""`motion-gateway watch`: follows a job of a running gateway to its end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from gateway.cli.client import open_client
from gateway.cli.outcome import see_through


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Save the film there.")
@click.option("--json", "as_json", is_flag=True, help="Print the job as JSON at its end.")
def command(*, job_id: str, output: Path | None, as_json: bool) -> None:
    """Follow a job to its end and print the film's URL; exits 1 unless the job succeeded.

    Stopping to watch does not stop the job.
    """

    async def watch() -> None:
        async with open_client() as client:
            await see_through(client, job_id, output=output, as_json=as_json)

    asyncio.run(watch())
