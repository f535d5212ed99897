"""How a command ends when it does not end well. 0 is done, 2 (wrong usage) is click's own.

Raised anywhere in a command; the text goes to stderr, without a traceback.
"""

from __future__ import annotations

from typing import Final

import click

FAILED: Final = 1
"""A finding, a failed job, something that could not be done."""
REFUSED: Final = 78
"""Configuration or schema refused: EX_CONFIG of sysexits.h, so that a supervisor need not try again."""


class Failed(click.ClickException):
    """It could not be done."""

    exit_code = FAILED

    def show(self, file: object = None) -> None:  # noqa: ARG002  (click's signature; we always use stderr)
        """Print the text."""
        click.echo(f"motion-gateway: {self.message}", err=True)


class Refused(Failed):
    """The configuration or the database's schema is refused."""

    exit_code = REFUSED
