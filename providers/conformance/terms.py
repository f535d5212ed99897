"""Times, prices and what a cancel does."""

from __future__ import annotations

import math
from collections.abc import Iterator

from providers.conformance.finding import Finding
from providers.contract.adapter import Adapter
from providers.contract.spec import PollSpec, Spec


def check_terms(adapter: Adapter) -> Iterator[Finding]:
    """Check poll timing, time-outs, output life, the price of a credit, and cancelling."""
    spec = adapter.spec
    yield from _check_poll(spec.poll)
    for name, value in _positive(spec).items():
        if value is not None and not (math.isfinite(value) and value > 0):
            yield Finding("declared.durations", f"spec.{name}", f"is {value}; it must be above 0")
    slowest = max((model.typical_run_s for model in spec.models), default=0.0)
    if spec.longest_run_s < slowest:
        problem = f"is {spec.longest_run_s} s, shorter than a typical run of {slowest:g} s"
        yield Finding("declared.durations", "spec.longest_run_s", problem)
    if not spec.output.content_type.startswith("video/"):
        problem = f"is {spec.output.content_type!r}; results are videos"
        yield Finding("declared.output", "spec.output.content_type", problem)
    if (spec.cancel is None) != (adapter.build_cancel is None):
        problem = "spec.cancel and build_cancel must both be there, or neither"
        yield Finding("declared.cancel", "spec.cancel", problem)


def _positive(spec: Spec) -> dict[str, float | None]:
    return {
        "submit_timeout_s": spec.submit_timeout_s,
        "poll_timeout_s": spec.poll_timeout_s,
        "longest_run_s": spec.longest_run_s,
        "output.life_s": spec.output.life_s,
        "micro_usd_per_credit": spec.micro_usd_per_credit,
        "poll.floor_s": spec.poll.floor_s,
    }


def _check_poll(poll: PollSpec) -> Iterator[Finding]:
    times = (poll.first_s, poll.interval_s, poll.later_s, poll.later_after_s, poll.slow_s, poll.floor_s)
    if not all(math.isfinite(time) for time in times):
        yield Finding("declared.poll", "spec.poll", "holds a time that is not finite")
    ordered = {
        "floor_s <= first_s": poll.floor_s <= poll.first_s,
        "floor_s <= interval_s": poll.floor_s <= poll.interval_s,
        "interval_s <= later_s": poll.interval_s <= poll.later_s,
        "interval_s <= slow_s": poll.interval_s <= poll.slow_s,
        "0 <= later_after_s": poll.later_after_s >= 0,
        "0 <= jitter <= 1": 0 <= poll.jitter <= 1,
    }
    for rule, holds in ordered.items():
        if not holds:
            yield Finding("declared.poll", "spec.poll", f"must keep {rule}")
