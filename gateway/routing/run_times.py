"""How long runs last at a provider, learned from those that succeeded.

What is kept are the sufficient statistics of a log-normal: how many runs, the mean of the logarithm of their
times and the sum of its squared deviations. Run times of such services are skewed to the right and vary by
factors, not by seconds, which is what a log-normal says. Old runs are forgotten, so that it follows a
provider that becomes slower or faster; a single odd run moves it little.

Only successes teach: a failure ends early, often at once, and says nothing of how long a film takes.
"""

from __future__ import annotations

import math

from msgspec import Struct

ENOUGH = 10
"""Runs from which on what was learned is used; until then the provider's declared times are."""
MEMORY = 50.0
"""The weight of an earlier run falls to a half after 35 later ones (1 - 1/MEMORY each)."""
SHORTEST_S, LONGEST_S = 0.001, 7 * 86_400.0
"""No run time is taken to lie outside of these: bounds for the arithmetic, not for providers."""
ODD = 3.0
"""How many standard deviations from the mean a run counts at most."""

_PRIOR_RUNS, _PRIOR_SPREAD = 2.0, 0.5
_NARROWEST, _WIDEST = 0.1, 2.0
_TAIL, _TAIL_FACTOR, _TAIL_SPREAD = 0.05, 2.0, 0.5
_SQRT2, _SQRT_TAU = math.sqrt(2.0), math.sqrt(math.tau)


class Learned(Struct, frozen=True, kw_only=True):
    """What the runs of one model at one provider taught, of times in seconds."""

    n: float = 0.0
    """Runs, the earlier ones weighing less; at most MEMORY."""
    mean: float = 0.0
    """Of the natural logarithm of run times."""
    m2: float = 0.0
    """Sum of the logarithm's squared deviations from the mean."""

    @property
    def enough(self) -> bool:
        """Whether it can be relied on."""
        return self.n >= ENOUGH

    @property
    def median_s(self) -> float:
        """Half of the runs are shorter, seconds."""
        return math.exp(self.mean)

    @property
    def spread(self) -> float:
        """Standard deviation of the logarithm of the next run's time.

        Drawn towards 0.5 while few runs are known, and never so small that one run which lasts a little
        longer than all before would be a wonder.
        """
        variance = (self.m2 + _PRIOR_RUNS * _PRIOR_SPREAD**2) / max(1.0, self.n - 1 + _PRIOR_RUNS)
        # The mean is an estimate, too, which adds its own share to where the next run may lie.
        return min(_WIDEST, max(_NARROWEST, math.sqrt(variance * (1 + 1 / max(1.0, self.n)))))


class Mixture(Struct, frozen=True, kw_only=True):
    """A log-normal, and a wider one for every twentieth run, about the same median.

    Without the second a run that outlives all others would be about to end at every moment, and be asked
    about ever more often.
    """

    mean: float
    narrow: float
    wide: float

    def density(self, log_age: float) -> float:
        """Density of the logarithm of the run time."""
        return (1 - _TAIL) * _density(log_age - self.mean, self.narrow) + _TAIL * _density(
            log_age - self.mean, self.wide
        )

    def survival(self, log_age: float) -> float:
        """Return which part of the runs is longer; never 0 within 30 wide deviations."""
        return (1 - _TAIL) * _above(log_age - self.mean, self.narrow) + _TAIL * _above(
            log_age - self.mean, self.wide
        )

    def reached(self, log_age: float) -> float:
        """Return which part of the runs is shorter, exact where it is tiny."""
        return self.survival(2 * self.mean - log_age)  # it is symmetric


def mixture(learned: Learned) -> Mixture:
    """Return the distribution that polls and late news are judged by."""
    narrow = learned.spread
    return Mixture(mean=learned.mean, narrow=narrow, wide=max(_TAIL_FACTOR * narrow, _TAIL_SPREAD))


def learn(learned: Learned, *, after_s: float, by_s: float) -> Learned:
    """Take in a run that succeeded.

    Args:
        learned: from the runs before.
        after_s: the run's age at the last look that found it unfinished, seconds; 0 when there was none.
        by_s: its age at the look that found its end; the end lies somewhere between the two.

    Returns:
        What is known then; the same when the two make no sense.
    """
    if not (math.isfinite(by_s) and by_s > 0 and after_s <= by_s):
        return learned
    by_s = min(max(by_s, SHORTEST_S), LONGEST_S)
    value = math.log(_between(learned, min(max(after_s, 0.0), by_s), by_s))
    if learned.enough:
        reach = ODD * learned.spread
        value = min(max(value, learned.mean - reach), learned.mean + reach)
    kept = min(1.0, (MEMORY - 1) / learned.n) if learned.n > 0 else 0.0
    before = learned.n * kept
    n = before + 1
    delta = value - learned.mean
    mean = learned.mean + delta / n if before else value
    return Learned(n=n, mean=mean, m2=learned.m2 * kept + delta * (value - mean) if before else 0.0)


def hazard(learned: Learned, age_s: float) -> float:
    """Return how many runs of that age end a second, as part of those that are still running."""
    if age_s <= 0:
        return 0.0
    known, log_age = mixture(learned), math.log(age_s)
    survival = known.survival(log_age)
    return known.density(log_age) / (age_s * survival) if survival > 0 else 0.0


def _between(learned: Learned, after_s: float, by_s: float) -> float:
    """Tell where between two looks a run ended: the median there of what is known, else the middle.

    The middle would be wrong for the first look, before which nearly all runs that ended did so shortly
    before it: half of its age would be learned, and the next first look would come earlier without end.
    """
    after_s, middle_s = max(after_s, SHORTEST_S), max((after_s + by_s) / 2, SHORTEST_S)
    if not learned.enough or after_s >= by_s:
        return middle_s
    known, low, high = mixture(learned), math.log(after_s), math.log(by_s)
    # The tail that is small is the one that is exact.
    part, rising = (known.reached, 1.0) if low < learned.mean else (known.survival, -1.0)
    wanted = (part(low) + part(high)) / 2
    if part(low) == part(high):  # too far out for the arithmetic
        return middle_s
    for _ in range(40):
        at = (low + high) / 2
        low, high = (at, high) if (part(at) - wanted) * rising < 0 else (low, at)
    return math.exp((low + high) / 2)


def _density(off: float, spread: float) -> float:
    return math.exp(-0.5 * (off / spread) ** 2) / (spread * _SQRT_TAU)


def _above(off: float, spread: float) -> float:
    return 0.5 * math.erfc(off / (spread * _SQRT2))
