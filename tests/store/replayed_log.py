"""A job's whole log folded at once, by what the gateway folds it with entry by entry."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.jobs.history import Changes, Replay
from gateway.jobs.job import Attempt, JobState


def replay_state(changes: Iterable[Changes]) -> JobState:
    """Fold the logged changes of a job's state, oldest first."""
    replay = Replay()
    for entry in changes:
        replay.take(entry, None)
    return replay.state()


def replay_attempts(changes: Iterable[Changes]) -> dict[str, Attempt]:
    """Fold the logged changes of a job's attempts, oldest first; each entry names its attempt by `id`."""
    replay = Replay()
    for entry in changes:
        replay.take(None, entry)
    return {attempt.id: attempt for attempt in replay.attempts()}
