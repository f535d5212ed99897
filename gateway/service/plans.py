"""Plans: made for a job when it is accepted, or for whoever asks where one would go."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from gateway.jobs.job import JobRequest, Policy
from gateway.jobs.view import instant
from gateway.routing.conditions import Condition
from gateway.routing.plan import Candidate, LeftOut, Plan, duration_s
from gateway.routing.routes import JobRoutes
from gateway.upstream.accounts import Accounts
from providers.contract.adapter import CallContext
from providers.contract.mapping import Unconveyable

NO_ATTEMPT = "att_" + "0" * 32
"""In the place of an attempt's id, which no plan has; it goes into headers, and those are not shown."""


class ProviderRequest(Struct, frozen=True, kw_only=True):
    """The paid call as it would be made; without host and headers, and so without any credential."""

    method: str
    path: str
    body: dict[str, Any] | None


class UnavailableView(Struct, frozen=True, kw_only=True):
    """Why an account can take no job just now."""

    code: str
    reason: str
    until: str | None


class CandidateView(Struct, frozen=True, kw_only=True):
    """One account that can run the job."""

    provider: str
    account: str
    simulated: bool
    estimated_usd: float
    """The declared price, times the reference's duration."""
    expected_run_s: float
    expected_run_by: str
    """`measured`: the median of earlier runs; `declared`: the adapter's typical time."""
    unavailable: UnavailableView | None
    """null: it can take a job now."""
    request: ProviderRequest


class LeftOutView(Struct, frozen=True, kw_only=True):
    """One account, or a provider without any, that cannot or shall not run the job."""

    provider: str
    account: str | None
    code: str
    reason: str
    options: tuple[Unconveyable, ...]
    """What it cannot be told."""


class PlanView(Struct, frozen=True, kw_only=True):
    """Where a job will be tried, in order, and why nowhere else."""

    model: str
    policy: Policy
    failover: bool
    max_cost_usd: float | None
    duration_s: float
    """What costs are estimated by, seconds."""
    duration_told: bool
    """Whether the caller told it; else the longest possible is assumed."""
    candidates: list[CandidateView]
    left_out: list[LeftOutView]


class Planner:
    """Makes plans, and shows them.

    Args:
        routes: decide.
        accounts: their adapters build the calls that are shown.
    """

    def __init__(self, routes: JobRoutes, accounts: Accounts) -> None:
        self._routes = routes
        self._accounts = accounts

    def plan(self, request: JobRequest, *, seed: str) -> Plan:
        """Plan a request; `seed` is its job's id."""
        return self._routes.plan(request, seed=seed)

    def show(self, request: JobRequest, planned: Plan) -> PlanView:
        """Show a plan, with each candidate's paid call."""
        wish = request.routing
        return PlanView(
            model=request.model,
            policy=wish.policy,
            failover=wish.failover,
            max_cost_usd=wish.max_cost_usd,
            duration_s=duration_s(request),
            duration_told=request.reference.duration_s is not None,
            candidates=[_candidate(one, mapped(request, one, self._accounts)) for one in planned.candidates],
            left_out=[_left_out(one) for one in planned.left_out],
        )


def mapped(request: JobRequest, candidate: Candidate, accounts: Accounts) -> ProviderRequest:
    """Build a candidate's paid call, to be shown."""
    account = accounts.get(candidate.provider, candidate.account)
    model = None if account is None else account.adapter.spec.model(request.model)
    if account is None or model is None:
        raise LookupError(f"the plan names {candidate.provider}/{candidate.account}, which is not there")
    context = CallContext(model=model, attempt_id=NO_ATTEMPT, options=account.options)
    wire = account.adapter.build_submit(request, context)
    return ProviderRequest(method=wire.method, path=wire.target, body=wire.json)


def _candidate(one: Candidate, request: ProviderRequest) -> CandidateView:
    return CandidateView(
        provider=one.provider,
        account=one.account,
        simulated=one.simulated,
        estimated_usd=one.estimated_micro_usd / 1_000_000,
        expected_run_s=one.expected_run_s,
        expected_run_by=one.run_time,
        unavailable=unavailable_view(one),
        request=request,
    )


def _left_out(one: LeftOut) -> LeftOutView:
    return LeftOutView(
        provider=one.provider, account=one.account, code=one.code, reason=one.reason, options=one.options
    )


def unavailable_view(one: Candidate | Condition) -> UnavailableView | None:
    """Show why an account can take no job just now; None when it can."""
    if one.unavailable is None:
        return None
    until = None if one.until_ms is None else instant(one.until_ms)
    return UnavailableView(code=one.unavailable, reason=one.reason, until=until)
