"""The parameters of operations: those in paths, by name, and those of several or with much to say."""

from __future__ import annotations

import re

Json = dict[str, object]

_NAME = re.compile(r"\{(\w+)\}")
_IN_PATHS = {
    "job_id": "The job's id.",
    "delivery_id": "The delivery's id.",
    "endpoint_id": "The endpoint's id.",
    "provider": "The provider's name.",
    "token": "What the submission was given; it names the attempt, and proves itself.",
    "slug": "The end of a problem's `type`.",
}


def path_parameters(path: str) -> tuple[Json, ...]:
    """Return the parameters that stand in a path, in their order."""
    return tuple(_in_path(name) for name in _NAME.findall(path))


def _in_path(name: str) -> Json:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": _IN_PATHS[name],
    }


def in_query(name: str, schema: Json, description: str) -> Json:
    """Return a parameter of the query."""
    return {"name": name, "in": "query", "schema": schema, "description": description}


def page_of(entries: str, *, cursor: str = "`next_cursor` of the page before.") -> tuple[Json, ...]:
    """Return what says which page of a list is wanted, and how much of it."""
    limit: Json = {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
    return (
        in_query("limit", limit, f"{entries} on a page."),
        in_query("cursor", {"type": "string"}, cursor),
    )


IDEMPOTENCY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 257},
    "description": "1 to 255 visible ASCII characters, quoted or bare. The same key with the same body "
    "answers with the job it made before; kept as long as the job.",
}
PREFER: Json = {
    "name": "Prefer",
    "in": "header",
    "schema": {"type": "string", "examples": ["wait=30"]},
    "description": "`wait=N` (RFC 7240): answer when the job has ended, with 200, or after N seconds, with "
    "202. N is 1 to 60; more is taken as 60, and `Preference-Applied` says so. What is malformed, or another "
    "preference, is not looked at. A replay waits as well.",
}
LAST_EVENT_ID: Json = {
    "name": "Last-Event-ID",
    "in": "header",
    "schema": {"type": "integer", "minimum": 0},
    "description": "The `id` of the event that was received last: the stream goes on after it.",
}
