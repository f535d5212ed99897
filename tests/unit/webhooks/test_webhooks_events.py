"""The event types are the ones jobs really have."""

from __future__ import annotations

from gateway.jobs.transitions import ENDED
from gateway.webhooks.events import DEFAULT_EVENTS, EventType


def test_by_default_a_receiver_is_told_every_end_and_nothing_else() -> None:
    assert set(DEFAULT_EVENTS) == set(ENDED.values())


def test_the_types_are_the_documented_ones() -> None:
    assert [*EventType] == [
        "job.succeeded",
        "job.failed",
        "job.cancelled",
        "job.running",
        "job.progress",
        "job.held",
    ]
