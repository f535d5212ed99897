"""Run times: learned by every process, kept in one row a model, read by all."""

from __future__ import annotations

import asyncio

import pytest
from store_stage import Stage

from gateway.errors import StorageUnavailable
from gateway.routing.run_times import ENOUGH, MEMORY
from gateway.service.run_times import FRESH_S, WAITING, RunTimes
from gateway.storage import tables
from gateway.storage.run_times import Run, RunKind

HERE = RunKind("acme", "act-two")
SIMULATED = RunKind("acme", "act-two", simulated=True)


def run(run_s: float = 60, kind: RunKind = HERE) -> Run:
    """A run whose time is known exactly."""
    return Run(kind=kind, after_s=run_s, by_s=run_s)


async def teach(times: RunTimes, *runs: Run) -> None:
    for one in runs:
        times.ended(one)
    await times.renew()


async def test_what_one_process_learned_every_process_knows(stage: Stage) -> None:
    ours, theirs = (RunTimes(stage.database, stage.clock) for _ in range(2))
    await teach(ours, *[run()] * (ENOUGH - 1))
    assert ours.median_s("acme", "act-two") is None
    assert ours.pace("acme", "act-two") is None
    await teach(theirs, run())
    assert theirs.median_s("acme", "act-two") == pytest.approx(60)
    assert ours.median_s("acme", "act-two") is None
    await ours.renew()
    assert ours.median_s("acme", "act-two") == pytest.approx(60)
    assert ours.pace("acme", "act-two") == theirs.pace("acme", "act-two")


async def test_a_process_that_starts_anew_knows_what_was_learned(stage: Stage) -> None:
    await teach(RunTimes(stage.database, stage.clock), *[run()] * ENOUGH)
    again = RunTimes(stage.database, stage.clock)
    await again.renew()
    assert again.median_s("acme", "act-two") == pytest.approx(60)


async def test_processes_that_teach_at_once_lose_nothing(stage: Stage) -> None:
    kinds = [RunKind("acme", "act-two"), RunKind("acme", "act-one"), RunKind("zenith", "act-two")]
    fleet = [RunTimes(stage.database, stage.clock) for _ in range(6)]
    rounds = 3
    for number in range(rounds):
        # Each in another order: rows are locked in one.
        await asyncio.gather(
            *(
                teach(times, *(run(60, kinds[(place + shift) % 3]) for place in range(3)))
                for shift, times in enumerate(fleet, start=number)
            )
        )
    rows = await stage.rows(tables.run_times)
    assert [row["n"] for row in rows] == [len(fleet) * rounds] * 3


async def test_models_providers_and_the_simulator_are_learned_apart(stage: Stage) -> None:
    times = RunTimes(stage.database, stage.clock)
    others = [RunKind("acme", "act-one"), RunKind("zenith", "act-two")]
    await teach(times, *[run(200)] * ENOUGH, *[run(2, SIMULATED)] * ENOUGH, *(run(5, one) for one in others))
    assert times.median_s("acme", "act-two") == pytest.approx(200)
    assert times.median_s("acme", "act-two", simulated=True) == pytest.approx(2)
    assert times.median_s("acme", "act-one") is None
    assert times.median_s("zenith", "act-two") is None


async def test_a_process_that_learned_nothing_writes_nothing(stage: Stage) -> None:
    times = RunTimes(stage.database, stage.clock)
    await teach(times, run())
    before = await stage.everything()
    stage.clock.advance(60)
    await times.renew()
    assert await stage.everything() == before


async def test_what_could_not_be_stored_is_stored_later(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = RunTimes(stage.database, stage.clock)

    async def fails(*_: object, **__: object) -> None:
        times.ended(run())  # one more comes meanwhile
        raise StorageUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(stage.database, "write", fails)
        with pytest.raises(StorageUnavailable):
            await teach(times, *[run()] * (WAITING + 5))
    await times.renew()
    (row,) = await stage.rows(tables.run_times)
    assert row["n"] == MEMORY
    await times.renew()
    assert await stage.rows(tables.run_times) == [row]


async def test_a_copy_is_renewed_once_it_is_old(stage: Stage) -> None:
    ours, theirs = (RunTimes(stage.database, stage.clock) for _ in range(2))
    await ours.fresh()
    await teach(theirs, *[run()] * ENOUGH)
    await ours.fresh()
    assert ours.median_s("acme", "act-two") is None
    stage.clock.advance(FRESH_S)
    await ours.fresh()
    assert ours.median_s("acme", "act-two") == pytest.approx(60)


async def test_how_often_a_run_is_polled_is_set_by_provider(stage: Stage) -> None:
    times = RunTimes(stage.database, stage.clock, polls_per_job={"acme": 40.0})
    await teach(times, *[run()] * ENOUGH, *[run(60, RunKind("zenith", "act-two"))] * ENOUGH)
    often, usual = times.pace("acme", "act-two"), times.pace("zenith", "act-two")
    assert often is not None
    assert usual is not None
    assert often.next_age_s(60) - 60 < (usual.next_age_s(60) - 60) / 4
