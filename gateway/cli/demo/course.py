"""One job of the demo: posted, followed, told of, fetched, and everything checked that a customer would."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import msgspec
from msgspec import Raw, Struct

from gateway.cli.client import Answered
from gateway.cli.demo.inputs import DemoInputs
from gateway.cli.demo.stage import Stage, webhook_url
from gateway.cli.exits import Failed
from gateway.cli.outcome import save, why_not
from gateway.jobs.view import JobView
from gateway.service.jobs import DeliveryEntry, TimelineView
from gateway.simulator.footage import UnreadableMedia
from gateway.simulator.reel import Film, probe
from providers.contract.motion import Ratio
from providers.contract.status import JobStatus

RATIO = Ratio.LANDSCAPE
LONGEST_S = 60.0
EVERY_S = 0.15
WEBHOOK_S = 10.0
TOLERANCE_S = 0.2


class WebhookShown(Struct, frozen=True, kw_only=True):
    """Whether it proved genuine, and how often it was sent."""

    verified: bool
    attempts: int


class OutputShown(Struct, frozen=True, kw_only=True):
    """The film, as decoding every frame of it showed."""

    path: str
    width: int
    height: int
    duration_s: float


class Result(Struct, frozen=True, kw_only=True):
    """One entry of the demo's document."""

    job: Raw
    webhook: WebhookShown
    output: OutputShown


class Played(Struct, frozen=True, kw_only=True):
    """A job that went as it should."""

    provider: str
    result: Result
    timeline: TimelineView


async def play_job(
    stage: Stage, provider: str, inputs: DemoInputs, output: Path, show: Callable[[str, JobView], None]
) -> Played:
    """Take one job through.

    Raises:
        Failed: anything was not as it should be; the text says what, and at which provider.
    """
    try:
        async with asyncio.timeout(LONGEST_S):
            return await _play(stage, provider, inputs, output, show)
    except TimeoutError as error:
        raise Failed(f"{provider}: the job did not end within {LONGEST_S:g} s") from error
    except Failed as error:
        raise Failed(f"{provider}: {error.message}") from error


async def _play(
    stage: Stage, provider: str, inputs: DemoInputs, output: Path, show: Callable[[str, JobView], None]
) -> Played:
    posted = await stage.client.submit(_body(stage, provider, inputs), idempotency_key=str(uuid.uuid4()))
    job_id = posted.job.id
    show(provider, posted.job)
    ended = await stage.client.follow(job_id, lambda job: show(provider, job), every_s=EVERY_S)
    if ended.job.status is not JobStatus.SUCCEEDED:
        raise Failed(why_not(ended.job))
    webhook = await _webhook(stage, job_id)
    await save(ended.job.outputs, output)
    film = await _checked(output, inputs)
    return Played(
        provider=provider,
        result=Result(job=_raw(ended), webhook=webhook, output=film),
        timeline=await _settled_timeline(stage, job_id),
    )


def _body(stage: Stage, provider: str, inputs: DemoInputs) -> dict[str, object]:
    def url(file: Path) -> str:
        return f"{stage.receiver_url}/{quote(file.name)}"

    return {
        "character": {"type": inputs.character_type.value, "url": url(inputs.character)},
        "reference": {
            "type": "video",
            "url": url(inputs.reference),
            "duration_s": min(30.0, max(3.0, inputs.duration_s)),
        },
        "ratio": RATIO.value,
        "routing": {"providers": [provider]},
        "webhook": {"url": webhook_url(stage)},
    }


async def _webhook(stage: Stage, job_id: str) -> WebhookShown:
    try:
        async with asyncio.timeout(WEBHOOK_S):
            webhook = await stage.receiver.webhook_of(job_id)
    except TimeoutError as error:
        came = stage.receiver.tries_of(job_id)
        told = f"{came} came, but with no good signature" if came else "none came"
        raise Failed(f"no genuine webhook within {WEBHOOK_S:g} s of the job's end: {told}") from error
    if webhook.type != "job.succeeded":
        raise Failed(f"the webhook says {webhook.type}, the API that it succeeded")
    return WebhookShown(verified=True, attempts=webhook.attempts)


async def _checked(path: Path, inputs: DemoInputs) -> OutputShown:
    try:
        film = await asyncio.to_thread(probe, path)
    except UnreadableMedia as error:
        raise Failed(f"{path} does not play: {error.why}") from error
    problems = film_problems(film, duration_s=inputs.duration_s)
    if problems:
        raise Failed(f"{path} {' and '.join(problems)}")
    return OutputShown(
        path=str(path), width=film.width, height=film.height, duration_s=round(film.duration_s, 3)
    )


def film_problems(film: Film, *, duration_s: float) -> list[str]:
    """Say what a film is not that was asked; `duration_s` is the reference's."""
    problems: list[str] = []
    if film.codec != "h264":
        problems.append(f"is {film.codec}, not h264")
    if (film.width, film.height) != RATIO.size:
        problems.append(f"has {film.width} x {film.height} pixels, not {RATIO.value}")
    if abs(film.duration_s - duration_s) > TOLERANCE_S:
        problems.append(f"lasts {film.duration_s:.2f} s, the reference {duration_s:.2f} s")
    return problems


async def _settled_timeline(stage: Stage, job_id: str) -> TimelineView:
    """Read the timeline once it has the delivery: it is recorded a moment after the receiver answered."""
    while True:
        timeline = await stage.client.timeline(job_id)
        if any(isinstance(entry, DeliveryEntry) and entry.number for entry in timeline.entries):
            return timeline
        await asyncio.sleep(0.05)


def _raw(answered: Answered) -> Raw:
    return msgspec.Raw(answered.document)
