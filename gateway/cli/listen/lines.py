"""How a webhook is shown: one line for people, or one of JSON."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Final

import msgspec
from rich.table import Table
from rich.text import Text

from gateway.cli.listen.desk import Heard, Verdict
from gateway.cli.screen import printable
from gateway.jobs.view import instant

_WIDTHS: Final = (12, 13, 36, 9, 5)
"""Of time, type, job, status and number, in characters; the verdict has the rest."""
_JOB: Final = 2  # which of them gives way where the terminal is narrow
_LEAST_JOB, _LEAST_VERDICT, _GAP = 8, 20, 2
_LONGEST: Final = 60  # characters that are looked at of a foreign word
_JOB_COLORS: Final = {"succeeded": "green", "failed": "red", "cancelled": "yellow"}
_COLORS: Final = {
    Verdict.VERIFIED: "green",
    Verdict.AGAIN: "cyan",
    Verdict.UNSIGNED: "bold red",
    Verdict.STALE: "bold red",
    Verdict.FORGED: "bold red",
    Verdict.UNVERIFIED: "yellow",
    Verdict.UNREAD: "bold red",
}
_REASONS: Final = {
    Verdict.UNSIGNED: "a header is missing, doubled or malformed",
    Verdict.STALE: "its time is more than 5 minutes from ours",
    Verdict.FORGED: "no signature fits this secret; jobs' own webhooks are signed with the owner's",
    Verdict.UNVERIFIED: "no secret was given",
    Verdict.UNREAD: "its body was too large, too slow or broken off",
}


def row_of(heard: Heard, width: int) -> Table:
    """Return a line of columns: time, type, job, status, number, verdict.

    Args:
        heard: what came.
        width: of the terminal, in characters.
    """
    row = Table.grid(padding=(0, _GAP, 0, 0))
    for columns in _columns(width):
        row.add_column(no_wrap=True, overflow="ellipsis", width=columns)
    # What no signature vouches for is shown, to find out what is wrong, but never in the colour of a result.
    believed = heard.verdict in {Verdict.VERIFIED, Verdict.AGAIN}
    style = _JOB_COLORS.get(heard.status or "", "") if believed else "dim"
    row.add_row(
        Text(_clock(heard.at_ms), style="dim"),
        Text(_word(heard.type), style="" if believed else "dim"),
        Text(_word(heard.job_id), style="" if believed else "dim"),
        Text(_word(heard.status), style=style),
        Text("-" if heard.sequence is None else f"#{heard.sequence}"[:_LONGEST], style="dim"),
        Text(verdict_of(heard), style=_COLORS[heard.verdict]),
    )
    return row


def _columns(width: int) -> list[int]:
    columns: list[int] = [*_WIDTHS]
    left = width - sum(columns) - _GAP * (len(columns) + 1)
    columns[_JOB] = max(_LEAST_JOB, columns[_JOB] - max(0, _LEAST_VERDICT - left))
    return [*columns, max(_LEAST_VERDICT, width - sum(columns) - _GAP * (len(columns) + 1))]


def verdict_of(heard: Heard) -> str:
    """Say what became of it, and what it was answered: `verified -> 204`."""
    word = f"again ({_ordinal(heard.times)})" if heard.verdict is Verdict.AGAIN else str(heard.verdict)
    told = f"{word} -> {heard.answered}"
    reason = "after a later event" if heard.overtaken else _REASONS.get(heard.verdict)
    return told if reason is None else f"{told}: {reason}"


def json_line_of(heard: Heard) -> str:
    """Return it as one line of JSON."""
    fields = {"at": instant(heard.at_ms), **msgspec.structs.asdict(heard)}
    del fields["at_ms"]
    return msgspec.json.encode(fields).decode()


def summary_of(counts: Counter[Verdict]) -> str:
    """Say what was received in all: `7 received: 5 verified, 1 again, 1 forged`."""
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])
    return f"{counts.total()} received: {told}" if told else "nothing received"


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000).astimezone().strftime("%H:%M:%S.%f")[:-3]


def _word(text: str | None) -> str:
    if not text:
        return "-"
    return printable(text[:_LONGEST])


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
