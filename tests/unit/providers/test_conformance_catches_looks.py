"""The checks over looks for a lost submission, and over callbacks, catch what breaks them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from providers.aimlapi import adapter as plain
from providers.conformance.damaged import check_damaged
from providers.conformance.declared import check_declared
from providers.conformance.exchanges import load_exchanges
from providers.conformance.replayed import check_replayed
from providers.conformance.verdict import check
from providers.contract.adapter import Adapter, CallContext, Reconcile, Sought
from providers.contract.exchange import HttpRequest
from providers.contract.motion import MotionRequest
from providers.contract.report import Sighting
from providers.contract.spec import (
    CallbackSpec,
    Ed25519Proof,
    HmacProof,
    Proof,
    SecretProof,
    Signing,
    Spec,
)
from providers.eachlabs import adapter as good

EXCHANGES = {exchange.name: exchange for exchange in load_exchanges("providers.eachlabs")}
FOUND = EXCHANGES["reconcile-found"]
SUCCEEDED = EXCHANGES["callback-succeeded"]
COUNTER = itertools.count()

Look = Callable[[CallContext, Sought], Reconcile]


def listing(**changes: Any) -> HttpRequest:
    return replace(HttpRequest(method="GET", path=("v1", "executions")), **changes)


def paying(_context: CallContext, _sought: Sought) -> Reconcile:
    yield listing(method="POST", paid=True)
    return ()


def endless(_context: CallContext, _sought: Sought) -> Reconcile:
    while True:
        yield listing()


def looking_at_all_that_was_offered(_context: CallContext, sought: Sought) -> Reconcile:
    for ref in sought.offered:
        yield HttpRequest(method="GET", path=("v1", "prediction", ref))
    return ()


def taking_refs_apart(_context: CallContext, sought: Sought) -> Reconcile:
    for ref in sought.offered[:5]:
        yield HttpRequest(method="GET", path=("v1", f"prediction/{ref}"))
    return ()


def counting(_context: CallContext, _sought: Sought) -> Reconcile:
    yield listing(query=(("n", str(next(COUNTER))),))
    return ()


def holding_a_key(_context: CallContext, _sought: Sought) -> Reconcile:
    yield listing(headers=(("Authorization", "Bearer x"),))
    return ()


def trusting(_context: CallContext, _sought: Sought) -> Reconcile:
    response = yield listing()
    return tuple(Sighting(ref=row["id"]) for row in json.loads(response.body)["executions"])


def swallowing(context: CallContext, sought: Sought) -> Reconcile:
    assert good.reconcile is not None
    try:
        return (yield from good.reconcile(context, sought))
    except Exception:  # noqa: BLE001 - the mistake that is caught
        return ()


def making_up(_context: CallContext, _sought: Sought) -> Reconcile:
    yield listing()
    return (Sighting(ref="r-1"),)


def seeing_double(context: CallContext, sought: Sought) -> Reconcile:
    assert good.reconcile is not None
    seen = yield from good.reconcile(context, sought)
    return (*seen, *seen)


def emptying_inputs(context: CallContext, sought: Sought) -> Reconcile:
    assert good.reconcile is not None
    seen = yield from good.reconcile(context, sought)
    return tuple(replace(sighting, inputs={}) for sighting in seen)


def lending_our_id(context: CallContext, sought: Sought) -> Reconcile:
    assert good.reconcile is not None
    seen = yield from good.reconcile(context, sought)
    return tuple(replace(sighting, client_id=context.attempt_id) for sighting in seen)


def returning_texts(context: CallContext, sought: Sought) -> Reconcile:
    assert good.reconcile is not None
    seen = yield from good.reconcile(context, sought)
    return tuple(sighting.ref for sighting in seen)  # type: ignore[misc]  # the mistake that is caught


DECLARED: list[tuple[Look, str]] = [
    (paying, "declared.look-paid"),
    (endless, "declared.look-bounds"),
    (looking_at_all_that_was_offered, "declared.look-bounds"),
    (taking_refs_apart, "declared.request-form"),
    (counting, "declared.deterministic"),
    (holding_a_key, "declared.request-form"),
    (trusting, "declared.look-raises"),
    (making_up, "declared.look-refs"),
]


@pytest.mark.parametrize(("look", "name"), DECLARED)
def test_a_careless_look_is_caught_without_any_file(look: Look, name: str) -> None:
    assert name in {finding.check for finding in check_declared(replace(good, reconcile=look))}


DAMAGED: list[tuple[Look, str]] = [
    (trusting, "damaged.raises"),
    (swallowing, "damaged.unreadable"),
    (making_up, "damaged.refs"),
    (seeing_double, "damaged.refs"),
    (emptying_inputs, "damaged.inputs"),
    (lending_our_id, "damaged.client-ids"),
    (returning_texts, "damaged.types"),
    (endless, "damaged.bounds"),
]


@pytest.mark.parametrize(("look", "name"), DAMAGED)
def test_a_careless_look_is_caught_by_broken_answers(look: Look, name: str) -> None:
    assert name in {finding.check for finding in check_damaged(replace(good, reconcile=look), [FOUND])}


def asking_once_more(context: CallContext, sought: Sought) -> Reconcile:
    assert good.reconcile is not None
    seen = yield from good.reconcile(context, sought)
    yield listing()
    return seen


def seeing_nothing(context: CallContext, sought: Sought) -> Reconcile:
    assert good.reconcile is not None
    yield from good.reconcile(context, sought)
    return ()


@pytest.mark.parametrize(
    ("look", "words"),
    [
        (asking_once_more, "asks 3 times, the file says 2"),
        (counting, "request.target"),
        (seeing_nothing, "sightings: the adapter gives ()"),
        (trusting, "replayed.response"),
    ],
)
def test_a_look_that_goes_otherwise_than_its_file_is_caught(look: Look, words: str) -> None:
    found = check_replayed(replace(good, reconcile=look), [FOUND])
    assert any(words in str(finding) for finding in found)


def test_files_must_show_a_look_and_a_callback() -> None:
    found = check_replayed(good, [EXCHANGES["poll-success"]])
    missing = {finding.where for finding in found if "no file shows this operation" in finding.problem}
    assert {"exchanges/reconcile-*.json", "exchanges/callback-*.json"} <= missing


def test_a_file_of_what_the_adapter_does_not_do_is_caught() -> None:
    less = replace(plain, reconcile=None)
    found = check_replayed(less, [FOUND, SUCCEEDED])
    assert "the adapter has no callback" in " ".join(map(str, found))
    assert "no reconcile" in " ".join(map(str, found))
    assert check_damaged(less, [FOUND, SUCCEEDED]) == ()


# --- Callbacks


def calling(**changes: Any) -> Adapter:
    return replace(good, **changes)


def with_callback(callback: CallbackSpec | None) -> Adapter:
    return calling(spec=replace(good.spec, callback=callback))


def without_url(request: MotionRequest, context: CallContext) -> HttpRequest:
    return good.build_submit(request, replace(context, callback_url=""))


def without_secret(request: MotionRequest, context: CallContext) -> HttpRequest:
    return good.build_submit(request, replace(context, callback_secret=""))


def with_another_body(request: MotionRequest, context: CallContext) -> HttpRequest:
    built = good.build_submit(request, context)
    assert built.json is not None
    return replace(built, json={**built.json, "version": "0.0.2"}) if context.callback_url else built


SOURCE = good.spec.source
SIGNING = Signing(
    signature_header="x-sig", timestamp_header="x-time", headers=("x-id", "x-time"), separator="."
)


def with_proof(proof: Proof | None) -> Spec:
    return replace(good.spec, callback=CallbackSpec(proof=proof, source=SOURCE))


def proven_by(proof: Proof) -> Adapter:
    return calling(spec=with_proof(proof))


CALLBACKS = [
    (calling(parse_callback=None), "both be there"),
    (with_callback(None), "both be there"),
    (proven_by(SecretProof(header="X-Webhook-Secret")), "lower case"),
    (proven_by(SecretProof(header="")), "lower case"),
    (proven_by(HmacProof(signing=replace(SIGNING, headers=("x-id", "X-Time")))), "lower case"),
    (proven_by(HmacProof(signing=replace(SIGNING, headers=("x-id",)))), "could give it any time"),
    (proven_by(HmacProof(signing=replace(SIGNING, headers=("x-time", "x-sig")))), "a part of what it signs"),
    (proven_by(HmacProof(signing=replace(SIGNING, separator=""))), "cut elsewhere"),
    (proven_by(HmacProof(signing=replace(SIGNING, prefix="v1, "))), "between signatures"),
    (proven_by(HmacProof(signing=replace(SIGNING, tolerance_s=0))), "between 30 and 900"),
    (proven_by(HmacProof(signing=replace(SIGNING, tolerance_s=86_400))), "between 30 and 900"),
    (proven_by(Ed25519Proof(signing=SIGNING, public_keys=())), "nothing could be verified"),
    (proven_by(Ed25519Proof(signing=SIGNING, public_keys=("ab" * 32, "ab" * 31))), "number 1 is not"),
    (
        calling(spec=with_proof(HmacProof(signing=SIGNING)), build_submit=without_secret),
        "drops context.callback_secret",
    ),
    (calling(build_submit=without_url), "drops context.callback_url"),
    (calling(build_submit=without_secret), "drops context.callback_secret"),
    (calling(build_submit=with_another_body), "not the same with something more"),
    (
        calling(spec=replace(good.spec, callback=None), parse_callback=None),
        "spec.callback declares none",
    ),
]


@pytest.mark.parametrize(("adapter", "words"), CALLBACKS)
def test_a_callback_that_is_half_there_is_caught(adapter: Adapter, words: str) -> None:
    assert words in " ".join(map(str, check_declared(adapter)))


def test_a_callback_that_proves_nothing_needs_no_secret() -> None:
    for proof in (None, Ed25519Proof(signing=SIGNING, public_keys=("ab" * 32,))):
        assert check_declared(calling(spec=with_proof(proof), build_submit=without_secret)) == ()


def test_a_signature_that_is_declared_in_full_is_let_pass() -> None:
    assert check_declared(proven_by(HmacProof(signing=SIGNING))) == ()


def first_word(_headers: Mapping[str, str], body: bytes) -> str:
    ref: str = json.loads(body)["exec_id"]
    return ref


def from_a_header(headers: Mapping[str, str], _body: bytes) -> str:
    return headers["x-webhook-secret"]


def any_bytes(_headers: Mapping[str, str], body: bytes) -> str:
    return body[:7].decode("ascii", "replace").strip() or "none"


def of_another(_headers: Mapping[str, str], body: bytes) -> str:
    assert good.parse_callback is not None
    return good.parse_callback({}, body) + "-2"


@pytest.mark.parametrize(
    ("reader", "name"),
    [
        (first_word, "damaged.raises"),
        (from_a_header, "damaged.raises"),
        (any_bytes, "damaged.unreadable"),
        (of_another, "damaged.refs"),
    ],
)
def test_a_careless_reader_of_callbacks_is_caught(
    reader: Callable[[Mapping[str, str], bytes], str], name: str
) -> None:
    found = check_damaged(calling(parse_callback=reader), [SUCCEEDED])
    assert name in {finding.check for finding in found}


def test_a_callback_read_otherwise_than_its_file_is_caught() -> None:
    found = check_replayed(calling(parse_callback=of_another), [SUCCEEDED, EXCHANGES["callback-no-id"]])
    assert any("the file says 'abc123-def456-ghi789'" in str(finding) for finding in found)


def test_the_verdict_covers_both() -> None:
    files = [FOUND, SUCCEEDED, EXCHANGES["callback-form"], EXCHANGES["reconcile-401-empty-object"]]
    assert {finding.check for finding in check(good, files)} == {"replayed.coverage"}
