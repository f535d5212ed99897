"""How old a run is, and what its end teaches of the next ones.

A run's age counts from its acceptance; from the end of the wait where the provider held it back by itself
(Runway's THROTTLED), since how long it waits there says nothing of how long it takes. Pure functions.
"""

from __future__ import annotations

from gateway.jobs.job import Attempt
from gateway.routing.pacing import Pace, first_poll_s, next_poll_s
from gateway.storage.run_times import Run, RunKind
from gateway.storage.tasks import Memo
from gateway.upstream.accounts import UpstreamAccount

HURRIED = 0.45
"""A poll after less than this part of its shortest wait was brought forward: a callback told of the end."""
AWAY = 2.0
"""A poll that came after more than this times its longest wait was late, or the clock jumped."""
AWAY_S = 1.0


def noted(memo: Memo, *, slow: bool, now_ms: int) -> Memo:
    """Return the memo after an answer that could be read.

    Args:
        memo: from before.
        slow: whether the provider holds the run back.
        now_ms: the instant of the answer.
    """
    since_ms = memo.since_ms
    if slow:
        since_ms = now_ms
    elif _held_back(memo):  # it was let go at some moment between the two looks
        since_ms = (memo.asked_ms + now_ms) // 2
    return Memo(asked_ms=now_ms, since_ms=since_ms)


def age_s(attempt: Attempt, memo: Memo, *, now_ms: int) -> float:
    """Return the run's age, seconds; of one that was adopted, since its submission."""
    accepted_ms = attempt.accepted_at_ms if attempt.doubted_at_ms is None else attempt.started_at_ms
    return max(0, now_ms - (memo.since_ms or accepted_ms or now_ms)) / 1000


def lesson(
    account: UpstreamAccount,
    model: str,
    attempt: Attempt,
    memo: Memo,
    *,
    due_at_ms: int,
    now_ms: int,
    pace: Pace | None,
) -> Run | None:
    """Return what a run that succeeded teaches; None when nobody knows nearly enough how long it took.

    Args:
        account: where it ran.
        model: its public name.
        attempt: as it stood before this look.
        memo: as the look before left it.
        due_at_ms: when this look was due.
        now_ms: when it found the end.
        pace: what the looks were placed by.
    """
    accepted_ms = attempt.accepted_at_ms
    if accepted_ms is None or attempt.doubted_at_ms is not None or _held_back(memo):
        return None
    began_ms = memo.since_ms or accepted_ms
    asked_ms = max(memo.asked_ms, began_ms)
    after_s, by_s = (asked_ms - began_ms) / 1000, (now_ms - began_ms) / 1000
    shortest_s, longest_s = (_wait_s(account, after_s, pace, spread) for spread in (0.0, 1.0))
    unsure = (now_ms - asked_ms) / 1000 > AWAY * longest_s + AWAY_S
    if unsure or not 0 < by_s <= account.adapter.spec.longest_run_s:
        return None
    if (due_at_ms - asked_ms) / 1000 < HURRIED * shortest_s:
        after_s = by_s
    kind = RunKind(account.adapter.spec.name, model, account.simulated)
    return Run(kind=kind, after_s=after_s, by_s=by_s)


def _held_back(memo: Memo) -> bool:
    """Whether the provider held the run back when it was last asked."""
    return memo.since_ms > 0 and memo.since_ms == memo.asked_ms


def _wait_s(account: UpstreamAccount, age_s: float, pace: Pace | None, spread: float) -> float:
    poll, scale = account.adapter.spec.poll, account.poll_scale
    if age_s <= 0:
        return first_poll_s(poll, scale=scale, spread=spread, pace=pace)
    return next_poll_s(
        poll, age_s=age_s, slow=False, scale=scale, spread=spread, retry_after_s=None, pace=pace
    )
