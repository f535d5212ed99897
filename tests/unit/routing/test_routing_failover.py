"""What a refusal that is certain leads to."""

from __future__ import annotations

import pytest

from gateway.routing.failover import Choice, decide
from providers.contract.errors import ErrorCode, UpstreamError

RETRIED = {ErrorCode.RATE_LIMITED, ErrorCode.PROVIDER_UNAVAILABLE}


@pytest.mark.parametrize("code", list(ErrorCode))
def test_only_what_passes_by_itself_is_submitted_again(code: ErrorCode) -> None:
    expected = Choice.RETRY if code in RETRIED else Choice.GIVE_UP
    assert decide(UpstreamError(code=code, message="")) is expected
