"""Hostile and broken requests against the real server: each has its problem, and nothing is stored."""

from __future__ import annotations

import re

import pytest
from raw_client import connected, exchanged, request_bytes
from refusals import BODY, authorization, judged, pointers, posting, refused, stored
from running_gateway import RunningGateway, asked, replaced

from gateway.api.openapi import OPERATIONS
from gateway.api.openapi.operation import Operation
from gateway.api.problems import PROBLEMS
from gateway.service.keys import Scope

# --- who calls ---


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


# --- the head and the size ---


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
    "operation", [one for one in OPERATIONS if one.takes is not None], ids=lambda one: one.id
)
async def test_every_route_that_takes_a_body_takes_json_alone(
    running: RunningGateway, operation: Operation
) -> None:
    path = re.sub(r"\{\w+\}", "unknown", operation.path)
    async with running.another_client("tester", *Scope) as client:
        reply = await client.request(
            operation.method, path, content=b"{}", headers={"Content-Type": "text/plain"}
        )
        judged(reply, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "given", ["application/json;charset=UTF-8", "APPLICATION/JSON", 'application/json; charset="utf-8"']
)
async def test_json_by_any_spelling_is_read(running: RunningGateway, given: str) -> None:
    headers = {"Content-Type": given, "Accept": "text/html"}  # what is accepted makes no difference
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


# --- the idempotency key ---


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


# --- ids and queries ---


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


# --- routes and methods ---

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
        elif method in METHODS[3:] and method not in {*taken, "OPTIONS"}:
            assert reply.status == 405, (method, reply)


@pytest.mark.parametrize("path", PATHS)
async def test_the_methods_of_a_route_are_told(running: RunningGateway, path: str) -> None:
    expected = TAKEN[path] | {"OPTIONS"} | ({"HEAD"} if "GET" in TAKEN[path] else set())
    told = await running.client.options(filled(path))
    assert (told.status_code, told.content) == (204, b"")
    assert set(told.headers["allow"].split(", ")) == expected
    untaken = next(method for method in ("PATCH", "PUT") if method not in expected)
    wrong = await running.client.request(untaken, filled(path))
    judged(wrong, 405, "method-not-allowed")
    assert set(wrong.headers["allow"].split(", ")) == expected


# The stream of a job that has not ended does not end either; test_flow_events asks for its HEAD.
@pytest.mark.parametrize(
    "path", [path for path in PATHS if "GET" in TAKEN[path] and not path.endswith("/events")]
)
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


async def test_a_request_does_not_name_two_hosts(running: RunningGateway) -> None:
    for lines in (["Host: a", "Host: b"], ["Host: a", "hOST: a"]):
        request = "\r\n".join(["GET /health/live HTTP/1.1", *lines, "", ""]).encode()
        judged(await exchanged(running.url, request), 400, "bad-request")
    for request in (b"GET /health/live HTTP/1.0\r\n\r\n", request_bytes("/health/live", method="GET")):
        assert (await exchanged(running.url, request)).status == 200
    async with connected(running.url) as connection:  # each request of a connection anew
        for _ in range(2):
            await connection.send(request_bytes("/health/live", method="GET"))
            assert (await connection.answer()).status == 200


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

    with replaced(running.gateway.parts.jobs, "page", broken):
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
