"""Response bodies: streamed as they arrive, never decoded, bounded in bytes and in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import httpx

from gateway.net.dial import Dial
from gateway.net.failures import ResponseTooLarge, translate
from gateway.net.fields import check_unencoded

_CHUNK = 65_536  # bytes handed on at a time


async def read_whole(response: httpx.Response, limit: int) -> bytes:
    """The body as it was sent, if it has at most `limit` bytes. Closes the response in any case.

    Raises:
        ResponseTooLarge: it has more; a Content-Length that says so is believed, and nothing is read.
        EncodingRefused: it is compressed.
        httpx.TransportError: it broke off or ran out of time.
    """
    try:
        declared = response.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > limit:
            raise ResponseTooLarge(f"the response announces more than {limit} bytes")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > limit:
                raise ResponseTooLarge(f"the response has more than {limit} bytes")
        return bytes(body)
    finally:
        await response.aclose()


class Body(httpx.AsyncByteStream):
    """One response's bytes. The connection goes back to its pool at the end of the body, and only then."""

    def __init__(self, reply: aiohttp.ClientResponse, dial: Dial, *, ends_at: float, limit: int) -> None:
        """Take over `reply`.

        Args:
            reply: its headers have come; this object closes it.
            dial: belongs to the same request.
            ends_at: the call's deadline on the event loop's clock, in seconds.
            limit: bytes after which reading ends with `ResponseTooLarge`.
        """
        self._reply = reply
        self._dial = dial
        self._ends_at = ends_at
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._refuse_encoding()
        size = 0
        while chunk := await self._next_chunk(self._limit - size + 1):
            size += len(chunk)
            if size > self._limit:
                raise ResponseTooLarge(f"the response has more than {self._limit} bytes")
            yield chunk

    async def _next_chunk(self, at_most: int) -> bytes:
        try:
            async with asyncio.timeout_at(self._ends_at):
                return await self._reply.content.read(min(at_most, _CHUNK))
        except httpx.RequestError:
            raise
        except aiohttp.ClientError as error:
            raise translate(error, self._dial) from None  # aiohttp's own text may hold the URL
        except Exception as error:
            raise translate(error, self._dial) from error

    def _refuse_encoding(self) -> None:
        check_unencoded(",".join(self._reply.headers.getall("content-encoding", ())))

    async def aclose(self) -> None:
        """Close the connection, unless the body was read to its end. May be called again."""
        self._reply.close()
