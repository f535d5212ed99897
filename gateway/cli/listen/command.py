"""The command: what it asks for, where it listens, what it says before the first event and after the last."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import uvloop

from gateway.cli.listen.desk import Desk, Heard
from gateway.cli.listen.lines import json_line_of, row_of, summary_of
from gateway.cli.running import claim_port, plain_config, start, stop_signal
from gateway.cli.screen import open_console
from gateway.clock import SystemClock
from gateway.webhooks.verifying import Key, decode_key

HOST: Final = "127.0.0.1"
PORT: Final = 8090
"""Always the same, so that an endpoint can be made before its receiver is started."""
SECRET_VARIABLE: Final = "MOTION_GATEWAY_WEBHOOK_SECRET"  # noqa: S105 - a variable's name
FILE_VARIABLE: Final = f"{SECRET_VARIABLE}_FILE"
OPENING: Final = (
    "MOTION_GATEWAY_WEBHOOKS__ALLOW_HTTP=true",
    f"MOTION_GATEWAY_WEBHOOKS__ALLOWED_NETWORKS={HOST}/32",
)
"""What lets a gateway call here; closed by default."""


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    help="TCP port; 0 takes a free one, and prints it.",
)
@click.option(
    "--secret-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    envvar=FILE_VARIABLE,
    help=f"A file with the secret (whsec_...).  [default: {SECRET_VARIABLE}]",
)
@click.option(
    "--answer",
    type=click.IntRange(200, 599),
    default=204,
    show_default=True,
    metavar="STATUS",
    help="What genuine webhooks are answered with: 500 to see tries, 410 to be left alone.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each.")
def command(*, port: int, secret_file: Path | None, answer: int, as_json: bool) -> None:
    """Receive webhooks on loopback: verify each, know it again, print a line. Ctrl-C ends it.

    For development. Secrets are never taken from the command line, which others on this machine can read;
    several, or public keys (whpk_...), may be given with spaces between. Without any nothing can be verified,
    and everything is shown as it came.
    """
    keys = _keys(secret_file)
    uvloop.run(_listen(keys, port=port, answer=answer, as_json=as_json))


def _keys(file: Path | None) -> list[Key]:
    """Read what verifies; empty when nothing was given."""
    if file is not None:
        text = file.read_text(encoding="utf-8", errors="replace")
    else:
        text = os.environ.get(SECRET_VARIABLE, "")
    words = text.split()
    if not words and (text or file is not None):
        raise click.UsageError("the secret is empty")
    try:
        return [decode_key(word) for word in words]
    except ValueError as error:
        raise click.UsageError(f"the secret cannot be used: {error}") from None


class _Printer:
    """Writes to stdout, until nobody reads there any more."""

    def __init__(self, stopped: asyncio.Event, *, as_json: bool) -> None:
        self._stopped, self._as_json = stopped, as_json
        self._console = open_console()
        self.broken: BrokenPipeError | None = None

    def heard(self, heard: Heard) -> None:
        if self._as_json:
            self._write(json_line_of(heard))
            return
        with self._console.capture() as captured:
            self._console.print(row_of(heard, self._console.width))
        self._write(captured.get().rstrip())

    def _write(self, line: str) -> None:
        try:
            click.echo(line)
        except BrokenPipeError as error:  # in a request's own task, where it would end as a 500
            self.broken = error
            self._stopped.set()


async def _listen(keys: Sequence[Key], *, port: int, answer: int, as_json: bool) -> None:
    listener = claim_port(HOST, port)
    stopped = stop_signal()
    printer = _Printer(stopped, as_json=as_json)
    desk = Desk(keys, SystemClock(), answer=answer, tell=printer.heard)
    server = await start(plain_config(desk.asgi), listener)
    try:
        _announce(server.url, aside=as_json, verifies=bool(keys))
        await server.until(stopped)
    finally:
        await server.stop()
    if printer.broken is not None:
        raise printer.broken
    click.echo(summary_of(desk.counts), err=as_json)


def _announce(url: str, *, aside: bool, verifies: bool) -> None:
    """Say where it listens; on stderr where stdout is for machines."""
    click.echo(f"{click.style('Listening', bold=True)} at {url}/", err=aside)
    own = "`endpoints create` and `endpoints test` go by their own environment"
    click.echo(f"A gateway calls here if it is started with {' '.join(OPENING)}; {own}", err=aside)
    if not verifies:
        click.secho(
            f"Nothing is verified: start it again with {SECRET_VARIABLE}, or --secret-file FILE",
            fg="yellow",
            err=aside,
        )
