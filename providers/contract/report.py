"""What an adapter's readers return: the provider's facts, still in the provider's words."""

from __future__ import annotations

from collections.abc import Mapping

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


class ModelAllowance(Struct, frozen=True, kw_only=True):
    """What an account may do with one model; None where the provider does not say."""

    model: str
    """In the provider's words."""
    at_once: int | None = None
    """Runs at the same time."""
    per_day: int | None = None
    used_today: int | None = None


class Allowance(Struct, frozen=True, kw_only=True):
    """What the provider says of the account that asks; empty where it only proves the key."""

    balance: Cost | None = None
    models: tuple[ModelAllowance, ...] = ()


class Sighting(Struct, frozen=True, kw_only=True):
    """A run at the provider that may be a submission whose outcome is unknown: facts, no verdict."""

    ref: str
    client_id: str | None = None
    """The attempt id it was submitted with, where the provider keeps it."""
    inputs: Mapping[str, object] | None = None
    """What it was asked to do: those fields of the create body that say what the work is, with the values
    that the provider shows, nested as there. It may be the same work where the create body has an equal value
    for every field that is here. None where the provider does not show it; never empty."""
    created_ms: int | None = None
    """When the provider took it, by the provider's clock; None where it does not say."""
