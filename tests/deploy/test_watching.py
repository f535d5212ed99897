"""Alerts, runbook and dashboard ask only for what there is, and for each alert somebody knows what to do."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from watched import (
    ALERT_TESTS,
    DASHBOARD,
    DEPLOY,
    PROMETHEUS,
    ROOT,
    RULES,
    RUNBOOK,
    SECTIONS,
    expressions,
    panels,
    selectors,
)

from gateway.cli.root import COMMANDS
from gateway.telemetry.declared import METRICS, Fleet, Kind, Own

BY_SERIES = {series: metric for metric in METRICS for series in metric.series}
COMMAND = r"motion-gateway ((?!motion-gateway)[a-z][^`\n#]*[^`\n# ])"
NAMES = [rule["alert"] for rule in RULES]


def generated(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, DEPLOY / "generated.py", *arguments], capture_output=True, text=True, check=False
    )


def test_what_is_generated_is_what_the_code_says() -> None:
    found = generated("--check")
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize(("name", "asked"), expressions())
def test_only_metrics_and_label_values_are_asked_for_that_are_exported(name: str, asked: str) -> None:
    for _, series, matchers in selectors(asked):
        metric = BY_SERIES.get(series)
        assert metric is not None, f"{name}: nothing exports {series}"
        labels = {label.name: label.values for label in metric.labels}
        for label, operator, value in matchers:
            values = labels[label]
            assert not isinstance(values, Own), f"{name}: {label} differs between installations"
            for word in value.split("|") if "~" in operator else [value]:
                assert any(re.fullmatch(word, known) for known in values), f"{name}: no {label} is {word}"


@pytest.mark.parametrize(("name", "asked"), expressions())
def test_grouping_is_by_labels_that_there_are(name: str, asked: str) -> None:
    labels = {label.name for _, series, _ in selectors(asked) for label in BY_SERIES[series].labels} | {
        "le",
        "instance",
    }
    for group in re.findall(r"\bby \(([^)]*)\)", asked):
        assert set(re.split(r",\s*", group)) <= labels, name


@pytest.mark.parametrize(("name", "asked"), expressions())
def test_what_is_asked_is_right_for_a_fleet(name: str, asked: str) -> None:
    for before, series, _ in selectors(asked):
        metric = BY_SERIES[series]
        if metric.fleet is Fleet.MAX:
            assert re.search(r"(max|absent)( by \([^)]*\))? ?\((max_over_time\()?$", before), (
                f"{name}: {series} is not to be summed"
            )
        elif metric.kind is Kind.GAUGE:
            assert re.search(r"sum( by \([^)]*\))? ?\($", before), f"{name}: {series} is each replica's own"
        else:
            rated = re.search(r"sum( by \([^)]*\))? ?\((rate|increase)\($", before)
            assert rated, f"{name}: {series} counts, and each replica apart"


def test_every_metric_is_shown_to_somebody() -> None:
    shown = {BY_SERIES[series].name for _, asked in panels() for _, series, _ in selectors(asked)}
    assert shown == {metric.name for metric in METRICS}


def test_the_dashboard_has_its_rows_and_nothing_lies_upon_another() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == [
        "Money and jobs",
        "Providers",
        "Queue and slots",
        "Webhooks",
        "HTTP",
        "Storage and process",
    ]
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_every_alert_says_what_how_bad_and_where_to_read_on(rule: dict[str, Any]) -> None:
    name = rule["alert"]
    assert name.startswith("MotionGateway")
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook"] == f"deploy/RUNBOOK.md#{name.lower()}"


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    assert list(SECTIONS) == sorted(SECTIONS, key=NAMES.index)
    assert sorted(SECTIONS) == sorted(NAMES)
    for name, section in SECTIONS.items():
        for part in ("**Means.**", "**Look at.**", "**Do.**"):
            assert part in section, name


@pytest.mark.parametrize("line", sorted(set(re.findall(COMMAND, RUNBOOK))), ids=str)
def test_every_command_of_the_runbook_exists(line: str) -> None:
    words = line.split()
    assert words[0] in COMMANDS
    command = import_module(f"gateway.cli.{words.pop(0)}").command
    if isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
    for choice in (p for p in command.params if isinstance(p.type, click.Choice) and p.name == "action"):
        assert words[1] in choice.type.choices


def test_every_metric_alert_and_log_line_of_the_runbook_exists() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "gateway").rglob("*.py"))
    known = {series.removesuffix("_bucket") for series in BY_SERIES}
    for name in re.findall(r"`(motion_gateway_\w+)`", RUNBOOK):
        assert name in known
    assert set(re.findall(r"`(MotionGateway\w+)`", RUNBOOK)) <= set(NAMES)
    lines = re.findall(r"[Ll]og\s+lines\s+((?:`[\w.]+`(?:,\s+)?)+)", RUNBOOK)
    assert lines
    for event in re.findall(r"`([\w.]+)`", " ".join(lines)):
        assert f'"{event}"' in code, f"nothing logs {event}"


def test_every_alert_is_seen_to_fire_and_to_clear() -> None:
    fired, cleared = set(), set()
    for path in ALERT_TESTS:
        for one in yaml.safe_load(path.read_text())["tests"]:
            last: dict[str, bool] = {}
            for check in one.get("promql_expr_test", ()):
                (name,) = re.findall(r'alertname="(\w+)"', check["expr"])
                fires = bool(check["exp_samples"])
                if fires:
                    fired.add(name)
                elif last.get(name):
                    cleared.add(name)
                last[name] = fires
    assert fired == cleared == set(NAMES)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is absent (Debian package prometheus)")
@pytest.mark.parametrize("path", ALERT_TESTS, ids=lambda path: path.name)
def test_prometheus_itself_says_that_they_do(path: Path) -> None:
    found = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is absent (Debian package prometheus)")
def test_the_example_configuration_is_one() -> None:
    found = subprocess.run(
        ["promtool", "check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
