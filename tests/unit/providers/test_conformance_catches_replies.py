"""Replaying and damaging catch the reader that is wrong, and the expectation that is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from providers.conformance.damage import damages, stated
from providers.conformance.damaged import check_damaged
from providers.conformance.exchanges import Exchange, load_exchange, load_exchanges
from providers.conformance.replayed import check_replayed
from providers.conformance.verdict import check
from providers.contract.adapter import Adapter
from providers.contract.errors import UnexpectedPayload
from providers.contract.exchange import HttpResponse
from providers.contract.reading import read_object, status_at, text_at
from providers.contract.report import Failure, Observation, Submitted
from providers.contract.spec import Source, Standing, StatusWord
from providers.contract.status import JobStatus
from providers.runway import adapter as good

SOURCE = Source("made up for a test", "2026-11-21", Standing.INFERRED)
EXCHANGES = {exchange.name: exchange for exchange in load_exchanges("providers.runway")}
CREATED = EXCHANGES["submit-created"]
SUCCEEDED = EXCHANGES["poll-succeeded"]
REFUSED = EXCHANGES["submit-refused-issues"]


def document(response: HttpResponse) -> Any:
    return json.loads(response.body)


def without_checking(response: HttpResponse) -> Submitted:
    return Submitted(ref=document(response)["id"])


def ref_as_text(response: HttpResponse) -> Submitted:
    return Submitted(ref=str(read_object(response).get("id")))


def ref_as_it_comes(response: HttpResponse) -> Submitted:
    return Submitted(ref=text_at(read_object(response), "id") or "")


def ref_of_the_first_digits(response: HttpResponse) -> Submitted:
    start = response.body.find(b'"id": "')
    return Submitted(ref=response.body[start + 7 : start + 43].decode() or "none")


def ref_of_any_type(response: HttpResponse) -> Submitted:
    return Submitted(ref=read_object(response).get("id"))  # type: ignore[arg-type]  # the mistake that is caught


def ref_for_want_of_one(response: HttpResponse) -> Submitted:
    try:
        return good.parse_submit(response)
    except UnexpectedPayload:
        return Submitted(ref="unknown")


SUBMIT_READERS: list[tuple[Callable[[HttpResponse], Submitted], str, str]] = [
    (without_checking, "raises", "parse_submit raised"),
    (ref_as_text, "refs", "'None'"),
    (ref_as_it_comes, "refs", "cannot be a ref"),
    (ref_of_the_first_digits, "unreadable", "cut after 1/8"),
    (ref_of_any_type, "types", "Submitted"),
    (ref_for_want_of_one, "unreadable", "cut after 1/8"),
]


@pytest.mark.parametrize(("reader", "kind", "words"), SUBMIT_READERS)
def test_a_careless_submit_reader_is_caught(
    reader: Callable[[HttpResponse], Submitted], kind: str, words: str
) -> None:
    found = check_damaged(replace(good, parse_submit=reader), [CREATED])
    assert any(f.check == f"damaged.{kind}" and words in f.problem for f in found), list(map(str, found))


def unknown_is_done(response: HttpResponse) -> Observation:
    seen = good.parse_poll(response)
    known = good.spec.word(seen.status)
    return seen if known is not None else replace(seen, status="SUCCEEDED")


def part_of_a_word(response: HttpResponse) -> Observation:
    seen = good.parse_poll(response)
    return replace(seen, status="SUCCEEDED") if "SUCCE" in seen.status else seen


def made_up_output(response: HttpResponse) -> Observation:
    seen = good.parse_poll(response)
    return seen if seen.outputs else replace(seen, outputs=("https://cdn.example/6f1e.mp4",))


def null_is_a_word(response: HttpResponse) -> Observation:
    return Observation(status=str(document(response).get("status", "PENDING")))


def any_number(response: HttpResponse) -> Observation:
    task = read_object(response)
    return Observation(status=status_at(task, "status"), progress=task.get("output"))  # type: ignore[arg-type]  # caught


def huge_integer(response: HttpResponse) -> Observation:
    task = read_object(response)
    cost: Any = task.get("cost")
    amount = cost.get("credits") if isinstance(cost, dict) else None
    return Observation(status=status_at(task, "status"), progress=float(amount or 0.0))


POLL_READERS: list[tuple[Callable[[HttpResponse], Observation], str, str]] = [
    (unknown_is_done, "unknown-word", "SOMETHING_NEW"),
    (part_of_a_word, "unknown-word", "NOT_SUCCEEDED"),
    (made_up_output, "success", "make a URL up"),
    (null_is_a_word, "raises", "parse_poll raised"),
    (any_number, "types", "Observation"),
    (huge_integer, "raises", "OverflowError"),
]


@pytest.mark.parametrize(("reader", "kind", "words"), POLL_READERS)
def test_a_careless_poll_reader_is_caught(
    reader: Callable[[HttpResponse], Observation], kind: str, words: str
) -> None:
    found = check_damaged(replace(good, parse_poll=reader), [SUCCEEDED])
    assert any(f.check == f"damaged.{kind}" and words in f.problem for f in found), list(map(str, found))


FAILURE_READERS: list[tuple[Callable[[HttpResponse], Any], str]] = [
    (lambda response: Failure(message=str(read_object(response).get("error"))), "raises"),
    (lambda response: Failure(message=document(response)["error"]), "raises"),
    (
        lambda response: Failure(message=msgspec.json.decode(response.body, type=dict[str, str])["error"]),
        "raises",
    ),
    (lambda _: Failure(message=None), "types"),  # type: ignore[arg-type]  # the mistake that is caught
    (lambda _: None, "types"),
]


@pytest.mark.parametrize(("reader", "kind"), FAILURE_READERS)
def test_a_careless_failure_reader_is_caught(reader: Callable[[HttpResponse], Failure], kind: str) -> None:
    found = check_damaged(replace(good, parse_failure=reader), [REFUSED])
    assert any(f.check == f"damaged.{kind}" and "parse_failure" in f.problem for f in found)


def test_damage_is_the_same_every_time_and_covers_every_field() -> None:
    body = SUCCEEDED.http.body
    first, second = list(damages(body)), list(damages(body))
    assert first == second
    told = {damage.what for damage in first}
    for field in ("id", "createdAt", "status", "output", "output.0", "cost", "cost.credits"):
        assert f"without {field}" in told
        assert f"null at {field}" in told
    assert all(damage.body != body for damage in first)


def test_what_a_reply_holds_are_its_texts_integers_and_headers() -> None:
    reply = HttpResponse(status=200, headers={"x-id": "h"}, body=b'{"a": ["b", 7, true, null, {"c": "d"}]}')
    assert stated(reply) == {"h", "b", "7", "d"}
    assert stated(replace(reply, body=b"<html>")) == {"h"}


def changed(exchange: Exchange, **changes: Any) -> Exchange:
    return replace(exchange, **changes)


def file(name: str, **parts: Any) -> Exchange:
    """Make a poll's exchange file of a body and an expectation."""
    content: dict[str, Any] = {
        "promise": "a promise",
        "provenance": {"kind": "constructed", "source": "this test", "date": "2026-11-21"},
        "operation": name.partition("-")[0],
        **parts,
    }
    return load_exchange(f"{name}.json", json.dumps(content).encode())


def poll(body: object, expect: object, status: int = 200) -> Exchange:
    return file("poll-x", given={"ref": "r"}, response={"status": status, "body": body}, expect=expect)


DONE = {"status": "SUCCEEDED", "output": ["https://cdn.example/a.mp4"], "cost": {"credits": 50}}
WRONG_EXPECTATIONS: list[tuple[object, str]] = [
    ({"update": {"status": "failed"}}, "update.status"),
    ({"update": {"status": None}}, "update.status"),
    ({"update": {"provider_status": "succeeded"}}, "update.provider_status"),
    ({"update": {"outputs": []}}, "update.outputs"),
    ({"update": {"progress": 0.5}}, "update.progress"),
    ({"update": {"slow": True}}, "update.slow"),
    ({"update": {"drift": True}}, "update.drift"),
    ({"update": {"cost": None}}, "update.cost"),
    ({"update": {"cost": {"micro_usd": 1}}}, "update.cost.micro_usd"),
    ({"update": {"error": {"code": "provider_error"}}}, "update.error"),
    ({"unreadable": True}, "says nothing"),
]


@pytest.mark.parametrize(("expect", "words"), WRONG_EXPECTATIONS)
def test_what_is_read_otherwise_than_the_file_says_is_found(expect: object, words: str) -> None:
    found = check_replayed(good, [poll(DONE, expect)])
    assert any(finding.check == "replayed.response" and words in finding.problem for finding in found)


@pytest.mark.parametrize(
    ("exchange", "words"),
    [
        (poll({}, {"update": {"status": "queued"}}), "cannot read the response"),
        (poll({"error": "no"}, {"error": {"code": "timeout"}}, 400), "error.code"),
        (
            poll({"error": "no"}, {"error": {"code": "invalid_request", "message": "yes"}}, 400),
            "error.message",
        ),
        (
            changed(
                CREATED,
                expect=file(
                    "submit-x",
                    given={
                        "request": {"character": {"type": "image", "url": "u"}, "reference": {"url": "u"}}
                    },
                    response={"status": 200, "body": {}},
                    expect={"submitted": {"ref": "other"}},
                ).expect,
            ),
            "submitted.ref",
        ),
    ],
)
def test_a_wrong_error_or_ref_is_found(exchange: Exchange, words: str) -> None:
    found = check_replayed(good, [exchange])
    assert any(finding.check == "replayed.response" and words in finding.problem for finding in found)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"method": "POST"}, "request.method"),
        ({"target": "/v1/tasks/s"}, "request.target"),
        ({"headers": {"x-id": "1"}}, "request.headers"),
        ({"body": {}}, "request.body"),
    ],
)
def test_a_request_built_otherwise_than_the_file_says_is_found(asked: dict[str, Any], words: str) -> None:
    request = {"method": "GET", "target": "/v1/tasks/r", **asked}
    exchange = file(
        "poll-x",
        given={"ref": "r"},
        request=request,
        response={"status": 200, "body": DONE},
        expect={"update": {"status": "succeeded"}},
    )
    found = [finding for finding in check_replayed(good, [exchange]) if finding.check == "replayed.request"]
    assert [finding.problem.partition(":")[0] for finding in found] == [words]


@pytest.mark.parametrize(
    ("given", "words"),
    [({"model": "act-nine"}, "act-nine"), ({"options": {"path": "old"}}, "path=old")],
)
def test_an_exchange_about_something_undeclared_is_found(given: dict[str, Any], words: str) -> None:
    exchange = file(
        "poll-x",
        given={"ref": "r", **given},
        response={"status": 200, "body": DONE},
        expect={"update": {"status": "succeeded"}},
    )
    found = [finding for finding in check_replayed(good, [exchange]) if finding.check == "replayed.failed"]
    assert words in found[0].problem


def test_a_reader_that_fails_in_another_way_is_found() -> None:
    def failing(_: HttpResponse) -> Observation:
        raise KeyError("status")

    found = check_replayed(replace(good, parse_poll=failing), [SUCCEEDED])
    assert any(finding.check == "replayed.failed" and "KeyError" in finding.problem for finding in found)


def test_a_file_for_a_call_the_adapter_has_not_is_found() -> None:
    found = check_replayed(replace(good, build_cancel=None), [EXCHANGES["cancel-done"]])
    assert any("the adapter has no cancel" in finding.problem for finding in found)


def test_what_no_file_shows_is_named() -> None:
    word = StatusWord("NEVER_SEEN", JobStatus.RUNNING, SOURCE)
    rule = replace(good.spec.failures[0], provider_code="NEVER.SEEN")
    spec = replace(good.spec, statuses=(*good.spec.statuses, word), failures=(*good.spec.failures, rule))
    found = check_replayed(replace(good, spec=spec), tuple(EXCHANGES.values()))
    assert [finding.where for finding in found] == [
        "spec.statuses[NEVER_SEEN]",
        f"spec.failures[{len(good.spec.failures)}]",
    ]


def test_without_files_every_operation_is_missed() -> None:
    missed = {finding.where for finding in check_replayed(good, ())}
    assert {f"exchanges/{name}-*.json" for name in ("submit", "poll", "cancel", "probe")} <= missed
    lenient = check_replayed(good, (CREATED, SUCCEEDED))
    assert any("refused submit" in finding.problem for finding in lenient)


def test_the_verdict_names_bad_tables_before_anything_else() -> None:
    bad: Adapter = replace(good, spec=replace(good.spec, name="NO"), parse_submit=without_checking)
    found = check(bad, tuple(EXCHANGES.values()))
    assert {finding.check for finding in found} == {"declared.name"}


def test_the_verdict_holds_replays_and_damages() -> None:
    bad = replace(good, parse_submit=without_checking)
    checks = {finding.check for finding in check(bad, tuple(EXCHANGES.values()))}
    assert {"replayed.failed", "damaged.raises"} <= checks
