"""What a call says of the account that made it."""

from __future__ import annotations

import pytest

from gateway.routing.health import Outcome
from gateway.upstream.classify import Done, Made, Missing, NotMade, Trouble, Unknown, Withheld
from gateway.upstream.standing import standing
from providers.contract.errors import ErrorCode, UpstreamError


def refused(code: ErrorCode) -> NotMade:
    return NotMade(error=UpstreamError(code=code, message=""), retry_after=None)


def trouble(code: ErrorCode, *, definite: bool) -> Trouble:
    return Trouble(error=UpstreamError(code=code, message=""), definite=definite)


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (Made("r"), Outcome.FINE),
        (Missing(), Outcome.FINE),
        (Done(), Outcome.FINE),
        (Withheld("late"), None),
        (Unknown("reset"), Outcome.FAILED),
        (refused(ErrorCode.INVALID_MEDIA), Outcome.FINE),
        (refused(ErrorCode.PROVIDER_UNAVAILABLE), Outcome.FAILED),
        (refused(ErrorCode.RATE_LIMITED), Outcome.THROTTLED),
        (refused(ErrorCode.UNAUTHORIZED), Outcome.UNAUTHORIZED),
        (refused(ErrorCode.INSUFFICIENT_FUNDS), Outcome.UNFUNDED),
        (trouble(ErrorCode.INVALID_REQUEST, definite=True), Outcome.FINE),
        (trouble(ErrorCode.UNAUTHORIZED, definite=True), Outcome.UNAUTHORIZED),
        (trouble(ErrorCode.RATE_LIMITED, definite=True), Outcome.THROTTLED),
        (trouble(ErrorCode.PROVIDER_ERROR, definite=False), Outcome.FAILED),
        (trouble(ErrorCode.PROVIDER_CONTRACT, definite=False), Outcome.FAILED),
        (trouble(ErrorCode.TIMEOUT, definite=False), Outcome.FAILED),
    ],
    ids=repr,
)
def test_standing(
    outcome: Made | Missing | Done | Withheld | Unknown | NotMade | Trouble, says: Outcome | None
) -> None:
    assert standing(outcome) is says
