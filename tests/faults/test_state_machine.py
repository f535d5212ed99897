"""Requests, answers, deaths, lapsed leases and late words in any order.

The gateway's books and its provider's agree at every step, and in the end every job has ended, and owns up to
what was bought for it.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from limited_moves import LimitedMachine
from moves import GatewayMachine

LONG = "MOTION_GATEWAY_TEST_LONG"
"""Set: play as long as `make storm` does."""
EXAMPLES, STEPS = (500, 60) if LONG in os.environ else (30, 30)

RULES = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    derandomize=LONG not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    database=None,
)

GatewayMachine.TestCase.settings = RULES
LimitedMachine.TestCase.settings = RULES
TestGateway = GatewayMachine.TestCase
TestGatewayWithLimits = LimitedMachine.TestCase
