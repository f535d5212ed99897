"""Dialling for media: whom, how long, how much, and what is taken for an image or a video."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import httpx

from gateway.simulator.footage import MAX_FILE_BYTES
from providers.contract.motion import CharacterType

DEADLINE_S = 20.0
_HEADERS = {"user-agent": "motion-gateway simulator", "accept-encoding": "identity"}


class UnusableMedia(Exception):
    """An input that cannot be used.

    Attributes:
        option: `character` or `reference`.
        reason: what is wrong with it.
    """

    def __init__(self, option: str, reason: str) -> None:
        super().__init__(f"{option}: {reason}")
        self.option, self.reason = option, reason


class Fetcher:
    """Fetches media: no redirects, no proxies, at most 64 MiB within 20 s.

    Args:
        loopback: whether loopback hosts may be dialled, by http too.
        outside: whether any other host may be dialled, by https.
    """

    def __init__(self, *, loopback: bool, outside: bool) -> None:
        self._loopback, self._outside = loopback, outside
        self._client: httpx.AsyncClient | None = None

    def may_dial(self, url: httpx.URL) -> bool:
        """Whether to `fetch` this; a URL as httpx parsed it, so that the host judged is the host dialled."""
        if is_loopback(url.host):
            return self._loopback and url.scheme in {"http", "https"}
        return self._outside and url.scheme == "https"

    async def fetch(self, option: str, kind: CharacterType, url: httpx.URL) -> bytes:
        """Fetch a file that says it is of that kind.

        Raises:
            UnusableMedia: no connection, no 200, another content type, too large, or too slow.
        """
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await self._fetch(option, kind, url)
        except TimeoutError as error:
            raise UnusableMedia(option, f"not fetched within {DEADLINE_S:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnusableMedia(option, f"could not be fetched ({type(error).__name__}: {error})") from error

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _fetch(self, option: str, kind: CharacterType, url: httpx.URL) -> bytes:
        if self._client is None:
            self._client = httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=DEADLINE_S)
        data = bytearray()
        async with self._client.stream("GET", url, headers=_HEADERS) as response:
            if response.status_code != 200:
                raise UnusableMedia(option, f"answered with status {response.status_code}, not 200")
            check_kind(option, kind, response.headers.get("content-type", ""))
            async for chunk in response.aiter_raw():
                data += chunk
                if len(data) > MAX_FILE_BYTES:
                    raise UnusableMedia(option, f"the file has more than {MAX_FILE_BYTES} bytes")
        return bytes(data)


def check_kind(option: str, kind: CharacterType, content_type: str) -> None:
    """Refuse what is not said to be an image or a video, octet-stream included: the rule of Act-Two's maker.

    The strictest of the simulated wires asks for it; its adapter's spec cites the source.

    Raises:
        UnusableMedia: the content type is missing or another.
    """
    if not content_type.lower().startswith(f"{kind}/"):
        raise UnusableMedia(option, f"its content type is {content_type or 'missing'}, not {kind}/*")


def is_loopback(host: str) -> bool:
    """Whether a URL's host is this machine, as far as that can be told without asking anybody."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
