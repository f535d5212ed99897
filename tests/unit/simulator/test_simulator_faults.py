"""Fault scripts: read strictly, followed in order, seen by the client only after the deed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from simulator_fleet import CANCELLABLE, EMULATIONS, NAMES, asking, fleet, read, script

from gateway.simulator import FaultRule, FaultScript, FaultScriptRefused, load_script, read_script
from gateway.simulator.fetch import UnusableMedia
from gateway.simulator.media import Media
from gateway.simulator.mount import UNKNOWN_WORD
from providers.contract.errors import UnexpectedPayload
from providers.contract.normalize import normalize
from providers.contract.status import JobStatus

FAILURES = [(name, code) for name in NAMES for code in EMULATIONS[name].failures]
REFUSALS = [(name, code) for name in NAMES for code in EMULATIONS[name].refusals]

WRONG_FORMS = [
    b"",
    b"[]",
    b"\xff",
    b"[" * 100_000,
    b'{"rule": []}',
    b'{"rules": [{"fault": "html"}]}',
    b'{"rules": [{"fault": "html", "operation": "create", "time": 1}]}',
    b'{"rules": [{"fault": "html", "operation": "create", "times": 0}]}',
    b'{"rules": [{"fault": "html", "operation": "create", "times": "1"}]}',
    b'{"rules": [{"fault": "html", "operation": "delete"}]}',
]
WRONG_WORDS = [
    {"fault": "explode", "operation": "create"},
    {"fault": "explode:now", "operation": "create"},
    {"fault": "html", "operation": "create", "provider": "nobody"},
    {"fault": "unknown_status", "operation": "create"},
    {"fault": "success_without_url", "operation": "cancel"},
    {"fault": "refuse:rate_limited", "operation": "poll"},
    {"fault": "fail:content_rejected", "operation": "cancel"},
    {"fault": "fail:no_such_code", "operation": "poll"},
    {"fault": "refuse:no_such_code", "operation": "create", "provider": "runway"},
    {"fault": "fail:", "operation": "poll"},
    {"fault": "no_rows", "operation": "poll"},
    {"fault": "twice", "operation": "create"},
    {"fault": "accept_502", "operation": "callback"},
    {"fault": "refuse:rate_limited", "operation": "list"},
    {"fault": "no_rows", "operation": "list", "character_contains": "hero"},
]


@pytest.mark.parametrize("text", WRONG_FORMS)
def test_a_script_of_the_wrong_form_is_refused(text: bytes) -> None:
    with pytest.raises(FaultScriptRefused, match="fault script"):
        read_script(text)


@pytest.mark.parametrize("rule", WRONG_WORDS)
async def test_a_script_of_unknown_words_is_refused_and_the_old_one_kept(rule: dict[str, str]) -> None:
    async with fleet(faults=script("html_502", times=3)) as providers:
        answer = await providers.http.post("/_faults", json={"rules": [rule]})
        assert answer.status_code == 400
        assert answer.json()["reasons"][0].startswith("rules[0]: ")
        assert (await providers.http.get("/_faults")).json()["rules"][0]["fault"] == "html_502"
    with pytest.raises(FaultScriptRefused, match=r"rules\[0\]"):
        async with fleet(faults=read_script(json.dumps({"rules": [rule]}))):
            pass


def test_a_script_is_loaded_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text('{"rules": [{"operation": "poll", "fault": "html", "times": 2}]}')
    assert load_script(path) == FaultScript(rules=(FaultRule(operation="poll", fault="html", times=2),))
    with pytest.raises(FaultScriptRefused, match=r"none\.json"):
        load_script(tmp_path / "none.json")


async def test_a_script_is_shown_with_what_is_left_replaced_and_cleared() -> None:
    async with fleet() as providers:
        rule = {"operation": "create", "fault": "accept_500", "times": 2}
        assert (await providers.http.post("/_faults", json={"rules": [rule]})).status_code == 202
        assert (await providers["runway"].submit()).status_code == 500
        (shown,) = (await providers.http.get("/_faults")).json()["rules"]
        assert (shown["times"], shown["left"], shown["provider"]) == (2, 1, "*")
        assert (await providers.http.delete("/_faults")).status_code == 204
        assert (await providers.http.get("/_faults")).json() == {"rules": []}
        assert (await providers["runway"].submit()).status_code == 200


async def test_rules_are_used_up_in_order_and_fit_provider_and_character() -> None:
    rules = (
        FaultRule(provider="runway", operation="create", fault="accept_500", times=1),
        FaultRule(operation="create", fault="accept_502", character_contains="villain"),
    )
    async with fleet(faults=FaultScript(rules=rules)) as providers:
        villain = asking("https://media.example/villain.png")
        assert (await providers["eachlabs"].submit()).status_code == 200
        assert (await providers["runway"].submit(villain)).status_code == 500
        assert (await providers["runway"].submit(villain)).status_code == 502
        assert (await providers["runway"].submit()).status_code == 200
        assert (await providers["eachlabs"].submit(villain)).status_code == 502


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("accept_500", 500),
        ("accept_502", 502),
        ("accept_truncated_json", 200),
        ("html", 200),
        ("html_502", 502),
    ],
)
async def test_a_spoilt_create_was_accepted_all_the_same(name: str, fault: str, status: int) -> None:
    async with fleet(faults=script(fault, times=1)) as providers:
        answer = await providers[name].submit()
        assert answer.status_code == status
        with pytest.raises(UnexpectedPayload):
            providers[name].adapter.parse_submit(read(answer))
        assert (await providers.stats())["accepted"][name] == 1


@pytest.mark.parametrize("name", NAMES)
async def test_html_is_html(name: str) -> None:
    async with fleet(faults=script("html", "poll")) as providers:
        answer = await providers[name].poll(await providers[name].submitted())
        assert answer.headers["content-type"].startswith("text/html")
        assert "<html>" in answer.text


@pytest.mark.parametrize("name", CANCELLABLE)
async def test_a_spoilt_cancel_was_carried_out_all_the_same(name: str) -> None:
    async with fleet(faults=script("accept_502", "cancel")) as providers:
        ref = await providers[name].submitted()
        assert (await providers[name].cancel(ref)).status_code == 502
        after = await providers[name].poll(ref)
        gone = EMULATIONS[name].forgets_cancelled
        assert after.status_code == 404 if gone else EMULATIONS[name].cancelled_word in after.text


@pytest.mark.parametrize("name", NAMES)
async def test_an_unknown_status_is_one_that_no_spec_knows(name: str) -> None:
    async with fleet(faults=script("unknown_status", "poll", times=1)) as providers:
        caller = providers[name]
        ref = await caller.submitted()
        update = normalize(caller.adapter.spec, await caller.seen(ref))
        assert (update.status, update.provider_status) == (None, UNKNOWN_WORD)
        assert normalize(caller.adapter.spec, await caller.seen(ref)).status is JobStatus.QUEUED


@pytest.mark.parametrize("name", NAMES)
async def test_success_without_a_url_waits_for_the_success(name: str) -> None:
    async with fleet(faults=script("success_without_url", "poll", times=1)) as providers:
        caller = providers[name]
        ref = await caller.submitted()
        await caller.poll(ref)
        await providers.finish()
        empty, whole = await caller.seen(ref), await caller.seen(ref)
        assert empty.status == whole.status == EMULATIONS[name].succeeded_word
        assert (empty.outputs, len(whole.outputs)) == ((), 1)


@pytest.mark.parametrize(("name", "code"), FAILURES)
@pytest.mark.parametrize("operation", ["create", "poll"])
async def test_a_failure_is_told_in_words_that_mean_its_code(name: str, code: str, operation: str) -> None:
    async with fleet(faults=script(f"fail:{code}", operation, times=1, provider=name)) as providers:
        caller = providers[name]
        ref = await caller.submitted()
        if operation == "create":
            assert (await caller.seen(ref)).status == EMULATIONS[name].course[0].word
            await providers.finish()
        for _ in range(2):
            update = normalize(caller.adapter.spec, await caller.seen(ref))
            assert update.status is JobStatus.FAILED
            assert update.error is not None
            assert update.error.code == code
        assert (await providers.stats())["accepted"][name] == 1


@pytest.mark.parametrize(("name", "code"), REFUSALS)
async def test_a_refusal_is_the_emulations_byte_for_byte_and_accepts_nothing(name: str, code: str) -> None:
    async with fleet(faults=script(f"refuse:{code}", times=1, provider=name)) as providers:
        answer, wanted = await providers[name].submit(), EMULATIONS[name].refusals[code]
        assert (answer.status_code, answer.content) == (wanted.status, wanted.body)
        stats = await providers.stats()
        assert (stats["accepted"][name], stats["refused"][name]) == (0, 1)


async def test_a_failure_told_at_a_poll_stays_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = asyncio.Event()

    async def load(*_: object) -> None:
        await fetched.wait()
        raise UnusableMedia("character", "too late to matter")

    monkeypatch.setattr(Media, "load", load)
    async with fleet(faults=script("fail:content_rejected", "poll", times=1)) as providers:
        ref = await providers["aimlapi"].submitted()
        first = await providers["aimlapi"].seen(ref)
        fetched.set()
        await providers.finish()
        assert first == await providers["aimlapi"].seen(ref)


async def test_a_fault_never_revives_or_changes_a_finished_job() -> None:
    async with fleet(faults=script("fail:provider_error", "poll", provider="runway")) as providers:
        ref = await providers["runway"].submitted()
        await providers.finish()
        assert (await providers["runway"].seen(ref)).status == "SUCCEEDED"


async def test_a_server_that_cannot_reset_says_so() -> None:
    async with fleet(faults=script("accept_reset")) as providers:
        with pytest.raises(ConnectionResetError, match="does not let an app"):
            await providers["runway"].submit()
        counted: dict[str, Any] = await providers.stats()
        assert counted["accepted"]["runway"] == 1
