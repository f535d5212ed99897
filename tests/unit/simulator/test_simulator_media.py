"""Inputs: what is dialled, what stands in, what is refused at create or fails later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from fractions import Fraction
from functools import cache

import httpx
import pytest
from PIL import Image
from simulator_fleet import EMULATIONS, NAMES, Fleet, asking, fleet, read

from gateway.simulator import fetch
from gateway.simulator.fetch import Fetcher
from gateway.simulator.media import Media
from gateway.simulator.reel import encode
from gateway.simulator.samples import SAMPLE_HOST, sample_character, sample_performance
from providers.contract.emulation import Rules
from providers.contract.errors import ErrorCode
from providers.contract.normalize import normalize
from providers.contract.status import JobStatus

LOOPBACK = Rules(allow_loopback_media=True)
PNG, MP4 = "image/png", "video/mp4"


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(handle: Handler) -> AsyncIterator[str]:
    """Serve on loopback; yields the address, and leaves no connection behind."""
    tasks: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handle(reader, writer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, EOFError, asyncio.CancelledError):
            return  # the client hung up, or the test is over
        finally:
            tasks.discard(task)
            writer.transport.abort()

    async with await asyncio.start_server(run, "127.0.0.1", 0) as listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class FileServer:
    """Files on loopback, and which were asked for."""

    def __init__(self, files: Mapping[str, tuple[str, bytes]]) -> None:
        self.files, self.asked, self.address = files, list[str](), ""

    def url(self, path: str) -> str:
        return self.address + path

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        self.asked.append(path)
        head, body = self.files.get(path, ("HTTP/1.1 404 Not Found", b""))
        if not head.startswith("HTTP/"):
            head = f"HTTP/1.1 200 OK\r\ncontent-type: {head}"
        writer.write(f"{head}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)


@asynccontextmanager
async def files(**served: tuple[str, bytes]) -> AsyncIterator[FileServer]:
    server = FileServer({f"/{name}": file for name, file in served.items()})
    async with listening(server.serve) as server.address:
        yield server


@cache
def blank_clip(length_s: float) -> bytes:
    picture = Image.new("RGB", (64, 64))
    return encode([picture] * round(length_s * 10), width=64, height=64, rate=Fraction(10))


async def check_unusable(providers: Fleet, name: str, answer: httpx.Response, option: str) -> None:
    """Refused at create by the providers that look at assets then; else accepted, and failed in the end."""
    if EMULATIONS[name].refuse_asset is not None:
        assert answer.status_code == 400
        assert option in answer.text
        assert (await providers.stats())["accepted"][name] == 0
        return
    ref = providers[name].adapter.parse_submit(read(answer)).ref
    await providers.finish()
    update = normalize(providers[name].adapter.spec, await providers[name].seen(ref))
    assert update.status is JobStatus.FAILED
    assert update.error is not None
    assert update.error.code is ErrorCode.INVALID_MEDIA


@pytest.mark.parametrize("name", NAMES)
async def test_loopback_media_are_fetched_where_the_rules_allow_it(name: str) -> None:
    async with (
        files(hero=(PNG, sample_character()), act=(MP4, sample_performance(3.0))) as server,
        fleet(rules=LOOPBACK) as providers,
    ):
        ref = await providers[name].submitted(asking(server.url("/hero"), server.url("/act")))
        await providers.finish()
        update = normalize(providers[name].adapter.spec, await providers[name].seen(ref), allow_http=True)
        assert update.status is JobStatus.SUCCEEDED
        assert server.asked == ["/hero", "/act"]
        job = providers.simulator._mounts[name].jobs.find(ref)
        assert job is not None
        assert job.duration_s == pytest.approx(3.0)


async def test_nothing_is_dialled_for_outside_or_sample_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    async def dial(*_: object) -> bytes:
        raise AssertionError("dialled")

    monkeypatch.setattr(Fetcher, "_fetch", dial)
    async with fleet() as providers:
        for url in (
            "https://media.example/a.png",
            f"https://{SAMPLE_HOST}/character.png",
            "https://localhost/a",
        ):
            assert (await providers["runway"].submit(asking(url))).status_code == 200


@pytest.mark.parametrize(
    ("url", "loopback", "outside", "dialled"),
    [
        ("http://127.0.0.1/a", True, False, True),
        ("http://127.9.9.9:81/a", True, False, True),
        ("http://[::1]/a", True, False, True),
        ("http://localhost/a", True, False, True),
        ("https://localhost/a", True, False, True),
        ("http://127.0.0.1/a", False, True, False),
        ("ftp://127.0.0.1/a", True, True, False),
        ("http://media.example/a", True, True, False),
        ("https://media.example/a", True, False, False),
        ("https://media.example/a", False, True, True),
        ("http://2130706433/a", True, False, False),
        ("http://localhost.media.example/a", True, False, False),
        ("http://127.0.0.1@media.example/a", True, False, False),
        ("http://127.0.0.1\\@media.example/a", True, False, False),
        ("http://10.0.0.1/a", True, True, False),
    ],
)
def test_who_may_be_dialled(url: str, *, loopback: bool, outside: bool, dialled: bool) -> None:
    assert Fetcher(loopback=loopback, outside=outside).may_dial(httpx.URL(url)) is dialled


async def test_stand_ins_are_of_the_right_kind_and_say_so() -> None:
    media = Media(Fetcher(loopback=False, outside=False))
    inputs = await media.load(asking("https://media.example/a.png", "https://media.example/b.mp4"))
    assert inputs.stand_in
    assert (inputs.character.data, inputs.reference.data) == (sample_character(), sample_performance())
    half = await media.load(asking(reference="https://media.example/b.mp4"))
    assert (half.character.stand_in, half.reference.stand_in, half.stand_in) == (False, True, True)
    assert not (await media.load(asking())).stand_in


REFUSED = {
    "redirect": ("HTTP/1.1 302 Found\r\nlocation: /good", b""),
    "missing": ("HTTP/1.1 404 Not Found", b""),
    "octets": ("application/octet-stream", sample_character()),
    "garbage": (PNG, b"no picture"),
    "film": (MP4, sample_performance(3.0)),
    "good": (PNG, sample_character()),
}


@pytest.mark.parametrize("which", ["redirect", "missing", "octets", "garbage", "film"])
@pytest.mark.parametrize("name", NAMES)
async def test_an_unusable_character_is_refused_at_create_or_fails_later(name: str, which: str) -> None:
    async with files(**REFUSED) as server, fleet(rules=LOOPBACK) as providers:
        answer = await providers[name].submit(asking(server.url(f"/{which}")))
        await check_unusable(providers, name, answer, "character")
        assert "/good" not in server.asked


@pytest.mark.parametrize("length_s", [1.0, 2.9, 30.2, 36.0])
@pytest.mark.parametrize("name", NAMES)
async def test_a_reference_outside_3_to_30_s_is_refused_at_create_or_fails_later(
    name: str, length_s: float
) -> None:
    async with files(act=(MP4, blank_clip(length_s))) as server, fleet(rules=LOOPBACK) as providers:
        answer = await providers[name].submit(asking(reference=server.url("/act")))
        await check_unusable(providers, name, answer, "reference")


@pytest.mark.parametrize("length_s", [3.0, 30.0])
async def test_the_bounds_themselves_are_accepted(length_s: float) -> None:
    async with files(act=(MP4, blank_clip(length_s))) as server, fleet(rules=LOOPBACK) as providers:
        assert (await providers["runway"].submit(asking(reference=server.url("/act")))).status_code == 200


@pytest.mark.parametrize("name", NAMES)
async def test_a_host_that_refuses_connections_is_unusable(name: str) -> None:
    async with files() as server:
        url = server.url("/hero.png")
    async with fleet(rules=LOOPBACK) as providers:
        await check_unusable(providers, name, await providers[name].submit(asking(url)), "character")


async def test_an_unknown_sample_is_unusable() -> None:
    async with fleet() as providers:
        answer = await providers["runway"].submit(asking(f"https://{SAMPLE_HOST}/nothing.png"))
        await check_unusable(providers, "runway", answer, "character")


@pytest.mark.parametrize("name", ["bytes", "time"])
async def test_a_fetch_is_bounded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    monkeypatch.setattr(fetch, *(("MAX_FILE_BYTES", 10) if name == "bytes" else ("DEADLINE_S", 0.1)))
    async with listening(drip) as address, fleet(rules=LOOPBACK) as providers:
        answer = await providers["runway"].submit(asking(f"{address}/hero.png"))
        await check_unusable(providers, "runway", answer, "character")
