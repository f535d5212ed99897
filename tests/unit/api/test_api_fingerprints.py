"""Fingerprints of bodies: the same for the same meaning, in whatever words, and in every version."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from json_documents import OBJECTS

from gateway.api.body import canonical, fingerprint
from gateway.errors import Refusal

REPEATABLE = settings(derandomize=True, deadline=None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a": 1, "b": [true, null]}', b'{ "b":[true,null],\n"a":1 }'),
        (b'{"\\u0061": "\\/\\u00e9"}', '{"a": "/é"}'.encode()),
        (b'{"a": 1.0, "b": -0, "c": -0.0, "d": 1e2}', b'{"a": 1, "b": 0, "c": 0, "d": 100.00}'),
        (b'{"a": 1e20}', b'{"a": 100000000000000000000}'),
        (b'{"a": 0.10}', b'{"a": 1e-1}'),
        (b'{"a": {"y": 1, "x": 2}}', b'{"a": {"x": 2, "y": 1}}'),
    ],
)
def test_the_same_body_in_other_words_has_the_same_fingerprint(one: bytes, other: bytes) -> None:
    assert fingerprint(one) == fingerprint(other)


def test_bodies_that_differ_in_meaning_have_different_fingerprints() -> None:
    bodies = [
        b"{}",
        b'{"a": 1}',
        b'{"a": "1"}',
        b'{"a": true}',
        b'{"a": null}',
        b'{"a": [1]}',
        b'{"a": 1.5}',
        b'{"b": 1}',
        b'{"a": 9007199254740992}',
        b'{"a": 9007199254740993}',
        b'{"a": [1, 2]}',
        b'{"a": [2, 1]}',
        '{"a": "é"}'.encode(),
        '{"a": "e\u0301"}'.encode(),
    ]
    assert len({fingerprint(body) for body in bodies}) == len(bodies)


@REPEATABLE
@given(document=OBJECTS, ascii_only=st.booleans(), random=st.randoms(use_true_random=False))
def test_a_fingerprint_is_that_of_the_canonical_text(
    *, document: dict[str, Any], ascii_only: bool, random: Any
) -> None:
    fields = list(document.items())
    random.shuffle(fields)
    body = json.dumps(dict(fields), ensure_ascii=ascii_only, indent=random.choice([None, 2])).encode()
    assert canonical(json.loads(body)) == canonical(document)
    assert fingerprint(body) == fingerprint(canonical(document))
    assert msgspec.json.decode(canonical(document)) == document


def test_the_fingerprint_of_a_body_never_changes_between_versions() -> None:
    """Fingerprints are stored for as long as a job; another digest would turn replays into refusals."""
    body = b'{"b": [1.0, "\\u00e9"], "a": {"y": null, "x": 2.5}}'
    assert canonical(msgspec.json.decode(body)) == '{"a":{"x":2.5,"y":null},"b":[1,"é"]}'.encode()
    assert fingerprint(body) == "4abb35dc9cd4364733c20a7c14f04b6f9a13a45240b0ec653b8316096c421cdb"


def test_a_fingerprint_of_no_json_is_refused() -> None:
    for body in (b"{", b"\xff", b'{"a": 1e999}'):
        with pytest.raises(Refusal) as caught:
            fingerprint(body)
        assert caught.value.slug == "malformed-body"
