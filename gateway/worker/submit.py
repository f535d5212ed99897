"""The paid call.

    tx A   attempt(submitting)         the intent, durable before anything is sent
           send, once
    tx B   accepted | refused | unknown

Death between A and B leaves the attempt `submitting`. Whoever claims the task next cannot know whether the
provider has the job, so it becomes `unknown` and the job is held; it is never sent again. Nothing in this
file repeats a submission, and `_begin` refuses while any earlier attempt may be alive, unless it was written
off: the job itself (`on_unknown_submission: resubmit`) or an operator accepted the risk of paying twice.
"""

from __future__ import annotations

import math
from functools import partial

from msgspec.structs import replace
from sqlalchemy import Connection

from gateway.clock import Clock
from gateway.crash_points import Point, reach
from gateway.errors import BudgetSpent, LeaseLost, OutcomeUnknown
from gateway.ids import ATTEMPT
from gateway.jobs import transitions
from gateway.jobs.job import LIVE, Attempt, AttemptState, Job, latest
from gateway.jobs.schedule import backoff_s, retry_after_s
from gateway.jobs.transitions import FollowUp, Step, TaskKind
from gateway.routing import pacing
from gateway.routing.choice import Nobody, Wait
from gateway.routing.failover import Choice, Outcome
from gateway.routing.health import Operation
from gateway.routing.plan import Candidate
from gateway.routing.queue import accounts_of
from gateway.routing.routes import JobRoutes
from gateway.service.dispatch import JobTask
from gateway.service.exchanges import exchange_of
from gateway.service.health import Write
from gateway.service.record import Decide
from gateway.storage.tasks import Due
from gateway.telemetry import get_logger
from gateway.upstream.accounts import UpstreamAccount
from gateway.upstream.calls import Called
from gateway.upstream.classify import Made, NotMade, Submission, Unknown, Withheld
from gateway.upstream.standing import standing
from gateway.worker.reconcile import first_look_ms
from gateway.worker.tools import Tools, nothing, on_attempt, persist
from providers.contract.errors import ErrorCode, UpstreamError

_log = get_logger("gateway.worker")

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0
ELSEWHERE_MS = 30_000
"""How long a job waits for a worker whose settings have its account."""
PARKED_S = 1.0
"""How long a job waits that nobody can take just now, where nobody knows when somebody can."""
OPEN = frozenset({AttemptState.SUBMITTING, AttemptState.UNKNOWN})
DIED = "the process ended between the intent to submit and the provider's answer"


class Submit:
    """Carries out submit tasks.

    Args:
        tools: shared by all steps.
        routes: who is to have a job, and what follows a refusal.
        hold_s: how long a job whose submission is unknown is held, seconds.
    """

    def __init__(self, tools: Tools, routes: JobRoutes, *, hold_s: float) -> None:
        self._tools = tools
        self._routes = routes
        self._hold_ms = round(hold_s * 1000)

    async def __call__(self, task: JobTask) -> None:
        """Submit a job to the candidate whose turn it is."""
        tools, before = self._tools, latest(task.attempts)
        if before is not None and before.state is AttemptState.SUBMITTING:
            await self._close_with(task, self._left_behind(before))
            return
        if any(_alive(attempt) for attempt in task.attempts):
            # A late answer settled it for a worker that had lost this task: it is followed by its polls.
            await self._close_with(task, self._close)
            return
        now_ms = tools.clock.now_ms()
        if task.job.state.restored_at_ms is not None:
            # Its run was refused or failed, and it may have gone on elsewhere since the backup was made.
            await self._close_with(task, partial(transitions.restored, now_ms=now_ms))
            return
        if now_ms >= task.job.state.deadline_at_ms:
            # After a long stop a task may be claimed before the sweep has looked: nothing is bought any more.
            await self._close_with(
                task, lambda job, found: transitions.deadline_passed(job, found, now_ms=now_ms)
            )
            return
        await self._follow(task, self._routes.choose(task.job, task.attempts))

    async def _follow(
        self, task: JobTask, chosen: Candidate | Wait | Nobody, spent: BudgetSpent | None = None
    ) -> None:
        """Do what was chosen; `spent` says why a dearer candidate was not."""
        match chosen:
            case Candidate() as candidate:
                try:
                    async with self._tools.healths.first_calls.turn(candidate.place):
                        await self._submit(task, candidate)
                except BudgetSpent as error:
                    # The job was let in by the estimate of one that costs less, and is only busy perhaps.
                    below = candidate.estimated_micro_usd
                    cheaper = self._routes.choose(task.job, task.attempts, below_micro_usd=below)
                    await self._follow(task, cheaper, error)
            case Wait() as wait:
                await self._park(task, wait)
            case Nobody() if spent is not None:
                await self._give_up(task, ErrorCode.INSUFFICIENT_FUNDS, str(spent))
            case Nobody(reason) if self._may_run_elsewhere(task.job):
                until_ms = self._tools.clock.now_ms() + ELSEWHERE_MS
                await self._park(task, Wait(reason=reason, until_ms=until_ms))
            case Nobody(reason):
                await self._give_up(task, ErrorCode.NO_PROVIDER, f"no provider can take it now: {reason}")

    def _may_run_elsewhere(self, job: Job) -> bool:
        """Whether it may go to an account that another worker's settings have and these have not."""
        return any(self._tools.accounts.get(*place) is None for place in accounts_of(job.room))

    async def _park(self, task: JobTask, wait: Wait) -> None:
        """Leave a job that nobody can take just now for later."""
        now_ms = self._tools.clock.now_ms()
        due_at_ms = max(now_ms + 100, min(self._next_chance_ms(wait.until_ms), task.job.state.deadline_at_ms))
        _log.info("submit.parked", job_id=task.job.id, reason=wait.reason, until_ms=due_at_ms)
        due = task.claim.later(due_at_ms)
        await persist(lambda: self._tools.record.result(task.claim, nothing, then=due))

    async def _close_with(self, task: JobTask, decide: Decide) -> None:
        await persist(lambda: self._tools.record.result(task.claim, decide))

    async def _submit(self, task: JobTask, candidate: Candidate) -> None:
        tools = self._tools
        account = tools.accounts.get(candidate.provider, candidate.account)
        model = None if account is None else account.adapter.spec.model(task.job.request.model)
        if account is None or model is None:
            raise LookupError(
                f"the catalogue offers {candidate.provider}/{candidate.account}, which is not there"
            )
        attempt = self._attempt(task, account, candidate)
        # Built before the intent: what cannot be built was certainly not sent.
        wire = tools.calls.build_submit(account, task.job.request, model, attempt)
        reach(Point.SUBMIT_BEFORE_INTENT)
        try:
            begun = await tools.record.intent(
                task.claim,
                _begin(attempt, tools.clock),
                admit=lambda connection: self._admit(connection, task, account),
            )
        except OutcomeUnknown as error:
            await self._call_off(task, attempt, account, str(error))
            return
        if begun is None:
            return  # another took the last slot; this one waits for its turn again
        if not begun.events:  # not wanted any more, or another attempt may be alive
            await self._close_with(task, self._close)
            return
        reach(Point.SUBMIT_AFTER_INTENT)
        # A process that was stopped since, for however long, finds out before the first byte is written; and
        # nothing is bought any more for whoever gave up, or was given up on, while the connection was made.
        called = await tools.calls.submit(
            account,
            wire,
            attempt,
            before_send=lambda: tools.leases.confirm(
                task.claim, unless=lambda job: _unwanted(job, tools.clock)
            ),
        )
        reach(Point.SUBMIT_AFTER_RESPONSE)
        await self._conclude(task, attempt, account, called)

    def _admit(self, connection: Connection, task: JobTask, account: UpstreamAccount) -> Due | None:
        shut = self._tools.healths.admit(connection, account.id)
        if shut is None:
            return None
        # Without an instant it is next when there is an opening: until then nobody claims it.
        return task.claim.later(shut.until_ms or task.claim.due_at_ms)

    def _next_chance_ms(self, until_ms: int | None) -> int:
        """When to look again for who can take a job: once what is known has passed, else soon."""
        return until_ms or self._tools.clock.now_ms() + round(PARKED_S * 1000)

    async def _give_up(self, task: JobTask, code: ErrorCode, message: str) -> None:
        error, now_ms = UpstreamError(code=code, message=message), self._tools.clock.now_ms()

        def decide(job: Job, attempts: tuple[Attempt, ...]) -> Step:
            if any(_alive(attempt) for attempt in attempts):
                return self._close(job, attempts)  # something was accepted meanwhile, and is being paid for
            return transitions.given_up(job, error=error, now_ms=now_ms)

        await self._close_with(task, decide)

    async def _call_off(self, task: JobTask, attempt: Attempt, account: UpstreamAccount, reason: str) -> None:
        """Take an intent back that may have been stored, while it is certain that nothing was sent."""
        withheld = self._withheld(attempt.id, reason, tries=len(task.attempts) + 1)

        def decide(job: Job, attempts: tuple[Attempt, ...]) -> Step:
            step = withheld(job, attempts)
            return step if step.events else self._close(job, attempts)

        record = self._tools.record
        also = self._tools.healths.noted(account.id, Operation.SUBMIT, None)
        try:
            await persist(lambda: record.result(task.claim, decide, also=also), keep_s=math.inf)
        except LeaseLost:
            await persist(lambda: record.transition(task.job.id, withheld, also=also), keep_s=math.inf)

    def _attempt(self, task: JobTask, account: UpstreamAccount, candidate: Candidate) -> Attempt:
        return Attempt(
            id=self._tools.ids.new(ATTEMPT),
            job_id=task.job.id,
            number=len(task.attempts) + 1,
            provider=account.adapter.spec.name,
            account=account.name,
            options=account.options,
            state=AttemptState.SUBMITTING,
            started_at_ms=self._tools.clock.now_ms(),
            estimated_micro_usd=candidate.estimated_micro_usd,
        )

    async def _conclude(
        self, task: JobTask, attempt: Attempt, account: UpstreamAccount, called: Called[Submission]
    ) -> None:
        said = exchange_of(task.job.id, attempt.id, called.spoken)
        decide = self._decide(task, attempt, account, called)
        also = self._noted(account, called.outcome)
        ref = called.outcome.ref if isinstance(called.outcome, Made) else None

        def unrecorded() -> None:
            if ref is not None:  # the log is then the only place where what was paid for has a name
                _log.error("submit.unrecorded", job_id=task.job.id, attempt_id=attempt.id, provider_ref=ref)

        # For as long as this process lives: what is not written is known to nobody else.
        keep = partial(persist, keep_s=math.inf, unrecorded=unrecorded)
        try:
            await keep(lambda: self._tools.record.result(task.claim, decide, exchange=said, also=also))
        except LeaseLost:
            if isinstance(called.outcome, Unknown):
                raise
            # Another worker took the task and declared the attempt unknown; here is proof that settles it.
            _log.error("submit.late", job_id=task.job.id, attempt_id=attempt.id, provider_ref=ref)
            # What it says of the account holds for everybody, whoever has the task.
            await keep(lambda: self._tools.record.transition(task.job.id, decide, also=also))
        reach(Point.SUBMIT_AFTER_COMMIT)

    def _noted(self, account: UpstreamAccount, outcome: Submission) -> Write | None:
        asked = outcome.retry_after if isinstance(outcome, NotMade) else None
        return self._tools.healths.noted(
            account.id,
            Operation.SUBMIT,
            standing(outcome),
            retry_after_s=retry_after_s(asked, now_ms=self._tools.clock.now_ms()),
        )

    def _decide(
        self, task: JobTask, attempt: Attempt, account: UpstreamAccount, called: Called[Submission]
    ) -> Decide:
        match called.outcome:
            case Made(ref):
                return self._accepted(attempt.id, account, ref, model=task.job.request.model)
            case NotMade() as not_made:
                answered = called.spoken.status is not None
                return self._refused(
                    attempt, not_made, outcome=Outcome.REFUSED if answered else Outcome.NOT_MADE
                )
            case Withheld(reason):
                return self._withheld(attempt.id, reason, tries=len(task.attempts) + 1)
            case Unknown(reason):
                return self._unknown(attempt, reason)

    def _accepted(self, attempt_id: str, account: UpstreamAccount, ref: str, *, model: str) -> Decide:
        now_ms = self._tools.clock.now_ms()
        poll, scale = account.adapter.spec.poll, account.poll_scale
        pace = self._tools.run_times.pace(account.adapter.spec.name, model, simulated=account.simulated)
        delay_s = pacing.first_poll_s(poll, scale=scale, spread=self._tools.spread(), pace=pace)
        poll_at_ms = now_ms + round(delay_s * 1000)
        return on_attempt(
            attempt_id,
            OPEN,
            lambda job, attempt: transitions.accepted(
                job, attempt, ref=ref, now_ms=now_ms, poll_at_ms=poll_at_ms
            ),
        )

    def _refused(self, refused: Attempt, not_made: NotMade, *, outcome: Outcome) -> Decide:
        now_ms, spread = self._tools.clock.now_ms(), self._tools.spread()
        error = not_made.error

        def decide(job: Job, attempts: tuple[Attempt, ...]) -> Step:
            found = next((one for one in attempts if one.id == refused.id and one.state in OPEN), None)
            if found is None:
                return Step(job=job)
            over = replace(found, state=AttemptState.REFUSED, error=error)
            then = self._routes.after(job, attempts, over, error=error, outcome=outcome)
            again_at_ms = None if then is Choice.GIVE_UP else now_ms
            if then is Choice.RETRY:
                had = (*(one for one in attempts if one.id != over.id), over)
                again_at_ms = now_ms + round(self._pause_s(job, had, over, not_made, spread) * 1000)
            return transitions.refused(
                job, found, error=error, now_ms=now_ms, again_at_ms=again_at_ms, others=attempts, then=then
            )

        return decide

    def _pause_s(
        self, job: Job, had: tuple[Attempt, ...], over: Attempt, not_made: NotMade, spread: float
    ) -> float:
        """Say how long to wait for whoever's turn it is; what an account asks for holds for it alone."""
        here = [one for one in had if (one.provider, one.account) == (over.provider, over.account)]
        own_s = backoff_s(len(here), first_s=FIRST_RETRY_S, longest_s=LONGEST_RETRY_S, spread=spread)
        chosen = self._routes.choose(job, had)
        if isinstance(chosen, Candidate) and chosen.place != (over.provider, over.account):
            return own_s
        now_ms = self._tools.clock.now_ms()
        return max(own_s, retry_after_s(not_made.retry_after, now_ms=now_ms) or 0.0)

    def _withheld(self, attempt_id: str, reason: str, *, tries: int) -> Decide:
        now_ms = self._tools.clock.now_ms()
        own_s = backoff_s(
            tries, first_s=FIRST_RETRY_S, longest_s=LONGEST_RETRY_S, spread=self._tools.spread()
        )
        again_at_ms = now_ms + round(own_s * 1000)

        def decide(job: Job, attempts: tuple[Attempt, ...]) -> Step:
            change = partial(
                transitions.withheld, reason=reason, now_ms=now_ms, again_at_ms=again_at_ms, others=attempts
            )
            return on_attempt(attempt_id, OPEN, change)(job, attempts)

        return decide

    def _left_behind(self, attempt: Attempt) -> Decide:
        """Call an attempt unknown that was found submitting, unless it was settled since."""
        unknown = self._unknown(attempt, DIED)

        def decide(job: Job, attempts: tuple[Attempt, ...]) -> Step:
            step = unknown(job, attempts)
            return step if step.events else self._close(job, attempts)

        return decide

    def _close(self, job: Job, attempts: tuple[Attempt, ...]) -> Step:
        """Change nothing; but a submission that was withheld or refused late still waits for this task."""
        if job.state.status.terminal or any(_alive(attempt) for attempt in attempts):
            return Step(job=job)
        now_ms = self._tools.clock.now_ms()
        return Step(job=job, follow_ups=(FollowUp(TaskKind.SUBMIT, now_ms),))

    def _unknown(self, doubted: Attempt, reason: str) -> Decide:
        now_ms = self._tools.clock.now_ms()
        account = self._tools.accounts.get(doubted.provider, doubted.account)

        def decide(job: Job, attempts: tuple[Attempt, ...]) -> Step:
            found = next((one for one in attempts if one.id == doubted.id), None)
            if found is None or found.state is not AttemptState.SUBMITTING:
                return Step(job=job)
            return transitions.unknown(
                job,
                found,
                reason=reason,
                now_ms=now_ms,
                hold_until_ms=now_ms + self._hold_ms,
                look_at_ms=first_look_ms(
                    account, now_ms=now_ms, hurried=transitions.resubmits(job, attempts)
                ),
                resubmitted=any(attempt.written_off for attempt in attempts),
            )

        return decide


def _alive(attempt: Attempt) -> bool:
    """Whether something may run that this attempt made, and nobody accepted the risk of another."""
    return attempt.state in LIVE and not attempt.written_off


def _begin(attempt: Attempt, clock: Clock) -> Decide:
    """Allow the submission only if it is wanted and nothing else may be running, with the intent."""

    def decide(job: Job, attempts: tuple[Attempt, ...]) -> Step:
        if _unwanted(job, clock) is not None or any(_alive(earlier) for earlier in attempts):
            return Step(job=job)
        return transitions.begin(job, attempt)

    return decide


def _unwanted(job: Job, clock: Clock) -> str | None:
    """Say why a job is not to be submitted any more; None when it is."""
    state = job.state
    if state.status.terminal or state.cancel_requested_at_ms is not None:
        return "the job is not wanted any more"
    if state.restored_at_ms is not None:
        return "a backup brought the job back, and it may have been submitted since"
    return "the job's deadline has passed" if clock.now_ms() >= state.deadline_at_ms else None
