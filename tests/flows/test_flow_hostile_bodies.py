"""Bodies that are no JSON, do not fit or mean what must not be: each place is told, and nothing is stored."""

from __future__ import annotations

import json

import pytest
from refusals import BODY, RECEIVER, pointers, refused
from running_gateway import PROVIDERS, Document, RunningGateway, asked

# --- the document ---


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"  \n",
        BODY[:-1],
        BODY + b"x",
        BODY + BODY,
        b"\xef\xbb\xbf" + BODY,
        BODY.decode().encode("utf-16"),
        b'{"model": "\xe4"}',
        b'{"model": "\xff"}',
        b'{"model": "\\ud800"}',
        b'{"seed": NaN}',
        b'{"seed": Infinity}',
        b'{"reference": {"duration_s": 1e999}}',
        b"{'model': 'act-two'}",
        b'{"a": 01}',
    ],
)
async def test_what_is_not_json_is_malformed(running: RunningGateway, content: bytes) -> None:
    await refused(running, 400, "malformed-body", content=content)


@pytest.mark.parametrize("depth", [33, 900, 5000, 100_000])
@pytest.mark.parametrize("frame", [b"%s", b'{"metadata": %s}', b'{"unknown": %s}'])
async def test_deep_nesting_is_refused(running: RunningGateway, depth: int, frame: bytes) -> None:
    await refused(running, 400, "body-too-deep", content=frame % (b"[" * depth + b"]" * depth))


async def test_a_repeated_key_is_refused_with_its_place(running: RunningGateway) -> None:
    body = BODY.replace(b'"duration_s": 4', b'"duration_s": 4, "duration_\\u0073": 30')
    assert pointers(await refused(running, 400, "duplicate-key", content=body)) == ["/reference/duration_s"]


@pytest.mark.parametrize("content", [b"[]", b"null", b'"x"', b"1", b"true"])
async def test_another_kind_of_document_does_not_fit(running: RunningGateway, content: bytes) -> None:
    await refused(running, 422, "validation-failed", content=content)


# --- fields ---

CHARACTER: Document = asked()["character"]
REFERENCE: Document = asked()["reference"]
MISFITS: list[tuple[Document, str]] = [
    ({"unknown": 1}, "/unknown"),
    ({"character": CHARACTER | {"uri": "x"}}, "/character/uri"),
    ({"expression_intensity": "3"}, "/expression_intensity"),
    ({"expression_intensity": 3.5}, "/expression_intensity"),
    ({"expression_intensity": True}, "/expression_intensity"),
    ({"expression_intensity": None}, "/expression_intensity"),
    ({"expression_intensity": 0}, "/expression_intensity"),
    ({"expression_intensity": 6}, "/expression_intensity"),
    ({"body_control": 1}, "/body_control"),
    ({"body_control": "true"}, "/body_control"),
    ({"seed": -1}, "/seed"),
    ({"seed": 2**32}, "/seed"),
    ({"seed": 2**53 + 1}, "/seed"),
    ({"seed": 2**63}, "/seed"),
    ({"seed": 2**64}, "/seed"),
    ({"deadline_s": 59}, "/deadline_s"),
    ({"deadline_s": 86_401}, "/deadline_s"),
    ({"reference": REFERENCE | {"duration_s": 2.9}}, "/reference/duration_s"),
    ({"reference": REFERENCE | {"duration_s": 30.1}}, "/reference/duration_s"),
    ({"reference": REFERENCE | {"type": "image"}}, "/reference/type"),
    ({"character": CHARACTER | {"type": "Image"}}, "/character/type"),
    ({"character": CHARACTER | {"url": ""}}, "/character/url"),
    ({"character": {"type": "image"}}, "/character/url"),
    ({"ratio": "16:10"}, "/ratio"),
    ({"ratio": "1280:720 "}, "/ratio"),
    ({"model": ""}, "/model"),
    ({"model": "m" * 65}, "/model"),
    ({"model": "act\x00two"}, "/model"),
    (
        {"content_moderation": {"public_figure_threshold": "LOW"}},
        "/content_moderation/public_figure_threshold",
    ),
    ({"routing": {"providers": ["nobody"]}}, "/routing/providers/0"),
    ({"routing": {"exclude": [PROVIDERS[0].upper()]}}, "/routing/exclude/0"),
    ({"routing": {"providers": [PROVIDERS[0]] * 2}}, "/routing/providers"),
    ({"routing": {"providers": [PROVIDERS[0]] * 17}}, "/routing/providers"),
    ({"metadata": {f"k{number}": "" for number in range(17)}}, "/metadata"),
    ({"metadata": {"k" * 65: ""}}, "/metadata"),
    ({"metadata": {"": ""}}, "/metadata"),
    ({"metadata": {"k": "v" * 513}}, "/metadata"),
    ({"metadata": {"k": {"nested": "x"}}}, "/metadata"),
    ({"metadata": {"k": 1}}, "/metadata"),
    ({"metadata": {"k": "\x00"}}, "/metadata/k"),
    ({"metadata": {"zero\u200bwidth": ""}}, "/metadata/zero\u200bwidth"),
    ({"metadata": {"bidi\u202e": ""}}, "/metadata/bidi\u202e"),
    ({"webhook": {"url": RECEIVER, "events": []}}, "/webhook/events"),
    ({"webhook": {"url": RECEIVER, "events": ["job.exploded"]}}, "/webhook/events/0"),
    ({"webhook": {"url": RECEIVER, "secret": "whsec_c2hvcnQ="}}, "/webhook/secret"),
    ({"webhook": {"url": RECEIVER, "secret": "whsk_" + "A" * 44}}, "/webhook/secret"),
    ({"webhook": {"events": ["job.failed"]}}, "/webhook/url"),
]


@pytest.mark.parametrize(("change", "pointer"), MISFITS)
async def test_a_field_that_does_not_fit_is_pointed_at(
    running: RunningGateway, change: Document, pointer: str
) -> None:
    content = json.dumps(asked() | change).encode()
    assert pointers(await refused(running, 422, "validation-failed", content=content)) == [pointer]


@pytest.mark.parametrize("field", ["character", "reference"])
async def test_both_media_are_needed(running: RunningGateway, field: str) -> None:
    body = {name: value for name, value in asked().items() if name != field}
    problem = await refused(running, 422, "validation-failed", content=json.dumps(body).encode())
    assert pointers(problem) == [f"/{field}"]


async def test_metadata_has_a_limit_in_all(running: RunningGateway) -> None:
    full = {"metadata": {f"k{number}": "ä" * 500 for number in range(9)}}
    problem = await refused(running, 422, "validation-failed", content=json.dumps(asked() | full).encode())
    assert pointers(problem) == ["/metadata"]


async def test_an_unknown_model_has_a_problem_of_its_own(running: RunningGateway) -> None:
    content = json.dumps(asked(model="act-three")).encode()
    problem = await refused(running, 422, "unknown-model", content=content)
    assert pointers(problem) == ["/model"]
    assert "act-two" in problem["detail"]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 0},
        {"seed": 2**32 - 1},
        {"deadline_s": 60},
        {"deadline_s": 86_400},
        {"reference": REFERENCE | {"duration_s": 3}},
        {"reference": REFERENCE | {"duration_s": 30.0}},
        {"metadata": {"__proto__": "x", "constructor": "y"}},
        {"metadata": {"k" * 64: "v" * 512}},
        {"metadata": {f"k{number}": "" for number in range(16)}},
        {"metadata": {"k": "\u202e\u200b\x07 é e\u0301 🎬"}},
        {"webhook": {"url": RECEIVER, "secret": "whsec_" + "A" * 32}},
        {"content_moderation": {}},
        {"routing": {}},
    ],
)
async def test_what_is_just_within_the_limits_is_taken_as_it_is(
    running: RunningGateway, change: Document
) -> None:
    reply = await running.client.post("/v1/jobs", json=asked() | change)
    assert reply.status_code == 202, reply.text
    shown = (await running.client.get(reply.headers["location"])).json()
    assert shown["metadata"] == change.get("metadata", {})
    assert shown["request"]["seed"] == change.get("seed")


@pytest.mark.parametrize("number", [b"4e0", b"4.0", b"40e-1", b"0.4E+1"])
async def test_a_number_has_many_spellings(running: RunningGateway, number: bytes) -> None:
    content = BODY.replace(b'"duration_s": 4', b'"duration_s": ' + number)
    reply = await running.client.post(
        "/v1/jobs", content=content, headers={"Content-Type": "application/json"}
    )
    assert reply.json()["request"]["reference"]["duration_s"] == 4.0


# --- URLs ---

INVALID_URLS = [
    "ftp://media.example/a.png",
    "file:///etc/passwd",
    "gopher://media.example/a",
    "javascript:alert(1)",
    "data:image/png;base64,AAAA",
    "//media.example/a.png",
    "media.example/a.png",
    "https:///a.png",
    "https://[::1/a.png",
    "https://media.example/a b.png",
    "https://media.example/\ta.png",
    "https://media.example:0/a.png",
    "https://media.example:99999/a.png",
    "https://media.example:abc/a.png",
    "https://user:swordfish@media.example/a.png",
    "https://user@media.example/a.png",
    "https://media.example\\@evil.example/a.png",
    "https://bücher.example/a.png",
    "https://xn--/a.png",
    "https://xn--a-ecp.ru/a.png",
    f"https://{'a' * 64}.example/a.png",
    f"https://{'.'.join(['a' * 60] * 5)}/a.png",
    "https://media.example./a.png",
    "https://①②⑦.⓪.⓪.①/a.png",
]
FORBIDDEN_HOSTS = [
    "127.0.0.1", "localhost", "a.localhost", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0",
    "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]", "[fe80::1%25eth0]",
    "169.254.169.254", "[fd00:ec2::254]", "168.63.129.16", "100.100.100.200",
    "10.0.0.1", "172.16.0.1", "192.168.0.1",
]  # fmt: skip


def with_url(place: str, url: str) -> bytes:
    change = {
        "character": {"character": CHARACTER | {"url": url}},
        "reference": {"reference": REFERENCE | {"url": url}},
        "webhook": {"webhook": {"url": url}},
    }[place]
    return json.dumps(asked() | change).encode()


@pytest.mark.parametrize("url", INVALID_URLS)
async def test_a_url_that_is_none_is_refused(running: RunningGateway, url: str) -> None:
    for place in ("character", "reference", "webhook"):
        problem = await refused(running, 422, "invalid-url", content=with_url(place, url))
        assert pointers(problem) == [f"/{place}/url"]
        assert "swordfish" not in problem["detail"]


@pytest.mark.parametrize("host", FORBIDDEN_HOSTS)
async def test_a_host_inside_is_refused(running: RunningGateway, host: str) -> None:
    for place in ("character", "reference", "webhook"):
        content = with_url(place, f"https://{host}/a.png")
        assert pointers(await refused(running, 422, "forbidden-target", content=content)) == [f"/{place}/url"]


async def test_plain_http_is_refused(running: RunningGateway) -> None:
    plain = "http://media.example/a.png"
    await refused(running, 422, "insecure-callback", content=with_url("webhook", plain))
    await refused(running, 422, "invalid-url", content=with_url("character", plain))


async def test_the_length_of_a_url_is_bounded(running: RunningGateway) -> None:
    start = "https://media.example/"
    for place in ("character", "reference", "webhook"):
        longest = start + "a" * (2048 - len(start))
        problem = await refused(running, 422, "validation-failed", content=with_url(place, longest + "a"))
        assert pointers(problem) == [f"/{place}/url"]
        reply = await running.client.post(
            "/v1/jobs", content=with_url(place, longest), headers={"Content-Type": "application/json"}
        )
        assert reply.status_code == 202


async def test_a_fragment_is_dropped_and_the_host_put_in_lower_case(running: RunningGateway) -> None:
    content = with_url("character", "HTTPS://Media.EXAMPLE:443/A.png?q=1#part")
    reply = await running.client.post(
        "/v1/jobs", content=content, headers={"Content-Type": "application/json"}
    )
    assert reply.json()["request"]["character"]["url"] == "https://media.example/A.png?q=1"
