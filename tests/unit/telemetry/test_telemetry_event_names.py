"""One name in the log is one fact: who counts or searches for it finds that and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

GATEWAY = Path(__file__).parents[3] / "gateway"
LEVELS = frozenset({"debug", "info", "warning", "error", "exception"})
NAME = re.compile(r"[a-z_]+(\.[a-z_]+)+")
TOLD_FROM_SEVERAL = {
    "storage.unreadable": "a row of another table each time",
    "worker.storage": "a lane's claim, or a duty, found the storage away",
    "endpoint.disabled": "by what became of a delivery, or on request",
    "http.exception": "the API answers with a document, the console with a page",
    "http.storage": "the API answers with a document, the console with a page",
    "http.unreadable": "the API answers with a document, the console with a page",
}


def logged() -> Iterator[tuple[str, str]]:
    """Every call of a structured logger with a literal name: the name, and where."""
    for path in sorted(GATEWAY.rglob("*.py")):
        text = path.read_text()
        if "get_logger(" not in text or "migrations" in path.parts:
            continue
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "_log"
                and node.func.attr in LEVELS
                and isinstance(node.args[0], ast.Constant)
            ):
                yield str(node.args[0].value), f"{path.relative_to(GATEWAY)}:{node.lineno}"


PLACES: dict[str, list[str]] = {}
for _name, _place in logged():
    PLACES.setdefault(_name, []).append(_place)


@pytest.mark.parametrize("name", sorted(PLACES))
def test_an_event_has_a_name_of_words_and_is_told_from_one_place(name: str) -> None:
    assert NAME.fullmatch(name), PLACES[name]
    assert (len(PLACES[name]) > 1) == (name in TOLD_FROM_SEVERAL), PLACES[name]


def test_names_are_found_at_all() -> None:
    assert {"provider.called", "http.served", "worker.started"} <= PLACES.keys()
