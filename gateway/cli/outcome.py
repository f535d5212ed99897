"""What the client commands say of a job once it ended, where its film goes, and with which exit code."""

from __future__ import annotations

import uuid
from contextlib import suppress
from pathlib import Path

import click
import httpx
import msgspec

from gateway.cli.client import Answered, GatewayClient, open_http
from gateway.cli.exits import Failed
from gateway.cli.screen import job_progress, open_console, printable, word_of
from gateway.jobs.view import JobView, OutputView
from providers.contract.status import JobStatus

DOWNLOAD_S = 300.0
MOST_BYTES = 4 * 1024**3


async def see_through(client: GatewayClient, job_id: str, *, output: Path | None, as_json: bool) -> None:
    """Follow a job to its end, save its film, and print what came of it.

    Args:
        client: of the gateway that has it.
        job_id: whose.
        output: where to save the film; None prints its URL.
        as_json: print the job's document instead.

    Raises:
        Failed: it did not succeed, or its film could not be saved.
    """
    with job_progress(open_console(stderr=True)) as show:
        answered = await client.follow(job_id, lambda job: show(job_id, job))
    job = answered.job
    if as_json:
        print_document(answered)
    if job.status is not JobStatus.SUCCEEDED:
        raise Failed(why_not(job))
    if output is not None:
        await save(job.outputs, output)
        click.echo(f"saved {output}", err=True)
    elif not as_json:
        for one in job.outputs:
            click.echo(one.url)


def print_document(answered: Answered) -> None:
    """Print a job as JSON to stdout."""
    click.echo(msgspec.json.format(answered.document, indent=2))


def why_not(job: JobView) -> str:
    """Say why a job did not succeed."""
    text = f"{job.id} {word_of(job)}"
    if job.error is not None:
        theirs = f" ({job.provider}: {job.error.provider_code})" if job.error.provider_code else ""
        text += f": {printable(job.error.message)}{printable(theirs)}"
        text += "; the same job may be posted again" if job.error.retryable else ""
    if job.provider_may_bill:
        text += f"; {job.provider} may bill it all the same"
    return text


async def save(outputs: list[OutputView], path: Path) -> None:
    """Download a job's first output; the file appears once it is whole.

    The address is the provider's, and fetched from the user's own machine, by the user's own proxy if there
    is one: so not through the gateway's guard, but with no key, no redirect followed, and nothing unpacked.

    Raises:
        Failed: there is none, it cannot be fetched, or the file cannot be written.
    """
    if not outputs:
        raise Failed("the job has no output any more")
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            async with (
                open_http(outputs[0].url, timeout_s=DOWNLOAD_S) as http,
                http.stream("GET", outputs[0].url, headers={"Accept-Encoding": "identity"}) as response,
            ):
                if response.status_code != 200:
                    raise Failed(f"the output's address answered {response.status_code}; it may have expired")
                async for chunk in response.aiter_raw():
                    file.write(chunk)
                    if file.tell() > MOST_BYTES:
                        raise Failed(
                            f"the output is larger than {MOST_BYTES // 1024**3} GiB; fetch it by its URL"
                        )
        part.replace(path)
    except httpx.HTTPError as error:
        raise Failed(f"the output could not be fetched ({str(error) or type(error).__name__})") from error
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from error
    finally:
        # Whatever stopped it, a half file is of no use to anybody.
        with suppress(OSError):
            part.unlink(missing_ok=True)
