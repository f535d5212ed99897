from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from gateway.errors import SettingsError
from gateway.registry import (
    EMULATIONS_GROUP,
    PROVIDERS_GROUP,
    Registry,
    check_siblings,
    load_adapters,
    load_emulations,
)
from providers.conformance.finding import Finding
from providers.contract.adapter import Adapter
from providers.runway import adapter as runway
from providers.runway.emulation import emulation as runway_emulation

MODULE = "registry_offers"


def named(name: str) -> Adapter:
    return msgspec.structs.replace(runway, spec=msgspec.structs.replace(runway.spec, name=name))


@pytest.fixture(autouse=True)
def offers() -> Iterator[None]:
    """A module whose attributes entry points can name."""
    module = ModuleType(MODULE)
    module.__dict__.update(alpha=named("alpha"), beta=named("beta"), nothing=5, emulation=runway_emulation)
    sys.modules[MODULE] = module
    yield
    del sys.modules[MODULE]


def point(name: str, value: str, group: str = PROVIDERS_GROUP) -> EntryPoint:
    return EntryPoint(name, value if ":" in value else f"{MODULE}:{value}", group)


def clean(_: Adapter) -> tuple[Finding, ...]:
    return ()


def refusal(*points: EntryPoint) -> str:
    with pytest.raises(SettingsError) as caught:
        load_adapters(points, check=clean)
    return str(caught.value)


def test_the_installed_adapters_pass() -> None:
    registry = load_adapters()
    assert "runway" in registry.adapters
    assert load_emulations().keys() <= registry.adapters.keys()


def test_adapters_are_found_by_name_in_alphabetical_order() -> None:
    registry = load_adapters([point("beta", "beta"), point("alpha", "alpha")], check=clean)
    assert isinstance(registry, Registry)
    assert [spec.name for spec in registry.specs] == ["alpha", "beta"]
    found = registry.get("beta")
    assert found is not None
    assert found.spec.name == "beta"
    assert registry.get("gamma") is None


@pytest.mark.parametrize(
    ("offer", "why"),
    [
        (point("alpha", "registry_missing_module:adapter"), "cannot be imported: ModuleNotFoundError"),
        (point("alpha", "missing_attribute"), "cannot be imported: AttributeError"),
        (point("alpha", "nothing"), "is of type int, not Adapter"),
        (point("alpha", "emulation"), "is of type Emulation, not Adapter"),
        (point("alpha", "beta"), "calls itself 'beta'"),
    ],
)
def test_a_bad_offer_is_refused_by_name(offer: EntryPoint, why: str) -> None:
    message = refusal(offer)
    assert message.startswith(f"adapter alpha ({offer.value}): ")
    assert why in message


def test_a_name_offered_twice_is_refused() -> None:
    sys.modules[MODULE].__dict__["again"] = named("alpha")
    assert "another distribution offers that name already" in refusal(
        point("alpha", "alpha"), point("alpha", "again")
    )


def test_no_adapter_at_all_is_refused() -> None:
    assert PROVIDERS_GROUP in refusal()


def test_findings_and_broken_checks_are_told_together() -> None:
    def check(adapter: Adapter) -> tuple[Finding, ...]:
        if adapter.spec.name == "beta":
            raise RuntimeError("its own function raised")
        return (Finding("declared.words", "spec.statuses", "no word for failed"),)

    with pytest.raises(SettingsError) as caught:
        load_adapters(
            [point("alpha", "alpha"), point("beta", "beta"), point("gamma", "nothing")], check=check
        )
    message = str(caught.value)
    assert message.startswith("3 adapter problems:\n")
    assert "adapter alpha: declared.words: spec.statuses: no word for failed" in message
    assert "adapter beta: its checks could not be run: RuntimeError" in message
    assert "adapter gamma" in message


def test_the_declared_checks_are_the_default() -> None:
    broken = msgspec.structs.replace(runway.spec, name="alpha", models=())
    sys.modules[MODULE].__dict__["alpha"] = msgspec.structs.replace(runway, spec=broken)
    with pytest.raises(SettingsError, match="adapter alpha: "):
        load_adapters([point("alpha", "alpha")])


def test_an_emulation_must_be_one_and_bear_its_name() -> None:
    good = point("runway", "emulation", EMULATIONS_GROUP)
    assert load_emulations([good]) == {"runway": runway_emulation}
    assert load_emulations([]) == {}
    with pytest.raises(SettingsError, match=r"emulation other .* calls itself 'runway'"):
        load_emulations([point("other", "emulation", EMULATIONS_GROUP)])
    with pytest.raises(SettingsError, match="not Emulation"):
        load_emulations([point("alpha", "alpha", EMULATIONS_GROUP)])


def test_packages_that_do_not_lie_side_by_side_are_refused(tmp_path: Path) -> None:
    check_siblings()
    check_siblings(tmp_path / "gateway", tmp_path / "providers")
    with pytest.raises(SettingsError, match="side by side"):
        check_siblings(tmp_path / "gateway", tmp_path / "elsewhere" / "providers")
