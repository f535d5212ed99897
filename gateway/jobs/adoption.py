"""Which run at the provider, if any, is the one that a submission of unknown outcome made.

The strict rule: a run that is adopted wrongly is another's film delivered to our caller, and ours lost. So

* a run that bears our attempt's id is ours, by proof;
* a run that bears another's id never is;
* a run that bears none is ours if its inputs are ours, no attempt of ours has its ref, and either a callback
  named it for this very attempt (by a token nobody can guess), or it is the only such run of that time and
  no other attempt of ours at that provider is in doubt for the same time.

In all else the job goes on waiting. Finding nothing is no proof that nothing runs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec import Struct

from gateway.jobs.job import Attempt, AttemptState
from providers.contract.reading import is_list, is_object, is_ref
from providers.contract.report import Sighting

SKEW_MS = 60_000
"""How far a provider's clock may be from ours."""

UNSETTLED = frozenset({AttemptState.SUBMITTING, AttemptState.UNKNOWN})
"""States in which an attempt may have made a run whose ref we do not have."""


class Adopt(Struct, frozen=True):
    """This run is ours."""

    ref: str
    by: str
    """client_id, callback or inputs."""


class Undecided(Struct, frozen=True):
    """No run can be adopted."""

    reason: str
    seen: bool = True
    """Whether some run came into question."""


NOTHING = Undecided("nothing that fits was found, which is no proof that nothing runs", seen=False)


def choose(
    attempt: Attempt,
    *,
    body: Mapping[str, object],
    sightings: Collection[Sighting],
    offered: Collection[str] = (),
    taken: Collection[str] = (),
    others: Collection[Attempt] = (),
) -> Adopt | Undecided:
    """Decide which of the runs seen is the attempt's.

    Args:
        attempt: the one in doubt.
        body: the create body, as it was sent.
        sightings: the runs seen.
        offered: refs that callbacks named for this attempt.
        taken: refs that attempts of ours have.
        others: other attempts at the same provider, of any job, owner and account: accounts may belong to one
            organization, and see each other's runs.
    """
    ours = {sight.ref for sight in sightings if sight.client_id == attempt.id and is_ref(sight.ref)}
    if ours:
        return _proven(ours, taken)
    others_runs = {sight.ref for sight in sightings if sight.client_id is not None}.union(taken)
    alike = [sight for sight in sightings if sight.ref not in others_runs and is_ref(sight.ref)]
    alike = [sight for sight in alike if same_work(sight.inputs, body)]
    named = {sight.ref for sight in alike} & set(offered)
    if len(named) == 1:
        return Adopt(named.pop(), "callback")
    if named:
        return Undecided(f"callbacks named {len(named)} runs with our inputs for one submission")
    return _only_one([sight for sight in alike if _timely(sight, attempt)], attempt, others)


def rivals(attempt: Attempt, other: Attempt, *, dated: bool = True) -> bool:
    """Whether a run that fits the one attempt may as well be the other's.

    Args:
        attempt: the one in doubt.
        other: of the same provider.
        dated: whether the provider says when the run was created. Where it does not, it may be a later one.
    """
    if other.id == attempt.id or other.state not in UNSETTLED or other.ref is not None:
        return False
    (begun_ms, doubted_ms), (other_begun_ms, other_doubted_ms) = _window(attempt), _window(other)
    begins_in_time = not dated or doubted_ms is None or other_begun_ms <= doubted_ms
    ends_in_time = other_doubted_ms is None or begun_ms <= other_doubted_ms
    return begins_in_time and ends_in_time


def same_work(inputs: Mapping[str, object] | None, body: Mapping[str, object]) -> bool:
    """Whether every field that the provider shows is in our body with an equal value; and there is one."""
    if not inputs:
        return False
    return all(name in body and _equal(value, body[name]) for name, value in inputs.items())


def _proven(ours: set[str], taken: Collection[str]) -> Adopt | Undecided:
    if len(ours) > 1:
        return Undecided(f"{len(ours)} runs bear our id, and may all be billed")
    (ref,) = ours
    if ref in taken:
        return Undecided("the run that bears our id is another attempt's already")
    return Adopt(ref, "client_id")


def _only_one(
    timely: Collection[Sighting], attempt: Attempt, others: Collection[Attempt]
) -> Adopt | Undecided:
    refs = {sight.ref for sight in timely}
    if not refs:
        return NOTHING
    if len(refs) > 1:
        return Undecided(f"{len(refs)} runs fit, and none bears our id")
    dated = all(sight.created_ms is not None for sight in timely)
    if any(rivals(attempt, other, dated=dated) for other in others):
        return Undecided("a run fits, but another submission of ours at that time is in doubt, too")
    return Adopt(refs.pop(), "inputs")


def _timely(sight: Sighting, attempt: Attempt) -> bool:
    if sight.created_ms is None:
        return True
    begun_ms, doubted_ms = _window(attempt)
    return begun_ms <= sight.created_ms and (doubted_ms is None or sight.created_ms <= doubted_ms)


def _window(attempt: Attempt) -> tuple[int, int | None]:
    """When the provider can have taken it, by either clock; without an end while it is being submitted."""
    doubted_ms = attempt.doubted_at_ms
    return attempt.started_at_ms - SKEW_MS, None if doubted_ms is None else doubted_ms + SKEW_MS


def _equal(theirs: object, ours: object) -> bool:
    """Compare JSON values: `true` is not 1, and 3.0 is 3."""
    if is_object(theirs) and is_object(ours):
        return theirs.keys() == ours.keys() and all(_equal(theirs[name], ours[name]) for name in theirs)
    if is_list(theirs) and is_list(ours):
        pairs = zip(theirs, ours, strict=False)
        return len(theirs) == len(ours) and all(_equal(one, other) for one, other in pairs)
    if isinstance(theirs, bool) or isinstance(ours, bool):
        return theirs is ours
    return theirs == ours
