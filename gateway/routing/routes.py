"""The plan, the choice and failover for one job as it stands: what the worker's steps ask."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from gateway.jobs.job import Attempt, AttemptState, Job, JobRequest
from gateway.routing import choice, failover
from gateway.routing.catalogue import Catalogue
from gateway.routing.choice import Nobody, Wait
from gateway.routing.conditions import Conditions
from gateway.routing.failover import Choice, Outcome, Rules
from gateway.routing.plan import Candidate, LeftOut, Plan, plan, why_nobody
from providers.contract.errors import UpstreamError
from providers.contract.spec import Spec


def no_conditions(_model: str) -> Conditions:
    """Know nothing of any account."""
    return {}


class JobRoutes(Struct, frozen=True, kw_only=True):
    """Everything that is decided by, besides the job."""

    catalogue: Catalogue
    rules: Rules = {}
    """What settings put in the place of the failover table."""
    conditions: Callable[[str], Conditions] = no_conditions
    """What is known of the accounts just now, for a model."""

    def plan(self, request: JobRequest, *, seed: str) -> Plan:
        """Plan a request; `seed` is the job's id."""
        return plan(request, self.catalogue, self.conditions(request.model), seed=seed)

    def choose(
        self, job: Job, attempts: tuple[Attempt, ...], *, below_micro_usd: int | None = None
    ) -> Candidate | Wait | Nobody:
        """Say who is to have a job now, all of whose attempts are over or written off.

        Args:
            job: whose turn it is.
            attempts: its own.
            below_micro_usd: only who is estimated to cost less than that; None is no bound.
        """
        planned = self._for(job)
        if not planned.candidates:
            return Nobody(why_nobody(planned))
        return choice.choose(
            planned,
            attempts,
            job.request.routing,
            rules=self.rules,
            spent_micro_usd=self.spent(job, attempts),
            below_micro_usd=below_micro_usd,
        )

    def _for(self, job: Job) -> Plan:
        """Plan a job as it was accepted, for the simulator or for money, whatever changed since."""
        planned = self.plan(job.request, seed=job.id)
        sides = {True: "the simulator", False: "a real provider"}
        reason = (
            f"it was accepted for {sides[job.simulated]}, and is never sent to {sides[not job.simulated]}"
        )
        mixed = [
            LeftOut(provider=one.provider, account=one.account, code="other_side", reason=reason)
            for one in planned.candidates
            if one.simulated != job.simulated
        ]
        alike = tuple(one for one in planned.candidates if one.simulated == job.simulated)
        return Plan(candidates=alike, left_out=(*mixed, *planned.left_out))

    def after(
        self,
        job: Job,
        attempts: tuple[Attempt, ...],
        over: Attempt,
        *,
        error: UpstreamError,
        outcome: Outcome,
    ) -> Choice:
        """Say what follows the end of an attempt.

        Args:
            job: whose.
            attempts: the job's, with this one as it was before.
            over: the attempt as it now is.
            error: why.
            outcome: what became of it.
        """
        had = (*(one for one in attempts if one.id != over.id), over)
        spent, wish = self.spent(job, had), job.request.routing
        planned = self._for(job)
        others = choice.others(planned, had, wish, rules=self.rules, spent_micro_usd=spent)
        return failover.decide(
            error,
            outcome,
            failover=wish.failover,
            next_candidate=others.ready,
            others_left=others.left,
            rule=self.rules.get((over.provider, error.code)),
            billed_micro_usd=self._billed(job, over),
            max_cost_micro_usd=wish.max_cost_micro_usd,
        )

    def spent(self, job: Job, attempts: tuple[Attempt, ...]) -> int:
        """Add up what a job's attempts cost, or may cost, micro-USD."""
        return sum(self._billed(job, attempt) for attempt in attempts)

    def _billed(self, job: Job, attempt: Attempt) -> int:
        if attempt.state is AttemptState.REFUSED:
            return 0
        spec = self._spec(attempt.provider)
        return failover.billed_micro_usd(attempt, spec, otherwise=job.estimated_micro_usd or 0)

    def _spec(self, provider: str) -> Spec | None:
        specs = (*(offer.spec for offer in self.catalogue.offers), *self.catalogue.idle)
        return next((spec for spec in specs if spec.name == provider), None)
