"""Callbacks: what is declared of them is sent, and what arrives, whatever it is, names a ref or nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from providers.conformance.damage import Damage, damages, stated
from providers.conformance.finding import Finding
from providers.conformance.samples import ATTEMPT_ID, option_sets, plain_request
from providers.contract.adapter import Adapter, CallContext
from providers.contract.errors import UnexpectedPayload
from providers.contract.exchange import HttpRequest, HttpResponse
from providers.contract.motion import MotionRequest
from providers.contract.proof import needed_headers, public_key
from providers.contract.reading import is_ref
from providers.contract.spec import (
    CallbackSpec,
    Ed25519Proof,
    HmacProof,
    ModelSpec,
    Proof,
    SecretProof,
    Signing,
)

SHORTEST_TOLERANCE_S, LONGEST_TOLERANCE_S = 30, 900
"""Clocks differ, and calls take their way; longer than this, a replay would be as good as new."""

_URL = "https://gateway.example/v1/callbacks/provider/token"
_PROOF = "proof-of-the-conformance-suite"
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")  # a token of RFC 9110, section 5.6.2, in lower case


def check_callback(adapter: Adapter) -> Iterator[Finding]:
    """Check that the table, the reader and the create call agree about callbacks."""
    declared = adapter.spec.callback
    if (declared is None) != (adapter.parse_callback is None):
        problem = "spec.callback and parse_callback must both be there, or neither"
        yield Finding("declared.callback", "spec.callback", problem)
        return
    if declared is not None and declared.proof is not None:
        yield from _proof_findings(declared.proof)
    problems = {
        problem
        for model in adapter.spec.models
        for options in option_sets(adapter.spec)
        for problem in _submit_problems(adapter, model, options)
    }
    for problem in sorted(problems):
        yield Finding("declared.callback", "build_submit", problem)


def _proof_findings(proof: Proof) -> Iterator[Finding]:
    where = "spec.callback.proof"
    for name in needed_headers(proof):
        if _HEADER.fullmatch(name) is None:
            yield Finding("declared.callback", where, f"{name!r} must be a header's name in lower case")
    if isinstance(proof, SecretProof):
        return
    for problem in _signing_problems(proof.signing):
        yield Finding("declared.callback", f"{where}.signing", problem)
    if isinstance(proof, Ed25519Proof):
        for problem in _key_problems(proof.public_keys):
            yield Finding("declared.callback", f"{where}.public_keys", problem)


def _signing_problems(signing: Signing) -> Iterator[str]:
    if signing.timestamp_header not in signing.headers:
        yield f"headers lack {signing.timestamp_header!r}: whoever replays a call could give it any time"
    if signing.signature_header in signing.headers:
        yield "headers hold the signature itself, which cannot be a part of what it signs"
    if not signing.separator:
        yield "separator is empty, so that the signed parts could be cut elsewhere"
    if " " in signing.prefix:
        yield "prefix has a space, which stands between signatures"
    if not SHORTEST_TOLERANCE_S <= signing.tolerance_s <= LONGEST_TOLERANCE_S:
        yield f"tolerance_s must be between {SHORTEST_TOLERANCE_S} and {LONGEST_TOLERANCE_S}"


def _key_problems(keys: tuple[str, ...]) -> Iterator[str]:
    if not keys:
        yield "are missing, so that nothing could be verified"
    for number, key in enumerate(keys):
        try:
            public_key(key)
        except ValueError:
            yield f"number {number} is not 64 hex digits of an Ed25519 public key"


def callback_problems(adapter: Adapter, said: HttpResponse, damage: Damage) -> Iterator[tuple[str, str]]:
    """Say what is wrong with how a callback was read; each with the name of the check."""
    if adapter.parse_callback is None:
        return
    try:
        ref = adapter.parse_callback(said.headers, said.body)
    except UnexpectedPayload:
        return
    except Exception as error:  # noqa: BLE001  (that it may be any is what is checked)
        name = type(error).__name__
        yield "raises", f"parse_callback raised {name}; only UnexpectedPayload may leave a reader"
        return
    if damage.unreadable:
        yield "unreadable", "parse_callback read what cannot be read; begin with reading.decode_object"
    elif not _can_be_ref(ref):
        yield "refs", "parse_callback returned what cannot be a ref; use reading.ref_at"
    elif ref not in stated(said):
        yield "refs", f"parse_callback returned the ref {ref[:40]!r}, which the callback does not hold"


def _can_be_ref(value: object) -> bool:
    return isinstance(value, str) and is_ref(value)


def broken_callbacks(said: HttpResponse) -> Iterator[tuple[Damage, HttpResponse]]:
    """Yield a callback without its headers, then with its body broken in every way."""
    bare: dict[str, str] = {}
    unbroken = Damage("nothing broken, but without headers", said.body)
    yield unbroken, msgspec.structs.replace(said, headers=bare)
    for damage in damages(said.body):
        yield damage, msgspec.structs.replace(said, body=damage.body)


def _submit_problems(adapter: Adapter, model: ModelSpec, options: Mapping[str, str]) -> Iterator[str]:
    plain = CallContext(model=model, attempt_id=ATTEMPT_ID, options=options)
    called = msgspec.structs.replace(plain, callback_url=_URL, callback_secret=_PROOF)
    for kind in model.character_types:
        request = plain_request(model, kind)
        without, given = (_built(adapter, request, context) for context in (plain, called))
        if without is not None and given is not None:
            yield from _difference_problems(adapter.spec.callback, without, given)


def _built(adapter: Adapter, request: MotionRequest, context: CallContext) -> HttpRequest | None:
    try:
        return adapter.build_submit(request, context)
    except Exception:  # noqa: BLE001  (that it fails is reported by `calls`)
        return None


def _difference_problems(
    callback: CallbackSpec | None, without: HttpRequest, given: HttpRequest
) -> Iterator[str]:
    """Say what is wrong with a create call that was given a callback URL, beside the one that was not."""
    if callback is None:
        if given != without:
            yield "is another call when there is a callback URL, but spec.callback declares none"
        return
    if not _conveys(given, _URL):
        yield "drops context.callback_url, so that nobody is ever called back"
    if isinstance(callback.proof, SecretProof | HmacProof) and not _conveys(given, _PROOF):
        yield "drops context.callback_secret, so that no callback can prove itself"
    plain, called = without.json or {}, given.json or {}
    if {name: called.get(name) for name in plain} != plain or given.paid is not without.paid:
        yield "is another call when there is a callback URL, not the same with something more"


def _conveys(request: HttpRequest, text: str) -> bool:
    spoken = (*request.query, *request.headers, ("", msgspec.json.encode(request.json).decode()))
    return any(text in value for _, value in spoken)
