"""Limits as the store keeps them: exact for any number at once, and never in the way of a replay."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from job_examples import NOW_MS, POLL, a_request, an_attempt
from sqlalchemy import Connection
from store_stage import Stage

from gateway.errors import BudgetSpent, Refusal
from gateway.jobs import transitions
from gateway.jobs.job import Attempt, AttemptState, Job
from gateway.jobs.transitions import Step
from gateway.routing.gcra import NS_PER_S
from gateway.service.quotas import Quotas, usd
from gateway.service.throttle import Taken, Throttle
from gateway.service.usage import Usage
from gateway.settings.rates import parse_rate
from gateway.storage import limits as limit_rows
from gateway.storage import tables

TEN_AN_HOUR = parse_rate("10/h")
JOB_COST = 1_500_000
"""Thirty seconds, since nobody told the length, at the made-up provider's price."""


def admitted(taken: list[Taken | None]) -> int:
    return sum(one is not None and one.admitted for one in taken)


async def test_a_key_without_a_rate_asks_nothing_of_the_database(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage.database, "write", None)
    assert await Throttle(stage.database, stage.clock).take("key_a", None) is None


async def test_two_processes_admit_together_what_one_would(stage: Stage) -> None:
    throttles = [Throttle(stage.database, stage.clock) for _ in range(2)]
    taken = await asyncio.gather(
        *(throttles[number % 2].take("key_a", TEN_AN_HOUR) for number in range(200)),
        *(throttles[number % 2].take("key_b", TEN_AN_HOUR) for number in range(4)),
    )
    assert admitted(taken[:200]) == 10
    assert admitted(taken[200:]) == 4
    assert sorted(one.remaining for one in taken[:200] if one and one.admitted) == list(range(10))
    stage.clock.advance(361)
    again = await asyncio.gather(*(throttles[0].take("key_a", TEN_AN_HOUR) for _ in range(20)))
    assert admitted(again) == 1


async def test_an_empty_key_is_refused_from_memory_until_it_has_something_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    throttle = Throttle(stage.database, stage.clock)
    for _ in range(10):
        await throttle.take("key_a", TEN_AN_HOUR)
    with monkeypatch.context() as without:
        without.setattr(stage.database, "write", None)
        refused = await throttle.take("key_a", TEN_AN_HOUR)
        assert refused is not None
        assert (refused.admitted, refused.remaining, refused.reset_s) == (False, 0, 360)
    raised = await throttle.take("key_a", parse_rate("10/d"))
    assert raised is not None
    assert raised.admitted, "another rate is asked of the row"
    stage.clock.advance(-7200)
    assert await throttle.take("key_a", TEN_AN_HOUR) is not None, "a clock set back asks the row"


async def test_the_state_is_one_number_a_key(stage: Stage) -> None:
    await Throttle(stage.database, stage.clock, default=TEN_AN_HOUR).take("key_a", None)
    (row,) = await stage.rows(tables.limits)
    assert row == {"key_id": "key_a", "arrival_ns": NOW_MS * 1_000_000 + 360 * NS_PER_S}


async def limited(stage: Stage, owner: str = "alice", **limits: int | None) -> None:
    await stage.keys.create(name="n", owner=owner, scopes=[], limits=limits)


async def accept_all(stage: Stage, count: int, **changes: Any) -> tuple[int, list[Refusal]]:
    """Post that many at once, over two processes; how many were taken, and the refusals."""
    intakes = [stage.intake, stage.taking(stage.catalogue)]

    async def one(number: int) -> str:
        stage.intake = intakes[number % 2]
        return await stage.accept(**changes)

    answers = await asyncio.gather(*(one(number) for number in range(count)), return_exceptions=True)
    refusals = [answer for answer in answers if isinstance(answer, Refusal)]
    return sum(isinstance(answer, str) for answer in answers), refusals


async def test_an_owner_has_exactly_as_many_jobs_as_it_may(stage: Stage) -> None:
    await limited(stage, max_in_flight=7)
    taken, refusals = await accept_all(stage, 60)
    assert taken == len(await stage.rows(tables.jobs)) == 7
    assert {refusal.slug for refusal in refusals} == {"quota-exceeded"}
    assert stage.denied == ["jobs-in-flight"] * 53
    assert (await accept_all(stage, 3, owner="bob"))[0] == 3


async def test_a_budget_is_reserved_to_the_last_cent_that_fits(stage: Stage) -> None:
    await limited(stage, budget_micro_usd=10 * JOB_COST - 1)
    taken, refusals = await accept_all(stage, 40)
    assert taken == 9
    assert refusals[0].slug == "spend-limit-reached"
    assert refusals[0].detail == (
        "alice may spend $14.999999 in 2027-01, of which $1.499999 is left; this job is estimated at $1.50."
        " Nothing was stored."
    )


async def test_another_month_has_a_budget_of_its_own(stage: Stage) -> None:
    await limited(stage, budget_micro_usd=JOB_COST)
    assert (await accept_all(stage, 2))[0] == 1
    stage.clock.advance(17 * 86_400)
    assert (await accept_all(stage, 2))[0] == 1


async def test_the_same_key_twice_takes_one_place_and_a_refused_one_leaves_its_key_free(stage: Stage) -> None:
    await limited(stage, max_in_flight=1, budget_micro_usd=JOB_COST)
    taken, refusals = await accept_all(stage, 30, idempotency_key="k")
    assert (taken, refusals) == (30, [])
    assert len(await stage.rows(tables.jobs)) == 1
    assert (await accept_all(stage, 10, idempotency_key="other"))[0] == 0
    await stage.keys.limit((await stage.keys.all())[0].id, [], {"max_in_flight": 2, "budget_micro_usd": None})
    assert (await accept_all(stage, 10, idempotency_key="other"))[0] == 10
    assert len(await stage.rows(tables.jobs)) == 2


async def test_the_settings_hold_for_owners_without_a_limit_of_their_own(stage: Stage) -> None:
    await limited(stage, "alice", max_in_flight=3)
    await limited(stage, "bob")
    stage.intake = stage.taking(stage.catalogue, Quotas(max_in_flight=1, max_queued=3))
    for owner, count in (("bob", 1), ("alice", 2)):
        answers = [await attempt(stage, owner) for _ in range(4)]
        assert answers.count("taken") == count
    assert stage.denied == ["jobs-in-flight"] * 3 + ["queue"] * 2


async def attempt(stage: Stage, owner: str) -> str:
    try:
        await stage.accept(owner=owner)
    except Refusal as refusal:
        return refusal.slug
    return "taken"


async def test_the_ledger_follows_a_job_from_its_reserve_to_its_cost(stage: Stage) -> None:
    job_id = await stage.accept(a_request())
    assert await ledger(stage) == {"": (1, JOB_COST, 0)}
    attempt = an_attempt(job=await stage.job(job_id), estimated_micro_usd=2)
    await change(stage, job_id, lambda job, _: transitions.begin(job, attempt))
    assert await ledger(stage) == {"": (0, 0, 0), "acme": (1, 2, 0)}
    due_ms = NOW_MS + round(POLL.first_s * 1000)
    await change(
        stage,
        job_id,
        lambda job, found: transitions.accepted(job, found[0], ref="r", now_ms=NOW_MS, poll_at_ms=due_ms),
    )
    assert stage.heard[-1].spent == {}
    await change(stage, job_id, lambda job, found: transitions.lost(job, found[0], now_ms=NOW_MS))
    assert await ledger(stage) == {"": (0, 0, 0), "acme": (1, 2, 0)}
    shown = await Usage(stage.database, stage.clock).show(owner=None, first=None, last=None)
    assert [(row.provider, row.day, row.jobs, row.reserved_usd) for row in shown.rows] == [
        ("acme", "2027-01-15", 1, 0.000002)
    ]


async def test_another_submission_is_not_begun_beyond_the_budget(stage: Stage) -> None:
    await limited(stage, budget_micro_usd=2 * JOB_COST - 1)
    job_id = await stage.accept()
    first = an_attempt(job=await stage.job(job_id))
    task = await stage.claim()
    await stage.record.intent(task.claim, lambda job, _: transitions.begin(job, first))
    await change(
        stage,
        job_id,
        lambda job, found: transitions.written_off(job, found[0], by="operator", now_ms=NOW_MS),
    )
    second = an_attempt(number=2, job=await stage.job(job_id))
    before = await stage.everything()
    with pytest.raises(BudgetSpent, match=r"alice's budget of \$2.999999 for 2027-01"):
        await stage.record.intent(task.claim, lambda job, _: transitions.begin(job, second))
    assert await stage.everything() == before
    await stage.keys.limit((await stage.keys.all())[0].id, [], {"budget_micro_usd": 2 * JOB_COST})
    await stage.record.intent(task.claim, lambda job, _: transitions.begin(job, second))
    assert (await ledger(stage))["acme"] == (1, 2 * JOB_COST, 0)


async def test_a_job_that_never_was_submitted_gives_everything_back(stage: Stage) -> None:
    job_id = await stage.accept()
    await stage.jobs.cancel(job_id, owner=None)
    assert await ledger(stage) == {"": (0, 0, 0)}
    assert (await stage.job(job_id)).state.finished_at_ms is not None
    assert await stage.states(job_id) == list[AttemptState]()


async def change(stage: Stage, job_id: str, decide: object) -> None:
    def checked(job: Job, attempts: tuple[Attempt, ...]) -> Step:
        step = decide(job, attempts)  # type: ignore[operator]  # whatever the test gave
        assert isinstance(step, Step)
        return step

    await stage.record.transition(job_id, checked)


async def ledger(stage: Stage) -> dict[str, tuple[int, int, int]]:
    return {
        str(row["provider"]): (row["jobs"], row["reserved_micro_usd"], row["charged_micro_usd"])  # type: ignore[misc]
        for row in await stage.rows(tables.spend)
    }


async def test_limits_are_shown_set_and_taken_away(stage: Stage) -> None:
    made = await stage.keys.create(
        name="n", owner="alice", scopes=[], rate=TEN_AN_HOUR, limits={"max_in_flight": 2}
    )
    principal = await stage.keys.authenticate(made.key)
    assert principal is not None
    assert principal.rate == TEN_AN_HOUR
    assert (await stage.keys.limits())["alice"].max_in_flight == 2
    assert await stage.keys.limit(made.id, [None], {"max_in_flight": None, "budget_micro_usd": 5})
    (row,) = await stage.keys.all()
    assert row.rate is None
    assert (await stage.keys.limits())["alice"].budget_micro_usd == 5
    assert not await stage.keys.limit("key_nobody", [None], {"max_in_flight": 1})


async def test_counts_go_no_further_than_asked(stage: Stage) -> None:
    for _ in range(5):
        await stage.accept()

    def counts(connection: Connection) -> tuple[int, int]:
        return (
            limit_rows.count_in_flight(connection, "alice", most=3),
            limit_rows.count_unfinished(connection, most=9),
        )

    assert await stage.database.read(counts) == (3, 5)


@pytest.mark.parametrize(
    ("micro_usd", "text"), [(0, "$0.00"), (10_000_000, "$10.00"), (1_234_500, "$1.2345")]
)
def test_amounts_are_for_people(micro_usd: int, text: str) -> None:
    assert usd(micro_usd) == text
