"""What goes wrong on the way, as httpx exceptions; nothing of aiohttp, the OS or asyncio leaks.

httpx.TransportError
    ConnectError, ConnectTimeout, PoolTimeout      no connection stood
        DialRefused                                the guard said no: nothing was dialled
        LookupsBusy                                the name was not asked for: too many lookups hang
    ReadError, ReadTimeout                         a connection stood, then broke or ran out of time
        ResponseTooLarge                           the body exceeds the cap
    RemoteProtocolError                            the other side hung up or does not speak HTTP
    LocalProtocolError, UnsupportedProtocol        the request itself cannot be sent
    RequestWithheld                                the caller's last check said no: nothing was written
httpx.DecodingError
    EncodingRefused                                the body is compressed, although we asked for identity

Whether a request was made is told by `Dial.connected` and `.withheld`, never by these types.
"""

from __future__ import annotations

import aiohttp
import httpx

from gateway.net.dial import Dial

_LONGEST_TEXT = 200  # characters of foreign text quoted in a message


class DialRefused(httpx.ConnectError):
    """The guard refused to dial; `str()` is the reason in words."""


class LookupsBusy(httpx.PoolTimeout):
    """A name was not looked up: as many lookups as allowed are under way."""


class RequestWithheld(httpx.TransportError):
    """What `dial.BEFORE_SEND` names did not return; `str()` is what it raised, in words."""


class ResponseTooLarge(httpx.ReadError):
    """The body exceeds the cap. It was not read further, and its connection is closed."""


class EncodingRefused(httpx.DecodingError):
    """The body has a Content-Encoding other than identity. Nothing of it was read or decoded."""


def translate(error: Exception, dial: Dial) -> httpx.RequestError:
    """The httpx exception for `error`, with a message that repeats neither URL nor headers.

    Args:
        error: whatever was raised while a request was sent or its response read.
        dial: how far that request had come.
    """
    if isinstance(error, httpx.RequestError):
        return error
    words = in_words(error)
    if isinstance(error, TimeoutError):
        return _timeout(words, dial)
    if isinstance(
        error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError | aiohttp.ClientResponseError
    ):
        return httpx.RemoteProtocolError(words)
    if isinstance(error, ValueError) and not isinstance(error, OSError):  # a refused certificate is both
        return httpx.LocalProtocolError(words)
    return httpx.ReadError(words) if dial.connected else httpx.ConnectError(words)


def _timeout(words: str, dial: Dial) -> httpx.TransportError:
    if dial.connected and dial.withheld:
        return RequestWithheld("the last check before sending did not end in time")
    if dial.connected:
        return httpx.ReadTimeout(f"no complete answer in time: {words}")
    if dial.started:
        return httpx.ConnectTimeout(f"no connection in time: {words}")
    return httpx.PoolTimeout(f"no free connection in time: {words}")


def in_words(error: Exception) -> str:
    """The error's kind, and its text only where that text cannot hold the URL (which may hold a token)."""
    kind = type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        text = str(error.certificate_error)
    elif isinstance(error, aiohttp.ClientResponseError):
        text = error.message
    elif isinstance(error, OSError):
        text = error.strerror or ""
    else:
        text = ""
    return f"{kind}: {text[:_LONGEST_TEXT]}" if text else kind
