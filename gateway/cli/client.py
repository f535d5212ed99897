"""Asking a gateway over its API, and saying clearly why it did not do what was asked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import quote

import click
import httpx
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.api.schemas import JobPage, ProvidersView
from gateway.cli.event_stream import StreamEvent, read_events
from gateway.cli.exits import Failed
from gateway.errors import FieldProblem
from gateway.jobs.view import JobView
from gateway.service.jobs import TimelineView
from gateway.service.plans import PlanView
from gateway.service.usage import UsageView
from gateway.settings.hosts import is_loopback

URL_VARIABLE, KEY_VARIABLE = "MOTION_GATEWAY_URL", "MOTION_GATEWAY_KEY"
DEFAULT_URL = "http://127.0.0.1:8080"
TIMEOUT_S = 30.0
WATCH_S = 1.0
AWAY_S = 60.0
SILENCE_S = 45.0
"""After which a stream counts as broken: three of a gateway's heartbeats."""
POLLS = 10
"""How often a job is asked for before a stream that was refused, or broke, is tried again."""

T = TypeVar("T")


class Answered(Struct, frozen=True):
    """A job, and the document it came as."""

    job: JobView
    document: bytes


class Planned(Struct, frozen=True):
    """A plan, and the document it came as."""

    plan: PlanView
    document: bytes


class NoAnswer(Failed):
    """A request went out, or may have, and nothing came back: what it asked for may have been done."""


class NobodyHome(Failed):
    """Nothing listens there just now."""


class _Problem(Struct, frozen=True):
    """RFC 9457, as much of it as is shown."""

    title: str = ""
    detail: str = ""
    instance: str = ""
    errors: tuple[FieldProblem, ...] = ()


class _Told(Struct, frozen=True):
    """What an event of a job's log carries."""

    data: JobView


class _Progress(Struct, frozen=True):
    """What `event: progress` carries."""

    progress: float


class _Heard:
    """What was heard of a job so far.

    Args:
        on_change: told of it.
    """

    def __init__(self, on_change: Callable[[JobView], None]) -> None:
        self._on_change = on_change
        self.job: JobView | None = None
        self.last_id = ""

    def take(self, job: JobView) -> None:
        """Take the job as it stands."""
        self.job = job
        self._on_change(job)

    def hear(self, event: StreamEvent) -> None:
        """Take an event, raising `msgspec.DecodeError` when this version cannot read it."""
        if event.type != "progress":
            self.take(msgspec.json.decode(event.data, type=_Told).data)
            self.last_id = event.id
        elif self.job is not None:
            progress = msgspec.json.decode(event.data, type=_Progress).progress
            self.take(replace(self.job, progress=progress))


class GatewayClient:
    """A gateway, seen from outside.

    Args:
        http: its base URL is the gateway's, its headers hold the key.
    """

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def submit(self, body: Mapping[str, object], *, idempotency_key: str) -> Answered:
        """Post a job; doing so again with the same key and body makes no second one."""
        return await self._job("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": idempotency_key})

    async def plan(self, body: Mapping[str, object]) -> Planned:
        """Ask where a job would go."""
        response = await self._ask("POST", "/v1/plan", json=body)
        return Planned(_decoded(response, PlanView), response.content)

    async def show(self, job_id: str) -> Answered:
        """Read a job."""
        return await self._job("GET", f"/v1/jobs/{quote(job_id, safe='')}")

    async def cancel(self, job_id: str) -> Answered:
        """Ask for a job's end."""
        return await self._job("POST", f"/v1/jobs/{quote(job_id, safe='')}/cancel")

    async def timeline(self, job_id: str) -> TimelineView:
        """Read everything that happened to a job."""
        response = await self._ask("GET", f"/v1/jobs/{quote(job_id, safe='')}/timeline")
        return _decoded(response, TimelineView)

    async def latest(self, limit: int) -> JobPage:
        """List the latest jobs: of the key's owner, or everybody's for an operator."""
        return _decoded(await self._ask("GET", f"/v1/jobs?limit={limit}"), JobPage)

    async def providers(self) -> ProvidersView:
        """Read the catalogue, and how each account fares."""
        return _decoded(await self._ask("GET", "/v1/providers"), ProvidersView)

    async def usage(self) -> UsageView:
        """Read what this month's jobs cost: of the key's owner, or everybody's for an operator."""
        return _decoded(await self._ask("GET", "/v1/usage"), UsageView)

    async def metrics(self) -> str:
        """Read the metrics of the process that answers, as Prometheus would."""
        return (await self._ask("GET", "/metrics")).text

    async def follow(
        self, job_id: str, on_change: Callable[[JobView], None], *, every_s: float = WATCH_S
    ) -> Answered:
        """Follow a job's events until it ended; where there is no stream of them, ask again and again.

        A gateway that restarts meanwhile is waited for: the job goes on without us.

        Raises:
            Failed: the gateway refuses, or was away for a minute on end.
        """
        heard, away_s, polls = _Heard(on_change), 0.0, 0
        while True:
            if polls:
                polls -= 1
            elif not await self._listen(job_id, heard):
                polls = POLLS
            try:
                answered = await self.show(job_id)
            except (NobodyHome, NoAnswer) as error:
                if heard.job is None:
                    raise
                if away_s >= AWAY_S:
                    raise Failed(f"{error}. The job goes on: motion-gateway watch {job_id}") from error
                if not away_s:
                    click.echo("the gateway does not answer; the job goes on, trying again", err=True)
                away_s += every_s
                polls = 0  # it may stream again once it is back
            else:
                away_s = 0.0
                heard.take(answered.job)
                if answered.job.status.terminal:
                    return answered
            await asyncio.sleep(every_s)

    async def _listen(self, job_id: str, heard: _Heard) -> bool:
        """Hear what happens to a job until the stream ends or breaks; False when there is none."""
        headers = {"Last-Event-ID": heard.last_id} if heard.last_id else {}
        path, timeout = f"/v1/jobs/{quote(job_id, safe='')}/events", httpx.Timeout(TIMEOUT_S, read=SILENCE_S)
        try:
            async with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
                if response.status_code != 200:
                    return False  # whatever it is, asking for the job tells it better
                async for event in read_events(response.aiter_lines()):
                    heard.hear(event)
        except (httpx.HTTPError, msgspec.DecodeError):
            return False  # the job is asked for now, and the stream some time later
        return True

    async def _job(
        self,
        method: str,
        path: str,
        *,
        json: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answered:
        response = await self._ask(method, path, json=json, headers=headers)
        return Answered(_decoded(response, JobView), response.content)

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        json: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        try:
            response = await self._http.request(method, path, json=json, headers=headers)
        except httpx.ConnectError as error:
            raise NobodyHome(
                f"nothing answers at {self._http.base_url} ({error}); is `motion-gateway serve` running?"
                f" {URL_VARIABLE} says where it is"
            ) from error
        except httpx.HTTPError as error:
            raise NoAnswer(
                f"{self._http.base_url} gave no answer ({str(error) or type(error).__name__})"
            ) from error
        if response.is_success:
            return response
        raise Failed(_told(response))


@asynccontextmanager
async def open_client() -> AsyncGenerator[GatewayClient]:
    """Return a client of the gateway that MOTION_GATEWAY_URL and MOTION_GATEWAY_KEY name."""
    url = os.environ.get(URL_VARIABLE) or DEFAULT_URL
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"{URL_VARIABLE} must be an http or https URL, such as {DEFAULT_URL}")
    if not key.isascii():
        raise click.UsageError(f"{KEY_VARIABLE} holds no API key; `motion-gateway keys create` makes one")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with open_http(url, headers=headers) as http:
        yield GatewayClient(http)


def open_http(
    url: str, *, headers: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S
) -> httpx.AsyncClient:
    """Return a client with this base URL. For loopback it asks no proxy that the environment names."""
    try:
        outside = not is_loopback(httpx.URL(url).host)
    except httpx.InvalidURL as error:
        raise Failed(f"{url} is not a URL ({error})") from error
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout_s, trust_env=outside)


def _told(response: httpx.Response) -> str:
    """Say what a problem document says: title, detail, each place, and where to look in the logs."""
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = _Problem()
    if not problem.title:
        return f"{response.url.copy_with(query=None)} answered {response.status_code}; is it a gateway?"
    lines = [f"{problem.title} ({response.status_code})", *_details(problem)]
    if response.status_code == 401:
        lines.append(f"The key is taken from {KEY_VARIABLE}.")
    if response.status_code >= 500 and problem.instance:
        lines.append(f"Request id: {problem.instance}")
    return "\n  ".join(lines)


def _details(problem: _Problem) -> list[str]:
    places = [f"{one.pointer}: {one.message}" for one in problem.errors]
    # The detail often is the one message, or all places in a row.
    repeated = {problem.title, "; ".join(places), "; ".join(one.message for one in problem.errors)}
    return places if problem.detail.rstrip(".") in repeated else [problem.detail, *places]


def _decoded(response: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(response.content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Failed(
            f"{response.url.copy_with(query=None)} answered what this version cannot read ({error});"
            f" {URL_VARIABLE} must name a gateway of the same version"
        ) from error
