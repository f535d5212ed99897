"""What can be chosen from: every account of every provider in use, and the providers that are not."""

from __future__ import annotations

from msgspec import Struct

from providers.contract.spec import Spec


class Offer(Struct, frozen=True, kw_only=True):
    """One account at one provider."""

    spec: Spec
    account: str
    simulated: bool = False


class Catalogue(Struct, frozen=True, kw_only=True):
    """Every offer in the order of preference, and what is installed but not in use."""

    offers: tuple[Offer, ...]
    idle: tuple[Spec, ...] = ()
    disabled: frozenset[str] = frozenset()
    """Names of the idle ones that have an account, but are switched off."""

    @property
    def providers(self) -> frozenset[str]:
        """Names of every provider installed, in use or not."""
        return frozenset(offer.spec.name for offer in self.offers) | {spec.name for spec in self.idle}

    @property
    def models(self) -> frozenset[str]:
        """Public names of every model that an installed provider sells."""
        specs = (*(offer.spec for offer in self.offers), *self.idle)
        return frozenset(model.name for spec in specs for model in spec.models)
