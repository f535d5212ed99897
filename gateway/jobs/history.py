"""What a step changed, as JSON for the event log, and the log read back.

Replaying a job's events over its first state gives the row as it stands; the tests hold that invariant
after every fault they inject.
"""

from __future__ import annotations

import msgspec

from gateway.jobs.job import Attempt, JobState

Changes = dict[str, object]


def changed(before: JobState | Attempt | None, after: JobState | Attempt) -> Changes:
    """Return the fields of `after` that differ, with None for those that went back to their default."""
    old = {} if before is None else _fields(before)
    new = _fields(after)
    found = {name: value for name, value in new.items() if name not in old or old[name] != value}
    return found | dict.fromkeys(old.keys() - new.keys())


class Replay:
    """A log read back entry by entry: after each, the job is as it was when that entry was written."""

    def __init__(self) -> None:
        self._state: Changes = {}
        self._attempts: dict[str, Changes] = {}

    def take(self, state: Changes | None, attempt: Changes | None) -> None:
        """Take what one entry changed; an attempt is named by `id`."""
        self._state |= state or {}
        if attempt is not None:
            self._attempts.setdefault(str(attempt["id"]), {}).update(attempt)

    def state(self) -> JobState:
        """Return the job's state, raising `msgspec.ValidationError` for one that this version cannot read."""
        return msgspec.convert(_known(self._state), JobState)

    def attempts(self) -> tuple[Attempt, ...]:
        """Return the job's attempts in their order; raises like `state`."""
        found = (msgspec.convert(_known(one), Attempt) for one in self._attempts.values())
        return tuple(sorted(found, key=lambda attempt: attempt.number))


def _fields(value: JobState | Attempt) -> Changes:
    fields: Changes = msgspec.to_builtins(value)
    return fields


def _known(folded: Changes) -> Changes:
    return {name: value for name, value in folded.items() if value is not None}
