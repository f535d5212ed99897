"""What the pages work with, and what all of them show."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from msgspec import Struct

from gateway.api.replies import AnyRequest, Reply
from gateway.console.entrance import Entrance, Visitor
from gateway.console.pages import Pages
from gateway.routing.catalogue import Catalogue
from gateway.service.census import Census
from gateway.service.deliveries import Deliveries
from gateway.service.endpoints import Endpoints
from gateway.service.health import Healths
from gateway.service.holds import Holds
from gateway.service.jobs import Jobs
from gateway.service.tries import Tries

DONE: Final[Mapping[str, str]] = {
    "adopt": "The run was adopted; the job goes on with it.",
    "resubmit": "The job will be submitted again.",
    "fail": "The job was failed.",
    "redeliver": "The delivery is sent again now.",
    "enable": "The endpoint is enabled again. What it missed meanwhile can be recovered with the API.",
}
"""What is said after something was done, by the word for it in the next page's address."""


def done_word(text: str) -> str:
    """Read the word; any other says nothing, since a page is no less right for it."""
    return text if text in DONE else ""


class ConsoleDesk(Struct, frozen=True, kw_only=True):
    """What the routes work with."""

    entrance: Entrance
    pages: Pages
    jobs: Jobs
    holds: Holds
    deliveries: Deliveries
    endpoints: Endpoints
    healths: Healths
    tries: Tries
    census: Census
    catalogue: Catalogue
    cursor_key: bytes
    media: frozenset[str]
    """Whence films may come."""

    async def show(
        self, template: str, visitor: Visitor, *, media: Collection[str] = (), done: str = "", **values: Any
    ) -> Reply:
        """Answer with a page for somebody who was let in.

        Args:
            template: its file's name.
            visitor: who looks.
            media: whence films may come.
            done: the word for what was done just now.
            values: for the template.
        """
        count = await self.census.count()
        by_status: dict[str, int] = {"queued": 0, "running": 0}
        for (_, status), jobs in count.unfinished.items():
            by_status[status] = by_status.get(status, 0) + jobs
        rendered = self.pages.render(
            template,
            media=media,
            visitor=visitor,
            done=DONE.get(done, ""),
            count=count,
            by_status=by_status,
            **values,
        )
        return rendered.reply()


def path_id(request: AnyRequest, name: str) -> str:
    """Return an id from the path; taken from the request, as the API's routes do."""
    text: str = request.path_params[name]
    return text
