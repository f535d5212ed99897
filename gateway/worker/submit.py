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

from gateway.clock import Clock
from gateway.crash_points import Point, reach
from gateway.errors import LeaseLost, OutcomeUnknown
from gateway.ids import ATTEMPT
from gateway.jobs import transitions
from gateway.jobs.job import LIVE, Attempt, AttemptState, Job, latest
from gateway.jobs.schedule import backoff_s, retry_after_s
from gateway.jobs.transitions import FollowUp, Step, TaskKind
from gateway.routing import failover, pacing
from gateway.routing.catalogue import Catalogue
from gateway.routing.plan import Candidate, Plan, plan
from gateway.service.dispatch import JobTask
from gateway.service.record import Decide
from gateway.telemetry import get_logger
from gateway.upstream.accounts import UpstreamAccount
from gateway.upstream.calls import Called
from gateway.upstream.classify import Made, NotMade, Submission, Unknown, Withheld
from gateway.worker.reconcile import first_look_ms
from gateway.worker.tools import Tools, exchange, on_attempt, persist
from providers.contract.errors import ErrorCode, UpstreamError

_log = get_logger("gateway.worker")

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0
OPEN = frozenset({AttemptState.SUBMITTING, AttemptState.UNKNOWN})
DIED = "the process ended between the intent to submit and the provider's answer"


class Submit:
    """Carries out submit tasks.

    Args:
        tools: shared by all steps.
        catalogue: who can run a job.
        hold_s: how long a job whose submission is unknown is held, seconds.
    """

    def __init__(self, tools: Tools, catalogue: Catalogue, *, hold_s: float) -> None:
        self._tools = tools
        self._catalogue = catalogue
        self._hold_ms = round(hold_s * 1000)

    async def __call__(self, task: JobTask) -> None:
        """Submit a job to its first candidate."""
        tools, before = self._tools, latest(task.attempts)
        if before is not None and before.state is AttemptState.SUBMITTING:
            await self._close_with(task, self._left_behind(before))
            return
        now_ms = tools.clock.now_ms()
        if now_ms >= task.job.state.deadline_at_ms:
            # After a long stop a task may be claimed before the sweep has looked: nothing is bought any more.
            await self._close_with(
                task, lambda job, found: transitions.deadline_passed(job, found, now_ms=now_ms)
            )
            return
        planned = plan(task.job.request, self._catalogue)
        # Its caller was told that nothing is paid: a restart with a key must not buy it; nor the reverse.
        alike = [one for one in planned.candidates if one.simulated == task.job.simulated]
        if not alike:
            error = UpstreamError(code=ErrorCode.NO_PROVIDER, message=_nobody(task.job, planned))
            await self._close_with(task, lambda job, _: transitions.given_up(job, error=error, now_ms=now_ms))
            return
        await self._submit(task, alike[0])

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
        attempt = self._attempt(task, account)
        # Built before the intent: what cannot be built was certainly not sent.
        wire = tools.calls.build_submit(account, task.job.request, model, attempt)
        reach(Point.SUBMIT_BEFORE_INTENT)
        try:
            begun = await tools.record.intent(task.claim, _begin(attempt, tools.clock))
        except OutcomeUnknown as error:
            await self._call_off(task, attempt, str(error))
            return
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
            before_send=lambda: tools.dispatch.confirm(
                task.claim, unless=lambda job: _unwanted(job, tools.clock)
            ),
        )
        reach(Point.SUBMIT_AFTER_RESPONSE)
        await self._conclude(task, attempt, account, called)

    async def _call_off(self, task: JobTask, attempt: Attempt, reason: str) -> None:
        """Take an intent back that may have been stored, while it is certain that nothing was sent."""
        withheld = self._withheld(attempt.id, reason, tries=len(task.attempts) + 1)

        def decide(job: Job, attempts: tuple[Attempt, ...]) -> Step:
            step = withheld(job, attempts)
            return step if step.events else self._close(job, attempts)

        record = self._tools.record
        try:
            await persist(lambda: record.result(task.claim, decide), keep_s=math.inf)
        except LeaseLost:
            await persist(lambda: record.transition(task.job.id, withheld), keep_s=math.inf)

    def _attempt(self, task: JobTask, account: UpstreamAccount) -> Attempt:
        return Attempt(
            id=self._tools.ids.new(ATTEMPT),
            job_id=task.job.id,
            number=len(task.attempts) + 1,
            provider=account.adapter.spec.name,
            account=account.name,
            options=account.options,
            state=AttemptState.SUBMITTING,
            started_at_ms=self._tools.clock.now_ms(),
        )

    async def _conclude(
        self, task: JobTask, attempt: Attempt, account: UpstreamAccount, called: Called[Submission]
    ) -> None:
        said = exchange(task.job.id, attempt.id, called.spoken)
        decide = self._decide(task, attempt, account, called.outcome)
        ref = called.outcome.ref if isinstance(called.outcome, Made) else None

        def unrecorded() -> None:
            if ref is not None:  # the log is then the only place where what was paid for has a name
                _log.error("submit.unrecorded", job_id=task.job.id, attempt_id=attempt.id, provider_ref=ref)

        # For as long as this process lives: what is not written is known to nobody else.
        keep = partial(persist, keep_s=math.inf, unrecorded=unrecorded)
        try:
            await keep(lambda: self._tools.record.result(task.claim, decide, exchange=said))
        except LeaseLost:
            if isinstance(called.outcome, Unknown):
                raise
            # Another worker took the task and declared the attempt unknown; here is proof that settles it.
            _log.error("submit.late", job_id=task.job.id, attempt_id=attempt.id, provider_ref=ref)
            await keep(lambda: self._tools.record.transition(task.job.id, decide))
        reach(Point.SUBMIT_AFTER_COMMIT)

    def _decide(
        self, task: JobTask, attempt: Attempt, account: UpstreamAccount, outcome: Submission
    ) -> Decide:
        match outcome:
            case Made(ref):
                return self._accepted(attempt.id, account, ref)
            case NotMade():
                return self._refused(attempt.id, outcome, tries=len(task.attempts) + 1)
            case Withheld(reason):
                return self._withheld(attempt.id, reason, tries=len(task.attempts) + 1)
            case Unknown(reason):
                return self._unknown(attempt, reason)

    def _accepted(self, attempt_id: str, account: UpstreamAccount, ref: str) -> Decide:
        now_ms = self._tools.clock.now_ms()
        poll, scale = account.adapter.spec.poll, account.poll_scale
        delay_s = pacing.first_poll_s(poll, scale=scale, spread=self._tools.spread())
        poll_at_ms = now_ms + round(delay_s * 1000)
        return on_attempt(
            attempt_id,
            OPEN,
            lambda job, attempt: transitions.accepted(
                job, attempt, ref=ref, now_ms=now_ms, poll_at_ms=poll_at_ms
            ),
        )

    def _refused(self, attempt_id: str, outcome: NotMade, *, tries: int) -> Decide:
        now_ms = self._tools.clock.now_ms()
        again_at_ms = None
        if failover.decide(outcome.error) is failover.Choice.RETRY:
            asked_s = retry_after_s(outcome.retry_after, now_ms=now_ms)
            own_s = backoff_s(
                tries, first_s=FIRST_RETRY_S, longest_s=LONGEST_RETRY_S, spread=self._tools.spread()
            )
            again_at_ms = now_ms + round(max(own_s, asked_s or 0.0) * 1000)

        def decide(job: Job, attempts: tuple[Attempt, ...]) -> Step:
            change = partial(
                transitions.refused,
                error=outcome.error,
                now_ms=now_ms,
                again_at_ms=again_at_ms,
                others=attempts,
            )
            return on_attempt(attempt_id, OPEN, change)(job, attempts)

        return decide

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


def _nobody(job: Job, planned: Plan) -> str:
    """Say why a job cannot be submitted anywhere."""
    left_out = [f"{one.provider}: {one.reason}" for one in planned.left_out]
    if job.simulated:
        mixed = "it was accepted for the simulator, and is never sent to a real provider"
    else:
        mixed = "it was accepted for a real provider, and is never sent to the simulator"
    refused = [f"{one.provider}: {mixed}" for one in planned.candidates]
    return f"no provider can take it now: {'; '.join([*refused, *left_out])}"


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
    return "the job's deadline has passed" if clock.now_ms() >= state.deadline_at_ms else None
