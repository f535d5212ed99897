"""Eachlabs' executions and callbacks: what can be said of a lost submission, and when nothing can."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec
import pytest
from lost_submissions import DOUBTED_MS, REQUEST, SENT_MS, Looking
from msgspec.structs import replace

from providers.contract.adapter import CallContext
from providers.contract.emulation import (
    Answer,
    Create,
    ListJobs,
    Rules,
    SimulatedFailure,
    SimulatedJob,
    WireRequest,
    json_response,
)
from providers.contract.errors import UnexpectedPayload
from providers.contract.exchange import HttpRequest, HttpResponse
from providers.contract.mapping import build_body
from providers.contract.report import Sighting
from providers.contract.spec import SecretProof
from providers.eachlabs import adapter
from providers.eachlabs.emulation import MODES, emulation
from providers.eachlabs.reconcile import MOST_CANDIDATES, MOST_OFFERED, MOST_PAGES, ROWS_PER_PAGE
from providers.eachlabs.spec import ACT_TWO, SPEC

BODY = build_body(ACT_TWO, REQUEST)
OURS = {"model": "runway-act-two", "input": BODY["input"]}
CREATED = "2026-11-21T12:00:00Z"
URL, SECRET = "http://127.0.0.1:9/v1/callbacks/eachlabs/att_1.x", "s3cr3t"


class Executions:
    """Executions in pages, and a prediction with our inputs for each of them."""

    def __init__(self, refs: Sequence[str], *, created: str = CREATED, **inputs: object) -> None:
        self.refs, self.created, self.inputs = refs, created, inputs

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path[1] == "prediction":
            return self.prediction(request.path[2])
        query = dict(request.query)
        first, limit = int(query["offset"]), int(query["limit"])
        page = [self.row(ref) for ref in self.refs[first : first + limit]]
        return json_response(200, {"executions": page, "total_count": 1, "total_capped": True})

    def row(self, ref: str) -> dict[str, object]:
        return {"id": ref, "model": "runway-act-two", "created_at": self.created}

    def prediction(self, ref: str) -> HttpResponse:
        if ref.startswith("gone"):
            return json_response(404, {"error": "Prediction not found"})
        return json_response(200, {"id": ref, "status": "created", "input": self.inputs or BODY["input"]})


def refs(count: int) -> list[str]:
    return [f"r{number}" for number in range(count)]


def lists(looking: Looking) -> int:
    return sum(request.path == ("v1", "executions") for request in looking.asked)


# --- Looking


def test_every_candidate_is_shown_with_its_inputs_in_the_create_bodys_form() -> None:
    looking = Looking(adapter, Executions(["a", "b"]))
    assert looking.sightings() == [
        Sighting(ref="a", inputs=OURS, created_ms=SENT_MS),
        Sighting(ref="b", inputs=OURS, created_ms=SENT_MS),
    ]


def test_our_own_body_holds_every_field_that_is_shown_of_it() -> None:
    """What the gateway compares: a callback's fields are in the one and not in the other."""
    context = CallContext(model=ACT_TWO, attempt_id="att_1", callback_url=URL, callback_secret=SECRET)
    sent = adapter.build_submit(REQUEST, context).json
    assert sent is not None
    (sighting,) = Looking(adapter, Executions(["a"])).sightings()
    assert sighting.inputs is not None
    assert {name: sent[name] for name in sighting.inputs} == sighting.inputs
    assert "webhook_url" not in sighting.inputs


def test_more_candidates_than_may_be_looked_at_are_none() -> None:
    looking = Looking(adapter, Executions(refs(MOST_CANDIDATES + 1)))
    assert looking.sightings() == []
    assert len(looking.asked) == 1


def test_as_many_as_may_be_looked_at_are_all_shown() -> None:
    looking = Looking(adapter, Executions(refs(MOST_CANDIDATES)))
    assert len(looking.sightings()) == MOST_CANDIDATES


def test_refs_of_ours_make_no_crowd() -> None:
    looking = Looking(adapter, Executions([*refs(MOST_CANDIDATES + 30), "lost"]))
    (sighting,) = looking.sightings(known=frozenset(refs(MOST_CANDIDATES + 30)))
    assert sighting.ref == "lost"


def test_a_candidate_on_the_second_page_is_found() -> None:
    looking = Looking(adapter, Executions([*refs(ROWS_PER_PAGE), "lost"]))
    assert [seen.ref for seen in looking.sightings(known=frozenset(refs(ROWS_PER_PAGE)))] == ["lost"]
    assert lists(looking) == 2


def test_a_list_without_end_shows_nothing() -> None:
    """The only one that fits on five pages need not be the only one."""
    many = refs(ROWS_PER_PAGE * 20)
    looking = Looking(adapter, Executions(["lost", *many]))
    assert looking.sightings(known=frozenset(many)) == []
    assert lists(looking) == MOST_PAGES


def test_a_callbacks_ref_with_our_inputs_needs_no_list() -> None:
    looking = Looking(adapter, Executions(refs(500)))
    assert looking.sightings(offered=("named",)) == [Sighting(ref="named", inputs={"input": BODY["input"]})]
    assert len(looking.asked) == 1


def test_a_callbacks_ref_with_other_inputs_stops_nothing() -> None:
    looking = Looking(adapter, Executions(["a"], aspect_ratio="720:1280"))
    assert [seen.ref for seen in looking.sightings(offered=("named",))] == ["named", "a"]
    assert lists(looking) == 1


def test_no_more_than_ten_callbacks_are_looked_into_and_each_ref_once() -> None:
    looking = Looking(adapter, Executions([]))
    offered = tuple(f"gone{number}" for number in range(50))
    assert looking.sightings(offered=("gone0", "gone0", *offered)) == []
    assert len(looking.asked) == MOST_OFFERED + 1


def test_the_costliest_look_there_is_keeps_its_bound() -> None:
    everything = refs(ROWS_PER_PAGE * (MOST_PAGES - 1) + MOST_CANDIDATES)
    looking = Looking(adapter, Executions(everything))
    known = frozenset(everything[:-MOST_CANDIDATES])
    seen = looking.sightings(known=known, offered=tuple(f"gone{number}" for number in range(50)))
    assert len(seen) == MOST_CANDIDATES
    assert len(looking.asked) == MOST_OFFERED + MOST_PAGES + MOST_CANDIDATES


def test_the_time_in_question_is_asked_for_with_two_minutes_to_spare() -> None:
    looking = Looking(adapter, Executions([]))
    looking.sightings()
    query = dict(looking.asked[0].query)
    assert (query["from"], query["to"]) == ("2026-11-21T11:58:00Z", "2026-11-21T12:03:00Z")


# --- Callbacks


def test_a_callback_is_asked_for_only_with_a_url() -> None:
    plain = CallContext(model=ACT_TWO, attempt_id="att_1")
    called = replace(plain, callback_url=URL, callback_secret=SECRET)
    assert adapter.build_submit(REQUEST, plain).json == BODY
    wanted = BODY | {"webhook_url": URL, "webhook_secret": SECRET}
    assert adapter.build_submit(REQUEST, called).json == wanted
    assert SPEC.callback is not None
    assert SPEC.callback.proof == SecretProof(header="x-webhook-secret")


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b'{"exec_id": 7}', b"\xff", b"[" * 100_000])
def test_a_callback_that_names_nothing_is_unreadable(body: bytes) -> None:
    assert adapter.parse_callback is not None
    with pytest.raises(UnexpectedPayload):
        adapter.parse_callback({}, body)


# --- Both sides


def job(ref: str = "r1", **fields: object) -> SimulatedJob:
    shown = SimulatedJob(ref=ref, request=REQUEST, word="created", created_at=CREATED)
    return replace(shown, **fields)


def arrived(asked: HttpRequest) -> WireRequest:
    return WireRequest(
        method=asked.method,
        path=asked.path,
        query=dict(asked.query),
        headers={"authorization": "Bearer k"},
        body=b"" if asked.json is None else msgspec.json.encode(asked.json),
    )


def test_what_the_adapter_asks_the_emulation_understands() -> None:
    looking = Looking(adapter, Executions([]))
    looking.sightings()
    assert emulation.receive(arrived(looking.asked[0]), Rules()) == ListJobs(
        limit=100, offset=0, since_ms=SENT_MS - 120_000, until_ms=DOUBTED_MS + 120_000
    )


def test_what_the_emulation_shows_the_adapter_reads() -> None:
    listed = emulation.show_listing
    assert listed is not None

    def answer(request: HttpRequest) -> HttpResponse:
        if request.path[1] == "prediction":
            return emulation.show_job(job(request.path[2]))
        return listed((job(),), ListJobs(limit=100, offset=0), 1)

    assert Looking(adapter, answer).sightings() == [Sighting(ref="r1", inputs=OURS, created_ms=SENT_MS)]


def test_the_emulation_takes_the_callback_of_a_create() -> None:
    context = CallContext(model=ACT_TWO, attempt_id="att_1", callback_url=URL, callback_secret=SECRET)
    received = emulation.receive(arrived(adapter.build_submit(REQUEST, context)), Rules())
    assert isinstance(received, Create)
    assert (received.callback_url, received.callback_secret) == (URL, SECRET)


@pytest.mark.parametrize("output", MODES["output"])
def test_a_success_is_reported_in_a_word_of_its_own(output: str) -> None:
    film = "https://cdn.example/out.mp4"
    assert emulation.show_callback is not None
    shown = emulation.show_callback(job(word="success", output_url=film, modes={"output": output}), SECRET)
    assert dict(shown.headers) == {"content-type": "application/json", "x-webhook-secret": SECRET}
    assert json.loads(shown.body)["status"] == "succeeded"
    assert film in shown.body.decode()
    assert adapter.parse_callback is not None
    assert adapter.parse_callback(dict(shown.headers), shown.body) == "r1"


def test_a_failure_is_reported_with_its_reason_inside_a_list() -> None:
    failure = SimulatedFailure(code="EXECUTION_TIMEOUT", message="The run took too long.")
    assert emulation.show_callback is not None
    shown = json.loads(emulation.show_callback(job(word="error", failure=failure), SECRET).body)
    assert shown == {
        "exec_id": "r1",
        "flow_id": None,
        "status": "failed",
        "output": [{"id": "", "status": "", "output": "", "error": "The run took too long."}],
        "error": "",
    }


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "101"},
        {"offset": "x"},
        {"status": "cancelled"},
        {"from": "now"},
        {"to": "now"},
    ],
)
def test_the_emulation_refuses_what_the_list_refuses(query: dict[str, str]) -> None:
    asked = HttpRequest(method="GET", path=("v1", "executions"), query=tuple(query.items()))
    received = emulation.receive(arrived(asked), Rules())
    assert isinstance(received, Answer)
    assert received.response.status == 400


@pytest.mark.parametrize("query", [{"model": "flux-1-1-pro"}, {"workflow_id": "wf_abc123"}])
def test_lists_of_other_things_are_empty(query: dict[str, str]) -> None:
    asked = HttpRequest(method="GET", path=("v1", "executions"), query=tuple(query.items()))
    received = emulation.receive(arrived(asked), Rules())
    assert isinstance(received, Answer)
    assert json.loads(received.response.body)["executions"] == []
