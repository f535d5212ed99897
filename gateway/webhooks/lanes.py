"""In which queue a delivery stands: its endpoint's, or that of its owner's jobs for a host and port. Pure."""

from __future__ import annotations

from msgspec import Struct


class WaitingLane(Struct, frozen=True):
    """A lane with deliveries that could be claimed, now or later."""

    lane: str
    owner: str
    """Empty where nobody knows: a version stored it that had a lane for all owners' jobs at a host."""
    due_at_ms: int
    """When the first of them is due."""
    endpoint_enabled: bool = False
    """False for a job's own receiver, too, which cannot be disabled."""


def lane_of(url: str, owner: str) -> str:
    """Return the lane of a job's own receiver, whose URL is in normal form: host and port, then the owner."""
    return f"{url.partition('://')[2].partition('/')[0]} {owner}"


def target_of(lane: str) -> str:
    """Return what all lanes with it share the sockets of: an endpoint, or a host and port."""
    return lane.partition(" ")[0]


def owner_of(lane: str) -> str:
    """Return the owner that a lane of a job's own receiver names; empty when it names none."""
    return lane.partition(" ")[2]
