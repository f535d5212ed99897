"""GET /v1/jobs/{id}/events: a job's log as server-sent events, from any event on, to the job's end.

A stream asks for what it has not sent yet when it is woken, and sends before it asks again: a client that
reads slowly is told less of the progress, and one that does not read at all is dropped.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec
from litestar.response.base import ASGIResponse
from msgspec import Struct

from gateway.api.departure import Receive, heard
from gateway.api.front import ASIDE_S, HEAD_ONLY
from gateway.api.protocol import ABORT
from gateway.clock import Clock
from gateway.errors import Refusal, StorageUnavailable, Unreadable
from gateway.jobs.view import instant
from gateway.service.story import Stories, Story, Told
from gateway.service.watch import Kind, Watch, Watcher
from gateway.storage.watched import Stamp
from gateway.telemetry import get_logger

_log = get_logger("gateway.http")

EVENT_STREAM: Final = "text/event-stream"
HEARTBEAT_S: Final = 15.0
"""Longest silence: a proxy in between takes a longer one for a dead connection."""
KEY_S: Final = 5.0
"""How often the key is looked at, however much there is to tell; what is known of it may be as old again."""
PATIENCE_S: Final = 30.0
"""How long a client may not read although something is to be sent."""
RETRY_MS: Final = 2000
"""After which a client is told to come back when the stream breaks; and as much again, at random."""
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,9}")
_HEARTBEAT: Final = b":\n\n"

Send = Callable[[dict[str, Any]], Awaitable[None]]


class ProgressEvent(Struct, frozen=True, kw_only=True):
    """What `event: progress` carries; it has no id, and is in no log."""

    type: str = "progress"
    timestamp: str
    progress: float


class StreamDesk(Struct, frozen=True, kw_only=True):
    """What streams work with."""

    watch: Watch
    stories: Stories
    clock: Clock
    spread: Callable[[], float]
    """Random numbers from 0 to 1, so that not all come back at the same moment."""


class Wish(Struct, frozen=True, kw_only=True):
    """What a client wants to follow."""

    job_id: str
    after: int | None
    """The event it heard last; None when it heard none."""
    owner: str
    """Whose place it takes."""
    sees: str | None
    """Whose jobs it may see; None for an operator, who sees all."""
    still_good: Callable[[], Awaitable[bool]]
    """Whether its key has not been revoked."""


def last_event_id(values: Sequence[bytes]) -> int | None:
    """Read the Last-Event-ID header.

    Raises:
        Refusal: `bad-header`, it is not one number of an event.
    """
    if not values:
        return None
    if len(values) > 1 or _NUMBER.fullmatch(values[0]) is None:
        raise _bad_id("must be one number: the `id` of the event that was received last")
    return int(values[0])


def _bad_id(problem: str) -> Refusal:
    return Refusal("bad-header", f"The header Last-Event-ID {problem}.")


class EventStream(ASGIResponse):
    """The answer to a wish. It refuses like a handler as long as nothing was sent."""

    def __init__(self, desk: StreamDesk, wish: Wish) -> None:
        self._desk = desk
        self._wish = wish
        self._after = wish.after or 0
        self._progress: float | None = None
        self._key_due_s = desk.clock.monotonic_s() + KEY_S

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send it, to the job's end.

        Raises:
            Refusal: `temporary-reduced-capacity`, `not-found`, or `bad-header` for an event that is not.
            Unreadable: this version cannot read the job.
            StorageUnavailable: it cannot be read just now.
        """
        wish = self._wish
        with self._desk.watch.place(Kind.STREAM, wish.owner) as watcher:
            self._desk.watch.follow(watcher, wish.job_id, look=False)
            story = await self._tell()
            if self._after > story.stamp.sequence and not story.events:
                raise _bad_id(f"names event {self._after}; the job's last one is {story.stamp.sequence}")
            self._desk.watch.seen(watcher, story.stamp)
            started_s = time.perf_counter()
            try:
                await self._answer(scope, receive, send, watcher, story)
            finally:
                scope[ASIDE_S] = time.perf_counter() - started_s

    async def _answer(self, scope: Any, receive: Receive, send: Send, watcher: Watcher, story: Story) -> None:
        if self._wish.after is not None and story.stamp.ended and not story.events:
            # Only this keeps a browser from asking again (HTML, section 9.2.3).
            await send({"type": "http.response.start", "status": 204, "headers": [_NO_STORE]})
            await send({"type": "http.response.body"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        if scope.get(HEAD_ONLY):
            await send({"type": "http.response.body"})
            return
        async with heard(receive, watcher) as leaving:
            try:
                await self._run(send, watcher, story)
                await send({"type": "http.response.body"})
            except TimeoutError:
                _log.info("stream.dropped", job_id=self._wish.job_id, error="the client does not read")
                if ABORT in scope:  # closing alone would wait for the client to read what is under way
                    scope[ABORT]()
                    await leaving

    async def _run(self, send: Send, watcher: Watcher, story: Story) -> None:
        """Send what there is and what comes, until the end; the last word may be a comment."""
        desk = self._desk
        retry_ms = RETRY_MS + round(RETRY_MS * desk.spread())
        await _put(send, b"retry: %d\n\n" % retry_ms)
        while True:
            await self._send_story(send, story)
            if story.stamp.ended:
                return
            try:
                last_word, found = await self._until_news(send, watcher)
            except (Refusal, Unreadable) as error:
                _log.error("stream.unreadable", job_id=self._wish.job_id, error=str(error))
                last_word, found = "the job cannot be read any more", None
            if found is None:
                if last_word:
                    await _put(send, f": {last_word}\n\n".encode())
                return
            story = found

    async def _until_news(self, send: Send, watcher: Watcher) -> tuple[str, Story | None]:
        """Keep the stream alive until there is something to tell; None, and why, when it is over."""
        desk = self._desk
        heartbeat_s = desk.clock.monotonic_s() + HEARTBEAT_S
        while True:
            await watcher.woken(by_s=min(heartbeat_s, self._key_due_s))
            if watcher.gone:
                return "", None
            if desk.watch.stopping:
                return "the gateway is stopping", None
            if not await self._key_is_good():
                return "the key is no longer good", None
            if watcher.news:
                watcher.news = False
                story = await self._look(send, watcher)
                if story is not None:
                    return "", story
            if desk.clock.monotonic_s() >= heartbeat_s:
                await _put(send, _HEARTBEAT)
                heartbeat_s = desk.clock.monotonic_s() + HEARTBEAT_S

    async def _key_is_good(self) -> bool:
        now_s = self._desk.clock.monotonic_s()
        if now_s < self._key_due_s:
            return True
        self._key_due_s = now_s + KEY_S
        return await self._wish.still_good()

    async def _look(self, send: Send, watcher: Watcher) -> Story | None:
        """Return what there is to tell; progress alone is sent without asking for more."""
        stamp = watcher.stamp
        if stamp is None:
            return None
        if stamp.sequence <= self._after and not stamp.ended:
            await self._send_progress(send, stamp)
            return None
        try:
            return await self._tell()
        except StorageUnavailable:
            self._desk.watch.seen(watcher, None)  # the next look that succeeds is news again
            return None

    async def _tell(self) -> Story:
        return await self._desk.stories.tell(self._wish.job_id, owner=self._wish.sees, after=self._after)

    async def _send_story(self, send: Send, story: Story) -> None:
        for event in story.events:
            await _put(send, _frame(event))
            self._after = event.sequence
            self._progress = story.stamp.progress
        await self._send_progress(send, story.stamp)

    async def _send_progress(self, send: Send, stamp: Stamp) -> None:
        """Send a progress that is news. An older look may show less than was told already."""
        progress = stamp.progress
        if stamp.sequence != self._after or progress is None or stamp.ended:
            return
        if self._progress is None or progress > self._progress:
            self._progress = progress
            event = ProgressEvent(timestamp=instant(self._desk.clock.now_ms()), progress=progress)
            await _put(send, b"event: progress\ndata: %s\n\n" % msgspec.json.encode(event))


_NO_STORE = (b"cache-control", b"no-store")
_HEADERS = [
    (b"content-type", EVENT_STREAM.encode()),
    _NO_STORE,
    (b"x-content-type-options", b"nosniff"),
    (b"x-accel-buffering", b"no"),  # nginx would keep the events until it has a bufferful
]


def _frame(event: Told) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.sequence, event.type.encode(), event.body)


async def _put(send: Send, data: bytes) -> None:
    """Send a piece, raising TimeoutError when the client takes nothing for too long."""
    async with asyncio.timeout(PATIENCE_S):
        await send({"type": "http.response.body", "body": data, "more_body": True})
