"""What the outcome of a call says of the account that made it, as against the job it was made for."""

from __future__ import annotations

from gateway.routing.health import Outcome
from gateway.upstream.classify import Done, Made, Missing, NotMade, Seen, Trouble, Unknown, Withheld
from providers.contract.errors import ErrorCode

#: Failures that are the account's and not the provider's.
OF_THE_ACCOUNT = {
    ErrorCode.RATE_LIMITED: Outcome.THROTTLED,
    ErrorCode.UNAUTHORIZED: Outcome.UNAUTHORIZED,
    ErrorCode.INSUFFICIENT_FUNDS: Outcome.UNFUNDED,
}


def standing(
    outcome: Made | NotMade | Withheld | Unknown | Seen | Missing | Done | Trouble,
) -> Outcome | None:
    """Return what is to be noted of the account; None when the call was not made after all."""
    match outcome:
        case Made() | Seen() | Missing() | Done():
            return Outcome.FINE
        case Withheld():
            return None
        case Unknown():
            return Outcome.FAILED
        case NotMade(error=error):
            # A definite refusal of this job is a provider that works.
            broken = error.code is ErrorCode.PROVIDER_UNAVAILABLE
            return OF_THE_ACCOUNT.get(error.code, Outcome.FAILED if broken else Outcome.FINE)
        case Trouble(error=error, definite=definite):
            # The same: else one run that its provider will not talk about would close the account to all.
            return OF_THE_ACCOUNT.get(error.code, Outcome.FINE if definite else Outcome.FAILED)
