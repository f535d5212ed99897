"""Server-sent events, read (HTML, section 9.2.6), as much of it as a gateway sends."""

from __future__ import annotations

from collections.abc import AsyncIterator

from msgspec import Struct


class StreamEvent(Struct, frozen=True):
    """One event."""

    id: str
    """The id that was told last; empty when none was."""
    type: str
    data: str


async def read_events(lines: AsyncIterator[str]) -> AsyncIterator[StreamEvent]:
    """Put the lines of a stream together; comments are left out, and so is an event that breaks off.

    Args:
        lines: without their ends.
    """
    last_id, kind, data = "", "", list[str]()
    async for line in lines:
        if not line:
            if data:
                yield StreamEvent(last_id, kind or "message", "\n".join(data))
            kind, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            kind = value
        elif field == "id" and "\0" not in value:
            last_id = value
