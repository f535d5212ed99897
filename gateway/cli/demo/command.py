"""The command: what it is given, what it prints."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import msgspec
import uvloop
from rich.console import Console
from rich.text import Text

from gateway.cli.demo.course import Played, play_job
from gateway.cli.demo.inputs import DemoInputs, prepare
from gateway.cli.demo.stage import OPENED, Stage, open_stage
from gateway.cli.demo.timeline import timeline_table
from gateway.cli.exits import Failed
from gateway.cli.screen import busy, job_progress, open_console
from gateway.jobs.view import JobView
from gateway.telemetry import Redactor, configure

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.option(
    "--character", type=_FILE, metavar="FILE", help="Who performs: an image or a video. [default: drawn]"
)
@click.option("--reference", type=_FILE, metavar="FILE", help="The performance, 3 to 30 s. [default: drawn]")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-output"),
    show_default=True,
    metavar="DIR",
    help="Where the films go.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def command(*, character: Path | None, reference: Path | None, output: Path, as_json: bool) -> None:
    """Run one job at each simulated provider, end to end, in this process and on loopback only.

    Needs no account, reads no settings, pays nothing. Exits 1, and says what, when anything is not as it
    should be: a status, a webhook's signature, a film's size or length.
    """
    began = time.monotonic()
    configure("auto", "error", Redactor(), sys.stderr)
    console = Console(quiet=True) if as_json else open_console()
    with TemporaryDirectory(prefix="motion-gateway-demo-") as folder:
        with busy(console, "drawing a character and a performance"):
            inputs = prepare(Path(folder), character, reference)
        played = uvloop.run(_play(Path(folder), inputs, output, console))
    elapsed_s = round(time.monotonic() - began, 1)
    if as_json:
        document = msgspec.json.encode({"jobs": [one.result for one in played], "elapsed_s": elapsed_s})
        click.echo(msgspec.json.format(document, indent=2))
    else:
        _tell(console, played, elapsed_s)


async def _play(folder: Path, inputs: DemoInputs, output: Path, console: Console) -> list[Played]:
    async with open_stage(folder, inputs) as stage:
        _introduce(console, stage, inputs)
        with job_progress(console) as show:

            async def play(provider: str) -> Played:
                width = max(map(len, stage.providers))

                def shown(label: str, job: JobView) -> None:
                    show(label.ljust(width), job)

                return await play_job(stage, provider, inputs, output / f"{provider}.mp4", shown)

            ended = await asyncio.gather(*map(play, stage.providers), return_exceptions=True)
    failures = [one for one in ended if isinstance(one, BaseException)]
    unforeseen = [one for one in failures if not isinstance(one, Failed)]
    if unforeseen:
        raise unforeseen[0]
    if failures:
        raise Failed("the demo failed\n  " + "\n  ".join(str(one) for one in failures))
    return [one for one in ended if isinstance(one, Played)]


def _introduce(console: Console, stage: Stage, inputs: DemoInputs) -> None:
    rows = {
        "gateway": f"{stage.url}, database in a temporary folder",
        "simulator": f"{stage.simulator_url}: {', '.join(stage.providers)}",
        "receiver": f"{stage.receiver_url}: the inputs, and the webhooks",
        "character": f"{inputs.character.name} ({inputs.character_type})",
        "reference": f"{inputs.reference.name} ({inputs.duration_s:.1f} s)",
        "turned on": "for this demo only:",
    }
    console.print(Text("Motion Gateway, end to end on this machine", style="bold"))
    for label, text in rows.items():
        console.print(Text.assemble(("  " + label.ljust(11), "dim"), text), soft_wrap=True)
    for key, value in OPENED.items():
        shown = ", ".join(value) if isinstance(value, tuple) else str(value).lower()
        console.print(Text(f"{'':13}{key} = {shown}"))
    console.print()


def _tell(console: Console, played: list[Played], elapsed_s: float) -> None:
    console.print()
    for one in played:
        console.print(Text(one.provider, style="bold"))
        console.print(timeline_table(one.timeline))
        console.print()
    for one in played:
        webhook, film = one.result.webhook, one.result.output
        tries = "at the first try" if webhook.attempts == 1 else f"at try {webhook.attempts}"
        size = f"{film.width} x {film.height}, {film.duration_s:.2f} s"
        line = f"  {film.path}  {size}; webhook verified {tries}"
        console.print(Text(line), soft_wrap=True)
    console.print(
        Text(f"  {len(played)} jobs succeeded in {elapsed_s} s. The films are simulated.", style="green")
    )
