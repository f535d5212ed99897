"""When to poll: what the learned pace comes to, against the least possible and against a fixed interval.

Log-normal run times; for each, 20 sets of 50 earlier runs teach, and 10,000 jobs are polled by each. No
floor; the jitter that adapters declare; tuned to 6 polls a job. The result is mean detection lag times polls
per job. For `minimum` and `fixed` (half the mean run time) a poll may be any part of one; six whole ones
cannot quite be as good.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random

from rich.console import Console
from rich.table import Table

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "unit" / "routing"), str(TESTS / "store")]

from pacing_trial import POLLS, UNBOUND, Trial, attempt, fixed, least, taught  # noqa: E402  (the path is above)

from gateway.routing.pacing import next_poll_s, pace  # noqa: E402  (the path is above)

MEDIANS_S = (45.0, 200.0)
SIGMAS = (0.3, 0.5, 0.8)
JOBS, SETS = 10_000, 20
AT_MOST = 1.15


def trial(of: tuple[float, float]) -> Trial:
    """Try one distribution, (median in seconds, sigma)."""
    return attempt(*of, jobs=JOBS, sets=SETS)


def cost() -> tuple[float, float]:
    """Return the time of one decision, and of making a table when more was learned, microseconds."""
    learned = taught(45, 0.5, Random(1))  # noqa: S311  (the same runs every time)
    found, rounds = pace(learned, polls_per_job=POLLS), 20_000
    began = time.perf_counter()
    for number in range(rounds):
        age_s = number % 90
        next_poll_s(
            UNBOUND,
            age_s=age_s,
            slow=False,
            scale=1,
            spread=0.5,
            retry_after_s=None,
            pace=found,
            progress=0.5,
        )
    decided = time.perf_counter()
    for _ in range(200):
        pace(learned, polls_per_job=POLLS)
    return (decided - began) / rounds * 1e6, (time.perf_counter() - decided) / 200 * 1e6


def show(console: Console) -> bool:
    """Print the figures; whether each is within its bound."""
    distributions = [(median_s, sigma) for median_s in MEDIANS_S for sigma in SIGMAS]
    with (
        console.status("polling made-up runs"),
        ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool,
    ):
        trials = list(pool.map(trial, distributions))
    table = Table(title=f"detection lag x polls per job, learned from 50 runs, {JOBS:,} jobs x {SETS} sets")
    for column in (
        "median s",
        "sigma",
        "lag s",
        "polls",
        "product",
        "minimum",
        "fixed",
        "/ minimum",
        "/ fixed",
    ):
        table.add_column(column, justify="right")
    good = True
    for (median_s, sigma), found in zip(distributions, trials, strict=True):
        minimum, steady = least(median_s, sigma), fixed(median_s, sigma)
        good &= found.product <= AT_MOST * minimum
        figures = (found.lag_s, found.polls, found.product, minimum, steady)
        ratios = (found.product / minimum, found.product / steady)
        table.add_row(
            f"{median_s:g}",
            f"{sigma:g}",
            *(f"{figure:.2f}" for figure in figures),
            *(f"{ratio:.3f}" for ratio in ratios),
        )
    console.print(table)
    decision_us, table_us = cost()
    console.print(f"one decision: {decision_us:.1f} us; a table, when more was learned: {table_us:.0f} us")
    return good


if __name__ == "__main__":
    sys.exit(not show(Console()))
