"""The conformance suite over every adapter that is installed, as a third party's tests would run it."""

from __future__ import annotations

import ast
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import providers
from providers import conformance
from providers.conformance.exchanges import load_exchanges
from providers.conformance.suite import AdapterConformance
from providers.conformance.verdict import check
from providers.contract.adapter import Adapter
from providers.contract.emulation import Emulation

ADAPTERS = {entry.name: entry for entry in entry_points(group="motion_gateway.providers")}
EMULATIONS = {entry.name: entry for entry in entry_points(group="motion_gateway.emulations")}

for _name, _entry in ADAPTERS.items():
    _title = f"Test{_name.title()}"
    _members = {"adapter": _entry.load(), "exchanges_package": _entry.module}
    globals()[_title] = type(_title, (AdapterConformance,), _members)


def test_every_provider_package_is_installed() -> None:
    """A folder beside `contract` and `conformance` is an adapter, and the entry points name all of them."""
    folders = {entry.name for entry in Path(providers.__path__[0]).iterdir() if (entry / "spec.py").is_file()}
    assert folders - {"contract"} <= set(ADAPTERS)


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_goes_by_its_entry_point(name: str) -> None:
    adapter = ADAPTERS[name].load()
    assert isinstance(adapter, Adapter)
    assert adapter.spec.name == name


@pytest.mark.parametrize("name", EMULATIONS)
def test_an_emulation_goes_by_its_entry_point(name: str) -> None:
    emulation = EMULATIONS[name].load()
    assert isinstance(emulation, Emulation)
    assert emulation.name == name


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_verdict_of_the_command_line_agrees(name: str) -> None:
    adapter = ADAPTERS[name].load()
    first_of_each = {exchange.operation: exchange for exchange in load_exchanges(ADAPTERS[name].module)}
    found = check(adapter, tuple(first_of_each.values()))
    assert {finding.check for finding in found} <= {"replayed.coverage"}


def test_only_the_suite_needs_pytest() -> None:
    """The command line runs the checks where no pytest is installed."""
    folder = Path(conformance.__path__[0])
    needing = {
        file.name
        for file in folder.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if (isinstance(node, ast.Import) and any(alias.name == "pytest" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module in {"pytest", "providers.conformance.suite"})
    }
    assert needing == {"suite.py"}
