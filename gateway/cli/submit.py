"""`motion-gateway submit`: posts a job to a running gateway."""

from __future__ import annotations

import asyncio
import re
import uuid
from pathlib import Path

import click

from gateway.cli.client import NoAnswer, open_client
from gateway.cli.exits import Failed
from gateway.cli.job_body import Body, job_options
from gateway.cli.outcome import print_document, see_through

KEY_MAX = 255


def _visible(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and re.fullmatch(rf"[!-~]{{1,{KEY_MAX}}}", value) is None:
        raise click.BadParameter(f"must be 1 to {KEY_MAX} visible ASCII characters.")
    return value


@click.command()
@job_options
@click.option("--webhook-url", metavar="URL", help="Whom to tell how it ended.")
@click.option(
    "--idempotency-key",
    callback=_visible,
    metavar="KEY",
    help="Makes a repetition safe.  [default: a new one, which is shown]",
)
@click.option("--wait", is_flag=True, help="Follow the job to its end.")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Save the film there; implies --wait."
)
@click.option("--json", "as_json", is_flag=True, help="Print the job as JSON.")
def command(
    *,
    body: Body,
    webhook_url: str | None,
    idempotency_key: str | None,
    wait: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Post a job to the gateway at MOTION_GATEWAY_URL with the key MOTION_GATEWAY_KEY.

    Prints the job's id; with --wait the film's URL, and exits 1 unless the job succeeded.
    """
    if webhook_url is not None:
        body["webhook"] = {"url": webhook_url}
    key = idempotency_key or str(uuid.uuid4())
    asyncio.run(_submit(body, key, wait=wait or output is not None, output=output, as_json=as_json))


async def _submit(body: Body, key: str, *, wait: bool, output: Path | None, as_json: bool) -> None:
    # Told before anything is sent: whoever is cut off needs it in order to ask again.
    click.echo(f"Idempotency-Key: {key}", err=True)
    async with open_client() as client:
        try:
            answered = await client.submit(body, idempotency_key=key)
        except NoAnswer as error:
            hint = f"repeat it with --idempotency-key {key}, which never makes a second job"
            raise Failed(f"{error.message}; {hint}") from error
        job = answered.job
        click.echo(f"{job.id} accepted{' (simulated)' if job.simulated else ''}", err=True)
        if wait:
            await see_through(client, job.id, output=output, as_json=as_json)
        elif as_json:
            print_document(answered)
        else:
            click.echo(job.id)
