"""A request's body as it is checked: its type and encoding, its form, and whether it fits the schema."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from json_documents import JSON_VALUES, OBJECTS

from gateway.api.body import check_content_encoding, check_content_type, decode_body
from gateway.api.problems import PROBLEMS, problem_body
from gateway.errors import Refusal


class Media(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["image", "video"]
    url: Annotated[str, msgspec.Meta(min_length=1, max_length=40)]


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    media: Media
    seed: Annotated[int, msgspec.Meta(ge=0, le=4294967295)] | None = None
    scale: float = 1.0
    tags: list[str] = []
    metadata: dict[Annotated[str, msgspec.Meta(max_length=4)], str] = {}


ORDER = msgspec.json.Decoder(Order)
ANYTHING = msgspec.json.Decoder(dict[str, Any])
REPEATABLE = settings(derandomize=True, deadline=None)
GOOD = b'{"media": {"type": "image", "url": "https://x.example/a.png"}, "seed": 7}'


def refusal_of(body: bytes, decoder: msgspec.json.Decoder[Any] = ORDER) -> Refusal:
    with pytest.raises(Refusal) as caught:
        decode_body(decoder, body)
    return caught.value


def refusal_if_any(decoder: msgspec.json.Decoder[Any], body: bytes) -> Refusal | None:
    try:
        decode_body(decoder, body)
    except Refusal as refusal:
        return refusal
    return None


def inside(fragment: bytes) -> bytes:
    return GOOD[:-1] + b", " + fragment + b"}"


def test_a_good_body_is_decoded() -> None:
    assert decode_body(ORDER, GOOD) == Order(Media("image", "https://x.example/a.png"), 7)
    assert decode_body(ORDER, b" \r\n\t" + GOOD + b" \n") == decode_body(ORDER, GOOD)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        GOOD[:-1],
        GOOD[:30],
        GOOD + b"x",
        GOOD + GOOD,
        GOOD + b"\n" + GOOD,
        b"\xef\xbb\xbf" + GOOD,
        GOOD.decode().encode("utf-16"),
        GOOD.decode().encode("utf-16-le"),
        GOOD.decode().encode("utf-32-be"),
        inside('"metadata": {"a": "é"}'.encode("latin-1")),
        inside(b'"metadata": {"a": "\xff"}'),
        inside(b'"metadata": {"\xff": "a"}'),
        inside(b'"metadata": {"a": "\xed\xa0\x80"}'),
        inside(b'"metadata": {"a": "\xc0\x80"}'),
        inside(b'"metadata": {"a": "\\ud800"}'),
        inside(b'"metadata": {"a": "\\ud800\\u0041"}'),
        inside(b'"metadata": {"a": "\\udc00\\ud800"}'),
        inside(b'"unknown": "\\ud800"'),
        inside(b'"scale": NaN'),
        inside(b'"scale": -Infinity'),
        inside(b'"scale": 1e999'),
        inside(b'"unknown": 1e999'),
        inside(b'"seed": ' + b"9" * 5000),
        inside(b'"seed": 01'),
        inside(b'"seed": +1'),
        inside(b'"seed": 0x1'),
        inside(b'"seed": 1,'),
        inside(b"'seed': 1"),
        inside(b'"metadata": {"a": "\t"}'),
        inside(b'"metadata": {"a": "\x00"}'),
        inside(b'"metadata": {"a": "\\x41"}'),
        GOOD + b"// end",
        b"nul",
        b"]",
    ],
)
def test_what_is_not_one_json_document_in_utf_8_is_malformed(body: bytes) -> None:
    assert refusal_of(body).slug == "malformed-body"


@pytest.mark.parametrize("depth", [33, 900, 5_000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("field", [b'"tags": ', b'"unknown": '])
def test_a_deep_body_is_refused_before_it_is_decoded(
    depth: int, opening: bytes, closing: bytes, field: bytes
) -> None:
    for inner in (b"1" + closing * depth, b""):
        assert refusal_of(inside(field + opening * depth + inner)).slug == "body-too-deep"


def test_32_levels_and_any_number_of_brackets_in_a_string_are_not_deep() -> None:
    assert decode_body(ANYTHING, b'{"a":' + b"[" * 31 + b"]" * 31 + b"}")
    assert decode_body(ANYTHING, b'{"a": "' + b"[{" * 5000 + b'\\""}')


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"a": 1, "a": 1}', "/a"),
        (b'{"a": 1, "\\u0061": 2}', "/a"),
        (b'{"\\u0061": 1, "b": "\\"", "\\u0061": 2}', "/a"),
        (b'{"": 1, "": 2}', "/"),
        (b'{"a/b~": 1, "a\\/b~": 2}', "/a~1b~0"),
        (b'{"x": [0, {"y": {"a": 1, "b": 2, "a": 3}}]}', "/x/1/y/a"),
        (b'{"x": {"a": {"deep": "er", "than": "it"}, "a": null}}', "/x/a"),
        (b'{"a\\"": 1, "a\\u0022": 1}', '/a"'),
        (b'{"a\\\\": 1, "a\\u005c": 1}', "/a\\"),
        ('{"é": 1, "\\u00e9": 1}'.encode(), "/é"),
        (b'{"\\ud83d\\ude00": 1, "\xf0\x9f\x98\x80": 1}', "/😀"),
        (inside(b'"seed": 8'), "/seed"),
        (inside(b'"unknown": {"a": 1, "a": 1}'), "/unknown/a"),
    ],
)
def test_a_repeated_key_is_refused_however_it_is_spelled(body: bytes, pointer: str) -> None:
    refusal = refusal_of(body, ANYTHING)
    assert refusal.slug == "duplicate-key"
    assert [problem.pointer for problem in refusal.errors] == [pointer]


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "A": 2, "\\u00e9": 3, "e\\u0301": 4}',
        b'{"a": {"x": 1}, "b": {"x": 1}, "c": [{"x": 1}, {"x": 1}]}',
        b'{"a": "\\"a\\": 1, \\"a\\": 2", "b\\"": "\\\\", "c\\\\": "\\\\\\""}',
        b'{"a": "\\u0022", "b": "\\u005c", "c\\u0022": "\\u005c\\u0022"}',
        b'{"a" : ":\\":" , "\\":\\"" : "\\/"}',
    ],
)
def test_keys_that_only_look_alike_are_no_repetition(body: bytes) -> None:
    assert decode_body(ANYTHING, body) == json.loads(body)


@REPEATABLE
@given(document=OBJECTS, ascii_only=st.booleans(), indent=st.sampled_from([None, 1, "\t"]))
def test_no_valid_object_is_taken_for_a_repetition(
    *, document: dict[str, Any], ascii_only: bool, indent: Any
) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()
    assert decode_body(ANYTHING, body) == document


@REPEATABLE
@given(OBJECTS.filter(bool), JSON_VALUES, st.randoms(use_true_random=False))
def test_every_repetition_is_found(document: dict[str, Any], value: Any, random: Any) -> None:
    key = random.choice(list(document))
    spelled = "".join(random.choice([json.dumps(letter)[1:-1], f"\\u{ord(letter):04x}"]) for letter in key)
    body = json.dumps(document)[:-1] + f', "{spelled}": {json.dumps(value)}' + "}"
    refusal = refusal_of(body.encode(), ANYTHING)
    assert refusal.slug == "duplicate-key"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"[]", ""),
        (b"null", ""),
        (b'"x"', ""),
        (b"1", ""),
        (b"{}", "/media"),
        (b'{"media": {"type": "image"}}', "/media/url"),
        (inside(b'"colour": 1'), "/colour"),
        (inside(b'"a/b~`": 1'), "/a~1b~0`"),
        (b'{"media": {"type": "image", "url": "x", "alt": ""}}', "/media/alt"),
        (b'{"media": {"type": "IMAGE", "url": "x"}}', "/media/type"),
        (b'{"media": {"type": "image", "url": ""}}', "/media/url"),
        (b'{"media": {"type": "image", "url": "' + b"x" * 41 + b'"}}', "/media/url"),
        (b'{"media": null}', "/media"),
        (b'{"media": {"type": "image", "url": "x"}, "seed": "1"}', "/seed"),
        (b'{"media": {"type": "image", "url": "x"}, "seed": 1.0}', "/seed"),
        (b'{"media": {"type": "image", "url": "x"}, "seed": 1e0}', "/seed"),
        (b'{"media": {"type": "image", "url": "x"}, "seed": true}', "/seed"),
        (b'{"media": {"type": "image", "url": "x"}, "seed": -1}', "/seed"),
        (b'{"media": {"type": "image", "url": "x"}, "seed": 4294967296}', "/seed"),
        (b'{"media": {"type": "image", "url": "x"}, "seed": 9007199254740993}', "/seed"),
        (b'{"media": {"type": "image", "url": "x"}, "seed": 99999999999999999999}', "/seed"),
        (inside(b'"scale": "1"'), "/scale"),
        (inside(b'"scale": null'), "/scale"),
        (inside(b'"tags": ["a", "b", 3]'), "/tags/2"),
        (inside(b'"tags": {}'), "/tags"),
        (inside(b'"metadata": {"a": 1}'), "/metadata"),
        (inside(b'"metadata": {"a": {"b": "c"}}'), "/metadata"),
        (inside(b'"metadata": {"abcde": "x"}'), "/metadata"),
        (inside(b'"metadata": {"a": "\\u0000"}'), "/metadata/a"),
        (inside(b'"metadata": {"a\\u0000": ""}'), "/metadata/a\x00"),
        (inside(b'"tags": ["", "x\\u0000"]'), "/tags/1"),
    ],
)
def test_what_does_not_fit_the_schema_is_pointed_at(body: bytes, pointer: str) -> None:
    refusal = refusal_of(body)
    assert refusal.slug == "validation-failed"
    assert [problem.pointer for problem in refusal.errors] == [pointer]
    assert refusal.errors[0].message
    assert " - at " not in refusal.errors[0].message


@pytest.mark.parametrize("number", [b"-0", b"-0.0", b"1e0", b"1", b"1.50"])
def test_any_spelling_of_a_number_will_do_where_a_float_may_stand(number: bytes) -> None:
    assert decode_body(ORDER, inside(b'"scale": ' + number)).scale == float(number)


def test_a_backslash_before_u0000_is_no_nul_and_odd_text_is_kept() -> None:
    text = "\\u0000 \x7f \u202e \u200b 👩\u200d🚀 e\u0301"
    assert decode_body(ORDER, inside(b'"tags": [' + json.dumps(text).encode() + b"]")).tags == [text]


@REPEATABLE
@given(st.binary(max_size=30), st.integers(0, len(GOOD)), st.integers(0, 10))
def test_no_bytes_raise_anything_but_a_refusal(noise: bytes, at: int, cut: int) -> None:
    for body in (noise, GOOD[:at] + noise + GOOD[at + cut :]):
        for refusal in (refusal_if_any(ORDER, body), refusal_if_any(ANYTHING, body)):
            assert refusal is None or (refusal.slug in PROBLEMS and problem_body(refusal, "req_1"))


def test_a_clients_text_is_cut_before_it_is_shown_to_it() -> None:
    for body in (inside(b'"' + b"x" * 100_000 + b'": 1'), b'{"' + b"x" * 90_000 + b'": "\\u0000"}'):
        refusal = refusal_of(body)
        assert len(refusal.detail) + sum(len(p.pointer) + len(p.message) for p in refusal.errors) < 2_000


@pytest.mark.parametrize(
    "value",
    [
        "application/json",
        "APPLICATION/JSON",
        "application/json;charset=UTF-8",
        'application/json; charset="utf-8"',
        "application/json ; Charset=utf-8 ;",
        "application/json; profile=strict",
    ],
)
def test_json_in_utf_8_is_the_content_type(value: str) -> None:
    check_content_type([value])
    check_content_type([value.encode()])


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        ["text/plain"],
        ["application/xml"],
        ["application/x-www-form-urlencoded"],
        ["multipart/form-data; boundary=x"],
        ["application/msgpack"],
        ["application/problem+json"],
        ["application/jsonx"],
        ["application/json, text/plain"],
        ["///;;;="],
        ["application/json; charset=utf-7"],
        ["application/json; charset=utf-8; charset=utf-16"],
        ["application/json; charset=latin-1"],
        ["application/json; charset="],
        ['application/json; charset="utf-8'],
        ["application/json; =utf-8"],
        ["application/json; charset"],
        ["application/json", "application/json"],
        ["application/json\xa0"],
        ["application/json" + "; " * 20_000 + "="],
    ],
)
def test_any_other_content_type_is_refused(values: list[str]) -> None:
    for given_values in (values, [value.encode("latin-1") for value in values]):
        with pytest.raises(Refusal) as caught:
            check_content_type(given_values)
        assert caught.value.slug == "unsupported-media-type"
        assert len(caught.value.detail) < 1_000


def test_only_an_identity_content_encoding_is_read() -> None:
    for values in ([], [""], ["identity"], [b" Identity "]):
        check_content_encoding(values)
    for value in ("gzip", "br", "identity, gzip", "zstd", "x"):
        with pytest.raises(Refusal) as caught:
            check_content_encoding([value])
        assert caught.value.slug == "unsupported-content-encoding"
