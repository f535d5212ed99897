"""`motion-gateway submit`: posts a job to a running gateway."""

from __future__ import annotations

import asyncio
import mimetypes
import re
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import click

from gateway.api.semantics import RATIO_NAMES
from gateway.cli.client import NoAnswer, open_client
from gateway.cli.exits import Failed
from gateway.cli.outcome import print_document, see_through
from providers.contract.motion import CharacterType, Ratio

KEY_MAX = 255


def _media_url(_ctx: click.Context, _option: click.Parameter, value: str) -> str:
    if urlsplit(value).scheme.lower() not in {"http", "https"}:
        raise click.BadParameter(
            f"{value!r} is not a URL. Local files are not supported yet: put the file where the provider can"
            " fetch it over https, and give that URL."
        )
    return value


def _visible(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and re.fullmatch(rf"[!-~]{{1,{KEY_MAX}}}", value) is None:
        raise click.BadParameter(f"must be 1 to {KEY_MAX} visible ASCII characters.")
    return value


@click.command()
@click.option("--character", required=True, callback=_media_url, metavar="URL", help="Who performs.")
@click.option(
    "--character-type",
    type=click.Choice([kind.value for kind in CharacterType]),
    help="What the character is given as.  [default: by the URL's ending, else image]",
)
@click.option(
    "--reference", required=True, callback=_media_url, metavar="URL", help="The performance, 3 to 30 s."
)
@click.option(
    "--ratio",
    type=click.Choice([*(ratio.value for ratio in Ratio), *RATIO_NAMES]),
    metavar="W:H",
    help="The film's size, such as 1280:720 or 9:16.  [default: 1280:720]",
)
@click.option(
    "--provider",
    "providers",
    multiple=True,
    metavar="NAME",
    help="Only this provider; given again: the next to be tried.",
)
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
    character: str,
    character_type: str | None,
    reference: str,
    ratio: str | None,
    providers: tuple[str, ...],
    webhook_url: str | None,
    idempotency_key: str | None,
    wait: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Post a job to the gateway at MOTION_GATEWAY_URL with the key MOTION_GATEWAY_KEY.

    Prints the job's id; with --wait the film's URL, and exits 1 unless the job succeeded.
    """
    body: dict[str, object] = {
        "character": {"type": character_type or _guess(character), "url": character},
        "reference": {"type": "video", "url": reference},
    }
    if ratio is not None:
        body["ratio"] = ratio
    if providers:
        body["routing"] = {"providers": list(providers)}
    if webhook_url is not None:
        body["webhook"] = {"url": webhook_url}
    key = idempotency_key or str(uuid.uuid4())
    asyncio.run(_submit(body, key, wait=wait or output is not None, output=output, as_json=as_json))


async def _submit(
    body: dict[str, object], key: str, *, wait: bool, output: Path | None, as_json: bool
) -> None:
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


def _guess(url: str) -> str:
    kind, _ = mimetypes.guess_type(urlsplit(url).path)
    return "video" if kind is not None and kind.startswith("video/") else "image"
