"""Hostile and broken requests against the real server: each has its problem, and nothing is stored."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from raw_client import Answer, connected, exchanged, request_bytes
from running_gateway import (
    EMULATIONS,
    PROVIDERS,
    Document,
    RunningGateway,
    asked,
    open_gateway,
    replaced,
)

from gateway.api.openapi import OPERATIONS
from gateway.api.problems import PROBLEMS
from gateway.clock import SystemClock
from gateway.service.keys import Scope
from gateway.simulator import Simulator, serve_simulator

TIMEOUT_S = 0.3
BODY = json.dumps(asked()).encode()
RECEIVER = "https://receiver.example/hook"


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    """One gateway for all: it stores, and carries nothing out."""
    simulator = Simulator(EMULATIONS, clock=SystemClock(), render=False)
    settings = {"SERVER__BODY_TIMEOUT_S": str(TIMEOUT_S), "SERVER__HEAD_TIMEOUT_S": str(TIMEOUT_S)}
    async with (
        await serve_simulator(simulator) as served,
        open_gateway(tmp_path_factory.mktemp("hostile"), served, settings=settings) as gateway,
    ):
        await gateway.gateway.stop_worker()
        yield gateway


async def stored(running: RunningGateway) -> list[str]:
    jobs = (await running.client.get("/v1/jobs?limit=100")).json()["jobs"]
    return [job["id"] for job in jobs]


def judged(reply: httpx.Response | Answer, status: int, slug: str) -> Document:
    """The problem document of a reply that must be this one."""
    found = reply.status_code if isinstance(reply, httpx.Response) else reply.status
    body = reply.content if isinstance(reply, httpx.Response) else reply.body
    headers = {name.lower(): value for name, value in reply.headers.items()}
    assert (found, headers["content-type"]) == (status, "application/problem+json"), body[:500]
    problem: Document = json.loads(body)
    assert problem["type"] == f"/problems/{slug}", problem
    assert problem["status"] == status == PROBLEMS[slug].status
    assert problem["title"] == PROBLEMS[slug].title
    assert problem["instance"] == headers["x-request-id"]
    assert problem["detail"]
    return problem


def pointers(problem: Document) -> list[str]:
    return [error["pointer"] for error in problem["errors"]]


async def refused(
    running: RunningGateway, status: int, slug: str, *, content: bytes = BODY, headers: Any = None
) -> Document:
    """Post this, which must be refused so, and leave no trace."""
    before = await stored(running)
    given = {"Content-Type": "application/json"} if headers is None else headers
    reply = await running.client.post("/v1/jobs", content=content, headers=given)
    problem = judged(reply, status, slug)
    assert await stored(running) == before
    return problem


def authorization(running: RunningGateway) -> str:
    return f"Authorization: Bearer {running.key.key}"


# --- 1 to 4: who calls ---


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer mgk_unknown",
        "Basic bWdrOnNlY3JldA==",
        "Bearer " + "k" * 10_000,
        "Bearer mgk_\xe4\xf6\xfc",
        "mgk_without_a_scheme",
    ],
)
async def test_every_key_that_is_not_good_gets_one_answer(running: RunningGateway, given: str) -> None:
    headers = ["X-Request-Id: same", *([f"Authorization: {given}"] if given else [])]
    reply = await exchanged(running.url, request_bytes("/v1/jobs", *headers, method="GET"))
    judged(reply, 401, "unauthenticated")
    assert reply.headers["www-authenticate"].startswith("Bearer")
    without = await exchanged(running.url, request_bytes("/v1/jobs", "X-Request-Id: same", method="GET"))
    assert reply.body == without.body


async def test_a_good_key_without_the_scope_is_forbidden(running: RunningGateway) -> None:
    async with running.another_client("meter", Scope.METRICS) as client:
        judged(await client.post("/v1/jobs", json=asked()), 403, "forbidden")
    judged(await exchanged(running.url, request_bytes("/metrics", method="GET")), 401, "unauthenticated")


async def test_two_keys_are_no_key(running: RunningGateway) -> None:
    twice = [authorization(running)] * 2
    judged(await exchanged(running.url, request_bytes("/v1/jobs", *twice, method="GET")), 400, "bad-header")


# --- 5 to 18: the head and the size ---


@pytest.mark.parametrize(
    "given",
    [
        None,
        "text/plain",
        "application/xml",
        "application/x-www-form-urlencoded",
        "application/msgpack",
        "///;;;=",
        "application/json; charset=utf-7",
        "application/jsonp",
        "application/json, text/plain",
    ],
)
async def test_only_json_is_read(running: RunningGateway, given: str | None) -> None:
    headers = {} if given is None else {"Content-Type": given}
    await refused(running, 415, "unsupported-media-type", headers=headers)


@pytest.mark.parametrize(
    "given", ["application/json;charset=UTF-8", "APPLICATION/JSON", 'application/json; charset="utf-8"']
)
async def test_json_by_any_spelling_is_read(running: RunningGateway, given: str) -> None:
    headers = {"Content-Type": given, "Accept": "text/html"}  # row 10: what is accepted makes no difference
    reply = await running.client.post("/v1/jobs", content=BODY, headers=headers)
    assert (reply.status_code, reply.headers["content-type"]) == (202, "application/json")


@pytest.mark.parametrize("given", ["gzip", "br", "deflate", "zstd", "identity, gzip"])
async def test_a_compressed_body_is_refused(running: RunningGateway, given: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": given}
    await refused(running, 415, "unsupported-content-encoding", headers=headers)


async def test_a_large_body_is_refused_before_it_is_read(running: RunningGateway) -> None:
    before = await stored(running)
    head = request_bytes(
        "/v1/jobs", authorization(running), "Content-Type: application/json", "Content-Length: 262145"
    )
    async with connected(running.url) as connection:
        await connection.send(head)  # and no byte of the body
        judged(await connection.answer(), 413, "body-too-large")
        assert await connection.rest() == b""
    assert await stored(running) == before


async def test_a_large_chunked_body_is_refused_at_the_limit(running: RunningGateway) -> None:
    before = await stored(running)
    head = request_bytes(
        "/v1/jobs", authorization(running), "Content-Type: application/json", "Transfer-Encoding: chunked"
    )
    async with connected(running.url) as connection:
        await connection.send(head + b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        await connection.send(b"40000\r\n" + b" " * 0x40000 + b"\r\n")
        judged(await connection.answer(), 413, "body-too-large")
        assert await connection.rest() == b""
    assert await stored(running) == before


async def test_a_body_as_large_as_allowed_is_read(running: RunningGateway) -> None:
    padded = BODY + b" " * (262_144 - len(BODY))
    reply = await running.client.post(
        "/v1/jobs", content=padded, headers={"Content-Type": "application/json"}
    )
    assert reply.status_code == 202
    await refused(running, 413, "body-too-large", content=padded + b" ")


def posting(running: RunningGateway, *headers: str) -> list[str]:
    return [authorization(running), "Content-Type: application/json", *headers]


async def test_a_length_that_says_too_little_cuts_the_body(running: RunningGateway) -> None:
    before = await stored(running)
    head = posting(running, f"Content-Length: {len(BODY) - 1}")
    async with connected(running.url) as connection:
        await connection.send(request_bytes("/v1/jobs", *head, body=BODY))
        judged(await connection.answer(), 400, "malformed-body")
    assert await stored(running) == before


async def test_a_length_that_says_too_much_is_waited_for_in_vain(running: RunningGateway) -> None:
    before = await stored(running)
    head = posting(running, f"Content-Length: {len(BODY) + 1}")
    judged(await exchanged(running.url, request_bytes("/v1/jobs", *head, body=BODY)), 408, "request-timeout")
    assert await stored(running) == before


async def test_a_client_that_leaves_in_mid_body_stores_nothing(running: RunningGateway) -> None:
    before = await stored(running)
    head = posting(running, f"Content-Length: {len(BODY)}")
    async with connected(running.url) as connection:
        await connection.send(request_bytes("/v1/jobs", *head, body=BODY[: len(BODY) // 2]))
    assert await stored(running) == before


async def test_a_slow_head_is_given_up(running: RunningGateway) -> None:
    async with connected(running.url) as connection:
        await connection.send(b"GET /v1/jobs HTTP/1.1\r\nHost: ga")
        judged(await connection.answer(), 408, "request-timeout")
        assert await connection.rest() == b""


@pytest.mark.parametrize(
    ("given", "status", "slug"),
    [
        (["Content-Length: 2", "Transfer-Encoding: chunked"], 400, "bad-request"),
        (["Content-Length: 2", "Content-Length: 3"], 400, "bad-request"),
        (["Content-Length: -1"], 400, "bad-request"),
        (["Content-Length: two"], 400, "bad-request"),
        (["Transfer-Encoding: gzip, chunked"], 400, "bad-request"),
        ([f"X-Long: {'x' * 33_000}"], 431, "headers-too-large"),
        ([f"X-{number}: x" for number in range(101)], 431, "headers-too-large"),
    ],
)
async def test_a_head_that_breaks_the_rules_is_refused(
    running: RunningGateway, given: list[str], status: int, slug: str
) -> None:
    before = await stored(running)
    head = posting(running, *given)
    judged(await exchanged(running.url, request_bytes("/v1/jobs", *head)), status, slug)
    assert await stored(running) == before


async def test_a_long_target_is_refused(running: RunningGateway) -> None:
    target = "/v1/jobs?cursor=" + "c" * 4096
    judged(await exchanged(running.url, request_bytes(target, method="GET")), 414, "uri-too-long")


# --- 19 to 26: the document ---


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


# --- 27 to 37, 49: fields ---

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


# --- 38 to 48: URLs ---

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


# --- 51 to 54: the idempotency key ---


@pytest.mark.parametrize(
    "given",
    [
        [b""],
        [b"k" * 256],
        [b"two words"],
        [b"k\xc3\xa9"],
        [b'"unfinished'],
        [b'""'],
        [b"one", b"two"],
        [b"k\x01"],
    ],
)
async def test_a_key_that_cannot_be_one_is_refused(running: RunningGateway, given: list[bytes]) -> None:
    before = await stored(running)
    keys = [f"Idempotency-Key: {key.decode('latin-1')}" for key in given]
    head = posting(running, *keys, f"Content-Length: {len(BODY)}")
    reply = await exchanged(running.url, request_bytes("/v1/jobs", *head, body=BODY))
    if given == [b"k\x01"]:  # no HTTP at all
        assert reply.status == 400
    else:
        judged(reply, 400, "idempotency-key-invalid")
    assert await stored(running) == before


@pytest.mark.parametrize("given", ["k", "k" * 255, '"quoted"', "!#$%&'*+,-./:;<=>?@[]^_`{|}~"])
async def test_a_key_of_visible_ascii_is_taken(running: RunningGateway, given: str) -> None:
    reply = await running.client.post("/v1/jobs", json=asked(), headers={"Idempotency-Key": given})
    assert reply.status_code == 202


# --- 55 to 59: ids and queries ---


@pytest.mark.parametrize(
    "given",
    [
        "job_" + "0" * 32, "att_" + "0" * 32, "job_", "job_" + "0" * 31 + "g", "x", "%00", "..%2f", "%ff",
        "j" * 3000, "job_" + "0" * 32 + "%0a", "JOB_" + "0" * 32, "%2e%2e", "job_" + "%D9%A0" * 32,
    ],
)  # fmt: skip
@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("GET", "/timeline"), ("POST", "/cancel")])
async def test_every_id_of_no_job_gets_one_answer(
    running: RunningGateway, given: str, method: str, rest: str
) -> None:
    headers = [authorization(running), "X-Request-Id: same"]
    target = f"/v1/jobs/{given}{rest}"
    reply = await exchanged(running.url, request_bytes(target, *headers, method=method))
    judged(reply, 404, "not-found")


QUERIES = [
    ("limit=0", "limit"), ("limit=-1", "limit"), ("limit=101", "limit"), ("limit=abc", "limit"),
    ("limit=1.5", "limit"), ("limit=", "limit"), ("limit=1&limit=2", "limit"), ("limit=%31%30%31", "limit"),
    ("status=done", "status"), ("status=QUEUED", "status"), ("status=", "status"),
    ("held=1", "held"), ("held=TRUE", "held"), ("provider=nobody", "provider"),
    ("created_after=yesterday", "created_after"), ("created_after=2026-01-01", "created_after"),
    ("created_after=2026-01-01T00:00:00", "created_after"),
    ("created_after=0000-01-01T00:00:00Z", "created_after"),
    ("created_after=9999-01-01T00:00:00Z", "created_after"),
    ("created_after=2026-02-30T00:00:00Z", "created_after"),
    ("created_before=1795248000", "created_before"),
    ("created_after=2026-02-01T00:00:00Z&created_before=2026-01-01T00:00:00Z", "created_after"),
    ("unknown=1", "unknown"), ("Limit=1", "Limit"), ("limit=%zz", "limit"), ("status=%ff", "status"),
    ("status=%00", "status"), ("=1", ""), ("limit=1&&limit=1", "limit"),
]  # fmt: skip


@pytest.mark.parametrize(("query", "name"), QUERIES)
async def test_a_query_that_does_not_fit_is_refused(running: RunningGateway, query: str, name: str) -> None:
    reply = await exchanged(
        running.url, request_bytes(f"/v1/jobs?{query}", authorization(running), method="GET")
    )
    assert f"/query/{name}" in pointers(judged(reply, 422, "validation-failed"))


@pytest.mark.parametrize("cursor", ["x", "%20", "A" * 76, "A" * 300, "../..", "eyJhIjoxfQ", "é"])
async def test_a_cursor_that_was_not_given_out_is_refused(running: RunningGateway, cursor: str) -> None:
    judged(await running.client.get(f"/v1/jobs?cursor={cursor}"), 400, "invalid-cursor")


@pytest.mark.parametrize(
    "moment", ["2026-01-01T00:00:00Z", "2026-01-01t00:00:00.123456789z", "2026-01-01T00:00:00+02:00"]
)
async def test_an_instant_with_a_zone_is_read(running: RunningGateway, moment: str) -> None:
    reply = await running.client.get(f"/v1/jobs?created_after={moment}&limit=1")
    assert reply.status_code == 200


# --- 60 to 63, 75: routes and methods ---

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
PATHS = sorted({operation.path for operation in OPERATIONS})
TAKEN = {path: {op.method.upper() for op in OPERATIONS if op.path == path} for path in PATHS}


def filled(path: str) -> str:
    return path.replace("{job_id}", "job_" + "0" * 32).replace("{slug}", "not-found")


@pytest.mark.parametrize("path", [*PATHS, "/", "/v1", "/v1/nothing", "/v2/jobs", "/v1/jobs/a/b/c", "/%00"])
@pytest.mark.parametrize("key", ["with a key", ""])
async def test_every_error_of_every_route_is_a_problem_document(
    running: RunningGateway, path: str, key: str
) -> None:
    for method in METHODS:
        headers = ["X-Request-Id: mine-1", *([authorization(running)] if key else [])]
        request = request_bytes(filled(path), *headers, method=method)
        reply = await exchanged(running.url, request, bodiless=method == "HEAD")
        assert reply.headers["x-request-id"] == "mine-1", (method, reply)
        assert reply.status != 500, (method, reply)
        if reply.status == 503:  # readiness has a document of its own, and no worker runs here
            assert path == "/health/ready"
            continue
        if reply.status >= 400:
            assert reply.headers["content-type"] == "application/problem+json", (method, reply)
        if reply.status >= 400 and method != "HEAD":
            assert reply.problem["status"] == reply.status
            assert reply.problem["instance"] == "mine-1"
        taken = TAKEN.get(path, set())
        if not taken:
            assert reply.status == 404, (method, reply)
        elif method in METHODS[3:] and method != "OPTIONS":
            assert reply.status == 405, (method, reply)


@pytest.mark.parametrize("path", PATHS)
async def test_the_methods_of_a_route_are_told(running: RunningGateway, path: str) -> None:
    expected = TAKEN[path] | {"OPTIONS"} | ({"HEAD"} if "GET" in TAKEN[path] else set())
    told = await running.client.options(filled(path))
    assert (told.status_code, told.content) == (204, b"")
    assert set(told.headers["allow"].split(", ")) == expected
    wrong = await running.client.request("PATCH", filled(path))
    judged(wrong, 405, "method-not-allowed")
    assert set(wrong.headers["allow"].split(", ")) == expected


@pytest.mark.parametrize("path", [path for path in PATHS if "GET" in TAKEN[path]])
async def test_head_is_get_without_a_body(running: RunningGateway, path: str) -> None:
    job = asked()
    job_id = (await running.client.post("/v1/jobs", json=job)).json()["id"]
    target = path.replace("{job_id}", job_id).replace("{slug}", "not-found")
    got, head = await running.client.get(target), await running.client.head(target)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    if path != "/metrics":
        assert head.headers["content-length"] == got.headers["content-length"]


async def test_a_header_does_not_change_the_method(running: RunningGateway) -> None:
    before = await stored(running)
    reply = await running.client.get("/v1/jobs", headers={"X-HTTP-Method-Override": "POST"})
    assert reply.status_code == 200
    assert await stored(running) == before


@pytest.mark.parametrize(
    ("given", "echoed"),
    [("abc-123", True), ("x" * 128, True), ("x" * 129, False), ("two words", False), ("é", False)],
)
async def test_a_request_id_is_echoed_when_it_can_be(
    running: RunningGateway, given: str, *, echoed: bool
) -> None:
    request = request_bytes("/health/live", f"X-Request-Id: {given}", method="GET")
    shown = (await exchanged(running.url, request)).headers["x-request-id"]
    assert (shown == given) is echoed
    if not echoed:
        assert re.fullmatch(r"req_[0-9a-f]{32}", shown)


async def test_an_absolute_target_is_read(running: RunningGateway) -> None:
    reply = await exchanged(running.url, request_bytes("http://elsewhere.example/health/live", method="GET"))
    assert reply.status == 200


async def test_a_forwarded_address_changes_nothing(running: RunningGateway) -> None:
    headers = ["X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: evil.example", "Forwarded: for=127.0.0.1"]
    reply = await exchanged(running.url, request_bytes("/v1/jobs", *headers, method="GET"))
    judged(reply, 401, "unauthenticated")


async def test_a_proxy_request_is_refused(running: RunningGateway) -> None:
    request = b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n"
    judged(await exchanged(running.url, request), 400, "bad-request")


async def test_what_is_no_http_is_refused(running: RunningGateway) -> None:
    for request in (
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"HELO there\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ):
        judged(await exchanged(running.url, request), 400, "bad-request")


async def test_a_finished_job_is_not_cancelled_again(running: RunningGateway) -> None:
    job_id = await running.accept()
    assert (await running.client.post(f"/v1/jobs/{job_id}/cancel")).json()["status"] == "cancelled"
    judged(await running.client.post(f"/v1/jobs/{job_id}/cancel"), 409, "job-already-finished")


async def test_a_mistake_of_ours_tells_nothing_of_the_inside(
    running: RunningGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("the secret inside")

    with replaced(running.gateway._jobs, "page", broken):
        reply = await running.client.get("/v1/jobs", headers={"X-Request-Id": "broken-1"})
    problem = judged(reply, 500, "internal")
    assert problem["instance"] == "broken-1"
    assert "secret inside" not in reply.text
    assert "RuntimeError" not in reply.text
    logged = capsys.readouterr().err
    assert "the secret inside" in logged
    assert "broken-1" in logged


async def test_every_problem_type_has_a_page(running: RunningGateway) -> None:
    for slug, row in PROBLEMS.items():
        page = await running.client.get(f"/problems/{slug}", headers={"Authorization": ""})
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert row.title.split("'")[0] in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
    judged(await running.client.get("/problems/nothing"), 404, "not-found")


async def test_the_server_goes_on_after_all_this(running: RunningGateway) -> None:
    assert (await running.client.get("/health/live")).status_code == 200
    assert (await running.client.post("/v1/jobs", json=asked())).status_code == 202
