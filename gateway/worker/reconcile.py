"""Looking for a submission whose outcome is unknown, while its job is held.

Free questions only, and none of their answers proves that nothing runs: a provider may show a run late, or
only once it has ended. So a job that is held is looked for again and again, until a look was answered when no
run of it could be under way any more; then its hold goes on without us, for an operator. A job that asked to
be submitted again (`on_unknown_submission: resubmit`) is looked for once before that.
"""

from __future__ import annotations

from functools import partial
from urllib.parse import quote

from msgspec import Struct
from msgspec.structs import replace

from gateway.crash_points import Point, reach
from gateway.jobs.job import Attempt, in_doubt
from gateway.jobs.schedule import backoff_s, retry_after_s
from gateway.jobs.transitions import resubmits
from gateway.routing.health import Operation
from gateway.service.adoption import Adoptions, Seen
from gateway.service.dispatch import JobTask
from gateway.service.exchanges import exchange_of
from gateway.storage.exchanges import Exchange
from gateway.storage.tasks import Due
from gateway.telemetry import get_logger
from gateway.upstream.accounts import UpstreamAccount
from gateway.upstream.calls import Spoken
from gateway.upstream.classify import Sighted, Trouble
from gateway.worker.tools import Tools, note, nothing, persist
from providers.contract.adapter import Sought
from providers.contract.errors import ErrorCode
from providers.contract.report import Sighting
from providers.contract.spec import ModelSpec

_log = get_logger("gateway.worker")

LOOKS_S = (5.0, 15.0, 30.0, 60.0, 120.0)
"""When to look, seconds after the doubt arose."""
EVERY_S = 300.0
"""How often after that."""
HURRIED_S = 2.0
"""When to look where the job is to be submitted again at once otherwise."""
HURRIED_TRIES = 3
"""How often such a look may fail before the job is submitted again unlooked for."""
LATE_ROWS_S = 600.0
"""How long after the longest run its row may still appear."""
NO_ACCOUNT_S = 60.0
NOT_KEPT = "[not kept: it tells of other runs]"


def first_look_ms(account: UpstreamAccount | None, *, now_ms: int, hurried: bool) -> int | None:
    """Return when to look first; None where the provider cannot be asked.

    Args:
        account: where it was submitted; None when the settings no longer have it, and may have it again.
        now_ms: when the doubt arose.
        hurried: whether the job is submitted again if this one look finds nothing.
    """
    if account is not None and account.adapter.reconcile is None:
        return None
    scale = 1.0 if account is None else account.poll_scale
    return now_ms + round((HURRIED_S if hurried else LOOKS_S[0]) * scale * 1000)


def next_look_s(since_doubt_s: float, *, scale: float) -> float:
    """Return seconds to the next look.

    Args:
        since_doubt_s: how long the doubt lasts.
        scale: `providers.<name>.poll_scale`.
    """
    ahead = (at * scale - since_doubt_s for at in LOOKS_S if at * scale > since_doubt_s)
    return next(ahead, EVERY_S * scale)


class _Search(Struct, frozen=True):
    """One look, and what it is for."""

    task: JobTask
    attempt: Attempt
    account: UpstreamAccount
    sought: Sought


class Reconcile:
    """Carries out reconcile tasks.

    Args:
        tools: shared by all steps.
        adoptions: settles what was seen.
    """

    def __init__(self, tools: Tools, adoptions: Adoptions) -> None:
        self._tools = tools
        self._adoptions = adoptions

    async def __call__(self, task: JobTask) -> None:
        """Look once."""
        tools = self._tools
        attempt = in_doubt(task.attempts)
        if attempt is None or task.job.state.held is None:
            await tools.record.result(task.claim, nothing)
            return
        account = tools.accounts.get(attempt.provider, attempt.account)
        model = None if account is None else account.adapter.spec.model(task.job.request.model)
        if account is None or model is None:
            _log.error("reconcile.no_account", job_id=task.job.id, provider=attempt.provider)
            await self._later(task, NO_ACCOUNT_S)
            return
        sought = await self._sought(task, attempt, account, model)
        # After that only what a callback names is worth a look.
        named = sought is not None and bool(sought.offered)
        over = task.claim.memo.asked_ms >= _over_ms(attempt, account) and not named
        if account.adapter.reconcile is None or sought is None or over:
            _log.warning("reconcile.over", job_id=task.job.id, attempt_id=attempt.id)
            await tools.record.result(task.claim, nothing)
            return
        refused = tools.healths.refused(account.id)
        if refused is not None:
            due = task.claim.later(max(refused.until_ms or 0, tools.clock.now_ms() + round(EVERY_S * 1000)))
            await persist(lambda: tools.leases.unchanged(due, progress=None))
            return
        search = _Search(task, attempt, account, sought)
        async with tools.healths.first_calls.turn(account.id):
            looked = await tools.calls.reconcile(account, model, attempt, sought)
            if isinstance(looked.outcome, Sighted):
                tools.healths.first_calls.heard(account.id)
            elif looked.outcome.error.code is ErrorCode.UNAUTHORIZED:
                await note(tools, account, Operation.POLL, looked.outcome)
        reach(Point.RECONCILE_AFTER_RESPONSE)
        match looked.outcome:
            case Sighted(sightings):
                await self._settle(search, sightings, looked.said)
            case Trouble() as trouble:
                await self._trouble(search, trouble, looked.said)

    async def _sought(
        self, task: JobTask, attempt: Attempt, account: UpstreamAccount, model: ModelSpec
    ) -> Sought | None:
        """Say what to look for; None where it can no longer be told what was sent."""
        try:
            wire = self._tools.calls.build_submit(account, task.job.request, model, attempt)
        except ValueError as error:
            _log.error("reconcile.no_body", job_id=task.job.id, error=str(error))
            return None
        hints = await self._adoptions.hints(attempt)
        return Sought(
            body=wire.json or {},
            sent_ms=attempt.started_at_ms,
            doubted_ms=attempt.doubted_at_ms or self._tools.clock.now_ms(),
            offered=hints.offered,
            known=hints.known,
        )

    async def _settle(
        self, search: _Search, sightings: tuple[Sighting, ...], said: tuple[Spoken, ...]
    ) -> None:
        task = search.task
        seen = Seen(
            attempt_id=search.attempt.id,
            body=search.sought.body,
            sightings=sightings,
            offered=search.sought.offered,
            exchanges_of=partial(_kept, search, said),
            again=partial(self._again, search),
        )
        settled = await persist(lambda: self._adoptions.settle(task.claim, seen))
        reach(Point.RECONCILE_AFTER_COMMIT)
        if settled is None:
            await self._later(task, EVERY_S * search.account.poll_scale)

    async def _trouble(self, search: _Search, trouble: Trouble, said: tuple[Spoken, ...]) -> None:
        tools, task, scale = self._tools, search.task, search.account.poll_scale
        tries, code, now_ms = task.claim.tries + 1, str(trouble.error.code), tools.clock.now_ms()
        _log.warning("reconcile.trouble", job_id=task.job.id, code=code, message=trouble.error.message)
        if not resubmits(task.job, task.attempts):
            own_s = backoff_s(
                tries, first_s=LOOKS_S[0] * scale, longest_s=EVERY_S * scale, spread=tools.spread()
            )
            asked_s = retry_after_s(trouble.retry_after, now_ms=now_ms) or 0.0
            delay_s = max(next_look_s(_doubt_s(search.attempt, now_ms), scale=scale), own_s, asked_s)
        elif tries < HURRIED_TRIES:
            delay_s = HURRIED_S * scale
        else:  # nothing was seen: what the job asked for in that case follows
            await self._settle(search, (), said)
            return
        memo, due_at_ms = task.claim.memo, now_ms + round(delay_s * 1000)
        due = Due(claim=task.claim, due_at_ms=due_at_ms, tries=tries, memo=replace(memo, told=code))
        last = exchange_of(task.job.id, search.attempt.id, said[-1]) if said and code != memo.told else None
        await persist(lambda: tools.record.result(task.claim, nothing, exchange=last, then=due))

    def _again(self, search: _Search, told: str, more: bool) -> Due:  # noqa: FBT001  (called by position, through `Seen.again`)
        now_ms, claim = self._tools.clock.now_ms(), search.task.claim
        scale = search.account.poll_scale
        delay_s = 0.0 if more else next_look_s(_doubt_s(search.attempt, now_ms), scale=scale)
        due_at_ms = now_ms + round(delay_s * 1000)
        return Due(claim=claim, due_at_ms=due_at_ms, memo=replace(claim.memo, told=told, asked_ms=now_ms))

    async def _later(self, task: JobTask, delay_s: float) -> None:
        due_at_ms = self._tools.clock.now_ms() + round(delay_s * 1000)
        due = task.claim.later(due_at_ms)
        await persist(lambda: self._tools.leases.unchanged(due, progress=None))


def _over_ms(attempt: Attempt, account: UpstreamAccount) -> int:
    """When a look that sees nothing is the last: any run has ended by then, and its row has appeared.

    Counted from the doubt, which arises late where nobody worked meanwhile; and a look must be answered after
    that time, or a gateway that was stopped overnight would never have looked.
    """
    begun_ms = max(attempt.started_at_ms, attempt.doubted_at_ms or 0)
    return begun_ms + round((account.adapter.spec.longest_run_s + LATE_ROWS_S) * 1000)


def _doubt_s(attempt: Attempt, now_ms: int) -> float:
    return (now_ms - (attempt.doubted_at_ms or now_ms)) / 1000


def _kept(search: _Search, said: tuple[Spoken, ...], ref: str) -> tuple[Exchange, ...]:
    """Return what the timeline keeps of a look: the questions whose answers told of the ref.

    The timeline is the job owner's, and a provider lists the runs of everybody who shares the account: an
    answer is kept where the question was about the ref alone.
    """
    quoted, kept = quote(ref, safe=""), list[Exchange]()
    rows = [exchange_of(search.task.job.id, search.attempt.id, one) for one in said]
    for row in rows:
        if f"/{quoted}" in row.request or f"={quoted}" in row.request:
            kept.append(row)
        elif f'"{ref}"' in row.response:
            kept.append(replace(row, response=NOT_KEPT))
    return tuple(kept or (replace(row, response=NOT_KEPT) for row in rows[-1:]))
