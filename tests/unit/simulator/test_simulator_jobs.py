"""A job's course, by a clock that only the test moves."""

from __future__ import annotations

from itertools import pairwise

import pytest
from simulator_fleet import CANCELLABLE, EMULATIONS, NAMES, PUBLIC_URL, RUN_S, asking, fleet

from gateway.simulator.jobs import course_at
from providers.contract.emulation import Leg
from providers.contract.normalize import normalize
from providers.contract.status import JobStatus


@pytest.mark.parametrize("name", NAMES)
async def test_the_words_come_in_the_order_of_the_course(name: str) -> None:
    emulation = EMULATIONS[name]
    async with fleet() as providers:
        ref = await providers[name].submitted()
        words: list[str] = []
        for _ in range(99):
            words.append((await providers[name].seen(ref)).status)
            providers.clock.now_s += RUN_S / 100
        await providers.finish()
        words.append((await providers[name].seen(ref)).status)
    changes = [words[0], *(after for before, after in pairwise(words) if after != before)]
    assert changes == [*(leg.word for leg in emulation.course), emulation.succeeded_word]


@pytest.mark.parametrize(
    "name", [name for name in NAMES if any(leg.progress for leg in EMULATIONS[name].course)]
)
async def test_progress_rises_and_never_reaches_one_before_the_end(name: str) -> None:
    async with fleet() as providers:
        ref = await providers[name].submitted()
        shown: list[float] = []
        for _ in range(120):
            progress = (await providers[name].seen(ref)).progress
            shown += [] if progress is None else [progress]
            providers.clock.now_s += RUN_S / 120
    assert len(shown) > 50
    assert shown == sorted(shown)
    assert len(set(shown)) > 50
    assert 0 <= shown[0] < 0.05
    assert 0.9 < shown[-1] < 1


def test_progress_goes_on_rising_from_one_leg_to_the_next() -> None:
    course = (Leg("a", 1, progress=True), Leg("b", 2), Leg("c", 1, progress=True))
    assert course_at(course, 0) == ("a", 0)
    assert course_at(course, 0.125) == ("a", 0.25)
    assert course_at(course, 0.5) == ("b", None)
    assert course_at(course, 0.875) == ("c", 0.75)
    assert course_at(course, 1) == ("c", 0.99)


@pytest.mark.parametrize("name", NAMES)
async def test_a_success_is_read_by_the_adapter_with_a_fresh_url_each_time(name: str) -> None:
    async with fleet() as providers:
        caller = providers[name]
        ref = await caller.submitted()
        await providers.finish()
        first, second = await caller.seen(ref), await caller.seen(ref)
        update = normalize(caller.adapter.spec, first)
        film = await caller.download(first)
    assert update.status is JobStatus.SUCCEEDED
    assert update.outputs == first.outputs
    assert first.outputs != second.outputs
    assert all(url.startswith(f"{PUBLIC_URL}/media/{name}/") for url in first.outputs)
    assert film.status_code == 200
    assert update.cost is not None
    assert update.cost.credits or update.cost.micro_usd


@pytest.mark.parametrize("name", NAMES)
async def test_two_jobs_have_different_refs_and_other_providers_do_not_know_them(name: str) -> None:
    async with fleet() as providers:
        caller = providers[name]
        assert await caller.submitted() != (ref := await caller.submitted())
        for other in set(NAMES) - {name}:
            assert (await providers[other].poll(ref)).status_code == 404


@pytest.mark.parametrize("name", CANCELLABLE)
async def test_a_cancelled_job_is_cancelled_or_forgotten_as_the_provider_does_it(name: str) -> None:
    emulation = EMULATIONS[name]
    async with fleet() as providers:
        caller = providers[name]
        ref = await caller.submitted()
        assert (await caller.cancel(ref)).is_success
        await providers.finish()
        after = await caller.poll(ref)
        if emulation.forgets_cancelled:
            assert after.status_code == 404
            assert after.content == emulation.show_missing().body
            assert (await caller.cancel(ref)).status_code == 404
        else:
            assert (await caller.seen(ref)).status == emulation.cancelled_word


@pytest.mark.parametrize("name", CANCELLABLE)
async def test_cancelling_a_finished_job_destroys_its_output_or_changes_nothing(name: str) -> None:
    async with fleet() as providers:
        caller = providers[name]
        ref = await caller.submitted()
        await providers.finish()
        observed = await caller.seen(ref)
        assert (await caller.cancel(ref)).is_success
        film = await caller.download(observed)
        if EMULATIONS[name].forgets_cancelled:
            assert film.status_code == 404
        else:
            assert film.status_code == 200
            assert (await caller.seen(ref)).status == EMULATIONS[name].succeeded_word


async def test_the_last_word_of_the_course_is_held_until_the_film_is_ready() -> None:
    async with fleet() as providers:
        caller = providers["runway"]
        ref = await caller.submitted()
        providers.clock.now_s += 5 * RUN_S
        held = await caller.seen(ref)
        assert (held.status, held.progress) == ("RUNNING", 0.99)
        await providers.finish()
        assert (await caller.seen(ref)).status == "SUCCEEDED"


async def test_a_run_of_no_time_at_all_still_waits_for_its_film() -> None:
    async with fleet(run_s=0) as providers:
        ref = await providers["runway"].submitted()
        assert (await providers["runway"].seen(ref)).status == "RUNNING"
        await providers.finish()
        assert (await providers["runway"].seen(ref)).status == "SUCCEEDED"


async def test_modes_change_how_jobs_are_shown() -> None:
    async with fleet(modes={"eachlabs": {"output": "list"}}) as providers:
        ref = await providers["eachlabs"].submitted(asking())
        await providers.finish()
        assert isinstance((await providers["eachlabs"].poll(ref)).json()["output"], list)


@pytest.mark.parametrize(
    "modes", [{"eachlabs": {"output": "hologram"}}, {"eachlabs": {"shape": "list"}}, {"nobody": {"a": "b"}}]
)
async def test_a_mode_that_there_is_not_is_refused(modes: dict[str, dict[str, str]]) -> None:
    with pytest.raises(ValueError, match="has no mode"):
        async with fleet(modes=modes):
            pass
