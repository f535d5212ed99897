"""Templates made answers. All bear the same headers; no page holds a script or a style of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from http import HTTPStatus
from importlib import resources
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from msgspec import Struct

from gateway.api.ops import HTML
from gateway.api.replies import Reply
from gateway.clock import Clock
from gateway.console.words import FILTERS, TESTS, since, took

STATIC: Final[Mapping[str, str]] = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src {media}; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


class Rendered(Struct, frozen=True, kw_only=True):
    """An answer, before it takes the shape that the framework wants."""

    body: bytes
    status: int
    headers: Mapping[str, str]

    def reply(self) -> Reply:
        """Return what a handler answers with."""
        fields = {"content-length": str(len(self.body)), **self.headers}
        return Reply(
            self.body,
            status=self.status,
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()],
        )


def headers_of(content_type: str, *, media: Collection[str] = ()) -> dict[str, str]:
    """Return the headers of an answer.

    Args:
        content_type: of its body.
        media: whence films may come, as sources of a Content-Security-Policy.
    """
    return {
        "content-type": content_type,
        "content-security-policy": _POLICY.format(media=" ".join(sorted(media)) or "'none'"),
        "x-content-type-options": "nosniff",
        # To no other site, like `no-referrer`; with that, however, browsers send our own forms with
        # `Origin: null`, and over plain http nothing else would tell them from another site's.
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-store",
    }


class Pages:
    """Renders.

    Args:
        clock: says what times are relative to.
        version: shown at the foot.
    """

    def __init__(self, clock: Clock, *, version: str) -> None:
        self._clock = clock
        self._version = version
        self._templates = Environment(
            loader=PackageLoader("gateway.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(FILTERS)
        self._templates.tests.update(TESTS)
        folder = resources.files("gateway.console") / "static"
        self._static = {name: (folder / name).read_bytes() for name in STATIC}

    def render(
        self, template: str, *, status: int = 200, media: Collection[str] = (), **values: Any
    ) -> Rendered:
        """Render a page.

        Args:
            template: its file's name.
            status: of the answer.
            media: whence films may come.
            values: for the template.
        """
        now_ms = self._clock.now_ms()
        text = self._templates.get_template(template).render(
            values,
            version=self._version,
            since=partial(since, now_ms=now_ms),
            took=partial(took, now_ms=now_ms),
        )
        body = text.encode("utf-8", "replace")  # a lone surrogate from wherever must not cost the page
        return Rendered(body=body, status=status, headers=headers_of(HTML, media=media))

    def static(self, name: str) -> Rendered | None:
        """Return one of the files that pages load; None where there is none of that name."""
        body = self._static.get(name)
        return None if body is None else Rendered(body=body, status=200, headers=headers_of(STATIC[name]))


def redirect(where: str, *, cookie: str | None = None) -> Rendered:
    """Send a browser on to one of our pages, to be read with GET."""
    headers = headers_of("text/plain; charset=utf-8") | {"location": where}
    if cookie is not None:
        headers["set-cookie"] = cookie
    return Rendered(body=b"", status=HTTPStatus.SEE_OTHER, headers=headers)
