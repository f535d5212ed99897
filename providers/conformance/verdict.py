"""All checks in one call."""

from __future__ import annotations

from collections.abc import Sequence

from providers.conformance.damaged import check_damaged
from providers.conformance.declared import check_declared
from providers.conformance.exchanges import Exchange
from providers.conformance.finding import Finding
from providers.conformance.replayed import check_replayed
from providers.contract.adapter import Adapter


def check(adapter: Adapter, exchanges: Sequence[Exchange]) -> tuple[Finding, ...]:
    """Return everything that is wrong with an adapter; empty when it conforms.

    Args:
        adapter: the adapter.
        exchanges: its files, from `exchanges.load_exchanges`.
    """
    declared = check_declared(adapter)
    if declared:
        # Tables that are wrong make every reply look wrong; they are to be mended first.
        return declared
    return (*check_replayed(adapter, exchanges), *check_damaged(adapter, exchanges))
