"""The whole suite for an adapter's own tests.

A complete test file::

    import my_provider
    from providers.conformance.suite import AdapterConformance


    class TestMyProvider(AdapterConformance):
        adapter = my_provider.adapter
        exchanges_package = "my_provider"
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import pytest

from providers.conformance.coverage import check_covered
from providers.conformance.damaged import damage_exchange
from providers.conformance.declared import check_declared
from providers.conformance.exchanges import Exchange, load_exchanges
from providers.conformance.finding import Finding
from providers.conformance.replayed import replay
from providers.contract.adapter import Adapter


class AdapterConformance:
    """Subclass it under a name that begins with `Test`, and set both attributes."""

    adapter: ClassVar[Adapter]
    exchanges_package: ClassVar[str | Path]
    """The package that has the folder `exchanges`, or that folder."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make one test of every exchange file."""
        if "exchange" in metafunc.fixturenames:
            exchanges = load_exchanges(self.exchanges_package)
            metafunc.parametrize("exchange", exchanges, ids=[exchange.name for exchange in exchanges])

    def test_declares_what_the_contract_asks(self) -> None:
        """Tables and built calls are sound."""
        _expect_none(check_declared(self.adapter))

    def test_builds_and_reads_its_exchanges(self, exchange: Exchange) -> None:
        """The request is built as the file says, and the response read so."""
        _expect_none(replay(self.adapter, exchange))

    def test_shows_everything_it_claims(self) -> None:
        """Every operation, status word and failure rule stands in some exchange file."""
        _expect_none(check_covered(self.adapter, load_exchanges(self.exchanges_package)))

    def test_survives_broken_replies(self, exchange: Exchange) -> None:
        """No broken form of the response is taken for sense."""
        _expect_none(damage_exchange(self.adapter, exchange))


def _expect_none(findings: Iterable[Finding]) -> None:
    __tracebackhide__ = True
    found = [str(finding) for finding in findings]
    if found:
        pytest.fail("\n".join(found), pytrace=False)
