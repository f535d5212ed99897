"""Asking how an accepted attempt stands.

Only a reply that can be read says anything about the job: a failed call, an HTML page and an unknown word
leave it where it is, until its deadline. A poll that found no change writes nothing but its next due time,
in one batch with others.

A run that outlives its job, since no cancel could stop it, is asked about too, ever more seldom, until the
provider says how it ended and what it cost, or until it cannot be running any more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from msgspec.structs import replace

from gateway.crash_points import Point, reach
from gateway.errors import StorageUnavailable
from gateway.jobs import transitions
from gateway.jobs.job import Attempt, AttemptState, Job, latest
from gateway.jobs.schedule import backoff_s, retry_after_s
from gateway.jobs.transitions import Step
from gateway.routing import pacing
from gateway.routing.failover import Choice, Outcome
from gateway.routing.health import Operation, Shut
from gateway.routing.routes import JobRoutes
from gateway.service.dispatch import JobTask
from gateway.service.exchanges import exchange_of
from gateway.service.record import Decide
from gateway.storage.exchanges import Exchange
from gateway.storage.tasks import Due, Memo
from gateway.telemetry import get_logger
from gateway.upstream.accounts import UpstreamAccount
from gateway.upstream.classify import Missing, Seen, Trouble
from gateway.worker.run_age import age_s, lesson, noted
from gateway.worker.tools import Tools, note, nothing, on_attempt, persist
from providers.contract.normalize import Update
from providers.contract.status import JobStatus

_log = get_logger("gateway.worker")

FailedOver = Callable[[Job, tuple[Attempt, ...], Attempt], Step | None]
"""(job, attempts, the one that failed) -> the step to another candidate; None where there is to be none."""

Said = Callable[[], Exchange]
"""Writes down what was said; most polls find no change, and nobody wants to know."""

LOST_AFTER_POLLS = 3
LOST_AFTER_MS = 30_000
"""Both: right after a create a 404 may be replication lag."""
DOUBTED_POLLS = 3
"""A reply that contradicts the provider's contract must be repeated this often to be believed."""
LAST_LOOKS = 3
"""Calls that may fail at the deadline before the job is given up unasked."""
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0
NO_ACCOUNT_S = 60.0


class Poll:
    """Carries out poll tasks.

    Args:
        tools: shared by all steps.
        routes: what follows a run that failed.
    """

    def __init__(self, tools: Tools, routes: JobRoutes) -> None:
        self._tools = tools
        self._routes = routes

    async def __call__(self, task: JobTask) -> None:
        """Ask once."""
        tools = self._tools
        attempt = latest(task.attempts)
        if attempt is None or attempt.state is not AttemptState.ACCEPTED:
            await tools.record.result(task.claim, nothing)
            return
        account = tools.accounts.get(attempt.provider, attempt.account)
        model = None if account is None else account.adapter.spec.model(task.job.request.model)
        if account is None or model is None:
            if task.job.state.status.terminal:
                await self._give_up(task, attempt, "its account is gone", None)
                return
            _log.error(
                "poll.no_account", job_id=task.job.id, provider=attempt.provider, account=attempt.account
            )
            due = task.claim.later(tools.clock.now_ms() + round(NO_ACCOUNT_S * 1000))
            await persist(lambda: tools.leases.unchanged(due, progress=None))
            return
        async with tools.healths.first_calls.turn(account.id):
            shut = tools.healths.shut(account.id, Operation.POLL)
            if shut is not None and tools.clock.now_ms() < _limit_ms(task, attempt, account):
                await self._wait(task, attempt, account, shut)
                return
            tools.metrics.poll_lag_seconds.observe(max(0, tools.clock.now_ms() - task.claim.due_at_ms) / 1000)
            called = await tools.calls.poll(account, model, attempt)
            reach(Point.POLL_AFTER_RESPONSE)
            await note(tools, account, Operation.POLL, called.outcome)
        said = partial(exchange_of, task.job.id, attempt.id, called.spoken)
        match called.outcome:
            case Seen(update):
                await self._seen(task, attempt, account, update, said)
            case Missing():
                await self._missing(task, attempt, account, said)
            case Trouble() as trouble:
                await self._trouble(task, attempt, account, trouble, said)

    async def _seen(
        self, task: JobTask, attempt: Attempt, account: UpstreamAccount, update: Update, said: Said
    ) -> None:
        tools, now_ms = self._tools, self._tools.clock.now_ms()
        memo = noted(task.claim.memo, slow=update.slow, now_ms=now_ms)
        if update.status is None:
            tools.metrics.unmapped_status(attempt.provider)
            if update.provider_status != attempt.provider_status:
                _log.warning("poll.unmapped_status", job_id=task.job.id, word=update.provider_status)
        late, overdue = task.job.state.status.terminal, now_ms >= _limit_ms(task, attempt, account)
        if late and update.status is JobStatus.CANCELLED and _detaches(account):
            update = replace(update, status=None)  # our own cancel, which says nothing of the run behind it
        doubted = task.claim.memo.doubted + 1
        if update.drift and doubted < DOUBTED_POLLS:
            _log.warning("poll.doubted", job_id=task.job.id, times=doubted)
            if overdue:
                await self._overdue(task, attempt, said)
                return
            due = self._due(task, account, attempt, memo=replace(memo, doubted=doubted))
            await persist(lambda: tools.record.result(task.claim, nothing, exchange=said(), then=due))
            return
        observed = partial(_observed, attempt.id, update, account, now_ms, self._failed_over(now_ms))
        decide = observed()
        step = decide(task.job, task.attempts)
        over = step.attempt is not None and step.attempt.state is not AttemptState.ACCEPTED
        ended = over or (step.job.state.status.terminal and not late)
        if overdue and not ended:
            await self._overdue(task, attempt, said)
            return
        due = self._due(task, account, attempt, memo=memo, update=update)
        decide = observed(progress_told=await self._progress_told(task.job, step))
        step = decide(task.job, task.attempts)
        if not step.events:
            progress = None if step.job.progress == task.job.progress else step.job.progress
            await persist(lambda: tools.leases.unchanged(due, progress=progress))
            return
        if ended and not late and task.claim.memo.asked_ms:
            # The end lies somewhere since the last look, so this is an upper bound.
            tools.metrics.detection_lag_seconds.observe((now_ms - task.claim.memo.asked_ms) / 1000)
        then = None if ended else due
        await persist(lambda: tools.record.result(task.claim, decide, exchange=said(), then=then))
        if ended:
            reach(Point.POLL_AFTER_COMMIT)
        self._learn(task, attempt, account, update, now_ms)

    async def _progress_told(self, job: Job, step: Step) -> bool:
        """Whether there is progress, and an endpoint hears of it; what cannot be read now is left untold."""
        if step.job.state.status.terminal or step.job.progress in {None, job.progress}:
            return False
        try:
            return await self._tools.outbox.progress_heard(job.owner)
        except StorageUnavailable:
            return False

    def _failed_over(self, now_ms: int) -> FailedOver:
        spread = self._tools.spread()

        def failed_over(job: Job, attempts: tuple[Attempt, ...], over: Attempt) -> Step | None:
            wanted = job.state.cancel_requested_at_ms is None and now_ms < job.state.deadline_at_ms
            if over.error is None or job.state.status.terminal or not wanted:
                return None
            then = self._routes.after(job, attempts, over, error=over.error, outcome=Outcome.FAILED)
            if then is Choice.GIVE_UP:
                return None
            pause_s = 0.0
            if then is Choice.RETRY:
                tries = len(attempts)
                pause_s = backoff_s(tries, first_s=FIRST_RETRY_S, longest_s=LONGEST_RETRY_S, spread=spread)
            again_at_ms = now_ms + round(pause_s * 1000)
            return transitions.moved_on(job, over, error=over.error, again_at_ms=again_at_ms, then=then)

        return failed_over

    async def _missing(self, task: JobTask, attempt: Attempt, account: UpstreamAccount, said: Said) -> None:
        tools, now_ms = self._tools, self._tools.clock.now_ms()
        memo = task.claim.memo
        missing, since_ms = memo.missing + 1, memo.missing_since_ms or now_ms
        patience_ms = LOST_AFTER_MS * min(1.0, account.poll_scale)
        if missing >= LOST_AFTER_POLLS and now_ms - since_ms >= patience_ms:
            decide = _lost(attempt.id, account, now_ms)
            await persist(lambda: tools.record.result(task.claim, decide, exchange=said()))
            return
        if now_ms >= _limit_ms(task, attempt, account):
            await self._overdue(task, attempt, said)
            return
        due = self._due(
            task, account, attempt, memo=replace(memo, missing=missing, missing_since_ms=since_ms)
        )
        await persist(lambda: tools.record.result(task.claim, nothing, exchange=said(), then=due))

    async def _trouble(
        self, task: JobTask, attempt: Attempt, account: UpstreamAccount, trouble: Trouble, said: Said
    ) -> None:
        tools, now_ms = self._tools, self._tools.clock.now_ms()
        limit_ms = _limit_ms(task, attempt, account)
        late = now_ms - limit_ms
        if late >= 0 and task.claim.memo.late >= LAST_LOOKS - 1:
            await self._overdue(task, attempt, said)
            return
        tries = task.claim.tries + 1
        floor_s = account.adapter.spec.poll.floor_s * account.poll_scale
        own_s = backoff_s(tries, first_s=floor_s, longest_s=LONGEST_RETRY_S, spread=tools.spread())
        asked_s = min(retry_after_s(trouble.retry_after, now_ms=now_ms) or 0.0, LONGEST_RETRY_S)
        delay_ms = round((floor_s if late >= 0 else max(own_s, asked_s)) * 1000)
        memo = task.claim.memo
        _log.warning(
            "poll.trouble",
            job_id=task.job.id,
            code=trouble.error.code,
            message=trouble.error.message,
            tries=tries,
        )
        due = Due(
            claim=task.claim,
            due_at_ms=_by_limit(limit_ms, now_ms, now_ms + delay_ms),
            tries=tries,
            memo=replace(memo, late=memo.late + 1) if late >= 0 else memo,
        )
        await persist(lambda: tools.record.result(task.claim, nothing, exchange=said(), then=due))

    async def _wait(self, task: JobTask, attempt: Attempt, account: UpstreamAccount, shut: Shut) -> None:
        """Ask when the account may be asked again; not all at that instant."""
        now_ms, tools = self._tools.clock.now_ms(), self._tools
        pause_ms = max(0, (shut.until_ms or now_ms) - now_ms)
        spread_ms = account.adapter.spec.poll.interval_s * account.poll_scale * 1000 * tools.spread()
        due_at_ms = _by_limit(_limit_ms(task, attempt, account), now_ms, now_ms + pause_ms + round(spread_ms))
        await tools.leases.unchanged(task.claim.later(due_at_ms), progress=None)

    def _due(
        self,
        task: JobTask,
        account: UpstreamAccount,
        attempt: Attempt,
        *,
        memo: Memo,
        update: Update | None = None,
    ) -> Due:
        now_ms = self._tools.clock.now_ms()
        poll, scale, spread = account.adapter.spec.poll, account.poll_scale, self._tools.spread()
        if task.job.state.status.terminal:
            since_s = (now_ms - (attempt.accepted_at_ms or now_ms)) / 1000
            delay_s = pacing.late_poll_s(poll, since_accepted_s=since_s, scale=scale, spread=spread)
        else:
            delay_s = pacing.next_poll_s(
                poll,
                age_s=age_s(attempt, memo, now_ms=now_ms),
                slow=update is not None and update.slow,
                scale=scale,
                spread=spread,
                retry_after_s=None,
                pace=self._pace(task, account),
                progress=None if update is None else _risen(task.job, update),
            )
        limit_ms = _limit_ms(task, attempt, account)
        due_at_ms = _by_limit(limit_ms, now_ms, now_ms + round(delay_s * 1000))
        return Due(claim=task.claim, due_at_ms=due_at_ms, memo=memo)

    def _pace(self, task: JobTask, account: UpstreamAccount) -> pacing.Pace | None:
        """Return what was learned of such runs."""
        name, model = account.adapter.spec.name, task.job.request.model
        return self._tools.run_times.pace(name, model, simulated=account.simulated)

    def _learn(
        self, task: JobTask, attempt: Attempt, account: UpstreamAccount, update: Update, now_ms: int
    ) -> None:
        """Have a success, once it is stored, teach how long such runs last."""
        if update.status is not JobStatus.SUCCEEDED or task.job.state.status.terminal:
            return
        run = lesson(
            account,
            task.job.request.model,
            attempt,
            task.claim.memo,
            due_at_ms=task.claim.due_at_ms,
            now_ms=now_ms,
            pace=self._pace(task, account),
        )
        if run is not None:
            self._tools.run_times.ended(run)

    async def _overdue(self, task: JobTask, attempt: Attempt, said: Said) -> None:
        """End a job whose last look, at its deadline, found it unfinished; or give up a run beyond that."""
        if task.job.state.status.terminal:
            await self._give_up(task, attempt, "the provider did not say how it ended", said)
            return
        now_ms = self._tools.clock.now_ms()
        await persist(
            lambda: self._tools.record.result(
                task.claim,
                lambda job, attempts: transitions.deadline_passed(job, attempts, now_ms=now_ms),
                exchange=said(),
            )
        )

    async def _give_up(self, task: JobTask, attempt: Attempt, reason: str, said: Said | None) -> None:
        """Ask no more about a run whose job has ended."""
        now_ms = self._tools.clock.now_ms()
        decide = on_attempt(
            attempt.id,
            (AttemptState.ACCEPTED,),
            lambda job, found: transitions.unheard(job, found, now_ms=now_ms, reason=reason),
        )
        told = None if said is None else said()
        await persist(lambda: self._tools.record.result(task.claim, decide, exchange=told))


def _limit_ms(task: JobTask, attempt: Attempt, account: UpstreamAccount) -> int:
    """When the provider has the last word: at the job's deadline; after the job, once no run lasts longer."""
    if not task.job.state.status.terminal:
        return task.job.state.deadline_at_ms
    accepted_at_ms = attempt.accepted_at_ms or attempt.started_at_ms
    return accepted_at_ms + account.adapter.spec.longest_run_s * 1000


def _by_limit(limit_ms: int, now_ms: int, due_at_ms: int) -> int:
    """Bring a poll forward to the limit, where the provider has the last word."""
    return limit_ms if now_ms < limit_ms < due_at_ms else due_at_ms


def _risen(job: Job, update: Update) -> float | None:
    """Return the progress if it is more than what was last seen: one that stands still tells no speed."""
    progress = update.progress
    return None if progress is None or progress <= (job.progress or 0.0) else progress


def _detaches(account: UpstreamAccount) -> bool:
    """Whether the provider's cancel closes its record and leaves the run to itself."""
    cancel = account.adapter.spec.cancel
    return cancel is not None and not cancel.stops


def _observed(
    attempt_id: str,
    update: Update,
    account: UpstreamAccount,
    now_ms: int,
    failed_over: FailedOver,
    *,
    progress_told: bool = False,
) -> Decide:
    spec = account.adapter.spec

    def decide(job: Job, attempts: tuple[Attempt, ...]) -> Step:
        found = next((one for one in attempts if one.id == attempt_id), None)
        if found is None or found.state is not AttemptState.ACCEPTED:
            return Step(job=job)
        step = transitions.observed(
            job, found, update=update, spec=spec, now_ms=now_ms, progress_told=progress_told
        )
        over = step.attempt
        failed = over is not None and over.state is AttemptState.FAILED
        elsewhere = failed_over(job, attempts, over) if over is not None and failed else None
        return step if elsewhere is None else elsewhere

    return decide


def _lost(attempt_id: str, account: UpstreamAccount, now_ms: int) -> Decide:
    cancel = account.adapter.spec.cancel

    def change(job: Job, attempt: Attempt) -> Step:
        if cancel is not None and cancel.ref_gone and job.state.cancel_requested_at_ms is not None:
            return transitions.cancelled_upstream(job, attempt, now_ms=now_ms)
        return transitions.lost(job, attempt, now_ms=now_ms)

    return on_attempt(attempt_id, (AttemptState.ACCEPTED,), change)
