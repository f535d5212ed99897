"""One request value to one account: what stands on the wire, and what never gets out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
from job_examples import SOURCE, a_spec, an_adapter

from gateway.errors import LeaseLost
from gateway.net import PooledTransport
from gateway.settings import Secret
from gateway.upstream.accounts import UpstreamAccount
from gateway.upstream.client import Client, Reply
from providers.contract.exchange import HttpRequest
from providers.contract.reading import MAX_BYTES
from providers.contract.spec import AuthSpec, Spec

KEY = "key_5up3rs3cret"
GET = HttpRequest(method="GET", path=("v1", "jobs"))
OK = b'HTTP/1.1 200 OK\r\nX-Shown: 1\r\nX-SHOWN: 2\r\nContent-Length: 11\r\n\r\n{"id": "r"}'


class Provider:
    """Answers every request with the same bytes, or not at all, and keeps what it was sent."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer
        self.url = ""
        self.requests: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                self.requests.append(head + await reader.readexactly(int(length or b"0")))
                if self._answer is None:
                    await reader.read()
                    return
                writer.write(self._answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def provider(answer: bytes | None = OK) -> AsyncIterator[Provider]:
    here = Provider(answer)
    server = await asyncio.start_server(here.serve, "127.0.0.1", 0)
    here.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield here


@asynccontextmanager
async def client() -> AsyncIterator[Client]:
    async with PooledTransport(deadline_s=5.0) as transport:
        yield Client(transport)


def account(url: str, spec: Spec | None = None, key: str = KEY) -> UpstreamAccount:
    return UpstreamAccount(
        adapter=an_adapter(spec), name="default", api_key=Secret(key), base_url=url, options={}
    )


async def sent(
    to: Provider, request: HttpRequest, *, spec: Spec | None = None, options: dict[str, str] | None = None
) -> Reply:
    async with client() as sender:
        return await sender.send(account(to.url, spec), request, timeout_s=2.0, options=options or {})


def fields(request: bytes) -> list[tuple[str, str]]:
    lines = request.partition(b"\r\n\r\n")[0].decode("ascii").split("\r\n")[1:]
    return [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]


async def test_a_request_bears_the_key_the_fixed_headers_and_its_own() -> None:
    spec = a_spec(fixed_headers=(("X-Version", "2024-11-06"),))
    request = HttpRequest(method="POST", path=("jobs",), headers=(("X-Client-Id", "att_1"),), json={"a": "ü"})
    async with provider() as here:
        await sent(here, request, spec=spec)
    given = fields(here.requests[0])
    assert ("authorization", f"Bearer {KEY}") in given
    assert ("x-version", "2024-11-06") in given
    assert ("x-client-id", "att_1") in given
    assert ("content-type", "application/json") in given
    assert ("accept-encoding", "identity") in given
    assert not {"cookie", "referer"} & {name for name, _ in given}
    assert msgspec.json.decode(here.requests[0].partition(b"\r\n\r\n")[2]) == {"a": "ü"}


async def test_the_key_is_sent_as_the_options_say() -> None:
    spec = a_spec(auth_choices={"plain": AuthSpec("X-Api-Key", "", SOURCE)})
    async with provider() as here:
        await sent(here, GET, spec=spec, options={"auth": "plain"})
    given = fields(here.requests[0])
    assert ("x-api-key", KEY) in given
    assert "authorization" not in {name for name, _ in given}


@pytest.mark.parametrize(
    ("path", "query", "target"),
    [
        (("jobs", "r-1"), (), "/jobs/r-1"),
        (("jobs", "a/b"), (), "/jobs/a%2Fb"),
        (("jobs", "../../admin"), (), "/jobs/..%2F..%2Fadmin"),
        (("jobs", "a?b#c"), (), "/jobs/a%3Fb%23c"),
        (("jobs", "100%"), (), "/jobs/100%25"),
        (("jobs", "%2e%2e"), (), "/jobs/%252e%252e"),
        (("jobs", "ü x"), (), "/jobs/%C3%BC%20x"),
        (("jobs",), (("id", "a&b=c/d"), ("n", "1")), "/jobs?id=a%26b%3Dc%2Fd&n=1"),
    ],
)
async def test_whatever_a_ref_holds_stays_in_its_place(
    path: tuple[str, ...], query: tuple[tuple[str, str], ...], target: str
) -> None:
    async with provider() as here:
        await sent(here, HttpRequest(method="GET", path=path, query=query))
    assert here.requests[0].split(b"\r\n")[0].decode() == f"GET {target} HTTP/1.1"


async def test_an_answer_comes_back_whole_with_lower_case_names() -> None:
    async with provider() as here:
        reply = await sent(here, GET)
    assert reply.response is not None
    assert (reply.response.status, reply.response.body) == (200, b'{"id": "r"}')
    assert reply.response.headers["x-shown"].endswith("2")
    assert (reply.connected, reply.failure) == (True, "")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_the_key_goes_nowhere_else(status: int) -> None:
    async with provider() as trap:
        moved = f"HTTP/1.1 {status} Moved\r\nLocation: {trap.url}/x\r\nContent-Length: 0\r\n\r\n".encode()
        async with provider(moved) as here:
            reply = await sent(here, HttpRequest(method="POST", path=("jobs",), json={}, paid=True))
    assert reply.response is not None
    assert reply.response.status == status
    assert (trap.connections, len(here.requests)) == (0, 1)


async def test_a_malformed_redirect_is_an_answer_too() -> None:
    moved = b"HTTP/1.1 302 Moved\r\nLocation: http://[::1/\xff\r\nContent-Length: 0\r\n\r\n"
    async with provider(moved) as here:
        reply = await sent(here, GET)
    assert reply.connected
    assert reply.response is None or reply.response.status == 302


async def test_paid_requests_get_connections_of_their_own_and_others_share() -> None:
    paid = HttpRequest(method="POST", path=("jobs",), json={}, paid=True)
    async with provider() as here, client() as sender:
        to = account(here.url)
        for request, connections in ((GET, 1), (GET, 1), (paid, 2), (paid, 3), (GET, 3)):
            await sender.send(to, request, timeout_s=2.0, options={})
            assert here.connections == connections


def broken(answer: bytes | None) -> Callable[[], Awaitable[Reply]]:
    async def run() -> Reply:
        async with provider(answer) as here, client() as sender:
            return await sender.send(account(here.url), GET, timeout_s=0.2, options={})

    return run


LONG = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BYTES + 1) + b" " * (MAX_BYTES + 1)


@pytest.mark.parametrize(
    "run",
    [
        broken(None),
        broken(b"rubbish\r\n\r\n"),
        broken(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"),
        broken(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx"),
        broken(LONG),
    ],
    ids=["silence", "no http", "cut short", "compressed", "too long"],
)
async def test_a_broken_answer_is_no_answer_from_somebody_who_was_reached(
    run: Callable[[], Awaitable[Reply]],
) -> None:
    reply = await run()
    assert (reply.response, reply.connected) == (None, True)
    assert reply.failure
    assert KEY not in reply.failure


async def test_nobody_there_is_told_apart() -> None:
    async with provider() as here:
        url = here.url
    async with client() as sender:
        reply = await sender.send(account(url), GET, timeout_s=2.0, options={})
    assert (reply.response, reply.connected) == (None, False)


async def test_the_last_check_withholds_the_request_with_the_connection_in_hand() -> None:
    paid = HttpRequest(method="POST", path=("jobs",), json={}, paid=True)
    asked: list[int] = []

    async def no() -> None:
        asked.append(here.connections)
        raise LeaseLost("another worker holds it")

    async with provider() as here, client() as sender:
        reply = await sender.send(account(here.url), paid, timeout_s=2.0, options={}, before_send=no)
    assert (reply.response, reply.connected, reply.withheld) == (None, True, True)
    assert reply.failure == "another worker holds it"
    assert (len(asked), here.requests) == (1, [])


async def test_the_last_check_lets_the_request_go() -> None:
    async def yes() -> None:
        assert here.requests == []

    async with provider() as here, client() as sender:
        reply = await sender.send(account(here.url), GET, timeout_s=2.0, options={}, before_send=yes)
    assert reply.response is not None
    assert (reply.connected, reply.withheld, len(here.requests)) == (True, False, 1)


@pytest.mark.parametrize("key", ["k\u00e9y-5up3rs3cret", "key\n5up3rs3cret", "key\x005up3rs3cret"])
async def test_a_key_that_cannot_be_sent_is_not_shown_and_nothing_is_dialled(
    key: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with provider() as here, client() as sender:
        reply = await sender.send(account(here.url, key=key), GET, timeout_s=2.0, options={})
    assert (reply.response, reply.connected, here.connections) == (None, False, 0)
    assert reply.failure
    assert "5up3rs3cret" not in reply.failure + caplog.text
