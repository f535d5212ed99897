"""How a client follows a job: by its events, by asking where there are none, and on from where it was."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import msgspec
import pytest

from gateway.cli import client as cli_client
from gateway.cli.client import GatewayClient, NobodyHome
from gateway.cli.event_stream import StreamEvent, read_events
from gateway.cli.exits import Failed
from gateway.jobs.job import JobRequest, JobState
from gateway.jobs.view import JobView, compose
from providers.contract.motion import Character, CharacterType, Reference
from providers.contract.status import JobStatus

URL = "https://media.example/a"
REQUEST = JobRequest(
    character=Character(type=CharacterType.IMAGE, url=URL), reference=Reference(url=URL), deadline_s=60
)
Answer = httpx.Response | Exception


def a_view(status: str, progress: float | None = None) -> JobView:
    return compose(
        job_id="job_1",
        model="act-two",
        simulated=True,
        created_at_ms=0,
        progress=progress,
        estimated_micro_usd=None,
        state=JobState(status=JobStatus(status), deadline_at_ms=1),
        request=msgspec.Raw(msgspec.json.encode(REQUEST)),
        metadata=msgspec.Raw(b"{}"),
        attempts=(),
    )


def shown(status: str) -> httpx.Response:
    return httpx.Response(200, content=msgspec.json.encode(a_view(status)))


def event(number: int, status: str) -> bytes:
    data = msgspec.json.encode({"type": "t", "sequence": number, "data": a_view(status)})
    return b"id: %d\nevent: job.%s\ndata: %s\n\n" % (number, status.encode(), data)


class Pieces(httpx.AsyncByteStream):
    """A body that comes in pieces, and may break."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece


def stream(*pieces: bytes | Exception) -> httpx.Response:
    return httpx.Response(200, stream=Pieces(*pieces))


class Scripted:
    """A gateway that answers by a script, streams and questions apart."""

    def __init__(self, streams: list[Answer], jobs: list[Answer]) -> None:
        self._streams, self._jobs = streams, jobs
        self.resumed: list[str | None] = []
        self.asked = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            self.resumed.append(request.headers.get("last-event-id"))
            answer = self._streams.pop(0)
        else:
            self.asked += 1
            answer = self._jobs.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def follow(gateway: Callable[[httpx.Request], httpx.Response]) -> tuple[str, list[Any]]:
    """Follow a job to its end; how it ended, and what was shown on the way."""
    seen: list[Any] = []
    transport = httpx.MockTransport(gateway)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway.test") as http:
        client = GatewayClient(http)
        answered = await client.follow(
            "job_1", lambda job: seen.append((job.status, job.progress)), every_s=0
        )
    return str(answered.job.status), seen


async def test_a_job_is_followed_by_its_events_and_asked_for_once() -> None:
    pieces = (
        event(1, "queued"),
        b": \n\n",
        event(2, "running"),
        b'event: progress\ndata: {"progress":0.5}\n\n',
    )
    gateway = Scripted([stream(b"retry: 1\n\n", *pieces, event(3, "succeeded"))], [shown("succeeded")])
    ended, seen = await follow(gateway)
    assert ended == "succeeded"
    assert seen[:4] == [("queued", None), ("running", None), ("running", 0.5), ("succeeded", None)]
    assert (gateway.asked, gateway.resumed) == (1, [None])


async def test_a_stream_that_breaks_is_gone_on_with_where_it_was_and_jobs_are_asked_for_meanwhile() -> None:
    broken = stream(event(1, "queued"), event(2, "running"), httpx.ReadError("reset"))
    gateway = Scripted(
        [broken, stream(event(3, "failed"))],
        [*(shown("running") for _ in range(cli_client.POLLS + 1)), shown("failed")],
    )
    ended, _ = await follow(gateway)
    assert ended == "failed"
    assert gateway.resumed == [None, "2"]


@pytest.mark.parametrize("refusal", [404, 503, 204])
async def test_without_a_stream_the_job_is_asked_for_until_it_ended(refusal: int) -> None:
    gateway = Scripted([httpx.Response(refusal)], [shown("queued"), shown("running"), shown("cancelled")])
    ended, seen = await follow(gateway)
    assert ended == "cancelled"
    assert [status for status, _ in seen] == ["queued", "running", "cancelled"]


async def test_what_cannot_be_read_is_asked_for_instead() -> None:
    gateway = Scripted([stream(b"id: 1\ndata: {}\n\n")], [shown("succeeded")])
    assert (await follow(gateway))[0] == "succeeded"


async def test_a_gateway_that_was_never_there_is_told_and_one_that_left_is_waited_for() -> None:
    away = httpx.ConnectError("refused")
    with pytest.raises(NobodyHome):
        await follow(Scripted([away], [away]))
    back = Scripted(
        [stream(event(1, "running")), away, stream(event(2, "succeeded"))], [away, away, shown("succeeded")]
    )
    assert (await follow(back))[0] == "succeeded"
    assert back.resumed == [None, "1", "1"]


async def test_a_refusal_is_told() -> None:
    problem = httpx.Response(404, json={"title": "There is nothing here"})
    with pytest.raises(Failed, match="There is nothing here"):
        await follow(Scripted([httpx.Response(404)], [problem]))


async def test_events_are_read_as_browsers_read_them() -> None:
    async def lines() -> AsyncIterator[str]:
        for line in (
            "retry: 5", "", ": hello", "id: 1", "event: a", "data: x", "data:y", "", "data: z", "", "id: 2",
            "", "event: b", "", "data: cut off",
        ):  # fmt: skip
            yield line

    found = [one async for one in read_events(lines())]
    assert found == [StreamEvent("1", "a", "x\ny"), StreamEvent("1", "message", "z")]
