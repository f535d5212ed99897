"""An HTTP request and response as plain values: no host, no credentials, no connection."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from msgspec import Struct


class HttpRequest(Struct, frozen=True, kw_only=True):
    """What is to be asked. The gateway adds host, credentials and fixed headers, and sends it."""

    method: str
    path: tuple[str, ...]
    """Segments below the base URL, not yet percent-encoded: a provider's ref may hold any character."""
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    json: dict[str, object] | None = None
    paid: bool = False
    """Whether carrying it out may cost money. Such a request is never repeated on a doubt."""

    @property
    def target(self) -> str:
        """Path and query, percent-encoded, beginning with a slash."""
        path = "".join(f"/{quote(segment, safe='')}" for segment in self.path)
        return f"{path}?{urlencode(self.query, quote_via=quote, safe='')}" if self.query else path


class HttpResponse(Struct, frozen=True, kw_only=True):
    """What was answered. Header names are lower case; of repeated headers the last counts."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""

    @property
    def successful(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300
