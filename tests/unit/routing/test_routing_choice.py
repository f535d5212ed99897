"""Whose turn it is, after the attempts that a job has had."""

from __future__ import annotations

from typing import Any

import pytest
from job_examples import NOW_MS, SOURCE, a_job, a_request, a_spec, an_attempt
from msgspec.structs import replace

from gateway.jobs.job import Attempt, AttemptState, RoutingWish
from gateway.routing.catalogue import Catalogue, Offer
from gateway.routing.choice import Nobody, Wait
from gateway.routing.conditions import Condition
from gateway.routing.failover import Choice, Outcome, Rules
from gateway.routing.plan import Candidate
from gateway.routing.routes import JobRoutes
from providers.contract.errors import ErrorCode, UpstreamError
from providers.contract.spec import BillingSpec

FREE = BillingSpec(failures_free=True, source=SOURCE)
CATALOGUE = Catalogue(offers=tuple(Offer(spec=a_spec(name), account="default") for name in "abc"))
CODES = {
    "limited": ErrorCode.RATE_LIMITED,
    "slow": ErrorCode.TIMEOUT,
    "broken": ErrorCode.PROVIDER_ERROR,
    "rejected": ErrorCode.CONTENT_REJECTED,
}
Known = dict[str, Condition]
FULL = Condition(unavailable="no_slot", reason="all its slots are in use")
PAUSED = Condition(unavailable="paused", reason="it asked for that", until_ms=NOW_MS + 9)


def had(text: str) -> tuple[Attempt, ...]:
    """Read `a:limited b:failed:broken c:withheld`: the attempts so far, each $0.07."""
    attempts: list[Attempt] = []
    for number, word in enumerate(text.split(), start=1):
        provider, what, *code = word.split(":")
        state = {"failed": AttemptState.FAILED, "doubted": AttemptState.UNKNOWN}.get(
            what, AttemptState.REFUSED
        )
        named = CODES.get(code[0] if code else what)
        attempts.append(
            an_attempt(
                state,
                number,
                provider=provider,
                error=None if named is None else UpstreamError(code=named, message=""),
                written_off=what == "doubted",
                estimated_micro_usd=70_000,
            )
        )
    return tuple(attempts)


def chosen(text: str, wish: dict[str, Any], *, rules: Rules | None = None, known: Known | None = None) -> str:
    routes = JobRoutes(
        catalogue=CATALOGUE,
        rules=rules or {},
        conditions=lambda _model: {(name, "default"): one for name, one in (known or {}).items()},
    )
    job = a_job(request=a_request(routing=RoutingWish(**{"failover": True, **wish})))
    match routes.choose(job, had(text)):
        case Candidate(provider=provider):
            return provider
        case Wait(until_ms=until_ms):
            return f"wait {None if until_ms is None else until_ms - NOW_MS}"
        case Nobody():
            return "nobody"


@pytest.mark.parametrize(
    ("attempts", "wish", "known", "turn"),
    [
        ("", {}, {}, "a"),
        ("", {"providers": ("c", "a")}, {}, "c"),
        ("", {}, {"a": PAUSED}, "b"),
        ("", {"failover": False}, {"a": PAUSED}, "b"),
        ("", {}, {"a": PAUSED, "b": PAUSED, "c": PAUSED}, "wait 9"),
        ("a:limited", {}, {}, "b"),
        ("a:limited", {}, {"b": PAUSED}, "c"),
        ("a:limited", {}, {"b": PAUSED, "c": PAUSED}, "a"),
        ("a:limited b:limited", {}, {}, "c"),
        ("a:limited b:limited c:limited", {}, {}, "a"),
        ("a:limited b:limited c:limited a:limited", {}, {}, "b"),
        ("a:slow b:limited c:limited", {}, {}, "b"),
        ("a:slow b:slow c:slow", {}, {}, "nobody"),
        ("a:limited", {"failover": False}, {}, "a"),
        ("a:slow", {"failover": False}, {}, "nobody"),
        ("a:limited", {"failover": False}, {"a": PAUSED}, "wait 9"),
        ("", {}, {"a": PAUSED, "b": FULL, "c": PAUSED}, "wait None"),
        ("a:withheld", {}, {}, "a"),
        ("a:withheld", {"failover": False}, {"a": PAUSED}, "b"),
        ("a:limited a:withheld", {"failover": False}, {}, "a"),
        ("a:failed:broken", {}, {}, "b"),
        ("a:failed:limited b:limited c:limited", {}, {}, "b"),
        ("a:failed:broken b:failed:broken c:failed:broken", {}, {}, "nobody"),
        ("a:doubted", {}, {}, "b"),
        ("a:doubted", {"failover": False}, {}, "a"),
        ("", {"max_cost_usd": 1.5}, {}, "a"),
        ("a:failed:broken", {"max_cost_usd": 1.57}, {}, "b"),
        ("a:failed:broken", {"max_cost_usd": 1.569999}, {}, "nobody"),
        ("a:failed:broken b:failed:broken", {"max_cost_usd": 1.57}, {}, "nobody"),
        ("a:limited", {"max_cost_usd": 1.5}, {}, "b"),
    ],
)
def test_turns(*, attempts: str, wish: dict[str, Any], known: Known, turn: str) -> None:
    assert chosen(attempts, wish, known=known) == turn


def test_settings_take_an_account_out_of_its_turn_or_keep_it_in() -> None:
    out: Rules = {("a", ErrorCode.RATE_LIMITED): "next"}
    kept: Rules = {("a", ErrorCode.TIMEOUT): "retry"}
    assert chosen("a:limited b:limited c:limited", {}, rules=out) == "b"
    assert chosen("a:slow b:limited c:limited", {}, rules=kept) == "a"


ONE = {"providers": ("a",)}


@pytest.mark.parametrize(
    ("attempts", "wish", "free", "known", "choice"),
    [
        ("a:limited", {}, True, {}, Choice.NEXT),
        ("a:limited b:limited", {}, True, {}, Choice.NEXT),
        ("a:limited b:limited c:limited", {}, True, {}, Choice.RETRY),
        ("a:limited b:limited c:limited a:limited", {}, True, {}, Choice.NEXT),
        ("a:limited", ONE, True, {}, Choice.RETRY),
        ("a:limited", {"failover": False}, True, {}, Choice.RETRY),
        ("a:slow", ONE, True, {}, Choice.GIVE_UP),
        ("a:slow", {}, True, {}, Choice.NEXT),
        ("a:slow", {}, True, {"b": PAUSED, "c": PAUSED}, Choice.RETRY),
        ("a:limited b:slow", {"providers": ("a", "b")}, True, {}, Choice.RETRY),
        ("a:rejected", {}, True, {}, Choice.GIVE_UP),
        ("a:failed:rejected", {}, True, {}, Choice.GIVE_UP),
        ("a:failed:broken", {}, True, {}, Choice.NEXT),
        ("a:failed:broken", {}, False, {}, Choice.GIVE_UP),
        ("a:failed:broken", {"max_cost_usd": 2}, False, {}, Choice.NEXT),
        ("a:failed:broken", {"max_cost_usd": 1.5}, False, {}, Choice.GIVE_UP),
        ("a:failed:broken", {"max_cost_usd": 1.5}, True, {}, Choice.NEXT),
        ("a:failed:broken", {"failover": False}, True, {}, Choice.GIVE_UP),
        ("a:failed:broken", ONE, True, {}, Choice.GIVE_UP),
        ("a:failed:limited", ONE, True, {}, Choice.GIVE_UP),
        ("a:failed:broken", {}, True, {"b": PAUSED, "c": PAUSED}, Choice.RETRY),
    ],
)
def test_what_follows(
    *, attempts: str, wish: dict[str, Any], free: bool, known: Known, choice: Choice
) -> None:
    offers = tuple(
        Offer(spec=a_spec(name, billing=FREE if free else None), account="default") for name in "abc"
    )
    routes = JobRoutes(
        catalogue=Catalogue(offers=offers),
        conditions=lambda _model: {(name, "default"): one for name, one in known.items()},
    )
    job = a_job(request=a_request(routing=RoutingWish(**{"failover": True, **wish})))
    *earlier, over = had(attempts)
    before = replace(over, state=AttemptState.SUBMITTING, error=None)
    assert over.error is not None
    outcome = Outcome.FAILED if over.state is AttemptState.FAILED else Outcome.REFUSED
    decided = routes.after(job, (*earlier, before), over, error=over.error, outcome=outcome)
    assert decided is choice
