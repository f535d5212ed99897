"""How old a run is, and which ends teach how long runs last."""

from __future__ import annotations

import pytest
from job_examples import NOW_MS, SOURCE, a_spec, an_adapter, an_attempt
from store_stage import Stage
from worker_bench import RUNNING, SUCCEEDED, Bench, Reply

from gateway.jobs.job import AttemptState
from gateway.routing.run_times import ENOUGH
from gateway.settings import Secret
from gateway.storage import tables
from gateway.storage.run_times import Run, RunKind
from gateway.storage.tasks import Memo
from gateway.upstream.accounts import UpstreamAccount
from gateway.worker.run_age import age_s, lesson, noted
from providers.contract.spec import StatusWord
from providers.contract.status import JobStatus

ACCOUNT = UpstreamAccount(
    adapter=an_adapter(), name="default", api_key=Secret("key"), base_url="https://acme.example", options={}
)
HELD_BACK = StatusWord("THROTTLED", JobStatus.QUEUED, SOURCE, slow=True)


def at(seconds: float) -> int:
    return NOW_MS + round(seconds * 1000)


def asked(seconds: float, since_s: float | None = None) -> Memo:
    return Memo(asked_ms=at(seconds), since_ms=0 if since_s is None else at(since_s))


def test_the_age_counts_from_the_acceptance() -> None:
    attempt = an_attempt(AttemptState.ACCEPTED)
    memo = noted(Memo(), slow=False, now_ms=at(30))
    assert age_s(attempt, memo, now_ms=at(30)) == 30


def test_the_age_counts_from_when_the_provider_let_the_run_go() -> None:
    attempt = an_attempt(AttemptState.ACCEPTED)
    memo = noted(asked(5), slow=True, now_ms=at(20))
    assert age_s(attempt, memo, now_ms=at(20)) == 0
    memo = noted(memo, slow=True, now_ms=at(80))
    memo = noted(memo, slow=False, now_ms=at(140))
    assert age_s(attempt, memo, now_ms=at(140)) == 30  # somewhere between 80 and 140
    assert age_s(attempt, noted(memo, slow=False, now_ms=at(160)), now_ms=at(160)) == 50


def test_the_age_of_an_adopted_run_counts_from_its_submission() -> None:
    attempt = an_attempt(
        AttemptState.ACCEPTED, started_at_ms=at(0), doubted_at_ms=at(60), accepted_at_ms=at(300)
    )
    assert age_s(attempt, Memo(), now_ms=at(310)) == 310


@pytest.mark.parametrize(
    ("memo", "due_s", "now_s", "taught"),
    [
        pytest.param(asked(50), 60, 60.5, (50, 60.5), id="between two looks"),
        pytest.param(Memo(), 5, 6, (0, 6), id="before the first look"),
        pytest.param(asked(50), 51, 51.5, (51.5, 51.5), id="told by a callback"),
        pytest.param(Memo(), 1, 1.5, (1.5, 1.5), id="told by a callback before the first look"),
        pytest.param(asked(50), 60, 3000, None, id="we were away"),
        pytest.param(asked(50), 110, 110, None, id="the looks between failed"),
        pytest.param(asked(50, since_s=50), 60, 60, None, id="held back until the last look"),
        pytest.param(asked(50, since_s=30), 60, 60, (20, 30), id="held back earlier"),
        pytest.param(asked(3599), 3609, 3609, None, id="longer than any run lasts"),
        pytest.param(Memo(), 0, 0, None, id="at once"),
    ],
)
def test_a_success_teaches_between_which_ages_it_came(
    memo: Memo, due_s: float, now_s: float, taught: tuple[float, float] | None
) -> None:
    attempt = an_attempt(AttemptState.ACCEPTED)
    run = lesson(ACCOUNT, "act-two", attempt, memo, due_at_ms=at(due_s), now_ms=at(now_s), pace=None)
    expected = (
        None if taught is None else Run(kind=RunKind("acme", "act-two"), after_s=taught[0], by_s=taught[1])
    )
    assert run == expected


def test_an_adopted_run_teaches_nothing_since_nobody_saw_it_begin() -> None:
    attempt = an_attempt(AttemptState.ACCEPTED, doubted_at_ms=at(1))
    assert lesson(ACCOUNT, "act-two", attempt, asked(50), due_at_ms=at(60), now_ms=at(60), pace=None) is None


async def learned(bench: Bench) -> list[tuple[object, object]]:
    """Whether runs were simulated, and how many."""
    await bench.run_times.renew()
    return [(row["simulated"], row["n"]) for row in await bench.stage.rows(tables.run_times)]


async def test_a_run_that_succeeded_teaches_once_it_is_stored(stage: Stage) -> None:
    bench = Bench(stage)
    await bench.accepted()
    await bench.after(5, RUNNING)
    await bench.after(10, SUCCEEDED)
    assert await learned(bench) == [(False, 1)]
    await bench.accepted()
    await bench.after(5, SUCCEEDED)
    assert await learned(bench) == [(False, 2)]


@pytest.mark.parametrize("word", ["FAILED", "CANCELLED"])
async def test_a_run_that_came_to_nothing_teaches_nothing(stage: Stage, word: str) -> None:
    bench = Bench(stage)
    await bench.accepted()
    await bench.after(5, Reply(200, {"status": word}))
    assert await learned(bench) == []


async def test_the_pace_follows_what_was_learned(stage: Stage) -> None:
    bench = Bench(stage)
    kind = RunKind("acme", "act-two")
    for run_s in range(180, 180 + 4 * ENOUGH, 4):
        bench.run_times.ended(Run(kind=kind, after_s=run_s, by_s=run_s))
    await bench.run_times.renew()
    await bench.accepted()
    ((_, first_ms),) = await stage.tasks()
    assert 60_000 < first_ms < 180_000
    await bench.after(first_ms / 1000, RUNNING)
    ((_, next_ms),) = await stage.tasks()
    assert next_ms - first_ms < first_ms / 4


async def test_what_is_held_back_is_asked_by_its_own_pace_and_begins_anew(stage: Stage) -> None:
    bench = Bench(stage, spec=a_spec(statuses=(*a_spec().statuses, HELD_BACK)))
    kind = RunKind("acme", "act-two")
    for run_s in range(180, 180 + 4 * ENOUGH, 4):
        bench.run_times.ended(Run(kind=kind, after_s=run_s, by_s=run_s))
    await bench.run_times.renew()
    await bench.accepted()
    ((_, first_ms),) = await stage.tasks()
    await bench.after(first_ms / 1000, Reply(200, {"status": "THROTTLED"}))
    ((_, second_ms),) = await stage.tasks()
    assert second_ms - first_ms == 60_000
    await bench.after(60, RUNNING)
    ((_, third_ms),) = await stage.tasks()
    # It may have been let go half a minute ago: the rest of the way to the first look.
    assert third_ms - second_ms == pytest.approx(first_ms - 30_000, rel=0.02)
