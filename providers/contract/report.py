"""What an adapter's readers return: the provider's facts, still in the provider's words."""

from __future__ import annotations

from msgspec import Struct


class Cost(Struct, frozen=True, kw_only=True):
    """What the provider says a job cost; either figure may be missing."""

    credits: float | None = None
    micro_usd: int | None = None


class Failure(Struct, frozen=True, kw_only=True):
    """Why the provider refused or failed."""

    code: str | None = None
    message: str = ""
    transient: bool = False
    """The provider says outright that the same request may pass later."""


class Submitted(Struct, frozen=True, kw_only=True):
    """The provider took the job."""

    ref: str
    status: str | None = None
    """The raw status word, where the create reply's word belongs to the poll vocabulary."""


class Observation(Struct, frozen=True, kw_only=True):
    """What a poll said."""

    status: str
    outputs: tuple[str, ...] = ()
    progress: float | None = None
    """0 to 1, None when the provider does not say."""
    failure: Failure | None = None
    cost: Cost | None = None
