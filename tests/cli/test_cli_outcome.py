"""A film is saved from the address that the provider gave: whole or not at all, and from nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.cli import outcome
from gateway.cli.exits import Failed
from gateway.jobs.view import OutputView

FILM = b"\x1f\x8b not packed, whatever it looks like" * 1000


@asynccontextmanager
async def serving(*answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives these answers in turn; its URL, and the request lines it got."""
    asked, waiting = list[bytes](), list(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.partition(b"\r\n")[0])
        writer.write(waiting.pop(0))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def film(url: str) -> list[OutputView]:
    return [OutputView(url=url, content_type="video/mp4", expires_at="2026-01-31T08:00:00Z")]


def ok(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def test_its_bytes_are_saved_as_they_come(tmp_path: Path) -> None:
    async with serving(ok(FILM, "Content-Encoding: gzip")) as (url, _):
        await outcome.save(film(f"{url}/film.mp4"), tmp_path / "new" / "film.mp4")
    assert (tmp_path / "new" / "film.mp4").read_bytes() == FILM


async def test_no_redirect_is_followed(tmp_path: Path) -> None:
    async with serving(ok(b"secret")) as (inside, reached):
        moved = f"HTTP/1.1 302 Found\r\nLocation: {inside}/\r\nContent-Length: 0\r\n\r\n".encode()
        async with serving(moved) as (url, _):
            with pytest.raises(Failed, match="answered 302"):
                await outcome.save(film(url), tmp_path / "film.mp4")
        assert reached == []
    assert names_in(tmp_path) == []


async def test_one_without_end_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "MOST_BYTES", len(FILM) - 1)
    async with serving(ok(FILM)) as (url, _):
        with pytest.raises(Failed, match="larger than"):
            await outcome.save(film(url), tmp_path / "film.mp4")
    assert names_in(tmp_path) == []
