"""When an endpoint is sent to no more."""

from __future__ import annotations

import pytest

from gateway.webhooks.endurance import ENDURED_MS, FEWEST_FAILURES, disabled_for
from gateway.webhooks.outcome import Outcome


@pytest.mark.parametrize(
    ("outcome", "since_ms", "failures", "at_ms", "reason"),
    [
        (Outcome.GONE, None, 1, 0, "gone"),
        (Outcome.GONE, 0, 1, 0, "gone"),
        (Outcome.BLOCKED, 0, FEWEST_FAILURES, ENDURED_MS, "failing"),
        (Outcome.TIMEOUT, None, 1, 0, None),
        (Outcome.TIMEOUT, 0, FEWEST_FAILURES, ENDURED_MS - 1, None),
        (Outcome.TIMEOUT, 0, FEWEST_FAILURES, ENDURED_MS, "failing"),
        (Outcome.TIMEOUT, 0, FEWEST_FAILURES - 1, 10 * ENDURED_MS, None),
    ],
)
def test_it_takes_time_and_failures_or_its_own_word(
    outcome: Outcome, since_ms: int | None, failures: int, at_ms: int, reason: str | None
) -> None:
    found = disabled_for(outcome, failing_since_ms=since_ms, failures=failures, at_ms=at_ms)
    assert found == reason
