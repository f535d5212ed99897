"""The command itself. A subcommand's module, with all that it needs, is imported when it is asked for."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import version
from typing import Any, Final

import click

from gateway import crash_points
from gateway.cli.exits import Failed, Refused
from gateway.errors import GatewayError, SchemaRefused, SettingsError

COMMANDS: Final = {
    "serve": "Serve the API and carry out jobs.",
    "work": "Carry out jobs beside other processes (PostgreSQL).",
    "demo": "Run one job at each simulated provider, end to end.",
    "check": "Check settings, database, credentials and adapters.",
    "migrate": "Bring the database to this version's schema.",
    "backup": "Copy the database into a file, also while it is served.",
    "restore": "Put a backup in the database's place.",
    "top": "Watch a running gateway at the terminal.",
    "keys": "Create, list, limit and revoke API keys.",
    "endpoints": "Make, list, test and recover webhook endpoints.",
    "plan": "Show where a job would go, and why nowhere else.",
    "usage": "Show what owners' jobs cost, and what is left of budgets.",
    "submit": "Post a job to a running gateway.",
    "watch": "Follow a job to its end.",
    "cancel": "Ask for a job's end.",
    "listen": "Receive webhooks on loopback, verify and print them.",
    "held": "List jobs whose paid submission is in doubt.",
    "resolve": "Settle one: adopt a run, submit again, or fail.",
    "simulate": "Serve simulated providers, with faults.",
    "openapi": "Write the API's description.",
}
"""Name to what it does, as `--help` shows it: a text of its own, since reading it off a command would import
the web framework, the database and the video codecs."""


class Root(click.Group):
    """Finds subcommands by `COMMANDS`, and turns our own errors into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's interface)
        """Return all names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  (click's interface)
        """Import the command of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: object = import_module(f"gateway.cli.{cmd_name}").command
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  (click's interface)
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        try:
            crash_points.arm(os.environ)
            return super().invoke(ctx)
        except (SettingsError, SchemaRefused) as error:
            raise Refused(str(error)) from error
        except GatewayError as error:
            raise Failed(str(error)) from error


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("motion-gateway"), prog_name="motion-gateway", message="%(prog)s %(version)s")
def main() -> None:
    """One API for motion transfer: a character performs what a reference video shows.

    `motion-gateway demo` shows it at work without any account.

    Exit codes: 0 done, 1 a finding or a failed job, 2 wrong usage, 78 configuration or schema refused.
    """
