"""A job's timeline as a compact table: seconds since it was accepted, what, and in a few words how."""

from __future__ import annotations

from datetime import datetime

import msgspec
from msgspec import Raw
from rich.table import Table
from rich.text import Text

from gateway.cli.screen import printable
from gateway.service.jobs import DeliveryEntry, EventEntry, ExchangeEntry, PlanEntry, TimelineView
from gateway.service.plans import PlanView

_STYLES = {PlanEntry: "", EventEntry: "", ExchangeEntry: "dim", DeliveryEntry: "cyan"}


def timeline_table(timeline: TimelineView) -> Table:
    """Return the table."""
    table = Table(box=None, show_header=False)
    # Where the terminal is narrow, it is the last column that gives way.
    table.add_column(justify="right", no_wrap=True, min_width=7)
    table.add_column(no_wrap=True, min_width=18)
    table.add_column(no_wrap=True, overflow="ellipsis")
    began = _instant(timeline.entries[0].at) if timeline.entries else 0.0
    for entry in timeline.entries:
        what, how = _words(entry)
        at = f"{_instant(entry.at) - began:.2f} s"
        table.add_row(at, Text(what), Text(printable(how)), style=_STYLES[type(entry)])
    return table


def _words(entry: PlanEntry | EventEntry | ExchangeEntry | DeliveryEntry) -> tuple[str, str]:
    match entry:
        case PlanEntry():
            planned = msgspec.json.decode(entry.plan, type=PlanView)
            first = ", ".join(f"{one.provider}/{one.account}" for one in planned.candidates)
            return "plan", f"{planned.policy}: {first}; {len(planned.left_out)} left out"
        case EventEntry():
            return entry.type, _note(entry.data)
        case ExchangeEntry():
            asked = entry.request.partition("\n")[0].partition("?")[0]
            status = entry.status or "no answer"
            return f"  {entry.operation}", f"{asked} -> {status}, {entry.outcome}, {entry.duration_ms} ms"
        case DeliveryEntry(number=0):
            return "  webhook", f"{entry.type} written for {entry.url}"
        case DeliveryEntry():
            status = entry.status or "no answer"
            return "  webhook", f"try {entry.number} -> {status}, {entry.outcome}, {entry.duration_ms} ms"


def _note(data: Raw) -> str:
    document = msgspec.json.decode(data, type=dict[str, object])
    note = document.get("note")
    if not isinstance(note, dict):
        return ""
    return ", ".join(f"{name} {value}" for name, value in note.items())  # pyright: ignore[reportUnknownVariableType]


def _instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
