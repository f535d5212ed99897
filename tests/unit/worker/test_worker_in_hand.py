"""How much of each lane a worker takes."""

from __future__ import annotations

import pytest

from gateway.webhooks.outcome import Outcome
from gateway.worker import in_hand
from gateway.worker.in_hand import InHand

MANY = 1000


def test_nobody_takes_more_than_a_quarter_of_what_is_left() -> None:
    hand = InHand(most=16)
    assert [hand.room("a", left) for left in (256, 64, 40, 8, 3, 1)] == [16, 16, 10, 2, 1, 1]


def test_a_lane_has_its_most_and_takes_nothing_from_others() -> None:
    hand = InHand(most=2)
    for room in (2, 1, 0):
        assert hand.room("a", MANY) == room
        hand.take("a")
    assert hand.room("b", MANY) == 2
    for _ in range(3):
        hand.put_down("a")
    assert hand.room("a", MANY) == 2
    assert not hand._counts, "a lane at rest costs nothing"


def test_one_that_runs_out_of_time_has_one_at_once_until_it_answers() -> None:
    hand = InHand(most=8)
    hand.learn("a", Outcome.TIMEOUT)
    assert (hand.room("a", MANY), hand.room("b", MANY)) == (1, 8)
    hand.take("a")
    assert hand.room("a", MANY) == 0
    hand.learn("a", Outcome.BUSY)
    assert hand.room("a", MANY) == 0, "it was not asked"
    hand.learn("a", Outcome.HTTP_ERROR)
    assert hand.room("a", MANY) == 7


def test_no_more_lanes_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_hand, "MOST_STRUGGLING", 3)
    hand = InHand(most=8)
    for number in range(100):
        hand.learn(str(number), Outcome.TIMEOUT)
        assert hand.room(str(number), MANY) == 1
    assert len(hand._struggling) <= 3
