"""Poll pacing tried on made-up runs: how late ends are found, by how many polls, against what is possible."""

from __future__ import annotations

import math
from random import Random

from job_examples import SOURCE
from msgspec import Struct

from gateway.routing.pacing import Pace, first_poll_s, next_poll_s, pace
from gateway.routing.run_times import Learned, learn
from providers.contract.spec import PollSpec

POLLS = 6.0
EARLIER = 50
UNBOUND = PollSpec(
    first_s=0, interval_s=0, later_s=0, later_after_s=0, slow_s=0, floor_s=0, jitter=0.2, source=SOURCE
)
"""No floor, the jitter that adapters declare."""


class Trial(Struct, frozen=True, kw_only=True):
    """What a number of runs came to, per run."""

    lag_s: float
    polls: float

    @property
    def product(self) -> float:
        return self.lag_s * self.polls


def follow(found: Pace, run_s: float, random: Random) -> tuple[float, int]:
    """Poll a run to its end, exactly as the gateway would: its lag in seconds, the polls."""
    age_s, polls = first_poll_s(UNBOUND, scale=1, spread=random.random(), pace=found), 1
    while age_s < run_s:
        age_s += next_poll_s(
            UNBOUND,
            age_s=age_s,
            slow=False,
            scale=1,
            spread=random.random(),
            retry_after_s=None,
            pace=found,
        )
        polls += 1
    return age_s - run_s, polls


def taught(median_s: float, sigma: float, random: Random, runs: int = EARLIER) -> Learned:
    """What that many earlier runs teach, seen as they are seen: by polls at a declared, fixed interval."""
    learned, interval_s = Learned(), mean_s(median_s, sigma) / POLLS
    for _ in range(runs):
        run_s = median_s * math.exp(random.gauss(0, sigma))
        polls = math.ceil(run_s / interval_s)
        learned = learn(learned, after_s=(polls - 1) * interval_s, by_s=polls * interval_s)
    return learned


def attempt(median_s: float, sigma: float, *, jobs: int, sets: int) -> Trial:
    """Learn from each training set, then run that many jobs by it; the mean over the sets."""
    lag_s, polls = 0.0, 0
    for number in range(sets):
        random = Random(number)  # noqa: S311 - the same runs every time
        found = pace(taught(median_s, sigma, random), polls_per_job=POLLS)
        assert found is not None
        for _ in range(jobs):
            late_s, made = follow(found, median_s * math.exp(random.gauss(0, sigma)), random)
            lag_s, polls = lag_s + late_s, polls + made
    return Trial(lag_s=lag_s / (jobs * sets), polls=polls / (jobs * sets))


def mean_s(median_s: float, sigma: float) -> float:
    return median_s * math.exp(sigma**2 / 2)


def fixed(median_s: float, sigma: float) -> float:
    """Lag times polls of any fixed interval: half the mean run time."""
    return mean_s(median_s, sigma) / 2


def least(median_s: float, sigma: float, points: int = 4000) -> float:
    """Half the square of the integral of sqrt(f S): the least that lag times polls can be."""
    total, width = 0.0, 16 / points
    for number in range(points):
        z = -8 + width * (number + 0.5)
        density = math.exp(-z * z / 2) / math.sqrt(math.tau)
        # sqrt(f S) dt with t = median e^(sigma z) is sqrt(density S sigma t) dz.
        age_s = median_s * math.exp(sigma * z)
        total += math.sqrt(density * math.erfc(z / math.sqrt(2)) / 2 * sigma * age_s) * width
    return total**2 / 2
