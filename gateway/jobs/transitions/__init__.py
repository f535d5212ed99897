"""Every change a job can undergo. Everything that moves a job lives in this package.

Each function takes the job as it stands, the fact, and the instant, and returns a `Step`: the job and the
attempt as they are to be, the events to tell, and the tasks that follow. Three rules hold throughout:

* a terminal job never changes; what is learnt later changes its attempt alone, save `provider_may_bill`: a
  run that could not be stopped sets it, and proof that a run written off was never made takes it back;
* a rank never falls: a provider that says PENDING after RUNNING changes nothing;
* an attempt in doubt (UNKNOWN) is never followed by another submission, unless it was written off: the job
  itself or an operator asked for that, and accepted the risk of paying twice.

`submission` goes from the intent to the answer and out of every doubt, `run` follows what was accepted, `end`
is for what no provider brings about, `step` says what a change comes to.
"""

from gateway.jobs.transitions.end import cancel_requested, deadline_passed, given_up, hold_expired, restored
from gateway.jobs.transitions.run import cancelled_upstream, lost, moved_on, observed, runs_on, unheard
from gateway.jobs.transitions.step import ENDED, Event, FollowUp, Note, Step, TaskKind
from gateway.jobs.transitions.submission import (
    abandoned,
    accepted,
    adopted,
    begin,
    refused,
    resolved,
    resubmits,
    unknown,
    withheld,
    written_off,
)

__all__ = [
    "ENDED",
    "Event",
    "FollowUp",
    "Note",
    "Step",
    "TaskKind",
    "abandoned",
    "accepted",
    "adopted",
    "begin",
    "cancel_requested",
    "cancelled_upstream",
    "deadline_passed",
    "given_up",
    "hold_expired",
    "lost",
    "moved_on",
    "observed",
    "refused",
    "resolved",
    "restored",
    "resubmits",
    "runs_on",
    "unheard",
    "unknown",
    "withheld",
    "written_off",
]
