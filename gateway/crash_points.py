"""Named places at which this process can be made to die, so that tests can prove what survives.

Off unless the environment says `MOTION_GATEWAY_CRASH_AT=name`, or `name:3` for the third time it is reached:
the process then kills itself with SIGKILL, which runs no handler and flushes nothing, as a lost machine does.
Whoever adds a place adds its name here; a test sweeps them all, and fails when one is never reached.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from gateway.errors import SettingsError

VARIABLE: Final = "MOTION_GATEWAY_CRASH_AT"


class Point(StrEnum):
    """Where to die. `before_commit` is inside a transaction, after its last statement."""

    ACCEPT_BEFORE_COMMIT = "accept.before_commit"
    """Nobody was told of the job: it must not exist, and the client's retry makes the only one."""
    ACCEPT_AFTER_COMMIT = "accept.after_commit"
    """The job is stored and its client does not know: the retry must find it, not make another."""
    CLAIM_AFTER_COMMIT = "claim.after_commit"
    """Tasks are leased to nobody alive: another must take them over."""
    RECORD_BEFORE_COMMIT = "record.before_commit"
    """A change of a job is written and not committed: neither state, event, task nor webhook may be there."""
    SUBMIT_BEFORE_INTENT = "submit.before_intent"
    """Nothing was noted or sent: the job is simply submitted."""
    SUBMIT_AFTER_INTENT = "submit.after_intent"
    """The intent is noted and nothing was sent, which nobody can know: it is held, or looked for."""
    SUBMIT_BEFORE_SEND = "submit.before_send"
    """The same, with a connection to the provider that stands."""
    SUBMIT_AFTER_RESPONSE = "submit.after_response"
    """The provider has the job and only this process knew: the moment at which a second one is bought."""
    SUBMIT_AFTER_COMMIT = "submit.after_commit"
    """The answer is stored: the job goes on with a poll."""
    POLL_AFTER_RESPONSE = "poll.after_response"
    """What the provider said is lost: it is asked again."""
    POLL_AFTER_COMMIT = "poll.after_commit"
    """The job has ended and nobody was told: its webhook must go out all the same."""
    RECONCILE_AFTER_RESPONSE = "reconcile.after_response"
    """The lost submission was found at the provider, and that is lost too: it is looked for again."""
    RECONCILE_AFTER_COMMIT = "reconcile.after_commit"
    """The run is adopted: the job goes on with a poll."""
    RESOLVE_AFTER_COMMIT = "resolve.after_commit"
    """The operator's word is carried out and the operator does not know: saying it again changes nothing."""
    CANCEL_AFTER_RESPONSE = "cancel.after_response"
    """The provider cancelled, perhaps forgot the job: asking again must end it as cancelled."""
    CANCEL_AFTER_COMMIT = "cancel.after_commit"
    """The job was cancelled and nobody was told."""
    WEBHOOK_AFTER_SEND = "webhook.after_send"
    """The receiver has the message and we do not know: it is sent again under the same id."""
    WEBHOOK_AFTER_COMMIT = "webhook.after_commit"
    """The delivery is settled: it is not sent again."""


class _Fuse:
    """The place to die at, and how often it may still be passed."""

    def __init__(self, point: Point, times: int) -> None:
        self.point = point
        self.left = times


_fuse: _Fuse | None = None


def reach(point: Point) -> None:
    """Die here, if this is the place; costs one look at a global otherwise."""
    if _fuse is None or _fuse.point is not point:
        return
    _fuse.left -= 1
    if _fuse.left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)


def arm(environ: Mapping[str, str]) -> None:
    """Choose the place that the environment names; none, unless it names one.

    Raises:
        SettingsError: it names a place that there is not.
    """
    global _fuse  # noqa: PLW0603  (one per process, as the death is)
    wish = environ.get(VARIABLE, "")
    if not wish:
        _fuse = None
        return
    form = re.fullmatch(r"([a-z_.]+)(?::([1-9][0-9]{0,8}))?", wish)
    if form is None or form[1] not in set(Point):
        raise SettingsError(
            f"{VARIABLE} (environment) must be one of {', '.join(Point)}, perhaps with :3 for the third time"
        )
    _fuse = _Fuse(Point(form[1]), int(form[2] or 1))
