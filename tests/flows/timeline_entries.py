"""What tests look for in a job's timeline."""

from __future__ import annotations

from running_gateway import Document


def notes(timeline: list[Document], kind: str) -> Document:
    """The note of the first event of a type."""
    note: Document = next(entry["data"]["note"] for entry in timeline if entry.get("type") == kind)
    return note


def plans_in(timeline: list[Document]) -> list[Document]:
    return [entry["plan"] for entry in timeline if entry["kind"] == "plan"]
