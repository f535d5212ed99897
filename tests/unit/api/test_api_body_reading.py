"""A body read in pieces: up to the limit, in time, and never without its client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from gateway.api.body import ClientGone, Receive, read_body
from gateway.errors import Refusal


def pieces(*bodies: bytes | None) -> Receive:
    """An ASGI receive of these pieces, each after a turn of the loop but the first; None is a disconnect."""
    left = list(bodies)

    async def receive() -> Mapping[str, Any]:
        if len(left) < len(bodies):
            await asyncio.sleep(0)
        if not left:
            await asyncio.Event().wait()
        body = left.pop(0)
        if body is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": body, "more_body": not body.endswith(b".")}

    return receive


async def late(receive: Receive) -> Mapping[str, Any]:
    await asyncio.sleep(0)
    return await receive()


async def test_a_body_in_one_or_many_pieces_is_read_up_to_the_limit() -> None:
    for receive in (pieces(b"abcd."), pieces(b"a", b"b", b"", b"cd", b".")):
        assert await read_body(receive, limit=5, timeout_s=5, content_length=None) == b"abcd."
    receive = pieces(b"a", b".")
    assert await read_body(lambda: late(receive), limit=5, timeout_s=5, content_length="2") == b"a."


@pytest.mark.parametrize("sent", [(b"abcde.",), (b"abcd", b"e."), (b"abcd", b"efgh", b"never asked for")])
async def test_a_byte_too_many_is_refused(sent: tuple[bytes, ...]) -> None:
    with pytest.raises(Refusal) as caught:
        await read_body(pieces(*sent), limit=5, timeout_s=5, content_length=None)
    assert (caught.value.slug, caught.value.headers) == ("body-too-large", {"Connection": "close"})


@pytest.mark.parametrize(
    ("content_length", "slug"),
    [
        ("6", "body-too-large"),
        ("9" * 10_000, "body-too-large"),
        ("-1", "bad-request"),
        ("", "bad-request"),
        ("1_0", "bad-request"),
        ("٣", "bad-request"),
        ("²", "bad-request"),
    ],
)
async def test_a_wrong_length_is_refused_before_reading(content_length: str, slug: str) -> None:
    async def receive() -> Mapping[str, Any]:
        raise AssertionError("read")

    with pytest.raises(Refusal) as caught:
        await read_body(receive, limit=5, timeout_s=5, content_length=content_length)
    assert caught.value.slug == slug


@pytest.mark.parametrize("sent", [(), (b"a",), (b"a", b"b")])
async def test_a_body_that_does_not_come_in_time_is_refused(sent: tuple[bytes, ...]) -> None:
    with pytest.raises(Refusal) as caught:
        await read_body(pieces(*sent), limit=5, timeout_s=0.02, content_length=None)
    assert (caught.value.slug, caught.value.headers) == ("request-timeout", {"Connection": "close"})


@pytest.mark.parametrize("sent", [(None,), (b"a", None)])
async def test_a_client_that_leaves_is_not_answered(sent: tuple[bytes | None, ...]) -> None:
    with pytest.raises(ClientGone):
        await read_body(pieces(*sent), limit=5, timeout_s=5, content_length=None)
    receive = pieces(*sent)
    with pytest.raises(ClientGone):
        await read_body(lambda: late(receive), limit=5, timeout_s=5, content_length=None)


@pytest.mark.parametrize("wait", [lambda: asyncio.Event().wait(), lambda: asyncio.sleep(0)])
async def test_cancelling_reaches_a_receive_that_was_begun_by_hand(
    wait: Callable[[], Awaitable[Any]],
) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def receive() -> Mapping[str, Any]:
        began.set()
        try:
            await wait()
        finally:
            ended.set()
        raise AssertionError("not cancelled")

    task = asyncio.create_task(read_body(receive, limit=5, timeout_s=5, content_length=None))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_an_error_of_the_server_is_passed_on() -> None:
    async def receive() -> Mapping[str, Any]:
        await asyncio.sleep(0)
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        await read_body(receive, limit=5, timeout_s=5, content_length=None)
