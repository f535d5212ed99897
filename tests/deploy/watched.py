"""The files that watch a gateway: alerts and their tests, the runbook, the dashboard."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
ALERT_TESTS = tuple(sorted(PROMETHEUS.glob("*_test.yml")))

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
RUNBOOK = (DEPLOY / "RUNBOOK.md").read_text()
SECTIONS: dict[str, str] = dict(section.split("\n", 1) for section in RUNBOOK.split("\n## ")[1:])
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "motion-gateway.json").read_text())


def panels() -> Iterator[tuple[str, str]]:
    """Every expression of the dashboard, with its panel's title."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def expressions() -> list[tuple[str, str]]:
    """All that is asked of Prometheus, with a name."""
    return [*((rule["alert"], rule["expr"]) for rule in RULES), *panels()]


def selectors(expression: str) -> Iterator[tuple[str, str, list[tuple[str, str, str]]]]:
    """Each metric an expression names: what comes before it, its name, and its matchers."""
    for match in re.finditer(r"\b(motion_gateway_\w+)(?:\{([^}]*)\})?", expression):
        matchers = re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', match[2] or "")
        yield expression[: match.start()], match[1], matchers
