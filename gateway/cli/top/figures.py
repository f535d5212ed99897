"""What `top` shows of the metrics, read from Prometheus's text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

PREFIX: Final = "motion_gateway_"


class Figures(Struct, frozen=True, kw_only=True):
    """Of the whole store, as the process that answered saw it last; what has ended, since it started.

    None is what that process does not know: one that carries out nothing does not look at the store, and
    the others have not looked yet when they have just started.
    """

    version: str
    unfinished: Mapping[str, int | None]
    """By status."""
    held: int | None
    ended: Mapping[str, int | None]
    """By status."""
    unknown: int | None
    """Submissions whose outcome was unknown."""
    calls: Mapping[str, tuple[int, int]]
    """By provider: calls made, and those of them that failed."""
    shut: frozenset[tuple[str, str, str]]
    """Breakers that are open: provider, account, operation."""
    backlog: int | None
    oldest_s: float | None
    """Of the deliveries that wait."""
    endpoints: Mapping[str, int | None]
    """By state."""

    @property
    def none_unless_known(self) -> int | None:
        """What a figure of the store is that was not exported: 0, or unknown with all of them."""
        return None if self.held is None else 0


WELL: Final = frozenset({"made", "withheld", "seen", "done"})
"""Outcomes of calls that are no failure of the provider's."""


def read_figures(text: str) -> Figures:
    """Read them; what is not there counts as none.

    Raises:
        ValueError: it is no Prometheus text.
    """
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name.removeprefix(PREFIX).removesuffix("_total")
            found.setdefault(name, []).append((sample.labels, sample.value))
    return Figures(
        version=next((labels.get("version", "") for labels, _ in found.get("build_info", [])), ""),
        unfinished=_by("status", found.get("jobs_in_progress", [])),
        held=_sum(found.get("jobs_held", [])),
        ended=_by("status", found.get("jobs_finished", [])),
        unknown=_sum(found.get("submissions_unknown", [])),
        calls=_calls(found.get("provider_requests", [])),
        shut=frozenset(
            (labels["provider"], labels["account"], labels["operation"])
            for labels, value in found.get("breaker_open", [])
            if value
        ),
        backlog=_sum(found.get("webhook_backlog", [])),
        oldest_s=_known(max((value for _, value in found.get("webhook_oldest_seconds", [])), default=0.0)),
        endpoints=_by("state", found.get("webhook_endpoints", [])),
    )


def _by(label: str, samples: list[tuple[dict[str, str], float]]) -> dict[str, int | None]:
    found: dict[str, float] = {}
    for labels, value in samples:
        found[labels[label]] = found.get(labels[label], 0.0) + value
    return {name: _count(value) for name, value in found.items()}


def _sum(samples: list[tuple[dict[str, str], float]]) -> int | None:
    return _count(sum(value for _, value in samples))


def _count(value: float) -> int | None:
    known = _known(value)
    return None if known is None else round(known)


def _known(value: float) -> float | None:
    """Read NaN, which is how a figure of the store is exported that is not known."""
    return None if math.isnan(value) else value


def _calls(samples: list[tuple[dict[str, str], float]]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for labels, value in samples:
        made, failed = found.get(labels["provider"], (0, 0))
        bad = 0 if labels["outcome"] in WELL else round(value)
        found[labels["provider"]] = made + round(value), failed + bad
    return found
