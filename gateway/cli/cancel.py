"""`motion-gateway cancel`: asks a running gateway for a job's end."""

from __future__ import annotations

import asyncio

import click

from gateway.cli.client import Answered, open_client
from gateway.cli.outcome import print_document
from providers.contract.status import JobStatus


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print the job as JSON.")
def command(*, job_id: str, as_json: bool) -> None:
    """Ask for a job's end. What was submitted already may yet succeed, or be billed."""

    async def cancel() -> Answered:
        async with open_client() as client:
            return await client.cancel(job_id)

    answered = asyncio.run(cancel())
    job = answered.job
    if as_json:
        print_document(answered)
    elif job.status is JobStatus.CANCELLED:
        bill = f"; {job.provider} could not be stopped and may bill it" if job.provider_may_bill else ""
        click.echo(f"{job.id} cancelled{bill}", err=True)
    else:
        click.echo(f"{job.id} {job.provider} was asked to stop; `motion-gateway watch {job.id}`", err=True)
