"""What a submission that was certainly not made leads to.

Only for definite outcomes: a submission in doubt never comes here. For now there are two answers, the same
account later or giving up; the next candidate will be the third.
"""

from __future__ import annotations

from enum import StrEnum

from providers.contract.errors import UpstreamError


class Choice(StrEnum):
    """What to do."""

    RETRY = "retry"
    GIVE_UP = "give_up"


def decide(error: UpstreamError) -> Choice:
    """Decide by the one table in `providers/contract/errors.py`."""
    return Choice.RETRY if error.decision.retry else Choice.GIVE_UP
