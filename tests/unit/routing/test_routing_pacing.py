"""When to poll next."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_examples import POLL
from msgspec.structs import replace
from pacing_trial import POLLS, attempt, fixed, least

from gateway.registry import load_adapters
from gateway.routing.pacing import (
    LONGEST_INTERVAL_S,
    LONGEST_LATE_S,
    Pace,
    first_poll_s,
    late_poll_s,
    next_poll_s,
    pace,
)
from gateway.routing.run_times import ENOUGH, LONGEST_S, MEMORY, SHORTEST_S, Learned, learn
from providers.contract.spec import PollSpec, Spec

STEADY = settings(derandomize=True, database=None, deadline=None)


def after(since_s: float, poll: PollSpec = POLL, **changes: Any) -> float:
    told = {"slow": False, "scale": 1.0, "spread": 0.5, "retry_after_s": None, **changes}
    return next_poll_s(poll, age_s=since_s, **told)


@pytest.mark.parametrize(
    ("since_s", "slow", "scale", "asked", "delay_s"),
    [
        (0, False, 1, None, 10),
        (299, False, 1, None, 10),
        (300, False, 1, None, 30),
        (0, True, 1, None, 60),
        (300, True, 1, None, 60),
        (0, False, 0.1, None, 1),
        (30, False, 0.1, None, 3),
        (0, False, 1, 45.0, 45),
        (0, False, 1, 3.0, 10),
        (0, False, 0.1, 45.0, 45),
    ],
)
def test_the_interval_fits_the_runs_age_and_the_providers_wish(
    since_s: float,
    slow: bool,  # noqa: FBT001 - a column
    scale: float,
    asked: float | None,
    delay_s: float,
) -> None:
    assert after(since_s, slow=slow, scale=scale, retry_after_s=asked) == pytest.approx(delay_s)


def test_the_first_poll_has_a_delay_of_its_own() -> None:
    assert first_poll_s(POLL, scale=1, spread=0.5) == 5
    assert first_poll_s(POLL, scale=0.01, spread=0.5) == pytest.approx(0.05)


def test_no_interval_is_below_the_floor() -> None:
    assert after(0, replace(POLL, interval_s=1, floor_s=4)) == 4
    assert first_poll_s(replace(POLL, first_s=0), scale=1, spread=0) == POLL.floor_s


@pytest.mark.parametrize(("spread", "factor"), [(0.0, 0.8), (0.5, 1.0), (1.0, 1.2)])
def test_jitter_varies_the_interval_either_way(spread: float, factor: float) -> None:
    poll = replace(POLL, jitter=0.2)
    delay_s = next_poll_s(poll, age_s=0, slow=False, scale=1, spread=spread, retry_after_s=None)
    assert delay_s == pytest.approx(10 * factor)


@STEADY
@given(
    st.sampled_from(load_adapters().specs),
    st.floats(0, 10_000),
    st.fixed_dictionaries(
        {
            "slow": st.booleans(),
            "scale": st.floats(0.01, 10),
            "spread": st.floats(0, 1),
            "retry_after_s": st.none() | st.floats(0.1, 3600),
        }
    ),
)
def test_no_installed_provider_is_asked_more_often_than_its_floor(
    spec: Spec, since_s: float, told: dict[str, Any]
) -> None:
    delay_s = after(since_s, spec.poll, **told)
    assert delay_s >= spec.poll.floor_s * told["scale"]
    assert delay_s >= (told["retry_after_s"] or 0.0)


@pytest.mark.parametrize(
    ("since_s", "scale", "delay_s"),
    [(0, 1, 30), (300, 1, 30), (900, 1, 90), (86_400, 1, LONGEST_LATE_S), (1, 0.01, 0.3), (60, 0.01, 6)],
)
def test_a_run_whose_job_has_ended_is_asked_about_ever_more_seldom(
    since_s: float, scale: float, delay_s: float
) -> None:
    assert late_poll_s(POLL, since_accepted_s=since_s, scale=scale, spread=0.5) == pytest.approx(delay_s)


RUN_TIMES = st.builds(
    Learned,
    n=st.floats(ENOUGH, MEMORY),
    mean=st.floats(math.log(SHORTEST_S), math.log(LONGEST_S)),
    m2=st.floats(0, 5000),
)


def paced(median_s: float, sigma: float = 0.3, *, polls: float = 8) -> Pace:
    """The pace of runs that last about `median_s`."""
    found = pace(Learned(n=50, mean=math.log(median_s), m2=49 * sigma**2), polls_per_job=polls)
    assert found is not None
    return found


def looks(found: Pace, until_s: float, poll: PollSpec = POLL) -> list[float]:
    """The ages at which a run is looked at that does not end before `until_s`."""
    ages_s = [first_poll_s(poll, scale=1, spread=0.5, pace=found)]
    while ages_s[-1] < until_s:
        ages_s.append(ages_s[-1] + after(ages_s[-1], poll, pace=found))
    return ages_s


def test_until_enough_is_learned_the_declared_times_hold() -> None:
    assert pace(Learned(n=ENOUGH - 1, mean=4, m2=1), polls_per_job=8) is None
    assert pace(Learned(n=ENOUGH, mean=4, m2=1), polls_per_job=8) is not None


def test_the_first_look_comes_where_the_first_runs_end() -> None:
    for median_s in (45.0, 200.0):
        found = paced(median_s)
        first_s = first_poll_s(POLL, scale=1, spread=0.5, pace=found)
        assert 0.4 * median_s < first_s < 0.8 * median_s
        sooner = first_poll_s(POLL, scale=1, spread=0.5, pace=paced(median_s, polls=20))
        assert sooner < first_s


def test_looks_are_densest_where_runs_end_most() -> None:
    ages_s = looks(paced(200), 1500)
    gaps = {before: now - before for before, now in pairwise(ages_s)}
    usual = min(gap for age_s, gap in gaps.items() if 150 < age_s < 350)
    assert ages_s[0] > 3 * usual
    assert max(gap for age_s, gap in gaps.items() if age_s > 900) > 2 * usual


def test_a_run_unlike_all_before_is_still_looked_at() -> None:
    ages_s = looks(paced(20), 3600)
    assert all(now - before <= POLL.later_s for before, now in pairwise(ages_s))
    ages_s = looks(paced(200), 7200)
    assert all(now - before <= 200 for before, now in pairwise(ages_s))
    ages_s = looks(paced(7200), 86_400)
    assert all(now - before <= LONGEST_INTERVAL_S for before, now in pairwise(ages_s))


def test_two_kinds_of_runs_are_both_found() -> None:
    learned = Learned()
    for _ in range(25):
        learned = learn(learn(learned, after_s=20, by_s=20), after_s=300, by_s=300)
    found = pace(learned, polls_per_job=8)
    assert found is not None
    for run_s in (20, 300):
        ages_s = looks(found, run_s)
        assert len(ages_s) < 16
        assert ages_s[-1] - run_s < 0.5 * run_s


@STEADY
@given(
    RUN_TIMES,
    st.floats(2, 100),
    st.sampled_from([POLL, *(spec.poll for spec in load_adapters().specs)]),
    st.floats(0, 1e9),
    st.fixed_dictionaries(
        {
            "slow": st.booleans(),
            "scale": st.floats(0.01, 10),
            "spread": st.floats(0, 1),
            "progress": st.none() | st.floats(0, 1),
        }
    ),
)
def test_whatever_was_learned_the_interval_lies_between_floor_and_cap(
    learned: Learned, polls: float, poll: PollSpec, age_s: float, told: dict[str, Any]
) -> None:
    found = pace(learned, polls_per_job=polls)
    assert found is not None
    floor_s = poll.floor_s * told["scale"]
    cap_s = max(
        poll.later_s * told["scale"], poll.slow_s * told["scale"], min(found.median_s, LONGEST_INTERVAL_S)
    )
    longest_s = max(floor_s, cap_s * (1 + poll.jitter) * 1.5) * 1.000001
    assert floor_s <= after(age_s, poll, pace=found, **told) <= longest_s
    first_s = first_poll_s(poll, scale=told["scale"], spread=told["spread"], pace=found)
    assert floor_s <= first_s <= longest_s


@STEADY
@given(RUN_TIMES, st.floats(2, 100), st.lists(st.floats(0, 1e9), min_size=2))
def test_an_older_run_is_not_looked_at_before_a_younger(
    learned: Learned, polls: float, ages_s: list[float]
) -> None:
    found = pace(learned, polls_per_job=polls)
    assert found is not None
    at_s = [found.next_age_s(age_s) for age_s in sorted(ages_s)]
    assert all(age_s <= then for age_s, then in zip(sorted(ages_s), at_s, strict=True))
    assert all(low <= high * 1.000001 for low, high in pairwise(at_s))


@pytest.mark.parametrize(
    ("age_s", "progress", "delay_s"),
    [
        (60, None, 10),  # nothing said
        (60, 0.04, 10),  # too little to tell a speed by
        (60, 0.5, 15),  # a minute to go: later, by half of the interval
        (60, 0.9, 7.3),  # 6.7 s to go, and a little more
        (60, 0.99, 5),  # almost there: sooner, by half of the interval
        (60, 1.0, 5),
        (0, 0.5, 10),
    ],
)
def test_progress_moves_a_poll_to_where_the_end_seems_to_be_but_not_far(
    age_s: float, progress: float | None, delay_s: float
) -> None:
    assert after(age_s, progress=progress) == pytest.approx(delay_s, abs=0.1)


def test_what_is_held_back_by_the_provider_is_asked_seldom_whatever_it_says() -> None:
    assert after(60, slow=True, pace=paced(45), progress=0.9) == POLL.slow_s


def test_what_the_provider_asks_for_counts_more_than_what_was_learned() -> None:
    assert after(60, pace=paced(45), retry_after_s=90) == 90


@pytest.mark.parametrize("sigma", [0.3, 0.5, 0.8])
def test_lag_times_polls_is_near_the_least_possible(sigma: float) -> None:
    """`make bench` tries the same with 10,000 jobs for each of 20 training sets."""
    tried = attempt(200, sigma, jobs=250, sets=20)
    assert tried.polls == pytest.approx(POLLS, rel=0.05)
    assert tried.product < 1.15 * least(200, sigma)


def test_the_least_possible_is_what_theory_says() -> None:
    shares = [least(45, sigma) / fixed(45, sigma) for sigma in (0.3, 0.5, 0.8)]
    assert shares == pytest.approx([0.51, 0.73, 0.91], abs=0.005)
