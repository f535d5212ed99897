"""The table of metrics, as a page for people."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from gateway.telemetry.declared import METRICS, PREFIX, Kind, Label, Metric, Own

HEAD: Final = """\
# Metrics

Written from `gateway/telemetry/declared.py` by `make reference`; `make check` fails when it is not true.

`GET /metrics` of each process that listens, with a key of the scope `metrics` (or `metrics.open = true`).
Each process exports its own page, and the last column says how the pages of a fleet are put together:

* `sum`: the process counted it. Sum over the replicas (of counters and histograms, their rates).
* `max`: it belongs to the store, which every process that carries out jobs looks at, every 2 seconds
  (`outputs_expiring` and `owners_at_budget`: 15). All say the same, so take the largest. It is NaN, or
  without a series, where nobody looked: with `serve --no-worker`, and while the database cannot be read
  (those two after a minute).

Labels have closed sets of values; besides those named here there are `other`, for a word that is in none, and
`none`, for no word at all.
"""


def reference() -> str:
    """Return the page."""
    parts = [HEAD]
    for group, metrics in groupby(METRICS, key=lambda metric: metric.group):
        parts.append(
            f"\n## {group}\n\n| metric | kind, unit | meaning | labels | fleet |\n|---|---|---|---|---|\n"
        )
        parts += [row(metric) for metric in metrics]
    parts.append("\n## Label values\n\n| label | values |\n|---|---|\n")
    parts += sets()
    parts.append("\n## Buckets\n\n| histogram | upper bounds, besides +Inf |\n|---|---|\n")
    parts += [
        f"| `{PREFIX}{metric.name}` | {', '.join(f'{bound:g}' for bound in metric.buckets)} |\n"
        for metric in METRICS
        if metric.kind is Kind.HISTOGRAM
    ]
    return "".join(parts)


def row(metric: Metric) -> str:
    """Return a metric's line."""
    labels = " ".join(f"`{label.name}`" for label in metric.labels)
    kind = f"{metric.kind}, {metric.unit}"
    return f"| `{PREFIX}{metric.name}` | {kind} | {metric.meaning} | {labels} | {metric.fleet} |\n"


def sets() -> Iterator[str]:
    """Yield a line for each label and set of values."""
    found: dict[Label, list[str]] = {}
    for metric in METRICS:
        for label in metric.labels:
            found.setdefault(label, []).append(metric.name)
    several = {label.name for label in found if sum(other.name == label.name for other in found) > 1}
    for label, names in sorted(found.items(), key=lambda item: (item[0].name, item[1])):
        where = f" of `{'`, `'.join(names)}`" if label.name in several else ""
        values = label.values if isinstance(label.values, Own) else " ".join(f"`{v}`" for v in label.values)
        yield f"| `{label.name}`{where} | {values} |\n"
