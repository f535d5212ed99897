"""Which run is ours: one rule a test; never another's, never one that was asked for other work."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_examples import NOW_MS, an_attempt
from msgspec.structs import replace

from gateway.jobs.adoption import NOTHING, SKEW_MS, Adopt, Undecided, choose, rivals, same_work
from gateway.jobs.job import Attempt, AttemptState
from providers.contract.report import Sighting

BODY: dict[str, object] = {"model": "m", "input": {"url": "https://a.example", "n": 3, "on": True}}
INPUTS: dict[str, object] = {"input": {"url": "https://a.example", "n": 3, "on": True}}
OTHER_INPUTS: dict[str, object] = {"input": {"url": "https://b.example", "n": 3, "on": True}}
DOUBTED_MS = NOW_MS + 60_000
OURS = an_attempt(AttemptState.UNKNOWN, doubted_at_ms=DOUBTED_MS)


def sight(ref: str = "r-1", **changes: Any) -> Sighting:
    return replace(Sighting(ref=ref, inputs=INPUTS), **changes)


def of_id(ref: str = "r-1", client_id: str = OURS.id) -> Sighting:
    return Sighting(ref=ref, client_id=client_id)


def other(state: AttemptState = AttemptState.UNKNOWN, begun_ms: int = NOW_MS, **changes: Any) -> Attempt:
    changes.setdefault("doubted_at_ms", None if state is AttemptState.SUBMITTING else begun_ms + 60_000)
    return an_attempt(state, number=9, started_at_ms=begun_ms, **changes)


LATER, EARLIER = other(begun_ms=NOW_MS + 10**6), other(begun_ms=NOW_MS - 10**6)


def found(*sightings: Sighting, **facts: Any) -> Adopt | Undecided:
    return choose(OURS, body=BODY, sightings=sightings, **facts)


@pytest.mark.parametrize(
    ("sightings", "facts", "by"),
    [
        ([of_id()], {}, "client_id"),
        ([of_id(), of_id()], {}, "client_id"),
        ([of_id(), sight("r-2")], {}, "client_id"),
        ([of_id(), of_id("r-2", "att_other")], {}, "client_id"),
        ([replace(of_id(), created_ms=1)], {}, "client_id"),
        ([of_id()], {"others": [other()]}, "client_id"),
        ([sight()], {}, "inputs"),
        ([sight(), sight()], {}, "inputs"),
        ([sight(created_ms=NOW_MS - SKEW_MS)], {}, "inputs"),
        ([sight(created_ms=DOUBTED_MS + SKEW_MS)], {}, "inputs"),
        ([sight(inputs={"input": {"n": 3.0, "on": True, "url": "https://a.example"}})], {}, "inputs"),
        ([sight(), sight("r-2", inputs=OTHER_INPUTS)], {}, "inputs"),
        ([sight(), sight("r-2")], {"taken": {"r-2"}}, "inputs"),
        ([sight(), sight("r-2", created_ms=1)], {}, "inputs"),
        ([sight(), of_id("r-2", "att_other")], {}, "inputs"),
        ([sight()], {"others": [OURS, other(AttemptState.REFUSED), other(AttemptState.ACCEPTED)]}, "inputs"),
        ([sight(created_ms=NOW_MS)], {"others": [LATER, EARLIER]}, "inputs"),
        ([sight()], {"others": [EARLIER]}, "inputs"),
        ([sight()], {"others": [other(ref="known-late", written_off=True)]}, "inputs"),
        ([sight()], {"offered": ["r-1"]}, "callback"),
        ([sight(), sight("r-2")], {"offered": ["r-1"]}, "callback"),
        ([sight(), sight("r-2")], {"offered": ["r-1", "r-7"], "others": [other()]}, "callback"),
        ([sight(created_ms=1)], {"offered": ["r-1"]}, "callback"),
    ],
)
def test_a_run_that_is_ours_is_adopted(sightings: list[Sighting], facts: dict[str, Any], by: str) -> None:
    assert found(*sightings, **facts) == Adopt("r-1", by)


@pytest.mark.parametrize(
    ("sightings", "facts", "says"),
    [
        ([of_id(), of_id("r-2")], {}, "2 runs bear our id"),
        ([of_id()], {"taken": {"r-1"}}, "another attempt's already"),
        ([of_id(), sight("r-2")], {"taken": {"r-1"}, "offered": ["r-2"]}, "another attempt's already"),
        ([sight(), sight("r-2")], {}, "2 runs fit"),
        ([sight()], {"others": [other()]}, "in doubt, too"),
        ([sight()], {"others": [other(AttemptState.SUBMITTING)]}, "in doubt, too"),
        ([sight()], {"others": [other(written_off=True)]}, "in doubt, too"),
        (
            [sight(created_ms=NOW_MS)],
            {"others": [other(begun_ms=DOUBTED_MS + 2 * SKEW_MS)]},
            "in doubt, too",
        ),
        ([sight()], {"others": [LATER]}, "in doubt, too"),
        ([sight(), sight("r-2")], {"offered": ["r-1", "r-2"]}, "callbacks named 2 runs"),
    ],
)
def test_what_cannot_be_told_is_left_to_an_operator_with_the_reason(
    sightings: list[Sighting], facts: dict[str, Any], says: str
) -> None:
    decided = found(*sightings, **facts)
    assert isinstance(decided, Undecided)
    assert says in decided.reason
    assert decided.seen


@pytest.mark.parametrize(
    ("sightings", "facts"),
    [
        ([], {}),
        ([of_id("r-1", "att_other")], {}),
        ([sight(client_id="att_other")], {}),
        ([sight(client_id="att_other")], {"offered": ["r-1"]}),
        ([sight(client_id="")], {}),
        ([sight(), of_id("r-1", "att_other")], {}),
        ([sight(inputs=None)], {}),
        ([sight(inputs=None)], {"offered": ["r-1"]}),
        ([sight(inputs={})], {"offered": ["r-1"]}),
        ([sight(inputs=OTHER_INPUTS)], {"offered": ["r-1"]}),
        ([sight(inputs={**INPUTS, "more": 1})], {}),
        ([sight()], {"taken": {"r-1"}}),
        ([sight()], {"taken": {"r-1"}, "offered": ["r-1"]}),
        ([sight("../r-1")], {}),
        ([of_id("a b")], {}),
        ([sight(created_ms=NOW_MS - SKEW_MS - 1)], {}),
        ([sight(created_ms=DOUBTED_MS + SKEW_MS + 1)], {}),
        ([], {"offered": ["r-1"]}),
    ],
)
def test_what_is_not_ours_is_as_good_as_nothing(sightings: list[Sighting], facts: dict[str, Any]) -> None:
    assert found(*sightings, **facts) == NOTHING
    assert not NOTHING.seen


@pytest.mark.parametrize(
    ("inputs", "same"),
    [
        ({"model": "m"}, True),
        ({"model": "M"}, False),
        ({"input": {"url": "https://a.example", "n": 3}}, False),
        ({"input": {"url": "https://a.example", "n": True, "on": True}}, False),
        ({"input": {"url": "https://a.example", "n": 3, "on": 1}}, False),
        ({"input": [INPUTS]}, False),
        ({"model": None}, False),
        ({}, False),
        (None, False),
    ],
)
def test_works_are_the_same_when_every_field_shown_is(inputs: dict[str, object] | None, same: bool) -> None:  # noqa: FBT001 - a column
    assert same_work(inputs, BODY) is same


def test_lists_are_compared_in_their_order() -> None:
    assert same_work({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2.0}]})
    assert not same_work({"a": [1, 2]}, {"a": [2, 1]})
    assert not same_work({"a": [1]}, {"a": [1, 2]})


def test_an_attempt_is_no_rival_of_its_own() -> None:
    assert not rivals(OURS, OURS)
    assert rivals(OURS, replace(OURS, id="att_other"))


REFS = st.sampled_from(["r-1", "r-2", "r-3"])
SIGHTINGS = st.lists(
    st.builds(
        Sighting,
        ref=REFS,
        client_id=st.sampled_from([None, OURS.id, "att_other"]),
        inputs=st.sampled_from([None, {}, INPUTS, OTHER_INPUTS]),
        created_ms=st.sampled_from([None, NOW_MS, 1]),
    ),
    max_size=6,
)
OTHERS = st.lists(
    st.builds(other, state=st.sampled_from(AttemptState), begun_ms=st.sampled_from([NOW_MS, 1])), max_size=3
)


@settings(derandomize=True, database=None, deadline=None, max_examples=500)
@given(sightings=SIGHTINGS, taken=st.sets(REFS), offered=st.sets(REFS), others=OTHERS)
def test_whatever_is_seen_nothing_of_others_is_adopted(
    sightings: list[Sighting], taken: set[str], offered: set[str], others: list[Attempt]
) -> None:
    decided = found(*sightings, taken=taken, offered=offered, others=others)
    if isinstance(decided, Undecided):
        assert decided.reason
        return
    assert decided.ref not in taken
    of_ref = [one for one in sightings if one.ref == decided.ref]
    if decided.by == "client_id":
        assert {one.ref for one in sightings if one.client_id == OURS.id} == {decided.ref}
        return
    assert not any(one.client_id for one in of_ref)
    assert any(one.inputs == INPUTS for one in of_ref)
    if decided.by == "callback":
        assert decided.ref in offered
    else:
        assert not any(rivals(OURS, one) for one in others)
