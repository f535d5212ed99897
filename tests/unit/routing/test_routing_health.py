"""What is known of an account after a call, and what follows from it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.routing.breaker import IN_A_ROW, OPEN_MS
from gateway.routing.health import (
    CUT,
    FIRST_PAUSE_MS,
    LONGEST_ASKED_MS,
    LONGEST_PAUSE_MS,
    UNAUTHORIZED_MS,
    UNFUNDED_MS,
    UNUSED_MS,
    WELL,
    Health,
    Limits,
    Operation,
    Outcome,
    Shut,
    begun,
    called_off,
    cap_of,
    noted,
    room,
    shut,
    unwell,
)

SUBMIT, POLL, CANCEL = Operation.SUBMIT, Operation.POLL, Operation.CANCEL
NO_LIMITS = Limits()


def code(shown: int | Shut | None) -> int | str | None:
    return shown.code if isinstance(shown, Shut) else shown


def shut_codes(health: Health, now_ms: int = 0) -> list[str | None]:
    """Why submits, polls and cancels are withheld."""
    found = [shut(health, operation, now_ms=now_ms) for operation in Operation]
    return [None if one is None else one.code for one in found]


def refused(health: Health = WELL, *, times: int = 1, now_ms: int = 0, **more: float) -> Health:
    for _ in range(times):
        health = noted(health, SUBMIT, Outcome.THROTTLED, now_ms=now_ms, **more)  # type: ignore[arg-type]  # floats
    return health


@pytest.mark.parametrize(
    ("operation", "outcome", "times", "codes"),
    [
        (SUBMIT, Outcome.FINE, 9, [None, None, None]),
        (SUBMIT, Outcome.FAILED, IN_A_ROW - 1, [None, None, None]),
        (SUBMIT, Outcome.FAILED, IN_A_ROW, ["breaker_open", None, None]),
        (POLL, Outcome.FAILED, IN_A_ROW, [None, "breaker_open", None]),
        (CANCEL, Outcome.FAILED, IN_A_ROW, [None, None, "breaker_open"]),
        (SUBMIT, Outcome.THROTTLED, 1, ["paused", None, None]),
        (POLL, Outcome.THROTTLED, 9, [None, None, None]),
        (SUBMIT, Outcome.UNFUNDED, 1, ["unfunded", None, None]),
        (SUBMIT, Outcome.UNAUTHORIZED, 1, ["unauthorized", "unauthorized", "unauthorized"]),
        (POLL, Outcome.UNAUTHORIZED, 1, ["unauthorized", "unauthorized", "unauthorized"]),
    ],
)
def test_what_a_call_withholds(
    operation: Operation, outcome: Outcome, times: int, codes: list[str | None]
) -> None:
    health = WELL
    for _ in range(times):
        health = noted(health, operation, outcome, now_ms=0)
    assert shut_codes(health) == codes


def test_a_broken_submit_never_keeps_paid_results_from_being_fetched() -> None:
    broken = WELL
    for now_ms in range(40):
        broken = noted(broken, SUBMIT, Outcome.FAILED, now_ms=now_ms)
    assert shut(broken, POLL, now_ms=40) is None


@pytest.mark.parametrize(
    ("retry_after_s", "until_ms"),
    [
        (None, FIRST_PAUSE_MS),
        (0.0, FIRST_PAUSE_MS),
        (30.0, 30_000),
        (1e9, LONGEST_ASKED_MS),
    ],
)
def test_a_429_pauses_for_as_long_as_it_asks_within_bounds(
    retry_after_s: float | None, until_ms: int
) -> None:
    health = noted(WELL, SUBMIT, Outcome.THROTTLED, now_ms=0, retry_after_s=retry_after_s)
    closed = shut(health, SUBMIT, now_ms=0)
    assert closed is not None
    assert closed.until_ms == until_ms


def test_429s_of_one_moment_count_as_one_and_later_ones_pause_longer() -> None:
    health, now_ms, lengths = WELL, 0, []
    for _ in range(14):
        health = refused(health, times=5, now_ms=now_ms)
        lengths.append(health.throttled.until_ms - now_ms)
        now_ms = health.throttled.until_ms
        health = begun(health, NO_LIMITS, now_ms=now_ms)
    assert lengths[:3] == [FIRST_PAUSE_MS, 2 * FIRST_PAUSE_MS, 4 * FIRST_PAUSE_MS]
    assert all(before <= after for before, after in pairwise(lengths))
    assert lengths[-1] == LONGEST_PAUSE_MS


def test_a_429_cuts_the_cap_and_submits_that_go_well_raise_it_to_the_configured() -> None:
    limits = Limits(max_in_flight=10)
    health = noted(WELL, SUBMIT, Outcome.THROTTLED, now_ms=0, in_flight=10, limits=limits)
    assert cap_of(health, limits) == int(10 * CUT)
    caps = []
    for now_ms in range(10_000, 10_060):
        health = noted(health, SUBMIT, Outcome.FINE, now_ms=now_ms, limits=limits)
        caps.append(cap_of(health, limits))
    assert caps == sorted(caps)  # type: ignore[type-var]  # never None: 10 is configured
    assert (caps[-1], health.window) == (10, None)


@pytest.mark.parametrize("limits", [NO_LIMITS, Limits(max_in_flight=9)])
def test_the_cap_never_falls_below_one(limits: Limits) -> None:
    health, now_ms = WELL, 0
    for _ in range(20):
        health = noted(health, SUBMIT, Outcome.THROTTLED, now_ms=now_ms, in_flight=1, limits=limits)
        now_ms = health.throttled.until_ms
        health = begun(health, limits, now_ms=now_ms)
    assert cap_of(health, limits) == 1


def test_one_429_of_an_idle_account_does_not_take_its_slots_away() -> None:
    limits = Limits(max_in_flight=50)
    assert cap_of(noted(WELL, SUBMIT, Outcome.THROTTLED, now_ms=0, limits=limits), limits) == 35
    assert cap_of(noted(WELL, SUBMIT, Outcome.THROTTLED, now_ms=0), NO_LIMITS) is None


def test_without_a_configured_cap_that_of_a_429_is_over_once_twice_as_many_run() -> None:
    health = noted(WELL, SUBMIT, Outcome.THROTTLED, now_ms=0, in_flight=10)
    assert cap_of(health, NO_LIMITS) == int(10 * CUT)
    caps = []
    for now_ms in range(10_000, 10_300):
        health = noted(health, SUBMIT, Outcome.FINE, now_ms=now_ms)
        caps.append(cap_of(health, NO_LIMITS))
    grown = [cap for cap in caps if cap is not None]
    assert grown == sorted(grown)
    assert (max(grown), caps[-1]) == (19, None)
    assert health == WELL


@pytest.mark.parametrize(
    ("limits", "in_flight", "free"),
    [
        (NO_LIMITS, 999, None),
        (Limits(max_in_flight=3), 0, 3),
        (Limits(max_in_flight=3), 2, 1),
        (Limits(max_in_flight=3), 3, "no_slot"),
        (Limits(max_in_flight=3), 9, "no_slot"),
        (Limits(submits_per_second=5.0), 0, 1),
    ],
)
def test_how_many_submits_there_is_room_for(limits: Limits, in_flight: int, free: int | str | None) -> None:
    assert code(room(WELL, limits, in_flight, now_ms=0)) == free


def test_submits_keep_their_pace() -> None:
    limits, health = Limits(submits_per_second=4.0), WELL
    starts = []
    for now_ms in range(0, 3000, 10):
        if code(room(health, limits, 0, now_ms=now_ms)) == 1:
            starts.append(now_ms)
            health = begun(health, limits, now_ms=now_ms)
    assert [after - before for before, after in pairwise(starts)] == [250] * (len(starts) - 1)


@pytest.mark.parametrize(
    ("outcome", "length_ms"),
    [(Outcome.UNAUTHORIZED, UNAUTHORIZED_MS), (Outcome.UNFUNDED, UNFUNDED_MS), (Outcome.THROTTLED, 2000)],
)
def test_after_a_pause_one_submit_tries_and_ends_it(outcome: Outcome, length_ms: int) -> None:
    paused = noted(WELL, SUBMIT, outcome, now_ms=0, in_flight=4)
    assert code(room(paused, NO_LIMITS, 0, now_ms=length_ms - 1)) in {"unauthorized", "unfunded", "paused"}
    assert room(paused, NO_LIMITS, 0, now_ms=length_ms) == 1
    tried = begun(paused, NO_LIMITS, now_ms=length_ms)
    assert isinstance(room(tried, NO_LIMITS, 0, now_ms=length_ms), Shut)
    well = noted(tried, SUBMIT, Outcome.FINE, now_ms=length_ms + 9)
    assert replace(well, window=None, reached=0) == WELL


@pytest.mark.parametrize(
    ("outcome", "times", "lasting"),
    [
        (Outcome.FAILED, IN_A_ROW, True),
        (Outcome.UNAUTHORIZED, 1, True),
        (Outcome.UNFUNDED, 1, True),
        (Outcome.THROTTLED, 1, False),
    ],
)
def test_what_was_shut_is_unwell_until_a_call_goes_well(
    outcome: Outcome,
    times: int,
    lasting: bool,  # noqa: FBT001 - a column
) -> None:
    health, now_ms = WELL, 0
    assert not unwell(health, SUBMIT, now_ms=now_ms)
    for _ in range(times):
        health = noted(health, SUBMIT, outcome, now_ms=now_ms)
    for _ in range(3):
        assert unwell(health, SUBMIT, now_ms=now_ms)
        now_ms += LONGEST_PAUSE_MS
        assert unwell(health, SUBMIT, now_ms=now_ms) is lasting, "a call may be made, and nobody makes one"
        health = begun(health, NO_LIMITS, now_ms=now_ms)
        assert unwell(health, SUBMIT, now_ms=now_ms), "one is made"
        now_ms += 10_000
        health = noted(health, SUBMIT, outcome, now_ms=now_ms)
    now_ms += LONGEST_PAUSE_MS
    health = noted(begun(health, NO_LIMITS, now_ms=now_ms), SUBMIT, Outcome.FINE, now_ms=now_ms)
    assert [unwell(health, operation, now_ms=now_ms) for operation in Operation] == [False] * 3


def test_a_kind_of_call_that_nobody_makes_any_more_is_unwell_for_an_hour() -> None:
    health = WELL
    for _ in range(IN_A_ROW):
        health = noted(health, SUBMIT, Outcome.FAILED, now_ms=0)
    over_ms = health.submit.open_until_ms + UNUSED_MS
    assert [unwell(health, SUBMIT, now_ms=now_ms) for now_ms in (over_ms - 1, over_ms)] == [True, False]


def test_a_probe_that_was_not_sent_after_all_makes_room_for_another() -> None:
    opened = WELL
    for _ in range(IN_A_ROW):
        opened = noted(opened, SUBMIT, Outcome.FAILED, now_ms=0)
    tried = begun(opened, NO_LIMITS, now_ms=OPEN_MS)
    assert isinstance(room(tried, NO_LIMITS, 0, now_ms=OPEN_MS), Shut)
    assert room(called_off(tried, now_ms=OPEN_MS), NO_LIMITS, 0, now_ms=OPEN_MS) == 1


def test_an_answer_from_before_a_pause_does_not_end_it() -> None:
    stopped = noted(WELL, SUBMIT, Outcome.UNAUTHORIZED, now_ms=100)
    assert noted(stopped, POLL, Outcome.FINE, now_ms=101) == stopped


CALLS = st.lists(
    st.tuples(
        st.sampled_from(Operation),
        st.sampled_from(Outcome),
        st.integers(0, 100_000),
        st.integers(0, 50),
        st.one_of(st.none(), st.floats(0, 1e9)),
    ),
    max_size=40,
)


@given(CALLS, st.one_of(st.none(), st.integers(1, 50)))
def test_whatever_happens_the_account_is_tried_again_within_the_hour(
    calls: list[tuple[Operation, Outcome, int, int, float | None]], most: int | None
) -> None:
    health, now_ms, limits = WELL, 0, Limits(max_in_flight=most)
    for operation, outcome, later_ms, in_flight, retry_after_s in calls:
        now_ms += later_ms
        if operation is SUBMIT and not isinstance(room(health, limits, 0, now_ms=now_ms), Shut):
            health = begun(health, limits, now_ms=now_ms)
        health = noted(
            health,
            operation,
            outcome,
            now_ms=now_ms,
            in_flight=in_flight,
            retry_after_s=retry_after_s,
            limits=limits,
        )
        cap = cap_of(health, limits)
        assert cap is None or 1 <= cap <= (most or 10**9)
    assert shut_codes(health, now_ms + LONGEST_ASKED_MS) == [None, None, None]
    free = room(health, limits, 0, now_ms=now_ms + LONGEST_ASKED_MS)
    assert free is None or (isinstance(free, int) and free >= 1)
