"""Where a job will be tried, in order, and why each other provider will not."""

from __future__ import annotations

from msgspec import Struct

from gateway.jobs.job import JobRequest
from gateway.routing.catalogue import Catalogue, Offer
from gateway.routing.queue import room_of
from providers.contract.mapping import Unconveyable, unconveyable

#: What is reserved for a reference whose length the caller did not tell, seconds.
UNTOLD_DURATION_S = 30.0


class Candidate(Struct, frozen=True, kw_only=True):
    """One account that can run the job."""

    provider: str
    account: str
    estimated_micro_usd: int
    simulated: bool = False


class LeftOut(Struct, frozen=True, kw_only=True):
    """One provider that cannot or shall not, and why."""

    provider: str
    code: str
    """not_enabled, not_requested, excluded, model_not_offered or cannot_convey."""
    reason: str
    options: tuple[Unconveyable, ...] = ()


class Plan(Struct, frozen=True, kw_only=True):
    """The decision, kept with the job."""

    candidates: tuple[Candidate, ...]
    left_out: tuple[LeftOut, ...]


def plan(request: JobRequest, catalogue: Catalogue) -> Plan:
    """Choose by capability, then by priority: the caller's order of providers, else the catalogue's."""
    candidates: list[Candidate] = []
    left_out: dict[str, LeftOut] = {}
    for offer in catalogue.offers:
        judged = _judge(request, offer)
        if isinstance(judged, Candidate):
            candidates.append(judged)
        else:
            left_out[offer.spec.name] = judged
    for spec in catalogue.idle:
        reason = f"no account is configured; set {spec.key_env} to enable it"
        left_out[spec.name] = LeftOut(provider=spec.name, code="not_enabled", reason=reason)
    wished = request.routing.providers
    if wished:
        candidates.sort(key=lambda candidate: wished.index(candidate.provider))
    return Plan(candidates=tuple(candidates), left_out=tuple(left_out.values()))


def room_for(request: JobRequest, catalogue: Catalogue) -> str:
    """Name the accounts that can run a job: where it waits for its turn."""
    return room_of([(one.provider, one.account) for one in plan(request, catalogue).candidates])


def _judge(request: JobRequest, offer: Offer) -> Candidate | LeftOut:
    spec, wish = offer.spec, request.routing
    if wish.providers and spec.name not in wish.providers:
        return LeftOut(provider=spec.name, code="not_requested", reason="not among routing.providers")
    if spec.name in wish.exclude:
        return LeftOut(provider=spec.name, code="excluded", reason="named in routing.exclude")
    model = spec.model(request.model)
    if model is None:
        reason = f"{spec.title} does not sell {request.model}"
        return LeftOut(provider=spec.name, code="model_not_offered", reason=reason)
    problems = unconveyable(model, request)
    if problems:
        reason = "; ".join(f"{problem.option}: {problem.reason}" for problem in problems)
        return LeftOut(provider=spec.name, code="cannot_convey", reason=reason, options=problems)
    duration_s = request.reference.duration_s or UNTOLD_DURATION_S
    return Candidate(
        provider=spec.name,
        account=offer.account,
        estimated_micro_usd=model.price.estimate(duration_s),
        simulated=offer.simulated,
    )
