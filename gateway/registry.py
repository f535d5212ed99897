"""Finds the adapters by entry point and refuses a bad one by name, before anything is served.

An adapter is whatever an installed distribution offers in the group `motion_gateway.providers`: one `Adapter`
under its own name. Its emulation, when it has one, stands in `motion_gateway.emulations`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final, TypeVar

import providers
from gateway.errors import SettingsError
from providers.conformance.declared import check_declared
from providers.conformance.finding import Finding
from providers.contract.adapter import Adapter
from providers.contract.emulation import Emulation
from providers.contract.spec import Spec

PROVIDERS_GROUP: Final = "motion_gateway.providers"
EMULATIONS_GROUP: Final = "motion_gateway.emulations"

T = TypeVar("T")


class Registry:
    """The installed adapters, by name.

    Args:
        adapters: each under its spec's name.
    """

    def __init__(self, adapters: Iterable[Adapter]) -> None:
        self.adapters: Mapping[str, Adapter] = {
            adapter.spec.name: adapter for adapter in sorted(adapters, key=lambda one: one.spec.name)
        }

    @property
    def specs(self) -> tuple[Spec, ...]:
        """The declared half of each, in alphabetical order."""
        return tuple(adapter.spec for adapter in self.adapters.values())

    def get(self, name: str) -> Adapter | None:
        """Return the adapter of that name, or None when it is not installed (any more)."""
        return self.adapters.get(name)


def load_adapters(
    offered: Iterable[EntryPoint] | None = None,
    *,
    check: Callable[[Adapter], tuple[Finding, ...]] = check_declared,
) -> Registry:
    """Load and check every installed adapter.

    Args:
        offered: entry points to load; None takes the installed ones.
        check: the declared checks.

    Raises:
        SettingsError: an adapter cannot be imported, is none, is misnamed, is offered twice or fails its
            checks; or there is none at all. One line for each problem.
    """
    check_siblings()
    points = entry_points(group=PROVIDERS_GROUP) if offered is None else offered
    problems: list[str] = []
    adapters = _load(points, Adapter, lambda adapter: adapter.spec.name, problems)
    for name, adapter in adapters.items():
        problems += [f"adapter {name}: {finding}" for finding in _findings(adapter, check)]
    if not adapters and not problems:
        problems.append(f"no adapter is installed: nothing offers an entry point in {PROVIDERS_GROUP}")
    _refuse(problems)
    return Registry(adapters.values())


def load_emulations(offered: Iterable[EntryPoint] | None = None) -> dict[str, Emulation]:
    """Load every installed emulation, by its adapter's name.

    Args:
        offered: entry points to load; None takes the installed ones.

    Raises:
        SettingsError: one cannot be imported, is none, is misnamed or is offered twice.
    """
    points = entry_points(group=EMULATIONS_GROUP) if offered is None else offered
    problems: list[str] = []
    emulations = _load(points, Emulation, lambda emulation: emulation.name, problems)
    _refuse(problems)
    return emulations


def check_siblings(gateway_folder: Path | None = None, providers_folder: Path | None = None) -> None:
    """Refuse to run when `gateway` and `providers` do not lie side by side.

    The names are common ones: another project's `providers` on the path would be imported instead of ours.

    Args:
        gateway_folder: where `gateway` was imported from; found by itself when left out.
        providers_folder: the same of `providers`.

    Raises:
        SettingsError: they have different parents.
    """
    ours = (gateway_folder or Path(__file__).parent).resolve()
    theirs = (providers_folder or Path(next(iter(providers.__path__), "."))).resolve()
    if ours.parent != theirs.parent:
        raise SettingsError(
            f"the packages gateway ({ours}) and providers ({theirs}) must lie side by side;"
            " install motion-gateway into an environment of its own"
        )


def _load(
    points: Iterable[EntryPoint], kind: type[T], name_of: Callable[[T], str], problems: list[str]
) -> dict[str, T]:
    loaded: dict[str, T] = {}
    what = kind.__name__.lower()
    for point in sorted(points, key=lambda one: (one.name, one.value)):
        label = f"{what} {point.name} ({point.value})"
        try:
            offer: object = point.load()
        except Exception as error:  # noqa: BLE001  (a foreign module may raise anything while it is imported)
            problems.append(f"{label}: cannot be imported: {type(error).__name__}: {error}")
            continue
        if not isinstance(offer, kind):
            problems.append(f"{label}: is of type {type(offer).__name__}, not {kind.__name__}")
        elif name_of(offer) != point.name:
            problems.append(f"{label}: calls itself {name_of(offer)!r}; the entry point must have that name")
        elif point.name in loaded:
            problems.append(f"{label}: another distribution offers that name already; uninstall one")
        else:
            loaded[point.name] = offer
    return loaded


def _findings(adapter: Adapter, check: Callable[[Adapter], tuple[Finding, ...]]) -> list[str]:
    try:
        return [str(finding) for finding in check(adapter)]
    except Exception as error:  # noqa: BLE001  (the checks run the adapter's own functions)
        return [f"its checks could not be run: {type(error).__name__}: {error}"]


def _refuse(problems: list[str]) -> None:
    if len(problems) == 1:
        raise SettingsError(problems[0])
    if problems:
        raise SettingsError(
            f"{len(problems)} adapter problems:" + "".join(f"\n  {line}" for line in problems)
        )
