"""Everything that can be checked without a reply: tables and built calls. Runs at every start."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from providers.conformance.access import check_access
from providers.conformance.callbacks import check_callback
from providers.conformance.calls import check_calls
from providers.conformance.finding import Finding
from providers.conformance.identity import check_identity
from providers.conformance.models import check_models
from providers.conformance.sources import check_sources
from providers.conformance.terms import check_terms
from providers.conformance.words import check_words
from providers.contract.adapter import Adapter
from providers.contract.spec import Spec

CHECKS: tuple[Callable[[Adapter], Iterator[Finding]], ...] = (
    check_identity,
    check_access,
    check_terms,
    check_models,
    check_words,
    check_sources,
    check_calls,
    check_callback,
)


def check_declared(adapter: Adapter) -> tuple[Finding, ...]:
    """Return what is wrong with an adapter's tables and built calls; empty when nothing is."""
    try:
        msgspec.convert(msgspec.to_builtins(adapter.spec), Spec)
    except (msgspec.ValidationError, TypeError) as error:
        # The other checks read the tables and would only stumble over what is said here.
        return (Finding("declared.types", "spec", f"an entry has the wrong type: {error}"),)
    return tuple(finding for check in CHECKS for finding in check(adapter))
