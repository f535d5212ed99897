"""Asking the provider to stop an accepted attempt.

The job is looked at first: one that has succeeded meanwhile is a success, not a loss, and a cancel may
destroy finished output. So the lease is confirmed with the connection in hand, as before a submission: had
another worker seen the run succeed meanwhile, the task would be gone. Where a cancel destroys, the look must
be recent, too, by the clock that nobody sets, since a process may be stopped between the two; and no poll
under way may store a success that the cancel is about to destroy.

Where the provider cannot stop a run, the job ends all the same, and says that it may be billed; the run is
polled on, slowly, until the provider says what it cost.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from gateway.crash_points import Point, reach
from gateway.errors import NotWanted
from gateway.jobs import transitions
from gateway.jobs.job import Attempt, AttemptState, Job, latest
from gateway.jobs.schedule import backoff_s, retry_after_s
from gateway.jobs.transitions import Step, TaskKind
from gateway.routing import pacing
from gateway.routing.health import Operation
from gateway.service.dispatch import JobTask
from gateway.service.exchanges import exchange_of
from gateway.service.record import Decide
from gateway.storage.exchanges import Exchange
from gateway.storage.tasks import Due
from gateway.telemetry import get_logger
from gateway.upstream.accounts import UpstreamAccount
from gateway.upstream.classify import Cancelling, Done, Missing, Seen, Trouble, Withheld
from gateway.upstream.classify import Poll as Polled
from gateway.worker.poll import LOST_AFTER_MS
from gateway.worker.tools import Tools, note, nothing, on_attempt, persist
from providers.contract.errors import ErrorCode, UpstreamError
from providers.contract.spec import CancelSpec, ModelSpec

_log = get_logger("gateway.worker")

MOST_TRIES = 8
FRESH_LOOK_S = 5.0
"""How old a look may be when a cancel that destroys output is sent."""
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0


class Cancel:
    """Carries out cancel tasks."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def __call__(self, task: JobTask) -> None:
        """Look, then ask, then end the job."""
        tools = self._tools
        attempt = latest(task.attempts)
        if attempt is None or attempt.state is not AttemptState.ACCEPTED:
            await tools.record.result(task.claim, nothing)
            return
        account = tools.accounts.get(attempt.provider, attempt.account)
        model = None if account is None else account.adapter.spec.model(task.job.request.model)
        if account is None or model is None:
            _log.error("cancel.no_account", job_id=task.job.id, provider=attempt.provider)
            now_ms = tools.clock.now_ms()
            await self._end(
                task,
                attempt,
                None,
                lambda job, found: transitions.cancelled_upstream(job, found, now_ms=now_ms, may_bill=True),
            )
            return
        async with tools.healths.first_calls.turn(account.id):
            shut = tools.healths.shut(account.id, Operation.CANCEL)
            if shut is not None and tools.clock.now_ms() < task.job.state.deadline_at_ms:
                due_at_ms = max(shut.until_ms or 0, tools.clock.now_ms() + round(FIRST_RETRY_S * 1000))
                await tools.leases.unchanged(task.claim.later(due_at_ms), progress=None)
                return
            began_s = tools.clock.monotonic_s()
            over = await self._already_over(task, attempt, account, model)
        if not over:
            # An answer that lay unread while this process was stopped is as old as its question.
            seen_s = min(tools.clock.monotonic_s(), began_s + account.adapter.spec.poll_timeout_s)
            await self._ask(task, attempt, account, model, seen_s=seen_s)

    async def _already_over(
        self, task: JobTask, attempt: Attempt, account: UpstreamAccount, model: ModelSpec
    ) -> bool:
        """Look first; True when the task is closed by what was seen."""
        called = await self._tools.calls.poll(account, model, attempt)
        said = exchange_of(task.job.id, attempt.id, called.spoken)
        outcome: Polled = called.outcome
        await note(self._tools, account, Operation.POLL, outcome)
        if isinstance(outcome, Trouble):
            if task.claim.tries + 1 >= MOST_TRIES:
                return False  # better cancelled unseen than left to run and bill
            await self._again(task, attempt, account, outcome, said)
            return True
        if not isinstance(outcome, Seen) or outcome.update.status is None or outcome.update.drift:
            return False
        if not outcome.update.status.terminal:
            return False
        update, spec, now_ms = outcome.update, account.adapter.spec, self._tools.clock.now_ms()
        decide = on_attempt(
            attempt.id,
            (AttemptState.ACCEPTED,),
            lambda job, found: transitions.observed(job, found, update=update, spec=spec, now_ms=now_ms),
        )
        await persist(lambda: self._tools.record.result(task.claim, decide, exchange=said))
        return True

    async def _ask(
        self,
        task: JobTask,
        attempt: Attempt,
        account: UpstreamAccount,
        model: ModelSpec,
        *,
        seen_s: float,
    ) -> None:
        cancel = account.adapter.spec.cancel
        destroys = cancel is not None and cancel.destroys_output
        # Or a poll that saw the run succeed just now would store outputs that are gone when they are told.
        instead_of = TaskKind.POLL if destroys else None

        async def last_check() -> None:
            await self._tools.leases.confirm(task.claim, instead_of=instead_of)
            # After the confirmation, which may itself take its time.
            age_s = self._tools.clock.monotonic_s() - seen_s
            if destroys and age_s > FRESH_LOOK_S:
                raise NotWanted(f"the run was looked at {age_s:.1f} s ago, and may have ended since")

        called = await self._tools.calls.cancel(account, model, attempt, before_send=last_check)
        if called is None or cancel is None:
            await self._leave(task, attempt, account, None)
            return
        reach(Point.CANCEL_AFTER_RESPONSE)
        said = exchange_of(task.job.id, attempt.id, called.spoken)
        outcome: Cancelling = called.outcome
        await note(self._tools, account, Operation.CANCEL, outcome)
        match outcome:
            case Done():
                await self._stopped(task, attempt, account, said, for_certain=cancel.stops)
            case Missing():
                await self._missing(task, attempt, account, said, cancel)
            case Withheld(reason):
                # Whoever lost the lease is told so when this is written.
                error = UpstreamError(code=ErrorCode.PROVIDER_UNAVAILABLE, message=reason)
                await self._again(task, attempt, account, Trouble(error=error), said)
            case Trouble():
                await self._again(task, attempt, account, outcome, said)

    async def _missing(
        self, task: JobTask, attempt: Attempt, account: UpstreamAccount, said: Exchange, cancel: CancelSpec
    ) -> None:
        """The provider does not know what it accepted: not yet, or not any more."""
        doubted = task.claim.memo.cancel_doubted
        accepted_ms = attempt.accepted_at_ms or attempt.started_at_ms
        since_ms = self._tools.clock.now_ms() - accepted_ms
        if not doubted and since_ms < LOST_AFTER_MS * min(1.0, account.poll_scale):
            error = UpstreamError(
                code=ErrorCode.PROVIDER_LOST, message="the provider does not know the job yet"
            )
            await self._again(task, attempt, account, Trouble(error=error), said)
            return
        # Where the ref goes with the cancel, an earlier one of ours got through. One that was never sent
        # cannot have: nobody knows then what became of the run.
        await self._stopped(task, attempt, account, said, for_certain=cancel.ref_gone and doubted)

    async def _again(
        self, task: JobTask, attempt: Attempt, account: UpstreamAccount, trouble: Trouble, said: Exchange
    ) -> None:
        """Look and ask again later, so often and no more."""
        tools, tries = self._tools, task.claim.tries + 1
        if tries >= MOST_TRIES:
            await self._leave(task, attempt, account, said)
            return
        now_ms = tools.clock.now_ms()
        own_s = backoff_s(tries, first_s=FIRST_RETRY_S, longest_s=LONGEST_RETRY_S, spread=tools.spread())
        asked_s = retry_after_s(trouble.retry_after, now_ms=now_ms) or 0.0
        memo = task.claim.memo
        due = Due(
            claim=task.claim,
            due_at_ms=now_ms + round(max(own_s, asked_s) * 1000),
            tries=tries,
            memo=replace(memo, cancel_doubted=True) if trouble.doubtful else memo,
        )
        _log.warning("cancel.trouble", job_id=task.job.id, code=trouble.error.code, tries=tries)
        await persist(lambda: tools.record.result(task.claim, nothing, exchange=said, then=due))

    async def _stopped(
        self, task: JobTask, attempt: Attempt, account: UpstreamAccount, said: Exchange, *, for_certain: bool
    ) -> None:
        if not for_certain:
            await self._leave(task, attempt, account, said)
            return
        now_ms = self._tools.clock.now_ms()
        await self._end(
            task,
            attempt,
            said,
            lambda job, found: transitions.cancelled_upstream(job, found, now_ms=now_ms),
        )

    async def _leave(
        self, task: JobTask, attempt: Attempt, account: UpstreamAccount, said: Exchange | None
    ) -> None:
        """End the job and leave the run to itself: it is polled on for what it costs."""
        now_ms = self._tools.clock.now_ms()
        delay_s = pacing.late_poll_s(
            account.adapter.spec.poll,
            since_accepted_s=(now_ms - (attempt.accepted_at_ms or now_ms)) / 1000,
            scale=account.poll_scale,
            spread=self._tools.spread(),
        )
        poll_at_ms = now_ms + round(delay_s * 1000)
        await self._end(
            task,
            attempt,
            said,
            lambda job, found: transitions.runs_on(job, found, now_ms=now_ms, poll_at_ms=poll_at_ms),
        )

    async def _end(
        self,
        task: JobTask,
        attempt: Attempt,
        said: Exchange | None,
        change: Callable[[Job, Attempt], Step],
    ) -> None:
        decide: Decide = on_attempt(attempt.id, (AttemptState.ACCEPTED,), change)
        await persist(lambda: self._tools.record.result(task.claim, decide, exchange=said))
        reach(Point.CANCEL_AFTER_COMMIT)
