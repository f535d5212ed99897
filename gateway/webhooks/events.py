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


DEFAULT_EVENTS = (EventType.SUCCEEDED, EventType.FAILED, EventType.CANCELLED)
"""What is told when a job's webhook names no events: how it ended."""
