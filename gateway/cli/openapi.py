"""`motion-gateway openapi`: the API's description as a file, and whether that file is still true."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.api.openapi import build_openapi
from gateway.cli.exits import Failed


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("openapi/openapi.json"),
    show_default=True,
)
@click.option(
    "--check", is_flag=True, help="Write nothing; exit 1 when the file is not what would be written."
)
def command(output: Path, *, check: bool) -> None:
    """Write the API's description (OpenAPI 3.1)."""
    document = build_openapi()
    try:
        if not check:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_bytes(document)
            click.echo(f"wrote {output}", err=True)
        elif not output.exists():
            raise Failed(
                f"there is no {output.resolve()}; run `motion-gateway openapi` at the repository's root"
            )
        elif output.read_bytes() != document:
            raise Failed(f"{output} is not what the code says; run `motion-gateway openapi` and commit it")
    except OSError as error:
        raise Failed(f"{output}: {error.strerror}") from error
