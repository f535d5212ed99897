"""`motion-gateway resolve`: an operator's word on a held job."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.configured import settings_options
from gateway.cli.exits import Failed
from gateway.cli.held import reason_of
from gateway.cli.holding import with_holds
from gateway.jobs.view import JobView, instant
from gateway.service.holds import Action, AdoptRun, GiveUp, HeldJob, Holds, SubmitAgain

COMMAND_LINE = "command line"


@click.command()
@click.argument("job_id", metavar="JOB")
@click.argument("action", type=click.Choice(["adopt", "resubmit", "fail"]))
@click.argument("ref", required=False, metavar="[REF]")
@click.option("--yes", is_flag=True, help="Do not ask before something is paid for that may be paid already.")
@settings_options
def command(
    *, job_id: str, action: str, ref: str | None, yes: bool, database: str | None, config: Path | None
) -> None:
    """Settle a held job; also while a gateway serves the database.

    \b
    adopt REF   go on with this run at the provider, which is asked for it first
    resubmit    submit again; if the first submission was made after all, both are billed
    fail        give the job up; what was submitted may be billed all the same
    """  # noqa: D301  (click's own mark)
    wanted, about = _action(action, ref), None
    if isinstance(wanted, SubmitAgain) and not yes:
        shown = with_holds(database, config, lambda holds: holds.find(job_id))
        _confirm(shown)
        about = shown.attempt.id  # while it was asked about, somebody else may have had it submitted again

    async def resolve(holds: Holds) -> JobView:
        return await holds.resolve(job_id, wanted, by=COMMAND_LINE, attempt_id=about)

    click.echo(_said(with_holds(database, config, resolve), wanted), err=True)


def _action(word: str, ref: str | None) -> Action:
    if (word == "adopt") != (ref is not None):
        wrong = "needs the REF of the run" if ref is None else "takes no REF"
        raise click.UsageError(f"{word} {wrong}.")
    if ref is not None:
        return AdoptRun(ref)
    return SubmitAgain() if word == "resubmit" else GiveUp()


def _confirm(one: HeldJob) -> None:
    cost = one.job.estimated_micro_usd
    price = "" if cost is None else f" (estimated at ${cost / 1_000_000:.2f})"
    where = f"{one.attempt.provider}/{one.attempt.account}"
    click.echo(f"{one.job.id} was sent to {where} at {instant(one.attempt.started_at_ms)}, outcome unknown:")
    click.echo(f"  {reason_of(one)}")
    if not click.confirm(f"Submit it again? It may then be paid twice{price}."):
        raise Failed("nothing was changed")


def _said(job: JobView, action: Action) -> str:
    match action:
        case AdoptRun(ref):
            return f"{job.id} goes on with {ref}"
        case SubmitAgain():
            return f"{job.id} is submitted again"
        case GiveUp():
            return f"{job.id} failed; {job.provider} may bill it"
