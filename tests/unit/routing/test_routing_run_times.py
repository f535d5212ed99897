"""What is learned of run times."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pacing_trial import taught

from gateway.routing.run_times import ENOUGH, MEMORY, Learned, hazard, learn

STEADY = settings(derandomize=True, database=None, deadline=None)
ANYTHING = st.floats(allow_nan=True, allow_infinity=True)
RUNS = st.lists(st.tuples(ANYTHING, ANYTHING), max_size=80)


def of(*runs_s: float, start: Learned | None = None) -> Learned:
    """What runs teach whose time is known exactly."""
    learned = start or Learned()
    for run_s in runs_s:
        learned = learn(learned, after_s=run_s, by_s=run_s)
    return learned


def test_the_statistics_are_those_of_the_logarithms() -> None:
    logs = [0.0, 1.0, 2.0]
    learned = of(*(math.exp(one) for one in logs))
    assert (learned.n, learned.mean, learned.m2) == pytest.approx((3, 1.0, 2.0))
    assert learned.median_s == pytest.approx(math.e)


def test_ten_runs_are_enough() -> None:
    assert not of(*[60.0] * (ENOUGH - 1)).enough
    assert of(*[60.0] * ENOUGH).enough


@pytest.mark.parametrize(
    ("after_s", "by_s", "learned_s"),
    [(50, 50, 50), (40, 60, 50), (0, 60, 30), (-5, 60, 30), (0, 0.0001, 0.001), (0, 1e300, 302_400)],
)
def test_while_little_is_known_a_run_ended_in_the_middle_between_two_looks(
    after_s: float, by_s: float, learned_s: float
) -> None:
    assert learn(Learned(), after_s=after_s, by_s=by_s).median_s == pytest.approx(learned_s)


@pytest.mark.parametrize(("after_s", "by_s"), [(0, 0), (0, -1), (61, 60), (0, math.inf), (math.nan, 60)])
def test_what_makes_no_sense_teaches_nothing(after_s: float, by_s: float) -> None:
    known = of(60, 61, 62)
    assert learn(known, after_s=after_s, by_s=by_s) == known


def test_a_run_that_ended_before_the_first_look_most_likely_ended_shortly_before() -> None:
    known = taught(200, 0.3, Random(1))  # noqa: S311
    moved = learn(known, after_s=0, by_s=110)
    alike = of(95, start=known)
    assert known.median_s > moved.median_s >= alike.median_s


def test_one_odd_run_moves_it_little() -> None:
    known = taught(60, 0.3, Random(1))  # noqa: S311
    for odd_s in (0.01, 86_400.0):
        moved = of(odd_s, start=known)
        assert 0.97 < moved.median_s / known.median_s < 1.03
        assert moved.spread < known.spread * 1.25


@pytest.mark.parametrize(("before_s", "now_s"), [(20, 200), (200, 20), (60, 70)])
def test_it_follows_a_provider_that_becomes_slower_or_faster(before_s: float, now_s: float) -> None:
    random = Random(3)  # noqa: S311
    learned = taught(before_s, 0.3, random)
    learned = of(*(now_s * math.exp(random.gauss(0, 0.3)) for _ in range(3 * round(MEMORY))), start=learned)
    assert learned.median_s == pytest.approx(now_s, rel=0.2)
    assert learned.n <= MEMORY


def test_alike_runs_leave_room_for_one_that_is_not() -> None:
    assert of(*[60.0] * 1000).spread == pytest.approx(0.1, abs=0.02)
    assert of(*[60.0] * ENOUGH).spread > 0.15


def test_fifty_runs_tell_the_distribution() -> None:
    learned = taught(45, 0.5, Random(2), runs=50)  # noqa: S311
    assert learned.median_s == pytest.approx(45, rel=0.2)
    assert learned.spread == pytest.approx(0.5, rel=0.2)


def test_runs_end_seldom_early_then_often_and_late_ones_are_no_wonder() -> None:
    learned = taught(60, 0.3, Random(2))  # noqa: S311
    assert hazard(learned, 0) == 0
    assert hazard(learned, 1e-6) == pytest.approx(0)
    early, usual, late, forgotten = (hazard(learned, age_s) for age_s in (20, 60, 100, 6000))
    assert early < usual < late
    assert forgotten < usual / 10


@STEADY
@given(RUNS)
def test_whatever_was_seen_the_statistics_are_finite(runs: list[tuple[float, float]]) -> None:
    learned = Learned()
    for after_s, by_s in runs:
        learned = learn(learned, after_s=after_s, by_s=by_s)
    assert 0 <= learned.n <= MEMORY
    assert 0 <= learned.m2 < math.inf
    assert 0 < learned.median_s < math.inf
    assert 0.1 <= learned.spread <= 2


@STEADY
@given(RUNS, st.lists(st.floats(0, 1e12), min_size=1))
def test_whatever_was_seen_the_hazard_is_finite(runs: list[tuple[float, float]], ages_s: list[float]) -> None:
    learned = Learned()
    for after_s, by_s in runs:
        learned = learn(learned, after_s=after_s, by_s=by_s)
    assert all(0 <= hazard(learned, age_s) < math.inf for age_s in ages_s)
