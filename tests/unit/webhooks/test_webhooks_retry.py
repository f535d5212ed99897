"""When the next try is due."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.model import Webhooks
from gateway.webhooks.outcome import Outcome
from gateway.webhooks.retry import BUSY_S, CAREFUL_S, next_try

SCHEDULE_S = Webhooks().schedule_s
NOW_MS = 1_795_000_000_000


def wait(
    tries: int,
    outcome: Outcome = Outcome.CONNECTION,
    retry_after: str | None = None,
    *,
    jitter: float = 0.0,
    spread: float = 0.5,
) -> float | None:
    return next_try(
        tries=tries,
        outcome=outcome,
        retry_after=retry_after,
        schedule_s=SCHEDULE_S,
        jitter=jitter,
        spread=spread,
        now_ms=NOW_MS,
    )


def test_the_schedule_is_ten_tries_over_about_75_hours_then_none() -> None:
    waits = [wait(tries) for tries in range(10)]
    assert waits == [0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
    assert sum(filter(None, waits)) / 3600 == pytest.approx(75.6, abs=0.1)
    assert wait(10) is None
    assert wait(11) is None


@pytest.mark.parametrize("tries", range(1, 10))
def test_jitter_goes_a_fifth_either_way(tries: int) -> None:
    for spread, factor in ((0.0, 0.8), (0.5, 1.0), (1.0, 1.2)):
        assert wait(tries, jitter=0.2, spread=spread) == pytest.approx(SCHEDULE_S[tries] * factor)


@pytest.mark.parametrize("outcome", [Outcome.TIMEOUT, Outcome.THROTTLED])
def test_after_a_sign_of_overload_the_wait_is_a_minute_at_least(outcome: Outcome) -> None:
    assert wait(1, outcome) == CAREFUL_S
    assert wait(1, outcome, jitter=0.2, spread=0.0) == CAREFUL_S
    assert wait(1, outcome, jitter=0.2, spread=1.0) == pytest.approx(72)
    assert wait(2, outcome) == 300


@pytest.mark.parametrize("outcome", [Outcome.GONE, Outcome.DELIVERED])
def test_what_is_settled_is_not_tried_again(outcome: Outcome) -> None:
    assert wait(1, outcome, "60") is None


@pytest.mark.parametrize("tries", [0, 5, 10, 99])
def test_a_try_that_was_none_comes_again_soon_however_many_there_were(tries: int) -> None:
    assert wait(tries, Outcome.BUSY) == BUSY_S


@pytest.mark.parametrize(
    ("asked", "given_s"),
    [
        ("1", 300),
        ("299", 300),
        ("450", 450),
        ("601", 600),
        ("9999999", 600),
        ("1000000000", 300),
        ("-5", 300),
        ("soon", 300),
        ("", 300),
        (formatdate(NOW_MS / 1000 + 400, usegmt=True), 400),
        (formatdate(NOW_MS / 1000 - 400, usegmt=True), 300),
        (formatdate(NOW_MS / 1000 + 10**8, usegmt=True), 600),
    ],
)
def test_a_receiver_can_double_the_wait_at_most_and_never_shorten_it(asked: str, given_s: float) -> None:
    assert wait(2, Outcome.THROTTLED, asked) == pytest.approx(given_s)


@given(
    tries=st.integers(1, 9),
    outcome=st.sampled_from([outcome for outcome in Outcome if outcome is not Outcome.BUSY]),
    retry_after=st.none() | st.text(max_size=40) | st.integers(-10, 10**12).map(str),
    jitter=st.floats(0, 1),
    spread=st.floats(0, 1),
)
def test_whatever_is_asked_the_wait_keeps_its_bounds(
    tries: int, outcome: Outcome, retry_after: str | None, jitter: float, spread: float
) -> None:
    given_s = wait(tries, outcome, retry_after, jitter=jitter, spread=spread)
    if outcome in {Outcome.GONE, Outcome.DELIVERED, Outcome.OVERTAKEN}:
        assert given_s is None
        return
    floor_s = CAREFUL_S if outcome in {Outcome.TIMEOUT, Outcome.THROTTLED} else 0
    planned_s = max(SCHEDULE_S[tries], floor_s)
    assert given_s is not None
    assert max(planned_s * (1 - jitter), floor_s) <= given_s <= 2 * planned_s * (1 + jitter) + 1e-6
