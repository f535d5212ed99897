"""When to poll next."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_examples import POLL
from msgspec.structs import replace

from gateway.registry import load_adapters
from gateway.routing.pacing import LONGEST_LATE_S, first_poll_s, late_poll_s, next_poll_s
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
