"""Where a job will be tried, in order, and why each other account will not."""

from __future__ import annotations

import hashlib
import math
from typing import Literal

from msgspec import Struct

from gateway.jobs.job import JobRequest
from gateway.routing.account import Account
from gateway.routing.catalogue import Catalogue, Offer
from gateway.routing.conditions import Condition, Conditions
from gateway.routing.queue import room_of
from providers.contract.mapping import Unconveyable, unconveyable
from providers.contract.spec import ModelSpec, Spec

#: What is reserved for a reference whose length the caller did not tell, seconds.
UNTOLD_DURATION_S = 30.0


class Candidate(Struct, frozen=True, kw_only=True):
    """One account that can run the job."""

    provider: str
    account: str
    estimated_micro_usd: int
    expected_run_s: float
    run_time: Literal["measured", "declared"]
    """Where `expected_run_s` comes from: earlier runs, or the adapter's tables."""
    weight: float = 1.0
    unavailable: str | None = None
    """Why it can take no job just now, as a code; None when it can."""
    reason: str = ""
    """The same in words."""
    until_ms: int | None = None
    simulated: bool = False

    @property
    def place(self) -> Account:
        """Provider and account."""
        return self.provider, self.account


class LeftOut(Struct, frozen=True, kw_only=True):
    """One account that cannot or shall not, or a provider without any, and why."""

    provider: str
    account: str | None
    """None for a provider that is not in use."""
    code: str
    """not_enabled, disabled, not_requested, excluded, model_not_offered, cannot_convey or too_expensive."""
    reason: str
    options: tuple[Unconveyable, ...] = ()


class Plan(Struct, frozen=True, kw_only=True):
    """The decision, kept with the job."""

    candidates: tuple[Candidate, ...]
    left_out: tuple[LeftOut, ...]


def plan(
    request: JobRequest, catalogue: Catalogue, conditions: Conditions | None = None, *, seed: str = ""
) -> Plan:
    """Choose by capability and cost, then order by the job's policy.

    Candidates that are alike to the policy keep the order of preference: the caller's order of providers,
    else the catalogue's. Those that can take no job just now keep their place, and say so.

    Args:
        request: the job's.
        catalogue: every account, in the order of preference.
        conditions: what is known of the accounts just now.
        seed: the random part of the policy `weighted`: the job's id, so that its order stays the same.
    """
    known = conditions or {}
    candidates: list[Candidate] = []
    left_out: list[LeftOut] = []
    for offer in catalogue.offers:
        judged = _judge(request, offer, known.get((offer.spec.name, offer.account), Condition()))
        if isinstance(judged, Candidate):
            candidates.append(judged)
        else:
            left_out.append(judged)
    left_out += [_idle(spec, disabled=spec.name in catalogue.disabled) for spec in catalogue.idle]
    return Plan(candidates=_ordered(candidates, request, seed), left_out=tuple(left_out))


def duration_s(request: JobRequest) -> float:
    """Return the reference's duration as costs are estimated by it, seconds."""
    return request.reference.duration_s or UNTOLD_DURATION_S


def room_for(request: JobRequest, catalogue: Catalogue) -> str:
    """Name the accounts that can run a job: where it waits for its turn."""
    return room_of([one.place for one in plan(request, catalogue, {}, seed="").candidates])


def why_nobody(planned: Plan) -> str:
    """Say in words why each was left out."""
    return "; ".join(f"{named(one)}: {one.reason}" for one in planned.left_out)


def named(one: LeftOut) -> str:
    """Name a provider, with the account where it has a name of its own."""
    return one.provider if one.account in {None, "default"} else f"{one.provider}/{one.account}"


def _judge(request: JobRequest, offer: Offer, condition: Condition) -> Candidate | LeftOut:
    spec, wish = offer.spec, request.routing
    model = spec.model(request.model)
    problems = () if model is None else unconveyable(model, request)
    if wish.providers and spec.name not in wish.providers:
        return _left(offer, "not_requested", "not among routing.providers")
    if spec.name in wish.exclude:
        return _left(offer, "excluded", "named in routing.exclude")
    if model is None:
        return _left(offer, "model_not_offered", f"{spec.title} does not sell {request.model}")
    if problems:
        reason = "; ".join(f"{problem.option}: {problem.reason}" for problem in problems)
        return _left(offer, "cannot_convey", reason, problems)
    estimate, limit = model.price.estimate(duration_s(request)), wish.max_cost_micro_usd
    if limit is not None and estimate > limit:
        reason = f"an estimated {_usd(estimate)} is more than routing.max_cost_usd, {_usd(limit)}"
        return _left(offer, "too_expensive", reason)
    return _candidate(offer, model, condition, estimate)


def _candidate(offer: Offer, model: ModelSpec, condition: Condition, estimate: int) -> Candidate:
    measured = condition.run_s is not None
    return Candidate(
        provider=offer.spec.name,
        account=offer.account,
        estimated_micro_usd=estimate,
        expected_run_s=model.typical_run_s if condition.run_s is None else condition.run_s,
        run_time="measured" if measured else "declared",
        weight=condition.weight,
        unavailable=condition.unavailable,
        reason=condition.reason,
        until_ms=condition.until_ms,
        simulated=offer.simulated,
    )


def _left(offer: Offer, code: str, reason: str, options: tuple[Unconveyable, ...] = ()) -> LeftOut:
    return LeftOut(provider=offer.spec.name, account=offer.account, code=code, reason=reason, options=options)


def _idle(spec: Spec, *, disabled: bool) -> LeftOut:
    if disabled:
        reason = f"switched off by the setting providers.{spec.name}.enabled"
        return LeftOut(provider=spec.name, account=None, code="disabled", reason=reason)
    reason = f"no account is configured; set {spec.key_env} to enable it"
    return LeftOut(provider=spec.name, account=None, code="not_enabled", reason=reason)


def _ordered(candidates: list[Candidate], request: JobRequest, seed: str) -> tuple[Candidate, ...]:
    wished = request.routing.providers
    if wished:
        candidates = sorted(candidates, key=lambda candidate: wished.index(candidate.provider))
    match request.routing.policy:
        case "priority":
            return tuple(candidates)
        case "cheapest":
            return tuple(sorted(candidates, key=lambda candidate: candidate.estimated_micro_usd))
        case "fastest":
            # What was measured before what is declared: a hope that nobody tried outbids no experience.
            return tuple(sorted(candidates, key=lambda one: (one.run_time != "measured", one.expected_run_s)))
        case "weighted":
            return tuple(sorted(candidates, key=lambda candidate: _lot(candidate, seed)))


def _lot(candidate: Candidate, seed: str) -> float:
    """Draw a candidate's lot; the least comes first, each time with a chance in proportion to its weight.

    Exponential waiting times at rates that are the weights (Efraimidis and Spirakis, 2006). Each lot is of
    its candidate alone: who else runs changes no order between two.
    """
    if candidate.weight <= 0:
        return math.inf
    digest = hashlib.sha256(f"{seed}\0{candidate.provider}\0{candidate.account}".encode()).digest()
    uniform = (int.from_bytes(digest[:8]) + 1) / (2**64 + 1)
    return -math.log(uniform) / candidate.weight


def _usd(micro_usd: int) -> str:
    return f"${micro_usd / 1_000_000:.6f}".rstrip("0").rstrip(".")
