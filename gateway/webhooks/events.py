"""What a receiver can be told."""

from __future__ import annotations

from enum import StrEnum


class EventType(StrEnum):
    """The `type` of a webhook."""

    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    RUNNING = "job.running"
    """A provider began to work on it."""
    PROGRESS = "job.progress"
    HELD = "job.held"
    """It stands still until somebody can tell whether it was submitted."""


KNOWN = frozenset(event.value for event in EventType)
"""As texts, among all that a job's log holds."""

PING = "ping"
"""The type of a test: about no job, and sent on request alone."""

DEFAULT_EVENTS = (EventType.SUCCEEDED, EventType.FAILED, EventType.CANCELLED)
"""What is told when a job's webhook names no events: how it ended."""
