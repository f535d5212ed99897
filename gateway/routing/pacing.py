"""When to poll next."""

from __future__ import annotations

from providers.contract.spec import PollSpec

LONGEST_LATE_S = 600.0


def first_poll_s(poll: PollSpec, *, scale: float, spread: float) -> float:
    """Return seconds from acceptance to the first poll.

    Args:
        poll: the provider's pace.
        scale: `providers.<name>.poll_scale`.
        spread: a random number from 0 to 1.
    """
    return _paced(poll, poll.first_s, scale, spread)


def next_poll_s(
    poll: PollSpec,
    *,
    since_accepted_s: float,
    slow: bool,
    scale: float,
    spread: float,
    retry_after_s: float | None,
) -> float:
    """Return seconds to the next poll.

    Args:
        poll: the provider's pace.
        since_accepted_s: the run's age.
        slow: whether the provider holds the job back by itself.
        scale: `providers.<name>.poll_scale`.
        spread: a random number from 0 to 1.
        retry_after_s: what the provider asked for, unscaled; None when it did not.
    """
    later = since_accepted_s >= poll.later_after_s * scale
    interval = max(poll.slow_s if slow else 0.0, poll.later_s if later else poll.interval_s)
    paced = _paced(poll, interval, scale, spread)
    return paced if retry_after_s is None else max(paced, retry_after_s)


def late_poll_s(poll: PollSpec, *, since_accepted_s: float, scale: float, spread: float) -> float:
    """Return seconds to the next poll of a run whose job has ended, which is asked for its cost alone.

    Args:
        poll: the provider's pace.
        since_accepted_s: the run's age: the older it is, the less a later answer matters.
        scale: `providers.<name>.poll_scale`.
        spread: a random number from 0 to 1.
    """
    return max(_paced(poll, poll.later_s, scale, spread), min(since_accepted_s / 10, LONGEST_LATE_S))


def _paced(poll: PollSpec, interval_s: float, scale: float, spread: float) -> float:
    varied = interval_s * (1 + poll.jitter * (2 * spread - 1))
    return max(varied, poll.floor_s) * scale
