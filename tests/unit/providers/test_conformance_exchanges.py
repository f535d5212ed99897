"""Exchange files are read strictly: what is misspelled or contradicts itself is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from providers.conformance.exchanges import load_exchange, load_exchanges
from providers.contract.motion import Character, CharacterType, MotionRequest, Reference

REQUEST = {
    "character": {"type": "image", "url": "https://a.example/c"},
    "reference": {"url": "https://a.example/r"},
}


LOST = {"request": REQUEST, "sent_ms": 1000, "doubted_ms": 2000}
ASKED = {"method": "GET", "target": "/v1/list"}


def content(operation: str = "poll", **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "submit": {"request": REQUEST},
        "poll": {"ref": "r"},
        "cancel": {"ref": "r"},
        "probe": {},
        "reconcile": LOST,
        "callback": {},
    }
    if operation == "reconcile":
        changes = {"request": ASKED, **changes}
    response: dict[str, Any] = {"status": 200, "body": {"status": "PENDING"}}
    if operation == "callback":
        del response["status"]
    expect: dict[str, Any] = {
        "submit": {"submitted": {"ref": "r"}},
        "poll": {"update": {"status": "queued"}},
        "cancel": {"cancelled": True},
        "probe": {"probed": True},
        "reconcile": {"sightings": []},
        "callback": {"named": "r"},
    }
    return {
        "promise": "one line",
        "provenance": {"kind": "documented", "source": "the docs", "date": "2026-11-21"},
        "operation": operation,
        "given": given[operation],
        "response": response,
        "expect": expect[operation],
        **changes,
    }


def load(document: object, name: str | None = None) -> Any:
    operation = document.get("operation", "") if isinstance(document, dict) else ""
    return load_exchange(name or f"{operation}-x.json", json.dumps(document).encode())


@pytest.mark.parametrize("operation", ["submit", "poll", "cancel", "probe", "reconcile", "callback"])
def test_a_file_of_each_operation_is_read(operation: str) -> None:
    assert load(content(operation)).name == f"{operation}-x"


def test_defaults_of_the_request_are_filled_in() -> None:
    assert load(content("submit")).motion == MotionRequest(
        character=Character(type=CharacterType.IMAGE, url="https://a.example/c"),
        reference=Reference(url="https://a.example/r"),
    )


def test_a_body_reaches_the_reader_byte_for_byte() -> None:
    raw = json.dumps(content()).replace('{"status": "PENDING"}', '{"status":  "PENDING", "n": 1.50, "n": 2}')
    exchange = load_exchange("poll-x.json", raw.encode())
    assert exchange.http.body == b'{"status":  "PENDING", "n": 1.50, "n": 2}'
    assert exchange.http.headers == {"content-type": "application/json"}


def test_text_and_nothing_are_bodies_too() -> None:
    error = {"error": {"code": "provider_unavailable"}}
    page = load(content(response={"status": 502, "text": "<html>"}, expect=error))
    assert (page.http.body, page.http.headers) == (b"<html>", {})
    assert load(content("cancel", response={"status": 204})).http.body == b""


def test_a_reconcile_goes_on_for_as_many_steps_as_it_takes() -> None:
    then = [{"request": ASKED, "response": {"status": 404}}, {"request": ASKED, "response": {"status": 200}}]
    assert [step.status for step in load(content("reconcile", then=then)).steps] == [200, 404, 200]


def test_a_404_may_be_what_a_reconcile_is_sent() -> None:
    assert load(content("reconcile", response={"status": 404})).http.status == 404


MALFORMED: list[tuple[dict[str, Any], str]] = [
    (content(extra=1), "extra"),
    (content(given={"ref": "r", "reff": "r"}), "reff"),
    (content(given={"ref": "r", "request": REQUEST}), "given.request"),
    (content(given={}), "given.ref"),
    (content("submit", given={}), "given.request"),
    (content("submit", given={"request": {**REQUEST, "prompt": "x"}}), "prompt"),
    (content("submit", given={"request": {**REQUEST, "content_moderation": {"level": "x"}}}), "level"),
    (content("submit", given={"request": {**REQUEST, "ratio": "16:9"}}), "16:9"),
    (content("submit", given={"request": REQUEST, "ref": "r"}), "given.ref"),
    ({**content(), "operation": "ask"}, "ask"),
    (content(promise=""), "promise"),
    (content(promise="a\nb"), "promise"),
    (content(provenance={"kind": "guessed", "source": "x", "date": "2026-11-21"}), "guessed"),
    (content(provenance={"kind": "recorded", "source": "x", "date": "yesterday"}), "date"),
    (content(provenance={"kind": "recorded", "source": " ", "date": "2026-11-21"}), "provenance.source"),
    (content(response={"status": 200, "body": {}, "text": "x"}), "both body and text"),
    (content(response={"status": 200, "headers": {"X-Id": "1"}}), "lower case"),
    (content(expect={}), "exactly one"),
    (content(expect={"update": {"status": "queued"}, "unreadable": True}), "exactly one"),
    (content(expect={"unreadable": False}), "exactly one"),
    (content(expect={"submitted": {"ref": "r"}}), "exactly one"),
    (content(expect={"error": {"code": "timeout"}}), "exactly one"),
    (content(response={"status": 500}), "exactly one"),
    (content(expect={"update": {"state": "queued"}}), "state"),
    (content(expect={"update": {"status": "PENDING"}}), "PENDING"),
    (content(expect={"update": {"error": {"code": "no_such_code"}}}), "no_such_code"),
    (content(response={"body": {}}), "response.status"),
    (content(given={"ref": "r", "sent_ms": 1000, "doubted_ms": 2000}), "given.sent_ms"),
    (content(given={"ref": "r", "offered": ["a"]}), "given.offered"),
    (content(then=[{"request": ASKED, "response": {"status": 200}}]), "then"),
    (content("reconcile", given={"request": REQUEST}), "given.sent_ms"),
    (content("reconcile", given={**LOST, "doubted_ms": 999}), "given.sent_ms"),
    (content("reconcile", given={"sent_ms": 1, "doubted_ms": 2}), "given.request"),
    (content("reconcile", request=None), "request"),
    (content("reconcile", response={"status": 503}), "exactly one"),
    (content("reconcile", expect={"sightings": [{"ref": "r", "id": "x"}]}), "id"),
    (
        content("reconcile", then=[{"request": ASKED, "response": {"status": 200, "headers": {"A": "1"}}}]),
        "lower",
    ),
    (content("callback", response={"status": 200, "body": {}}), "response.status"),
    (content("callback", request=ASKED), "no request of ours"),
    (content("callback", given={"ref": "r"}), "given.ref"),
    (content("callback", expect={"submitted": {"ref": "r"}}), "exactly one"),
]


@pytest.mark.parametrize(("document", "words"), MALFORMED)
def test_a_malformed_file_is_refused_by_name(document: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=r"^\w+-x\.json: ") as caught:
        load(document)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["other.json", "submit-x.json", "poll-x.yaml", "pollx.json"])
def test_the_name_tells_the_operation(name: str) -> None:
    with pytest.raises(ValueError, match="the name must"):
        load(content(), name)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"promise": "\xff"}'])
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"poll-x\.json"):
        load_exchange("poll-x.json", raw)


def test_a_folder_is_loaded_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("poll-b.json", "poll-a.json", ".hidden"):
        (tmp_path / name).write_text(json.dumps(content()))
    assert [exchange.name for exchange in load_exchanges(tmp_path)] == ["poll-a", "poll-b"]


def test_no_folder_is_no_exchanges_and_no_package_an_error() -> None:
    assert load_exchanges("providers.contract") == ()
    with pytest.raises(ModuleNotFoundError):
        load_exchanges("providers.nobody")
