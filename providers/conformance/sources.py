"""Every entry says where it was read, and when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import cast

from msgspec import Struct
from msgspec.structs import fields

from providers.conformance.finding import Finding
from providers.contract.adapter import Adapter
from providers.contract.spec import Source


def check_sources(adapter: Adapter) -> Iterator[Finding]:
    """Check that every source names a place, an ISO date and a standing."""
    for where, source in _sources(adapter.spec, "spec"):
        problem = _problem(source)
        if problem is not None:
            yield Finding("declared.sources", where, problem)


def _sources(value: object, where: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, Struct):
        for field in fields(value):
            inner = getattr(value, field.name)
            if field.name == "source":
                yield where, inner
            else:
                yield from _sources(inner, f"{where}.{field.name}")
    elif isinstance(value, tuple):
        for index, item in enumerate(cast("tuple[object, ...]", value)):
            yield from _sources(item, f"{where}[{_name(item, index)}]")
    elif isinstance(value, Mapping):
        for key, item in cast("Mapping[str, object]", value).items():
            yield from _sources(item, f"{where}[{key}]")


def _name(item: object, index: int) -> str:
    names = (getattr(item, attribute, None) for attribute in ("name", "option", "word"))
    return next((name for name in names if isinstance(name, str)), str(index))


def _problem(source: object) -> str | None:
    if not isinstance(source, Source):
        return "has no source; say where it was read"
    if not source.where.strip():
        return "its source names no place; say where it was read"
    try:
        date.fromisoformat(source.read_on)
    except ValueError:
        return f"its source was read on {source.read_on!r}, which is no date of the form 2026-11-21"
    return None
