"""When to poll next.

A poll costs the same whenever it is made, and finds the more the likelier the run ends just then. With polls
at density r over a run's age, the expected lag is the integral of f/2r and the expected number of polls that
of S r (f: density, S: survival of the run time); for a given number of polls the lag is least where r is
proportional to the square root of the hazard f/S. Its product with the number of polls is then half the
square of the integral of sqrt(f S); for any fixed interval it is half the mean run time.

So the next poll comes when the integral of r from now reaches 1 (`Pace.next_age_s`), which leaves the early
time alone in which no run ends. `Pace` is that integral as a table, made anew when more was learned. Until
then the provider's declared times hold. Its floor, and a cap, hold always.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import pairwise

from msgspec import Struct

from gateway.routing.run_times import Learned, mixture
from providers.contract.spec import PollSpec

LONGEST_LATE_S = 600.0
LONGEST_INTERVAL_S = 600.0
"""A run is never left alone for longer, however long its kind takes."""

_POINTS = 128
_FROM, _TO = 4.0, 5.0
"""Where the table begins and ends, in wide standard deviations about the median."""
_FIRST = 1.5
"""The integral at the first poll. Later polls find, on average, the middle of the interval before them; the
first has an hour of sure running before it, which a little more waiting makes use of."""

_LEAST_PROGRESS = 0.05
_EARLIER, _LATER = 0.5, 1.5
_BEYOND = 1.1


class Pace(Struct, frozen=True, kw_only=True):
    """How many polls belong before each age of a run."""

    median_s: float
    ages_s: tuple[float, ...]
    """Rising."""
    polls: tuple[float, ...]
    """The integral of the density of polls up to each of these ages."""

    def next_age_s(self, age_s: float, step: float = 1.0) -> float:
        """Return the age at which to look next; infinite where nothing is known any more.

        Args:
            age_s: of the run now, seconds.
            step: how many polls' worth to wait; 1 but for jitter.
        """
        wanted = max(_interpolated(self.ages_s, self.polls, age_s) + step, _FIRST * step)
        if wanted >= self.polls[-1]:
            return math.inf
        return max(age_s, _interpolated(self.polls, self.ages_s, wanted))


def pace(learned: Learned, *, polls_per_job: float) -> Pace | None:
    """Make the table; None until enough is learned.

    Args:
        learned: of the model's run times at the provider.
        polls_per_job: how many polls a run is to take on average, floor and cap aside.
    """
    if not learned.enough:
        return None
    known = mixture(learned)
    first = known.mean - _FROM * known.wide
    width = (_FROM + _TO) * known.wide / _POINTS
    logs = [first + width * number for number in range(_POINTS + 1)]
    # By the age's logarithm x: r dt = sqrt(f/S) dt becomes sqrt(g e^x / S) dx, with g the density of x.
    heights = [math.sqrt(known.density(x) * math.exp(x) / known.survival(x)) for x in logs]
    weights = [known.survival(x) for x in logs]
    expected = sum(height * weight for height, weight in zip(heights, weights, strict=True)) * width
    # A run takes E[integral at its end] - first + 1 polls, and on average half of one beyond its end.
    factor = (polls_per_job - 1.5 + _FIRST) / expected * width
    polls = [0.0]
    for before, after in pairwise(heights):
        polls.append(polls[-1] + factor * (before + after) / 2)
    ages_s = tuple(math.exp(x) for x in logs)
    return Pace(median_s=learned.median_s, ages_s=ages_s, polls=tuple(polls))


def first_poll_s(poll: PollSpec, *, scale: float, spread: float, pace: Pace | None = None) -> float:
    """Return seconds from acceptance to the first poll.

    Args:
        poll: the provider's pace, as declared.
        scale: `providers.<name>.poll_scale`.
        spread: a random number from 0 to 1.
        pace: the provider's pace, as learned.
    """
    if pace is None:
        return _paced(poll, poll.first_s, scale, spread)
    return max(_learned(poll, pace, 0.0, scale, spread), poll.floor_s * scale)


def next_poll_s(
    poll: PollSpec,
    *,
    age_s: float,
    slow: bool,
    scale: float,
    spread: float,
    retry_after_s: float | None,
    pace: Pace | None = None,
    progress: float | None = None,
) -> float:
    """Return seconds to the next poll.

    Args:
        poll: the provider's pace, as declared.
        age_s: the run's age: since it was accepted, or since the provider held it back no longer.
        slow: whether the provider holds the job back by itself.
        scale: `providers.<name>.poll_scale`.
        spread: a random number from 0 to 1.
        retry_after_s: what the provider asked for, unscaled; None when it did not.
        pace: the provider's pace, as learned; None while it is not.
        progress: what the provider says of it, 0 to 1, if it rose since it last said something.
    """
    later = age_s >= poll.later_after_s * scale
    declared_s = max(poll.slow_s if slow else 0.0, poll.later_s if later else poll.interval_s)
    floor_s = poll.floor_s * scale
    if slow or pace is None:
        paced = _paced(poll, declared_s, scale, spread)
    else:
        paced = _learned(poll, pace, age_s, scale, spread)
    if progress is not None and not slow:
        paced = _by_progress(paced, age_s, progress)
    paced = max(paced, floor_s)
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
    return max(interval_s * _jitter(poll, spread), poll.floor_s) * scale


def _learned(poll: PollSpec, pace: Pace, age_s: float, scale: float, spread: float) -> float:
    """Return the learned interval. Its cap is why a run is found that is unlike all before."""
    step = _jitter(poll, spread)
    cap_s = max(poll.later_s * scale, min(pace.median_s, LONGEST_INTERVAL_S))
    return min(pace.next_age_s(age_s, step) - age_s, cap_s * step)


def _jitter(poll: PollSpec, spread: float) -> float:
    return 1 + poll.jitter * (2 * spread - 1)


def _by_progress(interval_s: float, age_s: float, progress: float) -> float:
    """Come to where the provider's progress puts the end, but not far from where we would have come anyway.

    Progress is often made up, seldom linear: it may halve an interval and lengthen it by half.
    """
    if progress < _LEAST_PROGRESS or age_s <= 0:
        return interval_s
    left_s = age_s * (1 - min(progress, 1.0)) / progress * _BEYOND
    return min(max(left_s, interval_s * _EARLIER), interval_s * _LATER)


def _interpolated(xs: tuple[float, ...], ys: tuple[float, ...], x: float) -> float:
    after = bisect_right(xs, x)
    if after == 0:
        return ys[0]
    if after == len(xs):
        return ys[-1]
    low, high = xs[after - 1], xs[after]
    return ys[after - 1] + (ys[after] - ys[after - 1]) * (x - low) / (high - low)
