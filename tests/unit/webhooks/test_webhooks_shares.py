"""How places are shared among owners, and lanes slow and quick."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

from gateway.webhooks import shares
from gateway.webhooks.lanes import WaitingLane
from gateway.webhooks.outcome import Outcome
from gateway.webhooks.shares import SLOW_S, Pace, Shares, bounds, fits, pace_of

SLOW, NEW, QUICK = Pace
MOST = {SLOW: 32, NEW: 48, QUICK: 64}
NOTHING = {SLOW: 0, NEW: 0, QUICK: 0}


@pytest.mark.parametrize(
    ("outcome", "took_s", "pace"),
    [
        (Outcome.DELIVERED, 0.1, QUICK),
        (Outcome.DELIVERED, SLOW_S, SLOW),  # an answer, and yet it cost others the place
        (Outcome.HTTP_ERROR, 14.0, SLOW),
        (Outcome.CONNECTION, 0.0, QUICK),
        (Outcome.TIMEOUT, 0.5, SLOW),  # whatever the deadline is
        (Outcome.BUSY, 0.0, None),
    ],
)
def test_how_long_a_try_took_decides_and_not_what_came_of_it(
    outcome: Outcome, took_s: float, pace: Pace | None
) -> None:
    assert pace_of(outcome, took_s) is pace


@pytest.mark.parametrize(
    ("total", "at_once", "most"),
    [
        (64, 64, MOST),
        (256, 64, {SLOW: 32, NEW: 48, QUICK: 256}),
        (2, 2, {SLOW: 1, NEW: 1, QUICK: 2}),
        (1, 1, {SLOW: 1, NEW: 1, QUICK: 1}),
    ],
)
def test_slow_lanes_have_half_and_a_quarter_is_for_quick_ones(
    total: int, at_once: int, most: Mapping[Pace, int]
) -> None:
    assert bounds(total=total, at_once=at_once) == most


@pytest.mark.parametrize(
    ("pace", "taken", "own", "may"),
    [
        (QUICK, NOTHING, NOTHING, True),
        (QUICK, {SLOW: 0, NEW: 0, QUICK: 64}, NOTHING, False),
        (QUICK, {SLOW: 32, NEW: 48, QUICK: 63}, NOTHING, True),
        (NEW, {SLOW: 32, NEW: 47, QUICK: 47}, NOTHING, True),
        (NEW, {SLOW: 0, NEW: 48, QUICK: 48}, NOTHING, False),
        (SLOW, {SLOW: 31, NEW: 31, QUICK: 31}, NOTHING, True),
        (SLOW, {SLOW: 32, NEW: 32, QUICK: 32}, NOTHING, False),
        # An owner alone has three quarters of each, and the next three quarters of the rest.
        (QUICK, {SLOW: 0, NEW: 0, QUICK: 47}, {SLOW: 0, NEW: 0, QUICK: 47}, True),
        (QUICK, {SLOW: 0, NEW: 0, QUICK: 48}, {SLOW: 0, NEW: 0, QUICK: 48}, False),
        (NEW, {SLOW: 0, NEW: 36, QUICK: 36}, {SLOW: 0, NEW: 36, QUICK: 36}, False),
        (SLOW, {SLOW: 24, NEW: 24, QUICK: 24}, {SLOW: 24, NEW: 24, QUICK: 24}, False),
        (SLOW, {SLOW: 24, NEW: 24, QUICK: 24}, {SLOW: 5, NEW: 5, QUICK: 5}, True),
        (QUICK, {SLOW: 0, NEW: 0, QUICK: 60}, {SLOW: 0, NEW: 0, QUICK: 11}, True),
        (QUICK, {SLOW: 0, NEW: 0, QUICK: 60}, {SLOW: 0, NEW: 0, QUICK: 12}, False),
    ],
)
def test_who_may_have_one_place_more(
    pace: Pace, taken: Mapping[Pace, int], own: Mapping[Pace, int], *, may: bool
) -> None:
    assert fits(pace, most=MOST, taken=taken, own=own) is may


def a_hand(total: int = 64, per_lane: int = 4, *quick: str) -> Shares:
    """Nothing taken; these lanes are quick."""
    hand = Shares(total=total, per_lane=per_lane)
    for lane in quick:
        hand.learn(lane, QUICK)
    return hand


def take_all(hand: Shares, lane: str, owner: str) -> int:
    """Take as many as it may have; how many."""
    count = 0
    while hand.may_take(lane, owner):
        hand.take(lane, owner)
        count += 1
    return count


def test_a_lane_has_one_until_it_was_quick_and_one_again_once_it_is_slow() -> None:
    hand = a_hand()
    assert take_all(hand, "a", "owner") == 1
    hand.learn("a", QUICK)
    assert take_all(hand, "a", "owner") == 3
    hand.learn("a", SLOW)
    for _ in range(3):
        hand.put_down("a", "owner")
        assert not hand.may_take("a", "owner")
    hand.put_down("a", "owner")
    assert take_all(hand, "a", "owner") == 1
    hand.learn("a", None)
    hand.put_down("a", "owner")
    assert take_all(hand, "a", "owner") == 1, "a try that was none says nothing"


def test_slow_lanes_of_many_owners_leave_half_to_the_others() -> None:
    hand = a_hand()
    for number in range(100):
        hand.learn(f"slow {number}", SLOW)
    assert sum(take_all(hand, f"slow {number}", f"owner {number}") for number in range(100)) == 32
    assert take_all(hand, "new", "another") == 1
    hand.learn("quick", QUICK)
    assert take_all(hand, "quick", "yet another") == 4


def test_an_owners_new_lanes_leave_room_for_anothers() -> None:
    hand = a_hand()
    assert sum(take_all(hand, f"new {number}", "many") for number in range(200)) == 36
    assert sum(take_all(hand, f"other {number}", "few") for number in range(5)) == 5


def test_a_lane_that_turned_slow_counts_among_the_slow_at_once() -> None:
    hand = a_hand(8, 8, "a")
    assert take_all(hand, "a", "x") == 6
    hand.learn("b", SLOW)
    assert hand.may_take("b", "y")
    hand.learn("a", SLOW)
    assert not hand.may_take("b", "y")


def test_places_go_round_by_owner_and_lane_and_a_backlog_waits_its_turn() -> None:
    hand = a_hand(64, 16, "backlog", "a", "b")
    hand.learn("c", SLOW)
    waiting = [
        WaitingLane("backlog", "busy", 1),
        WaitingLane("a", "idle", 5),
        WaitingLane("b", "idle", 6),
        WaitingLane("c", "idle", 7),
    ]
    assert hand.deal(waiting, 1) == {"backlog": 1}
    assert hand.deal(waiting, 4) == {"backlog": 2, "a": 1, "b": 1}
    hand.take("backlog", "busy")
    assert hand.deal(waiting, 1) == {"a": 1}, "who has none goes first"
    assert hand.deal(waiting, 64) == {"backlog": 15, "a": 16, "b": 16, "c": 1}
    assert hand.deal([], 64) == {}
    assert hand._taken[QUICK] == 1, "dealing takes nothing"


def test_no_more_lanes_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "MOST_REMEMBERED", 3)
    hand = a_hand(64, 4, "a", "b")
    hand.take("b", "owner")
    for number in range(100):
        hand.learn("a", QUICK)  # tried again and again, it is not forgotten
        hand.learn(str(number), SLOW)
    assert len(hand._paces) == 3
    assert (hand.pace("a"), hand.pace("b"), hand.pace("0")) == (QUICK, NEW, NEW)
    hand.put_down("b", "owner")
    assert (+hand._taken, hand._owners, hand._lanes) == ({}, {}, {}), "what is at rest costs nothing"


def test_whatever_happens_the_counts_are_those_of_what_is_held() -> None:
    chance = random.Random(1)  # noqa: S311 - a test's
    hand = a_hand(16, 4)
    held: list[tuple[str, str]] = []
    for _ in range(5000):
        lane, owner = chance.choice("abcdef"), chance.choice("xyz")
        if chance.random() < 0.3:
            hand.learn(lane, chance.choice([*Pace]))
        elif chance.random() < 0.5 and hand.may_take(lane, owner):
            hand.take(lane, owner)
            held.append((lane, owner))
        elif held:
            hand.put_down(*held.pop(chance.randrange(len(held))))
        for kind in Pace:
            assert hand._taken[kind] == sum(hand.pace(one) <= kind for one, _ in held)
        assert hand._taken[QUICK] <= 16
        assert set(hand._owners) == {one for _, one in held}


def test_what_is_dealt_from_a_copy_leaves_the_places_themselves_alone() -> None:
    shares = Shares(total=8, per_lane=4)
    shares.take("a", "x")
    copied = shares.copied()
    assert copied.deal([WaitingLane(lane="b", owner="x", due_at_ms=0)], 8) == {"b": 1}
    copied.take("b", "x")
    shares.put_down("a", "x")
    assert (copied.may_take("a", "x"), shares.may_take("a", "x")) == (False, True)
    assert shares.may_take("b", "x")
